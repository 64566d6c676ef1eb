//! A registry without faults, as a client that reads sees it.

mod support;

use layerpin_sample_registry::images::{Architecture, DOCKER_MANIFEST, Image, Index, MediaTypes, OCI_INDEX};
use layerpin_sample_registry::{Authority, ClosedPort, Registry, digest_of};
use serde_json::json;

use support::{ask, ask_tls};

#[tokio::test]
async fn a_manifest_is_found_by_tag_and_by_digest() {
    let registry = Registry::start().expect("a registry");
    let image = Image::base("4.18.1").with_media_types(MediaTypes::Docker);
    let digest = registry.push("acme/os", Some("4.18"), &image);
    assert_eq!(digest, image.digest());

    for reference in ["4.18", &digest] {
        let path = format!("/v2/acme/os/manifests/{reference}");
        for method in ["HEAD", "GET"] {
            let reply = ask(method, &registry.host(), &path, &[]).await.expect("a reply");
            let what = format!("{method} {path}");
            assert_eq!(reply.status, 200, "{what}");
            assert_eq!(reply.header("content-type"), Some(DOCKER_MANIFEST), "{what}");
            assert_eq!(reply.header("docker-content-digest"), Some(digest.as_str()), "{what}");
            assert_eq!(
                reply.header("content-length"),
                Some(image.manifest().len().to_string().as_str()),
                "{what}"
            );
            let expected = match method {
                "GET" => image.manifest(),
                _ => Default::default(),
            };
            assert_eq!(reply.body, expected, "{what}");
        }
    }
}

#[tokio::test]
async fn an_index_leads_to_its_images_and_their_blobs() {
    let registry = Registry::start().expect("a registry");
    let index = Index::of([
        &Image::base_for("4.18.1", Architecture::Amd64),
        &Image::base_for("4.18.1", Architecture::Arm64),
    ]);
    registry.push("acme/os", Some("4.18"), &index);
    let host = registry.host();
    let get = async |path: String| ask("GET", &host, &path, &[]).await.expect("a reply");

    let listed = get("/v2/acme/os/manifests/4.18".to_owned()).await;
    assert_eq!(listed.header("content-type"), Some(OCI_INDEX));
    let entries = listed.json()["manifests"].clone();
    assert_eq!(entries.as_array().map(Vec::len), Some(2));
    for entry in entries.as_array().expect("entries") {
        let digest = entry["digest"].as_str().expect("a digest");
        let manifest = get(format!("/v2/acme/os/manifests/{digest}")).await.json();
        let layers = manifest["layers"].as_array().expect("layers");
        for descriptor in layers.iter().chain([&manifest["config"]]) {
            let digest = descriptor["digest"].as_str().expect("a digest");
            let blob = get(format!("/v2/acme/os/blobs/{digest}")).await;
            assert_eq!(digest_of(&blob.body), digest);
        }
    }
}

#[tokio::test]
async fn what_is_missing_is_told_apart() {
    let registry = Registry::start().expect("a registry");
    registry.push("acme/os", Some("4.18"), &Image::base("4.18.1"));
    let nothing = digest_of(b"nothing");
    let table = [
        ("/v2/acme/none/manifests/4.18".to_owned(), "NAME_UNKNOWN"),
        ("/v2/acme/os/manifests/4.19".to_owned(), "MANIFEST_UNKNOWN"),
        (format!("/v2/acme/os/manifests/{nothing}"), "MANIFEST_UNKNOWN"),
        (format!("/v2/acme/os/blobs/{nothing}"), "BLOB_UNKNOWN"),
        ("/v2/acme/none/tags/list".to_owned(), "NAME_UNKNOWN"),
    ];
    for (path, code) in table {
        let reply = ask("GET", &registry.host(), &path, &[]).await.expect("a reply");
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.error_code(), code, "{path}");
    }
}

#[tokio::test]
async fn a_tag_moves_and_goes_while_its_manifest_stays() {
    let registry = Registry::start().expect("a registry");
    let old = registry.push("acme/os", Some("4.18"), &Image::base("4.18.1"));
    let new = registry.push("acme/os", None, &Image::base("4.18.2"));
    let status_and_digest = async |reference: &str| {
        let path = format!("/v2/acme/os/manifests/{reference}");
        let reply = ask("HEAD", &registry.host(), &path, &[]).await.expect("a reply");
        let digest = reply.header("docker-content-digest").map(str::to_owned);
        (reply.status, digest)
    };

    assert_eq!(status_and_digest("4.18").await, (200, Some(old.clone())));
    registry.tag("acme/os", "4.18", &new);
    assert_eq!(status_and_digest("4.18").await, (200, Some(new.clone())));
    registry.delete_tag("acme/os", "4.18");
    assert_eq!(status_and_digest("4.18").await, (404, None));
    assert_eq!(status_and_digest(&new).await, (200, Some(new.clone())));
    registry.tag("acme/os", "stable", &old);
    registry.delete_manifest("acme/os", &old);
    assert_eq!(status_and_digest(&old).await, (404, None));
    assert_eq!(status_and_digest("stable").await, (404, None));
}

#[tokio::test]
async fn a_deleted_blob_or_repository_is_gone() {
    let registry = Registry::start().expect("a registry");
    let image = Image::base("4.18.1");
    registry.push("acme/os", Some("4.18"), &image);
    let blob = format!("/v2/acme/os/blobs/{}", image.config_digest());
    registry.delete_blob("acme/os", &image.config_digest());
    let reply = ask("HEAD", &registry.host(), &blob, &[]).await;
    assert_eq!(reply.expect("a reply").status, 404);
    registry.delete_repository("acme/os");
    let reply = ask("GET", &registry.host(), "/v2/acme/os/tags/list", &[]).await;
    assert_eq!(reply.expect("a reply").error_code(), "NAME_UNKNOWN");
}

#[tokio::test]
async fn tags_are_listed() {
    let registry = Registry::start().expect("a registry");
    let digest = registry.push("acme/os", Some("4.18"), &Image::base("4.18.1"));
    registry.tag("acme/os", "4.17", &digest);
    let reply = ask("GET", &registry.host(), "/v2/acme/os/tags/list", &[]).await.expect("a reply");
    assert_eq!(reply.json(), json!({"name": "acme/os", "tags": ["4.17", "4.18"]}));
}

#[tokio::test]
async fn a_registry_with_an_identity_speaks_tls() {
    let authority = Authority::new();
    let registry =
        Registry::builder().tls(authority.issue(&["127.0.0.1", "localhost"])).start().expect("a registry");
    assert_eq!(registry.base_url(), format!("https://{}", registry.host()));
    let reply = ask_tls(&registry.host(), "/v2/", &authority.ca_pem()).await.expect("a reply over TLS");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("docker-distribution-api-version"), Some("registry/2.0"));
    let other = Authority::new();
    ask_tls(&registry.host(), "/v2/", &other.ca_pem())
        .await
        .expect_err("a certificate of an unknown authority");
}

#[tokio::test]
async fn requests_are_recorded_with_their_credentials() {
    let registry = Registry::start().expect("a registry");
    let host = registry.host();
    let headers = [("authorization", "Basic c2VjcmV0")];
    ask("HEAD", &host, "/v2/acme/os/manifests/4.18?ns=quay.io", &headers).await.expect("a reply");
    ask("GET", &host, "/v2/", &[]).await.expect("a reply");

    let requests = registry.requests_arrived(2).await.expect("two requests");
    assert_eq!(requests[0].method, "HEAD");
    assert_eq!(requests[0].path, "/v2/acme/os/manifests/4.18?ns=quay.io");
    assert_eq!(requests[0].host.as_deref(), Some(host.as_str()));
    assert_eq!(requests[0].authorization(), Some("Basic c2VjcmV0"));
    assert_eq!(requests[1].authorization(), None);
    assert!(!format!("{requests:?}").contains("c2VjcmV0"), "{requests:?}");
    assert_eq!(registry.count("HEAD", "/manifests/"), 1);
    assert_eq!(registry.count("GET", "/manifests/"), 0);
    registry.clear_requests();
    assert_eq!(registry.requests(), []);
}

#[test]
fn a_registry_serves_a_test_without_a_runtime() {
    use std::io::{Read, Write};

    let registry = Registry::start().expect("a registry");
    let mut stream = std::net::TcpStream::connect(registry.host()).expect("a connection");
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n\r\n").expect("a request");
    let requests = registry.wait_for_requests(1).expect("one request");
    assert_eq!(requests[0].path, "/v2/");
    registry.wait_for_connections(1).expect("one connection");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
}

#[tokio::test]
async fn a_dropped_registry_frees_its_address_for_the_next() {
    let first = Registry::start().expect("a registry");
    let host = first.host();
    ask("GET", &host, "/v2/", &[]).await.expect("a reply");
    drop(first);
    let address = host.parse().expect("an address");
    // No other test is given it meanwhile.
    let _kept = ClosedPort::take_at(address).expect("the port is free");
    ask("GET", &host, "/v2/", &[]).await.expect_err("a registry that is gone");
    let second = Registry::builder().address(address).start().expect("a registry at the same address");
    ask("GET", &second.host(), "/v2/", &[]).await.expect("a reply");
}
