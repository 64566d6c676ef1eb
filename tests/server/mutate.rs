//! `/mutate`: what it changes, what it says about it, and that it never denies.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::{Architecture, Image, Index};
use layerpin_test_support::documents::{
    EXTENSIONS_RECORD, NOWHERE, RECORD, REPIN, create, machine_config, update,
};
use layerpin_test_support::program::{Layerpin, Setup};
use serde_json::{Value, json};

use crate::answers::{answer, not_pinned, passed, patched, short, untouched};

/// A registry with one image under one tag, and a server that may ask it.
struct Tagged {
    registry: Registry,
    layerpin: Layerpin,
    host: String,
    digest: String,
}

impl Tagged {
    fn new() -> Self {
        let registry = Registry::start().unwrap();
        let digest = registry.push("acme/os", Some("4.18"), &Image::base("4.18.1"));
        Self { host: registry.host(), registry, layerpin: Layerpin::start(), digest }
    }

    fn tag(&self) -> String {
        format!("{}/acme/os:4.18", self.host)
    }

    fn pinned_to(&self, digest: &str) -> String {
        format!("{}/acme/os@{digest}", self.host)
    }

    fn record_of(&self, digest: &str) -> String {
        format!("{}@{digest}", self.tag())
    }

    /// Moves the tag to another image, and returns the digest of that.
    fn move_on(&self) -> String {
        self.registry.push("acme/os", Some("4.18"), &Image::base("4.18.2"))
    }

    async fn mutate(&self, review: &Value) -> Value {
        self.layerpin.webhooks.review("/mutate?timeout=10s", review).await
    }
}

fn pinned(patch: Value, warnings: &[String]) -> Value {
    answer(json!({"allowed": true, "patchType": "JSONPatch", "patch": patch, "warnings": warnings}))
}

#[tokio::test]
async fn a_tag_is_pinned_and_recorded() {
    let tagged = Tagged::new();
    let answer = tagged.mutate(&create(&machine_config().image(&tagged.tag()).ignition())).await;
    let patch = json!([
        {"op": "replace", "path": "/spec/osImageURL", "value": tagged.pinned_to(&tagged.digest)},
        {"op": "add", "path": "/metadata/annotations", "value": {RECORD: tagged.record_of(&tagged.digest)}},
    ]);
    let warning = format!(
        "osImageURL: pinned `{}` to {}; nodes of pool `worker` and of custom pools will reboot",
        tagged.tag(),
        short(&tagged.digest)
    );
    assert_eq!(answer, pinned(patch, &[warning]));
}

#[tokio::test]
async fn existing_annotations_are_kept() {
    let tagged = Tagged::new();
    for annotations in [json!({}), json!({"a/b": "kept", "c~d": "kept"})] {
        let object = machine_config().image(&tagged.tag()).annotations(annotations.clone());
        let answer = tagged.mutate(&create(&object)).await;
        let record = tagged.record_of(&tagged.digest);
        let patch = json!([
            {"op": "replace", "path": "/spec/osImageURL", "value": tagged.pinned_to(&tagged.digest)},
            {"op": "add", "path": "/metadata/annotations/layerpin.io~1pinned-from", "value": record},
        ]);
        assert_eq!(answer["response"]["patch"], patch);
        let mut expected = annotations;
        expected[RECORD] = json!(record);
        assert_eq!(patched(&object, &answer)["metadata"]["annotations"], expected);
    }
}

#[tokio::test]
async fn a_patched_object_passes_and_is_not_patched_again() {
    let tagged = Tagged::new();
    let object = machine_config().image(&tagged.tag()).extensions_image(&tagged.tag()).ignition();
    let after = patched(&object, &tagged.mutate(&create(&object)).await);
    let verdict = tagged.layerpin.webhooks.review("/validate", &create(&after)).await;
    assert_eq!(verdict, passed());
    assert_eq!(tagged.mutate(&create(&after)).await, untouched());
}

#[tokio::test]
async fn a_tag_of_an_index_is_pinned_to_the_index() {
    let tagged = Tagged::new();
    let index = Index::of([
        &Image::base_for("4.18.1", Architecture::Amd64),
        &Image::base_for("4.18.1", Architecture::Arm64),
    ]);
    let digest = tagged.registry.push("acme/os", Some("multi"), &index);
    let object = machine_config().image(&format!("{}/acme/os:multi", tagged.host));
    let after = patched(&object, &tagged.mutate(&create(&object)).await);
    assert_eq!(after["spec"]["osImageURL"], tagged.pinned_to(&digest));
}

#[tokio::test]
async fn an_update_keeps_its_digest_after_the_tag_moved() {
    let tagged = Tagged::new();
    let record = tagged.record_of(&tagged.digest);
    let stored = machine_config().image(&tagged.pinned_to(&tagged.digest)).annotation(RECORD, &record);
    let moved = tagged.move_on();
    // As `kubectl apply` of what stands in Git sends it: the tag again, the annotation still there.
    let answer = tagged
        .mutate(&update(&machine_config().image(&tagged.tag()).annotation(RECORD, &record), &stored))
        .await;
    let patch = json!([
        {"op": "replace", "path": "/spec/osImageURL", "value": tagged.pinned_to(&tagged.digest)},
    ]);
    let warning = format!(
        "osImageURL: kept {} though `{}` now names {}; to roll forward, annotate it layerpin.io/repin=true",
        short(&tagged.digest),
        tagged.tag(),
        short(&moved)
    );
    assert_eq!(answer, pinned(patch, &[warning]));
}

#[tokio::test]
async fn another_tag_gets_another_pin() {
    let tagged = Tagged::new();
    let next = tagged.registry.push("acme/os", Some("4.19"), &Image::base("4.19.1"));
    let record = tagged.record_of(&tagged.digest);
    let stored = machine_config().image(&tagged.pinned_to(&tagged.digest)).annotation(RECORD, &record);
    let object = machine_config().image(&format!("{}/acme/os:4.19", tagged.host)).annotation(RECORD, &record);
    let after = patched(&object, &tagged.mutate(&update(&object, &stored)).await);
    assert_eq!(after["spec"]["osImageURL"], tagged.pinned_to(&next));
    let record = format!("{}/acme/os:4.19@{next}", tagged.host);
    assert_eq!(after["metadata"]["annotations"], json!({RECORD: record}));
}

#[tokio::test]
async fn repin_resolves_the_tag_again_and_is_removed() {
    let tagged = Tagged::new();
    // An answer from before is in the cache, and must not serve.
    tagged.mutate(&create(&machine_config().image(&tagged.tag()))).await;
    let record = tagged.record_of(&tagged.digest);
    let stored = machine_config().image(&tagged.pinned_to(&tagged.digest)).annotation(RECORD, &record);
    let moved = tagged.move_on();
    let object = machine_config()
        .image(&tagged.pinned_to(&tagged.digest))
        .annotation(RECORD, &record)
        .annotation(REPIN, "true");
    let answer = tagged.mutate(&update(&object, &stored)).await;
    let patch = json!([
        {"op": "replace", "path": "/spec/osImageURL", "value": tagged.pinned_to(&moved)},
        {"op": "add", "path": "/metadata/annotations/layerpin.io~1pinned-from", "value": tagged.record_of(&moved)},
        {"op": "remove", "path": "/metadata/annotations/layerpin.io~1repin"},
    ]);
    let warning = format!(
        "osImageURL: pinned `{}` to {}; nodes of pool `worker` and of custom pools will reboot",
        tagged.tag(),
        short(&moved)
    );
    assert_eq!(answer, pinned(patch, &[warning]));
}

#[tokio::test]
async fn a_tag_beside_a_digest_is_dropped_without_asking() {
    let tagged = Tagged::new();
    let answer = tagged.mutate(&create(&machine_config().image(&tagged.record_of(NOWHERE)))).await;
    let patch = json!([
        {"op": "replace", "path": "/spec/osImageURL", "value": tagged.pinned_to(NOWHERE)},
        {"op": "add", "path": "/metadata/annotations", "value": {RECORD: tagged.record_of(NOWHERE)}},
    ]);
    let warning = format!(
        "osImageURL: dropped the tag `4.18`, because nodes refuse tag and digest together; kept {}",
        short(NOWHERE)
    );
    assert_eq!(answer, pinned(patch, &[warning]));
    assert_eq!(tagged.registry.connections(), 0);
}

#[tokio::test]
async fn the_extensions_image_is_pinned_with_a_record_of_its_own() {
    let tagged = Tagged::new();
    let extensions = tagged.registry.push("acme/extensions", Some("1"), &Image::scratch());
    let asked = format!("{}/acme/extensions:1", tagged.host);
    let object = machine_config().image(&tagged.tag()).extensions_image(&asked);
    let answer = tagged.mutate(&create(&object)).await;
    let patch = json!([
        {"op": "replace", "path": "/spec/osImageURL", "value": tagged.pinned_to(&tagged.digest)},
        {
            "op": "replace", "path": "/spec/baseOSExtensionsContainerImage",
            "value": format!("{}/acme/extensions@{extensions}", tagged.host),
        },
        {
            "op": "add", "path": "/metadata/annotations",
            "value": {
                RECORD: tagged.record_of(&tagged.digest),
                EXTENSIONS_RECORD: format!("{asked}@{extensions}"),
            },
        },
    ]);
    let tail = "; nodes of pool `worker` and of custom pools will reboot";
    let warnings = [
        format!("osImageURL: pinned `{}` to {}{tail}", tagged.tag(), short(&tagged.digest)),
        format!("baseOSExtensionsContainerImage: pinned `{asked}` to {}{tail}", short(&extensions)),
    ];
    assert_eq!(answer, pinned(patch, &warnings));
}

#[tokio::test]
async fn an_image_that_cannot_be_pinned_is_allowed_with_a_warning() {
    let tagged = Tagged::new();
    let absent = format!("{}/acme/os:9.99", tagged.host);
    let answer = tagged.mutate(&create(&machine_config().image(&absent))).await;
    assert_eq!(
        answer,
        not_pinned(&format!("osImageURL: not pinned, because {} has no `{absent}`", tagged.host))
    );
    // What is wrong with these is for `/validate` to say.
    for image in ["os:4.18", "docker://quay.io/acme/os:4.18", "quay.io/acme/os@sha256:abc"] {
        assert_eq!(tagged.mutate(&create(&machine_config().image(image))).await, untouched(), "{image}");
    }
    let unreadable = create(&machine_config().field("osImageURL", 5));
    let word = "cannot read the MachineConfig: `object.spec.osImageURL`: invalid type: integer `5`, \
                expected a string";
    assert_eq!(tagged.mutate(&unreadable).await, not_pinned(word));
}

#[tokio::test]
async fn a_private_image_is_pinned_with_the_auth_file() {
    let registry = Registry::builder().basic_auth("robot", "s3cr3t-word").start().unwrap();
    let digest = registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let host = registry.host();
    let auths = json!({host.as_str(): {"username": "robot", "password": "s3cr3t-word"}});
    let layerpin = Setup::serve().auths(&auths).start();
    let object = machine_config().image(&format!("{host}/acme/os:1"));
    let answer = layerpin.webhooks.review("/mutate", &create(&object)).await;
    assert_eq!(patched(&object, &answer)["spec"]["osImageURL"], format!("{host}/acme/os@{digest}"));
}

#[tokio::test]
async fn no_warning_is_longer_than_the_api_server_takes() {
    let tagged = Tagged::new();
    let name = "a/".repeat((250 - tagged.host.len() - 1 - ":4.18".len()) / 2);
    let repository =
        format!("{name}{}", "b".repeat(250 - tagged.host.len() - 1 - name.len() - ":4.18".len()));
    let digest = tagged.registry.push(&repository, Some("4.18"), &Image::base("4.18.1"));
    let asked = format!("{}/{repository}:4.18", tagged.host);
    assert_eq!(asked.len(), 250);
    let object = machine_config().image(&asked);
    let pinned = tagged.mutate(&create(&object)).await;
    let stored = patched(&object, &pinned);
    assert_eq!(stored["spec"]["osImageURL"], format!("{}/{repository}@{digest}", tagged.host));
    let kept = tagged.mutate(&update(&object, &stored)).await;
    let absent = tagged.mutate(&create(&machine_config().image(&asked.replace(":4.18", ":4.19")))).await;
    for answer in [pinned, kept, absent] {
        let warnings = answer["response"]["warnings"].as_array().unwrap();
        let lengths: Vec<_> = warnings.iter().map(|text| text.as_str().unwrap().chars().count()).collect();
        assert!(lengths.len() == 1 && lengths[0] <= 256, "{lengths:?} {answer}");
    }
}
