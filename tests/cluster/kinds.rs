//! What is read of each resource, and how it is kept up to date.

use std::time::Duration;

use layerpin::model::facts::cluster::{
    Cluster, ControllerConfig, HistoryEntry, MachineConfigSummary, OsImageUrl, Pool, Release, Requirement,
    RolloutState, Selector, Streams,
};
use layerpin::model::facts::{Fact, Facts};
use layerpin_test_support::eventually::eventually;
use layerpin_test_support::measure::memory;
use layerpin_test_support::program::Setup;
use serde_json::json;
use tokio::time::Instant;

use crate::api_server::{
    ApiServer, CONFIG_MAPS, CONTROLLER_CONFIGS, MACHINE_CONFIGS, NODES, OLD_STREAMS, POOLS, SECRETS, STREAMS,
    VERSIONS,
};
use crate::known::{Known, QUICK, reason, registry, source};
use crate::objects::{
    SENSITIVE, controller_config, image, machine_config, node, os_image_url, pool, pull_secret, rendered,
    streams, version,
};

const BASE: &str = "quay.io/ocp/os@sha256:09";

/// A server with objects of each resource.
async fn openshift() -> ApiServer {
    let server = ApiServer::start().await;
    server.serve_openshift();
    server.put(VERSIONS, version("4.18.14"));
    server.put(CONTROLLER_CONFIGS, controller_config(BASE));
    server.put(CONFIG_MAPS, os_image_url(BASE));
    server.put(STREAMS, streams());
    server.put(POOLS, pool("worker"));
    server.put(POOLS, pool("infra"));
    server.put(MACHINE_CONFIGS, machine_config("99-os", "quay.io/acme/os:1"));
    server.put(MACHINE_CONFIGS, rendered("rendered-worker-1"));
    server.put(NODES, node("a", &["worker"], "amd64"));
    server.put(NODES, node("b", &["worker"], "arm64"));
    server.put(NODES, node("c", &["worker", "infra"], "amd64"));
    server
}

#[tokio::test]
async fn each_resource_is_read() {
    let server = openshift().await;
    let folder = tempfile::tempdir().unwrap();
    let source = source(folder.path(), &server.kubeconfig(), QUICK);
    source.read(&registry(), Instant::now() + Duration::from_secs(30)).await;
    let facts = source.facts();

    let Fact::Known(found) = &facts.version else { panic!("{facts:?}") };
    let release = |name: &str| Release { version: name.into(), image: image(name) };
    assert_eq!(found.desired, release("4.18.14"));
    assert_eq!(
        found.history,
        [
            HistoryEntry { release: release("4.18.14"), state: RolloutState::Partial },
            HistoryEntry { release: release("4.18.13"), state: RolloutState::Completed },
        ]
    );
    assert_eq!(
        facts.controller_config,
        Fact::Known(ControllerConfig {
            base_os_container_image: BASE.into(),
            release_version: Some("4.18.14".into()),
        })
    );
    assert_eq!(
        facts.os_image_url,
        Fact::Known(OsImageUrl { release_version: "4.18.14".into(), base_os_container_image: BASE.into() })
    );
    assert_eq!(
        facts.streams,
        Fact::Known(Streams {
            default_stream: "rhel-9".into(),
            available: [("rhel-9", BASE), ("rhel-10", "quay.io/ocp/os@sha256:10")]
                .map(|(name, image)| (name.into(), image.into()))
                .into(),
            release_image: Some(image("4.18.14")),
        })
    );
    let expected = |name: &str, nodes: &[(&str, u32)]| Pool {
        name: name.into(),
        machine_config_selector: Selector {
            match_expressions: vec![Requirement {
                key: "machineconfiguration.openshift.io/role".into(),
                operator: "In".into(),
                values: vec!["worker".into(), name.into()],
            }],
            ..Selector::default()
        },
        os_image_stream: Some("rhel-10".into()),
        paused: false,
        nodes: Fact::Known(nodes.iter().map(|(name, count)| ((*name).into(), *count)).collect()),
    };
    let pools = vec![expected("infra", &[("amd64", 1)]), expected("worker", &[("amd64", 1), ("arm64", 1)])];
    assert_eq!(facts.pools, Fact::Known(pools));
    assert_eq!(
        facts.machine_configs,
        Fact::Known(vec![MachineConfigSummary {
            name: "99-os".into(),
            labels: [("machineconfiguration.openshift.io/role".into(), "worker".into())].into(),
            os_image_url: "quay.io/acme/os:1".into(),
            extensions_image: String::new(),
            kernel_type: "realtime".into(),
            extensions: vec!["usbguard".into()],
            is_generated: false,
        }])
    );
    let written = serde_json::to_string(&Facts { cluster: facts, ..Facts::none(jiff::Timestamp::now()) });
    assert!(!written.unwrap().contains(SENSITIVE));
    assert!(source.unknown().is_empty(), "{:?}", source.unknown());
}

#[tokio::test]
async fn changes_are_known_at_once() {
    let server = openshift().await;
    let known = Known::follow(&server);
    known.runs("4.18.14").await;
    server.put(VERSIONS, version("4.18.15"));
    known.runs("4.18.15").await;

    let names = |expected: &'static [&'static str]| {
        move |facts: &Cluster| match &facts.machine_configs {
            Fact::Known(configs) => configs.iter().map(|config| &*config.name).eq(expected.iter().copied()),
            _ => false,
        }
    };
    known.knows("one MachineConfig", names(&["99-os"])).await;
    server.put(MACHINE_CONFIGS, rendered("rendered-worker-2"));
    server.put(MACHINE_CONFIGS, machine_config("50-os", "quay.io/acme/os:2"));
    known.knows("another MachineConfig", names(&["50-os", "99-os"])).await;
    server.delete(MACHINE_CONFIGS, "99-os");
    known.knows("one that was deleted", names(&["50-os"])).await;

    let nodes = |expected: u32| {
        move |facts: &Cluster| {
            let Fact::Known(pools) = &facts.pools else { return false };
            let worker = pools.iter().find(|pool| pool.name == "worker").unwrap();
            matches!(&worker.nodes, Fact::Known(counts) if counts.get("amd64") == Some(&expected))
        }
    };
    known.knows("one node", nodes(1)).await;
    server.put(NODES, node("d", &["worker"], "amd64"));
    known.knows("a node that joined", nodes(2)).await;
}

#[tokio::test]
async fn on_plain_kubernetes_the_resources_of_openshift_are_absent() {
    let server = ApiServer::start().await;
    let known = Known::follow(&server);
    let facts = known.knows("every resource was read", |_| known.source.unsettled().is_empty()).await;
    assert_eq!(
        (&facts.version, &facts.controller_config, &facts.os_image_url, &facts.streams),
        (&Fact::Absent, &Fact::Absent, &Fact::Absent, &Fact::Absent)
    );
    assert_eq!((&facts.pools, &facts.machine_configs), (&Fact::Absent, &Fact::Absent));
    assert!(known.source.unknown().is_empty());
    assert!(!known.registry.credentials.are_those_of_nodes());
}

#[tokio::test]
async fn a_crd_installed_later_is_found_and_a_removed_one_is_absent() {
    let server = ApiServer::start().await;
    let known = Known::follow(&server);
    known.knows("no streams", |facts| facts.streams == Fact::Absent).await;
    server.put(STREAMS, streams());
    known.knows("streams", |facts| matches!(facts.streams, Fact::Known(_))).await;
    server.withdraw(STREAMS);
    known.knows("no streams", |facts| facts.streams == Fact::Absent).await;
}

#[tokio::test]
async fn an_older_api_version_is_read_where_the_newer_is_not_served() {
    let server = ApiServer::start().await;
    server.put(OLD_STREAMS, streams());
    let known = Known::follow(&server);
    known.knows("streams", |facts| matches!(facts.streams, Fact::Known(_))).await;
    let mut other = streams();
    other["status"]["defaultStream"] = "rhel-10".into();
    server.put(OLD_STREAMS, other);
    let is_other = |facts: &Cluster| matches!(&facts.streams, Fact::Known(streams) if streams.default_stream == "rhel-10");
    known.knows("the change", is_other).await;
}

#[tokio::test]
async fn machine_configs_are_listed_in_small_pages_and_the_pull_secret_is_the_only_secret_read() {
    let server = openshift().await;
    for index in 0..35 {
        server.put(MACHINE_CONFIGS, machine_config(&format!("{index:02}-os"), "quay.io/acme/os:1"));
    }
    let known = Known::follow(&server);
    known
        .knows(
            "all MachineConfigs",
            |facts| matches!(&facts.machine_configs, Fact::Known(configs) if configs.len() == 36),
        )
        .await;
    assert_eq!(server.requests(&format!("GET {MACHINE_CONFIGS} limit=5")), 8);
    known.knows("every resource was read", |_| server.requests(&format!("WATCH {SECRETS}")) > 0).await;
    assert_eq!(
        server.requests("secrets"),
        server.requests("secrets limit=50 fields=metadata.name=pull-secret") + 1
    );
    assert_eq!(
        server.requests(
            "WATCH /api/v1/namespaces/openshift-config/secrets limit= fields=metadata.name=pull-secret"
        ),
        1
    );
}

#[tokio::test]
async fn an_object_that_cannot_be_decoded_makes_its_resource_unknown() {
    let server = openshift().await;
    server.put(POOLS, json!({"metadata": {"name": "odd"}, "spec": {"paused": SENSITIVE}}));
    let known = Known::follow(&server);
    let facts = known.knows("every resource was read", |_| known.source.unsettled().is_empty()).await;
    let told = reason(&facts.pools).unwrap();
    let prefix = format!(
        "cannot read MachineConfigPools: the API server {} returned an invalid response: unexpected JSON at line ",
        server.address
    );
    assert!(told.starts_with(&prefix), "{told}");
    assert!(!told.contains(SENSITIVE));
    assert!(matches!(facts.version, Fact::Known(_)));
}

#[tokio::test]
async fn the_response_with_an_object_that_cannot_be_decoded_is_not_logged() {
    let server = ApiServer::start().await;
    let broken = || json!({"metadata": {"name": "pull-secret"}, "data": SENSITIVE});
    server.put(SECRETS, broken());
    // kube would log it.
    let setup = Setup::serve().arguments(["--kubeconfig", "kubeconfig"]);
    let setup = setup.environment("RUST_LOG", "info,kube_client=trace");
    setup.write("kubeconfig", &server.kubeconfig().to_string());
    let layerpin = setup.start();
    layerpin.log.message("cannot read from the cluster").await;
    server.put(SECRETS, pull_secret("{}"));
    layerpin.log.message("reading from the cluster works again").await;
    server.put(SECRETS, broken());
    layerpin.log.message("cannot read from the cluster; still using the last known state").await;
    assert!(!layerpin.log.text().contains(SENSITIVE));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_machine_configs_of_the_largest_size_need_little_memory() {
    let server = ApiServer::start().await;
    for index in 0..200 {
        server.put(MACHINE_CONFIGS, machine_config(&format!("{index:03}-os"), "quay.io/acme/os:1"));
    }
    server.set_ignition_size(1_400_000);
    let setup = Setup::serve().arguments(["--kubeconfig", "kubeconfig"]);
    setup.write("kubeconfig", &server.kubeconfig().to_string());
    let layerpin = setup.start();
    let watched = eventually("all of them were listed", async || {
        (server.requests(&format!("WATCH {MACHINE_CONFIGS}")) > 0).then_some(())
    });
    watched.await;
    let peak = memory(layerpin.id(), "VmHWM").unwrap();
    println!("peak of {peak} MB");
    assert!(peak < 100.0, "{peak} MB, where the objects have 280");
}
