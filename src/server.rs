//! The server: two listeners, the state behind them, and its life from start to SIGTERM.
//!
//! [`connection`] owns connections and their deadlines, [`handshake`] tells of those that never begin, [`webhook`] the admission endpoints,
//! [`dry_run`] the rehearsal, [`admin`] probes and metrics, [`reload`] what changes while running, [`ahead`]
//! what is read before it is needed, [`spoken`] what is spoken.

mod body;
mod connection;
mod dry_run;
mod frames;
mod handshake;
pub(crate) mod health;
pub(crate) mod prefetch;
mod reload;
mod request;
mod review;
pub(crate) mod tls_settings;
mod webhook;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::policy_store::PolicyStore;
use crate::server::review::ReviewEndpoint;
use crate::server::tls_settings::TlsSettings;
use crate::tls::profile::Protocol;
use crate::tls::{CertificateError, ClientAuthority, ServingCertificate, TlsEndpoint};

pub use connection::ConnectionLimits;
pub use dry_run::DryRunAccess;

/// What a server is made of.
#[derive(Debug)]
pub struct Parts {
    /// Judges.
    pub engine: Engine,
    /// The policy in force.
    pub policy: PolicyStore,
    /// What to show to clients.
    pub certificate: ServingCertificate,
    /// The CA whose certificates callers of the webhooks must have; `None` lets everybody in.
    pub client_authority: Option<ClientAuthority>,
    /// What is spoken; `None` is what the cluster wants, and the default where it has told nothing.
    pub protocol: Option<Protocol>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Who may use `/dry-run`. [`DryRunAccess::Authorized`] without a cluster lets nobody in.
    pub dry_run: DryRunAccess,
    /// The longest time for all outward questions of one object.
    pub timeout: Duration,
    /// How much is accepted at once, and for how long.
    pub limits: ConnectionLimits,
}

/// What handlers share.
#[derive(Debug)]
pub(crate) struct ServerState {
    engine: Engine,
    policy: PolicyStore,
    certificate: Arc<ServingCertificate>,
    spoken: TlsSettings,
    metrics: Arc<Metrics>,
    dry_run: DryRunAccess,
    timeout: Duration,
    limits: ConnectionLimits,
    reviews: Arc<Semaphore>,
    body_kilobytes: Arc<Semaphore>,
    draining: AtomicBool,
}

/// A server that is bound and about to serve.
#[derive(Debug)]
pub struct Server {
    state: Arc<ServerState>,
    webhooks: Listener,
    admin: Listener,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    tls: Arc<TlsEndpoint>,
    routes: Router,
}

impl Server {
    /// Binds both addresses. Port 0 takes a free one. `more` adds routes beside the webhooks.
    pub async fn bind(
        parts: Parts,
        listen: SocketAddr,
        admin_listen: SocketAddr,
        more: Router,
    ) -> Result<Self, BindError> {
        let certificate = Arc::new(parts.certificate);
        let protocol = parts.protocol.clone().unwrap_or_default();
        let endpoint =
            |client_authority| TlsEndpoint::new(Arc::clone(&certificate), client_authority, &protocol);
        let tls = Arc::new(endpoint(parts.client_authority.as_ref())?);
        let admin_tls = Arc::new(endpoint(None)?);
        let spoken = match parts.protocol {
            Some(_) => TlsSettings::Fixed,
            None => TlsSettings::of_cluster([Arc::clone(&tls), Arc::clone(&admin_tls)]),
        };
        parts.metrics.policy(&parts.policy.current());
        parts.metrics.certificate_expiry(certificate.expiry());
        reload::tell_of_fault(&certificate);
        let state = Arc::new(ServerState {
            engine: parts.engine,
            policy: parts.policy,
            certificate,
            spoken,
            metrics: parts.metrics,
            dry_run: parts.dry_run,
            timeout: parts.timeout,
            reviews: Arc::new(Semaphore::new(parts.limits.reviews)),
            body_kilobytes: Arc::new(Semaphore::new(parts.limits.body_kilobytes)),
            limits: parts.limits,
            draining: AtomicBool::new(false),
        });
        let mut routes = Router::new();
        for endpoint in ReviewEndpoint::ALL {
            if endpoint != ReviewEndpoint::DryRun || parts.dry_run != DryRunAccess::Off {
                let answer = move |State(state): State<Arc<ServerState>>, request| async move {
                    review::answer(&state, endpoint, request).await
                };
                routes = routes.route(endpoint.path(), post(answer));
            }
        }
        Ok(Self {
            webhooks: Listener {
                socket: bind(listen).await?,
                tls,
                routes: routes
                    .method_not_allowed_fallback(|| async { (StatusCode::METHOD_NOT_ALLOWED, "use POST\n") })
                    .with_state(Arc::clone(&state))
                    .merge(more),
            },
            admin: Listener {
                socket: bind(admin_listen).await?,
                tls: admin_tls,
                routes: health::routes(Arc::clone(&state)),
            },
            state,
        })
    }

    /// The address of the webhooks, with its real port.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.webhooks.socket.local_addr()
    }

    /// The admin address, with its real port.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.socket.local_addr()
    }

    /// Serves until `stop` says how to end, then finishes what is in work.
    pub async fn serve(self, stop: impl Future<Output = Shutdown>) {
        let (closing, closed) = watch::channel(false);
        let (admin_closing, admin_closed) = watch::channel(false);
        let limits = self.state.limits;
        // Ends with this function: nothing follows a cluster that nobody judges for.
        let _following = self.state.engine.sources().follow_cluster();
        let reload = tokio::spawn(reload::watch(Arc::clone(&self.state)));
        let ahead = tokio::spawn(prefetch::watch(Arc::clone(&self.state)));
        let serve = |listener: Listener, closed| {
            tokio::spawn(connection::serve(listener.socket, listener.tls, listener.routes, limits, closed))
        };
        let webhooks = serve(self.webhooks, closed);
        let admin = serve(self.admin, admin_closed);
        let how = stop.await;
        self.state.draining.store(true, Ordering::Relaxed);
        if how == Shutdown::AfterLingering {
            // Whoever routes to this server needs a moment to see that it is no longer ready.
            #[expect(clippy::disallowed_methods, reason = "no event tells that routing has changed")]
            tokio::time::sleep(limits.linger).await;
        }
        for (name, closing, task) in [("webhooks", closing, webhooks), ("admin", admin_closing, admin)] {
            let _ = closing.send(true);
            if let Err(error) = task.await {
                tracing::error!(%error, name, "a listener ended badly");
            }
        }
        reload.abort();
        ahead.abort();
    }
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// `/readyz` is turned away first, and new connections are still taken for [`Limits::linger`].
    AfterLingering,
    /// No new connections from now on.
    Now,
}

/// A server that cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address cannot be had.
    #[error("cannot listen on {address}: {}", crate::errors::words(reason))]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: io::Error,
    },
    /// A certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|reason| BindError::Address { address, reason })
}
