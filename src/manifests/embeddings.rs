//! Objects of other kinds that hold MachineConfigs: lists, ConfigMaps, Secrets, templates, policies,
//! objects for other clusters, kustomizations.
//!
//! One table says which kinds there are and where in them a MachineConfig may be. [`Trees`] keeps what is
//! below these paths and [`mod@super::read`] reads it; objects of any other kind are skipped.
//!
//! [`Trees`]: crate::manifests::tree::Trees

use PartForm::{EncodedTexts, Objects, Patches, PolicyObjects, PolicyText, Texts};

/// A kind of object that holds others.
pub(crate) struct Embedding {
    kinds: &'static [&'static str],
    /// Empty for any group.
    groups: &'static [&'static str],
    /// Where the objects are.
    parts: &'static [EmbeddedPart],
}

/// A place in an object, and how the objects in it are written.
#[derive(Clone, Copy)]
pub(crate) struct EmbeddedPart {
    pub(crate) path: &'static [&'static str],
    pub(crate) form: PartForm,
}

/// How the objects of a part are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartForm {
    /// A list of objects.
    Objects,
    /// A list of entries with an `objectDefinition` each.
    PolicyObjects,
    /// A template that the policy controller renders.
    PolicyText,
    /// A map or list of texts.
    Texts,
    /// A map of texts in base64.
    EncodedTexts,
    /// A list of entries with a `patch` each, which is a text.
    Patches,
}

impl Embedding {
    /// The parts of objects of `kind` in `group`. There are none when they are skipped.
    pub(crate) fn parts_of(kind: &str, group: &str) -> &'static [EmbeddedPart] {
        let is_of_group =
            |embedding: &&Self| embedding.groups.is_empty() || embedding.groups.contains(&group);
        let mut of_kind = EMBEDDINGS.iter().filter(|embedding| embedding.is_of_kind(kind));
        of_kind.find(is_of_group).map_or(&[], |embedding| embedding.parts)
    }

    fn is_of_kind(&self, kind: &str) -> bool {
        self.kinds.contains(&kind) || self.kinds == LISTS && kind.ends_with("List")
    }

    const fn new(
        kinds: &'static [&'static str],
        groups: &'static [&'static str],
        parts: &'static [EmbeddedPart],
    ) -> Self {
        Self { kinds, groups, parts }
    }
}

impl EmbeddedPart {
    /// The first part that is at `path` followed by `key`, or below it.
    pub(crate) fn at_or_below(path: &[&str], key: &str) -> Option<Self> {
        let parts = EMBEDDINGS.iter().flat_map(|embedding| embedding.parts);
        let depth = path.len();
        parts.copied().find(|part| part.path.get(depth) == Some(&key) && part.path[..depth] == *path)
    }
}

/// Tells whether an object of `kind` may be or hold a MachineConfig.
pub(crate) fn may_hold(kind: &str) -> bool {
    kind == "MachineConfig" || EMBEDDINGS.iter().any(|embedding| embedding.is_of_kind(kind))
}

static EMBEDDINGS: [Embedding; 11] = [
    Embedding::new(LISTS, &[], &[at(&["items"], Objects)]),
    Embedding::new(&["ConfigMap"], &[], &[at(&["data"], Texts), at(&["binaryData"], EncodedTexts)]),
    Embedding::new(&["Secret"], &[""], &[at(&["stringData"], Texts), at(&["data"], EncodedTexts)]),
    Embedding::new(&["SyncSet", "SelectorSyncSet"], &[HIVE], &[at(&["spec", "resources"], Objects)]),
    Embedding::new(&["ManifestWork"], &[WORK], &[at(&["spec", "workload", "manifests"], Objects)]),
    Embedding::new(
        &["ManifestWorkReplicaSet"],
        &[WORK],
        &[at(&["spec", "manifestWorkTemplate", "workload", "manifests"], Objects)],
    ),
    // Templates are `v1` in old files.
    Embedding::new(&["Template"], &["template.openshift.io", ""], &[at(&["objects"], Objects)]),
    Embedding::new(&["Policy"], &[POLICY], &[at(&["spec", "policy-templates"], PolicyObjects)]),
    Embedding::new(&["ConfigurationPolicy"], &[POLICY], CONFIGURATION_POLICY),
    Embedding::new(&["Kustomization", "Component"], &["kustomize.config.k8s.io"], KUSTOMIZATION),
    // A kustomization.yaml may leave out kind and version.
    Embedding::new(&[""], &[""], KUSTOMIZATION),
];

const CONFIGURATION_POLICY: &[EmbeddedPart] =
    &[at(&["spec", "object-templates"], PolicyObjects), at(&["spec", "object-templates-raw"], PolicyText)];
const KUSTOMIZATION: &[EmbeddedPart] =
    &[at(&["patches"], Patches), at(&["patchesJson6902"], Patches), at(&["patchesStrategicMerge"], Texts)];

/// Any kind that ends so and has `items` is a list to `kubectl`.
const LISTS: &[&str] = &["List"];
const HIVE: &str = "hive.openshift.io";
const WORK: &str = "work.open-cluster-management.io";
/// The group of Advanced Cluster Management, whose controller replaces `{{…}}` and `{{hub…hub}}` on the cluster.
pub(crate) const POLICY: &str = "policy.open-cluster-management.io";

const fn at(path: &'static [&'static str], form: PartForm) -> EmbeddedPart {
    EmbeddedPart { path, form }
}
