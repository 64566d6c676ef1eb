//! A MachineConfig on the wire, less everything that is not judged.
//!
//! What is not named here is skipped over while it is read, and never kept.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::model::image_reference::ImageReference;
use crate::model::machine_config::{Field, FieldImage, Object, Position};

/// A text that may know where it stood.
pub(crate) trait PlacedText {
    fn text(&self) -> &str;
    fn position(&self) -> Option<Position>;
}

impl PlacedText for String {
    fn text(&self) -> &str {
        self
    }

    fn position(&self) -> Option<Position> {
        None
    }
}

impl PlacedText for Spanned<String> {
    fn text(&self) -> &str {
        &self.value
    }

    fn position(&self) -> Option<Position> {
        Some(Position { line: self.referenced.line(), column: self.referenced.column() })
    }
}

/// A MachineConfig on the wire, less everything that is not judged. `S` is the string type of the
/// image fields: with or without the place where it stood.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MachineConfig<S = String> {
    pub(crate) api_version: Option<String>,
    pub(crate) kind: Option<String>,
    metadata: Option<WireMetadata>,
    #[serde(default = "Option::default")]
    spec: Option<WireSpec<S>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMetadata {
    name: Option<String>,
    generate_name: Option<String>,
    labels: Option<Labels>,
    annotations: Option<WireAnnotations>,
}

#[derive(Debug, Deserialize)]
struct WireSpec<S> {
    #[serde(rename = "osImageURL", default = "Option::default")]
    os_image: Option<S>,
    #[serde(rename = "baseOSExtensionsContainerImage", default = "Option::default")]
    extensions_image: Option<S>,
    #[serde(rename = "kernelType")]
    kernel_type: Option<String>,
    extensions: Option<Extensions>,
}

impl<S: PlacedText> MachineConfig<S> {
    pub(crate) fn name(&self) -> Option<String> {
        let metadata = self.metadata.as_ref()?;
        let given = metadata.name.clone().filter(|name| !name.is_empty());
        given.or_else(|| {
            metadata.generate_name.as_ref().filter(|name| !name.is_empty()).map(|name| format!("{name}*"))
        })
    }

    pub(crate) fn image(&self, field: Field) -> Option<&S> {
        let spec = self.spec.as_ref()?;
        let image = match field {
            Field::OsImage => &spec.os_image,
            Field::ExtensionsImage => &spec.extensions_image,
        };
        image.as_ref().filter(|text| !text.text().is_empty())
    }
}

impl<S: PlacedText> From<MachineConfig<S>> for Object {
    fn from(object: MachineConfig<S>) -> Self {
        let images = Field::ALL.map(|field| {
            object.image(field).map(|text| FieldImage {
                text: text.text().to_owned(),
                reference: ImageReference::parse(text.text()),
            })
        });
        let metadata = object.metadata.unwrap_or_default();
        let has_annotations = metadata.annotations.is_some();
        let annotations = metadata.annotations.unwrap_or_default();
        let (kernel_type, extensions) = match object.spec {
            Some(spec) => (spec.kernel_type, spec.extensions),
            None => (None, None),
        };
        Self {
            labels: metadata.labels.unwrap_or_default().0,
            kernel_type: kernel_type.unwrap_or_default(),
            extensions: extensions.unwrap_or_default().0,
            is_generated: annotations.generated_by.is_some(),
            images,
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
