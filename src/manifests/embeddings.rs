//! Objects of other kinds that carry MachineConfigs: ConfigMaps, Secrets, templates, policies, work for
//! other clusters, kustomizations.
//!
//! Owns where in them a MachineConfig may stand, as an object or as a text, and what is different about
//! one that is carried. Which kinds there are is a list: whatever else may hold one is passed over.

use serde_json::json;

use crate::manifests::embedded::Embedding;
use crate::manifests::spans::{EditSpans, NodeRef};
use crate::manifests::tree::{NodeContent, mentions_encoded};
use crate::manifests::value::ValueFault;
use crate::manifests::{
    DefaultKind, DocumentFault, Documents, FaultKind, ManifestDocument, ObjectReader, TEMPLATE, read_carried,
    says_machine_config,
};
use crate::model::machine_config::{Field, GROUP, Origin, Subject};

/// What is known of a text by what carries it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EmbeddedText {
    /// In how many texts it stands.
    pub(crate) depth: usize,
    /// It stands in an OpenShift template, which puts values in the place of `${NAME}` and `${{NAME}}`.
    pub(crate) has_parameters: bool,
    /// It stands in a policy of Advanced Cluster Management, whose controller renders `{{…}}` and
    /// `{{hub…hub}}` in it on the cluster.
    pub(crate) is_in_policy: bool,
    /// The bytes of texts in texts that were read before it.
    pub(crate) spent: usize,
    /// The most of them that are read.
    pub(crate) allowance: usize,
    /// The most values that are kept of one document.
    pub(crate) max_nodes: usize,
}

impl EmbeddedText {
    /// Nothing carries `text`: it is a file.
    pub(crate) fn by_nothing(text: &str) -> Self {
        Self {
            depth: 0,
            has_parameters: false,
            is_in_policy: false,
            spent: 0,
            allowance: text.len() * MAX_COPIES,
            max_nodes: MAX_NODES,
        }
    }

    /// The fault of what is a template in it.
    pub(crate) fn template(self) -> FaultKind {
        if self.is_in_policy { FaultKind::PolicyTemplate } else { FaultKind::Template }
    }

    /// Tells whether something else writes `text` anew before a cluster sees it.
    pub(crate) fn is_open(self, text: &str) -> bool {
        text.contains("{{") || self.has_parameters && text.contains("${")
    }
}

impl ObjectReader<'_, '_> {
    /// Reads an object of a `kind` that is not a MachineConfig, nor a list of objects.
    pub(crate) fn carrier(
        &mut self,
        object: NodeRef<'_, '_>,
        kind: &str,
        group: &str,
        path: &str,
        nesting: usize,
    ) -> Result<(), ValueFault> {
        let before = self.seen();
        match (kind, group) {
            ("ConfigMap", _) => {
                self.texts(object, "data", path)?;
                self.encoded(object, "binaryData");
            }
            ("Secret", "") => {
                self.texts(object, "stringData", path)?;
                self.encoded(object, "data");
            }
            ("ManifestWork", WORK) => {
                if let Some(spec) = object.entry("spec") {
                    self.manifests(spec, &format!("{path}/spec"), nesting)?;
                }
            }
            ("ManifestWorkReplicaSet", WORK) => {
                let template = object.entry("spec").and_then(|spec| spec.entry("manifestWorkTemplate"));
                if let Some(template) = template {
                    self.manifests(template, &format!("{path}/spec/manifestWorkTemplate"), nesting)?;
                }
            }
            ("SyncSet" | "SelectorSyncSet", "hive.openshift.io") => {
                if let Some(spec) = object.entry("spec") {
                    let path = format!("{path}/spec");
                    self.items(spec, "resources", &path, nesting, DefaultKind::NOTHING)?;
                }
            }
            // Before templates had a group they were `v1`.
            ("Template", "template.openshift.io" | "") => {
                let outside = self.carried;
                self.carried.has_parameters = true;
                let outcome = self.items(object, "objects", path, nesting, DefaultKind::NOTHING);
                self.carried = outside;
                outcome?;
            }
            ("Policy" | "ConfigurationPolicy", POLICIES) => {
                let outside = self.carried;
                self.carried.is_in_policy = true;
                let outcome = self.policy(object, kind, path, nesting);
                self.carried = outside;
                outcome?;
            }
            // In a kustomization.yaml kind and version may be left out.
            ("Kustomization" | "Component", "kustomize.config.k8s.io") | ("", "") => {
                self.patches(object, path)?;
            }
            _ => {}
        }
        if before == self.seen() {
            self.read.pass_over(kind);
        }
        Ok(())
    }

    fn seen(&self) -> (usize, usize, usize) {
        (self.read.documents.len(), self.read.faults.len(), self.read.passed_over)
    }

    /// Reads the documents in the texts under `key`.
    fn texts(&mut self, object: NodeRef<'_, '_>, key: &str, path: &str) -> Result<(), ValueFault> {
        for (name, value) in object.entry(key).map(|texts| texts.entries()).unwrap_or_default() {
            let name = name.replace('~', "~0").replace('/', "~1");
            self.embedded(value, &format!("{path}/{key}/{name}"))?;
        }
        Ok(())
    }

    /// Tells of what speaks of MachineConfigs under `key`, where all is base64. It is not decoded: what
    /// is hidden there may be a secret, and its places are none of the file's.
    fn encoded(&mut self, object: NodeRef<'_, '_>, key: &str) {
        let values = object.entry(key).map(|texts| texts.entries()).unwrap_or_default();
        for value in values.into_iter().filter_map(|(_, value)| value) {
            if value.text().is_some_and(mentions_encoded) {
                self.read.faults.push(DocumentFault {
                    kind: FaultKind::Encoded,
                    position: Some(value.position()),
                    message: "base64 that speaks of a MachineConfig, and is not decoded".to_owned(),
                    concerns_a_machine_config: true,
                });
            }
        }
    }

    /// Reads the objects that work for another cluster puts there.
    fn manifests(&mut self, work: NodeRef<'_, '_>, path: &str, nesting: usize) -> Result<(), ValueFault> {
        match work.entry("workload") {
            Some(workload) => {
                self.items(workload, "manifests", &format!("{path}/workload"), nesting, DefaultKind::NOTHING)
            }
            None => Ok(()),
        }
    }

    fn policy(
        &mut self,
        policy: NodeRef<'_, '_>,
        kind: &str,
        path: &str,
        nesting: usize,
    ) -> Result<(), ValueFault> {
        if kind == "Policy" {
            return self.definitions(policy, "policy-templates", path, nesting);
        }
        self.definitions(policy, "object-templates", path, nesting)?;
        self.raw_definitions(policy);
        Ok(())
    }

    /// Reads the objects that a policy of Advanced Cluster Management defines.
    fn definitions(
        &mut self,
        policy: NodeRef<'_, '_>,
        key: &str,
        path: &str,
        nesting: usize,
    ) -> Result<(), ValueFault> {
        let definitions = policy.entry("spec").and_then(|spec| spec.entry(key));
        for (index, item) in self.sequence(definitions).into_iter().enumerate() {
            let Some(item) = item else { continue };
            let compliance = item.entry("complianceType").and_then(|entry| entry.text()).unwrap_or_default();
            // What must not be there is not put there.
            if compliance.eq_ignore_ascii_case("mustnothave") {
                continue;
            }
            if let Some(definition) = item.entry("objectDefinition") {
                let path = format!("{path}/spec/{key}/{index}/objectDefinition");
                self.object(definition, path, nesting + 1, DefaultKind::NOTHING)?;
            }
        }
        Ok(())
    }

    /// Tells of a MachineConfig in the text of a policy that the cluster itself renders.
    fn raw_definitions(&mut self, policy: NodeRef<'_, '_>) {
        let raw = policy.entry("spec").and_then(|spec| spec.entry("object-templates-raw"));
        if let Some(raw) = raw
            && raw.text().is_some_and(says_machine_config)
        {
            self.read.faults.push(DocumentFault {
                kind: self.carried.template(),
                position: Some(raw.position()),
                message: TEMPLATE.to_owned(),
                concerns_a_machine_config: true,
            });
        }
    }

    /// Reads the patches that stand in a kustomization as text.
    fn patches(&mut self, kustomization: NodeRef<'_, '_>, path: &str) -> Result<(), ValueFault> {
        for key in ["patches", "patchesJson6902"] {
            for (index, item) in self.sequence(kustomization.entry(key)).into_iter().enumerate() {
                let Some(item) = item else { continue };
                let before = self.read.documents.len();
                self.embedded(item.entry("patch"), &format!("{path}/{key}/{index}/patch"))?;
                let target = |key: &str| item.entry("target")?.entry(key)?.text();
                let is_other = target("kind").is_some_and(is_another_kind);
                let name = target("name").unwrap_or(ANY_NAME);
                let mut read = self.read.documents.split_off(before);
                read.retain_mut(|document| match document.subject.name == ANY_NAME {
                    true if is_other => false,
                    true => {
                        document.subject.name = name.to_owned();
                        true
                    }
                    false => true,
                });
                self.read.documents.append(&mut read);
            }
        }
        for (index, item) in self.sequence(kustomization.entry(STRATEGIC)).into_iter().enumerate() {
            self.embedded(item, &format!("{path}/{STRATEGIC}/{index}"))?;
        }
        Ok(())
    }

    /// Reads one operation of a JSON patch (RFC 6902). What it puts into a field that only MachineConfigs
    /// have is judged as if it were alone in one; its target, where a kustomization names one, has the rest.
    pub(crate) fn json_patch(&mut self, operation: NodeRef<'_, '_>, path: String) {
        if let Err(unfit) = self.judge_operation(operation, path) {
            self.fault(unfit);
        }
    }

    fn judge_operation(&mut self, operation: NodeRef<'_, '_>, path: String) -> Result<(), ValueFault> {
        let text = |key: &str| operation.entry(key).and_then(|entry| entry.text()).unwrap_or_default();
        let field = Field::ALL.into_iter().find(|field| field.pointer() == text("path"));
        let (Some(field), "add" | "replace", Some(value)) = (field, text("op"), operation.entry("value"))
        else {
            self.read.pass_over("");
            return Ok(());
        };
        if self.carried.is_open(text("value")) {
            return Err(ValueFault { at: value.written(), message: TEMPLATE.to_owned() });
        }
        let object = json!({
            "apiVersion": format!("{GROUP}/v1"),
            "kind": "MachineConfig",
            "metadata": {"name": ANY_NAME},
            "spec": {field.key(): self.values.value(value.written())?},
        });
        let positions = Field::ALL.map(|other| (other == field).then(|| value.position()));
        let origin = Origin::new(operation.position().line, positions, path).in_json_patch();
        let subject = Subject::from_value(object, origin)
            .map_err(|refused| ValueFault { at: value.written(), message: refused.message })?;
        self.read.documents.push(ManifestDocument { subject, spans: EditSpans::of_patched(field, value) });
        Ok(())
    }

    /// The items of a list; `None` for an alias to nowhere.
    fn sequence<'b, 'c>(&self, list: Option<NodeRef<'b, 'c>>) -> Vec<Option<NodeRef<'b, 'c>>> {
        let Some(list) = list else { return Vec::new() };
        match &self.tree.node(list.node()).content {
            NodeContent::Sequence(items) => items.iter().map(|item| list.item(*item)).collect(),
            _ => Vec::new(),
        }
    }

    /// Reads the documents in the text of a scalar, which stands at `path`.
    fn embedded(&mut self, value: Option<NodeRef<'_, '_>>, path: &str) -> Result<(), ValueFault> {
        let Some(value) = value else { return Ok(()) };
        let node = self.tree.node(value.node());
        let Some(inner) = node.content.text() else { return Ok(()) };
        if self.carried.depth >= MAX_EMBEDDING {
            return Ok(());
        }
        let spent = self.carried.spent + self.read.spent + inner.len();
        if spent > self.carried.allowance {
            let message = format!("the aliases bring more than {MAX_COPIES} times the text of the file");
            return Err(ValueFault { at: value.written(), message });
        }
        let carried = EmbeddedText { depth: self.carried.depth + 1, spent, ..self.carried };
        let Documents { mut documents, mut faults, spent, .. } = read_carried(inner, carried);
        self.read.spent += inner.len() + spent;
        // A ConfigMap holds texts of every sort: a script is not broken YAML.
        faults.retain(|fault| fault.concerns_a_machine_config);
        if documents.is_empty() && faults.is_empty() {
            return Ok(());
        }
        let embedding = Embedding::of(node, self.text);
        for document in &mut documents {
            document.subject.origin.move_into(path, |position| embedding.position(position));
            embedding.move_site(&mut document.spans);
            if let Some(obstacle) = value.obstacle() {
                document.spans.mark(obstacle);
            }
        }
        for fault in &mut faults {
            fault.position = fault.position.map(|position| embedding.position(position));
        }
        self.read.documents.append(&mut documents);
        self.read.faults.append(&mut faults);
        Ok(())
    }
}

/// Tells whether a target of `kind`, which may be a regular expression, is surely no MachineConfig.
fn is_another_kind(kind: &str) -> bool {
    kind != "MachineConfig" && !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The values that are kept of one document. A MachineConfig without its Ignition config has some
/// thirty, and a cluster some hundred MachineConfigs; this bounds what a hostile document costs.
const MAX_NODES: usize = 500_000;
/// What is patched, where nothing names it.
const ANY_NAME: &str = "*";
const WORK: &str = "work.open-cluster-management.io";
const POLICIES: &str = "policy.open-cluster-management.io";
const STRATEGIC: &str = "patchesStrategicMerge";
/// ConfigMaps in ConfigMaps: a node pool's among install-time manifests makes two.
const MAX_EMBEDDING: usize = 4;
/// Each text in a text is in the file once, for each text that it stands in, unless aliases bring it
/// again and again.
const MAX_COPIES: usize = 16;
