//! JSON texts with several objects, one after another, as `kubectl` and `jq` write them.
//!
//! Owns only where each object begins and ends. JSON is YAML, so the YAML reader reads the objects and
//! knows the position of every value; but YAML needs a marker between two documents.

use serde::de::IgnoredAny;
use serde_json::Deserializer;

use crate::manifests::tree::{SyntaxFault, TextOrigin};
use crate::model::machine_config::Position;

/// The objects of a JSON text, and the syntax error after them, when there is one.
pub(crate) struct JsonObjects<'t> {
    pub(crate) objects: Vec<(&'t str, TextOrigin)>,
    pub(crate) error: Option<SyntaxFault>,
}

/// Splits `text` into its JSON objects. `None` when it does not begin like JSON.
pub(crate) fn objects(text: &str) -> Option<JsonObjects<'_>> {
    let body = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    // `{{` begins a template, and `{name: a}` is YAML but not JSON.
    let inner = body.strip_prefix(['{', '['])?.trim_start();
    if body.starts_with("{{") || !inner.starts_with(['"', '{', '[', '}', ']']) {
        return None;
    }
    let start = text.len() - body.len();
    let mut stream = Deserializer::from_str(body).into_iter::<IgnoredAny>();
    let mut base = TextOrigin::START;
    let mut objects = Vec::new();
    loop {
        let before = stream.byte_offset();
        match stream.next() {
            None => return Some(JsonObjects { objects, error: None }),
            Some(Ok(_)) => {
                let slice = &body[before..stream.byte_offset()];
                let object = slice.trim_start();
                base = base.moved(text, start + before + slice.len() - object.len());
                objects.push((object, base));
            }
            Some(Err(error)) => {
                // A marker, a directive or a comment: YAML that begins with an object.
                if body[before..].trim_start().starts_with(['-', '.', '%', '#']) {
                    return None;
                }
                let offset = start + offset_of(body, error.line(), error.column());
                let base = TextOrigin::START.moved(text, offset);
                let position = Position { line: base.line + 1, column: base.column + 1 };
                let message = crate::model::machine_config::json_message(&error);
                return Some(JsonObjects { objects, error: Some(SyntaxFault { offset, position, message }) });
            }
        }
    }
}

/// The byte that `serde_json` means by a line and a column, which it counts in bytes.
fn offset_of(body: &str, line: usize, column: usize) -> usize {
    let before: usize = body.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut offset = (before + column.saturating_sub(1)).min(body.len());
    while !body.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}
