//! One call for many callers that need the same result at the same time.
//!
//! Owns which caller gets the result of which call. Each call runs in its own task, so it continues when a caller
//! gives up, and later callers find its result. A result goes to all callers of that call and of older calls, and
//! the result of an older call never replaces that of a newer one.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use derive_more::Debug;
use tokio::sync::watch;
use tokio::time::timeout;

/// The calls under way.
#[derive(Debug)]
#[debug("SingleFlight(…)")]
pub(crate) struct SingleFlight<K, V>(Mutex<Calls<K, V>>);

struct Calls<K, V> {
    /// The number of calls so far.
    count: u64,
    /// The calls for one key, the oldest first. A list is never empty.
    by_key: HashMap<K, Vec<Call<V>>>,
}

struct Call<V> {
    number: u64,
    has_started: bool,
    answer: watch::Sender<Option<V>>,
}

/// Whether a result can be used for older calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// It is an answer, and ends all older calls.
    Answer,
    /// It is a failure; older calls may still succeed.
    Failure,
}

/// The result of a call under way.
pub(crate) struct CallResult<V>(watch::Receiver<Option<V>>);

impl<V: Clone> CallResult<V> {
    /// Waits for the result. `None` when the call panicked.
    pub(crate) async fn answer(mut self) -> Option<V> {
        self.0.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone())
    }
}

impl<K, V> SingleFlight<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Calls { count: 0, by_key: HashMap::new() })))
    }

    /// Joins a call that is under way, or returns the `kept` result, or else starts `call`.
    ///
    /// `store` gets the result before any caller, unless a newer call had its result first. Both closures run under
    /// the lock for all keys, so they must be quick. `kept` is read under this lock because a result could
    /// otherwise be stored, and its call removed, between the read and the join.
    pub(crate) fn join(
        self: &Arc<Self>,
        kept: impl FnOnce() -> Option<V>,
        key: K,
        call: impl Future<Output = V> + Send + 'static,
        store: impl FnOnce(&V) -> Reuse + Send + 'static,
    ) -> CallResult<V> {
        let mut under_way = self.lock();
        let started = under_way.of(&key).iter().rev().find(|call| call.has_started);
        if let Some(started) = started {
            return CallResult(started.answer.subscribe());
        }
        if let Some(answer) = kept() {
            return CallResult(watch::channel(Some(answer)).1);
        }
        self.start(&mut under_way, key, None, call, store)
    }

    /// Joins a call that has not started, or else starts `call`, so that the result is newer than this request.
    ///
    /// If a call is under way, `call` starts when that ends or after [`TURN`]. Until then others can join.
    pub(crate) fn join_next(
        self: &Arc<Self>,
        key: K,
        call: impl Future<Output = V> + Send + 'static,
        store: impl FnOnce(&V) -> Reuse + Send + 'static,
    ) -> CallResult<V> {
        let mut under_way = self.lock();
        let calls = under_way.of(&key);
        if let Some(waiting) = calls.iter().find(|call| !call.has_started) {
            return CallResult(waiting.answer.subscribe());
        }
        let before = calls.last().map(|call| CallResult(call.answer.subscribe()));
        self.start(&mut under_way, key, before, call, store)
    }

    /// Starts `call`, after the call `before` if there is one.
    fn start(
        self: &Arc<Self>,
        under_way: &mut Calls<K, V>,
        key: K,
        before: Option<CallResult<V>>,
        call: impl Future<Output = V> + Send + 'static,
        store: impl FnOnce(&V) -> Reuse + Send + 'static,
    ) -> CallResult<V> {
        under_way.count += 1;
        let number = under_way.count;
        let (answer, awaited) = watch::channel(None);
        let added = Call { number, has_started: before.is_none(), answer };
        under_way.by_key.entry(key.clone()).or_default().push(added);
        let (calls, answered) = (Arc::clone(self), awaited.clone());
        tokio::spawn(async move {
            if let Some(before) = before {
                // Either it has a result or it takes too long.
                let _ = timeout(TURN, before.answer()).await;
                calls.lock().start(&key, number);
            }
            calls.run(key, number, answered, call, store).await;
        });
        CallResult(awaited)
    }

    async fn run(
        self: Arc<Self>,
        key: K,
        number: u64,
        mut answered: watch::Receiver<Option<V>>,
        call: impl Future<Output = V>,
        store: impl FnOnce(&V) -> Reuse,
    ) {
        // If `call` panics, its callers must not wait for ever.
        let _end = CallGuard { calls: &self, key: &key, number };
        tokio::select! {
            answer = call => self.lock().finish(&key, number, &answer, store),
            // A newer call had its result first.
            _ = answered.wait_for(Option::is_some) => {}
        }
    }
}

impl<K, V> SingleFlight<K, V> {
    fn lock(&self) -> MutexGuard<'_, Calls<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash, V: Clone> Calls<K, V> {
    fn of(&self, key: &K) -> &[Call<V>] {
        self.by_key.get(key).map_or(&[], Vec::as_slice)
    }

    fn start(&mut self, key: &K, number: u64) {
        let calls = self.by_key.get_mut(key).into_iter().flatten();
        for call in calls.filter(|call| call.number == number) {
            call.has_started = true;
        }
    }

    fn finish(&mut self, key: &K, number: u64, answer: &V, store: impl FnOnce(&V) -> Reuse) {
        if !self.of(key).iter().any(|call| call.number == number) {
            return;
        }
        let reuse = store(answer);
        self.remove(key, |call| {
            let ends = call.number == number || (call.number < number && reuse == Reuse::Answer);
            if ends {
                call.answer.send_replace(Some(answer.clone()));
            }
            ends
        });
    }
}

impl<K: Eq + Hash, V> Calls<K, V> {
    fn remove(&mut self, key: &K, mut which: impl FnMut(&Call<V>) -> bool) {
        let Some(calls) = self.by_key.get_mut(key) else { return };
        calls.retain(|call| !which(call));
        if calls.is_empty() {
            self.by_key.remove(key);
        }
    }
}

/// Removes a call when it ends, also by a panic.
struct CallGuard<'a, K: Eq + Hash, V> {
    calls: &'a SingleFlight<K, V>,
    key: &'a K,
    number: u64,
}

impl<K: Eq + Hash, V> Drop for CallGuard<'_, K, V> {
    fn drop(&mut self) {
        self.calls.lock().remove(self.key, |call| call.number == self.number);
    }
}

/// How long a call waits for the previous one. Registries usually answer sooner, and one that hangs must not delay
/// the next call.
const TURN: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn nothing<V>() -> Option<V> {
        None
    }

    type Stored = Arc<Mutex<Vec<&'static str>>>;

    /// A call with the result that the test sends, or without one when the sender is dropped.
    fn call() -> (oneshot::Sender<&'static str>, impl Future<Output = &'static str> + Send + 'static) {
        let (sender, receiver) = oneshot::channel();
        (sender, async move {
            match receiver.await {
                Ok(answer) => answer,
                Err(_) => std::future::pending().await,
            }
        })
    }

    fn storing(stored: &Stored) -> impl FnOnce(&&'static str) -> Reuse + Send + 'static {
        let stored = Arc::clone(stored);
        move |answer| {
            stored.lock().unwrap().push(*answer);
            if *answer == "failed" { Reuse::Failure } else { Reuse::Answer }
        }
    }

    #[tokio::test]
    async fn callers_of_the_same_key_share_one_call() {
        let (calls, stored) = (SingleFlight::new(), Stored::default());
        let (answer, ask) = call();
        let first = calls.join(nothing, "key", ask, storing(&stored));
        let second = calls.join(nothing, "key", async { "never asked" }, storing(&stored));
        let other = calls.join(nothing, "other", async { "other" }, storing(&stored));
        assert_eq!(other.answer().await, Some("other"));
        drop(first);
        answer.send("answer").unwrap();
        assert_eq!(second.answer().await, Some("answer"));
        assert_eq!(*stored.lock().unwrap(), ["other", "answer"]);
        assert!(calls.lock().by_key.is_empty());
    }

    #[tokio::test]
    async fn a_newer_result_goes_to_all_callers_and_an_older_one_to_none() {
        let (calls, stored) = (SingleFlight::new(), Stored::default());
        let (older, ask) = call();
        let waits = calls.join(nothing, "key", ask, storing(&stored));
        let (newer, ask) = call();
        let looks = calls.join_next("key", ask, storing(&stored));
        newer.send("newer").unwrap();
        assert_eq!(looks.answer().await, Some("newer"));
        assert_eq!(waits.answer().await, Some("newer"));
        // No caller waits for it any more.
        let _ = older.send("older");
        assert_eq!(
            calls.join(nothing, "key", async { "newest" }, storing(&stored)).answer().await,
            Some("newest")
        );
        assert_eq!(*stored.lock().unwrap(), ["newer", "newest"]);
    }

    #[tokio::test]
    async fn a_newer_failure_does_not_end_an_older_call() {
        let (calls, stored) = (SingleFlight::new(), Stored::default());
        let (older, ask) = call();
        let waits = calls.join(nothing, "key", ask, storing(&stored));
        let looks = calls.join_next("key", async { "failed" }, storing(&stored));
        assert_eq!(looks.answer().await, Some("failed"));
        older.send("older").unwrap();
        assert_eq!(waits.answer().await, Some("older"));
        assert_eq!(*stored.lock().unwrap(), ["failed", "older"]);
    }

    #[tokio::test]
    async fn callers_that_need_a_newer_result_share_one_call() {
        let (calls, stored) = (SingleFlight::new(), Stored::default());
        let (first, ask) = call();
        let alone = calls.join_next("key", ask, storing(&stored));
        let looks: Vec<_> =
            (0..10).map(|_| calls.join_next("key", async { "second" }, storing(&stored))).collect();
        // A caller that accepts an older result gets that of the call under way.
        let cached = calls.join(nothing, "key", async { "never asked" }, storing(&stored));
        first.send("first").unwrap();
        assert_eq!(alone.answer().await, Some("first"));
        assert_eq!(cached.answer().await, Some("first"));
        for look in looks {
            assert_eq!(look.answer().await, Some("second"));
        }
        assert_eq!(*stored.lock().unwrap(), ["first", "second"]);
    }

    #[tokio::test]
    async fn a_result_stored_just_before_is_returned() {
        let (calls, stored) = (SingleFlight::new(), Stored::default());
        assert_eq!(
            calls.join(nothing, "key", async { "first" }, storing(&stored)).answer().await,
            Some("first")
        );
        let kept = || stored.lock().unwrap().last().copied();
        let again = calls.join(kept, "key", async { "never asked" }, storing(&stored));
        assert_eq!(again.answer().await, Some("first"));
        assert_eq!(*stored.lock().unwrap(), ["first"]);
        assert!(calls.lock().by_key.is_empty());
    }

    #[tokio::test]
    async fn a_call_that_panics_keeps_no_caller_waiting() {
        let calls = SingleFlight::<_, ()>::new();
        let awaited = calls.join(nothing, "key", async { panic!("as the test wants") }, |_| Reuse::Answer);
        assert_eq!(awaited.answer().await, None);
        assert_eq!(calls.join(nothing, "key", async {}, |()| Reuse::Answer).answer().await, Some(()));
    }
}
