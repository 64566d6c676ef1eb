//! Why the lineage of an image is not known.

use std::fmt;

use crate::lineage::bases::{Base, BaseOrigin};
use crate::model::facts::Cause;
use crate::model::pull_spec::PullSpec;

/// Why nobody can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnknownReason {
    /// There is neither a cluster nor a base or release that was named.
    NothingToCompareWith,
    /// The image has nothing for the platform.
    NoPlatform,
    /// The image is an index of none that a node could run.
    NoLinuxPlatform,
    /// The registry has no such image.
    NoImage {
        /// The image.
        reference: PullSpec,
    },
    /// The image could not be read.
    Image {
        /// The image.
        reference: PullSpec,
        /// Why.
        cause: Cause,
    },
    /// The registry no longer has the base.
    NoBase {
        /// The base.
        base: Base,
    },
    /// The base could not be read.
    Base {
        /// The base.
        base: Base,
        /// Why.
        cause: Cause,
    },
    /// The base has no layers, so that everything would be built on it.
    EmptyBase {
        /// The base.
        base: Base,
    },
    /// The registry has no such payload.
    NoPayload {
        /// The payload.
        reference: PullSpec,
    },
    /// The payload could not be read.
    Payload {
        /// The payload.
        reference: PullSpec,
        /// Why.
        cause: Cause,
    },
    /// The payload names no operating system image.
    NoOsImage {
        /// The payload.
        reference: PullSpec,
    },
    /// The stream of the pool is not among those of the release.
    NoStream {
        /// The stream.
        stream: String,
        /// Who should name it.
        source: BaseOrigin,
    },
    /// An object of the cluster could not be read.
    Cluster {
        /// Kind and name.
        object: &'static str,
        /// Why.
        cause: Cause,
    },
    /// What should name a base does not.
    Malformed {
        /// What is wrong.
        message: String,
    },
}

/// A question whose answer is missing. Findings that rest on the same one are told as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MissingFact {
    /// What a registry says of an image or payload.
    Registry(PullSpec),
    /// What the cluster says, while it does not for this reason.
    Cluster(Cause),
    /// Something else that is wrong where it stands.
    Other(String),
}

impl UnknownReason {
    /// The question that nobody answered. `None` when there was none to ask.
    pub fn missing_fact(&self) -> Option<MissingFact> {
        match self {
            Self::NothingToCompareWith | Self::NoPlatform | Self::NoLinuxPlatform => None,
            Self::NoImage { reference }
            | Self::Image { reference, .. }
            | Self::NoPayload { reference }
            | Self::NoOsImage { reference }
            | Self::Payload { reference, .. } => Some(MissingFact::Registry(reference.clone())),
            Self::NoBase { base } | Self::Base { base, .. } | Self::EmptyBase { base } => {
                Some(MissingFact::Registry(base.reference.clone()))
            }
            Self::Cluster { cause, .. } => Some(MissingFact::Cluster(cause.clone())),
            Self::NoStream { .. } | Self::Malformed { .. } => Some(MissingFact::Other(self.to_string())),
        }
    }
}

impl fmt::Display for UnknownReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingToCompareWith => formatter.write_str(
                "nothing to judge against: no OpenShift cluster, no --release-image, no --base-image and no acceptedBases",
            ),
            Self::NoPlatform => formatter.write_str("the image has nothing for this platform"),
            Self::NoLinuxPlatform => formatter.write_str("the image has nothing for linux"),
            Self::NoImage { reference } => write!(formatter, "{} has no such image", reference.host()),
            Self::Image { cause, .. } => write!(formatter, "the image could not be read: {cause}"),
            Self::NoBase { base } => write!(formatter, "the base `{}` is no longer there", base.reference),
            Self::Base { base, cause } => {
                write!(formatter, "the base `{}` could not be read: {cause}", base.reference)
            }
            Self::EmptyBase { base } => {
                write!(formatter, "`{}` has no layers, so it is no base", base.reference)
            }
            Self::NoPayload { reference } => {
                write!(formatter, "the release payload `{reference}` is not there")
            }
            Self::Payload { reference, cause } => {
                write!(formatter, "the release payload `{reference}` could not be read: {cause}")
            }
            Self::NoOsImage { reference } => {
                write!(formatter, "the release payload `{reference}` names no operating system image")
            }
            Self::NoStream { stream, source } => {
                write!(formatter, "{source} names no image of OS stream `{stream}`")
            }
            Self::Cluster { object, cause } => formatter.write_str(&cause.of(object, "is not known")),
            Self::Malformed { message } => formatter.write_str(message),
        }
    }
}
