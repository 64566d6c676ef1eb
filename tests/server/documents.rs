//! What is said: MachineConfigs, reviews of them, and the answers that are expected.

use layerpin::policy::Policy;
use serde_json::{Value, json};

pub(crate) const UID: &str = "0b4d6f2e-97b1-4a75-8f5c-5d8f1c2a3b4c";
pub(crate) const RECORD: &str = "layerpin.io/pinned-from";
pub(crate) const EXTENSIONS_RECORD: &str = "layerpin.io/extensions-pinned-from";
pub(crate) const REPIN: &str = "layerpin.io/repin";
/// A digest that no registry here has.
pub(crate) const NOWHERE: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A MachineConfig for the pool `worker`, without annotations.
pub(crate) fn machine_config(image: &str) -> Value {
    json!({
        "apiVersion": "machineconfiguration.openshift.io/v1",
        "kind": "MachineConfig",
        "metadata": {
            "name": "99-worker-os",
            "labels": {"machineconfiguration.openshift.io/role": "worker"},
        },
        "spec": {
            "osImageURL": image,
            "config": {"ignition": {"version": "3.4.0"}},
        },
    })
}

/// The same with annotations.
pub(crate) fn annotated(image: &str, annotations: Value) -> Value {
    let mut object = machine_config(image);
    object["metadata"]["annotations"] = annotations;
    object
}

/// The review of a new object.
pub(crate) fn create(object: &Value) -> Value {
    review("CREATE", object, &Value::Null)
}

/// The review of an object that replaces another.
pub(crate) fn update(object: &Value, stored: &Value) -> Value {
    review("UPDATE", object, stored)
}

/// A review as the API server writes it.
pub(crate) fn review(operation: &str, object: &Value, stored: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": UID,
            "kind": {"group": "machineconfiguration.openshift.io", "version": "v1", "kind": "MachineConfig"},
            "resource": {
                "group": "machineconfiguration.openshift.io", "version": "v1", "resource": "machineconfigs",
            },
            "requestKind": {
                "group": "machineconfiguration.openshift.io", "version": "v1", "kind": "MachineConfig",
            },
            "name": "99-worker-os",
            "operation": operation,
            "userInfo": {"username": "alice", "groups": ["system:authenticated"]},
            "object": object,
            "oldObject": stored,
            "dryRun": false,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    })
}

/// The review that answers with these members beside the uid.
pub(crate) fn answer(members: Value) -> Value {
    let mut response = json!({"uid": UID});
    response.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

/// The answer to what passes untouched.
pub(crate) fn untouched() -> Value {
    answer(json!({"allowed": true}))
}

/// The answer of `/validate` under the built-in policy to what it finds nothing in.
pub(crate) fn passed() -> Value {
    answer(json!({"allowed": true, "auditAnnotations": {"verdict": "pass", "policy": recommended()}}))
}

/// The answer of `/validate` under the built-in policy to what it denies.
pub(crate) fn denied(findings: &str, message: &str) -> Value {
    denied_by(&recommended(), findings, message)
}

/// The answer of `/validate` to what `policy` denies.
pub(crate) fn denied_by(policy: &str, findings: &str, message: &str) -> Value {
    answer(json!({
        "allowed": false,
        "status": {"code": 403, "reason": "Forbidden", "message": message},
        "auditAnnotations": {"verdict": "deny", "findings": findings, "policy": policy},
    }))
}

/// The answer of `/validate` to what `policy` warns of.
pub(crate) fn warned_by(policy: &str, findings: &str, warnings: &[&str]) -> Value {
    answer(json!({
        "allowed": true,
        "warnings": warnings,
        "auditAnnotations": {"verdict": "warn", "findings": findings, "policy": policy},
    }))
}

/// The answer of `/mutate` to what it cannot pin.
pub(crate) fn not_pinned(warning: &str) -> Value {
    answer(json!({"allowed": true, "warnings": [warning]}))
}

/// The built-in policy as audit annotations name it.
pub(crate) fn recommended() -> String {
    named(&Policy::recommended())
}

/// The policy in a text, as audit annotations name it.
pub(crate) fn policy_of(text: &str) -> String {
    named(&Policy::parse(text).unwrap())
}

/// `object` after the patch in `answer`.
pub(crate) fn patched(object: &Value, answer: &Value) -> Value {
    let mut object = object.clone();
    let patch: json_patch::Patch = serde_json::from_value(answer["response"]["patch"].clone()).unwrap();
    json_patch::patch(&mut object, &patch).unwrap();
    object
}

/// A digest as warnings show it.
pub(crate) fn short(digest: &str) -> String {
    layerpin::model::digest::Digest::parse(digest).unwrap().short()
}

fn named(policy: &Policy) -> String {
    format!("{}@{}", policy.name(), policy.hash())
}
