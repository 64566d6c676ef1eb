//! What is sent: reviews as the API server writes them.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::Image;
use serde_json::{Value, json};

/// The reviews, as bytes to be sent.
pub(crate) struct Reviews {
    /// A new object with a digest that the registry has.
    pub(crate) pinned: String,
    /// A new object with a tag that the registry has.
    pub(crate) tagged: String,
    /// The update of an object of nearly the largest size, from one digest to another.
    pub(crate) large_update: String,
    host: String,
}

/// The large update, and by when it must be answered.
pub(crate) struct Large {
    /// Bytes of each of its two objects.
    pub(crate) bytes: usize,
    /// The time for its answer.
    pub(crate) milliseconds: f64,
}

/// 3 MB for both objects together.
pub(crate) const LARGE: Large = Large { bytes: 1_500_000, milliseconds: 10.0 };

impl Reviews {
    /// Pushes the images and writes the reviews.
    pub(crate) fn of(registry: &Registry) -> Self {
        let host = registry.host();
        let one = registry.push("acme/os", Some("4.18"), &Image::base("4.18.1"));
        let two = registry.push("acme/os", Some("4.19"), &Image::base("4.19.1"));
        let pinned = |digest: &str| format!("{host}/acme/os@{digest}");
        let usual = |image: &str| create(&machine_config(image, &files(3, 200)));
        let count = 100;
        let large = |image: &str| machine_config(image, &files(count, LARGE.bytes / count));
        Self {
            pinned: usual(&pinned(&one)),
            tagged: usual(&format!("{host}/acme/os:4.18")),
            large_update: review("UPDATE", &large(&pinned(&two)), &large(&pinned(&one))),
            host,
        }
    }

    /// A review with a tag that nobody asked for yet.
    pub(crate) fn with_new_tag(&self) -> String {
        create(&machine_config(&format!("{}/acme/os:{NEW_TAG}", self.host), &files(1, 10)))
    }
}

/// The tag of [`Reviews::with_new_tag`].
pub(crate) const NEW_TAG: &str = "new";

/// Files as Ignition holds them, in the encoding that the Machine Config Operator writes.
fn files(count: usize, bytes: usize) -> Vec<Value> {
    let content = "data:text/plain;charset=utf-8;base64,".to_owned() + &"bGF5ZXJwaW4K".repeat(bytes / 12 + 1);
    let file = |index| {
        json!({
            "path": format!("/etc/layerpin/{index}.conf"), "mode": 420, "overwrite": true,
            "contents": {"source": content[..bytes.max(40)]},
        })
    };
    (0..count).map(file).collect()
}

fn machine_config(image: &str, files: &[Value]) -> Value {
    json!({
        "apiVersion": "machineconfiguration.openshift.io/v1",
        "kind": "MachineConfig",
        "metadata": {
            "name": "99-worker-os",
            "labels": {"machineconfiguration.openshift.io/role": "worker"},
            "creationTimestamp": "2026-01-31T12:00:00Z", "generation": 1,
            "uid": "3d0f3d7c-5f0e-4d3c-9e3a-0d6f6f3f2b11",
        },
        "spec": {
            "osImageURL": image,
            "config": {"ignition": {"version": "3.4.0"}, "storage": {"files": files}},
        },
    })
}

fn create(object: &Value) -> String {
    review("CREATE", object, &Value::Null)
}

fn review(operation: &str, object: &Value, stored: &Value) -> String {
    let kind =
        json!({"group": "machineconfiguration.openshift.io", "version": "v1", "kind": "MachineConfig"});
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "0b4d6f2e-97b1-4a75-8f5c-5d8f1c2a3b4c",
            "kind": kind, "requestKind": kind,
            "resource": {
                "group": "machineconfiguration.openshift.io", "version": "v1", "resource": "machineconfigs",
            },
            "name": "99-worker-os",
            "operation": operation,
            "userInfo": {"username": "alice", "groups": ["system:masters", "system:authenticated"]},
            "object": object,
            "oldObject": stored,
            "dryRun": false,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    });
    review.to_string()
}
