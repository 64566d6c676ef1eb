//! From the documents of a text to the MachineConfigs in them.
//!
//! Owns what is read of which object: MachineConfigs themselves, JSON patches of their image fields, and
//! what is inside the objects of [`Embedding`]'s table. What is wrong with one object never hides another.

use std::cell::Cell;
use std::ops::Range;

use serde_json::json;

use crate::manifests::embeddings::{self, EmbeddedPart, Embedding, PartForm};
use crate::manifests::json::{self, JsonObjects};
use crate::manifests::position_map::{self, PositionMap};
use crate::manifests::spans::{EditBlockerKind, EditSpans, NodeRef};
use crate::manifests::tree::{NodeContent, SyntaxFault, TextOrigin, TreeError, Trees, mentions_encoded};
use crate::manifests::value::{ValueFault, Values};
use crate::manifests::{DocumentFault, Documents, FaultKind, ManifestDocument};
use crate::model::machine_config::{Field, GROUP, Origin, Position, Subject};
use crate::text::shown;

/// What is known of a text from the objects around it.
#[derive(Clone, Copy)]
struct TextContext<'c> {
    /// How many texts it is inside.
    depth: usize,
    /// The JSON pointer of the text in the file.
    path: &'c str,
    /// Where it is in the file.
    map: &'c PositionMap<'c>,
    /// It is in an OpenShift Template, so `${NAME}` and `${{NAME}}` in it are parameters.
    has_parameters: bool,
    /// It is in a policy of Advanced Cluster Management, whose controller renders `{{…}}` in it.
    is_in_policy: bool,
    /// The bytes of embedded texts that may still be read.
    embedded_bytes: &'c Cell<usize>,
    /// The most values that are kept of one document.
    max_nodes: usize,
}

impl TextContext<'_> {
    /// The fault of a value that has to be rendered.
    fn template_fault(self) -> FaultKind {
        if self.is_in_policy { FaultKind::PolicyTemplate } else { FaultKind::Template }
    }

    /// Tells whether `text` changes before a cluster gets it.
    fn has_placeholders(self, text: &str) -> bool {
        text.contains("{{") || self.has_parameters && text.contains("${")
    }
}

/// Reads a file. Of each document at most `max_nodes` values are kept.
pub(crate) fn read_file(text: &str, max_nodes: usize) -> Documents {
    let context = TextContext {
        depth: 0,
        path: "",
        map: &position_map::FILE,
        has_parameters: false,
        is_in_policy: false,
        embedded_bytes: &Cell::new(text.len() * MAX_COPIES),
        max_nodes,
    };
    read_text(text, context)
}

/// Reads a text that is a file, or is inside another text.
fn read_text<'c>(text: &'c str, context: TextContext<'c>) -> Documents {
    let whole = [(text, TextOrigin::START)];
    let Some(JsonObjects { objects, error }) = json::objects(text) else {
        return read_parts(text, context, whole).0;
    };
    let Some(error) = error else { return read_parts(text, context, objects).0 };
    // It may be YAML that looks like JSON at first. If it is neither, the error that comes later in the text is
    // the better one.
    let (yaml, yaml_error) = read_parts(text, context, whole);
    if yaml_error.is_none_or(|offset| offset > error.offset) {
        return yaml;
    }
    let from = objects.last().map_or(0, |(object, base)| base.offset + object.len());
    let mut documents = read_parts(text, context, objects).0;
    documents.faults.push(syntax_fault(text, context, &error, from..text.len()));
    documents
}

/// Reads the documents in `parts` of a text. Returns the byte of the first syntax error as well.
fn read_parts<'c>(
    text: &'c str,
    context: TextContext<'c>,
    parts: impl IntoIterator<Item = (&'c str, TextOrigin)>,
) -> (Documents, Option<usize>) {
    let mut documents = Documents::default();
    let mut first_error = None;
    for (part, base) in parts {
        let mut trees = Trees::new(part, base, context.map, context.max_nodes);
        while let Some((span, outcome)) = trees.next() {
            match outcome {
                Ok(tree) => {
                    let (tree, read) = (&tree, &mut documents);
                    let values = Values { tree, made: 0 };
                    ObjectReader { values, text, context, objects: 0, read }.read();
                }
                Err(TreeError::OtherKind(kind)) => documents.skip(&kind),
                Err(TreeError::Syntax(error)) => {
                    first_error.get_or_insert(error.offset);
                    documents.faults.push(syntax_fault(text, context, &error, span));
                }
            }
        }
    }
    (documents, first_error)
}

/// Reads the objects of one document.
struct ObjectReader<'a, 't> {
    values: Values<'a, 't>,
    text: &'a str,
    context: TextContext<'a>,
    objects: usize,
    read: &'a mut Documents,
}

/// What an object has from the one that holds it.
#[derive(Clone, Copy, Default)]
struct Holder<'p> {
    /// How many objects it is inside.
    nesting: usize,
    /// The kind and version of a list's items that have none: the API server leaves them out in its own lists.
    /// Both are empty where there is no default.
    kind: &'p str,
    api_version: &'p str,
}

impl<'p> Holder<'p> {
    /// What is in an object of `kind` has from it.
    fn new(nesting: usize, kind: &'p str, api_version: &'p str) -> Self {
        match kind.strip_suffix("List") {
            None | Some("") => Self { nesting, ..Self::default() },
            Some(kind) => Self { nesting, kind, api_version },
        }
    }
}

impl ObjectReader<'_, '_> {
    fn read(mut self) {
        let Some(root) = NodeRef::at(self.values.tree, self.values.tree.root) else { return };
        let path = self.context.path;
        let outcome = match root.content() {
            NodeContent::Sequence(_) => self.part(root, PartForm::Objects, path, Holder::new(1, "", "")),
            _ => self.object(root, path.to_owned(), Holder::default()),
        };
        self.report(outcome);
    }

    fn object(
        &mut self,
        object: NodeRef<'_, '_>,
        path: String,
        holder: Holder<'_>,
    ) -> Result<(), ValueFault> {
        self.objects += 1;
        if self.objects > MAX_OBJECTS || holder.nesting > MAX_NESTING {
            let message =
                format!("more than {MAX_OBJECTS} objects, or lists nested deeper than {MAX_NESTING}");
            return Err(ValueFault::new(object.written, message));
        }
        // JSON after a comment is one string to a YAML reader.
        let is_outermost = holder.nesting == 0 && self.context.depth == 0;
        if is_outermost && object.text().is_some_and(declares_machine_config) {
            return Err(ValueFault::new(object.written, "a string, not an object"));
        }
        let (kind, api_version) = match (object.text_of("kind"), object.text_of("apiVersion")) {
            ("", "") => (holder.kind, holder.api_version),
            (kind, "") if kind == holder.kind => (kind, holder.api_version),
            written => written,
        };
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let outcome = match kind {
            "MachineConfig" if group == GROUP => self.machine_config(object, path, holder),
            "MachineConfig" if may_mean_ours(group) && is_object(object) => {
                Err(other_api_version(object, api_version))
            }
            "" if api_version.is_empty() && object.entry("op").is_some() => self.json_patch(object, path),
            _ => {
                let count = |read: &Documents| read.documents.len() + read.faults.len() + read.skipped;
                let (before, outside) = (count(self.read), self.context);
                self.context.has_parameters |= kind == "Template";
                self.context.is_in_policy |= group == embeddings::POLICY;
                let holder = Holder::new(holder.nesting + 1, kind, api_version);
                let mut parts = Embedding::parts_of(kind, group).iter();
                let outcome = parts.try_for_each(|EmbeddedPart { path: inner, form }| {
                    let Some(part) = object.below(inner) else { return Ok(()) };
                    self.part(part, *form, &format!("{path}/{}", inner.join("/")), holder)
                });
                self.context = outside;
                outcome?;
                if before == count(self.read) {
                    self.read.skip(kind);
                }
                return Ok(());
            }
        };
        self.report(outcome);
        Ok(())
    }

    fn machine_config(
        &mut self,
        object: NodeRef<'_, '_>,
        path: String,
        holder: Holder<'_>,
    ) -> Result<(), ValueFault> {
        let id = object.written;
        if self.values.tree.is_truncated {
            return Err(ValueFault::new(id, "the document has more values than the limit"));
        }
        let mut value = self.values.value(id)?;
        if !holder.kind.is_empty()
            && let Some(map) = value.as_object_mut()
        {
            map.entry("apiVersion").or_insert_with(|| holder.api_version.into());
            map.entry("kind").or_insert_with(|| holder.kind.into());
        }
        for path in [&["metadata"][..], &["metadata", "labels"], &["metadata", "annotations"], &["spec"]] {
            let inner = path.iter().try_fold(&value, |value, key| value.get(key));
            // serde would read a list as a struct.
            if let Some(at) = object.below(path)
                && !inner.is_none_or(|inner| inner.is_object() || inner.is_null())
            {
                return Err(ValueFault::new(at.written, format!("`{}` is not a mapping", path.join("."))));
            }
        }
        let image = |field: Field| object.below(&["spec", field.key()]);
        let positions = Field::ALL.map(|field| image(field).map(|at| at.position())).into();
        let origin = Origin::new(object.position().line, positions, path);
        let mut subject = Subject::from_value(value, origin).map_err(|refused| {
            let mut nearest = object;
            for key in &refused.path {
                let Some(at) = nearest.entry(key) else { break };
                nearest = at;
            }
            ValueFault::new(nearest.written, refused.message)
        })?;
        for field in Field::ALL {
            let Some(at) = image(field) else { continue };
            let text = subject.object.text(field);
            if text.contains("{{") {
                return Err(ValueFault::new(at.written, TEMPLATE));
            }
            if self.context.has_placeholders(text) {
                let message = format!("`{}` contains a parameter of the template", shown(text));
                return Err(ValueFault { kind: FaultKind::Parameter, at: at.written, message });
            }
        }
        // `${ROLE}` is not the name of a pool: which pools it selects is not known.
        subject.object.labels.retain(|_, value| !self.context.has_placeholders(value));
        self.read.documents.push(ManifestDocument { subject, spans: EditSpans::of(object) });
        Ok(())
    }

    /// Reads one operation of a JSON patch (RFC 6902). A value for a field that only MachineConfigs have is
    /// judged as if it were the only field of one; the object that is patched is somewhere else.
    fn json_patch(&mut self, operation: NodeRef<'_, '_>, path: String) -> Result<(), ValueFault> {
        let field = Field::ALL.into_iter().find(|field| field.pointer() == operation.text_of("path"));
        let (Some(field), "add" | "replace", Some(value)) =
            (field, operation.text_of("op"), operation.entry("value"))
        else {
            self.read.skip("");
            return Ok(());
        };
        if self.context.has_placeholders(operation.text_of("value")) {
            return Err(ValueFault::new(value.written, TEMPLATE));
        }
        let object = json!({
            "apiVersion": format!("{GROUP}/v1"),
            "kind": "MachineConfig",
            "metadata": {"name": ANY_NAME},
            "spec": {field.key(): self.values.value(value.written)?},
        });
        let positions = Field::ALL.map(|other| (other == field).then(|| value.position())).into();
        let origin = Origin::new(operation.position().line, positions, path).in_json_patch();
        let subject = Subject::from_value(object, origin)
            .map_err(|refused| ValueFault::new(value.written, refused.message))?;
        self.read.documents.push(ManifestDocument { subject, spans: EditSpans::of_patch(field, value) });
        Ok(())
    }

    /// Reads the objects in `part`, which is at `path`.
    fn part(
        &mut self,
        part: NodeRef<'_, '_>,
        form: PartForm,
        path: &str,
        holder: Holder<'_>,
    ) -> Result<(), ValueFault> {
        if form == PartForm::PolicyText && part.text().is_some_and(declares_machine_config) {
            self.report(Err(ValueFault {
                kind: self.context.template_fault(),
                at: part.written,
                message: TEMPLATE.to_owned(),
            }));
        }
        for (token, child) in part.children() {
            let path = format!("{path}/{token}");
            let Some(child) = child else {
                if form == PartForm::Objects {
                    self.read.skip("");
                }
                continue;
            };
            match form {
                PartForm::Objects => self.object(child, path, holder)?,
                PartForm::PolicyObjects => {
                    // The policy deletes an object that must not exist.
                    let is_unwanted = child.text_of("complianceType").eq_ignore_ascii_case("mustnothave");
                    if let (false, Some(definition)) = (is_unwanted, child.entry("objectDefinition")) {
                        let path = format!("{path}/objectDefinition");
                        self.object(definition, path, Holder::new(holder.nesting, "", ""))?;
                    }
                }
                PartForm::Texts => self.embedded_text(child, &path)?,
                // It is not decoded: it may be a secret, and positions in it are not positions in the file.
                PartForm::EncodedTexts if child.text().is_some_and(mentions_encoded) => {
                    let message = "a MachineConfig in base64, which is not decoded".to_owned();
                    self.report(Err(ValueFault { kind: FaultKind::Encoded, at: child.written, message }));
                }
                PartForm::Patches => self.patch(child, &path)?,
                PartForm::EncodedTexts | PartForm::PolicyText => {}
            }
        }
        Ok(())
    }

    /// Reads a patch of a kustomization that is a text.
    fn patch(&mut self, item: NodeRef<'_, '_>, path: &str) -> Result<(), ValueFault> {
        let Some(patch) = item.entry("patch") else { return Ok(()) };
        let before = self.read.documents.len();
        self.embedded_text(patch, &format!("{path}/patch"))?;
        let target = |key: &str| item.below(&["target", key])?.text();
        let is_other = target("kind").is_some_and(is_another_kind);
        let mut read = self.read.documents.split_off(before);
        read.retain_mut(|document| {
            let is_json_patch = document.subject.name == ANY_NAME;
            if is_json_patch {
                document.subject.name = target("name").unwrap_or(ANY_NAME).to_owned();
            }
            !(is_json_patch && is_other)
        });
        self.read.documents.append(&mut read);
        Ok(())
    }

    /// Reads the documents in the text of a scalar at `path`.
    fn embedded_text(&mut self, value: NodeRef<'_, '_>, path: &str) -> Result<(), ValueFault> {
        let Some(inner) = value.text().filter(|_| self.context.depth < MAX_EMBEDDING) else { return Ok(()) };
        let Some(rest) = self.context.embedded_bytes.get().checked_sub(inner.len()) else {
            let message = format!("the aliases repeat more than {MAX_COPIES} times the text of the file");
            return Err(ValueFault::new(value.written, message));
        };
        self.context.embedded_bytes.set(rest);
        let map = PositionMap::of(self.values.tree.node(value.node), self.text, self.context.map);
        let context = TextContext { depth: self.context.depth + 1, path, map: &map, ..self.context };
        let mut read = read_text(inner, context);
        // A ConfigMap may hold any text: a script is not broken YAML.
        read.faults.retain(|fault| fault.declares_machine_config);
        for document in &mut read.documents {
            if !map.is_exact() {
                document.spans.block(EditBlockerKind::QuotedText, None);
            }
            if let Some(blocker) = value.blocker {
                document.spans.block(blocker.kind, Some(blocker.position));
            }
        }
        self.read.documents.append(&mut read.documents);
        self.read.faults.append(&mut read.faults);
        Ok(())
    }

    /// Adds the fault of an outcome, or that of a template when the value has template marks.
    fn report(&mut self, outcome: Result<(), ValueFault>) {
        let Err(ValueFault { kind, at, message }) = outcome else { return };
        let written = self.text.get(self.values.tree.node(at).span.clone()).unwrap_or_default();
        let (kind, message) = match written.contains("{{") {
            true => (self.context.template_fault(), TEMPLATE.to_owned()),
            false => (kind, message),
        };
        self.read.faults.push(DocumentFault::new(kind, self.values.tree.position(at), message));
    }
}

/// The fault of a `kind: MachineConfig` that is not one of OpenShift's.
fn other_api_version(object: NodeRef<'_, '_>, api_version: &str) -> ValueFault {
    let (at, message) = match object.entry("apiVersion") {
        None => (object, "`kind: MachineConfig` without an `apiVersion`".to_owned()),
        Some(entry) => {
            (entry, format!("`apiVersion` is `{}`; a MachineConfig has `{GROUP}/v1`", shown(api_version)))
        }
    };
    ValueFault { kind: FaultKind::ApiVersion, at: at.written, message }
}

/// Tells whether the author of a `kind: MachineConfig` in `group` may have meant OpenShift's: the group is
/// missing or resembles the right one. Talos and others have a kind of that name too.
fn may_mean_ours(group: &str) -> bool {
    let group = group.to_ascii_lowercase();
    group.is_empty() || ["openshift", "machineconfiguration"].iter().any(|word| group.contains(word))
}

/// Tells whether `value` is an object, not a reference to one such as the target of a patch.
fn is_object(value: NodeRef<'_, '_>) -> bool {
    value.entry("metadata").is_some() || value.entry("spec").is_some()
}

/// Tells whether a target of `kind`, which may be a regular expression, cannot be a MachineConfig.
fn is_another_kind(kind: &str) -> bool {
    kind != "MachineConfig" && !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The fault of a document at `span` of `text` that is not YAML: a template where it has template marks.
fn syntax_fault(
    text: &str,
    context: TextContext<'_>,
    error: &SyntaxFault,
    span: Range<usize>,
) -> DocumentFault {
    let document = text.get(span.clone()).unwrap_or_default();
    let mut declares = declares_machine_config(document);
    let mark = |text: &str| TEMPLATE_MARKS.iter().filter_map(|mark| text.find(mark)).min();
    let at = mark(document).map(|at| span.start + at).or_else(|| {
        // `{{ x }}` alone reads as a mapping, after which nothing more is expected.
        let blank = text.len() - text.trim_start().len();
        let begins_with_mark = TEMPLATE_MARKS.iter().any(|mark| text[blank..].starts_with(mark));
        declares |= begins_with_mark && declares_machine_config(text);
        begins_with_mark.then_some(blank)
    });
    let (kind, position, message) = match at {
        Some(at) => (FaultKind::Template, position_near(text, at, error), TEMPLATE.to_owned()),
        None => (FaultKind::Syntax, error.position, shown(&error.message)),
    };
    let fault = DocumentFault::new(kind, context.map.position(position), message);
    DocumentFault { declares_machine_config: declares, ..fault }
}

/// The position of a byte, counted from a known one, so that each byte of a file with many faults is
/// counted once.
fn position_near(text: &str, offset: usize, known: &SyntaxFault) -> Position {
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

/// Tells whether `text` has `kind: MachineConfig`, in YAML or JSON, so that a fault in it hides one.
pub(crate) fn declares_machine_config(text: &str) -> bool {
    text.match_indices("MachineConfig").any(|(at, word)| {
        let quote = |c: char| c == '"' || c == '\'' || c == '\\';
        let before = text[..at].trim_end_matches(quote).trim_end_matches([' ', '\t']);
        let key =
            before.strip_suffix(':').map(|key| key.trim_end_matches([' ', '\t']).trim_end_matches(quote));
        let ends = !text[at + word.len()..].starts_with(|c: char| c.is_alphanumeric());
        ends && key.is_some_and(|key| key.ends_with("kind"))
    })
}

const TEMPLATE: &str = "a template that is not rendered";

/// How the actions of Go's and Jinja's templates begin.
const TEMPLATE_MARKS: [&str; 2] = ["{{", "{%"];

/// The name of the object that a JSON patch is for, where nothing names it.
const ANY_NAME: &str = "*";
/// The objects that are read of one document. Lists in aliases of lists multiply.
const MAX_OBJECTS: usize = 200_000;
/// Lists in lists.
const MAX_NESTING: usize = 32;
/// ConfigMaps in ConfigMaps: that of a node pool among install-time manifests makes two.
const MAX_EMBEDDING: usize = 4;
/// Each embedded text is in the file once for each text that it is inside, unless aliases repeat it.
const MAX_COPIES: usize = 16;
/// The values that are kept of one document. A MachineConfig without its Ignition config has some thirty,
/// and a cluster some hundred MachineConfigs; this bounds what a hostile document costs.
pub(crate) const MAX_NODES: usize = 500_000;
/// The same of a text that is to be one MachineConfig, which has at most 1,024 labels.
pub(crate) const MAX_NODES_OF_ONE: usize = 20_000;
