//! The ways to a real API server: the account of a pod, a plug-in of a kubeconfig, and a context.
//!
//! The servers here trace all they do, and no credential may be in that.

use std::fs;
use std::path::PathBuf;

use layerpin_sample_registry::write_script;
use layerpin_test_support::tools::{skip, unshare};
use serde_json::{Value, json};

use crate::cluster::{Turn, machine_config, take_turn};
use crate::kubectl::Caller;
use crate::rights::Account;
use crate::servers::Layerpin;

#[test]
fn in_a_pod_the_cluster_is_read_by_the_account_that_is_mounted() {
    let Some(turn) = take_turn() else { return };
    let unshare = match unshare(&["--mount"]) {
        Ok(unshare) => unshare,
        Err(reason) => return skip(&reason),
    };
    let account = Account::new(&turn);
    let mounted = turn.folder().join("account-of-pod");
    fs::create_dir_all(&mounted).unwrap();
    fs::write(mounted.join("token"), &account.token).unwrap();
    fs::copy(turn.api_server().authority(), mounted.join("ca.crt")).unwrap();
    let port = turn.api_server().url().rsplit_once(':').unwrap().1.to_owned();
    let pod = ["sh", "-c", POD, "sh", mounted.to_str().unwrap(), &port];
    let command: Vec<_> = unshare.iter().copied().chain(pod).collect();
    let layerpin = turn.layerpin_by(&command, "layerpin-in-pod", &[]);
    reads_the_cluster(
        &account,
        &layerpin,
        "service account in /var/run/secrets/kubernetes.io/serviceaccount",
    );
}

#[test]
fn a_plug_in_of_the_kubeconfig_gives_the_token() {
    let Some(turn) = take_turn() else { return };
    let account = Account::new(&turn);
    let answer = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {"token": account.token},
    });
    let plug_in = turn.folder().join("plug-in");
    write_script(&plug_in, "printf %s \"$ANSWER\"").unwrap();
    let path = changed_kubeconfig(&turn, "by-plug-in", |kubeconfig| {
        kubeconfig["users"][0]["user"] = json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": plug_in, "interactiveMode": "Never",
            "env": [{"name": "ANSWER", "value": answer.to_string()}],
        }});
    });
    let layerpin = start(&turn, "layerpin-by-plug-in", &[&format!("--kubeconfig={}", path.display())]);
    reads_the_cluster(&account, &layerpin, &format!("kubeconfig {}", path.display()));
}

#[test]
fn the_context_that_is_named_says_which_cluster_it_is_and_whose_rights_count() {
    let Some(turn) = take_turn() else { return };
    let account = Account::new(&turn);
    let path = changed_kubeconfig(&turn, "contexts", |kubeconfig| {
        // Nobody listens there.
        kubeconfig["clusters"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "gone", "cluster": {"server": "https://127.0.0.1:1"}}));
        kubeconfig["users"] = json!([
            {"name": "pod", "user": {"token": account.token}},
            {"name": "writer", "user": {"token": Caller::User.token()}},
        ]);
        kubeconfig["contexts"] = json!([
            {"name": "elsewhere", "context": {"cluster": "gone", "user": "pod"}},
            {"name": "here", "context": {"cluster": "test", "user": "pod"}},
            {"name": "as-writer", "context": {"cluster": "test", "user": "writer"}},
        ]);
        kubeconfig["current-context"] = "elsewhere".into();
    });
    let kubeconfig = format!("--kubeconfig={}", path.display());
    let layerpin = start(&turn, "layerpin-here", &[&kubeconfig, "--context=here"]);
    reads_the_cluster(&account, &layerpin, &format!("kubeconfig {}", path.display()));

    let layerpin = start(&turn, "layerpin-as-writer", &[&kubeconfig, "--context=as-writer"]);
    account.says_with(
        &layerpin,
        "cannot read ClusterVersion/version: clusterversions.config.openshift.io \"version\" is \
         forbidden: User \"user\" cannot list resource",
    );
    let layerpin = start(&turn, "layerpin-elsewhere", &[&kubeconfig]);
    account.says_with(&layerpin, "cannot reach the API server 127.0.0.1:1: ");
}

/// Claims that the server found its cluster at `origin`, has read it, and keeps its token to itself.
fn reads_the_cluster(account: &Account<'_>, layerpin: &Layerpin, origin: &str) {
    account.says(layerpin, "[+]cluster ok");
    // Its own token is what it asks by who the caller is.
    let object = machine_config("x", "os");
    let (status, report) = account.dry_run(layerpin, Some(&Caller::User.token()), &object);
    assert_eq!(status, 200, "{report}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["facts"]["cluster"]["version"]["known"]["desired"]["version"], "4.18.14");
    let log = layerpin.log();
    assert!(log.contains(&format!("\"origin\":\"{origin}\"")), "{origin}: {log}");
    assert!(log.contains("\"level\":\"TRACE\""), "nothing is traced: {log}");
    for token in [&account.token, &Caller::User.token()] {
        assert!(!log.contains(token), "a token is in the log");
    }
}

fn start(turn: &Turn, name: &str, more: &[&str]) -> Layerpin {
    turn.layerpin_by(&["env", "RUST_LOG=trace"], name, more)
}

/// A kubeconfig of the API server with something else in it.
fn changed_kubeconfig(turn: &Turn, name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    let path = turn.kubeconfig_for(name, "none");
    let mut kubeconfig = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut kubeconfig);
    fs::write(&path, kubeconfig.to_string()).unwrap();
    path
}

/// What a pod finds: the folder of its account, as the kubelet mounts it, and where the API server is.
/// `/var/run` is seen empty there, so that nothing of this machine is touched.
const POD: &str = r#"
mount -t tmpfs tmpfs /var/run
mkdir -p /var/run/secrets/kubernetes.io/serviceaccount
cp "$1"/* /var/run/secrets/kubernetes.io/serviceaccount
export KUBERNETES_SERVICE_HOST=127.0.0.1 KUBERNETES_SERVICE_PORT="$2" RUST_LOG=trace
shift 2
exec "$@"
"#;
