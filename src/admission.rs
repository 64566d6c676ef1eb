//! The AdmissionReview: decoded from bytes to a [`Review`], and encoded from an [`AdmissionAnswer`] to bytes.
//!
//! Owns the form of a review, which objects pass untouched, and the length of warnings. Of the objects only the few
//! fields that are checked are kept; no tree of them is built.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;

use base64::prelude::{BASE64_STANDARD, Engine};
use json_patch::Patch;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::evaluate::{Finding, Verdict};
use crate::model::machine_config::{GROUP, MachineConfig, Object, Operation, Origin, RESOURCE, Subject};
use crate::policy::Level;
use crate::text::shown;

/// The maximum size of a review in bytes.
///
/// An UPDATE has the new and the old object. Each may have the 1.5 MiB that etcd stores at most, and more when it is
/// escaped as JSON, with the fields that the API server adds.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;

/// A decoded AdmissionReview.
#[derive(Debug)]
pub struct Review {
    /// What identifies the request.
    pub head: ReviewHead,
    /// What to do with the object.
    pub disposition: Disposition,
}

/// What identifies a review in its response, in the log and in the metrics.
#[derive(Debug, Default)]
pub struct ReviewHead {
    /// `request.uid`, which the response repeats.
    pub uid: String,
    /// `request.operation` as written.
    pub operation: String,
    /// The name of the object, empty when the request has none.
    pub name: String,
    /// `request.userInfo.username`.
    pub user: String,
    /// `request.dryRun`: nothing will be stored.
    pub dry_run: bool,
}

/// What a review asks for.
#[derive(Debug)]
pub enum Disposition {
    /// Check this object.
    Judge(Box<Subject>),
    /// Let it pass untouched.
    Pass(PassReason),
    /// It is a MachineConfig with a field that cannot be read.
    Unreadable(String),
}

/// Why an object passes without a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassReason {
    /// It is not a MachineConfig.
    OtherResource,
    /// It is neither created nor updated.
    OtherOperation,
    /// The Machine Config Operator writes it.
    OperatorAccount,
    /// It has no image.
    NoImage,
    /// The update changes nothing that is checked.
    Unchanged,
}

impl PassReason {
    /// The reason in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherResource => "not a MachineConfig",
            Self::OtherOperation => "operation is neither CREATE nor UPDATE",
            Self::OperatorAccount => "written by the Machine Config Operator",
            Self::NoImage => "object has no image",
            Self::Unchanged => "update changes no checked field",
        }
    }
}

/// A body that is not an AdmissionReview that can be answered: what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAReview(String);

impl NotAReview {
    fn invalid(fault: impl Display) -> Self {
        Self(format!("the body is not a valid AdmissionReview: {fault}"))
    }
}

/// Decodes a review.
///
/// Fails when there is no uid to answer with. A fault in the object is not an error: it becomes
/// [`Disposition::Unreadable`].
pub fn decode(body: &[u8]) -> Result<Review, NotAReview> {
    if body.is_empty() {
        let message = "the body is empty; expected an AdmissionReview of admission.k8s.io/v1";
        return Err(NotAReview(message.to_owned()));
    }
    // Checked as a whole, the text needs no check string by string.
    let envelope = match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str::<Envelope<'_, MachineConfig>>(text),
        Err(_) => serde_json::from_slice(body),
    };
    match envelope {
        Ok(envelope) => {
            let request = envelope.request()?;
            let mut head = request.head();
            let disposition = request.pass_reason().map_or_else(|| judge(request), Disposition::Pass);
            if let Disposition::Judge(subject) = &disposition {
                head.name.clone_from(&subject.name);
            }
            Ok(Review { head, disposition })
        }
        Err(_) => decode_head(body),
    }
}

/// Decodes a review without its objects, which could not be read, so that the response has the uid.
fn decode_head(body: &[u8]) -> Result<Review, NotAReview> {
    let envelope: Envelope<'_, IgnoredAny> = serde_json::from_slice(body).map_err(NotAReview::invalid)?;
    let request = envelope.request()?;
    let head = request.head();
    if let Some(reason) = request.pass_reason() {
        return Ok(Review { head, disposition: Disposition::Pass(reason) });
    }
    // This is slower, and needed only for the path in the message.
    let deserializer = &mut serde_json::Deserializer::from_slice(body);
    let message = match serde_path_to_error::deserialize::<_, Envelope<'_, MachineConfig>>(deserializer) {
        Ok(_) => "the object cannot be decoded".to_owned(),
        Err(error) => {
            let path = error.path().to_string();
            let inner = error.into_inner().to_string();
            let inner = inner.split(" at line ").next().unwrap_or_default().to_owned();
            format!("`{}`: {}", shown(path.trim_start_matches("request.")), shown(&inner))
        }
    };
    Ok(Review { head, disposition: Disposition::Unreadable(message) })
}

fn judge(request: AdmissionRequestBody<'_, MachineConfig>) -> Disposition {
    let Some(object) = request.object else {
        return Disposition::Unreadable("`object` is missing".to_owned());
    };
    let operation = if request.operation == "UPDATE" { Operation::Update } else { Operation::Create };
    let name = object.name().or(request.name.map(Cow::into_owned)).unwrap_or_default();
    let subject = Subject {
        name,
        operation,
        object: Object::from(*object),
        stored: request.old_object.filter(|_| operation == Operation::Update).map(|old| Object::from(*old)),
        origin: Origin::default(),
    };
    if !subject.object.names_an_image() {
        return Disposition::Pass(PassReason::NoImage);
    }
    if !subject.changes_what_is_judged() {
        return Disposition::Pass(PassReason::Unchanged);
    }
    Disposition::Judge(Box::new(subject))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a, O> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default = "Option::default")]
    request: Option<AdmissionRequestBody<'a, O>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AdmissionRequestBody<'a, O> {
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
    #[serde(borrow, default)]
    resource: GroupVersionResource<'a>,
    #[serde(borrow, default)]
    sub_resource: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    operation: Cow<'a, str>,
    #[serde(borrow, default)]
    user_info: UserInfo<'a>,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(default = "Option::default")]
    object: Option<Box<O>>,
    #[serde(default = "Option::default")]
    old_object: Option<Box<O>>,
}

#[derive(Default, Deserialize)]
struct GroupVersionResource<'a> {
    #[serde(borrow, default)]
    group: Cow<'a, str>,
    #[serde(borrow, default)]
    resource: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
struct UserInfo<'a> {
    #[serde(borrow, default)]
    username: Cow<'a, str>,
}

impl<'a, O> Envelope<'a, O> {
    fn request(self) -> Result<AdmissionRequestBody<'a, O>, NotAReview> {
        if self.kind.is_empty() && self.api_version.is_empty() {
            return Err(NotAReview::invalid("it has no `kind`"));
        }
        if self.kind != "AdmissionReview" || self.api_version != API_VERSION {
            let hint = if self.api_version == "admission.k8s.io/v1beta1" {
                "; set `admissionReviewVersions: [v1]` in the webhook configuration"
            } else {
                ""
            };
            let (kind, api_version) = (shown(&self.kind), shown(&self.api_version));
            return Err(NotAReview(format!(
                "the body is `{kind}` of `{api_version}`; expected `AdmissionReview` of `{API_VERSION}`{hint}"
            )));
        }
        let request = self.request.ok_or_else(|| NotAReview::invalid("it has no `request`"))?;
        if request.uid.is_empty() {
            return Err(NotAReview::invalid("it has no `request.uid`"));
        }
        Ok(request)
    }
}

impl<O> AdmissionRequestBody<'_, O> {
    fn head(&self) -> ReviewHead {
        ReviewHead {
            uid: self.uid.as_ref().to_owned(),
            operation: self.operation.as_ref().to_owned(),
            name: self.name.as_deref().unwrap_or_default().to_owned(),
            user: self.user_info.username.as_ref().to_owned(),
            dry_run: self.dry_run.unwrap_or_default(),
        }
    }

    fn pass_reason(&self) -> Option<PassReason> {
        let sub_resource = self.sub_resource.as_deref().unwrap_or_default();
        if self.resource.group != GROUP || self.resource.resource != RESOURCE || !sub_resource.is_empty() {
            return Some(PassReason::OtherResource);
        }
        if !matches!(&*self.operation, "CREATE" | "UPDATE") {
            return Some(PassReason::OtherOperation);
        }
        OPERATOR_ACCOUNTS.contains(&&*self.user_info.username).then_some(PassReason::OperatorAccount)
    }
}

/// The response to the API server.
#[derive(Clone, Debug, Default)]
pub struct AdmissionAnswer {
    /// The message of a denial; `None` allows the object.
    pub denial: Option<String>,
    /// The changes to the object.
    pub patch: Option<Patch>,
    /// Shown to the author of the object.
    pub warnings: Vec<String>,
    /// Written to the audit log of the API server, which puts the name of the webhook before each key.
    pub audit: BTreeMap<&'static str, String>,
}

impl AdmissionAnswer {
    /// Enforces a verdict.
    pub fn enforce(verdict: &Verdict) -> Self {
        let denial: Vec<String> = verdict.at(Level::Deny).map(denial).collect();
        let warnings = verdict.at(Level::Warn).map(warning);
        let excepted = verdict.excepted.iter().map(|excepted| {
            format!("[{}] excepted until {}: {}", excepted.rule.id, excepted.expires, excepted.reason)
        });
        let findings: Vec<_> = verdict
            .findings
            .iter()
            .map(|finding| format!("{}={}", finding.rule.id, finding.level.as_str()))
            .collect();
        let mut audit = BTreeMap::from([("verdict", verdict.outcome().as_str().to_owned())]);
        if !findings.is_empty() {
            audit.insert("findings", findings.join(","));
        }
        Self {
            denial: (!denial.is_empty()).then(|| denial.join("\n")),
            patch: None,
            warnings: warnings.chain(excepted).collect(),
            audit,
        }
    }
}

/// Writes the AdmissionReview that answers the request called `uid`.
///
/// Warnings are cut to [`MAX_WARNING`] characters, and control characters are replaced: the API server drops warnings
/// that have any.
pub fn respond(uid: &str, answer: &AdmissionAnswer) -> Vec<u8> {
    let patch = answer.patch.as_ref().filter(|patch| !patch.0.is_empty());
    let response = ReviewOut {
        api_version: API_VERSION,
        kind: "AdmissionReview",
        response: AdmissionResponseBody {
            uid,
            allowed: answer.denial.is_none(),
            status: answer.denial.as_deref().map(|message| ResponseStatus {
                code: 403,
                reason: "Forbidden",
                message,
            }),
            patch_type: patch.map(|_| "JSONPatch"),
            patch: patch.map(|patch| BASE64_STANDARD.encode(serde_json::to_vec(patch).unwrap_or_default())),
            warnings: answer.warnings.iter().map(|warning| fit(warning)).collect(),
            audit_annotations: &answer.audit,
        },
    };
    let mut bytes = Vec::with_capacity(USUAL_RESPONSE);
    // Strings, numbers and maps with text keys always serialize, and memory takes them.
    let _ = serde_json::to_writer(&mut bytes, &response);
    bytes
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReviewOut<'a> {
    api_version: &'a str,
    kind: &'a str,
    response: AdmissionResponseBody<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AdmissionResponseBody<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<ResponseStatus<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Cow<'a, str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: &'a BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct ResponseStatus<'a> {
    code: u16,
    reason: &'static str,
    message: &'a str,
}

/// A denial: the first line is complete, the explanation follows indented.
fn denial(finding: &Finding) -> String {
    let mut text = format!("[{}] {} ({})", finding.rule.id, finding.message, finding.field.pointer());
    for note in &finding.notes {
        text.push_str("\n  note: ");
        text.push_str(note);
    }
    text.push_str("\n  help: ");
    text.push_str(&finding.help);
    text
}

/// A warning is one line, with the help if it is short enough.
fn warning(finding: &Finding) -> String {
    let short = format!("[{}] {}", finding.rule.id, finding.message);
    let long = format!("{short}; {}", finding.help);
    if long.chars().count() <= AIMED_WARNING { long } else { short }
}

fn fit(warning: &str) -> Cow<'_, str> {
    if warning.len() <= MAX_WARNING && !warning.chars().any(char::is_control) {
        return Cow::Borrowed(warning);
    }
    let clean: String =
        warning.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    match clean.char_indices().nth(MAX_WARNING) {
        None => Cow::Owned(clean),
        Some(_) => clean.chars().take(MAX_WARNING - 1).chain(['…']).collect(),
    }
}

const API_VERSION: &str = "admission.k8s.io/v1";

/// The bytes of a response that has no more than the audit annotations.
const USUAL_RESPONSE: usize = 512;
/// The maximum length of a warning in characters, beyond which the API server cuts it.
pub const MAX_WARNING: usize = 256;
/// The length that the Kubernetes documentation recommends.
const AIMED_WARNING: usize = 120;

/// The accounts that the Machine Config Operator writes MachineConfigs with: `rendered-*`, the templates, and those for
/// kubelet and registry configs. To change or deny these would stop every pool, so they pass by identity; anybody may
/// set names and annotations.
const OPERATOR_ACCOUNTS: [&str; 2] = [
    "system:serviceaccount:openshift-machine-config-operator:machine-config-controller",
    "system:serviceaccount:openshift-machine-config-operator:machine-config-operator",
];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::machine_config::Field;

    fn request(operation: &str, object: Value, old_object: Value) -> Value {
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u-1", "name": "99-worker-os", "operation": operation,
                "kind": {"group": GROUP, "version": "v1", "kind": "MachineConfig"},
                "resource": {"group": GROUP, "version": "v1", "resource": RESOURCE},
                "userInfo": {"username": "alice", "groups": ["system:authenticated"]},
                "object": object, "oldObject": old_object, "dryRun": false, "options": {"kind": "CreateOptions"},
            },
        })
    }

    fn object(image: Value) -> Value {
        json!({
            "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfig",
            "metadata": {"name": "99-worker-os", "labels": {"machineconfiguration.openshift.io/role": "worker"}},
            "spec": {"osImageURL": image, "config": {"ignition": {"version": "3.4.0"}}},
        })
    }

    fn read(review: &Value) -> Review {
        decode(review.to_string().as_bytes()).unwrap()
    }

    fn pass_reason(review: &Value) -> PassReason {
        match read(review).disposition {
            Disposition::Pass(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_new_object_is_checked_with_its_fields() {
        let review = read(&request("CREATE", object(json!("quay.io/acme/os:1")), Value::Null));
        assert_eq!((review.head.uid.as_str(), review.head.name.as_str()), ("u-1", "99-worker-os"));
        let Disposition::Judge(subject) = review.disposition else { panic!() };
        assert_eq!(subject.operation, Operation::Create);
        assert_eq!(subject.object.text(Field::OsImage), "quay.io/acme/os:1");
        assert_eq!(subject.pools(), ["worker"]);
    }

    #[test]
    fn objects_that_are_not_checked_pass_with_the_reason() {
        let tagged = || object(json!("quay.io/acme/os:1"));
        let create = request("CREATE", tagged(), Value::Null);
        let with = |pointer: &str, value: Value| {
            let mut review = create.clone();
            *review.pointer_mut(pointer).unwrap() = value;
            review
        };
        let mut status = create.clone();
        status["request"]["subResource"] = json!("status");
        for (review, reason) in [
            (with("/request/resource/resource", json!("pods")), PassReason::OtherResource),
            (with("/request/resource/group", json!("")), PassReason::OtherResource),
            (status, PassReason::OtherResource),
            (request("DELETE", Value::Null, tagged()), PassReason::OtherOperation),
            (request("CONNECT", Value::Null, Value::Null), PassReason::OtherOperation),
            (with("/request/userInfo/username", json!(OPERATOR_ACCOUNTS[0])), PassReason::OperatorAccount),
            (with("/request/userInfo/username", json!(OPERATOR_ACCOUNTS[1])), PassReason::OperatorAccount),
            (request("CREATE", object(json!("")), Value::Null), PassReason::NoImage),
            (request("CREATE", object(Value::Null), Value::Null), PassReason::NoImage),
            (request("UPDATE", object(json!("")), tagged()), PassReason::NoImage),
            (request("UPDATE", tagged(), tagged()), PassReason::Unchanged),
        ] {
            assert_eq!(pass_reason(&review), reason, "{review}");
        }
    }

    #[test]
    fn names_and_annotations_exempt_nobody() {
        let mut rendered = object(json!("quay.io/acme/os:1"));
        rendered["metadata"]["name"] = json!("rendered-worker-0123456789abcdef");
        rendered["metadata"]["annotations"] =
            json!({"machineconfiguration.openshift.io/generated-by-controller-version": "x"});
        let mut review = request("CREATE", rendered, Value::Null);
        for user in ["system:admin", "system:serviceaccount:other:machine-config-controller"] {
            review["request"]["userInfo"]["username"] = json!(user);
            assert!(matches!(read(&review).disposition, Disposition::Judge(_)), "{user}");
        }
    }

    #[test]
    fn an_update_is_checked_when_it_changes_a_checked_field() {
        let stored = object(json!("quay.io/acme/os:1"));
        let changed = |pointer: &str, value: Value| {
            let mut object = stored.clone();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[key.replace("~1", "/")] = value;
            object
        };
        for (pointer, value, judged) in [
            ("/spec/osImageURL", json!("quay.io/acme/os:2"), true),
            ("/spec/baseOSExtensionsContainerImage", json!("quay.io/acme/ext:1"), true),
            ("/metadata/labels/machineconfiguration.openshift.io~1role", json!("master"), true),
            ("/metadata/labels/other", json!("x"), false),
            ("/spec/kernelArguments", json!(["quiet"]), false),
            ("/metadata/annotations", json!({"layerpin.io/repin": "true"}), true),
            ("/metadata/annotations", json!({"layerpin.io/repin": "false"}), false),
        ] {
            let review = read(&request("UPDATE", changed(pointer, value), stored.clone()));
            assert_eq!(matches!(review.disposition, Disposition::Judge(_)), judged, "{pointer}");
        }
    }

    #[test]
    fn a_fault_in_the_object_keeps_the_uid_and_has_the_path() {
        for (image, message) in [
            (json!(5), "`object.spec.osImageURL`: invalid type: integer `5`, expected a string"),
            (json!(["a"]), "`object.spec.osImageURL`: invalid type: sequence, expected a string"),
        ] {
            let review = read(&request("CREATE", object(image), Value::Null));
            assert_eq!(review.head.uid, "u-1");
            let Disposition::Unreadable(found) = review.disposition else { panic!() };
            assert_eq!(found, message);
        }
        let review = read(&request("CREATE", Value::Null, Value::Null));
        assert!(
            matches!(review.disposition, Disposition::Unreadable(message) if message == "`object` is missing")
        );
        let mut pod = request("CREATE", json!({"spec": "text", "metadata": []}), Value::Null);
        pod["request"]["resource"] = json!({"group": "", "resource": "pods"});
        assert_eq!(pass_reason(&pod), PassReason::OtherResource);
    }

    #[test]
    fn other_bodies_are_rejected_with_the_reason() {
        let review = request("CREATE", object(json!("a")), Value::Null).to_string();
        let no_uid = review.replace("u-1", "");
        for (body, message) in [
            ("", "the body is empty; expected an AdmissionReview of admission.k8s.io/v1"),
            ("hello", "the body is not a valid AdmissionReview: expected value at line 1 column 1"),
            ("{}", "the body is not a valid AdmissionReview: it has no `kind`"),
            (
                &review[..40],
                "the body is not a valid AdmissionReview: EOF while parsing a string at line 1 column 40",
            ),
            (
                &format!("{review}{review}"),
                &*format!(
                    "the body is not a valid AdmissionReview: trailing characters at line 1 column {}",
                    review.len() + 1
                ),
            ),
            (
                "{\"apiVersion\":\"v1\",\"kind\":\"Pod\"}",
                "the body is `Pod` of `v1`; expected `AdmissionReview` of `admission.k8s.io/v1`",
            ),
            (
                &review.replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1"),
                "the body is `AdmissionReview` of `admission.k8s.io/v1beta1`; expected `AdmissionReview` of \
                 `admission.k8s.io/v1`; set `admissionReviewVersions: [v1]` in the webhook configuration",
            ),
            (
                "{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\"}",
                "the body is not a valid AdmissionReview: it has no `request`",
            ),
            (&no_uid, "the body is not a valid AdmissionReview: it has no `request.uid`"),
        ] {
            let error = decode(body.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn deep_nesting_in_skipped_fields_is_harmless() {
        let mut deep = object(json!("quay.io/acme/os:1")).to_string();
        let nest = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        deep = deep.replace("\"3.4.0\"", &nest);
        let review = request("CREATE", json!("OBJECT"), Value::Null).to_string().replace("\"OBJECT\"", &deep);
        assert!(matches!(decode(review.as_bytes()).unwrap().disposition, Disposition::Judge(_)));
    }

    #[test]
    fn escaped_strings_are_decoded() {
        let review = request("CREATE", object(json!("quay.io/acme/os:1")), Value::Null)
            .to_string()
            .replace("alice", "al\\u0069ce")
            .replace("u-1", "u-\\u0031");
        assert_eq!(decode(review.as_bytes()).unwrap().head.uid, "u-1");
    }

    #[test]
    fn a_response_has_the_form_that_the_api_server_reads() {
        let answer = AdmissionAnswer {
            denial: Some("[floating-tag] no".into()),
            patch: Some(serde_json::from_value(json!([{"op": "remove", "path": "/a~1b"}])).unwrap()),
            warnings: vec!["a\nb".into(), "x".repeat(300)],
            audit: BTreeMap::from([("verdict", "deny".into())]),
        };
        let response: Value = serde_json::from_slice(&respond("u-1", &answer)).unwrap();
        let patch = BASE64_STANDARD.decode(response["response"]["patch"].as_str().unwrap()).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&patch).unwrap(),
            json!([{"op": "remove", "path": "/a~1b"}])
        );
        assert_eq!(
            response,
            json!({
                "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "response": {
                    "uid": "u-1", "allowed": false,
                    "status": {"code": 403, "reason": "Forbidden", "message": "[floating-tag] no"},
                    "patchType": "JSONPatch", "patch": response["response"]["patch"],
                    "warnings": ["a b", format!("{}…", "x".repeat(255))],
                    "auditAnnotations": {"verdict": "deny"},
                },
            })
        );
        let bare: Value = serde_json::from_slice(&respond("u-1", &AdmissionAnswer::default())).unwrap();
        assert_eq!(bare["response"], json!({"uid": "u-1", "allowed": true}));
    }

    #[test]
    fn the_manifests_exclude_the_same_accounts() {
        let webhooks = include_str!("../deploy/base/webhooks.yaml");
        let policy = include_str!("../policies/without-webhook/base/policy.yaml");
        for (manifest, places) in [(webhooks, 2), (policy, 1)] {
            let quoted = |account: &str| manifest.matches(&format!("'{account}'")).count();
            assert_eq!(OPERATOR_ACCOUNTS.map(quoted), [places; 2], "{manifest}");
            let named = manifest.matches("'system:serviceaccount:").count();
            assert_eq!(named, OPERATOR_ACCOUNTS.len() * places, "{manifest}");
        }
    }
}
