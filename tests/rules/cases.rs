//! The case files of the rules, read.
//!
//! Each rule has one file in `tests/cases/`, named after it: a list of cases. A case holds an
//! `object` (a MachineConfig), and may hold the object that is `stored`, `facts` in the form that
//! they have on disk, and the `spec` of a policy named `case` in the place of the recommended one.
//! Only images are written shorter than on disk: a layer is a word, which stands for its diffID.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use layerpin::lineage::FINAL_DIFF_ID;
use layerpin::model::digest::Digest;
use layerpin::model::facts::cluster::Cluster;
use layerpin::model::facts::image::{Image, Layer, Payload, Platform, PlatformImage};
use layerpin::model::facts::{AcceptedBases, Fact, Facts, Manifest, ManifestKind};
use layerpin::model::image_reference::ImageReference;
use layerpin::model::machine_config::{Operation, Subject};
use layerpin::policy::Level;
use layerpin::rules::{self, Rule};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One case.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) object: Value,
    pub(crate) stored: Option<Value>,
    #[serde(default)]
    facts: CaseFacts,
    pub(crate) policy: Option<Value>,
    pub(crate) expect: Expectation,
}

impl Case {
    pub(crate) fn subject(&self) -> Subject {
        let read = |object: &Value| {
            Subject::from_text(&object.to_string()).unwrap_or_else(|error| panic!("{}: {error}", self.name))
        };
        let mut subject = read(&self.object);
        if let Some(stored) = &self.stored {
            subject.operation = Operation::Update;
            subject.stored = Some(read(stored).object);
        }
        subject
    }

    pub(crate) fn facts(&self) -> Facts {
        let CaseFacts { observed_at, manifests, given, images, payloads, cluster } = self.facts.clone();
        let images = images
            .into_iter()
            .map(|(reference, fact)| (reference, fact.map(CaseImage::expand).map(Arc::new)));
        let images = images.collect();
        let observed_at = observed_at.unwrap_or_else(|| OBSERVED_AT.parse().unwrap());
        Facts { observed_at, manifests, given, images, payloads, cluster: cluster.into() }
    }
}

/// Facts as they are written to disk, less what most cases do not care for.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CaseFacts {
    observed_at: Option<Timestamp>,
    #[serde(default)]
    manifests: BTreeMap<ImageReference, Fact<Manifest>>,
    #[serde(default)]
    given: AcceptedBases,
    #[serde(default)]
    images: BTreeMap<ImageReference, Fact<CaseImage>>,
    #[serde(default)]
    payloads: BTreeMap<ImageReference, Fact<Payload>>,
    #[serde(default)]
    cluster: Cluster,
}

/// An image, less what no rule looks at.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CaseImage {
    platforms: BTreeMap<Platform, Fact<CasePlatform>>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CasePlatform {
    layers: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl CaseImage {
    fn expand(self) -> Image {
        let kind = if self.platforms.len() > 1 { ManifestKind::Index } else { ManifestKind::Image };
        let platforms = self.platforms.into_iter();
        let platforms = platforms.map(|(platform, fact)| (platform, fact.map(CasePlatform::expand)));
        Image { digest: Digest::of(b"image"), kind, platforms: platforms.collect() }
    }
}

impl CasePlatform {
    fn expand(mut self) -> PlatformImage {
        let layer = |word: &String| Layer {
            diff_id: Digest::parse(word).unwrap_or_else(|_| Digest::of(word.as_bytes())),
            digest: Digest::of(format!("compressed {word}").as_bytes()),
            size: 1024,
        };
        let layers = self.layers.iter().map(layer).collect();
        // The label is written as the word for the layer that it names.
        if let Some(last) = self.labels.get_mut(FINAL_DIFF_ID)
            && !last.starts_with("sha256:")
        {
            *last = Digest::of(last.as_bytes()).to_string();
        }
        PlatformImage {
            manifest: Digest::of(b"manifest"),
            config: Digest::of(b"config"),
            layers,
            labels: self.labels,
            annotations: self.annotations,
            history: Vec::new(),
            created: None,
        }
    }
}

/// A verdict in the words of a case file.
#[derive(Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Expectation {
    pub(crate) verdict: String,
    #[serde(default)]
    pub(crate) findings: Vec<Found>,
    #[serde(default)]
    pub(crate) excepted: Vec<Spared>,
    /// What the report says of the lineage; compared where the case states it.
    #[serde(default)]
    pub(crate) lineage: Option<Value>,
}

#[derive(Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Found {
    pub(crate) rule: String,
    pub(crate) level: Level,
    pub(crate) pointer: String,
    pub(crate) message: String,
    pub(crate) notes: Vec<String>,
    pub(crate) help: String,
}

#[derive(Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Spared {
    pub(crate) rule: String,
    pub(crate) pointer: String,
    pub(crate) message: String,
    pub(crate) reason: String,
    pub(crate) expires: jiff::civil::Date,
}

pub(crate) fn all() -> impl Iterator<Item = (String, Vec<Case>)> {
    rules::ALL.iter().map(|rule| (file_of(rule), cases(rule)))
}

pub(crate) fn cases(rule: &Rule) -> Vec<Case> {
    let file = file_of(rule);
    let text =
        std::fs::read_to_string(folder().join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

pub(crate) fn file_of(rule: &Rule) -> String {
    format!("{}.yaml", rule.id)
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// When the answers of a case were had that does not say.
const OBSERVED_AT: &str = "2026-01-15T12:00:00Z";
