//! The MachineConfigs in files, for verbs that only read them.
//!
//! Owns what is said of a file that cannot be read or understood. Such a file never keeps the rest from
//! being judged.

use crate::cli::inputs::{self, Input, ReadError};
use crate::cli::output;
use crate::cli::progress::Progress;
use crate::manifests::{self, FaultKind, Severity};
use crate::model::machine_config::Subject;
use crate::report::Style;

/// What the files hold.
#[derive(Default)]
pub(crate) struct LoadedFiles {
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
    /// Reads `inputs` side by side.
    pub(crate) fn of(inputs: &[Input]) -> Self {
        let progress = Progress::of("read", inputs.len(), "files");
        let mut all = Self::default();
        for mut file in inputs::side_by_side(inputs, progress.done(), Self::of_file) {
            all.subjects.append(&mut file.subjects);
            all.unread.append(&mut file.unread);
            all.unrendered.append(&mut file.unrendered);
            all.other_templates += file.other_templates;
        }
        all
    }

    fn of_file(input: &Input) -> Self {
        let mut file = Self::default();
        let text = match input.read() {
            Ok(text) => text,
            Err(unread) => {
                file.unread.push(unread);
                return file;
            }
        };
        let name = input.name();
        let read = manifests::read(&text);
        for document in read.documents {
            let mut subject = document.subject;
            subject.origin = subject.origin.in_file(&name, input.pin_command());
            file.subjects.push(subject);
        }
        let mut has_other_template = false;
        for fault in read.faults {
            match fault.severity(input.selection()) {
                Severity::Error => file.unread.push(ReadError::of(&name, fault)),
                Severity::Note => file.unrendered.push(ReadError::of(&name, fault)),
                Severity::Ignored => has_other_template |= fault.kind == FaultKind::Template,
            }
        }
        file.other_templates = usize::from(has_other_template);
        file
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
