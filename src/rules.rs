//! The rules, one file each, and the list of them.
//!
//! A rule is data plus one pure function: it is handed a [`Case`] and says what it sees. It never
//! fails, never waits and knows no levels; what its observations cost is the policy's business.

mod floating_tag;
mod malformed_reference;
mod registry_not_allowed;
mod unpullable_image;

use crate::facts::Facts;
use crate::image_reference::ImageReference;
use crate::machine_config::{Field, Image, Subject};
use crate::policy::{Level, Policy};

/// Every rule, sorted by id.
pub static ALL: &[&Rule] =
    &[&floating_tag::RULE, &malformed_reference::RULE, &registry_not_allowed::RULE, &unpullable_image::RULE];

/// One rule: what it is called, what it is about, and how it judges.
#[derive(Debug)]
pub struct Rule {
    /// The id, which names the fault: lower-case words joined by `-`. Part of the contract.
    pub id: &'static str,
    /// The fault in one phrase.
    pub fault: &'static str,
    /// What the rule needs to know.
    pub inputs: &'static [Input],
    /// The level in the recommended policy.
    pub recommended: Level,
    /// The rule's page, in Markdown: what it sees, why that is a fault, what to do.
    pub documentation: &'static str,
    /// Judges one case. An empty list is a pass.
    pub judge: fn(&Case<'_>) -> Vec<Observation>,
}

/// What a rule draws on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The MachineConfig alone.
    MachineConfig,
    /// The image's manifest and config.
    Image,
}

impl Input {
    /// The input in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MachineConfig => "the MachineConfig",
            Self::Image => "the image",
        }
    }
}

/// What a rule is handed.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The object under judgement.
    pub subject: &'a Subject,
    /// What is known of the outside.
    pub facts: &'a Facts,
    /// The policy, for rules that have lists in it. Levels are not a rule's business.
    pub policy: &'a Policy,
}

impl<'a> Case<'a> {
    /// The fields that name an image, each with that image.
    pub fn images(&self) -> impl Iterator<Item = (Field, &'a Image)> + use<'a> {
        let object = &self.subject.object;
        Field::ALL.into_iter().filter_map(|field| Some((field, object.image(field)?)))
    }

    /// The fields whose image is a well-formed reference, each with that reference.
    pub fn references(&self) -> impl Iterator<Item = (Field, &'a ImageReference)> + use<'a> {
        self.images().filter_map(|(field, image)| Some((field, image.reference.as_ref().ok()?)))
    }
}

/// What a rule sees in one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The field.
    pub field: Field,
    /// Whether the fault is there, or only may be.
    pub certainty: Certainty,
    /// What is wrong with this object: one phrase.
    pub message: String,
    /// Further facts that explain it.
    pub notes: Vec<String>,
    /// One thing to do.
    pub help: String,
}

/// Whether a fault was seen or could not be ruled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// The fault is there.
    Fault,
    /// A question that would tell was not answered.
    Unknown,
}

/// The reference page of all rules, in Markdown.
pub fn page() -> String {
    let mut page = String::from(
        "# Rules\n\nGenerated from the code. Make it again with `make generate`.\n\n| rule | fault | judged from | recommended |\n|---|---|---|---|\n",
    );
    for rule in ALL {
        let inputs: Vec<_> = rule.inputs.iter().map(|input| input.as_str()).collect();
        page.push_str(&format!(
            "| [`{0}`](#{0}) | {1} | {2} | {3} |\n",
            rule.id,
            rule.fault,
            inputs.join(", "),
            rule.recommended.as_str()
        ));
    }
    for rule in ALL {
        page.push_str(&format!("\n{}", rule.page()));
    }
    page
}

impl Rule {
    /// The rule's own page, in Markdown.
    pub fn page(&self) -> String {
        format!("## {}\n\n{}: {}.\n\n{}\n", self.id, "The fault", self.fault, self.documentation.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_without_doubles() {
        let ids: Vec<_> = ALL.iter().map(|rule| rule.id).collect();
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(ids, sorted);
    }

    #[test]
    fn every_rule_is_documented() {
        for rule in ALL {
            assert!(rule.id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", rule.id);
            assert!(!rule.inputs.is_empty(), "{}", rule.id);
            assert!(!rule.fault.ends_with('.'), "{}", rule.id);
            for heading in ["### Why", "### What to do"] {
                assert!(rule.documentation.contains(heading), "{} lacks {heading}", rule.id);
            }
            assert_ne!(rule.recommended, Level::Off, "{}", rule.id);
        }
    }

    #[test]
    fn every_rule_file_is_registered() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rules");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().replace('_', "-"))
            .collect();
        files.sort_unstable();
        assert_eq!(files, ALL.iter().map(|rule| rule.id).collect::<Vec<_>>());
    }
}
