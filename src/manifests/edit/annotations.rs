//! Records among the annotations: added, updated, removed.
//!
//! Owns where a new entry goes and how it looks. It becomes the first one, right below the line of its
//! parent, so that it does not separate a comment from the entry that the comment is about; it is indented,
//! quoted and broken into lines like the entries around it.

use std::ops::Range;

use granit_parser::{ScalarStyle, StructureStyle};

use crate::manifests::ManifestDocument;
use crate::manifests::edit::{
    Change, EditError, after_line, annotation_name, by_hand, check_editable, line_break, line_start, scalar,
};
use crate::manifests::spans::{KeySpan, NodeKind, Span};
use crate::model::machine_config::{Field, Position, REPIN_ANNOTATION};
use crate::pin::Plan;

/// Adds to `changes` what `plan` changes among the annotations.
pub(crate) fn change(
    text: &str,
    document: &ManifestDocument,
    plan: &Plan,
    changes: &mut Vec<Change>,
) -> Result<(), EditError> {
    let spans = &document.spans;
    let mut new = Vec::new();
    let mut gone = Vec::new();
    for field in Field::ALL {
        let span = spans.records[field].as_ref();
        let key = field.record_annotation();
        match (plan.record(field), span) {
            (None, _) | (Some(None), None) => {}
            (Some(Some(record)), Some(span)) => changes.push(update(text, span, key, record.to_string())?),
            (Some(Some(record)), None) => {
                let quote = quote_of(text, spans.images[field].as_ref().map(|span| &span.value));
                new.push(AnnotationEdit { key, value: record.to_string(), quote });
            }
            (Some(None), Some(span)) => gone.push((key, span)),
        }
    }
    if let (true, Some(span)) = (plan.removes_repin, spans.repin.as_ref()) {
        gone.push((REPIN_ANNOTATION, span));
    }
    if new.is_empty() && gone.is_empty() {
        return Ok(());
    }
    let Some(metadata) = &spans.metadata else { return Err(crate::manifests::edit::lost(document)) };
    let map = spans.annotations.as_ref().unwrap_or(metadata);
    let quote = quote_of(text, Some(&map.keys.first().unwrap_or(&map.key).bytes));
    let has_annotations = spans.annotations.is_some();
    let edit = MapEdit { text, metadata, map, has_annotations, quote, new, gone };
    changes.append(&mut edit.changes()?);
    Ok(())
}

/// An annotation that the plan adds.
struct AnnotationEdit {
    key: &'static str,
    value: String,
    quote: &'static str,
}

/// The quotes of a scalar. `""` for none.
fn quote_of(text: &str, scalar: Option<&Range<usize>>) -> &'static str {
    match scalar.and_then(|range| text.as_bytes().get(range.start)) {
        Some(b'\'') => "'",
        Some(b'"') => "\"",
        _ => "",
    }
}

/// A key or value of ours in quotes; they contain nothing that would need an escape.
fn quoted(text: &str, quote: &str) -> String {
    format!("{quote}{text}{quote}")
}

fn update(text: &str, span: &Span, key: &str, value: String) -> Result<Change, EditError> {
    let name = annotation_name(key);
    if span.kind != NodeKind::Null {
        return scalar(text, span, &name, &value);
    }
    check_editable(span, &name, &value)?;
    let by_hand = by_hand(&value);
    put(text, span, value)
        .ok_or_else(|| EditError::new(span.position, format!("{name} has no value"), by_hand))
}

/// Replaces null, which may be written as nothing at all, by a value.
fn put(text: &str, span: &Span, value: String) -> Option<Change> {
    if !span.value.is_empty() {
        return Some(Change { range: span.value.clone(), text: value });
    }
    let at = behind_colon(text, span)?;
    Some(Change { range: at..at, text: format!(" {value}") })
}

/// The byte after the colon of a key.
fn behind_colon(text: &str, span: &Span) -> Option<usize> {
    let rest = text.get(span.key.bytes.end..)?.trim_start_matches([' ', '\t']);
    rest.starts_with(':').then(|| text.len() - rest.len() + 1)
}

/// What becomes of the annotations of one object.
struct MapEdit<'a> {
    text: &'a str,
    metadata: &'a Span,
    /// The annotations, or else the metadata that they are added to.
    map: &'a Span,
    has_annotations: bool,
    /// How the keys of the map are quoted.
    quote: &'static str,
    new: Vec<AnnotationEdit>,
    gone: Vec<(&'static str, &'a Span)>,
}

impl MapEdit<'_> {
    fn changes(&self) -> Result<Vec<Change>, EditError> {
        let Self { text, metadata, map, new, gone, .. } = self;
        // The first new entry, as a message names it.
        let first = new.first().map_or_else(String::new, |entry| format!("{}: {}", entry.key, entry.value));
        check_editable(metadata, "`metadata`", &format!("metadata, with the annotation {first}"))?;
        if self.has_annotations {
            check_editable(map, "`metadata.annotations`", &format!("annotations, with {first}"))?;
        }
        for (key, span) in gone {
            check_editable(span, &annotation_name(key), "")?;
        }
        if self.has_entries_in_braces() {
            return Ok(self.in_braces());
        }
        let no_room = || {
            let message = "the annotations cannot be edited in place in this YAML style".to_owned();
            let help = match first.as_str() {
                "" => "edit by hand".to_owned(),
                first => by_hand(&format!("the annotation {first}")),
            };
            EditError::new(map.position, message, help)
        };
        let mut changes = Vec::new();
        if !new.is_empty() {
            changes.push(self.added().ok_or_else(no_room)?);
        }
        for (key, span) in gone {
            changes.push(self.without_lines(span).ok_or_else(|| {
                let message = format!("{} cannot be removed in place", annotation_name(key));
                EditError::new(span.key.position, message, "remove it by hand")
            })?);
        }
        if new.is_empty() && gone.len() == map.keys.len() {
            // An empty value would be null.
            let colon = behind_colon(text, map).ok_or_else(no_room)?;
            changes.push(Change { range: colon..colon, text: " {}".to_owned() });
        }
        Ok(changes)
    }

    /// Tells whether there are annotations in braces. Braces with a comment in them are kept.
    fn has_entries_in_braces(&self) -> bool {
        let is_empty = || self.map.keys.is_empty() && self.text[self.map.value.clone()][1..].trim() == "}";
        self.has_annotations && self.map.kind == IN_BRACES && !is_empty()
    }

    /// The change that adds the new entries. `None` where the style of the text has no place for them.
    fn added(&self) -> Option<Change> {
        let Self { text, metadata, map, has_annotations, quote, ref new, .. } = *self;
        let outer_key = metadata.keys.first()?.position;
        let margin = match map.keys.first().filter(|_| has_annotations) {
            Some(key) => key.position.column - 1,
            None => outer_key.column - 1 + step(metadata.key.position, outer_key),
        };
        let line = |entry: &AnnotationEdit| {
            let value = quoted(&entry.value, entry.quote);
            format!("{}{}: {value}", spaces(margin), quoted(entry.key, quote))
        };
        let mut lines: Vec<_> = new.iter().map(line).collect();
        let flow = Flow::of(text, metadata);
        let key = quoted("annotations", quote);
        match (map.kind, has_annotations) {
            (IN_LINES, false) => {
                lines.insert(0, format!("{}{key}:", spaces(outer_key.column - 1)));
                self.below(&lines)
            }
            (_, false) => Some(flow.first_entry(&format!("{key}{}{}", flow.colon, flow.map_of(new, quote)))),
            (IN_LINES, true) => self.below(&lines),
            (NodeKind::Null, true) if metadata.kind == IN_LINES && map.value.is_empty() => self.below(&lines),
            (NodeKind::Null | IN_BRACES, true) => put(text, map, flow.map_of(new, quote)),
            _ => None,
        }
    }

    /// The changes that add and remove entries in braces.
    fn in_braces(&self) -> Vec<Change> {
        let keys = &self.map.keys;
        let flow = Flow::of(self.text, self.map);
        let entries: Vec<_> = self.new.iter().map(|entry| flow.entry(entry, self.quote)).collect();
        let end_of = |key: &KeySpan| {
            self.gone.iter().find(|(_, span)| span.key.bytes == key.bytes).map(|(_, span)| span.value.end)
        };
        let Some(kept) = keys.iter().rposition(|key| end_of(key).is_none()) else {
            let end = keys.last().and_then(end_of).unwrap_or(flow.first);
            return vec![Change { range: flow.first..end, text: entries.join(flow.comma()) }];
        };
        let removed = |range| Change { range, text: String::new() };
        let pairs = keys[..=kept].windows(2).filter(|pair| end_of(&pair[0]).is_some());
        // The last ones are removed with the comma before them.
        let last = keys.get(kept + 1).zip(keys.last().and_then(end_of)).map(|(key, end)| {
            let start = key.bytes.start;
            removed(self.text[..start].rfind(',').unwrap_or(start)..end)
        });
        let others = pairs.map(|pair| removed(pair[0].bytes.start..pair[1].bytes.start));
        entries.iter().map(|entry| flow.first_entry(entry)).chain(others).chain(last).collect()
    }

    /// Adds lines right below the line of the key of the map, whose value begins on a later line.
    fn below(&self, lines: &[String]) -> Option<Change> {
        let Self { text, map, .. } = *self;
        let at = after_line(text, map.key.bytes.end);
        let margin = &text[line_start(text, map.key.bytes.start)..map.key.bytes.start];
        let margin = margin.trim_start_matches('\u{feff}');
        let is_plain = margin.chars().all(|character| matches!(character, ' ' | '-'));
        let begins = map.value.start.max(map.key.bytes.end);
        // Anchors and tags may be on lines of their own before their value.
        let between = text.get(at..begins).unwrap_or_default();
        let is_clear = between.lines().all(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#')
        });
        if !is_plain || !is_clear || (!map.value.is_empty() && begins < at) {
            return None;
        }
        let line_break = line_break(text);
        let added = match text[..at].ends_with('\n') {
            true => lines.iter().map(|line| format!("{line}{line_break}")).collect(),
            false => lines.iter().map(|line| format!("{line_break}{line}")).collect(),
        };
        Some(Change { range: at..at, text: added })
    }

    /// Removes the lines of an entry. `None` where they are not its own.
    fn without_lines(&self, span: &Span) -> Option<Change> {
        let key = span.key.bytes.start;
        let start = line_start(self.text, key);
        let end = after_line(self.text, span.value.end);
        let is_alone = self.text[start..key].chars().all(|character| character == ' ');
        let rest = self.text[span.value.end..end].trim();
        let is_block = matches!(
            span.kind,
            NodeKind::Scalar(ScalarStyle::Literal | ScalarStyle::Folded) | NodeKind::Mapping(_)
        );
        if !is_alone || is_block || !(rest.is_empty() || rest.starts_with('#')) {
            return None;
        }
        let start = match self.text[..end].ends_with('\n') {
            true => start,
            // The last line of the text is removed with the line break before it.
            false => self.text[..start].trim_end_matches(['\n', '\r']).len(),
        };
        Some(Change { range: start..end, text: String::new() })
    }
}

/// A mapping in braces, and how it is laid out.
struct Flow<'a> {
    text: &'a str,
    /// The byte of the opening brace.
    start: usize,
    /// The byte of the first key, or the one after the brace where there is none.
    first: usize,
    /// The indentation of each key. `None` when the mapping is not broken into lines.
    margin: Option<&'a str>,
    /// What a level of nesting adds to the indentation.
    step: &'a str,
    colon: &'static str,
}

impl<'a> Flow<'a> {
    fn of(text: &'a str, map: &'a Span) -> Self {
        let start = map.value.start;
        let first = map.keys.first().map(|key| &key.bytes);
        let line = first.map(|key| line_start(text, key.start));
        let margin = line.zip(first).map(|(line, key)| &text[line..key.start]);
        // In lines when the first key has a line to itself, below the brace.
        let margin = margin.filter(|margin| {
            line.is_some_and(|line| line > start)
                && margin.chars().all(|character| matches!(character, ' ' | '\t'))
        });
        let parent = &text[line_start(text, start)..start];
        let parent = &parent[..parent.len() - parent.trim_start_matches([' ', '\t']).len()];
        let step = margin.and_then(|margin| margin.strip_prefix(parent)).filter(|step| !step.is_empty());
        let colon = match first.map_or("", |key| &text[key.end..]) {
            rest if rest.starts_with(" : ") => " : ",
            rest if rest.starts_with(':') && !rest[1..].starts_with([' ', '\t', '\n', '\r']) => ":",
            _ => ": ",
        };
        let first = first.map_or(start + 1, |key| key.start);
        Self { text, start, first, margin, step: step.unwrap_or("  "), colon }
    }

    /// The change that adds `entry` before the first.
    fn first_entry(&self, entry: &str) -> Change {
        match self.margin {
            Some(margin) => {
                let at = after_line(self.text, self.start);
                Change { range: at..at, text: format!("{margin}{entry},{}", line_break(self.text)) }
            }
            None => Change { range: self.first..self.first, text: format!("{entry}{}", self.comma()) },
        }
    }

    /// A mapping of `entries` for a value of this one.
    fn map_of(&self, entries: &[AnnotationEdit], key_quote: &str) -> String {
        let entries: Vec<_> = entries.iter().map(|entry| self.entry(entry, key_quote)).collect();
        match self.margin {
            Some(margin) => {
                let line_break = line_break(self.text);
                let inner = format!("{line_break}{margin}{}", self.step);
                let entries = entries.join(&format!(",{inner}"));
                format!("{{{inner}{entries}{line_break}{margin}}}")
            }
            None => format!("{{{}}}", entries.join(self.comma())),
        }
    }

    fn entry(&self, entry: &AnnotationEdit, key_quote: &str) -> String {
        // A plain key needs white space after its colon, and JSON needs quoted values.
        let (colon, quote) = match (self.colon, key_quote) {
            (":", "") => (": ", entry.quote),
            (":", _) => (":", "\""),
            (colon, _) => (colon, entry.quote),
        };
        format!("{}{colon}{}", quoted(entry.key, key_quote), quoted(&entry.value, quote))
    }

    fn comma(&self) -> &'static str {
        if self.colon == ":" { "," } else { ", " }
    }
}

const IN_LINES: NodeKind = NodeKind::Mapping(StructureStyle::Block);
const IN_BRACES: NodeKind = NodeKind::Mapping(StructureStyle::Flow);

/// How much further a child is indented than its parent.
fn step(parent: Position, child: Position) -> u64 {
    child.column.checked_sub(parent.column).filter(|step| *step > 0).unwrap_or(2)
}

fn spaces(count: u64) -> String {
    " ".repeat(usize::try_from(count).unwrap_or_default())
}
