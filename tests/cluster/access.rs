//! How the program finds its cluster: kubeconfigs, contexts, exec plug-ins, service accounts, and none.

use std::path::Path;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use layerpin::cluster::access::{ClusterAccess, ClusterChoice, ClusterEnvironment};
use layerpin::model::facts::Fact;
use layerpin::sources::ClusterSource;
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Registry, write_script};
use layerpin_test_support::documents::machine_config;
use layerpin_test_support::eventually::eventually;
use layerpin_test_support::program::{Layerpin, Setup};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api_server::{ApiServer, NODES, SECRETS, TOKEN, VERSIONS};
use crate::known::{QUICK, registry};
use crate::objects::{pull_secret, version};

/// Waits until the line of `/readyz` about the cluster satisfies a claim, and returns it with the status.
async fn readiness(layerpin: &Layerpin, claim: &str, satisfies: impl Fn(&str) -> bool) -> (u16, String) {
    eventually(claim, async || {
        let answer = layerpin.admin.get("/readyz").await;
        let line = answer.text.lines().find(|line| line.contains("]cluster "))?.to_owned();
        satisfies(&line).then_some((answer.status, line))
    })
    .await
}

async fn is_known(layerpin: &Layerpin) {
    let (status, _) = readiness(layerpin, "the cluster is known", |line| line == "[+]cluster ok").await;
    assert_eq!(status, 200);
}

async fn openshift() -> ApiServer {
    let server = ApiServer::start().await;
    server.serve_openshift();
    server.put(VERSIONS, version("4.18.14"));
    server
}

fn named(setup: Setup, kubeconfig: &Value) -> Setup {
    let path = setup.write("kubeconfig", &kubeconfig.to_string());
    setup.arguments(["--kubeconfig".as_ref(), path.as_os_str()])
}

#[tokio::test]
async fn the_kubeconfig_comes_from_the_option_the_environment_or_the_home_folder() {
    let server = openshift().await;
    let kubeconfig = server.kubeconfig();
    is_known(&named(Setup::serve(), &kubeconfig).start()).await;

    let setup = Setup::serve();
    let path = setup.write("one", &kubeconfig.to_string());
    let missing = setup.path("missing");
    is_known(&setup.environment("KUBECONFIG", format!("{}:{}", missing.display(), path.display())).start())
        .await;

    let setup = Setup::serve();
    std::fs::create_dir(setup.path(".kube")).unwrap();
    setup.write(".kube/config", &kubeconfig.to_string());
    let home = setup.path("");
    is_known(&setup.environment("HOME", &home).start()).await;

    let setup = Setup::serve();
    let path = setup.write("kubeconfig", &kubeconfig.to_string());
    is_known(&setup.environment("LAYERPIN_KUBECONFIG", path).start()).await;
}

#[tokio::test]
async fn without_a_cluster_there_are_no_requests_and_no_readiness_check() {
    let server = openshift().await;
    for setup in [
        Setup::serve(),
        named(Setup::serve(), &server.kubeconfig()).arguments(["--no-cluster"]),
        named(Setup::serve(), &server.kubeconfig()).environment("LAYERPIN_NO_CLUSTER", "true"),
        named(Setup::serve(), &server.kubeconfig()).arguments(["--offline"]),
    ] {
        let answer = setup.start().admin.get("/readyz").await;
        let expected = "[+]certificate ok\n[+]policy ok\n[+]shutdown ok\nready\n";
        assert_eq!((answer.status, answer.text.as_str()), (200, expected));
    }
    assert_eq!(server.requests(""), 0);
}

#[tokio::test]
async fn the_context_comes_from_the_option_or_is_the_current_one() {
    let server = openshift().await;
    let mut kubeconfig = server.kubeconfig();
    kubeconfig["current-context"] = "nowhere".into();
    is_known(&named(Setup::serve(), &kubeconfig).arguments(["--context", "test"]).start()).await;
    is_known(&named(Setup::serve(), &kubeconfig).environment("LAYERPIN_CONTEXT", "test").start()).await;
}

#[tokio::test]
async fn the_server_listens_before_the_api_server_answers_and_reports_what_is_missing() {
    let server = openshift().await;
    server.forbid(NODES, true);
    server.freeze(true);
    let layerpin = named(Setup::serve(), &server.kubeconfig()).start();
    let (status, line) = readiness(&layerpin, "the status at the start", |_| true).await;
    let kinds = "ClusterVersion/version, ControllerConfig/machine-config-controller, ConfigMap \
                 openshift-machine-config-operator/machine-config-osimageurl, OSImageStream/cluster, \
                 MachineConfigPools, MachineConfigs, Nodes, Secret openshift-config/pull-secret, \
                 ImageDigestMirrorSets, ImageTagMirrorSets, ImageContentSourcePolicies, \
                 image.config.openshift.io/cluster, Proxy/cluster, ConfigMap \
                 openshift-config-managed/merged-trusted-image-registry-ca, ConfigMap \
                 openshift-config-managed/image-registry-ca, ConfigMap \
                 openshift-config-managed/trusted-ca-bundle, APIServer/cluster";
    assert_eq!((status, line.as_str()), (503, &*format!("[-]cluster failed: not read yet: {kinds}")));
    server.freeze(false);
    let forbidden = "cannot read Nodes: /api/v1/nodes is forbidden: User \"layerpin\" cannot list it";
    let ready = |line: &str| line.starts_with("[+]");
    let (status, line) = readiness(&layerpin, "the server is ready", ready).await;
    assert_eq!((status, line), (200, format!("[+]cluster ok: {forbidden}")));
    // Logged once, however often reading is tried again.
    let lists = server.requests(&format!("GET {NODES}"));
    eventually("reading is tried again", async || {
        (server.requests(&format!("GET {NODES}")) > lists).then_some(())
    })
    .await;
    let told = layerpin.log.with_message("cannot read from the cluster");
    let told: Vec<_> = told.iter().map(|line| (&line["kind"], &line["level"])).collect();
    assert_eq!(told, [(&json!("Nodes"), &json!("WARN"))]);
    assert!(!layerpin.log.text().contains(TOKEN));
}

#[tokio::test]
async fn a_resource_that_may_be_listed_but_not_watched_is_unknown_and_logged_once() {
    let server = openshift().await;
    server.forbid_to_watch(NODES);
    let layerpin = named(Setup::serve(), &server.kubeconfig()).start();
    let refused =
        "[+]cluster ok: cannot read Nodes: /api/v1/nodes is forbidden: User \"layerpin\" cannot watch it";
    let (status, _) = readiness(&layerpin, "the refusal is reported", |line| line == refused).await;
    assert_eq!(status, 200);
    eventually("reading is tried again several times", async || {
        // Pauses double, so waiting for three more than there are now could take minutes.
        (server.requests(&format!("WATCH {NODES}")) >= 4).then_some(())
    })
    .await;
    // A list alone must not make it known, and unknown again a moment later.
    let of_nodes = |message: &str| {
        layerpin.log.with_message(message).iter().filter(|line| line["kind"] == "Nodes").count()
    };
    assert_eq!(of_nodes("cannot read from the cluster; no longer using the last known state"), 1);
    assert_eq!(of_nodes("reading from the cluster works again"), 0);
}

#[tokio::test]
async fn an_unusable_kubeconfig_is_reported_with_a_way_to_fix_it() {
    let server = openshift().await;
    let secret = "hunter2hunter2";
    let with = |change: &dyn Fn(&mut Value)| {
        let mut kubeconfig = server.kubeconfig_for(&json!({"token": secret}));
        change(&mut kubeconfig);
        kubeconfig.to_string()
    };
    for (text, expected) in [
        (None, "No such file or directory; name another file with --kubeconfig".to_owned()),
        (
            Some("users: [{name: layerpin, user: {token: hunter2hunter2}\n".to_owned()),
            "line 1, column 9: not a valid kubeconfig".to_owned(),
        ),
        (Some("clusters: hunter2hunter2".to_owned()), "line 1, column 11: not a valid kubeconfig".to_owned()),
        (Some(String::new()), "no context is selected; select one with --context (it has none)".to_owned()),
        (
            Some(with(&|kubeconfig| kubeconfig["current-context"] = "prod".into())),
            "there is no context `prod`; select another with --context (it has test)".to_owned(),
        ),
        (
            Some(with(&|kubeconfig| kubeconfig["clusters"] = json!([]))),
            "context `test`: there is no cluster `test`".to_owned(),
        ),
        (
            Some(with(&|kubeconfig| {
                kubeconfig["clusters"][0]["cluster"]["server"] = "https://exa mple".into()
            })),
            "context `test`: `server` of its cluster is not a valid URL: invalid uri character".to_owned(),
        ),
        (
            Some(with(&|kubeconfig| {
                kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"] = "cnViYmlzaA==".into()
            })),
            "context `test`: `certificate-authority-data` of its cluster: line 1: no certificate in PEM format; \
             fix or remove it"
                .to_owned(),
        ),
        (
            Some(with(&|kubeconfig| {
                let good = &server.authority;
                let broken = "-----BEGIN CERTIFICATE-----\nrubbish!\n-----END CERTIFICATE-----";
                let bundle = format!("{}\n{broken}\n{}", good.trim_end(), good);
                kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"] =
                    BASE64_STANDARD.encode(bundle).into();
            })),
            format!(
                "context `test`: `certificate-authority-data` of its cluster: line {}: the certificate that begins \
                 here is not valid base64; fix or remove it",
                server.authority.trim_end().lines().count() + 1
            ),
        ),
        (
            Some(with(&|kubeconfig| {
                let cluster = &mut kubeconfig["clusters"][0]["cluster"];
                cluster["certificate-authority-data"] = Value::Null;
                cluster["certificate-authority"] = "missing.crt".into();
            })),
            "context `test`: `certificate-authority` of its cluster, FOLDER/missing.crt: No such file or directory; \
             name another file"
                .to_owned(),
        ),
        (
            Some(with(&|kubeconfig| {
                kubeconfig["users"][0]["user"] =
                    json!({"client-certificate": "missing.crt", "client-key": "missing.key"})
            })),
            "`client-certificate` of its user: FOLDER/missing.crt: No such file or directory; name \
             another file"
                .to_owned(),
        ),
        (
            Some(with(&|kubeconfig| kubeconfig["users"][0]["user"] = json!({"tokenFile": "missing"}))),
            "the token file FOLDER/missing: No such file or directory".to_owned(),
        ),
    ] {
        let setup = Setup::serve();
        let path = setup.path("kubeconfig");
        if let Some(text) = text {
            setup.write("kubeconfig", &text);
        }
        let folder = setup.path("").display().to_string();
        let expected = expected.replace("FOLDER", folder.trim_end_matches('/'));
        let (code, output, error) = setup.arguments([Path::new("--kubeconfig"), &path]).ended();
        let first = error.lines().next().unwrap();
        let prefix = format!("error: kubeconfig {}: ", path.display());
        let rest = first.strip_prefix(&prefix).unwrap_or_else(|| panic!("{error}"));
        assert!(rest.starts_with(&expected), "{expected}\n{error}");
        assert_eq!((code, output.as_str()), (2, ""));
        assert!(error.ends_with("help: to run without a cluster, use `--no-cluster`\n"), "{error}");
        assert!(!error.contains(secret), "{error}");
    }
}

#[test]
fn a_missing_context_is_named() {
    let (code, _, error) = Setup::serve().arguments(["--context", "prod"]).ended();
    let expected = "error: --context `prod`: there is no kubeconfig; name one with --kubeconfig\n";
    assert_eq!((code, error.as_str()), (2, expected));
}

/// A user whose credentials come from a script.
fn plug_in(setup: &Setup, script: &str) -> Value {
    let path = setup.path("plug-in");
    write_script(&path, script).unwrap();
    json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": path, "interactiveMode": "Never",
        "env": [{"name": "ANSWER", "value": TOKEN}],
    }})
}

#[tokio::test]
async fn an_exec_plug_in_provides_the_token() {
    let server = openshift().await;
    let setup = Setup::serve();
    let answer = r#"/bin/echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "'"$ANSWER"'"}}'"#;
    let user = plug_in(&setup, answer);
    let layerpin = named(setup, &server.kubeconfig_for(&user)).start();
    is_known(&layerpin).await;
    assert!(!layerpin.log.text().contains(TOKEN));
}

#[tokio::test]
async fn a_failing_or_hanging_plug_in_delays_neither_start_nor_stop() {
    let server = openshift().await;
    for (script, told) in [
        ("echo $ANSWER; echo $ANSWER >&2; exit 3", "failed (exit status: 3); run it by hand to see why"),
        ("echo $ANSWER", "printed no ExecCredential"),
        ("read forever < never", "has not answered yet"),
    ] {
        let setup = Setup::serve();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            setup.path("never"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let user = plug_in(&setup, script);
        let expected = format!(
            "no credentials for the API server: the exec plug-in `{}` {told}",
            setup.path("plug-in").display()
        );
        let mut layerpin = named(setup, &server.kubeconfig_for(&user)).start();
        let log = eventually("the log says so", async || {
            let told = layerpin.log.with_message("cannot read from the cluster");
            told.into_iter().next()
        })
        .await;
        assert_eq!(log["reason"], expected);
        layerpin.signal(rustix::process::Signal::INT);
        assert!(layerpin.end().await.success());
        assert!(!layerpin.log.text().contains(TOKEN));
    }
}

#[tokio::test]
async fn in_a_pod_the_mounted_account_is_used() {
    let server = openshift().await;
    let folder = tempfile::tempdir().unwrap();
    let service = ("127.0.0.1".to_owned(), server.address.port().to_string());
    let environment = ClusterEnvironment {
        service: Some(service),
        account: folder.path().to_owned(),
        ..ClusterEnvironment::default()
    };
    let find = || ClusterAccess::find(&ClusterChoice::default(), &environment);
    assert!(find().unwrap().is_none(), "a pod without a service account has no cluster");
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    let told = find().unwrap_err().to_string();
    let expected = format!("service account in {}: ca.crt: ", folder.path().display());
    assert!(told.starts_with(&expected), "{told}");
    std::fs::write(folder.path().join("ca.crt"), &server.authority).unwrap();
    let source = ClusterSource::new(find().unwrap().unwrap(), QUICK).unwrap();
    source.read(&registry(), Instant::now() + Duration::from_secs(30)).await;
    assert!(matches!(source.facts().version, Fact::Known(_)), "{:?}", source.unknown());
}

/// `layerpin pin` on a tag that only the pull secret of the cluster gives access to.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_reads_the_cluster_once_and_within_its_timeout() {
    let images = Registry::builder().basic_auth("alice", "opensesame").start().unwrap();
    let digest = images.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let server = openshift().await;
    let auths = json!({"auths": {images.host(): {"username": "alice", "password": "opensesame"}}});
    server.put(SECRETS, pull_secret(&auths.to_string()));
    let run = |timeout: &str| {
        let setup = Setup::verb("pin");
        let object = machine_config().image(&format!("{}/acme/os:1", images.host()));
        let path = setup.write("worker.yaml", &object.to_string());
        let setup = named(setup, &server.kubeconfig()).arguments(["--timeout", timeout]);
        setup.arguments([path]).ended()
    };
    let (code, diff, error) = run("20s");
    assert!(diff.contains(&digest), "{diff}{error}");
    assert_eq!(code, 0, "{error}");
    assert_eq!((server.requests("WATCH"), server.requests(&format!("GET {SECRETS}"))), (0, 1));

    server.freeze(true);
    let begun = Instant::now();
    let (_, diff, _) = run("500ms");
    assert_eq!(diff, "");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_api_server_certificate_must_be_issued_by_the_ca_of_the_kubeconfig() {
    let server = openshift().await;
    let other = layerpin_sample_registry::Authority::named("another").ca_pem();
    let with = |bundle: &str| {
        let mut kubeconfig = server.kubeconfig();
        let data = &mut kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"];
        *data = BASE64_STANDARD.encode(bundle).into();
        kubeconfig
    };
    let layerpin = named(Setup::serve(), &with(&other)).start();
    let told = layerpin.log.message("cannot read from the cluster").await;
    let expected =
        format!("cannot reach the API server {}: invalid peer certificate: UnknownIssuer", server.address);
    assert_eq!(told["reason"], expected);
    // Text between certificates is a comment.
    is_known(&named(Setup::serve(), &with(&format!("{other}rubbish\n{}", server.authority))).start()).await;
}

#[tokio::test]
async fn the_log_names_the_cluster() {
    let server = openshift().await;
    let layerpin = named(Setup::serve(), &server.kubeconfig()).start();
    let line = layerpin.log.message("watching the cluster").await;
    let origin = format!("kubeconfig {}", layerpin.path("kubeconfig").display());
    assert_eq!((&line["server"], &line["origin"]), (&json!(server.address.to_string()), &json!(origin)));
}
