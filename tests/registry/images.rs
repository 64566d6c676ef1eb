//! The content of an image for each platform, and the number of requests for it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use layerpin::model::digest::Digest;
use layerpin::model::facts::image::{HistoryStep, Image as Found, Layer, Platform, PlatformImage};
use layerpin::model::facts::{Cause, CredentialsSent, Fact, ManifestKind, NodeCredentials};
use layerpin::model::question::Platforms;
use layerpin_sample_registry::images::{Architecture, Image, Index, MediaTypes, OCI_INDEX, OCI_MANIFEST};
use layerpin_sample_registry::{Fault, Registry};
use serde_json::{Value, json};

use crate::support::{Asker, lines, nonsense, out_of_time, password, refused};

/// The expected content of an image in the sample registry.
pub(crate) fn platform_image(image: &Image) -> PlatformImage {
    let manifest: Value = serde_json::from_slice(&image.manifest()).unwrap();
    let config: Value = serde_json::from_slice(&image.config()).unwrap();
    let step = |step: &Value| HistoryStep {
        created_by: step["created_by"].as_str().unwrap_or_default().to_owned(),
        created: step["created"].as_str().map(str::to_owned),
        comment: step["comment"].as_str().unwrap_or_default().to_owned(),
        empty_layer: step["empty_layer"].as_bool().unwrap_or_default(),
    };
    PlatformImage {
        manifest: digest(&image.digest()),
        config: digest(&image.config_digest()),
        layers: image
            .layers()
            .iter()
            .map(|layer| Layer {
                diff_id: digest(&layer.diff_id()),
                digest: digest(&layer.digest()),
                size: layer.blob().len() as u64,
            })
            .collect(),
        labels: serde_json::from_value(config["config"]["Labels"].clone()).unwrap(),
        annotations: serde_json::from_value(manifest["annotations"].clone()).unwrap_or_default(),
        history: config["history"].as_array().unwrap().iter().map(step).collect(),
        created: config["created"].as_str().map(str::to_owned),
    }
}

/// The answer for a reference to this image.
pub(crate) fn single(image: &Image) -> Fact<Found> {
    let platform = Platform::of_node(image.architecture().name());
    Fact::Known(Found {
        digest: digest(&image.digest()),
        kind: ManifestKind::Image,
        platforms: BTreeMap::from([(platform, Fact::Known(platform_image(image)))]),
    })
}

/// The answer for an index, with the answer for each platform.
fn index<const N: usize>(digest_of_index: &str, platforms: [(&str, Fact<PlatformImage>); N]) -> Fact<Found> {
    let platforms = platforms.map(|(architecture, image)| (Platform::of_node(architecture), image));
    Fact::Known(Found {
        digest: digest(digest_of_index),
        kind: ManifestKind::Index,
        platforms: BTreeMap::from(platforms),
    })
}

fn digest(text: &str) -> Digest {
    Digest::parse(text).unwrap()
}

fn short(text: &str) -> String {
    digest(text).short()
}

fn known(image: &Image) -> Fact<PlatformImage> {
    Fact::Known(platform_image(image))
}

/// A config with these additional fields, and a manifest for it with this number of layers.
fn hand_made(registry: &Registry, config: Value, layers: usize) -> String {
    let mut document = json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}});
    document.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let config = registry.push_blob("acme/os", document.to_string());
    let layer = json!({"digest": Digest::of(b"layer"), "size": 5});
    let manifest = json!({
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": vec![layer; layers],
    });
    registry.push_manifest("acme/os", None, OCI_MANIFEST, manifest.to_string())
}

fn push_index(registry: &Registry, tag: &str, entries: &[(&str, Option<&str>)]) -> String {
    let entry = |(digest, architecture): &(&str, Option<&str>)| {
        let platform = architecture.map(|architecture| json!({"os": "linux", "architecture": architecture}));
        json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": 2, "platform": platform})
    };
    let entries: Vec<_> = entries.iter().map(entry).collect();
    registry.push_manifest("acme/os", Some(tag), OCI_INDEX, json!({"manifests": entries}).to_string())
}

#[tokio::test]
async fn an_image_costs_two_small_requests_and_none_when_cached() {
    for media_types in [MediaTypes::Oci, MediaTypes::Docker] {
        let registry = Registry::start().unwrap();
        let image = Image::derived(&Image::base("4.18.1"), &[("etc/motd", b"hello")]);
        let image = image.with_media_types(media_types);
        let pushed = registry.push("acme/os", Some("1"), &image);
        let asker = Asker::anonymous();
        let reference = format!("{}/acme/os@{pushed}", registry.host());
        assert_eq!(asker.image(&reference).await, single(&image));
        let config = image.config_digest();
        let expected =
            [format!("GET /v2/acme/os/manifests/{pushed} -"), format!("GET /v2/acme/os/blobs/{config} -")];
        assert_eq!(lines(&registry.requests()), expected);
        registry.clear_requests();
        assert_eq!(asker.image(&reference).await, single(&image));
        assert_eq!(asker.too_late().image(&reference).await, single(&image), "what is known takes no time");
        assert_eq!(lines(&registry.requests()), [""; 0]);
    }
}

#[tokio::test]
async fn a_tag_costs_the_same_and_has_the_digest_found_just_before() {
    let registry = Registry::start().unwrap();
    let (first, second) = (Image::base("4.18.1"), Image::base("4.18.2"));
    registry.push("acme/os", Some("1"), &first);
    let asker = Asker::anonymous();
    let reference = format!("{}/acme/os:1", registry.host());
    assert_eq!(asker.image(&reference).await, single(&first));
    let config = first.config_digest();
    let by_tag = ["GET /v2/acme/os/manifests/1 -".to_owned(), format!("GET /v2/acme/os/blobs/{config} -")];
    assert_eq!(lines(&registry.requests()), by_tag);
    // The digest of the tag needs no further request.
    registry.clear_requests();
    let pinned = format!("{}/acme/os@{}", registry.host(), first.digest());
    assert_eq!(asker.image(&pinned).await, single(&first));
    assert_eq!(registry.requests().len(), 0);
    let moved = registry.push("acme/os", Some("1"), &second);
    asker.ask_now(&reference).await;
    registry.clear_requests();
    assert_eq!(asker.image(&reference).await, single(&second));
    let config = second.config_digest();
    let expected =
        [format!("GET /v2/acme/os/manifests/{moved} -"), format!("GET /v2/acme/os/blobs/{config} -")];
    assert_eq!(lines(&registry.requests()), expected);
}

#[tokio::test]
async fn equal_concurrent_requests_are_sent_once() {
    let registry = Registry::start().unwrap();
    let image = Image::base("4.18.1");
    registry.push("acme/os", Some("1"), &image);
    let asker = Asker::anonymous();
    let reference = format!("{}/acme/os:1", registry.host());
    let answers = join_all((0..100).map(|_| asker.image(&reference))).await;
    assert_eq!(answers, vec![single(&image); 100]);
    assert_eq!(registry.requests().len(), 2);
}

#[tokio::test]
async fn reading_continues_when_its_first_caller_leaves() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let image = Image::base("4.18.1");
    registry.push("acme/os", Some("1"), &image);
    registry.set_fault(Fault::Latency(Duration::from_millis(500)));
    let asker = Asker::anonymous();
    let reference = format!("{host}/acme/os:1");
    assert_eq!(asker.too_late().image(&reference).await, out_of_time(&host));
    // Both documents are read, although no caller waits for the second one.
    registry.requests_arrived(2).await.unwrap();
    assert_eq!(asker.image(&reference).await, single(&image));
    assert_eq!(registry.requests().len(), 2);
}

#[tokio::test]
async fn an_index_is_read_for_the_requested_platforms() {
    let registry = Registry::start().unwrap();
    let amd64 = Image::base_for("4.18.1", Architecture::Amd64);
    let arm64 = Image::base_for("4.18.1", Architecture::Arm64);
    let pushed = registry.push("acme/os", Some("1"), &Index::of([&amd64, &arm64]));
    let docker = Index::of([&amd64, &arm64]).with_media_types(MediaTypes::Docker);
    registry.push("acme/os", Some("docker"), &docker);
    let asker = Asker::anonymous();
    let reference = format!("{}/acme/os@{pushed}", registry.host());
    let only = |architecture| Platforms::Only([Platform::of_node(architecture)].into());
    let not_asked = || Fact::Unknown(Cause::NotAsked);
    let expected = index(&pushed, [("amd64", known(&amd64)), ("arm64", not_asked())]);
    assert_eq!(asker.image_for(&reference, &only("amd64")).await, expected);
    assert_eq!(registry.requests().len(), 3);
    let expected = index(&pushed, [("amd64", known(&amd64)), ("arm64", known(&arm64))]);
    assert_eq!(asker.image(&reference).await, expected);
    assert_eq!(registry.requests().len(), 5, "what was read before is not asked for again");
    let expected = index(&pushed, [("amd64", not_asked()), ("arm64", not_asked())]);
    assert_eq!(asker.image_for(&reference, &only("s390x")).await, expected);
    let expected = index(&docker.digest(), [("amd64", known(&amd64)), ("arm64", known(&arm64))]);
    assert_eq!(asker.image(&format!("{}/acme/os:docker", registry.host())).await, expected);
    assert_eq!(registry.requests().len(), 6, "images that two indexes list are read once");
}

#[tokio::test]
async fn an_image_with_one_platform_is_read_for_any_request() {
    let registry = Registry::start().unwrap();
    let arm64 = Image::base_for("4.18.1", Architecture::Arm64);
    registry.push("acme/os", Some("1"), &arm64);
    let only = Platforms::Only([Platform::of_node("amd64")].into());
    let reference = format!("{}/acme/os:1", registry.host());
    assert_eq!(Asker::anonymous().image_for(&reference, &only).await, single(&arm64));
}

#[tokio::test]
async fn a_platform_that_cannot_be_read_does_not_affect_the_others() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let amd64 = Image::base("4.18.1");
    let arm64 = Image::base_for("4.18.1", Architecture::Arm64);
    let (one, other) = (registry.push("acme/os", None, &amd64), registry.push("acme/os", None, &arm64));
    let gone = Digest::of(b"gone").to_string();
    let inner = push_index(&registry, "inner", &[(&one, Some("amd64"))]);
    let short_of_diff_ids = hand_made(&registry, json!({"architecture": "s390x"}), 2);
    let s390x = Fact::Unknown(Cause::InvalidResponse {
        host: host.clone(),
        reason: format!(
            "the manifest {} has 2 layers, but its config names 0 (rootfs.diff_ids)",
            short(&short_of_diff_ids)
        ),
    });
    for (entry, expected) in [
        (("arm64", other.as_str()), known(&arm64)),
        (("arm64", gone.as_str()), Fact::Absent),
        (("s390x", short_of_diff_ids.as_str()), s390x),
        (
            ("ppc64le", inner.as_str()),
            not_an_image(&format!(
                "its index lists {}, another index, into which nodes do not look",
                short(&inner)
            )),
        ),
        (
            ("ppc64le", other.as_str()),
            nonsense(
                &host,
                &format!(
                    "its index lists {} for linux/ppc64le, but the config of that image says linux/arm64",
                    short(&other)
                ),
            ),
        ),
    ] {
        let (architecture, listed) = entry;
        let pushed = push_index(&registry, "1", &[(&one, Some("amd64")), (listed, Some(architecture))]);
        let reference = format!("{host}/acme/os@{pushed}");
        let expected = index(&pushed, [("amd64", known(&amd64)), (architecture, expected)]);
        assert_eq!(Asker::anonymous().image(&reference).await, expected, "{entry:?}");
    }
}

#[tokio::test]
async fn two_different_images_for_one_platform_are_unknown() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let image = Image::base("4.18.1");
    let one = registry.push("acme/os", None, &image);
    let again = registry.push("acme/os", None, &image.clone().with_label("compression", "another"));
    let other = registry.push("acme/os", None, &Image::base("4.18.2"));
    let differ = nonsense(&host, "its index lists different images for linux/amd64");
    for (second, expected) in [(&again, known(&image)), (&other, differ)] {
        let pushed = push_index(&registry, "1", &[(&one, Some("amd64")), (second, Some("amd64"))]);
        let reference = format!("{host}/acme/os@{pushed}");
        assert_eq!(Asker::anonymous().image(&reference).await, index(&pushed, [("amd64", expected)]));
    }
}

#[tokio::test]
async fn an_entry_without_a_platform_has_that_of_its_config() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let amd64 = Image::base("4.18.1");
    let one = registry.push("acme/os", None, &amd64);
    let arm64 = Image::base_for("4.18.1", Architecture::Arm64);
    let other = registry.push("acme/os", None, &arm64);
    let pushed = push_index(&registry, "1", &[(&one, Some("amd64")), (&other, None)]);
    let expected = index(&pushed, [("amd64", known(&amd64)), ("arm64", known(&arm64))]);
    assert_eq!(Asker::anonymous().image(&format!("{host}/acme/os@{pushed}")).await, expected);
    let gone = Digest::of(b"gone");
    let pushed = push_index(&registry, "1", &[(&one, Some("amd64")), (gone.as_str(), None)]);
    let reason = format!("its index lists {} for no platform, and that image is not there", gone.short());
    assert_eq!(Asker::anonymous().image(&format!("{host}/acme/os@{pushed}")).await, nonsense(&host, &reason));
    // What is not an image has no platform, and does not affect the others.
    let artifact = json!({
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::of(b"{}"), "size": 2},
        "layers": [],
    });
    let artifact = registry.push_manifest("acme/os", None, OCI_MANIFEST, artifact.to_string());
    let pushed = push_index(&registry, "1", &[(&one, Some("amd64")), (&artifact, None)]);
    let expected = index(&pushed, [("amd64", known(&amd64))]);
    assert_eq!(Asker::anonymous().image(&format!("{host}/acme/os@{pushed}")).await, expected);
}

#[tokio::test]
async fn a_config_that_disagrees_with_its_manifest_makes_its_platform_unknown() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let pushed =
        hand_made(&registry, json!({"rootfs": {"diff_ids": [Digest::of(b"a"), Digest::of(b"b")]}}), 1);
    let reason =
        format!("the manifest {} has 1 layers, but its config names 2 (rootfs.diff_ids)", short(&pushed));
    let expected = Fact::Known(Found {
        digest: digest(&pushed),
        kind: ManifestKind::Image,
        platforms: BTreeMap::from([(Platform::of_node("amd64"), nonsense(&host, &reason))]),
    });
    assert_eq!(Asker::anonymous().image(&format!("{host}/acme/os@{pushed}")).await, expected);
}

#[tokio::test]
async fn what_is_not_an_image_is_reported_as_what_it_is() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let artifact = json!({
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::of(b"{}"), "size": 2},
        "layers": [],
    });
    let unreadable = "its config has the invalid platform `linux/\\u{7}`";
    for (pushed, expected) in [
        (
            registry.push_manifest("acme/os", None, OCI_MANIFEST, artifact.to_string()),
            not_an_image("its config has type `application/vnd.oci.empty.v1+json`"),
        ),
        (hand_made(&registry, json!({"architecture": "\u{7}"}), 0), nonsense(&host, unreadable)),
    ] {
        let reference = format!("{host}/acme/os@{pushed}");
        assert_eq!(Asker::anonymous().image(&reference).await, expected);
    }
}

fn not_an_image<T>(reason: &str) -> Fact<T> {
    Fact::Unknown(Cause::NotAnImage { reason: reason.to_owned() })
}

#[tokio::test]
async fn a_missing_image_is_absent() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let image = Image::base("4.18.1");
    let pushed = registry.push("acme/os", Some("1"), &image);
    for reference in [format!("{host}/acme/os:2"), format!("{host}/acme/os@{}", Digest::of(b"gone"))] {
        assert_eq!(Asker::anonymous().image(&reference).await, Fact::Absent, "{reference}");
    }
    registry.delete_blob("acme/os", &image.config_digest());
    let reason = format!(
        "it has the manifest {} but not the config {} that this names",
        short(&pushed),
        short(&image.config_digest())
    );
    assert_eq!(Asker::anonymous().image(&format!("{host}/acme/os:1")).await, nonsense(&host, &reason));
}

#[tokio::test]
async fn documents_are_used_only_for_the_same_credentials() {
    let registry = Registry::builder().basic_auth("alice", "s3cr3t-word").start().unwrap();
    let host = registry.host();
    let image = Image::base("4.18.1");
    let pushed = registry.push("acme/os", Some("1"), &image);
    let reference = format!("{host}/acme/os@{pushed}");
    let asker = Asker::with(&json!({(host.as_str()): password("alice", "s3cr3t-word")}));
    assert_eq!(asker.image(&reference).await, single(&image));
    let config = image.config_digest();
    assert_eq!(
        lines(&registry.requests()),
        [
            format!("GET /v2/acme/os/manifests/{pushed} -"),
            format!("GET /v2/acme/os/manifests/{pushed} Basic"),
            format!("GET /v2/acme/os/blobs/{config} Basic"),
        ]
    );
    asker.change(&json!({}));
    assert_eq!(
        asker.image(&reference).await,
        refused(&host, 401, CredentialsSent::NoEntry, NodeCredentials::Same)
    );
}

#[tokio::test]
async fn a_config_on_another_host_is_fetched_without_credentials() {
    let storage = Registry::start().unwrap();
    let registry = Registry::builder().basic_auth("alice", "s3cr3t-word").start().unwrap();
    let host = registry.host();
    let image = Image::base("4.18.1");
    storage.push("acme/os", None, &image);
    let pushed = registry.push("acme/os", Some("1"), &image);
    registry.set_fault(Fault::RedirectTo(storage.base_url()).on("/blobs/"));
    let asker = Asker::with(&json!({(host.as_str()): password("alice", "s3cr3t-word")}));
    let reference = format!("{host}/acme/os@{pushed}");
    assert_eq!(asker.image(&reference).await, single(&image));
    let config = image.config_digest();
    assert_eq!(lines(&storage.requests()), [format!("GET /v2/acme/os/blobs/{config} -")]);
}
