//! How long a question to a registry may take.
//!
//! Owns what a deadline means: whoever waits gets an answer by it, and a request that takes longer goes on
//! for the next caller. A registry that asks for a pause is asked again after it, where that is in time.

use std::task::Poll;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::model::facts::{Cause, Fact};
use crate::model::pull_spec::PullSpec;
use crate::registry::repository_client::RequestFailure;

/// The pauses that one caller grants to registries.
///
/// The caller waits rather than the question: many callers may have joined it, and each of them has its
/// own deadline.
pub(crate) struct Pauses {
    deadline: Instant,
    left: usize,
}

impl Pauses {
    pub(crate) fn until(deadline: Instant) -> Self {
        Self { deadline, left: MAX_PAUSES }
    }

    /// Waits for the end of a pause that one of `causes` asks for. Returns whether to ask again: not when none of
    /// them asks for a pause that ends before the deadline.
    pub(crate) async fn wait(&mut self, causes: impl IntoIterator<Item = &Cause>) -> bool {
        // The end may have passed already.
        let left = |end: Timestamp| Duration::try_from(end.duration_since(Timestamp::now()));
        let end = |end: Timestamp| Instant::now() + left(end).unwrap_or_default();
        let again = causes.into_iter().filter_map(Cause::pause_end).map(end).find(|end| *end < self.deadline);
        let Some(again) = again.filter(|_| self.left > 0) else { return false };
        self.left -= 1;
        sleep_until(again).await;
        true
    }
}

/// The outcome of requests about `reference`, unknown after `longest`.
pub(crate) async fn in_time<T>(
    longest: Duration,
    reference: &PullSpec,
    requests: impl Future<Output = Result<T, RequestFailure>>,
) -> Fact<T> {
    timeout(longest, requests).await.map_or_else(|_| out_of_time(reference), Fact::from)
}

/// The outcome of `work` by `deadline`. Work that takes longer goes on for the next caller.
pub(crate) async fn answer_by<T: Send + 'static>(
    deadline: Instant,
    reference: &PullSpec,
    work: impl Future<Output = Result<T, RequestFailure>> + Send + 'static,
) -> Fact<T> {
    let mut work = Box::pin(work);
    // What is cached is told at once, however little time is left.
    let first = std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
    if let Poll::Ready(outcome) = first {
        return outcome.into();
    }
    match timeout_at(deadline, tokio::spawn(work)).await {
        Ok(Ok(outcome)) => outcome.into(),
        Ok(Err(error)) => {
            tracing::error!(%reference, %error, "a question to a registry ended without an answer");
            Fact::Unknown(Cause::Internal)
        }
        Err(_) => out_of_time(reference),
    }
}

pub(crate) fn out_of_time<T>(reference: &PullSpec) -> Fact<T> {
    Fact::Unknown(Cause::OutOfTime { host: reference.host().to_owned() })
}

/// Longer than any webhook waits: the first caller may be gone, but later ones still profit. It bounds how
/// long a registry that hangs can hold a question.
pub(crate) const LONGEST_QUESTION: Duration = Duration::from_secs(30);
/// `containers/image` gives up after five pauses, too.
const MAX_PAUSES: usize = 5;
