//! The kinds of object that are read, each with the few members that matter.
//!
//! Owns the shapes as the API server sends them, read straight from its text: what is not named here,
//! Ignition and pull secrets above all, is skipped over and never kept.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Deserializer};

use crate::model::facts::cluster::{
    ClusterVersion, ControllerConfig, HistoryEntry, MachineConfigSummary, OsImageUrl, Pool, Release,
    RolloutState, Selector, Streams,
};
use crate::model::facts::{Cause, Fact};

/// A kind of object, and how one of its objects becomes a `T`.
#[derive(Debug)]
pub(crate) struct Resource<T> {
    /// What messages call it.
    pub(crate) name: &'static str,
    /// The paths of its collection, that of the best version first.
    pub(crate) paths: &'static [&'static str],
    /// The only object that is of interest.
    pub(crate) object: Option<&'static str>,
    /// How many objects are asked for at once.
    pub(crate) page: u32,
    /// Reads one object; `None` when it is one of those that do not count.
    pub(crate) read: fn(&str) -> Read<T>,
}

/// An object with its name, `None` for one that does not count, or why it cannot be read.
pub(crate) type Read<T> = serde_json::Result<Option<(String, T)>>;

/// `ClusterVersion/version`.
pub(crate) static CLUSTER_VERSION: Resource<ClusterVersion> = Resource {
    name: "ClusterVersion/version",
    paths: &["/apis/config.openshift.io/v1/clusterversions"],
    object: Some("version"),
    page: PAGE,
    read: |text| {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct ClusterVersionStatus {
            #[serde(deserialize_with = "nullable")]
            desired: ReleaseBody,
            #[serde(deserialize_with = "nullable")]
            history: Vec<Entry>,
            #[serde(deserialize_with = "nullable")]
            available_updates: Vec<ReleaseBody>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct ReleaseBody {
            #[serde(deserialize_with = "nullable")]
            version: String,
            #[serde(deserialize_with = "nullable")]
            image: String,
        }
        #[derive(Deserialize)]
        struct Entry {
            #[serde(default, deserialize_with = "nullable")]
            state: String,
            #[serde(flatten)]
            release: ReleaseBody,
        }
        let WithStatus::<ClusterVersionStatus> { metadata, status } = serde_json::from_str(text)?;
        let release = |ReleaseBody { version, image }| Release { version, image };
        let history = status.history.into_iter().map(|entry| HistoryEntry {
            release: release(entry.release),
            // `Partial` is the only other state there is.
            state: if entry.state == "Completed" { RolloutState::Completed } else { RolloutState::Partial },
        });
        let version = ClusterVersion {
            history: history.collect(),
            desired: release(status.desired),
            available: status.available_updates.into_iter().map(release).collect(),
        };
        Ok(Some((metadata.name, version)))
    },
};

/// `ControllerConfig/machine-config-controller`, which also holds the global pull secret.
pub(crate) static CONTROLLER_CONFIG: Resource<ControllerConfig> = Resource {
    name: "ControllerConfig/machine-config-controller",
    paths: &["/apis/machineconfiguration.openshift.io/v1/controllerconfigs"],
    object: Some("machine-config-controller"),
    page: PAGE,
    read: |text| {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct ControllerConfigSpec {
            #[serde(rename = "baseOSContainerImage", deserialize_with = "nullable")]
            base: String,
        }
        let WithSpec::<ControllerConfigSpec> { mut metadata, spec } = serde_json::from_str(text)?;
        let config = ControllerConfig {
            base_os_container_image: spec.base,
            release_version: metadata.annotations.remove(RELEASE_VERSION).filter(|text| !text.is_empty()),
        };
        Ok(Some((metadata.name, config)))
    },
};

/// The ConfigMap with the image that the release brings.
pub(crate) static OS_IMAGE_URL: Resource<OsImageUrl> = Resource {
    name: "ConfigMap openshift-machine-config-operator/machine-config-osimageurl",
    paths: &["/api/v1/namespaces/openshift-machine-config-operator/configmaps"],
    object: Some("machine-config-osimageurl"),
    page: PAGE,
    read: |text| {
        let WithData { metadata, mut data } = serde_json::from_str(text)?;
        let mut take = |key: &str| data.remove(key).unwrap_or_default();
        let url = OsImageUrl {
            release_version: take("releaseVersion"),
            base_os_container_image: take("baseOSContainerImage"),
        };
        Ok(Some((metadata.name, url)))
    },
};

/// `OSImageStream/cluster`.
pub(crate) static STREAMS: Resource<Streams> = Resource {
    name: "OSImageStream/cluster",
    paths: &[
        "/apis/machineconfiguration.openshift.io/v1/osimagestreams",
        "/apis/machineconfiguration.openshift.io/v1alpha1/osimagestreams",
    ],
    object: Some("cluster"),
    page: PAGE,
    read: |text| {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct OsImageStreamStatus {
            #[serde(deserialize_with = "nullable")]
            default_stream: String,
            #[serde(deserialize_with = "nullable")]
            available_streams: Vec<OsImageStreamBody>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct OsImageStreamBody {
            name: String,
            #[serde(default, deserialize_with = "nullable")]
            os_image: String,
        }
        let WithStatus::<OsImageStreamStatus> { mut metadata, status } = serde_json::from_str(text)?;
        let streams = Streams {
            default_stream: status.default_stream,
            available: status
                .available_streams
                .into_iter()
                .map(|stream| (stream.name, stream.os_image))
                .collect(),
            release_image: metadata.annotations.remove(RELEASE_IMAGE).filter(|text| !text.is_empty()),
        };
        Ok(Some((metadata.name, streams)))
    },
};

/// A pool, and which nodes it selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolShape {
    /// The pool, its nodes not yet counted.
    pub(crate) pool: Pool,
    /// `spec.nodeSelector`.
    pub(crate) node_selector: Selector,
}

/// The MachineConfigPools.
pub(crate) static POOLS: Resource<PoolShape> = Resource {
    name: "MachineConfigPools",
    paths: &["/apis/machineconfiguration.openshift.io/v1/machineconfigpools"],
    object: None,
    page: PAGE,
    read: |text| {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct PoolSpec {
            #[serde(deserialize_with = "nullable")]
            machine_config_selector: WrittenSelector,
            #[serde(deserialize_with = "nullable")]
            node_selector: WrittenSelector,
            #[serde(deserialize_with = "nullable")]
            paused: bool,
            #[serde(deserialize_with = "nullable")]
            os_image_stream: PoolStream,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct PoolStream {
            #[serde(deserialize_with = "nullable")]
            name: String,
        }
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct WrittenSelector {
            #[serde(deserialize_with = "nullable")]
            match_labels: BTreeMap<String, String>,
            #[serde(deserialize_with = "nullable")]
            match_expressions: Vec<WrittenRequirement>,
        }
        #[derive(Deserialize)]
        struct WrittenRequirement {
            key: String,
            operator: String,
            #[serde(default, deserialize_with = "nullable")]
            values: Vec<String>,
        }
        let selector = |written: WrittenSelector| Selector {
            match_labels: written.match_labels,
            match_expressions: written
                .match_expressions
                .into_iter()
                .map(|WrittenRequirement { key, operator, values }| {
                    crate::model::facts::cluster::Requirement { key, operator, values }
                })
                .collect(),
        };
        let WithSpec::<PoolSpec> { metadata, spec } = serde_json::from_str(text)?;
        let name = metadata.name;
        let pool = Pool {
            name: name.clone(),
            machine_config_selector: selector(spec.machine_config_selector),
            os_image_stream: Some(spec.os_image_stream.name).filter(|name| !name.is_empty()),
            paused: spec.paused,
            nodes: Fact::Unknown(Cause::NotAsked),
        };
        Ok(Some((name, PoolShape { pool, node_selector: selector(spec.node_selector) })))
    },
};

/// The MachineConfigs that are not rendered. One may have 1.5 MiB, so few are asked for at once.
pub(crate) static MACHINE_CONFIGS: Resource<MachineConfigSummary> = Resource {
    name: "MachineConfigs",
    paths: &["/apis/machineconfiguration.openshift.io/v1/machineconfigs"],
    object: None,
    page: 10,
    read: |text| {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct MachineConfigSpec {
            #[serde(rename = "osImageURL", deserialize_with = "nullable")]
            os_image_url: String,
            #[serde(rename = "baseOSExtensionsContainerImage", deserialize_with = "nullable")]
            extensions_image: String,
            #[serde(deserialize_with = "nullable")]
            kernel_type: String,
            #[serde(deserialize_with = "nullable")]
            extensions: Vec<String>,
        }
        let WithSpec::<MachineConfigSpec> { metadata, spec } = serde_json::from_str(text)?;
        // What the operator renders belongs to its pool. Its name can be had by anybody.
        if metadata.owner_references.iter().any(|owner| owner.controller && owner.kind == "MachineConfigPool")
        {
            return Ok(None);
        }
        let summary = MachineConfigSummary {
            name: metadata.name.clone(),
            labels: metadata.labels,
            os_image_url: spec.os_image_url,
            extensions_image: spec.extensions_image,
            kernel_type: spec.kernel_type,
            extensions: spec.extensions,
            is_generated: metadata.annotations.contains_key(GENERATED_BY),
        };
        Ok(Some((metadata.name, summary)))
    },
};

/// What matters of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// `metadata.labels`.
    pub(crate) labels: BTreeMap<String, String>,
    /// `status.nodeInfo.architecture`; empty while the node has not told.
    pub(crate) architecture: String,
}

/// The nodes.
pub(crate) static NODES: Resource<Node> = Resource {
    name: "Nodes",
    paths: &["/api/v1/nodes"],
    object: None,
    page: 100,
    read: |text| {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct NodeStatus {
            #[serde(deserialize_with = "nullable")]
            node_info: Info,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Info {
            #[serde(deserialize_with = "nullable")]
            architecture: String,
        }
        let WithStatus::<NodeStatus> { metadata, status } = serde_json::from_str(text)?;
        let node = Node { labels: metadata.labels, architecture: status.node_info.architecture };
        Ok(Some((metadata.name, node)))
    },
};

/// The text of the global pull secret, which prints as nothing.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PullSecretText(pub(crate) Result<String, &'static str>);

impl std::fmt::Debug for PullSecretText {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("PullSecret")
    }
}

/// The global pull secret, which the operator brings to the nodes. No other secret is asked for.
pub(crate) static PULL_SECRET: Resource<PullSecretText> = Resource {
    name: "Secret openshift-config/pull-secret",
    paths: &["/api/v1/namespaces/openshift-config/secrets"],
    object: Some("pull-secret"),
    page: PAGE,
    read: |text| {
        let WithData { metadata, data } = serde_json::from_str(text)?;
        let secret = match data.get(".dockerconfigjson") {
            None => Err("it has no key `.dockerconfigjson`"),
            Some(text) => BASE64_STANDARD
                .decode(text)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or("its key `.dockerconfigjson` is no text"),
        };
        Ok(Some((metadata.name, PullSecretText(secret))))
    },
};

/// A ConfigMap, or a Secret, whose values are base64.
#[derive(Deserialize)]
pub(crate) struct WithData {
    pub(crate) metadata: ObjectMetadata,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) data: BTreeMap<String, String>,
}

/// An object of which `S` is read from the spec.
#[derive(Deserialize)]
#[serde(bound(deserialize = "S: Default + Deserialize<'de>"))]
pub(crate) struct WithSpec<S> {
    pub(crate) metadata: ObjectMetadata,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) spec: S,
}

/// An object of which `S` is read from the status.
#[derive(Deserialize)]
#[serde(bound(deserialize = "S: Default + Deserialize<'de>"))]
pub(crate) struct WithStatus<S> {
    pub(crate) metadata: ObjectMetadata,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) status: S,
}

/// What is read of every object's metadata.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectMetadata {
    pub(crate) name: String,
    #[serde(default, deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "nullable")]
    annotations: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "nullable")]
    owner_references: Vec<Owner>,
}

#[derive(Deserialize)]
struct Owner {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    controller: bool,
}

/// `null` stands for what is not there: controllers in Go write it for empty lists and maps.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// How many objects of ordinary size are asked for at once.
pub(crate) const PAGE: u32 = 50;
const RELEASE_VERSION: &str = "machineconfiguration.openshift.io/release-image-version";
const RELEASE_IMAGE: &str = "machineconfiguration.openshift.io/release-payload-image";
const GENERATED_BY: &str = "machineconfiguration.openshift.io/generated-by-controller-version";
