//! `layerpin base`: the base image to build FROM, by digest.
//!
//! Standard output has the pull spec alone, ready for a `FROM`; notes go to standard error. [`choose`]
//! decides which image is meant, and is pure.

use anyhow::{anyhow, bail};
use serde::Serialize;
use tokio::time::Instant;

use crate::cli::ExitStatus;
use crate::cli::args::{BaseArgs, BaseFormat};
use crate::cli::output;
use crate::cli::session::Session;
use crate::engine::Engine;
use crate::lineage::bases;
use crate::lineage::{self, BaseOrigin, BaseStatus, UnknownReason};
use crate::model::facts::image::Payload;
use crate::model::facts::{Fact, Facts};
use crate::model::image_reference::ImageReference;
use crate::model::question::{Freshness, Platforms, Purpose, Question, Step};
use crate::pin::{self, Unresolved};
use crate::policy::Policy;
use crate::pools::{self, AffectedPool, minor};
use crate::text::shown;

/// Prints the base that the options lead to.
pub fn run(options: &BaseArgs) -> anyhow::Result<ExitStatus> {
    let session = Session::open(&options.facts)?;
    let (text, _) = session.run(async |engine| {
        let deadline = session.deadline();
        BaseFinder { engine, policy: &session.policy, deadline }.text(options).await
    })?;
    output::data(&text?)?;
    Ok(ExitStatus::Clean)
}

/// The bases of one release, or those that the user named.
#[derive(Debug, PartialEq, Eq)]
struct BaseChoices {
    /// The release, such as `4.18.14`; `None` for images that the user named.
    version: Option<String>,
    images: Vec<BaseImage>,
    /// The default stream, where the cluster says one.
    default: Option<String>,
}

/// An image to build on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct BaseImage {
    /// The tag in the release payload.
    tag: Option<String>,
    stream: Option<String>,
    os_version: Option<String>,
    reference: ImageReference,
    /// Its platforms; `None` where they were not asked for or are not known.
    platforms: Option<Vec<String>>,
}

impl BaseChoices {
    fn of_payload(payload: &Payload) -> Self {
        let images = payload.os_images.iter().map(|(tag, image)| BaseImage {
            tag: Some(tag.clone()),
            os_version: image.os_version.clone(),
            ..BaseImage::new(image.reference.clone(), image.stream.clone())
        });
        Self { version: Some(payload.version.clone()), images: images.collect(), default: None }
    }

    fn given(references: &[ImageReference]) -> Self {
        let images = references.iter().map(|reference| BaseImage::new(reference.clone(), None)).collect();
        Self { version: None, images, default: None }
    }

    /// The release in a message.
    fn release(&self) -> String {
        format!("release {}", shown(self.version.as_deref().unwrap_or_default()))
    }

    fn names(&self) -> String {
        self.images.iter().map(BaseImage::name).collect::<Vec<_>>().join(", ")
    }

    fn to_json(&self, chosen: usize) -> anyhow::Result<String> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct BaseReport<'a> {
            release: Option<&'a str>,
            reference: &'a ImageReference,
            stream: Option<&'a str>,
            images: &'a [BaseImage],
        }
        let BaseImage { reference, stream, .. } = &self.images[chosen];
        let (release, stream) = (self.version.as_deref(), stream.as_deref());
        let document = BaseReport { release, reference, stream, images: &self.images };
        Ok(format!("{}\n", serde_json::to_string_pretty(&document)?))
    }
}

impl BaseImage {
    fn new(reference: ImageReference, stream: Option<String>) -> Self {
        Self { tag: None, stream, os_version: None, reference, platforms: None }
    }

    /// Its name for `--stream`: its stream, where the release says one, else its tag.
    fn name(&self) -> String {
        match (&self.stream, &self.tag) {
            (Some(stream), _) => shown(stream),
            (None, Some(tag)) => shown(tag),
            (None, None) => self.reference.to_string(),
        }
    }

    fn is_called(&self, name: &str) -> bool {
        self.stream.as_deref() == Some(name)
            || self.tag.as_deref() == Some(name)
            || self.reference.as_str() == name
    }
}

/// Which of the images is meant: that of `stream`, or the default for pools that choose no stream.
fn choose(bases: &BaseChoices, stream: Option<&str>) -> anyhow::Result<usize> {
    let (release, names) = (bases.release(), bases.names());
    let called = |name: &str| bases.images.iter().position(|image| image.is_called(name));
    if let Some(stream) = stream {
        return called(stream).ok_or_else(|| match bases.version {
            Some(_) => anyhow!("{release} has no stream `{}`; there are {names}", shown(stream)),
            None => anyhow!("--stream needs a release; images given by --base-image have no stream"),
        });
    }
    if let Some(found) = bases.default.as_deref().and_then(called) {
        return Ok(found);
    }
    match bases.images.as_slice() {
        [] => bail!("{release} has no bootable operating system image to build on"),
        [_] => Ok(0),
        _ if bases.version.is_none() => bail!("several images are given by --base-image; name one"),
        _ => {
            // From 5.0 on, each cluster has its own default.
            let is_older = bases.version.as_deref().and_then(minor).is_some_and(|version| version < (5, 0));
            let default = bases::default_names().filter(|_| is_older).find_map(called);
            default.ok_or_else(|| anyhow!("{release} has several streams: {names}; choose one with --stream"))
        }
    }
}

/// Finds the base of one run.
struct BaseFinder<'a> {
    engine: &'a Engine,
    policy: &'a Policy,
    deadline: Instant,
}

impl BaseFinder<'_> {
    async fn text(&self, options: &BaseArgs) -> anyhow::Result<String> {
        let pool = options.pool.as_deref();
        let mut bases = self
            .resolve(|facts| match (pool, facts.given.is_empty()) {
                (None, false) => given(facts),
                _ => of_cluster(pool, facts, self.policy),
            })
            .await?;
        let chosen = choose(&bases, options.stream.as_deref())?;
        if bases.images.len() > 1 && options.stream.is_none() && options.pool.is_none() {
            eprintln!(
                "note: {} has the streams {}; this is {} (--stream chooses another)",
                bases.release(),
                bases.names(),
                bases.images[chosen].name(),
            );
        }
        bases.images[chosen].reference = self.pinned(&bases.images[chosen].reference).await?;
        match options.format {
            BaseFormat::Text => Ok(format!("{}\n", bases.images[chosen].reference)),
            BaseFormat::Json => {
                for image in &mut bases.images {
                    image.platforms = self.platforms(&image.reference).await;
                }
                bases.to_json(chosen)
            }
        }
    }

    /// The reference with its digest in place of a tag.
    async fn pinned(&self, reference: &ImageReference) -> anyhow::Result<ImageReference> {
        let tag = reference.pull_spec();
        if tag.digest().is_some() {
            return Ok(tag.into());
        }
        let step = |facts: &Facts| {
            Step::after(pin::look_ups(&tag, Freshness::Cached, facts), || pin::resolved(&tag, facts))
        };
        self.resolve(step).await.map(|digest| tag.pinned_to(&digest).into()).map_err(|why| match why {
            Unresolved::NotForNodes(reason) => anyhow!("{tag} cannot be built on by its digest: {reason}"),
            Unresolved::Absent => anyhow!("there is no base image {tag}"),
            Unresolved::Unknown(cause) => anyhow!("the digest of the base image {tag} is not known: {cause}"),
        })
    }

    async fn platforms(&self, reference: &ImageReference) -> Option<Vec<String>> {
        let question = Question::Image {
            reference: reference.pull_spec(),
            manifest: None,
            // The list of the index is enough.
            platforms: Some(Platforms::Only([].into())),
            purpose: Purpose::Base,
        };
        let step = |facts: &Facts| {
            let missing = (!question.is_answered_by(facts)).then(|| question.clone());
            Step::after(missing.into_iter().collect(), || {
                let image = facts.image(question.reference()).known()?;
                Some(image.platforms.keys().map(ToString::to_string).collect())
            })
        };
        self.resolve(step).await
    }

    async fn resolve<T>(&self, step: impl Fn(&Facts) -> Step<T>) -> T {
        self.engine.resolve(self.policy, self.deadline, step).await.0
    }
}

/// The bases of the release, or the images, that the options name.
fn given(facts: &Facts) -> Step<anyhow::Result<BaseChoices>> {
    let Some(release) = &facts.given.release_image else {
        return Step::Done(Ok(BaseChoices::given(&facts.given.base_images)));
    };
    let reference = release.pull_spec();
    Step::Done(match facts.payloads.get(&reference) {
        Some(Fact::Known(payload)) => Ok(BaseChoices::of_payload(payload)),
        Some(Fact::Absent) => Err(anyhow!("there is no release payload {release}")),
        Some(Fact::Unknown(cause)) => Err(anyhow!("the release payload {release} cannot be read: {cause}")),
        None => return Step::Ask(vec![Question::Payload { reference }]),
    })
}

/// The bases that count in the cluster, that of `pool` first.
fn of_cluster(pool: Option<&str>, facts: &Facts, policy: &Policy) -> Step<anyhow::Result<BaseChoices>> {
    if facts.cluster.is_unasked() {
        return Step::Done(Err(anyhow!(
            "nothing says which release is meant; name its payload with --release-image, or a cluster with \
             --kubeconfig"
        )));
    }
    let pools: Vec<_> = pools::all(&facts.cluster).collect();
    let pool = match pool.map(|name| find_pool(name, &pools, facts)).transpose() {
        Ok(pool) => pool,
        Err(error) => return Step::Done(Err(error)),
    };
    let mut expected = bases::expected(pool, facts, policy);
    Step::after(std::mem::take(&mut expected.questions), || {
        for note in &expected.notes {
            eprintln!("note: {note}");
        }
        // Other accepted images are tolerated, but nothing new is built on them.
        let is_of_release =
            |base: &&lineage::Base| base.status == BaseStatus::Accepted && base.origin != BaseOrigin::Policy;
        let first = expected.accepted.iter().find(is_of_release).ok_or_else(|| {
            let why = expected.missing.first().unwrap_or(&UnknownReason::NothingToCompareWith);
            anyhow!("the base of the cluster is not known: {why}")
        })?;
        let others = expected.accepted.iter().filter(is_of_release).chain(&expected.siblings);
        let image = |base: &lineage::Base| BaseImage::new(base.reference.clone().into(), base.stream.clone());
        let default = match pool {
            Some(_) => Some(first.stream.clone().unwrap_or_else(|| first.reference.to_string())),
            None => facts.cluster.streams.known().map(|streams| streams.default_stream.clone()),
        };
        Ok(BaseChoices { version: first.release.clone(), images: others.map(image).collect(), default })
    })
}

fn find_pool<'a, 'b>(
    name: &str,
    pools: &'b [AffectedPool<'a>],
    facts: &Facts,
) -> anyhow::Result<&'b AffectedPool<'a>> {
    pools.iter().find(|pool| pool.name == name).ok_or_else(|| {
        let names: Vec<_> = pools.iter().map(|pool| shown(pool.name)).collect();
        match &facts.cluster.pools {
            Fact::Unknown(cause) => anyhow!("the pools of the cluster are not known: {cause}"),
            _ if names.is_empty() => {
                anyhow!("the cluster has no MachineConfigPools; without --pool its base is printed")
            }
            _ => anyhow!("no pool is named `{}`; there are {}", shown(name), names.join(", ")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(version: Option<&str>, tags: &[(&str, Option<&str>)]) -> BaseChoices {
        let reference =
            "quay.io/ocp/os@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let image = |(tag, stream): &(&str, Option<&str>)| BaseImage {
            tag: version.map(|_| (*tag).to_owned()),
            stream: stream.map(str::to_owned),
            os_version: None,
            reference: ImageReference::parse(reference).unwrap(),
            platforms: None,
        };
        BaseChoices {
            version: version.map(str::to_owned),
            images: tags.iter().map(image).collect(),
            default: None,
        }
    }

    #[test]
    fn the_stream_that_is_meant_is_chosen_or_asked_for() {
        let dual = [("rhel-coreos", Some("rhel-9")), ("rhel-coreos-10", Some("rhel-10"))];
        let (single, none) = ([("rhel-coreos", None)], []);
        let okd = [("centos-stream-coreos-9", None), ("stream-coreos", None)];
        let several = "release 5.0.1 has several streams: rhel-9, rhel-10; choose one with --stream";
        for (bases, stream, expected) in [
            (bases(Some("4.18.14"), &single), None, Ok(0)),
            (bases(Some("4.18.14"), &single), Some("rhel-coreos"), Ok(0)),
            (bases(Some("4.21.3"), &dual), None, Ok(0)),
            (bases(Some("4.21.3"), &dual), Some("rhel-10"), Ok(1)),
            (bases(Some("4.21.3"), &dual), Some("rhel-coreos-10"), Ok(1)),
            (
                bases(Some("4.21.3"), &dual),
                Some("rhel-8"),
                Err("release 4.21.3 has no stream `rhel-8`; there are rhel-9, rhel-10"),
            ),
            (bases(Some("4.18.0-okd-scos.1"), &okd), None, Ok(1)),
            (bases(Some("5.0.1"), &dual), None, Err(several)),
            (bases(Some("5.0.1"), &dual), Some("rhel-9"), Ok(0)),
            (
                bases(Some("4.11.3"), &none),
                None,
                Err("release 4.11.3 has no bootable operating system image to build on"),
            ),
            (bases(None, &single), None, Ok(0)),
            (bases(None, &dual), None, Err("several images are given by --base-image; name one")),
            (
                bases(None, &single),
                Some("rhel-9"),
                Err("--stream needs a release; images given by --base-image have no stream"),
            ),
        ] {
            let found = choose(&bases, stream).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{bases:?} {stream:?}");
        }
    }
}
