//! The policy: which rule has which level for which pool, and what is excepted.
//!
//! Owns the meaning of a policy file once it has been read; [`mod@file`] owns its form. A rule that the
//! policy does not name has the level that the rule recommends.

pub mod file;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::model::digest::Digest;
use crate::model::image_reference::ImageReference;
use crate::model::pattern::Pattern;
use crate::rules::{self, Rule};

pub use file::PolicyErrors;

/// What a finding costs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing: the rule does not judge.
    Off,
    /// A warning.
    Warn,
    /// A denial.
    Deny,
}

impl Level {
    /// The level as a policy writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }
}

/// A policy that has been read and checked.
#[derive(Clone, Debug)]
pub struct Policy {
    name: String,
    hash: String,
    pin: bool,
    on_unknown: Level,
    levels: Vec<(&'static Rule, Level)>,
    pools: Vec<PoolLevels>,
    allowed: Vec<Pattern>,
    accepted_bases: Vec<ImageReference>,
    exceptions: Vec<Exception>,
}

#[derive(Clone, Debug)]
struct PoolLevels {
    names: Vec<Pattern>,
    levels: Vec<(&'static Rule, Level)>,
}

/// An agreed deviation from a rule, with its reason and its end.
#[derive(Clone, Debug)]
pub struct Exception {
    names: Vec<Pattern>,
    rules: Vec<&'static Rule>,
    /// Why it was agreed.
    pub reason: String,
    /// The last day on which it holds, in UTC.
    pub expires: Date,
}

/// The level of a rule for an object, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The level.
    pub level: Level,
    /// A sentence for people: why this level.
    pub why: String,
}

impl Policy {
    /// The policy that is built in: every rule at the level that it recommends.
    pub fn recommended() -> Self {
        file::parse(RECOMMENDED).unwrap_or_else(|errors| unreachable!("built-in policy: {errors}"))
    }

    /// Reads a policy. Fails with every fault found, each with its line.
    pub fn parse(text: &str) -> Result<Self, PolicyErrors> {
        file::parse(text)
    }

    /// The policy's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The digest of the text that the policy was read from: sixteen hex digits of its sha256.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The same policy for whoever asks for pins by name: `pin: false` keeps the webhook from
    /// pinning, because the pins are written into files instead.
    pub fn pinning(self) -> Self {
        Self { pin: true, ..self }
    }

    /// Whether `/mutate` pins tags.
    pub fn pins(&self) -> bool {
        self.pin
    }

    /// What an unanswered question costs; never more than the rule that asked it.
    pub fn on_unknown(&self) -> Level {
        self.on_unknown
    }

    /// Tells whether the policy lets images come from the repository of `reference`. An empty list
    /// allows every registry. Nothing is asked of a registry that is not allowed.
    pub fn allows(&self, reference: &ImageReference) -> bool {
        self.allowed.is_empty() || self.allowed.iter().any(|pattern| pattern.matches(reference.repository()))
    }

    /// The patterns of allowed repositories; empty when every one is allowed.
    pub fn allowed(&self) -> &[Pattern] {
        &self.allowed
    }

    /// Images that count as bases beside those of the release, each by digest.
    pub fn accepted_bases(&self) -> &[ImageReference] {
        &self.accepted_bases
    }

    /// The level of `rule` for an object that reaches `pools`, with the reason: the strictest of them
    /// decides.
    pub fn level(&self, rule: &'static Rule, pools: &[&str]) -> Assigned {
        let (level, pool) = self.decide(rule, pools);
        let why = match pool {
            Some(pool) => {
                format!("`{}` is `{}` for pool `{pool}` in policy `{}`", rule.id, level.as_str(), self.name)
            }
            None => {
                let origin = match find(&self.levels, rule) {
                    Some(_) => "in policy",
                    None => "by recommendation, which stands in policy",
                };
                format!("`{}` is `{}` {origin} `{}`", rule.id, level.as_str(), self.name)
            }
        };
        Assigned { level, why }
    }

    /// The level alone. Most rules find nothing, and then nobody asks for the reason.
    pub fn level_alone(&self, rule: &'static Rule, pools: &[&str]) -> Level {
        self.decide(rule, pools).0
    }

    /// The level, and the pool that has it where it is not the level of all.
    fn decide<'a>(&self, rule: &'static Rule, pools: &[&'a str]) -> (Level, Option<&'a str>) {
        let base = find(&self.levels, rule).unwrap_or(rule.recommended);
        let of_pool = |pool: &str| {
            // As in the rest of the file a later entry wins over an earlier one.
            self.pools.iter().rev().find_map(|entry| {
                let named = entry.names.iter().any(|name| name.matches(pool));
                named.then(|| find(&entry.levels, rule)).flatten()
            })
        };
        let strictest = pools
            .iter()
            .map(|pool| of_pool(pool).map_or((base, None), |level| (level, Some(*pool))))
            .max_by_key(|(level, _)| *level);
        strictest.unwrap_or((base, None))
    }

    /// The exceptions that name the object and the rule, those that have ended among them.
    pub fn exceptions(&self, rule: &'static Rule, object: &str) -> impl Iterator<Item = &Exception> {
        self.exceptions.iter().filter(move |exception| {
            exception.rules.iter().any(|excepted| excepted.id == rule.id)
                && exception.names.iter().any(|name| name.matches(object))
        })
    }
}

impl Exception {
    /// Tells whether the exception still holds on `day`.
    pub fn holds_on(&self, day: Date) -> bool {
        day <= self.expires
    }
}

fn find(levels: &[(&'static Rule, Level)], rule: &Rule) -> Option<Level> {
    levels.iter().find(|(named, _)| std::ptr::eq(*named, rule)).map(|(_, level)| *level)
}

/// The first sixteen hex digits of the sha256 of a policy's text.
fn hash(text: &str) -> String {
    let digest = Digest::of(text.as_bytes());
    digest.as_str()["sha256:".len()..][..16].to_owned()
}

fn rule(id: &str) -> Option<&'static Rule> {
    rules::ALL.iter().copied().find(|rule| rule.id == id)
}

const RECOMMENDED: &str = include_str!("../policies/recommended.yaml");

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(spec: &str) -> Policy {
        let text = format!(
            "apiVersion: layerpin.io/v1alpha1\nkind: OSImagePolicy\nmetadata: {{name: test}}\nspec:\n{spec}"
        );
        Policy::parse(&text).unwrap()
    }

    fn level(policy: &Policy, id: &str, pools: &[&str]) -> (Level, String) {
        let Assigned { level, why } = policy.level(super::rule(id).unwrap(), pools);
        (level, why)
    }

    #[test]
    fn the_recommended_policy_gives_every_rule_the_level_it_recommends() {
        let recommended = Policy::recommended();
        for rule in rules::ALL {
            assert_eq!(recommended.level(rule, &["worker"]).level, rule.recommended, "{}", rule.id);
        }
        assert!(recommended.pins());
        assert_eq!(recommended.on_unknown(), Level::Warn);
    }

    #[test]
    fn the_policies_that_are_shipped_do_what_their_names_say() {
        let strict = Policy::parse(include_str!("../policies/strict.yaml")).unwrap();
        let warn_only = Policy::parse(include_str!("../policies/warn-only.yaml")).unwrap();
        for rule in rules::ALL {
            assert_eq!(strict.level(rule, &[]).level, Level::Deny, "{}", rule.id);
            assert_eq!(warn_only.level(rule, &["master"]).level, Level::Warn, "{}", rule.id);
        }
        assert_eq!(strict.on_unknown(), Level::Deny);
        assert!(!warn_only.pins());
    }

    #[test]
    fn the_strictest_affected_pool_decides_and_is_named() {
        let policy = policy(
            "  rules: {floating-tag: warn}\n  pools:\n  - names: [master, infra-*]\n    rules: {floating-tag: deny}\n  \
             - names: [lab]\n    rules: {floating-tag: off}\n",
        );
        let why = |level: Level, tail: &str| {
            (level, format!("`floating-tag` is `{}` {tail} `test`", level.as_str()))
        };
        assert_eq!(level(&policy, "floating-tag", &["worker"]), why(Level::Warn, "in policy"));
        assert_eq!(
            level(&policy, "floating-tag", &["lab", "infra-1"]),
            why(Level::Deny, "for pool `infra-1` in policy")
        );
        assert_eq!(level(&policy, "floating-tag", &["lab"]), why(Level::Off, "for pool `lab` in policy"));
        assert_eq!(level(&policy, "floating-tag", &["lab", "worker"]), why(Level::Warn, "in policy"));
        assert_eq!(
            level(&policy, "unpullable-image", &["master"]),
            (
                Level::Deny,
                "`unpullable-image` is `deny` by recommendation, which stands in policy `test`".into()
            )
        );
    }

    #[test]
    fn registries_are_allowed_by_pattern() {
        let policy = policy("  registries: {allow: ['quay.io/acme/*', 'registry.example.com/os']}\n");
        for (text, allowed) in [
            ("quay.io/acme/os:1", true),
            ("quay.io/other/os:1", false),
            (
                "registry.example.com/os@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                true,
            ),
            ("registry.example.com/os/more", false),
        ] {
            assert_eq!(policy.allows(&ImageReference::parse(text).unwrap()), allowed, "{text}");
        }
    }

    #[test]
    fn an_exception_holds_through_its_last_day() {
        let policy = policy(
            "  exceptions:\n  - names: ['99-legacy-*']\n    rules: [floating-tag]\n    reason: vendor image\n    \
             expires: 2027-01-31\n",
        );
        let rule = rule("floating-tag").unwrap();
        let exception: &Exception = policy.exceptions(rule, "99-legacy-os").next().unwrap();
        assert!(exception.holds_on("2027-01-31".parse().unwrap()));
        assert!(!exception.holds_on("2027-02-01".parse().unwrap()));
        assert_eq!(policy.exceptions(rule, "99-other").count(), 0);
    }
}
