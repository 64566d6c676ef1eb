//! Connections: accepted, shaken hands with, served, and let go in time.
//!
//! Owns the deadlines of a connection and how many there may be. When all places are taken the
//! connection that has been idle longest gives its place up, so idle clients never keep a working
//! one out; when none is idle, a newcomer is told so at once.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::server::frames::Frames;
use crate::server::handshake::HandshakeFailures;
use crate::tls::TlsEndpoint;

/// How much is accepted at once, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections of one listener.
    pub connections: usize,
    /// Reviews in work.
    pub reviews: usize,
    /// Kilobytes of bodies in work.
    pub body_kilobytes: usize,
    /// The TLS handshake.
    pub handshake: Duration,
    /// From the first byte of a request to the end of its head.
    pub head: Duration,
    /// From the end of the head to the end of the body, and as long for a client that is slow to take
    /// its answer.
    pub body: Duration,
    /// A connection without a request. Longer than the API server keeps one, which is 90 seconds:
    /// who closes first while the other sends loses a review.
    pub idle: Duration,
    /// After SIGTERM, before new connections are turned away.
    pub linger: Duration,
    /// After that, for what is still in work.
    pub drain: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            // About 40 kB each with TLS, so some 80 MB when all are taken.
            connections: 2048,
            reviews: 1024,
            // Sixteen reviews of the largest size, or all of the usual one.
            body_kilobytes: 128 * 1024,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            linger: Duration::from_secs(3),
            // The API server waits for no webhook longer.
            drain: Duration::from_secs(30),
        }
    }
}

/// Serves `routes` on `socket` until `closing` turns true, then finishes what is in work.
pub(super) async fn serve(
    socket: TcpListener,
    tls: Arc<TlsEndpoint>,
    routes: Router,
    limits: ConnectionLimits,
    mut closing: watch::Receiver<bool>,
) {
    let places = Arc::new(ConnectionPool::new(limits.connections));
    let failures = Arc::new(HandshakeFailures::default());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = closing.changed() => break,
        };
        let (stream, caller) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !is_of_one_connection(&error) {
                    tracing::error!(%error, "no connection can be accepted");
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "no event tells that a file descriptor is free"
                    )]
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        let Some(place) = places.take() else { continue };
        let connection = ServedConnection {
            acceptor: TlsAcceptor::from(tls.config()),
            routes: routes.clone(),
            limits,
            place,
            failures: Arc::clone(&failures),
            closing: closing.clone(),
        };
        connections.spawn(connection.run(stream, caller));
    }
    drop(socket);
    let finished = timeout(limits.drain, async { while connections.join_next().await.is_some() {} }).await;
    if finished.is_err() {
        tracing::warn!(left = connections.len(), "connections were still in work at the end");
    }
}

struct ServedConnection {
    acceptor: TlsAcceptor,
    routes: Router,
    limits: ConnectionLimits,
    place: ConnectionPermit,
    failures: Arc<HandshakeFailures>,
    closing: watch::Receiver<bool>,
}

impl ServedConnection {
    async fn run(self, stream: TcpStream, caller: SocketAddr) {
        let Self { acceptor, routes, limits, place, failures, mut closing } = self;
        // Answers are small and written at once.
        let _ = stream.set_nodelay(true);
        let activity = Arc::clone(&place.activity);
        let shaken = tokio::select! {
            shaken = timeout(limits.handshake, acceptor.accept(stream).into_fallible()) => match shaken {
                Ok(shaken) => shaken,
                Err(_) => return tracing::debug!("a TLS handshake took too long"),
            },
            () = activity.evicted.notified() => return,
            // Nothing is in work yet, and a client that never speaks must not delay the end.
            _ = closing.wait_for(|closing| *closing) => return,
        };
        let stream = match shaken {
            Ok(stream) => stream,
            Err((error, stream)) => {
                failures.note(&error, caller);
                return part(stream).await;
            }
        };
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let service = service_fn({
            let activity = Arc::clone(&activity);
            let refusing = place.is_beyond;
            move |request: Request<hyper::body::Incoming>| {
                let (routes, work) = (routes.clone(), activity.begin());
                if !is_http2 {
                    activity.head_ended();
                }
                async move {
                    let response = if refusing {
                        crowded()
                    } else {
                        let Ok(response) = routes.oneshot(request.map(Body::new)).await;
                        response
                    };
                    // The work lasts until the answer is handed over, not until it is made.
                    Ok::<_, Infallible>(response.map(|body| InWork { body, _work: work }))
                }
            }
        });
        let frames = is_http2.then(Frames::new);
        let watched = TokioIo::new(Watched { stream, frames, activity: Arc::clone(&activity) });
        if is_http2 {
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(MAX_HEAD as u32)
                .keep_alive_interval(limits.idle / 4)
                .keep_alive_timeout(limits.head)
                .serve_connection(watched, service);
            drive(connection, &activity, limits, closing).await;
        } else {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                // It does not tell an idle connection from a slow head; `Activity` does.
                .header_read_timeout(None)
                .max_buf_size(MAX_HEAD)
                .serve_connection(watched, service);
            drive(connection, &activity, limits, closing).await;
        }
        drop(place);
    }
}

/// Lets a client read why it was turned away. Closing at once while it still sends would have the system
/// reset the connection, and that overtakes the alert: an administrator would read `broken pipe` where
/// `certificate required` is what helps.
async fn part(mut stream: TcpStream) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let _ = stream.shutdown().await;
    let mut rest = [0; 1024];
    let _ = timeout(FAREWELL, async { while matches!(stream.read(&mut rest).await, Ok(1..)) {} }).await;
}

/// Runs a connection to its end, or to the first deadline that it misses.
async fn drive<C: GracefulConnection>(
    connection: C,
    activity: &Activity,
    limits: ConnectionLimits,
    mut closing: watch::Receiver<bool>,
) {
    let mut connection = std::pin::pin!(connection);
    let mut is_closing = *closing.borrow();
    if is_closing {
        connection.as_mut().graceful_shutdown();
    }
    let mut farewell = None;
    loop {
        let deadline = |farewell: Option<Instant>| match farewell {
            Some(farewell) if activity.is_idle() => farewell,
            _ => activity.deadline(limits),
        };
        tokio::select! {
            _ = connection.as_mut() => return,
            () = activity.evicted.notified() => {
                // A request may have come while the place was being taken away, or its answer may be
                // on its way out: it is the last, but it is finished.
                connection.as_mut().graceful_shutdown();
                farewell = Some(Instant::now() + FAREWELL);
            }
            () = activity.deadline_is_nearer.notified() => {}
            () = sleep_until(deadline(farewell)) => {
                if Instant::now() >= deadline(farewell) {
                    return;
                }
            }
            _ = closing.changed(), if !is_closing => {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// What a connection is doing, told by the bytes that it reads and the requests that it serves.
#[derive(Debug)]
struct Activity {
    born: Instant,
    in_work: AtomicUsize,
    /// Milliseconds from `born` to when the connection last fell idle.
    idle_since: AtomicU64,
    /// Milliseconds from `born` to the first byte of a head that is not complete; zero: there is none.
    head_since: AtomicU64,
    /// Milliseconds from `born` to when the client did not take what was written; zero: it took all.
    unwritten_since: AtomicU64,
    /// A head or an unwritten answer has a nearer deadline than what is waited for.
    deadline_is_nearer: Notify,
    evicted: Notify,
}

impl Activity {
    fn begin(self: &Arc<Self>) -> Work {
        self.in_work.fetch_add(1, Ordering::Relaxed);
        Work(Arc::clone(self))
    }

    fn is_idle(&self) -> bool {
        self.in_work.load(Ordering::Relaxed) == 0 && self.unwritten_since.load(Ordering::Relaxed) == 0
    }

    fn idle_since(&self) -> Instant {
        self.born + Duration::from_millis(self.idle_since.load(Ordering::Relaxed))
    }

    fn deadline(&self, limits: ConnectionLimits) -> Instant {
        if self.in_work.load(Ordering::Relaxed) > 0 {
            // The request has deadlines of its own. Look again when they are over.
            return Instant::now() + limits.idle;
        }
        let since = |counter: &AtomicU64| match counter.load(Ordering::Relaxed) {
            0 => None,
            since => Some(self.born + Duration::from_millis(since)),
        };
        let unwritten = since(&self.unwritten_since).map(|since| since + limits.body);
        let head = since(&self.head_since).map(|since| since + limits.head);
        unwritten.into_iter().chain(head).min().unwrap_or_else(|| self.idle_since() + limits.idle)
    }

    fn head_begun(&self) {
        self.mark(&self.head_since);
    }

    fn head_ended(&self) {
        self.head_since.store(0, Ordering::Relaxed);
    }

    /// Notes how a write to the client, or a flush, went.
    fn wrote<T>(&self, outcome: &Poll<io::Result<T>>) {
        if outcome.is_pending() {
            self.mark(&self.unwritten_since);
        }
    }

    fn flushed(&self, outcome: &Poll<io::Result<()>>) {
        self.wrote(outcome);
        if outcome.is_ready() && self.unwritten_since.swap(0, Ordering::Relaxed) != 0 {
            self.idle_since.store(self.age(), Ordering::Relaxed);
        }
    }

    fn mark(&self, since: &AtomicU64) {
        if since.load(Ordering::Relaxed) == 0 {
            since.store(self.age().max(1), Ordering::Relaxed);
            self.deadline_is_nearer.notify_one();
        }
    }

    fn age(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A request in work; dropping it ends the work.
struct Work(Arc<Activity>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.age(), Ordering::Relaxed);
        self.0.in_work.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer, which is in work until it was handed over to be written.
struct InWork {
    body: Body,
    _work: Work,
}

impl hyper::body::Body for InWork {
    type Data = <Body as hyper::body::Body>::Data;
    type Error = <Body as hyper::body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// The places of a listener.
#[derive(Debug)]
struct ConnectionPool {
    limit: usize,
    taken: Mutex<Vec<Arc<Activity>>>,
}

/// A place that a connection has; dropping it gives it back.
struct ConnectionPermit {
    places: Arc<ConnectionPool>,
    activity: Arc<Activity>,
    /// There was no place: the connection is only told so.
    is_beyond: bool,
}

impl ConnectionPool {
    fn new(limit: usize) -> Self {
        Self { limit, taken: Mutex::default() }
    }

    /// A place, if need be that of the connection that has been idle longest. `None` when there are
    /// already too many to be told that there is none.
    fn take(self: &Arc<Self>) -> Option<ConnectionPermit> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_beyond = false;
        if taken.len() >= self.limit {
            let idle = taken.iter().enumerate().filter(|(_, activity)| activity.is_idle());
            match idle.min_by_key(|(_, activity)| activity.idle_since()).map(|(index, _)| index) {
                Some(index) => taken.swap_remove(index).evicted.notify_one(),
                None if taken.len() >= self.limit + BEYOND => return None,
                None => is_beyond = true,
            }
        }
        let activity = Arc::new(Activity {
            born: Instant::now(),
            in_work: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            unwritten_since: AtomicU64::new(0),
            deadline_is_nearer: Notify::new(),
            evicted: Notify::new(),
        });
        taken.push(Arc::clone(&activity));
        Some(ConnectionPermit { places: Arc::clone(self), activity, is_beyond })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = taken.iter().position(|activity| Arc::ptr_eq(activity, &self.activity)) {
            taken.swap_remove(index);
        }
    }
}

/// A stream that tells what is read from it, and what its client does not take. The API server keeps
/// many connections open for later; hyper's own timeout would take those for heads that never come.
struct Watched<S> {
    stream: S,
    /// On HTTP/2, where heads end without a word to us while they are read.
    frames: Option<Frames>,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    fn read(&mut self, bytes: &[u8]) {
        let activity = &self.activity;
        match &mut self.frames {
            _ if bytes.is_empty() => {}
            Some(frames) => {
                frames.read(bytes);
                if frames.is_unfinished() { activity.head_begun() } else { activity.head_ended() }
            }
            // What is read while a request is in work is its body, or the next request too early.
            None if activity.in_work.load(Ordering::Relaxed) == 0 => activity.head_begun(),
            None => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.read(&buffer.filled()[before..]);
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.activity.wrote(&outcome);
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.activity.flushed(&outcome);
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.activity.wrote(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.activity.wrote(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

fn crowded() -> Response<Body> {
    let mut response =
        Response::new(Body::from("all connections of this server are in work; try again in a moment\n"));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

/// Failures that speak of the connection that was to be accepted, not of the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// Newcomers beyond the limit who are told that there is no place.
const BEYOND: usize = 64;
/// For a connection whose place was taken, or whose handshake failed, to end as its protocol wants.
const FAREWELL: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const MAX_STREAMS: u32 = 250;
/// The API server's heads are under 1 kB.
const MAX_HEAD: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_gives_its_place_up_and_the_busy_keep_theirs() {
        let places = Arc::new(ConnectionPool::new(2));
        let busy = places.take().unwrap();
        let _work = busy.activity.begin();
        let idle = places.take().unwrap();
        let newcomer = places.take().unwrap();
        assert!(!newcomer.is_beyond);
        assert!(places.taken.lock().unwrap().iter().all(|activity| !Arc::ptr_eq(activity, &idle.activity)));
        let _more_work = newcomer.activity.begin();
        assert!(places.take().unwrap().is_beyond);
        drop((busy, idle));
        assert!(!places.take().unwrap().is_beyond);
    }

    #[test]
    fn beyond_the_limit_only_some_are_told() {
        let places = Arc::new(ConnectionPool::new(1));
        let taken: Vec<_> = (0..=BEYOND)
            .map(|_| {
                let place = places.take().unwrap();
                let work = place.activity.begin();
                (place, work)
            })
            .collect();
        assert_eq!(taken.iter().filter(|(place, _)| place.is_beyond).count(), BEYOND);
        assert!(places.take().is_none());
    }
}
