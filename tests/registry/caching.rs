//! What is remembered, for whom, and who waits for whom.

use std::time::Duration;

use futures_util::future::join_all;
use layerpin::facts::{AsNodes, Fact, Shown};
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Fault, Registry};
use serde_json::json;

use crate::support::{Asker, image, lines, out_of_time, password, refused};

#[tokio::test]
async fn equal_questions_that_come_together_are_asked_once() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let digest = registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let asker = Asker::anonymous();
    let reference = format!("{host}/acme/os:1");
    let answers = join_all((0..100).map(|_| asker.ask(&reference))).await;
    assert_eq!(answers, vec![image(&digest, &host); 100]);
    assert_eq!(lines(&registry.requests()), ["HEAD /v2/acme/os/manifests/1 -"]);
}

#[tokio::test]
async fn who_leaves_early_does_not_take_the_answer_along() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let digest = registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    // The answer is not there yet when the first one leaves.
    registry.set_fault(Fault::Latency(Duration::from_millis(500)));
    let asker = Asker::anonymous();
    let reference = format!("{host}/acme/os:1");
    assert_eq!(asker.ask_too_late(&reference).await, out_of_time(&host));
    assert_eq!(asker.ask(&reference).await, image(&digest, &host));
    assert_eq!(lines(&registry.requests()), ["HEAD /v2/acme/os/manifests/1 -"]);
}

#[tokio::test]
async fn an_answer_serves_again_until_a_fresh_one_is_asked_for() {
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
async fn what_is_not_there_is_not_asked_for_twice_at_once() {
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
async fn an_answer_is_for_the_credentials_that_had_it() {
    let registry = Registry::builder().basic_auth("alice", "secret").start().unwrap();
    let host = registry.host();
    let digest = registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let reference = format!("{host}/acme/os:1");
    let allowed = json!({(host.as_str()): password("alice", "secret")});
    let asker = Asker::with(&allowed);
    assert_eq!(asker.ask(&reference).await, image(&digest, &host));
    asker.change(&json!({(host.as_str()): password("alice", "wrong")}));
    assert_eq!(asker.ask(&reference).await, refused(&host, 401, Shown::Entry, AsNodes::Same));
    asker.change(&json!({}));
    assert_eq!(asker.ask(&reference).await, refused(&host, 401, Shown::NoEntry, AsNodes::Same));
    registry.clear_requests();
    asker.change(&allowed);
    assert_eq!(asker.ask(&reference).await, image(&digest, &host));
    assert_eq!(registry.requests().len(), 0);
}
