//! The cluster: what its API server says of releases, pools, nodes and MachineConfigs.
//!
//! Owns the snapshot that reviews are judged with. A server keeps up with each kind in the
//! background, so that no review waits for the API server; a verb that ends reads each kind once.
//! Nothing is ever written. A kind that cannot be read is unknown and leaves the others alone.
//!
//! [`access`] finds the cluster, [`connection`] asks, [`kinds`] reads objects, [`follow`] keeps up
//! with a kind, and [`nodes`] counts nodes by pool. [`settings`] hands over
//! what it says of registries, [`tls_profile`] reads how it wants TLS spoken, and [`callers`] asks who
//! calls.

pub mod access;
pub(crate) mod client;
pub(crate) mod nodes;
pub(crate) mod reflector;
pub(crate) mod registry_config;
pub(crate) mod resources;
pub(crate) mod tls_profile;
pub(crate) mod token_review;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::access::{AccessError, ClusterAccess};
use crate::cluster::client::ApiClient;
use crate::cluster::reflector::{Readiness, Store};
use crate::cluster::registry_config::RegistryConfig;
use crate::cluster::resources::{Node, PoolShape};
use crate::cluster::token_review::TokenReviewer;
use crate::model::facts::Fact;
use crate::model::facts::cluster::{
    Cluster, ClusterVersion, ControllerConfig, MachineConfigSummary, OsImageUrl, Streams,
};
use crate::registry::auth::keychain::PullSecretState;
use crate::reload::Reloaded;
use crate::sources::RegistryClient;
use crate::tls::profile::Profile;

pub use crate::cluster::reflector::WatchConfig;
pub use crate::cluster::token_review::CallerAccess;

/// Knows a cluster.
#[derive(Debug)]
pub struct ClusterSource {
    connection: ApiClient,
    origin: String,
    pace: WatchConfig,
    begun: Instant,
    slots: Stores,
    settings: RegistryConfig,
    callers: TokenReviewer,
    /// Whether registries are shown the global pull secret.
    wants_secret: AtomicBool,
    /// Whether this is a server, which speaks TLS as the cluster wants it.
    serves: AtomicBool,
    changed: Arc<Notify>,
    snapshot: ArcSwap<Cluster>,
}

#[derive(Debug)]
struct Stores {
    version: Store<ClusterVersion>,
    controller_config: Store<ControllerConfig>,
    os_image_url: Store<OsImageUrl>,
    streams: Store<Streams>,
    pools: Store<PoolShape>,
    machine_configs: Store<MachineConfigSummary>,
    nodes: Store<Node>,
    pull_secret: Store<resources::PullSecretText>,
    tls_profile: Store<Profile>,
}

impl ClusterSource {
    /// Prepares to ask a cluster. Nothing is asked yet, and no plug-in is run.
    ///
    /// Fails when the way there cannot work: a certificate that is none, a token file that cannot be
    /// read.
    pub fn new(access: ClusterAccess, pace: WatchConfig) -> Result<Arc<Self>, AccessError> {
        let changed = Arc::new(Notify::new());
        let slots = Stores {
            version: Store::new(&resources::CLUSTER_VERSION, Arc::clone(&changed)),
            controller_config: Store::new(&resources::CONTROLLER_CONFIG, Arc::clone(&changed)),
            os_image_url: Store::new(&resources::OS_IMAGE_URL, Arc::clone(&changed)),
            streams: Store::new(&resources::STREAMS, Arc::clone(&changed)),
            pools: Store::new(&resources::POOLS, Arc::clone(&changed)),
            machine_configs: Store::new(&resources::MACHINE_CONFIGS, Arc::clone(&changed)),
            nodes: Store::new(&resources::NODES, Arc::clone(&changed)),
            pull_secret: Store::new(&resources::PULL_SECRET, Arc::clone(&changed))
                .where_forbidden(PULL_SECRET_FORBIDDEN),
            tls_profile: Store::new(&tls_profile::API_SERVER, Arc::clone(&changed)),
        };
        let settings = RegistryConfig::new(&changed);
        let snapshot = ArcSwap::from_pointee(slots.assembled(&settings));
        let origin = access.origin().to_owned();
        let connection = ApiClient::new(access)?;
        Ok(Arc::new(Self {
            connection,
            origin,
            pace,
            begun: Instant::now(),
            slots,
            settings,
            callers: TokenReviewer::new(),
            wants_secret: AtomicBool::new(false),
            serves: AtomicBool::new(false),
            changed,
            snapshot,
        }))
    }

    /// What is known of the cluster now. Costs no more than a count of references.
    pub fn facts(&self) -> Arc<Cluster> {
        self.snapshot.load_full()
    }

    /// Who is asked: `host:port`.
    pub fn server(&self) -> &str {
        self.connection.server()
    }

    /// Tells whether the owner of `token` may create MachineConfigs, by `deadline`. Fails with the
    /// reason, in words, why that is not known.
    pub async fn right_of(&self, token: &str, deadline: Instant) -> Result<CallerAccess, String> {
        self.callers.right_of(token, &self.connection, deadline).await.map_err(|failure| failure.to_string())
    }

    /// How the cluster wants TLS spoken by who serves in it. Only [`Self::follow`] reads that.
    pub fn tls_profile(&self) -> Fact<Profile> {
        self.slots.tls_profile.object()
    }

    /// Reads every kind once that verdicts rest on, all by `deadline`; what is not read by then is unknown.
    /// What it says of registries is in force for `registry` afterwards.
    pub async fn read(&self, registry: &RegistryClient, deadline: Instant) {
        let credentials = registry.credentials();
        let Stores { version, controller_config, os_image_url, streams, .. } = &self.slots;
        let Stores { pools, machine_configs, nodes, pull_secret, .. } = &self.slots;
        let RegistryConfig { digest_mirrors, tag_mirrors, content_policies, image, proxy, .. } =
            &self.settings;
        let RegistryConfig { registry_authorities, internal_authorities, trust_bundle, .. } = &self.settings;
        let connection = &self.connection;
        self.wants_secret.store(credentials.are_of_cluster(), Ordering::Relaxed);
        tokio::join!(
            version.read(connection, deadline),
            controller_config.read(connection, deadline),
            os_image_url.read(connection, deadline),
            streams.read(connection, deadline),
            pools.read(connection, deadline),
            machine_configs.read(connection, deadline),
            nodes.read(connection, deadline),
            async {
                if credentials.are_of_cluster() {
                    pull_secret.read(connection, deadline).await;
                }
            },
            digest_mirrors.read(connection, deadline),
            tag_mirrors.read(connection, deadline),
            content_policies.read(connection, deadline),
            image.read(connection, deadline),
            proxy.read(connection, deadline),
            registry_authorities.read(connection, deadline),
            internal_authorities.read(connection, deadline),
            trust_bundle.read(connection, deadline),
        );
        self.take_over(registry);
    }

    /// Keeps up with every kind in the background, until what is returned is dropped.
    pub fn follow(self: &Arc<Self>, registry: &Arc<RegistryClient>) -> JoinSet<()> {
        tracing::info!(server = self.connection.server(), origin = self.origin, "following the cluster");
        let mut tasks = JoinSet::new();
        let pace = self.pace;
        macro_rules! follow {
            ($part:ident: $($slot:ident),+) => {$({
                let this = Arc::clone(self);
                tasks.spawn(async move { this.$part.$slot.follow(&this.connection, pace).await });
            })+};
        }
        follow!(slots: version, controller_config, os_image_url, streams, pools, machine_configs, nodes);
        follow!(slots: tls_profile);
        self.serves.store(true, Ordering::Relaxed);
        follow!(settings: digest_mirrors, tag_mirrors, content_policies, image, proxy);
        follow!(settings: registry_authorities, internal_authorities, trust_bundle);
        self.wants_secret.store(registry.credentials().are_of_cluster(), Ordering::Relaxed);
        if registry.credentials().are_of_cluster() {
            follow!(slots: pull_secret);
        }
        let (this, registry) = (Arc::clone(self), Arc::clone(registry));
        tasks.spawn(async move {
            loop {
                this.changed.notified().await;
                this.take_over(&registry);
            }
        });
        tasks
    }

    /// What there is no answer to yet, for readiness: names of kinds. Empty once each kind was asked
    /// for, however that ended, and at the latest when the time for it is over: an API server that
    /// does not answer is no reason to take the webhooks away from it.
    pub fn unsettled(&self) -> Vec<&'static str> {
        if self.begun.elapsed() >= self.pace.settle {
            return Vec::new();
        }
        self.kinds().filter(|slot| !slot.is_settled()).map(Readiness::name).collect()
    }

    /// What is not known, in words, kind by kind.
    pub fn unknown(&self) -> Vec<String> {
        self.kinds().filter_map(Readiness::trouble).collect()
    }

    /// All kinds that are read, whatever their type.
    fn kinds(&self) -> impl Iterator<Item = &dyn Readiness> {
        let Stores { version, controller_config, os_image_url, streams, .. } = &self.slots;
        let Stores { pools, machine_configs, nodes, pull_secret, tls_profile, .. } = &self.slots;
        let always: [&dyn Readiness; 7] =
            [version, controller_config, os_image_url, streams, pools, machine_configs, nodes];
        let wanted = self.wants_secret.load(Ordering::Relaxed);
        let wanted = wanted.then_some(pull_secret as &dyn Readiness);
        let served = self.serves.load(Ordering::Relaxed).then_some(tls_profile as &dyn Readiness);
        always.into_iter().chain(wanted).chain(self.settings.kinds()).chain(served)
    }

    fn take_over(&self, registry: &RegistryClient) {
        self.snapshot.store(Arc::new(self.slots.assembled(&self.settings)));
        self.settings.hand_over(registry);
        let credentials = registry.credentials();
        if !credentials.are_of_cluster() {
            return;
        }
        let secret = self.slots.pull_secret.object();
        let secret = match &secret {
            Fact::Known(resources::PullSecretText(Ok(text))) => PullSecretState::Text(text),
            Fact::Known(resources::PullSecretText(Err(fault))) => PullSecretState::Broken(fault),
            Fact::Absent => PullSecretState::Absent,
            // What is in force stays: nobody said that it is no longer right.
            Fact::Unknown(_) => return,
        };
        let kind = self.slots.pull_secret.name();
        match credentials.replace(secret) {
            Ok(Reloaded::Same) => {}
            Ok(Reloaded::Changed) => tracing::info!(kind, "registry credentials changed"),
            Err(error) => {
                tracing::error!(kind, %error, "credentials not taken over; those before them are in force");
            }
        }
    }
}

/// The right comes with the overlay for OpenShift alone, and without that namespace nobody can have it: an
/// API server says that reading there is forbidden rather than that there is no such namespace.
const PULL_SECRET_FORBIDDEN: &str = "; on OpenShift apply deploy/openshift/pull_secret_role.yaml, and where there is no namespace \
     openshift-config, nothing is amiss: --authfile names credentials there";

impl Stores {
    fn assembled(&self, settings: &RegistryConfig) -> Cluster {
        let pools = match self.pools.fact() {
            Fact::Known(pools) => Fact::Known(nodes::count(&pools, self.nodes.fact())),
            Fact::Absent => Fact::Absent,
            Fact::Unknown(cause) => Fact::Unknown(cause),
        };
        let machine_configs = match self.machine_configs.fact() {
            Fact::Known(objects) => Fact::Known(objects.values().cloned().collect()),
            Fact::Absent => Fact::Absent,
            Fact::Unknown(cause) => Fact::Unknown(cause),
        };
        Cluster {
            version: self.version.object(),
            controller_config: self.controller_config.object(),
            os_image_url: self.os_image_url.object(),
            streams: self.streams.object(),
            pools,
            machine_configs,
            registry_sources: settings.registry_sources(),
        }
    }
}
