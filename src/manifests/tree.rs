//! One pass over the events of a YAML text, which keeps only what can matter to a MachineConfig.
//!
//! Owns which parts of a document are kept: the Ignition config under `spec.config` and documents of other
//! kinds are parsed but not kept. Aliases are kept as aliases; [`crate::manifests::value`] expands them,
//! within a bound.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{Event, Marker, Options, Parser, ScalarStyle, Span, StrInput, StructureStyle};

use crate::manifests::embeddings::{EmbeddedPart, PartForm, may_hold};
use crate::manifests::position_map::PositionMap;
use crate::model::machine_config::{Field, Position};

/// The number of a node in its tree.
pub(crate) type NodeId = usize;

/// What was kept of one document.
#[derive(Debug)]
pub(crate) struct Tree<'t> {
    nodes: Vec<YamlNode<'t>>,
    anchors: HashMap<usize, NodeId>,
    /// The top of the document.
    pub(crate) root: NodeId,
    /// There was more to keep than the limit.
    pub(crate) is_truncated: bool,
    merges_followed: Cell<usize>,
    map: &'t PositionMap<'t>,
}

impl<'t> Tree<'t> {
    fn empty(map: &'t PositionMap<'t>) -> Self {
        Self {
            nodes: vec![YamlNode::new(0..0, Position { line: 1, column: 1 })],
            anchors: HashMap::new(),
            root: SKIPPED,
            is_truncated: false,
            merges_followed: Cell::new(0),
            map,
        }
    }

    pub(crate) fn node(&self, id: NodeId) -> &YamlNode<'t> {
        &self.nodes[id]
    }

    /// Tells whether one more merge key may be followed. Merge keys that bring each other multiply.
    pub(crate) fn may_follow_merge(&self) -> bool {
        self.merges_followed.set(self.merges_followed.get() + 1);
        self.merges_followed.get() <= MAX_MERGES
    }

    /// Where a node begins in the file.
    pub(crate) fn position(&self, id: NodeId) -> Position {
        self.map.position(self.nodes[id].position)
    }

    /// The bytes of a node in the file.
    pub(crate) fn bytes(&self, id: NodeId) -> Range<usize> {
        self.map.bytes(self.nodes[id].span.clone())
    }

    fn text(&self, id: NodeId) -> Option<&str> {
        self.nodes[id].content.text()
    }
}

/// A value, and where it is in the text.
#[derive(Debug)]
pub(crate) struct YamlNode<'t> {
    /// The bytes of the value: for a mapping or sequence in block style, from its first entry.
    pub(crate) span: Range<usize>,
    /// Where those begin.
    pub(crate) position: Position,
    /// What the value is.
    pub(crate) content: NodeContent<'t>,
    /// It has a tag that may change its meaning.
    pub(crate) has_other_tag: bool,
    /// An alias refers to it, so that its text stands for several values.
    pub(crate) is_shared: bool,
}

impl YamlNode<'_> {
    /// A node whose content is not read yet.
    fn new(span: Range<usize>, position: Position) -> Self {
        Self { span, position, content: NodeContent::Skipped, has_other_tag: false, is_shared: false }
    }
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum NodeContent<'t> {
    Scalar {
        text: Cow<'t, str>,
        style: ScalarStyle,
        /// How far the lines of a block scalar are indented.
        indent: usize,
        /// Its tag says that it is a string.
        is_string: bool,
    },
    Sequence(Vec<NodeId>),
    Mapping {
        style: StructureStyle,
        entries: Vec<(NodeId, NodeId)>,
    },
    /// An alias of this node, which is skipped when it was not kept.
    Alias(NodeId),
    /// An alias of an anchor that the document does not have.
    Dangling(String),
    /// Not kept.
    Skipped,
}

impl NodeContent<'_> {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The text of a scalar without quotes and without a tag, which may be more than a string.
    pub(crate) fn plain(&self) -> Option<&str> {
        match self {
            Self::Scalar { text, style: ScalarStyle::Plain, is_string: false, .. } => Some(text),
            _ => None,
        }
    }
}

/// Why a document gave no tree.
#[derive(Debug)]
pub(crate) enum TreeError {
    /// It is of a kind that cannot hold a MachineConfig.
    OtherKind(String),
    /// It is not YAML.
    Syntax(SyntaxFault),
}

impl From<SyntaxFault> for TreeError {
    fn from(fault: SyntaxFault) -> Self {
        Self::Syntax(fault)
    }
}

/// A syntax error.
#[derive(Debug)]
pub(crate) struct SyntaxFault {
    pub(crate) offset: usize,
    pub(crate) position: Position,
    pub(crate) message: String,
}

/// Where a part of a larger text begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextOrigin {
    pub(crate) offset: usize,
    pub(crate) line: u64,
    pub(crate) column: u64,
}

impl TextOrigin {
    pub(crate) const START: Self = Self { offset: 0, line: 0, column: 0 };

    /// The origin at a later byte of `text`; each byte between is counted once.
    pub(crate) fn moved(mut self, text: &str, offset: usize) -> Self {
        for character in text[self.offset..offset].chars() {
            match character {
                '\n' => (self.line, self.column) = (self.line + 1, 0),
                '\u{feff}' => {}
                _ => self.column += 1,
            }
        }
        Self { offset, ..self }
    }

    fn position(self, marker: Marker) -> Position {
        let column = if marker.line() == 1 { self.column } else { 0 };
        Position { line: self.line + marker.line() as u64, column: column + marker.col() as u64 + 1 }
    }

    fn offset(self, marker: Marker) -> usize {
        // Markers of a text that is a `str` always know their byte.
        self.offset + marker.byte_offset().unwrap_or_default()
    }
}

/// Reads one document after another.
pub(crate) struct Trees<'t> {
    parser: Parser<'t, StrInput<'t>>,
    base: TextOrigin,
    length: usize,
    max_nodes: usize,
    building: Tree<'t>,
    /// Where the document that is being read begins, in bytes.
    begins: usize,
}

impl<'t> Trees<'t> {
    /// A reader of `text`, which begins at `base` of the text that `map` is for. Of each document at most
    /// `max_nodes` values are kept.
    pub(crate) fn new(text: &'t str, base: TextOrigin, map: &'t PositionMap<'t>, max_nodes: usize) -> Self {
        let mut options = Options::default();
        options.set_emit_comments(false);
        // An alias without an anchor does not matter in a value that is not judged.
        options.emit_unresolved_aliases = true;
        Self {
            parser: Parser::new_from_str_with_options(text, options),
            base,
            length: text.len(),
            max_nodes,
            building: Tree::empty(map),
            begins: base.offset,
        }
    }

    /// The next document: the bytes that it takes up, and what was kept of it. `None` at the end.
    pub(crate) fn next(&mut self) -> Option<(Range<usize>, Result<Tree<'t>, TreeError>)> {
        let outcome = loop {
            match self.event() {
                Ok((Event::StreamEnd, _)) => return None,
                Ok((Event::DocumentStart(..), span)) => {
                    self.begins = self.base.offset(span.start);
                    break self.document();
                }
                Ok(_) => {}
                Err(broken) => break Err(TreeError::Syntax(broken)),
            }
        };
        if outcome.is_err() {
            self.parser.proceed_next_document().unwrap_or_default();
        }
        let ends = match self.parser.peek() {
            Some(Ok((event, span))) if !matches!(event, Event::StreamEnd) => {
                self.base.offset(span.start).max(self.begins)
            }
            _ => self.base.offset + self.length,
        };
        Some((std::mem::replace(&mut self.begins, ends)..ends, outcome))
    }

    fn document(&mut self) -> Result<Tree<'t>, TreeError> {
        let map = self.building.map;
        self.building = Tree::empty(map);
        let event = self.event()?;
        self.building.root = self.node(event, Retention::Root)?;
        match self.event()? {
            (Event::DocumentEnd, _) => Ok(std::mem::replace(&mut self.building, Tree::empty(map))),
            (_, span) => Err(self.fault(span.start, "content after the end of the document").into()),
        }
    }

    fn event(&mut self) -> Result<(Event<'t>, Span), SyntaxFault> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.fault(*error.marker(), error.info())),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn fault(&self, at: Marker, message: impl Into<String>) -> SyntaxFault {
        SyntaxFault {
            offset: self.base.offset(at),
            position: self.base.position(at),
            message: message.into(),
        }
    }

    /// Reads the node that begins with an event. `keep` says what is kept of it.
    fn node(&mut self, (event, span): (Event<'t>, Span), keep: Retention) -> Result<NodeId, TreeError> {
        if keep == Retention::Text
            && let Event::Scalar(text, ..) = &event
            && !(mentions(text) || mentions_encoded(text))
        {
            return Ok(SKIPPED);
        }
        // An alias may use it where it matters.
        let is_anchored = event.anchor_id().is_some();
        let keep = if is_anchored && keep == Retention::Nothing { Retention::Whole } else { keep };
        let id = self.reserve(&event, span, keep);
        let (content, last) = match event {
            Event::Scalar(text, style, _, tag) => {
                let is_string = tag.is_some() && !self.building.nodes[id].has_other_tag;
                let indent = span.indent.unwrap_or_default();
                (NodeContent::Scalar { text, style, indent, is_string }, span)
            }
            Event::Alias(anchor) => {
                let node = self.building.anchors.get(&anchor).copied().unwrap_or(SKIPPED);
                self.building.nodes[node].is_shared = true;
                (NodeContent::Alias(node), span)
            }
            Event::UnresolvedAlias(name) => (NodeContent::Dangling(name.into_owned()), span),
            Event::SequenceStart(..) => self.sequence(id, keep)?,
            Event::MappingStart(style, ..) => self.mapping(id, style, keep)?,
            // Nothing else begins a node.
            _ => return Ok(SKIPPED),
        };
        if id != SKIPPED {
            let node = &mut self.building.nodes[id];
            node.span.end = self.base.offset(last.end);
            node.content = content;
        }
        Ok(id)
    }

    /// The content of a sequence, and where it ends.
    fn sequence(&mut self, id: NodeId, keep: Retention) -> Result<(NodeContent<'t>, Span), TreeError> {
        let mut items = Vec::new();
        loop {
            let event = self.event()?;
            if matches!(event.0, Event::SequenceEnd | Event::StreamEnd) {
                return Ok((NodeContent::Sequence(items), event.1));
            }
            let item = self.node(event, keep.item())?;
            if id != SKIPPED {
                items.push(item);
            }
        }
    }

    /// The content of a mapping, and where it ends.
    fn mapping(
        &mut self,
        id: NodeId,
        style: StructureStyle,
        mut keep: Retention,
    ) -> Result<(NodeContent<'t>, Span), TreeError> {
        let mut entries = Vec::new();
        loop {
            let event = self.event()?;
            if matches!(event.0, Event::MappingEnd | Event::StreamEnd) {
                return Ok((NodeContent::Mapping { style, entries }, event.1));
            }
            let key = self.node(event, if id == SKIPPED { Retention::Nothing } else { Retention::Whole })?;
            let inner = keep.entry(self.building.text(key));
            let event = self.event()?;
            let value = self.node(event, inner)?;
            if id == SKIPPED {
                continue;
            }
            let text = |id| self.building.text(id);
            if keep.is_object() && text(key) == Some("kind") && !text(value).is_none_or(may_hold) {
                if keep == Retention::Root {
                    return Err(TreeError::OtherKind(text(value).unwrap_or_default().to_owned()));
                }
                keep = Retention::Nothing;
            }
            // Entries that are not kept would make the list grow without bound.
            if inner != Retention::Nothing {
                entries.push((key, value));
            }
        }
    }

    /// A number for a node whose content is not read yet, so that an alias inside may refer to it.
    fn reserve(&mut self, event: &Event<'t>, span: Span, keep: Retention) -> NodeId {
        if keep == Retention::Nothing {
            return SKIPPED;
        }
        let tree = &mut self.building;
        if tree.nodes.len() >= self.max_nodes {
            tree.is_truncated = true;
            return SKIPPED;
        }
        let id = tree.nodes.len();
        // The tag that the value has without one.
        let standard = match event {
            Event::Scalar(..) => "str",
            Event::SequenceStart(..) => "seq",
            _ => "map",
        };
        let has_other_tag = event.tag().is_some_and(|tag| !tag.is_yaml_core_schema_tag(standard));
        let bytes = self.base.offset(span.start)..self.base.offset(span.end);
        let node = YamlNode::new(bytes, self.base.position(span.start));
        tree.nodes.push(YamlNode { has_other_tag, ..node });
        tree.anchors.extend(event.anchor_id().map(|anchor| (anchor, id)));
        id
    }
}

/// What to keep of a node, by where it is in the document.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Retention {
    /// The top of a document.
    Root,
    /// An object inside another.
    Object,
    /// The mapping at this path of an object, on the way to embedded objects.
    Path(&'static [&'static str]),
    /// The embedded objects.
    Part(PartForm),
    /// An entry of [`PartForm::PolicyObjects`].
    PolicyObject,
    /// A value where only a scalar matters.
    Scalar,
    /// A text that may hold documents.
    Text,
    /// All of it.
    Whole,
    /// Nothing.
    Nothing,
}

impl Retention {
    fn is_object(self) -> bool {
        matches!(self, Self::Root | Self::Object)
    }

    /// What to keep of the items of a sequence.
    fn item(self) -> Self {
        match self {
            Self::Root | Self::Part(PartForm::Objects) => Self::Object,
            Self::Part(PartForm::PolicyObjects) => Self::PolicyObject,
            Self::Part(PartForm::Texts) => Self::Text,
            Self::Part(PartForm::Patches) | Self::Whole => Self::Whole,
            _ => Self::Nothing,
        }
    }

    /// What to keep of the value of `key`. Merge keys add entries of other mappings.
    fn entry(self, key: Option<&str>) -> Self {
        match (self, key) {
            (Self::Whole, _) => Self::Whole,
            (Self::Root | Self::Object, Some("apiVersion" | "kind" | "metadata" | "<<")) => Self::Whole,
            (Self::Object, Some("op" | "path" | "value")) => Self::Scalar,
            (Self::Root | Self::Object, Some(key)) => Self::below(&[], key).unwrap_or(Self::Nothing),
            // The Ignition config of a MachineConfig, which is most of its bytes.
            (Self::Path(SPEC), Some("config")) => Self::Nothing,
            (Self::Path(path), Some(key)) if let Some(below) = Self::below(path, key) => below,
            (Self::Path(SPEC), _) | (Self::Path(_), Some("<<")) => Self::Whole,
            (Self::PolicyObject, Some("objectDefinition")) => Self::Object,
            (Self::PolicyObject, Some("complianceType" | "<<")) => Self::Whole,
            (Self::Part(PartForm::Texts | PartForm::EncodedTexts), _) => Self::Text,
            _ => Self::Nothing,
        }
    }

    /// What to keep at `path` followed by `key`. `None` where there is nothing embedded.
    fn below(path: &[&str], key: &str) -> Option<Self> {
        let part = EmbeddedPart::at_or_below(path, key)?;
        Some(match (part.path.len() == path.len() + 1, part.form) {
            (false, _) => Self::Path(&part.path[..=path.len()]),
            (true, PartForm::PolicyText) => Self::Text,
            (true, form) => Self::Part(form),
        })
    }
}

/// Tells whether `text` contains the word MachineConfig, in base64 too, or the name of a field that is
/// judged, as a JSON patch does. A text that does not has no MachineConfig in it.
pub fn mentions(text: &str) -> bool {
    let names_a_field = || Field::ALL.iter().any(|field| text.contains(field.key()));
    text.contains(NAME) || names_a_field() || ENCODED_NAME.iter().any(|encoded| text.contains(encoded))
}

/// Tells whether `text` contains the word MachineConfig in base64, which may have line breaks anywhere.
pub(crate) fn mentions_encoded(text: &str) -> bool {
    let text = match text.contains('\n') {
        true => Cow::Owned(text.replace(['\r', '\n'], "")),
        false => Cow::Borrowed(text),
    };
    ENCODED_NAME.iter().any(|encoded| text.contains(encoded))
}

const NAME: &str = "MachineConfig";
/// The same in base64, for each of the three offsets in a group of three bytes; without the digits that
/// depend on the bytes around it.
const ENCODED_NAME: [&str; 3] = ["TWFjaGluZUNvbmZpZ", "1hY2hpbmVDb25maW", "NYWNoaW5lQ29uZmln"];
const SKIPPED: NodeId = 0;
/// The path of the fields of a MachineConfig, and of the objects in some embeddings.
const SPEC: &[&str] = &["spec"];
/// The merge keys that are followed in one document when values are looked for.
const MAX_MERGES: usize = 100_000;
