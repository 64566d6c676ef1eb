//! A listener: accepts connections, performs the TLS handshake, and closes everything in time at the end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::server::BindError;
use crate::server::connections::connection::Connection;
use crate::server::connections::handshake::HandshakeFailures;
use crate::server::connections::limits::{ConnectionLimits, ConnectionPool};
use crate::tls::TlsEndpoint;

/// An address with its certificate and its routes.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Arc<TlsEndpoint>,
    routes: Router,
    limits: ConnectionLimits,
}

impl Listener {
    /// Binds `address`. Port 0 takes a free port.
    pub async fn bind(
        address: SocketAddr,
        tls: Arc<TlsEndpoint>,
        routes: Router,
        limits: ConnectionLimits,
    ) -> Result<Self, BindError> {
        let socket = TcpListener::bind(address).await;
        let socket = socket.map_err(|reason| BindError::Address { address, reason })?;
        Ok(Self { socket, tls, routes, limits })
    }

    /// The address with its real port.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `closing` becomes true or its sender is dropped, then finishes the requests in progress.
    pub async fn serve(self, mut closing: watch::Receiver<bool>) {
        let pool = Arc::new(ConnectionPool::new(self.limits.connections));
        let failures = Arc::new(HandshakeFailures::default());
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                _ = closing.changed() => break,
            };
            let (stream, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections");
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "no event tells that a file descriptor is free"
                    )]
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(permit) = pool.add() else { continue };
            let connection = Connection {
                routes: self.routes.clone(),
                limits: self.limits,
                permit,
                closing: closing.clone(),
            };
            let acceptor = TlsAcceptor::from(self.tls.config());
            connections.spawn(serve_client(acceptor, stream, client, Arc::clone(&failures), connection));
        }
        drop(self.socket);
        let finished = async { while connections.join_next().await.is_some() {} };
        if timeout(self.limits.drain, finished).await.is_err() {
            tracing::warn!(connections = connections.len(), "closing connections with requests in progress");
        }
    }
}

async fn serve_client(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    client: SocketAddr,
    failures: Arc<HandshakeFailures>,
    mut connection: Connection,
) {
    // Responses are small and written at once.
    let _ = stream.set_nodelay(true);
    let handshake = timeout(connection.limits.handshake, acceptor.accept(stream).into_fallible());
    let outcome = tokio::select! {
        outcome = handshake => outcome,
        () = connection.permit.activity.evicted.notified() => return,
        // No request is in progress, and a client that sends nothing must not delay the end.
        _ = connection.closing.wait_for(|closing| *closing) => return,
    };
    match outcome {
        Ok(Ok(stream)) => connection.serve(stream).await,
        Ok(Err((error, stream))) => {
            failures.note(&error, client);
            close_after_alert(stream).await;
        }
        Err(_) => tracing::debug!("TLS handshake timed out"),
    }
}

/// Lets a client read why it was rejected. To close while it still sends would make the system reset the connection,
/// and the reset overtakes the alert: an administrator would read `broken pipe` instead of `certificate required`.
async fn close_after_alert(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let mut rest = [0; 1024];
    let _ = timeout(ALERT_TIME, async { while matches!(stream.read(&mut rest).await, Ok(1..)) {} }).await;
}

/// Tells whether an error is about the connection that was to be accepted rather than about the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

const ALERT_TIME: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
