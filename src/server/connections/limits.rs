//! What the server accepts at once, and for how long.
//!
//! Owns the number of connections, what a connection is doing and its deadlines, and the budget of reviews and of
//! memory for request bodies. When the limit of connections is reached, the connection that has been idle for the
//! longest time is closed, so that idle clients never keep out a working one; when none is idle, a new client is
//! told so at once. `tower`'s limits cannot do that: they make a request wait, know no weights, and see nothing of
//! a connection before its first request.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::server::request::Rejection;

/// How much is accepted at once, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections of one listener.
    pub connections: usize,
    /// Reviews in progress.
    pub reviews: usize,
    /// Kilobytes of request bodies in progress.
    pub body_kilobytes: usize,
    /// The TLS handshake.
    pub handshake: Duration,
    /// From the first byte of a request to the end of its head.
    pub head: Duration,
    /// From the end of the head to the end of the body, and as long for a client that is slow to read its
    /// response.
    pub body: Duration,
    /// A connection without a request. Longer than the 90 seconds for which the API server keeps one: a server that
    /// closes while the client sends loses a review.
    pub idle: Duration,
    /// After SIGTERM, before new connections are refused.
    pub linger: Duration,
    /// After that, for the requests in progress.
    pub drain: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            // About 40 kB each with TLS, together some 80 MB.
            connections: 2048,
            reviews: 1024,
            // Sixteen reviews of the largest size, or all of the usual size.
            body_kilobytes: 128 * 1024,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            linger: Duration::from_secs(3),
            // The API server waits for no webhook longer than this.
            drain: Duration::from_secs(30),
        }
    }
}

/// The reviews and the memory for request bodies of one server.
#[derive(Debug)]
pub(in crate::server) struct RequestBudget {
    limits: ConnectionLimits,
    reviews: Arc<Semaphore>,
    body_kilobytes: Arc<Semaphore>,
}

/// The part of the budget that a request uses; dropping it gives it back.
pub(in crate::server) type RequestPermit = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl RequestBudget {
    pub(in crate::server) fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            reviews: Arc::new(Semaphore::new(limits.reviews)),
            body_kilobytes: Arc::new(Semaphore::new(limits.body_kilobytes)),
        }
    }

    /// Admits a request with a body of up to `bytes`. Fails at once when a limit is reached.
    pub(in crate::server) fn admit(&self, bytes: usize) -> Result<RequestPermit, Rejection> {
        let busy = |limit: String| {
            let message = format!("{limit} are in progress, which is the limit; try again in a moment");
            Rejection::new(StatusCode::SERVICE_UNAVAILABLE, message)
        };
        let reviews = Arc::clone(&self.reviews).try_acquire_owned();
        let review = reviews.map_err(|_| busy(format!("{} reviews", self.limits.reviews)))?;
        let kilobytes = u32::try_from(bytes.div_ceil(1024).max(1)).unwrap_or(u32::MAX);
        let body = Arc::clone(&self.body_kilobytes).try_acquire_many_owned(kilobytes);
        let body = body.map_err(|_| busy(format!("{} kB of request bodies", self.limits.body_kilobytes)))?;
        Ok((review, body))
    }
}

/// The connections of a listener.
#[derive(Debug)]
pub(super) struct ConnectionPool {
    limit: usize,
    open: Mutex<Vec<Arc<Activity>>>,
}

/// An open connection in the pool; dropping it makes room.
pub(super) struct ConnectionPermit {
    pool: Arc<ConnectionPool>,
    pub(super) activity: Arc<Activity>,
    /// The pool is full: the client is only told so.
    pub(super) is_beyond_limit: bool,
}

impl ConnectionPool {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, open: Mutex::default() }
    }

    /// Adds a connection, if necessary in place of the one that has been idle for the longest time. `None` when there
    /// are already too many clients to be told that the pool is full.
    pub(super) fn add(self: &Arc<Self>) -> Option<ConnectionPermit> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_beyond_limit = false;
        if open.len() >= self.limit {
            let idle = open.iter().enumerate().filter(|(_, activity)| activity.is_idle());
            match idle.min_by_key(|(_, activity)| activity.idle_since()).map(|(index, _)| index) {
                Some(index) => open.swap_remove(index).evicted.notify_one(),
                None if open.len() >= self.limit + MAX_BEYOND_LIMIT => return None,
                None => is_beyond_limit = true,
            }
        }
        let activity = Arc::new(Activity::new());
        open.push(Arc::clone(&activity));
        Some(ConnectionPermit { pool: Arc::clone(self), activity, is_beyond_limit })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.pool.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = open.iter().position(|activity| Arc::ptr_eq(activity, &self.activity)) {
            open.swap_remove(index);
        }
    }
}

/// What a connection is doing: the requests in progress, and the bytes that the client has yet to send or to read.
#[derive(Debug)]
pub(super) struct Activity {
    accepted: Instant,
    requests: AtomicUsize,
    /// Milliseconds from `accepted` to when the connection last became idle.
    idle_since: AtomicU64,
    /// Milliseconds from `accepted` to the first byte of a head that is not complete; zero when there is none.
    head_since: AtomicU64,
    /// Milliseconds from `accepted` to when the client did not read what was written; zero when it read everything.
    unread_since: AtomicU64,
    pub(super) evicted: Notify,
}

impl Activity {
    fn new() -> Self {
        Self {
            accepted: Instant::now(),
            requests: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            unread_since: AtomicU64::new(0),
            evicted: Notify::new(),
        }
    }

    /// Begins a request, which lasts until the result is dropped.
    pub(super) fn begin_request(self: &Arc<Self>) -> RequestInProgress {
        self.requests.fetch_add(1, Ordering::Relaxed);
        RequestInProgress(Arc::clone(self))
    }

    pub(super) fn has_requests(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.has_requests() && self.unread_since.load(Ordering::Relaxed) == 0
    }

    fn idle_since(&self) -> Instant {
        self.accepted + Duration::from_millis(self.idle_since.load(Ordering::Relaxed))
    }

    /// When the connection is to be closed if nothing happens.
    pub(super) fn deadline(&self, limits: ConnectionLimits) -> Instant {
        if self.has_requests() {
            // The request has deadlines of its own; this one is checked again after them.
            return Instant::now() + limits.idle;
        }
        let since = |counter: &AtomicU64| match counter.load(Ordering::Relaxed) {
            0 => None,
            since => Some(self.accepted + Duration::from_millis(since)),
        };
        let unread = since(&self.unread_since).map(|since| since + limits.body);
        let head = since(&self.head_since).map(|since| since + limits.head);
        unread.into_iter().chain(head).min().unwrap_or_else(|| self.idle_since() + limits.idle)
    }

    pub(super) fn head_begun(&self) {
        self.mark(&self.head_since);
    }

    pub(super) fn head_ended(&self) {
        self.head_since.store(0, Ordering::Relaxed);
    }

    /// Records the outcome of a write to the client, and returns it.
    pub(super) fn wrote<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_pending() {
            self.mark(&self.unread_since);
        }
        outcome
    }

    /// The same for a flush, after which the client has read everything.
    pub(super) fn flushed(&self, outcome: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        if outcome.is_ready() && self.unread_since.swap(0, Ordering::Relaxed) != 0 {
            self.idle_since.store(self.age(), Ordering::Relaxed);
        }
        self.wrote(outcome)
    }

    fn mark(&self, since: &AtomicU64) {
        if since.load(Ordering::Relaxed) == 0 {
            since.store(self.age().max(1), Ordering::Relaxed);
        }
    }

    fn age(&self) -> u64 {
        u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A request in progress; dropping it ends it.
pub(super) struct RequestInProgress(Arc<Activity>);

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.age(), Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Clients beyond the limit that are told so.
const MAX_BEYOND_LIMIT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_connection_is_closed_and_busy_ones_are_kept() {
        let pool = Arc::new(ConnectionPool::new(2));
        let busy = pool.add().unwrap();
        let _request = busy.activity.begin_request();
        let idle = pool.add().unwrap();
        let new = pool.add().unwrap();
        assert!(!new.is_beyond_limit);
        assert!(pool.open.lock().unwrap().iter().all(|activity| !Arc::ptr_eq(activity, &idle.activity)));
        let _other_request = new.activity.begin_request();
        assert!(pool.add().unwrap().is_beyond_limit);
        drop((busy, idle));
        assert!(!pool.add().unwrap().is_beyond_limit);
    }

    #[test]
    fn only_some_clients_beyond_the_limit_are_told_so() {
        let pool = Arc::new(ConnectionPool::new(1));
        let open: Vec<_> = (0..=MAX_BEYOND_LIMIT)
            .map(|_| {
                let permit = pool.add().unwrap();
                let request = permit.activity.begin_request();
                (permit, request)
            })
            .collect();
        assert_eq!(open.iter().filter(|(permit, _)| permit.is_beyond_limit).count(), MAX_BEYOND_LIMIT);
        assert!(pool.add().is_none());
    }
}
