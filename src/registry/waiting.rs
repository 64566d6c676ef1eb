//! How long a question to a registry may take.
//!
//! Owns what a deadline means: whoever waits gets an answer by it, and a request that takes longer goes on
//! for the next caller. A registry that asks for a pause is asked again after it, where that is in time.

use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::time::error::Elapsed;
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

    /// Waits for the end of the pause that `answer` asks for. Tells whether to ask again: not when it
    /// asks for none, or for one beyond the deadline.
    pub(crate) async fn wait<T>(&mut self, answer: &Fact<T>) -> bool {
        let Some(until) = answer.cause().and_then(Cause::pause_end) else { return false };
        let pause = until.duration_since(Timestamp::now());
        // The end may have passed already.
        let again = Instant::now() + Duration::try_from(pause).unwrap_or_default();
        if self.left == 0 || again >= self.deadline {
            return false;
        }
        self.left -= 1;
        sleep_until(again).await;
        true
    }
}

/// The outcome of requests about `reference`, unknown after [`LONGEST_QUESTION`].
pub(crate) async fn in_time<T>(
    reference: &PullSpec,
    requests: impl Future<Output = Result<T, RequestFailure>>,
) -> Fact<T> {
    match timeout(LONGEST_QUESTION, requests).await {
        Ok(outcome) => RequestFailure::fact(outcome),
        Err(_) => out_of_time(reference),
    }
}

/// The answer of `work` by `deadline`. Work that takes longer goes on for the next caller.
pub(crate) async fn answer_by<T: Send + 'static>(
    deadline: Instant,
    reference: &PullSpec,
    mut work: BoxFuture<'static, Fact<T>>,
) -> Fact<T> {
    // What is cached is told at once, however little time is left.
    let first = std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
    match first {
        Poll::Ready(answer) => answer,
        Poll::Pending => {
            let work = tokio::spawn(work);
            settle(timeout_at(deadline, async { work.await.ok() }).await, reference)
        }
    }
}

/// An answer that was waited for until a deadline. `None` is a question that ended without one.
pub(crate) fn settle<T>(outcome: Result<Option<Fact<T>>, Elapsed>, reference: &PullSpec) -> Fact<T> {
    match outcome {
        Ok(Some(answer)) => answer,
        Ok(None) => {
            tracing::error!(%reference, "a question to a registry ended without an answer");
            Fact::Unknown(Cause::Internal)
        }
        Err(_) => out_of_time(reference),
    }
}

fn out_of_time<T>(reference: &PullSpec) -> Fact<T> {
    Fact::Unknown(Cause::OutOfTime { host: reference.host().to_owned() })
}

/// Longer than any webhook waits: the first caller may be gone, but later ones still profit. It bounds how
/// long a registry that hangs can hold a question.
pub(crate) const LONGEST_QUESTION: Duration = Duration::from_secs(30);
/// `containers/image` gives up after five pauses, too.
const MAX_PAUSES: usize = 5;
