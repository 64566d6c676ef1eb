//! The log, line by line.

use layerpin_test_support::documents::{UID, by, create, machine_config, review, update};
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

/// The line of a review by `alice`; `more` has what differs from an object that is not checked.
fn line(endpoint: &str, operation: &str, verdict: &str, more: Value) -> Value {
    let mut line = json!({
        "level": "INFO", "message": "review", "endpoint": endpoint, "uid": UID, "name": "99-worker-os",
        "operation": operation, "user": "alice", "dryRun": false, "image": "", "digest": "",
        "verdict": verdict, "rules": "", "note": "",
    });
    line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    line
}

#[tokio::test]
async fn each_review_is_one_line_with_its_fields() {
    let OsRegistry { registry, digest, .. } = OsRegistry::start();
    let repository = format!("{}/acme/os", registry.host());
    let (tag, absent, by_digest) =
        (format!("{repository}:1"), format!("{repository}:2"), format!("{repository}@{digest}"));
    let tagged = machine_config().image(&tag);
    let pinned = machine_config().image(&by_digest);
    let both = machine_config().image(&absent).extensions_image("os:1");
    let mut dry_run = by("bob\n", create(&machine_config().extensions_image(&by_digest)));
    dry_run["request"]["dryRun"] = json!(true);
    let layerpin = Layerpin::start();
    for (path, review) in [
        ("/mutate", create(&tagged)),
        ("/validate", create(&tagged)),
        ("/validate", update(&pinned, &tagged)),
        ("/validate", create(&both)),
        ("/mutate", create(&machine_config().image(""))),
        ("/validate", review("DELETE", &Value::Null, &pinned)),
        ("/validate", dry_run.clone()),
        ("/dry-run", create(&tagged)),
    ] {
        layerpin.webhooks.post(path, review.to_string()).await;
    }
    let found = lines(&layerpin, "review", 8).await;
    let expected = [
        line("mutate", "CREATE", "warn", json!({"image": tag, "digest": digest, "note": "patched"})),
        line("validate", "CREATE", "deny", json!({"image": tag, "digest": digest, "rules": "floating-tag"})),
        line("validate", "UPDATE", "pass", json!({"image": by_digest, "digest": digest})),
        line(
            "validate",
            "CREATE",
            "deny",
            json!({"image": absent, "rules": "floating-tag,unpullable-image,malformed-reference"}),
        ),
        line("mutate", "CREATE", "pass", json!({"note": "object has no image"})),
        line("validate", "DELETE", "pass", json!({"note": "operation is neither CREATE nor UPDATE"})),
        line(
            "validate",
            "CREATE",
            "pass",
            json!({"user": r"bob\u{a}", "dryRun": true, "image": by_digest, "digest": digest}),
        ),
        line(
            "dry-run",
            "CREATE",
            "pass",
            json!({"dryRun": true, "image": tag, "digest": digest, "rules": "floating-tag"}),
        ),
    ];
    assert_eq!(found, expected);
    let text = layerpin.log.text();
    assert!(!text.contains("ignition"), "nothing else of the object: {text}");
}

#[tokio::test]
async fn milliseconds_are_a_number_with_three_decimals() {
    let layerpin = Setup::serve().arguments(["--offline"]).start();
    layerpin.webhooks.review("/validate", &create(&machine_config().image("os:1"))).await;
    lines(&layerpin, "review", 1).await;
    let text = layerpin.log.text();
    let (_, after) = text.split_once("\"milliseconds\":").unwrap();
    let (number, _) = after.split_once([',', '}']).unwrap();
    let (whole, decimals) = number.split_once('.').unwrap();
    let are_digits = [whole, decimals].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    assert!(are_digits && decimals.len() == 3, "{number}");
}

#[tokio::test]
async fn dry_runs_and_refused_requests_are_logged() {
    let layerpin = Setup::serve().arguments(["--offline"]).start();
    layerpin.webhooks.post("/dry-run", machine_config().image("os:1").to_string()).await;
    let bare =
        json!({"uid": "", "user": "", "dryRun": true, "image": "os:1", "rules": "malformed-reference"});
    let expected = line("dry-run", "CREATE", "deny", bare);
    assert_eq!(lines(&layerpin, "review", 1).await, [expected]);
    for path in ["/mutate", "/validate", "/dry-run"] {
        layerpin.webhooks.post(path, "").await;
    }
    let empty = "the body is empty; expected an AdmissionReview of admission.k8s.io/v1";
    let refused = |endpoint: &str, reason: &str| json!({"level": "WARN", "message": "request refused", "endpoint": endpoint, "reason": reason});
    let expected = [
        refused("mutate", empty),
        refused("validate", empty),
        refused("dry-run", "the body is empty; expected a MachineConfig or an AdmissionReview"),
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
