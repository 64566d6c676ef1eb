//! The report as workflow commands of GitHub Actions, which become annotations on the lines of a
//! change.
//!
//! The form and its escapes are those of GitHub's page *Workflow commands for GitHub Actions* and of
//! `@actions/core`.

use std::fmt::Write as _;

use crate::report::{ErrorReport, FindingReport, ObjectReport, Report, SuppressedReport};
use crate::text::is_unprintable;

impl Report {
    /// One command a line: `error` for what denies and for what could not be judged, `warning` for
    /// what warns, `notice` for what is excepted.
    pub fn to_github(&self) -> String {
        let mut out = String::new();
        for object in &self.objects {
            object.findings.iter().for_each(|finding| object.finding_command(finding).write(&mut out));
            object.excepted.iter().for_each(|excepted| object.excepted_command(excepted).write(&mut out));
        }
        self.errors.iter().for_each(|error| error.command().write(&mut out));
        out
    }
}

impl ObjectReport {
    fn finding_command(&self, finding: &FindingReport) -> WorkflowCommand<'_> {
        let mut message = finding.message.clone();
        for note in &finding.notes {
            let _ = write!(message, "\nnote: {note}");
        }
        let _ = write!(message, "\nhelp: {}", finding.help);
        WorkflowCommand {
            name: if finding.level == "deny" { "error" } else { "warning" },
            file: self.file.as_deref(),
            line: finding.line,
            column: finding.column,
            title: self.title(finding.rule),
            message,
        }
    }

    fn excepted_command(&self, excepted: &SuppressedReport) -> WorkflowCommand<'_> {
        let SuppressedReport { message, expires, reason, .. } = excepted;
        WorkflowCommand {
            name: "notice",
            file: self.file.as_deref(),
            line: excepted.line,
            column: excepted.column,
            title: self.title(excepted.rule),
            message: format!("excepted until {expires}: {message}\nnote: {reason}"),
        }
    }

    fn title(&self, rule: &str) -> String {
        format!("{rule} in MachineConfig {}", self.name)
    }
}

impl ErrorReport {
    fn command(&self) -> WorkflowCommand<'_> {
        WorkflowCommand {
            name: "error",
            file: Some(&self.file),
            line: self.line,
            column: self.column,
            title: "not judged".to_owned(),
            message: match &self.help {
                Some(help) => format!("{}\nhelp: {help}", self.message),
                None => self.message.clone(),
            },
        }
    }
}

/// One workflow command.
struct WorkflowCommand<'a> {
    name: &'static str,
    file: Option<&'a str>,
    line: Option<u64>,
    column: Option<u64>,
    title: String,
    message: String,
}

impl WorkflowCommand<'_> {
    fn write(&self, out: &mut String) {
        let mut properties = Vec::new();
        if let Some(file) = self.file {
            properties.push(format!("file={}", property(file)));
        }
        if let Some(line) = self.line {
            properties.push(format!("line={line}"));
        }
        if let Some(column) = self.column {
            properties.push(format!("col={column}"));
        }
        properties.push(format!("title={}", property(&self.title)));
        // Writing to a string does not fail.
        let _ = writeln!(out, "::{} {}::{}", self.name, properties.join(","), data(&self.message));
    }
}

/// A message: whatever would end it is escaped, and so is what a terminal would obey in a log.
fn data(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '%' => escaped.push_str("%25"),
            '\r' => escaped.push_str("%0D"),
            '\n' => escaped.push_str("%0A"),
            _ if is_unprintable(character) => escaped.extend(character.escape_unicode()),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// The value of a property, which `:` and `,` would end too.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_command_early_or_begins_another() {
        for (text, as_data, as_property) in [
            ("plain", "plain", "plain"),
            ("a,b:c", "a,b:c", "a%2Cb%3Ac"),
            ("100%\r\n::error::x", "100%25%0D%0A::error::x", "100%25%0D%0A%3A%3Aerror%3A%3Ax"),
            ("\u{1b}[31m", "\\u{1b}[31m", "\\u{1b}[31m"),
        ] {
            assert_eq!((data(text).as_str(), property(text).as_str()), (as_data, as_property));
        }
    }
}
