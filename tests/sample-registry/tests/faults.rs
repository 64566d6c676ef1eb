//! Each fault does what its name says, and nothing to other requests.

mod support;

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use layerpin_sample_registry::images::{DOCKER_SCHEMA_1_SIGNED, Image};
use layerpin_sample_registry::{Fault, FaultPlan, Registry, digest_of};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use support::{Failure, Reply, ask, headers_of, in_time};

const MANIFEST: &str = "/v2/acme/os/manifests/4.18";
const DIGEST: &str = "docker-content-digest";

#[tokio::test]
async fn a_refusing_registry_answers_with_a_status_and_an_error() {
    let wait = Fault::StatusWithHeader(429, "Retry-After".to_owned(), "7".to_owned());
    let table = [
        (Fault::Status(500), 500, "UNKNOWN", None),
        (Fault::Status(404), 404, "MANIFEST_UNKNOWN", None),
        (wait, 429, "TOOMANYREQUESTS", Some(("retry-after", "7"))),
        (Fault::ForbiddenForEver, 403, "DENIED", None),
        (
            Fault::UnauthorizedForEver,
            401,
            "UNAUTHORIZED",
            Some(("www-authenticate", "Basic realm=\"sample registry\"")),
        ),
    ];
    for (fault, status, code, header) in table {
        let registry = registry_with(fault.clone());
        let reply = reply_to("GET", &registry).await;
        assert_eq!(reply.status, status, "{fault:?}");
        assert_eq!(reply.error_code(), code, "{fault:?}");
        if let Some((name, value)) = header {
            assert_eq!(reply.header(name), Some(value), "{fault:?}");
        }
        assert_eq!(reply_to("HEAD", &registry).await.status, status, "{fault:?}");
        let other = ask("GET", &registry.host(), "/v2/", &[]).await;
        assert_eq!(other.expect("a reply").status, 200, "{fault:?}");
        registry.clear_fault();
        assert_eq!(reply_to("GET", &registry).await.status, 200, "{fault:?}");
    }
}

#[tokio::test]
async fn a_fault_can_be_limited_to_a_path_and_a_number() {
    let image = Image::base("4.18.1");
    let registry = registry_with(Fault::Status(503).on("/blobs/").times(1));
    assert_eq!(reply_to("GET", &registry).await.status, 200);
    let blob = format!("/v2/acme/os/blobs/{}", image.config_digest());
    for status in [503, 200] {
        let reply = ask("GET", &registry.host(), &blob, &[]).await;
        assert_eq!(reply.expect("a reply").status, status);
    }
}

#[tokio::test]
async fn the_stated_digest_is_left_out_or_wrong() {
    let good = Image::base("4.18.1").digest();
    let wrong = digest_of(b"another manifest");
    let table = [
        (Fault::HeadWithoutDigest, None, Some(&good)),
        (Fault::NoDigestHeader, None, None),
        (Fault::WrongDigest, Some(&wrong), Some(&wrong)),
        (Fault::WrongBody, Some(&good), Some(&good)),
        (Fault::OversizedHeadLength, Some(&good), Some(&good)),
    ];
    for (fault, to_head, to_get) in table {
        let registry = registry_with(fault.clone());
        let head = reply_to("HEAD", &registry).await;
        assert_eq!(head.status, 200, "{fault:?}");
        assert_eq!(head.header(DIGEST), to_head.map(String::as_str), "{fault:?}");
        let get = reply_to("GET", &registry).await;
        assert_eq!(get.status, 200, "{fault:?}");
        assert_eq!(get.header(DIGEST), to_get.map(String::as_str), "{fault:?}");
        let body_is_good = digest_of(&get.body) == good;
        assert_eq!(body_is_good, fault != Fault::WrongBody, "{fault:?}");
        // A wrong body is still a manifest of the same length.
        assert_eq!(get.body.len(), Image::base("4.18.1").manifest().len());
        assert_eq!(get.json()["schemaVersion"], 2, "{fault:?}");
    }
}

#[tokio::test]
async fn head_is_refused_or_states_a_huge_length() {
    let registry = registry_with(Fault::NoHead);
    let head = reply_to("HEAD", &registry).await;
    assert_eq!(head.status, 405);
    assert_eq!(reply_to("GET", &registry).await.status, 200);
    registry.set_fault(Fault::OversizedHeadLength);
    let head = reply_to("HEAD", &registry).await;
    assert_eq!(head.header("content-length"), Some("1099511627776"));
}

#[tokio::test]
async fn a_schema_1_manifest_has_its_media_type() {
    let registry = registry_with(Fault::Schema1);
    let reply = reply_to("GET", &registry).await;
    assert_eq!(reply.header("content-type"), Some(DOCKER_SCHEMA_1_SIGNED));
    assert_eq!(reply.json()["schemaVersion"], 1);
    assert_eq!(reply.header(DIGEST), Some(digest_of(&reply.body).as_str()));
}

#[tokio::test]
async fn redirects_lead_to_the_same_path() {
    let registry = registry_with(Fault::RedirectLoop);
    let reply = reply_to("GET", &registry).await;
    assert_eq!(reply.status, 307);
    assert_eq!(reply.header("location"), Some(MANIFEST));
    registry.set_fault(Fault::RedirectTo("http://127.0.0.1:1/".to_owned()));
    let reply = reply_to("GET", &registry).await;
    assert_eq!(reply.status, 307);
    assert_eq!(reply.header("location"), Some(format!("http://127.0.0.1:1{MANIFEST}").as_str()));
}

#[tokio::test]
async fn an_endless_body_goes_on_for_as_long_as_it_is_read() {
    let registry = registry_with(Fault::EndlessBody);
    let head = reply_to("HEAD", &registry).await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header(DIGEST), None);
    assert_eq!(head.header("content-length"), None);
    let response = headers_of(&registry.host(), MANIFEST).await;
    let mut body = response.expect("headers").into_body();
    let mut read = 0;
    while read < 8 * 1024 * 1024 {
        let frame = in_time(body.frame()).await.expect("more").expect("bytes");
        read += frame.data_ref().map_or(0, |bytes| bytes.len());
    }
}

#[tokio::test]
async fn a_slow_body_arrives_whole_and_late() {
    let every = Duration::from_millis(5);
    let registry = registry_with(Fault::SlowBody { bytes: 100, every });
    let started = Instant::now();
    let reply = in_time(reply_to("GET", &registry)).await;
    assert_eq!(reply.body, Image::base("4.18.1").manifest());
    let pieces = u32::try_from(reply.body.len().div_ceil(100)).expect("a small number");
    assert!(started.elapsed() >= every * pieces);
}

#[tokio::test]
async fn latency_concerns_every_path() {
    let latency = Duration::from_millis(30);
    let registry = registry_with(Fault::Latency(latency));
    for path in ["/v2/", MANIFEST] {
        let started = Instant::now();
        let reply = ask("GET", &registry.host(), path, &[]).await;
        assert_eq!(reply.expect("a reply").status, 200, "{path}");
        assert!(started.elapsed() >= latency, "{path}");
    }
}

#[tokio::test]
async fn a_closing_registry_sends_nothing() {
    let registry = registry_with(Fault::CloseAfterAccept);
    for path in ["/v2/", MANIFEST] {
        let received = received_for(&registry, path).await;
        assert_eq!(received.unwrap_or_default(), b"", "{path}");
    }
}

#[tokio::test]
async fn an_open_connection_is_closed_as_well() {
    let registry = registry_with(Fault::Status(500));
    let mut stream = TcpStream::connect(registry.host()).await.expect("a connection");
    registry.connections_arrived(1).await.expect("a connection");
    registry.set_fault(Fault::CloseAfterAccept);
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: registry\r\n\r\n").await.expect("a request");
    let mut received = Vec::new();
    in_time(stream.read_to_end(&mut received)).await.expect("an end");
    assert_eq!(received, b"");
}

#[tokio::test]
async fn garbage_is_not_http() {
    let registry = registry_with(Fault::GarbageResponse);
    let received = received_for(&registry, MANIFEST).await.expect("bytes");
    assert!(received.starts_with(b"\x00\x01\xfe\xff"), "{received:?}");
    let reply = ask("GET", &registry.host(), MANIFEST, &[]).await;
    reply.expect_err("a reply that cannot be read");
    let reply = ask("GET", &registry.host(), "/v2/", &[]).await;
    assert_eq!(reply.expect("a reply").status, 200);
}

#[tokio::test]
async fn a_client_frozen_after_accept_is_released_by_clearing() {
    let registry = registry_with(Fault::FreezeAfterAccept);
    let client = frozen_client(&registry).await;
    assert_eq!(registry.requests(), []);
    registry.clear_fault();
    in_time(client).await.expect("no panic").expect_err("a closed connection");
    assert_eq!(reply_to("GET", &registry).await.status, 200);
}

#[tokio::test]
async fn a_client_frozen_after_accept_is_released_by_dropping() {
    let registry = registry_with(Fault::FreezeAfterAccept);
    let client = frozen_client(&registry).await;
    drop(registry);
    in_time(client).await.expect("no panic").expect_err("a closed connection");
}

#[tokio::test]
async fn a_client_frozen_after_headers_is_released_by_clearing() {
    let registry = registry_with(Fault::FreezeAfterHeaders);
    let response = headers_of(&registry.host(), MANIFEST).await.expect("headers");
    assert_eq!(response.status(), 200);
    assert!(response.headers().contains_key("content-length"));
    let body = tokio::spawn(response.into_body().collect());
    // A whole exchange on another connection shows that the registry itself is not frozen.
    assert_eq!(reply_to("HEAD", &registry).await.status, 200);
    assert!(!body.is_finished(), "a body from a frozen registry");
    registry.clear_fault();
    in_time(body).await.expect("no panic").expect_err("a broken connection");
    assert_eq!(reply_to("GET", &registry).await.status, 200);
}

#[tokio::test]
async fn a_client_frozen_after_headers_is_released_by_dropping() {
    let registry = registry_with(Fault::FreezeAfterHeaders);
    let response = headers_of(&registry.host(), MANIFEST).await.expect("headers");
    drop(registry);
    in_time(response.into_body().collect()).await.expect_err("a broken connection");
}

fn registry_with(fault: impl Into<FaultPlan>) -> Registry {
    let registry = Registry::start().expect("a registry");
    registry.push("acme/os", Some("4.18"), &Image::base("4.18.1"));
    registry.set_fault(fault);
    registry
}

async fn reply_to(method: &str, registry: &Registry) -> Reply {
    ask(method, &registry.host(), MANIFEST, &[]).await.expect("a reply")
}

/// Starts a client, and returns once its connection is accepted and not served.
async fn frozen_client(registry: &Registry) -> JoinHandle<Result<Reply, Failure>> {
    let host = registry.host();
    let client = tokio::spawn(async move { ask("GET", &host, "/v2/", &[]).await });
    registry.connections_arrived(1).await.expect("a connection");
    assert!(!client.is_finished(), "a reply from a frozen registry");
    client
}

/// Sends a request and returns all bytes that come back.
async fn received_for(registry: &Registry, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(registry.host()).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: registry\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut received = Vec::new();
    in_time(stream.read_to_end(&mut received)).await?;
    Ok(received)
}
