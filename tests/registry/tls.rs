//! TLS: which certificates are trusted, and that no request falls back to a connection without TLS.
//!
//! The CA certificates of the system come from `SSL_CERT_FILE` of the process, so each of these tests runs in its own
//! process, which [`alone`] starts.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Authority, DockerRegistry, Fault, Registry, TokenService};
use layerpin_test_support::tools::{archive, needs};
use serde_json::json;

use crate::docker_registry::digest_by_skopeo;
use crate::support::{
    Asker, image, is_alone, lines, no_token, nonsense, password, run_alone, unreachable, untrusted,
};

#[tokio::test]
async fn a_registry_that_is_not_trusted_is_not_contacted_without_tls() {
    let registry = Registry::builder().tls(Authority::new().issue(&["127.0.0.1"])).start().unwrap();
    let host = registry.host();
    registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let asker = Asker::with(&json!({(host.as_str()): password("alice", "s3cr3t-word")}));
    let answer = asker.ask(&format!("{host}/acme/os:1")).await;
    assert_eq!(answer, untrusted(&host, "UnknownIssuer"));
    assert_eq!((registry.connections(), registry.requests().len()), (1, 0));
}

#[tokio::test]
async fn a_registry_with_a_trusted_certificate_is_contacted_over_tls() {
    let Some(authority) = alone("a_registry_with_a_trusted_certificate_is_contacted_over_tls") else {
        return;
    };
    let registry = Registry::builder()
        .tls(authority.issue(&["127.0.0.1"]))
        .basic_auth("alice", "s3cr3t-word")
        .start()
        .unwrap();
    let host = registry.host();
    let digest = registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let asker = Asker::with(&json!({(host.as_str()): password("alice", "s3cr3t-word")}));
    assert_eq!(asker.ask(&format!("{host}/acme/os:1")).await, image(&digest, &host));
    assert_eq!(registry.requests().len(), 2);
}

#[tokio::test]
async fn registries_are_offered_http_2_and_http_1_1() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let offered = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut acceptor = rustls::server::Acceptor::default();
        let accepted = loop {
            acceptor.read_tls(&mut stream).unwrap();
            if let Some(accepted) = acceptor.accept().unwrap_or_else(|(error, _)| panic!("{error}")) {
                break accepted;
            }
        };
        let offered: Vec<_> = accepted.client_hello().alpn().unwrap().map(<[u8]>::to_vec).collect();
        offered
    });
    Asker::anonymous().ask(&format!("{address}/acme/os:1")).await;
    assert_eq!(offered.join().unwrap(), [b"h2".to_vec(), b"http/1.1".to_vec()]);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_trusted() {
    let Some(authority) = alone("a_certificate_for_another_name_is_not_trusted") else { return };
    let registry = Registry::builder().tls(authority.issue(&["registry.example"])).start().unwrap();
    let host = registry.host();
    let answer = Asker::anonymous().ask(&format!("{host}/acme/os:1")).await;
    let reason = "certificate not valid for name \"127.0.0.1\"; certificate is only \
                  valid for DnsName(\"registry.example\")";
    assert_eq!(answer, untrusted(&host, reason));
    assert_eq!((registry.connections(), registry.requests().len()), (1, 0));
}

#[tokio::test]
async fn a_redirect_from_https_to_http_is_not_followed() {
    let Some(authority) = alone("a_redirect_from_https_to_http_is_not_followed") else { return };
    let registry = Registry::builder().tls(authority.issue(&["127.0.0.1"])).start().unwrap();
    let open = Registry::start().unwrap();
    open.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let host = registry.host();
    registry.set_fault(Fault::RedirectTo(open.base_url()));
    let answer = Asker::anonymous().ask(&format!("{host}/acme/os:1")).await;
    assert_eq!(answer, nonsense(&host, "a redirect from HTTPS to HTTP"));
    assert_eq!(open.connections(), 0);
}

#[tokio::test]
async fn a_redirect_to_a_host_without_tls_is_not_followed_without_tls() {
    let Some(authority) = alone("a_redirect_to_a_host_without_tls_is_not_followed_without_tls") else {
        return;
    };
    let registry = Registry::builder().tls(authority.issue(&["127.0.0.1"])).start().unwrap();
    let open = Registry::start().unwrap();
    open.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let host = registry.host();
    registry.set_fault(Fault::RedirectTo(format!("https://{}", open.host())));
    let answer = Asker::anonymous().ask(&format!("{host}/acme/os:1")).await;
    assert_eq!(answer, unreachable(&open.host(), "received corrupt message of type InvalidContentType"));
    assert_eq!((registry.connections(), open.requests().len()), (1, 0));
}

#[tokio::test]
async fn a_token_service_must_have_tls_where_the_registry_does() {
    let Some(authority) = alone("a_token_service_must_have_tls_where_the_registry_does") else { return };
    let identity = || authority.issue(&["127.0.0.1"]);
    let entry = password("alice", "s3cr3t-word");

    let open = TokenService::builder().user("alice", "s3cr3t-word").start().unwrap();
    let registry = Registry::builder().tls(identity()).bearer_auth(&open).start().unwrap();
    let host = registry.host();
    let answer = Asker::with(&json!({(host.as_str()): entry})).ask(&format!("{host}/acme/os:1")).await;
    assert_eq!(
        answer,
        no_token(&host, &format!("it uses TLS, but its token service {} does not", open.host()))
    );
    assert_eq!(lines(&open.requests()), [""; 0]);

    let closed = TokenService::builder().tls(identity()).user("alice", "s3cr3t-word").start().unwrap();
    let registry = Registry::builder().tls(identity()).bearer_auth(&closed).start().unwrap();
    let host = registry.host();
    let digest = registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let answer = Asker::with(&json!({(host.as_str()): entry})).ask(&format!("{host}/acme/os:1")).await;
    assert_eq!(answer, image(&digest, &host));
    assert_eq!(lines(&closed.requests()), ["GET /token Basic"]);
}

#[tokio::test]
async fn the_docker_registry_is_contacted_over_tls() {
    needs!("docker-registry", "skopeo");
    let Some(authority) = alone("the_docker_registry_is_contacted_over_tls") else { return };
    let registry = DockerRegistry::builder().tls(authority.issue(&["127.0.0.1"])).start().unwrap();
    let host = registry.host();
    registry.skopeo_copy(&archive("derived"), "rhcos/os:1", None).unwrap();
    let reference = format!("{host}/rhcos/os:1");
    let digest = digest_by_skopeo(&reference, &["--no-creds"]);
    assert_eq!(Asker::anonymous().ask(&reference).await, image(&digest, &host));
}

/// The only CA that this process trusts, in its own process. `None` elsewhere, after `test` of this module has passed in
/// such a process.
fn alone(test: &str) -> Option<Authority> {
    if is_alone() {
        let authority = Authority::new();
        let roots = std::env::var_os(ROOTS).unwrap();
        std::fs::write(Path::new(&roots), authority.ca_pem()).unwrap();
        return Some(authority);
    }
    let folder = tempfile::tempdir().unwrap();
    run_alone(&format!("tls::{test}"), &[(ROOTS, &folder.path().join("roots.pem"))]);
    None
}

/// Names the file with the CA certificates of the system.
const ROOTS: &str = "SSL_CERT_FILE";
