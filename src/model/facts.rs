//! What is known about registries and the cluster when a verdict is made: plain data, no errors.
//!
//! Owns the difference between *known*, *absent* (the registry answered that there is none) and *unknown*
//! (there was no valid answer, with the cause). Facts can be saved and read again, so that a verdict can be
//! reproduced without any request.

pub mod cluster;
pub mod image;
pub mod registry_sources;

use std::collections::BTreeMap;
use std::sync::Arc;

use derive_more::Display;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::digest::Digest;
use crate::model::facts::cluster::Cluster;
use crate::model::facts::image::{Image, Payload};
use crate::model::image_reference::ImageReference;
use crate::model::pull_spec::PullSpec;

/// Everything that was asked and answered for one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Facts {
    /// The time of the answers. Exceptions of a policy expire by it.
    pub observed_at: Timestamp,
    /// Which manifest each reference names, as registries say.
    #[serde(default)]
    pub manifests: BTreeMap<PullSpec, Fact<Manifest>>,
    /// What the user accepts in place of what the cluster says.
    #[serde(default, skip_serializing_if = "AcceptedBases::is_empty")]
    pub given: AcceptedBases,
    /// The images of references whose layers were asked for; shared between the reviews that ask about
    /// them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<PullSpec, Fact<Arc<Image>>>,
    /// What release payloads say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub payloads: BTreeMap<PullSpec, Fact<Payload>>,
    /// What is known of the cluster; shared between the reviews that it serves.
    #[serde(default, skip_serializing_if = "Cluster::is_unasked")]
    pub cluster: Arc<Cluster>,
}

impl Facts {
    /// Facts that hold no answer yet.
    pub fn none(observed_at: Timestamp) -> Self {
        Self {
            observed_at,
            manifests: BTreeMap::new(),
            given: AcceptedBases::default(),
            images: BTreeMap::new(),
            payloads: BTreeMap::new(),
            cluster: Cluster::unasked(),
        }
    }

    /// Reads facts as `--save-facts` writes them. The error carries line and column.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The same without what registries answered: the time, what the user gave, the cluster.
    pub fn without_answers(&self) -> Self {
        Self { given: self.given.clone(), cluster: self.cluster.clone(), ..Self::none(self.observed_at) }
    }

    /// What is known about the manifest of `reference`; unknown when it was not asked for.
    pub fn manifest(&self, reference: &PullSpec) -> &Fact<Manifest> {
        self.manifests.get(reference).unwrap_or(&Fact::Unknown(Cause::NotAsked))
    }

    /// What is known about the layers of `reference`; unknown when they were not asked for.
    pub fn image(&self, reference: &PullSpec) -> &Fact<Arc<Image>> {
        self.images.get(reference).unwrap_or(&Fact::Unknown(Cause::NotAsked))
    }

    /// What is known about the release payload `reference`; unknown when it was not asked for.
    pub fn payload(&self, reference: &PullSpec) -> &Fact<Payload> {
        self.payloads.get(reference).unwrap_or(&Fact::Unknown(Cause::NotAsked))
    }
}

/// What the user accepts in place of what the cluster says. It is part of the facts, so that a verdict
/// reproduced from a file is the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AcceptedBases {
    /// The release payload to judge lineage against (`--release-image`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release_image: Option<ImageReference>,
    /// Images that are accepted as bases (`--base-image`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub base_images: Vec<ImageReference>,
}

impl AcceptedBases {
    /// Tells whether the user gave nothing.
    pub fn is_empty(&self) -> bool {
        self.release_image.is_none() && self.base_images.is_empty()
    }
}

/// The answer of a registry or the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fact<T> {
    /// The answer.
    Known(T),
    /// It does not exist, according to the registry or API server.
    Absent,
    /// There was no valid answer, for this cause.
    Unknown(Cause),
}

impl<T> Default for Fact<T> {
    fn default() -> Self {
        Self::Unknown(Cause::NotAsked)
    }
}

impl<T> Fact<T> {
    /// The answer; `None` where it is absent or unknown.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(known) => Some(known),
            Self::Absent | Self::Unknown(_) => None,
        }
    }

    /// Why there is no answer; `None` where there is one, even if it is that there is no such thing.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Unknown(cause) => Some(cause),
            Self::Known(_) | Self::Absent => None,
        }
    }

    /// The same fact with its answer changed.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Self::Known(known) => Fact::Known(change(known)),
            Self::Absent => Fact::Absent,
            Self::Unknown(cause) => Fact::Unknown(cause),
        }
    }
}

/// The manifest that a reference names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// The digest of the manifest, or of the index when the reference names one.
    pub digest: Digest,
    /// What kind of document it is.
    pub kind: ManifestKind,
    /// The registry that answered: `host` or `host:port`.
    pub endpoint: String,
}

/// The documents that nodes can pull an operating system from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ManifestKind {
    /// One image: an OCI image manifest or Docker's schema 2 manifest.
    Image,
    /// Images for several platforms: an OCI image index or Docker's manifest list.
    Index,
}

/// Why an answer is not known. The text of a cause may be shown to anybody: it contains hosts and status
/// codes, never credentials, headers or bodies.
#[derive(Clone, Debug, Display, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Cause {
    /// No request was made.
    #[display("the registry was not asked")]
    NotAsked,
    /// Requests are disabled by `--offline`.
    #[display("not asked: `--offline` is set")]
    Offline,
    /// The facts were read from a file that does not contain this answer.
    #[display("not asked: the facts file (`--facts`) has no answer")]
    NotRecorded,
    /// The policy does not allow requests to this registry.
    #[display("not asked: `registries.allow` of the policy does not include it")]
    OutsideAllowed,
    /// The cluster does not let its nodes pull from this registry: it is outside `allowedRegistries` of
    /// `image.config.openshift.io/cluster`.
    #[display("not asked: the cluster does not allow its registry")]
    OutsideCluster,
    /// There was no answer within the time limit.
    #[display("{host} did not answer in time")]
    OutOfTime {
        /// The registry or API server.
        host: String,
    },
    /// No connection could be made, or it broke.
    #[display("{host} cannot be reached: {reason}")]
    Unreachable {
        /// The registry or API server.
        host: String,
        /// The network error.
        reason: String,
    },
    /// The certificate of the registry is not signed by a trusted CA, or not valid.
    #[display("the certificate of {host} is not trusted: {reason}")]
    Untrusted {
        /// The registry or API server.
        host: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// The address is one that is never contacted.
    #[display("{host} is a link-local or unspecified address, which is never contacted")]
    ForbiddenAddress {
        /// The name or address.
        host: String,
    },
    /// The registry rejected the credentials, or there are none for it.
    #[display("{host} returned {status}{shown}{as_nodes}")]
    Refused {
        /// The registry.
        host: String,
        /// The HTTP status: 401 or 403.
        status: u16,
        /// Which credentials were sent.
        shown: CredentialsSent,
        /// Whether nodes would send the same credentials.
        as_nodes: NodeCredentials,
    },
    /// The registry returned an unexpected status.
    #[display("{host} returned {status}")]
    Status {
        /// The registry.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// The response does not follow the protocol.
    #[serde(alias = "nonsense")]
    #[display("{host} returned an invalid response: {reason}")]
    InvalidResponse {
        /// Who answered.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The response is valid, but names something other than an image that a node could run.
    #[display("it is not an image: {reason}")]
    NotAnImage {
        /// What it is instead.
        reason: String,
    },
    /// The body does not have the digest that was requested or announced.
    #[display("{host} returned content with another digest: expected {}, got {}", expected.short(), found.short())]
    DigestMismatch {
        /// The registry.
        host: String,
        /// The digest that was expected.
        expected: Digest,
        /// The digest that was found.
        found: Digest,
    },
    /// The registry limits requests, and the time limit ends before the next one is allowed.
    #[display("{host} returned {status}; the next request is allowed at {until:.0}")]
    Paused {
        /// The registry.
        host: String,
        /// The HTTP status: 429 or 503.
        status: u16,
        /// When the next request is allowed.
        until: Timestamp,
    },
    /// The registry failed several times in a row, and gets only occasional requests until it recovers.
    #[serde(alias = "resting")]
    #[display("{host} failed {failures} times in a row; the next request is sent at {until:.0}")]
    CircuitOpen {
        /// The registry.
        host: String,
        /// The number of failures in a row.
        failures: u32,
        /// When the next request is sent.
        until: Timestamp,
    },
    /// Nodes may not pull from it: `blocked` in `registries.conf`, a blocked registry of the cluster, or a
    /// source with `NeverContactSource`.
    #[display("`{scope}` is blocked on nodes")]
    Blocked {
        /// What is blocked: a registry, a part of it, or `*.domain`.
        scope: String,
    },
    /// The image has several endpoints, and none of them returned it.
    #[display("{}", attempts.iter().map(Attempt::to_string).collect::<Vec<_>>().join("; "))]
    Unanswered {
        /// The answer of each of them, in the order of the requests.
        attempts: Vec<Attempt>,
    },
    /// The credentials for the registry could not be read.
    #[display("no credentials for {host}: {reason}")]
    NoCredential {
        /// The registry.
        host: String,
        /// What happened.
        reason: String,
    },
    /// Too many requests are waiting for the registry.
    #[serde(alias = "crowded")]
    #[display("too many requests wait for {host}")]
    QueueFull {
        /// The registry.
        host: String,
    },
    /// The token service of the registry did not issue a token.
    #[display("no token for {host}: {reason}")]
    NoToken {
        /// The registry.
        host: String,
        /// What happened.
        reason: String,
    },
    /// The object could not be read from the cluster.
    #[display("cannot read {kind}: {reason}")]
    Cluster {
        /// What was being read, such as `MachineConfigPools`.
        kind: String,
        /// Why not.
        reason: String,
    },
    /// The account has no permission to read the object.
    #[serde(alias = "noRight")]
    #[display("cannot read {kind}: {reason}")]
    Forbidden {
        /// What was being read, such as `MachineConfigPools`.
        kind: String,
        /// The message of the API server.
        reason: String,
    },
    /// The image was read, but is not a release payload.
    #[serde(alias = "noRelease")]
    #[display("it is not a release payload: {reason}")]
    NotARelease {
        /// What is missing or wrong.
        reason: String,
    },
    /// A defect of this program.
    #[display("internal error of layerpin; its log has the reason")]
    Internal,
}

impl Cause {
    /// Tells whether nodes get the same answer, and so cannot pull the image.
    pub fn holds_for_nodes(&self) -> bool {
        match self {
            Self::Refused { as_nodes, .. } => *as_nodes == NodeCredentials::Same,
            Self::Blocked { .. } | Self::OutsideCluster => true,
            Self::Unanswered { attempts } => {
                attempts.iter().all(|attempt| attempt.cause.as_ref().is_none_or(Self::holds_for_nodes))
            }
            _ => false,
        }
    }

    /// The cause as the reason why `object` of the cluster could not be read.
    pub fn reading(&self, object: &str) -> String {
        match self {
            Self::Cluster { .. } | Self::Forbidden { .. } => self.to_string(),
            _ => format!("cannot read {object}: {self}"),
        }
    }

    /// What a registry has under the reference, where that is not an image.
    pub fn other_than_image(&self) -> Option<&str> {
        match self {
            Self::NotAnImage { reason } => Some(reason),
            Self::Unanswered { attempts } => {
                attempts.iter().find_map(|attempt| attempt.cause.as_ref()?.other_than_image())
            }
            _ => None,
        }
    }

    /// When the first registry that limits its requests may be asked again. `None` when none does.
    pub fn pause_end(&self) -> Option<Timestamp> {
        match self {
            Self::Paused { until, .. } => Some(*until),
            Self::Unanswered { attempts } => {
                attempts.iter().filter_map(|attempt| attempt.cause.as_ref()?.pause_end()).min()
            }
            _ => None,
        }
    }
}

/// The answer of one endpoint of an image.
#[derive(Clone, Debug, Display, PartialEq, Eq, Serialize, Deserialize)]
#[display("{}", cause.as_ref().map_or_else(|| format!("{endpoint} has no such image"), Cause::to_string))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attempt {
    /// The endpoint: `host` or `host:port`.
    pub endpoint: String,
    /// Why it did not return the image; `None` when it does not have it.
    pub cause: Option<Cause>,
}

/// Which credentials a registry rejected.
#[derive(Clone, Copy, Debug, Display, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CredentialsSent {
    /// None: there is no entry for the registry.
    #[display("; there are no credentials for it")]
    NoEntry,
    /// Those for the registry.
    #[display(" for the configured credentials")]
    Entry,
}

/// Whether nodes have the same credentials.
#[derive(Clone, Copy, Debug, Display, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeCredentials {
    /// They do, so nodes are rejected as well.
    #[display("")]
    Same,
    /// The credentials of the nodes are not known.
    #[display("; the credentials of the nodes are not known (`--authfile`)")]
    NotAtHand,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_read_back_as_they_were_written() {
        let digest = Digest::of(b"x");
        let mut facts = Facts::none("2026-01-01T00:00:00Z".parse().unwrap());
        let mut add = |reference: &str, fact| {
            facts.manifests.insert(PullSpec::parse(reference).unwrap(), fact);
        };
        add(
            "quay.io/acme/os:1",
            Fact::Known(Manifest {
                digest: digest.clone(),
                kind: ManifestKind::Index,
                endpoint: "quay.io".into(),
            }),
        );
        add("quay.io/acme/os:2", Fact::Absent);
        for (index, cause) in [
            Cause::NotAsked,
            Cause::Offline,
            Cause::NotRecorded,
            Cause::OutsideAllowed,
            Cause::OutsideCluster,
            Cause::OutOfTime { host: "h".into() },
            Cause::Unreachable { host: "h".into(), reason: "r".into() },
            Cause::Untrusted { host: "h".into(), reason: "r".into() },
            Cause::ForbiddenAddress { host: "h".into() },
            Cause::Refused {
                host: "h".into(),
                status: 401,
                shown: CredentialsSent::Entry,
                as_nodes: NodeCredentials::NotAtHand,
            },
            Cause::Status { host: "h".into(), status: 500 },
            Cause::InvalidResponse { host: "h".into(), reason: "r".into() },
            Cause::DigestMismatch { host: "h".into(), expected: digest.clone(), found: digest.clone() },
            Cause::Paused { host: "h".into(), status: 429, until: Timestamp::UNIX_EPOCH },
            Cause::CircuitOpen { host: "h".into(), failures: 5, until: Timestamp::UNIX_EPOCH },
            Cause::QueueFull { host: "h".into() },
            Cause::Blocked { scope: "s".into() },
            Cause::NoCredential { host: "h".into(), reason: "r".into() },
            Cause::Unanswered {
                attempts: vec![
                    Attempt { endpoint: "m".into(), cause: None },
                    Attempt { endpoint: "h".into(), cause: Some(Cause::Internal) },
                ],
            },
            Cause::NoToken { host: "h".into(), reason: "r".into() },
            Cause::Cluster { kind: "Nodes".into(), reason: "r".into() },
            Cause::Forbidden { kind: "Nodes".into(), reason: "r".into() },
            Cause::NotARelease { reason: "r".into() },
            Cause::NotAnImage { reason: "r".into() },
            Cause::Internal,
        ]
        .into_iter()
        .enumerate()
        {
            assert!(!cause.to_string().is_empty());
            add(&format!("quay.io/acme/cause:{index}"), Fact::Unknown(cause));
        }
        let text = serde_json::to_string_pretty(&facts).unwrap();
        assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
    }

    #[test]
    fn a_file_with_the_earlier_names_of_causes_is_read() {
        let facts = Facts::parse(include_str!("../../tests/vectors/facts-earlier-causes.json")).unwrap();
        let (host, reason) = (|| "quay.io".to_owned(), || "r".to_owned());
        let expected = [
            Cause::InvalidResponse { host: host(), reason: reason() },
            Cause::CircuitOpen { host: host(), failures: 5, until: Timestamp::UNIX_EPOCH },
            Cause::QueueFull { host: host() },
            Cause::NotARelease { reason: reason() },
            Cause::Forbidden { kind: "Nodes".into(), reason: reason() },
        ];
        let found: Vec<_> = facts.manifests.into_values().collect();
        assert_eq!(found, expected.map(Fact::Unknown));
    }

    #[test]
    fn what_several_endpoints_said_is_told_one_by_one_and_holds_for_nodes_if_all_of_it_does() {
        let attempt = |endpoint: &str, cause| Attempt { endpoint: endpoint.into(), cause };
        let refused = |as_nodes| Cause::Refused {
            host: "q.io".into(),
            status: 401,
            shown: CredentialsSent::NoEntry,
            as_nodes,
        };
        let blocked = Cause::Blocked { scope: "q.io".into() };
        let unanswered = |cause: &Cause| Cause::Unanswered {
            attempts: vec![attempt("m.x", None), attempt("q.io", Some(cause.clone()))],
        };
        for (cause, holds) in [
            (&blocked, true),
            (&refused(NodeCredentials::Same), true),
            (&refused(NodeCredentials::NotAtHand), false),
            (&Cause::OutOfTime { host: "q.io".into() }, false),
        ] {
            assert_eq!(
                (cause.holds_for_nodes(), unanswered(cause).holds_for_nodes()),
                (holds, holds),
                "{cause}"
            );
        }
        assert_eq!(unanswered(&blocked).to_string(), "m.x has no such image; `q.io` is blocked on nodes");
        let until = "2026-01-01T00:00:00Z".parse().unwrap();
        let paused = Cause::Paused { host: "q.io".into(), status: 429, until };
        assert_eq!(unanswered(&paused).pause_end(), Some(until));
        assert_eq!(
            paused.to_string(),
            "q.io returned 429; the next request is allowed at 2026-01-01T00:00:00Z"
        );
        assert_eq!(unanswered(&blocked).pause_end(), None);
    }

    #[test]
    fn what_nobody_asked_is_unknown() {
        let facts = Facts::none(Timestamp::UNIX_EPOCH);
        let reference = PullSpec::parse("quay.io/acme/os:1").unwrap();
        assert_eq!(facts.manifest(&reference), &Fact::Unknown(Cause::NotAsked));
    }
}
