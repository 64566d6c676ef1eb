//! The answers that are expected.

use layerpin::model::digest::Digest;
use layerpin::policy::Policy;
use layerpin_test_support::documents::UID;
use serde_json::{Value, json};

/// A review whose response has these fields and the uid.
pub(crate) fn answer(members: Value) -> Value {
    let mut response = json!({"uid": UID});
    response.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

/// The answer to an object that passes unchanged.
pub(crate) fn untouched() -> Value {
    answer(json!({"allowed": true}))
}

/// The answer of `/validate` under the built-in policy to an object without findings.
pub(crate) fn passed() -> Value {
    answer(json!({"allowed": true, "auditAnnotations": {"verdict": "pass", "policy": recommended()}}))
}

/// The answer of `/validate` under the built-in policy to an object that it denies.
pub(crate) fn denied(findings: &str, message: &str) -> Value {
    denied_by(&recommended(), findings, message)
}

/// The answer of `/validate` to an object that `policy` denies.
pub(crate) fn denied_by(policy: &str, findings: &str, message: &str) -> Value {
    answer(json!({
        "allowed": false,
        "status": {"code": 403, "reason": "Forbidden", "message": message},
        "auditAnnotations": {"verdict": "deny", "findings": findings, "policy": policy},
    }))
}

/// The answer of `/validate` to an object for which `policy` warns.
pub(crate) fn warned_by(policy: &str, findings: &str, warnings: &[&str]) -> Value {
    answer(json!({
        "allowed": true,
        "warnings": warnings,
        "auditAnnotations": {"verdict": "warn", "findings": findings, "policy": policy},
    }))
}

/// The answer of `/mutate` to an image that it cannot pin.
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
    Digest::parse(digest).unwrap().short()
}

fn named(policy: &Policy) -> String {
    format!("{}@{}", policy.name(), policy.hash())
}
