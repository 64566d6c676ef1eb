//! Kindness to registries: how much is asked of a host at once, and when it is left alone.
//!
//! Owns the cap for each host, the pause that a host asks for (`Retry-After`), and the circuit
//! breaker: a host that keeps failing is asked less and less often, by one request at a time, until
//! it answers. Hosts know nothing of each other: one that is frozen holds up no other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use moka::sync::Cache;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How much is asked of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// The most requests in flight to one host. Registries and the proxies before them throttle
    /// clients by connections; the tools of the field open six. An admission server that judges many
    /// objects at once gets by with a few more.
    pub in_flight: usize,
    /// The most requests that wait for one of those places; beyond it they fail at once.
    pub waiting: usize,
    /// How long a host may take to begin an answer. A webhook waits thirty seconds at the most, and
    /// ten by default.
    pub answer: Duration,
    /// After how many failures in a row a host is left alone.
    pub failures: u32,
    /// For how long it is left alone at first; each failure after that doubles it.
    pub first_rest: Duration,
    /// For how long it is left alone at the most.
    pub longest_rest: Duration,
}

impl Default for HostLimits {
    fn default() -> Self {
        Self {
            in_flight: 16,
            waiting: 4096,
            answer: Duration::from_secs(15),
            failures: 5,
            first_rest: Duration::from_secs(2),
            longest_rest: Duration::from_secs(60),
        }
    }
}

/// The gates of all hosts.
#[derive(Debug)]
pub(crate) struct HostLimiters {
    hosts: Cache<String, Arc<HostLimiter>>,
    limits: HostLimits,
}

impl HostLimiters {
    pub(crate) fn new(limits: HostLimits) -> Self {
        Self { hosts: Cache::builder().max_capacity(MAX_HOSTS).time_to_idle(HOST_KEPT).build(), limits }
    }

    /// The gate of `host`.
    pub(crate) fn of(&self, host: &str) -> Arc<HostLimiter> {
        if let Some(gate) = self.hosts.get(host) {
            return gate;
        }
        self.hosts.get_with(host.to_owned(), || Arc::new(HostLimiter::new(self.limits)))
    }

    pub(crate) fn limits(&self) -> &HostLimits {
        &self.limits
    }
}

/// The way to one host.
#[derive(Debug)]
pub(crate) struct HostLimiter {
    limits: HostLimits,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    state: Mutex<LimiterState>,
}

#[derive(Debug, Default)]
struct LimiterState {
    /// The host asked not to be asked until then, with this status.
    pause: Option<(Instant, u16)>,
    breaker: CircuitBreaker,
}

/// Why a host is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// It asked for a pause, with this status, that is not over yet.
    Paused { status: u16, left: Duration },
    /// It failed so many times in a row, and is left alone.
    Resting { failures: u32, left: Duration },
    /// Too many wait for it already.
    Crowded,
}

impl HostLimiter {
    fn new(limits: HostLimits) -> Self {
        Self {
            limits,
            places: Arc::new(Semaphore::new(limits.in_flight)),
            waiting: AtomicUsize::new(0),
            state: Mutex::default(),
        }
    }

    /// Waits for a place, and is turned away at once while the host is to be left alone.
    pub(crate) async fn enter(self: &Arc<Self>) -> Result<Permit, Rejected> {
        self.state().look(Instant::now())?;
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => self.wait().await?,
        };
        // Much may have happened while it was waited for.
        let is_probe = self.state().ask(Instant::now())?;
        Ok(Permit { gate: Arc::clone(self), is_probe, is_settled: false, place: Some(place) })
    }

    async fn wait(&self) -> Result<OwnedSemaphorePermit, Rejected> {
        struct ProbeGuard<'a>(&'a AtomicUsize);
        impl Drop for ProbeGuard<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _leave = ProbeGuard(&self.waiting);
        if before >= self.limits.waiting {
            return Err(Rejected::Crowded);
        }
        // The semaphore is never closed.
        Arc::clone(&self.places).acquire_owned().await.map_err(|_| Rejected::Crowded)
    }

    fn state(&self) -> MutexGuard<'_, LimiterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LimiterState {
    /// Whether the host may be asked.
    fn look(&mut self, now: Instant) -> Result<(), Rejected> {
        if let Some((until, status)) = self.pause {
            match until.checked_duration_since(now).filter(|left| !left.is_zero()) {
                Some(left) => return Err(Rejected::Paused { status, left }),
                None => self.pause = None,
            }
        }
        self.breaker.look(now)
    }

    /// As [`Self::look`], and then reserves the probe where one is due. Tells whether it did.
    fn ask(&mut self, now: Instant) -> Result<bool, Rejected> {
        self.look(now)?;
        Ok(self.breaker.reserve())
    }
}

/// The right to send one request. It holds a place until it is settled or dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Arc<HostLimiter>,
    is_probe: bool,
    is_settled: bool,
    place: Option<OwnedSemaphorePermit>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestOutcome {
    /// The host answered, whatever it said.
    Answered,
    /// The host asked for a pause with this status.
    Paused { status: u16, pause: Duration },
    /// The host failed: no connection, no answer, or an answer of 5xx.
    Failed,
}

impl Permit {
    /// Tells what became of the request. The place is kept for the body.
    pub(crate) fn settle(&mut self, outcome: RequestOutcome) {
        self.is_settled = true;
        let limits = self.gate.limits;
        let now = Instant::now();
        let mut state = self.gate.state();
        match outcome {
            RequestOutcome::Answered => state.breaker.succeed(),
            RequestOutcome::Paused { status, pause } => {
                state.breaker.succeed();
                state.pause = Some((now + pause.clamp(LEAST_PAUSE, LONGEST_PAUSE), status));
            }
            RequestOutcome::Failed => state.breaker.fail(self.is_probe, now, &limits),
        }
    }

    /// Gives the place back: nothing more is read.
    pub(crate) fn release(&mut self) {
        self.place = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_probe && !self.is_settled {
            // Whoever asked has left before the answer; the next one may find out.
            self.gate.state().breaker.abandon();
        }
    }
}

/// Counts failures in a row.
#[derive(Debug, Default)]
struct CircuitBreaker {
    failures: u32,
    rest: Option<OpenCircuit>,
}

#[derive(Debug)]
struct OpenCircuit {
    until: Instant,
    is_probed: bool,
}

impl CircuitBreaker {
    fn look(&self, now: Instant) -> Result<(), Rejected> {
        let Some(rest) = &self.rest else { return Ok(()) };
        let left = rest.until.saturating_duration_since(now);
        if !left.is_zero() || rest.is_probed {
            return Err(Rejected::Resting { failures: self.failures, left });
        }
        Ok(())
    }

    fn reserve(&mut self) -> bool {
        match &mut self.rest {
            Some(rest) => {
                rest.is_probed = true;
                true
            }
            None => false,
        }
    }

    fn abandon(&mut self) {
        if let Some(rest) = &mut self.rest {
            rest.is_probed = false;
        }
    }

    fn succeed(&mut self) {
        *self = Self::default();
    }

    fn fail(&mut self, is_probe: bool, now: Instant, limits: &HostLimits) {
        if self.rest.is_some() && !is_probe {
            // It was under way when the rest began, and tells nothing new.
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= limits.failures {
            let doublings = (self.failures - limits.failures).min(31);
            let rest = limits.first_rest.saturating_mul(1 << doublings).min(limits.longest_rest);
            self.rest = Some(OpenCircuit { until: now + rest, is_probed: false });
        }
    }
}

/// The pause that an answer asks for: seconds or a date (RFC 9110, section 10.2.3). `None` where it
/// asks for none, or for what is no time. A date that is past asks for none.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).clamp(LEAST_PAUSE, LONGEST_PAUSE));
    }
    let pause = httpdate::parse_http_date(text).ok()?.duration_since(now).ok()?;
    Some(pause.clamp(LEAST_PAUSE, LONGEST_PAUSE))
}

/// Dates have no fractions of a second, and "at once" would be a way to be asked for ever.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// A pause of a year would be a mistake or malice; after an hour a host is asked again.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Hosts that are remembered; a gate is a few hundred bytes.
const MAX_HOSTS: u64 = 1024;
/// Longer than any pause and any rest.
const HOST_KEPT: Duration = Duration::from_secs(2 * 3600);

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    const LIMITS: HostLimits = HostLimits {
        in_flight: 2,
        waiting: 1,
        answer: Duration::from_secs(1),
        failures: 3,
        first_rest: Duration::from_secs(2),
        longest_rest: Duration::from_secs(5),
    };

    fn gate() -> Arc<HostLimiter> {
        Arc::new(HostLimiter::new(LIMITS))
    }

    async fn ask(gate: &Arc<HostLimiter>, outcome: RequestOutcome) -> Result<(), Rejected> {
        gate.enter().await?.settle(outcome);
        Ok(())
    }

    fn resting(failures: u32, seconds: u64) -> Result<(), Rejected> {
        Err(Rejected::Resting { failures, left: Duration::from_secs(seconds) })
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_cap_are_in_flight_and_the_crowd_is_bounded() {
        let gate = gate();
        let mut first = gate.enter().await.unwrap();
        let _second = gate.enter().await.unwrap();
        let mut third = pin!(gate.enter());
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!(gate.enter().await.unwrap_err(), Rejected::Crowded);
        first.settle(RequestOutcome::Answered);
        assert!(third.as_mut().now_or_never().is_none(), "the body is not read yet");
        first.release();
        assert!(third.as_mut().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_failing_is_asked_less_and_less_often() {
        let gate = gate();
        for _ in 0..LIMITS.failures {
            ask(&gate, RequestOutcome::Failed).await.unwrap();
        }
        for (failures, seconds) in [(3, 2), (4, 4), (5, 5), (6, 5)] {
            assert_eq!(ask(&gate, RequestOutcome::Answered).await, resting(failures, seconds));
            tokio::time::advance(Duration::from_secs(seconds)).await;
            ask(&gate, RequestOutcome::Failed).await.unwrap();
        }
        tokio::time::advance(Duration::from_secs(5)).await;
        ask(&gate, RequestOutcome::Answered).await.unwrap();
        ask(&gate, RequestOutcome::Failed).await.unwrap();
        ask(&gate, RequestOutcome::Answered).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_the_row_of_failures() {
        let gate = gate();
        for outcome in [
            RequestOutcome::Failed,
            RequestOutcome::Failed,
            RequestOutcome::Answered,
            RequestOutcome::Failed,
            RequestOutcome::Failed,
        ] {
            ask(&gate, outcome).await.unwrap();
        }
        ask(&gate, RequestOutcome::Answered).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_at_a_time_tells_when_a_host_is_back() {
        let gate = gate();
        let mut late = gate.enter().await.unwrap();
        for _ in 0..LIMITS.failures {
            ask(&gate, RequestOutcome::Failed).await.unwrap();
        }
        late.settle(RequestOutcome::Failed);
        drop(late);
        assert_eq!(
            ask(&gate, RequestOutcome::Answered).await,
            resting(3, 2),
            "a late failure lengthens no rest"
        );
        tokio::time::advance(Duration::from_secs(2)).await;
        let probe = gate.enter().await.unwrap();
        assert_eq!(ask(&gate, RequestOutcome::Answered).await, resting(3, 0), "while the probe is under way");
        drop(probe);
        let mut probe = gate.enter().await.unwrap();
        probe.settle(RequestOutcome::Answered);
        ask(&gate, RequestOutcome::Answered).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_kept_to_its_end() {
        let gate = gate();
        let pause = Duration::from_secs(7);
        ask(&gate, RequestOutcome::Paused { status: 429, pause }).await.unwrap();
        assert_eq!(
            ask(&gate, RequestOutcome::Answered).await,
            Err(Rejected::Paused { status: 429, left: pause })
        );
        tokio::time::advance(pause).await;
        ask(&gate, RequestOutcome::Answered).await.unwrap();
        ask(&gate, RequestOutcome::Paused { status: 503, pause: Duration::MAX }).await.unwrap();
        let left = LONGEST_PAUSE;
        assert_eq!(ask(&gate, RequestOutcome::Answered).await, Err(Rejected::Paused { status: 503, left }));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waited_is_turned_away_when_the_host_wants_a_pause_meanwhile() {
        let gate = gate();
        let mut first = gate.enter().await.unwrap();
        let _second = gate.enter().await.unwrap();
        let mut third = pin!(gate.enter());
        assert!(third.as_mut().now_or_never().is_none());
        let pause = Duration::from_secs(1);
        first.settle(RequestOutcome::Paused { status: 429, pause });
        drop(first);
        assert_eq!(third.await.unwrap_err(), Rejected::Paused { status: 429, left: pause });
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_do_not_hold_each_other_up() {
        let gates = HostLimiters::new(LIMITS);
        let mut held = Vec::new();
        for _ in 0..LIMITS.in_flight {
            held.push(gates.of("frozen.example").enter().await.unwrap());
        }
        assert!(gates.of("other.example").enter().now_or_never().is_some());
        assert!(gates.of("frozen.example").enter().now_or_never().is_none());
    }

    #[test]
    fn pauses_are_read_in_seconds_and_as_dates() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2015 07:28:00 GMT").unwrap();
        for (text, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(1)),
            ("99999999999999999999999", Some(3600)),
            ("86400", Some(3600)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some(30)),
            ("Wednesday, 21-Oct-15 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(1)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", None),
            ("-5", None),
            ("soon", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
