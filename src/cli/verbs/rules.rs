//! `layerpin rules`: the list of rules, or the page of one.

use anyhow::bail;

use crate::cli::ExitStatus;
use crate::cli::args::RulesArgs;
use crate::cli::output;
use crate::rules::{ALL, Rule};
use crate::text::shown;

/// Writes the list, or one rule's page, to standard output.
pub fn run(options: &RulesArgs) -> anyhow::Result<ExitStatus> {
    match &options.rule {
        None => output::data(&list())?,
        Some(id) => match Rule::named(id) {
            Some(rule) => output::data(&rule.page())?,
            None => {
                let known: Vec<_> = ALL.iter().map(|rule| rule.id).collect();
                bail!("unknown rule `{}`; the rules are {}", shown(id), known.join(", "));
            }
        },
    }
    Ok(ExitStatus::Clean)
}

/// A line for each rule: its id, its level in the recommended policy, its fault.
fn list() -> String {
    let width = ALL.iter().map(|rule| rule.id.len()).max().unwrap_or_default();
    let line =
        |rule: &Rule| format!("{:<width$}  {:<4}  {}\n", rule.id, rule.recommended.as_str(), rule.fault);
    ALL.iter().map(line).collect()
}
