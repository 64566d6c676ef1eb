//! The report as workflow commands of GitHub Actions, which become annotations on the lines of a change.
//!
//! Format and escapes follow GitHub's page *Workflow commands for GitHub Actions* and `@actions/core`.

use std::fmt::Write as _;

use crate::model::machine_config::Position;
use crate::report::{ObjectReport, ReadError, Report};
use crate::text::is_unprintable;

impl Report {
    /// One command a line: `error` for what denies or could not be judged, `warning` for what warns,
    /// `notice` for what is excepted.
    pub fn to_github(&self) -> String {
        let mut out = String::new();
        for command in self.objects.iter().flat_map(ObjectReport::commands) {
            command.write(&mut out);
        }
        self.errors.iter().for_each(|error| error.command().write(&mut out));
        out
    }
}

impl ObjectReport {
    fn commands(&self) -> impl Iterator<Item = WorkflowCommand<'_>> {
        let command = |name, rule, position, message| WorkflowCommand {
            name,
            file: self.file.as_deref(),
            position,
            title: format!("{rule} in MachineConfig {}", self.name),
            message,
        };
        let findings = self.findings.iter().map(move |finding| {
            command(finding.severity(), finding.rule, finding.location.position, finding.lines())
        });
        findings.chain(self.excepted.iter().map(move |excepted| {
            let message = format!(
                "excepted until {}: {}\nnote: {}",
                excepted.expires, excepted.message, excepted.reason
            );
            command("notice", excepted.rule, excepted.location.position, message)
        }))
    }
}

impl ReadError {
    fn command(&self) -> WorkflowCommand<'_> {
        WorkflowCommand {
            name: "error",
            file: Some(&self.file),
            position: self.position,
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
    position: Option<Position>,
    title: String,
    message: String,
}

impl WorkflowCommand<'_> {
    fn write(&self, out: &mut String) {
        let properties = [
            self.file.map(|file| format!("file={}", property(file))),
            self.position.map(|at| format!("line={}", at.line)),
            self.position.map(|at| format!("col={}", at.column)),
            Some(format!("title={}", property(&self.title))),
        ];
        let properties: Vec<_> = properties.into_iter().flatten().collect();
        // Writing to a string does not fail.
        let _ = writeln!(out, "::{} {}::{}", self.name, properties.join(","), data(&self.message));
    }
}

/// A message: line breaks are escaped, and so are characters that a terminal obeys, as it shows the log.
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

/// The value of a property, which `:` and `,` end too.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_a_command_early_or_begins_another() {
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
