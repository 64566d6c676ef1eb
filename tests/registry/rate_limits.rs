//! Rate limits, pauses and the circuit breaker.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use layerpin::model::facts::{Cause, Fact};
use layerpin::registry::HostLimits;
use layerpin::registry::auth::keychain::Keychain;
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Fault, Registry};

use crate::support::{Asker, image, lines, out_of_time};

const HEAD: &str = "HEAD /v2/acme/os/manifests/1 -";

fn retry_after(status: u16, when: &str) -> Fault {
    Fault::StatusWithHeader(status, "Retry-After".into(), when.into())
}

/// A registry that is known to have no TLS, because it got a request.
async fn known(asker: &Asker) -> (Registry, String) {
    let registry = Registry::start().unwrap();
    let base = Image::base("4.18.1");
    for tag in ["0", "1", "2"] {
        registry.push("acme/os", Some(tag), &base);
    }
    let host = registry.host();
    asker.ask(&format!("{host}/acme/os:0")).await;
    registry.clear_requests();
    (registry, host)
}

#[tokio::test]
async fn a_pause_inside_the_budget_is_waited_for() {
    for (status, date) in [(429, false), (503, true)] {
        let asker = Asker::anonymous();
        let (registry, host) = known(&asker).await;
        let when = match date {
            true => httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2)),
            false => "1".to_owned(),
        };
        registry.set_fault(retry_after(status, &when).times(1));
        let answer = asker.ask(&format!("{host}/acme/os:1")).await;
        assert_eq!(answer, image(&Image::base("4.18.1").digest(), &host));
        assert_eq!(lines(&registry.requests()), [HEAD, HEAD], "{status} {when}");
    }
}

#[tokio::test]
async fn a_pause_beyond_the_budget_is_reported_and_no_request_is_sent() {
    let asker = Asker::anonymous();
    let (registry, host) = known(&asker).await;
    registry.set_fault(retry_after(429, "600"));
    let asked = jiff::Timestamp::now();
    for tag in ["1", "2", "1"] {
        let Fact::Unknown(Cause::Paused { host: paused, status: 429, until }) =
            asker.ask(&format!("{host}/acme/os:{tag}")).await
        else {
            panic!()
        };
        assert_eq!(paused, host);
        let pause = Duration::from_secs(600);
        let (earliest, latest) = (asked + pause, jiff::Timestamp::now() + pause);
        assert!(earliest <= until && until <= latest, "{until} is not within {earliest} and {latest}");
    }
    assert_eq!(lines(&registry.requests()), [HEAD], "nobody asks before the pause is over");
}

#[tokio::test]
async fn no_more_than_five_pauses_are_waited_for() {
    let asker = Asker::anonymous();
    let (registry, host) = known(&asker).await;
    registry.set_fault(retry_after(429, "0"));
    let answer = asker.ask(&format!("{host}/acme/os:1")).await;
    assert!(matches!(answer, Fact::Unknown(Cause::Paused { status: 429, .. })), "{answer:?}");
    assert_eq!(lines(&registry.requests()), [HEAD; 6]);
}

#[tokio::test]
async fn a_pause_of_the_token_service_does_not_pause_the_registry() {
    let asker = Asker::anonymous();
    let (registry, host) = known(&asker).await;
    // Any server that asks for a pause.
    let tokens = Registry::start().unwrap();
    tokens.set_fault(retry_after(429, "600").on(""));
    let challenge = format!("Bearer realm=\"{}/token\"", tokens.base_url());
    registry.set_fault(Fault::StatusWithHeader(401, "WWW-Authenticate".into(), challenge));
    let answer = asker.ask(&format!("{host}/acme/os:1")).await;
    let Fact::Unknown(Cause::Paused { host: paused, status: 429, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(paused, tokens.host());
    registry.clear_fault();
    assert_eq!(asker.ask(&format!("{host}/acme/os:2")).await, image(&Image::base("4.18.1").digest(), &host));
}

#[tokio::test]
async fn after_consecutive_failures_no_request_is_sent_until_a_probe_succeeds() {
    // Longer than the test takes, also on a busy machine.
    let rest = Duration::from_secs(3600);
    let limits =
        HostLimits { failures: 3, initial_backoff: rest, max_backoff: rest, ..HostLimits::default() };
    let asker = Asker::with_limits(Keychain::none(), limits);
    let (registry, host) = known(&asker).await;
    registry.set_fault(Fault::Status(500));
    let reference = |number: usize| format!("{host}/acme/os:t{number}");
    for number in 0..3 {
        let answer = asker.ask(&reference(number)).await;
        assert_eq!(answer, Fact::Unknown(Cause::Status { host: host.clone(), status: 500 }));
    }
    let resting = |answer: &Fact<_>| matches!(answer, Fact::Unknown(Cause::CircuitOpen { host: resting, failures: 3, .. }) if *resting == host);
    let answers = join_all((10..30).map(async |number| asker.ask(&reference(number)).await)).await;
    assert!(answers.iter().all(resting), "{answers:?}");
    assert_eq!(registry.requests().len(), 3);
    registry.clear_fault();
    let found = image(&Image::base("4.18.1").digest(), &host);
    let answer = asker.ask(&format!("{host}/acme/os:1")).await;
    assert!(resting(&answer), "it is not known that it is well again: {answer:?}");
    // The clock of this runtime; the registry has its own.
    tokio::time::pause();
    tokio::time::advance(rest).await;
    tokio::time::resume();
    assert_eq!(asker.ask_now(&format!("{host}/acme/os:1")).await, found);
    assert_eq!(asker.ask(&format!("{host}/acme/os:2")).await, found);
    assert_eq!(registry.requests().len(), 5);
}

#[tokio::test]
async fn a_registry_that_hangs_does_not_delay_another() {
    let limits = HostLimits { in_flight: 4, ..HostLimits::default() };
    let asker = Asker::with_limits(Keychain::none(), limits);
    let (frozen, frozen_host) = known(&asker).await;
    let (_other, host) = known(&asker).await;
    frozen.set_fault(Fault::Latency(Duration::from_secs(3600)));
    let stuck = join_all(
        (0..50).map(async |number| asker.shortly().ask(&format!("{frozen_host}/acme/os:s{number}")).await),
    );
    let other = async {
        frozen.requests_arrived(4).await.unwrap();
        asker.ask(&format!("{host}/acme/os:1")).await
    };
    let (stuck, other) = tokio::join!(stuck, other);
    assert_eq!(other, image(&Image::base("4.18.1").digest(), &host));
    assert_eq!(stuck, vec![out_of_time(&frozen_host); 50]);
    assert_eq!(frozen.requests().len(), 4, "no more than the cap");
}

#[tokio::test]
async fn a_thousand_requests_stay_within_the_limit() {
    let asker = Asker::anonymous();
    let (registry, host) = known(&asker).await;
    let digest = Image::base("4.18.1").digest();
    for number in 0..1000 {
        registry.tag("acme/os", &format!("t{number}"), &digest);
    }
    let before = registry.connections();
    registry.set_fault(Fault::Latency(Duration::from_millis(1)));
    let answers =
        join_all((0..1000).map(async |number| asker.ask(&format!("{host}/acme/os:t{number}")).await)).await;
    assert_eq!(answers, vec![image(&digest, &host); 1000]);
    assert_eq!(registry.requests().len(), 1000);
    let made = registry.connections() - before;
    assert!(made <= 2 * 16, "{made} connections for a cap of 16");
}
