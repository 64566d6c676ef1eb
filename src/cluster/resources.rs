//! The table of the resources that are read from the cluster.
//!
//! To read another kind, add an entry to the table below and a [`ObjectSummary`](super::objects::ObjectSummary) of its
//! objects. Reading, watching, readiness and the test of the ClusterRole follow the table.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::cluster::objects::{NodeSummary, PoolSummary, PullSecretText};
use crate::cluster::reflector::Reflector;
use crate::cluster::registry_config::{CaBundles, ImageConfig};
use crate::cluster::store::Store;
use crate::model::facts::cluster::{
    ClusterVersion, ControllerConfig, MachineConfigSummary, OsImageUrl, Streams,
};
use crate::model::facts::registry_sources::IMAGE_CONFIG;
use crate::registry::http::proxy::ProxySettings;
use crate::registry::mirrors::mirror_sets::MirrorSet;
use crate::tls::profile::Profile;

/// Declares [`Stores`] and [`RESOURCES`] from one list of entries: the field, what is kept of each object,
/// and the resource.
macro_rules! resources {
    ($($(#[$doc:meta])* $field:ident: $summary:ty = $resource:expr;)+) => {
        /// Every resource that may be read from the cluster, in the order in which messages name them.
        pub static RESOURCES: &[Resource] = &[$($resource),+];

        /// What is known of each resource of the table.
        #[derive(Debug)]
        pub(crate) struct Stores {$(
            $(#[$doc])*
            pub(crate) $field: Arc<Store<$summary>>,
        )+}

        impl Stores {
            /// Empty stores, which notify `changed` of each change.
            pub(crate) fn new(changed: &Arc<Notify>) -> Self {
                Self { $($field: Arc::new(Store::new(const { &$resource }, Arc::clone(changed)))),+ }
            }

            /// All stores, in the order of the table.
            pub(crate) fn all(&self) -> Vec<Arc<dyn Reflector>> {
                vec![$(Arc::clone(&self.$field) as Arc<dyn Reflector>),+]
            }
        }
    };
}

/// The ConfigMap `$object`, which messages call by its namespace and name.
macro_rules! config_map {
    ($namespace:literal, $object:literal) => {
        Resource::new(concat!("ConfigMap ", $namespace, "/", $object), CORE, "configmaps")
            .namespaced($namespace, $object)
    };
}

resources! {
    /// The release that the cluster runs or is updating to.
    version: ClusterVersion =
        Resource::new("ClusterVersion/version", CONFIG, "clusterversions").only("version");
    /// The base image of the release. Also holds the global pull secret, which is not decoded.
    controller_config: ControllerConfig =
        Resource::new("ControllerConfig/machine-config-controller", MACHINE_CONFIG, "controllerconfigs")
            .only("machine-config-controller");
    /// The base image of the release, on releases whose ControllerConfig does not have it.
    os_image_url: OsImageUrl =
        config_map!("openshift-machine-config-operator", "machine-config-osimageurl");
    /// The base image of each OS image stream.
    streams: Streams =
        Resource::new("OSImageStream/cluster", MACHINE_CONFIG_WITH_ALPHA, "osimagestreams").only("cluster");
    pools: PoolSummary = Resource::new("MachineConfigPools", MACHINE_CONFIG, "machineconfigpools");
    /// The MachineConfigs that are not rendered. One may have 1.5 MiB, and a page is held in memory whole, so pages are small.
    machine_configs: MachineConfigSummary =
        Resource { page_size: 5, ..Resource::new("MachineConfigs", MACHINE_CONFIG, "machineconfigs") };
    nodes: NodeSummary = Resource { page_size: 100, ..Resource::new("Nodes", CORE, "nodes") };
    /// The global pull secret, which the Machine Config Operator writes to the nodes. No other secret is read.
    pull_secret: PullSecretText = Resource {
        purpose: ResourcePurpose::RegistryCredentials,
        if_forbidden: PULL_SECRET_FORBIDDEN,
        ..Resource::new("Secret openshift-config/pull-secret", CORE, "secrets")
            .namespaced("openshift-config", "pull-secret")
    };
    digest_mirrors: Vec<MirrorSet> =
        Resource::new("ImageDigestMirrorSets", CONFIG, "imagedigestmirrorsets");
    tag_mirrors: Vec<MirrorSet> = Resource::new("ImageTagMirrorSets", CONFIG, "imagetagmirrorsets");
    content_policies: Vec<MirrorSet> =
        Resource::new("ImageContentSourcePolicies", OPERATOR, "imagecontentsourcepolicies");
    /// Which registries nodes may pull from, and which of them are insecure.
    image: ImageConfig = Resource::new(IMAGE_CONFIG, CONFIG, "images").only("cluster");
    proxy: ProxySettings = Resource::new("Proxy/cluster", CONFIG, "proxies").only("cluster");
    /// CA certificates of registries: `additionalTrustedCA` and the internal registry's, merged by the
    /// Machine Config Operator.
    registry_cas: CaBundles =
        config_map!("openshift-config-managed", "merged-trusted-image-registry-ca");
    internal_registry_cas: CaBundles =
        config_map!("openshift-config-managed", "image-registry-ca");
    /// The proxy's `trustedCA` and the system's CA certificates, merged by the Cluster Network Operator.
    trusted_cas: CaBundles =
        config_map!("openshift-config-managed", "trusted-ca-bundle");
    /// Which versions and cipher suites of TLS servers in the cluster are to accept.
    tls_profile: Profile = Resource {
        purpose: ResourcePurpose::Server,
        ..Resource::new("APIServer/cluster", CONFIG, "apiservers").only("cluster")
    };
}

/// A kind of object that is read from the cluster, or one object of it.
#[derive(Clone, Copy, Debug)]
pub struct Resource {
    /// What messages call it, such as `MachineConfigPools` or `ClusterVersion/version`.
    pub name: &'static str,
    /// Its API group.
    pub group: &'static ApiGroup,
    /// Its plural, as in URLs and in roles.
    pub plural: &'static str,
    /// The namespace that is read; `None` for a resource of the cluster.
    pub namespace: Option<&'static str>,
    /// The only object that is read; `None` for all of them.
    pub object: Option<&'static str>,
    /// What it is read for.
    pub purpose: ResourcePurpose,
    /// How many objects are listed with each request.
    pub(crate) page_size: u32,
    /// What is appended to the API server's message that reading is forbidden.
    pub(crate) if_forbidden: &'static str,
}

/// An API group.
#[derive(Debug)]
pub struct ApiGroup {
    /// Its name; empty for the core group.
    pub name: &'static str,
    /// The versions that can be decoded, the preferred one first.
    pub versions: &'static [&'static str],
}

/// What a resource is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourcePurpose {
    /// Verdicts.
    Verdicts,
    /// Credentials for registries, where no `--authfile` has them.
    RegistryCredentials,
    /// The TLS settings of a server.
    Server,
}

impl Resource {
    const fn new(name: &'static str, group: &'static ApiGroup, plural: &'static str) -> Self {
        Self {
            name,
            group,
            plural,
            namespace: None,
            object: None,
            purpose: ResourcePurpose::Verdicts,
            page_size: 50,
            if_forbidden: "",
        }
    }

    /// Reads only the object with this name.
    const fn only(self, object: &'static str) -> Self {
        Self { object: Some(object), ..self }
    }

    const fn namespaced(self, namespace: &'static str, object: &'static str) -> Self {
        Self { namespace: Some(namespace), object: Some(object), ..self }
    }

    /// The URL paths of the collection, one for each version, the preferred one first.
    pub(crate) fn paths(&self) -> impl Iterator<Item = String> {
        let group = match self.group.name {
            "" => "/api".to_owned(),
            name => format!("/apis/{name}"),
        };
        let namespace = self.namespace.map_or_else(String::new, |name| format!("/namespaces/{name}"));
        let plural = self.plural;
        self.group.versions.iter().map(move |version| format!("{group}/{version}{namespace}/{plural}"))
    }

    /// The field selector of the only object that is read.
    pub(crate) fn field_selector(&self) -> Option<String> {
        self.object.map(|name| format!("metadata.name={name}"))
    }
}

const CORE: &ApiGroup = &ApiGroup { name: "", versions: &["v1"] };
const CONFIG: &ApiGroup = &ApiGroup { name: "config.openshift.io", versions: &["v1"] };
const OPERATOR: &ApiGroup = &ApiGroup { name: "operator.openshift.io", versions: &["v1alpha1"] };
const MACHINE_CONFIG: &ApiGroup = &ApiGroup { name: "machineconfiguration.openshift.io", versions: &["v1"] };
/// Older releases serve OSImageStreams as `v1alpha1`.
const MACHINE_CONFIG_WITH_ALPHA: &ApiGroup =
    &ApiGroup { name: "machineconfiguration.openshift.io", versions: &["v1", "v1alpha1"] };

/// Where there is no namespace `openshift-config` the API server also answers that reading is forbidden.
const PULL_SECRET_FORBIDDEN: &str = "; on OpenShift apply deploy/openshift/pull_secret_role.yaml; on a cluster without the namespace \
     openshift-config use --authfile, or ignore this if images are public";

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::{Value, json};

    use super::*;

    /// For each group and resource the names of the objects that may be listed and watched, empty for all.
    type Rights = BTreeMap<(String, String), BTreeSet<String>>;

    fn needed(resources: impl Iterator<Item = &'static Resource>) -> Rights {
        let mut rights = Rights::new();
        for resource in resources {
            let key = (resource.group.name.to_owned(), resource.plural.to_owned());
            rights.entry(key).or_default().extend(resource.object.map(str::to_owned));
        }
        rights
    }

    /// The rights of a role, and its rules with other verbs than `list` and `watch`.
    fn granted(file: &str) -> (Rights, Vec<Value>) {
        let path = format!("{}/deploy/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let role: Value = serde_saphyr::from_str(text.split("\n---").next().unwrap()).unwrap();
        let mut rights = Rights::new();
        let mut others = Vec::new();
        for rule in role["rules"].as_array().unwrap() {
            if rule["verbs"] != json!(["list", "watch"]) {
                others.push(rule.clone());
                continue;
            }
            let texts = |field: &str| -> Vec<String> {
                let values = rule[field].as_array().into_iter().flatten();
                values.map(|value| value.as_str().unwrap().to_owned()).collect()
            };
            let [group, resource] = ["apiGroups", "resources"].map(|field| match texts(field).as_slice() {
                [one] => one.clone(),
                several => panic!("{field}: {several:?}"),
            });
            let names = BTreeSet::from_iter(texts("resourceNames"));
            assert_eq!(rights.insert((group, resource), names), None, "{rule}");
        }
        (rights, others)
    }

    #[test]
    fn the_cluster_role_grants_what_the_table_needs_and_nothing_else() {
        let is_secret = |resource: &&Resource| resource.plural == "secrets";
        let (rights, others) = granted("base/cluster_role.yaml");
        assert_eq!(rights, needed(RESOURCES.iter().filter(|resource| !is_secret(resource))));
        let create = |group: &str, resource: &str| json!({"apiGroups": [group], "resources": [resource], "verbs": ["create"]});
        let reviews = [
            create("authentication.k8s.io", "tokenreviews"),
            create("authorization.k8s.io", "subjectaccessreviews"),
        ];
        assert_eq!(others, reviews);

        let (rights, others) = granted("openshift/pull_secret_role.yaml");
        assert_eq!(rights, needed(RESOURCES.iter().filter(is_secret)));
        assert_eq!(others, [] as [Value; 0]);
    }

    #[test]
    fn each_resource_has_a_name_and_a_path_of_its_own() {
        let names: BTreeSet<_> = RESOURCES.iter().map(|resource| resource.name).collect();
        assert_eq!(names.len(), RESOURCES.len());
        let paths = |name: &str| -> Vec<_> {
            RESOURCES.iter().filter(|resource| resource.name == name).flat_map(Resource::paths).collect()
        };
        assert_eq!(paths("Nodes"), ["/api/v1/nodes"]);
        assert_eq!(
            paths("Secret openshift-config/pull-secret"),
            ["/api/v1/namespaces/openshift-config/secrets"]
        );
        let streams = ["v1", "v1alpha1"]
            .map(|version| format!("/apis/machineconfiguration.openshift.io/{version}/osimagestreams"));
        assert_eq!(paths("OSImageStream/cluster"), streams);
    }
}
