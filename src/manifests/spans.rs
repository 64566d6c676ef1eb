//! The bytes of the values that a pin may change, and what keeps them from being changed.
//!
//! Owns the walk from an object to its fields through aliases and merge keys. A value whose bytes are used
//! for more than the one field gets a blocker, because an edit would change the others too.

use std::ops::Range;

use granit_parser::{ScalarStyle, StructureStyle};

use crate::manifests::tree::{NodeContent, NodeId, Tree, YamlNode};
use crate::manifests::value::{follow, is_merge, resolve};
use crate::model::machine_config::{Field, PerField, Position, REPIN_ANNOTATION};

/// The values of one MachineConfig that a pin may change.
#[derive(Clone, Debug, Default)]
pub struct EditSpans {
    /// The values of the image fields.
    pub(crate) images: PerField<Option<Span>>,
    /// `metadata`.
    pub(crate) metadata: Option<Span>,
    /// `metadata.annotations`.
    pub(crate) annotations: Option<Span>,
    /// The records of earlier pins.
    pub(crate) records: PerField<Option<Span>>,
    /// The annotation that asks for the tag to be resolved again.
    pub(crate) repin: Option<Span>,
}

/// A value of a mapping, and where it is written.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// Where the value is written in this object: the alias where there is one.
    pub(crate) position: Position,
    /// The key.
    pub(crate) key: KeySpan,
    /// The bytes of the value, with its quotes. Of a mapping in block style only the start counts.
    pub(crate) value: Range<usize>,
    /// What the value is.
    pub(crate) kind: NodeKind,
    /// The keys of a mapping.
    pub(crate) keys: Vec<KeySpan>,
    /// Why the bytes must not be changed.
    pub(crate) blocker: Option<EditBlocker>,
}

/// Where a key is written.
#[derive(Clone, Debug)]
pub(crate) struct KeySpan {
    /// The bytes of the key, with its quotes.
    pub(crate) bytes: Range<usize>,
    /// Where they begin.
    pub(crate) position: Position,
}

/// What a value is, as far as an edit must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Null,
    Scalar(ScalarStyle),
    Mapping(StructureStyle),
    Sequence,
}

/// Why the bytes of a value must not be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EditBlocker {
    pub(crate) kind: EditBlockerKind,
    pub(crate) position: Position,
}

/// The kinds of [`EditBlocker`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EditBlockerKind {
    /// The value, or something around it, is an alias.
    Alias,
    /// The value, or something around it, has an anchor that an alias refers to.
    SharedAnchor,
    /// The value comes from a merge key.
    Merge,
    /// The value, or something around it, has a tag that may change its meaning.
    Tag,
    /// The value is in a JSON patch.
    JsonPatch,
    /// The object is in a text that is not a literal block.
    QuotedText,
}

impl EditSpans {
    /// The values of `object`.
    pub(crate) fn of(object: NodeRef<'_, '_>) -> Self {
        let span = |path: &[&str]| object.below(path)?.span();
        let annotations = object.below(&["metadata", "annotations"]);
        let annotation = |key| annotations?.entry(key)?.span();
        Self {
            images: Field::ALL.map(|field| span(&["spec", field.key()])).into(),
            records: Field::ALL.map(|field| annotation(field.record_annotation())).into(),
            repin: annotation(REPIN_ANNOTATION),
            annotations: annotations.and_then(|annotations| annotations.span()),
            metadata: span(&["metadata"]),
        }
    }

    /// The value that a JSON patch sets `field` to. A patch has no place for a record.
    pub(crate) fn of_patch(field: Field, value: NodeRef<'_, '_>) -> Self {
        let mut spans = Self::default();
        spans.images[field] = value.span();
        spans.block(EditBlockerKind::JsonPatch, Some(value.position()));
        spans
    }

    /// Blocks every span that has no blocker yet, because of what is at `position`, or at the span itself.
    pub(crate) fn block(&mut self, kind: EditBlockerKind, position: Option<Position>) {
        let others = [&mut self.metadata, &mut self.annotations, &mut self.repin];
        for span in self.images.iter_mut().chain(self.records.iter_mut()).chain(others).flatten() {
            let position = position.unwrap_or(span.position);
            span.blocker.get_or_insert(EditBlocker { kind, position });
        }
    }
}

/// A value, with what blocks an edit on the way from the object to it.
#[derive(Clone, Copy)]
pub(crate) struct NodeRef<'a, 't> {
    tree: &'a Tree<'t>,
    key: Option<NodeId>,
    /// The node as it is written in the object: the alias where there is one.
    pub(crate) written: NodeId,
    /// The node of the value; an alias has been followed.
    pub(crate) node: NodeId,
    /// Why the bytes of the value must not be changed.
    pub(crate) blocker: Option<EditBlocker>,
}

impl<'a, 't> NodeRef<'a, 't> {
    /// The value `id`. `None` when it is an alias without an anchor.
    pub(crate) fn at(tree: &'a Tree<'t>, id: NodeId) -> Option<Self> {
        Self { tree, key: None, written: id, node: id, blocker: None }.resolve(id)
    }

    /// The items of a sequence, or the entries of a mapping without those of merge keys, each with its index
    /// or key as JSON pointers have it. A value is `None` when it is an alias without an anchor.
    pub(crate) fn children(&self) -> Vec<(String, Option<Self>)> {
        let child = |id: NodeId| Self { key: None, ..*self }.resolve(id);
        match &self.content() {
            NodeContent::Sequence(items) => {
                items.iter().enumerate().map(|(index, item)| (index.to_string(), child(*item))).collect()
            }
            NodeContent::Mapping { entries, .. } => {
                let token = |key: NodeId| {
                    let text = self.tree.node(key).content.text().unwrap_or_default();
                    text.replace('~', "~0").replace('/', "~1")
                };
                entries.iter().map(|(key, value)| (token(*key), child(*value))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The value at `path` in mappings, from merge keys too.
    pub(crate) fn below(self, path: &[&str]) -> Option<Self> {
        path.iter().try_fold(self, |at, key| at.entry(key))
    }

    /// The value of `key` in a mapping, from a merge key too.
    pub(crate) fn entry(&self, key: &str) -> Option<Self> {
        self.entry_at(key, 0)
    }

    fn entry_at(&self, key: &str, depth: usize) -> Option<Self> {
        let NodeContent::Mapping { entries, .. } = self.content() else { return None };
        let own = entries.iter().find(|(id, _)| {
            follow(self.tree, *id).is_ok_and(|id| self.tree.node(id).content.text() == Some(key))
        });
        if let Some((key, value)) = own {
            return Self { key: Some(*key), ..*self }.resolve(*value);
        }
        if depth > MAX_MERGE_DEPTH || !self.tree.may_follow_merge() {
            return None;
        }
        let merges = entries.iter().filter(|(key, _)| is_merge(&self.tree.node(*key).content));
        for (_, source) in merges {
            let blocker = self.blocker_at(EditBlockerKind::Merge, *source);
            let source = Self { blocker: self.blocker.or(Some(blocker)), ..*self }.resolve(*source)?;
            let found = match source.content() {
                NodeContent::Sequence(sources) => {
                    sources.iter().find_map(|id| source.resolve(*id)?.entry_at(key, depth + 1))
                }
                _ => source.resolve(source.node)?.entry_at(key, depth + 1),
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// What the value is.
    pub(crate) fn content(&self) -> &'a NodeContent<'t> {
        &self.tree.node(self.node).content
    }

    /// The text of the scalar at `key`. Empty where there is none.
    pub(crate) fn text_of(&self, key: &str) -> &'a str {
        self.entry(key).and_then(|entry| entry.text()).unwrap_or_default()
    }

    /// The text, when it is a scalar.
    pub(crate) fn text(&self) -> Option<&'a str> {
        self.content().text()
    }

    /// Where the value is written in the object: the alias where there is one.
    pub(crate) fn position(&self) -> Position {
        self.tree.position(self.written)
    }

    fn blocker_at(&self, kind: EditBlockerKind, id: NodeId) -> EditBlocker {
        EditBlocker { kind, position: self.tree.position(id) }
    }

    fn resolve(&self, id: NodeId) -> Option<Self> {
        let node = follow(self.tree, id).ok()?;
        let kind = match self.tree.node(node) {
            _ if node != id => Some(EditBlockerKind::Alias),
            YamlNode { is_shared: true, .. } => Some(EditBlockerKind::SharedAnchor),
            YamlNode { has_other_tag: true, .. } => Some(EditBlockerKind::Tag),
            _ => None,
        };
        let blocker = self.blocker.or_else(|| Some(self.blocker_at(kind?, id)));
        Some(Self { written: id, node, blocker, ..*self })
    }

    fn span(&self) -> Option<Span> {
        let key_span = |id| KeySpan { bytes: self.tree.bytes(id), position: self.tree.position(id) };
        let (kind, entries) = match self.content() {
            content if content.plain().is_some_and(|text| resolve(text).is_null()) => {
                (NodeKind::Null, &[][..])
            }
            NodeContent::Scalar { style, .. } => (NodeKind::Scalar(*style), &[][..]),
            NodeContent::Mapping { style, entries } => (NodeKind::Mapping(*style), entries.as_slice()),
            _ => (NodeKind::Sequence, &[][..]),
        };
        Some(Span {
            position: self.position(),
            key: key_span(self.key?),
            value: self.tree.bytes(self.node),
            kind,
            keys: entries.iter().map(|(key, _)| key_span(*key)).collect(),
            blocker: self.blocker,
        })
    }
}

/// Merge keys in merge keys.
const MAX_MERGE_DEPTH: usize = 8;
