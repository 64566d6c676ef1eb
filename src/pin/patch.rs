//! A plan as a JSON patch, as the object after it, and in words for the author of the object.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::{Map, Value};

use crate::model::machine_config::{Field, REPIN_ANNOTATION, Subject};
use crate::model::record::Record;
use crate::pin::plan::{PinChange, Plan, Unresolved};

impl Plan {
    /// The changes as a JSON patch (RFC 6902) on the object under review.
    pub fn patch(&self) -> Patch {
        let annotation = |key: &str| PointerBuf::from_tokens(["metadata", "annotations", key]);
        let add = |path, value| PatchOperation::Add(AddOperation { path, value });
        let remove = |key| PatchOperation::Remove(RemoveOperation { path: annotation(key) });
        let replace = |field: Field| {
            let path = PointerBuf::from_tokens(["spec", field.key()]);
            let value = Value::from(self.pinned(field)?.as_str());
            Some(PatchOperation::Replace(ReplaceOperation { path, value }))
        };
        let mut operations: Vec<_> = Field::ALL.into_iter().filter_map(replace).collect();
        let records = Field::ALL.into_iter().filter_map(|field| {
            let record = self.record(field)?.map(|record| Value::from(record.to_string()));
            Some((field.record_annotation(), record))
        });
        if !self.has_annotations {
            // A member cannot be added to a map that is not there.
            let entries: Map<_, _> =
                records.filter_map(|(key, record)| Some((key.to_owned(), record?))).collect();
            let path = PointerBuf::from_tokens(["metadata", "annotations"]);
            operations.extend((!entries.is_empty()).then(|| add(path, Value::Object(entries))));
            return Patch(operations);
        }
        operations.extend(records.map(|(key, record)| match record {
            Some(record) => add(annotation(key), record),
            None => remove(key),
        }));
        operations.extend(self.removes_repin.then(|| remove(REPIN_ANNOTATION)));
        Patch(operations)
    }

    /// The subject as it is after the patch.
    pub fn apply(&self, subject: &Subject) -> Subject {
        let mut after = subject.clone();
        for field in Field::ALL {
            if let Some(reference) = self.pinned(field) {
                after.object.set_reference(field, reference.clone());
            }
            if let Some(record) = self.record(field) {
                after.object.set_record(field, record.map(Record::to_string));
            }
        }
        after.object.repin &= !self.removes_repin;
        after
    }

    /// What the author is told, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let decided = |field| Some((field, self.decision(field)?));
        let mut decisions = Field::ALL.into_iter().filter_map(decided);
        let warning = |(field, change): (Field, &PinChange)| {
            change.warning().map(|warning| format!("{}: {warning}", field.key()))
        };
        let mut warnings: Vec<_> = decisions.clone().filter_map(warning).collect();
        let needs_no_look_up = |(_, change): (Field, &PinChange)| {
            matches!(change, PinChange::TagDropped { .. } | PinChange::NoRecord { .. })
        };
        if self.removes_repin && decisions.all(needs_no_look_up) {
            warnings.push(format!(
                "{REPIN_ANNOTATION}: nothing to look up; no field has a tag or a record of one"
            ));
        }
        warnings
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
