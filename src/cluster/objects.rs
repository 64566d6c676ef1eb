//! Kubernetes objects as the API server sends them, and what is kept of each.
//!
//! Only the fields that are named here are decoded. Everything else, above all Ignition configs and pull
//! secrets, is skipped while the JSON is read and is never kept.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use base64::prelude::{BASE64_STANDARD, Engine};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

use crate::model::facts::cluster::{
    ClusterVersion, ControllerConfig, HistoryEntry, MachineConfigSummary, OsImageUrl, Pool, Release,
    Requirement, RolloutState, Selector, Streams,
};
use crate::model::facts::{Cause, Fact};

/// What is kept of an object.
pub(crate) trait ObjectSummary: Clone + Debug + PartialEq + Send + Sync + 'static {
    /// The object with the fields that are decoded: an [`ApiObject`].
    type Object: AsRef<ObjectMetadata> + Clone + DeserializeOwned + Send + 'static;

    /// Takes from an object what is kept. `None` for an object that is left out.
    fn of(object: Self::Object) -> Option<Self>;
}

/// An object of which the metadata is decoded, and the members whose type is not [`IgnoredAny`].
#[derive(Clone, Deserialize)]
#[serde(bound(deserialize = "Spec: Default + Deserialize<'de>, Status: Default + Deserialize<'de>, \
                             Data: Default + Deserialize<'de>"))]
pub(crate) struct ApiObject<Spec, Status = IgnoredAny, Data = IgnoredAny> {
    pub(crate) metadata: ObjectMetadata,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) spec: Spec,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) status: Status,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) data: Data,
}

pub(crate) type WithStatus<Status> = ApiObject<IgnoredAny, Status>;
/// A ConfigMap, or a Secret, whose values are base64.
pub(crate) type WithData = ApiObject<IgnoredAny, IgnoredAny, BTreeMap<String, String>>;

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectMetadata {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) resource_version: String,
    #[serde(default, deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "nullable")]
    annotations: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "nullable")]
    owner_references: Vec<OwnerReference>,
}

#[derive(Clone, Deserialize)]
struct OwnerReference {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    controller: bool,
}

impl<Spec, Status, Data> AsRef<ObjectMetadata> for ApiObject<Spec, Status, Data> {
    fn as_ref(&self) -> &ObjectMetadata {
        &self.metadata
    }
}

/// Reads `null` as the default: controllers written in Go send it for empty lists and maps.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ClusterVersionStatus {
    #[serde(deserialize_with = "nullable")]
    desired: ReleaseFields,
    #[serde(deserialize_with = "nullable")]
    history: Vec<HistoryFields>,
    #[serde(deserialize_with = "nullable")]
    available_updates: Vec<ReleaseFields>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct ReleaseFields {
    #[serde(deserialize_with = "nullable")]
    version: String,
    #[serde(deserialize_with = "nullable")]
    image: String,
}

#[derive(Clone, Deserialize)]
struct HistoryFields {
    #[serde(default, deserialize_with = "nullable")]
    state: String,
    #[serde(flatten)]
    release: ReleaseFields,
}

impl ObjectSummary for ClusterVersion {
    type Object = WithStatus<ClusterVersionStatus>;

    fn of(WithStatus { status, .. }: Self::Object) -> Option<Self> {
        let release = |ReleaseFields { version, image }| Release { version, image };
        let history = status.history.into_iter().map(|entry| HistoryEntry {
            release: release(entry.release),
            // The only other state is `Partial`.
            state: if entry.state == "Completed" { RolloutState::Completed } else { RolloutState::Partial },
        });
        Some(Self {
            history: history.collect(),
            desired: release(status.desired),
            available: status.available_updates.into_iter().map(release).collect(),
        })
    }
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ControllerConfigSpec {
    #[serde(rename = "baseOSContainerImage", deserialize_with = "nullable")]
    base_os_container_image: String,
}

impl ObjectSummary for ControllerConfig {
    type Object = ApiObject<ControllerConfigSpec>;

    fn of(ApiObject { mut metadata, spec, .. }: Self::Object) -> Option<Self> {
        Some(Self {
            base_os_container_image: spec.base_os_container_image,
            release_version: metadata.take_annotation(RELEASE_VERSION),
        })
    }
}

impl ObjectSummary for OsImageUrl {
    type Object = WithData;

    fn of(WithData { mut data, .. }: Self::Object) -> Option<Self> {
        let mut take = |key: &str| data.remove(key).unwrap_or_default();
        Some(Self {
            release_version: take("releaseVersion"),
            base_os_container_image: take("baseOSContainerImage"),
        })
    }
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct OsImageStreamStatus {
    #[serde(deserialize_with = "nullable")]
    default_stream: String,
    #[serde(deserialize_with = "nullable")]
    available_streams: Vec<AvailableStream>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AvailableStream {
    name: String,
    #[serde(default, deserialize_with = "nullable")]
    os_image: String,
}

impl ObjectSummary for Streams {
    type Object = WithStatus<OsImageStreamStatus>;

    fn of(WithStatus { mut metadata, status, .. }: Self::Object) -> Option<Self> {
        let available = status.available_streams.into_iter().map(|stream| (stream.name, stream.os_image));
        Some(Self {
            default_stream: status.default_stream,
            available: available.collect(),
            release_image: metadata.take_annotation(RELEASE_IMAGE),
        })
    }
}

/// A pool, and which nodes it selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolSummary {
    /// The pool, its nodes not counted yet.
    pub(crate) pool: Pool,
    /// `spec.nodeSelector`.
    pub(crate) node_selector: Selector,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PoolSpec {
    #[serde(deserialize_with = "nullable")]
    machine_config_selector: LabelSelector,
    #[serde(deserialize_with = "nullable")]
    node_selector: LabelSelector,
    #[serde(deserialize_with = "nullable")]
    paused: bool,
    #[serde(deserialize_with = "nullable")]
    os_image_stream: PoolStream,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct PoolStream {
    #[serde(deserialize_with = "nullable")]
    name: String,
}

impl ObjectSummary for PoolSummary {
    type Object = ApiObject<PoolSpec>;

    fn of(ApiObject { metadata, spec, .. }: Self::Object) -> Option<Self> {
        let pool = Pool {
            name: metadata.name,
            machine_config_selector: selector(spec.machine_config_selector),
            os_image_stream: Some(spec.os_image_stream.name).filter(|name| !name.is_empty()),
            paused: spec.paused,
            nodes: Fact::Unknown(Cause::NotAsked),
        };
        Some(Self { pool, node_selector: selector(spec.node_selector) })
    }
}

fn selector(selector: LabelSelector) -> Selector {
    let requirements = selector.match_expressions.unwrap_or_default().into_iter();
    let requirements = requirements.map(|requirement| Requirement {
        key: requirement.key,
        operator: requirement.operator,
        values: requirement.values.unwrap_or_default(),
    });
    Selector {
        match_labels: selector.match_labels.unwrap_or_default(),
        match_expressions: requirements.collect(),
    }
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct MachineConfigSpec {
    #[serde(rename = "osImageURL", deserialize_with = "nullable")]
    os_image_url: String,
    #[serde(rename = "baseOSExtensionsContainerImage", deserialize_with = "nullable")]
    extensions_image: String,
    #[serde(deserialize_with = "nullable")]
    kernel_type: String,
    #[serde(deserialize_with = "nullable")]
    extensions: Vec<String>,
}

impl ObjectSummary for MachineConfigSummary {
    type Object = ApiObject<MachineConfigSpec>;

    /// `None` for a rendered MachineConfig. The owner tells, because anybody can choose such a name.
    fn of(ApiObject { metadata, spec, .. }: Self::Object) -> Option<Self> {
        let is_pool = |owner: &OwnerReference| owner.controller && owner.kind == "MachineConfigPool";
        if metadata.owner_references.iter().any(is_pool) {
            return None;
        }
        Some(Self {
            name: metadata.name,
            labels: metadata.labels,
            os_image_url: spec.os_image_url,
            extensions_image: spec.extensions_image,
            kernel_type: spec.kernel_type,
            extensions: spec.extensions,
            is_generated: metadata.annotations.contains_key(GENERATED_BY),
        })
    }
}

/// A node's labels and architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeSummary {
    /// `metadata.labels`.
    pub(crate) labels: BTreeMap<String, String>,
    /// `status.nodeInfo.architecture`; empty until the kubelet has reported it.
    pub(crate) architecture: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NodeStatus {
    #[serde(deserialize_with = "nullable")]
    node_info: NodeInfo,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct NodeInfo {
    #[serde(deserialize_with = "nullable")]
    architecture: String,
}

impl ObjectSummary for NodeSummary {
    type Object = WithStatus<NodeStatus>;

    fn of(WithStatus { metadata, status, .. }: Self::Object) -> Option<Self> {
        Some(Self { labels: metadata.labels, architecture: status.node_info.architecture })
    }
}

/// The text of the global pull secret, or what is wrong with the secret. `Debug` does not show the text.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PullSecretText(pub(crate) Result<String, &'static str>);

impl Debug for PullSecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PullSecretText")
    }
}

impl ObjectSummary for PullSecretText {
    type Object = WithData;

    fn of(WithData { data, .. }: Self::Object) -> Option<Self> {
        let Some(text) = data.get(".dockerconfigjson") else {
            return Some(Self(Err("it has no key `.dockerconfigjson`")));
        };
        let decoded = BASE64_STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        Some(Self(decoded.ok_or("its key `.dockerconfigjson` is not base64 of UTF-8 text")))
    }
}

impl ObjectMetadata {
    fn take_annotation(&mut self, key: &str) -> Option<String> {
        self.annotations.remove(key).filter(|text| !text.is_empty())
    }
}

const RELEASE_VERSION: &str = "machineconfiguration.openshift.io/release-image-version";
const RELEASE_IMAGE: &str = "machineconfiguration.openshift.io/release-payload-image";
const GENERATED_BY: &str = "machineconfiguration.openshift.io/generated-by-controller-version";
