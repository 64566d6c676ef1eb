//! Policies: what each setting of the file does to an answer.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::Image;
use layerpin_test_support::documents::{NOWHERE, UID, create, machine_config, policy};
use layerpin_test_support::program::Setup;
use serde_json::{Value, json};

use crate::answers::{answer, denied_by, not_pinned, policy_of, untouched, warned_by};

/// The answer of one webhook under a policy with this `spec`.
async fn under(spec: &str, path: &str, object: &Value) -> Value {
    Setup::serve().policy(spec).start().webhooks.review(path, &create(object)).await
}

fn registry() -> (Registry, String) {
    let registry = Registry::start().unwrap();
    let digest = registry.push("acme/os", Some("4.18"), &Image::base("4.18.1"));
    (registry, digest)
}

#[tokio::test]
async fn without_pin_nothing_is_changed_and_no_registry_is_asked() {
    let (registry, _) = registry();
    let object = machine_config().image(&format!("{}/acme/os:4.18", registry.host()));
    assert_eq!(under("  pin: false\n", "/mutate", &object).await, untouched());
    assert_eq!(registry.connections(), 0);
}

#[tokio::test]
async fn an_unknown_fact_has_the_level_of_on_unknown() {
    let image = format!("registry.example/acme/os@{NOWHERE}");
    let object = machine_config().image(&image);
    let told = format!(
        "[unpullable-image] whether nodes can pull `{image}` is not known: not asked: \
                        `--offline` is set"
    );
    let message = format!(
        "{told} (/spec/osImageURL)\n  \
         note: `onUnknown` is `deny` in policy `test`\n  \
         help: run layerpin without `--offline`"
    );
    for level in ["allow", "warn", "deny"] {
        let spec = format!("  onUnknown: {level}\n");
        let named = policy_of(&policy(&spec));
        let expected = match level {
            "allow" => {
                answer(json!({"allowed": true, "auditAnnotations": {"verdict": "pass", "policy": named}}))
            }
            "warn" => warned_by(&named, "unpullable-image=warn", &[&told]),
            _ => denied_by(&named, "unpullable-image=deny", &message),
        };
        let layerpin = Setup::serve().policy(&spec).arguments(["--offline"]).start();
        assert_eq!(layerpin.webhooks.review("/validate", &create(&object)).await, expected, "{level}");
    }
}

#[tokio::test]
async fn a_registry_outside_the_allowed_ones_is_never_contacted() {
    let (registry, digest) = registry();
    let host = registry.host();
    let spec = "  registries: {allow: ['quay.io/acme/*']}\n";
    let tag = format!("{host}/acme/os:4.18");
    let warning = format!(
        "osImageURL: `{tag}` not pinned: not asked: `registries.allow` of the policy does not include it"
    );
    assert_eq!(under(spec, "/mutate", &machine_config().image(&tag)).await, not_pinned(&warning));
    let message = format!(
        "[registry-not-allowed] policy `test` does not allow images from `{host}/acme/os` \
         (/spec/osImageURL)\n  \
         note: allowed: `quay.io/acme/*`\n  \
         note: `registry-not-allowed` is `deny` by default in policy `test`\n  \
         help: copy the image to an allowed repository, or add `{host}/acme/os` to `registries.allow` of the policy"
    );
    let pinned = machine_config().image(&format!("{host}/acme/os@{digest}"));
    let expected = denied_by(&policy_of(&policy(spec)), "registry-not-allowed=deny", &message);
    assert_eq!(under(spec, "/validate", &pinned).await, expected);
    assert_eq!((registry.connections(), registry.requests()), (0, vec![]));
}

#[tokio::test]
async fn a_registry_among_the_allowed_ones_is_asked() {
    let (registry, digest) = registry();
    let host = registry.host();
    let spec = format!("  registries: {{allow: ['{host}/acme/*']}}\n");
    let answer =
        under(&spec, "/validate", &machine_config().image(&format!("{host}/acme/os@{digest}"))).await;
    let expected = json!({"verdict": "pass", "policy": policy_of(&policy(&spec))});
    assert_eq!(answer["response"], json!({"uid": UID, "allowed": true, "auditAnnotations": expected}));
    assert_eq!(registry.count("GET", &format!("/manifests/{digest}")), 1);
}

#[tokio::test]
async fn the_level_of_the_pool_decides() {
    let spec = "  rules: {floating-tag: warn}\n  onUnknown: allow\n  pools:\n  - names: [master]\n    \
                rules: {floating-tag: deny}\n";
    let named = policy_of(&policy(spec));
    let tag = "registry.example/acme/os:4.18";
    let object = machine_config().image(tag);
    let layerpin = Setup::serve().policy(spec).arguments(["--offline"]).start();
    let told = format!("[floating-tag] `{tag}` is a tag, not a digest");
    let verdict = layerpin.webhooks.review("/validate", &create(&object)).await;
    assert_eq!(verdict, warned_by(&named, "floating-tag=warn", &[&told]));
    let object = object.of_pool("master");
    let message = format!(
        "{told} (/spec/osImageURL)\n  \
         note: each node resolves the tag for itself, so nodes of one pool can end up on different images\n  \
         note: `floating-tag` is `deny` for pool `master` in policy `test`\n  \
         help: write `registry.example/acme/os@sha256:<digest>`; `skopeo inspect --format '{{{{.Digest}}}}' \
         docker://{tag}` prints the digest"
    );
    let verdict = layerpin.webhooks.review("/validate", &create(&object)).await;
    assert_eq!(verdict, denied_by(&named, "floating-tag=deny", &message));
}

#[tokio::test]
async fn an_exception_lets_pass_until_its_end_and_says_so() {
    let spec = |expires: &str| {
        format!(
            "  onUnknown: allow\n  exceptions:\n  - names: ['99-worker-*']\n    rules: [floating-tag]\n    \
             reason: vendor image\n    expires: {expires}\n"
        )
    };
    let tag = "registry.example/acme/os:4.18";
    let object = machine_config().image(tag);
    let ask = async |spec: &str| {
        let layerpin = Setup::serve().policy(spec).arguments(["--offline"]).start();
        layerpin.webhooks.review("/validate", &create(&object)).await
    };
    let holds = spec("9999-12-31");
    let expected = answer(json!({
        "allowed": true,
        "warnings": ["[floating-tag] excepted until 9999-12-31: vendor image"],
        "auditAnnotations": {"verdict": "pass", "policy": policy_of(&policy(&holds))},
    }));
    assert_eq!(ask(&holds).await, expected);
    let ended = spec("2020-01-31");
    let message = format!(
        "[floating-tag] `{tag}` is a tag, not a digest (/spec/osImageURL)\n  \
         note: each node resolves the tag for itself, so nodes of one pool can end up on different images\n  \
         note: its exception expired on 2020-01-31: vendor image\n  \
         note: `floating-tag` is `deny` by default in policy `test`\n  \
         help: write `registry.example/acme/os@sha256:<digest>`; `skopeo inspect --format '{{{{.Digest}}}}' \
         docker://{tag}` prints the digest"
    );
    assert_eq!(ask(&ended).await, denied_by(&policy_of(&policy(&ended)), "floating-tag=deny", &message));
}
