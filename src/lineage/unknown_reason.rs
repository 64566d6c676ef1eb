//! Why the lineage of an image is not known.

use derive_more::Display;

use crate::lineage::bases::{Base, BaseOrigin};
use crate::model::facts::{Cause, Fact};
use crate::model::pull_spec::PullSpec;

/// Why the lineage of an image is not known.
#[derive(Clone, Debug, Display, PartialEq, Eq)]
pub enum UnknownReason {
    /// There is no cluster, and neither a base nor a release was named.
    #[display(
        "no base image to compare with: no OpenShift cluster, no --release-image, no --base-image and no acceptedBases"
    )]
    NothingToCompareWith,
    /// The image has no manifest for the platform.
    #[display("the image has no manifest for this platform")]
    NoPlatform,
    /// The image is an index without an image that a node could run.
    #[display("the image has no manifest for linux")]
    NoLinuxPlatform,
    /// The registry has no such image.
    #[display("{} has no such image", reference.host())]
    NoImage {
        /// The image.
        reference: PullSpec,
    },
    /// The image could not be read.
    #[display("cannot read the image: {cause}")]
    Image {
        /// The image.
        reference: PullSpec,
        /// Why.
        cause: Cause,
    },
    /// The registry no longer has the base.
    #[display("the base `{}` no longer exists", base.reference)]
    NoBase {
        /// The base.
        base: Box<Base>,
    },
    /// The base could not be read.
    #[display("cannot read the base `{}`: {cause}", base.reference)]
    Base {
        /// The base.
        base: Box<Base>,
        /// Why.
        cause: Cause,
    },
    /// The base has no layers, so that everything would be built on it.
    #[display("the base `{}` has no layers", base.reference)]
    EmptyBase {
        /// The base.
        base: Box<Base>,
    },
    /// The registry has no such payload.
    #[display("the release payload `{reference}` does not exist")]
    NoPayload {
        /// The payload.
        reference: PullSpec,
    },
    /// The payload could not be read.
    #[display("cannot read the release payload `{reference}`: {cause}")]
    Payload {
        /// The payload.
        reference: PullSpec,
        /// Why.
        cause: Cause,
    },
    /// The payload names no operating system image.
    #[display("the release payload `{reference}` has no operating system image")]
    NoOsImage {
        /// The payload.
        reference: PullSpec,
    },
    /// The stream of the pool is not among those of the release.
    #[display("{source} has no image of OS stream `{stream}`")]
    NoStream {
        /// The stream.
        stream: String,
        /// What should name it.
        source: BaseOrigin,
    },
    /// An object of the cluster could not be read.
    #[display("{}", cause.reading(object))]
    Cluster {
        /// Kind and name.
        object: &'static str,
        /// Why.
        cause: Cause,
    },
    /// The source of a base does not name a valid image.
    #[display("{message}")]
    Malformed {
        /// What is wrong.
        message: String,
    },
}

/// A fact that could not be had. Findings that lack the same fact are reported as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MissingFact {
    /// The answer of a registry about an image or payload.
    Registry(PullSpec),
    /// The answer of the cluster, which is missing for this cause.
    Cluster(Cause),
    /// Anything else, by its message.
    Other(String),
}

impl UnknownReason {
    /// What is known of the image `reference`, or of one of its platforms.
    pub fn or_image<'a, T>(reference: &PullSpec, fact: &'a Fact<T>) -> Result<&'a T, Self> {
        let reference = || reference.clone();
        Self::or(
            fact,
            || Self::NoImage { reference: reference() },
            |cause| Self::Image { reference: reference(), cause },
        )
    }

    /// What is known of `base`, or of one of its platforms.
    pub fn or_base<'a, T>(base: &Base, fact: &'a Fact<T>) -> Result<&'a T, Self> {
        let base = || Box::new(base.clone());
        Self::or(fact, || Self::NoBase { base: base() }, |cause| Self::Base { base: base(), cause })
    }

    fn or<T>(
        fact: &Fact<T>,
        absent: impl FnOnce() -> Self,
        unknown: impl FnOnce(Cause) -> Self,
    ) -> Result<&T, Self> {
        match fact {
            Fact::Known(known) => Ok(known),
            Fact::Absent => Err(absent()),
            Fact::Unknown(cause) => Err(unknown(cause.clone())),
        }
    }

    /// The fact that could not be had. `None` when there was nothing to ask.
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
