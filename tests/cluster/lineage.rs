//! Lineage with a cluster: its releases, its pools and their nodes, and images in a registry.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::Image;
use layerpin_test_support::documents::{create, machine_config};
use layerpin_test_support::program::Setup;
use serde_json::{Value, json};

use crate::api_server::{ApiServer, CONTROLLER_CONFIGS, NODES, POOLS, SECRETS, TOKEN, VERSIONS};
use crate::objects::{SENSITIVE, controller_config, node, pool, pull_secret, version};

/// A cluster that was updated from 4.18.13 to 4.18.14, and a registry with both releases.
struct World {
    server: ApiServer,
    registry: Registry,
    /// An image on the base of 4.18.13.
    image: String,
    /// The base of 4.18.14.
    base: String,
    /// The base of 4.18.13.
    old_base: String,
}

impl World {
    /// `state` is that of 4.18.14 in the history of ClusterVersion.
    async fn new(state: &str) -> Self {
        let (server, registry) = (ApiServer::start().await, Registry::start().unwrap());
        let mut cluster_version = version("4.18.14");
        let mut image = String::new();
        let (mut base, mut old_base) = (String::new(), String::new());
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
                old_base = reference;
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
        Self { server, registry, image, base, old_base }
    }

    fn setup(&self, verb: &str, arguments: &[&str]) -> Setup {
        let setup = if verb == "serve" { Setup::serve() } else { Setup::verb(verb) };
        let path = setup.write("kubeconfig", &self.server.kubeconfig().to_string());
        setup.arguments(["--kubeconfig".as_ref(), path.as_os_str()]).arguments(arguments)
    }

    /// The output of `explain` for a MachineConfig with the image.
    async fn explained(&self) -> String {
        let setup = self.setup("explain", &["worker.json"]);
        setup.write("worker.json", &machine_config().image(&self.image).to_string());
        let (code, output, error) = tokio::task::spawn_blocking(|| setup.ended()).await.unwrap();
        assert_eq!((code, error.as_str()), (0, ""));
        output
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_image_is_reported_with_both_releases() {
    let world = World::new("Completed").await;
    let told = world.explained().await;
    let place = "foreign  linux/amd64, pool worker\n  built on 4.18.13; the cluster runs 4.18.14\n";
    assert!(told.contains(place), "{told}");
    assert!(told.ends_with(&format!("  FROM {}\n", world.base)), "{told}");

    let layerpin = world.setup("serve", &[]).policy("  rules: {stale-base: deny, older-os: off}\n").start();
    layerpin_test_support::eventually::eventually("the cluster is known", async || {
        let review = create(&machine_config().image(&world.image));
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
async fn during_an_upgrade_the_base_of_the_last_release_is_accepted() {
    let told = World::new("Partial").await.explained().await;
    let place =
        "derived  linux/amd64, pool worker\n  built on 4.18.13; the cluster is being upgraded to 4.18.14\n";
    assert!(told.contains(place), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_config_of_the_previous_release_does_not_make_its_base_accepted() {
    let world = World::new("Completed").await;
    let mut left_over = controller_config(&world.old_base);
    left_over["metadata"]["annotations"]["machineconfiguration.openshift.io/release-image-version"] =
        json!("4.18.13");
    world.server.put(CONTROLLER_CONFIGS, left_over);
    let told = world.explained().await;
    let place = "foreign  linux/amd64, pool worker\n  built on 4.18.13; the cluster runs 4.18.14\n";
    assert!(told.contains(place), "{told}");
    assert!(told.ends_with(&format!("  FROM {}\n", world.base)), "{told}");
    assert!(told.contains("  note: ControllerConfig"), "{told}");
}

/// Runs a command with these arguments, and with a MachineConfig with the image in `worker.json`.
async fn ended(setup: Setup, image: &str, arguments: &[&str]) -> (i32, String, String) {
    setup.write("worker.json", &machine_config().image(image).to_string());
    let setup = setup.arguments(arguments);
    tokio::task::spawn_blocking(|| setup.ended()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_run_is_replayed_byte_for_byte_without_cluster_and_registry() {
    for state in ["Completed", "Partial"] {
        let world = World::new(state).await;
        let folder = tempfile::tempdir().unwrap();
        let mut runs = Vec::new();
        for verb in ["check", "explain"] {
            for format in ["text", "json"] {
                let file = folder.path().join(format!("{verb}-{format}.json"));
                let arguments = ["worker.json", "--format", format];
                let record = [&arguments[..], &["--save-facts", file.to_str().unwrap()]].concat();
                let live = ended(world.setup(verb, &[]), &world.image, &record).await;
                assert_eq!(live.0, 0, "{live:?}");
                assert!(live.1.contains("built on 4.18.13"), "{live:?}");
                let text = std::fs::read_to_string(&file).unwrap();
                for part in ["\"images\"", "\"payloads\"", "\"cluster\"", "\"history\""] {
                    assert!(text.contains(part), "{part}: {text}");
                }
                assert!(!text.contains(SENSITIVE) && !text.contains(TOKEN), "{text}");
                runs.push((verb, arguments, file, live));
            }
        }
        let image = world.image.clone();
        drop(world);
        for (verb, arguments, file, live) in runs {
            let replay = [&arguments[..], &["--facts", file.to_str().unwrap()]].concat();
            assert_eq!(ended(Setup::verb(verb), &image, &replay).await, live, "{verb} {state}");
        }
        // Facts recorded by one command can be used by the other.
        let file = folder.path().join("check-json.json");
        let arguments = ["worker.json", "--facts", file.to_str().unwrap()];
        let (code, output, error) = ended(Setup::verb("explain"), &image, &arguments).await;
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(output.contains("built on 4.18.13"), "{output}");
    }
}
