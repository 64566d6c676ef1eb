//! A plan as a JSON patch, as the object after it, and in words for the author of the object.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::Value;

use crate::model::machine_config::{Field, REPIN_ANNOTATION, Subject};
use crate::model::record::Record;
use crate::pin::plan::{PinChange, Plan, Unresolved};

impl Plan {
    /// The changes as a JSON patch (RFC 6902) on the object under review.
    pub fn patch(&self) -> Patch {
        let mut operations = Vec::new();
        for (field, reference) in &self.values {
            operations.push(PatchOperation::Replace(ReplaceOperation {
                path: PointerBuf::from_tokens(["spec", field.key()]),
                value: Value::from(reference.as_str()),
            }));
        }
        let annotation = |key: &str| PointerBuf::from_tokens(["metadata", "annotations", key]);
        if !self.has_annotations && self.records.iter().any(|(_, record)| record.is_some()) {
            // A member cannot be added to a map that is not there.
            let entries = self.records.iter().filter_map(|(field, record)| {
                Some((field.record_annotation().to_owned(), Value::from(record.as_ref()?.to_string())))
            });
            operations.push(PatchOperation::Add(AddOperation {
                path: PointerBuf::from_tokens(["metadata", "annotations"]),
                value: Value::Object(entries.collect()),
            }));
            return Patch(operations);
        }
        for (field, record) in &self.records {
            let path = annotation(field.record_annotation());
            operations.push(match record {
                Some(record) => {
                    PatchOperation::Add(AddOperation { path, value: Value::from(record.to_string()) })
                }
                None => PatchOperation::Remove(RemoveOperation { path }),
            });
        }
        if self.removes_repin {
            operations.push(PatchOperation::Remove(RemoveOperation { path: annotation(REPIN_ANNOTATION) }));
        }
        Patch(operations)
    }

    /// The subject as it is after the patch.
    pub fn apply(&self, subject: &Subject) -> Subject {
        let mut after = subject.clone();
        for (field, reference) in &self.values {
            after.object.set_reference(*field, reference.clone());
        }
        for (field, record) in &self.records {
            after.object.set_record(*field, record.as_ref().map(Record::to_string));
        }
        after.object.repin &= !self.removes_repin;
        after
    }

    /// What the author is told, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let of_fields = self.decisions.iter().filter_map(|(field, change)| {
            change.warning().map(|warning| format!("{}: {warning}", field.key()))
        });
        let needs_no_look_up = |(_, change): &(Field, PinChange)| {
            matches!(change, PinChange::TagDropped { .. } | PinChange::NoRecord { .. })
        };
        let in_vain = (self.removes_repin && self.decisions.iter().all(needs_no_look_up)).then(|| {
            format!("{REPIN_ANNOTATION}: nothing to look up; no field has a tag or a record of one")
        });
        of_fields.chain(in_vain).collect()
    }
}

impl PinChange {
    /// The decision as a warning. `None` where [`Plan::warnings`] says it of the object as a whole.
    fn warning(&self) -> Option<String> {
        Some(match self {
            Self::Pinned { reference, digest, reboots } => {
                format!("pinned `{reference}` to {}{reboots}", digest.short())
            }
            Self::RolledForward { tag, to, reboots, .. } => {
                format!("pinned `{tag}` to {}{reboots}", to.short())
            }
            Self::TagDropped { reference, digest } => format!(
                "dropped the tag `{}`, because nodes refuse tag and digest together; kept {}",
                reference.tag().unwrap_or_default(),
                digest.short()
            ),
            Self::Kept { tag, digest, moved_to: Some(moved_to) } => format!(
                "kept {} though `{tag}` now names {}; to roll forward, annotate it {REPIN_ANNOTATION}=true",
                digest.short(),
                moved_to.short()
            ),
            Self::Kept { tag, digest, moved_to: None } => format!(
                "kept {}, to which `{tag}` was pinned; to look again, annotate it {REPIN_ANNOTATION}=true",
                digest.short()
            ),
            Self::StillCurrent { tag, digest } => format!("`{tag}` still names {}", digest.short()),
            Self::NotPinned { reference, why: Unresolved::Absent } => {
                format!("not pinned, because {} has no `{}`", reference.host(), reference.pull_spec())
            }
            Self::NotPinned { reference, why } => format!("`{reference}` not pinned: {why}"),
            Self::NotRolled { tag, digest, why: Unresolved::Absent } => {
                format!("kept {}, because {} no longer has `{tag}`", digest.short(), tag.host())
            }
            Self::NotRolled { tag, digest, why } => format!("kept {}: `{tag}`: {why}", digest.short()),
            Self::NoRecord { .. } => return None,
        })
    }
}
