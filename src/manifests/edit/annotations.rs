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
use crate::manifests::spans::{NodeKind, Span};
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
            (Some(Some(record)), Some(span)) => changes.push(update(text, span, key, &record.to_string())?),
            (Some(Some(record)), None) => {
                let quote = Quote::of(text, spans.images[field].as_ref().map(|span| &span.value));
                new.push(AnnotationEdit { key, value: record.to_string(), quote });
            }
            (Some(None), Some(span)) => gone.push((key, span)),
        }
    }
    if let (true, Some(span)) = (plan.removes_repin(), spans.repin.as_ref()) {
        gone.push((REPIN_ANNOTATION, span));
    }
    if new.is_empty() && gone.is_empty() {
        return Ok(());
    }
    let Some(metadata) = &spans.metadata else { return Err(crate::manifests::edit::lost(document)) };
    let editor = Editor { text, metadata, annotations: spans.annotations.as_ref() };
    editor.change(&new, &gone, changes)
}

/// An annotation that the plan adds.
struct AnnotationEdit {
    key: &'static str,
    value: String,
    quote: Quote,
}

/// How a scalar is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quote {
    None,
    Single,
    Double,
}

impl Quote {
    fn of(text: &str, scalar: Option<&Range<usize>>) -> Self {
        match scalar.and_then(|range| text.as_bytes().get(range.start)) {
            Some(b'\'') => Self::Single,
            Some(b'"') => Self::Double,
            _ => Self::None,
        }
    }

    /// Our keys and records contain nothing that would need an escape.
    fn around(self, text: &str) -> String {
        match self {
            Self::None => text.to_owned(),
            Self::Single => format!("'{text}'"),
            Self::Double => format!("\"{text}\""),
        }
    }
}

fn update(text: &str, span: &Span, key: &str, value: &str) -> Result<Change, EditError> {
    let name = annotation_name(key);
    if let NodeKind::Scalar { is_null: true, .. } = span.kind {
        check_editable(span, &name, value)?;
        return put(text, span, value)
            .ok_or_else(|| EditError::new(span.position, format!("{name} has no value"), by_hand(value)));
    }
    Ok(Change { range: scalar(text, span, &name, value)?, text: value.to_owned() })
}

/// Replaces null, which may be written as nothing at all, by a value.
fn put(text: &str, span: &Span, value: &str) -> Option<Change> {
    if !span.value.is_empty() {
        return Some(Change { range: span.value.clone(), text: value.to_owned() });
    }
    let at = behind_colon(text, span)?;
    Some(Change { range: at..at, text: format!(" {value}") })
}

/// The byte after the colon of a key.
fn behind_colon(text: &str, span: &Span) -> Option<usize> {
    let rest = text.get(span.key.end..)?.trim_start_matches([' ', '\t']);
    rest.starts_with(':').then(|| text.len() - rest.len() + 1)
}

/// Changes one object's annotations.
struct Editor<'a> {
    text: &'a str,
    metadata: &'a Span,
    annotations: Option<&'a Span>,
}

impl Editor<'_> {
    fn change(
        &self,
        new: &[AnnotationEdit],
        gone: &[(&str, &Span)],
        changes: &mut Vec<Change>,
    ) -> Result<(), EditError> {
        let first = &wanted(new);
        check_editable(self.metadata, "`metadata`", &format!("metadata, with the annotation {first}"))?;
        let Some(annotations) = self.annotations else {
            changes.push(self.add_map(new)?);
            return Ok(());
        };
        check_editable(annotations, "`metadata.annotations`", &format!("annotations, with {first}"))?;
        match &annotations.kind {
            NodeKind::Scalar { is_null: true, .. } => changes.push(self.fill(annotations, new)?),
            // Braces with a comment in them are kept.
            NodeKind::Mapping { style: StructureStyle::Flow, keys, .. }
                if keys.is_empty() && self.text[annotations.value.clone()][1..].trim() == "}" =>
            {
                changes.push(self.fill(annotations, new)?);
            }
            NodeKind::Mapping { style: StructureStyle::Block, keys, .. } => {
                if !new.is_empty() {
                    let (_, at) = keys.first().ok_or_else(|| self.refusal(annotations.position, first))?;
                    let lines = entries_in_lines(new, &self.key_quote(keys), &spaces(at.column - 1));
                    changes.push(self.below(annotations, &lines, first)?);
                }
                for (key, span) in gone {
                    changes.push(self.without_lines(key, span)?);
                }
                if new.is_empty() && gone.len() == keys.len() {
                    // An empty value would be null.
                    let colon = behind_colon(self.text, annotations)
                        .ok_or_else(|| self.refusal(annotations.position, first))?;
                    changes.push(Change { range: colon..colon, text: " {}".to_owned() });
                }
            }
            NodeKind::Mapping { style: StructureStyle::Flow, keys, .. } => {
                self.change_flow(annotations, keys, new, gone, changes)?;
            }
            _ => return Err(self.refusal(annotations.position, first)),
        }
        Ok(())
    }

    /// Adds annotations to metadata that has none.
    fn add_map(&self, new: &[AnnotationEdit]) -> Result<Change, EditError> {
        let first = &wanted(new);
        let NodeKind::Mapping { style, keys, .. } = &self.metadata.kind else {
            return Err(self.refusal(self.metadata.position, first));
        };
        let Some((_, at)) = keys.first() else { return Err(self.refusal(self.metadata.position, first)) };
        let quote = self.key_quote(keys);
        let key = quote.around("annotations");
        match style {
            StructureStyle::Block => {
                let margin = spaces(at.column - 1);
                let step = step(self.metadata.key_position, *at);
                let mut lines = vec![format!("{margin}{key}:")];
                lines.append(&mut entries_in_lines(new, &quote, &format!("{margin}{}", spaces(step))));
                self.below(self.metadata, &lines, first)
            }
            StructureStyle::Flow => {
                let flow = self.flow(self.metadata, keys);
                let inner = flow.map_of(new, quote, self.line_break());
                Ok(flow.first_entry(&format!("{key}{}{inner}", flow.colon), self.line_break()))
            }
        }
    }

    /// Replaces annotations that are null or empty.
    fn fill(&self, annotations: &Span, new: &[AnnotationEdit]) -> Result<Change, EditError> {
        let first = &wanted(new);
        let quote = Quote::of(self.text, Some(&annotations.key));
        let NodeKind::Mapping { style, keys, .. } = &self.metadata.kind else {
            return Err(self.refusal(self.metadata.position, first));
        };
        if *style == StructureStyle::Block && annotations.value.is_empty() {
            let step = step(self.metadata.key_position, annotations.key_position);
            let margin = spaces(annotations.key_position.column - 1 + step);
            return self.below(annotations, &entries_in_lines(new, &quote, &margin), first);
        }
        let flow = self.flow(self.metadata, keys);
        let map = flow.map_of(new, quote, self.line_break());
        put(self.text, annotations, &map).ok_or_else(|| self.refusal(annotations.position, first))
    }

    fn change_flow(
        &self,
        annotations: &Span,
        keys: &[(Range<usize>, Position)],
        new: &[AnnotationEdit],
        gone: &[(&str, &Span)],
        changes: &mut Vec<Change>,
    ) -> Result<(), EditError> {
        for (key, span) in gone {
            check_editable(span, &annotation_name(key), "")?;
        }
        let is_gone =
            |key: &Range<usize>| gone.iter().find(|(_, span)| span.key == *key).map(|(_, span)| *span);
        let flow = self.flow(annotations, keys);
        let quote = Quote::of(self.text, Some(keys.first().map_or(&annotations.key, |(key, _)| key)));
        let entries: Vec<_> = new.iter().map(|entry| flow.entry(entry, quote)).collect();
        if keys.iter().all(|(key, _)| is_gone(key).is_some()) {
            let end = keys.last().and_then(|(key, _)| is_gone(key)).map_or(flow.first, |span| span.value.end);
            changes.push(Change { range: flow.first..end, text: entries.join(flow.comma()) });
            return Ok(());
        }
        for entry in &entries {
            changes.push(flow.first_entry(entry, self.line_break()));
        }
        // Adjacent entries are removed together, with the comma on one side.
        let mut index = 0;
        while index < keys.len() {
            let begins = index;
            let mut ends = None;
            while let Some(span) = keys.get(index).and_then(|(key, _)| is_gone(key)) {
                ends = Some(span.value.end);
                index += 1;
            }
            if let Some(ends) = ends {
                let start = keys[begins].0.start;
                let range = match keys.get(index) {
                    Some((kept, _)) => start..kept.start,
                    None => self.text[..start].rfind(',').unwrap_or(start)..ends,
                };
                changes.push(Change { range, text: String::new() });
            }
            index += 1;
        }
        Ok(())
    }

    /// Adds lines right below the line of a key whose value begins on a later line.
    fn below(&self, parent: &Span, lines: &[String], value: &str) -> Result<Change, EditError> {
        let at = after_line(self.text, parent.key.end);
        let margin = &self.text[line_start(self.text, parent.key.start)..parent.key.start];
        let margin = margin.trim_start_matches('\u{feff}');
        let is_plain = margin.chars().all(|character| matches!(character, ' ' | '-'));
        let begins = parent.value.start.max(parent.key.end);
        // Anchors and tags may be on lines of their own before their value.
        let between = self.text.get(at..begins).unwrap_or_default();
        let is_clear = between.lines().all(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#')
        });
        if !is_plain || !is_clear || (!parent.value.is_empty() && begins < at) {
            return Err(self.refusal(parent.position, value));
        }
        let line_break = self.line_break();
        let text = match self.text[..at].ends_with('\n') {
            true => lines.iter().map(|line| format!("{line}{line_break}")).collect(),
            false => lines.iter().map(|line| format!("{line_break}{line}")).collect(),
        };
        Ok(Change { range: at..at, text })
    }

    /// Removes the lines of an entry.
    fn without_lines(&self, key: &str, span: &Span) -> Result<Change, EditError> {
        check_editable(span, &annotation_name(key), "")?;
        let start = line_start(self.text, span.key.start);
        let end = after_line(self.text, span.value.end);
        let is_alone = self.text[start..span.key.start].chars().all(|character| character == ' ');
        let rest = self.text[span.value.end..end].trim();
        let is_block = matches!(
            span.kind,
            NodeKind::Scalar { style: ScalarStyle::Literal | ScalarStyle::Folded, .. }
                | NodeKind::Mapping { .. }
        );
        if !is_alone || is_block || !(rest.is_empty() || rest.starts_with('#')) {
            let message = format!("{} cannot be removed in place", annotation_name(key));
            return Err(EditError::new(span.key_position, message, "remove it by hand"));
        }
        let start = match self.text[..end].ends_with('\n') {
            true => start,
            // The last line of the text is removed with the line break before it.
            false => self.text[..start].trim_end_matches(['\n', '\r']).len(),
        };
        Ok(Change { range: start..end, text: String::new() })
    }

    fn flow<'b>(&'b self, map: &'b Span, keys: &'b [(Range<usize>, Position)]) -> Flow<'b> {
        let start = map.value.start;
        let first = keys.first().map(|(key, _)| key);
        let line = first.map(|key| line_start(self.text, key.start));
        let margin = line.zip(first).map(|(line, key)| &self.text[line..key.start]);
        // In lines when the first key has a line to itself, below the brace.
        let margin = margin.filter(|margin| {
            line.is_some_and(|line| line > start)
                && margin.chars().all(|character| matches!(character, ' ' | '\t'))
        });
        let parent = &self.text[line_start(self.text, start)..start];
        let parent = &parent[..parent.len() - parent.trim_start_matches([' ', '\t']).len()];
        let step = margin.and_then(|margin| margin.strip_prefix(parent)).filter(|step| !step.is_empty());
        let colon = match first.map_or("", |key| &self.text[key.end..]) {
            rest if rest.starts_with(" : ") => " : ",
            rest if rest.starts_with(':') && !rest[1..].starts_with([' ', '\t', '\n', '\r']) => ":",
            _ => ": ",
        };
        Flow { text: self.text, start, first: first.map_or(start + 1, |key| key.start), margin, step, colon }
    }

    fn key_quote(&self, keys: &[(Range<usize>, Position)]) -> Quote {
        Quote::of(self.text, keys.first().map(|(key, _)| key))
    }

    fn line_break(&self) -> &'static str {
        line_break(self.text)
    }

    fn refusal(&self, position: Position, wanted: &str) -> EditError {
        let message = "the annotations cannot be edited in place in this YAML style".to_owned();
        let help = match wanted {
            "" => "edit by hand".to_owned(),
            wanted => by_hand(&format!("the annotation {wanted}")),
        };
        EditError::new(position, message, help)
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
    step: Option<&'a str>,
    colon: &'static str,
}

impl Flow<'_> {
    /// The change that adds `entry` before the first.
    fn first_entry(&self, entry: &str, line_break: &str) -> Change {
        match self.margin {
            Some(margin) => {
                let at = after_line(self.text, self.start);
                Change { range: at..at, text: format!("{margin}{entry},{line_break}") }
            }
            None => Change { range: self.first..self.first, text: format!("{entry}{}", self.comma()) },
        }
    }

    /// A mapping of `entries` for a value of this one.
    fn map_of(&self, entries: &[AnnotationEdit], key_quote: Quote, line_break: &str) -> String {
        let entries: Vec<_> = entries.iter().map(|entry| self.entry(entry, key_quote)).collect();
        match self.margin {
            Some(margin) => {
                let inner = format!("{line_break}{margin}{}", self.step.unwrap_or("  "));
                let entries = entries.join(&format!(",{inner}"));
                format!("{{{inner}{entries}{line_break}{margin}}}")
            }
            None => format!("{{{}}}", entries.join(self.comma())),
        }
    }

    fn entry(&self, entry: &AnnotationEdit, key_quote: Quote) -> String {
        // A plain key needs white space after its colon, and JSON needs quoted values.
        let (colon, quote) = match (self.colon, key_quote) {
            (":", Quote::None) => (": ", entry.quote),
            (":", _) => (":", Quote::Double),
            (colon, _) => (colon, entry.quote),
        };
        format!("{}{colon}{}", key_quote.around(entry.key), quote.around(&entry.value))
    }

    fn comma(&self) -> &'static str {
        if self.colon == ":" { "," } else { ", " }
    }
}

/// The first new entry, as a message names it. Empty when there is none.
fn wanted(new: &[AnnotationEdit]) -> String {
    new.first().map_or_else(String::new, |entry| format!("{}: {}", entry.key, entry.value))
}

fn entries_in_lines(entries: &[AnnotationEdit], key_quote: &Quote, margin: &str) -> Vec<String> {
    let line = |entry: &AnnotationEdit| {
        format!("{margin}{}: {}", key_quote.around(entry.key), entry.quote.around(&entry.value))
    };
    entries.iter().map(line).collect()
}

/// How much further a child is indented than its parent.
fn step(parent: Position, child: Position) -> u64 {
    child.column.checked_sub(parent.column).filter(|step| *step > 0).unwrap_or(2)
}

fn spaces(count: u64) -> String {
    " ".repeat(usize::try_from(count).unwrap_or_default())
}
