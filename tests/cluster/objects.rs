//! Objects as OpenShift's API server sends them, with more fields than are read.

use layerpin_test_support::documents;
use serde_json::{Value, json};

/// `ClusterVersion/version` that runs `release`.
pub(crate) fn version(release: &str) -> Value {
    json!({
        "metadata": {"name": "version", "generation": 3},
        "spec": {"channel": "stable-4.18", "clusterID": "a"},
        "status": {
            "desired": {"version": release, "image": image(release), "channels": ["stable-4.18"]},
            "history": [
                {"state": "Partial", "startedTime": "t", "completionTime": null, "version": release,
                 "image": image(release), "verified": true},
                {"state": "Completed", "startedTime": "t", "completionTime": "t", "version": "4.18.13",
                 "image": image("4.18.13"), "verified": false},
            ],
            "availableUpdates": null,
            "observedGeneration": 3,
        },
    })
}

/// The pull spec of a release payload.
pub(crate) fn image(release: &str) -> String {
    format!("quay.io/ocp/release:{release}")
}

/// `ControllerConfig/machine-config-controller`, with a secret that must not be kept.
pub(crate) fn controller_config(base: &str) -> Value {
    json!({
        "metadata": {
            "name": "machine-config-controller",
            "annotations": {"machineconfiguration.openshift.io/release-image-version": "4.18.14"},
        },
        "spec": {
            "baseOSContainerImage": base,
            "internalRegistryPullSecret": SENSITIVE,
            "releaseImage": "quay.io/ocp/release:bootstrap",
            "osImageURL": "",
        },
    })
}

/// The ConfigMap with the image of the release.
pub(crate) fn os_image_url(base: &str) -> Value {
    json!({
        "metadata": {"name": "machine-config-osimageurl", "namespace": "openshift-machine-config-operator"},
        "data": {"releaseVersion": "4.18.14", "baseOSContainerImage": base, "osImageURL": ""},
    })
}

/// `OSImageStream/cluster`.
pub(crate) fn streams() -> Value {
    json!({
        "metadata": {
            "name": "cluster",
            "annotations": {"machineconfiguration.openshift.io/release-payload-image": image("4.18.14")},
        },
        "spec": {},
        "status": {
            "defaultStream": "rhel-9",
            "availableStreams": [
                {"name": "rhel-9", "osImage": "quay.io/ocp/os@sha256:09", "osExtensionsImage": "x"},
                {"name": "rhel-10", "osImage": "quay.io/ocp/os@sha256:10", "osExtensionsImage": "x"},
            ],
        },
    })
}

/// A MachineConfigPool as the operator creates it.
pub(crate) fn pool(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "machineConfigSelector": {"matchExpressions": [
                {"key": "machineconfiguration.openshift.io/role", "operator": "In", "values": ["worker", name]},
            ]},
            "nodeSelector": {"matchLabels": {format!("node-role.kubernetes.io/{name}"): ""}},
            "paused": false,
            "osImageStream": {"name": "rhel-10"},
        },
        "status": {"machineCount": 3},
    })
}

/// A MachineConfig for the pool `worker`.
pub(crate) fn machine_config(name: &str, image: &str) -> Value {
    documents::machine_config()
        .named(name)
        .image(image)
        .field("baseOSExtensionsContainerImage", Value::Null)
        .ignition()
        .field("kernelArguments", Value::Null)
        .field("kernelType", "realtime")
        .field("extensions", ["usbguard"].as_slice())
        .field("fips", false)
        .into_json()
}

/// A rendered MachineConfig of the pool `worker`.
pub(crate) fn rendered(name: &str) -> Value {
    let mut object = machine_config(name, "quay.io/ocp/os@sha256:09");
    object["metadata"] = json!({
        "name": name,
        "annotations": {"machineconfiguration.openshift.io/generated-by-controller-version": "abc"},
        "ownerReferences": [{
            "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfigPool",
            "name": "worker", "uid": "u", "controller": true, "blockOwnerDeletion": true,
        }],
    });
    object
}

/// A node with these roles.
pub(crate) fn node(name: &str, roles: &[&str], architecture: &str) -> Value {
    let labels: serde_json::Map<_, _> =
        roles.iter().map(|role| (format!("node-role.kubernetes.io/{role}"), "".into())).collect();
    json!({
        "metadata": {"name": name, "labels": labels},
        "status": {"nodeInfo": {"architecture": architecture, "operatingSystem": "linux"}, "images": []},
    })
}

/// The global pull secret with this text.
pub(crate) fn pull_secret(text: &str) -> Value {
    use base64::prelude::{BASE64_STANDARD, Engine};
    json!({
        "metadata": {"name": "pull-secret", "namespace": "openshift-config"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": BASE64_STANDARD.encode(text)},
    })
}

/// Must not appear anywhere.
pub(crate) const SENSITIVE: &str = "c2Vuc2l0aXZlLXB1bGwtc2VjcmV0";
