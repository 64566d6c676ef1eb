//! The bytes of the values that a pin may change, and what keeps them from being changed.
//!
//! Owns the walk from an object to its fields through aliases and merge keys. A value whose bytes are used
//! for more than the one field gets a blocker, because an edit would change the others too.

use std::ops::Range;

use granit_parser::{ScalarStyle, StructureStyle};

use crate::manifests::tree::{NodeContent, NodeId, Tree};
use crate::manifests::value::{follow, is_merge};
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
    /// Where the key begins.
    pub(crate) key_position: Position,
    /// The bytes of the key, with its quotes.
    pub(crate) key: Range<usize>,
    /// The bytes of the value, with its quotes. Of a mapping in block style only the start counts.
    pub(crate) value: Range<usize>,
    /// What the value is.
    pub(crate) kind: NodeKind,
    /// Why the bytes must not be changed.
    pub(crate) blocker: Option<EditBlocker>,
}

/// What a value is, as far as an edit must know.
#[derive(Clone, Debug)]
pub(crate) enum NodeKind {
    Scalar {
        style: ScalarStyle,
        is_null: bool,
    },
    Mapping {
        style: StructureStyle,
        /// The bytes of each key, and where it begins.
        keys: Vec<(Range<usize>, Position)>,
    },
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
        let spec = object.entry("spec");
        let metadata = object.entry("metadata");
        let annotations = metadata.as_ref().and_then(|metadata| metadata.entry("annotations"));
        let image = |field: Field| spec.as_ref()?.entry(field.key())?.span();
        let annotation = |key: &str| annotations.as_ref()?.entry(key)?.span();
        Self {
            images: Field::ALL.map(image).into(),
            records: Field::ALL.map(|field| annotation(field.record_annotation())).into(),
            repin: annotation(REPIN_ANNOTATION),
            annotations: annotations.as_ref().and_then(NodeRef::span),
            metadata: metadata.as_ref().and_then(NodeRef::span),
        }
    }

    /// The value that a JSON patch sets `field` to. A patch has no place for a record.
    pub(crate) fn of_patch(field: Field, value: NodeRef<'_, '_>) -> Self {
        let mut spans = Self::default();
        spans.images[field] = value.span();
        spans.block(EditBlocker { kind: EditBlockerKind::JsonPatch, position: value.position() });
        spans
    }

    /// Blocks every span that has no blocker yet.
    pub(crate) fn block(&mut self, blocker: EditBlocker) {
        for span in self.all_mut() {
            span.blocker.get_or_insert(blocker);
        }
    }

    /// Every span.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut Span> {
        let others = [&mut self.metadata, &mut self.annotations, &mut self.repin];
        self.images.iter_mut().chain(self.records.iter_mut()).chain(others).flatten()
    }
}

/// A value, with what blocks an edit on the way from the object to it.
#[derive(Clone, Copy)]
pub(crate) struct NodeRef<'a, 't> {
    tree: &'a Tree<'t>,
    key: Option<NodeId>,
    written: NodeId,
    node: NodeId,
    blocker: Option<EditBlocker>,
}

impl<'a, 't> NodeRef<'a, 't> {
    /// The value `id`. `None` when it is an alias without an anchor.
    pub(crate) fn at(tree: &'a Tree<'t>, id: NodeId) -> Option<Self> {
        Self { tree, key: None, written: id, node: id, blocker: None }.resolve(id)
    }

    /// The items of a sequence. An item is `None` when it is an alias without an anchor.
    pub(crate) fn items(&self) -> Vec<Option<Self>> {
        match &self.tree.node(self.node).content {
            NodeContent::Sequence(items) => items.iter().map(|item| self.item(*item)).collect(),
            _ => Vec::new(),
        }
    }

    fn item(&self, id: NodeId) -> Option<Self> {
        Self { key: None, ..*self }.resolve(id)
    }

    /// The entries of a mapping, without those of merge keys. A value is `None` when it is an alias without
    /// an anchor.
    pub(crate) fn entries(&self) -> Vec<(&'a str, Option<Self>)> {
        let NodeContent::Mapping { entries, .. } = &self.tree.node(self.node).content else {
            return Vec::new();
        };
        let text = |key: NodeId| self.tree.node(key).content.text().unwrap_or_default();
        entries.iter().map(|(key, value)| (text(*key), self.item(*value))).collect()
    }

    /// Why the bytes of the value must not be changed.
    pub(crate) fn blocker(&self) -> Option<EditBlocker> {
        self.blocker
    }

    /// The value of `key` in a mapping, from a merge key too.
    pub(crate) fn entry(&self, key: &str) -> Option<Self> {
        self.entry_at(key, 0)
    }

    fn entry_at(&self, key: &str, depth: usize) -> Option<Self> {
        let NodeContent::Mapping { entries, .. } = &self.tree.node(self.node).content else { return None };
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
            let blocker =
                EditBlocker { kind: EditBlockerKind::Merge, position: self.tree.node(*source).position };
            let merged = Self { blocker: self.blocker.or(Some(blocker)), ..*self };
            let source = merged.resolve(*source)?;
            let sources = match &self.tree.node(source.node).content {
                NodeContent::Sequence(sources) => sources.clone(),
                _ => vec![source.node],
            };
            let found = sources.into_iter().find_map(|id| source.resolve(id)?.entry_at(key, depth + 1));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The node of the value; an alias has been followed.
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// The node as it is written in the object: the alias where there is one.
    pub(crate) fn written(&self) -> NodeId {
        self.written
    }

    /// The text of the scalar at `key`. Empty where there is none.
    pub(crate) fn text_of(&self, key: &str) -> &'a str {
        self.entry(key).and_then(|entry| entry.text()).unwrap_or_default()
    }

    /// The text, when it is a scalar.
    pub(crate) fn text(&self) -> Option<&'a str> {
        self.tree.node(self.node).content.text()
    }

    /// Where the value is written in the object: the alias where there is one.
    pub(crate) fn position(&self) -> Position {
        self.tree.node(self.written).position
    }

    fn resolve(&self, id: NodeId) -> Option<Self> {
        let node = follow(self.tree, id).ok()?;
        let found = |kind| Some(EditBlocker { kind, position: self.tree.node(id).position });
        let blocker = if node != id {
            found(EditBlockerKind::Alias)
        } else if self.tree.is_shared(node) {
            found(EditBlockerKind::SharedAnchor)
        } else if self.tree.node(node).has_other_tag() {
            found(EditBlockerKind::Tag)
        } else {
            None
        };
        Some(Self { written: id, node, blocker: self.blocker.or(blocker), ..*self })
    }

    fn span(&self) -> Option<Span> {
        let key = self.tree.node(self.key?);
        let node = self.tree.node(self.node);
        let kind = match &node.content {
            NodeContent::Scalar { text, style, is_string, .. } => NodeKind::Scalar {
                style: *style,
                is_null: *style == ScalarStyle::Plain
                    && !is_string
                    && matches!(&**text, "" | "~" | "null" | "Null" | "NULL"),
            },
            NodeContent::Mapping { style, entries } => NodeKind::Mapping {
                style: *style,
                keys: entries
                    .iter()
                    .map(|(key, _)| (self.tree.node(*key).span.clone(), self.tree.node(*key).position))
                    .collect(),
            },
            _ => NodeKind::Sequence,
        };
        Some(Span {
            position: self.position(),
            key_position: key.position,
            key: key.span.clone(),
            value: node.span.clone(),
            kind,
            blocker: self.blocker,
        })
    }
}

/// Merge keys in merge keys.
const MAX_MERGE_DEPTH: usize = 8;
