//! Images: manifest, index and config, combined platform by platform.
//!
//! Reads two small documents for an image, and two more for each platform of an index; never a layer.
//! Each is checked against its digest and cached by it, so images that share one share the answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use moka::sync::Cache;
use reqwest::{Method, StatusCode};
use tokio::time::Instant;

use crate::model::digest::Digest;
use crate::model::facts::image::{Image, Layer, Platform, PlatformImage};
use crate::model::facts::{Cause, Fact, Manifest, ManifestKind};
use crate::model::pull_spec::PullSpec;
use crate::model::question::{Freshness, Platforms};
use crate::registry::RegistryClient;
use crate::registry::auth::credential::{Credential, Fingerprint};
use crate::registry::cache::{AnswerCache, CacheKey};
use crate::registry::http::Trust;
use crate::registry::mirrors::endpoints::ResolvedEndpoint;
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
            let is_again = match &named {
                Some(named) => pauses.wait(named).await,
                None => false,
            };
            if !is_again && !pauses.wait(&image).await && !pauses.wait_for_any(&image).await {
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
        let is_known = |named: &Option<Fact<Manifest>>| matches!(named, Some(Fact::Known(_)));
        let mut endpoints = self.endpoints(reference, deadline);
        while let Some((endpoint, by)) = endpoints.next().await {
            let key = ImageKey::new(&endpoint, platforms);
            let cached = self.images.recall(&key).filter(|_| manifest != Some(Freshness::Fresh));
            self.metrics.cache_request("image", if cached.is_some() { "hit" } else { "miss" });
            if let Some(image) = cached {
                if manifest.is_some() && !is_known(&named) {
                    let (digest, kind, endpoint) = (image.digest.clone(), image.kind, endpoint.name);
                    named = Some(Fact::Known(Manifest { digest, kind, endpoint }));
                }
                return (named, Fact::Known(image));
            }
            let reader = ImageReader::new(self, &endpoint);
            if let Some(freshness) = manifest
                && !is_known(&named)
            {
                let answer = Box::pin(reader.manifest_before_body(freshness, by)).await;
                named = Some(answer.map(|manifest| Manifest { endpoint: endpoint.name.clone(), ..manifest }));
            }
            let platforms = platforms.clone();
            let work = Box::pin(async move { reader.image(&platforms).await });
            if let Some(image) = endpoints.note(answer_by(by, &endpoint.reference, work).await) {
                let image = Arc::new(image);
                self.images.keep(key, &image);
                return (named, Fact::Known(image));
            }
        }
        let image: Fact<Arc<Image>> = endpoints.end();
        if manifest.is_some() && !is_known(&named) {
            // Nobody gave either, for the same reasons.
            named = Some(image.cause().map_or(Fact::Absent, |cause| Fact::Unknown(cause.clone())));
        }
        (named, image)
    }

    /// The cached answer, that of a question under way, or that of `fetch`.
    pub(crate) async fn look_up<T: Clone + Send + Sync + 'static>(
        &self,
        name: &'static str,
        cache: &AnswerCache<T>,
        key: CacheKey,
        fetch: impl FnOnce() -> BoxFuture<'static, Fact<T>>,
    ) -> Fact<T> {
        if let Some(answer) = cache.recall(&key) {
            self.metrics.cache_request(name, "hit");
            return answer;
        }
        self.metrics.cache_request(name, "miss");
        // It ends without an answer only by a panic, which is in the log.
        cache.ask(key, fetch()).answer().await.unwrap_or(Fact::Unknown(Cause::Internal))
    }
}

impl Pauses {
    /// Waits for the end of a pause that one of the platforms asks for.
    async fn wait_for_any(&mut self, answer: &Fact<Arc<Image>>) -> bool {
        let Fact::Known(image) = answer else { return false };
        let is_paused = |image: &&Fact<PlatformImage>| matches!(image, Fact::Unknown(Cause::Paused { .. }));
        match image.platforms.values().find(is_paused) {
            Some(paused) => self.wait(paused).await,
            None => false,
        }
    }
}

/// Images that were combined before. The documents have caches of their own; this one saves combining
/// them again for every review of the same image.
#[derive(Debug)]
pub(crate) struct ImageCache(Cache<ImageKey, Arc<Image>>);

/// An image by digest, the endpoint and credential that it was read with, and its platforms.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ImageKey {
    reference: PullSpec,
    credential: Option<Fingerprint>,
    platforms: Platforms,
}

impl ImageKey {
    fn new(endpoint: &ResolvedEndpoint, platforms: &Platforms) -> Self {
        Self {
            reference: endpoint.reference.clone(),
            credential: endpoint.credential.as_ref().map(Credential::fingerprint),
            platforms: platforms.clone(),
        }
    }
}

impl ImageCache {
    pub(crate) fn new() -> Self {
        let weigher = |_: &ImageKey, image: &Arc<Image>| u32::try_from(image.weight()).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(MAX_WHOLE).weigher(weigher).time_to_live(WHOLE_KEPT).build())
    }

    fn recall(&self, key: &ImageKey) -> Option<Arc<Image>> {
        key.reference.digest().and_then(|_| self.0.get(key))
    }

    /// Keeps an image by digest when everything that was asked for is known. A tag may move.
    fn keep(&self, key: ImageKey, image: &Arc<Image>) {
        let is_settled =
            |fact: &Fact<PlatformImage>| matches!(fact, Fact::Known(_) | Fact::Unknown(Cause::NotAsked));
        if key.reference.digest().is_some() && image.platforms.values().all(is_settled) {
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

/// Reads the documents of one reference at one endpoint.
#[derive(Clone)]
pub(crate) struct ImageReader {
    pub(crate) client: Arc<RegistryClient>,
    pub(crate) reference: PullSpec,
    trust: Trust,
    credential: Option<Credential>,
}

impl ImageReader {
    pub(crate) fn new(client: &Arc<RegistryClient>, endpoint: &ResolvedEndpoint) -> Self {
        Self {
            client: Arc::clone(client),
            reference: endpoint.reference.clone(),
            trust: endpoint.trust,
            credential: endpoint.credential.clone(),
        }
    }

    async fn image(&self, platforms: &Platforms) -> Fact<Image> {
        let document = match self.document().await {
            Fact::Known(document) => document,
            Fact::Absent => return Fact::Absent,
            Fact::Unknown(cause) => return Fact::Unknown(cause),
        };
        let digest = document.digest.clone();
        let platforms = match &document.content {
            OciContent::Image(manifest) => {
                self.platform(&digest, manifest).await.map(|platform| BTreeMap::from([platform]))
            }
            OciContent::Index(entries) => self.children(entries, platforms).await,
        };
        match platforms {
            Ok(platforms) => Fact::Known(Image { digest, kind: document.kind(), platforms }),
            Err(cause) => Fact::Unknown(cause),
        }
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
                Err(RequestFailure::Absent) => Fact::Absent,
                Err(RequestFailure::Unknown(cause)) => Fact::Unknown(cause),
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
        let document = match self.pinned_to(&entry.digest).document().await {
            Fact::Known(document) => document,
            Fact::Absent => return Err(RequestFailure::Absent),
            Fact::Unknown(cause) => return Err(RequestFailure::Unknown(cause)),
        };
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
            Fact::Known(config) => config,
            Fact::Unknown(cause) => return Err(cause),
            Fact::Absent => {
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
    pub(crate) async fn document(&self) -> Fact<Arc<OciDocument>> {
        if self.reference.digest().is_some() {
            return self.document_as_named().await;
        }
        let named = match self.client.manifests.recall(&self.key()) {
            Some(known @ Fact::Known(_)) => known,
            _ => self.manifest_of_body(Freshness::Cached, Instant::now() + LONGEST_QUESTION).await,
        };
        match named {
            Fact::Known(manifest) => self.pinned_to(&manifest.digest).document_as_named().await,
            Fact::Absent => Fact::Absent,
            Fact::Unknown(cause) => Fact::Unknown(cause),
        }
    }

    pub(crate) async fn document_as_named(&self) -> Fact<Arc<OciDocument>> {
        let fetch = || {
            let reader = self.clone();
            Box::pin(async move { in_time(&reader.reference, reader.fetch_document()).await }) as _
        };
        self.client.look_up("document", &self.client.documents, self.key(), fetch).await
    }

    pub(crate) async fn fetch_document(&self) -> Result<Arc<OciDocument>, RequestFailure> {
        let repository = self.repository();
        let reply = repository.request(Method::GET, RepositoryResource::Manifest).await?;
        if reply.status != StatusCode::OK {
            return Err(repository.failure(&reply));
        }
        let (manifest, body) = repository.manifest_of_body(reply).await?;
        let content = OciContent::parse(manifest.kind, &body).map_err(|unusable| match unusable {
            Unusable::Wrong(reason) => repository.invalid(reason),
            Unusable::NotAnImage(reason) => Cause::NotAnImage { reason }.into(),
        })?;
        let document = Arc::new(OciDocument { digest: manifest.digest, content, length: body.len() });
        if self.reference.digest().is_none() {
            let known = Fact::Known(Arc::clone(&document));
            self.client.documents.remember(self.pinned_to(&document.digest).key(), known);
        }
        Ok(document)
    }

    async fn config(&self, descriptor: &Descriptor) -> Fact<Arc<ImageConfigFile>> {
        let fetch = || {
            let (reader, wanted) = (self.clone(), descriptor.clone());
            Box::pin(async move { in_time(&reader.reference, reader.fetch_config(&wanted)).await }) as _
        };
        let key = self.pinned_to(&descriptor.digest).key();
        self.client.look_up("config", &self.client.configs, key, fetch).await
    }

    async fn fetch_config(&self, descriptor: &Descriptor) -> Result<Arc<ImageConfigFile>, RequestFailure> {
        let repository = self.repository();
        if descriptor.size > MAX_CONFIG as u64 {
            return Err(repository.invalid(format!("its config is longer than {MAX_CONFIG} bytes")));
        }
        let reply = repository.request(Method::GET, RepositoryResource::Blob(&descriptor.digest)).await?;
        if reply.status != StatusCode::OK {
            return Err(repository.failure(&reply));
        }
        let body = self.client.transport.read(reply, MAX_CONFIG).await.map_err(RequestFailure::Unknown)?;
        if !descriptor.digest.matches(&body) {
            return Err(repository.mismatch(descriptor.digest.clone(), Digest::of(&body)));
        }
        ImageConfigFile::parse(&body).map(Arc::new).map_err(|reason| repository.invalid(reason))
    }

    pub(crate) fn repository(&self) -> RepositoryClient<'_> {
        RepositoryClient {
            client: &self.client,
            reference: &self.reference,
            trust: self.trust,
            credential: self.credential.as_ref(),
        }
    }

    /// A reader of the manifest or blob with this digest in the same repository.
    pub(crate) fn pinned_to(&self, digest: &Digest) -> Self {
        Self { reference: self.reference.pinned_to(digest), ..self.clone() }
    }

    pub(crate) fn key(&self) -> CacheKey {
        CacheKey::new(&self.reference, self.trust, self.credential.as_ref())
    }

    fn invalid(&self, reason: String) -> Cause {
        Cause::InvalidResponse { host: self.reference.host().to_owned(), reason }
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

fn same_layers(one: &PlatformImage, other: &PlatformImage) -> bool {
    let diff_ids =
        |image: &PlatformImage| image.layers.iter().map(|layer| layer.diff_id.clone()).collect::<Vec<_>>();
    diff_ids(one) == diff_ids(other)
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
