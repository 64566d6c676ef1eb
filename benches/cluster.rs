//! `make bench`: how soon `layerpin serve` is ready in a big cluster, and how much memory it uses there.
//!
//! The objects are served by a real kube-apiserver with etcd and the CRDs of the end-to-end tests, as
//! `make e2e` builds them. Without them the benchmark is skipped.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt, stream};
use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Request;
use layerpin_test_support::documents::{kubeconfig, machine_config};
use layerpin_test_support::eventually::eventually;
use layerpin_test_support::kubernetes::{ETCD_ARGUMENTS, api_server_arguments, write_api_server_files};
use layerpin_test_support::measure::{Report, is_benchmark, median, memory};
use layerpin_test_support::program::{Folder, Guard, Layerpin, Setup};
use layerpin_test_support::repository;
use serde_json::{Value, json};

fn main() -> ExitCode {
    if !is_benchmark() {
        return ExitCode::SUCCESS;
    }
    let Some(tools) = tools() else {
        eprintln!("skipped: there is no kube-apiserver; `make e2e` builds it");
        return ExitCode::SUCCESS;
    };
    layerpin::install_crypto_provider();
    tokio::runtime::Runtime::new().unwrap().block_on(measure(&tools))
}

async fn measure(tools: &Path) -> ExitCode {
    let cluster = Cluster::start(tools).await;
    cluster.create_objects().await;
    let mut report = Report::default();
    let mut seconds = Vec::new();
    let mut resident = Vec::new();
    let mut peak = Vec::new();
    let mut after_changes = Vec::new();
    for round in 0..rounds() {
        let started = Instant::now();
        let layerpin = cluster.start_layerpin().await;
        seconds.push(started.elapsed().as_secs_f64());
        resident.push(megabytes(&layerpin, "VmRSS"));
        peak.push(megabytes(&layerpin, "VmHWM"));
        cluster.change_machine_configs(round, &layerpin).await;
        after_changes.push(megabytes(&layerpin, "VmRSS"));
    }
    println!(
        "{MACHINE_CONFIGS} MachineConfigs of {} kB, {POOLS} pools, {NODES} nodes; {} starts, medians",
        IGNITION / 1000,
        seconds.len()
    );
    let ready = median(&seconds);
    report.line("until ready", &format!("{ready:>7.1} s"), Some(ready <= READY_SECONDS));
    let megabytes = median(&resident);
    report.line(
        "resident memory when ready",
        &format!("{megabytes:>7.1} MB"),
        Some(megabytes <= RESIDENT_MEGABYTES),
    );
    report.line("peak until then", &format!("{:>7.1} MB", median(&peak)), None);
    let figure = format!("{:>7.1} MB", median(&after_changes));
    report.line("after a change of each MachineConfig", &figure, None);
    report.end(&format!("{READY_SECONDS} s; {RESIDENT_MEGABYTES} MB"))
}

fn megabytes(layerpin: &Layerpin, field: &str) -> f64 {
    memory(layerpin.id(), field).expect("it is running")
}

fn rounds() -> usize {
    std::env::var("BENCH_ROUNDS").map_or(5, |text| text.parse().expect("BENCH_ROUNDS is a number"))
}

/// The folder of kube-apiserver and etcd that `tests/e2e/tools.sh` prepares. Builds nothing.
fn tools() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let is_complete =
        |folder: &PathBuf| ["kube-apiserver", "etcd"].iter().all(|tool| folder.join(tool).exists());
    if let Some(folder) = variable("KUBEBUILDER_ASSETS") {
        return Some(folder).filter(is_complete);
    }
    let folder = variable("LAYERPIN_TOOLS").unwrap_or_else(|| repository().join("target/e2e-tools"));
    let versions = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    versions.map(|entry| entry.path()).find(is_complete)
}

/// A kube-apiserver with etcd, which end with this.
struct Cluster {
    client: Client,
    kubeconfig: String,
    _processes: [Guard; 2],
    _folder: Folder,
}

impl Cluster {
    async fn start(tools: &Path) -> Self {
        let folder = Folder::new();
        write_api_server_files(&folder.path(""), &format!("{TOKEN},admin,admin,system:masters\n"));
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let processes = [
            start(&tools.join("etcd"), &ETCD_ARGUMENTS, &folder),
            start(&tools.join("kube-apiserver"), &api_server_arguments(port), &folder),
        ];
        let certificate = folder.path("api-server/apiserver.crt");
        eventually("kube-apiserver has a certificate", async || certificate.exists().then_some(())).await;
        let cluster = json!({
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority": certificate,
        });
        let kubeconfig = kubeconfig(&cluster, &json!({"token": TOKEN})).to_string();
        let config = kube::config::Kubeconfig::from_yaml(&kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        eventually("kube-apiserver is ready", async || client.apiserver_version().await.ok()).await;
        Self { client, kubeconfig, _processes: processes, _folder: folder }
    }

    async fn create_objects(&self) {
        let definitions = std::fs::read_dir(repository().join("tests/e2e/crds")).unwrap();
        for path in definitions.map(|entry| entry.unwrap().path()) {
            let text = std::fs::read_to_string(&path).unwrap();
            for definition in text.split("\n---") {
                let definition = serde_saphyr::from_str(definition).unwrap();
                self.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
            }
        }
        let ignition = "Q29udGVudHMgb2YgYSBmaWxl".repeat(IGNITION / 24);
        let files =
            json!([{"path": "/etc/file", "contents": {"source": format!("data:;base64,{ignition}")}}]);
        let config = json!({"ignition": {"version": "3.4.0"}, "storage": {"files": files}});
        let machine_configs = (0..MACHINE_CONFIGS).map(|index| {
            let object = machine_config().named(&format!("99-{index:03}")).image("quay.io/acme/os:1");
            let mut object = object.into_json();
            object["spec"]["config"] = config.clone();
            (MACHINE_CONFIGS_PATH, object)
        });
        let pools = (0..POOLS).map(|index| (POOLS_PATH, pool(&format!("pool-{index}"))));
        let nodes = (0..NODES).map(|index| ("/api/v1/nodes", node(index)));
        let objects = machine_configs.chain(pools).chain(nodes);
        let created = stream::iter(objects).map(async |(path, object)| self.create(path, &object).await);
        created.buffer_unordered(8).collect::<()>().await;
    }

    /// Creates an object, as soon as its kind is served.
    async fn create(&self, path: &str, object: &Value) {
        let mut last = None;
        eventually(path, async || {
            let body = object.to_string().into_bytes();
            let request = Request::new(path).create(&PostParams::default(), body).unwrap();
            match self.client.request_text(request).await {
                Ok(_) => Some(()),
                Err(kube::Error::Api(status)) if status.is_already_exists() => Some(()),
                Err(error) => {
                    last = Some(error);
                    None
                }
            }
        })
        .await;
    }

    /// Starts the release binary, and returns when it is ready and knows everything.
    async fn start_layerpin(&self) -> Layerpin {
        let setup = Setup::serve();
        let path = setup.write("kubeconfig", &self.kubeconfig);
        let layerpin = setup
            .arguments([Path::new("--kubeconfig"), &path])
            .arguments(["--dry-run-access", "anyone"])
            .start();
        eventually("layerpin is ready", async || {
            let answer = layerpin.admin.get("/readyz").await;
            (answer.status == 200 && answer.text.contains("[+]cluster ok\n")).then_some(())
        })
        .await;
        layerpin
    }

    /// Changes each MachineConfig, and returns when `layerpin` has seen the last change.
    async fn change_machine_configs(&self, round: usize, layerpin: &Layerpin) {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"round": round.to_string()}}}));
        let requests = (0..MACHINE_CONFIGS).map(|index| {
            let request = Request::new(MACHINE_CONFIGS_PATH);
            request.patch(&format!("99-{index:03}"), &PatchParams::default(), &patch).unwrap()
        });
        let sent = stream::iter(requests).map(async |request| self.client.request_text(request).await);
        sent.buffered(4).try_for_each(async |_| Ok(())).await.unwrap();
        let last = format!("99-{:03}", MACHINE_CONFIGS - 1);
        eventually("layerpin has seen the changes", async || {
            // Not a valid reference, so that no registry is asked.
            let object = machine_config().image("os").to_string();
            let report = layerpin.webhooks.post("/dry-run", object).await;
            let report: Value = serde_json::from_str(&report.text).ok()?;
            let known = report["facts"]["cluster"]["machineConfigs"]["known"].as_array()?;
            let known = known.iter().find(|object| object["name"] == *last)?;
            (known["labels"]["round"] == round.to_string().as_str()).then_some(())
        })
        .await;
    }
}

fn start(program: &Path, arguments: &[impl AsRef<OsStr>], folder: &Folder) -> Guard {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder.path("")).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Guard(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display())))
}

fn pool(name: &str) -> Value {
    json!({
        "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfigPool",
        "metadata": {"name": name},
        "spec": {
            "machineConfigSelector": {"matchExpressions": [
                {"key": "machineconfiguration.openshift.io/role", "operator": "In", "values": ["worker", name]},
            ]},
            "nodeSelector": {"matchLabels": {format!("node-role.kubernetes.io/{name}"): ""}},
        },
    })
}

/// A node with as many images as the kubelet reports.
fn node(index: usize) -> Value {
    let images: Vec<_> = (0..50)
        .map(|image| json!({"names": [format!("quay.io/acme/image-{image}@sha256:{image:064x}")], "sizeBytes": 1}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": format!("node-{index}"),
            "labels": {format!("node-role.kubernetes.io/pool-{}", index % POOLS): ""},
        },
        "status": {"nodeInfo": {
            "architecture": "amd64", "operatingSystem": "linux", "bootID": "", "containerRuntimeVersion": "",
            "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": "v1.31.6", "machineID": "",
            "osImage": "", "systemUUID": "",
        }, "images": images},
    })
}

const MACHINE_CONFIGS: usize = 300;
const POOLS: usize = 60;
const NODES: usize = 2000;
/// The size of each MachineConfig in bytes.
const IGNITION: usize = 400_000;
const READY_SECONDS: f64 = 3.0;
const RESIDENT_MEGABYTES: f64 = 45.0;
const TOKEN: &str = "token-of-admin";
const MACHINE_CONFIGS_PATH: &str = "/apis/machineconfiguration.openshift.io/v1/machineconfigs";
const POOLS_PATH: &str = "/apis/machineconfiguration.openshift.io/v1/machineconfigpools";
