//! The global pull secret as the credentials of the registry client in a running server.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::Image;
use layerpin_test_support::documents::{create, machine_config};
use layerpin_test_support::eventually::eventually;
use layerpin_test_support::program::{Layerpin, Setup};
use serde_json::{Value, json};

use crate::api_server::{ApiServer, SECRETS};
use crate::objects::pull_secret;

/// Credentials of the only user of the registry.
fn auths(registry: &Registry) -> Value {
    use base64::prelude::{BASE64_STANDARD, Engine};
    json!({registry.host(): {"auth": BASE64_STANDARD.encode("alice:opensesame")}})
}

/// Starts the program with `server` as its cluster.
pub(crate) fn start(server: &ApiServer, more: impl FnOnce(Setup) -> Setup) -> Layerpin {
    let setup = Setup::serve();
    let path = setup.write("kubeconfig", &server.kubeconfig().to_string());
    more(setup.arguments(["--kubeconfig".as_ref(), path.as_os_str()])).start()
}

/// The response of `/validate` for a digest that needs the credentials: whether it is allowed, and the text.
pub(crate) async fn judged(layerpin: &Layerpin, registry: &Registry, repository: &str) -> (bool, String) {
    let digest = registry.push(repository, None, &Image::base("4.18.1"));
    let image = format!("{}/{repository}@{digest}", registry.host());
    let review = layerpin.webhooks.review("/validate", &create(&machine_config().image(&image))).await;
    let allowed = review["response"]["allowed"].as_bool().unwrap();
    (allowed, review["response"].to_string())
}

/// Waits until the log has this number of lines with this message.
pub(crate) async fn logged(layerpin: &Layerpin, message: &str, count: usize) {
    let claim = format!("{count} times: {message}");
    eventually(&claim, async || (layerpin.log.with_message(message).len() >= count).then_some(())).await;
    assert_eq!(layerpin.log.with_message(message).len(), count);
}

const CHANGED: &str = "registry credentials changed";
const NOT_TAKEN: &str = "cannot use the registry credentials; still using the previous ones";

#[tokio::test]
async fn registry_credentials_are_those_of_the_pull_secret_and_follow_its_changes() {
    let registry = Registry::builder().basic_auth("alice", "opensesame").start().unwrap();
    let good = json!({"auths": auths(&registry)}).to_string();
    let server = ApiServer::start().await;
    server.put(SECRETS, pull_secret(&good));
    let mut other = pull_secret(&json!({"auths": {}}).to_string());
    other["metadata"]["name"] = "another".into();
    server.put(SECRETS, other);
    let layerpin = start(&server, |setup| setup);
    logged(&layerpin, CHANGED, 1).await;
    let (allowed, told) = judged(&layerpin, &registry, "acme/one").await;
    assert!(allowed && !told.contains("unpullable-image"), "{told}");

    for (text, count) in [("{\"auths\": {\"a.b\": {\"auth\": [\"hunter2\"]}}}", 1), ("hunter2", 2)] {
        server.put(SECRETS, pull_secret(text));
        logged(&layerpin, NOT_TAKEN, count).await;
        assert!(judged(&layerpin, &registry, &format!("acme/broken-{count}")).await.0);
    }
    let mut keyless = pull_secret("");
    keyless["data"] = json!({});
    server.put(SECRETS, keyless);
    logged(&layerpin, NOT_TAKEN, 3).await;

    server.put(SECRETS, pull_secret("{}"));
    logged(&layerpin, CHANGED, 2).await;
    let (allowed, told) = judged(&layerpin, &registry, "acme/emptied").await;
    // Nodes have no credentials either, so they are refused too.
    assert!(!allowed && told.contains("there are no credentials for it"), "{told}");

    server.put(SECRETS, pull_secret(&good));
    logged(&layerpin, CHANGED, 3).await;
    assert!(judged(&layerpin, &registry, "acme/back").await.0);

    server.delete(SECRETS, "pull-secret");
    logged(&layerpin, CHANGED, 4).await;
    let (allowed, told) = judged(&layerpin, &registry, "acme/deleted").await;
    // The credentials of the nodes are no longer known.
    assert!(allowed && told.contains("whether nodes can pull"), "{told}");

    let faults: Vec<_> = layerpin
        .log
        .with_message(NOT_TAKEN)
        .iter()
        .map(|line| line["error"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        faults,
        [
            "line 1, column 27: not a dockerconfigjson; {\"auths\": {\"quay.io\": {\"auth\": \"…\"}}} is expected",
            "line 1, column 1: not a dockerconfigjson; {\"auths\": {\"quay.io\": {\"auth\": \"…\"}}} is expected",
            "it has no key `.dockerconfigjson`",
        ]
    );
    let log = layerpin.log.text();
    assert!(!log.contains("hunter2") && !log.contains("opensesame"), "{log}");
    let encoded = auths(&registry).to_string();
    let encoded = encoded.split('"').rev().nth(1).unwrap();
    assert!(!log.contains(encoded), "{log}");
}

#[tokio::test]
async fn a_broken_entry_of_the_pull_secret_affects_only_its_registry() {
    let [sound, broken] =
        [(); 2].map(|()| Registry::builder().basic_auth("alice", "opensesame").start().unwrap());
    let mut entries = auths(&sound);
    entries[broken.host()] = json!({"auth": "hunter2%"});
    let server = ApiServer::start().await;
    server.put(SECRETS, pull_secret(&json!({"auths": entries}).to_string()));
    let layerpin = start(&server, |setup| setup);
    logged(&layerpin, CHANGED, 1).await;
    let message = "an entry of the registry credentials cannot be used; the other entries are used";
    logged(&layerpin, message, 1).await;
    let line = layerpin.log.with_message(message).remove(0);
    let host = broken.host();
    let fault = format!("entry `{host}`: `auth` is not `user:password` in base64");
    assert_eq!((&line["origin"], &line["fault"]), (&json!("the global pull secret"), &json!(fault)));

    let (allowed, told) = judged(&layerpin, &sound, "acme/sound").await;
    assert!(allowed && !told.contains("unpullable-image"), "{told}");
    let (_, told) = judged(&layerpin, &broken, "acme/broken").await;
    // The rest does not fit into a warning.
    assert!(told.contains(&format!("no credentials for {host}: entry `{host}`: `auth` is no")), "{told}");
    assert_eq!(broken.connections(), 0);
    assert!(!layerpin.log.text().contains("hunter2"));
}

#[tokio::test]
async fn an_auth_file_takes_precedence_and_the_secret_is_not_read() {
    let registry = Registry::builder().basic_auth("alice", "opensesame").start().unwrap();
    let server = ApiServer::start().await;
    server.put(SECRETS, pull_secret("{}"));
    let layerpin = start(&server, |setup| setup.auths(&auths(&registry)));
    eventually("the cluster is read", async || {
        layerpin.admin.get("/readyz").await.text.contains("[+]cluster ok\n").then_some(())
    })
    .await;
    assert!(judged(&layerpin, &registry, "acme/os").await.0);
    assert_eq!(server.requests("secrets"), 0);
}
