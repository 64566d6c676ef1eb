//! What is known about the cluster: plain data, one fact for each kind.
//!
//! Owns the few fields of each OpenShift object that verdicts depend on. A kind that the API server does
//! not serve, or an object that does not exist, is [`Fact::Absent`]; one that could not be read is
//! [`Fact::Unknown`] with its cause. The other kinds are not affected.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use crate::model::facts::Fact;
use crate::model::facts::registry_sources::RegistrySources;
use crate::model::machine_config::Field;

/// What is known about the cluster. Each fact is unknown until it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cluster {
    /// `ClusterVersion/version`: the release that the cluster runs or is being upgraded to.
    pub version: Fact<ClusterVersion>,
    /// `ControllerConfig/machine-config-controller`.
    pub controller_config: Fact<ControllerConfig>,
    /// The ConfigMap `openshift-machine-config-operator/machine-config-osimageurl`.
    pub os_image_url: Fact<OsImageUrl>,
    /// `OSImageStream/cluster`.
    pub streams: Fact<Streams>,
    /// The MachineConfigPools, sorted by name.
    pub pools: Fact<Vec<Pool>>,
    /// The MachineConfigs that are not rendered, sorted by name.
    pub machine_configs: Fact<Vec<MachineConfigSummary>>,
    /// `spec.registrySources` of `image.config.openshift.io/cluster`.
    pub registry_sources: Fact<RegistrySources>,
}

/// The facts of every review without a cluster.
static UNASKED: LazyLock<Arc<Cluster>> = LazyLock::new(Arc::default);

impl Cluster {
    /// A cluster that nobody asked.
    pub fn unasked() -> Arc<Self> {
        Arc::clone(&UNASKED)
    }

    /// Tells whether no cluster was asked.
    pub fn is_unasked(&self) -> bool {
        std::ptr::eq(self, &**UNASKED) || *self == **UNASKED
    }
}

/// The releases in `ClusterVersion/version` (`config.openshift.io/v1`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterVersion {
    /// `status.desired`: the release that the cluster runs, or during an upgrade the new one.
    pub desired: Release,
    /// `status.history`, the newest first.
    #[serde(default)]
    pub history: Vec<HistoryEntry>,
    /// `status.availableUpdates`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub available: Vec<Release>,
}

/// A release by name and payload image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Release {
    /// The version, such as `4.18.14`.
    pub version: String,
    /// The pull spec of the release payload as the cluster writes it; empty when there is none.
    pub image: String,
}

/// A release in the history of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HistoryEntry {
    /// The release.
    pub release: Release,
    /// Whether the rollout was completed.
    pub state: RolloutState,
}

/// Whether the rollout of a release was completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RolloutState {
    /// It was completed.
    Completed,
    /// It was not completed, or is in progress.
    Partial,
}

/// What the ControllerConfig says of the default operating system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControllerConfig {
    /// `spec.baseOSContainerImage`; empty on clusters with OS image streams.
    pub base_os_container_image: String,
    /// The annotation `machineconfiguration.openshift.io/release-image-version`; `None` where the
    /// operator is too old to write it.
    pub release_version: Option<String>,
}

/// The ConfigMap `machine-config-osimageurl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OsImageUrl {
    /// `releaseVersion`.
    pub release_version: String,
    /// `baseOSContainerImage`; empty where the key is missing.
    pub base_os_container_image: String,
}

/// `OSImageStream/cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Streams {
    /// `status.defaultStream`.
    pub default_stream: String,
    /// `status.availableStreams`: the operating system image of each stream.
    pub available: BTreeMap<String, String>,
    /// The annotation `machineconfiguration.openshift.io/release-payload-image`: the payload that
    /// the streams were read from.
    pub release_image: Option<String>,
}

/// A MachineConfigPool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pool {
    /// `metadata.name`.
    pub name: String,
    /// `spec.machineConfigSelector`: which MachineConfigs the pool takes.
    pub machine_config_selector: Selector,
    /// `spec.osImageStream.name`.
    pub os_image_stream: Option<String>,
    /// `spec.paused`.
    pub paused: bool,
    /// The nodes of the pool, counted by `status.nodeInfo.architecture`, such as `amd64`.
    pub nodes: Fact<BTreeMap<String, u32>>,
}

/// A label selector of a pool (`meta/v1 LabelSelector`). An empty one selects nothing, unlike elsewhere in
/// Kubernetes: the Machine Config Operator treats a pool that would select everything as a mistake
/// (`syncMachineConfigPool` and `getPoolsForMachineConfig` of its render controller, `GetPoolsForNode`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Selector {
    /// Labels that must exist with these values.
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements, all of which must hold.
    pub match_expressions: Vec<Requirement>,
}

/// One requirement of a selector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`. Any other operator selects nothing.
    pub operator: String,
    /// The values of `In` and `NotIn`.
    #[serde(default)]
    pub values: Vec<String>,
}

impl Pool {
    /// Tells whether the pool takes a MachineConfig with `labels`.
    pub fn takes(&self, labels: &BTreeMap<String, String>) -> bool {
        self.machine_config_selector.selects(labels)
    }
}

impl MachineConfigSummary {
    /// The image in `field`; empty when there is none.
    pub fn image(&self, field: Field) -> &str {
        match field {
            Field::OsImage => &self.os_image_url,
            Field::ExtensionsImage => &self.extensions_image,
        }
    }
}

impl Selector {
    /// Tells whether an object with `labels` is selected.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        *self != Self::default()
            && self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.holds_for(labels))
    }
}

impl Requirement {
    fn holds_for(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let is_listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator.as_str() {
            "In" => is_listed,
            "NotIn" => !is_listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    }
}

/// The fields of a MachineConfig in the cluster that verdicts depend on. Rendered ones are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MachineConfigSummary {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `spec.osImageURL`; empty where there is none.
    #[serde(default)]
    pub os_image_url: String,
    /// `spec.baseOSExtensionsContainerImage`; empty where there is none.
    #[serde(default)]
    pub extensions_image: String,
    /// `spec.kernelType`; empty where there is none.
    #[serde(default)]
    pub kernel_type: String,
    /// `spec.extensions`.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// Whether the annotation `machineconfiguration.openshift.io/generated-by-controller-version` is
    /// there: from 4.21 on such a MachineConfig is passed over for both image fields.
    #[serde(default)]
    pub is_generated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(role: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("role".to_owned(), role.to_owned())])
    }

    fn requirement(operator: &str, values: &[&str]) -> Selector {
        let values = values.iter().map(ToString::to_string).collect();
        let requirement = Requirement { key: "role".into(), operator: operator.into(), values };
        Selector { match_expressions: vec![requirement], ..Selector::default() }
    }

    #[test]
    fn selectors_select_as_the_operator_does() {
        let exact = Selector { match_labels: labels("worker"), ..Selector::default() };
        for (selector, worker, other, none) in [
            (Selector::default(), false, false, false),
            (exact, true, false, false),
            (requirement("In", &["worker", "infra"]), true, false, false),
            (requirement("NotIn", &["worker"]), false, true, true),
            (requirement("Exists", &[]), true, true, false),
            (requirement("DoesNotExist", &[]), false, false, true),
            (requirement("Resembles", &["worker"]), false, false, false),
        ] {
            let found =
                [labels("worker"), labels("master"), BTreeMap::new()].map(|set| selector.selects(&set));
            assert_eq!(found, [worker, other, none], "{selector:?}");
        }
    }
}
