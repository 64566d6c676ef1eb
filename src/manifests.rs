//! The MachineConfigs in the text of one file.
//!
//! A file may hold many documents, lists, documents of other kinds (skipped), and objects that hold
//! MachineConfigs, such as ConfigMaps and policies. Each MachineConfig becomes a [`ManifestDocument`]; what
//! cannot be read becomes a [`DocumentFault`] with its position, and the rest is still read.
//! No I/O: [`crate::cli::inputs`] finds and reads the files.
//!
//! A text with `{{ … }}` or `{% … %}` is a template unless it parses as YAML and the values that are
//! judged have no such marks. Templates are told apart from broken YAML, because they need rendering, not
//! a fix.

pub mod edit;
pub(crate) mod embeddings;
pub(crate) mod json;
pub(crate) mod position_map;
pub(crate) mod read;
pub(crate) mod spans;
pub(crate) mod tree;
pub(crate) mod value;

use crate::manifests::read::{MAX_NODES, MAX_NODES_OF_ONE, read_file};
pub use crate::manifests::spans::EditSpans;
pub use crate::manifests::tree::mentions;
use crate::model::machine_config::{GROUP, ObjectError, Position, Subject};
use crate::text::shown;

/// Reads every MachineConfig in `text`, which is YAML or JSON.
pub fn read(text: &str) -> Documents {
    read_file(text, MAX_NODES)
}

/// Reads the one MachineConfig that is `text`, in YAML or JSON, as if it were being created.
///
/// Fails when the text is anything else, or holds the object inside another. The error carries line and
/// column where they are known.
pub fn read_one(text: &str) -> Result<Subject, ObjectError> {
    // JSON is read as in an AdmissionReview, which is faster than through the YAML reader.
    if text.trim_start().starts_with('{') {
        return Subject::from_json(text);
    }
    let Documents { mut documents, faults, skipped, skipped_kind } = read_file(text, MAX_NODES_OF_ONE);
    if let Some(DocumentFault { position, message, .. }) = faults.into_iter().next() {
        return Err(ObjectError { position, message });
    }
    let found = documents.len() + skipped;
    let message = match documents.pop() {
        Some(ManifestDocument { subject, .. }) if found == 1 && subject.origin.path().is_empty() => {
            return Ok(subject);
        }
        Some(_) if found == 1 => "expected one MachineConfig, found one inside another object".to_owned(),
        None if found < 2 => format!(
            "not a MachineConfig: kind is `{}`; expected `{GROUP}/v1`, `MachineConfig`",
            shown(&skipped_kind.unwrap_or_default())
        ),
        _ => format!("expected one MachineConfig, found {found} objects"),
    };
    Err(ObjectError { position: None, message })
}

/// What a text holds, in the order of the text.
#[derive(Debug, Default)]
pub struct Documents {
    /// The MachineConfigs.
    pub documents: Vec<ManifestDocument>,
    /// What could not be read.
    pub faults: Vec<DocumentFault>,
    /// How many documents and objects are of other kinds.
    pub skipped: usize,
    /// The kind of the first of them.
    skipped_kind: Option<String>,
}

impl Documents {
    fn skip(&mut self, kind: &str) {
        self.skipped += 1;
        self.skipped_kind.get_or_insert_with(|| kind.to_owned());
    }
}

/// One MachineConfig of a text.
#[derive(Debug)]
pub struct ManifestDocument {
    /// The object, with the positions of its values in the text.
    pub subject: Subject,
    /// The bytes of the values that a pin may change.
    pub spans: EditSpans,
}

/// Why a part of a text could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentFault {
    /// What kind of fault it is.
    pub kind: FaultKind,
    /// Where it is, when that is known.
    pub position: Option<Position>,
    /// What is wrong: one phrase.
    pub message: String,
    /// Whether the part that could not be read has `kind: MachineConfig`.
    pub declares_machine_config: bool,
}

/// The kinds of [`DocumentFault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The document is neither YAML nor JSON. The documents after it have been read.
    Syntax,
    /// The document is a template that is rendered before it is applied.
    Template,
    /// The object is in a policy and has template marks, which the policy controller renders on the cluster.
    PolicyTemplate,
    /// A judged value of an OpenShift Template has a parameter in it.
    Parameter,
    /// `kind: MachineConfig` with an `apiVersion` that is not that of MachineConfigs.
    ApiVersion,
    /// A MachineConfig in base64.
    Encoded,
    /// A MachineConfig that is not valid: a field of the wrong type, no name, a duplicate key.
    Object,
}

/// How a file came to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSelection {
    /// It was named.
    ByName,
    /// It was found in a folder that was named.
    InFolder,
    /// It was found in such a folder and ends in `.json`, as do files with comments and other variants of
    /// JSON.
    InFolderAsJson,
}

/// What a fault means for the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Not reported: a file that nobody named and that holds no MachineConfig.
    Ignored,
    /// Reported, but the exit status does not change, because there is nothing to fix in the file.
    Note,
    /// The file was to be judged and could not be: exit status 2.
    Error,
}

impl DocumentFault {
    /// The fault of a part that declares a MachineConfig.
    fn new(kind: FaultKind, position: Position, message: String) -> Self {
        Self { kind, position: Some(position), message, declares_machine_config: true }
    }

    /// What the fault means in a file that was selected so.
    ///
    /// A file that was named has to be judged, so each of its faults is an error. In a folder, templates,
    /// parameters, other `apiVersion`s and base64 are notes, because charts are often kept beside plain
    /// manifests; a template without `kind: MachineConfig` is ignored. Other text that is not YAML may hide
    /// a MachineConfig, and is an error in a folder too.
    pub fn severity(&self, selection: FileSelection) -> Severity {
        use FaultKind::{ApiVersion, Encoded, Object, Parameter, PolicyTemplate, Syntax, Template};
        match (self.kind, selection) {
            (_, FileSelection::ByName) => Severity::Error,
            (Template, _) if !self.declares_machine_config => Severity::Ignored,
            (Syntax, FileSelection::InFolderAsJson) if !self.declares_machine_config => Severity::Ignored,
            (Template | PolicyTemplate | Parameter | ApiVersion | Encoded, _) => Severity::Note,
            (Syntax | Object, _) => Severity::Error,
        }
    }

    /// One thing to do about it.
    pub fn help(&self) -> &'static str {
        match self.kind {
            FaultKind::Syntax => "fix the syntax at this position",
            FaultKind::Template => {
                "render it and check the output of `helm template CHART` or `kustomize build DIR`"
            }
            FaultKind::PolicyTemplate => {
                "replace the template with a value, or check what the policy created on a cluster: \
                 oc get machineconfig NAME -o yaml | layerpin check -"
            }
            FaultKind::Parameter => "check the output of `oc process --local -f FILE -o yaml`",
            FaultKind::ApiVersion => "write `apiVersion: machineconfiguration.openshift.io/v1`",
            FaultKind::Encoded => {
                "store it as plain text (`stringData` in a Secret), or check the output of `base64 --decode`"
            }
            FaultKind::Object => {
                "fix the object at this position; `oc apply --dry-run=server -f FILE` shows what the API server expects"
            }
        }
    }
}

#[cfg(test)]
mod tests;
