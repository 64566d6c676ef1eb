//! Shutdown: the requests in progress are finished first.

use layerpin_sample_registry::Fault;
use layerpin_test_support::client::Wire;
use layerpin_test_support::documents::{create, machine_config};
use layerpin_test_support::eventually::{eventually, in_time};
use layerpin_test_support::os_registry::OsRegistry;
use layerpin_test_support::program::{Layerpin, Setup};
use rustix::process::Signal;

#[tokio::test]
async fn sigterm_fails_readiness_and_finishes_the_requests_in_progress() {
    let OsRegistry { registry, .. } = OsRegistry::start();
    let mut layerpin = Setup::serve().arguments(["--timeout", "60s"]).start();
    // Held until it is let go, and not just for as long as a connection may take to come about.
    registry.set_fault(Fault::FreezeAfterAccept.on("/manifests/"));
    let review = create(&machine_config().image(&format!("{}/acme/os:1", registry.host())));
    let client = layerpin.webhooks.clone();
    let in_progress = tokio::spawn(async move { client.review("/validate", &review).await });
    registry.requests_arrived(1).await.unwrap();

    layerpin.signal(Signal::TERM);
    layerpin.log.message("stopping").await;
    let ready = layerpin.admin.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text.contains("[-]shutdown failed: the server is shutting down"), "{}", ready.text);

    eventually("no new connection is taken", async || {
        Wire::try_connect(layerpin.address, &layerpin.authority).await.is_err().then_some(())
    })
    .await;
    assert!(!in_progress.is_finished(), "it is still in progress");
    registry.clear_fault();
    let answer = in_time("the request in progress is answered", in_progress).await.unwrap();
    assert_eq!(answer["response"]["allowed"], false);
    assert_eq!(layerpin.end().await.code(), Some(0));
    layerpin.log.message("stopped").await;
}

#[tokio::test]
async fn sigint_stops_at_once() {
    let mut layerpin = Layerpin::start();
    layerpin.signal(Signal::INT);
    assert_eq!(layerpin.end().await.code(), Some(0));
}
