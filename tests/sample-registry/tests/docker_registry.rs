//! The registry of the Docker distribution accepts what this crate makes.
//!
//! Each test says `skipped` on standard error where `docker-registry` is not installed.

mod support;

use layerpin_sample_registry::images::{Architecture, Image, Index, MediaTypes};
use layerpin_sample_registry::{Authority, DockerRegistry, Registry, TokenService, digest_of};

use support::{ask, ask_tls};

/// Returns from the test where `docker-registry` is missing.
macro_rules! needs_docker_registry {
    () => {
        if !DockerRegistry::available() {
            eprintln!("skipped: no docker-registry");
            return;
        }
    };
}

#[tokio::test]
async fn the_docker_registry_accepts_tokens_of_the_token_service() {
    needs_docker_registry!();
    let tokens = TokenService::builder().user("alice", "s3cr3t-word").start().expect("a token service");
    let registry = DockerRegistry::builder().token(&tokens).start().expect("a docker registry");

    let image = Image::base("4.18.1");
    let digest =
        registry.push("acme/os:4.18", &image, Some(("alice", "s3cr3t-word"))).expect("a push with a token");
    assert!(
        registry.push("acme/os:4.18", &image, Some(("alice", "wrong"))).is_err(),
        "a push with the wrong password"
    );

    let path = "/v2/acme/os/manifests/4.18";
    let refused = ask("GET", &registry.host(), path, &[]).await.expect("a reply");
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.header("www-authenticate"),
        Some(
            format!(
                "Bearer realm=\"{}\",service=\"sample-registry\",scope=\"repository:acme/os:pull\"",
                tokens.realm()
            )
            .as_str()
        )
    );

    let token = tokens.issue("alice", "acme/os", &["pull"]);
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("accept", image.manifest_media_type())];
    let pulled = ask("GET", &registry.host(), path, &headers).await.expect("a reply");
    assert_eq!(pulled.status, 200, "{:?}", pulled.body);
    assert_eq!(digest_of(&pulled.body), digest);

    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    let reversed: String = signature.chars().rev().collect();
    let elsewhere = tokens.issue("alice", "acme/other", &["pull"]);
    let table = [
        (format!("{signed}.{reversed}"), "another signature"),
        (elsewhere, "a token for another repository"),
    ];
    for (token, what) in table {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str())];
        let refused = ask("GET", &registry.host(), path, &headers).await.expect("a reply");
        assert_eq!(refused.status, 401, "{what}");
    }
}

#[tokio::test]
async fn the_docker_registry_asks_for_the_password_of_the_account() {
    needs_docker_registry!();
    let registry =
        DockerRegistry::builder().htpasswd("alice", "s3cr3t-word").start().expect("a docker registry");
    let image = Image::base("4.18.1");
    let refusal = registry.push("acme/os:4.18", &image, None).expect_err("a push without credentials");
    assert!(refusal.to_string().starts_with("`skopeo` failed: "), "{refusal}");
    registry.push("acme/os:4.18", &image, Some(("alice", "s3cr3t-word"))).expect("a push with the password");
}

#[tokio::test]
async fn the_docker_registry_keeps_an_index_unchanged() {
    needs_docker_registry!();
    let registry = DockerRegistry::start().expect("a docker registry");
    let index = Index::of([
        &Image::base_for("4.18.1", Architecture::Amd64),
        &Image::base_for("4.18.1", Architecture::Arm64),
    ]);
    let digest = registry.push("acme/os:4.18", &index, None).expect("a push of an index");
    let pulled = ask(
        "GET",
        &registry.host(),
        "/v2/acme/os/manifests/4.18",
        &[("accept", index.manifest_media_type())],
    )
    .await
    .expect("a reply");
    assert_eq!(pulled.header("docker-content-digest"), Some(digest.as_str()));
    assert_eq!(pulled.body, index.manifest());
}

#[tokio::test]
async fn the_docker_registry_keeps_docker_media_types() {
    needs_docker_registry!();
    let registry = DockerRegistry::start().expect("a docker registry");
    let image = Image::base("4.18.1").with_media_types(MediaTypes::Docker);
    let digest = registry.push("acme/os:4.18", &image, None).expect("a push of a Docker image");
    assert_eq!(digest, image.digest());
}

#[tokio::test]
async fn the_docker_registry_serves_the_identity_it_is_given() {
    needs_docker_registry!();
    let authority = Authority::new();
    let registry =
        DockerRegistry::builder().tls(authority.issue(&["127.0.0.1"])).start().expect("a docker registry");
    let reply = ask_tls(&registry.host(), "/v2/", &authority.ca_pem()).await.expect("a reply over TLS");
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn the_docker_registry_mirrors_the_sample_registry() {
    needs_docker_registry!();
    let upstream = Registry::start().expect("a registry");
    let image = Image::base("4.18.1");
    upstream.push("acme/os", Some("4.18"), &image);
    let mirror = DockerRegistry::builder().mirror_of(&upstream.base_url()).start().expect("a mirror");
    let pulled =
        ask("GET", &mirror.host(), "/v2/acme/os/manifests/4.18", &[("accept", image.manifest_media_type())])
            .await
            .expect("a reply");
    assert_eq!(pulled.body, image.manifest());
    assert!(upstream.count("GET", "/v2/acme/os/manifests/") > 0);
}
