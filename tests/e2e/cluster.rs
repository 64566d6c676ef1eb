//! A real API server with the webhooks of `deploy/` in force, and Layerpin behind them.
//!
//! One cluster serves all tests, one test at a time: they count reviews and point the webhooks
//! elsewhere, which another test would feel. What it must answer is for the tests to say.

use std::fs;
use std::io::Write;
use std::ops::Deref;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Authority, Registry};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::eventually::eventually;
use crate::kubectl::{Answer, Caller, Kubectl};
use crate::process::{Process, sweep_at_the_end};
use crate::servers::{Layerpin, repository, start_api_server, start_etcd, tools};

/// The cluster for the time of one test.
pub(crate) struct Turn {
    cluster: MutexGuard<'static, Cluster>,
    log_before: usize,
}

/// A running API server, with all that stands around it.
pub(crate) struct Cluster {
    /// Where the images are that the tests name.
    pub(crate) registry: Registry,
    layerpin: Layerpin,
    /// Has signed Layerpin's certificate.
    authority: Authority,
    /// An image with tag and digest: `/mutate` drops the tag and needs no registry for it, and where
    /// nothing has dropped it `/validate` refuses the image.
    probe: String,
    kubectl: Kubectl,
    folder: TempDir,
    _api_server: Process,
    _etcd: Process,
    _sweeper: Child,
}

/// Waits for the cluster to be free, starting it first if need be.
///
/// `None`, after a line that says so, where the tools for it are missing and nobody insists on them.
pub(crate) fn take_turn() -> Option<Turn> {
    static CLUSTER: OnceLock<Start> = OnceLock::new();
    match CLUSTER.get_or_init(Start::attempt) {
        Start::Ready(cluster) => {
            // A test that failed leaves the cluster as good as it was.
            let cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
            let log_before = cluster.layerpin.log().len();
            Some(Turn { cluster, log_before })
        }
        Start::ToolsMissing(reason) => {
            let required = std::env::var("LAYERPIN_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
            assert!(!required, "tools are missing, and LAYERPIN_REQUIRE_TOOLS asks for them: {reason}");
            // Not `eprintln!`: the harness keeps to itself what a test that passes prints by it.
            let _ = std::io::stderr().write_all(format!("skipped: {reason}\n").as_bytes());
            None
        }
        Start::Failed => panic!("the cluster did not start; the test that started it says why"),
    }
}

impl Deref for Turn {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.cluster.layerpin.log();
            eprintln!("layerpin's log of this test:\n{}", log.get(self.log_before..).unwrap_or_default());
        }
    }
}

impl Cluster {
    /// Runs kubectl as `caller`.
    pub(crate) fn kubectl(&self, caller: Caller, arguments: &[&str]) -> Answer {
        self.kubectl.run(caller, arguments)
    }

    /// Runs kubectl as `caller` on `object`.
    pub(crate) fn kubectl_on(&self, caller: Caller, arguments: &[&str], object: &Value) -> Answer {
        self.kubectl.run_on(caller, arguments, object)
    }

    /// Applies a MachineConfig as somebody who may write it.
    pub(crate) fn apply(&self, machine_config: &Value) -> Answer {
        self.kubectl_on(Caller::User, &["apply"], machine_config)
    }

    /// The MachineConfig as it is stored; `None` when there is none.
    pub(crate) fn stored(&self, name: &str) -> Option<Value> {
        let arguments = ["get", "machineconfig", name, "--ignore-not-found", "--output=json"];
        let text = self.kubectl(Caller::Admin, &arguments).accepted("reading a MachineConfig").stdout;
        (!text.is_empty()).then(|| serde_json::from_str(&text).unwrap())
    }

    /// The objects of a manifest in `deploy/base`.
    pub(crate) fn manifest(&self, file: &str) -> Vec<Value> {
        let file = format!("--filename={}", repository().join("deploy/base").join(file).display());
        let arguments = ["create", "--dry-run=client", "--output=json", &file];
        let text = self.kubectl(Caller::Admin, &arguments).accepted("reading a manifest").stdout;
        serde_json::Deserializer::from_str(&text).into_iter().map(Result::unwrap).collect()
    }

    /// Starts another Layerpin, which knows the cluster by the account behind `token`.
    pub(crate) fn layerpin_with(&self, name: &str, token: &str) -> Layerpin {
        let kubeconfig = self.kubectl.kubeconfig_for(name, token);
        let more = format!("--kubeconfig={}", kubeconfig.display());
        Layerpin::start_with(name, self.folder.path(), &self.authority, &more)
    }

    /// A kubeconfig for the account behind `token`.
    pub(crate) fn kubeconfig_for(&self, name: &str, token: &str) -> PathBuf {
        self.kubectl.kubeconfig_for(name, token)
    }

    /// A page of the admin address of `layerpin`.
    pub(crate) fn fetch(&self, layerpin: &Layerpin, path: &str) -> Answer {
        self.kubectl.fetch(&layerpin.admin_url, &self.authority_file(), path)
    }

    /// The certificate authority of Layerpin, in PEM.
    pub(crate) fn authority_pem(&self) -> String {
        self.authority.ca_pem()
    }

    /// How many reviews Layerpin has answered since it started, by its own count.
    pub(crate) fn reviews(&self) -> u64 {
        let metrics = self.kubectl.fetch(&self.layerpin.admin_url, &self.authority_file(), "/metrics");
        let metrics = metrics.accepted("reading the metrics").stdout;
        let counts = metrics.lines().filter(|line| line.starts_with("layerpin_reviews_total{"));
        let counts: Vec<u64> = counts.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        // Some were there before the first test: those that showed the webhooks to be in force.
        assert!(!counts.is_empty(), "no layerpin_reviews_total in the metrics:\n{metrics}");
        counts.iter().sum()
    }

    /// Runs `test` while nobody listens where the webhooks point, `/validate` being under
    /// `failure_policy` and `/mutate` under that of the manifest.
    pub(crate) fn while_nobody_answers(&self, failure_policy: &str, test: impl FnOnce()) {
        // The address of a server that is gone.
        let url = Layerpin::start("layerpin-away", self.folder.path(), &self.authority).url;
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
            self.point_webhooks_at(&url, Some(failure_policy));
            eventually("nobody answers for the webhooks", || {
                let answer = self.try_image(&self.probe);
                let stored_as_sent = answer.succeeded && answer.stdout == self.probe;
                let refused = answer.stderr.contains(r#"failed calling webhook "validate.layerpin.io""#);
                if stored_as_sent || refused { Ok(()) } else { Err(format!("{answer:?}")) }
            });
            test();
        }));
        self.point_webhooks_at_layerpin();
        if let Err(panic) = outcome {
            panic::resume_unwind(panic);
        }
    }

    /// Runs `test` while the webhooks point at `layerpin`; the API server may take a moment to see it.
    pub(crate) fn while_judged_by(&self, layerpin: &Layerpin, test: impl FnOnce()) {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
            self.point_webhooks_at(&layerpin.url, None);
            test();
        }));
        self.point_webhooks_at_layerpin();
        if let Err(panic) = outcome {
            panic::resume_unwind(panic);
        }
    }

    /// Puts the webhooks in force, whatever stood there, and waits until they are.
    pub(crate) fn point_webhooks_at_layerpin(&self) {
        self.point_webhooks_at(&self.layerpin.url, None);
        eventually("/mutate is in force", || {
            let answer = self.try_image(&self.probe);
            let dropped = answer.succeeded && answer.stdout != self.probe;
            if dropped { Ok(()) } else { Err(format!("{answer:?}")) }
        });
        eventually("/validate is in force", || {
            let answer = self.try_image("short-name");
            let judged = answer.stderr.contains("denied the request");
            if judged { Ok(()) } else { Err(format!("{answer:?}")) }
        });
    }

    /// Applies `deploy/base/webhooks.yaml` with an address in place of the service, which nothing here
    /// would route to, and with the authority that OpenShift would fill in.
    fn point_webhooks_at(&self, url: &str, failure_policy_of_validate: Option<&str>) {
        let authority = self.authority_in_base64();
        for mut configuration in self.manifest("webhooks.yaml") {
            for webhook in configuration["webhooks"].as_array_mut().unwrap() {
                let path = webhook["clientConfig"]["service"]["path"].as_str().unwrap().to_owned();
                webhook["clientConfig"] = json!({ "url": format!("{url}{path}"), "caBundle": authority });
                if let (Some(policy), "/validate") = (failure_policy_of_validate, &*path) {
                    webhook["failurePolicy"] = policy.into();
                }
            }
            self.kubectl_on(Caller::Admin, &["apply"], &configuration).accepted("applying the webhooks");
        }
    }

    /// What the API server would store for `image`, on standard output.
    fn try_image(&self, image: &str) -> Answer {
        let arguments = ["create", "--dry-run=server", "--output=jsonpath={.spec.osImageURL}"];
        self.kubectl_on(Caller::User, &arguments, &machine_config("probe", image))
    }

    fn authority_file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// As the data of a secret, which kubectl makes without the API server.
    fn authority_in_base64(&self) -> String {
        let file = format!("--from-file=ca={}", self.authority_file().display());
        let output = "--output=jsonpath={.data.ca}";
        let arguments = ["create", "secret", "generic", "authority", "--dry-run=client", output, &file];
        self.kubectl(Caller::Admin, &arguments).accepted("encoding the authority").stdout
    }

    fn install_definitions(&self) {
        let definitions = std::env::var_os("LAYERPIN_E2E_CRDS")
            .map_or_else(|| repository().join("tests/e2e/crds"), PathBuf::from);
        let definitions = format!("--filename={}", definitions.display());
        // On the server's side: some of OpenShift's own are too large for kubectl's annotation.
        self.kubectl(Caller::Admin, &["apply", "--server-side", &definitions]).accepted("applying CRDs");
        let name = "crd/machineconfigs.machineconfiguration.openshift.io";
        self.kubectl(Caller::Admin, &["wait", "--for=condition=Established", "--timeout=60s", name])
            .accepted("waiting for the CRD");
    }

    fn give_rights(&self) {
        let writers = [Caller::User, Caller::MachineConfigController];
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": { "name": "machine-config-writer" },
            "rules": [{
                "apiGroups": ["machineconfiguration.openshift.io"],
                "resources": ["machineconfigs"],
                "verbs": ["get", "list", "create", "update", "patch", "delete"],
            }],
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": { "name": "machine-config-writer" },
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "machine-config-writer",
            },
            "subjects": writers.map(|caller| json!({
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "User",
                "name": caller.user(),
            })),
        });
        for object in [role, binding] {
            self.kubectl_on(Caller::Admin, &["apply"], &object).accepted("giving rights");
        }
        for caller in writers {
            eventually("the rights are in force", || {
                let answer = self.kubectl(caller, &["auth", "can-i", "create", "machineconfigs"]);
                if answer.succeeded { Ok(()) } else { Err(format!("{answer:?}")) }
            });
        }
    }
}

/// A MachineConfig for the worker pool with `image` as its operating system.
pub(crate) fn machine_config(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "machineconfiguration.openshift.io/v1",
        "kind": "MachineConfig",
        "metadata": { "name": name, "labels": { "machineconfiguration.openshift.io/role": "worker" } },
        "spec": { "osImageURL": image },
    })
}

enum Start {
    Ready(Box<Mutex<Cluster>>),
    ToolsMissing(String),
    Failed,
}

impl Start {
    fn attempt() -> Self {
        match tools() {
            Ok(tools) => panic::catch_unwind(|| start(&tools))
                .map_or(Self::Failed, |cluster| Self::Ready(Box::new(Mutex::new(cluster)))),
            Err(reason) => Self::ToolsMissing(reason),
        }
    }
}

fn start(tools: &Path) -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let sweeper = sweep_at_the_end(folder.path());
    let registry = Registry::start().unwrap();
    let digest = registry.push("probe/os", Some("1"), &Image::base("9.6.1"));

    let kubectl = Kubectl::new(tools, folder.path());
    let etcd = start_etcd(tools, folder.path());
    let api_server = start_api_server(tools, folder.path(), &kubectl);
    let authority = Authority::new();
    let cluster = Cluster {
        layerpin: Layerpin::start("layerpin", folder.path(), &authority),
        probe: format!("{}/probe/os:1@{digest}", registry.host()),
        registry,
        authority,
        kubectl,
        folder,
        _api_server: api_server,
        _etcd: etcd,
        _sweeper: sweeper,
    };
    fs::write(cluster.authority_file(), cluster.authority.ca_pem()).unwrap();
    cluster.install_definitions();
    cluster.give_rights();
    cluster.point_webhooks_at_layerpin();
    cluster
}
