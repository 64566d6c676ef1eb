//! Answers of registries, kept for a while; equal questions under way are joined.
//!
//! Owns how long each kind of answer is kept, and which replaces which. The key includes the
//! credential, so nobody learns of a private image through the answer to somebody else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use derive_more::Debug;
use moka::Expiry;
use moka::sync::Cache;

use crate::model::facts::{Cause, Fact};
use crate::model::pull_spec::PullSpec;
use crate::model::question::Freshness;
use crate::registry::auth::credential::{Credential, Fingerprint};
use crate::registry::http::Trust;
use crate::registry::repository_client::RepositoryClient;
use crate::registry::single_flight::{CallResult, Reuse, SingleFlight};

/// Answers to questions of one kind.
#[derive(Debug)]
#[debug("AnswerCache({name})")]
pub(crate) struct AnswerCache<T> {
    /// What the metrics call the questions.
    name: &'static str,
    kept: Cache<CacheKey, Fact<T>>,
    under_way: Arc<SingleFlight<CacheKey, Fact<T>>>,
}

/// A question to one endpoint, how it was spoken to, and who asked it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    pub(crate) reference: PullSpec,
    trust: Trust,
    credential: Option<Fingerprint>,
}

impl CacheKey {
    pub(crate) fn new(reference: &PullSpec, trust: Trust, credential: Option<&Credential>) -> Self {
        Self { reference: reference.clone(), trust, credential: credential.map(Credential::fingerprint) }
    }
}

impl<T: Clone + Send + Sync + 'static> AnswerCache<T> {
    /// Small answers, which say that something exists.
    pub(crate) fn of_presence(name: &'static str) -> Self {
        let expiry = CachedFact { by_digest: Some(BY_DIGEST) };
        let kept = Cache::builder().max_capacity(MAX_ANSWERS).expire_after(expiry).build();
        Self { name, kept, under_way: SingleFlight::new() }
    }

    /// Answers with content, of at most `bytes` together. What a digest names is kept until there is no
    /// room.
    pub(crate) fn of_content(name: &'static str, bytes: u64, weigh: fn(&T) -> usize) -> Self {
        let weigher = move |_: &CacheKey, answer: &Fact<T>| {
            let content = if let Fact::Known(content) = answer { weigh(content) } else { 0 };
            u32::try_from(content.saturating_add(ANSWER)).unwrap_or(u32::MAX)
        };
        let expiry = CachedFact { by_digest: None };
        let kept = Cache::builder().max_capacity(bytes).weigher(weigher).expire_after(expiry).build();
        Self { name, kept, under_way: SingleFlight::new() }
    }

    /// The answer that is kept, that of a question under way, or that of `fetch`. A fresh answer is one to a question
    /// that is asked after this call.
    pub(crate) async fn look_up<F: Future<Output = Fact<T>> + Send + 'static>(
        &self,
        repository: &RepositoryClient,
        freshness: Freshness,
        fetch: impl FnOnce(RepositoryClient) -> F,
    ) -> Fact<T> {
        let (key, metrics) = (repository.key(), &repository.client.metrics);
        let call = match freshness {
            Freshness::Cached => {
                if let Some(answer) = self.recall(&key) {
                    metrics.cache_request(self.name, "hit");
                    return answer;
                }
                metrics.cache_request(self.name, "miss");
                self.ask(key, fetch(repository.clone()))
            }
            Freshness::Fresh => {
                metrics.cache_request(self.name, "bypass");
                self.ask_anew(key, fetch(repository.clone()))
            }
        };
        // It ends without an answer only by a panic, which is in the log.
        call.answer().await.unwrap_or(Fact::Unknown(Cause::Internal))
    }

    pub(crate) fn recall(&self, key: &CacheKey) -> Option<Fact<T>> {
        self.kept.get(key)
    }

    /// The answer of a question that is under way already, one that came meanwhile, or that of `ask`.
    fn ask(&self, key: CacheKey, ask: impl Future<Output = Fact<T>> + Send + 'static) -> CallResult<Fact<T>> {
        let (land, asked) = (self.keep(key.clone()), key.clone());
        self.under_way.join(|| self.recall(&asked), key, ask, land)
    }

    /// The answer to a question that is asked after this call: `ask`, or one that has yet to begin.
    fn ask_anew(
        &self,
        key: CacheKey,
        ask: impl Future<Output = Fact<T>> + Send + 'static,
    ) -> CallResult<Fact<T>> {
        let land = self.keep(key.clone());
        self.under_way.join_next(key, ask, land)
    }

    /// Keeps an answer that came with another.
    pub(crate) fn remember(&self, key: CacheKey, answer: Fact<T>) {
        self.kept.insert(key, answer);
    }

    /// Keeps an answer. A failure says nothing of the image, so it does not replace an answer.
    fn keep(&self, key: CacheKey) -> impl FnOnce(&Fact<T>) -> Reuse + Send + 'static {
        let kept = self.kept.clone();
        move |answer| {
            let has_answer = || kept.get(&key).is_some_and(|before| worth(&before) == Reuse::Answer);
            let worth = worth(answer);
            if worth == Reuse::Answer || (is_worth_keeping(answer) && !has_answer()) {
                kept.insert(key, answer.clone());
            }
            worth
        }
    }
}

/// That the host may not be asked now is not kept: asking again costs the host nothing, and finds out
/// when it may be asked.
fn is_worth_keeping<T>(answer: &Fact<T>) -> bool {
    !matches!(
        answer,
        Fact::Unknown(Cause::Paused { .. } | Cause::CircuitOpen { .. } | Cause::QueueFull { .. })
    )
}

fn worth<T>(answer: &Fact<T>) -> Reuse {
    match answer {
        Fact::Known(_)
        | Fact::Absent
        | Fact::Unknown(Cause::Refused { .. } | Cause::NotARelease { .. } | Cause::NotAnImage { .. }) => {
            Reuse::Answer
        }
        Fact::Unknown(_) => Reuse::Failure,
    }
}

/// How long answers are kept.
struct CachedFact {
    /// The time for what is known of a digest; `None` is for ever.
    by_digest: Option<Duration>,
}

impl CachedFact {
    fn time<T>(&self, key: &CacheKey, answer: &Fact<T>) -> Option<Duration> {
        match answer {
            Fact::Known(_) | Fact::Unknown(Cause::NotARelease { .. } | Cause::NotAnImage { .. })
                if key.reference.digest().is_some() =>
            {
                self.by_digest
            }
            Fact::Known(_) => Some(BY_TAG),
            Fact::Absent | Fact::Unknown(Cause::Refused { .. }) => Some(REFUSAL),
            Fact::Unknown(_) => Some(FAILURE),
        }
    }
}

impl<T> Expiry<CacheKey, Fact<T>> for CachedFact {
    fn expire_after_create(&self, key: &CacheKey, answer: &Fact<T>, _: Instant) -> Option<Duration> {
        self.time(key, answer)
    }

    fn expire_after_update(
        &self,
        key: &CacheKey,
        answer: &Fact<T>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.time(key, answer)
    }
}

/// A digest names the same bytes for ever; only whether they are still there can change.
const BY_DIGEST: Duration = Duration::from_secs(3600);
/// A tag may move. A minute is what a person waits before asking why the new image is not seen.
const BY_TAG: Duration = Duration::from_secs(60);
/// Somebody is about to push the image or to fix the pull secret, and will try again.
const REFUSAL: Duration = Duration::from_secs(5);
/// Long enough that a burst of reviews is not a burst of requests to a registry that is down.
const FAILURE: Duration = Duration::from_secs(2);
/// An answer without content, with its key.
const ANSWER: usize = 512;
const MAX_ANSWERS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::Digest;
    use crate::model::facts::{CredentialsSent, Manifest, ManifestKind, NodeCredentials};

    #[test]
    fn answers_are_kept_by_what_they_are() {
        let digest = Digest::of(b"x");
        let tag = PullSpec::parse("quay.io/acme/os:1").unwrap();
        let pinned = tag.pinned_to(&digest);
        let known = Fact::Known(Manifest { digest, kind: ManifestKind::Image, endpoint: "quay.io".into() });
        let refused = Fact::Unknown(Cause::Refused {
            host: "quay.io".into(),
            status: 401,
            shown: CredentialsSent::NoEntry,
            as_nodes: NodeCredentials::Same,
        });
        for (reference, answer, expected) in [
            (&pinned, &known, None),
            (&tag, &known, Some(BY_TAG)),
            (&tag, &Fact::Absent, Some(REFUSAL)),
            (&pinned, &refused, Some(REFUSAL)),
            (&tag, &Fact::Unknown(Cause::Internal), Some(FAILURE)),
        ] {
            let key = CacheKey::new(reference, Trust::Verified, None);
            let content = CachedFact { by_digest: None };
            assert_eq!(content.time(&key, answer), expected, "{reference} {answer:?}");
            let presence = CachedFact { by_digest: Some(BY_DIGEST) };
            assert_eq!(presence.time(&key, answer), expected.or(Some(BY_DIGEST)), "{reference} {answer:?}");
        }
    }

    #[tokio::test]
    async fn a_full_cache_forgets_and_goes_on_answering() {
        let answers = AnswerCache::of_presence("manifest");
        let key = |number: u64| {
            let reference = PullSpec::parse(&format!("quay.io/acme/os:t{number}")).unwrap();
            CacheKey::new(&reference, Trust::Verified, None)
        };
        for number in 0..3 * MAX_ANSWERS {
            answers.kept.insert(key(number), Fact::Absent);
        }
        answers.kept.run_pending_tasks();
        assert!(answers.kept.entry_count() <= MAX_ANSWERS, "{}", answers.kept.entry_count());
        let ask = async { Fact::<()>::Unknown(Cause::Internal) };
        let answer = answers.ask(key(3 * MAX_ANSWERS), ask).answer().await;
        assert_eq!(answer, Some(Fact::Unknown(Cause::Internal)));
    }
}
