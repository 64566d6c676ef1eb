//! Which bases an image may be built on, pool by pool, and which others are known.
//!
//! Owns the order in which the sources of the current base are believed, and the check that each
//! still belongs to the release that the cluster runs: every one of them is left over from the
//! release before for a while during an upgrade. What could not be checked is said, not assumed.

use std::fmt;

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
    /// The pull spec, as registries are asked for it.
    pub reference: PullSpec,
    /// The release that it belongs to, such as `4.18.14`, where that is known.
    pub release: Option<String>,
    /// The OS stream that it belongs to, such as `rhel-9`, where that is known.
    pub stream: Option<String>,
    /// Who names it.
    pub origin: BaseOrigin,
    /// Whether an image may be built on it.
    pub status: BaseStatus,
}

/// Who names a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseOrigin {
    /// `OSImageStream/cluster`.
    Stream,
    /// The ControllerConfig.
    ControllerConfig,
    /// The ConfigMap `machine-config-osimageurl`.
    ConfigMap,
    /// The payload of a release of the cluster.
    Payload,
    /// The payload that `--release-image` names.
    ReleaseOption,
    /// `--base-image`.
    BaseOption,
    /// `acceptedBases` of the policy.
    Policy,
}

impl fmt::Display for BaseOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Stream => "OSImageStream/cluster",
            Self::ControllerConfig => "ControllerConfig/machine-config-controller",
            Self::ConfigMap => "ConfigMap/machine-config-osimageurl",
            Self::Payload => "the release payload",
            Self::ReleaseOption => "--release-image",
            Self::BaseOption => "--base-image",
            Self::Policy => "acceptedBases of the policy",
        })
    }
}

/// Whether an image may be built on a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BaseStatus {
    /// It may.
    Accepted,
    /// It may while the upgrade lasts: it is the base of the release that the cluster is leaving.
    Leaving,
    /// It may not: it is known so that an image can be told to be built on it.
    Other,
}

/// What a pool's image is measured by.
#[derive(Clone, Debug, Default)]
pub struct ExpectedBases {
    /// The bases that count, the first being the one to build on.
    pub accepted: Vec<Base>,
    /// Bases of the same release that do not count: those of other streams.
    pub siblings: Vec<Base>,
    /// What is not known and might add a base.
    pub missing: Vec<UnknownReason>,
    /// What a reader should know of where the bases are from.
    pub notes: Vec<String>,
    /// What must be asked to know more.
    pub questions: Vec<Question>,
}

/// The bases that count for `pool`. `None` is an image that is looked at on its own: the base of any
/// stream of the release counts then.
pub fn expected(pool: Option<&AffectedPool<'_>>, facts: &Facts, policy: &Policy) -> ExpectedBases {
    let mut expected = ExpectedBases::default();
    let stream = pool.and_then(|pool| pool.stream(&facts.cluster));
    for reference in &facts.given.base_images {
        expected.add(plain(reference, BaseOrigin::BaseOption));
    }
    if let Some(release) = &facts.given.release_image {
        expected.payload(
            release,
            ImageSelection { stream, status: BaseStatus::Accepted, origin: BaseOrigin::ReleaseOption },
            facts,
        );
    }
    if facts.given.is_empty() && !facts.cluster.is_unasked() {
        expected.of_cluster(pool, stream, facts);
    }
    for reference in policy.accepted_bases() {
        expected.add(plain(reference, BaseOrigin::Policy));
    }
    expected
}

/// Bases that an image may turn out to be built on though none of them counts: those of earlier
/// releases of the cluster and of those that it could roll to.
pub fn others(facts: &Facts) -> ExpectedBases {
    let mut others = ExpectedBases::default();
    let Fact::Known(version) = &facts.cluster.version else { return others };
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

/// Which images of a payload are wanted, and as what.
#[derive(Clone, Copy)]
struct ImageSelection<'a> {
    /// The stream; `None` wants them all.
    stream: Option<&'a str>,
    status: BaseStatus,
    origin: BaseOrigin,
}

/// Whether a source belongs to a release.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReleaseMatch {
    Surely,
    PerhapsOnly,
    Not,
}

impl ExpectedBases {
    fn of_cluster(&mut self, pool: Option<&AffectedPool<'_>>, stream: Option<&str>, facts: &Facts) {
        let cluster = &facts.cluster;
        let version = match &cluster.version {
            Fact::Known(version) => Some(version),
            Fact::Absent => {
                self.notes.push("the cluster has no ClusterVersion to check the base by".to_owned());
                None
            }
            Fact::Unknown(cause) => {
                self.notes.push(cause.of("ClusterVersion/version", "is not known"));
                None
            }
        };
        let current = version.map(|version| &version.desired);
        let status = BaseStatus::Accepted;
        if !self.of_streams(current, stream, cluster) && !self.of_objects(current, stream, status, cluster) {
            match version {
                Some(version) => self.of_payload(&version.desired, pool, stream, status, facts),
                None => self.missing_from_cluster(cluster),
            }
        }
        if let Some(leaving) = version.and_then(leaving)
            && !self.of_objects(Some(leaving), stream, BaseStatus::Leaving, cluster)
        {
            self.of_payload(leaving, pool, stream, BaseStatus::Leaving, facts);
        }
    }

    /// The OS image stream, when the cluster has one and it is of the release `current`.
    fn of_streams(&mut self, current: Option<&Release>, stream: Option<&str>, cluster: &Cluster) -> bool {
        let Fact::Known(streams) = &cluster.streams else { return false };
        if streams.available.is_empty() {
            return false;
        }
        let of = streams.release_image.as_deref();
        match current.map_or(ReleaseMatch::PerhapsOnly, |current| same_image(of, &current.image)) {
            ReleaseMatch::Not => {
                self.notes.push(format!(
                    "{} was passed over: it is of another payload than ClusterVersion desires",
                    BaseOrigin::Stream
                ));
                return false;
            }
            ReleaseMatch::PerhapsOnly => self.not_checked(BaseOrigin::Stream),
            ReleaseMatch::Surely => {}
        }
        let release = current.map(|current| current.version.as_str());
        let mut found = false;
        for (name, image) in &streams.available {
            let wanted = stream.is_none_or(|stream| stream == name);
            let status = if wanted { BaseStatus::Accepted } else { BaseStatus::Other };
            found |= wanted;
            self.text(image, release, Some(name), BaseOrigin::Stream, status);
        }
        if let Some(stream) = stream.filter(|_| !found) {
            self.missing.push(UnknownReason::NoStream { stream: shown(stream), source: BaseOrigin::Stream });
        }
        true
    }

    /// What ControllerConfig and ConfigMap say, the first of them that is of `release`.
    fn of_objects(
        &mut self,
        release: Option<&Release>,
        stream: Option<&str>,
        status: BaseStatus,
        cluster: &Cluster,
    ) -> bool {
        // Both know one image only, and not of which stream it is.
        if has_streams(cluster, release) || (stream.is_some() && !matches!(cluster.streams, Fact::Absent)) {
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
                (Some(of), Some(release)) if of == release.version => ReleaseMatch::Surely,
                (Some(_), Some(_)) => ReleaseMatch::Not,
                _ => ReleaseMatch::PerhapsOnly,
            };
            match belongs {
                ReleaseMatch::Surely => {}
                ReleaseMatch::PerhapsOnly if status == BaseStatus::Accepted => self.not_checked(origin),
                ReleaseMatch::PerhapsOnly => continue,
                ReleaseMatch::Not => {
                    if status == BaseStatus::Accepted {
                        self.notes.push(format!(
                            "{origin} was passed over: it is of {}, and the cluster's release is {}",
                            shown(of.unwrap_or_default()),
                            shown(release.map_or("", |release| &release.version)),
                        ));
                    }
                    continue;
                }
            }
            self.text(image, release.map(|release| release.version.as_str()), None, origin, status);
            return true;
        }
        false
    }

    fn of_payload(
        &mut self,
        release: &Release,
        pool: Option<&AffectedPool<'_>>,
        stream: Option<&str>,
        status: BaseStatus,
        facts: &Facts,
    ) {
        let reference = match ImageReference::parse(&release.image) {
            Ok(reference) => reference.pull_spec(),
            Err(error) => {
                let message =
                    format!("the payload of {} cannot be asked for: {error}", shown(&release.version));
                self.missing.push(UnknownReason::Malformed { message });
                return;
            }
        };
        let default = match facts.payloads.get(&reference) {
            Some(Fact::Known(payload)) if pool.is_some() && !has_streams(&facts.cluster, Some(release)) => {
                default_stream(payload)
            }
            _ => None,
        };
        let wanted = ImageSelection { stream: stream.or(default), status, origin: BaseOrigin::Payload };
        self.payload(&reference, wanted, facts);
    }

    fn payload(&mut self, reference: &ImageReference, wanted: ImageSelection<'_>, facts: &Facts) {
        let reference = reference.pull_spec();
        let payload = match facts.payloads.get(&reference) {
            Some(Fact::Known(payload)) => payload,
            Some(Fact::Absent) => return self.missing.push(UnknownReason::NoPayload { reference }),
            Some(Fact::Unknown(cause)) => {
                return self.missing.push(UnknownReason::Payload { reference, cause: cause.clone() });
            }
            None => {
                self.questions.push(Question::Payload { reference: reference.clone() });
                return self.missing.push(UnknownReason::Payload { reference, cause: Cause::NotAsked });
            }
        };
        let mut found = false;
        for (tag, image) in os_images(payload) {
            let stream = stream_of(tag, image);
            let is_wanted = wanted.stream.is_none_or(|wanted| stream == Some(wanted));
            found |= is_wanted;
            self.add(Base {
                reference: image.reference.pull_spec(),
                release: Some(payload.version.clone()),
                stream: stream.map(str::to_owned),
                origin: wanted.origin,
                status: if is_wanted { wanted.status } else { BaseStatus::Other },
            });
        }
        if !found && wanted.status != BaseStatus::Other {
            self.missing.push(match wanted.stream {
                Some(stream) => UnknownReason::NoStream { stream: shown(stream), source: wanted.origin },
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
        // A Kubernetes that is no OpenShift has none of them: nothing to judge by, as without a cluster.
        self.missing
            .extend(first.map(|(object, cause)| UnknownReason::Cluster { object, cause: cause.clone() }));
    }

    fn text(
        &mut self,
        text: &str,
        release: Option<&str>,
        stream: Option<&str>,
        origin: BaseOrigin,
        status: BaseStatus,
    ) {
        match ImageReference::parse(text) {
            Ok(reference) => self.add(Base {
                reference: reference.pull_spec(),
                release: release.map(str::to_owned),
                stream: stream.map(str::to_owned),
                origin,
                status,
            }),
            Err(error) => self.missing.push(UnknownReason::Malformed {
                message: format!("what {origin} names cannot be asked for: {error}"),
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

    fn not_checked(&mut self, origin: BaseOrigin) {
        self.notes.push(format!("that {origin} is of the cluster's release could not be checked"));
    }
}

/// The release that the cluster is leaving: the last that was completed, while another is under way.
pub fn leaving(version: &ClusterVersion) -> Option<&Release> {
    let newest = version.history.first()?;
    if newest.state == RolloutState::Completed {
        return None;
    }
    let completed = version.history.iter().find(|entry| entry.state == RolloutState::Completed)?;
    Some(&completed.release).filter(|release| release.version != version.desired.version)
}

/// The operating system images of a payload that a node can boot, by tag.
fn os_images(payload: &Payload) -> impl Iterator<Item = (&str, &OsImage)> {
    let all = payload.os_images.iter().map(|(tag, image)| (tag.as_str(), image));
    // Up to 4.11 the operating system came as an archive in an image, which nothing builds on.
    all.filter(|(tag, _)| *tag != "machine-os-content")
}

/// The stream of a payload's image: what the payload says, else what its tag has always meant.
fn stream_of<'a>(tag: &'a str, image: &'a OsImage) -> Option<&'a str> {
    let of_tag = || OS_TAGS.iter().find(|os| os.tag == tag).and_then(|os| os.stream);
    image.stream.as_deref().or_else(of_tag)
}

/// The stream of the image that pools get which choose none, on a cluster without OS image streams.
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

/// Whether pools of the cluster may be on different streams: it says so, or it could not say and its
/// release is one that has them.
fn has_streams(cluster: &Cluster, release: Option<&Release>) -> bool {
    match &cluster.streams {
        Fact::Known(streams) => !streams.available.is_empty(),
        Fact::Absent | Fact::Unknown(Cause::NotAsked) => false,
        Fact::Unknown(_) => {
            release.and_then(|release| minor(&release.version)).is_none_or(|release| release >= (4, 21))
        }
    }
}

/// Whether two pull specs of a payload are of the same image: the digests decide, because the one
/// may name a mirror.
fn same_image(of: Option<&str>, desired: &str) -> ReleaseMatch {
    let Some(of) = of.filter(|_| !desired.is_empty()) else { return ReleaseMatch::PerhapsOnly };
    if of == desired {
        return ReleaseMatch::Surely;
    }
    match [of, desired].map(|text| ImageReference::parse(text).ok()) {
        [Some(one), Some(other)] => match (one.digest(), other.digest()) {
            (Some(one), Some(other)) if one == other => ReleaseMatch::Surely,
            (Some(_), Some(_)) => ReleaseMatch::Not,
            _ => ReleaseMatch::PerhapsOnly,
        },
        _ => ReleaseMatch::PerhapsOnly,
    }
}

fn plain(reference: &ImageReference, origin: BaseOrigin) -> Base {
    let status = BaseStatus::Accepted;
    Base { reference: reference.pull_spec(), release: None, stream: None, origin, status }
}

/// Releases of the cluster's history that are looked at: each costs reading a payload.
const MAX_HISTORY: usize = 5;
/// Releases that the cluster could roll to that are looked at.
const MAX_AVAILABLE: usize = 2;
