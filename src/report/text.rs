//! The report as text for people: what is wrong, where, why at this level, and one thing to do.
//!
//! Readable without colour. All text from files is escaped before it is printed.

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

    /// A line below what it is about: a `note` or a `help`.
    pub(crate) fn line(self, word: &str, text: &str) -> String {
        format!("  {}: {}\n", self.note(word), escaped(text))
    }
}

impl Report {
    /// The findings, a paragraph each. Empty when there are none.
    pub fn to_text(&self, style: Style) -> String {
        self.objects.iter().map(|object| object.findings(style)).collect()
    }

    /// The report on a dry run: the findings, the changes, the verdict, and the remark when there is one.
    pub fn to_dry_run_text(&self, style: Style) -> String {
        let objects = self.objects.iter().map(|object| object.findings(style) + &object.outcome());
        let remark = self.remark().map(|remark| format!("{}: {remark}\n", style.note("note")));
        objects.chain(remark).collect()
    }
}

impl ObjectReport {
    fn findings(&self, style: Style) -> String {
        let findings = self.findings.iter().map(|finding| self.finding(finding, style));
        findings.chain(self.excepted.iter().map(|excepted| self.excepted(excepted, style))).collect()
    }

    fn finding(&self, finding: &FindingReport, style: Style) -> String {
        let severity = match (finding.fixed, finding.severity()) {
            (true, _) => style.good(&format!("fixed[{}]", finding.rule)),
            (false, "error") => style.error(&format!("error[{}]", finding.rule)),
            (false, _) => style.warning(&format!("warning[{}]", finding.rule)),
        };
        let message = style.bold(&escaped(&finding.message));
        let location = self.location(&finding.location, style);
        let notes: String = finding.notes.iter().map(|note| style.line("note", note)).collect();
        let help = if finding.fixed { String::new() } else { style.line("help", &finding.help) };
        format!("{severity}: {message}\n{location}{notes}{help}\n")
    }

    fn excepted(&self, excepted: &SuppressedReport, style: Style) -> String {
        let severity = style.note(&format!("excepted[{}]", excepted.rule));
        let location = self.location(&excepted.location, style);
        let note = style.line("note", &format!("until {}: {}", excepted.expires, excepted.reason));
        format!("{severity}: {}\n{location}{note}\n", escaped(&excepted.message))
    }

    fn location(&self, FieldLocation { pointer, position }: &FieldLocation, style: Style) -> String {
        let file = escaped(self.file.as_deref().unwrap_or("<request>"));
        let position = position.map(|Position { line, column }| format!(":{line}:{column}"));
        let (arrow, name) = (style.note("-->"), escaped(&self.name));
        format!("  {arrow} {file}{} ({pointer} of MachineConfig {name})\n", position.unwrap_or_default())
    }

    /// What the cluster would do with the object.
    fn outcome(&self) -> String {
        let warnings = self.warnings.iter().map(|warning| format!("mutate: {}\n", escaped(warning)));
        let patch = self.patch.0.iter().map(|operation| {
            let operation = serde_json::to_string(operation).unwrap_or_default();
            format!("patch: {}\n", escaped(&operation))
        });
        let verdict = format!("verdict on MachineConfig {}: {}\n", escaped(&self.name), self.verdict);
        warnings.chain(patch).chain([verdict]).collect()
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
