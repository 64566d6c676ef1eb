//! Images: manifest, index and config, combined platform by platform.
//!
//! Reads two small documents for an image, and two more for each platform of an index; never a layer.
//! Each is checked against its digest and cached by it, so images that share one share the answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use moka::sync::Cache;
use tokio::time::Instant;

use crate::model::digest::Digest;
use crate::model::facts::image::{Image, Layer, Platform, PlatformImage};
use crate::model::facts::{Cause, Fact, Manifest, ManifestKind};
use crate::model::pull_spec::PullSpec;
use crate::model::question::{Freshness, Platforms};
use crate::registry::RegistryClient;
use crate::registry::cache::CacheKey;
use crate::registry::oci::{
    Descriptor, ImageConfigFile, ImageManifest, IndexEntry, OciContent, OciDocument, Unusable,
};
use crate::registry::repository_client::{RepositoryClient, RepositoryResource, RequestFailure};
use crate::registry::waiting::{LONGEST_QUESTION, Pauses, answer_by, in_time};

impl RegistryClient {
    /// Tells what `reference` holds for `platforms`, by `deadline`, and which manifest it names, where that
    /// is asked for too.
    ///
    /// Platforms that an index lists and nobody asked for are unknown in the answer. What an image of
    /// a single platform holds is told whatever that platform is. A cached image is good enough;
    /// what takes longer than the deadline goes on being read for the next caller.
    pub async fn image(
        self: &Arc<Self>,
        reference: &PullSpec,
        manifest: Option<Freshness>,
        platforms: &Platforms,
        deadline: Instant,
    ) -> (Option<Fact<Manifest>>, Fact<Arc<Image>>) {
        let mut pauses = Pauses::until(deadline);
        loop {
            let (named, image) = self.image_once(reference, manifest, platforms, deadline).await;
            let of_platforms = image.known().map(|image| image.platforms.values().filter_map(Fact::cause));
            let causes = named.iter().filter_map(Fact::cause).chain(image.cause());
            if !pauses.wait(causes.chain(of_platforms.into_iter().flatten())).await {
                return (named, image);
            }
        }
    }

    async fn image_once(
        self: &Arc<Self>,
        reference: &PullSpec,
        manifest: Option<Freshness>,
        platforms: &Platforms,
        deadline: Instant,
    ) -> (Option<Fact<Manifest>>, Fact<Arc<Image>>) {
        // What the first endpoint says that knows it.
        let mut named: Option<Fact<Manifest>> = None;
        let unknown = |named: &Option<Fact<Manifest>>| match named {
            Some(Fact::Known(_)) => None,
            _ => manifest,
        };
        let mut endpoints = self.endpoints(reference, deadline);
        while let Some((endpoint, by)) = endpoints.next().await {
            let repository = RepositoryClient { client: Arc::clone(self), endpoint };
            let key = (repository.key(), platforms.clone());
            let cached = self.images.recall(&key).filter(|_| manifest != Some(Freshness::Fresh));
            self.metrics.cache_request("image", if cached.is_some() { "hit" } else { "miss" });
            if let Some(image) = cached {
                if unknown(&named).is_some() {
                    let (digest, kind) = (image.digest.clone(), image.kind);
                    named = Some(Fact::Known(Manifest { digest, kind, endpoint: repository.endpoint.name }));
                }
                return (named, Fact::Known(image));
            }
            if let Some(freshness) = unknown(&named) {
                let answer = Box::pin(repository.manifest_before_body(freshness, by)).await;
                let endpoint = repository.endpoint.name.clone();
                named = Some(answer.map(|manifest| Manifest { endpoint, ..manifest }));
            }
            let (reference, platforms) = (repository.endpoint.reference.clone(), platforms.clone());
            let work = async move { repository.image(&platforms).await };
            if let Some(image) = endpoints.note(answer_by(by, &reference, work).await) {
                let image = Arc::new(image);
                self.images.keep(key, &image);
                return (named, Fact::Known(image));
            }
        }
        let image: Fact<Arc<Image>> = endpoints.end();
        if unknown(&named).is_some() {
            // Nobody gave either, for the same reasons.
            named = Some(image.cause().map_or(Fact::Absent, |cause| Fact::Unknown(cause.clone())));
        }
        (named, image)
    }
}

/// Images that were combined before. The documents have caches of their own; this one saves combining
/// them again for every review of the same image.
#[derive(Debug)]
pub(crate) struct ImageCache(Cache<ImageKey, Arc<Image>>);

/// The question that named the image by digest, and the platforms.
type ImageKey = (CacheKey, Platforms);

impl ImageCache {
    pub(crate) fn new() -> Self {
        let weigher = |_: &ImageKey, image: &Arc<Image>| u32::try_from(image.weight()).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(MAX_WHOLE).weigher(weigher).time_to_live(WHOLE_KEPT).build())
    }

    fn recall(&self, key: &ImageKey) -> Option<Arc<Image>> {
        key.0.reference.digest().and_then(|_| self.0.get(key))
    }

    /// Keeps an image by digest when everything that was asked for is known. A tag may move.
    fn keep(&self, key: ImageKey, image: &Arc<Image>) {
        let is_settled =
            |fact: &Fact<PlatformImage>| matches!(fact, Fact::Known(_) | Fact::Unknown(Cause::NotAsked));
        if key.0.reference.digest().is_some() && image.platforms.values().all(is_settled) {
            self.0.insert(key, Arc::clone(image));
        }
    }
}

impl Image {
    /// Its approximate size in memory, in bytes.
    fn weight(&self) -> usize {
        let text = |map: &BTreeMap<String, String>| {
            map.iter().map(|(key, value)| key.len() + value.len() + WORD).sum::<usize>()
        };
        let of_platform = |fact: &Fact<PlatformImage>| match fact {
            Fact::Known(image) => {
                let history = image.history.iter();
                let history = history.map(|step| step.created_by.len() + step.comment.len() + 3 * WORD);
                image.layers.len() * LAYER
                    + text(&image.labels)
                    + text(&image.annotations)
                    + history.sum::<usize>()
            }
            Fact::Absent | Fact::Unknown(_) => 0,
        };
        self.platforms.values().map(|fact| of_platform(fact) + LAYER).sum::<usize>() + LAYER
    }
}

impl RepositoryClient {
    async fn image(&self, platforms: &Platforms) -> Result<Image, RequestFailure> {
        let document = self.document().await?;
        let digest = document.digest.clone();
        let platforms = match &document.content {
            OciContent::Image(manifest) => BTreeMap::from([self.platform(&digest, manifest).await?]),
            OciContent::Index(entries) => self.children(entries, platforms).await?,
        };
        Ok(Image { digest, kind: document.kind(), platforms })
    }

    /// The images of an index. Fails where one of them names no platform and cannot be read: it could
    /// be for any.
    async fn children(
        &self,
        entries: &[IndexEntry],
        platforms: &Platforms,
    ) -> Result<BTreeMap<Platform, Fact<PlatformImage>>, Cause> {
        let is_wanted = |platform: &Platform| match platforms {
            Platforms::All => true,
            Platforms::Only(wanted) => wanted.contains(platform),
        };
        let mut listed: BTreeMap<Platform, Vec<&IndexEntry>> = BTreeMap::new();
        for entry in entries {
            if let Some(platform) = &entry.platform {
                listed.entry(platform.clone()).or_default().push(entry);
            }
        }
        let children = listed.into_iter().map(async |(platform, entries)| {
            let image = match is_wanted(&platform) {
                true => self.child(&platform, &entries).await,
                false => Fact::Unknown(Cause::NotAsked),
            };
            (platform, image)
        });
        let mut children: BTreeMap<_, _> = join_all(children).await.into_iter().collect();
        let nameless = entries.iter().filter(|entry| entry.platform.is_none());
        for outcome in join_all(nameless.map(|entry| self.nameless(entry))).await {
            if let Some((platform, image)) = outcome? {
                // Nodes look at what the index says before they look further.
                children.entry(platform).or_insert(image);
            }
        }
        Ok(children)
    }

    /// The image of one platform, of which an index may list several.
    ///
    /// A node takes one without variant before others; which of equals it takes depends on their
    /// compression and on its version, so they must have the same layers.
    async fn child(&self, platform: &Platform, entries: &[&IndexEntry]) -> Fact<PlatformImage> {
        let has_usual = entries.iter().any(|entry| !entry.is_variant);
        let mut taken: Option<PlatformImage> = None;
        for entry in entries.iter().filter(|entry| !(has_usual && entry.is_variant)) {
            let image = match self.listed(entry).await {
                Ok((found, image)) if found == *platform => image,
                Ok((found, _)) => Fact::Unknown(self.invalid(format!(
                    "its index lists {} for {platform}, but the config of that image says {found}",
                    entry.digest.short()
                ))),
                Err(failure) => Fact::from(Err(failure)),
            };
            match (image, &taken) {
                (Fact::Known(image), None) => taken = Some(image),
                (Fact::Known(image), Some(first)) if same_layers(first, &image) => {}
                (Fact::Known(_), Some(_)) => {
                    return Fact::Unknown(
                        self.invalid(format!("its index lists different images for {platform}")),
                    );
                }
                (unknown, _) => return unknown,
            }
        }
        taken.map_or(Fact::Absent, Fact::Known)
    }

    /// An image that the index lists without a platform. `None` for something other than an image.
    async fn nameless(&self, entry: &IndexEntry) -> Result<Option<(Platform, Fact<PlatformImage>)>, Cause> {
        match self.listed(entry).await {
            Ok(image) => Ok(Some(image)),
            Err(RequestFailure::Unknown(Cause::NotAnImage { .. })) => Ok(None),
            Err(RequestFailure::Unknown(cause)) => Err(cause),
            Err(RequestFailure::Absent) => Err(self.invalid(format!(
                "its index lists {} for no platform, and that image is not there",
                entry.digest.short()
            ))),
        }
    }

    /// An image that the index lists, with the platform that its config names.
    async fn listed(&self, entry: &IndexEntry) -> Result<(Platform, Fact<PlatformImage>), RequestFailure> {
        let document = self.pinned_to(&entry.digest).document().await?;
        match &document.content {
            OciContent::Image(manifest) => Ok(self.platform(&entry.digest, manifest).await?),
            OciContent::Index(_) => Err(Cause::NotAnImage {
                reason: format!(
                    "its index lists {}, another index, into which nodes do not look",
                    entry.digest.short()
                ),
            }
            .into()),
        }
    }

    /// The image of one manifest, with the platform that its config names.
    async fn platform(
        &self,
        digest: &Digest,
        manifest: &ImageManifest,
    ) -> Result<(Platform, Fact<PlatformImage>), Cause> {
        let config = match self.config(&manifest.config).await {
            Ok(config) => config,
            Err(RequestFailure::Unknown(cause)) => return Err(cause),
            Err(RequestFailure::Absent) => {
                return Err(self.invalid(format!(
                    "it has the manifest {} but not the config {} that this names",
                    digest.short(),
                    manifest.config.digest.short()
                )));
            }
        };
        let (layers, diff_ids) = (manifest.layers.len(), config.diff_ids.len());
        let image = if layers == diff_ids {
            let layers = manifest.layers.iter().zip(&config.diff_ids).map(|(layer, diff_id)| Layer {
                diff_id: diff_id.clone(),
                digest: layer.digest.clone(),
                size: layer.size,
            });
            Fact::Known(PlatformImage {
                manifest: digest.clone(),
                config: manifest.config.digest.clone(),
                layers: layers.collect(),
                labels: config.labels.clone(),
                annotations: manifest.annotations.clone(),
                history: config.history.clone(),
                created: config.created.clone(),
            })
        } else {
            Fact::Unknown(self.invalid(format!(
                "the manifest {} has {layers} layers, but its config names {diff_ids} (rootfs.diff_ids)",
                digest.short()
            )))
        };
        Ok((config.platform.clone(), image))
    }

    /// The manifest or index that the reference names.
    ///
    /// A tag is resolved by the cached answer, so that one review does not see two meanings of it.
    pub(crate) async fn document(&self) -> Result<Arc<OciDocument>, RequestFailure> {
        if self.endpoint.reference.digest().is_some() {
            return self.document_as_named().await;
        }
        let manifest = match self.client.manifests.recall(&self.key()) {
            Some(Fact::Known(manifest)) => manifest,
            _ => {
                let deadline = Instant::now() + LONGEST_QUESTION;
                self.manifest_of_body(Freshness::Cached, deadline).await.required()?
            }
        };
        self.pinned_to(&manifest.digest).document_as_named().await
    }

    pub(crate) async fn document_as_named(&self) -> Result<Arc<OciDocument>, RequestFailure> {
        let fetch = |repository: Self| async move {
            in_time(LONGEST_QUESTION, &repository.endpoint.reference, repository.fetch_document()).await
        };
        self.client.documents.look_up(self, Freshness::Cached, fetch).await.required()
    }

    pub(crate) async fn fetch_document(&self) -> Result<Arc<OciDocument>, RequestFailure> {
        let (manifest, body) = self.get_manifest().await?;
        let content = OciContent::parse(manifest.kind, &body).map_err(|unusable| match unusable {
            Unusable::Wrong(reason) => self.invalid(reason),
            Unusable::NotAnImage(reason) => Cause::NotAnImage { reason },
        })?;
        let document = Arc::new(OciDocument { digest: manifest.digest, content, length: body.len() });
        if self.endpoint.reference.digest().is_none() {
            let known = Fact::Known(Arc::clone(&document));
            self.client.documents.remember(self.pinned_to(&document.digest).key(), known);
        }
        Ok(document)
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<Arc<ImageConfigFile>, RequestFailure> {
        let wanted = descriptor.clone();
        let fetch = |repository: Self| async move {
            let config = repository.fetch_config(&wanted);
            in_time(LONGEST_QUESTION, &repository.endpoint.reference, config).await
        };
        let pinned = self.pinned_to(&descriptor.digest);
        self.client.configs.look_up(&pinned, Freshness::Cached, fetch).await.required()
    }

    async fn fetch_config(&self, descriptor: &Descriptor) -> Result<Arc<ImageConfigFile>, RequestFailure> {
        if descriptor.size > MAX_CONFIG as u64 {
            return Err(self.invalid(format!("its config is longer than {MAX_CONFIG} bytes")).into());
        }
        let reply = self.get(RepositoryResource::Blob(&descriptor.digest)).await?;
        let body = self.client.transport.read(reply, MAX_CONFIG).await?;
        if !descriptor.digest.matches(&body) {
            return Err(self.mismatch(descriptor.digest.clone(), Digest::of(&body)).into());
        }
        ImageConfigFile::parse(&body).map(Arc::new).map_err(|reason| self.invalid(reason).into())
    }
}

impl OciDocument {
    pub(crate) fn kind(&self) -> ManifestKind {
        match self.content {
            OciContent::Image(_) => ManifestKind::Image,
            OciContent::Index(_) => ManifestKind::Index,
        }
    }

    /// Its approximate size in memory, in bytes.
    pub(crate) fn weight(&self) -> usize {
        let members = match &self.content {
            OciContent::Image(image) => image.layers.len() + image.annotations.len(),
            OciContent::Index(entries) => entries.len(),
        };
        self.length + members * MEMBER
    }
}

impl ImageConfigFile {
    /// Its approximate size in memory, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.length + (self.diff_ids.len() + self.labels.len() + self.history.len()) * MEMBER
    }
}

fn same_layers<'a>(one: &'a PlatformImage, other: &'a PlatformImage) -> bool {
    let diff_ids = |image: &'a PlatformImage| image.layers.iter().map(|layer| &layer.diff_id);
    diff_ids(one).eq(diff_ids(other))
}

/// Bytes of combined images.
const MAX_WHOLE: u64 = 16 * 1024 * 1024;
/// As long as a manifest is taken to be still in the registry.
const WHOLE_KEPT: Duration = Duration::from_secs(3600);
/// A layer in memory: two digests and a size. Other single items take about as much.
const LAYER: usize = 256;
/// The overhead of a text in memory.
const WORD: usize = 48;
/// Enough for the manifests of hundreds of images: one with 66 layers has 15 KB.
pub(crate) const MAX_DOCUMENTS: u64 = 32 * 1024 * 1024;
/// Enough for the configs of hundreds of images.
pub(crate) const MAX_CONFIGS: u64 = 32 * 1024 * 1024;
/// Configs of real images have tens of kilobytes; `containers/image` reads as much as this.
const MAX_CONFIG: usize = 8 * 1024 * 1024;
/// The overhead of a layer, a label or a step in memory.
const MEMBER: usize = 128;
