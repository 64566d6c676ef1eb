//! Registries that are slow, broken or hostile while an image is read.

use std::time::Duration;

use layerpin::model::digest::Digest;
use layerpin::model::facts::image::Image as Found;
use layerpin::model::facts::{Cause, CredentialsSent, Fact, NodeCredentials};
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Fault, FaultPlan, Registry};

use crate::images::single;
use crate::support::{Asker, nonsense, out_of_time, refused, unreachable};

const MANIFESTS: &str = "/manifests/";
const BLOBS: &str = "/blobs/";

/// The answer for an image with the faults of `plan`, and the answer after they are gone.
async fn under(plan: FaultPlan, patience: Patience) -> (Fact<Found>, String) {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let image = Image::base("4.18.1");
    registry.push("acme/os", Some("1"), &image);
    registry.push("acme/before", Some("1"), &image);
    // The client now knows that this port has no TLS, and sends one request.
    assert_eq!(Asker::anonymous().image(&format!("{host}/acme/before:1")).await, single(&image));
    registry.set_fault(plan);
    let reference = format!("{host}/acme/os:1");
    let answer = match patience {
        Patience::Enough => Asker::anonymous().image(&reference).await,
        Patience::Little => Asker::anonymous().shortly().image(&reference).await,
    };
    registry.clear_fault();
    // A failure is only for its own caller, and not kept longer than seconds.
    assert_eq!(Asker::anonymous().image(&reference).await, single(&image));
    (answer, host)
}

enum Patience {
    Enough,
    Little,
}

#[tokio::test]
async fn every_fault_has_its_own_message() {
    let image = Image::base("4.18.1");
    let config = Digest::parse(&image.config_digest()).unwrap();
    let manifest = Digest::parse(&image.digest()).unwrap();
    let altered = |bytes: &[u8]| {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let at = text.find("sha256:").unwrap() + "sha256:".len();
        let digit = if &text[at..=at] == "0" { "1" } else { "0" };
        Digest::of(format!("{}{digit}{}", &text[..at], &text[at + 1..]).as_bytes())
    };
    let mismatch = |host: &str, expected: &Digest, bytes: &[u8]| {
        let (host, expected) = (host.to_owned(), expected.clone());
        Fact::Unknown(Cause::DigestMismatch { host, expected, found: altered(bytes) })
    };
    let status = |host: &str, status| Fact::Unknown(Cause::Status { host: host.to_owned(), status });
    let missing = |host: &str| {
        let (manifest, config) = (manifest.short(), config.short());
        nonsense(host, &format!("it has the manifest {manifest} but not the config {config} that this names"))
    };
    type Expected<'a> = &'a dyn Fn(&str) -> Fact<Found>;
    let table: [(FaultPlan, Expected<'_>); 14] = [
        (Fault::Status(404).on(MANIFESTS), &|_| Fact::Absent),
        (Fault::Status(404).on(BLOBS), &missing),
        (Fault::Status(500).on(MANIFESTS), &|host| status(host, 500)),
        (Fault::Status(503).on(BLOBS), &|host| status(host, 503)),
        (Fault::ForbiddenForEver.on(BLOBS), &|host| {
            refused(host, 403, CredentialsSent::NoEntry, NodeCredentials::NotAtHand)
        }),
        (Fault::WrongBody.on(MANIFESTS), &|host| mismatch(host, &manifest, &image.manifest())),
        (Fault::WrongBody.on(BLOBS), &|host| mismatch(host, &config, &image.config())),
        (Fault::EndlessBody.on(MANIFESTS), &|host| nonsense(host, "the body has more than 4194304 bytes")),
        (Fault::EndlessBody.on(BLOBS), &|host| nonsense(host, "the body has more than 8388608 bytes")),
        (Fault::Schema1.on(MANIFESTS), &|host| {
            nonsense(host, "it only has a manifest of Docker schema 1, which nodes cannot boot")
        }),
        (Fault::RedirectLoop.on(BLOBS), &|host| nonsense(host, "more than 5 redirects")),
        (Fault::RedirectTo("ftp://127.0.0.1".into()).on(BLOBS), &|host| {
            nonsense(host, "a redirect to a URL that is not HTTP")
        }),
        (Fault::GarbageResponse.on(BLOBS), &|host| unreachable(host, "invalid HTTP version parsed")),
        (Fault::CloseAfterAccept.on(BLOBS), &|host| {
            unreachable(host, "connection closed before message completed")
        }),
    ];
    for (plan, expected) in table {
        let (answer, host) = under(plan.clone(), Patience::Enough).await;
        assert_eq!(answer, expected(&host), "{plan:?}");
    }
}

#[tokio::test]
async fn a_config_is_never_fetched_from_metadata_services_of_clouds() {
    let plan = Fault::RedirectTo("http://169.254.169.254".into()).on(BLOBS);
    let (answer, _) = under(plan, Patience::Enough).await;
    assert_eq!(answer, Fact::Unknown(Cause::ForbiddenAddress { host: "169.254.169.254".into() }));
}

#[tokio::test]
async fn a_refusal_by_a_storage_host_is_not_one_by_the_registry() {
    let storage = Registry::start().unwrap();
    storage.set_fault(Fault::ForbiddenForEver.on(BLOBS));
    let plan = Fault::RedirectTo(storage.base_url()).on(BLOBS);
    let (answer, _) = under(plan, Patience::Enough).await;
    assert_eq!(answer, Fact::Unknown(Cause::Status { host: storage.host(), status: 403 }));
}

#[tokio::test]
async fn a_registry_that_hangs_costs_no_more_than_the_deadline() {
    let for_ever = Duration::from_secs(3600);
    for plan in [
        Fault::FreezeAfterHeaders.on(MANIFESTS),
        Fault::FreezeAfterHeaders.on(BLOBS),
        Fault::SlowBody { bytes: 1, every: for_ever }.on(BLOBS),
        Fault::Latency(for_ever).on(BLOBS),
    ] {
        let (answer, host) = under(plan.clone(), Patience::Little).await;
        assert_eq!(answer, out_of_time(&host), "{plan:?}");
    }
}
