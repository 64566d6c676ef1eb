//! From the text of one file to the MachineConfigs in it.
//!
//! A file may hold many documents, lists of objects, documents of other kinds (passed over), and
//! objects that carry MachineConfigs in them, such as ConfigMaps and policies. Each MachineConfig comes
//! out as a [`ManifestDocument`]; whatever cannot be read comes out as a [`DocumentFault`] with its place, and never
//! keeps the others from being read. Pure: text in, data out; [`crate::cli::inputs`] finds and reads the files.
//!
//! A text with `{{ … }}` or `{% … %}` in it is a template until it parses as YAML with the value in question
//! spelled out. It is told apart from YAML that is broken, since there is nothing to mend in it.

pub mod edit;
pub(crate) mod embedded;
pub(crate) mod embeddings;
pub(crate) mod json;
pub(crate) mod spans;
pub(crate) mod tree;
pub(crate) mod value;

use std::fmt;
use std::ops::Range;

use crate::manifests::embeddings::EmbeddedText;
pub use crate::manifests::spans::EditSpans;
use crate::manifests::spans::NodeRef;
pub(crate) use crate::manifests::spans::{EditBlocker, EditBlockerKind, NodeKind, Span};
pub use crate::manifests::tree::mentions;
use crate::manifests::tree::{NodeContent, SyntaxFault, TextOrigin, Tree, TreeError, Trees};
use crate::manifests::value::{ValueFault, Values};
use crate::model::machine_config::{Field, GROUP, ObjectError, Origin, Position, Subject};
use crate::text::shown;

/// Reads every MachineConfig in `text`, which is YAML or JSON.
pub fn read(text: &str) -> Documents {
    read_carried(text, EmbeddedText::by_nothing(text))
}

/// Reads the one MachineConfig that is `text`, in YAML or JSON, as if it were being created.
///
/// Fails when the text is anything else, or holds the object inside another. The error carries line and
/// column where they are known.
pub fn read_one(text: &str) -> Result<Subject, ObjectError> {
    // JSON is read as it is in an AdmissionReview: a reader of YAML is slower.
    if text.trim_start().starts_with('{') {
        return Subject::from_json(text);
    }
    let context = EmbeddedText { max_nodes: MAX_NODES_OF_ONE, ..EmbeddedText::by_nothing(text) };
    let Documents { mut documents, faults, passed_over, other_kind, .. } = read_carried(text, context);
    if let Some(DocumentFault { position, message, .. }) = faults.into_iter().next() {
        return Err(ObjectError { position, message });
    }
    let found = documents.len() + passed_over;
    let message = match documents.pop() {
        Some(ManifestDocument { subject, .. }) if found == 1 && subject.origin.path().is_empty() => {
            return Ok(subject);
        }
        Some(_) if found == 1 => "expected one MachineConfig, found one inside another object".to_owned(),
        None if found < 2 => format!(
            "not a MachineConfig: kind is `{}`; expected `{GROUP}/v1`, `MachineConfig`",
            shown(&other_kind.unwrap_or_default())
        ),
        _ => format!("expected one MachineConfig, found {found} objects"),
    };
    Err(ObjectError { position: None, message })
}

/// What a text holds, in the order of the text.
#[derive(Debug, Default)]
pub struct Documents {
    /// The MachineConfigs.
    pub documents: Vec<ManifestDocument>,
    /// What could not be read.
    pub faults: Vec<DocumentFault>,
    /// How many documents and objects are of other kinds.
    pub passed_over: usize,
    /// The kind of the first of them.
    other_kind: Option<String>,
    /// The bytes of texts in texts that were read.
    spent: usize,
}

impl Documents {
    fn pass_over(&mut self, kind: &str) {
        self.passed_over += 1;
        self.other_kind.get_or_insert_with(|| kind.to_owned());
    }
}

/// One MachineConfig of a text.
#[derive(Debug)]
pub struct ManifestDocument {
    /// The object, with the places of its values in the text.
    pub subject: Subject,
    /// Where the values stand that a pin may touch.
    pub spans: EditSpans,
}

/// Why a part of a text could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentFault {
    /// What kind of fault it is.
    pub kind: FaultKind,
    /// Where it is, when that is known.
    pub position: Option<Position>,
    /// What is wrong: one phrase.
    pub message: String,
    /// The part that could not be read says `kind: MachineConfig`.
    pub concerns_a_machine_config: bool,
}

/// The kinds of [`DocumentFault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The document is neither YAML nor JSON. The documents after it have been read.
    Syntax,
    /// The document is a template that something else turns into YAML.
    Template,
    /// It stands in a policy, and the cluster turns it into what it says.
    PolicyTemplate,
    /// What is judged stands in an OpenShift template, and has a parameter in it.
    Parameter,
    /// The document says `kind: MachineConfig`, and an `apiVersion` that is no MachineConfig's.
    ApiVersion,
    /// A text in base64 speaks of a MachineConfig.
    Encoded,
    /// The document is a MachineConfig that cannot be one: a field of the wrong type, no name, a
    /// duplicate key.
    Object,
}

/// How a file came to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSelection {
    /// Its name was given.
    ByName,
    /// It was found in a folder whose name was given.
    InFolder,
    /// It was found in such a folder and is called `.json`, as are settings with comments in them and
    /// other relatives of JSON.
    InFolderAsJson,
}

/// What a fault comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Not worth a word of its own: a file that nobody named and that holds no MachineConfig.
    Ignored,
    /// Worth a word, but nothing that the author could mend: the exit status stays.
    Note,
    /// What was asked for could not be done: exit status 2.
    Error,
}

impl DocumentFault {
    /// What the fault comes to in a file that was `given` so.
    ///
    /// A file that was named is expected to be judged, so each of its faults is an error. In a
    /// folder a template is passed over, because charts stand beside plain manifests, with a note
    /// where it says `kind: MachineConfig`, and so is what has a parameter or another `apiVersion` or is
    /// encoded. What else is no YAML may hide a MachineConfig, and is an error there too.
    pub fn severity(&self, selection: FileSelection) -> Severity {
        match (selection, self.kind) {
            (FileSelection::ByName, _) => Severity::Error,
            (_, FaultKind::Template) if self.concerns_a_machine_config => Severity::Note,
            (_, FaultKind::Template) => Severity::Ignored,
            (
                _,
                FaultKind::PolicyTemplate | FaultKind::Parameter | FaultKind::ApiVersion | FaultKind::Encoded,
            ) => Severity::Note,
            (FileSelection::InFolderAsJson, FaultKind::Syntax) if !self.concerns_a_machine_config => {
                Severity::Ignored
            }
            _ => Severity::Error,
        }
    }

    /// One thing to do about it.
    pub fn help(&self) -> &'static str {
        match self.kind {
            FaultKind::Syntax => "mend the YAML there",
            FaultKind::Template => {
                "render it first, and give what comes out: helm template CHART, or kustomize build DIR, writes YAML"
            }
            FaultKind::PolicyTemplate => {
                "write the value out; else judge what the policy made on a cluster: oc get machineconfig NAME -o yaml | \
                 layerpin check -"
            }
            FaultKind::Parameter => {
                "fill it in first, and give what comes out: oc process --local -f FILE -o yaml"
            }
            FaultKind::ApiVersion => "write `apiVersion: machineconfiguration.openshift.io/v1`",
            FaultKind::Encoded => {
                "write it as text (a Secret has `stringData` for that), or give what `base64 --decode` makes of it"
            }
            FaultKind::Object => {
                "mend the object there; `oc apply --dry-run=server -f FILE` says what it wants"
            }
        }
    }
}

impl fmt::Display for DocumentFault {
    /// The message alone; the place is the caller's to put before it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

fn read_carried(text: &str, carried: EmbeddedText) -> Documents {
    match json::objects(text) {
        Some(json) if json.broken.is_none() && json.objects.len() > 1 => read_objects(text, &json, carried),
        Some(json) if json.broken.is_some() => {
            // It may be YAML that looks like JSON at first. Where it is neither, whichever reading
            // comes farther tells the fault.
            let (yaml, yaml_stops) = DocumentReader::new(text, carried).read([(text, TextOrigin::START)]);
            match json.broken.as_ref() {
                Some(broken) if yaml_stops.is_some_and(|stops| stops <= broken.offset) => {
                    read_objects(text, &json, carried)
                }
                _ => yaml,
            }
        }
        _ => DocumentReader::new(text, carried).read([(text, TextOrigin::START)]).0,
    }
}

fn read_objects(text: &str, json: &json::JsonObjects<'_>, carried: EmbeddedText) -> Documents {
    let mut documents = DocumentReader::new(text, carried).read(json.objects.iter().copied()).0;
    if let Some(broken) = &json.broken {
        let from = json.objects.last().map_or(0, |(object, base)| base.offset + object.len());
        documents.faults.push(syntax_fault(text, broken, from..text.len()));
    }
    documents
}

/// Reads the documents of one text.
struct DocumentReader<'t> {
    text: &'t str,
    carried: EmbeddedText,
    read: Documents,
}

impl<'t> DocumentReader<'t> {
    fn new(text: &'t str, carried: EmbeddedText) -> Self {
        Self { text, carried, read: Documents::default() }
    }

    /// Reads the `parts` of the text. Gives the byte of the first fault of syntax as well.
    fn read(mut self, parts: impl IntoIterator<Item = (&'t str, TextOrigin)>) -> (Documents, Option<usize>) {
        let mut stops = None;
        for (part, base) in parts {
            let mut trees = Trees::new(part, base, self.carried.max_nodes);
            while let Some((span, outcome)) = trees.next() {
                match outcome {
                    Ok(tree) => ObjectReader::new(&tree, self.text, self.carried, &mut self.read).read(),
                    Err(TreeError::OtherKind(kind)) => self.read.pass_over(&kind),
                    Err(TreeError::Syntax(broken)) => {
                        stops.get_or_insert(broken.offset);
                        self.read.faults.push(syntax_fault(self.text, &broken, span));
                    }
                }
            }
        }
        (self.read, stops)
    }
}

/// Reads the objects of one document.
struct ObjectReader<'a, 't> {
    tree: &'a Tree<'t>,
    values: Values<'a, 't>,
    text: &'a str,
    carried: EmbeddedText,
    objects: usize,
    read: &'a mut Documents,
}

/// What an object of a list is when it does not say so itself: the API server leaves kind and version
/// out of the items of its own lists. Both are empty where nothing is presumed.
#[derive(Clone, Copy)]
struct DefaultKind<'p> {
    kind: &'p str,
    api_version: &'p str,
}

impl DefaultKind<'_> {
    const NOTHING: Self = Self { kind: "", api_version: "" };
}

impl<'a, 't> ObjectReader<'a, 't> {
    fn new(tree: &'a Tree<'t>, text: &'a str, carried: EmbeddedText, read: &'a mut Documents) -> Self {
        Self { tree, values: Values::new(tree), text, carried, objects: 0, read }
    }

    fn read(mut self) {
        let Some(root) = NodeRef::at(self.tree, self.tree.root) else { return };
        let outcome = match &self.tree.node(root.node()).content {
            NodeContent::Sequence(_) => self.objects(root, "", 0, DefaultKind::NOTHING),
            _ => self.object(root, String::new(), 0, DefaultKind::NOTHING),
        };
        if let Err(unfit) = outcome {
            self.fault(unfit);
        }
    }

    fn object(
        &mut self,
        object: NodeRef<'_, '_>,
        path: String,
        nesting: usize,
        presumed: DefaultKind<'_>,
    ) -> Result<(), ValueFault> {
        self.objects += 1;
        if self.objects > MAX_OBJECTS || nesting > MAX_NESTING {
            let message = format!("more than {MAX_OBJECTS} objects, or lists in {MAX_NESTING} lists");
            return Err(ValueFault { at: object.written(), message });
        }
        // JSON with a comment before it is a sentence to a reader of YAML.
        let is_outermost = nesting == 0 && self.carried.depth == 0;
        if is_outermost && object.text().is_some_and(says_machine_config) {
            let message = "a text, not an object".to_owned();
            return Err(ValueFault { at: object.written(), message });
        }
        let text = |key: &str| object.entry(key).and_then(|entry| entry.text()).unwrap_or_default();
        let said = (text("kind"), text("apiVersion"));
        let (kind, api_version) = match said {
            ("", "") => (presumed.kind, presumed.api_version),
            (kind, "") if kind == presumed.kind => (kind, presumed.api_version),
            said => said,
        };
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let is_ours = group == GROUP;
        match kind {
            "MachineConfig" if is_ours => self.machine_config(object, path, presumed),
            "MachineConfig" if may_mean_ours(group) && is_object(object) => {
                self.other_api_version(object, api_version);
            }
            "" if api_version.is_empty() && object.entry("op").is_some() => self.json_patch(object, path),
            _ => match kind.strip_suffix("List") {
                Some("") => self.items(object, "items", &path, nesting, DefaultKind::NOTHING)?,
                Some(kind) => {
                    self.items(object, "items", &path, nesting, DefaultKind { kind, api_version })?;
                }
                None => self.carrier(object, kind, group, &path, nesting)?,
            },
        }
        Ok(())
    }

    fn items(
        &mut self,
        list: NodeRef<'_, '_>,
        key: &str,
        path: &str,
        nesting: usize,
        presumed: DefaultKind<'_>,
    ) -> Result<(), ValueFault> {
        match list.entry(key) {
            Some(list) => self.objects(list, &format!("{path}/{key}"), nesting, presumed),
            None => Ok(()),
        }
    }

    /// Reads the objects of the sequence at `path`.
    fn objects(
        &mut self,
        list: NodeRef<'_, '_>,
        path: &str,
        nesting: usize,
        presumed: DefaultKind<'_>,
    ) -> Result<(), ValueFault> {
        let NodeContent::Sequence(items) = &self.tree.node(list.node()).content else { return Ok(()) };
        for (index, item) in items.iter().enumerate() {
            match list.item(*item) {
                Some(item) => self.object(item, format!("{path}/{index}"), nesting + 1, presumed)?,
                None => self.read.pass_over(""),
            }
        }
        Ok(())
    }

    fn other_api_version(&mut self, object: NodeRef<'_, '_>, api_version: &str) {
        let (at, message) = match object.entry("apiVersion") {
            None => (object, "`kind: MachineConfig` without an `apiVersion`".to_owned()),
            Some(entry) => {
                let api_version = shown(api_version);
                let what = format!("`kind: MachineConfig` with the `apiVersion` `{api_version}`");
                (entry, format!("{what}, which no MachineConfig has"))
            }
        };
        let at = at.written();
        self.fault_of(FaultKind::ApiVersion, ValueFault { at, message });
    }

    fn machine_config(&mut self, object: NodeRef<'_, '_>, path: String, presumed: DefaultKind<'_>) {
        if let Err(unfit) = self.judge(object, path, presumed) {
            self.fault(unfit);
        }
    }

    fn judge(
        &mut self,
        object: NodeRef<'_, '_>,
        path: String,
        presumed: DefaultKind<'_>,
    ) -> Result<(), ValueFault> {
        let id = object.written();
        if self.tree.is_cut {
            let message = "the document holds more values than can be kept".to_owned();
            return Err(ValueFault { at: id, message });
        }
        let mut value = self.values.value(id)?;
        if !presumed.kind.is_empty()
            && let Some(map) = value.as_object_mut()
        {
            map.entry("apiVersion").or_insert_with(|| presumed.api_version.into());
            map.entry("kind").or_insert_with(|| presumed.kind.into());
        }
        for path in [&["metadata"][..], &["metadata", "labels"], &["metadata", "annotations"], &["spec"]] {
            let at = path.iter().try_fold(object, |at, key| at.entry(key));
            let inner = path.iter().try_fold(&value, |value, key| value.get(key));
            // serde would take a list for a structure.
            if let Some(at) = at
                && !inner.is_none_or(|inner| inner.is_object() || inner.is_null())
            {
                let message = format!("`{}` is not a mapping", path.join("."));
                return Err(ValueFault { at: at.written(), message });
            }
        }
        let image = |field: Field| object.entry("spec")?.entry(field.key());
        let positions = Field::ALL.map(|field| image(field).map(|at| at.position()));
        let origin = Origin::new(object.position().line, positions, path);
        let mut subject = Subject::from_value(value, origin).map_err(|refused| {
            let mut at = Some(object);
            let mut nearest = id;
            for key in &refused.path {
                at = at.and_then(|at| at.entry(key));
                nearest = at.map_or(nearest, |at| at.written());
            }
            ValueFault { at: nearest, message: refused.message }
        })?;
        for field in Field::ALL {
            let Some(at) = image(field) else { continue };
            let text = subject.object.text(field);
            if text.contains("{{") {
                return Err(ValueFault { at: at.written(), message: TEMPLATE.to_owned() });
            }
            if self.carried.has_parameters && text.contains("${") {
                self.read.faults.push(DocumentFault {
                    kind: FaultKind::Parameter,
                    position: Some(at.position()),
                    message: format!("`{}` has a parameter of the template in it", shown(text)),
                    concerns_a_machine_config: true,
                });
                return Ok(());
            }
        }
        // `${ROLE}` is the name of no pool: which pools it will reach is not known.
        subject.object.labels.retain(|_, value| !self.carried.is_open(value));
        self.read.documents.push(ManifestDocument { subject, spans: EditSpans::of(object) });
        Ok(())
    }

    fn fault(&mut self, unfit: ValueFault) {
        self.fault_of(FaultKind::Object, unfit);
    }

    /// Tells what is unfit, as a fault of `kind` unless it is a template.
    fn fault_of(&mut self, kind: FaultKind, unfit: ValueFault) {
        let node = self.tree.node(unfit.at);
        // Of an embedded text `self.text` is the inner one, and so are the spans.
        let written = self.text.get(node.span.clone()).unwrap_or_default();
        let (kind, message) = match written.contains("{{") {
            true => (self.carried.template(), TEMPLATE.to_owned()),
            false => (kind, unfit.message),
        };
        self.read.faults.push(DocumentFault {
            kind,
            position: Some(node.position),
            message,
            concerns_a_machine_config: true,
        });
    }
}

/// Tells whether the author of a `kind: MachineConfig` in `group` may have meant OpenShift's: it is
/// missing, or has a word of the right one in it. Talos and others have a kind of that name too.
fn may_mean_ours(group: &str) -> bool {
    let group = group.to_ascii_lowercase();
    group.is_empty() || ["openshift", "machineconfiguration"].iter().any(|word| group.contains(word))
}

/// Tells whether `value` is an object, not a reference to one such as the target of a patch.
fn is_object(value: NodeRef<'_, '_>) -> bool {
    value.entry("metadata").is_some() || value.entry("spec").is_some()
}

/// The fault of a document at `span` of `text` that is no YAML: where it has the marks of a
/// template, that is what it is.
fn syntax_fault(text: &str, broken: &SyntaxFault, span: Range<usize>) -> DocumentFault {
    let document = text.get(span.clone()).unwrap_or_default();
    let mut concerns_a_machine_config = says_machine_config(document);
    let mark = |text: &str| TEMPLATE_MARKS.iter().filter_map(|mark| text.find(mark)).min();
    let at = mark(document).map(|at| span.start + at).or_else(|| {
        // `{{ x }}` alone reads as a mapping, after which nothing more is expected.
        let blank = text.len() - text.trim_start().len();
        let begins_with_mark = TEMPLATE_MARKS.iter().any(|mark| text[blank..].starts_with(mark));
        concerns_a_machine_config |= begins_with_mark && says_machine_config(text);
        begins_with_mark.then_some(blank)
    });
    match at {
        Some(at) => DocumentFault {
            kind: FaultKind::Template,
            position: Some(place_near(text, at, broken)),
            message: TEMPLATE.to_owned(),
            concerns_a_machine_config,
        },
        None => DocumentFault {
            kind: FaultKind::Syntax,
            position: Some(broken.position),
            message: shown(&broken.message),
            concerns_a_machine_config,
        },
    }
}

/// The place of a byte, counted from a place that is known, so that each byte of a file with many
/// faults is counted once.
fn place_near(text: &str, offset: usize, known: &SyntaxFault) -> Position {
    let lines = |range: Range<usize>| text.get(range).unwrap_or_default().matches('\n').count() as u64;
    let line = if offset < known.offset {
        known.position.line - lines(offset..known.offset).min(known.position.line - 1)
    } else {
        known.position.line + lines(known.offset..offset)
    };
    let before = text.get(..offset).unwrap_or_default();
    let begins = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before[begins..].chars().filter(|character| *character != '\u{feff}').count() as u64 + 1;
    Position { line, column }
}

/// Tells whether `text` says `kind: MachineConfig`, in YAML or JSON, so that a fault in it hides one.
fn says_machine_config(text: &str) -> bool {
    text.match_indices("MachineConfig").any(|(at, word)| {
        let quote = |c: char| c == '"' || c == '\'' || c == '\\';
        let before = text[..at].trim_end_matches(quote).trim_end_matches([' ', '\t']);
        let key =
            before.strip_suffix(':').map(|key| key.trim_end_matches([' ', '\t']).trim_end_matches(quote));
        let ends = !text[at + word.len()..].starts_with(|c: char| c.is_alphanumeric());
        ends && key.is_some_and(|key| key.ends_with("kind"))
    })
}

const TEMPLATE: &str = "a template, which says nothing before it is rendered";

/// How the actions of Go's and of Jinja's templates begin.
const TEMPLATE_MARKS: [&str; 2] = ["{{", "{%"];

/// The values that are kept of a text that is to be one MachineConfig. It has some thirty without its
/// Ignition config, and at most 1,024 labels.
const MAX_NODES_OF_ONE: usize = 20_000;
/// The objects that are looked at in one document. Lists in aliases of lists multiply.
const MAX_OBJECTS: usize = 200_000;
/// Lists in lists.
const MAX_NESTING: usize = 32;

#[cfg(test)]
mod tests;
