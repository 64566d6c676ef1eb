//! The catalog of rules: ids, what they need to know, recommended levels and pages.
//!
//! Plain data, so that policies can name rules and their levels without depending on how rules are
//! evaluated. The page of a rule is the Markdown file beside its code in `rules/`.

use crate::model::level::Level;

/// Every rule, sorted by id.
pub static ALL: &[Rule] = &[
    Rule {
        id: "extensions-clash",
        fault: "an override in a pool that also sets `extensions` or a `kernelType` other than `default`",
        inputs: &[RuleInput::MachineConfig, RuleInput::Cluster],
        recommended: Level::Warn,
        documentation: include_str!("rules/pool/extensions_clash.md"),
    },
    Rule {
        id: "floating-tag",
        fault: "a reference without a digest",
        inputs: &[RuleInput::MachineConfig],
        recommended: Level::Deny,
        documentation: include_str!("rules/reference/floating_tag.md"),
    },
    Rule {
        id: "foreign-base",
        fault: "an image that is not built on any accepted base",
        inputs: &[RuleInput::Image, RuleInput::Base, RuleInput::Cluster],
        recommended: Level::Warn,
        documentation: include_str!("rules/base/foreign_base.md"),
    },
    Rule {
        id: "malformed-reference",
        fault: "a short name, a transport prefix, a tag together with a digest, or an invalid digest",
        inputs: &[RuleInput::MachineConfig],
        recommended: Level::Deny,
        documentation: include_str!("rules/reference/malformed_reference.md"),
    },
    Rule {
        id: "not-bootable",
        fault: "an image without the labels of a bootable image, or with a missing ostree layer",
        inputs: &[RuleInput::Image],
        recommended: Level::Deny,
        documentation: include_str!("rules/image/not_bootable.md"),
    },
    Rule {
        id: "older-os",
        fault: "an operating system that is older than that of the release, or than the pool's current one",
        inputs: &[RuleInput::Image, RuleInput::Base, RuleInput::Cluster],
        recommended: Level::Warn,
        documentation: include_str!("rules/base/older_os.md"),
    },
    Rule {
        id: "registry-not-allowed",
        fault: "a repository that the policy or the cluster does not allow, or that is blocked on nodes",
        inputs: &[RuleInput::MachineConfig, RuleInput::Cluster],
        recommended: Level::Deny,
        documentation: include_str!("rules/reference/registry_not_allowed.md"),
    },
    Rule {
        id: "shadowed-override",
        fault: "an override without effect, because another MachineConfig takes precedence in the pool",
        inputs: &[RuleInput::Cluster],
        recommended: Level::Warn,
        documentation: include_str!("rules/pool/shadowed_override.md"),
    },
    Rule {
        id: "single-platform-digest",
        fault: "the digest of a single platform's manifest in a pool with several architectures",
        inputs: &[RuleInput::Manifest, RuleInput::Cluster],
        recommended: Level::Warn,
        documentation: include_str!("rules/image/single_platform_digest.md"),
    },
    Rule {
        id: "stale-base",
        fault: "an image that is built on the base of another release than the cluster's",
        inputs: &[RuleInput::Image, RuleInput::Base, RuleInput::Cluster],
        recommended: Level::Warn,
        documentation: include_str!("rules/base/stale_base.md"),
    },
    Rule {
        id: "stream-conflict",
        fault: "an override in a pool that also sets `osImageStream`, which the operator does not render",
        inputs: &[RuleInput::Cluster],
        recommended: Level::Deny,
        documentation: include_str!("rules/pool/stream_conflict.md"),
    },
    Rule {
        id: "stream-mismatch",
        fault: "an image that is built on another OS stream than the pool's",
        inputs: &[RuleInput::Image, RuleInput::Base, RuleInput::Cluster],
        recommended: Level::Deny,
        documentation: include_str!("rules/base/stream_mismatch.md"),
    },
    Rule {
        id: "unprovable-base",
        fault: "a squashed or rechunked image, whose base cannot be verified",
        inputs: &[RuleInput::Image, RuleInput::Base, RuleInput::Cluster],
        recommended: Level::Warn,
        documentation: include_str!("rules/base/unprovable_base.md"),
    },
    Rule {
        id: "unpullable-image",
        fault: "an image that does not exist, or that nodes are not allowed to pull",
        inputs: &[RuleInput::Manifest],
        recommended: Level::Deny,
        documentation: include_str!("rules/image/unpullable_image.md"),
    },
    Rule {
        id: "wrong-architecture",
        fault: "an image without a manifest for an architecture of the pool's nodes",
        inputs: &[RuleInput::Image, RuleInput::Cluster],
        recommended: Level::Deny,
        documentation: include_str!("rules/image/wrong_architecture.md"),
    },
];

/// What is known of a rule without evaluating it.
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
    /// The rule's page in Markdown: what it checks, why that is a fault, what to do.
    pub documentation: &'static str,
}

/// What a rule needs to know, the cheapest to get first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleInput {
    /// The MachineConfig itself.
    MachineConfig,
    /// Which manifest the image reference names, if any.
    Manifest,
    /// The image's manifest and config.
    Image,
    /// The images that it may be built on.
    Base,
    /// The cluster, or the options that replace it.
    Cluster,
}

impl RuleInput {
    /// The input as the pages name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MachineConfig => "the MachineConfig",
            Self::Manifest => "the image's manifest",
            Self::Image => "the image's layers and labels",
            Self::Base => "the base images",
            Self::Cluster => "the cluster",
        }
    }
}

impl Rule {
    /// The rule with this id.
    pub fn named(id: &str) -> Option<&'static Self> {
        ALL.iter().find(|rule| rule.id == id)
    }

    /// Tells whether the rule needs `input`.
    pub fn needs(&self, input: RuleInput) -> bool {
        self.inputs.contains(&input)
    }

    /// The rule's own page, in Markdown.
    pub fn page(&self) -> String {
        format!("## {}\n\nThe fault: {}.\n\n{}", self.id, self.fault, self.documentation)
    }
}

/// The reference page of all rules, in Markdown.
pub fn page() -> String {
    let mut page = String::from(
        "# Rules\n\nGenerated from the code. To update it, run `make generate`.\n\n| rule | fault | needs | recommended |\n|---|---|---|---|\n",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sorted_and_unique() {
        assert!(ALL.is_sorted_by(|one, other| one.id < other.id));
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
}
