//! The form of a MachineConfig in JSON, as far as it is judged.
//!
//! Fields that are not named here are skipped while reading and never kept.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};

use crate::bounded;
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::{FieldImage, Object};

/// The fields of a MachineConfig that are judged, as JSON has them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MachineConfig {
    pub(crate) api_version: Option<String>,
    pub(crate) kind: Option<String>,
    metadata: Option<WireMetadata>,
    spec: Option<WireSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMetadata {
    name: Option<String>,
    generate_name: Option<String>,
    #[serde(default, deserialize_with = "labels")]
    labels: BTreeMap<String, String>,
    annotations: Option<WireAnnotations>,
}

#[derive(Debug, Default, Deserialize)]
struct WireSpec {
    #[serde(rename = "osImageURL")]
    os_image: Option<String>,
    #[serde(rename = "baseOSExtensionsContainerImage")]
    extensions_image: Option<String>,
    #[serde(rename = "kernelType")]
    kernel_type: Option<String>,
    #[serde(default, deserialize_with = "first_extensions")]
    extensions: Vec<String>,
}

impl MachineConfig {
    pub(crate) fn name(&self) -> Option<String> {
        let metadata = self.metadata.as_ref()?;
        let given = metadata.name.clone().filter(|name| !name.is_empty());
        given.or_else(|| {
            metadata.generate_name.as_ref().filter(|name| !name.is_empty()).map(|name| format!("{name}*"))
        })
    }
}

impl From<MachineConfig> for Object {
    fn from(object: MachineConfig) -> Self {
        let metadata = object.metadata.unwrap_or_default();
        let has_annotations = metadata.annotations.is_some();
        let annotations = metadata.annotations.unwrap_or_default();
        let spec = object.spec.unwrap_or_default();
        let image = |text: Option<String>| {
            let text = text.filter(|text| !text.is_empty())?;
            Some(FieldImage { reference: ImageReference::parse(&text), text })
        };
        Self {
            labels: metadata.labels,
            kernel_type: spec.kernel_type.unwrap_or_default(),
            extensions: spec.extensions,
            is_generated: annotations.generated_by.is_some(),
            images: [image(spec.os_image), image(spec.extensions_image)].into(),
            records: [annotations.pinned_from, annotations.extensions_pinned_from].into(),
            repin: annotations.repin.as_deref() == Some("true"),
            has_annotations,
        }
    }
}

/// Their number is bounded, because a caller of `/dry-run` may send megabytes of them; leaving some out
/// instead could hide an object from the selector of its pool.
fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    bounded::strings(deserializer, MAX_LABELS, "labels")
}

/// What matters is whether there are any, and some names.
fn first_extensions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let mut kept = Vec::new();
    bounded::each_item(deserializer, |name| {
        if kept.len() < MAX_EXTENSIONS {
            kept.push(name);
        }
        Ok(())
    })?;
    Ok(kept)
}

/// More labels than any stored object has; the API server limits the size of an object, not its labels.
pub(crate) const MAX_LABELS: usize = 1024;
/// More extensions than the Machine Config Operator supports, which is seven.
pub const MAX_EXTENSIONS: usize = 32;

/// The annotations of this project and of the Machine Config Operator.
#[derive(Debug, Default, Deserialize)]
struct WireAnnotations {
    #[serde(rename = "layerpin.io/pinned-from")]
    pinned_from: Option<String>,
    #[serde(rename = "layerpin.io/extensions-pinned-from")]
    extensions_pinned_from: Option<String>,
    #[serde(rename = "layerpin.io/repin")]
    repin: Option<String>,
    #[serde(rename = "machineconfiguration.openshift.io/generated-by-controller-version")]
    generated_by: Option<IgnoredAny>,
}
