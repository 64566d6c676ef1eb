//! Manifests, indexes and configs as bytes from a registry; pure.
//!
//! Owns what of them is read and how much of it is borne. Both families are read, OCI and Docker's
//! schema 2. `urls` of descriptors are not even looked at: content comes from the registry that was
//! asked, or not at all. Sources: the OCI image specification (`manifest.md`, `image-index.md`,
//! `config.md`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::bounded::{BoundedList, BoundedMap};
use crate::model::digest::Digest;
use crate::model::facts::ManifestKind;
use crate::model::facts::image::{HistoryStep, Platform};
use crate::text::shown;

/// A manifest that was read.
#[derive(Debug)]
pub(crate) struct OciDocument {
    pub(crate) digest: Digest,
    pub(crate) content: OciContent,
    /// The bytes of the body.
    pub(crate) length: usize,
}

/// What a manifest lists.
#[derive(Debug)]
pub(crate) enum OciContent {
    Image(ImageManifest),
    Index(Vec<IndexEntry>),
}

/// The manifest of one image.
#[derive(Debug)]
pub(crate) struct ImageManifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What names a blob.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// An image that an index lists. Attestations, signatures and other attachments are none.
#[derive(Debug)]
pub(crate) struct IndexEntry {
    pub(crate) digest: Digest,
    /// Where it runs, if the index says.
    pub(crate) platform: Option<Platform>,
    /// Whether it is for one variant of the architecture only, which a node would not ask for.
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
    /// The bytes of the body.
    pub(crate) length: usize,
}

impl OciContent {
    /// Reads a manifest of `kind`.
    pub(crate) fn parse(kind: ManifestKind, body: &[u8]) -> Result<Self, Unusable> {
        match kind {
            ManifestKind::Image => ManifestBody::read(body).map(Self::Image),
            ManifestKind::Index => IndexBody::read(body).map(Self::Index).map_err(Unusable::Wrong),
        }
    }
}

/// Why a manifest is of no use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It is not what the protocol promises: a phrase about the registry's answer.
    Wrong(String),
    /// It is sound, and of something else than an image: a phrase about that.
    NotAnImage(String),
}

impl From<String> for Unusable {
    fn from(wrong: String) -> Self {
        Self::Wrong(wrong)
    }
}

impl ImageConfigFile {
    /// Reads a config. Fails with what is wrong with it: a phrase about the registry's answer.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, String> {
        let parsed: ConfigBody = decode("config", body)?;
        let (os, architecture) = (parsed.os.unwrap_or_default(), parsed.architecture.unwrap_or_default());
        let platform = platform(&os, &architecture).ok_or_else(|| {
            format!("its config names the platform `{}/{}`, which is none", shown(&os), shown(&architecture))
        })?;
        let history: Vec<HistoryStep> = parsed
            .history
            .0
            .into_iter()
            .map(|step| HistoryStep {
                created_by: step.created_by.unwrap_or_default(),
                created: step.created,
                comment: step.comment.unwrap_or_default(),
                empty_layer: step.empty_layer.unwrap_or_default(),
            })
            .collect();
        let labels = parsed.config.unwrap_or_default().labels.0;
        let of_step = |step: &HistoryStep| {
            step.created_by.len() + step.comment.len() + step.created.as_ref().map_or(0, String::len)
        };
        let words = history.iter().map(of_step).sum::<usize>() + length_of(&labels);
        if words > MAX_WORDS {
            return Err(format!(
                "the labels and the history of its config have {words} bytes; {MAX_WORDS} are read"
            ));
        }
        Ok(Self {
            platform,
            diff_ids: parsed.rootfs.diff_ids.0,
            labels,
            history,
            created: parsed.created.filter(|created| created.len() <= MAX_WORDS),
            length: body.len(),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestBody {
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    config: Descriptor,
    #[serde(default)]
    layers: BoundedList<Descriptor, MAX_LAYERS>,
    #[serde(default)]
    annotations: StringMap,
}

impl ManifestBody {
    fn read(body: &[u8]) -> Result<ImageManifest, Unusable> {
        let parsed: Self = decode("manifest", body)?;
        // Two readers could see two images in it (CVE-2021-41190).
        if parsed.manifests.is_some() {
            return Err("its manifest is one of an image and an index at once".to_owned().into());
        }
        agrees(parsed.media_type.as_deref(), ManifestKind::Image)?;
        if !CONFIGS.contains(&parsed.config.media_type.as_str()) {
            let media_type = shown(&parsed.config.media_type);
            return Err(Unusable::NotAnImage(format!("its config is of type `{media_type}`")));
        }
        let words = length_of(&parsed.annotations.0);
        if words > MAX_WORDS {
            let wrong = format!("the annotations of its manifest have {words} bytes; {MAX_WORDS} are read");
            return Err(wrong.into());
        }
        Ok(ImageManifest {
            config: parsed.config,
            layers: parsed.layers.0,
            annotations: parsed.annotations.0,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexBody {
    media_type: Option<String>,
    #[serde(default)]
    manifests: BoundedList<EntryBody, MAX_ENTRIES>,
    layers: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryBody {
    digest: Digest,
    platform: Option<PlatformBody>,
    artifact_type: Option<IgnoredAny>,
    #[serde(default)]
    annotations: StringMap,
}

#[derive(Deserialize)]
struct PlatformBody {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl IndexBody {
    fn read(body: &[u8]) -> Result<Vec<IndexEntry>, String> {
        let parsed: Self = decode("index", body)?;
        if parsed.layers.is_some() || parsed.config.is_some() {
            return Err("its manifest is one of an image and an index at once".to_owned());
        }
        agrees(parsed.media_type.as_deref(), ManifestKind::Index)?;
        Ok(parsed.manifests.0.into_iter().filter_map(EntryBody::image).collect())
    }
}

impl EntryBody {
    /// The entry, unless it is none of a `linux` image.
    fn image(self) -> Option<IndexEntry> {
        let is_attachment = self.artifact_type.is_some() || self.annotations.0.contains_key(ATTACHED_TO);
        if is_attachment {
            return None;
        }
        let Some(PlatformBody { os, architecture, variant }) = self.platform else {
            return Some(IndexEntry { digest: self.digest, platform: None, is_variant: false });
        };
        // `unknown/unknown` stands for what does not run at all.
        let platform = platform(&os, &architecture).filter(|platform| platform.os() == "linux")?;
        // The variant of every 64-bit ARM node.
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
    #[serde(default)]
    history: BoundedList<HistoryBody, MAX_HISTORY>,
}

#[derive(Default, Deserialize)]
struct ContainerConfig {
    #[serde(rename = "Labels", default)]
    labels: StringMap,
}

#[derive(Deserialize)]
struct RootFilesystem {
    #[serde(default)]
    diff_ids: BoundedList<Digest, MAX_LAYERS>,
}

#[derive(Deserialize)]
struct HistoryBody {
    created_by: Option<String>,
    created: Option<String>,
    comment: Option<String>,
    empty_layer: Option<bool>,
}

/// Labels or annotations.
type StringMap = BoundedMap<MAX_LABELS>;

fn decode<'de, T: Deserialize<'de>>(what: &str, body: &'de [u8]) -> Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let decoded = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { String::new() } else { format!(" at {}", shown(&path)) };
        format!("its {what} cannot be read{place}: {}", shown(&error.inner().to_string()))
    })?;
    match deserializer.end() {
        Ok(()) => Ok(decoded),
        Err(error) => Err(format!("its {what} cannot be read: {error}")),
    }
}

/// The kind that the body states must be the one that it was sent as (OCI image specification).
fn agrees(media_type: Option<&str>, kind: ManifestKind) -> Result<(), String> {
    match media_type.filter(|media_type| !media_type.is_empty()) {
        Some(media_type) if manifest_kind(media_type) != Some(kind) => {
            Err(format!("its manifest calls itself `{}`, but was sent as another kind", shown(media_type)))
        }
        _ => Ok(()),
    }
}

/// The kind of manifest that a media type stands for.
pub(crate) fn manifest_kind(media_type: &str) -> Option<ManifestKind> {
    match media_type {
        "application/vnd.oci.image.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v2+json" => Some(ManifestKind::Image),
        "application/vnd.oci.image.index.v1+json"
        | "application/vnd.docker.distribution.manifest.list.v2+json" => Some(ManifestKind::Index),
        _ => None,
    }
}

/// What a body says of itself, where the registry did not: its `mediaType`, or the members that only
/// one kind has.
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

/// A platform of two words, as Go writes its own.
fn platform(os: &str, architecture: &str) -> Option<Platform> {
    let is_word = |text: &str| {
        !text.is_empty()
            && text.len() <= MAX_PLATFORM_WORD
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    };
    (is_word(os) && is_word(architecture)).then(|| Platform::new(os, architecture))
}

fn length_of(words: &BTreeMap<String, String>) -> usize {
    words.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// Nodes refuse more: an overlay file system takes 500 layers (`containers/storage`).
const MAX_LAYERS: usize = 500;
/// Steps that make no layer are many in some builds, but no more than this for each layer.
const MAX_HISTORY: usize = 4 * MAX_LAYERS;
/// The largest indexes in use list some dozens, counting the attestation of each image.
const MAX_ENTRIES: usize = 128;
/// Real images have some tens.
const MAX_LABELS: usize = 1000;
/// Labels and history of a real image are some kilobytes. What is more would be kept, and be written
/// into facts, for nothing.
const MAX_WORDS: usize = 512 * 1024;
const MAX_PLATFORM_WORD: usize = 32;
/// Marks what BuildKit attaches to an image.
const ATTACHED_TO: &str = "vnd.docker.reference.type";
/// The configs that `containers/image` takes for those of images.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

    /// A reason less the column, which depends on how the case is written.
    fn reason(outcome: Result<impl fmt::Debug, String>) -> String {
        less_column(&outcome.unwrap_err())
    }

    fn less_column(reason: &str) -> String {
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
    fn a_manifest_that_two_readers_could_read_in_two_ways_is_refused() {
        let both = "its manifest is one of an image and an index at once";
        let other = |media_type: &str| {
            format!("its manifest calls itself `{media_type}`, but was sent as another kind")
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
    fn what_is_wrong_is_told_with_its_place() {
        let wrong_size = manifest(&format!(r#""layers":[{{"digest":"{DIGEST}","size":-1}}]"#));
        let artifact = manifest("\"layers\":[]").replace(CONFIG, "application/vnd.oci.empty.v1+json");
        for (body, expected) in [
            ("<html>".to_owned(), "its manifest cannot be read: expected value"),
            (manifest("\"layers\":[]") + "{}", "its manifest cannot be read: trailing characters"),
            (
                wrong_size,
                "its manifest cannot be read at layers[0].size: invalid value: integer `-1`, expected u64",
            ),
            (manifest(&layers(501)), "its manifest cannot be read at layers: more than 500 entries"),
        ] {
            let Err(Unusable::Wrong(wrong)) = OciContent::parse(ManifestKind::Image, body.as_bytes()) else {
                panic!("{body}");
            };
            assert_eq!(less_column(&wrong), expected);
        }
        assert_eq!(
            OciContent::parse(ManifestKind::Image, artifact.as_bytes()).unwrap_err(),
            Unusable::NotAnImage("its config is of type `application/vnd.oci.empty.v1+json`".to_owned())
        );
    }

    #[test]
    fn five_hundred_layers_are_read() {
        let Ok(OciContent::Image(image)) =
            OciContent::parse(ManifestKind::Image, manifest(&layers(500)).as_bytes())
        else {
            panic!("no image");
        };
        assert_eq!(image.layers.len(), 500);
    }

    #[test]
    fn attachments_and_other_systems_are_passed_over() {
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
                OciContent::Image(_) => panic!("an index is no image"),
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
    fn a_config_is_read_with_what_go_leaves_out() {
        let config = ImageConfigFile::parse(
            br#"{"os":"linux","architecture":"arm64","config":{"Labels":null},"rootfs":{"diff_ids":null},"history":null}"#,
        )
        .unwrap();
        assert_eq!(config.platform, Platform::of_node("arm64"));
        assert_eq!((config.diff_ids.len(), config.labels.len(), config.history.len()), (0, 0, 0));
        assert!(ImageConfigFile::parse(br#"{"os":"linux","architecture":"arm64","rootfs":{}}"#).is_ok());
    }

    #[test]
    fn a_config_is_refused_with_its_reason() {
        let long = "x".repeat(MAX_WORDS + 1);
        let labels: Vec<_> = (0..=MAX_LABELS).map(|index| format!(r#""{index}":"""#)).collect();
        for (body, expected) in [
            ("{}".to_owned(), "its config cannot be read: missing field `rootfs`".to_owned()),
            (
                r#"{"os":"linux","architecture":"a/b","rootfs":{}}"#.to_owned(),
                "its config names the platform `linux/a/b`, which is none".to_owned(),
            ),
            (r#"{"rootfs":{}}"#.to_owned(), "its config names the platform `/`, which is none".to_owned()),
            (
                format!(
                    r#"{{"os":"linux","architecture":"amd64","rootfs":{{}},"history":[{{"created_by":"{long}"}}]}}"#
                ),
                "the labels and the history of its config have 524289 bytes; 524288 are read".to_owned(),
            ),
            (
                format!(r#"{{"config":{{"Labels":{{{}}}}}}}"#, labels.join(",")),
                "its config cannot be read at config.Labels: more than 1000 entries".to_owned(),
            ),
        ] {
            assert_eq!(reason(ImageConfigFile::parse(body.as_bytes())), expected);
        }
    }
}
