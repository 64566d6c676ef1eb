//! The lineage of an image in reports and drawings.

use serde::Serialize;

use crate::lineage::{Ancestry, Base, Lineage};
use crate::text::shown;

/// The lineage in one pool on one platform. What does not apply is `null`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LineageReport {
    /// `None` when no pool is known.
    pub(crate) pool: Option<String>,
    /// `None` when no platform is known.
    pub(crate) platform: Option<String>,
    /// `same`, `derived`, `foreign`, `unprovable` or `unknown`.
    pub(crate) result: &'static str,
    /// The base that the image is built on, or else the known one with the most layers in common.
    pub(crate) base: Option<String>,
    /// The release of that base.
    pub(crate) release: Option<String>,
    /// The number of layers above an accepted base.
    own_layers: Option<usize>,
    /// Why the image is not in order. `None` when it is.
    pub(crate) reason: Option<String>,
    /// The base to build on.
    pub(crate) expected_base: Option<String>,
    /// The release of the base to build on.
    pub(crate) expected_release: Option<String>,
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
