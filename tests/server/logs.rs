//! The log, line by line.

use layerpin_test_support::documents::{UID, create, machine_config, review, update};
use layerpin_test_support::eventually::eventually;
use layerpin_test_support::os_registry::OsRegistry;
use layerpin_test_support::program::{Layerpin, Setup};
use serde_json::{Value, json};

/// Waits for so many lines with this message, and takes from each what differs from run to run.
async fn lines(layerpin: &Layerpin, message: &str, count: usize) -> Vec<Value> {
    let all = async || Some(layerpin.log.with_message(message)).filter(|lines| lines.len() >= count);
    let mut lines = eventually(&format!("{count} lines say: {message}"), all).await;
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        assert!(line.remove("timestamp").is_some_and(|time| time.as_str().unwrap().ends_with('Z')));
        line.remove("target");
        if let Some(milliseconds) = line.remove("milliseconds") {
            assert!(milliseconds.as_f64().unwrap() > 0.0, "{milliseconds}");
        }
    }
    lines
}

fn line(endpoint: &str, operation: &str, verdict: &str, rules: &str, note: &str) -> Value {
    json!({
        "level": "INFO", "message": "review", "endpoint": endpoint, "uid": UID, "name": "99-worker-os",
        "operation": operation, "verdict": verdict, "rules": rules, "note": note,
    })
}

#[tokio::test]
async fn each_review_is_one_line_with_its_fields() {
    let OsRegistry { registry, digest, .. } = OsRegistry::start();
    let tagged = machine_config().image(&format!("{}/acme/os:1", registry.host()));
    let pinned = machine_config().image(&format!("{}/acme/os@{digest}", registry.host()));
    let both = machine_config().image(&format!("{}/acme/os:2", registry.host())).extensions_image("os:1");
    let layerpin = Layerpin::start();
    for (path, review) in [
        ("/mutate", create(&tagged)),
        ("/validate", create(&tagged)),
        ("/validate", update(&pinned, &tagged)),
        ("/validate", create(&both)),
        ("/mutate", create(&machine_config().image(""))),
        ("/validate", review("DELETE", &Value::Null, &pinned)),
    ] {
        layerpin.webhooks.review(path, &review).await;
    }
    let found = lines(&layerpin, "review", 6).await;
    let expected = [
        line("mutate", "CREATE", "warn", "", "patched"),
        line("validate", "CREATE", "deny", "floating-tag", ""),
        line("validate", "UPDATE", "pass", "", ""),
        line("validate", "CREATE", "deny", "floating-tag,unpullable-image,malformed-reference", ""),
        line("mutate", "CREATE", "pass", "", "names no image"),
        line("validate", "DELETE", "pass", "", "neither created nor updated"),
    ];
    assert_eq!(found, expected);
    let text = layerpin.log.text();
    assert!(!text.contains("ignition") && !text.contains(&digest), "nothing of the object: {text}");
}

#[tokio::test]
async fn dry_runs_and_refused_requests_are_logged() {
    let layerpin = Setup::serve().arguments(["--offline"]).start();
    layerpin.webhooks.post("/dry-run", machine_config().image("os:1").to_string()).await;
    let expected = json!({
        "level": "INFO", "message": "review", "endpoint": "dry-run", "name": "99-worker-os",
        "operation": "CREATE", "verdict": "deny", "rules": "malformed-reference",
    });
    assert_eq!(lines(&layerpin, "review", 1).await, [expected]);
    for path in ["/mutate", "/validate", "/dry-run"] {
        layerpin.webhooks.post(path, "").await;
    }
    let empty = "the body is empty; an AdmissionReview of admission.k8s.io/v1 is expected";
    let refused = |endpoint: &str, reason: &str| json!({"level": "WARN", "message": "request refused", "endpoint": endpoint, "reason": reason});
    let expected = [
        refused("mutate", empty),
        refused("validate", empty),
        refused("dry-run", "the body is empty; a MachineConfig or an AdmissionReview is expected"),
    ];
    assert_eq!(lines(&layerpin, "request refused", 3).await, expected);
}

#[tokio::test]
async fn a_caller_cannot_add_lines_to_the_log() {
    let layerpin = Setup::serve().arguments(["--offline"]).start();
    let object = machine_config().image("os:1").named("a\nb\u{1b}[31m");
    layerpin.webhooks.review("/validate", &create(&object)).await;
    let name = lines(&layerpin, "review", 1).await[0]["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with('a') && !name.chars().any(char::is_control), "{name:?}");
}
