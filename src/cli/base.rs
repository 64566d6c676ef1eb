//! `layerpin base`: the base image to build FROM, by digest.
//!
//! Standard output has the pull spec alone, ready for a `FROM`; what a person should know besides is
//! on standard error. Which image is meant is decided by [`choose`], which is pure.

use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use serde::Serialize;
use tokio::time::Instant;

use crate::cli::ExitStatus;
use crate::cli::args::{BaseArgs, BaseFormat};
use crate::cli::connect;
use crate::cli::output;
use crate::lineage::bases;
use crate::lineage::{self, BaseOrigin, BaseStatus, UnknownReason};
use crate::metrics::Metrics;
use crate::model::facts::image::Payload;
use crate::model::facts::{Fact, Facts};
use crate::model::image_reference::ImageReference;
use crate::model::question::{Platforms, Purpose, Question};
use crate::pin;
use crate::policy::Policy;
use crate::pools::{self, minor};
use crate::sources::Sources;
use crate::text::shown;

/// Prints the base that the options lead to.
pub fn run(options: &BaseArgs) -> anyhow::Result<ExitStatus> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let outcome = runtime.block_on(print(options));
    // An exec plug-in of the kubeconfig may hang for ever, and is not waited for.
    runtime.shutdown_background();
    outcome.map(|()| ExitStatus::Clean)
}

async fn print(options: &BaseArgs) -> anyhow::Result<()> {
    let policy = connect::policy(&options.facts)?.current();
    let sources = connect::connect(&options.facts, &Arc::new(Metrics::new()))?;
    let asker = BaseFinder { sources, policy, deadline: Instant::now() + options.facts.timeout };
    asker.sources.read_cluster(asker.deadline).await;
    let mut facts = asker.sources.begin();
    let mut release = match (&options.pool, facts.given.is_empty()) {
        (None, false) => asker.given(&mut facts).await?,
        (pool, _) => asker.of_cluster(pool.as_deref(), &mut facts).await?,
    };
    let chosen = choose(&release, options.stream.as_deref())?;
    if release.images.len() > 1 && options.stream.is_none() && options.pool.is_none() {
        eprintln!(
            "note: release {} has the streams {}; this is {} (--stream chooses another)",
            shown(release.version.as_deref().unwrap_or_default()),
            release.names().join(", "),
            release.images[chosen].name(),
        );
    }
    asker.pin(&mut release.images[chosen], &mut facts).await?;
    let text = match options.format {
        BaseFormat::Text => format!("{}\n", release.images[chosen].reference),
        BaseFormat::Json => {
            for image in &mut release.images {
                image.platforms = asker.platforms(&image.reference, &mut facts).await;
            }
            release.to_json(chosen)?
        }
    };
    output::data(&text)
}

/// The bases that one release has, or that the user named.
#[derive(Debug, PartialEq, Eq)]
struct BaseChoices {
    /// The release, such as `4.18.14`; `None` for images that the user named.
    version: Option<String>,
    images: Vec<BaseImage>,
    /// The stream that is meant where none is named, as far as the cluster says.
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
    /// What it runs on; `None` where nobody asked or nobody answered.
    platforms: Option<Vec<String>>,
}

impl BaseChoices {
    fn of_payload(payload: &Payload) -> Self {
        let images = payload.os_images.iter().map(|(tag, image)| BaseImage {
            tag: Some(tag.clone()),
            stream: image.stream.clone(),
            os_version: image.os_version.clone(),
            reference: image.reference.clone(),
            platforms: None,
        });
        Self { version: Some(payload.version.clone()), images: images.collect(), default: None }
    }

    fn given(references: &[ImageReference]) -> Self {
        let images = references.iter().map(|reference| BaseImage {
            tag: None,
            stream: None,
            os_version: None,
            reference: reference.clone(),
            platforms: None,
        });
        Self { version: None, images: images.collect(), default: None }
    }

    fn names(&self) -> Vec<String> {
        self.images.iter().map(BaseImage::name).collect()
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
        let base = &self.images[chosen];
        let document = BaseReport {
            release: self.version.as_deref(),
            reference: &base.reference,
            stream: base.stream.as_deref(),
            images: &self.images,
        };
        Ok(format!("{}\n", serde_json::to_string_pretty(&document)?))
    }
}

impl BaseImage {
    /// What `--stream` calls it: its stream, where the release says one, else its tag.
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

/// Which of the images is meant: the one of `stream`, or the one that pools get which choose none.
fn choose(bases: &BaseChoices, stream: Option<&str>) -> anyhow::Result<usize> {
    let names = || bases.names().join(", ");
    let release = || format!("release {}", shown(bases.version.as_deref().unwrap_or_default()));
    if let Some(stream) = stream {
        let found = bases.images.iter().position(|image| image.is_called(stream));
        return found.ok_or_else(|| match bases.version {
            Some(_) => anyhow!("{} has no stream `{}`; there are {}", release(), shown(stream), names()),
            None => anyhow!("--stream needs a release; images given by --base-image are of no stream"),
        });
    }
    if let Some(default) = &bases.default
        && let Some(found) = bases.images.iter().position(|image| image.is_called(default))
    {
        return Ok(found);
    }
    match bases.images.as_slice() {
        [] => bail!("{} has no operating system image that boots; nothing can be built on it", release()),
        [_] => Ok(0),
        _ if bases.version.is_none() => bail!("several images are given by --base-image; name one"),
        images => {
            // From 5.0 on each cluster has a default of its own.
            let is_older = bases.version.as_deref().and_then(minor).is_some_and(|version| version < (5, 0));
            let default = DEFAULTS
                .into_iter()
                .filter(|_| is_older)
                .find_map(|name| images.iter().position(|image| image.is_called(name)));
            default.ok_or_else(|| {
                anyhow!("{} has several streams: {}; choose one with --stream", release(), names())
            })
        }
    }
}

/// Asks for one run.
struct BaseFinder {
    sources: Sources,
    policy: Arc<Policy>,
    deadline: Instant,
}

impl BaseFinder {
    /// The bases of the release, or the images, that the options name.
    async fn given(&self, facts: &mut Facts) -> anyhow::Result<BaseChoices> {
        let given = facts.given.clone();
        let Some(release) = given.release_image else { return Ok(BaseChoices::given(&given.base_images)) };
        let asked = release.pull_spec();
        self.ask(&[Question::Payload { reference: asked.clone() }], facts).await;
        match facts.payload(&asked) {
            Fact::Known(payload) => Ok(BaseChoices::of_payload(payload)),
            Fact::Absent => Err(anyhow!("there is no release payload {release}")),
            Fact::Unknown(cause) => Err(anyhow!("the release payload {release} cannot be read: {cause}")),
        }
    }

    /// The bases that count in the cluster, that of `pool` first.
    async fn of_cluster(&self, pool: Option<&str>, facts: &mut Facts) -> anyhow::Result<BaseChoices> {
        if facts.cluster.is_unasked() {
            bail!(
                "nothing says which release is meant; name its payload with --release-image, or a cluster with \
                 --kubeconfig"
            );
        }
        let expected = loop {
            let pools: Vec<_> = pools::all(&facts.cluster).collect();
            let pool = match pool {
                None => None,
                Some(name) => Some(pools.iter().find(|pool| pool.name == name).ok_or_else(|| {
                    let names: Vec<_> = pools.iter().map(|pool| shown(pool.name)).collect();
                    match &facts.cluster.pools {
                        Fact::Unknown(cause) => anyhow!("the pools of the cluster are not known: {cause}"),
                        _ if names.is_empty() => {
                            anyhow!(
                                "the cluster has no MachineConfigPools; without --pool its base is printed"
                            )
                        }
                        _ => anyhow!("no pool is called `{}`; there are {}", shown(name), names.join(", ")),
                    }
                })?),
            };
            let expected = bases::expected(pool, facts, &self.policy);
            if expected.questions.is_empty() {
                break expected;
            }
            self.ask(&expected.questions, facts).await;
        };
        for note in &expected.notes {
            eprintln!("note: {note}");
        }
        // What else counts is agreed to, and nothing to build on anew.
        let is_of_release =
            |base: &&lineage::Base| base.status == BaseStatus::Accepted && base.origin != BaseOrigin::Policy;
        let Some(first) = expected.accepted.iter().find(is_of_release) else {
            let why = expected.missing.first().unwrap_or(&UnknownReason::NothingToCompareWith);
            bail!("the base of the cluster is not known: {why}");
        };
        let others = expected.accepted.iter().filter(is_of_release).chain(&expected.siblings);
        let image = |base: &lineage::Base| BaseImage {
            tag: None,
            stream: base.stream.clone(),
            os_version: None,
            reference: base.reference.clone().into(),
            platforms: None,
        };
        let default = match (pool, &facts.cluster.streams) {
            (Some(_), _) => Some(first.stream.clone().unwrap_or_else(|| first.reference.to_string())),
            (None, Fact::Known(streams)) => Some(streams.default_stream.clone()),
            (None, _) => None,
        };
        Ok(BaseChoices { version: first.release.clone(), images: others.map(image).collect(), default })
    }

    /// Puts the digest in place of a tag.
    async fn pin(&self, image: &mut BaseImage, facts: &mut Facts) -> anyhow::Result<()> {
        let asked = image.reference.pull_spec();
        if asked.digest().is_none() {
            self.ask(&[Question::manifest(asked.clone())], facts).await;
            if let Some(check) = pin::check(&asked, facts) {
                self.ask(&[check], facts).await;
            }
            image.reference = match facts.manifest(&asked) {
                Fact::Known(manifest) => {
                    pin::confirmed(&asked, manifest, facts)
                        .map_err(|reason| anyhow!("{asked} cannot be built on by its digest: {reason}"))?;
                    asked.pinned_to(&manifest.digest).into()
                }
                Fact::Absent => bail!("there is no base image {asked}"),
                Fact::Unknown(cause) => bail!("the digest of the base image {asked} is not known: {cause}"),
            };
        } else {
            image.reference = asked.into();
        }
        Ok(())
    }

    async fn platforms(&self, reference: &ImageReference, facts: &mut Facts) -> Option<Vec<String>> {
        let reference = reference.pull_spec();
        let none = Platforms::Only([].into());
        let purpose = Purpose::Base;
        let question = Question::Image { reference: reference.clone(), platforms: none, purpose };
        self.ask(&[question], facts).await;
        match facts.image(&reference) {
            Fact::Known(image) => Some(image.platforms.keys().map(ToString::to_string).collect()),
            Fact::Absent | Fact::Unknown(_) => None,
        }
    }

    async fn ask(&self, questions: &[Question], facts: &mut Facts) {
        self.sources.gather(questions, facts, &self.policy, self.deadline).await;
    }
}

/// The tags of the operating system that nodes have which choose no stream, up to 4.x, and its stream.
const DEFAULTS: [&str; 6] =
    ["rhel-coreos", "stream-coreos", "rhel-coreos-8", "centos-stream-coreos-9", "fedora-coreos", "rhel-9"];

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
                Err("release 4.11.3 has no operating system image that boots; nothing can be built on it"),
            ),
            (bases(None, &single), None, Ok(0)),
            (bases(None, &dual), None, Err("several images are given by --base-image; name one")),
            (
                bases(None, &single),
                Some("rhel-9"),
                Err("--stream needs a release; images given by --base-image are of no stream"),
            ),
        ] {
            let found = choose(&bases, stream).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{bases:?} {stream:?}");
        }
    }
}
