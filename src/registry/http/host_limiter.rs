//! Rate limits: how many requests are sent to a host at once, and when none is sent.
//!
//! Owns the limit of concurrent requests for each host, the pause that a host asks for (`Retry-After`), and the
//! circuit breaker: a host that keeps failing gets one request at a time, less and less often, until it answers.
//! Each host has its own limits, so that one that hangs does not delay the others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use moka::sync::Cache;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The limits for one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// Concurrent requests. Registries and their proxies throttle clients by connections, and common tools
    /// open six; a server that reviews many objects at once needs a few more.
    pub in_flight: usize,
    /// Requests that wait for their turn; further ones fail at once.
    pub queued: usize,
    /// How long a host may take until its response begins. A webhook waits at most thirty seconds, by default
    /// ten.
    pub response_timeout: Duration,
    /// The number of consecutive failures after which the circuit breaker opens.
    pub failures: u32,
    /// How long the circuit breaker stays open at first; each further failure doubles the time.
    pub initial_backoff: Duration,
    /// The longest time that it stays open.
    pub max_backoff: Duration,
}

impl Default for HostLimits {
    fn default() -> Self {
        Self {
            in_flight: 16,
            queued: 4096,
            response_timeout: Duration::from_secs(15),
            failures: 5,
            initial_backoff: Duration::from_secs(2),
            max_backoff: Duration::from_secs(60),
        }
    }
}

/// The limiters of all hosts.
#[derive(Debug)]
pub(crate) struct HostLimiters {
    hosts: Cache<String, Arc<HostLimiter>>,
    pub(crate) limits: HostLimits,
}

impl HostLimiters {
    pub(crate) fn new(limits: HostLimits) -> Self {
        Self { hosts: Cache::builder().max_capacity(MAX_HOSTS).time_to_idle(HOST_KEPT).build(), limits }
    }

    /// The limiter of `host`.
    pub(crate) fn of(&self, host: &str) -> Arc<HostLimiter> {
        self.hosts.entry_by_ref(host).or_insert_with(|| Arc::new(HostLimiter::new(self.limits))).into_value()
    }
}

/// The limits of one host and its current state.
#[derive(Debug)]
pub(crate) struct HostLimiter {
    limits: HostLimits,
    slots: Arc<Semaphore>,
    queue: Semaphore,
    state: Mutex<LimiterState>,
}

#[derive(Debug, Default)]
struct LimiterState {
    /// When the pause that the host asked for ends, and with which status it asked.
    pause: Option<(Instant, u16)>,
    /// Consecutive failures.
    failures: u32,
    open: Option<OpenCircuit>,
}

#[derive(Debug)]
struct OpenCircuit {
    until: Instant,
    is_probed: bool,
}

/// Why no request is sent to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// It asked for a pause, with this status.
    Paused { status: u16, left: Duration },
    /// The circuit breaker is open after this many consecutive failures.
    CircuitOpen { failures: u32, left: Duration },
    /// Too many requests wait for it.
    QueueFull,
}

impl HostLimiter {
    fn new(limits: HostLimits) -> Self {
        let (slots, queue) = (Semaphore::new(limits.in_flight), Semaphore::new(limits.queued));
        Self { limits, slots: Arc::new(slots), queue, state: Mutex::default() }
    }

    /// Waits for a slot. Fails at once during a pause and while the circuit breaker is open.
    pub(crate) async fn enter(self: &Arc<Self>) -> Result<Permit, Rejected> {
        self.state().check(Instant::now())?;
        let slot = match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => {
                let _place = self.queue.try_acquire().map_err(|_| Rejected::QueueFull)?;
                // The semaphore is never closed.
                Arc::clone(&self.slots).acquire_owned().await.map_err(|_| Rejected::QueueFull)?
            }
        };
        // The state may have changed during the wait.
        let is_probe = self.state().reserve(Instant::now())?;
        Ok(Permit { limiter: Arc::clone(self), is_probe, is_settled: false, slot: Some(slot) })
    }

    fn state(&self) -> MutexGuard<'_, LimiterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LimiterState {
    /// Fails when no request may be sent.
    fn check(&self, now: Instant) -> Result<(), Rejected> {
        if let Some((until, status)) = self.pause.filter(|(until, _)| *until > now) {
            return Err(Rejected::Paused { status, left: until - now });
        }
        match &self.open {
            Some(open) if open.until > now || open.is_probed => Err(Rejected::CircuitOpen {
                failures: self.failures,
                left: open.until.saturating_duration_since(now),
            }),
            _ => Ok(()),
        }
    }

    /// Like [`Self::check`], and reserves the probe if one is due. Returns whether it did.
    fn reserve(&mut self, now: Instant) -> Result<bool, Rejected> {
        self.check(now)?;
        Ok(self.open.as_mut().map(|open| open.is_probed = true).is_some())
    }

    fn fail(&mut self, now: Instant, limits: &HostLimits) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= limits.failures {
            let doublings = (self.failures - limits.failures).min(31);
            let time = limits.initial_backoff.saturating_mul(1 << doublings).min(limits.max_backoff);
            self.open = Some(OpenCircuit { until: now + time, is_probed: false });
        }
    }
}

/// Permission to send one request. It holds a slot until it is released or dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limiter: Arc<HostLimiter>,
    is_probe: bool,
    is_settled: bool,
    slot: Option<OwnedSemaphorePermit>,
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestOutcome {
    /// The host answered, with any other status.
    Answered,
    /// The host asked for a pause with this status.
    Paused { status: u16, pause: Duration },
    /// No connection, no response, or a status of 5xx.
    Failed,
}

impl Permit {
    /// Records the outcome of the request. The slot is kept for the body.
    pub(crate) fn settle(&mut self, outcome: RequestOutcome) {
        self.is_settled = true;
        let now = Instant::now();
        let mut state = self.limiter.state();
        match outcome {
            RequestOutcome::Answered => (state.failures, state.open) = (0, None),
            RequestOutcome::Paused { status, pause } => {
                let pause = Some((now + pause.clamp(LEAST_PAUSE, LONGEST_PAUSE), status));
                *state = LimiterState { pause, ..LimiterState::default() };
            }
            // The request was sent before the circuit breaker opened.
            RequestOutcome::Failed if state.open.is_some() && !self.is_probe => {}
            RequestOutcome::Failed => state.fail(now, &self.limiter.limits),
        }
    }

    /// Frees the slot, because nothing more is read.
    pub(crate) fn release(&mut self) {
        self.slot = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_probe && !self.is_settled {
            // The caller left before the response; the next request is the probe.
            self.limiter.state().open.iter_mut().for_each(|open| open.is_probed = false);
        }
    }
}

/// The pause that a response asks for, in seconds or as a date (RFC 9110, section 10.2.3). `None` when it has
/// none, when it is not valid, and when the date is in the past.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let pause = match is_number {
        true => Duration::from_secs(text.parse().unwrap_or(u64::MAX)),
        false => httpdate::parse_http_date(text).ok()?.duration_since(now).ok()?,
    };
    Some(pause.clamp(LEAST_PAUSE, LONGEST_PAUSE))
}

/// Dates have no fractions of a second, and a pause of zero would allow endless retries.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// A pause of a year is an error or an attack; a host gets the next request after an hour.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Hosts that are remembered. A limiter has a few hundred bytes.
const MAX_HOSTS: u64 = 1024;
/// Longer than any pause and than a circuit breaker stays open.
const HOST_KEPT: Duration = Duration::from_secs(2 * 3600);

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    const LIMITS: HostLimits = HostLimits {
        in_flight: 2,
        queued: 1,
        response_timeout: Duration::from_secs(1),
        failures: 3,
        initial_backoff: Duration::from_secs(2),
        max_backoff: Duration::from_secs(5),
    };

    fn limiter() -> Arc<HostLimiter> {
        Arc::new(HostLimiter::new(LIMITS))
    }

    async fn send(limiter: &Arc<HostLimiter>, outcome: RequestOutcome) -> Result<(), Rejected> {
        limiter.enter().await?.settle(outcome);
        Ok(())
    }

    fn circuit_open(failures: u32, seconds: u64) -> Result<(), Rejected> {
        Err(Rejected::CircuitOpen { failures, left: Duration::from_secs(seconds) })
    }

    #[tokio::test(start_paused = true)]
    async fn requests_in_flight_and_in_the_queue_are_limited() {
        let limiter = limiter();
        let mut first = limiter.enter().await.unwrap();
        let _second = limiter.enter().await.unwrap();
        let mut third = pin!(limiter.enter());
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!(limiter.enter().await.unwrap_err(), Rejected::QueueFull);
        first.settle(RequestOutcome::Answered);
        assert!(third.as_mut().now_or_never().is_none(), "the body is not read yet");
        first.release();
        assert!(third.as_mut().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_keeps_failing_gets_requests_less_and_less_often() {
        let limiter = limiter();
        for _ in 0..LIMITS.failures {
            send(&limiter, RequestOutcome::Failed).await.unwrap();
        }
        for (failures, seconds) in [(3, 2), (4, 4), (5, 5), (6, 5)] {
            assert_eq!(send(&limiter, RequestOutcome::Answered).await, circuit_open(failures, seconds));
            tokio::time::advance(Duration::from_secs(seconds)).await;
            send(&limiter, RequestOutcome::Failed).await.unwrap();
        }
        tokio::time::advance(Duration::from_secs(5)).await;
        send(&limiter, RequestOutcome::Answered).await.unwrap();
        send(&limiter, RequestOutcome::Failed).await.unwrap();
        send(&limiter, RequestOutcome::Answered).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_resets_the_count_of_failures() {
        let limiter = limiter();
        for outcome in [
            RequestOutcome::Failed,
            RequestOutcome::Failed,
            RequestOutcome::Answered,
            RequestOutcome::Failed,
            RequestOutcome::Failed,
        ] {
            send(&limiter, outcome).await.unwrap();
        }
        send(&limiter, RequestOutcome::Answered).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_at_a_time_checks_whether_a_host_is_back() {
        let limiter = limiter();
        let mut late = limiter.enter().await.unwrap();
        for _ in 0..LIMITS.failures {
            send(&limiter, RequestOutcome::Failed).await.unwrap();
        }
        late.settle(RequestOutcome::Failed);
        drop(late);
        assert_eq!(
            send(&limiter, RequestOutcome::Answered).await,
            circuit_open(3, 2),
            "a late failure does not keep the circuit breaker open for longer"
        );
        tokio::time::advance(Duration::from_secs(2)).await;
        let probe = limiter.enter().await.unwrap();
        assert_eq!(
            send(&limiter, RequestOutcome::Answered).await,
            circuit_open(3, 0),
            "while the probe is under way"
        );
        drop(probe);
        let mut probe = limiter.enter().await.unwrap();
        probe.settle(RequestOutcome::Answered);
        send(&limiter, RequestOutcome::Answered).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_is_sent_before_a_pause_ends() {
        let limiter = limiter();
        let pause = Duration::from_secs(7);
        send(&limiter, RequestOutcome::Paused { status: 429, pause }).await.unwrap();
        assert_eq!(
            send(&limiter, RequestOutcome::Answered).await,
            Err(Rejected::Paused { status: 429, left: pause })
        );
        tokio::time::advance(pause).await;
        send(&limiter, RequestOutcome::Answered).await.unwrap();
        send(&limiter, RequestOutcome::Paused { status: 503, pause: Duration::MAX }).await.unwrap();
        let left = LONGEST_PAUSE;
        assert_eq!(
            send(&limiter, RequestOutcome::Answered).await,
            Err(Rejected::Paused { status: 503, left })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_request_fails_when_a_pause_begins() {
        let limiter = limiter();
        let mut first = limiter.enter().await.unwrap();
        let _second = limiter.enter().await.unwrap();
        let mut third = pin!(limiter.enter());
        assert!(third.as_mut().now_or_never().is_none());
        let pause = Duration::from_secs(1);
        first.settle(RequestOutcome::Paused { status: 429, pause });
        drop(first);
        assert_eq!(third.await.unwrap_err(), Rejected::Paused { status: 429, left: pause });
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_do_not_delay_each_other() {
        let limiters = HostLimiters::new(LIMITS);
        let mut held = Vec::new();
        for _ in 0..LIMITS.in_flight {
            held.push(limiters.of("frozen.example").enter().await.unwrap());
        }
        assert!(limiters.of("other.example").enter().now_or_never().is_some());
        assert!(limiters.of("frozen.example").enter().now_or_never().is_none());
    }

    #[test]
    fn pauses_are_parsed_as_seconds_and_as_dates() {
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
