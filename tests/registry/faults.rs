//! Registries that are down, slow, broken or hostile: each has one answer and no lasting effect.

use std::time::Duration;

use layerpin::model::facts::{Cause, CredentialsSent, Fact, Manifest, NodeCredentials};
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{ClosedPort, Fault, FaultPlan, Registry};
use layerpin_test_support::os_registry::OsRegistry;

use crate::support::{Asker, image, lines, nonsense, out_of_time, refused, unreachable};

/// The answer for `tag` with `fault`, and the requests. A request before and one after the fault are answered.
async fn under(
    fault: impl Into<FaultPlan>,
    tag: &str,
    patience: Patience,
) -> (Fact<Manifest>, String, Vec<String>) {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let base = Image::base("4.18.1");
    let digest = registry.push("acme/os", Some("before"), &base);
    registry.push("acme/os", Some("after"), &base);
    registry.push("acme/os", Some("1"), &base);
    // A manifest whose header has no kind, so that its body is needed.
    registry.push_manifest("acme/os", Some("untyped"), "application/json", untyped().manifest());
    let asker = Asker::anonymous();
    // The client now knows that this port has no TLS, and sends one request.
    assert_eq!(asker.ask(&format!("{host}/acme/os:before")).await, image(&digest, &host));
    registry.clear_requests();
    registry.set_fault(fault);
    let reference = format!("{host}/acme/os:{tag}");
    let answer = match patience {
        Patience::Enough => asker.ask(&reference).await,
        Patience::Little => asker.shortly().ask(&reference).await,
    };
    let requests = lines(&registry.requests());
    registry.clear_fault();
    assert_eq!(asker.ask(&format!("{host}/acme/os:after")).await, image(&digest, &host));
    (answer, host, requests)
}

fn untyped() -> Image {
    Image::base("4.18.2")
}

enum Patience {
    Enough,
    Little,
}

const HEAD: &str = "HEAD /v2/acme/os/manifests/1 -";

#[tokio::test]
async fn statuses_are_reported_unchanged() {
    let status = |host: &str, status| Fact::Unknown(Cause::Status { host: host.to_owned(), status });
    let refused =
        |host: &str, status| refused(host, status, CredentialsSent::NoEntry, NodeCredentials::NotAtHand);
    type Expected<'a> = &'a dyn Fn(&str) -> Fact<Manifest>;
    let table: [(Fault, Expected<'_>); 8] = [
        (Fault::UnauthorizedForEver, &|host| refused(host, 401)),
        (Fault::Status(401), &|host| refused(host, 401)),
        (Fault::ForbiddenForEver, &|host| refused(host, 403)),
        (Fault::Status(404), &|_| Fact::Absent),
        (Fault::Status(429), &|host| status(host, 429)),
        (Fault::Status(500), &|host| status(host, 500)),
        (Fault::Status(503), &|host| status(host, 503)),
        (Fault::Status(204), &|host| status(host, 204)),
    ];
    for (fault, expected) in table {
        let (answer, host, requests) = under(fault.clone(), "1", Patience::Enough).await;
        assert_eq!(answer, expected(&host), "{fault:?}");
        assert_eq!(requests, [HEAD], "{fault:?}");
    }
}

#[tokio::test]
async fn the_status_of_get_is_reported_where_head_is_not_supported() {
    for status in [400, 405] {
        let (answer, host, requests) = under(Fault::Status(status), "1", Patience::Enough).await;
        assert_eq!(answer, Fact::Unknown(Cause::Status { host, status }));
        assert_eq!(requests, [HEAD, "GET /v2/acme/os/manifests/1 -"]);
    }
}

#[tokio::test]
async fn a_manifest_of_schema_1_is_refused() {
    let (answer, host, requests) = under(Fault::Schema1, "1", Patience::Enough).await;
    let reason = "it only has a manifest of Docker schema 1, which nodes cannot boot";
    assert_eq!(answer, nonsense(&host, reason));
    assert_eq!(requests, [HEAD]);
}

#[tokio::test]
async fn a_body_without_end_is_read_to_the_limit() {
    let (answer, host, requests) = under(Fault::EndlessBody, "1", Patience::Enough).await;
    assert_eq!(answer, nonsense(&host, "the body has more than 4194304 bytes"));
    assert_eq!(requests, [HEAD, "GET /v2/acme/os/manifests/1 -"]);
}

#[tokio::test]
async fn the_length_in_the_response_to_head_is_ignored() {
    let (answer, host, requests) = under(Fault::OversizedHeadLength, "1", Patience::Enough).await;
    assert_eq!(answer, image(&Image::base("4.18.1").digest(), &host));
    assert_eq!(requests, [HEAD]);
}

#[tokio::test]
async fn a_registry_that_hangs_costs_no_more_than_the_deadline() {
    let for_ever = Duration::from_secs(3600);
    for (fault, tag, methods) in [
        (Fault::FreezeAfterAccept, "1", &["HEAD"][..]),
        (Fault::FreezeAfterHeaders, "untyped", &["HEAD", "GET"]),
        (Fault::SlowBody { bytes: 1, every: for_ever }, "untyped", &["HEAD", "GET"]),
        (Fault::Latency(for_ever), "1", &["HEAD"]),
    ] {
        let (answer, host, requests) = under(fault.clone(), tag, Patience::Little).await;
        assert_eq!(answer, out_of_time(&host), "{fault:?}");
        let expected: Vec<_> =
            methods.iter().map(|method| format!("{method} /v2/acme/os/manifests/{tag} -")).collect();
        // Under load the deadline may pass before the last request arrives.
        assert!(expected.starts_with(&requests), "{fault:?}: {requests:?}");
    }
}

#[tokio::test]
async fn a_registry_that_hangs_from_the_start_costs_no_more_than_the_deadline() {
    let OsRegistry { registry, host, digest } = OsRegistry::start();
    registry.set_fault(Fault::FreezeAfterAccept);
    let asker = Asker::anonymous();
    assert_eq!(asker.shortly().ask(&format!("{host}/acme/os:1")).await, out_of_time(&host));
    registry.clear_fault();
    let other = format!("{host}/acme/os@{digest}");
    assert_eq!(asker.ask(&other).await, image(&digest, &host));
}

#[tokio::test]
async fn a_body_in_pieces_is_put_together() {
    let fault = Fault::SlowBody { bytes: 50, every: Duration::from_millis(1) };
    let (answer, host, requests) = under(fault, "untyped", Patience::Enough).await;
    assert_eq!(answer, image(&untyped().digest(), &host));
    let path = "/v2/acme/os/manifests/untyped -";
    assert_eq!(requests, [format!("HEAD {path}"), format!("GET {path}")]);
}

#[tokio::test]
async fn a_response_that_is_not_http_is_reported() {
    let (answer, host, requests) = under(Fault::GarbageResponse, "1", Patience::Enough).await;
    assert_eq!(answer, unreachable(&host, "invalid HTTP version parsed"));
    assert_eq!(requests, [HEAD]);
}

#[tokio::test]
async fn a_request_is_repeated_once_when_the_connection_is_closed() {
    // An idle connection may be closed at any time.
    let (answer, host, requests) = under(Fault::CloseAfterAccept.times(1), "1", Patience::Enough).await;
    assert_eq!(answer, image(&Image::base("4.18.1").digest(), &host));
    assert_eq!(requests, [HEAD, HEAD]);
}

#[tokio::test]
async fn a_registry_that_closes_the_connection_again_cannot_be_reached() {
    // On paths only, so that connections are accepted and the requests arrive.
    let fault = Fault::CloseAfterAccept.on("/manifests/");
    let (answer, host, requests) = under(fault, "1", Patience::Enough).await;
    assert_eq!(answer, unreachable(&host, "connection closed before message completed"));
    assert_eq!(requests, [HEAD, HEAD]);
}

#[tokio::test]
async fn a_registry_that_is_down_cannot_be_reached() {
    let closed = ClosedPort::take().unwrap();
    let answer = Asker::anonymous().ask(&format!("{}/acme/os:1", closed.host())).await;
    assert_eq!(answer, unreachable(&closed.host(), "Connection refused"));
}
