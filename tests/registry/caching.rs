//! Which answers are cached, for which credentials, and which requests are shared.

use std::time::Duration;

use futures_util::future::join_all;
use layerpin::model::facts::{Cause, CredentialsSent, Fact, NodeCredentials};
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Fault, Registry, TokenFault, TokenService};
use layerpin_test_support::os_registry::OsRegistry;
use serde_json::json;

use crate::support::{Asker, image, lines, out_of_time, password, refused};

#[tokio::test]
async fn equal_concurrent_requests_are_sent_once() {
    let OsRegistry { registry, host, digest } = OsRegistry::start();
    let asker = Asker::anonymous();
    let reference = format!("{host}/acme/os:1");
    let answers = join_all((0..100).map(|_| asker.ask(&reference))).await;
    assert_eq!(answers, vec![image(&digest, &host); 100]);
    assert_eq!(lines(&registry.requests()), ["HEAD /v2/acme/os/manifests/1 -"]);
}

#[tokio::test]
async fn a_request_continues_when_its_first_caller_leaves() {
    let OsRegistry { registry, host, digest } = OsRegistry::start();
    // The first caller leaves before the answer.
    registry.set_fault(Fault::Latency(Duration::from_millis(500)));
    let asker = Asker::anonymous();
    let reference = format!("{host}/acme/os:1");
    assert_eq!(asker.too_late().ask(&reference).await, out_of_time(&host));
    assert_eq!(asker.ask(&reference).await, image(&digest, &host));
    assert_eq!(lines(&registry.requests()), ["HEAD /v2/acme/os/manifests/1 -"]);
}

#[tokio::test]
async fn an_answer_is_used_again_until_a_fresh_one_is_requested() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let before = registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let asker = Asker::anonymous();
    let reference = format!("{host}/acme/os:1");
    assert_eq!(asker.ask(&reference).await, image(&before, &host));
    let after = registry.push("acme/os", Some("1"), &Image::base("4.18.2"));
    assert_eq!(asker.ask(&reference).await, image(&before, &host));
    assert_eq!(registry.requests().len(), 1);
    assert_eq!(asker.ask_now(&reference).await, image(&after, &host));
    assert_eq!(registry.requests().len(), 2);
    assert_eq!(asker.ask(&reference).await, image(&after, &host), "what is fresh serves the others as well");
    assert_eq!(registry.requests().len(), 2);
}

#[tokio::test]
async fn a_missing_image_is_not_requested_again_at_once() {
    let registry = Registry::start().unwrap();
    let reference = format!("{}/acme/os:1", registry.host());
    let asker = Asker::anonymous();
    assert_eq!(asker.ask(&reference).await, Fact::Absent);
    assert_eq!(asker.ask(&reference).await, Fact::Absent);
    assert_eq!(registry.requests().len(), 1);
    let digest = registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    assert_eq!(asker.ask_now(&reference).await, image(&digest, &registry.host()));
}

#[tokio::test]
async fn an_answer_is_used_only_for_the_same_credentials() {
    let registry = Registry::builder().basic_auth("alice", "s3cr3t-word").start().unwrap();
    let host = registry.host();
    let digest = registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let reference = format!("{host}/acme/os:1");
    let allowed = json!({(host.as_str()): password("alice", "s3cr3t-word")});
    let asker = Asker::with(&allowed);
    assert_eq!(asker.ask(&reference).await, image(&digest, &host));
    asker.change(&json!({(host.as_str()): password("alice", "wrong")}));
    assert_eq!(
        asker.ask(&reference).await,
        refused(&host, 401, CredentialsSent::Entry, NodeCredentials::Same)
    );
    asker.change(&json!({}));
    assert_eq!(
        asker.ask(&reference).await,
        refused(&host, 401, CredentialsSent::NoEntry, NodeCredentials::Same)
    );
    registry.clear_requests();
    asker.change(&allowed);
    assert_eq!(asker.ask(&reference).await, image(&digest, &host));
    assert_eq!(registry.requests().len(), 0);
}

#[tokio::test]
async fn a_fresh_answer_is_not_replaced_by_that_of_an_older_request() {
    let OsRegistry { registry, host, .. } = OsRegistry::start();
    let asker = Asker::anonymous();
    let reference = format!("{host}/acme/os:1");
    // The older request hangs.
    registry.set_fault(Fault::FreezeAfterAccept.times(1));
    let older = async { asker.ask(&reference).await };
    let newer = async {
        registry.connections_arrived(1).await.unwrap();
        let after = registry.push("acme/os", Some("1"), &Image::base("4.18.2"));
        (asker.ask_now(&reference).await, after)
    };
    let (older, (newer, after)) = tokio::join!(older, newer);
    let expected = image(&after, &host);
    assert_eq!((&older, &newer), (&expected, &expected));
    assert_eq!(asker.ask(&reference).await, expected);
}

#[tokio::test]
async fn concurrent_fresh_requests_cost_at_most_two() {
    let OsRegistry { registry, host, digest } = OsRegistry::start();
    let asker = Asker::anonymous();
    let reference = format!("{host}/acme/os:1");
    let answers = join_all((0..100).map(|_| asker.ask_now(&reference))).await;
    assert_eq!(answers, vec![image(&digest, &host); 100]);
    // One request that had started before the others, and one that they share. The latter waits for the first only
    // for a while, and may then be answered before the first is sent.
    let asked = lines(&registry.requests());
    let head = "HEAD /v2/acme/os/manifests/1 -";
    assert!(asked == [head, head] || asked == [head], "{asked:?}");
}

#[tokio::test]
async fn a_failure_does_not_replace_an_earlier_answer() {
    let OsRegistry { registry, host, digest } = OsRegistry::start();
    let asker = Asker::anonymous();
    let reference = format!("{host}/acme/os:1");
    asker.ask(&reference).await;
    registry.set_fault(Fault::Status(500));
    let failed = Fact::Unknown(Cause::Status { host: host.clone(), status: 500 });
    assert_eq!(asker.ask_now(&reference).await, failed);
    assert_eq!(asker.ask(&reference).await, image(&digest, &host));
    registry.set_fault(Fault::Status(404));
    assert_eq!(asker.ask_now(&reference).await, Fact::Absent);
    assert_eq!(asker.ask(&reference).await, Fact::Absent, "that it is gone is an answer");
}

#[tokio::test]
async fn requests_that_need_the_same_token_share_it() {
    let tokens = TokenService::start().unwrap();
    let registry = Registry::builder().bearer_auth(&tokens).start().unwrap();
    let host = registry.host();
    let digest = registry.push("acme/os", None, &Image::base("4.18.1"));
    let tags: Vec<_> = (0..20).map(|index| format!("t{index}")).collect();
    for tag in &tags {
        registry.tag("acme/os", tag, &digest);
    }
    let asker = Asker::anonymous();
    tokens.set_fault(TokenFault::Hang);
    let asked = join_all(tags.iter().map(async |tag| asker.ask(&format!("{host}/acme/os:{tag}")).await));
    let all_refused = async {
        let refused = format!("requests_total{{host=\"{host}\",outcome=\"refused\"}} {}", tags.len());
        while !asker.metrics.encode().contains(&refused) {
            // The requests continue meanwhile; their deadlines ensure that none hangs.
            tokio::task::yield_now().await;
        }
        // The request that stands for all of them is counted as refused before the token is requested.
        tokens.requests_arrived(1).await.unwrap();
        tokens.clear_fault();
    };
    let (answers, ()) = tokio::join!(asked, all_refused);
    assert_eq!(answers, vec![image(&digest, &host); tags.len()]);
    // The service closed the connection of the first request, so it was sent again.
    assert_eq!(tokens.requests().len(), 2);
}
