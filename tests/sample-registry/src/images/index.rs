//! Lists of images by platform.

use bytes::Bytes;

use super::document::{self, IndexDescriptor, IndexDocument, Platform};
use super::{Image, MediaTypes};
use crate::digest::digest_of;

/// An OCI image index or a Docker manifest list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    media_types: MediaTypes,
    images: Vec<Image>,
}

impl Index {
    /// Makes an OCI index of `images`, in the order given.
    pub fn of<'a>(images: impl IntoIterator<Item = &'a Image>) -> Self {
        Self { media_types: MediaTypes::Oci, images: images.into_iter().cloned().collect() }
    }

    /// Sets the family of media types of the index, and leaves the images as they are.
    pub fn with_media_types(mut self, media_types: MediaTypes) -> Self {
        self.media_types = media_types;
        self
    }

    /// Returns the images, in the order of the index.
    pub fn images(&self) -> &[Image] {
        &self.images
    }

    /// Renders the index, a JSON document.
    pub fn manifest(&self) -> Bytes {
        document::to_bytes(&IndexDocument {
            schema_version: 2,
            media_type: self.manifest_media_type(),
            manifests: self
                .images
                .iter()
                .map(|image| IndexDescriptor {
                    media_type: image.manifest_media_type(),
                    digest: image.digest(),
                    size: image.manifest().len(),
                    platform: Platform { architecture: image.architecture().name(), os: "linux" },
                })
                .collect(),
        })
    }

    /// Returns the media type of the index.
    pub fn manifest_media_type(&self) -> &'static str {
        self.media_types.index()
    }

    /// Returns the digest of the index.
    pub fn digest(&self) -> String {
        digest_of(&self.manifest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::{Architecture, DOCKER_MANIFEST_LIST};

    #[test]
    fn the_index_lists_each_image_with_its_platform() {
        let amd64 = Image::base_for("4.18.1", Architecture::Amd64);
        let arm64 = Image::base_for("4.18.1", Architecture::Arm64);
        let index = Index::of([&amd64, &arm64]).with_media_types(MediaTypes::Docker);
        let document: serde_json::Value = serde_json::from_slice(&index.manifest()).expect("a JSON index");
        assert_eq!(document["mediaType"], DOCKER_MANIFEST_LIST);
        for (entry, image) in
            document["manifests"].as_array().expect("manifests").iter().zip([&amd64, &arm64])
        {
            assert_eq!(entry["digest"], image.digest());
            assert_eq!(entry["platform"]["os"], "linux");
            assert_eq!(entry["platform"]["architecture"], image.architecture().name());
        }
    }
}
