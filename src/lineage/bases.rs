//! Which bases an image may be built on in a pool, and which other bases are known.
//!
//! Owns the order of the sources of the current base, and the check that each belongs to the release that
//! the cluster runs: during an upgrade every source still has the previous release for a while. A check
//! that is not possible is reported as a note.

use derive_more::Display;

use crate::lineage::UnknownReason;
use crate::model::facts::cluster::{Cluster, ClusterVersion, Release, RolloutState};
use crate::model::facts::image::{OsImage, Payload};
use crate::model::facts::{Cause, Fact, Facts};
use crate::model::image_reference::ImageReference;
use crate::model::pull_spec::PullSpec;
use crate::model::question::Question;
use crate::policy::Policy;
use crate::pools::{AffectedPool, minor};
use crate::text::shown;

/// An image that others are built on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The pull spec.
    pub reference: PullSpec,
    /// The release, such as `4.18.14`, where it is known.
    pub release: Option<String>,
    /// The OS stream, such as `rhel-9`, where it is known.
    pub stream: Option<String>,
    /// What names it.
    pub origin: BaseOrigin,
    /// Whether an image may be built on it.
    pub status: BaseStatus,
}

/// What names a base.
#[derive(Clone, Copy, Debug, Display, PartialEq, Eq)]
pub enum BaseOrigin {
    /// `OSImageStream/cluster`.
    #[display("OSImageStream/cluster")]
    Stream,
    /// The ControllerConfig.
    #[display("ControllerConfig/machine-config-controller")]
    ControllerConfig,
    /// The ConfigMap `machine-config-osimageurl`.
    #[display("ConfigMap/machine-config-osimageurl")]
    ConfigMap,
    /// The payload of a release of the cluster.
    #[display("the release payload")]
    Payload,
    /// The payload that `--release-image` names.
    #[display("--release-image")]
    ReleaseOption,
    /// `--base-image`.
    #[display("--base-image")]
    BaseOption,
    /// `acceptedBases` of the policy.
    #[display("acceptedBases of the policy")]
    Policy,
}

/// Whether an image may be built on a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BaseStatus {
    /// It may.
    Accepted,
    /// It may during the upgrade: it is the base of the previous release.
    Leaving,
    /// It may not; it is known so that findings can name it.
    Other,
}

/// The bases that the image of a pool is compared with.
#[derive(Clone, Debug, Default)]
pub struct ExpectedBases {
    /// The accepted bases; the first is the one to build on.
    pub accepted: Vec<Base>,
    /// Bases of the same releases that are not accepted, such as those of other streams.
    pub siblings: Vec<Base>,
    /// What is not known and could add a base.
    pub missing: Vec<UnknownReason>,
    /// Remarks on the sources of the bases.
    pub notes: Vec<String>,
    /// Questions whose answers may add bases.
    pub questions: Vec<Question>,
}

/// The bases that are accepted in `pool`. Without a pool, those of every stream of the release are.
pub fn expected(pool: Option<&AffectedPool<'_>>, facts: &Facts, policy: &Policy) -> ExpectedBases {
    let mut expected = ExpectedBases::default();
    let stream = pool.and_then(|pool| pool.stream(&facts.cluster));
    let wanted = Wanted { has_pool: pool.is_some(), stream, facts };
    for reference in &facts.given.base_images {
        expected.add(accepted(reference, BaseOrigin::BaseOption));
    }
    if let Some(release) = &facts.given.release_image {
        expected.payload(
            release,
            ImageSelection { stream, status: BaseStatus::Accepted, origin: BaseOrigin::ReleaseOption },
            facts,
        );
    }
    if facts.given.is_empty() && !facts.cluster.is_unasked() {
        expected.of_cluster(wanted);
    }
    for reference in policy.accepted_bases() {
        expected.add(accepted(reference, BaseOrigin::Policy));
    }
    expected
}

/// Bases that an image may be built on although they are not accepted: those of earlier releases of the
/// cluster and of its available updates.
pub fn others(facts: &Facts) -> ExpectedBases {
    let mut others = ExpectedBases::default();
    let Some(version) = facts.cluster.version.known() else { return others };
    let given = facts.given.release_image.as_ref();
    let mut releases: Vec<&Release> = vec![&version.desired];
    releases.extend(version.history.iter().map(|entry| &entry.release).take(MAX_HISTORY));
    releases.extend(version.available.iter().take(MAX_AVAILABLE));
    let mut seen: Vec<PullSpec> = given.map(ImageReference::pull_spec).into_iter().collect();
    for release in releases {
        let Ok(reference) = ImageReference::parse(&release.image) else { continue };
        let reference = reference.pull_spec();
        if !seen.contains(&reference) {
            others.payload(
                &reference,
                ImageSelection { stream: None, status: BaseStatus::Other, origin: BaseOrigin::Payload },
                facts,
            );
            seen.push(reference);
        }
    }
    others
}

/// Which images of a payload are bases, and with which status.
#[derive(Clone, Copy)]
struct ImageSelection<'a> {
    /// The stream; `None` selects all.
    stream: Option<&'a str>,
    status: BaseStatus,
    origin: BaseOrigin,
}

/// For what the bases are wanted.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    has_pool: bool,
    /// The stream of the pool.
    stream: Option<&'a str>,
    facts: &'a Facts,
}

/// Whether a source belongs to a release.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReleaseMatch {
    Same,
    Unverified,
    Other,
}

impl ExpectedBases {
    fn of_cluster(&mut self, wanted: Wanted<'_>) {
        let cluster = &wanted.facts.cluster;
        let version = match &cluster.version {
            Fact::Known(version) => Some(version),
            Fact::Absent => {
                self.notes.push(
                    "the cluster has no ClusterVersion, so the release of the base was not checked"
                        .to_owned(),
                );
                None
            }
            Fact::Unknown(cause) => {
                self.notes.push(cause.reading("ClusterVersion/version"));
                None
            }
        };
        let current = version.map(|version| &version.desired);
        let status = BaseStatus::Accepted;
        if !self.of_streams(current, wanted) && !self.of_objects(current, status, wanted) {
            match current {
                Some(current) => self.of_payload(current, status, wanted),
                None => self.missing_from_cluster(cluster),
            }
        }
        if let Some(leaving) = version.and_then(leaving)
            && !self.of_objects(Some(leaving), BaseStatus::Leaving, wanted)
        {
            self.of_payload(leaving, BaseStatus::Leaving, wanted);
        }
    }

    /// Adds the images of OSImageStream, if the cluster has one and it belongs to the release `current`.
    fn of_streams(&mut self, current: Option<&Release>, wanted: Wanted<'_>) -> bool {
        let Some(streams) = wanted.facts.cluster.streams.known() else { return false };
        if streams.available.is_empty() {
            return false;
        }
        let of = streams.release_image.as_deref();
        match current.map_or(ReleaseMatch::Unverified, |current| same_image(of, &current.image)) {
            ReleaseMatch::Other => {
                self.notes.push(format!(
                    "{} was ignored: it belongs to another release payload than `status.desired` of ClusterVersion",
                    BaseOrigin::Stream
                ));
                return false;
            }
            ReleaseMatch::Unverified => self.note_unverified(BaseOrigin::Stream),
            ReleaseMatch::Same => {}
        }
        let mut found = false;
        for (name, image) in &streams.available {
            let is_wanted = wanted.stream.is_none_or(|stream| stream == name);
            found |= is_wanted;
            self.text(image, BaseOrigin::Stream, |reference| Base {
                reference,
                release: current.map(|current| current.version.clone()),
                stream: Some(name.clone()),
                origin: BaseOrigin::Stream,
                status: if is_wanted { BaseStatus::Accepted } else { BaseStatus::Other },
            });
        }
        if let Some(stream) = wanted.stream.filter(|_| !found) {
            self.missing.push(UnknownReason::NoStream { stream: shown(stream), source: BaseOrigin::Stream });
        }
        true
    }

    /// Adds the image of ControllerConfig or of the ConfigMap, the first that belongs to `release`.
    fn of_objects(&mut self, release: Option<&Release>, status: BaseStatus, wanted: Wanted<'_>) -> bool {
        let cluster = &wanted.facts.cluster;
        let may_have_streams = wanted.stream.is_some() && !matches!(cluster.streams, Fact::Absent);
        // Both have a single image, and do not name its stream.
        if has_streams(cluster, release) || may_have_streams {
            return false;
        }
        let controller_config = cluster
            .controller_config
            .known()
            .map(|config| (&config.base_os_container_image, config.release_version.as_deref()));
        let config_map = cluster
            .os_image_url
            .known()
            .map(|map| (&map.base_os_container_image, Some(map.release_version.as_str())));
        for (origin, source) in
            [(BaseOrigin::ControllerConfig, controller_config), (BaseOrigin::ConfigMap, config_map)]
        {
            let Some((image, of)) = source.filter(|(image, _)| !image.is_empty()) else { continue };
            let belongs = match (of, release) {
                (Some(of), Some(release)) if of == release.version => ReleaseMatch::Same,
                (Some(_), Some(_)) => ReleaseMatch::Other,
                _ => ReleaseMatch::Unverified,
            };
            match belongs {
                ReleaseMatch::Same => {}
                ReleaseMatch::Unverified if status == BaseStatus::Accepted => self.note_unverified(origin),
                ReleaseMatch::Unverified => continue,
                ReleaseMatch::Other => {
                    if status == BaseStatus::Accepted {
                        self.notes.push(format!(
                            "{origin} was ignored: it belongs to {}, but the cluster's release is {}",
                            shown(of.unwrap_or_default()),
                            shown(release.map_or("", |release| &release.version)),
                        ));
                    }
                    continue;
                }
            }
            self.text(image, origin, |reference| Base {
                reference,
                release: release.map(|release| release.version.clone()),
                stream: None,
                origin,
                status,
            });
            return true;
        }
        false
    }

    fn of_payload(&mut self, release: &Release, status: BaseStatus, wanted: Wanted<'_>) {
        let Wanted { has_pool, stream, facts } = wanted;
        let reference = match ImageReference::parse(&release.image) {
            Ok(reference) => reference.pull_spec(),
            Err(error) => {
                let message =
                    format!("the payload of {} is not a valid image: {error}", shown(&release.version));
                self.missing.push(UnknownReason::Malformed { message });
                return;
            }
        };
        let has_default = has_pool && !has_streams(&facts.cluster, Some(release));
        let default = facts.payload(&reference).known().filter(|_| has_default).and_then(default_stream);
        let selection = ImageSelection { stream: stream.or(default), status, origin: BaseOrigin::Payload };
        self.payload(&reference, selection, facts);
    }

    fn payload(&mut self, reference: &ImageReference, selection: ImageSelection<'_>, facts: &Facts) {
        let reference = reference.pull_spec();
        let payload = match facts.payload(&reference) {
            Fact::Known(payload) => payload,
            Fact::Absent => return self.missing.push(UnknownReason::NoPayload { reference }),
            Fact::Unknown(cause) => {
                let question = Question::Payload { reference: reference.clone() };
                self.questions.extend(Some(question).filter(|question| !question.is_answered_by(facts)));
                return self.missing.push(UnknownReason::Payload { reference, cause: cause.clone() });
            }
        };
        let mut found = false;
        for (tag, image) in os_images(payload) {
            let stream = stream_of(tag, image);
            let is_selected = selection.stream.is_none_or(|selected| stream == Some(selected));
            found |= is_selected;
            self.add(Base {
                reference: image.reference.pull_spec(),
                release: Some(payload.version.clone()),
                stream: stream.map(str::to_owned),
                origin: selection.origin,
                status: if is_selected { selection.status } else { BaseStatus::Other },
            });
        }
        if !found && selection.status != BaseStatus::Other {
            self.missing.push(match selection.stream {
                Some(stream) => UnknownReason::NoStream { stream: shown(stream), source: selection.origin },
                None => UnknownReason::NoOsImage { reference },
            });
        }
    }

    fn missing_from_cluster(&mut self, cluster: &Cluster) {
        let causes = [
            ("ClusterVersion/version", cluster.version.cause()),
            ("OSImageStream/cluster", cluster.streams.cause()),
            ("ControllerConfig/machine-config-controller", cluster.controller_config.cause()),
            ("ConfigMap/machine-config-osimageurl", cluster.os_image_url.cause()),
        ];
        let first = causes.into_iter().find_map(|(object, cause)| Some((object, cause?)));
        // A Kubernetes cluster that is not OpenShift has none of them: no base, as without a cluster.
        self.missing
            .extend(first.map(|(object, cause)| UnknownReason::Cluster { object, cause: cause.clone() }));
    }

    /// Adds the base with the image that `origin` names in `text`.
    fn text(&mut self, text: &str, origin: BaseOrigin, base: impl FnOnce(PullSpec) -> Base) {
        match PullSpec::parse(text) {
            Ok(reference) => self.add(base(reference)),
            Err(error) => self.missing.push(UnknownReason::Malformed {
                message: format!("the image in {origin} is not valid: {error}"),
            }),
        }
    }

    fn add(&mut self, base: Base) {
        let known =
            self.accepted.iter().chain(&self.siblings).any(|earlier| earlier.reference == base.reference);
        match base.status {
            _ if known => {}
            BaseStatus::Accepted | BaseStatus::Leaving => self.accepted.push(base),
            BaseStatus::Other => self.siblings.push(base),
        }
    }

    fn note_unverified(&mut self, origin: BaseOrigin) {
        self.notes.push(format!("could not verify that {origin} belongs to the cluster's release"));
    }
}

/// The release that the cluster is being upgraded from: the last completed one, during an upgrade.
pub fn leaving(version: &ClusterVersion) -> Option<&Release> {
    let newest = version.history.first()?;
    if newest.state == RolloutState::Completed {
        return None;
    }
    let completed = version.history.iter().find(|entry| entry.state == RolloutState::Completed)?;
    Some(&completed.release).filter(|release| release.version != version.desired.version)
}

/// The operating system images of a payload that images can be built on, by tag.
fn os_images(payload: &Payload) -> impl Iterator<Item = (&str, &OsImage)> {
    let all = payload.os_images.iter().map(|(tag, image)| (tag.as_str(), image));
    // Up to 4.11 this is an image with the operating system as an archive in it.
    all.filter(|(tag, _)| *tag != "machine-os-content")
}

/// The stream of an image of a payload: that in the payload, otherwise that of its tag.
fn stream_of<'a>(tag: &'a str, image: &'a OsImage) -> Option<&'a str> {
    let of_tag = || OS_TAGS.iter().find(|os| os.tag == tag).and_then(|os| os.stream);
    image.stream.as_deref().or_else(of_tag)
}

/// The stream of the default image of pools, on a cluster without OSImageStream.
fn default_stream(payload: &Payload) -> Option<&str> {
    let tag = default_tags().find(|tag| payload.os_images.contains_key(*tag))?;
    stream_of(tag, payload.os_images.get(tag)?)
}

/// The names of the image that pools get which choose no stream, up to 4.x: its tag in the payload, or
/// its stream. The first that a release has counts.
pub fn default_names() -> impl Iterator<Item = &'static str> {
    default_tags().chain(["rhel-9"])
}

fn default_tags() -> impl Iterator<Item = &'static str> {
    OS_TAGS.iter().filter(|os| os.is_default).map(|os| os.tag)
}

/// An operating system image in release payloads.
struct OsTag {
    tag: &'static str,
    /// The stream, where payloads without streams of their own leave no doubt about it.
    stream: Option<&'static str>,
    /// Whether pools that choose no stream get it, up to 4.x; the first that a payload has.
    is_default: bool,
}

impl OsTag {
    const fn new(tag: &'static str, stream: Option<&'static str>) -> Self {
        Self { tag, stream, is_default: true }
    }
}

const OS_TAGS: [OsTag; 6] = [
    OsTag::new("rhel-coreos", Some("rhel-9")),
    OsTag::new("stream-coreos", None),
    OsTag::new("rhel-coreos-8", Some("rhel-8")),
    OsTag::new("centos-stream-coreos-9", Some("centos-9")),
    OsTag::new("fedora-coreos", None),
    OsTag { is_default: false, ..OsTag::new("rhel-coreos-10", Some("rhel-10")) },
];

/// Whether pools of the cluster may be on different streams: OSImageStream lists some, or it could not be
/// read and the release has that kind.
fn has_streams(cluster: &Cluster, release: Option<&Release>) -> bool {
    match &cluster.streams {
        Fact::Known(streams) => !streams.available.is_empty(),
        Fact::Absent | Fact::Unknown(Cause::NotAsked) => false,
        Fact::Unknown(_) => {
            release.and_then(|release| minor(&release.version)).is_none_or(|release| release >= (4, 21))
        }
    }
}

/// Whether two pull specs of a payload name the same image: the digests decide, because one may name a
/// mirror.
fn same_image(of: Option<&str>, desired: &str) -> ReleaseMatch {
    let Some(of) = of.filter(|_| !desired.is_empty()) else { return ReleaseMatch::Unverified };
    if of == desired {
        return ReleaseMatch::Same;
    }
    match [of, desired].map(|text| ImageReference::parse(text).ok()) {
        [Some(one), Some(other)] => match (one.digest(), other.digest()) {
            (Some(one), Some(other)) if one == other => ReleaseMatch::Same,
            (Some(_), Some(_)) => ReleaseMatch::Other,
            _ => ReleaseMatch::Unverified,
        },
        _ => ReleaseMatch::Unverified,
    }
}

fn accepted(reference: &ImageReference, origin: BaseOrigin) -> Base {
    let status = BaseStatus::Accepted;
    Base { reference: reference.pull_spec(), release: None, stream: None, origin, status }
}

/// Releases of the cluster's history that are considered; the payload of each is read.
const MAX_HISTORY: usize = 5;
/// Available updates that are considered.
const MAX_AVAILABLE: usize = 2;
