//! Which hosts are contacted through a proxy, and how faults behind it are reported.

use std::collections::BTreeMap;

use layerpin::model::facts::{Cause, Fact};
use layerpin::registry::RegistrySettings;
use layerpin::registry::auth::keychain::Keychain;
use layerpin::registry::http::proxy::{Proxies, ProxySettings};
use layerpin::registry::http::tls_roots::{CertDirs, ClusterCas, HostTrust};
use layerpin::registry::mirrors::registries_conf::RegistriesConf;
use layerpin::tls::pem::CaBundle;
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Authority, ClosedPort, Registry};
use layerpin_test_support::os_registry::OsRegistry;

use crate::connect_proxy::Proxy;
use crate::support::{Asker, image, unreachable};

/// A registry with a certificate for `registry.example`, the proxy for it, and a client with settings for both.
async fn behind_a_proxy(no_proxy: &str) -> (Registry, Proxy, Asker) {
    let authority = Authority::new();
    let registry = Registry::builder().tls(authority.issue(&["registry.example"])).start().unwrap();
    let proxy = Proxy::start(&registry.host()).await;
    let certificates = CertDirs::of_system();
    let trust = HostTrust { authorities: CaBundle::parse(&authority.ca_pem()).unwrap(), identity: None };
    let hosts = BTreeMap::from([("registry.example:5000".to_owned(), trust)]);
    certificates.replace(ClusterCas { hosts, ..ClusterCas::default() });
    let settings = ProxySettings {
        http: String::new(),
        https: format!("http://alice:s3cr3t-word@{}", proxy.address),
        no_proxy: no_proxy.to_owned(),
    };
    let settings = RegistrySettings {
        certificates,
        proxies: Proxies::new(settings),
        ..RegistrySettings::from(Keychain::none())
    };
    (registry, proxy, Asker::with_settings(settings))
}

#[tokio::test]
async fn tls_ends_at_the_registry_and_not_at_the_proxy() {
    let (registry, proxy, asker) = behind_a_proxy("other.example").await;
    let digest = registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let answer = asker.ask("registry.example:5000/acme/os:1").await;
    assert_eq!(answer, image(&digest, "registry.example:5000"));
    let connect = "CONNECT registry.example:5000 HTTP/1.1";
    assert_eq!(proxy.requests(), [[connect, "proxy-authorization: Basic YWxpY2U6czNjcjN0LXdvcmQ="]]);
    let names: Vec<_> = registry.requests()[0].headers.iter().map(|(name, _)| name.clone()).collect();
    assert!(!names.contains(&"proxy-authorization".to_owned()), "{names:?}");
}

#[tokio::test]
async fn hosts_in_no_proxy_are_contacted_directly() {
    let (_registry, proxy, asker) = behind_a_proxy(".example").await;
    let answer = asker.ask("registry.example:5000/acme/os:1").await;
    assert!(
        matches!(&answer, Fact::Unknown(Cause::Unreachable { host, .. }) if host == "registry.example:5000"),
        "{answer:?}"
    );
    assert_eq!(proxy.requests(), [[""; 0]; 0]);
}

#[tokio::test]
async fn loopback_and_forbidden_addresses_do_not_use_a_proxy() {
    let (_registry, proxy, asker) = behind_a_proxy("").await;
    let open = Registry::start().unwrap();
    let digest = open.push("acme/os", Some("1"), &Image::base("4.18.1"));
    assert_eq!(asker.ask(&format!("{}/acme/os:1", open.host())).await, image(&digest, &open.host()));
    for host in ["169.254.169.254", "0.0.0.0:5000"] {
        let answer = asker.ask(&format!("{host}/acme/os:1")).await;
        assert_eq!(answer, Fact::Unknown(Cause::ForbiddenAddress { host: host.to_owned() }));
    }
    assert_eq!(proxy.requests(), [[""; 0]; 0]);
}

#[tokio::test]
async fn a_proxy_can_be_added_and_removed() {
    let (registry, proxy, asker) = behind_a_proxy("*").await;
    let digest = registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let reference = "registry.example:5000/acme/os:1";
    assert!(matches!(asker.ask(reference).await, Fact::Unknown(Cause::Unreachable { .. })));
    let https = format!("http://{}", proxy.address);
    asker.client.proxies.replace(ProxySettings { https, ..ProxySettings::default() });
    assert_eq!(asker.ask_now(reference).await, image(&digest, "registry.example:5000"));
    assert_eq!(proxy.requests(), [["CONNECT registry.example:5000 HTTP/1.1"]]);
}

#[tokio::test]
async fn beyond_loopback_only_an_insecure_registry_is_contacted_without_tls() {
    let OsRegistry { registry, digest, .. } = OsRegistry::start();
    let ask = async |conf: &str| {
        let proxy = Proxy::start(&registry.host()).await;
        let address = format!("http://{}", proxy.address);
        let settings = ProxySettings { http: address.clone(), https: address, no_proxy: String::new() };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), conf).unwrap();
        let asker = Asker::with_settings(RegistrySettings {
            registries: RegistriesConf::from_file(file.path()).unwrap(),
            proxies: Proxies::new(settings),
            ..RegistrySettings::from(Keychain::none())
        });
        let answer = asker.ask("registry.example:5000/acme/os:1").await;
        (answer, proxy.requests())
    };
    let connect = vec!["CONNECT registry.example:5000 HTTP/1.1".to_owned()];
    let (answer, requests) = ask("").await;
    assert!(matches!(answer, Fact::Unknown(Cause::Unreachable { .. })), "{answer:?}");
    assert_eq!(requests, std::slice::from_ref(&connect));
    let (answer, requests) =
        ask("[[registry]]\nlocation = \"registry.example:5000\"\ninsecure = true\n").await;
    assert_eq!(answer, image(&digest, "registry.example:5000"));
    let open = "HEAD http://registry.example:5000/v2/acme/os/manifests/1 HTTP/1.1".to_owned();
    assert_eq!(requests, [connect, vec![open]]);
}

#[tokio::test]
async fn an_error_of_a_proxy_has_its_address_and_not_its_password() {
    let (_registry, _, asker) = behind_a_proxy("").await;
    let ask = async |address: &str| {
        let https = format!("http://alice:s3cr3t-word@{address}");
        asker.client.proxies.replace(ProxySettings { https, ..ProxySettings::default() });
        asker.ask_now("registry.example:5000/acme/os:1").await
    };
    let told = |address: &str, reason: &str| {
        unreachable("registry.example:5000", &format!("through the proxy http://{address}: {reason}"))
    };
    let closed = ClosedPort::take().unwrap();
    let down = closed.host();
    assert_eq!(ask(&down).await, told(&down, "Connection refused"));
    let no_way = Proxy::start(&down).await;
    assert_eq!(ask(&no_way.address).await, told(&no_way.address, "tunnel error: unsuccessful"));
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    assert_eq!(ask(&address).await, told(&address, "connection timed out"));
}
