//! The levels that a policy gives to rules.

use serde::{Deserialize, Serialize};

/// What a finding does to the request: nothing, a warning or a denial.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The rule is not evaluated.
    Off,
    /// The request is allowed with a warning.
    Warn,
    /// The request is denied.
    Deny,
}

impl Level {
    /// Parses the level as policy files write it. `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Off, Self::Warn, Self::Deny].into_iter().find(|level| level.as_str() == text)
    }

    /// The level as policy files write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }
}
