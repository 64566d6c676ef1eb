//! Components of a release.

use std::collections::BTreeMap;

/// A component as the ImageStream of a release payload lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    pub(super) name: String,
    pub(super) pull_spec: String,
    pub(super) annotations: BTreeMap<String, String>,
}

impl Component {
    /// Makes a component of this name and pull spec.
    pub fn new(name: &str, pull_spec: &str) -> Self {
        Self { name: name.to_owned(), pull_spec: pull_spec.to_owned(), annotations: BTreeMap::new() }
    }

    /// Makes an operating system, with its OS stream and its version as a release states them.
    pub fn os(name: &str, pull_spec: &str, stream: &str, version: &str) -> Self {
        Self::new(name, pull_spec)
            .with_annotation("io.openshift.build.source-location", "https://github.com/openshift/os")
            .with_annotation("io.openshift.build.versions", &format!("machine-os={version}"))
            .with_annotation("io.openshift.os.streamclass", stream)
    }

    /// Sets one annotation, in place of an earlier value.
    pub fn with_annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.to_owned());
        self
    }
}
