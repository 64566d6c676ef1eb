//! The texts about lineage and missing answers, the same in findings, reports and drawings.
//!
//! Texts from outside that have no checked form are cleaned before they get here.

use crate::lineage::bases::{Base, BaseOrigin};
use crate::lineage::layers::Agreement;
use crate::lineage::{
    Ancestry, BaseStatus, Closest, ForeignReason, Lineage, OLD_VERSION, Rewriting, UnknownReason, VERSION,
};
use crate::model::facts::image::{Platform, PlatformImage};
use crate::model::facts::{Cause, Facts, NodeCredentials};
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::EntryPoint;
use crate::model::pull_spec::PullSpec;
use crate::text::shown;

/// A pull spec for the middle of a sentence: a digest is cut after its first twelve digits.
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

/// `pool a`, `pools a and b`.
pub fn pools(names: &[String]) -> String {
    format!("{} {}", if names.len() == 1 { "pool" } else { "pools" }, list(names))
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
    /// What the image should be built on, for the middle of a sentence.
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

    /// The release of the cluster, for the second half of a sentence. `None` when it is not known.
    pub fn running(&self) -> Option<String> {
        let base = self.accepted.first()?;
        let release = shown(base.release.as_deref()?);
        Some(match base.origin {
            BaseOrigin::ReleaseOption => format!("the release is {release}"),
            _ => format!("the cluster runs {release}"),
        })
    }

    /// Notes on the bases that were expected, and on the one that was found.
    pub fn comparison(&self) -> Vec<String> {
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
        if let Ancestry::Foreign { closest, .. } | Ancestry::Unprovable { closest, .. } = &self.ancestry {
            notes.extend(closest.as_ref().map(|closest| closest.agreement(self.platform.as_ref())));
        }
        notes
    }

    /// What to do about an image that is built on something else.
    pub fn rebuild(&self) -> String {
        match self.accepted.first() {
            Some(base) => format!("rebuild it on this base: {}", base.from_line()),
            None => "name the base with `--release-image` or `--base-image`".to_owned(),
        }
    }

    /// The result, as reports write it.
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

    /// Why the image is not accepted, or only for the time of an upgrade. `None` for an image that is.
    pub fn reason(&self) -> Option<String> {
        match &self.ancestry {
            Ancestry::Same { base } | Ancestry::Derived { base, .. } => {
                (base.status == BaseStatus::Leaving).then(|| self.leaving(base))
            }
            Ancestry::Foreign { reason, closest } => Some(self.foreign(*reason, closest.as_ref())),
            Ancestry::Unprovable { rewriting: Rewriting::Squashed, .. } => {
                Some("its layers, including those of the base, were squashed into one".to_owned())
            }
            Ancestry::Unprovable { rewriting: Rewriting::Rechunked, .. } => {
                Some("its content was split into new layers (rechunked)".to_owned())
            }
            Ancestry::Unknown(reason) => Some(reason.to_string()),
        }
    }

    /// `built on 4.18.13; the cluster is being upgraded to 4.18.14`.
    fn leaving(&self, base: &Base) -> String {
        let target = self.accepted.first().and_then(|base| base.release.as_deref()).map(shown);
        match target {
            Some(release) => {
                format!("built on {}; the cluster is being upgraded to {release}", base.release_name())
            }
            None => format!("built on {}, from which the cluster is being upgraded", base.release_name()),
        }
    }

    fn foreign(&self, reason: ForeignReason, closest: Option<&Closest>) -> String {
        let built_on = closest.map(|closest| closest.base.name()).unwrap_or_default();
        let running = self.running().unwrap_or_else(|| format!("{} is expected", self.wanted()));
        match reason {
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
            ForeignReason::NoBaseForPlatform => "no accepted base exists for this platform".to_owned(),
            ForeignReason::NothingShared => format!("it shares no layer with {}", self.wanted()),
            ForeignReason::PartOfBase => match closest {
                Some(closest) => format!("it has only {} {built_on}", closest.part()),
                None => format!("it has only part of {}", self.wanted()),
            },
        }
    }
}

/// A note on what the labels and annotations of an image say about its origin, which proves nothing.
/// `None` when they say nothing.
pub fn claim(image: &PlatformImage) -> Option<String> {
    let label = |key: &str| image.labels.get(key).map(|text| shown(text));
    let annotation = |key: &str| image.annotations.get(key).map(|text| shown(text));
    let version = label(VERSION).or_else(|| label(OLD_VERSION));
    let base = label("baseOSContainerImage")
        .or_else(|| annotation("org.opencontainers.image.base.name"))
        .or_else(|| annotation("org.opencontainers.image.base.digest"));
    let claims = [version.map(|text| format!("version `{text}`")), base.map(|text| format!("base `{text}`"))];
    let claims: Vec<_> = claims.into_iter().flatten().collect();
    (!claims.is_empty()).then(|| format!("its labels name {}, which proves nothing", list(&claims)))
}

impl Lineage {
    /// A note on what the labels of the image say about its origin, which proves nothing. `None` when
    /// they say nothing.
    pub fn claim(&self, image: &ImageReference, facts: &Facts) -> Option<String> {
        let image = facts.image(&image.pull_spec()).known()?;
        claim(image.platforms.get(self.platform.as_ref()?)?.known()?)
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

    /// A note on how far the image, which is of `platform`, agrees with the base.
    fn agreement(&self, platform: Option<&Platform>) -> String {
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
                format!("found: {} {of}; the layers above them differ", self.part())
            }
            Agreement::Scattered { .. } | Agreement::Nothing => {
                format!("found: {} {of}, but not the lowest ones", self.part())
            }
        }
    }
}

impl EntryPoint {
    /// What the author of an object does to have it judged again.
    pub fn retry(self) -> &'static str {
        match self {
            Self::Review => "apply again",
            Self::Run => "run layerpin again",
        }
    }
}

/// Where an answer is missing from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A registry, which was asked for this.
    Registry(&'a PullSpec),
    /// The API server of the cluster.
    Cluster,
}

/// What to do when the lineage of an image is not known.
pub fn help_for_unknown(reason: &UnknownReason, entry_point: EntryPoint) -> String {
    match reason {
        UnknownReason::Image { cause, reference } | UnknownReason::Payload { cause, reference } => {
            help_for(cause, Source::Registry(reference), entry_point)
        }
        UnknownReason::Base { cause, base } => {
            help_for(cause, Source::Registry(&base.reference), entry_point)
        }
        UnknownReason::Cluster { cause, .. } => help_for(cause, Source::Cluster, entry_point),
        UnknownReason::NoBase { base } => format!(
            "push `{}` to its registry or a mirror again, or name another base with `--base-image`",
            base.reference
        ),
        UnknownReason::NoImage { .. } => format!("push the image, then {}", entry_point.retry()),
        UnknownReason::NoPayload { .. } => {
            "mirror the release again with `oc adm release mirror`, or name the base with `--base-image`"
                .to_owned()
        }
        UnknownReason::NothingToCompareWith => {
            "name the release with `--release-image`, or the base with `--base-image`".to_owned()
        }
        UnknownReason::NoPlatform => {
            "build the image for this platform too, and use the digest of the index".to_owned()
        }
        UnknownReason::NoLinuxPlatform => PUSH_PLATFORMS.to_owned(),
        UnknownReason::EmptyBase { .. }
        | UnknownReason::NoOsImage { .. }
        | UnknownReason::NoStream { .. }
        | UnknownReason::Malformed { .. } => {
            "name the base with `--base-image` or in `acceptedBases` of the policy".to_owned()
        }
    }
}

/// What to do about an answer that is missing.
pub fn help_for(cause: &Cause, source: Source<'_>, entry_point: EntryPoint) -> String {
    let retry = entry_point.retry();
    match (cause, source) {
        // The registry did answer, so that a retry changes nothing.
        (
            Cause::InvalidResponse { .. } | Cause::NotAnImage { .. } | Cause::DigestMismatch { .. },
            Source::Registry(reference),
        ) => inspect(reference),
        (Cause::ForbiddenAddress { .. }, _) => "use another address of the registry".to_owned(),
        (Cause::Untrusted { .. }, Source::Registry(_)) => TRUST_CA.to_owned(),
        (Cause::Offline, _) => "run layerpin without `--offline`".to_owned(),
        (Cause::NotRecorded, _) => "record the facts again with `--save-facts`".to_owned(),
        (Cause::Refused { as_nodes: NodeCredentials::NotAtHand, .. }, _) => {
            "pass the pull secret of the nodes with `--authfile`".to_owned()
        }
        (Cause::Refused { host, .. }, _) => format!("give the credentials for {host} pull access"),
        (Cause::NoCredential { .. }, _) => {
            "fix the entry or its credential helper, or pass another file with `--authfile`".to_owned()
        }
        (Cause::Blocked { .. }, _) => "use an image from a registry that nodes can pull from".to_owned(),
        (Cause::OutsideCluster, _) => "use an image from a registry that the cluster allows".to_owned(),
        (Cause::OutsideAllowed, _) => "add the repository to `registries.allow` of the policy".to_owned(),
        (Cause::Forbidden { .. }, _) => {
            format!("give the account the permissions in deploy/base/cluster_role.yaml, then {retry}")
        }
        // The server may lack permissions that the user has.
        (_, Source::Cluster) if entry_point == EntryPoint::Review => {
            format!("{retry} when the API server answers; `layerpin check` asks it with your own permissions")
        }
        (_, Source::Cluster) => format!("{retry} when the API server answers"),
        (_, Source::Registry(_)) => {
            format!("{retry} when the registry answers; `onUnknown` in the policy sets the level")
        }
    }
}

/// The command that shows what a registry has under `reference`.
pub fn inspect(reference: &PullSpec) -> String {
    format!("inspect it: skopeo inspect --raw docker://{reference}")
}

/// The command that prints the digest of `reference`, in backticks.
pub fn digest_command(reference: &str) -> String {
    format!("`skopeo inspect --format '{{{{.Digest}}}}' docker://{reference}`")
}

/// What to do about an index without an image that a node could run.
pub const PUSH_PLATFORMS: &str =
    "push an image for the platforms of the nodes, and use the digest of its index";
const TRUST_CA: &str = "fix its certificate, or add its CA to `additionalTrustedCA` of image.config.openshift.io/cluster, or to `--cert-dir`";
/// The number of bases that a finding lists.
const MAX_BASES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> PullSpec {
        PullSpec::parse("q.io/acme/os:1").unwrap()
    }

    #[test]
    fn help_says_how_to_retry_at_the_entry_point() {
        let timeout = Cause::OutOfTime { host: "api:6443".into() };
        let forbidden = Cause::Forbidden { kind: "Nodes".into(), reason: "r".into() };
        let help = |entry_point| {
            let reason = UnknownReason::NoImage { reference: reference() };
            [
                help_for_unknown(&reason, entry_point),
                help_for(&timeout, Source::Cluster, entry_point),
                help_for(&forbidden, Source::Cluster, entry_point),
            ]
        };
        assert_eq!(
            help(EntryPoint::Review),
            [
                "push the image, then apply again",
                "apply again when the API server answers; `layerpin check` asks it with your own permissions",
                "give the account the permissions in deploy/base/cluster_role.yaml, then apply again",
            ]
        );
        assert_eq!(
            help(EntryPoint::Run),
            [
                "push the image, then run layerpin again",
                "run layerpin again when the API server answers",
                "give the account the permissions in deploy/base/cluster_role.yaml, then run layerpin again",
            ]
        );
    }

    #[test]
    fn help_does_not_advise_a_retry_that_changes_nothing() {
        let inspect = "inspect it: skopeo inspect --raw docker://q.io/acme/os:1";
        for (cause, expected) in [
            (Cause::InvalidResponse { host: "q.io".into(), reason: "r".into() }, inspect),
            (Cause::NotAnImage { reason: "r".into() }, inspect),
            (Cause::ForbiddenAddress { host: "q.io".into() }, "use another address of the registry"),
            (Cause::Untrusted { host: "q.io".into(), reason: "UnknownIssuer".into() }, TRUST_CA),
            (
                Cause::Blocked { scope: "q.io".into() },
                "use an image from a registry that nodes can pull from",
            ),
            (
                Cause::NoCredential { host: "q.io".into(), reason: "r".into() },
                "fix the entry or its credential helper, or pass another file with `--authfile`",
            ),
            (
                Cause::OutOfTime { host: "q.io".into() },
                "apply again when the registry answers; `onUnknown` in the policy sets the level",
            ),
        ] {
            let reason = UnknownReason::Image { reference: reference(), cause };
            assert_eq!(help_for_unknown(&reason, EntryPoint::Review), expected, "{reason}");
        }
    }
}
