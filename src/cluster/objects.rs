//! Kubernetes objects as the API server sends them, and what is kept of each.
//!
//! Only the fields that are named here are decoded. Everything else, above all Ignition configs and pull
//! secrets, is skipped while the JSON is read and is never kept. A field may be `null`, which controllers written
//! in Go send for empty lists and maps, and so it is an `Option` even where there is always a value.

use std::collections::BTreeMap;
use std::fmt::Debug;

use base64::prelude::{BASE64_STANDARD, Engine};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::model::facts::cluster::{
    ClusterVersion, ControllerConfig, HistoryEntry, MachineConfigSummary, OsImageUrl, Pool, Release,
    Requirement, RolloutState, Selector, Streams,
};
use crate::model::facts::{Cause, Fact};
use crate::tls::profile::Profile;

/// What is kept of an object.
pub(crate) trait ObjectSummary: Clone + Debug + PartialEq + Send + Sync + 'static {
    /// The object with the fields that are decoded: an [`ApiObject`].
    type Object: AsRef<ObjectMetadata> + Clone + DeserializeOwned + Send + 'static;

    /// Takes from an object what is kept. `None` for an object that is left out.
    fn of(object: Self::Object) -> Option<Self>;
}

/// An object of which the metadata is decoded, and the members whose type is not [`IgnoredAny`].
#[derive(Clone, Deserialize)]
pub(crate) struct ApiObject<Spec, Status = IgnoredAny, Data = IgnoredAny> {
    pub(crate) metadata: ObjectMetadata,
    pub(crate) spec: Option<Spec>,
    pub(crate) status: Option<Status>,
    pub(crate) data: Option<Data>,
}

pub(crate) type WithStatus<Status> = ApiObject<IgnoredAny, Status>;
/// A ConfigMap, or a Secret, whose values are base64.
pub(crate) type WithData = ApiObject<IgnoredAny, IgnoredAny, BTreeMap<String, String>>;

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectMetadata {
    pub(crate) name: String,
    pub(crate) resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

impl<Spec, Status, Data> AsRef<ObjectMetadata> for ApiObject<Spec, Status, Data> {
    fn as_ref(&self) -> &ObjectMetadata {
        &self.metadata
    }
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterVersionStatus {
    desired: Option<ReleaseFields>,
    history: Option<Vec<HistoryFields>>,
    available_updates: Option<Vec<ReleaseFields>>,
}

#[derive(Clone, Default, Deserialize)]
struct ReleaseFields {
    version: Option<String>,
    image: Option<String>,
}

#[derive(Clone, Deserialize)]
struct HistoryFields {
    state: Option<String>,
    #[serde(flatten)]
    release: ReleaseFields,
}

impl ObjectSummary for ClusterVersion {
    type Object = WithStatus<ClusterVersionStatus>;

    fn of(WithStatus { status, .. }: Self::Object) -> Option<Self> {
        let status = status.unwrap_or_default();
        let release = |ReleaseFields { version, image }| Release {
            version: version.unwrap_or_default(),
            image: image.unwrap_or_default(),
        };
        let history = status.history.into_iter().flatten().map(|entry| HistoryEntry {
            release: release(entry.release),
            state: match entry.state.as_deref() {
                Some("Completed") => RolloutState::Completed,
                // The only other state is `Partial`.
                _ => RolloutState::Partial,
            },
        });
        Some(Self {
            history: history.collect(),
            desired: release(status.desired.unwrap_or_default()),
            available: status.available_updates.into_iter().flatten().map(release).collect(),
        })
    }
}

#[derive(Clone, Deserialize)]
pub(crate) struct ControllerConfigSpec {
    #[serde(rename = "baseOSContainerImage")]
    base_os_container_image: Option<String>,
}

impl ObjectSummary for ControllerConfig {
    type Object = ApiObject<ControllerConfigSpec>;

    fn of(ApiObject { mut metadata, spec, .. }: Self::Object) -> Option<Self> {
        Some(Self {
            base_os_container_image: spec.and_then(|spec| spec.base_os_container_image).unwrap_or_default(),
            release_version: metadata.take_annotation(RELEASE_VERSION),
        })
    }
}

impl ObjectSummary for OsImageUrl {
    type Object = WithData;

    fn of(WithData { data, .. }: Self::Object) -> Option<Self> {
        let mut data = data.unwrap_or_default();
        let mut take = |key: &str| data.remove(key).unwrap_or_default();
        Some(Self {
            release_version: take("releaseVersion"),
            base_os_container_image: take("baseOSContainerImage"),
        })
    }
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OsImageStreamStatus {
    default_stream: Option<String>,
    available_streams: Option<Vec<AvailableStream>>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AvailableStream {
    name: String,
    os_image: Option<String>,
}

impl ObjectSummary for Streams {
    type Object = WithStatus<OsImageStreamStatus>;

    fn of(WithStatus { mut metadata, status, .. }: Self::Object) -> Option<Self> {
        let status = status.unwrap_or_default();
        let streams = status.available_streams.into_iter().flatten();
        Some(Self {
            default_stream: status.default_stream.unwrap_or_default(),
            available: streams.map(|stream| (stream.name, stream.os_image.unwrap_or_default())).collect(),
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
#[serde(rename_all = "camelCase")]
pub(crate) struct PoolSpec {
    machine_config_selector: Option<LabelSelector>,
    node_selector: Option<LabelSelector>,
    paused: Option<bool>,
    os_image_stream: Option<PoolStream>,
}

#[derive(Clone, Deserialize)]
struct PoolStream {
    name: Option<String>,
}

impl ObjectSummary for PoolSummary {
    type Object = ApiObject<PoolSpec>;

    fn of(ApiObject { metadata, spec, .. }: Self::Object) -> Option<Self> {
        let spec = spec.unwrap_or_default();
        let stream = spec.os_image_stream.and_then(|stream| stream.name);
        let pool = Pool {
            name: metadata.name,
            machine_config_selector: selector(spec.machine_config_selector),
            os_image_stream: stream.filter(|name| !name.is_empty()),
            paused: spec.paused.unwrap_or_default(),
            nodes: Fact::Unknown(Cause::NotAsked),
        };
        Some(Self { pool, node_selector: selector(spec.node_selector) })
    }
}

fn selector(selector: Option<LabelSelector>) -> Selector {
    let selector = selector.unwrap_or_default();
    let requirements = selector.match_expressions.into_iter().flatten().map(|requirement| Requirement {
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
#[serde(rename_all = "camelCase")]
pub(crate) struct MachineConfigSpec {
    #[serde(rename = "osImageURL")]
    os_image_url: Option<String>,
    #[serde(rename = "baseOSExtensionsContainerImage")]
    extensions_image: Option<String>,
    kernel_type: Option<String>,
    extensions: Option<Vec<String>>,
}

impl ObjectSummary for MachineConfigSummary {
    type Object = ApiObject<MachineConfigSpec>;

    /// `None` for a rendered MachineConfig. The owner tells, because anybody can choose such a name.
    fn of(ApiObject { metadata, spec, .. }: Self::Object) -> Option<Self> {
        let is_pool =
            |owner: &OwnerReference| owner.controller == Some(true) && owner.kind == "MachineConfigPool";
        if metadata.owner_references.iter().flatten().any(is_pool) {
            return None;
        }
        let spec = spec.unwrap_or_default();
        Some(Self {
            name: metadata.name,
            labels: metadata.labels.unwrap_or_default(),
            os_image_url: spec.os_image_url.unwrap_or_default(),
            extensions_image: spec.extensions_image.unwrap_or_default(),
            kernel_type: spec.kernel_type.unwrap_or_default(),
            extensions: spec.extensions.unwrap_or_default(),
            is_generated: metadata.annotations.is_some_and(|all| all.contains_key(GENERATED_BY)),
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

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeStatus {
    node_info: Option<NodeInfo>,
}

#[derive(Clone, Deserialize)]
struct NodeInfo {
    architecture: Option<String>,
}

impl ObjectSummary for NodeSummary {
    type Object = WithStatus<NodeStatus>;

    fn of(WithStatus { metadata, status, .. }: Self::Object) -> Option<Self> {
        let architecture = status.and_then(|status| status.node_info?.architecture).unwrap_or_default();
        Some(Self { labels: metadata.labels.unwrap_or_default(), architecture })
    }
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApiServerSpec {
    tls_security_profile: Option<Profile>,
}

impl ObjectSummary for Profile {
    type Object = ApiObject<ApiServerSpec>;

    fn of(ApiObject { spec, .. }: Self::Object) -> Option<Self> {
        Some(spec.and_then(|spec| spec.tls_security_profile).unwrap_or_default())
    }
}

/// The text of the global pull secret, or what is wrong with the secret. `Debug` does not show the text.
#[derive(Clone, derive_more::Debug, PartialEq, Eq)]
#[debug("PullSecretText")]
pub(crate) struct PullSecretText(pub(crate) Result<String, &'static str>);

impl ObjectSummary for PullSecretText {
    type Object = WithData;

    fn of(WithData { data, .. }: Self::Object) -> Option<Self> {
        let text = data.unwrap_or_default().remove(".dockerconfigjson");
        let decoded = text.ok_or("it has no key `.dockerconfigjson`").and_then(|text| {
            let decoded = BASE64_STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            decoded.ok_or("its key `.dockerconfigjson` is not base64 of UTF-8 text")
        });
        Some(Self(decoded))
    }
}

impl ObjectMetadata {
    fn take_annotation(&mut self, key: &str) -> Option<String> {
        self.annotations.as_mut()?.remove(key).filter(|text| !text.is_empty())
    }
}

const RELEASE_VERSION: &str = "machineconfiguration.openshift.io/release-image-version";
const RELEASE_IMAGE: &str = "machineconfiguration.openshift.io/release-payload-image";
const GENERATED_BY: &str = "machineconfiguration.openshift.io/generated-by-controller-version";
