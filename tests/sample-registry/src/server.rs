//! A loopback server on a thread of its own.
//!
//! The thread has its own runtime, so that a synchronous test, a test with
//! another runtime and a benchmark can all use it. Dropping the server stops
//! the runtime, which closes every connection, frozen ones included.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::CONNECTION;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::http::{Answer, Reply, ReplyBody, Request};
use crate::printed::keep_traces;

/// What a server serves.
pub(crate) trait Service: Send + Sync + 'static {
    /// Decides about a new TCP connection, before TLS and before HTTP.
    fn admit(&self) -> impl Future<Output = Admission> + Send;

    /// Replies to one request.
    fn reply(&self, request: Request) -> impl Future<Output = Reply> + Send;
}

/// The decision about a new TCP connection.
pub(crate) enum Admission {
    /// It is served.
    Serve,
    /// It is closed without a byte.
    Close,
}

/// A running server; dropping it stops it and waits for its thread.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

/// A listener that has its address, so that a service can know it before it runs.
pub(crate) struct BoundListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl BoundListener {
    /// Binds `address`; port 0 takes a free one.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts to serve; connections made from now on are answered.
    pub(crate) fn serve<S: Service>(
        self,
        tls: Option<Arc<ServerConfig>>,
        service: Arc<S>,
    ) -> io::Result<Server> {
        keep_traces();
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(self.listener)?
        };
        let thread = std::thread::Builder::new()
            .name(format!("sample-server-{}", self.address.port()))
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = stopped => {}
                        () = accept_forever(listener, tls.map(TlsAcceptor::from), service) => {}
                    }
                });
            })?;
        Ok(Server { address: self.address, stop: Some(stop), thread: Some(thread) })
    }
}

impl Server {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic on the thread has been reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

async fn accept_forever<S: Service>(
    listener: tokio::net::TcpListener,
    tls: Option<TlsAcceptor>,
    service: Arc<S>,
) {
    loop {
        // A failed accept concerns one client, or is a shortage of descriptors that passes.
        let Ok((stream, _)) = listener.accept().await else {
            #[expect(clippy::disallowed_methods, reason = "no event tells that a file descriptor is free")]
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        tokio::spawn(serve_stream(stream, tls.clone(), Arc::clone(&service)));
    }
}

async fn serve_stream<S: Service>(stream: TcpStream, tls: Option<TlsAcceptor>, service: Arc<S>) {
    if let Admission::Close = service.admit().await {
        return;
    }
    // Without it, small answers of one connection wait for delayed acknowledgements.
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve_http(stream, service).await,
        Some(acceptor) => {
            // A client that does not trust the certificate ends here; it knows why.
            if let Ok(stream) = acceptor.accept(stream).await {
                serve_http(stream, service).await;
            }
        }
    }
}

async fn serve_http<S: Service>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: Arc<S>,
) {
    let garbled = Arc::new(AtomicBool::new(false));
    let stream = GarblingStream { inner: stream, garbled: Arc::clone(&garbled), written: 0 };
    let answer = service_fn(|request| respond(Arc::clone(&service), Arc::clone(&garbled), request));
    // An error here is a client that went away, or a fault that was asked for.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

async fn respond<S: Service>(
    service: Arc<S>,
    garbled: Arc<AtomicBool>,
    request: hyper::Request<Incoming>,
) -> io::Result<Response<ReplyBody>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let method = head.method.clone();
    let request = Request { method: head.method, uri: head.uri, headers: head.headers, body };
    match service.reply(request).await {
        Reply::Answer(answer) => Ok(answer.into_response(&method)),
        Reply::Stream(answer, pieces) => Ok(answer.into_stream(pieces)),
        Reply::Close => Err(io::Error::other("closed on purpose")),
        Reply::Garbage => {
            garbled.store(true, Ordering::Relaxed);
            let last = Answer::empty(StatusCode::OK).with_header(CONNECTION, "close");
            Ok(last.into_response(&method))
        }
    }
}

/// A stream that, once garbled, sends [`GARBAGE`] in place of what is written to it.
struct GarblingStream<Stream> {
    inner: Stream,
    garbled: Arc<AtomicBool>,
    written: usize,
}

impl<Stream: AsyncRead + Unpin> AsyncRead for GarblingStream<Stream> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<Stream: AsyncWrite + Unpin> AsyncWrite for GarblingStream<Stream> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = &mut *self;
        if !stream.garbled.load(Ordering::Relaxed) {
            return Pin::new(&mut stream.inner).poll_write(context, bytes);
        }
        while stream.written < GARBAGE.len() {
            let rest = &GARBAGE[stream.written..];
            stream.written += ready!(Pin::new(&mut stream.inner).poll_write(context, rest))?;
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// How long to wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Bytes that are neither HTTP nor text.
const GARBAGE: &[u8] = b"\x00\x01\xfe\xff not a protocol \x80\x81\r\n\r\n";
