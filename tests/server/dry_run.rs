//! `/dry-run`: what the cluster would do, with the evidence.

use layerpin_test_support::documents::{create, machine_config};
use layerpin_test_support::os_registry::OsRegistry;
use layerpin_test_support::program::{Layerpin, Setup};
use serde_json::json;

fn yaml(image: &str) -> String {
    machine_config().image(image).to_yaml()
}

#[tokio::test]
async fn the_report_shows_what_the_patch_fixes_and_the_verdict_after_it() {
    let OsRegistry { registry: _registry, host, digest } = OsRegistry::start();
    let layerpin = Layerpin::start();
    let tag = format!("{host}/acme/os:1");
    let report = layerpin.webhooks.post("/dry-run", yaml(&tag)).await.json();
    let object = &report["objects"][0];
    assert_eq!((&report["kind"], &object["verdict"]), (&json!("Report"), &json!("pass")));
    assert_eq!(object["image"], tag);
    assert_eq!(object["pinned"], format!("{host}/acme/os@{digest}"));
    assert_eq!(object["line"], 1);
    let finding = &object["findings"][0];
    assert_eq!(
        (&finding["rule"], &finding["fixed"], &finding["line"], &finding["column"]),
        (&json!("floating-tag"), &json!(true), &json!(8), &json!(15))
    );
    assert_eq!(object["findings"].as_array().unwrap().len(), 1);
    assert_eq!(object["patch"][0]["value"], format!("{host}/acme/os@{digest}"));
    assert_eq!(report["summary"], json!({"objects": 1, "denied": 0, "warned": 0, "passed": 1}));
    assert_eq!(report["facts"]["manifests"][&tag]["known"]["digest"], digest);

    // The same object as JSON and as a review comes to the same, less the places in the text.
    for body in [machine_config().image(&tag).to_string(), create(&machine_config().image(&tag)).to_string()]
    {
        let other = layerpin.webhooks.post("/dry-run", body).await.json();
        assert_eq!(other["objects"][0]["patch"], object["patch"]);
        assert_eq!(other["objects"][0]["findings"][0]["line"], json!(null));
    }
}

#[tokio::test]
async fn accepted_bases_are_part_of_the_facts() {
    let (release, one, two) = ("quay.io/ocp/release:1", "quay.io/acme/one:1", "quay.io/acme/two:1");
    let given = json!({"releaseImage": release, "baseImages": [one, two]});
    let options = ["--offline", "--release-image", release, "--base-image", one, "--base-image", two];
    let by_options = Setup::serve().arguments(options).start();
    let by_environment = Setup::serve()
        .arguments(["--offline"])
        .environment("LAYERPIN_RELEASE_IMAGE", release)
        .environment("LAYERPIN_BASE_IMAGE", format!("{one},{two}"))
        .start();
    for layerpin in [by_options, by_environment] {
        let report = layerpin.webhooks.post("/dry-run", yaml("a.b/c:1")).await.json();
        assert_eq!(report["facts"]["given"], given);
    }
}

#[tokio::test]
async fn accept_text_plain_returns_text() {
    let layerpin = Layerpin::start();
    let answer = layerpin.webhooks.post_for("text/plain", "/dry-run", yaml("os:1")).await;
    assert_eq!(
        (answer.status, answer.header("content-type"), answer.text.as_str()),
        (
            200,
            "text/plain; charset=utf-8",
            "error[malformed-reference]: `os:1` names no registry; there is no default one\n  \
             --> <request>:8:15 (/spec/osImageURL of MachineConfig 99-worker-os)\n  \
             note: nodes find the error only after they are drained, and the pool becomes degraded\n  \
             note: `malformed-reference` is `deny` in policy `recommended`\n  \
             help: put the registry in front: registry.example.com/path@sha256:<digest>\n\n\
             verdict on MachineConfig 99-worker-os: deny\n"
        )
    );
}

#[tokio::test]
async fn a_body_that_is_not_a_machine_config_is_refused_with_the_reason() {
    let layerpin = Layerpin::start();
    let pod = "{\"apiVersion\":\"v1\",\"kind\":\"Pod\"}";
    for (body, reason) in [
        ("", "the body is empty; expected a MachineConfig or an AdmissionReview\n"),
        (
            pod,
            "not a MachineConfig: apiVersion is `v1`, kind is `Pod`; expected \
             `machineconfiguration.openshift.io/v1`, `MachineConfig`\n",
        ),
    ] {
        assert_eq!(layerpin.webhooks.post("/dry-run", body).await.refusal(), (400, reason));
    }
    let two = format!("{}---\n{}", yaml("a.b/c:1"), yaml("a.b/c:2"));
    assert_eq!(layerpin.webhooks.post("/dry-run", two).await.status, 400);
}

#[tokio::test]
async fn dry_run_can_be_turned_off() {
    let layerpin = Setup::serve().arguments(["--dry-run-access", "off"]).start();
    assert_eq!(layerpin.webhooks.post("/dry-run", yaml("a.b/c:1")).await.status, 404);
}
