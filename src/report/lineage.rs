//! The lineage of an object's image, as reports write it.

use serde::Serialize;

use crate::image_reference::shown;
use crate::lineage::{Base, Kinship, Lineage};

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
            own_layers: match lineage.kinship {
                Kinship::Same { .. } => Some(0),
                Kinship::Derived { own_layers, .. } => Some(own_layers),
                Kinship::Foreign { .. } | Kinship::Unprovable { .. } | Kinship::Unknown(_) => None,
            },
            reason: lineage.reason(),
            expected_base: expected.map(reference),
            expected_release: expected.and_then(release),
        }
    }
}
