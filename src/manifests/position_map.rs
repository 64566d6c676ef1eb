//! From positions in the text of a scalar, such as an entry of a ConfigMap, to positions in the file.
//!
//! A literal block (`|`) holds its text unchanged but for the indentation, so positions and bytes are exact.
//! In a double-quoted text on one line, positions are exact; in any other text, only its start is known.

use std::ops::Range;

use granit_parser::ScalarStyle;

use crate::manifests::tree::{NodeContent, YamlNode};
use crate::model::machine_config::Position;

/// How the positions of a text relate to those of the file.
#[derive(Debug)]
pub(crate) struct PositionMap<'o> {
    form: MapForm,
    /// That of the text around it.
    outer: Option<&'o PositionMap<'o>>,
}

/// How the positions of an inner text relate to those of the text around it.
#[derive(Debug)]
enum MapForm {
    /// They are the same: the text is the file.
    Same,
    /// Line for line, each indented.
    Literal {
        /// For each line of the inner text: where it begins, in both texts, in bytes.
        lines: Vec<(usize, usize)>,
        /// The line of the outer text that holds the first of them.
        first_line: u64,
        indent: usize,
    },
    /// On one line, with escapes.
    Quoted {
        /// The inner position and the outer column after each escape.
        shifts: Vec<(Position, u64)>,
        start: Position,
    },
    /// Only the start is known.
    Opaque(Position),
}

impl<'o> PositionMap<'o> {
    /// The map for the scalar `node` of the text `text`, whose own map is `outer`.
    pub(crate) fn of(node: &YamlNode<'_>, text: &str, outer: &'o PositionMap<'o>) -> Self {
        let form = match &node.content {
            NodeContent::Scalar { text: inner, style: ScalarStyle::Literal, indent, .. } => {
                literal(inner, node, *indent, text)
            }
            NodeContent::Scalar { text: inner, style: ScalarStyle::DoubleQuoted, .. } => {
                quoted(inner, node, text)
            }
            _ => None,
        };
        Self { form: form.unwrap_or(MapForm::Opaque(node.position)), outer: Some(outer) }
    }

    /// Tells whether the bytes of the text are those of the text around it.
    pub(crate) fn is_exact(&self) -> bool {
        matches!(self.form, MapForm::Same | MapForm::Literal { .. })
    }

    /// The position in the file.
    pub(crate) fn position(&self, inner: Position) -> Position {
        let position = match &self.form {
            MapForm::Same => inner,
            MapForm::Literal { first_line, indent, .. } => {
                Position { line: first_line + inner.line - 1, column: inner.column + *indent as u64 }
            }
            MapForm::Quoted { shifts, start } => {
                let next =
                    shifts.partition_point(|(at, _)| (at.line, at.column) <= (inner.line, inner.column));
                match next.checked_sub(1).map(|index| shifts[index]) {
                    Some((at, column)) if at.line == inner.line => {
                        Position { line: start.line, column: column + inner.column - at.column }
                    }
                    _ => *start,
                }
            }
            MapForm::Opaque(position) => *position,
        };
        self.outer.map_or(position, |outer| outer.position(position))
    }

    /// The bytes in the file. They mean nothing where one of the maps is not exact.
    pub(crate) fn bytes(&self, inner: Range<usize>) -> Range<usize> {
        let bytes = match &self.form {
            MapForm::Literal { lines, .. } => {
                let offset = |inner: usize| {
                    let next = lines.partition_point(|(start, _)| *start <= inner);
                    let (start, outer) = lines[next.saturating_sub(1)];
                    outer + (inner - start)
                };
                let start = offset(inner.start);
                // The end belongs to the line of the last byte, not to the one that may begin there.
                start..if inner.is_empty() { start } else { offset(inner.end - 1) + 1 }
            }
            _ => inner,
        };
        match self.outer {
            Some(outer) => outer.bytes(bytes),
            None => bytes,
        }
    }
}

/// The map of a file.
pub(crate) static FILE: PositionMap<'static> = PositionMap { form: MapForm::Same, outer: None };

/// `None` when the lines of the file are not those of the text.
fn literal(text: &str, node: &YamlNode<'_>, indent: usize, outer: &str) -> Option<MapForm> {
    let blank = text.len() - text.trim_start_matches('\n').len();
    let first_line = node.position.line.checked_sub(blank as u64)?;
    let mut lines: Vec<_> = (0..blank).map(|line| (line, node.span.start)).collect();
    let mut inner = blank;
    let mut at = node.span.start;
    for line in text[blank..].split_inclusive('\n') {
        let content = line.trim_end_matches('\n');
        if inner > blank {
            let margin = outer[at..].bytes().take(indent).take_while(|byte| *byte == b' ').count();
            // A blank line may be shorter than the margin.
            if margin < indent && !content.is_empty() {
                return None;
            }
            at += margin;
        }
        let rest = outer[at..].strip_prefix(content)?;
        lines.push((inner, at));
        inner += line.len();
        let after = rest.trim_start_matches('\r');
        at = outer.len() - after.strip_prefix('\n').unwrap_or(after).len();
        if !rest.is_empty() && after.len() + 1 < rest.len() {
            return None;
        }
    }
    lines.push((inner, at));
    Some(MapForm::Literal { lines, first_line, indent })
}

/// `None` when the text is not on one line, or its characters cannot be told apart.
fn quoted(text: &str, node: &YamlNode<'_>, outer: &str) -> Option<MapForm> {
    let raw = outer.get(node.span.clone())?.strip_prefix('"')?.strip_suffix('"')?;
    let mut inner = Position { line: 1, column: 1 };
    let mut column = node.position.column + 1;
    let mut shifts = vec![(inner, column)];
    let mut expected = text.chars();
    let mut rest = raw.chars();
    while let Some(character) = rest.next() {
        let width = match character {
            '\n' | '\r' => return None,
            '\\' => match rest.next()? {
                '\n' | '\r' => return None,
                'x' => 4,
                'u' => 6,
                'U' => 10,
                _ => 2,
            },
            _ => 1,
        };
        // The digits of the escape.
        for _ in 2..width {
            rest.next()?;
        }
        let value = expected.next()?;
        if width == 1 && value != character {
            return None;
        }
        column += width;
        if value == '\n' {
            inner = Position { line: inner.line + 1, column: 1 };
            shifts.push((inner, column));
        } else {
            inner.column += 1;
            if width > 1 {
                shifts.push((inner, column));
            }
        }
    }
    expected.next().is_none().then_some(MapForm::Quoted { shifts, start: node.position })
}
