//! The MachineConfigs in files, for verbs that only read them.
//!
//! Owns what is said of a file that cannot be read or understood. Such a file never keeps the rest from
//! being judged.

use std::path::PathBuf;

use crate::cli::inputs::{self, Input, ReadError};
use crate::cli::output;
use crate::cli::progress::Progress;
use crate::manifests::{self, Documents, FaultKind, ManifestDocument, Severity};
use crate::model::machine_config::Subject;
use crate::report::Style;

/// What the files hold.
pub(crate) struct LoadedFiles {
    /// The number of files.
    pub(crate) count: usize,
    /// The objects, in the order of the files.
    pub(crate) subjects: Vec<Subject>,
    /// What could not be read or understood.
    pub(crate) unread: Vec<ReadError>,
    /// Templates that hold a MachineConfig, as far as can be told.
    unrendered: Vec<ReadError>,
    /// Files of a folder that are templates of other things.
    other_templates: usize,
}

impl LoadedFiles {
    /// Reads what `paths` name, side by side.
    pub(crate) fn of(paths: &[PathBuf]) -> Self {
        let (inputs, unread) = inputs::find(paths);
        let progress = Progress::of("read", inputs.len(), "files");
        let read =
            inputs::side_by_side(&inputs, progress.done(), |input| Ok(manifests::read(&input.read()?)));
        let (count, subjects, unrendered) = (inputs.len(), Vec::new(), Vec::new());
        let mut files = Self { count, subjects, unread, unrendered, other_templates: 0 };
        for (input, read) in inputs.iter().zip(read) {
            match read {
                Ok(read) => files.add(input, read),
                Err(unread) => files.unread.push(unread),
            }
        }
        files
    }

    fn add(&mut self, input: &Input, read: Documents) {
        let name = input.name();
        self.subjects.extend(read.documents.into_iter().map(|ManifestDocument { subject, .. }| Subject {
            origin: subject.origin.in_file(&name, input.pin_command()),
            ..subject
        }));
        let mut has_other_template = false;
        for fault in read.faults {
            match fault.severity(input.selection()) {
                Severity::Error => self.unread.push(ReadError::of(&name, fault)),
                Severity::Note => self.unrendered.push(ReadError::of(&name, fault)),
                Severity::Ignored => has_other_template |= fault.kind == FaultKind::Template,
            }
        }
        self.other_templates += usize::from(has_other_template);
    }

    /// Says on standard error what was not read, and why.
    pub(crate) fn report(&self, style: Style) {
        let mut text = String::new();
        let severities = [(&self.unread, style.error("error")), (&self.unrendered, style.warning("warning"))];
        for (faults, severity) in severities {
            for fault in faults {
                text.push_str(&output::unread(&severity, fault, style));
            }
        }
        let templates = match self.other_templates {
            0 => return output::remark(&text),
            1 => "1 template without a MachineConfig was skipped".to_owned(),
            count => format!("{count} templates without a MachineConfig were skipped"),
        };
        text.push_str(&format!("{}: {templates}\n", style.note("note")));
        output::remark(&text);
    }
}
