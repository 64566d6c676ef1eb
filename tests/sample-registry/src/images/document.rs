//! The JSON documents of an image, with their fields in a fixed order.
//!
//! `serde_json::json!` was not used for them: the order of its fields, and so
//! every digest, would depend on a feature that other crates may switch on.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use super::Component;
use crate::digest::digest_of;

#[derive(Serialize)]
pub(super) struct Config<'a> {
    pub(super) created: &'a str,
    pub(super) architecture: &'a str,
    pub(super) os: &'a str,
    pub(super) config: ImageConfig<'a>,
    pub(super) rootfs: RootFilesystem,
    pub(super) history: Vec<History<'a>>,
}

#[derive(Serialize)]
pub(super) struct ImageConfig<'a> {
    #[serde(rename = "Labels")]
    pub(super) labels: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
pub(super) struct RootFilesystem {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) diff_ids: Vec<String>,
}

#[derive(Clone, Serialize)]
pub(super) struct History<'a> {
    pub(super) created: &'a str,
    pub(super) created_by: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) comment: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) empty_layer: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) schema_version: u8,
    pub(super) media_type: &'static str,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    media_type: &'static str,
    digest: String,
    size: usize,
}

impl Descriptor {
    pub(super) fn of(media_type: &'static str, bytes: &[u8]) -> Self {
        Self { media_type, digest: digest_of(bytes), size: bytes.len() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IndexDocument {
    pub(super) schema_version: u8,
    pub(super) media_type: &'static str,
    pub(super) manifests: Vec<IndexDescriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IndexDescriptor {
    pub(super) media_type: &'static str,
    pub(super) digest: String,
    pub(super) size: usize,
    pub(super) platform: Platform,
}

#[derive(Serialize)]
pub(super) struct Platform {
    pub(super) architecture: &'static str,
    pub(super) os: &'static str,
}

/// Renders the ImageStream that a release payload keeps its components in.
pub(super) fn image_references(version: &str, components: &[Component]) -> Vec<u8> {
    pretty(&ImageStream {
        kind: "ImageStream",
        api_version: "image.openshift.io/v1",
        metadata: Named { name: version },
        spec: ImageStreamSpec {
            tags: components
                .iter()
                .map(|component| TagReference {
                    name: &component.name,
                    annotations: &component.annotations,
                    from: ObjectReference { kind: "DockerImage", name: &component.pull_spec },
                })
                .collect(),
        },
    })
}

/// Renders the update metadata of a release payload, without predecessors.
pub(super) fn release_metadata(version: &str) -> Vec<u8> {
    pretty(&ReleaseMetadata { kind: "cincinnati-metadata-v0", version, previous: [] })
}

/// Renders a document without spaces.
pub(super) fn to_bytes(document: &impl Serialize) -> Bytes {
    serde_json::to_vec(document).expect("a document of strings and numbers").into()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageStream<'a> {
    kind: &'a str,
    api_version: &'a str,
    metadata: Named<'a>,
    spec: ImageStreamSpec<'a>,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct ImageStreamSpec<'a> {
    tags: Vec<TagReference<'a>>,
}

#[derive(Serialize)]
struct TagReference<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    from: ObjectReference<'a>,
}

#[derive(Serialize)]
struct ObjectReference<'a> {
    kind: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct ReleaseMetadata<'a> {
    kind: &'a str,
    version: &'a str,
    previous: [&'a str; 0],
}

fn pretty(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(document).expect("a document of strings and numbers")
}
