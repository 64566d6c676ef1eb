//! A cluster source inside the test's own process, with short pauses.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use layerpin::cluster::WatchConfig;
use layerpin::cluster::access::{ClusterAccess, ClusterChoice, ClusterEnvironment};
use layerpin::metrics::Metrics;
use layerpin::model::facts::Fact;
use layerpin::model::facts::cluster::Cluster;
use layerpin::registry::auth::keychain::Keychain;
use layerpin::sources::{ClusterSource, RegistryClient};
use layerpin_test_support::eventually::eventually;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::api_server::ApiServer;

/// A cluster source that keeps itself up to date until it is dropped.
pub(crate) struct Known {
    pub(crate) source: Arc<ClusterSource>,
    pub(crate) registry: Arc<RegistryClient>,
    _tasks: JoinSet<()>,
    _folder: TempDir,
}

/// Short pauses, where the default has seconds.
pub(crate) const QUICK: WatchConfig = WatchConfig {
    request_timeout: Duration::from_secs(10),
    first_pause: Duration::from_millis(20),
    longest_pause: Duration::from_millis(100),
    stale_after: Duration::from_secs(600),
    watch_timeout: Duration::from_secs(60),
    startup_timeout: Duration::from_secs(600),
};

impl Known {
    /// Watches `server` with short pauses.
    pub(crate) fn follow(server: &ApiServer) -> Self {
        Self::follow_at(server, QUICK)
    }

    /// Watches `server`.
    pub(crate) fn follow_at(server: &ApiServer, pace: WatchConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = source(folder.path(), &server.kubeconfig(), pace);
        let registry = registry();
        Self { _tasks: source.follow(&registry), source, registry, _folder: folder }
    }

    /// Waits until the facts about the cluster satisfy a claim.
    pub(crate) async fn knows(&self, claim: &str, satisfies: impl Fn(&Cluster) -> bool) -> Arc<Cluster> {
        eventually(claim, async || {
            let facts = self.source.facts();
            satisfies(&facts).then_some(facts)
        })
        .await
    }

    /// The release of the cluster; empty while it is unknown.
    pub(crate) fn release(&self) -> String {
        match &self.source.facts().version {
            Fact::Known(version) => version.desired.version.clone(),
            _ => String::new(),
        }
    }

    /// Waits until this is the release of the cluster.
    pub(crate) async fn runs(&self, release: &str) {
        eventually(&format!("{release} is known"), async || (self.release() == release).then_some(())).await;
    }
}

/// A source for the cluster of a kubeconfig, which is written into `folder`.
pub(crate) fn source(folder: &Path, kubeconfig: &Value, pace: WatchConfig) -> Arc<ClusterSource> {
    let path = folder.join("kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    let choice = ClusterChoice { kubeconfig: Some(path), context: None };
    let access = ClusterAccess::find(&choice, &ClusterEnvironment::default()).unwrap().unwrap();
    ClusterSource::new(access, pace).unwrap()
}

/// A registry client with the credentials of the cluster.
pub(crate) fn registry() -> Arc<RegistryClient> {
    layerpin::install_crypto_provider();
    RegistryClient::new(Keychain::of_cluster(), Arc::new(Metrics::new())).unwrap()
}

/// Why a fact is unknown.
pub(crate) fn reason<T>(fact: &Fact<T>) -> Option<String> {
    match fact {
        Fact::Unknown(cause) => Some(cause.to_string()),
        Fact::Known(_) | Fact::Absent => None,
    }
}
