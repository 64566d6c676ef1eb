//! The rules, one file each, and the list of them.
//!
//! A rule is data plus one pure function: it is handed a [`Context`] and says what it sees. It never
//! fails, never waits and knows no levels; what its observations cost is the policy's business.

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

use crate::lineage::{self, Ancestry, Lineage, MissingFact};
use crate::messages;
use crate::model::facts::image::Platform;
use crate::model::facts::{Cause, Fact, Facts};
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::{EntryPoint, Field, FieldImage, Subject};
use crate::model::question::{Purpose, Question};
use crate::policy::{Level, Policy};
use crate::pools::AffectedPool;

/// Every rule, sorted by id.
pub static ALL: &[&Rule] = &[
    &extensions_clash::RULE,
    &floating_tag::RULE,
    &foreign_base::RULE,
    &malformed_reference::RULE,
    &not_bootable::RULE,
    &older_os::RULE,
    &registry_not_allowed::RULE,
    &shadowed_override::RULE,
    &single_platform_digest::RULE,
    &stale_base::RULE,
    &stream_conflict::RULE,
    &stream_mismatch::RULE,
    &unprovable_base::RULE,
    &unpullable_image::RULE,
    &wrong_architecture::RULE,
];

/// The rules on lineage, which find nothing where nothing names a base to judge by.
pub static OF_LINEAGE: [&Rule; 5] =
    [&foreign_base::RULE, &older_os::RULE, &stale_base::RULE, &stream_mismatch::RULE, &unprovable_base::RULE];

/// One rule: what it is called, what it is about, and how it judges.
#[derive(Debug)]
pub struct Rule {
    /// The id, which names the fault: lower-case words joined by `-`. Part of the contract.
    pub id: &'static str,
    /// The fault in one phrase.
    pub fault: &'static str,
    /// What the rule needs to know.
    pub inputs: &'static [RuleInput],
    /// The level in the recommended policy.
    pub recommended: Level,
    /// The rule's page, in Markdown: what it sees, why that is a fault, what to do.
    pub documentation: &'static str,
    /// Judges one case. An empty list is a pass.
    pub judge: fn(&Context<'_>) -> Vec<Observation>,
}

/// What a rule draws on, what is nearest at hand first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleInput {
    /// The MachineConfig alone.
    MachineConfig,
    /// Which manifest the image's reference names, if any.
    Manifest,
    /// The image's manifest and config.
    Image,
    /// The cluster, or what is named in its place.
    Cluster,
}

impl RuleInput {
    /// The input in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MachineConfig => "the MachineConfig",
            Self::Manifest => "the image's manifest",
            Self::Image => "the image's layers and labels",
            Self::Cluster => "the cluster",
        }
    }
}

/// What a rule is handed.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The object under judgement.
    pub subject: &'a Subject,
    /// What is known of the outside.
    pub facts: &'a Facts,
    /// The policy, for rules that have lists in it. Levels are not a rule's business.
    pub policy: &'a Policy,
    /// The pools that the object reaches.
    pub pools: &'a [AffectedPool<'a>],
    /// The lineage of the operating system image, in each of them on each platform.
    pub lineage: &'a [Lineage],
}

impl<'a> Context<'a> {
    /// The fields that name an image, each with that image.
    pub fn images(&self) -> impl Iterator<Item = (Field, &'a FieldImage)> + use<'a> {
        let object = &self.subject.object;
        Field::ALL.into_iter().filter_map(|field| Some((field, object.image(field)?)))
    }

    /// The fields whose image is a well-formed reference, each with that reference.
    pub fn references(&self) -> impl Iterator<Item = (Field, &'a ImageReference)> + use<'a> {
        self.images().filter_map(|(field, image)| Some((field, image.reference.as_ref().ok()?)))
    }

    /// The operating system image, when it is a well-formed reference.
    fn os_image(&self) -> Option<&'a ImageReference> {
        self.subject.object.reference(Field::OsImage)
    }

    /// The door that the object came through.
    fn entry_point(&self) -> EntryPoint {
        self.subject.origin.entry_point()
    }

    /// What `judge` sees in the lineage of the operating system image, pool by pool and platform by
    /// platform; what it says alike of several is told once, with the places.
    fn by_lineage(
        &self,
        judge: impl Fn(&ImageReference, &Lineage) -> Option<Observation>,
    ) -> Vec<Observation> {
        let Some(image) = self.os_image() else { return Vec::new() };
        let seen = self.lineage.iter().filter_map(|lineage| {
            let place = PoolPlatform { pool: lineage.pool.as_deref(), platform: lineage.platform.as_ref() };
            Some((judge(image, lineage)?, place))
        });
        merged(seen)
    }

    /// What the labels of the image say of its release: a hint for words, never proof.
    fn claim(&self, image: &ImageReference, lineage: &Lineage) -> Option<String> {
        let Fact::Known(image) = self.facts.image(&image.pull_spec()) else { return None };
        let Fact::Known(own) = image.platforms.get(lineage.platform.as_ref()?)? else { return None };
        lineage::claim(own).map(|claim| format!("its labels claim {claim}, which proves nothing"))
    }

    /// What a rule says that would have to know the lineage and does not: that it is not known whether
    /// the image `is` so. Nothing where there is nothing to judge by, or other rules have the word.
    fn unknown_lineage(&self, is: &str, image: &ImageReference, lineage: &Lineage) -> Option<Observation> {
        let Ancestry::Unknown(why) = &lineage.ancestry else { return None };
        let missing = why.missing_fact()?;
        Some(Observation {
            field: Field::OsImage,
            certainty: Certainty::Unknown,
            message: format!("whether `{}` {is} is not known: {why}", messages::short(image)),
            notes: lineage.notes.iter().filter(|note| **note != why.to_string()).cloned().collect(),
            help: messages::help_to_know(why, self.entry_point()),
            missing: Some(missing),
        })
    }

    /// What a rule says that would have to know `object` of the cluster and does not. Nothing where no
    /// cluster was asked.
    fn unknown_cluster(
        &self,
        field: Field,
        what: &str,
        object: &'static str,
        cause: &Cause,
    ) -> Option<Observation> {
        (*cause != Cause::NotAsked).then(|| Observation {
            field,
            certainty: Certainty::Unknown,
            message: format!("{what} is not known: {}", cause.of(object, "could not be read")),
            notes: Vec::new(),
            help: messages::help_to_ask_cluster(cause, self.entry_point()),
            missing: Some(MissingFact::Cluster(cause.clone())),
        })
    }
}

/// Where in a cluster something was seen.
#[derive(Clone, Copy, Debug, Default)]
struct PoolPlatform<'a> {
    pool: Option<&'a str>,
    platform: Option<&'a Platform>,
}

/// Puts equal observations together and notes the places of each.
fn merged<'a>(seen: impl Iterator<Item = (Observation, PoolPlatform<'a>)>) -> Vec<Observation> {
    let mut told: Vec<(Observation, Vec<PoolPlatform<'a>>)> = Vec::new();
    for (observation, place) in seen {
        match told.iter_mut().find(|(earlier, _)| *earlier == observation) {
            Some((_, places)) => places.push(place),
            None => told.push((observation, vec![place])),
        }
    }
    told.into_iter()
        .map(|(mut observation, places)| {
            observation.notes.extend(where_it_is(&places));
            observation
        })
        .collect()
}

/// `in pools `infra` and `worker`, on linux/amd64`. `None` when nothing is known of the place.
fn where_it_is(places: &[PoolPlatform<'_>]) -> Option<String> {
    let mut pools: Vec<_> =
        places.iter().filter_map(|place| place.pool).map(|pool| format!("`{pool}`")).collect();
    let mut platforms: Vec<_> =
        places.iter().filter_map(|place| place.platform).map(Platform::to_string).collect();
    for list in [&mut pools, &mut platforms] {
        list.sort_unstable();
        list.dedup();
    }
    let pools = match pools.len() {
        0 => String::new(),
        1 => format!("in pool {}", pools[0]),
        _ => format!("in pools {}", messages::list(&pools)),
    };
    let platforms = match platforms.len() {
        0 => String::new(),
        _ => format!("on {}", messages::list(&platforms)),
    };
    let parts: Vec<_> = [pools, platforms].into_iter().filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
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
    /// The question whose missing answer is behind it. Of several observations of one field that have
    /// the same, the strictest is told.
    pub missing: Option<MissingFact>,
}

/// Whether a fault was seen or could not be ruled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// The fault is there.
    Fault,
    /// A lesser form of it is there, which is put up with: it warns at the most.
    Minor,
    /// A question that would tell was not answered.
    Unknown,
}

/// What rules would know beside the image and its lineage: the images that the pools have now.
pub(crate) fn further_questions(
    subject: &Subject,
    pools: &[AffectedPool<'_>],
    facts: &Facts,
) -> Vec<Question> {
    let Some(image) = subject.object.reference(Field::OsImage) else { return Vec::new() };
    let images = pools.iter().filter_map(|pool| pool.current_image(subject, &facts.cluster));
    let others = images.filter(|current| *current != image.pull_spec());
    let questions = others.map(|current| Question::layers(current, Purpose::Base));
    questions.filter(|question| !question.is_answered_by(facts)).collect()
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
