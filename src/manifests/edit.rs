//! Writes a plan into the text that the object was read from.
//!
//! Owns which bytes change: those of the image values, and those of the records among the annotations,
//! in the style of the text around them. All other bytes are kept, line ends and comments too. An edit that
//! is not possible in this way is refused with its position, and nothing is changed: the new text is read
//! again and must match the plan.

pub(crate) mod annotations;

use std::borrow::Cow;
use std::ops::Range;

use granit_parser::ScalarStyle;

use crate::manifests::spans::{EditBlocker, EditBlockerKind, NodeKind, Span};
use crate::manifests::{self, ManifestDocument};
use crate::model::machine_config::{Field, Position};
use crate::pin::Plan;
use crate::text::escaped;

/// Writes each plan into `text`, at the document beside it. Returns the whole new text.
///
/// `documents` are all those of `text`, in its order, as [`manifests::read()`] returns them.
pub fn write<'t, 'a>(
    text: &'t str,
    documents: impl IntoIterator<Item = (&'a ManifestDocument, &'a Plan)>,
) -> Result<Cow<'t, str>, EditError> {
    let pairs: Vec<_> = documents.into_iter().collect();
    let mut changes = Vec::new();
    for (document, plan) in &pairs {
        for field in Field::ALL {
            let Some(reference) = plan.pinned(field) else { continue };
            let Some(span) = &document.spans.images[field] else { return Err(lost(document)) };
            changes.push(scalar(text, span, &format!("`spec.{}`", field.key()), reference.as_str())?);
        }
        annotations::change(text, document, plan, &mut changes)?;
    }
    if changes.is_empty() {
        return Ok(Cow::Borrowed(text));
    }
    let after = apply(text, changes).ok_or_else(|| unexpected(pairs[0]))?;
    verify(&after, &pairs)?;
    Ok(Cow::Owned(after))
}

/// Why a text cannot be edited in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditError {
    /// Where the reason is.
    pub position: Position,
    /// What is wrong: one phrase.
    pub message: String,
    /// One thing to do about it.
    pub help: String,
}

impl EditError {
    fn new(position: Position, message: String, help: impl Into<String>) -> Self {
        Self { position, message, help: help.into() }
    }
}

/// Bytes that are replaced by others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    range: Range<usize>,
    text: String,
}

/// The change of what is inside the quotes of a scalar to `value`.
fn scalar(text: &str, span: &Span, name: &str, value: &str) -> Result<Change, EditError> {
    check_editable(span, name, value)?;
    let NodeKind::Scalar(style) = span.kind else {
        return Err(EditError::new(span.position, format!("{name} is not a scalar"), by_hand(value)));
    };
    let written = text.get(span.value.clone()).unwrap_or_default();
    let quoted = |quote: char| written.len() >= 2 && written.starts_with(quote) && written.ends_with(quote);
    let quotes = match style {
        ScalarStyle::Plain if !written.contains(['\n', '\r']) => 0,
        ScalarStyle::SingleQuoted if quoted('\'') => 1,
        ScalarStyle::DoubleQuoted if quoted('"') => 1,
        _ => {
            let message = match style {
                ScalarStyle::Literal | ScalarStyle::Folded => {
                    format!("{name} is a block scalar, which cannot be edited in place")
                }
                _ => format!("{name} spans several lines"),
            };
            return Err(EditError::new(span.position, message, format!("write it on one line: {value}")));
        }
    };
    Ok(Change { range: span.value.start + quotes..span.value.end - quotes, text: value.to_owned() })
}

/// Fails when the value must not be changed.
fn check_editable(span: &Span, name: &str, value: &str) -> Result<(), EditError> {
    let Some(EditBlocker { kind, position }) = span.blocker else { return Ok(()) };
    let (message, help, alternative) = match kind {
        EditBlockerKind::Alias => (
            "comes from an alias, so an edit would change other values too",
            "replace the alias with the value",
            "",
        ),
        EditBlockerKind::SharedAnchor => (
            "has an anchor that an alias refers to, so an edit would change other values too",
            "remove the anchor and write the value everywhere",
            "",
        ),
        EditBlockerKind::Merge => (
            "comes from a merge key (`<<`), so an edit would change other values too",
            "write it in the object itself",
            "",
        ),
        EditBlockerKind::Tag => {
            ("has a YAML tag that may change its meaning", "remove the tag, or set by hand", "")
        }
        EditBlockerKind::JsonPatch => (
            "is set by a JSON patch, which cannot hold the record of the pin",
            "set by hand",
            "; layerpin can pin a strategic merge patch",
        ),
        EditBlockerKind::QuotedText => (
            "is in a quoted or folded text, which cannot be edited in place",
            "set by hand",
            "; layerpin can edit a literal block (`key: |`)",
        ),
    };
    Err(EditError::new(position, format!("{name} {message}"), format!("{help}: {value}{alternative}")))
}

fn by_hand(value: &str) -> String {
    format!("set by hand: {value}")
}

/// The plan is for a value that the text does not have: it was made for another text.
fn lost(document: &ManifestDocument) -> EditError {
    unexpected((document, &Plan::default()))
}

fn unexpected((document, plan): (&ManifestDocument, &Plan)) -> EditError {
    let origin = &document.subject.origin;
    let first = Field::ALL.into_iter().find_map(|field| origin.position(field));
    let position = first.unwrap_or(Position { line: origin.line().unwrap_or(1), column: 1 });
    let value = Field::ALL.into_iter().find_map(|field| plan.pinned(field));
    let help = value.map_or("edit by hand".to_owned(), |value| by_hand(value.as_str()));
    EditError::new(position, "cannot be edited in place in this YAML style".to_owned(), help)
}

/// Makes the changes, which must not overlap. Of two at the same byte the shorter comes first.
fn apply(text: &str, mut changes: Vec<Change>) -> Option<String> {
    changes.sort_by_key(|change| (change.range.start, change.range.end));
    let mut after = String::with_capacity(text.len() + changes.len() * 200);
    let mut from = 0;
    for Change { range, text: new } in &changes {
        after.push_str(text.get(from..range.start)?);
        after.push_str(new);
        from = range.end;
    }
    after.push_str(text.get(from..)?);
    Some(after)
}

/// Reads the new text: every object must match its plan.
fn verify(after: &str, pairs: &[(&ManifestDocument, &Plan)]) -> Result<(), EditError> {
    let read = manifests::read(after).documents;
    for (index, (document, plan)) in pairs.iter().enumerate() {
        let expected = plan.apply(&document.subject);
        let found = read.get(index).map(|document| &document.subject);
        let is_expected = found
            .is_some_and(|found| found.name == expected.name && found.object.says_the_same(&expected.object));
        if !is_expected {
            return Err(unexpected((document, plan)));
        }
    }
    if read.len() == pairs.len() { Ok(()) } else { Err(unexpected(pairs[0])) }
}

/// The end of the line that holds `offset`, after its line break.
fn after_line(text: &str, offset: usize) -> usize {
    text[offset..].find('\n').map_or(text.len(), |at| offset + at + 1)
}

/// The line break of `text`: that of its first line.
fn line_break(text: &str) -> &'static str {
    if text[..after_line(text, 0)].ends_with("\r\n") { "\r\n" } else { "\n" }
}

fn line_start(text: &str, offset: usize) -> usize {
    text[..offset].rfind('\n').map_or(0, |at| at + 1)
}

/// Names an annotation in a message.
fn annotation_name(key: &str) -> String {
    format!("the annotation `{}`", escaped(key))
}

#[cfg(test)]
mod tests;
