//! The folders of `deploy/` as their users apply them.

use std::collections::BTreeSet;

use layerpin_test_support::repository;
use serde_json::Value;

use crate::cluster::{Turn, take_turn};
use crate::kubectl::Caller;

#[test]
fn every_overlay_is_accepted_and_applying_it_twice_changes_nothing() {
    let Some(turn) = take_turn() else { return };
    for overlay in ["deploy", "deploy/openshift", "deploy/cert-manager"] {
        let applied = Applied::new(&turn, overlay);
        let before = applied.versions();
        let answer = turn.kubectl(Caller::Admin, &["apply", "--validate=strict", &applied.folder]);
        let answer = answer.accepted("applying it again");
        assert_eq!(answer.warnings(), [""; 0], "{overlay}");
        // kubectl always sends the selector of this kind again, and the API server finds nothing new in it.
        let expected = ["poddisruptionbudget.policy/layerpin configured"];
        let changed: Vec<_> = answer.stdout.lines().filter(|line| !line.ends_with(" unchanged")).collect();
        assert_eq!(changed, expected, "{overlay}");
        assert_eq!(applied.versions(), before, "{overlay}");
        assert!(before.lines().count() >= 10, "{overlay}:\n{before}");
        turn.kubectl(Caller::Admin, &["diff", &applied.folder]).accepted("there is no difference to show");
    }
}

#[test]
fn the_namespace_lets_the_pods_in() {
    let Some(turn) = take_turn() else { return };
    for overlay in ["deploy/openshift", "deploy/cert-manager"] {
        let _applied = Applied::new(&turn, overlay);
        // A namespace refuses pods only when they come, and here nothing makes them from the deployment.
        let arguments = ["get", "deployment", "--namespace=layerpin", "layerpin", "--output=json"];
        let deployment = turn.kubectl(Caller::Admin, &arguments).accepted("the deployment is there").stdout;
        let mut pod = serde_json::from_str::<Value>(&deployment).unwrap()["spec"]["template"].take();
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod["metadata"]["name"] = "layerpin".into();
        pod["metadata"]["namespace"] = "layerpin".into();
        let create = ["create", "--validate=strict", "--dry-run=server"];
        let answer = turn.kubectl_on(Caller::Admin, &create, &pod).accepted("the namespace lets it in");
        // One would be of a field that is unknown, or of what the restricted standard forbids.
        assert_eq!(answer.warnings(), [""; 0]);
    }
}

/// What the other tests are judged by is what a user applies.
#[test]
fn the_webhooks_of_these_tests_differ_from_the_overlay_in_address_and_authority_alone() {
    let Some(turn) = take_turn() else { return };
    let folder = format!("--kustomize={}", repository().join("deploy/openshift").display());

    let difference = turn.kubectl(Caller::Admin, &["diff", &folder]);

    let lines = difference.stdout.lines().filter(|line| !line.starts_with("---") && !line.starts_with("+++"));
    let changed: BTreeSet<_> = lines.filter(|line| line.starts_with(['-', '+'])).map(without_value).collect();
    let expected = [
        "+ name:",
        "+ namespace:",
        "+ path:",
        "+ port:",
        "+ service:",
        "- caBundle:",
        "- url:",
        "- generation:",
        "+ generation:",
    ];
    assert_eq!(changed, expected.map(str::to_owned).into(), "{}", difference.stdout);
}

#[test]
fn where_the_namespace_of_the_pull_secret_is_not_there_the_first_line_names_it() {
    let Some(turn) = take_turn() else { return };
    let overlay = repository().join("deploy/openshift");
    turn.delete_namespace("openshift-config");

    let overlay = format!("--kustomize={}", overlay.display());
    let answer = turn.kubectl(Caller::Admin, &["apply", &overlay]);

    turn.add_what_overlays_need();
    turn.point_webhooks_at_layerpin();
    let first = answer.stderr.lines().next().unwrap_or_default();
    assert!(first.ends_with(r#"namespaces "openshift-config" not found"#), "{}", answer.stderr);
    let told = answer.stderr.lines().filter(|line| line.contains("not found")).count();
    assert_eq!(told, 2, "only the role and its binding: {}", answer.stderr);
}

/// A changed line of a manifest with its key alone.
fn without_value(line: &str) -> String {
    let (sign, rest) = line.split_at(1);
    format!("{sign} {}:", rest.trim_start().split(':').next().unwrap())
}

/// An overlay that is applied for the time of one test.
struct Applied<'a> {
    turn: &'a Turn,
    folder: String,
}

impl<'a> Applied<'a> {
    fn new(turn: &'a Turn, overlay: &str) -> Self {
        let folder = format!("--kustomize={}", repository().join(overlay).display());
        turn.kubectl(Caller::Admin, &["apply", "--validate=strict", &folder])
            .accepted("the overlay is accepted");
        Self { turn, folder }
    }

    /// Each object with its version, which every write to it changes.
    fn versions(&self) -> String {
        let columns = "--output=custom-columns=:.kind,:.metadata.name,:.metadata.resourceVersion";
        let arguments = ["get", "--no-headers", columns, &self.folder];
        self.turn.kubectl(Caller::Admin, &arguments).accepted("every object is there").stdout
    }
}

impl Drop for Applied<'_> {
    fn drop(&mut self) {
        // The rest stays: nothing here would ever finish the deletion of a namespace.
        if !std::thread::panicking() {
            self.turn.point_webhooks_at_layerpin();
        }
    }
}
