//! Images made by code.
//!
//! An [`Image`] is a platform, labels and layers; its config, its manifest and
//! its digests follow from those, and are the same bytes in every run. An
//! [`Index`] lists images by platform. Nothing here is ever run: the layers
//! hold a few small files, enough to have a lineage and to be unpacked.

mod archive;
mod component;
mod document;
mod index;
mod layer;
mod media_types;

use std::collections::BTreeMap;

use bytes::Bytes;

pub use self::component::Component;
pub use self::index::Index;
pub use self::layer::{Layer, Packing};
pub use self::media_types::{
    DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, DOCKER_SCHEMA_1_SIGNED, MediaTypes, OCI_INDEX, OCI_MANIFEST,
};

use self::document::{Config, Descriptor, History, ImageConfig, Manifest, RootFilesystem};
use crate::digest::digest_of;

/// An image for one platform.
///
/// Methods named `with_…` return a changed image, which has other digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    architecture: Architecture,
    media_types: MediaTypes,
    labels: BTreeMap<String, String>,
    layers: Vec<Layer>,
    history: Vec<Step>,
}

/// What made a layer, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    created_by: String,
    comment: String,
    empty_layer: bool,
}

/// A CPU architecture, by the name Go and OCI give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// `amd64`.
    Amd64,
    /// `arm64`.
    Arm64,
    /// `ppc64le`.
    Ppc64le,
    /// `s390x`.
    S390x,
}

impl Image {
    /// Makes an image without layers or labels, for `linux/amd64`, with OCI media types.
    pub fn scratch() -> Self {
        Self {
            architecture: Architecture::Amd64,
            media_types: MediaTypes::Oci,
            labels: BTreeMap::new(),
            layers: Vec::new(),
            history: Vec::new(),
        }
    }

    /// Makes a bootable base image of the node operating system for `linux/amd64`.
    ///
    /// It has three layers and the labels of a RHEL CoreOS image, of which
    /// `ostree.final-diffid` names the diffID of its last layer.
    pub fn base(version: &str) -> Self {
        Self::base_for(version, Architecture::Amd64)
    }

    /// Makes the base image of [`Image::base`] for `architecture`.
    ///
    /// No layer is shared between architectures, as in real images.
    pub fn base_for(version: &str, architecture: Architecture) -> Self {
        let name = architecture.name();
        let mut image = Self::scratch()
            .with_architecture(architecture)
            .with_layer(&[
                (
                    "usr/lib/os-release",
                    format!("ID=rhcos\nVERSION_ID={version}\nARCHITECTURE={name}\n").as_bytes(),
                ),
                ("usr/lib/sysimage/architecture", name.as_bytes()),
            ])
            .with_layer(&[("usr/lib/modules/vmlinuz", format!("kernel of {version} for {name}").as_bytes())])
            .with_layer(&[("usr/bin/crio", format!("container runtime of {version} for {name}").as_bytes())]);
        let final_diff_id = image.layers[image.layers.len() - 1].diff_id();
        for (label, value) in [
            ("containers.bootc", "1"),
            ("io.openshift.os.version", version),
            ("org.opencontainers.image.version", version),
            ("ostree.bootable", "true"),
            ("ostree.final-diffid", &final_diff_id),
            ("ostree.linux", "5.14.0-570.el9"),
        ] {
            image = image.with_label(label, value);
        }
        image
    }

    /// Makes an image from `base` as a container build does: the layers of the
    /// base stay a prefix, one layer with `files` follows, labels are inherited.
    pub fn derived(base: &Image, files: &[(&str, &[u8])]) -> Self {
        base.clone().with_layer(files)
    }

    /// Makes an OpenShift release payload.
    ///
    /// The last layer holds `release-manifests/image-references`, an ImageStream
    /// named `version` with a tag for each pair of component name and pull spec;
    /// the label `io.openshift.release` holds `version`.
    pub fn release_payload(version: &str, references: &[(&str, &str)]) -> Self {
        let component = |(name, pull_spec): &(&str, &str)| Component::new(name, pull_spec);
        Self::release_payload_of(version, &references.iter().map(component).collect::<Vec<_>>())
    }

    /// Makes the payload of [`Image::release_payload`] from components with all that is said of them.
    pub fn release_payload_of(version: &str, components: &[Component]) -> Self {
        let stream = document::image_references(version, components);
        let metadata = document::release_metadata(version);
        Self::scratch()
            .with_label("io.openshift.release", version)
            .with_layer(&[(
                "usr/bin/cluster-version-operator",
                format!("cluster version operator of {version}").as_bytes(),
            )])
            .with_layer(&[
                ("release-manifests/image-references", stream.as_slice()),
                ("release-manifests/release-metadata", metadata.as_slice()),
            ])
    }

    /// Sets the architecture in the config, and leaves the layers as they are.
    pub fn with_architecture(mut self, architecture: Architecture) -> Self {
        self.architecture = architecture;
        self
    }

    /// Sets the family of media types of the manifest and what it points to.
    pub fn with_media_types(mut self, media_types: MediaTypes) -> Self {
        self.media_types = media_types;
        self
    }

    /// Sets one label, in place of an earlier value.
    pub fn with_label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Removes one label, if it is there.
    pub fn without_label(mut self, name: &str) -> Self {
        self.labels.remove(name);
        self
    }

    /// Adds one layer that holds `files`, pairs of path and content.
    pub fn with_layer(self, files: &[(&str, &[u8])]) -> Self {
        self.with_layer_of(Layer::of_files(files))
    }

    /// Adds one layer.
    pub fn with_layer_of(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self.with_step(CREATED_BY, "", LayerMade::One)
    }

    /// Adds a step that made no layer to the history.
    pub fn with_empty_step(self, created_by: &str, comment: &str) -> Self {
        self.with_step(created_by, comment, LayerMade::None)
    }

    /// Packs all layers anew, as a recompression on the way to a registry does: the diffIDs stay.
    pub fn repacked(mut self, packing: Packing) -> Self {
        self.layers = self.layers.iter().map(|layer| layer.repacked(packing)).collect();
        self
    }

    fn with_step(mut self, created_by: &str, comment: &str, made: LayerMade) -> Self {
        let empty_layer = matches!(made, LayerMade::None);
        self.history.push(Step {
            created_by: created_by.to_owned(),
            comment: comment.to_owned(),
            empty_layer,
        });
        self
    }

    /// Returns the architecture.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Returns the value of one label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// Returns the layers, the lowest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Returns the diffIDs of the layers, the lowest first.
    pub fn diff_ids(&self) -> Vec<String> {
        self.layers.iter().map(Layer::diff_id).collect()
    }

    /// Renders the config, a JSON document.
    pub fn config(&self) -> Bytes {
        document::to_bytes(&Config {
            created: CREATED,
            architecture: self.architecture.name(),
            os: "linux",
            config: ImageConfig { labels: &self.labels },
            rootfs: RootFilesystem { kind: "layers", diff_ids: self.diff_ids() },
            history: self
                .history
                .iter()
                .map(|step| History {
                    created: CREATED,
                    created_by: &step.created_by,
                    comment: &step.comment,
                    empty_layer: step.empty_layer,
                })
                .collect(),
        })
    }

    /// Renders the manifest, a JSON document.
    pub fn manifest(&self) -> Bytes {
        document::to_bytes(&Manifest {
            schema_version: 2,
            media_type: self.manifest_media_type(),
            config: Descriptor::of(self.media_types.config(), &self.config()),
            layers: self
                .layers
                .iter()
                .map(|layer| Descriptor::of(self.media_types.layer(layer.packing()), layer.blob()))
                .collect(),
        })
    }

    /// Returns the media type of the manifest.
    pub fn manifest_media_type(&self) -> &'static str {
        self.media_types.manifest()
    }

    /// Returns the digest of the manifest, which is the digest of the image.
    pub fn digest(&self) -> String {
        digest_of(&self.manifest())
    }

    /// Returns the digest of the config, which clients call the image ID.
    pub fn config_digest(&self) -> String {
        digest_of(&self.config())
    }

    /// Returns the config and the layers as they are stored in a registry.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = Bytes> + '_ {
        std::iter::once(self.config()).chain(self.layers.iter().map(|layer| layer.blob().clone()))
    }
}

impl Architecture {
    /// Returns the name, such as `amd64`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Ppc64le => "ppc64le",
            Self::S390x => "s390x",
        }
    }
}

/// An image or an index: what a pull spec can lead to.
#[derive(Clone, Copy, Debug)]
pub enum Artifact<'a> {
    /// An image for one platform.
    Image(&'a Image),
    /// A list of images by platform.
    Index(&'a Index),
}

impl<'a> From<&'a Image> for Artifact<'a> {
    fn from(image: &'a Image) -> Self {
        Self::Image(image)
    }
}

impl<'a> From<&'a Index> for Artifact<'a> {
    fn from(index: &'a Index) -> Self {
        Self::Index(index)
    }
}

/// How many layers a step made.
enum LayerMade {
    None,
    One,
}

const CREATED_BY: &str = "layerpin sample image";

/// The time of creation that every config states.
const CREATED: &str = "2024-01-01T00:00:00Z";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_image_made_twice_has_the_same_bytes() {
        let first = Image::derived(&Image::base("4.18.1"), &[("etc/motd", b"hello")]);
        let second = Image::derived(&Image::base("4.18.1"), &[("etc/motd", b"hello")]);
        assert_eq!(first.manifest(), second.manifest());
        assert_eq!(first.config(), second.config());
        assert_eq!(first.layers()[3].blob(), second.layers()[3].blob());
    }

    #[test]
    fn another_version_architecture_or_family_is_another_image() {
        let base = Image::base("4.18.1");
        let others = [
            Image::base("4.18.2"),
            Image::base_for("4.18.1", Architecture::Arm64),
            Image::base("4.18.1").with_media_types(MediaTypes::Docker),
            Image::base("4.18.1").without_label("containers.bootc"),
        ];
        for other in others {
            assert_ne!(base.digest(), other.digest(), "{other:?}");
        }
    }

    #[test]
    fn the_layers_of_the_base_are_a_prefix_of_the_derived_image() {
        let base = Image::base("4.18.1");
        let derived = Image::derived(&base, &[("etc/motd", b"hello")]);
        assert_eq!(derived.layers().len(), base.layers().len() + 1);
        assert_eq!(&derived.diff_ids()[..3], base.diff_ids());
        assert_eq!(derived.label("ostree.final-diffid"), Some(base.diff_ids()[2].as_str()));
    }

    #[test]
    fn the_manifest_points_to_the_blobs_by_digest_and_size() {
        let image = Image::base("4.18.1").with_media_types(MediaTypes::Docker);
        let manifest: serde_json::Value = serde_json::from_slice(&image.manifest()).expect("a JSON manifest");
        assert_eq!(manifest["mediaType"], DOCKER_MANIFEST);
        assert_eq!(manifest["config"]["digest"], image.config_digest());
        assert_eq!(manifest["config"]["size"], image.config().len());
        for (descriptor, layer) in manifest["layers"].as_array().expect("layers").iter().zip(image.layers()) {
            assert_eq!(descriptor["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
            assert_eq!(descriptor["digest"], layer.digest());
            assert_eq!(descriptor["size"], layer.blob().len());
        }
    }

    #[test]
    fn a_release_payload_names_its_components_in_its_last_layer() {
        let payload = Image::release_payload("4.18.1", &[("rhel-coreos", "quay.io/a/b@sha256:c")]);
        assert_eq!(payload.label("io.openshift.release"), Some("4.18.1"));
        let last = payload.layers().last().expect("a layer");
        let stream: serde_json::Value = serde_json::from_slice(
            &last.file("release-manifests/image-references").expect("image references"),
        )
        .expect("a JSON image stream");
        assert_eq!(stream["kind"], "ImageStream");
        assert_eq!(stream["apiVersion"], "image.openshift.io/v1");
        assert_eq!(stream["metadata"]["name"], "4.18.1");
        assert_eq!(
            stream["spec"]["tags"],
            serde_json::json!([{
                "name": "rhel-coreos",
                "from": {"kind": "DockerImage", "name": "quay.io/a/b@sha256:c"},
            }])
        );
    }
}
