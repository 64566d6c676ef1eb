//! The lineage of an image in full: every layer, where it comes from, and what is wrong.
//!
//! Owns what is drawn and its form as JSON; [`text`] draws it for a terminal, [`graph`] for Graphviz and
//! Mermaid. No I/O. All text from an image is escaped here.

pub mod graph;
pub mod text;

use serde::Serialize;

use crate::lineage::layers::Agreement;
use crate::lineage::{Ancestry, Lineage};
use crate::messages;
use crate::model::digest::Digest;
use crate::model::facts::Facts;
use crate::model::facts::image::{Layer, PlatformImage};
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::EntryPoint;
use crate::report::{self, LineageReport};
use crate::text::{escaped, shown};

/// The explanation of some images.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    api_version: &'static str,
    kind: &'static str,
    images: Vec<ImageExplanation>,
}

/// The explanation of one image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageExplanation {
    /// The MachineConfig that the image is in.
    machine_config: Option<String>,
    image: String,
    /// The digest of its manifest or index.
    digest: Option<String>,
    /// The registry or mirror that answered. `None` when it is not known.
    endpoint: Option<String>,
    #[serde(skip)]
    is_mirrored: bool,
    lineage: Vec<Drawing>,
}

/// The lineage in one pool on one platform, layer by layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Drawing {
    #[serde(flatten)]
    report: LineageReport,
    /// How much of `base` the image contains.
    #[serde(skip)]
    extent: BaseExtent,
    /// The layers, the lowest first. Empty when they are not known.
    layers: Vec<DrawnLayer>,
    /// Where the bases come from.
    notes: Vec<String>,
    /// One thing to do. `None` for an image that is in order.
    help: Option<String>,
}

/// How much of a base an image contains.
#[derive(Clone, Debug, PartialEq)]
enum BaseExtent {
    /// All layers.
    Whole,
    /// All layers, but those for this other platform.
    OfPlatform(String),
    /// Some of the lowest layers.
    Part,
    /// None.
    Nothing,
    /// Not known.
    Unknown,
}

/// A base as it is drawn.
struct DrawnBase<'a> {
    reference: &'a str,
    release: Option<&'a str>,
    extent: &'a BaseExtent,
    /// It is the base that was found, not one that is only expected.
    is_found: bool,
}

impl BaseExtent {
    fn of(lineage: &Lineage) -> Self {
        match &lineage.ancestry {
            Ancestry::Same { .. } | Ancestry::Derived { .. } => Self::Whole,
            Ancestry::Foreign { closest: Some(closest), .. } => match closest.agreement {
                Agreement::Leading { .. } => Self::Part,
                Agreement::Same | Agreement::Derived { .. }
                    if lineage.platform.as_ref() == Some(&closest.platform) =>
                {
                    Self::Whole
                }
                Agreement::Same | Agreement::Derived { .. } => Self::OfPlatform(closest.platform.to_string()),
                Agreement::Scattered { .. } | Agreement::Nothing => Self::Nothing,
            },
            Ancestry::Foreign { closest: None, .. } | Ancestry::Unprovable { .. } => Self::Nothing,
            Ancestry::Unknown(_) => Self::Unknown,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct DrawnLayer {
    diff_id: String,
    digest: String,
    size: u64,
    created: Option<String>,
    created_by: Option<String>,
    /// Whether it is a layer of `base`.
    of_base: bool,
}

impl Explanation {
    /// An explanation of `images`.
    pub fn new(images: Vec<ImageExplanation>) -> Self {
        Self { api_version: "layerpin.io/v1alpha1", kind: "Explanation", images }
    }

    /// The explanation as JSON, indented, with a line break at the end.
    pub fn to_json(&self) -> String {
        report::json(self)
    }
}

impl ImageExplanation {
    /// The explanation of `image`, which is in `machine_config` and has this lineage.
    pub fn new(
        machine_config: Option<&str>,
        image: &ImageReference,
        lineage: &[Lineage],
        facts: &Facts,
    ) -> Self {
        let known = facts.image(&image.pull_spec()).known();
        let drawings = lineage.iter().map(|lineage| {
            let of = lineage.platform.as_ref().and_then(|platform| known?.platforms.get(platform)?.known());
            Drawing::new(lineage, of)
        });
        let manifest = facts.manifest(&image.pull_spec()).known();
        let endpoint = manifest.map(|manifest| manifest.endpoint.as_str());
        Self {
            machine_config: machine_config.map(shown),
            image: image.to_string(),
            digest: known.map(|known| known.digest.to_string()),
            is_mirrored: endpoint.is_some_and(|endpoint| endpoint != image.api_host()),
            endpoint: endpoint.map(shown),
            lineage: drawings.collect(),
        }
    }
}

impl Drawing {
    /// The drawing of a lineage. `image` is `None` when its layers are not known.
    fn new(lineage: &Lineage, image: Option<&PlatformImage>) -> Self {
        let mut notes = lineage.notes.clone();
        let help = match &lineage.ancestry {
            Ancestry::Same { .. } | Ancestry::Derived { .. } => lineage.reason().map(|_| lineage.rebuild()),
            Ancestry::Foreign { .. } | Ancestry::Unprovable { .. } => {
                notes.extend(image.and_then(messages::claim));
                Some(lineage.rebuild())
            }
            Ancestry::Unknown(reason) => Some(messages::help_for_unknown(reason, EntryPoint::Run)),
        };
        Self {
            report: LineageReport::from(lineage),
            extent: BaseExtent::of(lineage),
            layers: image.map(|image| drawn_layers(lineage, image)).unwrap_or_default(),
            notes,
            help,
        }
    }

    /// The bases, the expected one first.
    fn bases(&self) -> Vec<DrawnBase<'_>> {
        let LineageReport { base, release, expected_base, expected_release, .. } = &self.report;
        let absent = match self.extent {
            BaseExtent::Unknown => &BaseExtent::Unknown,
            _ => &BaseExtent::Nothing,
        };
        let (expected_release, release) = (expected_release.as_deref(), release.as_deref());
        let expected = expected_base.as_deref().filter(|_| base != expected_base).map(|reference| {
            DrawnBase { reference, release: expected_release, extent: absent, is_found: false }
        });
        let found = base.as_deref().map(|reference| DrawnBase {
            reference,
            release,
            extent: &self.extent,
            is_found: true,
        });
        expected.into_iter().chain(found).collect()
    }

    /// The layers of the base, and those above them.
    fn split_layers(&self) -> (&[DrawnLayer], &[DrawnLayer]) {
        self.layers.split_at(self.layers.iter().take_while(|layer| layer.of_base).count())
    }
}

fn drawn_layers(lineage: &Lineage, image: &PlatformImage) -> Vec<DrawnLayer> {
    let of_base = match &lineage.ancestry {
        Ancestry::Same { .. } => image.layers.len(),
        Ancestry::Derived { own_layers, .. } => image.layers.len() - own_layers,
        Ancestry::Foreign { closest: Some(closest), .. } => match closest.agreement {
            Agreement::Scattered { .. } | Agreement::Nothing => 0,
            agreement => agreement.shared(closest.layers),
        },
        Ancestry::Foreign { .. } | Ancestry::Unprovable { .. } | Ancestry::Unknown(_) => 0,
    };
    let mut steps = image.history.iter().filter(|step| !step.empty_layer);
    // A history of another length does not match the layers.
    let has_steps = steps.clone().count() == image.layers.len();
    let layers = image.layers.iter().enumerate().map(|(index, Layer { diff_id, digest, size })| {
        let step = steps.next().filter(|_| has_steps);
        DrawnLayer {
            diff_id: diff_id.to_string(),
            digest: digest.to_string(),
            size: *size,
            created: step.and_then(|step| step.created.as_deref()).map(shown),
            created_by: step.map(|step| command(&step.created_by)).filter(|command| !command.is_empty()),
            of_base: index < of_base,
        }
    });
    layers.collect()
}

impl DrawnLayer {
    fn short_diff_id(&self) -> String {
        Digest::parse(&self.diff_id).map(|digest| digest.short()).unwrap_or_default()
    }
}

/// The command of a build step on one line.
fn command(created_by: &str) -> String {
    let cut: String = created_by.chars().take(MAX_COMMAND).collect();
    let text = match cut.strip_prefix("/bin/sh -c ") {
        Some(rest) => rest.strip_prefix("#(nop)").map_or_else(|| format!("RUN {rest}"), str::to_owned),
        None => cut,
    };
    escaped(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The characters of a command that are kept; a heredoc can have thousands.
const MAX_COMMAND: usize = 1000;
/// The layers above the base that are drawn one by one.
const MAX_LAYERS: usize = 24;
