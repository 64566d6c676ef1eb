//! The cluster: what its API server reports about releases, pools, nodes and MachineConfigs.
//!
//! Owns the snapshot that reviews are judged with. A server keeps it up to date in the background, so that
//! no review waits for the API server; a command that ends reads every resource once. Nothing is written to
//! the cluster. A resource that cannot be read is unknown and does not affect the others.
//!
//! [`access`] finds the cluster and [`client`] sends requests. [`resources`] is the table of what is read,
//! [`objects`] what is kept of each object, [`store`] what is known, and [`reflector`] keeps it up to date.
//! [`nodes`] counts nodes by pool, [`registry_config`] applies the registry settings, and [`token_review`] asks who
//! calls.

pub mod access;
pub(crate) mod client;
pub(crate) mod nodes;
pub(crate) mod objects;
pub(crate) mod reflector;
pub(crate) mod registry_config;
pub(crate) mod resources;
pub(crate) mod store;
pub(crate) mod token_review;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::access::{AccessError, ClusterAccess};
use crate::cluster::client::ApiClient;
use crate::cluster::reflector::Reflector;
use crate::cluster::registry_config::RegistryConfig;
use crate::cluster::resources::Stores;
use crate::cluster::token_review::TokenReviewer;
use crate::model::facts::Fact;
use crate::model::facts::cluster::Cluster;
use crate::registry::RegistryClient;
use crate::tls::profile::Profile;

pub use crate::cluster::reflector::WatchConfig;
pub use crate::cluster::resources::{ApiGroup, RESOURCES, Resource, ResourcePurpose};
pub use crate::cluster::token_review::CallerAccess;

/// Reads one cluster.
#[derive(Debug)]
pub struct ClusterSource {
    client: ApiClient,
    origin: String,
    watch_config: WatchConfig,
    started: Instant,
    stores: Stores,
    /// What resources are read for; set when reading begins.
    purposes: OnceLock<Vec<ResourcePurpose>>,
    registry_config: RegistryConfig,
    token_reviewer: TokenReviewer,
    changed: Arc<Notify>,
    snapshot: ArcSwap<Cluster>,
}

impl ClusterSource {
    /// Prepares to read a cluster. Sends no request and runs no exec plug-in.
    ///
    /// Fails when the configuration cannot work, for example because of a certificate that cannot be parsed
    /// or a token file that cannot be read.
    pub fn new(access: ClusterAccess, watch_config: WatchConfig) -> Result<Arc<Self>, AccessError> {
        let changed = Arc::new(Notify::new());
        let stores = Stores::new(&changed);
        let origin = access.origin.clone();
        Ok(Arc::new(Self {
            client: ApiClient::new(access)?,
            origin,
            watch_config,
            started: Instant::now(),
            snapshot: ArcSwap::from_pointee(snapshot(&stores)),
            stores,
            purposes: OnceLock::new(),
            registry_config: RegistryConfig::default(),
            token_reviewer: TokenReviewer::new(),
            changed,
        }))
    }

    /// What is known of the cluster now. Only copies a pointer.
    pub fn facts(&self) -> Arc<Cluster> {
        self.snapshot.load_full()
    }

    /// Tells whether the owner of `token` may create MachineConfigs, by `deadline`. Fails with a message that
    /// says why that is not known.
    pub async fn caller_access(&self, token: &str, deadline: Instant) -> Result<CallerAccess, String> {
        let reviewed = self.token_reviewer.review(token, &self.client, deadline).await;
        reviewed.map_err(|failure| failure.to_string())
    }

    /// The TLS settings that the cluster asks of servers. Only [`Self::follow`] reads them.
    pub fn tls_profile(&self) -> Fact<Profile> {
        self.stores.tls_profile.object()
    }

    /// Reads every resource that verdicts need once, all by `deadline`; what is not read by then is unknown.
    /// Afterwards `registry` has the registry settings of the cluster.
    pub async fn read(&self, registry: &RegistryClient, deadline: Instant) {
        let stores = self.stores_for(vec![ResourcePurpose::Verdicts], registry);
        join_all(stores.iter().map(|store| store.read(&self.client, deadline))).await;
        self.apply(registry);
    }

    /// Keeps everything up to date in the background, until the returned tasks are dropped.
    pub fn follow(self: &Arc<Self>, registry: &Arc<RegistryClient>) -> JoinSet<()> {
        tracing::info!(server = self.client.server, origin = self.origin, "watching the cluster");
        let mut tasks = JoinSet::new();
        for store in self.stores_for(vec![ResourcePurpose::Verdicts, ResourcePurpose::Server], registry) {
            let this = Arc::clone(self);
            tasks.spawn(async move { store.follow(&this.client, this.watch_config).await });
        }
        let (this, registry) = (Arc::clone(self), Arc::clone(registry));
        tasks.spawn(async move {
            loop {
                this.changed.notified().await;
                this.apply(&registry);
            }
        });
        tasks
    }

    /// The resources that were not asked for yet, for readiness. Empty after the startup timeout: when the API
    /// server does not answer, the webhooks must still be reachable.
    pub fn unsettled(&self) -> Vec<&'static str> {
        if self.started.elapsed() >= self.watch_config.startup_timeout {
            return Vec::new();
        }
        let unsettled = self.used_stores().into_iter().filter(|store| !store.is_settled());
        unsettled.map(|store| store.resource().name).collect()
    }

    /// A message for each resource that is unknown.
    pub fn unknown(&self) -> Vec<String> {
        self.used_stores().iter().filter_map(|store| Some(store.unknown()?.to_string())).collect()
    }

    /// Sets what resources are read for, and returns the stores of these.
    fn stores_for(
        &self,
        mut purposes: Vec<ResourcePurpose>,
        registry: &RegistryClient,
    ) -> Vec<Arc<dyn Reflector>> {
        if registry.credentials.are_of_cluster() {
            purposes.push(ResourcePurpose::RegistryCredentials);
        }
        self.purposes.get_or_init(|| purposes);
        self.used_stores()
    }

    fn used_stores(&self) -> Vec<Arc<dyn Reflector>> {
        let purposes = self.purposes.get().map_or(&[ResourcePurpose::Verdicts][..], Vec::as_slice);
        let mut stores = self.stores.all();
        stores.retain(|store| purposes.contains(&store.resource().purpose));
        stores
    }

    fn apply(&self, registry: &RegistryClient) {
        self.snapshot.store(Arc::new(snapshot(&self.stores)));
        self.registry_config.apply(&self.stores, registry);
    }
}

fn snapshot(stores: &Stores) -> Cluster {
    Cluster {
        version: stores.version.object(),
        controller_config: stores.controller_config.object(),
        os_image_url: stores.os_image_url.object(),
        streams: stores.streams.object(),
        pools: stores.pools.objects().map(|pools| nodes::count(&pools, &stores.nodes.objects())),
        machine_configs: stores.machine_configs.objects().map(|objects| objects.values().cloned().collect()),
        registry_sources: stores.image.object().map(|image| image.sources),
    }
}
