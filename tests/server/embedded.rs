//! The server inside the test's own process, with limits short enough to be met.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use layerpin::engine::Engine;
use layerpin::metrics::Metrics;
use layerpin::policy_store::PolicyStore;
use layerpin::registry::auth::keychain::Keychain;
use layerpin::server::{ConnectionLimits, DryRunAccess, Parts, Server, Shutdown};
use layerpin::sources::{RegistryClient, Sources};
use layerpin::tls::ServingCertificate;
use layerpin_test_support::client::{Client, Wire};
use layerpin_test_support::eventually::{PATIENCE, in_time};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A running server; dropping it ends it with the test's runtime.
pub(crate) struct Embedded {
    pub(crate) webhooks: Client,
    pub(crate) address: SocketAddr,
    pub(crate) authority: String,
    stop: oneshot::Sender<Shutdown>,
    task: JoinHandle<()>,
}

impl Embedded {
    /// A server with these limits, and everything else by default.
    pub(crate) async fn start(limits: ConnectionLimits) -> Self {
        Self::with_routes(limits, Router::new()).await
    }

    /// The same with more routes beside the webhooks.
    pub(crate) async fn with_routes(limits: ConnectionLimits, more: Router) -> Self {
        layerpin::install_crypto_provider();
        let metrics = Arc::new(Metrics::new());
        let registry = RegistryClient::new(Keychain::none(), Arc::clone(&metrics)).unwrap();
        let engine = Engine::new(Sources::network(registry, None));
        Self::of_parts(engine, PolicyStore::built_in(), metrics, limits, more).await
    }

    /// A server that judges with `engine` by `policy`.
    pub(crate) async fn of(engine: Engine, policy: PolicyStore) -> Self {
        layerpin::install_crypto_provider();
        Self::of_parts(engine, policy, Arc::new(Metrics::new()), ConnectionLimits::default(), Router::new())
            .await
    }

    async fn of_parts(
        engine: Engine,
        policy: PolicyStore,
        metrics: Arc<Metrics>,
        limits: ConnectionLimits,
        more: Router,
    ) -> Self {
        let (certificate, authority) = ServingCertificate::self_signed(Ipv4Addr::LOCALHOST.into()).unwrap();
        let parts = Parts {
            engine,
            policy,
            certificate,
            client_authority: None,
            protocol: None,
            metrics,
            dry_run: DryRunAccess::Anyone,
            timeout: PATIENCE,
            limits,
        };
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::bind(parts, free, free, more).await.unwrap();
        let address = server.address().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(async { stopped.await.unwrap_or(Shutdown::Now) }));
        Self { webhooks: Client::of_http_1(address, &authority), address, authority, stop, task }
    }

    /// A bare stream to the webhooks.
    pub(crate) async fn wire(&self) -> Wire {
        Wire::connect(self.address, &self.authority).await
    }

    /// Stops the server and waits for its end.
    pub(crate) async fn end(self, how: Shutdown) {
        self.stop.send(how).unwrap();
        in_time("the server ends", self.task).await.unwrap();
    }
}
