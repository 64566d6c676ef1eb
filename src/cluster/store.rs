//! What is known of one resource: its objects, that it is not served, or why it is unknown.
//!
//! Logs each change between known and unknown once, however often reading is tried again. The last known
//! state stays in use for a while when the API server cannot be reached, but not when it forbids reading.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cluster::client::ApiError;
use crate::cluster::objects::ObjectSummary;
use crate::cluster::resources::Resource;
use crate::model::facts::{Cause, Fact};

/// The objects of a resource, by name.
pub(crate) type ObjectMap<T> = Arc<BTreeMap<String, T>>;

/// What is known of one resource.
#[derive(Debug)]
pub(crate) struct Store<T> {
    pub(crate) resource: &'static Resource,
    state: Mutex<StoreState<T>>,
    /// Notified of each change.
    changed: Arc<Notify>,
}

#[derive(Debug)]
pub(super) struct StoreState<T> {
    pub(super) fact: Fact<ObjectMap<T>>,
    /// The failure that lasts, and since when reading fails.
    pub(super) failure: Option<(Instant, ApiError)>,
}

impl<T: ObjectSummary> Store<T> {
    pub(crate) fn new(resource: &'static Resource, changed: Arc<Notify>) -> Self {
        let cause = Cause::Cluster { kind: resource.name.to_owned(), reason: "not read yet".to_owned() };
        let state = StoreState { fact: Fact::Unknown(cause), failure: None };
        Self { resource, state: Mutex::new(state), changed }
    }

    /// All objects.
    pub(crate) fn objects(&self) -> Fact<ObjectMap<T>> {
        self.locked().fact.clone()
    }

    /// The only object that is read. Absent also where the resource is served and has no such object.
    pub(crate) fn object(&self) -> Fact<T> {
        match self.objects().map(|objects| objects.get(self.resource.object?).cloned()) {
            Fact::Known(Some(object)) => Fact::Known(object),
            Fact::Known(None) | Fact::Absent => Fact::Absent,
            Fact::Unknown(cause) => Fact::Unknown(cause),
        }
    }

    /// Whether the last answer was that reading is forbidden.
    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(self.locked().failure, Some((_, ApiError::Forbidden(_))))
    }

    /// Stores what the API server answered.
    pub(crate) fn replace(&self, fact: Fact<ObjectMap<T>>) {
        let mut state = self.locked();
        let kind = self.resource.name;
        if state.failure.take().is_some() {
            tracing::info!(kind, "reading from the cluster works again");
        } else {
            match (&state.fact, &fact) {
                (Fact::Known(_), Fact::Absent) => tracing::info!(kind, "no longer served by the API server"),
                (Fact::Absent, Fact::Known(_)) => tracing::info!(kind, "now served by the API server"),
                _ => {}
            }
        }
        state.fact = fact;
        drop(state);
        self.changed.notify_one();
    }

    /// Stores that reading failed. The last known state stays in use until reading has failed for
    /// `stale_after`, unless reading is forbidden.
    pub(crate) fn fail(&self, failure: ApiError, stale_after: Duration) {
        let mut state = self.locked();
        let kind = self.resource.name;
        let is_forbidden = matches!(failure, ApiError::Forbidden(_));
        let advice = if is_forbidden { self.resource.if_forbidden } else { "" };
        let reason = format!("{failure}{advice}");
        let since = state.failure.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        let is_logged = state.failure.as_ref().is_some_and(|(_, logged)| *logged == failure);
        let was_unknown = matches!(state.fact, Fact::Unknown(_));
        let is_over = is_forbidden || since.elapsed() >= stale_after;
        let ends_now = is_over && !was_unknown;
        let use_of_state = match (was_unknown, is_over) {
            (true, _) => "",
            (false, true) => "; no longer using the last known state",
            (false, false) => "; still using the last known state",
        };
        if ends_now || !is_logged {
            tracing::warn!(kind, %reason, "cannot read from the cluster{use_of_state}");
        }
        if was_unknown || is_over {
            let kind = kind.to_owned();
            state.fact = Fact::Unknown(if is_forbidden {
                Cause::Forbidden { kind, reason }
            } else {
                Cause::Cluster { kind, reason }
            });
        }
        state.failure = Some((since, failure));
        drop(state);
        self.changed.notify_one();
    }

    pub(super) fn locked(&self) -> MutexGuard<'_, StoreState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
