//! Limits: slow and excessive clients are closed, and the others are served.

use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use layerpin::server::{ConnectionLimits, Shutdown};
use layerpin_sample_registry::{Fault, Registry};
use layerpin_test_support::client::{Client, Wire, post_of};
use layerpin_test_support::documents::{UID, create, machine_config};
use layerpin_test_support::eventually::{eventually, in_time};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::embedded::Embedded;

#[tokio::test]
async fn silent_connections_are_closed() {
    let short = Duration::from_millis(200);
    // Each has its own server, because a short limit would also apply to the handshake of the other.
    let server = Embedded::start(ConnectionLimits { handshake: short, ..ConnectionLimits::default() }).await;
    let silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    in_time("the handshake is given up", silent.readable()).await.unwrap();
    assert_eq!(silent.try_read(&mut [0; 1]).unwrap_or(0), 0);
    server.end(Shutdown::Now).await;
    let server = Embedded::start(ConnectionLimits { idle: short, ..ConnectionLimits::default() }).await;
    assert_eq!(server.wire().await.rest().await, "");
    server.end(Shutdown::Now).await;
}

#[tokio::test]
async fn a_slow_head_is_closed_before_the_idle_timeout() {
    let limits = ConnectionLimits { head: Duration::from_millis(200), ..ConnectionLimits::default() };
    let server = Embedded::start(limits).await;
    let mut slow = server.wire().await;
    slow.send("POST /validate HTTP/1.1\r\nhost:").await;
    assert_eq!(slow.rest().await, "");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_answered_with_408() {
    let server = Embedded::start(ConnectionLimits::default()).await;
    let mut slow = server.wire().await;
    slow.send("POST /validate?timeout=500ms HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{").await;
    let (status, body) = slow.answer().await;
    assert_eq!(
        (status.as_str(), body.as_str()),
        ("HTTP/1.1 408 Request Timeout", "the request body did not arrive in time\n")
    );
    let answer = server.webhooks.review("/validate", &create(&machine_config().image("os:1"))).await;
    assert_eq!(answer["response"]["uid"], UID);
}

#[tokio::test]
async fn a_request_beyond_a_limit_is_rejected_at_once_with_the_limit() {
    let registry = Registry::start().unwrap();
    let review = create(&machine_config().image(&format!("{}/acme/os:1", registry.host())));
    for (limits, status, message) in [
        (
            ConnectionLimits { reviews: 1, ..ConnectionLimits::default() },
            "HTTP/1.1 503 Service Unavailable",
            "1 reviews are in progress, which is the limit; try again in a moment\n",
        ),
        (
            ConnectionLimits { body_kilobytes: 1, ..ConnectionLimits::default() },
            "HTTP/1.1 503 Service Unavailable",
            "1 kB of request bodies are in progress, which is the limit; try again in a moment\n",
        ),
        (
            ConnectionLimits { connections: 1, ..ConnectionLimits::default() },
            "HTTP/1.1 503 Service Unavailable",
            "all connections of this server are in use; try again in a moment\n",
        ),
    ] {
        let server = Embedded::start(limits).await;
        registry.clear_requests();
        // Held until it is let go, and not just for as long as a connection may take to come about.
        registry.set_fault(Fault::FreezeAfterAccept.on("/manifests/"));
        let client = server.webhooks.clone();
        let body = review.clone();
        let in_progress = tokio::spawn(async move { client.review("/validate", &body).await });
        registry.requests_arrived(1).await.unwrap();
        let mut second = server.wire().await;
        second.send(post_of("/validate", &review.to_string())).await;
        let (found, body) = in_time(message, second.answer()).await;
        assert_eq!((found.as_str(), body.as_str()), (status, message));
        assert!(!in_progress.is_finished(), "it was in progress all the time");
        registry.clear_fault();
        let first = in_time("the review in progress is answered", in_progress).await;
        assert_eq!(first.unwrap()["response"]["uid"], UID);
    }
}

#[tokio::test]
async fn idle_connections_do_not_keep_out_a_working_one() {
    let server = Embedded::start(ConnectionLimits::default()).await;
    // Each takes two files here: this end and the server's.
    let files = rlimit::increase_nofile_limit(rlimit::INFINITY).unwrap();
    let count = usize::try_from(files / 2 - 500).unwrap().min(5000);
    assert!(count >= 2500, "{files} files are too few");
    let mut idle = Vec::new();
    for _ in 0..count {
        idle.push(tokio::net::TcpStream::connect(server.address).await.unwrap());
    }
    let answer = server.webhooks.review("/validate", &create(&machine_config().image("os:1"))).await;
    assert_eq!(answer["response"]["uid"], UID);
}

/// Sends the first bytes, and then `more` byte by byte, until the server closes the connection.
async fn dribble(wire: Wire, first: &[u8], more: u8) {
    let (mut read, mut write) = tokio::io::split(wire.0);
    // Slower than the server is, by far; a client that hurried would be cut off for the length of its head.
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let send = async {
        write.write_all(first).await?;
        loop {
            pace.tick().await;
            write.write_all(&[more]).await?;
            write.flush().await?;
        }
    };
    let closed = async { while read.read(&mut [0; 64]).await.is_ok_and(|length| length > 0) {} };
    let ends = async {
        tokio::select! {
            outcome = send => drop::<std::io::Result<()>>(outcome),
            () = closed => {}
        }
    };
    in_time("the server closes the connection", ends).await;
}

#[tokio::test]
async fn a_client_that_sends_byte_by_byte_gets_no_more_time() {
    let server =
        Embedded::start(ConnectionLimits { head: Duration::from_millis(200), ..ConnectionLimits::default() })
            .await;
    dribble(server.wire().await, b"POST /validate HTTP/1.1\r\nhost: a\r\nx: ", b'x').await;
    let body = b"POST /validate?timeout=500ms HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n";
    dribble(server.wire().await, body, b' ').await;
    let answer = server.webhooks.review("/validate", &create(&machine_config().image("os:1"))).await;
    assert_eq!(answer["response"]["uid"], UID);
}

#[tokio::test]
async fn a_head_of_http_2_that_does_not_end_is_closed() {
    let server =
        Embedded::start(ConnectionLimits { head: Duration::from_millis(200), ..ConnectionLimits::default() })
            .await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0].as_slice();
    // HEADERS without the flag that ends them, and a promise of more.
    let headers = [0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82].as_slice();
    let continuation = [0, 0x40, 0, 9, 0, 0, 0, 0, 1].as_slice();
    for (what, parts) in [
        ("half a preface", vec![&preface[..10]]),
        ("half a frame", vec![preface, &settings[..5]]),
        ("no CONTINUATION", vec![preface, settings, headers]),
        ("an unfinished CONTINUATION", vec![preface, settings, headers, continuation]),
    ] {
        let mut wire = Wire::of_http_2(server.address, &server.authority).await;
        wire.send(parts.concat()).await;
        let closed = async { while wire.0.read(&mut [0; 64]).await.is_ok_and(|length| length > 0) {} };
        in_time(what, closed).await;
    }
    let wire = Wire::of_http_2(server.address, &server.authority).await;
    dribble(wire, &[preface, settings, headers, continuation].concat(), 0).await;
}

/// A response that is larger than every buffer on the way.
const LARGE: usize = 16 * 1024 * 1024;

fn large() -> Router {
    Router::new()
        .route("/large", get(|| async { vec![b'x'; LARGE] }))
        .route("/small", post(|| async { "ok" }))
}

/// Requests [`LARGE`], and returns when its first bytes have arrived.
async fn ask_for_large(server: &Embedded) -> Wire {
    let mut wire = server.wire().await;
    wire.send("GET /large HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    let mut first = [0; 15];
    in_time("an answer begins", wire.0.read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    wire
}

#[tokio::test]
async fn a_response_in_progress_is_not_cut_at_the_connection_limit() {
    let server =
        Embedded::with_routes(ConnectionLimits { connections: 1, ..ConnectionLimits::default() }, large())
            .await;
    let wire = ask_for_large(&server).await;
    let mut newcomer = server.wire().await;
    newcomer.send(post_of("/small", "")).await;
    let (status, _) = newcomer.answer().await;
    assert!(["HTTP/1.1 200 OK", "HTTP/1.1 503 Service Unavailable"].contains(&&*status), "{status}");
    let rest = wire.rest().await;
    assert_eq!(rest.bytes().filter(|byte| *byte == b'x').count(), LARGE);
}

#[tokio::test]
async fn a_client_that_does_not_read_its_response_is_closed() {
    let limits =
        ConnectionLimits { body: Duration::from_millis(200), connections: 1, ..ConnectionLimits::default() };
    let server = Embedded::with_routes(limits, large()).await;
    let wire = ask_for_large(&server).await;
    eventually("there is a place again", async || {
        let answer = server.webhooks.try_post("/small", "").await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
    assert!(wire.rest().await.len() < LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_equal_tags_at_once_cost_one_request() {
    let registry = Registry::start().unwrap();
    registry.push("acme/os", Some("1"), &layerpin_sample_registry::images::Image::base("4.18.1"));
    // So that they come together.
    registry.set_fault(Fault::Latency(Duration::from_millis(500)));
    let server = Embedded::start(ConnectionLimits::default()).await;
    let review = create(&machine_config().image(&format!("{}/acme/os:1", registry.host()))).to_string();
    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        // One connection takes so many at once.
        let client = Client::new(server.address, &server.authority);
        for _ in 0..250 {
            let (client, review) = (client.clone(), review.clone());
            answers.spawn(async move { client.post("/mutate", review).await });
        }
    }
    while let Some(answer) = answers.join_next().await {
        let answer = answer.unwrap();
        assert!(answer.status == 200 && answer.text.contains("JSONPatch"), "{answer:?}");
    }
    assert_eq!(registry.count("HEAD", "/manifests/1"), 1);
}
