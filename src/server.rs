//! The server: two listeners, the state of their handlers, and the time from start to SIGTERM.
//!
//! [`connections`] accepts, limits and serves connections. [`review`] has the steps of every review, [`request`] reads the body,
//! [`webhook`] and [`dry_run`] decide. [`health`] has probes and metrics, [`reload`] what changes at run time,
//! [`prefetch`] what is read before it is needed, [`tls_settings`] the TLS settings of the cluster.

mod body;
mod connections;
mod dry_run;
pub(crate) mod health;
pub(crate) mod prefetch;
mod reload;
mod request;
mod review;
pub(crate) mod tls_settings;
mod webhook;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use tokio::sync::watch;

use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::policy_store::PolicyStore;
use crate::server::connections::limits::RequestBudget;
use crate::server::review::ReviewEndpoint;
use crate::server::tls_settings::TlsSettings;
use crate::tls::profile::Protocol;
use crate::tls::{CertificateError, ClientAuthority, ServingCertificate, TlsEndpoint};

pub use connections::limits::ConnectionLimits;
pub use connections::listener::Listener;
pub use dry_run::DryRunAccess;

/// The parts of a server.
#[derive(Debug)]
pub struct Parts {
    /// Answers what the reviews ask.
    pub engine: Engine,
    /// The policy in use.
    pub policy: PolicyStore,
    /// The certificate of both addresses.
    pub certificate: Arc<ServingCertificate>,
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
    parts: Parts,
    /// `None` when flags set them, and nothing changes.
    tls_settings: Option<TlsSettings>,
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
        let protocol = parts.protocol.clone().unwrap_or_default();
        let endpoint = |client_authority| {
            TlsEndpoint::new(Arc::clone(&parts.certificate), client_authority, &protocol).map(Arc::new)
        };
        let (tls, admin_tls) = (endpoint(parts.client_authority.as_ref())?, endpoint(None)?);
        let endpoints = [Arc::clone(&tls), Arc::clone(&admin_tls)];
        let tls_settings =
            parts.protocol.is_none().then(|| TlsSettings { endpoints, last: Mutex::default() });
        parts.metrics.policy(&parts.policy.current());
        parts.metrics.certificate_expiry(parts.certificate.expiry());
        reload::log_fault(&parts.certificate);
        let limits = parts.limits;
        let (budget, draining) = (RequestBudget::new(limits), AtomicBool::new(false));
        let state = Arc::new(ServerState { parts, tls_settings, budget, draining });
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
        // Until the end of this function.
        let mut background = self.state.parts.engine.sources().follow_cluster();
        background.spawn(reload::watch(Arc::clone(&self.state)));
        background.spawn(prefetch::watch(Arc::clone(&self.state)));
        let listeners = [("webhooks", self.webhooks), ("admin", self.admin)].map(|(name, listener)| {
            let (closing, closed) = watch::channel(false);
            (name, closing, tokio::spawn(listener.serve(closed)))
        });
        let shutdown = stop.await;
        self.state.draining.store(true, Ordering::Relaxed);
        if shutdown == Shutdown::AfterLingering {
            // Whatever routes to this server takes a moment to see that it is no longer ready.
            #[expect(clippy::disallowed_methods, reason = "no event tells that routing has changed")]
            tokio::time::sleep(self.state.parts.limits.linger).await;
        }
        for (name, closing, listener) in listeners {
            let _ = closing.send(true);
            if let Err(error) = listener.await {
                tracing::error!(%error, name, "a listener failed");
            }
        }
    }
}

fn routes(state: &Arc<ServerState>) -> Router {
    let mut routes = Router::new();
    for endpoint in ReviewEndpoint::ALL {
        if endpoint != ReviewEndpoint::DryRun || state.parts.dry_run != DryRunAccess::Off {
            let answer = move |State(state): State<Arc<ServerState>>, request| async move {
                review::answer(&state, endpoint, request).await
            };
            routes = routes.route(&format!("/{}", endpoint.name()), post(answer));
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
