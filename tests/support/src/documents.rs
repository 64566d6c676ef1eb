//! Documents that the tests send: MachineConfigs, reviews, policies, facts, kubeconfigs and auth files.
//!
//! A test that is about the bytes of a document writes them itself.

use std::fmt;
use std::ops::Deref;

use serde::Serialize;
use serde_json::{Map, Value, json};

/// The uid of every [`review`].
pub const UID: &str = "0b4d6f2e-97b1-4a75-8f5c-5d8f1c2a3b4c";
/// The annotation that records what `osImageURL` was before it was pinned.
pub const RECORD: &str = "layerpin.io/pinned-from";
/// The same for `baseOSExtensionsContainerImage`.
pub const EXTENSIONS_RECORD: &str = "layerpin.io/extensions-pinned-from";
/// The annotation that asks for the image that the tag names now.
pub const REPIN: &str = "layerpin.io/repin";
/// The label that selects the pool.
pub const ROLE: &str = "machineconfiguration.openshift.io/role";
/// A valid digest that no registry of the tests has.
pub const NOWHERE: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A MachineConfig `99-worker-os` of the pool `worker`, without an image.
pub fn machine_config() -> MachineConfig {
    MachineConfig(json!({
        "apiVersion": "machineconfiguration.openshift.io/v1",
        "kind": "MachineConfig",
        "metadata": {"name": "99-worker-os", "labels": {ROLE: "worker"}},
        "spec": {},
    }))
}

/// A MachineConfig that is built step by step, and read as the JSON that it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct MachineConfig(Value);

impl MachineConfig {
    /// Sets the name.
    pub fn named(mut self, name: &str) -> Self {
        self.0["metadata"]["name"] = name.into();
        self
    }

    /// Moves it to another pool.
    pub fn of_pool(self, pool: &str) -> Self {
        self.label(ROLE, pool)
    }

    /// Removes all labels, as the operator renders a MachineConfig.
    pub fn without_labels(mut self) -> Self {
        self.metadata().remove("labels");
        self
    }

    /// Adds a label, or changes it.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = value.into();
        self
    }

    /// Adds an annotation, or changes it.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["annotations"][key] = value.into();
        self
    }

    /// Sets all annotations. An empty map stays an empty map.
    pub fn annotations(self, annotations: Value) -> Self {
        self.metadata_field("annotations", annotations)
    }

    /// Sets any other field of the metadata.
    pub fn metadata_field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.metadata().insert(name.to_owned(), value.into());
        self
    }

    /// Sets `osImageURL`.
    pub fn image(self, image: &str) -> Self {
        self.field("osImageURL", image)
    }

    /// Sets `baseOSExtensionsContainerImage`.
    pub fn extensions_image(self, image: &str) -> Self {
        self.field("baseOSExtensionsContainerImage", image)
    }

    /// Adds an Ignition config, which most MachineConfigs have.
    pub fn ignition(self) -> Self {
        self.field("config", json!({"ignition": {"version": "3.4.0"}}))
    }

    /// Sets any other field of the spec.
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0["spec"][name] = value.into();
        self
    }

    /// The JSON, for a change that no other method makes.
    pub fn into_json(self) -> Value {
        self.0
    }

    /// The YAML in block style, two spaces for each level. Strings are written as they are, without
    /// quotation marks, so that a test can choose how they are quoted.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        for key in ["apiVersion", "kind", "metadata", "spec"] {
            write_yaml(key, &self.0[key], "", &mut text);
        }
        text
    }

    fn metadata(&mut self) -> &mut Map<String, Value> {
        self.0["metadata"].as_object_mut().unwrap()
    }
}

impl Deref for MachineConfig {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

impl fmt::Display for MachineConfig {
    /// Writes JSON in one line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

fn write_yaml(key: &str, value: &Value, indent: &str, text: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            *text += &format!("{indent}{key}:\n");
            // A name is the first thing that a person writes.
            let (name, others): (Vec<_>, Vec<_>) = fields.iter().partition(|(key, _)| *key == "name");
            for (key, value) in name.into_iter().chain(others) {
                write_yaml(key, value, &format!("{indent}  "), text);
            }
        }
        Value::String(value) => *text += &format!("{indent}{key}: {value}\n"),
        other => *text += &format!("{indent}{key}: {other}\n"),
    }
}

/// The review of a new object.
pub fn create(object: &Value) -> Value {
    review("CREATE", object, &Value::Null)
}

/// The review of an object that replaces a stored one.
pub fn update(object: &Value, stored: &Value) -> Value {
    review("UPDATE", object, stored)
}

/// A review as the API server writes it, of a request by `alice`.
pub fn review(operation: &str, object: &Value, stored: &Value) -> Value {
    let kind =
        json!({"group": "machineconfiguration.openshift.io", "version": "v1", "kind": "MachineConfig"});
    let name = [object, stored].into_iter().find_map(|object| object["metadata"]["name"].as_str());
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": UID,
            "kind": kind,
            "resource": {
                "group": "machineconfiguration.openshift.io", "version": "v1", "resource": "machineconfigs",
            },
            "requestKind": kind,
            "name": name.unwrap_or("99-worker-os"),
            "operation": operation,
            "userInfo": {"username": "alice", "groups": ["system:authenticated"]},
            "object": object,
            "oldObject": stored,
            "dryRun": false,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    })
}

/// The same review of a request by somebody else.
pub fn by(user: &str, mut review: Value) -> Value {
    review["request"]["userInfo"]["username"] = user.into();
    review
}

/// A policy file called `test` with this `spec`, which is indented by two.
pub fn policy(spec: &str) -> String {
    format!("apiVersion: layerpin.io/v1alpha1\nkind: OSImagePolicy\nmetadata: {{name: test}}\nspec:\n{spec}")
}

/// Facts as `--save-facts` writes them, in which each of these references has the digest beside it.
pub fn facts(digests: &[(&str, &str)]) -> Value {
    let manifest = |(reference, digest): &(&str, &str)| {
        let (host, _) = reference.split_once('/').unwrap();
        let manifest = json!({"digest": digest, "kind": "index", "endpoint": host});
        ((*reference).to_owned(), json!({"known": manifest}))
    };
    let manifests: Map<_, _> = digests.iter().map(manifest).collect();
    json!({"observedAt": "2026-01-15T12:00:00Z", "manifests": manifests})
}

/// A kubeconfig with one context `test`, for `cluster` and `user` as a kubeconfig describes them.
pub fn kubeconfig(cluster: &Value, user: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    })
}

/// The text of an auth file with these entries.
pub fn auth_file(auths: &Value) -> String {
    json!({"auths": auths}).to_string()
}
