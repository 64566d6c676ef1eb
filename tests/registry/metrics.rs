//! The metrics of requests to registries.

use layerpin_sample_registry::images::{Architecture, Image, Index};
use layerpin_sample_registry::{Fault, Registry, TokenService};
use layerpin_test_support::os_registry::OsRegistry;

use crate::support::Asker;

/// The series of `name` without `host`, whose port differs from run to run.
fn series(asker: &Asker, name: &str, host: &str) -> Vec<String> {
    let text = asker.metrics.encode();
    let mut series: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("layerpin_")?.strip_prefix(name))
        .map(|line| line.replace(host, "REGISTRY"))
        .collect();
    series.sort();
    series
}

#[tokio::test]
async fn requests_and_their_outcomes_are_counted() {
    let OsRegistry { registry, host, .. } = OsRegistry::start();
    let asker = Asker::anonymous();
    let ask = async |tag: &str| asker.ask(&format!("{host}/acme/os:{tag}")).await;
    ask("1").await;
    ask("1").await;
    ask("absent").await;
    for (fault, tag) in [
        (Fault::Status(403), "refused"),
        (Fault::Status(429), "limited"),
        (Fault::Status(422), "rejected"),
        (Fault::Status(500), "failed"),
        (Fault::CloseAfterAccept, "closed"),
        (Fault::RedirectLoop, "redirected"),
    ] {
        registry.set_fault(fault);
        ask(tag).await;
    }
    registry.clear_fault();
    asker.ask_now(&format!("{host}/acme/os:1")).await;
    assert_eq!(
        series(&asker, "registry_requests_total", &host),
        [
            "{host=\"REGISTRY\",outcome=\"absent\"} 1",
            // The first of them found that the port has no TLS.
            "{host=\"REGISTRY\",outcome=\"failed\"} 3",
            "{host=\"REGISTRY\",outcome=\"found\"} 2",
            "{host=\"REGISTRY\",outcome=\"limited\"} 1",
            "{host=\"REGISTRY\",outcome=\"redirected\"} 6",
            "{host=\"REGISTRY\",outcome=\"refused\"} 1",
            "{host=\"REGISTRY\",outcome=\"rejected\"} 1",
        ]
    );
    assert_eq!(series(&asker, "registry_request_duration_seconds_count", &host), ["{host=\"REGISTRY\"} 15"]);
    assert_eq!(
        series(&asker, "cache_requests_total", &host),
        [
            "{cache=\"manifest\",outcome=\"bypass\"} 1",
            "{cache=\"manifest\",outcome=\"hit\"} 1",
            "{cache=\"manifest\",outcome=\"miss\"} 8",
        ]
    );
}

#[tokio::test]
async fn look_ups_of_documents_are_counted() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let architectures = [Architecture::Amd64, Architecture::Arm64];
    let images = architectures.map(|architecture| Image::base_for("4.18.1", architecture));
    let index = registry.push("acme/os", Some("1"), &Index::of(&images));
    let asker = Asker::anonymous();
    let reference = format!("{host}/acme/os@{index}");
    asker.image(&reference).await;
    asker.image(&reference).await;
    asker.image(&format!("{host}/acme/os@{}", images[0].digest())).await;
    assert_eq!(
        series(&asker, "cache_requests_total", &host),
        [
            // The whole image is cached; one of its platforms alone is read again.
            "{cache=\"config\",outcome=\"hit\"} 1",
            "{cache=\"config\",outcome=\"miss\"} 2",
            "{cache=\"document\",outcome=\"hit\"} 1",
            "{cache=\"document\",outcome=\"miss\"} 3",
            "{cache=\"image\",outcome=\"hit\"} 1",
            "{cache=\"image\",outcome=\"miss\"} 2",
        ]
    );
}

#[tokio::test]
async fn token_services_are_counted_by_their_own_host() {
    let tokens = TokenService::start().unwrap();
    let registry = Registry::builder().bearer_auth(&tokens).start().unwrap();
    registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let asker = Asker::anonymous();
    asker.ask(&format!("{}/acme/os:1", registry.host())).await;
    let ours = |line: &String| line.contains("REGISTRY");
    let of_tokens = series(&asker, "registry_requests_total", &tokens.host());
    assert_eq!(
        of_tokens.into_iter().filter(ours).collect::<Vec<_>>(),
        ["{host=\"REGISTRY\",outcome=\"found\"} 1"]
    );
    let of_registry = series(&asker, "registry_requests_total", &registry.host());
    assert_eq!(
        of_registry.into_iter().filter(ours).collect::<Vec<_>>(),
        [
            "{host=\"REGISTRY\",outcome=\"failed\"} 1",
            "{host=\"REGISTRY\",outcome=\"found\"} 1",
            "{host=\"REGISTRY\",outcome=\"refused\"} 1",
        ]
    );
}
