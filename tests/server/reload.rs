//! What changes while the server runs, and what does not.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::Image;
use layerpin_test_support::documents::{auth_file, create, machine_config, policy};
use layerpin_test_support::eventually::eventually;
use layerpin_test_support::mount::swap_data;
use layerpin_test_support::os_registry::OsRegistry;
use layerpin_test_support::program::Setup;

use serde_json::json;

use crate::answers::patched;

#[tokio::test]
async fn a_changed_policy_is_loaded_and_a_broken_one_is_not() {
    let OsRegistry { registry, .. } = OsRegistry::start();
    let tagged = create(&machine_config().image(&format!("{}/acme/os:1", registry.host())));
    let layerpin = Setup::serve().policy("  rules: {floating-tag: deny}\n").start();
    let allowed = async || {
        layerpin.webhooks.review("/validate", &tagged).await["response"]["allowed"].as_bool().unwrap()
    };
    assert!(!allowed().await);

    layerpin.replace("policy.yaml", &policy("  rules: {floating-tag: warn}\n"));
    layerpin.log.message("policy changed").await;
    assert!(allowed().await);
    assert_eq!(layerpin.admin.get("/readyz").await.status, 200);

    layerpin.replace("policy.yaml", &policy("  rules: {floating-tags: deny}\n"));
    let line = layerpin.log.message("policy reload failed; still using the previous policy").await;
    let fault = line["error"].as_str().unwrap();
    assert!(fault.contains("policy.yaml:5: unknown rule `floating-tags`"), "{fault}");
    assert!(allowed().await);
    let ready = layerpin.admin.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text.contains(&format!("[-]policy failed: {fault}; still using the previous policy")));
    assert_eq!(layerpin.admin.get("/readyz?exclude=policy").await.status, 200);
    assert_eq!(layerpin.metric("layerpin_policy_reload_failures_total").await, Some(1.0));

    layerpin.replace("policy.yaml", &policy("  rules: {floating-tag: deny}\n"));
    eventually("the policy is fixed", async || (!allowed().await).then_some(())).await;
    assert_eq!(layerpin.admin.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_policy_behind_a_swapped_link_is_loaded() {
    let setup = Setup::serve();
    let mount = setup.path("policy");
    swap_data(&mount, "v1", &[("policy.yaml", &policy("  rules: {floating-tag: deny}\n"))]);
    let layerpin = setup.arguments(["--policy", "policy/policy.yaml", "--offline"]).start();
    let tagged = create(&machine_config().image("registry.example/acme/os:1"));
    let allowed =
        async || layerpin.webhooks.review("/validate", &tagged).await["response"]["allowed"].clone();
    assert_eq!(allowed().await, false);
    let second = policy("  rules: {floating-tag: warn}\n");
    swap_data(&mount, "v2", &[("policy.yaml", &second)]);
    let line = layerpin.log.message("policy changed").await;
    let hash = layerpin::policy::Policy::parse(&second).unwrap().hash().to_owned();
    assert_eq!((&line["policy"], &line["hash"]), (&json!("test"), &json!(hash)));
    assert_eq!(allowed().await, true);
}

#[tokio::test]
async fn changed_credentials_are_loaded_and_broken_ones_are_not() {
    let registry = Registry::builder().basic_auth("robot", "second-word").start().unwrap();
    let host = registry.host();
    registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    registry.push("acme/os", Some("2"), &Image::base("4.18.2"));
    let auths = |password: &str| json!({host.as_str(): {"username": "robot", "password": password}});
    let layerpin = Setup::serve().auths(&auths("first-word")).start();
    let pinned = async |tag: &str| {
        let object = machine_config().image(&format!("{host}/acme/os:{tag}"));
        let answer = layerpin.webhooks.review("/mutate", &create(&object)).await;
        answer["response"].get("patch").map(|_| patched(&object, &answer)["spec"]["osImageURL"].clone())
    };
    let digest = |version: &str| json!(format!("{host}/acme/os@{}", Image::base(version).digest()));
    assert_eq!(pinned("1").await, None);

    layerpin.replace("auth.json", &auth_file(&auths("second-word")));
    layerpin.log.message("registry credentials changed").await;
    assert_eq!(pinned("1").await, Some(digest("4.18.1")), "what was refused before is asked for anew");

    layerpin.replace("auth.json", "{\"auths\": {\"quay.io\": {\"auth\": 5, \"x\": \"c2VjcmV0\"}}}");
    let message = "registry credentials: reload failed; still using the previous content";
    let fault = layerpin.log.message(message).await["error"].as_str().unwrap().to_owned();
    assert!(fault.contains("auth.json: line 1, column ") && !fault.contains("c2VjcmV0"), "{fault}");
    assert_eq!(pinned("2").await, Some(digest("4.18.2")));

    layerpin.replace("auth.json", &auth_file(&auths("third")));
    let changes =
        async || Some(()).filter(|()| layerpin.log.with_message("registry credentials changed").len() == 2);
    eventually("the fixed file is loaded", changes).await;
    // Several looks have passed over the broken file by then, or one; it is told of once.
    assert_eq!(layerpin.log.with_message(message).len(), 1);
}
