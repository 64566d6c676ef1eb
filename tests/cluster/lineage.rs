//! Lineage with a cluster: its releases, its pools and their nodes, and images in a registry.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::Image;
use serde_json::{Value, json};

use crate::api_server::{ApiServer, CONTROLLER_CONFIGS, NODES, POOLS, SECRETS, VERSIONS};
use crate::documents::{create, machine_config};
use crate::objects::{controller_config, node, pool, pull_secret, version};
use crate::program::Setup;

/// A cluster on 4.18.14 that was on 4.18.13, and a registry that holds both releases.
struct World {
    server: ApiServer,
    registry: Registry,
    /// An image on the base of 4.18.13.
    image: String,
    /// The base of 4.18.14.
    base: String,
}

impl World {
    /// `state` is how far the cluster came with 4.18.14.
    async fn new(state: &str) -> Self {
        let (server, registry) = (ApiServer::start().await, Registry::start().unwrap());
        let mut cluster_version = version("4.18.14");
        let mut image = String::new();
        let mut base = String::new();
        for (index, (release, os)) in
            [("4.18.14", "418.94.202601140000-0"), ("4.18.13", "418.94.202601130000-0")]
                .into_iter()
                .enumerate()
        {
            let of = Image::base(os);
            let reference = format!("{}/ocp/os@{}", registry.host(), registry.push("ocp/os", None, &of));
            let payload = Image::release_payload(release, &[("rhel-coreos", &reference)]);
            let payload =
                format!("{}/ocp/release@{}", registry.host(), registry.push("ocp/release", None, &payload));
            cluster_version["status"]["history"][index]["image"] = json!(payload);
            if index == 0 {
                cluster_version["status"]["desired"]["image"] = json!(payload);
                base = reference;
            } else {
                let derived = Image::derived(&of, &[("etc/motd", b"hello")]);
                image = format!("{}/acme/os@{}", registry.host(), registry.push("acme/os", None, &derived));
            }
        }
        cluster_version["status"]["history"][0]["state"] = json!(state);
        server.serve_openshift();
        server.put(SECRETS, pull_secret("{}"));
        server.put(VERSIONS, cluster_version);
        server.put(CONTROLLER_CONFIGS, controller_config(&base));
        let mut worker = pool("worker");
        worker["spec"]["osImageStream"] = Value::Null;
        server.put(POOLS, worker);
        server.put(NODES, node("node-1", &["worker"], "amd64"));
        Self { server, registry, image, base }
    }

    fn setup(&self, verb: &str, arguments: &[&str]) -> Setup {
        let setup = if verb == "serve" { Setup::serve() } else { Setup::verb(verb) };
        let path = setup.write("kubeconfig", &self.server.kubeconfig().to_string());
        setup.arguments(["--kubeconfig".as_ref(), path.as_os_str()]).arguments(arguments)
    }

    /// What `explain` tells of a MachineConfig that names the image.
    async fn explained(&self) -> String {
        let setup = self.setup("explain", &["worker.json"]);
        setup.write("worker.json", &machine_config(&self.image).to_string());
        let (code, output, error) = tokio::task::spawn_blocking(|| setup.ended()).await.unwrap();
        assert_eq!((code, error.as_str()), (0, ""));
        output
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_image_is_told_with_both_releases() {
    let world = World::new("Completed").await;
    let told = world.explained().await;
    let place = "foreign  linux/amd64, pool worker\n  built on 4.18.13; the cluster runs 4.18.14\n";
    assert!(told.contains(place), "{told}");
    assert!(told.ends_with(&format!("  FROM {}\n", world.base)), "{told}");

    let layerpin = world.setup("serve", &[]).policy("  rules: {stale-base: deny, older-os: off}\n").start();
    crate::eventually::eventually("the cluster is known", async || {
        let review = create(&machine_config(&world.image));
        let answer = layerpin.webhooks.review("/validate?timeout=10s", &review).await;
        let message = answer["response"]["status"]["message"].as_str().unwrap_or_default().to_owned();
        let repository = format!("[stale-base] `{}/acme/os@sha256:", world.registry.host());
        let is_stale = message.starts_with(&repository)
            && message.contains("is built on 4.18.13; the cluster runs 4.18.14")
            && message.ends_with(&format!("FROM {}", world.base));
        is_stale.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_upgrade_is_under_way_the_last_release_counts() {
    let told = World::new("Partial").await.explained().await;
    let place = "derived  linux/amd64, pool worker\n  built on 4.18.13; the cluster rolls to 4.18.14\n";
    assert!(told.contains(place), "{told}");
}
