//! The values of the nodes of a tree: aliases followed, merge keys merged, scalars resolved.
//!
//! Bounds what aliases may expand to, and refuses duplicate keys.

use serde_json::{Map, Number, Value};

use crate::manifests::FaultKind;
use crate::manifests::tree::{NodeContent, NodeId, Tree};
use crate::text::shown;

/// What is wrong with a value.
#[derive(Debug)]
pub(crate) struct ValueFault {
    pub(crate) kind: FaultKind,
    pub(crate) at: NodeId,
    pub(crate) message: String,
}

impl ValueFault {
    pub(crate) fn new(at: NodeId, message: impl Into<String>) -> Self {
        Self { kind: FaultKind::Object, at, message: message.into() }
    }
}

/// The values of the nodes of one tree.
pub(crate) struct Values<'a, 't> {
    pub(crate) tree: &'a Tree<'t>,
    /// How many were made.
    pub(crate) made: usize,
}

impl Values<'_, '_> {
    /// The value of `id`, without the entries of mappings that were not kept.
    pub(crate) fn value(&mut self, id: NodeId) -> Result<Value, ValueFault> {
        self.value_at(id, 0)
    }

    fn value_at(&mut self, id: NodeId, depth: usize) -> Result<Value, ValueFault> {
        self.made += 1;
        if depth > MAX_DEPTH {
            let message = format!("the aliases nest deeper than {MAX_DEPTH} values");
            return Err(ValueFault::new(id, message));
        }
        if self.made > MAX_VALUES {
            let message = format!("the aliases expand to more than {MAX_VALUES} values");
            return Err(ValueFault::new(id, message));
        }
        match &self.tree.node(id).content {
            scalar @ NodeContent::Scalar { text, .. } => {
                Ok(scalar.plain().map_or_else(|| Value::String(text.to_string()), resolve))
            }
            NodeContent::Sequence(items) => {
                items.iter().map(|item| self.value_at(*item, depth + 1)).collect::<Result<_, _>>()
            }
            NodeContent::Mapping { entries, .. } => self.mapping(id, entries, depth),
            NodeContent::Alias(_) | NodeContent::Dangling(_) => {
                self.value_at(follow(self.tree, id)?, depth + 1)
            }
            NodeContent::Skipped => Ok(Value::Null),
        }
    }

    fn mapping(
        &mut self,
        id: NodeId,
        entries: &[(NodeId, NodeId)],
        depth: usize,
    ) -> Result<Value, ValueFault> {
        let mut map = Map::new();
        let mut merged = Vec::new();
        for (key, value) in entries {
            let content = &self.tree.node(follow(self.tree, *key)?).content;
            let Some(text) = content.text() else {
                return Err(ValueFault::new(id, "a key is not a string"));
            };
            if is_merge(content) {
                merged.push(*value);
                continue;
            }
            if map.contains_key(text) {
                return Err(ValueFault::new(*key, format!("duplicate key `{}`", shown(text))));
            }
            map.insert(text.to_owned(), self.value_at(*value, depth + 1)?);
        }
        for source in merged {
            let source = follow(self.tree, source)?;
            let brought = self.value_at(source, depth + 1)?;
            if merge(&mut map, brought).is_none() {
                return Err(ValueFault::new(source, "the value of the merge key `<<` is not a mapping"));
            }
        }
        Ok(Value::Object(map))
    }
}

/// Adds the entries of a merge key: those of the mapping take precedence, then those of earlier sources.
/// `None` when there is a source that is not a mapping.
fn merge(map: &mut Map<String, Value>, source: Value) -> Option<()> {
    match source {
        Value::Array(sources) => sources.into_iter().try_for_each(|source| merge(map, source)),
        Value::Object(brought) => {
            for (key, value) in brought {
                map.entry(key).or_insert(value);
            }
            Some(())
        }
        _ => None,
    }
}

/// The node that `id` stands for: itself, or what its alias refers to.
pub(crate) fn follow(tree: &Tree<'_>, id: NodeId) -> Result<NodeId, ValueFault> {
    match &tree.node(id).content {
        NodeContent::Alias(node) if matches!(tree.node(*node).content, NodeContent::Skipped) => {
            Err(ValueFault::new(id, "the alias refers to a value that is not read"))
        }
        NodeContent::Alias(node) => Ok(*node),
        NodeContent::Dangling(name) => {
            Err(ValueFault::new(id, format!("the alias `*{}` has no anchor in this document", shown(name))))
        }
        _ => Ok(id),
    }
}

/// Tells whether a key is YAML's merge key: `<<`, without quotes.
pub(crate) fn is_merge(key: &NodeContent<'_>) -> bool {
    key.plain() == Some("<<")
}

/// What a plain scalar is, by the core schema of YAML 1.2.
pub(crate) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    if text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '+' | '.')) {
        if let Ok(integer) = text.parse::<i64>() {
            return Value::Number(integer.into());
        }
        if let Some(number) = text.parse().ok().and_then(Number::from_f64) {
            return Value::Number(number);
        }
    }
    Value::String(text.to_owned())
}

/// The values of one document's objects with every alias expanded. Each is small, so this bounds memory.
const MAX_VALUES: usize = 1_000_000;
/// How deep aliases may nest: deeper than the parser lets collections nest.
const MAX_DEPTH: usize = 600;
