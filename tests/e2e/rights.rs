//! Layerpin with the account of `deploy/`: what it reads with exactly these rights, what it says with
//! fewer, and whom it lets into `/dry-run`.

use layerpin::cluster::RESOURCES;
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::keep_printed;
use layerpin_test_support::eventually::eventually_blocking;
use layerpin_test_support::repository;
use reqwest::tls::Version;
use serde_json::{Value, json};

use crate::cluster::{Turn, machine_config, take_turn};
use crate::kubectl::Caller;
use crate::servers::Layerpin;

const ACCOUNT: &str = "system:serviceaccount:layerpin:layerpin";

#[test]
fn with_the_rights_of_deploy_everything_is_read() {
    let Some(turn) = take_turn() else { return };
    let account = Account::new(&turn);
    let layerpin = account.start("layerpin-of-pod");
    account.says(&layerpin, "[+]cluster ok");
    eventually_blocking("the pull secret is read", || {
        let log = layerpin.log();
        if log.contains("registry credentials changed") { Ok(()) } else { Err(log) }
    });

    let digest = turn.registry.push("rights/os", None, &Image::base("9.6.1"));
    let object = machine_config("rights", &format!("{}/rights/os@{digest}", turn.registry.host()));
    let (status, report) = account.dry_run(&layerpin, Some(&Caller::User.token()), &object);
    assert_eq!(status, 200, "{report}");
    let report: Value = serde_json::from_str(&report).unwrap();
    let cluster = &report["facts"]["cluster"];
    assert_eq!(
        cluster["version"]["known"]["desired"],
        json!({"version": "4.18.14", "image": "quay.io/ocp/release:4.18.14"})
    );
    assert_eq!(cluster["osImageUrl"]["known"]["releaseVersion"], "4.18.14");
    assert_eq!((&cluster["streams"], &cluster["controllerConfig"]), (&json!("absent"), &json!("absent")));
    let pools = cluster["pools"]["known"].as_array().unwrap();
    let worker = pools.iter().find(|pool| pool["name"] == "worker").unwrap();
    assert_eq!(worker["nodes"], json!({"known": {"arm64": 1}}));
    assert!(cluster["machineConfigs"]["known"].is_array(), "{cluster}");
}

#[test]
fn a_pool_with_an_empty_selector_or_none_is_reached_by_nothing() {
    let Some(turn) = take_turn() else { return };
    let account = Account::new(&turn);
    let pools = [("everything", json!({})), ("unsaid", Value::Null)].map(|(name, selector)| {
        json!({
            "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfigPool",
            "metadata": {"name": name}, "spec": {"machineConfigSelector": selector},
        })
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": pools});
    turn.kubectl_on(Caller::Admin, &["apply"], &list).accepted("pools that the operator leaves alone");
    let layerpin = account.start("layerpin-of-empty-pools");
    account.says(&layerpin, "[+]cluster ok");

    let digest = turn.registry.push("pools/os", None, &Image::base("9.6.1"));
    let object = machine_config("pools", &format!("{}/pools/os@{digest}", turn.registry.host()));
    let (status, report) = account.dry_run(&layerpin, Some(&Caller::User.token()), &object);
    turn.kubectl_on(Caller::Admin, &["delete"], &list).accepted("the pools are gone");
    assert_eq!(status, 200, "{report}");
    let report: Value = serde_json::from_str(&report).unwrap();
    let known = report["facts"]["cluster"]["pools"]["known"].as_array().unwrap();
    let names = ["everything", "unsaid"];
    assert!(names.iter().all(|name| known.iter().any(|pool| pool["name"] == *name)), "{known:?}");
    let lineage = report["objects"][0]["lineage"].as_array().unwrap();
    let reached: Vec<_> = lineage.iter().map(|it| it["pool"].as_str().unwrap()).collect();
    assert!(reached.contains(&"worker") && !names.iter().any(|name| reached.contains(name)), "{reached:?}");
}

#[test]
fn without_one_of_its_rights_it_says_which_and_goes_on() {
    let Some(turn) = take_turn() else { return };
    let account = Account::new(&turn);
    without_the_pull_secret(&turn, &account);
    let role = turn.manifest("cluster_role.yaml").remove(0);
    let rules = role["rules"].as_array().unwrap();
    for (index, rule) in rules.iter().enumerate() {
        let (group, resource) =
            (rule["apiGroups"][0].as_str().unwrap(), rule["resources"][0].as_str().unwrap());
        let mut less = role.clone();
        less["rules"].as_array_mut().unwrap().remove(index);
        turn.kubectl_on(Caller::Admin, &["apply"], &less).accepted("a right is taken away");
        let verb = rule["verbs"][0].as_str().unwrap();
        account.can(rule, "no");

        let layerpin = account.start(&format!("layerpin-without-{resource}"));
        let full = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        let forbidden = |object: Option<&str>, namespace: Option<&str>| {
            let object = object.map_or_else(String::new, |name| format!(" \"{name}\""));
            let scope = namespace.map_or_else(
                || "at the cluster scope".to_owned(),
                |name| format!("in the namespace \"{name}\""),
            );
            format!(
                "{full}{object} is forbidden: User \"{ACCOUNT}\" cannot {verb} resource \"{resource}\" in API \
                 group \"{group}\" {scope}"
            )
        };
        if verb == "create" {
            account.says(&layerpin, "[+]cluster ok");
            let answer = account.dry_run(&layerpin, Some(&Caller::User.token()), &machine_config("x", "os"));
            let forbidden = forbidden(None, None);
            let expected = format!("cannot check whether the client may use /dry-run: {forbidden}\n");
            assert_eq!(answer, (503, expected));
        } else {
            let read = RESOURCES.iter().filter(|it| it.group.name == group && it.plural == resource);
            let told: Vec<_> = read
                .map(|it| format!("cannot read {}: {}", it.name, forbidden(it.object, it.namespace)))
                .collect();
            account.says(&layerpin, &format!("[+]cluster ok: {}", told.join("; ")));
            let log = layerpin.log();
            let logged = log.lines().filter(|line| line.contains("cannot read from the cluster")).count();
            assert_eq!(logged, told.len(), "{log}");
        }
        turn.kubectl_on(Caller::Admin, &["apply"], &role).accepted("the right is given back");
        account.can(rule, "yes");
    }
}

fn without_the_pull_secret(turn: &Turn, account: &Account<'_>) {
    let binding = ["delete", "rolebinding", "--namespace=openshift-config", "layerpin-pull-secret"];
    turn.kubectl(Caller::Admin, &binding).accepted("a right is taken away");
    account.can_read_the_pull_secret("no");
    let layerpin = account.start("layerpin-without-pull-secret");
    let line = format!(
        "[+]cluster ok: cannot read Secret openshift-config/pull-secret: secrets \"pull-secret\" is \
         forbidden: User \"{ACCOUNT}\" cannot list resource \"secrets\" in API group \"\" in the namespace \
         \"openshift-config\"; on OpenShift apply deploy/openshift/pull_secret_role.yaml; on a cluster without \
         the namespace openshift-config use --authfile, or ignore this if images are public"
    );
    account.says(&layerpin, &line);
    account.give_the_pull_secret();
}

#[test]
fn the_tls_profile_of_the_cluster_is_followed() {
    let Some(turn) = take_turn() else { return };
    let account = Account::new(&turn);
    let layerpin = account.start("layerpin-of-profile");
    account.says(&layerpin, "[+]cluster ok");
    let speaks = |version| {
        layerpin::install_crypto_provider();
        let authority = reqwest::Certificate::from_pem(turn.authority_pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([authority]).no_proxy();
        let client = client.tls_version_min(version).tls_version_max(version).build().unwrap();
        let sent = client.get(format!("{}/healthz", layerpin.admin_url)).send();
        tokio::runtime::Runtime::new().unwrap().block_on(sent).is_ok()
    };
    let spoken = || [Version::TLS_1_2, Version::TLS_1_3].map(speaks);
    let comes_to = |claim: &str, expected: [bool; 2]| {
        eventually_blocking(claim, || if spoken() == expected { Ok(()) } else { Err(layerpin.log()) });
    };
    assert_eq!(spoken(), [true, true]);
    let modern = json!({
        "apiVersion": "config.openshift.io/v1", "kind": "APIServer", "metadata": {"name": "cluster"},
        "spec": {"tlsSecurityProfile": {"type": "Modern", "modern": {}}},
    });
    turn.kubectl_on(Caller::Admin, &["apply"], &modern).accepted("a profile");
    comes_to("TLS 1.2 is over", [false, true]);
    turn.kubectl_on(Caller::Admin, &["delete"], &modern).accepted("no profile");
    comes_to("TLS 1.2 is back", [true, true]);
}

#[test]
fn dry_run_is_for_those_who_may_create_machine_configs() {
    let Some(turn) = take_turn() else { return };
    let account = Account::new(&turn);
    let layerpin = account.start("layerpin-of-dry-run");
    let object = machine_config("x", "os");
    let call = |token: Option<&str>| account.dry_run(&layerpin, token, &object);
    assert_eq!(call(None).0, 401);
    let unknown = "the cluster does not accept this bearer token\n";
    assert_eq!(call(Some("nobody's")), (401, unknown.to_owned()));
    // Layerpin's own account may read MachineConfigs and no more.
    let missing = format!(
        "`{ACCOUNT}` may not create machineconfigs.machineconfiguration.openshift.io, which /dry-run requires\n"
    );
    assert_eq!(call(Some(&account.token)), (403, missing));
    let (status, report) = call(Some(&Caller::User.token()));
    assert!(status == 200 && report.contains("\"malformed-reference\""), "{status} {report}");
    let log = layerpin.log();
    for token in [&account.token, &Caller::User.token(), "nobody's"] {
        assert!(!log.contains(token), "{log}");
    }
}

/// The account of the pods, with the rights of `deploy/` and something to read.
pub(crate) struct Account<'a> {
    turn: &'a Turn,
    pub(crate) token: String,
}

impl<'a> Account<'a> {
    pub(crate) fn new(turn: &'a Turn) -> Self {
        let apply = |object: &Value| {
            turn.kubectl_on(Caller::Admin, &["apply"], object).accepted("an object is applied");
        };
        for name in ["openshift-config", "openshift-machine-config-operator"] {
            apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        }
        for file in ["namespace.yaml", "service_account.yaml", "cluster_role.yaml"] {
            turn.manifest(file).iter().for_each(apply);
        }
        objects().iter().for_each(apply);
        let status = format!("--patch={}", json!({"status": version_status()}));
        let arguments =
            ["patch", "clusterversion", "version", "--subresource=status", "--type=merge", &status];
        turn.kubectl(Caller::Admin, &arguments).accepted("a release");
        let account = Self { turn, token: turn.token_of("layerpin", "layerpin") };
        account.give_the_pull_secret();
        account
    }

    fn give_the_pull_secret(&self) {
        let role = repository().join("deploy/openshift/pull_secret_role.yaml");
        let role = format!("--filename={}", role.display());
        self.turn.kubectl(Caller::Admin, &["apply", &role]).accepted("the right to read the pull secret");
        // Until then a server would be refused once, and say so.
        self.can_read_the_pull_secret("yes");
    }

    /// Waits until the account can, or cannot, read the pull secret.
    fn can_read_the_pull_secret(&self, expected: &str) {
        let account = format!("--as={ACCOUNT}");
        let can = ["auth", "can-i", "list", "secrets/pull-secret", "--namespace=openshift-config", &account];
        self.can_by(&can, expected);
    }

    pub(crate) fn start(&self, name: &str) -> Layerpin {
        self.turn.layerpin_with(name, &self.token)
    }

    /// Waits until `/readyz` has this line.
    pub(crate) fn says(&self, layerpin: &Layerpin, line: &str) {
        eventually_blocking(line, || {
            let answer = self.turn.fetch(layerpin, "/readyz");
            let found = answer.stdout.lines().any(|found| found == line);
            if found { Ok(()) } else { Err(format!("{answer:?}")) }
        });
    }

    /// Waits until what `/readyz` says of the cluster has these words.
    pub(crate) fn says_with(&self, layerpin: &Layerpin, words: &str) {
        eventually_blocking(words, || {
            let answer = self.turn.fetch(layerpin, "/readyz");
            let found =
                answer.stdout.lines().any(|line| line.starts_with("[+]cluster ok: ") && line.contains(words));
            if found { Ok(()) } else { Err(format!("{answer:?}")) }
        });
    }

    /// Waits until the account has, or has not, the right of `rule`.
    fn can(&self, rule: &Value, expected: &str) {
        let text = |field: &str| rule[field][0].as_str().unwrap_or_default().to_owned();
        let (group, resource, name) = (text("apiGroups"), text("resources"), text("resourceNames"));
        let resource = if group.is_empty() { resource } else { format!("{resource}.{group}") };
        let what = if name.is_empty() { resource } else { format!("{resource}/{name}") };
        let account = format!("--as={ACCOUNT}");
        let verb = text("verbs");
        self.can_by(&["auth", "can-i", &verb, &what, &account], expected);
    }

    fn can_by(&self, question: &[&str], expected: &str) {
        eventually_blocking("the role is in force", || {
            let answer = self.turn.kubectl(Caller::Admin, question);
            if answer.stdout.trim_end() == expected { Ok(()) } else { Err(format!("{answer:?}")) }
        });
    }

    /// What `/dry-run` answers to somebody with `token`: status and text.
    pub(crate) fn dry_run(&self, layerpin: &Layerpin, token: Option<&str>, object: &Value) -> (u16, String) {
        layerpin::install_crypto_provider();
        let authority = reqwest::Certificate::from_pem(self.turn.authority_pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
        let mut request = client.post(format!("{}/dry-run", layerpin.url)).body(object.to_string());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
            keep_printed("answers", text.as_bytes());
            (status, text)
        })
    }
}

fn objects() -> [Value; 5] {
    [
        json!({
            "apiVersion": "config.openshift.io/v1", "kind": "ClusterVersion", "metadata": {"name": "version"},
            "spec": {"clusterID": "11111111-2222-3333-4444-555555555555"},
        }),
        json!({
            "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfigPool",
            "metadata": {"name": "worker"},
            "spec": {
                "machineConfigSelector": {"matchLabels": {"machineconfiguration.openshift.io/role": "worker"}},
                "nodeSelector": {"matchLabels": {"node-role.kubernetes.io/worker": ""}},
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "machine-config-osimageurl", "namespace": "openshift-machine-config-operator",
            },
            "data": {"releaseVersion": "4.18.14", "baseOSContainerImage": "quay.io/ocp/os@sha256:09"},
        }),
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": "pull-secret", "namespace": "openshift-config"},
            "stringData": {".dockerconfigjson": "{\"auths\": {}}"},
        }),
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "worker-0", "labels": {"node-role.kubernetes.io/worker": ""}},
            "status": {"nodeInfo": {
                "architecture": "arm64", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
                "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "linux",
                "osImage": "", "systemUUID": "",
            }},
        }),
    ]
}

/// With all that the real definition wants.
fn version_status() -> Value {
    json!({
        "desired": {"version": "4.18.14", "image": "quay.io/ocp/release:4.18.14"},
        "history": [{
            "state": "Completed", "version": "4.18.14", "image": "quay.io/ocp/release:4.18.14", "verified": true,
            "startedTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T01:00:00Z",
        }],
        "availableUpdates": [{"version": "4.18.15", "image": "quay.io/ocp/release:4.18.15"}], "observedGeneration": 1, "versionHash": "a",
    })
}
