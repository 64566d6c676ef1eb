//! `--client-ca` and the API server, set up as `deploy/README.md` says.

use std::fs;

use layerpin_sample_registry::Authority;
use layerpin_test_support::eventually::eventually_blocking;
use layerpin_test_support::repository;
use serde_json::json;

use crate::cluster::{Turn, machine_config, take_turn_of_change};
use crate::getting_started::blocks;
use crate::kubectl::{Answer, Caller};
use crate::servers::Layerpin;
use crate::webhooks::Webhooks;

#[test]
fn the_api_server_is_heard_with_its_certificate_and_costs_what_the_failure_policy_says_without() {
    let Some(mut turn) = take_turn_of_change() else { return };
    let (authority, callers) = (Authority::new(), Authority::named("callers"));
    fs::write(turn.folder().join("callers.crt"), callers.ca_pem()).unwrap();
    let start = |name| {
        let arguments = ["--no-cluster", "--client-ca=callers.crt"];
        Layerpin::start_by(&[], name, turn.folder(), &authority, &arguments)
    };
    let [named, unnamed] = ["named-in-kubeconfig", "not-named-in-kubeconfig"].map(start);
    show_certificate(&turn, &named, &callers);
    turn.restart_api_server(|| ());

    turn.put_in_force([Webhooks::at(&named.url, &authority.ca_pem()).under("Fail")]);
    let reason = turn.apply(&machine_config("by-certificate", "os")).refused("a review gets through");
    assert!(reason.contains("denied the request: [malformed-reference] "), "{reason}");

    let tag = format!("{}/client/os:1", turn.registry.host());
    let object = machine_config("without-certificate", &tag);
    turn.apply_webhooks(&Webhooks::at(&unnamed.url, &authority.ca_pem()).under("Fail"));
    let fails = |answer: &Answer| answer.stderr.contains(r#"failed calling webhook "validate.layerpin.io""#);
    // Go's client has the alert for its request only where the request was under way before the alert came.
    // Otherwise it says that the connection could not be established, and the server's log is left.
    eventually_blocking("the handshake fails, and the API server says why", || {
        let answer = turn.kubectl_on(Caller::User, &["create", "--dry-run=server"], &object);
        let says_why = answer.stderr.contains("tls: certificate required");
        if fails(&answer) && says_why { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    let answer = turn.apply(&object);
    assert!(!answer.succeeded && fails(&answer), "{answer:?}");
    assert_eq!(turn.stored("without-certificate"), None);
    eventually_blocking("the server's log says why", || {
        let says_why =
            unnamed.log().contains("the client sent no certificate, but `--client-ca` requires one");
        if says_why { Ok(()) } else { Err(unnamed.log()) }
    });

    turn.apply_webhooks(&Webhooks::at(&unnamed.url, &authority.ca_pem()).under("Ignore"));
    eventually_blocking("nobody judges", || {
        let answer = turn.apply(&object);
        if answer.succeeded { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    assert_eq!(turn.stored("without-certificate").unwrap()["spec"], json!({"osImageURL": tag}));
    let told = [named.log().contains("by-certificate"), unnamed.log().contains("without-certificate")];
    assert_eq!(told, [true, false], "{}", unnamed.log());
}

/// Has the API server show a certificate of `callers` to `layerpin`, from its next start on: the files of
/// `deploy/README.md`, for an address in place of the service.
fn show_certificate(turn: &Turn, layerpin: &Layerpin, callers: &Authority) {
    let folder = turn.folder();
    let identity = callers.issue_client("apiserver");
    fs::write(folder.join("layerpin-client.crt"), identity.certificate_pem()).unwrap();
    fs::write(folder.join("layerpin-client.key"), identity.key_pem()).unwrap();
    let page = fs::read_to_string(repository().join("deploy/README.md")).unwrap();
    let (there, here) = ("/etc/kubernetes/admission", folder.to_str().unwrap());
    let address = layerpin.url.strip_prefix("https://").unwrap();
    let files: Vec<_> = blocks(&page).into_iter().filter(|(_, text)| text.contains(there)).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    for (_, text) in files {
        let path = text.lines().next().unwrap().strip_prefix("# ").unwrap().replace(there, here);
        let text = text.replace(there, here).replace("layerpin.layerpin.svc", address);
        fs::write(path, text).unwrap();
    }
}
