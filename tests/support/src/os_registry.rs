//! The registry that most tests about one image need.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::Image;

/// A registry that holds one OS image, as `acme/os:1`.
pub struct OsRegistry {
    /// The registry.
    pub registry: Registry,
    /// Its host and port.
    pub host: String,
    /// The digest of the image.
    pub digest: String,
}

impl OsRegistry {
    /// Starts the registry.
    pub fn start() -> Self {
        let registry = Registry::start().unwrap();
        let digest = registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
        Self { host: registry.host(), registry, digest }
    }
}
