//! `release-manifests/image-references` of a release payload: bytes to the operating system images of the release.
//!
//! It is an ImageStream (`image.openshift.io/v1`) with a tag for each component of the release. Which tags are
//! operating systems follows the filter of the machine-config-operator
//! (`pkg/osimagestream/imagestream_source.go`), with the tags of OKD releases in addition.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::Deserializer;

use crate::bounded;
use crate::model::facts::image::{OsImage, Payload};
use crate::model::image_reference::ImageReference;
use crate::text::shown;

/// Parses the ImageStream. Fails with why it is not that of a release: a phrase about the payload.
pub(crate) fn parse(text: &[u8]) -> Result<Payload, String> {
    let stream: ImageStream = serde_json::from_slice(text)
        .map_err(|error| format!("its image-references cannot be parsed: {}", shown(&error.to_string())))?;
    if stream.kind != KIND {
        return Err(format!("its image-references have kind `{}`, not {KIND}", shown(&stream.kind)));
    }
    let version = stream.metadata.name;
    if version.is_empty() {
        return Err("its image-references have no version (metadata.name)".to_owned());
    }
    let mut os_images = BTreeMap::new();
    for tag in stream.spec.tags {
        // The first of several with the same name is used (`oc adm release info --image-for`).
        if os_images.contains_key(&tag.name) {
            continue;
        }
        let name = tag.name;
        let written = tag.from.name.unwrap_or_default();
        let reference = ImageReference::parse(&written).map_err(|error| {
            format!("the image of its tag `{}` is not a valid image reference: {error}", shown(&name))
        })?;
        if !reference.is_pinned() {
            return Err(format!("its tag `{}` is `{reference}`, which has no digest", shown(&name)));
        }
        let annotations = tag.annotations.unwrap_or_default();
        let os_version = annotations.versions.as_deref().and_then(os_version);
        let stream = annotations.stream.filter(|stream| !stream.is_empty());
        os_images.insert(name, OsImage { reference, stream, os_version });
    }
    Ok(Payload { version, os_images })
}

#[derive(Deserialize)]
struct ImageStream {
    kind: String,
    metadata: ImageStreamMetadata,
    spec: ImageStreamSpec,
}

#[derive(Deserialize)]
struct ImageStreamMetadata {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct ImageStreamSpec {
    #[serde(default, deserialize_with = "os_tags")]
    tags: Vec<ImageStreamTag>,
}

#[derive(Deserialize)]
struct ImageStreamTag {
    name: String,
    annotations: Option<ImageStreamAnnotations>,
    #[serde(default)]
    from: TagSource,
}

#[derive(Default, Deserialize)]
struct TagSource {
    kind: Option<String>,
    name: Option<String>,
}

#[derive(Default, Deserialize)]
struct ImageStreamAnnotations {
    #[serde(rename = "io.openshift.build.source-location")]
    source: Option<String>,
    #[serde(rename = "io.openshift.build.versions")]
    versions: Option<String>,
    #[serde(rename = "io.openshift.os.streamclass")]
    stream: Option<String>,
}

/// The tags of operating systems. The hundreds of other tags are not kept.
fn os_tags<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ImageStreamTag>, D::Error> {
    let mut tags = Vec::new();
    bounded::each_item(deserializer, |tag: ImageStreamTag| {
        tags.extend(Some(tag).filter(ImageStreamTag::is_of_os));
        Ok(())
    })?;
    Ok(tags)
}

impl ImageStreamTag {
    fn is_of_os(&self) -> bool {
        let source = self.annotations.as_ref().and_then(|annotations| annotations.source.as_deref());
        self.from.kind.as_deref() == Some("DockerImage")
            && self.name != NOT_BOOTABLE
            && !self.name.contains("-extensions")
            && (is_os_name(&self.name) || source.is_some_and(is_os_source))
    }
}

/// `rhel-coreos`, `rhel-coreos-8`, `rhel-9-coreos`, `stream-coreos`, `fedora-coreos`,
/// `centos-stream-coreos-9` and similar names.
fn is_os_name(name: &str) -> bool {
    let is_plain =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    let Some((before, after)) = name.split_once("-coreos") else { return false };
    FAMILIES.iter().any(|family| before.starts_with(family)) && is_plain(before) && is_plain(after)
}

/// Whether a source is `github.com/openshift/os`, and not a repository whose name only starts with it.
fn is_os_source(source: &str) -> bool {
    let Some((_, rest)) = source.split_once(SOURCE) else { return false };
    rest.is_empty() || rest.starts_with(['/', '?', '#']) || rest == ".git"
}

/// The version in `machine-os=9.6.20251201-1,kernel=…`.
fn os_version(versions: &str) -> Option<String> {
    let mut versions = versions.split(',').filter_map(|entry| entry.trim().split_once('='));
    let version = versions.find(|(name, _)| *name == "machine-os").map(|(_, version)| version.trim());
    version.filter(|version| !version.is_empty()).map(str::to_owned)
}

const KIND: &str = "ImageStream";
/// The operating system of releases before 4.12, which is not a bootable container.
const NOT_BOOTABLE: &str = "machine-os-content";
const FAMILIES: [&str; 4] = ["rhel", "stream", "fedora", "centos-stream"];
const SOURCE: &str = "github.com/openshift/os";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn image() -> String {
        format!("quay.io/ocp/os@{DIGEST}")
    }

    fn stream(tags: Value) -> Vec<u8> {
        let stream = json!({
            "kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
            "metadata": {"name": "4.18.14"}, "spec": {"lookupPolicy": {"local": false}, "tags": tags},
        });
        serde_json::to_vec(&stream).unwrap()
    }

    fn tag(name: &str, annotations: Value) -> Value {
        json!({"name": name, "annotations": annotations, "from": {"kind": "DockerImage", "name": image()}})
    }

    #[test]
    fn operating_systems_of_every_release_are_found_by_name() {
        for (name, expected) in [
            ("rhel-coreos-8", true),
            ("rhel-coreos", true),
            ("rhel-coreos-10", true),
            ("rhel-9.6-coreos", true),
            ("stream-coreos", true),
            ("fedora-coreos", true),
            ("centos-stream-coreos-9", true),
            ("rhel-coreos-extensions", false),
            ("rhel-coreos-8-extensions", false),
            ("rhel-coreos-10-extensions", false),
            ("stream-coreos-extensions", false),
            ("machine-os-content", false),
            ("machine-os-images", false),
            ("coreos-installer", false),
            ("cli", false),
            ("rhel-coreos_x", false),
        ] {
            let payload = parse(&stream(json!([tag(name, Value::Null)]))).unwrap();
            assert_eq!(payload.os_images.contains_key(name), expected, "{name}");
        }
    }

    #[test]
    fn operating_systems_are_also_found_by_source() {
        for (name, source, expected) in [
            ("new-os", "https://github.com/openshift/os", true),
            ("new-os", "https://github.com/openshift/os.git", true),
            ("new-os", "https://github.com/openshift/os/tree/master", true),
            ("new-os", "https://github.com/openshift/osin", false),
            ("machine-os-content", "https://github.com/openshift/os", false),
            ("new-os-extensions", "https://github.com/openshift/os", false),
        ] {
            let annotations = json!({"io.openshift.build.source-location": source});
            let payload = parse(&stream(json!([tag(name, annotations)]))).unwrap();
            assert_eq!(payload.os_images.contains_key(name), expected, "{name} {source}");
        }
    }

    #[test]
    fn stream_and_version_are_taken_from_the_annotations() {
        let annotations = json!({
            "io.openshift.os.streamclass": "rhel-10",
            "io.openshift.build.versions": "kernel=6.12, machine-os=10.2.20260101-0",
            "io.openshift.build.commit.id": "2b6ac09e",
        });
        let payload = parse(&stream(json!([
            tag("rhel-coreos", json!({})),
            tag("rhel-coreos-10", annotations),
            {"name": "rhel-coreos-10", "from": {"kind": "DockerImage", "name": "quay.io/other@sha256:nothing"}},
            {"name": "rhel-coreos-9", "from": {"kind": "ImageStreamTag", "name": "rhel-coreos:9"}},
            {"name": "rhel-coreos-8"},
        ])))
        .unwrap();
        let os = |stream: Option<&str>, version: Option<&str>| OsImage {
            reference: ImageReference::parse(&image()).unwrap(),
            stream: stream.map(str::to_owned),
            os_version: version.map(str::to_owned),
        };
        let expected = Payload {
            version: "4.18.14".into(),
            os_images: BTreeMap::from([
                ("rhel-coreos".into(), os(None, None)),
                ("rhel-coreos-10".into(), os(Some("rhel-10"), Some("10.2.20260101-0"))),
            ]),
        };
        assert_eq!(payload, expected);
    }

    #[test]
    fn what_is_not_a_list_of_images_is_refused_with_the_reason() {
        let tagged =
            json!([{"name": "rhel-coreos", "from": {"kind": "DockerImage", "name": "quay.io/os:1"}}]);
        let short = json!([{"name": "rhel-coreos", "from": {"kind": "DockerImage", "name": "os:1"}}]);
        let nameless = json!({"kind": "ImageStream", "metadata": {}, "spec": {}});
        let other = json!({"kind": "ConfigMap", "metadata": {"name": "x"}, "spec": {}});
        for (text, expected) in [
            (b"<html>".to_vec(), "its image-references cannot be parsed: expected value at line 1 column 1"),
            (serde_json::to_vec(&nameless).unwrap(), "its image-references have no version (metadata.name)"),
            (
                serde_json::to_vec(&other).unwrap(),
                "its image-references have kind `ConfigMap`, not ImageStream",
            ),
            (stream(tagged), "its tag `rhel-coreos` is `quay.io/os:1`, which has no digest"),
            (
                stream(short),
                "the image of its tag `rhel-coreos` is not a valid image reference: `os:1` names no registry; there is no default one",
            ),
        ] {
            assert_eq!(parse(&text), Err(expected.to_owned()));
        }
    }
}
