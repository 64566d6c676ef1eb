//! The server inside the test's own process, with limits short enough to be met.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use layerpin::engine::Engine;
use layerpin::metrics::Metrics;
use layerpin::policy_store::PolicyStore;
use layerpin::registry::auth::keychain::Keychain;
use layerpin::server::{ConnectionLimits, DryRunAccess, Listener, Parts, Server, Shutdown};
use layerpin::sources::{RegistryClient, Sources};
use layerpin::tls::profile::Protocol;
use layerpin::tls::{ServingCertificate, TlsEndpoint};
use layerpin_test_support::client::{Client, Wire};
use layerpin_test_support::eventually::{PATIENCE, in_time};
use tokio::sync::{oneshot, watch};
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
        layerpin::install_crypto_provider();
        let metrics = Arc::new(Metrics::new());
        let registry = RegistryClient::new(Keychain::none(), Arc::clone(&metrics)).unwrap();
        let engine = Engine::new(Sources::network(registry, None));
        Self::of_parts(engine, PolicyStore::built_in(), metrics, limits).await
    }

    /// A server that judges with `engine` by `policy`.
    pub(crate) async fn of(engine: Engine, policy: PolicyStore) -> Self {
        layerpin::install_crypto_provider();
        Self::of_parts(engine, policy, Arc::new(Metrics::new()), ConnectionLimits::default()).await
    }

    /// Only a listener, with these routes.
    pub(crate) async fn with_routes(limits: ConnectionLimits, routes: Router) -> Self {
        layerpin::install_crypto_provider();
        let (certificate, authority) = ServingCertificate::self_signed(Ipv4Addr::LOCALHOST.into()).unwrap();
        let tls = TlsEndpoint::new(Arc::new(certificate), None, &Protocol::default()).unwrap();
        let listener = Listener::bind(FREE, Arc::new(tls), routes, limits).await.unwrap();
        let address = listener.address().unwrap();
        Self::running(address, authority, |stopped| async {
            let (closing, closed) = watch::channel(false);
            let serving = listener.serve(closed);
            tokio::join!(serving, async move {
                let _ = stopped.await;
                let _ = closing.send(true);
            });
        })
    }

    async fn of_parts(
        engine: Engine,
        policy: PolicyStore,
        metrics: Arc<Metrics>,
        limits: ConnectionLimits,
    ) -> Self {
        let (certificate, authority) = ServingCertificate::self_signed(Ipv4Addr::LOCALHOST.into()).unwrap();
        let parts = Parts {
            engine,
            policy,
            certificate: Arc::new(certificate),
            client_authority: None,
            protocol: None,
            metrics,
            dry_run: DryRunAccess::Anyone,
            timeout: PATIENCE,
            limits,
        };
        let server = Server::bind(parts, FREE, FREE).await.unwrap();
        let address = server.address().unwrap();
        Self::running(address, authority, |stopped| {
            server.serve(async { stopped.await.unwrap_or(Shutdown::Now) })
        })
    }

    fn running<F>(
        address: SocketAddr,
        authority: String,
        serve: impl FnOnce(oneshot::Receiver<Shutdown>) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(stopped));
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

/// A free port on loopback.
const FREE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
