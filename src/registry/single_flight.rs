//! Equal questions under way, joined: however many want an answer, one asks.
//!
//! Owns who may wait for whose answer. Each question runs in a task of its own, so nobody's deadline
//! costs the others their answer, and who comes after all have left still finds it. An answer is
//! given to everybody who waits for it or for an older one, and what was asked earlier never
//! replaces what was asked later.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// The questions under way.
pub(crate) struct SingleFlight<K, V>(Mutex<Calls<K, V>>);

struct Calls<K, V> {
    /// How many there were so far.
    count: u64,
    /// Those to one key, the oldest first. A list is never empty.
    by_key: HashMap<K, Vec<Call<V>>>,
}

struct Call<V> {
    number: u64,
    has_begun: bool,
    answer: watch::Sender<Option<V>>,
}

/// What an answer is worth beside others to the same question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// It tells something, and so it ends every older question.
    Answer,
    /// It only tells that the asking failed; older questions may still do better.
    Failure,
}

/// An answer to come.
pub(crate) struct CallResult<V>(watch::Receiver<Option<V>>);

impl<V: Clone> CallResult<V> {
    /// Waits for it. `None` when the question ended without any, which is our own failure.
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

    /// Waits for a question that is under way, or takes what is `kept`, or else waits for `ask`.
    ///
    /// `land` is told the answer of `ask` before anybody else, unless that of a newer question came
    /// first. Both closures run while no other question to any key can begin or end, so they must be
    /// quick. That is also why `kept` is looked for here: between a look before this call and the call,
    /// an answer may have landed, and nothing would be under way any more.
    pub(crate) fn join(
        self: &Arc<Self>,
        kept: impl FnOnce() -> Option<V>,
        key: K,
        ask: impl Future<Output = V> + Send + 'static,
        land: impl FnOnce(&V) -> Reuse + Send + 'static,
    ) -> CallResult<V> {
        let mut under_way = self.lock();
        let begun = under_way.of(&key).iter().rev().find(|flight| flight.has_begun);
        if let Some(flight) = begun {
            return CallResult(flight.answer.subscribe());
        }
        if let Some(answer) = kept() {
            return CallResult(watch::channel(Some(answer)).1);
        }
        let (number, awaited) = under_way.add(key.clone(), Joined::Now);
        tokio::spawn(Arc::clone(self).fly(key, number, awaited.0.clone(), ask, land));
        awaited
    }

    /// Waits for a question that has not begun, or else for `ask`: the answer is to a question that is
    /// asked after this call.
    ///
    /// While one is under way, `ask` begins when that ends, or after a while when it does not; that is
    /// when others can still join.
    pub(crate) fn join_next(
        self: &Arc<Self>,
        key: K,
        ask: impl Future<Output = V> + Send + 'static,
        land: impl FnOnce(&V) -> Reuse + Send + 'static,
    ) -> CallResult<V> {
        let mut under_way = self.lock();
        let flights = under_way.of(&key);
        if let Some(flight) = flights.iter().find(|flight| !flight.has_begun) {
            return CallResult(flight.answer.subscribe());
        }
        let Some(before) = flights.last().map(|flight| CallResult(flight.answer.subscribe())) else {
            let (number, awaited) = under_way.add(key.clone(), Joined::Now);
            tokio::spawn(Arc::clone(self).fly(key, number, awaited.0.clone(), ask, land));
            return awaited;
        };
        let (number, awaited) = under_way.add(key.clone(), Joined::Later);
        let flights = Arc::clone(self);
        let answer = awaited.0.clone();
        tokio::spawn(async move {
            // Whether it was answered or takes too long, it is this one's turn.
            let _ = timeout(TURN, before.answer()).await;
            flights.lock().begin(&key, number);
            flights.fly(key, number, answer, ask, land).await;
        });
        awaited
    }

    async fn fly(
        self: Arc<Self>,
        key: K,
        number: u64,
        mut answered: watch::Receiver<Option<V>>,
        ask: impl Future<Output = V>,
        land: impl FnOnce(&V) -> Reuse,
    ) {
        // Also when `ask` panics, those who wait must not wait for ever.
        let _end = CallGuard { flights: &self, key: &key, number };
        tokio::select! {
            answer = ask => self.lock().land(&key, number, &answer, land),
            // A newer question was answered first.
            _ = answered.wait_for(Option::is_some) => {}
        }
    }
}

impl<K, V> SingleFlight<K, V> {
    fn lock(&self) -> MutexGuard<'_, Calls<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> fmt::Debug for SingleFlight<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Flights").field("keys", &self.lock().by_key.len()).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Joined {
    Now,
    Later,
}

impl<K: Eq + Hash, V: Clone> Calls<K, V> {
    fn of(&self, key: &K) -> &[Call<V>] {
        self.by_key.get(key).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, key: K, begins: Joined) -> (u64, CallResult<V>) {
        self.count += 1;
        let (answer, awaited) = watch::channel(None);
        let flight = Call { number: self.count, has_begun: begins == Joined::Now, answer };
        self.by_key.entry(key).or_default().push(flight);
        (self.count, CallResult(awaited))
    }

    fn begin(&mut self, key: &K, number: u64) {
        let flights = self.by_key.get_mut(key).into_iter().flatten();
        for flight in flights.filter(|flight| flight.number == number) {
            flight.has_begun = true;
        }
    }

    fn land(&mut self, key: &K, number: u64, answer: &V, land: impl FnOnce(&V) -> Reuse) {
        if !self.of(key).iter().any(|flight| flight.number == number) {
            return;
        }
        let worth = land(answer);
        self.remove(key, |flight| {
            let ends = flight.number == number || (flight.number < number && worth == Reuse::Answer);
            if ends {
                flight.answer.send_replace(Some(answer.clone()));
            }
            ends
        });
    }
}

impl<K: Eq + Hash, V> Calls<K, V> {
    fn remove(&mut self, key: &K, mut which: impl FnMut(&Call<V>) -> bool) {
        let Some(flights) = self.by_key.get_mut(key) else { return };
        flights.retain(|flight| !which(flight));
        if flights.is_empty() {
            self.by_key.remove(key);
        }
    }
}

/// The end of a question, however it comes.
struct CallGuard<'a, K: Eq + Hash, V> {
    flights: &'a SingleFlight<K, V>,
    key: &'a K,
    number: u64,
}

impl<K: Eq + Hash, V> Drop for CallGuard<'_, K, V> {
    fn drop(&mut self) {
        self.flights.lock().remove(self.key, |flight| flight.number == self.number);
    }
}

/// How long a question waits for the one before it. Registries mostly answer sooner; one that hangs
/// must not take the next question along.
const TURN: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn nothing<V>() -> Option<V> {
        None
    }

    type Landed = Arc<Mutex<Vec<&'static str>>>;

    /// A question that is answered when the test says so, or never when the sender is dropped.
    fn question() -> (oneshot::Sender<&'static str>, impl Future<Output = &'static str> + Send + 'static) {
        let (sender, receiver) = oneshot::channel();
        (sender, async move {
            match receiver.await {
                Ok(answer) => answer,
                Err(_) => std::future::pending().await,
            }
        })
    }

    fn landing(landed: &Landed) -> impl FnOnce(&&'static str) -> Reuse + Send + 'static {
        let landed = Arc::clone(landed);
        move |answer| {
            landed.lock().unwrap().push(*answer);
            if *answer == "failed" { Reuse::Failure } else { Reuse::Answer }
        }
    }

    #[tokio::test]
    async fn who_comes_while_it_is_under_way_waits_for_the_same_answer() {
        let (flights, landed) = (SingleFlight::new(), Landed::default());
        let (answer, ask) = question();
        let first = flights.join(nothing, "key", ask, landing(&landed));
        let second = flights.join(nothing, "key", async { "never asked" }, landing(&landed));
        let other = flights.join(nothing, "other", async { "other" }, landing(&landed));
        assert_eq!(other.answer().await, Some("other"));
        drop(first);
        answer.send("answer").unwrap();
        assert_eq!(second.answer().await, Some("answer"));
        assert_eq!(*landed.lock().unwrap(), ["other", "answer"]);
        assert!(flights.lock().by_key.is_empty());
    }

    #[tokio::test]
    async fn a_newer_answer_goes_to_all_and_an_older_one_to_nobody() {
        let (flights, landed) = (SingleFlight::new(), Landed::default());
        let (older, ask) = question();
        let waits = flights.join(nothing, "key", ask, landing(&landed));
        let (newer, ask) = question();
        let looks = flights.join_next("key", ask, landing(&landed));
        newer.send("newer").unwrap();
        assert_eq!(looks.answer().await, Some("newer"));
        assert_eq!(waits.answer().await, Some("newer"));
        // Nobody takes it any more: its question has ended, or will land in vain.
        let _ = older.send("older");
        assert_eq!(
            flights.join(nothing, "key", async { "newest" }, landing(&landed)).answer().await,
            Some("newest")
        );
        assert_eq!(*landed.lock().unwrap(), ["newer", "newest"]);
    }

    #[tokio::test]
    async fn a_newer_failure_leaves_the_older_question_its_answer() {
        let (flights, landed) = (SingleFlight::new(), Landed::default());
        let (older, ask) = question();
        let waits = flights.join(nothing, "key", ask, landing(&landed));
        let looks = flights.join_next("key", async { "failed" }, landing(&landed));
        assert_eq!(looks.answer().await, Some("failed"));
        older.send("older").unwrap();
        assert_eq!(waits.answer().await, Some("older"));
        assert_eq!(*landed.lock().unwrap(), ["failed", "older"]);
    }

    #[tokio::test]
    async fn fresh_looks_that_wait_for_their_turn_are_one() {
        let (flights, landed) = (SingleFlight::new(), Landed::default());
        let (first, ask) = question();
        let alone = flights.join_next("key", ask, landing(&landed));
        let looks: Vec<_> =
            (0..10).map(|_| flights.join_next("key", async { "second" }, landing(&landed))).collect();
        // Who takes what there is gets it from the one that has begun.
        let cached = flights.join(nothing, "key", async { "never asked" }, landing(&landed));
        first.send("first").unwrap();
        assert_eq!(alone.answer().await, Some("first"));
        assert_eq!(cached.answer().await, Some("first"));
        for look in looks {
            assert_eq!(look.answer().await, Some("second"));
        }
        assert_eq!(*landed.lock().unwrap(), ["first", "second"]);
    }

    #[tokio::test]
    async fn what_landed_just_before_is_not_asked_again() {
        let (flights, landed) = (SingleFlight::new(), Landed::default());
        assert_eq!(
            flights.join(nothing, "key", async { "first" }, landing(&landed)).answer().await,
            Some("first")
        );
        let kept = || landed.lock().unwrap().last().copied();
        let again = flights.join(kept, "key", async { "never asked" }, landing(&landed));
        assert_eq!(again.answer().await, Some("first"));
        assert_eq!(*landed.lock().unwrap(), ["first"]);
        assert!(flights.lock().by_key.is_empty());
    }

    #[tokio::test]
    async fn a_question_that_panics_keeps_nobody_waiting() {
        let flights = SingleFlight::<_, ()>::new();
        let awaited = flights.join(nothing, "key", async { panic!("as the test wants") }, |_| Reuse::Answer);
        assert_eq!(awaited.answer().await, None);
        assert_eq!(flights.join(nothing, "key", async {}, |()| Reuse::Answer).answer().await, Some(()));
    }
}
