//! A connection after its handshake: HTTP/1.1 or HTTP/2 until the first deadline that it misses.
//!
//! Heads are timed here, because hyper's `header_read_timeout` also runs while a connection is idle, when the API
//! server keeps it open for later, and does not exist for HTTP/2.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use crate::server::connections::frames::Frames;
use crate::server::connections::limits::{Activity, ConnectionLimits, ConnectionPermit};

/// What a connection needs to be served.
pub(super) struct Connection {
    pub(super) routes: Router,
    pub(super) limits: ConnectionLimits,
    pub(super) permit: ConnectionPermit,
    pub(super) closing: watch::Receiver<bool>,
}

impl Connection {
    /// Serves until the client closes, a deadline passes, or the listener is closing and the requests in progress are
    /// finished.
    pub(super) async fn serve(self, stream: TlsStream<TcpStream>) {
        let Self { routes, limits, permit, mut closing } = self;
        let activity = &permit.activity;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let service = service_fn({
            let activity = Arc::clone(activity);
            let is_beyond_limit = permit.is_beyond_limit;
            move |request: Request<hyper::body::Incoming>| {
                let (routes, in_progress) = (routes.clone(), activity.begin_request());
                if !is_http2 {
                    activity.head_ended();
                }
                async move {
                    let response = if is_beyond_limit {
                        too_many_connections()
                    } else {
                        let Ok(response) = routes.oneshot(request.map(Body::new)).await;
                        response
                    };
                    // The request is in progress until its response was passed on to be written.
                    let until_written = move |error| {
                        let _ = &in_progress;
                        error
                    };
                    Ok::<_, Infallible>(response.map(|body| body.map_err(until_written)))
                }
            }
        });
        let frames = is_http2.then(Frames::new);
        let stream = TokioIo::new(TrackedStream { stream, frames, activity: Arc::clone(activity) });
        let builder = builder(limits);
        let builder = if is_http2 { builder.http2_only() } else { builder.http1_only() };
        let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
        let mut is_closing = *closing.borrow();
        if is_closing {
            connection.as_mut().graceful_shutdown();
        }
        let deadline = |close_at: Option<Instant>| match close_at {
            Some(close_at) if activity.is_idle() => close_at,
            _ => activity.deadline(limits),
        };
        let mut close_at = None;
        let mut timer_at = activity.deadline(limits);
        let mut timer = std::pin::pin!(sleep_until(timer_at));
        loop {
            let progress = poll_fn(|context| match connection.as_mut().poll(context) {
                Poll::Ready(_) => Poll::Ready(PollResult::Ended),
                Poll::Pending if deadline(close_at) < timer_at => Poll::Ready(PollResult::DeadlineIsNearer),
                Poll::Pending => Poll::Pending,
            });
            tokio::select! {
                biased;
                progress = progress => match progress {
                    PollResult::Ended => return,
                    PollResult::DeadlineIsNearer => {}
                },
                () = activity.evicted.notified() => {
                    // A request may have arrived meanwhile, or its response may be on its way: it is the last, but it
                    // is finished.
                    connection.as_mut().graceful_shutdown();
                    close_at = Some(Instant::now() + EVICTION_TIME);
                }
                // When a deadline moves away, the timer fires too early and is set again: cheaper than to move it with
                // every request.
                () = timer.as_mut() => {}
                _ = closing.changed(), if !is_closing => {
                    is_closing = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
            let deadline = deadline(close_at);
            if timer.is_elapsed() && Instant::now() >= deadline {
                return;
            }
            if timer.is_elapsed() || deadline < timer_at {
                timer_at = deadline;
                timer.as_mut().reset(deadline);
            }
        }
    }
}

/// What a poll of a connection came to.
enum PollResult {
    Ended,
    /// What was read or written has a deadline before the timer.
    DeadlineIsNearer,
}

fn builder(limits: ConnectionLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(limits.idle / 4)
        .keep_alive_timeout(limits.head);
    builder
}

/// A stream that records in `activity` what is read from it, and what its client does not read.
struct TrackedStream<S> {
    stream: S,
    /// For HTTP/2, where hyper does not tell when a head ends.
    frames: Option<Frames>,
    activity: Arc<Activity>,
}

impl<S> TrackedStream<S> {
    fn read(&mut self, bytes: &[u8]) {
        let activity = &self.activity;
        match &mut self.frames {
            _ if bytes.is_empty() => {}
            Some(frames) => {
                frames.read(bytes);
                if frames.is_unfinished() { activity.head_begun() } else { activity.head_ended() }
            }
            // What is read during a request is its body, or a pipelined request.
            None if activity.has_requests() => {}
            None => activity.head_begun(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TrackedStream<S> {
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

impl<S: AsyncWrite + Unpin> AsyncWrite for TrackedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.activity.wrote(outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.activity.flushed(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.activity.wrote(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.activity.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

fn too_many_connections() -> Response {
    let headers = [(header::RETRY_AFTER, "1"), (header::CONNECTION, "close")];
    let message = "all connections of this server are in use; try again in a moment\n";
    (StatusCode::SERVICE_UNAVAILABLE, headers, message).into_response()
}

/// For an evicted connection to end as its protocol requires.
const EVICTION_TIME: Duration = Duration::from_secs(1);
const MAX_STREAMS: u32 = 250;
/// The heads of the API server are below 1 kB.
const MAX_HEAD: usize = 64 * 1024;
