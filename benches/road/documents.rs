//! What is sent: reviews as the API server writes them.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::Image;
use layerpin_test_support::documents::{self, MachineConfig, create, update};
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
        let usual = |image: &str| create(&machine_config(image, &files(3, 200))).to_string();
        let count = 100;
        let large = |image: &str| machine_config(image, &files(count, LARGE.bytes / count));
        Self {
            pinned: usual(&pinned(&one)),
            tagged: usual(&format!("{host}/acme/os:4.18")),
            large_update: update(&large(&pinned(&two)), &large(&pinned(&one))).to_string(),
            host,
        }
    }

    /// A review with a tag that nobody asked for yet.
    pub(crate) fn with_new_tag(&self) -> String {
        create(&machine_config(&format!("{}/acme/os:{NEW_TAG}", self.host), &files(1, 10))).to_string()
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

fn machine_config(image: &str, files: &[Value]) -> MachineConfig {
    documents::machine_config()
        .metadata_field("creationTimestamp", "2026-01-31T12:00:00Z")
        .metadata_field("generation", 1)
        .metadata_field("uid", "3d0f3d7c-5f0e-4d3c-9e3a-0d6f6f3f2b11")
        .image(image)
        .field("config", json!({"ignition": {"version": "3.4.0"}, "storage": {"files": files}}))
}
