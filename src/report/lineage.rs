//! The lineage of an object's image, as reports write it.

use serde::Serialize;

use crate::lineage::{Ancestry, Base, Lineage};
use crate::text::shown;

/// The lineage in one pool on one platform. What does not apply is `null`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LineageReport {
    pool: Option<String>,
    platform: Option<String>,
    /// `same`, `derived`, `foreign`, `unprovable` or `unknown`.
    result: &'static str,
    /// The base that it is built on; where it is built on none that counts, the known one that it
    /// agrees with most.
    base: Option<String>,
    /// The release of that base.
    release: Option<String>,
    /// The layers above the base, where that is one that counts.
    own_layers: Option<usize>,
    reason: Option<String>,
    /// The base to build on.
    expected_base: Option<String>,
    /// The release of the base to build on.
    expected_release: Option<String>,
}

impl From<&Lineage> for LineageReport {
    fn from(lineage: &Lineage) -> Self {
        let reference = |base: &Base| base.reference.to_string();
        let release = |base: &Base| base.release.as_deref().map(shown);
        let (base, expected) = (lineage.base(), lineage.accepted.first());
        Self {
            pool: lineage.pool.clone(),
            platform: lineage.platform.as_ref().map(ToString::to_string),
            result: lineage.result(),
            base: base.map(reference),
            release: base.and_then(release),
            own_layers: match lineage.ancestry {
                Ancestry::Same { .. } => Some(0),
                Ancestry::Derived { own_layers, .. } => Some(own_layers),
                Ancestry::Foreign { .. } | Ancestry::Unprovable { .. } | Ancestry::Unknown(_) => None,
            },
            reason: lineage.reason(),
            expected_base: expected.map(reference),
            expected_release: expected.and_then(release),
        }
    }
}

impl LineageReport {
    /// The pool. `None` when none is known.
    pub fn pool(&self) -> Option<&str> {
        self.pool.as_deref()
    }

    /// The platform. `None` when none is known.
    pub fn platform(&self) -> Option<&str> {
        self.platform.as_deref()
    }

    /// `same`, `derived`, `foreign`, `unprovable` or `unknown`.
    pub fn result(&self) -> &'static str {
        self.result
    }

    /// The base that the image is built on or agrees with most.
    pub fn base(&self) -> Option<&str> {
        self.base.as_deref()
    }

    /// The release of that base.
    pub fn release(&self) -> Option<&str> {
        self.release.as_deref()
    }

    /// What is not in order. `None` when nothing is.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The base to build on.
    pub fn expected_base(&self) -> Option<&str> {
        self.expected_base.as_deref()
    }

    /// The release of the base to build on.
    pub fn expected_release(&self) -> Option<&str> {
        self.expected_release.as_deref()
    }

    /// The same, of no pool in particular.
    pub fn without_pool(self) -> Self {
        Self { pool: None, ..self }
    }
}
