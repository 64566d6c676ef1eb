//! `layerpin rules`: the list of rules, or the page of one.

use anyhow::bail;

use crate::cli::Rules;
use crate::rules;

/// Writes the list, or one rule's page, to standard output.
pub fn run(options: &Rules) -> anyhow::Result<()> {
    match &options.rule {
        None => {
            for rule in rules::ALL {
                println!("{:<24}{:<6}{}", rule.id, rule.recommended.as_str(), rule.fault);
            }
        }
        Some(id) => match rules::ALL.iter().find(|rule| rule.id == id) {
            Some(rule) => print!("{}", rule.page()),
            None => {
                let known: Vec<_> = rules::ALL.iter().map(|rule| rule.id).collect();
                bail!("no rule is called `{id}`; there are {}", known.join(", "));
            }
        },
    }
    Ok(())
}
