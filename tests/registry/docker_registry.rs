//! Debian's `docker-registry`, with images of other tools, copied by `skopeo`.

use std::process::Command;

use layerpin::model::digest::Digest;
use layerpin::model::facts::{CredentialsSent, Fact, ManifestKind, NodeCredentials};
use layerpin_sample_registry::images::{Architecture, Image, Index};
use layerpin_sample_registry::{DockerRegistry, TokenService};
use layerpin_test_support::tools::{archive, needs};
use serde_json::{Value, json};

use crate::support::{Asker, image, known, password, refused};

/// The images, by the name of their file.
pub(crate) const IMAGES: [&str; 3] = ["base", "chunked", "derived"];

/// The digest of an image that `skopeo` prints, checked against the manifest.
pub(crate) fn digest_by_skopeo(reference: &str, options: &[&str]) -> String {
    let inspect = |more: &[&str]| {
        let output = Command::new("skopeo")
            .args(["inspect", "--no-tags", "--tls-verify=false"])
            .args(options)
            .args(more)
            .arg(format!("docker://{reference}"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let digest = String::from_utf8(inspect(&["--format", "{{.Digest}}"])).unwrap().trim().to_owned();
    assert_eq!(Digest::of(&inspect(&["--raw"])).as_str(), digest);
    digest
}

#[tokio::test]
async fn images_have_the_digests_that_skopeo_prints() {
    needs!("docker-registry", "skopeo");
    let registry = DockerRegistry::start().unwrap();
    let host = registry.host();
    let asker = Asker::anonymous();
    for name in IMAGES {
        registry.skopeo_copy(&archive(name), &format!("rhcos/os:{name}"), None).unwrap();
        let reference = format!("{host}/rhcos/os:{name}");
        let digest = digest_by_skopeo(&reference, &["--no-creds"]);
        assert_eq!(asker.ask(&reference).await, image(&digest, &host), "{name}");
        assert_eq!(asker.ask(&format!("{host}/rhcos/os@{digest}")).await, image(&digest, &host), "{name}");
    }
    for reference in ["rhcos/os:none", "rhcos/none:base", &format!("rhcos/os@{}", Digest::of(b"none"))] {
        assert_eq!(asker.ask(&format!("{host}/{reference}")).await, Fact::Absent, "{reference}");
    }
}

#[tokio::test]
async fn an_index_has_the_digest_that_skopeo_prints() {
    needs!("docker-registry", "skopeo");
    let registry = DockerRegistry::start().unwrap();
    let host = registry.host();
    let architectures = [Architecture::Amd64, Architecture::Arm64];
    let images = architectures.map(|architecture| Image::base_for("4.18.1", architecture));
    registry.push("rhcos/os:1", &Index::of(&images), None).unwrap();
    let reference = format!("{host}/rhcos/os:1");
    let digest = digest_by_skopeo(&reference, &["--no-creds"]);
    assert_eq!(Asker::anonymous().ask(&reference).await, known(&digest, ManifestKind::Index, &host));
}

/// The answers of a registry with the account `alice`, to her and to others.
async fn lets_in_alice_alone(registry: &DockerRegistry) {
    let host = registry.host();
    let alice = ("alice", "s3cr3t-word");
    registry.skopeo_copy(&archive("chunked"), "rhcos/os:1", Some(alice)).unwrap();
    let reference = format!("{host}/rhcos/os:1");
    let digest = digest_by_skopeo(&reference, &["--creds", "alice:s3cr3t-word"]);
    let only = |entry: Value| Asker::with(&json!({(host.as_str()): entry}));
    for (asker, expected) in [
        (only(password("alice", "s3cr3t-word")), image(&digest, &host)),
        (
            only(password("alice", "wrong")),
            refused(&host, 401, CredentialsSent::Entry, NodeCredentials::Same),
        ),
        (Asker::with(&json!({})), refused(&host, 401, CredentialsSent::NoEntry, NodeCredentials::Same)),
        (Asker::anonymous(), refused(&host, 401, CredentialsSent::NoEntry, NodeCredentials::NotAtHand)),
    ] {
        assert_eq!(asker.ask(&reference).await, expected);
    }
    let asker = only(password("alice", "s3cr3t-word"));
    assert_eq!(asker.ask(&format!("{host}/rhcos/os:none")).await, Fact::Absent);
}

#[tokio::test]
async fn passwords_open_it() {
    needs!("docker-registry", "skopeo", "htpasswd");
    let registry = DockerRegistry::builder().htpasswd("alice", "s3cr3t-word").start().unwrap();
    lets_in_alice_alone(&registry).await;
}

#[tokio::test]
async fn tokens_open_it() {
    needs!("docker-registry", "skopeo");
    let tokens = TokenService::builder().user("alice", "s3cr3t-word").start().unwrap();
    let registry = DockerRegistry::builder().token(&tokens).start().unwrap();
    lets_in_alice_alone(&registry).await;
    let asker = Asker::with(&json!({(registry.host()): {"identitytoken": tokens.identity_token("alice")}}));
    let reference = format!("{}/rhcos/os:1", registry.host());
    let digest = digest_by_skopeo(&reference, &["--creds", "alice:s3cr3t-word"]);
    assert_eq!(asker.ask(&reference).await, image(&digest, &registry.host()));
}
