//! The form of a MachineConfig in JSON, as far as it is judged.
//!
//! Fields that are not named here are skipped while reading and never kept.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

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
    labels: Option<Labels>,
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
    extensions: Option<Extensions>,
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
            labels: metadata.labels.unwrap_or_default().0,
            kernel_type: spec.kernel_type.unwrap_or_default(),
            extensions: spec.extensions.unwrap_or_default().0,
            is_generated: annotations.generated_by.is_some(),
            images: [image(spec.os_image), image(spec.extensions_image)],
            records: [annotations.pinned_from, annotations.extensions_pinned_from],
            repin: annotations.repin.as_deref() == Some("true"),
            has_annotations,
        }
    }
}

/// The labels. Their number is bounded, because a caller of `/dry-run` may send megabytes of them;
/// to pass over some instead could hide an object from the selector of its pool.
#[derive(Debug, Default)]
struct Labels(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LabelsVisitor;
        impl<'de> Visitor<'de> for LabelsVisitor {
            type Value = Labels;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map of labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut labels = BTreeMap::new();
                // The API server reads null as the empty text.
                while let Some((key, value)) = map.next_entry::<String, Option<String>>()? {
                    labels.insert(key, value.unwrap_or_default());
                    if labels.len() > MAX_LABELS {
                        return Err(A::Error::custom(format_args!("more than {MAX_LABELS} labels")));
                    }
                }
                Ok(Labels(labels))
            }
        }
        deserializer.deserialize_map(LabelsVisitor)
    }
}

/// The extensions, the first of them: what matters is whether there are any, and some names.
#[derive(Debug, Default)]
struct Extensions(Vec<String>);

impl<'de> Deserialize<'de> for Extensions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ExtensionsVisitor;
        impl<'de> Visitor<'de> for ExtensionsVisitor {
            type Value = Extensions;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of extensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Extensions, A::Error> {
                let mut kept = Vec::new();
                while let Some(name) = items.next_element::<String>()? {
                    if kept.len() < MAX_EXTENSIONS {
                        kept.push(name);
                    }
                }
                Ok(Extensions(kept))
            }
        }
        deserializer.deserialize_seq(ExtensionsVisitor)
    }
}

/// More labels than any stored object has; the API server bounds an object, not its labels.
pub(crate) const MAX_LABELS: usize = 1024;
/// More extensions than the operator knows (it knows seven).
pub const MAX_EXTENSIONS: usize = 32;

/// The annotations, of which only those of this project and of the operator's controllers are kept.
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
