//! A real API server with the webhooks of `deploy/` in force, and Layerpin behind them.
//!
//! One cluster serves its tests one at a time: they count reviews and point the webhooks elsewhere,
//! which another test would feel. A second one is for the tests that take servers of it away. What it
//! must answer is for the tests to say.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Authority, Registry};
use layerpin_test_support::documents::{self, MachineConfig};
use layerpin_test_support::eventually::eventually_blocking;
use layerpin_test_support::repository;
use layerpin_test_support::tools::skip;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kubectl::{Answer, Caller, Kubectl};
use crate::process::{Process, sweep_at_the_end};
use crate::servers::{ApiServer, Layerpin, start_etcd, tools};
use crate::webhooks::Webhooks;

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
    tools: PathBuf,
    api_server: ApiServer,
    etcd: Process,
    _sweeper: Child,
}

/// Waits for the cluster to be free, starting it first if need be.
///
/// `None`, after a line that says so, where the tools for it are missing and nobody insists on them.
pub(crate) fn take_turn() -> Option<Turn> {
    static CLUSTER: OnceLock<Start> = OnceLock::new();
    take_turn_at(&CLUSTER)
}

/// The same for the cluster whose servers may be taken away. No webhook is in force there.
pub(crate) fn take_turn_of_change() -> Option<Turn> {
    static CLUSTER: OnceLock<Start> = OnceLock::new();
    let turn = take_turn_at(&CLUSTER)?;
    turn.remove_webhooks();
    Some(turn)
}

fn take_turn_at(cluster: &'static OnceLock<Start>) -> Option<Turn> {
    match cluster.get_or_init(Start::attempt) {
        Start::Ready(cluster) => {
            // A test that failed leaves the cluster as good as it was.
            let cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
            let log_before = cluster.layerpin.log().len();
            Some(Turn { cluster, log_before })
        }
        Start::ToolsMissing(reason) => {
            skip(reason);
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

impl DerefMut for Turn {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
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

    /// A token for an account.
    pub(crate) fn token_of(&self, account: &str, namespace: &str) -> String {
        self.kubectl.token_of(account, namespace)
    }

    /// Adds what the overlays of `deploy/` find in the clusters that they are for: the kinds of others, and
    /// the namespace in which the right to read the pull secret is given.
    pub(crate) fn add_what_overlays_need(&self) {
        let definitions = format!("--filename={}", repository().join("tests/e2e/crds-of-others").display());
        self.kubectl(Caller::Admin, &["apply", &definitions]).accepted("applying CRDs");
        let wait = ["wait", "--for=condition=Established", "--timeout=60s", &definitions];
        self.kubectl(Caller::Admin, &wait).accepted("waiting for the CRDs");
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "openshift-config"}});
        self.kubectl_on(Caller::Admin, &["apply"], &namespace).accepted("a namespace");
    }

    /// Takes a namespace away with the roles in it, which no controller would do here.
    pub(crate) fn delete_namespace(&self, name: &str) {
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": []},
        });
        let inside = format!("--namespace={name}");
        self.kubectl(Caller::Admin, &["delete", "role,rolebinding", "--all", &inside])
            .accepted("deleting what is in a namespace");
        self.kubectl(Caller::Admin, &["delete", "namespace", name, "--wait=false"])
            .accepted("deleting a namespace");
        let raw = format!("--raw=/api/v1/namespaces/{name}/finalize");
        self.kubectl_on(Caller::Admin, &["replace", &raw], &object).accepted("letting go of it");
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

    /// Starts another Layerpin with more arguments, by a command that ends with the program and its
    /// arguments.
    pub(crate) fn layerpin_by(&self, command: &[&str], name: &str, more: &[&str]) -> Layerpin {
        Layerpin::start_by(command, name, self.folder.path(), &self.authority, more)
    }

    /// The folder that the servers share.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The API server.
    pub(crate) fn api_server(&self) -> &ApiServer {
        &self.api_server
    }

    /// Kills the API server, and starts it again after `meanwhile`.
    pub(crate) fn restart_api_server(&mut self, meanwhile: impl FnOnce()) {
        self.api_server.restart(&self.kubectl, meanwhile);
    }

    /// Kills etcd, and starts it again after `meanwhile`.
    pub(crate) fn restart_etcd(&mut self, meanwhile: impl FnOnce()) {
        self.etcd.signal(Signal::KILL);
        self.etcd.end();
        meanwhile();
        self.etcd = start_etcd(&self.tools, self.folder.path());
    }

    /// A kubeconfig for the account behind `token`.
    pub(crate) fn kubeconfig_for(&self, name: &str, token: &str) -> PathBuf {
        self.kubectl.kubeconfig_for(name, token)
    }

    /// A page of the admin address of `layerpin`.
    pub(crate) fn fetch(&self, layerpin: &Layerpin, path: &str) -> Answer {
        self.kubectl.fetch(&layerpin.admin_url, &self.authority_file(), path)
    }

    /// A page of the admin address of `layerpin`, whose certificate must be from `authority`.
    pub(crate) fn fetch_trusting(&self, layerpin: &Layerpin, path: &str, authority: &Authority) -> Answer {
        let file = self.folder.path().join("trusted.pem");
        fs::write(&file, authority.ca_pem()).unwrap();
        self.kubectl.fetch(&layerpin.admin_url, &file, path)
    }

    /// The certificate authority of Layerpin, in PEM.
    pub(crate) fn authority_pem(&self) -> String {
        self.authority.ca_pem()
    }

    /// How many reviews Layerpin has answered since it started, by its own count.
    pub(crate) fn reviews(&self) -> u64 {
        let counts = self.reviews_of_both();
        // Some were there before the first test: those that showed the webhooks to be in force.
        assert!(counts.iter().all(|count| *count > 0), "no layerpin_reviews_total in the metrics");
        counts.iter().sum()
    }

    /// The same, of `/mutate` and of `/validate`.
    fn reviews_of_both(&self) -> [u64; 2] {
        let metrics = self.kubectl.fetch(&self.layerpin.admin_url, &self.authority_file(), "/metrics");
        let metrics = metrics.accepted("reading the metrics").stdout;
        ["mutate", "validate"].map(|endpoint| {
            let series = format!("layerpin_reviews_total{{endpoint=\"{endpoint}\",");
            let lines = metrics.lines().filter(|line| line.starts_with(&series));
            lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
        })
    }

    /// Runs `test` while nobody listens where the webhooks point, `/validate` being under
    /// `failure_policy` and `/mutate` under that of the manifest.
    pub(crate) fn while_nobody_answers(&self, failure_policy: &str, test: impl FnOnce()) {
        // The address of a server that is gone.
        let url = Layerpin::start("layerpin-away", self.folder.path(), &self.authority).url;
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
            self.point_webhooks_at(&url, Some(failure_policy));
            eventually_blocking("nobody answers for the webhooks", || {
                let answer = self.try_image(&machine_config("probe", &self.probe));
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
        // What was in force before may give the same answers, by another server that is about to end.
        eventually_blocking("both webhooks ask this server", || {
            let before = self.reviews_of_both();
            let answer = self.try_image(&machine_config("probe", &self.probe));
            let after = self.reviews_of_both();
            let is_asked = before.iter().zip(&after).all(|(before, after)| before < after);
            let dropped = answer.succeeded && answer.stdout != self.probe;
            if is_asked && dropped { Ok(()) } else { Err(format!("{before:?} {after:?} {answer:?}")) }
        });
    }

    fn point_webhooks_at(&self, url: &str, failure_policy_of_validate: Option<&str>) {
        let webhooks = Webhooks::at(url, &self.authority_pem());
        self.apply_webhooks(&match failure_policy_of_validate {
            Some(failure_policy) => webhooks.under(failure_policy),
            None => webhooks,
        });
    }

    /// Applies the overlay with these webhooks in it.
    pub(crate) fn apply_webhooks(&self, webhooks: &Webhooks) {
        let folder = self.folder.path().join("webhooks");
        webhooks.write(&folder);
        let folder = format!("--kustomize={}", folder.display());
        self.kubectl(Caller::Admin, &["apply", "--validate=strict", &folder])
            .accepted("applying the overlay");
    }

    /// Applies webhooks, and waits until the API server asks by them. What stood there before must have
    /// somebody who answers.
    pub(crate) fn put_in_force(&self, webhooks: impl IntoIterator<Item = Webhooks>) {
        static MARKERS: AtomicU32 = AtomicU32::new(0);
        // What they leave alone, and those before them do not, tells them apart.
        let marker = format!("marker-{}", MARKERS.fetch_add(1, Ordering::Relaxed));
        let condition = format!("object.metadata.name != '{marker}'");
        for webhooks in webhooks {
            self.apply_webhooks(&webhooks.on_condition("no-marker", &condition));
        }
        eventually_blocking("the webhooks are in force", || {
            let answers = [("probe", "short-name"), ("probe", &*self.probe), (&*marker, &*self.probe)]
                .map(|(name, image)| self.try_image(&machine_config(name, image)));
            let [short, pinned, marked] = &answers;
            let both = short.stderr.contains("denied the request") && pinned.stdout != self.probe;
            if both && pinned.succeeded && marked.stdout == self.probe {
                Ok(())
            } else {
                Err(format!("{answers:?}"))
            }
        });
    }

    /// Takes every webhook away, and waits until nobody is asked.
    pub(crate) fn remove_webhooks(&self) {
        for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
            self.kubectl(Caller::Admin, &["delete", kind, "--all"]).accepted("deleting webhooks");
        }
        eventually_blocking("nobody is asked", || {
            let answer = self.try_image(&machine_config("probe", &self.probe));
            if answer.stdout == self.probe { Ok(()) } else { Err(format!("{answer:?}")) }
        });
    }

    /// What the API server would store as the image of `object`, on standard output.
    fn try_image(&self, object: &Value) -> Answer {
        let arguments = ["create", "--dry-run=server", "--output=jsonpath={.spec.osImageURL}"];
        self.kubectl_on(Caller::User, &arguments, object)
    }

    fn authority_file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
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
        self.kubectl_on(Caller::Admin, &["apply"], &role).accepted("giving rights");
        self.let_write("callers", &[Caller::User, Caller::MachineConfigController].map(Caller::user));
    }

    /// Lets `users` write MachineConfigs, by a binding with a name of its own.
    pub(crate) fn let_write(&self, binding: &str, users: &[&str]) {
        let subjects = users
            .iter()
            .map(|user| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }));
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": { "name": format!("machine-config-writer-{binding}") },
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "machine-config-writer",
            },
            "subjects": subjects.collect::<Vec<_>>(),
        });
        self.kubectl_on(Caller::Admin, &["apply"], &binding).accepted("giving rights");
        for user in users {
            let arguments = ["auth", "can-i", "create", "machineconfigs", &format!("--as={user}")];
            eventually_blocking("the rights are in force", || {
                let answer = self.kubectl(Caller::Admin, &arguments);
                if answer.succeeded { Ok(()) } else { Err(format!("{answer:?}")) }
            });
        }
    }
}

/// A MachineConfig for the worker pool with `image` as its operating system.
pub(crate) fn machine_config(name: &str, image: &str) -> MachineConfig {
    documents::machine_config().named(name).image(image)
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
    let api_server = ApiServer::start(tools, folder.path(), &kubectl);
    let authority = Authority::new();
    let cluster = Cluster {
        layerpin: Layerpin::start("layerpin", folder.path(), &authority),
        probe: format!("{}/probe/os:1@{digest}", registry.host()),
        registry,
        authority,
        kubectl,
        folder,
        tools: tools.to_owned(),
        api_server,
        etcd,
        _sweeper: sweeper,
    };
    fs::write(cluster.authority_file(), cluster.authority.ca_pem()).unwrap();
    cluster.install_definitions();
    cluster.give_rights();
    cluster.add_what_overlays_need();
    cluster.point_webhooks_at_layerpin();
    cluster
}
