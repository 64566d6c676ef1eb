//! Images beyond their digests: platforms, layers, labels and history; and the contents of release payloads.
//!
//! Only what manifests and configs say, both checked against their digests; no layer is read. Of a
//! release payload, which is an image too, only what it says of the operating system.

use std::collections::BTreeMap;

use derive_more::Display;
use serde::{Deserialize, Serialize};

use crate::model::digest::Digest;
use crate::model::facts::{Fact, ManifestKind};
use crate::model::image_reference::ImageReference;

/// An image or an index, platform by platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Image {
    /// The digest of the manifest, or of the index when the reference names one.
    pub digest: Digest,
    /// Whether the reference names one image or an index of several.
    pub kind: ManifestKind,
    /// The image of each platform. A platform that an index does not list is not in the map; one
    /// that it lists is unknown or absent where its manifest or config could not be read, and unknown
    /// where nobody asked for it ([`Cause::NotAsked`](crate::model::facts::Cause::NotAsked)). A manifest
    /// of one image has one platform, which its config names.
    pub platforms: BTreeMap<Platform, Fact<PlatformImage>>,
}

/// An operating system and an architecture, written `linux/amd64`, without a variant: nodes report none.
#[derive(Clone, Debug, Display, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[display("{os}/{architecture}")]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    os: String,
    architecture: String,
}

impl Platform {
    /// The platform of a node with this `status.nodeInfo.architecture`, such as `arm64`.
    pub fn of_node(architecture: &str) -> Self {
        Self::new("linux", architecture)
    }

    /// A platform by the names of the OCI image specification (`GOOS`, `GOARCH`).
    pub fn new(os: &str, architecture: &str) -> Self {
        Self { os: os.to_owned(), architecture: architecture.to_owned() }
    }

    /// The architecture, such as `amd64`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The operating system, such as `linux`.
    pub fn os(&self) -> &str {
        &self.os
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

impl TryFrom<String> for Platform {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.split_once('/') {
            Some((os, architecture)) if !os.is_empty() && !architecture.is_empty() => {
                Ok(Self::new(os, architecture))
            }
            _ => Err(format!("`{text}` is not a platform such as linux/amd64")),
        }
    }
}

/// The image of one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlatformImage {
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The digest of its config.
    pub config: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// The labels of its config.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The annotations of its manifest. Anybody can write them, and a push may lose them: hints for
    /// messages, never proof.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// How its layers were made, as far as its builder recorded it.
    #[serde(default)]
    pub history: Vec<HistoryStep>,
    /// `created` of its config, as written.
    #[serde(default)]
    pub created: Option<String>,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Layer {
    /// The digest of the uncompressed layer, which proves lineage.
    pub diff_id: Digest,
    /// The digest of the layer as it is stored, which changes with its compression.
    pub digest: Digest,
    /// The bytes of the layer as it is stored.
    pub size: u64,
}

/// One entry of a config's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HistoryStep {
    /// The command, as written.
    #[serde(default)]
    pub created_by: String,
    /// The time, as written.
    #[serde(default)]
    pub created: Option<String>,
    /// The comment, as written.
    #[serde(default)]
    pub comment: String,
    /// Whether the step made no layer.
    #[serde(default)]
    pub empty_layer: bool,
}

/// What a release payload says of the operating system (`release-manifests/image-references`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Payload {
    /// The release, such as `4.18.14`.
    pub version: String,
    /// Its operating system images, by tag name such as `rhel-coreos`; extensions are left out.
    pub os_images: BTreeMap<String, OsImage>,
}

/// An operating system image of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OsImage {
    /// The pull spec, by digest.
    pub reference: ImageReference,
    /// The OS stream, such as `rhel-9`, where the payload says one.
    #[serde(default)]
    pub stream: Option<String>,
    /// The version of the operating system, where the payload says one.
    #[serde(default)]
    pub os_version: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_reads_back_as_it_was_written() {
        let platform = Platform::of_node("arm64");
        assert_eq!(platform.to_string(), "linux/arm64");
        assert_eq!(Platform::try_from(platform.to_string()), Ok(platform));
        for text in ["", "linux", "/amd64", "linux/"] {
            assert!(Platform::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
