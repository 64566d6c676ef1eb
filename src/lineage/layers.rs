//! How far the layers of two images agree.
//!
//! Owns the one comparison that proves lineage: the diffIDs of the base are the first diffIDs of the image,
//! in the same order (`containers/image` and `buildah` keep them through recompression and pushes). Digests
//! of compressed layers, labels and annotations are not used here.

use crate::model::digest::Digest;
use crate::model::facts::image::Layer;

/// The layers of an image, prepared for comparison with many bases.
#[derive(Debug)]
pub struct LayerStack<'a> {
    ordered: &'a [Layer],
    /// The characteristic diffIDs, sorted by the end of their text, which is as good as random.
    characteristic: Vec<(u128, &'a str)>,
}

/// How far an image agrees with a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// The image is the base, layer for layer.
    Same,
    /// All layers of the base are there, from the bottom, and this many more follow.
    Derived {
        /// Layers of the image above the base.
        own: usize,
    },
    /// The lowest layers are the same, those above differ.
    Leading {
        /// Layers from the bottom that are the same.
        shared: usize,
    },
    /// The lowest layer differs; some layers of the base are elsewhere in the image.
    Scattered {
        /// Layers of the base that the image has.
        shared: usize,
    },
    /// The base has no layers, and so proves nothing.
    Nothing,
}

impl<'a> LayerStack<'a> {
    /// Prepares `layers`, the lowest first.
    pub fn new(layers: &'a [Layer]) -> Self {
        let mut characteristic: Vec<_> =
            layers.iter().filter_map(characteristic).map(|id| (end(id), id)).collect();
        characteristic.sort_unstable();
        Self { ordered: layers, characteristic }
    }

    /// Tells whether the image is built on `base`: [`Agreement::Same`] or [`Agreement::Derived`];
    /// [`Agreement::Nothing`] where the base has no layers. `None` when it is not.
    pub fn built_on(&self, base: &[Layer]) -> Option<Agreement> {
        if base.is_empty() {
            return Some(Agreement::Nothing);
        }
        if self.leading(base) < base.len() {
            return None;
        }
        Some(match self.ordered.len() - base.len() {
            0 => Agreement::Same,
            own => Agreement::Derived { own },
        })
    }

    /// Compares the image with `base` further, where it is not built on it.
    pub fn agree_with(&self, base: &[Layer]) -> Agreement {
        if let Some(agreement) = self.built_on(base) {
            return agreement;
        }
        let leading = self.leading(base);
        if base[..leading].iter().any(|layer| characteristic(layer).is_some()) {
            return Agreement::Leading { shared: leading };
        }
        let has = |id: &&str| {
            let place = self.characteristic.binary_search_by(|(own, _)| own.cmp(&end(id)));
            place.is_ok_and(|place| self.characteristic[place].1 == *id)
        };
        Agreement::Scattered { shared: base.iter().filter_map(characteristic).filter(has).count() }
    }

    fn leading(&self, base: &[Layer]) -> usize {
        let pairs = self.ordered.iter().zip(base);
        pairs.take_while(|(own, other)| own.diff_id == other.diff_id).count()
    }

    /// Tells whether a layer has this diffID.
    pub fn have(&self, diff_id: &str) -> bool {
        self.ordered.iter().any(|layer| layer.diff_id.as_str() == diff_id)
    }

    /// The number of layers.
    pub fn count(&self) -> usize {
        self.ordered.len()
    }
}

impl Agreement {
    /// The number of layers of the base that the image has, `of` being all of them.
    pub fn shared(self, of: usize) -> usize {
        match self {
            Self::Same | Self::Derived { .. } => of,
            Self::Leading { shared } | Self::Scattered { shared } => shared,
            Self::Nothing => 0,
        }
    }
}

/// The diffID of a layer, unless unrelated images have the same layer.
fn characteristic(layer: &Layer) -> Option<&str> {
    Some(Digest::as_str(&layer.diff_id)).filter(|id| !UBIQUITOUS.contains(id))
}

/// The last sixteen bytes of a digest's text, as a number, which is compared faster.
fn end(id: &str) -> u128 {
    id.as_bytes().last_chunk().copied().map_or(0, u128::from_le_bytes)
}

/// Layers of unrelated images: the empty chunk that ostree reserves for new packages, the same in Fedora
/// CoreOS, CentOS and others on every architecture; and the empty tar of builders.
const UBIQUITOUS: [&str; 2] = [
    "sha256:12787d84fa137cd5649a9005efe98ec9d05ea46245fdc50aecb7dd007f2035b1",
    "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layers(names: &[&str]) -> Vec<Layer> {
        let layer = |name: &&str| Layer {
            diff_id: if name.starts_with("sha256:") {
                Digest::parse(name).unwrap()
            } else {
                Digest::of(name.as_bytes())
            },
            digest: Digest::of(b"compressed in some way"),
            size: 1,
        };
        names.iter().map(layer).collect()
    }

    #[test]
    fn a_prefix_in_order_is_the_proof_and_nothing_else() {
        let [reserved, empty] = UBIQUITOUS;
        for (image, base, expected) in [
            (vec!["a", "b"], vec!["a", "b"], Agreement::Same),
            (vec!["a", "b", "c"], vec!["a", "b"], Agreement::Derived { own: 1 }),
            (vec!["a"], vec!["a", "b"], Agreement::Leading { shared: 1 }),
            (vec!["a", "x"], vec!["a", "b"], Agreement::Leading { shared: 1 }),
            (vec!["b", "a"], vec!["a", "b"], Agreement::Scattered { shared: 2 }),
            (vec!["x", "a", "b"], vec!["a", "b"], Agreement::Scattered { shared: 2 }),
            (vec!["x"], vec!["a", "b"], Agreement::Scattered { shared: 0 }),
            (vec!["x", reserved], vec!["a", reserved], Agreement::Scattered { shared: 0 }),
            (vec![empty, "x"], vec![empty, "a"], Agreement::Scattered { shared: 0 }),
            (vec![reserved, "x"], vec![reserved], Agreement::Derived { own: 1 }),
            (vec!["a"], vec![], Agreement::Nothing),
            (vec![], vec![], Agreement::Nothing),
            (vec![], vec!["a"], Agreement::Scattered { shared: 0 }),
        ] {
            let (image, base) = (layers(&image), layers(&base));
            assert_eq!(LayerStack::new(&image).agree_with(&base), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_built_on_a_base_is_derived_from_it_and_from_nothing_longer(
            base in proptest::collection::vec("[a-d]", 1..6),
            own in proptest::collection::vec("[a-d]", 1..6),
        ) {
            let base: Vec<_> = base.iter().map(String::as_str).collect();
            let own: Vec<_> = own.iter().map(String::as_str).collect();
            let (base_layers, image) = (layers(&base), layers(&[base.as_slice(), &own].concat()));
            prop_assert_eq!(LayerStack::new(&image).agree_with(&base_layers), Agreement::Derived { own: own.len() });
            let back = LayerStack::new(&base_layers).agree_with(&image);
            prop_assert_eq!(back, Agreement::Leading { shared: base.len() });
        }
    }
}
