//! Which manifest does a reference name?
//!
//! Owns the cheapest request that tells: HEAD, GET where a registry refuses HEAD or tells no digest there,
//! and nothing beside the body of a digest where that is read anyway.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::{Method, StatusCode};
use tokio::time::{Instant, timeout_at};

use crate::model::facts::{Fact, Manifest};
use crate::model::pull_spec::PullSpec;
use crate::model::question::Freshness;
use crate::registry::RegistryClient;
use crate::registry::images::ImageReader;
use crate::registry::repository_client::{RepositoryResource, RequestFailure};
use crate::registry::waiting::{Pauses, in_time, settle};

impl RegistryClient {
    /// Tells which manifest `reference` names, by `deadline`.
    ///
    /// Equal questions that come together are asked once; when the deadline of one of them passes, the
    /// others still get the answer. A fresh look-up joins others that nobody has begun yet. When the
    /// registry asks for a pause that ends before the deadline, the question is asked again after it.
    pub async fn manifest(
        self: &Arc<Self>,
        reference: &PullSpec,
        freshness: Freshness,
        deadline: Instant,
    ) -> Fact<Manifest> {
        let mut pauses = Pauses::until(deadline);
        loop {
            let answer = self.manifest_once(reference, freshness, deadline).await;
            if !pauses.wait(&answer).await {
                return answer;
            }
        }
    }

    async fn manifest_once(
        self: &Arc<Self>,
        reference: &PullSpec,
        freshness: Freshness,
        deadline: Instant,
    ) -> Fact<Manifest> {
        let mut endpoints = self.endpoints(reference, deadline);
        while let Some((endpoint, by)) = endpoints.next().await {
            let answer = ImageReader::new(self, &endpoint).manifest(freshness, by).await;
            if let Some(manifest) = endpoints.note(answer) {
                return Fact::Known(Manifest { endpoint: endpoint.name, ..manifest });
            }
        }
        endpoints.end()
    }
}

impl ImageReader {
    async fn manifest(&self, freshness: Freshness, deadline: Instant) -> Fact<Manifest> {
        let fetch = |reader: Self| {
            Box::pin(async move { in_time(&reader.reference, reader.fetch_manifest()).await }) as _
        };
        self.look_up_manifest(freshness, fetch, deadline).await
    }

    /// The same for a caller that reads the body next.
    pub(crate) async fn manifest_before_body(
        &self,
        freshness: Freshness,
        deadline: Instant,
    ) -> Fact<Manifest> {
        // A cached body does not tell whether the registry still has it.
        if self.reference.digest().is_none() || self.client.documents.recall(&self.key()).is_some() {
            return self.manifest(freshness, deadline).await;
        }
        self.manifest_of_body(freshness, deadline).await
    }

    /// The same, told from the body, which is cached by its digest.
    pub(crate) async fn manifest_of_body(&self, freshness: Freshness, deadline: Instant) -> Fact<Manifest> {
        let fetch = |reader: Self| {
            Box::pin(async move {
                let document = match reader.reference.digest() {
                    Some(_) => reader.document_as_named().await,
                    None => in_time(&reader.reference, reader.fetch_document()).await,
                };
                document.map(|document| Manifest {
                    digest: document.digest.clone(),
                    kind: document.kind(),
                    endpoint: reader.reference.api_host().to_owned(),
                })
            }) as _
        };
        self.look_up_manifest(freshness, fetch, deadline).await
    }

    async fn look_up_manifest(
        &self,
        freshness: Freshness,
        fetch: impl FnOnce(Self) -> BoxFuture<'static, Fact<Manifest>>,
        deadline: Instant,
    ) -> Fact<Manifest> {
        let (cache, metrics, key) = (&self.client.manifests, &self.client.metrics, self.key());
        let call = match freshness {
            Freshness::Cached => {
                if let Some(answer) = cache.recall(&key) {
                    metrics.cache_request("manifest", "hit");
                    return answer;
                }
                metrics.cache_request("manifest", "miss");
                cache.ask(key, fetch(self.clone()))
            }
            Freshness::Fresh => {
                metrics.cache_request("manifest", "bypass");
                cache.ask_anew(key, fetch(self.clone()))
            }
        };
        settle(timeout_at(deadline, call.answer()).await, &self.reference)
    }

    async fn fetch_manifest(&self) -> Result<Manifest, RequestFailure> {
        let repository = self.repository();
        let head = repository.request(Method::HEAD, RepositoryResource::Manifest).await?;
        match head.status {
            StatusCode::OK => {
                if let Some(manifest) = repository.manifest_of_head(&head)? {
                    return Ok(manifest);
                }
            }
            status if HEAD_IS_UNKNOWN.contains(&status) => {}
            _ => return Err(repository.failure(&head)),
        }
        let reply = repository.request(Method::GET, RepositoryResource::Manifest).await?;
        if reply.status != StatusCode::OK {
            return Err(repository.failure(&reply));
        }
        Ok(repository.manifest_of_body(reply).await?.0)
    }
}

/// Statuses by which registries say that they do not answer HEAD, though they answer GET.
const HEAD_IS_UNKNOWN: [StatusCode; 4] = [
    StatusCode::BAD_REQUEST,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::NOT_ACCEPTABLE,
    StatusCode::NOT_IMPLEMENTED,
];
