//! `/validate`: what it denies, what it warns of, and in which words.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::Image;
use layerpin_test_support::documents::{NOWHERE, REPIN, UID, create, machine_config, policy, update};
use layerpin_test_support::program::{Layerpin, Setup};
use serde_json::{Value, json};

use crate::answers::{denied, denied_by, passed, policy_of, warned_by};

/// A registry with one image, and what is in it.
struct Shelf {
    registry: Registry,
    tag: String,
    pinned: String,
}

impl Shelf {
    fn new() -> Self {
        let registry = Registry::start().unwrap();
        let digest = registry.push("acme/os", Some("4.18"), &Image::base("4.18.1"));
        let host = registry.host();
        Self { registry, tag: format!("{host}/acme/os:4.18"), pinned: format!("{host}/acme/os@{digest}") }
    }
}

async fn validate(layerpin: &Layerpin, object: &Value) -> Value {
    layerpin.webhooks.review("/validate?timeout=10s", &create(object)).await
}

#[tokio::test]
async fn a_floating_tag_is_denied_with_what_to_write() {
    let shelf = Shelf::new();
    let message = format!(
        "[floating-tag] `{}` is a tag, not a digest (/spec/osImageURL)\n  \
         note: each node resolves the tag for itself, so nodes of one pool can end up on different images\n  \
         note: `floating-tag` is `deny` in policy `recommended`\n  \
         help: write `{}`",
        shelf.tag, shelf.pinned
    );
    let answer = validate(&Layerpin::start(), &machine_config().image(&shelf.tag)).await;
    assert_eq!(answer, denied("floating-tag=deny", &message));
}

#[tokio::test]
async fn a_digest_that_is_there_passes() {
    let shelf = Shelf::new();
    assert_eq!(validate(&Layerpin::start(), &machine_config().image(&shelf.pinned)).await, passed());
    // The body that lineage is read from tells that it is there, too.
    assert_eq!(shelf.registry.count("GET", "/v2/acme/os/manifests/sha256:"), 1);
    assert_eq!(shelf.registry.count("HEAD", ""), 0);
}

#[tokio::test]
async fn a_digest_that_is_not_there_is_denied() {
    let shelf = Shelf::new();
    let host = shelf.registry.host();
    let image = format!("{host}/acme/os@{NOWHERE}");
    let message = format!(
        "[unpullable-image] {host} has no image `{image}` (/spec/osImageURL)\n  \
         note: `unpullable-image` is `deny` in policy `recommended`\n  \
         help: check the repository and push the image, then apply again"
    );
    let answer = validate(&Layerpin::start(), &machine_config().image(&image)).await;
    assert_eq!(answer, denied("unpullable-image=deny", &message));
}

#[tokio::test]
async fn findings_are_ordered_by_field_and_then_by_rule() {
    let shelf = Shelf::new();
    let host = shelf.registry.host();
    let absent = format!("{host}/acme/os:9.99");
    let both = format!("{host}/acme/os:9.99@{NOWHERE}");
    let object = machine_config().image(&absent).extensions_image(&both);
    let message = format!(
        "[floating-tag] `{absent}` is a tag, not a digest (/spec/osImageURL)\n  \
         note: each node resolves the tag for itself, so nodes of one pool can end up on different images\n  \
         note: `floating-tag` is `deny` in policy `recommended`\n  \
         help: write `{host}/acme/os@sha256:<digest>`; `skopeo inspect --format '{{{{.Digest}}}}' \
         docker://{absent}` prints the digest\n\
         [unpullable-image] {host} has no image `{absent}` (/spec/osImageURL)\n  \
         note: `unpullable-image` is `deny` in policy `recommended`\n  \
         help: check the repository and push the image, then apply again\n\
         [malformed-reference] `{both}` has both a tag and a digest \
         (/spec/baseOSExtensionsContainerImage)\n  \
         note: nodes cannot pull a reference that has both\n  \
         note: `malformed-reference` is `deny` in policy `recommended`\n  \
         help: write `{host}/acme/os@{NOWHERE}`\n\
         [unpullable-image] {host} has no image `{host}/acme/os@{NOWHERE}` \
         (/spec/baseOSExtensionsContainerImage)\n  \
         note: `unpullable-image` is `deny` in policy `recommended`\n  \
         help: check the repository and push the image, then apply again"
    );
    let findings = "floating-tag=deny,unpullable-image=deny,malformed-reference=deny,unpullable-image=deny";
    assert_eq!(validate(&Layerpin::start(), &object).await, denied(findings, &message));
}

#[tokio::test]
async fn a_short_name_is_denied_without_a_request_to_a_registry() {
    let answer = validate(&Layerpin::start(), &machine_config().image("os:4.18")).await;
    let message = answer["response"]["status"]["message"].as_str().unwrap().to_owned();
    let first =
        "[malformed-reference] `os:4.18` names no registry; there is no default one (/spec/osImageURL)";
    assert_eq!(message.lines().next(), Some(first));
    assert_eq!(answer, denied("malformed-reference=deny", &message));
}

#[tokio::test]
async fn a_finding_at_warn_is_a_warning() {
    let shelf = Shelf::new();
    let spec = "  rules: {floating-tag: warn}\n";
    let layerpin = Setup::serve().policy(spec).start();
    let warning = format!("[floating-tag] `{}` is a tag, not a digest", shelf.tag);
    let expected = warned_by(&policy_of(&policy(spec)), "floating-tag=warn", &[&warning]);
    assert_eq!(validate(&layerpin, &machine_config().image(&shelf.tag)).await, expected);
}

#[tokio::test]
async fn denials_and_warnings_are_in_one_answer() {
    let shelf = Shelf::new();
    let spec = "  rules: {floating-tag: warn}\n";
    let layerpin = Setup::serve().policy(spec).start();
    let host = shelf.registry.host();
    let image = format!("{host}/acme/os:9.99");
    let message = format!(
        "[unpullable-image] {host} has no image `{image}` (/spec/osImageURL)\n  \
         note: `unpullable-image` is `deny` by default in policy `test`\n  \
         help: check the repository and push the image, then apply again"
    );
    let findings = "floating-tag=warn,unpullable-image=deny";
    let mut expected = denied_by(&policy_of(&policy(spec)), findings, &message);
    expected["response"]["warnings"] = json!([format!("[floating-tag] `{image}` is a tag, not a digest")]);
    assert_eq!(validate(&layerpin, &machine_config().image(&image)).await, expected);
}

#[tokio::test]
async fn no_warning_is_longer_than_the_api_server_takes() {
    let spec = "  rules: {floating-tag: warn, malformed-reference: warn, unpullable-image: warn}\n";
    let layerpin = Setup::serve().policy(spec).arguments(["--offline"]).start();
    let image = format!("registry.example/{}:4.18", "a".repeat(228));
    assert_eq!(image.len(), 250);
    let object = machine_config().image(&image).extensions_image(&"B".repeat(250));
    let answer = validate(&layerpin, &object).await;
    let warnings = answer["response"]["warnings"].as_array().unwrap();
    let lengths: Vec<_> = warnings.iter().map(|text| text.as_str().unwrap().chars().count()).collect();
    assert_eq!(lengths.len(), 3, "{answer}");
    assert!(lengths.iter().all(|length| *length <= 256), "{lengths:?}");
}

#[tokio::test]
async fn an_invalid_object_is_denied_with_the_field() {
    let layerpin = Layerpin::start();
    let label = machine_config().metadata_field("labels", "worker").into_json();
    let number = machine_config().field("baseOSExtensionsContainerImage", 1.5).into_json();
    for (object, fault) in [
        (Value::Null, "`object` is missing"),
        (label, "`object.metadata.labels`: invalid type: string \"worker\", expected a map"),
        (
            number,
            "`object.spec.baseOSExtensionsContainerImage`: invalid type: floating point `1.5`, expected a string",
        ),
    ] {
        let answer = validate(&layerpin, &object).await;
        let message = format!("cannot read the MachineConfig: {fault}");
        let status = json!({"code": 403, "reason": "Forbidden", "message": message});
        assert_eq!(answer["response"], json!({"uid": UID, "allowed": false, "status": status}));
    }
}

#[tokio::test]
async fn an_update_is_judged_by_its_new_object() {
    let shelf = Shelf::new();
    let layerpin = Layerpin::start();
    let stored = machine_config().image(&shelf.pinned);
    let review = update(&machine_config().image(&shelf.tag), &stored);
    let answer = layerpin.webhooks.review("/validate", &review).await;
    assert_eq!(answer["response"]["auditAnnotations"]["findings"], "floating-tag=deny");
    let repinned = machine_config().image(&shelf.pinned).annotation(REPIN, "true");
    assert_eq!(layerpin.webhooks.review("/validate", &update(&repinned, &stored)).await, passed());
}
