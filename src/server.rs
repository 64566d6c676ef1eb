//! The server: two listeners, the state of their handlers, and the time from start to SIGTERM.
//!
//! [`listener`] accepts connections, [`limits`] says how many and for how long, [`connection`] serves them, and
//! [`handshake`] logs those that fail. [`review`] has the steps of every review, [`request`] reads the body,
//! [`webhook`] and [`dry_run`] decide. [`health`] has probes and metrics, [`reload`] what changes at run time,
//! [`prefetch`] what is read before it is needed, [`tls_settings`] the TLS settings of the cluster.

mod connection;
mod dry_run;
mod frames;
mod handshake;
pub(crate) mod health;
mod limits;
mod listener;
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
use tokio::sync::watch;

use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::policy_store::PolicyStore;
use crate::server::limits::RequestBudget;
use crate::server::review::ReviewEndpoint;
use crate::server::tls_settings::TlsSettings;
use crate::tls::profile::Protocol;
use crate::tls::{CertificateError, ClientAuthority, ServingCertificate, TlsEndpoint};

pub use dry_run::DryRunAccess;
pub use limits::ConnectionLimits;
pub use listener::Listener;

/// The parts of a server.
#[derive(Debug)]
pub struct Parts {
    /// Answers what the reviews ask.
    pub engine: Engine,
    /// The policy in use.
    pub policy: PolicyStore,
    /// The certificate of both addresses.
    pub certificate: ServingCertificate,
    /// The CA that issues the certificates of the webhooks' clients; `None` accepts clients without one.
    pub client_authority: Option<ClientAuthority>,
    /// The TLS versions and cipher suites; `None` follows the cluster, or the default where it says nothing.
    pub protocol: Option<Protocol>,
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// Who may use `/dry-run`. [`DryRunAccess::Authorized`] without a cluster allows nobody.
    pub dry_run: DryRunAccess,
    /// The longest time for a review.
    pub timeout: Duration,
    /// How much is accepted at once, and for how long.
    pub limits: ConnectionLimits,
}

/// The state that handlers share.
#[derive(Debug)]
pub(crate) struct ServerState {
    engine: Engine,
    policy: PolicyStore,
    certificate: Arc<ServingCertificate>,
    tls_settings: TlsSettings,
    metrics: Arc<Metrics>,
    dry_run: DryRunAccess,
    timeout: Duration,
    limits: ConnectionLimits,
    budget: RequestBudget,
    draining: AtomicBool,
}

/// A server that is bound and not serving yet.
#[derive(Debug)]
pub struct Server {
    state: Arc<ServerState>,
    webhooks: Listener,
    admin: Listener,
}

impl Server {
    /// Binds both addresses. Port 0 takes a free port.
    pub async fn bind(parts: Parts, listen: SocketAddr, admin_listen: SocketAddr) -> Result<Self, BindError> {
        let certificate = Arc::new(parts.certificate);
        let protocol = parts.protocol.clone().unwrap_or_default();
        let endpoint =
            |client_authority| TlsEndpoint::new(Arc::clone(&certificate), client_authority, &protocol);
        let tls = Arc::new(endpoint(parts.client_authority.as_ref())?);
        let admin_tls = Arc::new(endpoint(None)?);
        let tls_settings = match parts.protocol {
            Some(_) => TlsSettings::Fixed,
            None => TlsSettings::of_cluster([Arc::clone(&tls), Arc::clone(&admin_tls)]),
        };
        parts.metrics.policy(&parts.policy.current());
        parts.metrics.certificate_expiry(certificate.expiry());
        reload::log_fault(&certificate);
        let limits = parts.limits;
        let state = Arc::new(ServerState {
            engine: parts.engine,
            policy: parts.policy,
            certificate,
            tls_settings,
            metrics: parts.metrics,
            dry_run: parts.dry_run,
            timeout: parts.timeout,
            limits,
            budget: RequestBudget::new(limits),
            draining: AtomicBool::new(false),
        });
        let (routes, admin_routes) = (routes(&state), health::routes(Arc::clone(&state)));
        Ok(Self {
            webhooks: Listener::bind(listen, tls, routes, limits).await?,
            admin: Listener::bind(admin_listen, admin_tls, admin_routes, limits).await?,
            state,
        })
    }

    /// The address of the webhooks, with its real port.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.webhooks.address()
    }

    /// The admin address, with its real port.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.address()
    }

    /// Serves until `stop` says how to stop, then finishes the requests in progress.
    pub async fn serve(self, stop: impl Future<Output = Shutdown>) {
        let (closing, closed) = watch::channel(false);
        let (admin_closing, admin_closed) = watch::channel(false);
        // Until the end of this function.
        let _following = self.state.engine.sources().follow_cluster();
        let reload = tokio::spawn(reload::watch(Arc::clone(&self.state)));
        let prefetch = tokio::spawn(prefetch::watch(Arc::clone(&self.state)));
        let webhooks = tokio::spawn(self.webhooks.serve(closed));
        let admin = tokio::spawn(self.admin.serve(admin_closed));
        let shutdown = stop.await;
        self.state.draining.store(true, Ordering::Relaxed);
        if shutdown == Shutdown::AfterLingering {
            // Whatever routes to this server takes a moment to see that it is no longer ready.
            #[expect(clippy::disallowed_methods, reason = "no event tells that routing has changed")]
            tokio::time::sleep(self.state.limits.linger).await;
        }
        for (name, closing, listener) in [("webhooks", closing, webhooks), ("admin", admin_closing, admin)] {
            let _ = closing.send(true);
            if let Err(error) = listener.await {
                tracing::error!(%error, name, "a listener failed");
            }
        }
        reload.abort();
        prefetch.abort();
    }
}

fn routes(state: &Arc<ServerState>) -> Router {
    let mut routes = Router::new();
    for endpoint in ReviewEndpoint::ALL {
        if endpoint != ReviewEndpoint::DryRun || state.dry_run != DryRunAccess::Off {
            let answer = move |State(state): State<Arc<ServerState>>, request| async move {
                review::answer(&state, endpoint, request).await
            };
            routes = routes.route(endpoint.path(), post(answer));
        }
    }
    routes
        .method_not_allowed_fallback(|| async { (StatusCode::METHOD_NOT_ALLOWED, "use POST\n") })
        .with_state(Arc::clone(state))
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// `/readyz` fails first, and new connections are accepted for [`ConnectionLimits::linger`].
    AfterLingering,
    /// No new connections are accepted.
    Now,
}

/// A server that cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address is not available.
    #[error("cannot listen on {address}: {}", crate::errors::words(reason))]
    Address {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        reason: io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}
