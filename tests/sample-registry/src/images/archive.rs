//! OCI image layouts in a tar file: the `oci-archive` transport of
//! `containers/image`, by which images reach registries that are not ours.
//!
//! Source: the OCI image specification, `image-layout.md`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;
use serde::Serialize;

use super::document::{self, Descriptor};
use super::layer::append;
use super::{Artifact, Image};
use crate::digest::digest_of;

impl Artifact<'_> {
    /// Writes the artifact as an OCI archive to `path`, which is created or replaced.
    pub fn write_oci_archive(self, path: &Path) -> io::Result<()> {
        let mut builder = tar::Builder::new(File::create(path)?);
        append(&mut builder, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let layout = LayoutIndex {
            schema_version: 2,
            manifests: [Descriptor::of(self.media_type(), &self.manifest())],
        };
        append(&mut builder, "index.json", &document::to_bytes(&layout))?;
        for (digest, blob) in self.layout_blobs() {
            let path = format!("blobs/{}", digest.replace(':', "/"));
            append(&mut builder, &path, &blob)?;
        }
        builder.into_inner()?.sync_all()
    }

    /// Returns the digest of the manifest.
    pub fn digest(self) -> String {
        digest_of(&self.manifest())
    }

    /// Returns the media type of the manifest.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Image(image) => image.manifest_media_type(),
            Self::Index(index) => index.manifest_media_type(),
        }
    }

    /// Renders the manifest.
    pub fn manifest(self) -> Bytes {
        match self {
            Self::Image(image) => image.manifest(),
            Self::Index(index) => index.manifest(),
        }
    }

    /// Returns the image itself, or the images of the index.
    pub(crate) fn images(&self) -> &[Image] {
        match self {
            Self::Image(image) => std::slice::from_ref(image),
            Self::Index(index) => index.images(),
        }
    }

    /// Returns all content of the layout by digest; a layout keeps manifests among its blobs.
    fn layout_blobs(self) -> BTreeMap<String, Bytes> {
        let mut blobs = vec![self.manifest()];
        for image in self.images() {
            blobs.push(image.manifest());
            blobs.extend(image.blobs());
        }
        blobs.into_iter().map(|blob| (digest_of(&blob), blob)).collect()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LayoutIndex {
    schema_version: u8,
    manifests: [Descriptor; 1],
}
