//! The rules: what each of them finds wrong with an object.
//!
//! A rule is three things: its entry in the [`crate::catalog`], its page in Markdown, and a pure function from
//! a [`Context`] to [`Observation`]s. The function never fails and never waits, and it does not know the
//! level of the rule, which the policy sets. Rules are grouped by what they look at.

mod context;
mod observation;

mod base;
mod image;
mod pool;
mod reference;

pub use crate::catalog::{ALL, Rule, RuleInput, page};
pub(crate) use base::older_os::further_questions;
pub use context::Context;
pub use observation::{Certainty, Observation};

/// Evaluates a rule. An empty list is a pass.
pub type Judge = fn(&Context<'_>) -> Vec<Observation>;

/// Every rule of the catalog with the function that evaluates it.
pub fn judges() -> impl Iterator<Item = (&'static Rule, Judge)> {
    ALL.iter().zip(JUDGES.map(|(_, judge)| judge))
}

/// In the order of [`ALL`].
const JUDGES: [(&str, Judge); 15] = [
    ("extensions-clash", pool::extensions_clash::judge),
    ("floating-tag", reference::floating_tag::judge),
    ("foreign-base", base::foreign_base::judge),
    ("malformed-reference", reference::malformed_reference::judge),
    ("not-bootable", image::not_bootable::judge),
    ("older-os", base::older_os::judge),
    ("registry-not-allowed", reference::registry_not_allowed::judge),
    ("shadowed-override", pool::shadowed_override::judge),
    ("single-platform-digest", image::single_platform_digest::judge),
    ("stale-base", base::stale_base::judge),
    ("stream-conflict", pool::stream_conflict::judge),
    ("stream-mismatch", base::stream_mismatch::judge),
    ("unprovable-base", base::unprovable_base::judge),
    ("unpullable-image", image::unpullable_image::judge),
    ("wrong-architecture", image::wrong_architecture::judge),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalog_the_functions_and_the_files_list_the_same_rules() {
        let catalog: Vec<_> = ALL.iter().map(|rule| rule.id).collect();
        assert_eq!(JUDGES.map(|(id, _)| id).to_vec(), catalog);
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rules");
        let list = |folder: &std::path::Path| {
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
        };
        let groups: Vec<_> = list(&folder).into_iter().filter(|path| path.is_dir()).collect();
        let files = |extension: &str| {
            let paths = groups.iter().flat_map(|group| list(group));
            let with_extension = paths.filter(|path| path.extension().is_some_and(|is| is == extension));
            let stem =
                |path: std::path::PathBuf| path.file_stem().unwrap().to_str().unwrap().replace('_', "-");
            let mut names: Vec<_> = with_extension.map(stem).collect();
            names.sort_unstable();
            names
        };
        for extension in ["rs", "md"] {
            assert_eq!(files(extension), catalog, "{extension}");
        }
    }
}
