//! The webhooks of `deploy/`, changed as a user changes them: by a kustomization on top of an overlay.
//!
//! Here no Service leads anywhere and nobody fills in the authority, so every test changes these two.

use std::fs;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use layerpin_test_support::repository;
use serde_json::{Value, json};

/// Changes to the overlay for OpenShift.
pub(crate) struct Webhooks {
    /// As entries of `patches` of a kustomization.
    patches: Vec<Value>,
}

impl Webhooks {
    /// An address in place of the service, and the authorities that OpenShift would fill in, in PEM.
    pub(crate) fn at(url: &str, authorities: &str) -> Self {
        let authorities = BASE64_STANDARD.encode(authorities);
        let patches = KINDS.map(|(kind, path)| {
            let client = json!({"url": format!("{url}{path}"), "caBundle": authorities});
            let operations = json!([
                {"op": "test", "path": "/webhooks/0/clientConfig/service/path", "value": path},
                {"op": "replace", "path": "/webhooks/0/clientConfig", "value": client},
            ]);
            patch(kind, &operations)
        });
        Self { patches: patches.into() }
    }

    /// Another `failurePolicy` for `/validate`.
    pub(crate) fn under(mut self, failure_policy: &str) -> Self {
        let operation =
            json!({"op": "replace", "path": "/webhooks/0/failurePolicy", "value": failure_policy});
        self.patches.push(patch("ValidatingWebhookConfiguration", &json!([operation])));
        self
    }

    /// Another name for both configurations, beside which those of the overlay stay as they are.
    pub(crate) fn named(self, name: &str) -> Self {
        self.both(&json!({"op": "replace", "path": "/metadata/name", "value": name}))
    }

    /// One condition more for both.
    pub(crate) fn on_condition(self, name: &str, expression: &str) -> Self {
        let condition = json!({"name": name, "expression": expression});
        self.both(&json!({"op": "add", "path": "/webhooks/0/matchConditions/-", "value": condition}))
    }

    /// Writes the kustomization into `folder`.
    pub(crate) fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        let kustomization = json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [way(folder, &repository().join("deploy/openshift"))],
            "patches": self.patches,
        });
        fs::write(folder.join("kustomization.yaml"), kustomization.to_string()).unwrap();
    }

    fn both(mut self, operation: &Value) -> Self {
        self.patches.extend(KINDS.map(|(kind, _)| patch(kind, &json!([operation]))));
        self
    }
}

fn patch(kind: &str, operations: &Value) -> Value {
    let options = json!({"allowNameChange": true});
    json!({"target": {"kind": kind}, "patch": operations.to_string(), "options": options})
}

/// The path from one folder to another; kustomize takes no other for a folder.
fn way(from: &Path, to: &Path) -> PathBuf {
    let [from, to] = [from, to].map(|folder| folder.canonicalize().unwrap());
    let up = from.components().skip(1).map(|_| "..");
    up.collect::<PathBuf>().join(to.strip_prefix("/").unwrap())
}

const KINDS: [(&str, &str); 2] =
    [("MutatingWebhookConfiguration", "/mutate"), ("ValidatingWebhookConfiguration", "/validate")];
