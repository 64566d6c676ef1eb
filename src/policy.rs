//! The policy: the level of each rule for each pool, and exceptions.
//!
//! Owns the meaning of a policy; [`mod@file`] owns the file format. A rule that the policy does not name
//! has its recommended level.

pub mod file;

use jiff::civil::Date;

use crate::catalog::Rule;
use crate::model::image_reference::ImageReference;
use crate::model::pattern::Pattern;

pub use crate::model::level::Level;
pub use file::PolicyErrors;

/// A valid policy.
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

/// An exception from rules, with its reason and its last day.
#[derive(Clone, Debug)]
pub struct Exception {
    names: Vec<Pattern>,
    rules: Vec<&'static Rule>,
    /// Why it was made.
    pub reason: String,
    /// The last day on which it applies, in UTC.
    pub expires: Date,
}

/// The level of a rule for an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignedLevel {
    /// The level.
    pub level: Level,
    /// Why it has this level, as a note for people.
    pub reason: String,
}

impl Policy {
    /// The built-in policy: every rule at its recommended level.
    pub fn recommended() -> Self {
        file::parse(RECOMMENDED).unwrap_or_else(|errors| unreachable!("built-in policy: {errors}"))
    }

    /// Parses a policy. Fails with all errors, each with its line.
    pub fn parse(text: &str) -> Result<Self, PolicyErrors> {
        file::parse(text)
    }

    /// The policy's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first sixteen hex digits of the sha256 of the policy's text.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The same policy for commands that pin: `pin: false` only keeps the webhook from pinning, because the
    /// digests are in the files instead.
    pub fn pinning(self) -> Self {
        Self { pin: true, ..self }
    }

    /// Whether `/mutate` pins tags.
    pub fn pins(&self) -> bool {
        self.pin
    }

    /// The level of a finding whose facts are not known; at most the level of its rule.
    pub fn on_unknown(&self) -> Level {
        self.on_unknown
    }

    /// Tells whether the policy allows images from the repository of `reference`. An empty list allows every
    /// registry. No request is sent to a registry that is not allowed.
    pub fn allows(&self, reference: &ImageReference) -> bool {
        self.allowed.is_empty() || self.allowed.iter().any(|pattern| pattern.matches(reference.repository()))
    }

    /// The patterns of allowed repositories; empty when every one is allowed.
    pub fn allowed(&self) -> &[Pattern] {
        &self.allowed
    }

    /// Images that are accepted as bases in addition to those of the release, each by digest.
    pub fn accepted_bases(&self) -> &[ImageReference] {
        &self.accepted_bases
    }

    /// The level of `rule` for an object in `pools`, with the reason: the strictest level of any pool.
    pub fn level(&self, rule: &'static Rule, pools: &[&str]) -> AssignedLevel {
        let (level, pool) = self.decide(rule, pools);
        let origin = match pool {
            Some(pool) => format!(" for pool `{pool}`"),
            None if find(&self.levels, rule).is_none() => " by default".to_owned(),
            None => String::new(),
        };
        let reason = format!("`{}` is `{}`{origin} in policy `{}`", rule.id, level.as_str(), self.name);
        AssignedLevel { level, reason }
    }

    /// The level without the reason, which is not needed for rules that find nothing.
    pub fn level_alone(&self, rule: &'static Rule, pools: &[&str]) -> Level {
        self.decide(rule, pools).0
    }

    /// The level, and the pool that sets it if it is not set for all pools.
    fn decide<'a>(&self, rule: &'static Rule, pools: &[&'a str]) -> (Level, Option<&'a str>) {
        let base = find(&self.levels, rule).unwrap_or(rule.recommended);
        if self.pools.is_empty() {
            return (base, None);
        }
        let of_pool = |pool: &str| {
            // A later entry takes precedence over an earlier one.
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

    /// The exceptions for the object and the rule, including expired ones.
    pub fn exceptions(&self, rule: &'static Rule, object: &str) -> impl Iterator<Item = &Exception> {
        self.exceptions.iter().filter(move |exception| {
            exception.rules.iter().any(|excepted| excepted.id == rule.id)
                && exception.names.iter().any(|name| name.matches(object))
        })
    }
}

impl Exception {
    /// Tells whether the exception applies on `day`.
    pub fn applies_on(&self, day: Date) -> bool {
        day <= self.expires
    }
}

fn find(levels: &[(&'static Rule, Level)], rule: &Rule) -> Option<Level> {
    levels.iter().find(|(named, _)| std::ptr::eq(*named, rule)).map(|(_, level)| *level)
}

const RECOMMENDED: &str = include_str!("../policies/recommended.yaml");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog;

    fn policy(spec: &str) -> Policy {
        let text = format!(
            "apiVersion: layerpin.io/v1alpha1\nkind: OSImagePolicy\nmetadata: {{name: test}}\nspec:\n{spec}"
        );
        Policy::parse(&text).unwrap()
    }

    fn level(policy: &Policy, id: &str, pools: &[&str]) -> (Level, String) {
        let AssignedLevel { level, reason } = policy.level(Rule::named(id).unwrap(), pools);
        (level, reason)
    }

    #[test]
    fn the_recommended_policy_gives_every_rule_its_recommended_level() {
        let recommended = Policy::recommended();
        for rule in catalog::ALL {
            assert_eq!(recommended.level(rule, &["worker"]).level, rule.recommended, "{}", rule.id);
        }
        assert!(recommended.pins());
        assert_eq!(recommended.on_unknown(), Level::Warn);
    }

    #[test]
    fn the_other_policies_in_the_repository_match_their_names() {
        let strict = Policy::parse(include_str!("../policies/strict.yaml")).unwrap();
        let warn_only = Policy::parse(include_str!("../policies/warn-only.yaml")).unwrap();
        for rule in catalog::ALL {
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
            (Level::Deny, "`unpullable-image` is `deny` by default in policy `test`".into())
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
    fn an_exception_applies_through_its_last_day() {
        let policy = policy(
            "  exceptions:\n  - names: ['99-legacy-*']\n    rules: [floating-tag]\n    reason: vendor image\n    \
             expires: 2027-01-31\n",
        );
        let rule = Rule::named("floating-tag").unwrap();
        let exception: &Exception = policy.exceptions(rule, "99-legacy-os").next().unwrap();
        assert!(exception.applies_on("2027-01-31".parse().unwrap()));
        assert!(!exception.applies_on("2027-02-01".parse().unwrap()));
        assert_eq!(policy.exceptions(rule, "99-other").count(), 0);
    }
}
