//! The rules: what each of them finds wrong with an object.
//!
//! A rule is three things: its entry in the [`crate::catalog`], its page in Markdown, and a pure function from
//! a [`Context`] to [`Observation`]s. The function never fails and never waits, and it does not know the
//! level of the rule, which the policy sets.

mod context;
mod observation;

mod extensions_clash;
mod floating_tag;
mod foreign_base;
mod malformed_reference;
mod not_bootable;
mod older_os;
mod registry_not_allowed;
mod shadowed_override;
mod single_platform_digest;
mod stale_base;
mod stream_conflict;
mod stream_mismatch;
mod unprovable_base;
mod unpullable_image;
mod wrong_architecture;

pub use crate::catalog::{ALL, Rule, RuleInput, page};
pub use context::Context;
pub use observation::{Certainty, Observation};
pub(crate) use older_os::further_questions;

/// Evaluates a rule. An empty list is a pass.
pub type Judge = fn(&Context<'_>) -> Vec<Observation>;

/// Every rule of the catalog with the function that evaluates it.
pub fn judges() -> impl Iterator<Item = (&'static Rule, Judge)> {
    ALL.iter().zip(JUDGES.map(|(_, judge)| judge))
}

/// In the order of [`ALL`].
const JUDGES: [(&str, Judge); 15] = [
    ("extensions-clash", extensions_clash::judge),
    ("floating-tag", floating_tag::judge),
    ("foreign-base", foreign_base::judge),
    ("malformed-reference", malformed_reference::judge),
    ("not-bootable", not_bootable::judge),
    ("older-os", older_os::judge),
    ("registry-not-allowed", registry_not_allowed::judge),
    ("shadowed-override", shadowed_override::judge),
    ("single-platform-digest", single_platform_digest::judge),
    ("stale-base", stale_base::judge),
    ("stream-conflict", stream_conflict::judge),
    ("stream-mismatch", stream_mismatch::judge),
    ("unprovable-base", unprovable_base::judge),
    ("unpullable-image", unpullable_image::judge),
    ("wrong-architecture", wrong_architecture::judge),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalog_the_functions_and_the_files_list_the_same_rules() {
        let catalog: Vec<_> = ALL.iter().map(|rule| rule.id).collect();
        assert_eq!(JUDGES.map(|(id, _)| id).to_vec(), catalog);
        let files = |extension: &str| {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rules");
            let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let with_extension = paths.filter(|path| path.extension().is_some_and(|is| is == extension));
            let stem =
                |path: std::path::PathBuf| path.file_stem().unwrap().to_str().unwrap().replace('_', "-");
            let mut names: Vec<_> = with_extension.map(stem).collect();
            names.retain(|name| !["context", "observation"].contains(&name.as_str()));
            names.sort_unstable();
            names
        };
        for extension in ["rs", "md"] {
            assert_eq!(files(extension), catalog, "{extension}");
        }
    }
}
