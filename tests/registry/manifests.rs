//! The manifest of a reference, and the number of requests for it.

use layerpin::model::digest::Digest;
use layerpin::model::facts::{Cause, Fact, ManifestKind};
use layerpin_sample_registry::images::{
    Architecture, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, Image, Index, MediaTypes, OCI_INDEX, OCI_MANIFEST,
};
use layerpin_sample_registry::{Fault, FaultPlan, Registry};
use layerpin_test_support::os_registry::OsRegistry;

use crate::support::{Asker, image, known, lines, nonsense};

#[tokio::test]
async fn head_is_enough_for_every_kind_of_manifest() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let base = |media_types| Image::base("4.18.1").with_media_types(media_types);
    let index = |media_types| {
        let arm64 = Image::base_for("4.18.1", Architecture::Arm64).with_media_types(media_types);
        Index::of([&base(media_types), &arm64]).with_media_types(media_types)
    };
    use ManifestKind::{Image as Single, Index as List};
    let (oci, docker) = (MediaTypes::Oci, MediaTypes::Docker);
    for (kind, media_type, repository, digest) in [
        (Single, OCI_MANIFEST, "acme/a", registry.push("acme/a", Some("latest"), &base(oci))),
        (Single, DOCKER_MANIFEST, "acme/b", registry.push("acme/b", Some("latest"), &base(docker))),
        (List, OCI_INDEX, "acme/c", registry.push("acme/c", Some("latest"), &index(oci))),
        (List, DOCKER_MANIFEST_LIST, "acme/d", registry.push("acme/d", Some("latest"), &index(docker))),
    ] {
        let repository_path = format!("{host}/{repository}");
        for (reference, asked) in [
            (format!("{repository_path}:latest"), "latest"),
            (repository_path.clone(), "latest"),
            (format!("{repository_path}@{digest}"), digest.as_str()),
            (format!("{repository_path}:other@{digest}"), digest.as_str()),
        ] {
            registry.clear_requests();
            let answer = Asker::anonymous().ask(&reference).await;
            assert_eq!(answer, known(&digest, kind, &host), "{media_type}: {reference}");
            let requests = registry.requests();
            let expected = format!("HEAD /v2/{repository}/manifests/{asked} -");
            assert_eq!(lines(&requests), [expected], "{reference}");
            let accepted: Vec<_> = requests[0].header("accept").unwrap().split(", ").collect();
            assert_eq!(accepted, [OCI_INDEX, DOCKER_MANIFEST_LIST, OCI_MANIFEST, DOCKER_MANIFEST]);
        }
    }
}

#[tokio::test]
async fn a_manifest_that_the_registry_does_not_have_is_absent() {
    let OsRegistry { registry, host, .. } = OsRegistry::start();
    let other = Digest::of(b"another");
    let asker = Asker::anonymous();
    for reference in
        [format!("{host}/acme/os:2"), format!("{host}/acme/os@{other}"), format!("{host}/acme/other:1")]
    {
        registry.clear_requests();
        assert_eq!(asker.ask(&reference).await, Fact::Absent, "{reference}");
        assert_eq!(registry.requests().len(), 1, "{reference}");
    }
}

#[tokio::test]
async fn the_body_is_fetched_where_head_is_not_enough() {
    let OsRegistry { registry, host, digest } = OsRegistry::start();
    for fault in [
        FaultPlan::from(Fault::NoHead),
        FaultPlan::from(Fault::HeadWithoutDigest),
        FaultPlan::from(Fault::NoDigestHeader),
        // The answers of registries without HEAD.
        Fault::Status(400).times(1),
        Fault::Status(406).times(1),
        Fault::Status(501).times(1),
    ] {
        for reference in [format!("{host}/acme/os:1"), format!("{host}/acme/os@{digest}")] {
            let what = reference.rsplit(['@', '/']).next().unwrap().trim_start_matches("os:").to_owned();
            registry.clear_requests();
            registry.set_fault(fault.clone());
            assert_eq!(Asker::anonymous().ask(&reference).await, image(&digest, &host), "{fault:?}");
            let path = format!("/v2/acme/os/manifests/{what} -");
            assert_eq!(
                lines(&registry.requests()),
                [format!("HEAD {path}"), format!("GET {path}")],
                "{fault:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_kind_is_taken_from_the_body_where_the_header_does_not_have_it() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let unknown_kind = "neither its Content-Type nor its body has the kind of manifest";
    let list = r#"{"schemaVersion":2,"manifests":[]}"#;
    let single = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
    let typed = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#);
    let both = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
    let artifact = r#"{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","layers":[]}"#;
    for (body, kind) in [
        (list, Some(ManifestKind::Index)),
        (single, Some(ManifestKind::Image)),
        (typed.as_str(), Some(ManifestKind::Index)),
        (both, None),
        (artifact, None),
        ("{}", None),
        ("<html>", None),
    ] {
        let digest = registry.push_manifest("acme/os", Some("1"), "application/json", body.to_owned());
        registry.clear_requests();
        let expected = match kind {
            Some(kind) => known(&digest, kind, &host),
            None => nonsense(&host, unknown_kind),
        };
        assert_eq!(Asker::anonymous().ask(&format!("{host}/acme/os:1")).await, expected, "{body}");
        let path = "/v2/acme/os/manifests/1 -";
        assert_eq!(lines(&registry.requests()), [format!("HEAD {path}"), format!("GET {path}")], "{body}");
    }
}

#[tokio::test]
async fn a_media_type_can_have_parameters() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let media_type = format!("{OCI_MANIFEST}; charset=utf-8");
    let digest = registry.push_manifest("acme/os", Some("1"), &media_type, "{}");
    assert_eq!(Asker::anonymous().ask(&format!("{host}/acme/os:1")).await, image(&digest, &host));
    assert_eq!(registry.requests().len(), 1);
}

#[tokio::test]
async fn a_body_with_a_wrong_digest_is_detected() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let manifest = Image::base("4.18.1").manifest();
    let digest = registry.push_manifest("acme/os", Some("1"), "application/json", manifest.clone());
    registry.set_fault(Fault::WrongBody);
    let text = String::from_utf8(manifest.to_vec()).unwrap();
    let at = text.find("sha256:").unwrap() + "sha256:".len();
    let altered = if &text[at..=at] == "0" { "1" } else { "0" };
    let found = Digest::of(format!("{}{altered}{}", &text[..at], &text[at + 1..]).as_bytes());
    let expected = Fact::Unknown(Cause::DigestMismatch {
        host: host.clone(),
        expected: Digest::parse(&digest).unwrap(),
        found,
    });
    for reference in [format!("{host}/acme/os:1"), format!("{host}/acme/os@{digest}")] {
        assert_eq!(Asker::anonymous().ask(&reference).await, expected, "{reference}");
    }
}

#[tokio::test]
async fn a_wrong_digest_in_the_response_to_head_is_detected() {
    let OsRegistry { registry, host, digest } = OsRegistry::start();
    registry.set_fault(Fault::WrongDigest);
    let wrong = Digest::of(b"another manifest");
    let by_digest = Asker::anonymous().ask(&format!("{host}/acme/os@{digest}")).await;
    let expected = Digest::parse(&digest).unwrap();
    let mismatch = Cause::DigestMismatch { host: host.clone(), expected, found: wrong.clone() };
    assert_eq!(by_digest, Fact::Unknown(mismatch));
    // For a tag, the digest in the header cannot be checked. It is checked when the pinned image is read.
    let by_tag = Asker::anonymous().ask(&format!("{host}/acme/os:1")).await;
    assert_eq!(by_tag, image(wrong.as_str(), &host));
    assert_eq!(Asker::anonymous().ask(&format!("{host}/acme/os@{wrong}")).await, Fact::Absent);
}

#[tokio::test]
async fn an_invalid_digest_header_is_reported_without_its_text() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    registry.set_fault(Fault::StatusWithHeader(
        200,
        "Docker-Content-Digest".into(),
        "c2VjcmV0:c2VjcmV0".into(),
    ));
    let answer = Asker::anonymous().ask(&format!("{host}/acme/os:1")).await;
    assert_eq!(answer, nonsense(&host, "its Docker-Content-Digest is not a valid digest"));
}
