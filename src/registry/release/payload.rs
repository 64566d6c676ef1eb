//! Release payloads: the file in their layers that has the operating system images.
//!
//! The layers are read from the last to the first until one has the file, each while it is downloaded. A layer is
//! read to its end, because its content is used only if its digest is right. Nothing is written to disk, and all
//! readers together use at most [`MEMORY`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::model::facts::image::Payload;
use crate::model::facts::{Cause, Fact};
use crate::model::pull_spec::PullSpec;
use crate::model::question::Freshness;
use crate::registry::RegistryClient;
use crate::registry::oci::{Descriptor, IndexEntry, OciContent};
use crate::registry::release::image_stream;
use crate::registry::release::layers::{self, LayerChunks, LayerOutcome};
use crate::registry::repository_client::{RepositoryClient, RepositoryResource, RequestFailure};
use crate::registry::waiting::{answer_by, in_time};

impl RegistryClient {
    /// The operating system images of the release payload `reference`, by `deadline`.
    ///
    /// A payload with several platforms has the same images on each, because those have several platforms too;
    /// `linux/amd64` is preferred. An earlier answer is used if there is one. Reading continues after the
    /// deadline, for later callers.
    pub async fn payload(self: &Arc<Self>, reference: &PullSpec, deadline: Instant) -> Fact<Payload> {
        let ask = |repository: RepositoryClient, by| async move {
            let reference = repository.endpoint.reference.clone();
            answer_by(by, &reference, repository.payload()).await
        };
        self.ask(reference, deadline, ask).await
    }
}

impl RepositoryClient {
    async fn payload(self) -> Result<Payload, RequestFailure> {
        let pinned = match self.endpoint.reference.digest() {
            Some(_) => self,
            None => self.pinned_to(&self.document().await?.digest),
        };
        let fetch = |repository: Self| async move {
            // The semaphore is never closed.
            let _permit = repository.client.payload_turns.acquire().await;
            in_time(LONGEST_READ, &repository.endpoint.reference, repository.read_payload()).await
        };
        pinned.client.payloads.look_up(&pinned, Freshness::Cached, fetch).await.required()
    }

    async fn read_payload(&self) -> Result<Payload, RequestFailure> {
        let document = self.document().await?;
        let entries = match &document.content {
            OciContent::Image(manifest) => return self.payload_in(&manifest.layers).await,
            OciContent::Index(entries) => entries,
        };
        let entry = preferred(entries).ok_or_else(|| not_a_release("its index has no linux image"))?;
        let child = self.pinned_to(&entry.digest);
        match &child.document().await?.content {
            OciContent::Image(manifest) => child.payload_in(&manifest.layers).await,
            OciContent::Index(_) => Err(not_a_release("its index has another index")),
        }
    }

    async fn payload_in(&self, layers: &[Descriptor]) -> Result<Payload, RequestFailure> {
        let mut left = MAX_PACKED;
        for (index, layer) in layers.iter().enumerate().rev() {
            left = left.checked_sub(layer.size).ok_or_else(|| {
                not_a_release(format!(
                    "the last {MAX_PACKED} bytes of its layers do not have {IMAGE_REFERENCES}; layer {} of {} exceeds them",
                    index + 1,
                    layers.len()
                ))
            })?;
            match self.search(layer).await? {
                LayerOutcome::Holds(text) => return image_stream::parse(&text).map_err(not_a_release),
                LayerOutcome::Removes => break,
                LayerOutcome::Unchanged => {}
            }
        }
        Err(not_a_release(format!("its layers do not have {IMAGE_REFERENCES}")))
    }

    /// What a layer does to the file. Fails when the layer does not have its digest.
    async fn search(&self, layer: &Descriptor) -> Result<LayerOutcome, RequestFailure> {
        let reply = self.get(RepositoryResource::Blob(&layer.digest)).await;
        let mut reply = reply.map_err(|failure| match failure {
            RequestFailure::Absent => {
                self.invalid(format!("it has the manifest but not layer {}", layer.digest.short())).into()
            }
            failure => failure,
        })?;
        let (sender, receiver) = mpsc::channel(CHUNKS);
        let reading =
            tokio::task::spawn_blocking(move || layers::find(IMAGE_REFERENCES, LayerChunks::new(receiver)));
        let mut hasher = layer.digest.hasher();
        let mut left = layer.size;
        while let Some(chunk) = reply.chunk().await? {
            left = left.checked_sub(chunk.len() as u64).ok_or_else(|| {
                self.invalid(format!(
                    "layer {} has more than the {} bytes in its manifest",
                    layer.digest.short(),
                    layer.size
                ))
            })?;
            hasher.update(&chunk);
            // The reader may have stopped; the digest is that of the whole layer.
            let _ = sender.send(chunk).await;
        }
        drop(sender);
        let found = hasher.finish();
        if found != layer.digest {
            return Err(self.mismatch(layer.digest.clone(), found).into());
        }
        match reading.await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(reason)) => Err(not_a_release(format!("its layer {} {reason}", layer.digest.short()))),
            Err(error) => {
                tracing::error!(%error, "reading a layer panicked");
                Err(Cause::Internal.into())
            }
        }
    }
}

/// About how many bytes a cached payload takes.
pub(crate) fn weight(payload: &Payload) -> usize {
    let of_image = |(name, image): (&String, &crate::model::facts::image::OsImage)| {
        name.len() + 4 * image.reference.as_str().len() + 256
    };
    payload.os_images.iter().map(of_image).sum::<usize>() + payload.version.len()
}

fn preferred(entries: &[IndexEntry]) -> Option<&IndexEntry> {
    let is_amd64 = |entry: &&IndexEntry| {
        entry.platform.as_ref().is_some_and(|platform| platform.architecture() == "amd64")
    };
    entries.iter().find(is_amd64).or(entries.first())
}

fn not_a_release(reason: impl Into<String>) -> RequestFailure {
    Cause::NotARelease { reason: reason.into() }.into()
}

/// Hundreds of payloads, of which only the operating systems are kept.
pub(crate) const MAX_PAYLOADS: u64 = 1024 * 1024;
/// The list of images in a payload.
const IMAGE_REFERENCES: &str = "release-manifests/image-references";
/// The layer with the manifests has some ten megabytes, and some tens if it is not compressed. A reference to another
/// image than a release must not cost gigabytes.
const MAX_PACKED: u64 = 128 * 1024 * 1024;
/// Chunks of a body between the connection and the decompressor.
const CHUNKS: usize = 4;
/// The most that the HTTP client reads at once (`hyper`).
const CHUNK: usize = 512 * 1024;
/// How many payloads are read at once.
pub(crate) const CONCURRENT_READS: usize = 2;
/// The most memory for all readers of payloads together.
const MEMORY: usize = 96 * 1024 * 1024;
const _: () = assert!(CONCURRENT_READS * (layers::MEMORY + CHUNKS * CHUNK) <= MEMORY);
/// No review waits this long, because payloads are read in advance. Enough for ten megabytes over a slow
/// connection.
const LONGEST_READ: Duration = Duration::from_secs(120);
