//! Where the values stand that a pin may touch, and what stands in the way of touching them.
//!
//! Owns the walk from an object to its fields through aliases and merge keys. A value whose bytes
//! stand for more than the one field is marked, because changing them would change the others.

use std::ops::Range;

use granit_parser::{ScalarStyle, StructureStyle};

use crate::manifests::tree::{NodeContent, NodeId, Tree};
use crate::manifests::value::{follow, is_merge};
use crate::model::machine_config::{Field, Position, REPIN_ANNOTATION};

/// Where one MachineConfig keeps what a pin may touch.
#[derive(Clone, Debug, Default)]
pub struct EditSpans {
    /// The values of the image fields.
    pub(crate) images: [Option<Span>; 2],
    /// `metadata`.
    pub(crate) metadata: Option<Span>,
    /// `metadata.annotations`.
    pub(crate) annotations: Option<Span>,
    /// The records of earlier pins.
    pub(crate) records: [Option<Span>; 2],
    /// The annotation that asks for a fresh look.
    pub(crate) repin: Option<Span>,
}

/// A value of a mapping, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// Where the value stands in this object: an alias where there is one.
    pub(crate) position: Position,
    /// Where the key begins.
    pub(crate) key_position: Position,
    /// The bytes of the key, with its quotes.
    pub(crate) key: Range<usize>,
    /// The bytes of the value, with its quotes. Of a mapping in block style only the start counts.
    pub(crate) value: Range<usize>,
    /// What the value is.
    pub(crate) form: NodeKind,
    /// Why the bytes must not be changed.
    pub(crate) obstacle: Option<EditBlocker>,
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

/// What stands in the way of changing a value's bytes.
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
    /// The value stands in a JSON patch.
    JsonPatch,
    /// The object is the text of a scalar that is not a literal block.
    QuotedText,
}

impl EditSpans {
    /// Finds what a pin may touch in the object at which `object` stands.
    pub(crate) fn of(object: NodeRef<'_, '_>) -> Self {
        let spec = object.entry("spec");
        let metadata = object.entry("metadata");
        let annotations = metadata.as_ref().and_then(|metadata| metadata.entry("annotations"));
        let image = |field: Field| spec.as_ref()?.entry(field.key())?.spot();
        let annotation = |key: &str| annotations.as_ref()?.entry(key)?.spot();
        Self {
            images: Field::ALL.map(image),
            records: Field::ALL.map(|field| annotation(field.record_annotation())),
            repin: annotation(REPIN_ANNOTATION),
            annotations: annotations.as_ref().and_then(NodeRef::spot),
            metadata: metadata.as_ref().and_then(NodeRef::spot),
        }
    }

    /// The site of what a JSON patch puts into `field`: it has no place for a record.
    pub(crate) fn of_patched(field: Field, value: NodeRef<'_, '_>) -> Self {
        let mut spans = Self::default();
        spans.images[field as usize] = value.spot();
        spans.mark(EditBlocker { kind: EditBlockerKind::JsonPatch, position: value.position() });
        spans
    }

    /// Marks every spot with what stands in the way of the whole object.
    pub(crate) fn mark(&mut self, obstacle: EditBlocker) {
        for spot in self.spots() {
            spot.obstacle.get_or_insert(obstacle);
        }
    }

    /// Every spot, to be moved or marked.
    pub(crate) fn spots(&mut self) -> impl Iterator<Item = &mut Span> {
        let [os, extensions] = &mut self.images;
        let [os_record, extensions_record] = &mut self.records;
        [
            os,
            extensions,
            os_record,
            extensions_record,
            &mut self.metadata,
            &mut self.annotations,
            &mut self.repin,
        ]
        .into_iter()
        .flatten()
    }
}

/// A value on the way from an object to a field.
#[derive(Clone, Copy)]
pub(crate) struct NodeRef<'a, 't> {
    tree: &'a Tree<'t>,
    key: Option<NodeId>,
    written: NodeId,
    node: NodeId,
    obstacle: Option<EditBlocker>,
}

impl<'a, 't> NodeRef<'a, 't> {
    /// Stands at `id`. `None` when it is an alias to nowhere.
    pub(crate) fn at(tree: &'a Tree<'t>, id: NodeId) -> Option<Self> {
        Self { tree, key: None, written: id, node: id, obstacle: None }.arrive(id)
    }

    /// The value `id` in the sequence or mapping at which it stands. `None` when it is an alias to nowhere.
    pub(crate) fn item(&self, id: NodeId) -> Option<Self> {
        Self { key: None, ..*self }.arrive(id)
    }

    /// The entries of the mapping at which it stands, without what merge keys bring. A value is `None`
    /// when it is an alias to nowhere.
    pub(crate) fn entries(&self) -> Vec<(&'a str, Option<Self>)> {
        let NodeContent::Mapping { entries, .. } = &self.tree.node(self.node).content else {
            return Vec::new();
        };
        let text = |key: NodeId| self.tree.node(key).content.text().unwrap_or_default();
        entries.iter().map(|(key, value)| (text(*key), self.item(*value))).collect()
    }

    /// What stands in the way of changing the bytes of the value.
    pub(crate) fn obstacle(&self) -> Option<EditBlocker> {
        self.obstacle
    }

    /// The value of `key` in the mapping at which it stands, also when a merge key brings it.
    pub(crate) fn entry(&self, key: &str) -> Option<Self> {
        self.entry_at(key, 0)
    }

    fn entry_at(&self, key: &str, depth: usize) -> Option<Self> {
        let NodeContent::Mapping { entries, .. } = &self.tree.node(self.node).content else { return None };
        let own = entries.iter().find(|(id, _)| {
            follow(self.tree, *id).is_ok_and(|id| self.tree.node(id).content.text() == Some(key))
        });
        if let Some((key, value)) = own {
            return Self { key: Some(*key), ..*self }.arrive(*value);
        }
        if depth > MAX_MERGE_DEPTH || !self.tree.may_follow_merge() {
            return None;
        }
        let merges = entries.iter().filter(|(key, _)| is_merge(&self.tree.node(*key).content));
        for (_, source) in merges {
            let obstacle =
                EditBlocker { kind: EditBlockerKind::Merge, position: self.tree.node(*source).position };
            let merged = Self { obstacle: self.obstacle.or(Some(obstacle)), ..*self };
            let source = merged.arrive(*source)?;
            let sources = match &self.tree.node(source.node).content {
                NodeContent::Sequence(sources) => sources.clone(),
                _ => vec![source.node],
            };
            let found = sources.into_iter().find_map(|id| source.arrive(id)?.entry_at(key, depth + 1));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The node at which it stands; an alias has been followed.
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// The node as it is written in the object: the alias where there is one.
    pub(crate) fn written(&self) -> NodeId {
        self.written
    }

    /// The scalar at which it stands.
    pub(crate) fn text(&self) -> Option<&'a str> {
        self.tree.node(self.node).content.text()
    }

    /// Where the value stands in the object: the alias where there is one.
    pub(crate) fn position(&self) -> Position {
        self.tree.node(self.written).position
    }

    fn arrive(&self, id: NodeId) -> Option<Self> {
        let node = follow(self.tree, id).ok()?;
        let found = |kind| Some(EditBlocker { kind, position: self.tree.node(id).position });
        let obstacle = if node != id {
            found(EditBlockerKind::Alias)
        } else if self.tree.is_shared(node) {
            found(EditBlockerKind::SharedAnchor)
        } else if self.tree.node(node).has_odd_tag() {
            found(EditBlockerKind::Tag)
        } else {
            None
        };
        Some(Self { written: id, node, obstacle: self.obstacle.or(obstacle), ..*self })
    }

    fn spot(&self) -> Option<Span> {
        let key = self.tree.node(self.key?);
        let node = self.tree.node(self.node);
        let form = match &node.content {
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
            form,
            obstacle: self.obstacle,
        })
    }
}

/// Merge keys that bring merge keys that bring merge keys: nobody writes more.
const MAX_MERGE_DEPTH: usize = 8;
