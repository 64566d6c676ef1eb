//! The report as text for people: what is wrong, where, why at this level, and one thing to do.
//!
//! Readable without colour. All text from files is escaped before it is printed.

use std::fmt::Write as _;

use crate::model::machine_config::Position;
use crate::report::{FieldLocation, FindingReport, ObjectReport, Report, Summary, SuppressedReport};
use crate::text::escaped;

/// Whether text has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// No colours.
    Plain,
    /// With the colours of a terminal (ECMA-48).
    Colour,
}

impl Style {
    /// Text in the colour of errors.
    pub fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Text in the colour of warnings.
    pub fn warning(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    /// Text in the colour of notes.
    pub fn note(self, text: &str) -> String {
        self.paint("1;36", text)
    }

    /// Text in the colour of success.
    pub fn good(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, colour: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
        }
    }
}

impl Report {
    /// The findings, a paragraph each. Empty when there are none.
    pub fn to_text(&self, style: Style) -> String {
        let mut text = String::new();
        for object in &self.objects {
            object.write_findings(&mut text, style);
        }
        text
    }

    /// The report on a dry run: the findings, the changes, the verdict, and the remark when there is one.
    pub fn to_dry_run_text(&self, style: Style) -> String {
        let mut text = String::new();
        for object in &self.objects {
            object.write_findings(&mut text, style);
            object.write_outcome(&mut text);
        }
        if let Some(remark) = self.remark() {
            line(&mut text, format_args!("{}: {remark}", style.note("note")));
        }
        text
    }
}

impl ObjectReport {
    fn write_findings(&self, out: &mut String, style: Style) {
        for finding in &self.findings {
            self.write_finding(finding, out, style);
        }
        for excepted in &self.excepted {
            self.write_excepted(excepted, out, style);
        }
    }

    fn write_finding(&self, finding: &FindingReport, out: &mut String, style: Style) {
        let severity = match (finding.fixed, finding.severity()) {
            (true, _) => style.good(&format!("fixed[{}]", finding.rule)),
            (false, "error") => style.error(&format!("error[{}]", finding.rule)),
            (false, _) => style.warning(&format!("warning[{}]", finding.rule)),
        };
        let message = style.bold(&escaped(&finding.message));
        line(out, format_args!("{severity}: {message}"));
        self.write_location(&finding.location, out, style);
        for note in &finding.notes {
            line(out, format_args!("  {}: {}", style.note("note"), escaped(note)));
        }
        if !finding.fixed {
            line(out, format_args!("  {}: {}", style.note("help"), escaped(&finding.help)));
        }
        out.push('\n');
    }

    fn write_excepted(&self, excepted: &SuppressedReport, out: &mut String, style: Style) {
        let severity = style.note(&format!("excepted[{}]", excepted.rule));
        line(out, format_args!("{severity}: {}", escaped(&excepted.message)));
        self.write_location(&excepted.location, out, style);
        let (expires, reason) = (&excepted.expires, escaped(&excepted.reason));
        line(out, format_args!("  {}: until {expires}: {reason}\n", style.note("note")));
    }

    fn write_location(&self, at: &FieldLocation, out: &mut String, style: Style) {
        let file = escaped(self.file.as_deref().unwrap_or("<request>"));
        let position = at.position.map(|Position { line, column }| format!(":{line}:{column}"));
        let (position, pointer) = (position.unwrap_or_default(), at.pointer);
        let (arrow, name) = (style.note("-->"), escaped(&self.name));
        line(out, format_args!("  {arrow} {file}{position} ({pointer} of MachineConfig {name})"));
    }

    fn write_outcome(&self, out: &mut String) {
        for warning in &self.warnings {
            line(out, format_args!("mutate: {}", escaped(warning)));
        }
        for operation in &self.patch.0 {
            let operation = serde_json::to_string(operation).unwrap_or_default();
            line(out, format_args!("patch: {}", escaped(&operation)));
        }
        line(out, format_args!("verdict on MachineConfig {}: {}", escaped(&self.name), self.verdict));
    }
}

impl Summary {
    /// The counts in one phrase, such as `1 denied, 3 passed`. Empty when there are no objects.
    pub fn to_text(&self, style: Style) -> String {
        let parts: Vec<_> = [
            (self.denied, style.error(&format!("{} denied", self.denied))),
            (self.warned, style.warning(&format!("{} warned", self.warned))),
            (self.passed, style.good(&format!("{} passed", self.passed))),
        ]
        .into_iter()
        .filter_map(|(count, words)| (count > 0).then_some(words))
        .collect();
        parts.join(", ")
    }
}

fn line(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{arguments}");
}
