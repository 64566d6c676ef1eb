//! From positions in the text of a scalar, such as an entry of a ConfigMap, to positions in the file.
//!
//! A literal block (`|`) holds its text unchanged but for the indentation, so positions and bytes are exact.
//! In a double-quoted text on one line, positions are exact; in any other text, only its start is known.

use std::ops::Range;

use granit_parser::ScalarStyle;

use crate::manifests::spans::{EditBlocker, EditBlockerKind, EditSpans, NodeKind};
use crate::manifests::tree::{NodeContent, YamlNode};
use crate::model::machine_config::Position;

/// How the positions of an inner text relate to those of the file.
pub(crate) enum PositionMap {
    /// Line for line, each indented.
    Literal {
        /// For each line of the inner text: where it begins, in both texts, in bytes.
        lines: Vec<(usize, usize)>,
        /// The line of the file that holds the first of them.
        first_line: u64,
        indent: usize,
    },
    /// On one line, with escapes.
    Quoted {
        /// The inner position and the outer column after each escape.
        shifts: Vec<(Position, u64)>,
        line: u64,
        start: Position,
    },
    /// Only the start is known.
    Opaque(Position),
}

impl PositionMap {
    /// The map for the scalar `node` of the file `outer`.
    pub(crate) fn of(node: &YamlNode<'_>, outer: &str) -> Self {
        let NodeContent::Scalar { text, style, indent, .. } = &node.content else {
            return Self::Opaque(node.position);
        };
        let found = match style {
            ScalarStyle::Literal => literal(text, node, *indent, outer),
            ScalarStyle::DoubleQuoted => quoted(text, node, outer),
            _ => None,
        };
        found.unwrap_or(Self::Opaque(node.position))
    }

    /// The position in the file.
    pub(crate) fn position(&self, inner: Position) -> Position {
        match self {
            Self::Literal { first_line, indent, .. } => {
                Position { line: first_line + inner.line - 1, column: inner.column + *indent as u64 }
            }
            Self::Quoted { shifts, line, start } => {
                let next =
                    shifts.partition_point(|(at, _)| (at.line, at.column) <= (inner.line, inner.column));
                match next.checked_sub(1).map(|index| shifts[index]) {
                    Some((at, column)) if at.line == inner.line => {
                        Position { line: *line, column: column + inner.column - at.column }
                    }
                    _ => *start,
                }
            }
            Self::Opaque(position) => *position,
        }
    }

    /// Moves spans into the file, and blocks them where their bytes are not exact.
    pub(crate) fn move_spans(&self, spans: &mut EditSpans) {
        for span in spans.all_mut() {
            span.position = self.position(span.position);
            span.key_position = self.position(span.key_position);
            if let Some(blocker) = &mut span.blocker {
                blocker.position = self.position(blocker.position);
            }
            match self {
                Self::Literal { lines, .. } => {
                    span.key = range(lines, &span.key);
                    span.value = range(lines, &span.value);
                    if let NodeKind::Mapping { keys, .. } = &mut span.kind {
                        for (key, position) in keys {
                            *key = range(lines, key);
                            *position = self.position(*position);
                        }
                    }
                }
                Self::Quoted { .. } | Self::Opaque(_) => {
                    let blocker = EditBlocker { kind: EditBlockerKind::QuotedText, position: span.position };
                    span.blocker.get_or_insert(blocker);
                }
            }
        }
    }
}

fn range(lines: &[(usize, usize)], inner: &Range<usize>) -> Range<usize> {
    let start = offset(lines, inner.start);
    // The end belongs to the line of the last byte, not to the one that may begin there.
    let end = if inner.is_empty() { start } else { offset(lines, inner.end - 1) + 1 };
    start..end
}

fn offset(lines: &[(usize, usize)], inner: usize) -> usize {
    let next = lines.partition_point(|(start, _)| *start <= inner);
    let (start, outer) = lines[next.saturating_sub(1)];
    outer + (inner - start)
}

/// `None` when the lines of the file are not those of the text.
fn literal(text: &str, node: &YamlNode<'_>, indent: usize, outer: &str) -> Option<PositionMap> {
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
    Some(PositionMap::Literal { lines, first_line, indent })
}

/// `None` when the text is not on one line, or has an escape that is not known here.
fn quoted(text: &str, node: &YamlNode<'_>, outer: &str) -> Option<PositionMap> {
    let raw = outer.get(node.span.clone())?.strip_prefix('"')?.strip_suffix('"')?;
    let mut inner = Position { line: 1, column: 1 };
    let mut column = node.position.column + 1;
    let mut shifts = vec![(inner, column)];
    let mut expected = text.chars();
    let mut rest = raw.chars();
    while let Some(character) = rest.next() {
        let (value, width) = match character {
            '\n' | '\r' => return None,
            '\\' => escape(&mut rest)?,
            plain => (plain, 1),
        };
        if expected.next() != Some(value) {
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
    expected.next().is_none().then_some(PositionMap::Quoted {
        shifts,
        line: node.position.line,
        start: node.position,
    })
}

/// What an escape stands for, and how many characters it takes with its backslash.
fn escape(rest: &mut std::str::Chars<'_>) -> Option<(char, u64)> {
    let digits = match rest.next()? {
        'n' => return Some(('\n', 2)),
        't' => return Some(('\t', 2)),
        'r' => return Some(('\r', 2)),
        'b' => return Some(('\u{8}', 2)),
        'f' => return Some(('\u{c}', 2)),
        same @ ('"' | '\\' | '/' | ' ') => return Some((same, 2)),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => return None,
    };
    let mut value = 0;
    for _ in 0..digits {
        value = value * 16 + rest.next()?.to_digit(16)?;
    }
    Some((char::from_u32(value)?, digits + 2))
}
