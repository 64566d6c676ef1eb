//! A source that follows an API server, inside the test's own process and at a test's pace.

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

/// What is known of a cluster, for as long as this lives.
pub(crate) struct Known {
    pub(crate) source: Arc<ClusterSource>,
    pub(crate) registry: Arc<RegistryClient>,
    _tasks: JoinSet<()>,
    _folder: TempDir,
}

/// Quick, where the default has seconds.
pub(crate) const QUICK: WatchConfig = WatchConfig {
    call: Duration::from_secs(10),
    first_pause: Duration::from_millis(20),
    longest_pause: Duration::from_millis(100),
    stale: Duration::from_secs(600),
    watch: Duration::from_secs(60),
    settle: Duration::from_secs(600),
};

impl Known {
    /// Follows `server` at a quick pace.
    pub(crate) fn follow(server: &ApiServer) -> Self {
        Self::follow_at(server, QUICK)
    }

    /// Follows `server`.
    pub(crate) fn follow_at(server: &ApiServer, pace: WatchConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = source(folder.path(), &server.kubeconfig(), pace);
        let registry = registry();
        Self { _tasks: source.follow(&registry), source, registry, _folder: folder }
    }

    /// Waits until what is known of the cluster satisfies `claim`.
    pub(crate) async fn knows(&self, claim: &str, satisfies: impl Fn(&Cluster) -> bool) -> Arc<Cluster> {
        eventually(claim, async || {
            let facts = self.source.facts();
            satisfies(&facts).then_some(facts)
        })
        .await
    }

    /// The release that is known to be run; empty while it is not known.
    pub(crate) fn release(&self) -> String {
        match &self.source.facts().version {
            Fact::Known(version) => version.desired.version.clone(),
            _ => String::new(),
        }
    }

    /// Waits until the release that is run is known to be this.
    pub(crate) async fn runs(&self, release: &str) {
        eventually(&format!("{release} is known"), async || (self.release() == release).then_some(())).await;
    }
}

/// A source for a cluster that is named by a kubeconfig in `folder`.
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

/// Why a kind is not known.
pub(crate) fn reason<T>(fact: &Fact<T>) -> Option<String> {
    match fact {
        Fact::Unknown(cause) => Some(cause.to_string()),
        Fact::Known(_) | Fact::Absent => None,
    }
}
