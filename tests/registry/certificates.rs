//! Certificates for single hosts, from a folder in the layout of `certs.d`.

use std::path::Path;

use layerpin::model::facts::{Cause, Fact};
use layerpin::registry::RegistrySettings;
use layerpin::registry::auth::keychain::Keychain;
use layerpin::registry::http::tls_roots::CertDirs;
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Authority, DockerRegistry, Registry};
use layerpin_test_support::tools::needs;
use tempfile::TempDir;

use crate::support::{Asker, image, untrusted};

const UNKNOWN_ISSUER: &str = "UnknownIssuer";

fn write(folder: &Path, host: &str, name: &str, text: &str) {
    std::fs::create_dir_all(folder.join(host)).unwrap();
    std::fs::write(folder.join(host).join(name), text).unwrap();
}

fn asker(folder: &TempDir) -> Asker {
    let certificates = CertDirs::from_dir(folder.path()).unwrap();
    Asker::with_settings(RegistrySettings { certificates, ..RegistrySettings::from(Keychain::none()) })
}

fn registry(authority: &Authority) -> (Registry, String, String) {
    let registry = Registry::builder().tls(authority.issue(&["127.0.0.1"])).start().unwrap();
    let host = registry.host();
    let digest = registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    (registry, host, digest)
}

#[tokio::test]
async fn a_ca_is_trusted_only_for_its_host() {
    let authority = Authority::new();
    let (_one, trusted, digest) = registry(&authority);
    let (_two, other, _) = registry(&authority);
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &trusted, "ca.crt", &authority.ca_pem());
    let asker = asker(&folder);
    assert_eq!(asker.ask(&format!("{trusted}/acme/os:1")).await, image(&digest, &trusted));
    assert_eq!(asker.ask(&format!("{other}/acme/os:1")).await, untrusted(&other, UNKNOWN_ISSUER));
}

#[tokio::test]
async fn a_ca_that_is_added_later_is_trusted_from_then_on() {
    let authority = Authority::new();
    let (_registry, host, digest) = registry(&authority);
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &host, "ca.crt", &Authority::named("another").ca_pem());
    let asker = asker(&folder);
    let reference = format!("{host}/acme/os:1");
    assert_eq!(asker.ask(&reference).await, untrusted(&host, UNKNOWN_ISSUER));
    write(folder.path(), &host, "ca.crt", &authority.ca_pem());
    asker.client.certificates.reload().unwrap();
    assert_eq!(asker.ask_now(&reference).await, image(&digest, &host));
}

#[tokio::test]
async fn the_docker_registry_accepts_a_client_certificate() {
    needs!("docker-registry");
    let (authority, clients) = (Authority::new(), Authority::named("clients"));
    let registry = DockerRegistry::builder()
        .tls(authority.issue(&["127.0.0.1"]))
        .client_authority(&clients.ca_pem())
        .start()
        .unwrap();
    let host = registry.host();
    let reference = format!("{host}/acme/os:1");
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &host, "ca.crt", &authority.ca_pem());
    // The network decides whether the alert or the end of the connection comes first.
    let answer = asker(&folder).ask(&reference).await;
    let is_refused =
        matches!(&answer, Fact::Unknown(Cause::Unreachable { host: asked, .. }) if *asked == host);
    assert!(is_refused, "{answer:?}");
    let client = clients.issue_client("layerpin");
    write(folder.path(), &host, "client.cert", client.certificate_pem());
    write(folder.path(), &host, "client.key", client.key_pem());
    // The certificate is accepted; the image does not exist.
    assert_eq!(asker(&folder).ask(&reference).await, Fact::Absent);
}
