//! The operating systems of a release payload, from layers of every format.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use layerpin::model::digest::Digest;
use layerpin::model::facts::image::{OsImage, Payload};
use layerpin::model::facts::{Cause, Fact};
use layerpin_sample_registry::images::{Architecture, Component, Image, Index, Layer, MediaTypes, Packing};
use layerpin_sample_registry::{Fault, FaultPlan, Registry};
use serde_json::json;

use crate::support::{Asker, lines, nonsense, out_of_time, parse, password};

const OS: &str = "quay.io/ocp/os@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OS_10: &str = "quay.io/ocp/os@sha256:10123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde";

/// A release with two OS streams and some other components.
fn release() -> Image {
    Image::release_payload_of(
        "4.21.3",
        &[
            Component::new("cli", OS),
            Component::os("machine-os-content", OS, "rhel-9", "9.6.20260101-0"),
            Component::os("rhel-coreos", OS, "rhel-9", "9.6.20260101-0"),
            Component::os("rhel-coreos-10", OS_10, "rhel-10", "10.2.20260101-0"),
            Component::os("rhel-coreos-10-extensions", OS_10, "rhel-10", "10.2.20260101-0"),
        ],
    )
}

fn expected() -> Fact<Payload> {
    let os = |reference: &str, stream: &str, version: &str| OsImage {
        reference: parse(reference).into(),
        stream: Some(stream.to_owned()),
        os_version: Some(version.to_owned()),
    };
    Fact::Known(Payload {
        version: "4.21.3".into(),
        os_images: BTreeMap::from([
            ("rhel-coreos".into(), os(OS, "rhel-9", "9.6.20260101-0")),
            ("rhel-coreos-10".into(), os(OS_10, "rhel-10", "10.2.20260101-0")),
        ]),
    })
}

fn no_release(reason: &str) -> Fact<Payload> {
    Fact::Unknown(Cause::NotARelease { reason: reason.to_owned() })
}

fn last_layer(image: &Image) -> String {
    image.layers().last().unwrap().digest()
}

#[tokio::test]
async fn a_payload_is_read_from_its_last_layer_and_cached() {
    let registry = Registry::start().unwrap();
    let image = release();
    let pushed = registry.push("ocp/release", Some("4.21.3"), &image);
    let asker = Asker::anonymous();
    let reference = format!("{}/ocp/release@{pushed}", registry.host());
    assert_eq!(asker.payload(&reference).await, expected());
    assert_eq!(
        lines(&registry.requests()),
        [
            format!("GET /v2/ocp/release/manifests/{pushed} -"),
            format!("GET /v2/ocp/release/blobs/{} -", last_layer(&image)),
        ]
    );
    registry.clear_requests();
    assert_eq!(asker.payload(&reference).await, expected());
    assert_eq!(asker.too_late().payload(&reference).await, expected(), "what is known takes no time");
    assert_eq!(asker.payload(&format!("{}/ocp/release:4.21.3", registry.host())).await, expected());
    // A tag must be resolved, but the payload of its digest is cached.
    assert_eq!(lines(&registry.requests()), ["GET /v2/ocp/release/manifests/4.21.3 -"]);
}

#[tokio::test]
async fn every_compression_and_format_gives_the_same_answer() {
    let registry = Registry::start().unwrap();
    for packing in [Packing::Gzip, Packing::Zstd, Packing::Plain] {
        for media_types in [MediaTypes::Oci, MediaTypes::Docker] {
            let image = release().repacked(packing).with_media_types(media_types);
            let pushed = registry.push("ocp/release", None, &image);
            let reference = format!("{}/ocp/release@{pushed}", registry.host());
            assert_eq!(
                Asker::anonymous().payload(&reference).await,
                expected(),
                "{packing:?} {media_types:?}"
            );
        }
    }
}

#[tokio::test]
async fn of_several_platforms_amd64_is_read_or_else_the_first() {
    let registry = Registry::start().unwrap();
    let of = |architecture| release().with_architecture(architecture);
    for (architectures, read) in [
        (vec![Architecture::Arm64, Architecture::Amd64], Architecture::Amd64),
        (vec![Architecture::S390x, Architecture::Ppc64le], Architecture::S390x),
    ] {
        let images: Vec<_> = architectures.iter().copied().map(of).collect();
        let pushed = registry.push("ocp/release", None, &Index::of(&images));
        registry.clear_requests();
        let reference = format!("{}/ocp/release@{pushed}", registry.host());
        assert_eq!(Asker::anonymous().payload(&reference).await, expected());
        assert_eq!(
            lines(&registry.requests()),
            [
                format!("GET /v2/ocp/release/manifests/{pushed} -"),
                format!("GET /v2/ocp/release/manifests/{} -", of(read).digest()),
                format!("GET /v2/ocp/release/blobs/{} -", last_layer(&of(read))),
            ]
        );
    }
}

#[tokio::test]
async fn upper_layers_are_searched_first_and_can_remove_the_file() {
    let registry = Registry::start().unwrap();
    let none = || no_release("its layers do not have release-manifests/image-references");
    for (top, expected, blobs) in [
        ("etc/motd", expected(), 2),
        ("release-manifests/.wh.image-references", none(), 1),
        (".wh.release-manifests", none(), 1),
    ] {
        let image = release().with_layer(&[(top, b"")]);
        let pushed = registry.push("ocp/release", None, &image);
        registry.clear_requests();
        let reference = format!("{}/ocp/release@{pushed}", registry.host());
        assert_eq!(Asker::anonymous().payload(&reference).await, expected, "{top}");
        assert_eq!(registry.count("GET", "/blobs/"), blobs, "{top}");
    }
}

#[tokio::test]
async fn what_is_not_a_release_is_reported_and_cached() {
    let registry = Registry::start().unwrap();
    let base = Image::base("4.18.1");
    let tagged = Image::release_payload("4.18.1", &[("rhel-coreos", "quay.io/ocp/os:4.18")]);
    let broken = Image::scratch().with_layer(&[("release-manifests/image-references", b"{")]);
    let garbage = Image::scratch().with_layer_of(Layer::of_tar(&[b'x'; 2048], Packing::Gzip));
    let garbage_layer = Digest::parse(&last_layer(&garbage)).unwrap();
    for (image, reason) in [
        (base, "its layers do not have release-manifests/image-references".to_owned()),
        (Image::scratch(), "its layers do not have release-manifests/image-references".to_owned()),
        (tagged, "its tag `rhel-coreos` is `quay.io/ocp/os:4.18`, which has no digest".to_owned()),
        (
            broken,
            "its image-references cannot be parsed: EOF while parsing an object at line 1 column 1"
                .to_owned(),
        ),
        (
            garbage,
            format!(
                "its layer {} cannot be read: numeric field was not a number: xxxxxxxx when getting cksum for {}",
                garbage_layer.short(),
                "x".repeat(100)
            ),
        ),
    ] {
        let pushed = registry.push("acme/os", None, &image);
        let reference = format!("{}/acme/os@{pushed}", registry.host());
        let asker = Asker::anonymous();
        assert_eq!(asker.payload(&reference).await, no_release(&reason));
        registry.clear_requests();
        assert_eq!(asker.payload(&reference).await, no_release(&reason));
        assert_eq!(registry.requests().len(), 0);
    }
}

#[tokio::test]
async fn an_image_of_gigabytes_is_not_downloaded_to_find_a_release() {
    let registry = Registry::start().unwrap();
    let layer = |size: u64| json!({"digest": Digest::of(b"layer"), "size": size});
    let manifest = json!({
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(b"config"), "size": 2,
        },
        "layers": [layer(1), layer(128 * 1024 * 1024 + 1)],
    });
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let pushed = registry.push_manifest("acme/os", None, media_type, manifest.to_string());
    let reference = format!("{}/acme/os@{pushed}", registry.host());
    let reason = "the last 134217728 bytes of its layers do not have release-manifests/image-references; \
                  layer 2 of 2 exceeds them";
    assert_eq!(Asker::anonymous().payload(&reference).await, no_release(reason));
    assert_eq!(registry.count("GET", "/blobs/"), 0);
}

#[tokio::test]
async fn equal_concurrent_requests_are_sent_once() {
    let registry = Registry::start().unwrap();
    registry.push("ocp/release", Some("1"), &release());
    let asker = Asker::anonymous();
    let reference = format!("{}/ocp/release:1", registry.host());
    let answers = join_all((0..50).map(|_| asker.payload(&reference))).await;
    assert_eq!(answers, vec![expected(); 50]);
    assert_eq!(registry.requests().len(), 2);
}

#[tokio::test]
async fn reading_continues_when_its_first_caller_leaves() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    registry.push("ocp/release", Some("1"), &release());
    registry.set_fault(Fault::Latency(Duration::from_millis(300)));
    let asker = Asker::anonymous();
    let reference = format!("{host}/ocp/release:1");
    assert_eq!(asker.too_late().payload(&reference).await, out_of_time(&host));
    registry.requests_arrived(2).await.unwrap();
    assert_eq!(asker.payload(&reference).await, expected());
    assert_eq!(registry.requests().len(), 2);
}

#[tokio::test]
async fn a_layer_on_another_host_is_fetched_without_credentials() {
    let storage = Registry::start().unwrap();
    let registry = Registry::builder().basic_auth("alice", "s3cr3t-word").start().unwrap();
    let host = registry.host();
    let image = release();
    storage.push("ocp/release", None, &image);
    let pushed = registry.push("ocp/release", None, &image);
    registry.set_fault(Fault::RedirectTo(storage.base_url()).on("/blobs/"));
    let asker = Asker::with(&json!({(host.as_str()): password("alice", "s3cr3t-word")}));
    assert_eq!(asker.payload(&format!("{host}/ocp/release@{pushed}")).await, expected());
    let blob = format!("GET /v2/ocp/release/blobs/{} -", last_layer(&image));
    assert_eq!(lines(&storage.requests()), [blob]);
}

/// The answer for a payload with the faults of `plan`, and the answer after they are gone.
async fn under(plan: FaultPlan, patience: Patience) -> (Fact<Payload>, String) {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    registry.push("ocp/release", Some("1"), &release());
    registry.push("ocp/before", Some("1"), &release());
    // The client now knows that this port has no TLS, and sends one request.
    assert_eq!(Asker::anonymous().payload(&format!("{host}/ocp/before:1")).await, expected());
    registry.set_fault(plan.clone());
    let reference = format!("{host}/ocp/release:1");
    let answer = match patience {
        Patience::Enough => Asker::anonymous().payload(&reference).await,
        Patience::Little => Asker::anonymous().shortly().payload(&reference).await,
    };
    registry.clear_fault();
    assert_eq!(Asker::anonymous().payload(&reference).await, expected());
    (answer, host)
}

enum Patience {
    Enough,
    Little,
}

#[tokio::test]
async fn a_registry_that_hangs_costs_no_more_than_the_deadline() {
    let for_ever = Duration::from_secs(3600);
    for plan in
        [Fault::FreezeAfterHeaders.on("/blobs/"), Fault::SlowBody { bytes: 1, every: for_ever }.on("/blobs/")]
    {
        let (answer, host) = under(plan.clone(), Patience::Little).await;
        assert_eq!(answer, out_of_time(&host), "{plan:?}");
    }
}

#[tokio::test]
async fn every_fault_has_its_own_message() {
    let layer = Digest::parse(&last_layer(&release())).unwrap();
    let mut altered = release().layers().last().unwrap().blob().to_vec();
    let end = altered.len() - 1;
    altered[end] = if altered[end] == b'0' { b'1' } else { b'0' };
    let longer = format!("layer {} has more than the {} bytes in its manifest", layer.short(), altered.len());
    type Expected<'a> = &'a dyn Fn(&str) -> Fact<Payload>;
    let table: [(FaultPlan, Expected<'_>); 6] = [
        (Fault::Status(404).on("/manifests/"), &|_| Fact::Absent),
        (Fault::Status(404).on("/blobs/"), &|host| {
            nonsense(host, &format!("it has the manifest but not layer {}", layer.short()))
        }),
        (Fault::Status(500).on("/blobs/"), &|host| {
            Fact::Unknown(Cause::Status { host: host.to_owned(), status: 500 })
        }),
        (Fault::WrongBody.on("/blobs/"), &|host| {
            let (host, expected, found) = (host.to_owned(), layer.clone(), Digest::of(&altered));
            Fact::Unknown(Cause::DigestMismatch { host, expected, found })
        }),
        (Fault::EndlessBody.on("/blobs/"), &|host| nonsense(host, &longer)),
        (Fault::RedirectLoop.on("/blobs/"), &|host| nonsense(host, "more than 5 redirects")),
    ];
    for (plan, expected) in table {
        let (answer, host) = under(plan.clone(), Patience::Enough).await;
        assert_eq!(answer, expected(&host), "{plan:?}");
    }
}
