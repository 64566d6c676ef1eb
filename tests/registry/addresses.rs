//! Redirects, and the addresses that are never contacted.

use layerpin::model::facts::{Cause, Fact};
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Fault, Registry};
use layerpin_test_support::os_registry::OsRegistry;
use serde_json::json;

use crate::support::{Asker, image, lines, nonsense, password};

const HEAD: &str = "HEAD /v2/acme/os/manifests/1";

fn forbidden(host: &str) -> Fact<layerpin::model::facts::Manifest> {
    Fact::Unknown(Cause::ForbiddenAddress { host: host.to_owned() })
}

#[tokio::test]
async fn a_redirect_is_followed_without_the_credentials() {
    let other = Registry::start().unwrap();
    let digest = other.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let registry = Registry::builder().basic_auth("alice", "s3cr3t-word").start().unwrap();
    let host = registry.host();
    registry.push("acme/os", Some("0"), &Image::base("4.18.0"));
    // Both hosts have an entry; only that of the requested host is used.
    let asker = Asker::with(
        &json!({(host.as_str()): password("alice", "s3cr3t-word"), (other.host()): password("bob", "x")}),
    );
    asker.ask(&format!("{host}/acme/os:0")).await;
    registry.clear_requests();
    registry.set_fault(Fault::RedirectTo(other.base_url()));
    assert_eq!(asker.ask(&format!("{host}/acme/os:1")).await, image(&digest, &host));
    assert_eq!(lines(&registry.requests()), [format!("{HEAD} Basic")]);
    let arrived = other.requests();
    assert_eq!(lines(&arrived), [format!("{HEAD} -")]);
    let names: Vec<_> = arrived[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["accept", "user-agent", "host"], "and nothing else travels with it");
}

#[tokio::test]
async fn the_host_of_a_redirect_gets_no_credentials_for_its_challenge() {
    let other = Registry::builder().basic_auth("alice", "s3cr3t-word").start().unwrap();
    other.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let registry = Registry::start().unwrap();
    let host = registry.host();
    registry.set_fault(Fault::RedirectTo(other.base_url()));
    let entry = password("alice", "s3cr3t-word");
    let asker = Asker::with(&json!({(host.as_str()): entry, (other.host()): entry}));
    let answer = asker.ask(&format!("{host}/acme/os:1")).await;
    assert_eq!(answer, Fact::Unknown(Cause::Status { host: other.host(), status: 401 }));
    assert_eq!(lines(&registry.requests()), [format!("{HEAD} -")]);
    assert_eq!(lines(&other.requests()), [format!("{HEAD} -")]);
}

#[tokio::test]
async fn a_user_in_the_url_of_a_redirect_is_not_sent() {
    let other = Registry::start().unwrap();
    let digest = other.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let registry = Registry::start().unwrap();
    let host = registry.host();
    registry.set_fault(Fault::RedirectTo(format!("http://alice:s3cr3t-word@{}", other.host())));
    assert_eq!(Asker::anonymous().ask(&format!("{host}/acme/os:1")).await, image(&digest, &host));
    assert_eq!(lines(&other.requests()), [format!("{HEAD} -")]);
}

#[tokio::test]
async fn no_more_than_five_redirects_are_followed() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    registry.set_fault(Fault::RedirectLoop);
    let answer = Asker::anonymous().ask(&format!("{host}/acme/os:1")).await;
    assert_eq!(answer, nonsense(&host, "more than 5 redirects"));
    assert_eq!(lines(&registry.requests()), vec![format!("{HEAD} -"); 6]);
}

#[tokio::test]
async fn an_invalid_redirect_is_an_invalid_response() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let location = |to: &str| Fault::StatusWithHeader(307, "Location".into(), to.into());
    for (fault, reason) in [
        (Fault::Status(307), "a redirect without a location"),
        (location("http://[x"), "a redirect to an invalid URL"),
        (location("file:///etc/passwd"), "a redirect to a URL that is not HTTP"),
    ] {
        registry.set_fault(fault.clone());
        let answer = Asker::anonymous().ask(&format!("{host}/acme/os:1")).await;
        assert_eq!(answer, nonsense(&host, reason), "{fault:?}");
    }
}

#[tokio::test]
async fn some_addresses_are_never_contacted() {
    let asker = Asker::anonymous();
    // 0.0.0.0 would be this registry, if it were contacted.
    let registry = Registry::start().unwrap();
    let (_, port) =
        registry.host().rsplit_once(':').map(|(host, port)| (host.to_owned(), port.to_owned())).unwrap();
    for host in ["169.254.169.254".to_owned(), "169.254.169.254:80".to_owned(), format!("0.0.0.0:{port}")] {
        assert_eq!(asker.ask(&format!("{host}/acme/os:1")).await, forbidden(&host));
    }
    // Other notations of the first.
    for host in ["0251.0376.0251.0376", "169.254.43518:80", "0xa9fea9fe:80"] {
        let answer = asker.ask(&format!("{host}/acme/os:1")).await;
        let shown = host.replace(host.split(':').next().unwrap(), "169.254.169.254");
        assert_eq!(answer, forbidden(&shown), "{host}");
    }
    assert_eq!(registry.connections(), 0);
}

#[tokio::test]
async fn redirects_to_forbidden_addresses_are_not_followed() {
    let registry = Registry::start().unwrap();
    let other = Registry::start().unwrap();
    let host = registry.host();
    let port = other.host().rsplit_once(':').unwrap().1.to_owned();
    for base in [
        "169.254.169.254".to_owned(),
        "[fe80::1]".to_owned(),
        "[::ffff:169.254.169.254]".to_owned(),
        "[64:ff9b::a9fe:a9fe]".to_owned(),
        "[2002:a9fe:a9fe::1]".to_owned(),
        format!("0.0.0.0:{port}"),
        format!("[::]:{port}"),
        format!("[::ffff:0.0.0.0]:{port}"),
    ] {
        registry.set_fault(Fault::RedirectTo(format!("http://{base}")));
        let shown = base
            .replace("[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]")
            .replace("[::ffff:0.0.0.0]", "[::ffff:0:0]");
        assert_eq!(Asker::anonymous().ask(&format!("{host}/acme/os:1")).await, forbidden(&shown), "{base}");
    }
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn loopback_needs_no_tls_by_name_or_address() {
    let OsRegistry { registry, digest, .. } = OsRegistry::start();
    let host = registry.host().replace("127.0.0.1", "localhost");
    assert_eq!(Asker::anonymous().ask(&format!("{host}/acme/os:1")).await, image(&digest, &host));
}
