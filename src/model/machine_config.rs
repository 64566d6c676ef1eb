//! The fields of a MachineConfig that are judged, and the object under review.
//!
//! Owns where those fields are (JSON pointers, annotation keys) and how an object is read from JSON; [`wire`]
//! is its form there. All other fields, above all the Ignition config, are skipped while reading.

pub(crate) mod wire;

use std::collections::BTreeMap;
use std::fmt;

use crate::model::image_reference::{ImageReference, ReferenceError};
use crate::model::record::Record;

pub use crate::model::field::{Field, PerField};
pub use crate::model::machine_config::wire::MAX_EXTENSIONS;
pub(crate) use crate::model::machine_config::wire::MachineConfig;
use crate::text::shown;

/// The API group of MachineConfigs.
pub const GROUP: &str = "machineconfiguration.openshift.io";
/// The resource that is judged.
pub const RESOURCE: &str = "machineconfigs";
/// The label that names the pool of a MachineConfig.
pub const ROLE_LABEL: &str = "machineconfiguration.openshift.io/role";
/// The annotation by which a user asks for a tag to be resolved again.
pub const REPIN_ANNOTATION: &str = "layerpin.io/repin";
/// The role of the pool whose MachineConfigs every custom pool gets too.
pub const WORKER: &str = "worker";

/// The operation of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A stored object is replaced.
    Update,
}

/// One MachineConfig under review, with the one that it replaces.
#[derive(Clone, Debug)]
pub struct Subject {
    /// `metadata.name`, or `metadata.generateName` followed by `*` while the API server has not
    /// named the object yet.
    pub name: String,
    /// The operation.
    pub operation: Operation,
    /// The object as it would be stored.
    pub object: Object,
    /// The object that is stored now, on an update.
    pub stored: Option<Object>,
    /// Where the object was read.
    pub origin: Origin,
}

impl Subject {
    /// Reads one MachineConfig from JSON, as if it were being created.
    ///
    /// Fails when the text is not exactly one MachineConfig of the group
    /// `machineconfiguration.openshift.io`; the error carries line and column where they are known.
    pub fn from_json(text: &str) -> Result<Self, ObjectError> {
        let object: MachineConfig = serde_json::from_str(text).map_err(|error| ObjectError {
            position: Some(Position { line: error.line() as u64, column: error.column() as u64 }),
            message: json_message(&error),
        })?;
        Self::from_object(object).map_err(|message| ObjectError { position: None, message })
    }

    /// Reads one MachineConfig from a value, as if it were being created. `value` may lack the Ignition
    /// config.
    pub(crate) fn from_value(value: serde_json::Value, origin: Origin) -> Result<Self, InvalidValue> {
        let object: MachineConfig = serde_path_to_error::deserialize(value).map_err(|error| {
            let keys = error.path().iter().filter_map(|segment| match segment {
                serde_path_to_error::Segment::Map { key } => Some(key.clone()),
                _ => None,
            });
            let path: Vec<_> = keys.collect();
            InvalidValue { message: format!("`{}`: {}", path.join("."), error.inner()), path }
        })?;
        let subject = Self::from_object(object)
            .map_err(|message| InvalidValue { path: vec!["metadata".to_owned()], message })?;
        Ok(Self { origin, ..subject })
    }

    /// The pool in the role label. A `worker` object applies to every custom pool too; with the pools of a
    /// cluster, [`crate::pools::affected`] knows which ones.
    pub fn pools(&self) -> Vec<&str> {
        self.object.role().into_iter().collect()
    }

    /// Tells whether an update changes a field that is judged. A new object always does.
    pub fn changes_what_is_judged(&self) -> bool {
        let Some(stored) = &self.stored else { return true };
        self.object.role() != stored.role()
            || self.object.repin
            || Field::ALL.iter().any(|field| self.object.text(*field) != stored.text(*field))
    }

    fn from_object(object: MachineConfig) -> Result<Self, String> {
        let api_version = object.api_version.as_deref().unwrap_or_default();
        let kind = object.kind.as_deref().unwrap_or_default();
        if kind != "MachineConfig" || api_version.split_once('/').map(|(group, _)| group) != Some(GROUP) {
            let (api_version, kind) = (shown(api_version), shown(kind));
            return Err(format!(
                "not a MachineConfig: apiVersion is `{api_version}`, kind is `{kind}`; expected `{GROUP}/v1`, \
                 `MachineConfig`"
            ));
        }
        let name = object.name().ok_or("metadata.name is missing")?;
        let origin = Origin::default();
        Ok(Self { name, operation: Operation::Create, object: object.into(), stored: None, origin })
    }
}

/// The judged fields of one MachineConfig, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// All labels: the selector of a pool may use any of them.
    pub labels: BTreeMap<String, String>,
    /// `spec.kernelType`; empty when it is absent.
    pub kernel_type: String,
    /// `spec.extensions`, the first [`MAX_EXTENSIONS`] of them.
    pub extensions: Vec<String>,
    /// It has the annotation of a controller of the Machine Config Operator.
    pub is_generated: bool,
    /// The images in its fields; an empty field names no image.
    images: PerField<Option<FieldImage>>,
    /// The records of earlier pins, as written.
    records: PerField<Option<String>>,
    /// `layerpin.io/repin` is `"true"`: the tag is to be resolved again.
    pub repin: bool,
    /// It has a map of annotations, which may be empty.
    pub has_annotations: bool,
}

impl Object {
    /// The value of the role label.
    pub fn role(&self) -> Option<&str> {
        self.labels.get(ROLE_LABEL).map(String::as_str)
    }

    /// Tells whether both are equal but for an empty map of annotations.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        *self == Self { has_annotations: self.has_annotations, ..other.clone() }
    }

    /// The image that `field` names. `None` when the field is absent or empty.
    pub fn image(&self, field: Field) -> Option<&FieldImage> {
        self.images[field].as_ref()
    }

    /// The text of `field`, empty when it is absent.
    pub fn text(&self, field: Field) -> &str {
        self.image(field).map_or("", |image| image.text.as_str())
    }

    /// The parsed reference in `field`. `None` when the field is absent, empty or malformed.
    pub fn reference(&self, field: Field) -> Option<&ImageReference> {
        self.image(field)?.reference.as_ref().ok()
    }

    /// The record of an earlier pin, as written. `None` when there is none.
    pub fn record_text(&self, field: Field) -> Option<&str> {
        self.records[field].as_deref()
    }

    /// The record of an earlier pin when it matches the field: same repository, same digest.
    pub fn true_record(&self, field: Field) -> Option<Record> {
        let record = Record::parse(self.record_text(field)?)?;
        record.is_true_of(self.reference(field)?).then_some(record)
    }

    /// Tells whether any field names an image.
    pub fn names_an_image(&self) -> bool {
        Field::ALL.iter().any(|field| self.image(*field).is_some())
    }

    /// Sets `field` to `reference`.
    pub(crate) fn set_reference(&mut self, field: Field, reference: ImageReference) {
        self.images[field] =
            Some(FieldImage { text: reference.as_str().to_owned(), reference: Ok(reference) });
    }

    /// Sets or removes the record of `field`.
    pub(crate) fn set_record(&mut self, field: Field, record: Option<String>) {
        self.has_annotations |= record.is_some();
        self.records[field] = record;
    }
}

/// The image in a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldImage {
    /// The text as written.
    pub text: String,
    /// The text parsed, or what is wrong with it.
    pub reference: Result<ImageReference, ReferenceError>,
}

/// Where the request for a review comes in: it decides how an author has the object judged again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryPoint {
    /// A review by the server.
    Review,
    /// A run of a verb over files.
    Run,
}

/// Where an object was read.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    file: Option<String>,
    pin_command: Option<String>,
    line: Option<u64>,
    positions: PerField<Option<Position>>,
    path: String,
    is_json_patch: bool,
}

impl Origin {
    pub(crate) fn new(line: u64, positions: PerField<Option<Position>>, path: String) -> Self {
        Self { line: Some(line), positions, path, ..Self::default() }
    }

    /// The same origin, which is an operation of a JSON patch.
    pub(crate) fn in_json_patch(self) -> Self {
        Self { is_json_patch: true, ..self }
    }

    /// The name of the file in messages. `None` for an object that is not from a file.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Where the request for a review came in.
    pub fn entry_point(&self) -> EntryPoint {
        if self.file.is_some() { EntryPoint::Run } else { EntryPoint::Review }
    }

    /// The same origin, in a file that messages call `name`. `pin_command` pins the images of that file;
    /// `None` where the text cannot be written back.
    pub fn in_file(self, name: &str, pin_command: Option<String>) -> Self {
        Self { file: Some(name.to_owned()), pin_command, ..self }
    }

    /// The command that pins the images of the file. `None` when there is no file to write to, or when
    /// the object is a JSON patch, which has no place for the record of a pin.
    pub fn pin_command(&self) -> Option<&str> {
        self.pin_command.as_deref().filter(|_| !self.is_json_patch)
    }

    /// The JSON pointer of the object in its document: empty when it is the document, `/items/3` in a list,
    /// `/data/99-os.yaml` when it is the text of that entry of a ConfigMap.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The line where the object begins, starting at one.
    pub fn line(&self) -> Option<u64> {
        self.line
    }

    /// Where the value of `field` begins.
    pub fn position(&self, field: Field) -> Option<Position> {
        self.positions[field]
    }
}

/// A position in a text; both numbers start at one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

/// Why a text is not one MachineConfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectError {
    /// The position of the fault, when it is known.
    pub position: Option<Position>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ObjectError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Position { line, column }) = self.position {
            write!(formatter, "line {line}, column {column}: ")?;
        }
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for ObjectError {}

/// Why a value is not a MachineConfig.
#[derive(Debug)]
pub(crate) struct InvalidValue {
    /// The path to what is wrong.
    pub(crate) path: Vec<String>,
    /// What is wrong.
    pub(crate) message: String,
}

pub(crate) fn json_message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    // The position has a field of its own.
    message.split(" at line ").next().unwrap_or(&message).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::machine_config::wire::MAX_LABELS;

    #[test]
    fn more_labels_than_the_limit_are_refused_and_not_skipped() {
        let with = |count: usize| {
            let labels: serde_json::Map<_, _> =
                (0..count).map(|index| (format!("label-{index}"), "x".into())).collect();
            Subject::from_json(
                &serde_json::json!({
                    "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfig",
                    "metadata": {"name": "a", "labels": labels}, "spec": {"extensions": vec!["x"; count]},
                })
                .to_string(),
            )
        };
        assert_eq!(with(MAX_LABELS).unwrap().object.extensions.len(), MAX_EXTENSIONS);
        assert_eq!(with(MAX_LABELS + 1).unwrap_err().message, "more than 1024 labels");
    }

    #[test]
    fn absent_empty_and_null_fields_name_no_image() {
        for spec in ["{}", r#"{"osImageURL":""}"#, r#"{"osImageURL":null}"#, "null"] {
            let text = format!(
                r#"{{"apiVersion":"machineconfiguration.openshift.io/v1","kind":"MachineConfig",
                    "metadata":{{"name":"a","annotations":null,"labels":null}},"spec":{spec}}}"#
            );
            let subject = Subject::from_json(&text).unwrap();
            assert!(!subject.object.names_an_image(), "{spec}");
        }
    }

    #[test]
    fn json_that_is_not_a_machine_config_is_refused() {
        for (text, message) in [
            ("{", "line 1, column 1: EOF while parsing an object"),
            (
                r#"{"kind":"Pod","apiVersion":"v1"}"#,
                "not a MachineConfig: apiVersion is `v1`, kind is `Pod`; expected \
                 `machineconfiguration.openshift.io/v1`, `MachineConfig`",
            ),
            (
                r#"{"apiVersion":"machineconfiguration.openshift.io/v1","kind":"MachineConfig","spec":{}}"#,
                "metadata.name is missing",
            ),
        ] {
            assert_eq!(Subject::from_json(text).unwrap_err().to_string(), message);
        }
    }
}
