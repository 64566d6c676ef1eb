//! The fields of a MachineConfig that name images, and values for each of them.

use std::ops::{Index, IndexMut};

use serde::{Deserialize, Serialize};

/// A field that names an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Field {
    /// `spec.osImageURL`: the operating system of the pool.
    #[serde(rename = "osImageURL")]
    OsImage,
    /// `spec.baseOSExtensionsContainerImage`: the image that extensions are installed from.
    #[serde(rename = "baseOSExtensionsContainerImage")]
    ExtensionsImage,
}

impl Field {
    /// Both fields, in the order in which they are judged and reported.
    pub const ALL: [Self; 2] = [Self::OsImage, Self::ExtensionsImage];

    /// The field's name under `spec`.
    pub fn key(self) -> &'static str {
        match self {
            Self::OsImage => "osImageURL",
            Self::ExtensionsImage => "baseOSExtensionsContainerImage",
        }
    }

    /// The field's JSON pointer.
    pub fn pointer(self) -> &'static str {
        match self {
            Self::OsImage => "/spec/osImageURL",
            Self::ExtensionsImage => "/spec/baseOSExtensionsContainerImage",
        }
    }

    /// The annotation with the reference that the field was pinned from.
    pub fn record_annotation(self) -> &'static str {
        match self {
            Self::OsImage => "layerpin.io/pinned-from",
            Self::ExtensionsImage => "layerpin.io/extensions-pinned-from",
        }
    }
}

/// A value for each field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerField<T>([T; 2]);

impl<T> From<[T; 2]> for PerField<T> {
    /// Takes the values in the order of [`Field::ALL`].
    fn from(values: [T; 2]) -> Self {
        Self(values)
    }
}

impl<T> PerField<T> {
    /// The values, in the order of [`Field::ALL`].
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}

impl<T> Index<Field> for PerField<T> {
    type Output = T;

    fn index(&self, field: Field) -> &T {
        &self.0[field as usize]
    }
}

impl<T> IndexMut<Field> for PerField<T> {
    fn index_mut(&mut self, field: Field) -> &mut T {
        &mut self.0[field as usize]
    }
}
