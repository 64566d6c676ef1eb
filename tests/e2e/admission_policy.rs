//! `policies/without-webhook/`: what the API server judges by itself, against the rules in Rust.
//!
//! The objects here carry no role label, so the webhooks are not asked about them.

use std::collections::BTreeMap;

use layerpin::model::image_reference::ImageReference;
use layerpin_test_support::eventually::eventually_blocking;
use layerpin_test_support::repository;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Turn, machine_config, take_turn};
use crate::kubectl::Caller;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn the_policy_and_the_rules_agree_on_every_reference() {
    let Some(turn) = take_turn() else { return };
    let cluster = &*Policy::in_force(turn, "deny");
    let vectors = include_str!("../vectors/image_references.jsonl");
    let references: Vec<String> = vectors
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned())
        .collect();
    for field in ["osImageURL", "baseOSExtensionsContainerImage"] {
        let items: Vec<Value> = references
            .iter()
            .enumerate()
            .map(|(row, text)| without_role(&format!("row-{row:04}"), &json!({ (field): text })))
            .collect();
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        let answer = cluster.kubectl_on(Caller::User, &["create", "--dry-run=server"], &list);
        let denials = denials(&answer.stderr);
        let mut differences = String::new();
        for (row, text) in references.iter().enumerate() {
            let found = denials.get(&format!("row-{row:04}")).map_or("", String::as_str);
            let expected = expected(text);
            if found != expected {
                differences += &format!("{text:?}\n  expected {expected}\n  found    {found}\n");
            }
        }
        assert!(differences.is_empty(), "{field}:\n{differences}");
        assert!(denials.len() > 100 && denials.len() < references.len(), "{}", denials.len());
    }
}

#[test]
fn the_policy_leaves_alone_what_the_operator_writes_and_what_stays_as_it_is() {
    let Some(turn) = take_turn() else { return };
    let cluster = &*Policy::in_force(turn, "deny");
    let tag = json!({ "osImageURL": "quay.io/acme/os:1" });

    let rendered = without_role("rendered-worker-00112233445566778899aabbccddeeff", &tag);
    cluster
        .kubectl_on(Caller::MachineConfigController, &["create"], &rendered)
        .accepted("the operator renders a tag");
    let denial =
        cluster.kubectl_on(Caller::User, &["create"], &without_role("by-a-user", &tag)).refused("a tag");
    assert!(denial.contains("[floating-tag] "), "{denial}");

    // The name proves nothing, and what is stored already stays as it is.
    let name = "rendered-worker-00112233445566778899aabbccddeeff";
    cluster
        .kubectl(Caller::User, &["label", "machineconfig", name, "colour=blue"])
        .accepted("the image stays as it is");
    let patch = r#"--patch={"spec":{"osImageURL":"quay.io/acme/os:2"}}"#;
    let denial = cluster
        .kubectl(Caller::User, &["patch", "machineconfig", name, "--type=merge", patch])
        .refused("another tag");
    assert!(denial.contains("`quay.io/acme/os:2` is a tag, not a digest"), "{denial}");
    cluster
        .kubectl(Caller::User, &["patch", "machineconfig", name, "--type=merge", r#"--patch={"spec":null}"#])
        .accepted("an image can be taken out");
    cluster.kubectl(Caller::User, &["delete", "machineconfig", name]).accepted("and the object, too");
}

#[test]
fn all_faults_are_reported_together() {
    let Some(turn) = take_turn() else { return };
    let cluster = &*Policy::in_force(turn, "deny");
    let spec = json!({
        "osImageURL": "os:4.18",
        "baseOSExtensionsContainerImage": format!("quay.io/acme/extensions:1@{DIGEST}"),
    });
    let object = without_role("two-faults", &spec);
    let answer = cluster.kubectl_on(Caller::User, &["create", "--dry-run=server"], &object);
    let denial = answer.refused("two faults");
    let (_, denial) = denial.split_once(" denied request: ").expect("a denial by the policy");
    assert_eq!(
        denial.trim_end(),
        format!(
            "[malformed-reference] `os:4.18` is not an image reference that nodes can pull (/spec/osImageURL); write \
             registry/path@sha256:<digest>; [malformed-reference] `quay.io/acme/extensions:1@{DIGEST}` has a tag and a \
             digest together, which nodes refuse to pull (/spec/baseOSExtensionsContainerImage); write \
             `quay.io/acme/extensions@{DIGEST}`"
        )
    );
}

#[test]
fn the_warning_binding_warns_and_lets_pass() {
    let Some(turn) = take_turn() else { return };
    let cluster = &*Policy::in_force(turn, "warn");
    let object = without_role("warned", &json!({ "osImageURL": "quay.io/acme/os" }));
    let answer = cluster.kubectl_on(Caller::User, &["create", "--dry-run=server"], &object);
    let answer = answer.accepted("a warning is no denial");
    assert_eq!(
        answer.warnings(),
        [
            "Validation failed for ValidatingAdmissionPolicy 'layerpin-references' with binding 'layerpin-references': \
             [floating-tag] `quay.io/acme/os` has neither tag nor digest (/spec/osImageURL); write \
             `quay.io/acme/os@sha256:<digest>`"
        ]
    );
}

/// The policy, with one of its bindings, for the time of one test.
struct Policy {
    turn: Turn,
    folder: String,
}

impl Policy {
    /// Applies the folder as its users would, and waits until the API server judges by it.
    fn in_force(turn: Turn, binding: &str) -> Self {
        let folder =
            format!("--kustomize={}", repository().join("policies/without-webhook").join(binding).display());
        let policy = Self { turn, folder };
        policy.kubectl(Caller::Admin, &["apply", &policy.folder]).accepted("applying the policy");
        let again = policy.kubectl(Caller::Admin, &["apply", &policy.folder]).accepted("applying it again");
        assert!(again.stdout.lines().all(|line| line.ends_with(" unchanged")), "{}", again.stdout);
        policy.probe("the policy is in force", true);
        policy
    }

    fn probe(&self, claim: &str, speaks: bool) {
        let probe = without_role("probe", &json!({ "osImageURL": "quay.io/acme/os:1" }));
        eventually_blocking(claim, || {
            let answer = self.kubectl_on(Caller::User, &["create", "--dry-run=server"], &probe);
            if answer.stderr.contains("[floating-tag]") == speaks {
                Ok(())
            } else {
                Err(format!("{answer:?}"))
            }
        });
    }
}

impl std::ops::Deref for Policy {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.turn
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        let answer = self.kubectl(Caller::Admin, &["delete", "--ignore-not-found", &self.folder]);
        if !std::thread::panicking() {
            answer.accepted("taking the policy away");
            self.probe("the policy is gone", false);
        }
    }
}

/// What the policy says of each object, by its name: the id of the rule, or what else stood there.
fn denials(stderr: &str) -> BTreeMap<String, String> {
    stderr
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once("machineconfigs.machineconfiguration.openshift.io \"")?;
            let (name, rest) = rest.split_once('"')?;
            let rule = rest.split_once("denied request: [").and_then(|(_, rest)| rest.split_once(']'));
            Some((name.to_owned(), rule.map_or(rest, |(rule, _)| rule).to_owned()))
        })
        .collect()
}

/// What the rules in Rust say of `text`.
fn expected(text: &str) -> &'static str {
    if text.is_empty() {
        return "";
    }
    match ImageReference::parse(text) {
        Err(_) => "malformed-reference",
        Ok(reference) if reference.is_pinned() => "",
        Ok(reference) if reference.digest().is_some() => "malformed-reference",
        Ok(_) => "floating-tag",
    }
}

fn without_role(name: &str, spec: &Value) -> Value {
    let mut object = machine_config(name, "").metadata_field("labels", json!({})).into_json();
    object["spec"] = spec.clone();
    object
}
