//! The words in which lineage is told: the same in findings, reports and drawings.
//!
//! Everything that comes from outside and is not checked in form is cleaned before it gets here.

use crate::lineage::bases::{Base, BaseOrigin};
use crate::lineage::layers::Agreement;
use crate::lineage::{Ancestry, BaseStatus, Closest, ForeignReason, Lineage, Rewriting, UnknownReason};
use crate::model::facts::image::Platform;
use crate::model::facts::{Cause, NodeCredentials};
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::EntryPoint;
use crate::text::shown;

/// A pull spec for the middle of a sentence: a digest is cut to its first twelve digits.
pub fn short(reference: &ImageReference) -> String {
    match (reference.tag(), reference.digest()) {
        (None, Some(digest)) => format!("{}@{}", reference.repository(), digest.short()),
        _ => reference.to_string(),
    }
}

/// `a`, `a and b`, `a, b and c`.
pub fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// `1 layer`, `2 layers`.
pub fn layers(count: usize) -> String {
    match count {
        1 => "1 layer".to_owned(),
        _ => format!("{count} layers"),
    }
}

impl Base {
    /// The base in a sentence: by its release where it has one.
    pub fn name(&self) -> String {
        match self.release.as_deref() {
            Some(release) => format!("the base of {}", shown(release)),
            None => format!("the base `{}`", short(&self.reference)),
        }
    }

    /// The base in a sentence about streams.
    fn name_with_stream(&self) -> String {
        match (self.stream.as_deref(), self.release.as_deref()) {
            (Some(stream), Some(release)) => format!("the `{}` base of {}", shown(stream), shown(release)),
            (Some(stream), None) => format!("the `{}` base `{}`", shown(stream), short(&self.reference)),
            (None, _) => self.name(),
        }
    }

    /// The release in a sentence about releases.
    fn release_name(&self) -> String {
        self.release.as_deref().map_or_else(|| self.name(), shown)
    }

    /// The line of a Containerfile that builds on it.
    pub fn from_line(&self) -> String {
        format!("FROM {}", self.reference)
    }

    /// `4.18.14`, or nothing.
    fn of_release(&self) -> String {
        self.release.as_deref().map(|release| format!(" of {}", shown(release))).unwrap_or_default()
    }
}

impl Lineage {
    /// What the image should be built on, in a sentence.
    pub fn wanted(&self) -> String {
        match self.accepted.as_slice() {
            [] => "an accepted base".to_owned(),
            [one] => one.name(),
            [first, ..] => match &first.release {
                Some(release) if self.accepted.iter().all(|base| base.release.as_ref() == Some(release)) => {
                    format!("a base of {}", shown(release))
                }
                _ => format!("{} or another accepted base", first.name()),
            },
        }
    }

    /// What the cluster runs, for the other half of a sentence. `None` when no release is known.
    pub fn running(&self) -> Option<String> {
        let base = self.accepted.first()?;
        let release = shown(base.release.as_deref()?);
        Some(match base.origin {
            BaseOrigin::ReleaseOption => format!("the release is {release}"),
            _ => format!("the cluster runs {release}"),
        })
    }

    /// The bases that were expected, as notes.
    pub fn expected(&self) -> Vec<String> {
        let shown_bases = self.accepted.iter().take(MAX_BASES);
        let mut notes: Vec<_> = shown_bases
            .map(|base| {
                format!("expected base: `{}`{}, from {}", base.reference, base.of_release(), base.origin)
            })
            .collect();
        let more = self.accepted.len().saturating_sub(MAX_BASES);
        if more > 0 {
            notes.push(format!("and {more} more accepted bases"));
        }
        notes
    }

    /// The first thing to do for an image that is built on something else.
    pub fn rebuild(&self) -> String {
        match self.accepted.first() {
            Some(base) => format!("build it again on the base: {}", base.from_line()),
            None => "name the base with --release-image or --base-image".to_owned(),
        }
    }

    /// What it comes to, in one word of the report.
    pub fn result(&self) -> &'static str {
        match &self.ancestry {
            Ancestry::Same { .. } => "same",
            Ancestry::Derived { .. } => "derived",
            Ancestry::Foreign { .. } => "foreign",
            Ancestry::Unprovable { .. } => "unprovable",
            Ancestry::Unknown(_) => "unknown",
        }
    }

    /// The base that the image is built on or agrees with most.
    pub fn base(&self) -> Option<&Base> {
        match &self.ancestry {
            Ancestry::Same { base } | Ancestry::Derived { base, .. } => Some(base),
            Ancestry::Foreign { closest, .. } | Ancestry::Unprovable { closest, .. } => {
                closest.as_ref().map(|closest| &closest.base)
            }
            Ancestry::Unknown(_) => None,
        }
    }

    /// Why the result is not a proof, in one sentence; that it is one which counts for the time of an
    /// upgrade, too. `None` for an image that is in order.
    pub fn reason(&self) -> Option<String> {
        match &self.ancestry {
            Ancestry::Same { base } | Ancestry::Derived { base, .. } => {
                (base.status == BaseStatus::Leaving).then(|| self.leaving(base))
            }
            Ancestry::Foreign { why, closest } => Some(self.foreign(*why, closest.as_ref())),
            Ancestry::Unprovable { how: Rewriting::Squashed, .. } => {
                Some("its layers were squashed into one, the base's too, so they prove nothing".to_owned())
            }
            Ancestry::Unprovable { how: Rewriting::Rechunked, .. } => {
                Some("its content was cut into layers anew (rechunked), so they prove nothing".to_owned())
            }
            Ancestry::Unknown(why) => Some(why.to_string()),
        }
    }

    /// `built on the base of 4.18.13; the cluster runs 4.18.14`.
    fn leaving(&self, base: &Base) -> String {
        let rolls_to = self.accepted.first().and_then(|base| base.release.as_deref()).map(shown);
        match rolls_to {
            Some(release) => format!("built on {}; the cluster rolls to {release}", base.release_name()),
            None => format!("built on {}, which the cluster is leaving", base.release_name()),
        }
    }

    fn foreign(&self, why: ForeignReason, closest: Option<&Closest>) -> String {
        let built_on = closest.map(|closest| closest.base.name()).unwrap_or_default();
        let running = self.running().unwrap_or_else(|| format!("{} is expected", self.wanted()));
        match why {
            ForeignReason::OtherRelease => {
                let release = closest.map(|closest| closest.base.release_name()).unwrap_or_default();
                format!("built on {release}; {running}")
            }
            ForeignReason::OtherStream => {
                let found = closest.map(|closest| closest.base.name_with_stream()).unwrap_or_default();
                let wanted = self.accepted.first().map(Base::name_with_stream).unwrap_or_default();
                format!("built on {found}; {wanted} is expected")
            }
            ForeignReason::OtherPlatform => {
                let platform = closest.map(|closest| closest.platform.to_string()).unwrap_or_default();
                format!("built on {built_on} for {platform}")
            }
            ForeignReason::NoBaseForPlatform => {
                "no base that counts has anything for this platform".to_owned()
            }
            ForeignReason::NothingShared => format!("it shares no layer with {}", self.wanted()),
            ForeignReason::PartOfBase => match closest {
                Some(closest) => format!("it has only {} {built_on}", closest.part()),
                None => format!("it has only part of {}", self.wanted()),
            },
        }
    }
}

impl Closest {
    /// `the first 3 of the 51 layers of`.
    fn part(&self) -> String {
        match self.agreement {
            Agreement::Leading { shared: 1 } => format!("the lowest of the {} of", layers(self.layers)),
            Agreement::Leading { shared } => format!("the lowest {shared} of the {} of", layers(self.layers)),
            _ => format!("{} of the {} of", self.shared(), layers(self.layers)),
        }
    }

    /// How far the image, which is of `platform`, agrees with it, as a note.
    pub fn agreement(&self, platform: Option<&Platform>) -> String {
        let Self { base, layers: count, .. } = self;
        let other = Some(&self.platform).filter(|of| Some(*of) != platform);
        let other = other.map(|platform| format!(" for {platform}")).unwrap_or_default();
        let of = format!("`{}`{}{other}", base.reference, base.of_release());
        match self.agreement {
            Agreement::Same => format!("found: it is {of} itself, all {}", layers(*count)),
            Agreement::Derived { own } => {
                format!("found: all {} of {of}, and {own} of its own above", layers(*count))
            }
            Agreement::Leading { .. } => {
                format!("found: {} {of}; from there on it is another image of the same make", self.part())
            }
            Agreement::Scattered { .. } | Agreement::Nothing => {
                format!("found: {} {of}, and not from the lowest on", self.part())
            }
        }
    }
}

impl EntryPoint {
    /// What somebody does at this entry_point to ask again.
    pub fn retry(self) -> &'static str {
        match self {
            Self::Review => "apply again",
            Self::Run => "run layerpin again",
        }
    }
}

/// What brings an answer the next time to somebody at `entry_point`.
pub fn help_to_know(why: &UnknownReason, entry_point: EntryPoint) -> String {
    let (cause, asked) = match why {
        UnknownReason::Image { cause, reference } | UnknownReason::Payload { cause, reference } => {
            (cause, Some(reference))
        }
        UnknownReason::Base { cause, base } => (cause, Some(&base.reference)),
        UnknownReason::Cluster { cause, .. } => (cause, None),
        UnknownReason::NoBase { base } => {
            return format!(
                "bring `{}` back to its registry or a mirror, or name another base with --base-image",
                base.reference
            );
        }
        UnknownReason::NoImage { .. } => return format!("push the image, then {}", entry_point.retry()),
        UnknownReason::NoPayload { .. } => {
            return "mirror the release again with `oc adm release mirror`, or name the base with --base-image"
                .to_owned();
        }
        UnknownReason::NothingToCompareWith => {
            return "name the release with --release-image, or the base with --base-image".to_owned();
        }
        UnknownReason::NoPlatform => {
            return "build the image for this platform too, and write the digest of the index".to_owned();
        }
        UnknownReason::NoLinuxPlatform => return PUSH_PLATFORMS.to_owned(),
        UnknownReason::EmptyBase { .. }
        | UnknownReason::NoOsImage { .. }
        | UnknownReason::NoStream { .. }
        | UnknownReason::Malformed { .. } => {
            return "name the base with --base-image or in `acceptedBases` of the policy".to_owned();
        }
    };
    if let Some(help) = asked.and_then(|asked| help_to_look(cause, asked)) {
        return help;
    }
    match cause {
        Cause::Offline => "ask without `--offline`".to_owned(),
        Cause::Refused { host, as_nodes: NodeCredentials::NotAtHand, .. } => {
            format!("name credentials that may read from {host} with `--authfile`")
        }
        Cause::Refused { host, .. } => format!("give the credentials for {host} the right to read it"),
        Cause::NoCredential { .. } => FIX_CREDENTIALS.to_owned(),
        Cause::Forbidden { .. } => help_with_right(entry_point),
        Cause::Blocked { .. } => "name an image of a registry that nodes may pull from".to_owned(),
        Cause::OutsideCluster => "name an image of a registry that the cluster allows".to_owned(),
        Cause::OutsideAllowed => "add the repository to `registries.allow` of the policy".to_owned(),
        _ => {
            format!("{} when it answers; `onUnknown` in the policy says what this costs", entry_point.retry())
        }
    }
}

/// What to do where asking again brings nothing: the registry did answer, or never will. `None` elsewhere.
pub fn help_to_look(cause: &Cause, asked: &ImageReference) -> Option<String> {
    match cause {
        Cause::InvalidResponse { .. } | Cause::NotAnImage { .. } | Cause::DigestMismatch { .. } => {
            Some(look(asked))
        }
        Cause::ForbiddenAddress { .. } => Some("name the registry by another address".to_owned()),
        Cause::Untrusted { .. } => Some(TRUST.to_owned()),
        _ => None,
    }
}

/// What to do where the cluster gave no answer.
pub fn help_to_ask_cluster(cause: &Cause, entry_point: EntryPoint) -> String {
    let again = entry_point.retry();
    match (cause, entry_point) {
        (Cause::Forbidden { .. }, _) => help_with_right(entry_point),
        // The server may not be allowed what the user is.
        (_, EntryPoint::Review) => {
            format!("{again} when the API server answers; `layerpin check` asks the same from outside")
        }
        (_, EntryPoint::Run) => format!("{again} when the API server answers"),
    }
}

/// What to do where the cluster may not be asked.
pub fn help_with_right(entry_point: EntryPoint) -> String {
    format!(
        "give the account that asks the rights in deploy/base/cluster_role.yaml, then {}",
        entry_point.retry()
    )
}

/// What tells what is at `asked`.
pub fn look(asked: &ImageReference) -> String {
    format!("look at what is there: skopeo inspect --raw docker://{asked}")
}

/// What to do about credentials that are there and cannot be used.
pub const FIX_CREDENTIALS: &str =
    "mend the entry or the helper that it names, or name another auth file with `--authfile`";
/// What to do about an index of no image that a node could run.
pub const PUSH_PLATFORMS: &str =
    "push an image for the platforms of the nodes, and write the digest of its index";
/// What to do about a registry whose certificate nothing vouches for.
const TRUST: &str = "mend its certificate, or have nodes and Layerpin trust its CA: `additionalTrustedCA` of image.config.openshift.io/cluster, or `--cert-dir`";
/// Bases that are listed in one finding.
const MAX_BASES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::pull_spec::PullSpec;

    #[test]
    fn a_run_is_run_again() {
        let cause = Cause::OutOfTime { host: "api:6443".into() };
        let right = Cause::Forbidden { kind: "Nodes".into(), reason: "r".into() };
        let reference = PullSpec::parse("q.io/acme/os:1").unwrap();
        let help = |entry_point| {
            let why = UnknownReason::NoImage { reference: reference.clone() };
            [
                help_to_know(&why, entry_point),
                help_to_ask_cluster(&cause, entry_point),
                help_to_ask_cluster(&right, entry_point),
            ]
        };
        assert_eq!(
            help(EntryPoint::Review),
            [
                "push the image, then apply again",
                "apply again when the API server answers; `layerpin check` asks the same from outside",
                "give the account that asks the rights in deploy/base/cluster_role.yaml, then apply again",
            ]
        );
        assert_eq!(
            help(EntryPoint::Run),
            [
                "push the image, then run layerpin again",
                "run layerpin again when the API server answers",
                "give the account that asks the rights in deploy/base/cluster_role.yaml, then run layerpin again",
            ]
        );
    }

    #[test]
    fn what_asking_again_does_not_mend_has_another_help() {
        let reference = PullSpec::parse("q.io/acme/os:1").unwrap();
        let look = "look at what is there: skopeo inspect --raw docker://q.io/acme/os:1";
        for (cause, expected) in [
            (Cause::InvalidResponse { host: "q.io".into(), reason: "r".into() }, look),
            (Cause::NotAnImage { reason: "r".into() }, look),
            (Cause::ForbiddenAddress { host: "q.io".into() }, "name the registry by another address"),
            (Cause::Untrusted { host: "q.io".into(), reason: "UnknownIssuer".into() }, TRUST),
            (Cause::Blocked { scope: "q.io".into() }, "name an image of a registry that nodes may pull from"),
            (Cause::NoCredential { host: "q.io".into(), reason: "r".into() }, FIX_CREDENTIALS),
            (
                Cause::OutOfTime { host: "q.io".into() },
                "apply again when it answers; `onUnknown` in the policy says what this costs",
            ),
        ] {
            let why = UnknownReason::Image { reference: reference.clone(), cause };
            assert_eq!(help_to_know(&why, EntryPoint::Review), expected, "{why}");
        }
    }
}
