//! Lineage behind a real API server: the release, the pools and the bases are read from it, and what
//! comes of that is what `kubectl` shows.

use std::path::Path;
use std::process::Command;

use layerpin_sample_registry::images::Image;
use layerpin_test_support::documents::MachineConfig;
use layerpin_test_support::eventually::eventually_blocking;
use layerpin_test_support::program::Ended;
use serde_json::{Value, json};

use crate::cluster::{Turn, machine_config, take_turn};
use crate::kubectl::Caller;
use crate::rights::Account;
use crate::servers::program;

#[test]
fn a_stale_base_is_warned_about_and_the_base_of_the_release_is_not() {
    let Some(turn) = take_turn() else { return };
    let account = Account::new(&turn);
    let releases = Releases::new(&turn);
    releases.describe(&turn);
    let layerpin = account.start("layerpin-of-lineage");
    account.says(&layerpin, "[+]cluster ok");

    turn.while_judged_by(&layerpin, || {
        let stale = of_pool("lineage", &releases.stale);
        let expected = "is built on 4.18.13; the cluster runs 4.18.14";
        eventually_blocking("a stale base is warned about", || {
            let answer = turn.kubectl_on(Caller::User, &["create", "--dry-run=server"], &stale);
            let answer = answer.accepted("a warning refuses nothing");
            let told = answer.warnings().iter().any(|warning| warning.contains(expected));
            if told { Ok(()) } else { Err(format!("{answer:?}")) }
        });
        let answer = turn.apply(&stale).accepted("a warning refuses nothing");
        let [warning] = answer.warnings()[..] else { panic!("{answer:?}") };
        assert!(warning.starts_with("[stale-base] ") && warning.contains(expected), "{warning}");

        let answer = turn.apply(&of_pool("lineage", &releases.right)).accepted("built again");
        assert_eq!(answer.warnings(), [""; 0]);
    });

    let kubeconfig = turn.kubeconfig_for("lineage", &account.token);
    let base = |arguments: &[&str]| base(&kubeconfig, arguments);
    assert_eq!(base(&[]), format!("{}\n", releases.base));
    assert_eq!(base(&["--pool", POOL]), format!("{}\n", releases.base));
    let document: Value = serde_json::from_str(&base(&["--pool", POOL, "--format", "json"])).unwrap();
    assert_eq!(document["release"], "4.18.14");
    assert_eq!(document["images"][0]["platforms"], json!(["linux/amd64"]));
}

#[test]
fn the_operators_own_objects_come_before_the_config_map_and_streams_before_both() {
    let Some(turn) = take_turn() else { return };
    let account = Account::new(&turn);
    let releases = Releases::new(&turn);
    releases.describe(&turn);
    let kubeconfig = turn.kubeconfig_for("lineage-origins", &account.token);
    let push = |version: &str| {
        let digest = turn.registry.push("lineage/base", None, &Image::base(version));
        format!("{}/lineage/base@{digest}", turn.registry.host())
    };
    let (of_controller, of_stream) = (push("418.94.202601150000-0"), push("418.94.202601160000-0"));
    let of_pool = || base(&kubeconfig, &["--pool", POOL]);
    assert_eq!(of_pool(), format!("{}\n", releases.base));

    let config = controller_config(&of_controller);
    turn.kubectl_on(Caller::Admin, &["create"], &config).accepted("a ControllerConfig");
    assert_eq!(of_pool(), format!("{of_controller}\n"));

    let versions = "--output=jsonpath={.spec.versions[0].name}";
    let crd = ["get", "crd", "osimagestreams.machineconfiguration.openshift.io", versions];
    let version = turn.kubectl(Caller::Admin, &crd).accepted("reading a definition").stdout;
    let streams = json!({
        "apiVersion": format!("machineconfiguration.openshift.io/{version}"), "kind": "OSImageStream",
        "metadata": {
            "name": "cluster",
            "annotations": {"machineconfiguration.openshift.io/release-payload-image": releases.payloads[0]},
        },
        "spec": {"defaultStream": "rhel-9"},
    });
    turn.kubectl_on(Caller::Admin, &["create"], &streams).accepted("an OSImageStream");
    let stream =
        |name: &str, image: &str| json!({"name": name, "osImage": image, "osExtensionsImage": image});
    let status = json!({"status": {
        "defaultStream": "rhel-9",
        "availableStreams": [stream("rhel-9", &of_stream), stream("rhel-10", &releases.base)],
    }});
    let patch = format!("--patch={status}");
    let arguments = ["patch", "osimagestream", "cluster", "--subresource=status", "--type=merge", &patch];
    turn.kubectl(Caller::Admin, &arguments).accepted("the status of an OSImageStream");
    assert_eq!(of_pool(), format!("{of_stream}\n"));

    for object in [["osimagestream", "cluster"], ["controllerconfig", "machine-config-controller"]] {
        turn.kubectl(Caller::Admin, &[&["delete"], &object[..]].concat()).accepted("deleting an object");
    }
    assert_eq!(of_pool(), format!("{}\n", releases.base));
}

/// `ControllerConfig/machine-config-controller` of 4.18.14, with all that the real definition wants there.
fn controller_config(base: &str) -> Value {
    json!({
        "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "ControllerConfig",
        "metadata": {
            "name": "machine-config-controller",
            "annotations": {"machineconfiguration.openshift.io/release-image-version": "4.18.14"},
        },
        "spec": {
            "baseOSContainerImage": base, "osImageURL": "",
            "additionalTrustBundle": "eA==", "cloudProviderCAData": "eA==", "cloudProviderConfig": "",
            "clusterDNSIP": "172.30.0.10", "images": {}, "ipFamilies": "IPv4",
            "kubeAPIServerServingCAData": "eA==", "rootCAData": "eA==", "releaseImage": "",
            "network": {"mtuMigration": null}, "proxy": {},
            "dns": {
                "apiVersion": "config.openshift.io/v1", "kind": "DNS", "metadata": {"name": "cluster"},
                "spec": {"baseDomain": "example.com"}, "status": {},
            },
            "infra": {
                "apiVersion": "config.openshift.io/v1", "kind": "Infrastructure", "metadata": {"name": "cluster"},
                "spec": {"cloudConfig": {"name": ""}},
                "status": {
                    "apiServerInternalURI": "", "apiServerURL": "", "etcdDiscoveryDomain": "",
                    "controlPlaneTopology": "HighlyAvailable", "infrastructureName": "",
                    "infrastructureTopology": "HighlyAvailable",
                },
            },
        },
    })
}

/// The standard output of `layerpin base`.
fn base(kubeconfig: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(program());
    command.arg("base").arg("--kubeconfig").arg(kubeconfig).args(arguments).env_clear();
    let ended = Ended::of(command);
    assert_eq!(ended.status, 0, "{}", ended.error);
    ended.output
}

/// A MachineConfig for [`POOL`].
fn of_pool(name: &str, image: &str) -> MachineConfig {
    machine_config(name, image).of_pool(POOL)
}

/// Two releases in the registry, and an image on the base of each.
struct Releases {
    /// The payloads of 4.18.14 and 4.18.13.
    payloads: [String; 2],
    /// The base of 4.18.14.
    base: String,
    right: String,
    stale: String,
}

impl Releases {
    fn new(turn: &Turn) -> Self {
        let push = |repository: &str, image: &Image| {
            let digest = turn.registry.push(repository, None, image);
            format!("{}/{repository}@{digest}", turn.registry.host())
        };
        let releases = [("4.18.14", "418.94.202601140000-0"), ("4.18.13", "418.94.202601130000-0")];
        let [new, old] = releases.map(|(release, version)| {
            let base = Image::base(version);
            let reference = push("lineage/base", &base);
            let payload =
                push("lineage/release", &Image::release_payload(release, &[("rhel-coreos", &reference)]));
            // Its operating system is not older than that of the release, so that its base alone is at fault.
            let derived = Image::derived(&base, &[("etc/motd", b"hello")])
                .with_label("org.opencontainers.image.version", releases[0].1);
            (reference, payload, push("lineage/os", &derived))
        });
        Self { payloads: [new.1, old.1], base: new.0, right: new.2, stale: old.2 }
    }

    /// Puts into the cluster that it runs 4.18.14 and was on 4.18.13, and a pool of its own.
    fn describe(&self, turn: &Turn) {
        let [new, old] = &self.payloads;
        let entry = |version: &str, image: &str| {
            json!({
                "state": "Completed", "version": version, "image": image, "verified": true,
                "startedTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T01:00:00Z",
            })
        };
        let status = json!({
            "desired": {"version": "4.18.14", "image": new},
            "history": [entry("4.18.14", new), entry("4.18.13", old)],
            // A patch takes `null` for a field to remove, and the real definition wants it there.
            "availableUpdates": [],
        });
        let patch = format!("--patch={}", json!({"status": status}));
        let arguments =
            ["patch", "clusterversion", "version", "--subresource=status", "--type=merge", &patch];
        turn.kubectl(Caller::Admin, &arguments).accepted("a release");
        for object in self.objects() {
            turn.kubectl_on(Caller::Admin, &["apply"], &object).accepted("an object is applied");
        }
    }

    fn objects(&self) -> [Value; 3] {
        let role = format!("node-role.kubernetes.io/{POOL}");
        [
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {
                    "name": "machine-config-osimageurl", "namespace": "openshift-machine-config-operator",
                },
                "data": {"releaseVersion": "4.18.14", "baseOSContainerImage": self.base},
            }),
            json!({
                "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfigPool",
                "metadata": {"name": POOL},
                "spec": {
                    "machineConfigSelector": {"matchLabels": {ROLE: POOL}},
                    "nodeSelector": {"matchLabels": {&role: ""}},
                },
            }),
            json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": "lineage-0", "labels": {role: ""}},
                "status": {"nodeInfo": {
                    "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
                    "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "linux",
                    "osImage": "", "systemUUID": "",
                }},
            }),
        ]
    }
}

/// What other tests reach stays out of it.
const POOL: &str = "lineage";
const ROLE: &str = "machineconfiguration.openshift.io/role";
