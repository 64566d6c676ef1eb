//! The report as workflow commands of GitHub Actions, which become annotations on the lines of a change.
//!
//! Format and escapes follow GitHub's page *Workflow commands for GitHub Actions* and `@actions/core`.

use crate::model::machine_config::Position;
use crate::report::Report;
use crate::text::escaped;

impl Report {
    /// One command a line: `error` for what denies or could not be judged, `warning` for what warns,
    /// `notice` for what is excepted.
    pub fn to_github(&self) -> String {
        let mut out = String::new();
        for object in &self.objects {
            let file = object.file.as_deref();
            let title = |rule| format!("{rule} in MachineConfig {}", object.name);
            for finding in &object.findings {
                let place = (file, finding.location.position);
                out += &command(finding.severity(), place, &title(finding.rule), &finding.lines());
            }
            for excepted in &object.excepted {
                let message = format!(
                    "excepted until {}: {}\nnote: {}",
                    excepted.expires, excepted.message, excepted.reason
                );
                out +=
                    &command("notice", (file, excepted.location.position), &title(excepted.rule), &message);
            }
        }
        for error in &self.errors {
            let help = error.help.as_ref().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
            let message = format!("{}{help}", error.message);
            out += &command("error", (Some(&error.file), error.position), "not judged", &message);
        }
        out
    }
}

/// One workflow command, about a place in a file.
fn command(
    name: &str,
    (file, position): (Option<&str>, Option<Position>),
    title: &str,
    message: &str,
) -> String {
    let properties = [
        file.map(|file| format!("file={}", property(file))),
        position.map(|at| format!("line={},col={}", at.line, at.column)),
        Some(format!("title={}", property(title))),
    ];
    let properties: Vec<_> = properties.into_iter().flatten().collect();
    format!("::{name} {}::{}\n", properties.join(","), data(message))
}

/// A message: line breaks are escaped, and so are characters that a terminal obeys, as it shows the log.
fn data(text: &str) -> String {
    escaped(&text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A"))
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
