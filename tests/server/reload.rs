//! What changes while the server runs, and what does not.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::Image;

use crate::documents::{create, machine_config};
use crate::eventually::eventually;
use crate::program::{Setup, policy};

#[tokio::test]
async fn a_changed_policy_is_taken_over_and_a_broken_one_is_not() {
    let registry = Registry::start().unwrap();
    registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let tagged = create(&machine_config(&format!("{}/acme/os:1", registry.host())));
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
    let line = layerpin.log.message("policy not taken over; the one before it is in force").await;
    let fault = line["error"].as_str().unwrap();
    assert!(fault.contains("policy.yaml:5: no rule is called `floating-tags`"), "{fault}");
    assert!(allowed().await);
    let ready = layerpin.admin.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text.contains(&format!("[-]policy failed: {fault}; the policy before it is in force")));
    assert_eq!(layerpin.admin.get("/readyz?exclude=policy").await.status, 200);
    assert_eq!(layerpin.metric("layerpin_policy_reload_failures_total").await, Some(1.0));

    layerpin.replace("policy.yaml", &policy("  rules: {floating-tag: deny}\n"));
    eventually("the policy is mended", async || (!allowed().await).then_some(())).await;
    assert_eq!(layerpin.admin.get("/readyz").await.status, 200);
}
