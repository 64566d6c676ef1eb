//! The format of manifests, indexes and configs.
//!
//! Owns which fields are read, and their limits. Both formats are read, OCI and schema 2 of Docker. `urls` of
//! descriptors are ignored: content comes only from the registry that was asked. Sources: the OCI image
//! specification (`manifest.md`, `image-index.md`, `config.md`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::bounded;
use crate::model::digest::Digest;
use crate::model::facts::ManifestKind;
use crate::model::facts::image::{HistoryStep, Platform};
use crate::text::shown;

/// A manifest or index with its digest.
#[derive(Debug)]
pub(crate) struct OciDocument {
    pub(crate) digest: Digest,
    pub(crate) content: OciContent,
    /// The size of the body in bytes.
    pub(crate) length: usize,
}

/// What a manifest or index lists.
#[derive(Debug)]
pub(crate) enum OciContent {
    Image(ImageManifest),
    Index(Vec<IndexEntry>),
}

/// The manifest of one image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageManifest {
    media_type: Option<String>,
    /// Only an index has any.
    manifests: Option<IgnoredAny>,
    pub(crate) config: Descriptor,
    #[serde(default, deserialize_with = "bounded::list::<MAX_LAYERS, _, _>")]
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default, deserialize_with = "bounded::map::<MAX_LABELS, _>")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// The reference to a blob.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// An image in an index. Attestations, signatures and other attachments are left out.
#[derive(Debug)]
pub(crate) struct IndexEntry {
    pub(crate) digest: Digest,
    /// `None` when the index does not have it.
    pub(crate) platform: Option<Platform>,
    /// Whether it is only for one variant of the architecture, which nodes do not pull.
    pub(crate) is_variant: bool,
}

/// The config of one image.
#[derive(Debug)]
pub(crate) struct ImageConfigFile {
    pub(crate) platform: Platform,
    pub(crate) diff_ids: Vec<Digest>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) history: Vec<HistoryStep>,
    pub(crate) created: Option<String>,
    /// The size of the body in bytes.
    pub(crate) length: usize,
}

impl OciContent {
    /// Parses a manifest of `kind`.
    pub(crate) fn parse(kind: ManifestKind, body: &[u8]) -> Result<Self, Unusable> {
        match kind {
            ManifestKind::Image => ImageManifest::read(body).map(Self::Image),
            ManifestKind::Index => IndexBody::read(body).map(Self::Index).map_err(Unusable::Wrong),
        }
    }
}

/// Why a manifest cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It does not follow the specification: a phrase about the response of the registry.
    Wrong(String),
    /// It is valid, but that of something else than an image: a phrase about that.
    NotAnImage(String),
}

impl From<String> for Unusable {
    fn from(wrong: String) -> Self {
        Self::Wrong(wrong)
    }
}

impl ImageConfigFile {
    /// Parses a config. Fails with what is wrong with it: a phrase about the response of the registry.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, String> {
        let parsed: ConfigBody = decode("config", body)?;
        let (os, architecture) = (parsed.os.unwrap_or_default(), parsed.architecture.unwrap_or_default());
        let platform = platform(&os, &architecture).ok_or_else(|| {
            format!("its config has the invalid platform `{}/{}`", shown(&os), shown(&architecture))
        })?;
        let history: Vec<HistoryStep> = parsed
            .history
            .into_iter()
            .map(|step| HistoryStep {
                created_by: step.created_by.unwrap_or_default(),
                created: step.created,
                comment: step.comment.unwrap_or_default(),
                empty_layer: step.empty_layer.unwrap_or_default(),
            })
            .collect();
        let labels = parsed.config.unwrap_or_default().labels;
        let of_step = |step: &HistoryStep| {
            step.created_by.len() + step.comment.len() + step.created.as_ref().map_or(0, String::len)
        };
        let bytes = history.iter().map(of_step).sum::<usize>() + length_of(&labels);
        if bytes > MAX_TEXT {
            return Err(format!(
                "the labels and the history of its config have {bytes} bytes, more than {MAX_TEXT}"
            ));
        }
        Ok(Self {
            platform,
            diff_ids: parsed.rootfs.diff_ids,
            labels,
            history,
            created: parsed.created.filter(|created| created.len() <= MAX_TEXT),
            length: body.len(),
        })
    }
}

impl ImageManifest {
    fn read(body: &[u8]) -> Result<Self, Unusable> {
        let parsed: Self = decode("manifest", body)?;
        // Two clients could read it as two different images (CVE-2021-41190).
        if parsed.manifests.is_some() {
            return Err("its manifest is that of an image and of an index at once".to_owned().into());
        }
        check_media_type(parsed.media_type.as_deref(), ManifestKind::Image)?;
        if !CONFIGS.contains(&parsed.config.media_type.as_str()) {
            let media_type = shown(&parsed.config.media_type);
            return Err(Unusable::NotAnImage(format!("its config has type `{media_type}`")));
        }
        let bytes = length_of(&parsed.annotations);
        if bytes > MAX_TEXT {
            let wrong = format!("the annotations of its manifest have {bytes} bytes, more than {MAX_TEXT}");
            return Err(wrong.into());
        }
        Ok(parsed)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexBody {
    media_type: Option<String>,
    #[serde(default, deserialize_with = "bounded::list::<MAX_ENTRIES, _, _>")]
    manifests: Vec<EntryBody>,
    layers: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryBody {
    digest: Digest,
    platform: Option<PlatformBody>,
    artifact_type: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "bounded::map::<MAX_LABELS, _>")]
    annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PlatformBody {
    os: String,
    architecture: String,
    variant: String,
}

impl IndexBody {
    fn read(body: &[u8]) -> Result<Vec<IndexEntry>, String> {
        let parsed: Self = decode("index", body)?;
        if parsed.layers.is_some() || parsed.config.is_some() {
            return Err("its manifest is that of an image and of an index at once".to_owned());
        }
        check_media_type(parsed.media_type.as_deref(), ManifestKind::Index)?;
        Ok(parsed.manifests.into_iter().filter_map(EntryBody::image).collect())
    }
}

impl EntryBody {
    /// The entry. `None` when it is not that of a `linux` image.
    fn image(self) -> Option<IndexEntry> {
        let is_attachment = self.artifact_type.is_some() || self.annotations.contains_key(ATTACHED_TO);
        if is_attachment {
            return None;
        }
        let Some(PlatformBody { os, architecture, variant }) = self.platform else {
            return Some(IndexEntry { digest: self.digest, platform: None, is_variant: false });
        };
        // `unknown/unknown` is used for attachments.
        let platform = platform(&os, &architecture).filter(|platform| platform.os() == "linux")?;
        // All 64-bit ARM nodes have this variant.
        let is_usual = variant.is_empty() || (architecture == "arm64" && variant == "v8");
        Some(IndexEntry { digest: self.digest, platform: Some(platform), is_variant: !is_usual })
    }
}

#[derive(Deserialize)]
struct ConfigBody {
    os: Option<String>,
    architecture: Option<String>,
    created: Option<String>,
    config: Option<ContainerConfig>,
    rootfs: RootFilesystem,
    #[serde(default, deserialize_with = "bounded::list::<MAX_HISTORY, _, _>")]
    history: Vec<HistoryBody>,
}

#[derive(Default, Deserialize)]
struct ContainerConfig {
    #[serde(rename = "Labels", default, deserialize_with = "bounded::map::<MAX_LABELS, _>")]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RootFilesystem {
    #[serde(default, deserialize_with = "bounded::list::<MAX_LAYERS, _, _>")]
    diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct HistoryBody {
    created_by: Option<String>,
    created: Option<String>,
    comment: Option<String>,
    empty_layer: Option<bool>,
}

fn decode<'de, T: Deserialize<'de>>(what: &str, body: &'de [u8]) -> Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let decoded = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { String::new() } else { format!(" at {}", shown(&path)) };
        format!("its {what} cannot be parsed{place}: {}", shown(&error.inner().to_string()))
    })?;
    match deserializer.end() {
        Ok(()) => Ok(decoded),
        Err(error) => Err(format!("its {what} cannot be parsed: {error}")),
    }
}

/// Checks that the kind in the body is that in the header (OCI image specification).
fn check_media_type(media_type: Option<&str>, kind: ManifestKind) -> Result<(), String> {
    match media_type.filter(|media_type| !media_type.is_empty()) {
        Some(media_type) if manifest_kind(media_type) != Some(kind) => Err(format!(
            "its manifest has `mediaType` `{}`, but the header has another kind",
            shown(media_type)
        )),
        _ => Ok(()),
    }
}

/// The kind of manifest with this media type.
pub(crate) fn manifest_kind(media_type: &str) -> Option<ManifestKind> {
    match media_type {
        "application/vnd.oci.image.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v2+json" => Some(ManifestKind::Image),
        "application/vnd.oci.image.index.v1+json"
        | "application/vnd.docker.distribution.manifest.list.v2+json" => Some(ManifestKind::Index),
        _ => None,
    }
}

/// The kind of manifest, from its `mediaType` or from the fields that only one kind has. For registries that do not
/// send it.
pub(crate) fn media_type_in(body: &[u8]) -> Option<ManifestKind> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct MediaTypeBody {
        media_type: Option<String>,
        manifests: Option<IgnoredAny>,
        layers: Option<IgnoredAny>,
    }
    let document: MediaTypeBody = serde_json::from_slice(body).ok()?;
    match (document.media_type, document.manifests, document.layers) {
        (Some(media_type), _, _) => manifest_kind(&media_type),
        (None, Some(_), None) => Some(ManifestKind::Index),
        (None, None, Some(_)) => Some(ManifestKind::Image),
        _ => None,
    }
}

/// A platform of two words, as in Go.
fn platform(os: &str, architecture: &str) -> Option<Platform> {
    let is_word = |text: &str| {
        !text.is_empty()
            && text.len() <= MAX_PLATFORM_WORD
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    };
    (is_word(os) && is_word(architecture)).then(|| Platform::new(os, architecture))
}

fn length_of(strings: &BTreeMap<String, String>) -> usize {
    strings.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// Nodes refuse more: an overlay file system has at most 500 layers (`containers/storage`).
const MAX_LAYERS: usize = 500;
/// Some builds have many steps without a layer, but not more than these for each layer.
const MAX_HISTORY: usize = 4 * MAX_LAYERS;
/// The largest indexes have some dozens, including the attestation of each image.
const MAX_ENTRIES: usize = 128;
/// Images have some tens.
const MAX_LABELS: usize = 1000;
/// Labels and history of an image have some kilobytes. They are kept in memory and written to facts files.
const MAX_TEXT: usize = 512 * 1024;
const MAX_PLATFORM_WORD: usize = 32;
/// Marks the attachments of BuildKit.
const ATTACHED_TO: &str = "vnd.docker.reference.type";
/// The media types that `containers/image` accepts as configs of images.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

    /// The reason without the column, which depends on how the case is written.
    fn reason(outcome: Result<impl fmt::Debug, String>) -> String {
        without_column(&outcome.unwrap_err())
    }

    fn without_column(reason: &str) -> String {
        reason.split(" at line ").next().unwrap_or_default().to_owned()
    }

    fn manifest(members: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{CONFIG}","digest":"{DIGEST}","size":2}},{members}}}"#
        )
    }

    fn layers(count: usize) -> String {
        let layer = format!(r#"{{"digest":"{DIGEST}","size":1,"urls":["https://elsewhere.example/"]}}"#);
        format!(r#""layers":[{}]"#, vec![layer; count].join(","))
    }

    #[test]
    fn a_manifest_with_two_meanings_is_refused() {
        let both = "its manifest is that of an image and of an index at once";
        let other = |media_type: &str| {
            format!("its manifest has `mediaType` `{media_type}`, but the header has another kind")
        };
        let index = "application/vnd.oci.image.index.v1+json";
        let single = "application/vnd.docker.distribution.manifest.v2+json";
        for (kind, body, expected) in [
            (ManifestKind::Image, manifest(r#""layers":[],"manifests":[]"#), both.to_owned()),
            (ManifestKind::Image, manifest(&format!(r#""mediaType":"{index}""#)), other(index)),
            (ManifestKind::Index, r#"{"manifests":[],"layers":[]}"#.to_owned(), both.to_owned()),
            (ManifestKind::Index, r#"{"manifests":[],"config":{}}"#.to_owned(), both.to_owned()),
            (ManifestKind::Index, format!(r#"{{"manifests":[],"mediaType":"{single}"}}"#), other(single)),
        ] {
            let unusable = OciContent::parse(kind, body.as_bytes()).unwrap_err();
            assert_eq!(unusable, Unusable::Wrong(expected), "{body}");
        }
    }

    #[test]
    fn errors_name_the_field() {
        let wrong_size = manifest(&format!(r#""layers":[{{"digest":"{DIGEST}","size":-1}}]"#));
        let artifact = manifest("\"layers\":[]").replace(CONFIG, "application/vnd.oci.empty.v1+json");
        for (body, expected) in [
            ("<html>".to_owned(), "its manifest cannot be parsed: expected value"),
            (manifest("\"layers\":[]") + "{}", "its manifest cannot be parsed: trailing characters"),
            (
                wrong_size,
                "its manifest cannot be parsed at layers[0].size: invalid value: integer `-1`, expected u64",
            ),
            (manifest(&layers(501)), "its manifest cannot be parsed at layers: more than 500 entries"),
        ] {
            let Err(Unusable::Wrong(wrong)) = OciContent::parse(ManifestKind::Image, body.as_bytes()) else {
                panic!("{body}");
            };
            assert_eq!(without_column(&wrong), expected);
        }
        assert_eq!(
            OciContent::parse(ManifestKind::Image, artifact.as_bytes()).unwrap_err(),
            Unusable::NotAnImage("its config has type `application/vnd.oci.empty.v1+json`".to_owned())
        );
    }

    #[test]
    fn five_hundred_layers_are_accepted() {
        let Ok(OciContent::Image(image)) =
            OciContent::parse(ManifestKind::Image, manifest(&layers(500)).as_bytes())
        else {
            panic!("no image");
        };
        assert_eq!(image.layers.len(), 500);
    }

    #[test]
    fn attachments_and_other_operating_systems_are_left_out() {
        let entry = |tail: &str| format!(r#"{{"digest":"{DIGEST}","size":1{tail}}}"#);
        let platform = |os: &str, architecture: &str, more: &str| {
            entry(&format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"{more}}}"#))
        };
        let found = |entry: &str| {
            let body = format!(r#"{{"manifests":[{entry}]}}"#);
            match OciContent::parse(ManifestKind::Index, body.as_bytes()).unwrap() {
                OciContent::Index(entries) => entries.into_iter().next().map(|entry| {
                    (
                        entry.platform.map_or("none".to_owned(), |platform| platform.to_string()),
                        entry.is_variant,
                    )
                }),
                OciContent::Image(_) => panic!("an index is not an image"),
            }
        };
        let some = |platform: &str, is_variant| Some((platform.to_owned(), is_variant));
        for (entry, expected) in [
            (platform("linux", "amd64", ""), some("linux/amd64", false)),
            (platform("linux", "arm64", r#","variant":"v8""#), some("linux/arm64", false)),
            (platform("linux", "amd64", r#","variant":"v3""#), some("linux/amd64", true)),
            (entry(""), some("none", false)),
            (entry(r#","platform":null"#), some("none", false)),
            (entry(r#","artifactType":"application/spdx+json""#), None),
            (platform("unknown", "unknown", ""), None),
            (platform("windows", "amd64", ""), None),
            (platform("linux", "a/b", ""), None),
            (
                platform("linux", "amd64", r#","variant":"""#).replace(
                    r#""size":1"#,
                    r#""size":1,"annotations":{"vnd.docker.reference.type":"attestation-manifest"}"#,
                ),
                None,
            ),
        ] {
            assert_eq!(found(&entry), expected, "{entry}");
        }
    }

    #[test]
    fn fields_that_go_leaves_out_are_optional() {
        let config = ImageConfigFile::parse(
            br#"{"os":"linux","architecture":"arm64","config":{"Labels":null},"rootfs":{"diff_ids":null},"history":null}"#,
        )
        .unwrap();
        assert_eq!(config.platform, Platform::of_node("arm64"));
        assert_eq!((config.diff_ids.len(), config.labels.len(), config.history.len()), (0, 0, 0));
        assert!(ImageConfigFile::parse(br#"{"os":"linux","architecture":"arm64","rootfs":{}}"#).is_ok());
    }

    #[test]
    fn a_config_is_refused_with_the_reason() {
        let long = "x".repeat(MAX_TEXT + 1);
        let labels: Vec<_> = (0..=MAX_LABELS).map(|index| format!(r#""{index}":"""#)).collect();
        for (body, expected) in [
            ("{}".to_owned(), "its config cannot be parsed: missing field `rootfs`".to_owned()),
            (
                r#"{"os":"linux","architecture":"a/b","rootfs":{}}"#.to_owned(),
                "its config has the invalid platform `linux/a/b`".to_owned(),
            ),
            (r#"{"rootfs":{}}"#.to_owned(), "its config has the invalid platform `/`".to_owned()),
            (
                format!(
                    r#"{{"os":"linux","architecture":"amd64","rootfs":{{}},"history":[{{"created_by":"{long}"}}]}}"#
                ),
                "the labels and the history of its config have 524289 bytes, more than 524288".to_owned(),
            ),
            (
                format!(r#"{{"config":{{"Labels":{{{}}}}}}}"#, labels.join(",")),
                "its config cannot be parsed at config.Labels: more than 1000 entries".to_owned(),
            ),
        ] {
            assert_eq!(reason(ImageConfigFile::parse(body.as_bytes())), expected);
        }
    }
}
