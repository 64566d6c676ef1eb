//! The pull secret and the mirror sets of a real API server, changed while Layerpin runs.

use base64::prelude::{BASE64_STANDARD, Engine};
use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::Image;
use layerpin_test_support::eventually::eventually_blocking;
use serde_json::{Value, json};

use crate::cluster::{machine_config, take_turn};
use crate::kubectl::Caller;
use crate::rights::Account;
use crate::servers::Layerpin;

/// Waits until `/dry-run` says of `image` what is expected of it, and returns that.
fn says(account: &Account<'_>, layerpin: &Layerpin, image: &str, expected: impl Fn(&str) -> bool) {
    eventually_blocking(image, || {
        let token = Caller::User.token();
        let (status, report) = account.dry_run(layerpin, Some(&token), &machine_config("x", image));
        if status == 200 && expected(&report) { Ok(()) } else { Err(format!("{status} {report}")) }
    });
}

fn is_pullable(report: &str) -> bool {
    !report.contains("unpullable-image")
}

#[test]
fn the_pull_secret_and_the_mirror_sets_are_followed() {
    let Some(turn) = take_turn() else { return };
    let mirror = Registry::builder().basic_auth("alice", "opensesame").start().unwrap();
    let push = |version: &str| mirror.push("acme/os", Some("1"), &Image::base(version));
    let account = Account::new(&turn);
    let apply = |object: &Value| {
        turn.kubectl_on(Caller::Admin, &["apply"], object).accepted("an object is applied");
    };
    let secret = |auths: Value| {
        let text = BASE64_STANDARD.encode(json!({"auths": auths}).to_string());
        apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": "pull-secret", "namespace": "openshift-config"},
            "data": {".dockerconfigjson": text},
        }));
    };
    let set = |kind: &str, list: &str, source: &str| {
        let mirrors = [format!("{}/acme", mirror.host())];
        apply(&json!({
            "apiVersion": "config.openshift.io/v1", "kind": kind, "metadata": {"name": "layerpin-test"},
            "spec": {list: [{"source": source, "mirrors": mirrors}]},
        }));
    };
    let auth = BASE64_STANDARD.encode("alice:opensesame");
    secret(json!({mirror.host(): {"auth": auth}}));
    let layerpin = account.start("layerpin-registries");
    account.says(&layerpin, "[+]cluster ok");
    // No name here leads anywhere, so what is found was found at the mirror.
    set("ImageDigestMirrorSet", "imageDigestMirrors", "one.example/acme");
    says(&account, &layerpin, &format!("one.example/acme/os@{}", push("4.18.1")), is_pullable);
    says(&account, &layerpin, "one.example/acme/os:1", |report| !is_pullable(report));
    set("ImageTagMirrorSet", "imageTagMirrors", "one.example/acme");
    says(&account, &layerpin, "one.example/acme/os:1", is_pullable);

    set("ImageDigestMirrorSet", "imageDigestMirrors", "two.example/acme");
    says(&account, &layerpin, &format!("two.example/acme/os@{}", push("4.18.2")), is_pullable);
    let other = format!("one.example/acme/os@{}", push("4.18.3"));
    says(&account, &layerpin, &other, |report| !is_pullable(report));

    secret(json!({}));
    let refused = format!("two.example/acme/os@{}", push("4.18.4"));
    says(&account, &layerpin, &refused, |report| report.contains("there are no credentials for it"));
    for kind in ["imagedigestmirrorset", "imagetagmirrorset"] {
        turn.kubectl(Caller::Admin, &["delete", kind, "layerpin-test"]).accepted("a set is deleted");
    }
    let log = layerpin.log();
    for secret in ["opensesame", auth.as_str()] {
        assert!(!log.contains(secret), "{log}");
    }
}
