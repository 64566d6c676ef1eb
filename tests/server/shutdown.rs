//! The end of a server: what is in work is finished first.

use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Fault, Registry};
use rustix::process::Signal;

use crate::documents::{create, machine_config};
use crate::program::Layerpin;

#[tokio::test]
async fn sigterm_turns_readiness_away_and_finishes_what_is_in_work() {
    let registry = Registry::start().unwrap();
    registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let mut layerpin = Layerpin::start();
    registry.set_fault(Fault::FreezeAfterAccept);
    let review = create(&machine_config(&format!("{}/acme/os:1", registry.host())));
    let client = layerpin.webhooks.clone();
    let in_work = tokio::spawn(async move { client.review("/validate?timeout=3s", &review).await });
    registry.connections_arrived(1).await.unwrap();

    layerpin.signal(Signal::TERM);
    layerpin.log.message("stopping").await;
    let ready = layerpin.admin.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text.contains("[-]shutdown failed: the server is about to stop"), "{}", ready.text);

    let answer = in_work.await.unwrap();
    assert_eq!(answer["response"]["allowed"], false);
    assert_eq!(layerpin.end().await.code(), Some(0));
    layerpin.log.message("stopped").await;
}

#[tokio::test]
async fn sigint_ends_at_once() {
    let mut layerpin = Layerpin::start();
    layerpin.signal(Signal::INT);
    assert_eq!(layerpin.end().await.code(), Some(0));
}
