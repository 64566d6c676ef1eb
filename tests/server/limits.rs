//! Limits: who is too slow or too much is let go, and the others are served.

use std::time::Duration;

use layerpin::server::{Limits, Stop};
use layerpin_sample_registry::{Fault, Registry};

use crate::client::post_of;
use crate::documents::{UID, create, machine_config};
use crate::embedded::Embedded;
use crate::eventually::in_time;

#[tokio::test]
async fn silent_and_slow_heads_are_closed() {
    let short = Duration::from_millis(200);
    let limits = Limits { idle: short, head: short, handshake: short, ..Limits::default() };
    let server = Embedded::start(limits).await;
    let silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let idle = server.wire().await;
    assert_eq!(idle.rest().await, "");
    let mut slow = server.wire().await;
    slow.send("POST /validate HTTP/1.1\r\nhost:").await;
    assert_eq!(slow.rest().await, "");
    in_time("the handshake is given up", silent.readable()).await.unwrap();
    assert_eq!(silent.try_read(&mut [0; 1]).unwrap_or(0), 0);
    server.end(Stop::Now).await;
}

#[tokio::test]
async fn a_slow_head_does_not_wait_for_the_idle_deadline() {
    let limits = Limits { head: Duration::from_millis(200), ..Limits::default() };
    let server = Embedded::start(limits).await;
    let mut slow = server.wire().await;
    slow.send("POST /validate HTTP/1.1\r\nhost:").await;
    assert_eq!(slow.rest().await, "");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Embedded::start(Limits::default()).await;
    let mut slow = server.wire().await;
    slow.send("POST /validate?timeout=500ms HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{").await;
    let (status, body) = slow.answer().await;
    assert_eq!(
        (status.as_str(), body.as_str()),
        ("HTTP/1.1 408 Request Timeout", "the body did not come in time\n")
    );
    let answer = server.webhooks.review("/validate", &create(&machine_config("os:1"))).await;
    assert_eq!(answer["response"]["uid"], UID);
}

#[tokio::test]
async fn beyond_the_limits_the_answer_comes_at_once_and_says_so() {
    let registry = Registry::start().unwrap();
    registry.set_fault(Fault::FreezeAfterAccept);
    let review = create(&machine_config(&format!("{}/acme/os:1", registry.host())));
    for (limits, status, message) in [
        (
            Limits { reviews: 1, ..Limits::default() },
            "HTTP/1.1 503 Service Unavailable",
            "1 reviews are in work, which is the limit; try again in a moment\n",
        ),
        (
            Limits { body_kilobytes: 1, ..Limits::default() },
            "HTTP/1.1 503 Service Unavailable",
            "1 kB of bodies are in work, which is the limit; try again in a moment\n",
        ),
        (
            Limits { connections: 1, ..Limits::default() },
            "HTTP/1.1 503 Service Unavailable",
            "all connections of this server are in work; try again in a moment\n",
        ),
    ] {
        let server = Embedded::start(limits).await;
        let asked = registry.connections();
        let client = server.webhooks.clone();
        let body = review.clone();
        let in_work = tokio::spawn(async move { client.review("/validate?timeout=3s", &body).await });
        registry.connections_arrived(asked + 1).await.unwrap();
        let mut second = server.wire().await;
        second.send(post_of("/validate", &review.to_string())).await;
        let (found, body) = second.answer().await;
        assert_eq!((found.as_str(), body.as_str()), (status, message));
        assert_eq!(in_work.await.unwrap()["response"]["uid"], UID);
    }
}

#[tokio::test]
async fn idle_connections_keep_no_working_one_out() {
    let server = Embedded::start(Limits::default()).await;
    // Each takes two files here: this end and the server's.
    let files = rlimit::increase_nofile_limit(rlimit::INFINITY).unwrap();
    let count = usize::try_from(files / 2 - 500).unwrap().min(5000);
    assert!(count >= 2500, "{files} files are too few");
    let mut idle = Vec::new();
    for _ in 0..count {
        idle.push(tokio::net::TcpStream::connect(server.address).await.unwrap());
    }
    let answer = server.webhooks.review("/validate", &create(&machine_config("os:1"))).await;
    assert_eq!(answer["response"]["uid"], UID);
}
