//! From the text of one file to the MachineConfigs in it.
//!
//! A file may hold many documents, lists of objects, documents of other kinds (passed over), and
//! objects that carry MachineConfigs in them, such as ConfigMaps and policies. Each MachineConfig comes
//! out as a [`Document`]; whatever cannot be read comes out as a [`Fault`] with its place, and never
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

use crate::manifests::embeddings::Carried;
use crate::manifests::spans::Cursor;
pub use crate::manifests::spans::Site;
pub(crate) use crate::manifests::spans::{Form, Obstacle, ObstacleKind, Spot};
pub use crate::manifests::tree::mentions;
use crate::manifests::tree::{Base, Broken, Content, Stop, Tree, Trees};
use crate::manifests::value::{Unfit, Values};
use crate::model::machine_config::{Field, GROUP, Origin, Place, Subject};
use crate::text::shown;

/// Reads every MachineConfig in `text`, which is YAML or JSON.
pub fn read(text: &str) -> Documents {
    read_carried(text, Carried::by_nothing(text))
}

/// What a text holds, in the order of the text.
#[derive(Debug, Default)]
pub struct Documents {
    /// The MachineConfigs.
    pub documents: Vec<Document>,
    /// What could not be read.
    pub faults: Vec<Fault>,
    /// How many documents and objects are of other kinds.
    pub passed_over: usize,
    /// The bytes of texts in texts that were read.
    spent: usize,
}

/// One MachineConfig of a text.
#[derive(Debug)]
pub struct Document {
    /// The object, with the places of its values in the text.
    pub subject: Subject,
    /// Where the values stand that a pin may touch.
    pub site: Site,
}

/// Why a part of a text could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of fault it is.
    pub kind: FaultKind,
    /// Where it is, when that is known.
    pub place: Option<Place>,
    /// What is wrong: one phrase.
    pub message: String,
    /// The part that could not be read says `kind: MachineConfig`.
    pub concerns_a_machine_config: bool,
}

/// The kinds of [`Fault`].
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
pub enum Given {
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
pub enum Weight {
    /// Not worth a word of its own: a file that nobody named and that holds no MachineConfig.
    Nothing,
    /// Worth a word, but nothing that the author could mend: the exit status stays.
    Note,
    /// What was asked for could not be done: exit status 2.
    Error,
}

impl Fault {
    /// What the fault comes to in a file that was `given` so.
    ///
    /// A file that was named is expected to be judged, so each of its faults is an error. In a
    /// folder a template is passed over, because charts stand beside plain manifests, with a note
    /// where it says `kind: MachineConfig`, and so is what has a parameter or another `apiVersion` or is
    /// encoded. What else is no YAML may hide a MachineConfig, and is an error there too.
    pub fn weight(&self, given: Given) -> Weight {
        match (given, self.kind) {
            (Given::ByName, _) => Weight::Error,
            (_, FaultKind::Template) if self.concerns_a_machine_config => Weight::Note,
            (_, FaultKind::Template) => Weight::Nothing,
            (
                _,
                FaultKind::PolicyTemplate | FaultKind::Parameter | FaultKind::ApiVersion | FaultKind::Encoded,
            ) => Weight::Note,
            (Given::InFolderAsJson, FaultKind::Syntax) if !self.concerns_a_machine_config => Weight::Nothing,
            _ => Weight::Error,
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

impl fmt::Display for Fault {
    /// The message alone; the place is the caller's to put before it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

fn read_carried(text: &str, carried: Carried) -> Documents {
    match json::objects(text) {
        Some(json) if json.broken.is_none() && json.objects.len() > 1 => read_objects(text, &json, carried),
        Some(json) if json.broken.is_some() => {
            // It may be YAML that looks like JSON at first. Where it is neither, whichever reading
            // comes farther tells the fault.
            let (yaml, yaml_stops) = Reader::new(text, carried).read([(text, Base::START)]);
            match json.broken.as_ref() {
                Some(broken) if yaml_stops.is_some_and(|stops| stops <= broken.offset) => {
                    read_objects(text, &json, carried)
                }
                _ => yaml,
            }
        }
        _ => Reader::new(text, carried).read([(text, Base::START)]).0,
    }
}

fn read_objects(text: &str, json: &json::Objects<'_>, carried: Carried) -> Documents {
    let mut documents = Reader::new(text, carried).read(json.objects.iter().copied()).0;
    if let Some(broken) = &json.broken {
        let from = json.objects.last().map_or(0, |(object, base)| base.offset + object.len());
        documents.faults.push(syntax_fault(text, broken, from..text.len()));
    }
    documents
}

/// Reads the documents of one text.
struct Reader<'t> {
    text: &'t str,
    carried: Carried,
    read: Documents,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str, carried: Carried) -> Self {
        Self { text, carried, read: Documents::default() }
    }

    /// Reads the `parts` of the text. Gives the byte of the first fault of syntax as well.
    fn read(mut self, parts: impl IntoIterator<Item = (&'t str, Base)>) -> (Documents, Option<usize>) {
        let mut stops = None;
        for (part, base) in parts {
            let mut trees = Trees::new(part, base);
            while let Some((span, outcome)) = trees.next() {
                match outcome {
                    Ok(tree) => ObjectReader::new(&tree, self.text, self.carried, &mut self.read).read(),
                    Err(Stop::OtherKind) => self.read.passed_over += 1,
                    Err(Stop::Broken(broken)) => {
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
    carried: Carried,
    objects: usize,
    read: &'a mut Documents,
}

/// What an object of a list is when it does not say so itself: the API server leaves kind and version
/// out of the items of its own lists. Both are empty where nothing is presumed.
#[derive(Clone, Copy)]
struct Presumed<'p> {
    kind: &'p str,
    api_version: &'p str,
}

impl Presumed<'_> {
    const NOTHING: Self = Self { kind: "", api_version: "" };
}

impl<'a, 't> ObjectReader<'a, 't> {
    fn new(tree: &'a Tree<'t>, text: &'a str, carried: Carried, read: &'a mut Documents) -> Self {
        Self { tree, values: Values::new(tree), text, carried, objects: 0, read }
    }

    fn read(mut self) {
        let Some(root) = Cursor::at(self.tree, self.tree.root) else { return };
        let outcome = match &self.tree.node(root.node()).content {
            Content::Sequence(_) => self.objects(root, "", 0, Presumed::NOTHING),
            _ => self.object(root, String::new(), 0, Presumed::NOTHING),
        };
        if let Err(unfit) = outcome {
            self.fault(unfit);
        }
    }

    fn object(
        &mut self,
        object: Cursor<'_, '_>,
        path: String,
        nesting: usize,
        presumed: Presumed<'_>,
    ) -> Result<(), Unfit> {
        self.objects += 1;
        if self.objects > MAX_OBJECTS || nesting > MAX_NESTING {
            let message = format!("more than {MAX_OBJECTS} objects, or lists in {MAX_NESTING} lists");
            return Err(Unfit { at: object.written(), message });
        }
        // JSON with a comment before it is a sentence to a reader of YAML.
        let is_outermost = nesting == 0 && self.carried.depth == 0;
        if is_outermost && object.text().is_some_and(says_machine_config) {
            let message = "a text, not an object".to_owned();
            return Err(Unfit { at: object.written(), message });
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
                Some("") => self.items(object, "items", &path, nesting, Presumed::NOTHING)?,
                Some(kind) => {
                    self.items(object, "items", &path, nesting, Presumed { kind, api_version })?;
                }
                None => self.carrier(object, kind, group, &path, nesting)?,
            },
        }
        Ok(())
    }

    fn items(
        &mut self,
        list: Cursor<'_, '_>,
        key: &str,
        path: &str,
        nesting: usize,
        presumed: Presumed<'_>,
    ) -> Result<(), Unfit> {
        match list.entry(key) {
            Some(list) => self.objects(list, &format!("{path}/{key}"), nesting, presumed),
            None => Ok(()),
        }
    }

    /// Reads the objects of the sequence at `path`.
    fn objects(
        &mut self,
        list: Cursor<'_, '_>,
        path: &str,
        nesting: usize,
        presumed: Presumed<'_>,
    ) -> Result<(), Unfit> {
        let Content::Sequence(items) = &self.tree.node(list.node()).content else { return Ok(()) };
        for (index, item) in items.iter().enumerate() {
            match list.item(*item) {
                Some(item) => self.object(item, format!("{path}/{index}"), nesting + 1, presumed)?,
                None => self.read.passed_over += 1,
            }
        }
        Ok(())
    }

    fn other_api_version(&mut self, object: Cursor<'_, '_>, api_version: &str) {
        let (at, message) = match object.entry("apiVersion") {
            None => (object, "`kind: MachineConfig` without an `apiVersion`".to_owned()),
            Some(entry) => {
                let api_version = shown(api_version);
                let what = format!("`kind: MachineConfig` with the `apiVersion` `{api_version}`");
                (entry, format!("{what}, which no MachineConfig has"))
            }
        };
        let at = at.written();
        self.fault_of(FaultKind::ApiVersion, Unfit { at, message });
    }

    fn machine_config(&mut self, object: Cursor<'_, '_>, path: String, presumed: Presumed<'_>) {
        if let Err(unfit) = self.judge(object, path, presumed) {
            self.fault(unfit);
        }
    }

    fn judge(&mut self, object: Cursor<'_, '_>, path: String, presumed: Presumed<'_>) -> Result<(), Unfit> {
        let id = object.written();
        if self.tree.is_cut {
            let message = "the document holds more values than can be kept".to_owned();
            return Err(Unfit { at: id, message });
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
                return Err(Unfit { at: at.written(), message });
            }
        }
        let image = |field: Field| object.entry("spec")?.entry(field.key());
        let places = Field::ALL.map(|field| image(field).map(|at| at.place()));
        let origin = Origin::new(object.place().line, places, path);
        let mut subject = Subject::from_value(value, origin).map_err(|refused| {
            let mut at = Some(object);
            let mut nearest = id;
            for key in &refused.path {
                at = at.and_then(|at| at.entry(key));
                nearest = at.map_or(nearest, |at| at.written());
            }
            Unfit { at: nearest, message: refused.message }
        })?;
        for field in Field::ALL {
            let Some(at) = image(field) else { continue };
            let text = subject.object.text(field);
            if text.contains("{{") {
                return Err(Unfit { at: at.written(), message: TEMPLATE.to_owned() });
            }
            if self.carried.has_parameters && text.contains("${") {
                self.read.faults.push(Fault {
                    kind: FaultKind::Parameter,
                    place: Some(at.place()),
                    message: format!("`{}` has a parameter of the template in it", shown(text)),
                    concerns_a_machine_config: true,
                });
                return Ok(());
            }
        }
        // `${ROLE}` is the name of no pool: which pools it will reach is not known.
        subject.object.labels.retain(|_, value| !self.carried.is_open(value));
        self.read.documents.push(Document { subject, site: Site::of(object) });
        Ok(())
    }

    fn fault(&mut self, unfit: Unfit) {
        self.fault_of(FaultKind::Object, unfit);
    }

    /// Tells what is unfit, as a fault of `kind` unless it is a template.
    fn fault_of(&mut self, kind: FaultKind, unfit: Unfit) {
        let node = self.tree.node(unfit.at);
        // Of an embedded text `self.text` is the inner one, and so are the spans.
        let written = self.text.get(node.span.clone()).unwrap_or_default();
        let (kind, message) = match written.contains("{{") {
            true => (self.carried.template(), TEMPLATE.to_owned()),
            false => (kind, unfit.message),
        };
        self.read.faults.push(Fault {
            kind,
            place: Some(node.place),
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
fn is_object(value: Cursor<'_, '_>) -> bool {
    value.entry("metadata").is_some() || value.entry("spec").is_some()
}

/// The fault of a document at `span` of `text` that is no YAML: where it has the marks of a
/// template, that is what it is.
fn syntax_fault(text: &str, broken: &Broken, span: Range<usize>) -> Fault {
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
        Some(at) => Fault {
            kind: FaultKind::Template,
            place: Some(place_near(text, at, broken)),
            message: TEMPLATE.to_owned(),
            concerns_a_machine_config,
        },
        None => Fault {
            kind: FaultKind::Syntax,
            place: Some(broken.place),
            message: shown(&broken.message),
            concerns_a_machine_config,
        },
    }
}

/// The place of a byte, counted from a place that is known, so that each byte of a file with many
/// faults is counted once.
fn place_near(text: &str, offset: usize, known: &Broken) -> Place {
    let lines = |range: Range<usize>| text.get(range).unwrap_or_default().matches('\n').count() as u64;
    let line = if offset < known.offset {
        known.place.line - lines(offset..known.offset).min(known.place.line - 1)
    } else {
        known.place.line + lines(known.offset..offset)
    };
    let before = text.get(..offset).unwrap_or_default();
    let begins = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before[begins..].chars().filter(|character| *character != '\u{feff}').count() as u64 + 1;
    Place { line, column }
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

/// The objects that are looked at in one document. Lists in aliases of lists multiply.
const MAX_OBJECTS: usize = 200_000;
/// Lists in lists.
const MAX_NESTING: usize = 32;

#[cfg(test)]
mod tests;
