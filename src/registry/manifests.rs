//! Which manifest does a reference name?
//!
//! Owns the cheapest request that tells: HEAD, GET where a registry refuses HEAD or tells no digest there,
//! and nothing beside the body of a digest where that is read anyway.

use std::sync::Arc;

use reqwest::{Method, StatusCode};
use tokio::time::{Instant, timeout_at};

use crate::model::facts::{Fact, Manifest};
use crate::model::pull_spec::PullSpec;
use crate::model::question::Freshness;
use crate::registry::RegistryClient;
use crate::registry::repository_client::{RepositoryClient, RepositoryResource, RequestFailure};
use crate::registry::waiting::{LONGEST_QUESTION, in_time, out_of_time};

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
        let ask = |repository: RepositoryClient, by| async move {
            let answer = repository.manifest(freshness, by).await;
            answer.map(|manifest| Manifest { endpoint: repository.endpoint.name, ..manifest })
        };
        self.ask(reference, deadline, ask).await
    }
}

impl RepositoryClient {
    async fn manifest(&self, freshness: Freshness, deadline: Instant) -> Fact<Manifest> {
        let fetch = |repository: Self| async move {
            in_time(LONGEST_QUESTION, &repository.endpoint.reference, repository.fetch_manifest()).await
        };
        let answer = self.client.manifests.look_up(self, freshness, fetch);
        timeout_at(deadline, answer).await.unwrap_or_else(|_| out_of_time(&self.endpoint.reference))
    }

    /// The same for a caller that reads the body next.
    pub(crate) async fn manifest_before_body(
        &self,
        freshness: Freshness,
        deadline: Instant,
    ) -> Fact<Manifest> {
        // A cached body does not tell whether the registry still has it.
        let is_cached = || self.client.documents.recall(&self.key()).is_some();
        if self.endpoint.reference.digest().is_none() || is_cached() {
            return self.manifest(freshness, deadline).await;
        }
        self.manifest_of_body(freshness, deadline).await
    }

    /// The same, told from the body, which is cached by its digest.
    pub(crate) async fn manifest_of_body(&self, freshness: Freshness, deadline: Instant) -> Fact<Manifest> {
        let fetch = |repository: Self| async move {
            let document = async {
                match repository.endpoint.reference.digest() {
                    Some(_) => repository.document_as_named().await,
                    None => repository.clone().fetch_document().await,
                }
            };
            let document = in_time(LONGEST_QUESTION, &repository.endpoint.reference, document).await;
            document.map(|document| repository.manifest_with(document.digest.clone(), document.kind()))
        };
        let answer = self.client.manifests.look_up(self, freshness, fetch);
        timeout_at(deadline, answer).await.unwrap_or_else(|_| out_of_time(&self.endpoint.reference))
    }

    async fn fetch_manifest(&self) -> Result<Manifest, RequestFailure> {
        let head = self.request(Method::HEAD, RepositoryResource::Manifest).await?;
        match head.status {
            StatusCode::OK => {
                if let Some(manifest) = self.manifest_of_head(&head)? {
                    return Ok(manifest);
                }
            }
            status if HEAD_IS_UNKNOWN.contains(&status) => {}
            _ => return Err(self.failure(&head)),
        }
        Ok(self.get_manifest().await?.0)
    }
}

/// Statuses by which registries say that they do not answer HEAD, though they answer GET.
const HEAD_IS_UNKNOWN: [StatusCode; 4] = [
    StatusCode::BAD_REQUEST,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::NOT_ACCEPTABLE,
    StatusCode::NOT_IMPLEMENTED,
];
