//! The payloads and bases that images are compared with, read before a review needs them: a review then
//! asks a registry only about its own image.
//!
//! Owns when they are asked for again: at once when the cluster or the policy names something new, and
//! less and less often what cannot be read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::lineage;
use crate::model::facts::image::Image;
use crate::model::facts::{Fact, Facts};
use crate::model::pull_spec::PullSpec;
use crate::model::question::Step;
use crate::server::ServerState;

/// Prefetches until the server stops. Does nothing where no registries are asked.
pub(crate) async fn watch(state: Arc<ServerState>) {
    if state.parts.engine.sources().registry().is_none() {
        return;
    }
    let forget = Instant::now() + KEPT;
    let mut prefetch = Prefetch { answers: None, forget, again: None, wait: FIRST_WAIT };
    loop {
        prefetch.look(&state).await;
        #[expect(clippy::disallowed_methods, reason = "the pause between two rounds")]
        sleep(PAUSE).await;
    }
}

/// What was read so far.
struct Prefetch {
    answers: Option<Facts>,
    /// When everything is asked for again, so that what an earlier release needed does not stay.
    forget: Instant,
    /// When what could not be read is asked for again.
    again: Option<Instant>,
    /// How long to wait after that.
    wait: Duration,
}

impl Prefetch {
    async fn look(&mut self, state: &ServerState) {
        let policy = state.parts.policy.current();
        let mut facts = state.parts.engine.sources().begin();
        if let Some(before) = self.answers.take().filter(|_| Instant::now() < self.forget) {
            facts.images = before.images;
            facts.payloads = before.payloads;
        } else {
            self.forget = Instant::now() + KEPT;
        }
        let is_due = self.again.is_some_and(|again| Instant::now() >= again);
        if is_due {
            facts.images.retain(|_, image| is_complete(image));
            facts.payloads.retain(|_, payload| payload.known().is_some());
        }
        let step = |facts: &Facts| Step::after(lineage::prefetch_questions(facts, &policy), || ());
        if let Step::Ask(_) = step(&facts) {
            let before = facts.clone();
            state.parts.engine.complete(&mut facts, &policy, Instant::now() + PATIENCE, step).await;
            log(&before.payloads, &facts.payloads);
            log(&before.images, &facts.images);
        }
        if facts.images.values().all(is_complete)
            && facts.payloads.values().all(|payload| payload.known().is_some())
        {
            (self.again, self.wait) = (None, FIRST_WAIT);
        } else if is_due || self.again.is_none() {
            self.again = Some(Instant::now() + self.wait);
            self.wait = (self.wait * 2).min(LONGEST_WAIT);
        }
        self.answers = Some(facts);
    }
}

/// Whether every platform is known.
fn is_complete(image: &Fact<Arc<Image>>) -> bool {
    image.known().is_some_and(|image| image.platforms.values().all(|platform| platform.known().is_some()))
}

/// Writes one line for each answer that is new.
fn log<T>(before: &BTreeMap<PullSpec, Fact<T>>, answers: &BTreeMap<PullSpec, Fact<T>>) {
    for (reference, answer) in answers.iter().filter(|(reference, _)| !before.contains_key(*reference)) {
        let cause = match answer {
            Fact::Known(_) => {
                tracing::info!(%reference, "prefetched");
                continue;
            }
            Fact::Absent => "the registry does not have it".to_owned(),
            Fact::Unknown(cause) => cause.to_string(),
        };
        tracing::warn!(%reference, cause, "cannot prefetch; lineage that depends on it is unknown");
    }
}

/// The cluster is known from memory, so a look costs almost nothing.
const PAUSE: Duration = Duration::from_secs(1);
/// Longer than the client needs at most for a payload and then for the images that it names.
const PATIENCE: Duration = Duration::from_secs(300);
const KEPT: Duration = Duration::from_secs(600);
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
