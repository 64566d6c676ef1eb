//! Faults of the API server, and what is known of the cluster then.

use std::time::Duration;

use layerpin::model::facts::Fact;
use tokio::time::Instant;

use crate::api_server::{ApiServer, NODES, POOLS, VERSIONS};
use crate::known::{Known, QUICK, reason, registry, source};
use crate::objects::{node, pool, version};

/// How many resources a command reads.
const KINDS: usize = 16;
/// How many resources a server watches: also the TLS settings.
const FOLLOWED: usize = KINDS + 1;

async fn openshift() -> ApiServer {
    let server = ApiServer::start().await;
    server.serve_openshift();
    server.put(VERSIONS, version("4.18.14"));
    server.put(POOLS, pool("worker"));
    server.put(NODES, node("a", &["worker"], "amd64"));
    server
}

#[tokio::test]
async fn an_api_server_that_starts_later_is_found() {
    let server = openshift().await;
    server.down(true);
    let known = Known::follow(&server);
    let facts = known.knows("every resource was read", |_| known.source.unsettled().is_empty()).await;
    let told = reason(&facts.version).unwrap();
    let prefix =
        format!("cannot read ClusterVersion/version: cannot reach the API server {}: ", server.address);
    assert!(told.starts_with(&prefix), "{told}");
    assert_eq!(known.source.unknown().len(), FOLLOWED);
    server.down(false);
    known.runs("4.18.14").await;
    known.knows("everything is known", |_| known.source.unknown().is_empty()).await;
}

#[tokio::test]
async fn a_watch_continues_after_a_broken_connection() {
    let server = openshift().await;
    let known = Known::follow(&server);
    known.runs("4.18.14").await;
    for release in ["4.18.15", "4.18.16", "4.18.17"] {
        server.cut();
        server.put(VERSIONS, version(release));
        known.runs(release).await;
    }
}

#[tokio::test]
async fn a_watch_continues_after_410_gone() {
    let server = openshift().await;
    let known = Known::follow(&server);
    known.runs("4.18.14").await;
    for release in ["4.18.15", "4.18.16", "4.18.17"] {
        server.forget();
        server.put(VERSIONS, version(release));
        known.runs(release).await;
    }
    let lists = server.requests(&format!("GET {VERSIONS}"));
    assert!(lists >= 2, "{lists} lists");
}

#[tokio::test]
async fn objects_deleted_during_an_outage_are_gone() {
    let server = openshift().await;
    let known = Known::follow(&server);
    known.knows("a pool", |facts| matches!(&facts.pools, Fact::Known(pools) if pools.len() == 1)).await;
    server.down(true);
    server.delete(POOLS, "worker");
    server.forget();
    server.down(false);
    known.knows("no pool", |facts| matches!(&facts.pools, Fact::Known(pools) if pools.is_empty())).await;
}

#[tokio::test]
async fn the_last_known_state_is_used_for_a_limited_time() {
    let server = openshift().await;
    let known = Known::follow_at(
        &server,
        layerpin::cluster::WatchConfig { stale_after: Duration::from_millis(300), ..QUICK },
    );
    known.runs("4.18.14").await;
    let begun = Instant::now();
    server.down(true);
    let facts =
        known.knows("the release is unknown", |facts| matches!(facts.version, Fact::Unknown(_))).await;
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(reason(&facts.version).unwrap().contains("cannot reach the API server"), "{facts:?}");
    server.down(false);
    known.runs("4.18.14").await;
}

#[tokio::test]
async fn a_forbidden_resource_is_unknown_and_does_not_affect_the_others() {
    let server = openshift().await;
    server.forbid(NODES, true);
    let known = Known::follow(&server);
    known.runs("4.18.14").await;
    let forbidden = "cannot read Nodes: /api/v1/nodes is forbidden: User \"layerpin\" cannot list it";
    let facts = known.knows("every resource was read", |_| known.source.unsettled().is_empty()).await;
    let Fact::Known(pools) = &facts.pools else { panic!("{facts:?}") };
    assert_eq!(reason(&pools[0].nodes).as_deref(), Some(forbidden));
    assert_eq!(known.source.unknown(), [forbidden]);
    server.forbid(NODES, false);
    known.knows("everything is known", |_| known.source.unknown().is_empty()).await;

    // When a right is removed later, the last known state is not used any longer.
    server.forbid(NODES, true);
    server.cut();
    known.knows("nodes are unknown", |_| known.source.unknown() == [forbidden]).await;
    assert_eq!(known.release(), "4.18.14");
}

#[tokio::test]
async fn reading_a_cluster_that_does_not_answer_ends_at_the_deadline() {
    let server = openshift().await;
    server.freeze(true);
    let folder = tempfile::tempdir().unwrap();
    let source = source(folder.path(), &server.kubeconfig(), QUICK);
    let begun = Instant::now();
    source.read(&registry(), begun + Duration::from_millis(300)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let facts = source.facts();
    assert_eq!(
        reason(&facts.pools).unwrap(),
        format!("cannot read MachineConfigPools: the API server {} did not answer in time", server.address)
    );
    assert_eq!(source.unknown().len(), KINDS);
}

#[tokio::test]
async fn rejected_credentials_are_reported() {
    let server = openshift().await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = server.kubeconfig_for(&serde_json::json!({"token": "another"}));
    let source = source(folder.path(), &kubeconfig, QUICK);
    source.read(&registry(), Instant::now() + Duration::from_secs(30)).await;
    let told = reason(&source.facts().version).unwrap();
    assert_eq!(
        told,
        format!(
            "cannot read ClusterVersion/version: the API server {} rejected the credentials (401 Unauthorized)",
            server.address
        )
    );
}

#[tokio::test]
async fn readiness_waits_for_a_limited_time() {
    let server = openshift().await;
    server.freeze(true);
    assert_eq!(Known::follow(&server).source.unsettled().len(), FOLLOWED);
    let known = Known::follow_at(
        &server,
        layerpin::cluster::WatchConfig { startup_timeout: Duration::from_millis(300), ..QUICK },
    );
    known.knows("the startup timeout has passed", |_| known.source.unsettled().is_empty()).await;
    let told = "cannot read ClusterVersion/version: not read yet";
    assert_eq!(known.source.unknown()[0], told);
}
