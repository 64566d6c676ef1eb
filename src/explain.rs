//! The lineage of an image, told at length to somebody who asked: every layer, where it is from, and
//! what is wrong.
//!
//! Owns what is drawn and its form as JSON; [`text`] draws it for a terminal, [`graph`] for those who
//! would rather look at a picture. Pure. Everything that an image says of itself is cleaned here.

pub mod graph;
pub mod text;

use serde::Serialize;

use crate::lineage::layers::Agreement;
use crate::lineage::{Ancestry, Lineage};
use crate::messages;
use crate::model::facts::image::{Layer, PlatformImage};
use crate::model::facts::{Fact, Facts};
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::EntryPoint;
use crate::report::LineageReport;
use crate::text::{escaped, shown};

/// What is told of images.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    api_version: &'static str,
    kind: &'static str,
    images: Vec<ImageExplanation>,
}

/// What is told of one image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageExplanation {
    /// The MachineConfig that names it, when it was found in one.
    machine_config: Option<String>,
    image: String,
    /// The digest of its manifest or index.
    digest: Option<String>,
    /// The registry that answered: the image's own, or a mirror. `None` where that is not known.
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
    /// How much of `base` is below the image.
    #[serde(skip)]
    below: BaseExtent,
    /// The layers, the lowest first. Empty when they are not known.
    layers: Vec<DrawnLayer>,
    /// Where the bases are from, as far as a reader should know.
    notes: Vec<String>,
    /// One thing to do. `None` for an image that is in order.
    help: Option<String>,
}

/// How much of a base is below an image.
#[derive(Clone, Debug, PartialEq)]
enum BaseExtent {
    /// All of it.
    Whole,
    /// All of it, but what it has for another platform, this one.
    OfPlatform(String),
    /// The lowest layers, and not all.
    Part,
    /// None of it.
    Nothing,
    /// Nobody knows.
    Unknown,
}

impl BaseExtent {
    fn of(lineage: &Lineage) -> Self {
        match &lineage.ancestry {
            Ancestry::Same { .. } | Ancestry::Derived { .. } => Self::Whole,
            Ancestry::Foreign { closest: Some(closest), .. } => match closest.agreement {
                Agreement::Same | Agreement::Derived { .. } => {
                    match Some(&closest.platform) == lineage.platform.as_ref() {
                        true => Self::Whole,
                        false => Self::OfPlatform(closest.platform.to_string()),
                    }
                }
                Agreement::Leading { .. } => Self::Part,
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
    /// Whether it is one of the layers of `base`, counted from the lowest.
    of_base: bool,
}

impl Explanation {
    /// An explanation of `images`.
    pub fn new(images: Vec<ImageExplanation>) -> Self {
        Self { api_version: "layerpin.io/v1alpha1", kind: "Explanation", images }
    }

    /// The explanation as JSON, indented, with an end of line.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        text + "\n"
    }
}

impl ImageExplanation {
    /// What is told of `image`, which `machine_config` names, when its lineage is `lineage`.
    pub fn new(
        machine_config: Option<&str>,
        image: &ImageReference,
        lineage: &[Lineage],
        facts: &Facts,
    ) -> Self {
        let known = match facts.image(&image.pull_spec()) {
            Fact::Known(known) => Some(known),
            Fact::Absent | Fact::Unknown(_) => None,
        };
        let drawings = lineage.iter().map(|lineage| {
            let of = lineage.platform.as_ref().and_then(|platform| known?.platforms.get(platform));
            match of {
                Some(Fact::Known(of)) => Drawing::new(lineage, of),
                _ => Drawing::without_layers(lineage),
            }
        });
        let endpoint = match facts.manifest(&image.pull_spec()) {
            Fact::Known(manifest) => Some(manifest.endpoint.as_str()),
            Fact::Absent | Fact::Unknown(_) => None,
        };
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
    fn without_layers(lineage: &Lineage) -> Self {
        let in_order = matches!(lineage.ancestry, Ancestry::Same { .. } | Ancestry::Derived { .. })
            && lineage.reason().is_none();
        let help = match &lineage.ancestry {
            Ancestry::Unknown(why) => messages::help_to_know(why, EntryPoint::Run),
            _ => lineage.rebuild(),
        };
        Self {
            report: LineageReport::from(lineage),
            below: BaseExtent::of(lineage),
            layers: Vec::new(),
            notes: lineage.notes.clone(),
            help: (!in_order).then_some(help),
        }
    }

    fn new(lineage: &Lineage, image: &PlatformImage) -> Self {
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
        // A history of another length is of other layers.
        let tells = steps.clone().count() == image.layers.len();
        let layers = image.layers.iter().enumerate().map(|(index, layer)| {
            let step = steps.next().filter(|_| tells);
            let Layer { diff_id, digest, size } = layer;
            DrawnLayer {
                diff_id: diff_id.to_string(),
                digest: digest.to_string(),
                size: *size,
                created: step.and_then(|step| step.created.as_deref()).map(shown),
                created_by: step.map(|step| command(&step.created_by)).filter(|command| !command.is_empty()),
                of_base: index < of_base,
            }
        });
        let mut notes = lineage.notes.clone();
        if matches!(lineage.ancestry, Ancestry::Foreign { .. } | Ancestry::Unprovable { .. }) {
            let claim = crate::lineage::claim(image);
            notes.extend(claim.map(|claim| format!("its labels claim {claim}, which proves nothing")));
        }
        Self { layers: layers.collect(), notes, ..Self::without_layers(lineage) }
    }

    /// The layers that are not those of the base.
    fn own(&self) -> &[DrawnLayer] {
        &self.layers[self.base_layers()..]
    }

    fn base_layers(&self) -> usize {
        self.layers.iter().take_while(|layer| layer.of_base).count()
    }
}

/// The command of a step as its author wrote it, on one line.
fn command(created_by: &str) -> String {
    let cut: String = created_by.chars().take(MAX_COMMAND).collect();
    let text = match cut.strip_prefix("/bin/sh -c ") {
        Some(rest) => match rest.strip_prefix("#(nop)") {
            Some(instruction) => instruction.trim().to_owned(),
            None => format!("RUN {}", rest.trim()),
        },
        None => cut.trim().to_owned(),
    };
    escaped(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The bytes of a command that are told; a heredoc can have thousands.
const MAX_COMMAND: usize = 1000;
