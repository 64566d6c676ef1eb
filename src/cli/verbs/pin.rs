//! `layerpin pin`: replaces tags by digests in files.
//!
//! Reading, asking and planning are the same for all options; `--write`, `--check` and the diff only differ
//! in what is done with the new text.

use std::collections::HashSet;
use std::fs;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

use futures_util::StreamExt;
use futures_util::stream;
use similar::TextDiff;

use crate::atomic_file::replace;
use crate::cli::ExitStatus;
use crate::cli::args::PinArgs;
use crate::cli::inputs::{self, Input, ReadError};
use crate::cli::output;
use crate::cli::save_facts;
use crate::cli::session::Session;
use crate::manifests::edit::{self, EditError};
use crate::manifests::{self, Documents, FileSelection, ManifestDocument, Severity};
use crate::model::machine_config::{Field, Position, REPIN_ANNOTATION};
use crate::pin::{PinChange, Plan, Unresolved};
use crate::report::Style;
use crate::text::escaped_except;

/// Pins what the paths name. Data goes to standard output, messages to standard error.
pub fn run(options: &PinArgs) -> anyhow::Result<ExitStatus> {
    let session = Session::open(&options.facts)?.pinning();
    let (inputs, unread) = inputs::find(&options.paths);
    let read = inputs::side_by_side(&inputs, &AtomicUsize::new(0), SourceFile::read);
    let mut pinning = PinRun { options, status: ExitStatus::Clean, done: HashSet::new() };
    for fault in unread {
        pinning.fail(&fault);
    }
    let (plans, facts) = session.run(async |engine| {
        let documents = read.iter().flatten().flat_map(|source| &source.read.documents);
        let planned = documents.map(|document| async {
            let mut subject = document.subject.clone();
            // The same as the annotation.
            subject.object.repin |= options.update;
            engine.pin(&subject, &session.policy, session.deadline()).await
        });
        stream::iter(planned).buffered(AT_ONCE).collect::<Vec<_>>().await
    })?;
    let mut plans = plans.into_iter();
    for source in &read {
        match source {
            Ok(source) => {
                let planned = source.read.documents.iter().zip(plans.by_ref());
                pinning.file(source, &planned.collect::<Vec<_>>())?;
            }
            Err(fault) => pinning.fail(fault),
        }
    }
    Ok(pinning.status.max(save_facts::save(&options.record, &facts)))
}

/// A file that has been read.
struct SourceFile {
    input: Input,
    text: String,
    read: Documents,
}

impl SourceFile {
    fn read(input: &Input) -> Result<Self, ReadError> {
        let text = input.read()?;
        let is_of_interest = input.selection() == FileSelection::ByName || manifests::mentions(&text);
        let read = if is_of_interest { manifests::read(&text) } else { Documents::default() };
        // Thousands of files may have nothing to pin: their texts are not kept.
        let is_kept = *input == Input::Standard || !(read.documents.is_empty() && read.faults.is_empty());
        Ok(Self { input: input.clone(), text: if is_kept { text } else { String::new() }, read })
    }
}

/// The state of a run.
struct PinRun<'a> {
    options: &'a PinArgs,
    status: ExitStatus,
    /// The files that were changed: two paths may lead to one.
    done: HashSet<PathBuf>,
}

/// Messages about a file.
struct PinMessages {
    /// The name of the file.
    name: String,
    /// What changes.
    changes: Vec<String>,
    /// What was looked up and does not change.
    notes: Vec<String>,
}

impl PinMessages {
    /// What is to be said of a place in the file.
    fn at(&self, position: Option<Position>, message: String) -> ReadError {
        ReadError { file: self.name.clone(), position, message, help: None }
    }

    fn changed(&mut self, position: Option<Position>, message: String) {
        self.changes.push(self.at(position, message).to_string());
    }

    fn noted(&mut self, position: Option<Position>, message: String) {
        self.notes.push(self.at(position, message).to_string());
    }
}

impl PinRun<'_> {
    fn file(&mut self, source: &SourceFile, planned: &[(&ManifestDocument, Plan)]) -> anyhow::Result<()> {
        let mut told = PinMessages { name: source.input.name(), changes: Vec::new(), notes: Vec::new() };
        let mut is_left_alone = false;
        for fault in &source.read.faults {
            let severity = fault.severity(source.input.selection());
            let fault = ReadError::of(&told.name, fault.clone());
            match severity {
                Severity::Ignored => continue,
                Severity::Note => eprintln!("note: {fault}; the file is passed over"),
                Severity::Error => self.fail(&fault),
            }
            is_left_alone = true;
        }
        if is_left_alone {
            return Ok(());
        }
        for (document, plan) in planned {
            for field in Field::ALL {
                self.tell(document, field, plan, &mut told);
            }
            if let (true, Some(spot)) = (plan.removes_repin, &document.spans.repin) {
                let done = self.verb("removed", "would remove");
                let message = format!("{done} the annotation `{REPIN_ANNOTATION}`");
                told.changed(Some(spot.key.position), message);
            }
        }
        let pairs = planned.iter().map(|(document, plan)| (*document, plan));
        let after = match edit::write(&source.text, pairs) {
            Ok(after) => after,
            Err(EditError { position, message, help }) => {
                self.fail(&ReadError { help: Some(help), ..told.at(Some(position), message) });
                return Ok(());
            }
        };
        for note in &told.notes {
            eprintln!("note: {note}");
        }
        self.change(source, &after, &told)
    }

    /// Says what becomes of one field.
    fn tell(&mut self, document: &ManifestDocument, field: Field, plan: &Plan, told: &mut PinMessages) {
        let Some(image) = document.subject.object.image(field) else { return };
        let position = document.subject.origin.position(field);
        let reference = match &image.reference {
            Ok(reference) => reference,
            Err(error) => {
                let help = Some(error.help().to_owned());
                return self.fail(&ReadError { help, ..told.at(position, error.to_string()) });
            }
        };
        if plan.record(field) == Some(None)
            && let Some(spot) = &document.spans.records[field]
        {
            let done = self.verb("removed", "would remove");
            let key = field.record_annotation();
            let message = format!("{done} the record `{key}`, which is not true of `{reference}`");
            told.changed(Some(spot.key.position), message);
        }
        let Some(change) = plan.decision(field) else { return };
        match change {
            PinChange::TagDropped { reference, .. } => {
                let (done, tag) = (self.verb("dropped", "would drop"), reference.tag().unwrap_or_default());
                let why = "nodes refuse tag and digest together";
                told.changed(position, format!("{done} the tag `{tag}` of `{reference}`: {why}"));
            }
            PinChange::Pinned { reference, digest, .. } => {
                let done = self.verb("pinned", "would pin");
                told.changed(position, format!("{done} `{reference}` to {digest}"));
            }
            PinChange::RolledForward { tag, from, to, .. } => {
                let done = self.verb("rolled", "would roll");
                told.changed(position, format!("{done} `{tag}` forward from {from} to {to}"));
            }
            PinChange::StillCurrent { tag, digest } => {
                told.noted(position, format!("`{tag}` still names {digest}"));
            }
            PinChange::NoRecord { reference } => {
                let message = format!("`{reference}` has no record of a tag, so there is nothing to ask");
                told.noted(position, message);
            }
            PinChange::NotPinned { reference, why } => {
                let (why, help) = match why {
                    Unresolved::Absent => {
                        let listed = reference.repository();
                        let help = format!(
                            "name a tag that exists; `skopeo list-tags docker://{listed}` lists them"
                        );
                        (format!("{} has no `{}`", reference.host(), reference.pull_spec()), Some(help))
                    }
                    _ => (why.to_string(), None),
                };
                let error = told.at(position, format!("`{reference}` is not pinned: {why}"));
                self.fail(&ReadError { help, ..error });
            }
            PinChange::NotRolled { tag, digest, why } => {
                let why = match why {
                    Unresolved::Absent => format!("{} no longer has `{tag}`", tag.host()),
                    _ => format!("`{tag}`: {why}"),
                };
                self.fail(&told.at(position, format!("{why}; {digest} stays")));
            }
            // Only an update has a stored object whose digest could be kept.
            PinChange::Kept { .. } => {}
        }
    }

    /// Writes, reports or shows the new text, as the options say.
    fn change(&mut self, source: &SourceFile, after: &str, told: &PinMessages) -> anyhow::Result<()> {
        let is_same = after == source.text;
        if let (Some(path), false) = (source.input.path(), is_same)
            && let Ok(target) = fs::canonicalize(path)
            && !self.done.insert(target)
        {
            return Ok(());
        }
        match source.input.path() {
            None if self.options.write => output::data(after)?,
            _ if is_same => return Ok(()),
            Some(path) if self.options.write => {
                if let Err(error) = replace(path, &source.text, after) {
                    self.fail(&told.at(None, format!("cannot be written: {error}")));
                    return Ok(());
                }
            }
            _ if self.options.check => self.status = self.status.max(ExitStatus::Denied),
            _ => output::data(&diff(&told.name, &source.text, after))?,
        }
        for change in &told.changes {
            if self.options.check {
                output::data(&format!("{change}\n"))?;
            } else {
                eprintln!("{change}");
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: &ReadError) {
        self.status = ExitStatus::Incomplete;
        output::remark(&output::unread("error", error, Style::Plain));
    }

    fn verb(&self, done: &'static str, proposed: &'static str) -> &'static str {
        if self.options.write { done } else { proposed }
    }
}

/// The change as `git apply` and `patch -p1` accept it. On a terminal, control characters are escaped.
fn diff(name: &str, before: &str, after: &str) -> String {
    let (old, new) = match name.starts_with(['/', '<']) {
        true => (name.to_owned(), name.to_owned()),
        false => (format!("a/{name}"), format!("b/{name}")),
    };
    // `TextDiff::from_lines` also splits lines at a lone carriage return, which patch does not.
    let lines = |text| str::split_inclusive(text, '\n').collect::<Vec<_>>();
    let diff = TextDiff::configure()
        .newline_terminated(true)
        .diff_slices(&lines(before), &lines(after))
        .unified_diff()
        .header(&header_name(&old), &header_name(&new))
        .to_string();
    if std::io::stdout().is_terminal() { escaped_except(&diff, &['\n', '\t']) } else { diff }
}

/// A name in the header of a diff, as Git writes it: a tab follows one with spaces, where patch would look
/// for a time, and one with control characters or quotes is quoted.
fn header_name(name: &str) -> String {
    if !name.contains(|character: char| character.is_control() || matches!(character, '"' | '\\')) {
        return if name.contains(' ') { format!("{name}\t") } else { name.to_owned() };
    }
    let mut quoted = String::from('"');
    for byte in name.bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            0x20..=0x7e => quoted.push(char::from(byte)),
            _ => quoted.push_str(&format!("\\{byte:03o}")),
        }
    }
    quoted + "\""
}

/// Objects that are planned at once. The limit for each registry is lower.
const AT_ONCE: usize = 64;
