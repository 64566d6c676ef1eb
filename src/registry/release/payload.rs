//! Release payloads: the one file of theirs that names the operating system, out of their layers.
//!
//! The layers are read from the last backwards, each as it streams by, until one holds the file. A
//! layer that is read is read to its end: only then is its digest known, and only then is what it
//! held believed. Nothing goes to disk, and all reading together holds at most [`MEMORY`].

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use crate::model::facts::image::Payload;
use crate::model::facts::{Cause, Fact};
use crate::model::pull_spec::PullSpec;
use crate::registry::images::ImageReader;
use crate::registry::oci::{Descriptor, IndexEntry, OciContent};
use crate::registry::release::image_stream;
use crate::registry::release::layers::{self, LayerChunks, LayerOutcome};
use crate::registry::repository_client::{RepositoryResource, RequestFailure};
use crate::registry::{Pauses, RegistryClient, answer_by};

impl RegistryClient {
    /// Tells what the release payload `reference` says of the operating system, by `deadline`.
    ///
    /// A payload of several platforms says the same on each, because what it names are images of
    /// several platforms too; `linux/amd64` is read where there is one. An answer from before may
    /// serve; what takes longer than the deadline goes on being read for those who come after.
    pub async fn payload(self: &Arc<Self>, reference: &PullSpec, deadline: Instant) -> Fact<Payload> {
        let mut pauses = Pauses::until(deadline);
        loop {
            let answer = self.payload_once(reference, deadline).await;
            if !pauses.wait(&answer).await {
                return answer;
            }
        }
    }

    async fn payload_once(self: &Arc<Self>, reference: &PullSpec, deadline: Instant) -> Fact<Payload> {
        let mut tour = self.tour(reference, deadline);
        while let Some((stop, by)) = tour.next().await {
            let work = Box::pin(ImageReader::new(self, &stop).payload());
            if let Some(payload) = tour.note(answer_by(by, &stop.reference, work).await) {
                return Fact::Known(payload);
            }
        }
        tour.end()
    }
}

impl ImageReader {
    async fn payload(self) -> Fact<Payload> {
        let pinned = match self.reference.digest() {
            Some(_) => self.clone(),
            None => match self.document().await {
                Fact::Known(document) => self.pinned_to(&document.digest),
                Fact::Absent => return Fact::Absent,
                Fact::Unknown(cause) => return Fact::Unknown(cause),
            },
        };
        let (client, key) = (Arc::clone(&self.client), pinned.key());
        let fetch = move || Box::pin(async move { pinned.fetch_payload().await }) as _;
        client.look_up("payload", &client.payloads, key, fetch).await
    }

    async fn fetch_payload(&self) -> Fact<Payload> {
        // It fails only when the semaphore is closed, which nobody does.
        let _turn = self.client.payload_turns.acquire().await;
        match timeout(LONGEST_READ, self.read_payload()).await {
            Ok(outcome) => RequestFailure::fact(outcome),
            Err(_) => Fact::Unknown(Cause::OutOfTime { host: self.reference.host().to_owned() }),
        }
    }

    async fn read_payload(&self) -> Result<Payload, RequestFailure> {
        let document = known(self.document().await)?;
        match &document.content {
            OciContent::Image(manifest) => self.payload_in(&manifest.layers).await,
            OciContent::Index(entries) => {
                let entry = preferred(entries).ok_or_else(|| no_release("its index lists no linux image"))?;
                let child = self.pinned_to(&entry.digest);
                let document = known(child.document().await)?;
                match &document.content {
                    OciContent::Image(manifest) => child.payload_in(&manifest.layers).await,
                    OciContent::Index(_) => Err(no_release("its index lists another index")),
                }
            }
        }
    }

    async fn payload_in(&self, layers: &[Descriptor]) -> Result<Payload, RequestFailure> {
        let mut left = MAX_PACKED;
        for (index, layer) in layers.iter().enumerate().rev() {
            left = left.checked_sub(layer.size).ok_or_else(|| {
                no_release(format!(
                    "the last {MAX_PACKED} bytes of its layers hold no {IMAGE_REFERENCES}; it is layer {} of {} that exceeds them",
                    index + 1,
                    layers.len()
                ))
            })?;
            match self.search(layer).await? {
                LayerOutcome::Holds(text) => return image_stream::parse(&text).map_err(no_release),
                LayerOutcome::Removes => break,
                LayerOutcome::None => {}
            }
        }
        Err(no_release(format!("its layers hold no {IMAGE_REFERENCES}")))
    }

    /// What a layer does to the file. Believed, because the whole layer has its digest.
    async fn search(&self, layer: &Descriptor) -> Result<LayerOutcome, RequestFailure> {
        let dialogue = self.dialogue();
        let mut reply = dialogue.ask(Method::GET, RepositoryResource::Blob(&layer.digest)).await?;
        match reply.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                let layer = layer.digest.short();
                return Err(dialogue.nonsense(format!("it has the manifest but not the layer {layer}")));
            }
            _ => return Err(dialogue.failure(&reply)),
        }
        let (sender, receiver) = mpsc::channel(PIECES);
        let reading = tokio::task::spawn_blocking(move || {
            layers::look_for(IMAGE_REFERENCES, LayerChunks::new(receiver))
        });
        let mut hasher = layer.digest.hasher();
        let mut left = layer.size;
        while let Some(piece) = reply.piece().await.map_err(RequestFailure::Unknown)? {
            left = left.checked_sub(piece.len() as u64).ok_or_else(|| {
                dialogue.nonsense(format!(
                    "the layer {} is longer than the {} bytes that its manifest says",
                    layer.digest.short(),
                    layer.size
                ))
            })?;
            hasher.update(&piece);
            // Whoever reads may have seen enough; the digest is of the whole.
            let _ = sender.send(piece).await;
        }
        drop(sender);
        let found = hasher.finish();
        if found != layer.digest {
            return Err(dialogue.mismatch(layer.digest.clone(), found));
        }
        match reading.await {
            Ok(Ok(effect)) => Ok(effect),
            Ok(Err(reason)) => Err(no_release(format!("its layer {} {reason}", layer.digest.short()))),
            Err(error) => {
                tracing::error!(%error, "a layer could not be read");
                Err(Cause::Internal.into())
            }
        }
    }
}

/// Turns that readers of payloads take.
pub(crate) fn turns() -> Semaphore {
    Semaphore::new(READS_AT_ONCE)
}

/// About what it takes to keep a payload.
pub(crate) fn weight(payload: &Payload) -> usize {
    let of_image = |(name, image): (&String, &crate::model::facts::image::OsImage)| {
        name.len() + 4 * image.reference.as_str().len() + 256
    };
    payload.os_images.iter().map(of_image).sum::<usize>() + payload.version.len()
}

fn known<T>(fact: Fact<T>) -> Result<T, RequestFailure> {
    match fact {
        Fact::Known(answer) => Ok(answer),
        Fact::Absent => Err(RequestFailure::Absent),
        Fact::Unknown(cause) => Err(RequestFailure::Unknown(cause)),
    }
}

fn preferred(entries: &[IndexEntry]) -> Option<&IndexEntry> {
    let is_amd64 = |entry: &&IndexEntry| {
        entry.platform.as_ref().is_some_and(|platform| platform.architecture() == "amd64")
    };
    entries.iter().find(is_amd64).or(entries.first())
}

fn no_release(reason: impl Into<String>) -> RequestFailure {
    Cause::NotARelease { reason: reason.into() }.into()
}

/// Room for hundreds of payloads: of each only the operating systems are kept.
pub(crate) const MAX_PAYLOADS: u64 = 1024 * 1024;
/// Where a payload lists its images.
const IMAGE_REFERENCES: &str = "release-manifests/image-references";
/// The layer with the manifests has some ten megabytes, and some tens where it is not packed. Somebody
/// who names another image than a release's must not make us read gigabytes.
const MAX_PACKED: u64 = 128 * 1024 * 1024;
/// Pieces of a body on their way from the connection to the one who unpacks.
const PIECES: usize = 4;
/// What the HTTP client reads at once at most (`hyper`).
const PIECE: usize = 512 * 1024;
const READS_AT_ONCE: usize = 2;
/// What the readers of payloads hold together at most.
const MEMORY: usize = 96 * 1024 * 1024;
const _: () = assert!(READS_AT_ONCE * (layers::MEMORY + PIECES * PIECE) <= MEMORY);
/// Nobody waits for it: admissions know what was read before. Ten megabytes come in this time over
/// a slow line.
const LONGEST_READ: Duration = Duration::from_secs(120);
