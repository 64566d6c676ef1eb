//! What is read before anybody asks, so that a review asks a registry only about its own image.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::{Component, Image};
use layerpin_test_support::documents::{create, machine_config, policy};
use layerpin_test_support::eventually::eventually;
use layerpin_test_support::program::{Layerpin, Setup};

/// A base, its release payload, and an image that is built on the base.
struct Release {
    base: Image,
    payload: Image,
    derived: Image,
}

impl Release {
    fn of(registry: &Registry) -> Self {
        let base = Image::base("9.6.1");
        let pull_spec = format!("{}/ocp/os@{}", registry.host(), base.digest());
        let component = Component::os("rhel-coreos", &pull_spec, "rhel-9", "9.6.1");
        let payload = Image::release_payload_of("4.18.1", &[component]);
        let derived = Image::derived(&base, &[("etc/motd", b"hello")]);
        Self { base, payload, derived }
    }

    fn push(&self, registry: &Registry) {
        // In this order: whoever finds the payload goes on to the base.
        registry.push("ocp/os", None, &self.base);
        registry.push("ocp/release", None, &self.payload);
    }

    /// The requests that learn of payload and base, in their order.
    fn reading(&self) -> Vec<String> {
        let (payload, base) = (&self.payload, &self.base);
        vec![
            format!("GET /v2/ocp/release/manifests/{}", payload.digest()),
            format!("GET /v2/ocp/release/blobs/{}", payload.layers().last().unwrap().digest()),
            format!("GET /v2/ocp/os/manifests/{}", base.digest()),
            format!("GET /v2/ocp/os/blobs/{}", base.config_digest()),
        ]
    }

    fn start(&self, registry: &Registry) -> Layerpin {
        let payload = format!("{}/ocp/release@{}", registry.host(), self.payload.digest());
        Setup::serve().arguments(["--release-image", &payload]).start()
    }
}

fn requests(registry: &Registry) -> Vec<String> {
    registry.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
}

#[tokio::test]
async fn a_review_asks_about_its_own_image_alone_and_only_once() {
    let registry = Registry::start().unwrap();
    let release = Release::of(&registry);
    release.push(&registry);
    let digest = registry.push("acme/os", None, &release.derived);
    let layerpin = release.start(&registry);
    eventually("payload and base are read ahead", async || {
        (layerpin.log.with_message("prefetched").len() == 2).then_some(())
    })
    .await;
    assert_eq!(requests(&registry), release.reading());
    registry.clear_requests();
    let image = format!("{}/acme/os@{digest}", registry.host());
    let review = create(&machine_config().image(&image));
    let answer = layerpin.webhooks.review("/validate", &review).await;
    assert_eq!(answer["response"]["auditAnnotations"]["verdict"], "pass", "{answer}");
    let mut asked = requests(&registry);
    asked.sort();
    let config = release.derived.config_digest();
    assert_eq!(
        asked,
        [format!("GET /v2/acme/os/blobs/{config}"), format!("GET /v2/acme/os/manifests/{digest}"),]
    );
    registry.clear_requests();
    assert_eq!(layerpin.webhooks.review("/validate", &review).await, answer);
    assert_eq!(requests(&registry), [""; 0]);
}

#[tokio::test]
async fn what_is_not_there_yet_is_asked_for_again() {
    let registry = Registry::start().unwrap();
    let release = Release::of(&registry);
    let layerpin = release.start(&registry);
    let line = layerpin.log.message("cannot prefetch; lineage that depends on it is unknown").await;
    assert_eq!(line["cause"], "the registry does not have it");
    release.push(&registry);
    eventually("payload and base are read ahead", async || {
        (layerpin.log.with_message("prefetched").len() == 2).then_some(())
    })
    .await;
    assert!(requests(&registry).ends_with(&release.reading()), "{:?}", requests(&registry));
}

#[tokio::test]
async fn what_the_policy_comes_to_accept_is_read_at_once() {
    let registry = Registry::start().unwrap();
    let hotfix = Image::base("9.6.2");
    registry.push("acme/hotfix", None, &hotfix);
    let layerpin = Setup::serve().policy("  pin: true\n").start();
    let base = format!("{}/acme/hotfix@{}", registry.host(), hotfix.digest());
    layerpin.replace("policy.yaml", &policy(&format!("  acceptedBases: [\"{base}\"]\n")));
    let line = layerpin.log.message("prefetched").await;
    assert_eq!(line["reference"], base);
    assert_eq!(
        requests(&registry),
        [
            format!("GET /v2/acme/hotfix/manifests/{}", hotfix.digest()),
            format!("GET /v2/acme/hotfix/blobs/{}", hotfix.config_digest()),
        ]
    );
}
