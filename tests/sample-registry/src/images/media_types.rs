//! The two families of media types in which an image can be described.
//!
//! Sources: the OCI image specification (`media-types.md`) and the image
//! manifest specifications of the Docker registry.

use super::Packing;

/// The media type of an OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of a Docker image manifest, version 2 schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// The media type of a Docker manifest list.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// The media type of a signed Docker image manifest, version 2 schema 1, long deprecated.
pub const DOCKER_SCHEMA_1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// A family of media types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaTypes {
    /// Those of the OCI image specification.
    Oci,
    /// Those of Docker, version 2 schema 2.
    Docker,
}

impl MediaTypes {
    pub(super) fn manifest(self) -> &'static str {
        match self {
            Self::Oci => OCI_MANIFEST,
            Self::Docker => DOCKER_MANIFEST,
        }
    }

    pub(super) fn index(self) -> &'static str {
        match self {
            Self::Oci => OCI_INDEX,
            Self::Docker => DOCKER_MANIFEST_LIST,
        }
    }

    pub(super) fn config(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    pub(super) fn layer(self, packing: Packing) -> &'static str {
        match (self, packing) {
            (Self::Oci, Packing::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Self::Oci, Packing::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Self::Oci, Packing::Plain) => "application/vnd.oci.image.layer.v1.tar",
            (Self::Docker, Packing::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (Self::Docker, Packing::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
            (Self::Docker, Packing::Plain) => "application/vnd.docker.image.rootfs.diff.tar",
        }
    }
}
