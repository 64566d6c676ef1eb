//! What a Service of several replicas does, on loopback: new connections go to those that are ready.
//!
//! As with a Service, a connection that is there stays with its replica whatever becomes of it, and
//! readiness is looked at every so often rather than known.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use layerpin_test_support::eventually::eventually_blocking;
use reqwest::Client;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::servers::Layerpin;

/// A running balancer; dropping it closes all of its connections.
pub(super) struct Balancer {
    address: SocketAddr,
    replicas: Replicas,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Clone, Default)]
struct Replicas(Arc<Mutex<Vec<Replica>>>);

struct Replica {
    address: SocketAddr,
    /// Of the probe that the deployment asks.
    probe: String,
    is_ready: bool,
    /// What the probe last answered.
    told: String,
    /// Whether the last connection was sent to it.
    is_in_use: bool,
}

impl Balancer {
    /// Starts one without replicas, which closes every connection.
    pub(super) fn start() -> Self {
        layerpin::install_crypto_provider();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let replicas = Replicas::default();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn({
            let replicas = replicas.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let listener = TcpListener::from_std(listener).unwrap();
                    tokio::select! {
                        () = replicas.probe() => {}
                        () = replicas.serve(listener) => {}
                        _ = stopped => {}
                    }
                });
            }
        });
        Self { address, replicas, stop: Some(stop), thread: Some(thread) }
    }

    /// Where the webhooks point, without a path.
    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Adds a replica, and waits until it is ready.
    pub(super) fn add(&self, layerpin: &Layerpin) {
        let replica = Replica {
            address: address(layerpin),
            probe: format!("{}/readyz?exclude=policy", layerpin.admin_url),
            is_ready: false,
            told: String::new(),
            is_in_use: false,
        };
        self.replicas.lock().push(replica);
        self.wait_for(layerpin, "the replica is ready", |replica| replica.is_ready);
    }

    /// Waits until a replica is seen not to be ready, and returns what its probe answered.
    pub(super) fn turned_away(&self, layerpin: &Layerpin) -> String {
        self.wait_for(layerpin, "the replica is not ready", |replica| !replica.is_ready)
    }

    /// Tells whether the connection that was made last is to this replica.
    pub(super) fn is_in_use(&self, layerpin: &Layerpin) -> bool {
        let address = address(layerpin);
        self.replicas.lock().iter().any(|replica| replica.address == address && replica.is_in_use)
    }

    fn wait_for(&self, layerpin: &Layerpin, claim: &str, holds: impl Fn(&Replica) -> bool) -> String {
        let address = address(layerpin);
        eventually_blocking(claim, || {
            let replicas = self.replicas.lock();
            let replica = replicas.iter().find(|it| it.address == address).unwrap();
            if holds(replica) { Ok(replica.told.clone()) } else { Err(replica.told.clone()) }
        })
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(thread::JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

impl Replicas {
    fn lock(&self) -> MutexGuard<'_, Vec<Replica>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks every replica whether it is ready, for ever. As the kubelet does, it does not look at the certificate.
    async fn probe(&self) {
        let client = Client::builder()
            .tls_danger_accept_invalid_certs(true)
            .no_proxy()
            // A connection of its own for each look.
            .pool_max_idle_per_host(0)
            .timeout(PATIENCE)
            .build()
            .unwrap();
        loop {
            let probes: Vec<_> = self.lock().iter().map(|replica| replica.probe.clone()).collect();
            for probe in probes {
                let (is_ready, told) = match client.get(&probe).send().await {
                    Err(error) => (false, format!("{error:?}")),
                    Ok(response) => {
                        (response.status().is_success(), response.text().await.unwrap_or_default())
                    }
                };
                if let Some(replica) = self.lock().iter_mut().find(|replica| replica.probe == probe) {
                    // The first word is kept: one that is about to end says so and then says nothing.
                    if replica.is_ready || is_ready || replica.told.is_empty() {
                        replica.told = told;
                    }
                    replica.is_ready = is_ready;
                }
            }
            #[expect(clippy::disallowed_methods, reason = "the period of the probe")]
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn serve(&self, listener: TcpListener) {
        for turn in 0.. {
            let Ok((mut client, _)) = listener.accept().await else { continue };
            let chosen = {
                let mut replicas = self.lock();
                let ready: Vec<_> = replicas.iter().filter(|replica| replica.is_ready).collect();
                let address = ready.get(turn % ready.len().max(1)).map(|replica| replica.address);
                for replica in replicas.iter_mut().filter(|_| address.is_some()) {
                    replica.is_in_use = Some(replica.address) == address;
                }
                address
            };
            let Some(address) = chosen else { continue };
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(address).await {
                    // Either end may break off; then the other is closed as well.
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    }
}

fn address(layerpin: &Layerpin) -> SocketAddr {
    layerpin.url.strip_prefix("https://").unwrap().parse().unwrap()
}

/// Far more often than the kubelet: the server lingers for the time that the cluster needs, and here that
/// is this.
const PERIOD: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(10);
