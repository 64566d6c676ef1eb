//! Reads the case files of the rules.
//!
//! Each rule has one file in `tests/cases/`, named after it: `cases`, and `shared`, which holds what
//! several cases use by a YAML alias. A case holds:
//!
//! - `object`: the fields of `spec` of a MachineConfig. `name` (else `99-worker-os`), `role` (else `worker`;
//!   `null`: none) and `annotations` go to its metadata. Without `object`, the case is about the ordinary one:
//!   `osImageURL: quay.io/acme/os@sha256:0123456789abcdef*4`.
//! - `stored`: the object that an update replaces, in the same form.
//! - `facts`, see below. What a case leaves out, nobody asked for.
//! - `policy`: the `spec` of a policy named `case`, which replaces the recommended one.
//! - `expect`: the whole verdict. `expect: pass` is `{verdict: pass}`. A finding is of the rule of the file, at
//!   the level of the verdict and on `/spec/osImageURL`, unless it says otherwise. `lineage` is compared if it
//!   is given; fields left out are `null`, `from: 4.18.14` is the base that was found and its release, and
//!   `expected: 4.18.14` is the base that was expected and its release.
//!
//! Everywhere but in expected texts, `14*32` after the colon of a digest is `14` written 32 times. Facts have
//! the form that they have on disk, with these short forms:
//!
//! - A fact is `absent`, `unknown: …`, or what is known.
//! - The releases are 4.18.13, 4.18.14 and 4.18.15, with OS images `quay.io/ocp/os@sha256:14*32` and release
//!   images `quay.io/ocp/release@sha256:a4*32` (for 4.18.14). `rhel-10` is the OS image of another
//!   stream, `quay.io/ocp/os@sha256:10*32`. Their layers are in `short_forms.rs`.
//! - `manifest` and `image` are those of the object's `osImageURL`; `manifests` and `images` are other ones, by
//!   reference. A manifest that is `image` or `index` has the digest of its reference (of a tag:
//!   `0123456789abcdef*4`) and comes from the registry of its reference.
//! - An image has `layers` and `labels` for linux/amd64, or these by platform. A layer is a word, which stands
//!   for its diffID. `{from: 4.18.14, layers: [own], platforms: [amd64, arm64]}` has one layer above those of
//!   the OS image of 4.18.14, and its labels, for two platforms.
//! - `bases` are OS images of releases: `{4.18.14: [amd64]}`, or any other form of an image.
//! - `payloads` are those of releases: `[4.18.14]`, or `{4.18.14: …}`.
//! - `cluster: 4.18.14` is the ordinary cluster: updated from 4.18.13 to 4.18.14, one pool `worker` with three
//!   amd64 nodes, and no other MachineConfig. `{release: 4.18.14, …}` is the same, except for the fields that
//!   follow.
//! - In a cluster, `version` names releases (`4.18.14 partial` in its history was not completed), a pool is
//!   its nodes by architecture and its `stream`, and a MachineConfig has a `role` in place of labels.

#[path = "short_forms.rs"]
mod short_forms;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use layerpin::lineage::FINAL_DIFF_ID;
use layerpin::model::digest::Digest;
use layerpin::model::facts::cluster::Cluster;
use layerpin::model::facts::image::{Image, Layer, Payload, Platform, PlatformImage};
use layerpin::model::facts::{AcceptedBases, Fact, Facts, Manifest, ManifestKind};
use layerpin::model::machine_config::{Operation, Subject};
use layerpin::model::pull_spec::PullSpec;
use layerpin::policy::Level;
use layerpin::rules::{self, Rule};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    /// A place for YAML anchors.
    #[serde(default, rename = "shared")]
    _shared: IgnoredAny,
    cases: Vec<Value>,
}

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
            Subject::from_json(&object.to_string()).unwrap_or_else(|error| panic!("{}: {error}", self.name))
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

/// Facts in their form on disk, with defaults for what most cases do not need.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CaseFacts {
    observed_at: Option<Timestamp>,
    #[serde(default)]
    manifests: BTreeMap<PullSpec, Fact<Manifest>>,
    #[serde(default)]
    given: AcceptedBases,
    #[serde(default)]
    images: BTreeMap<PullSpec, Fact<CaseImage>>,
    #[serde(default)]
    payloads: BTreeMap<PullSpec, Fact<Payload>>,
    #[serde(default)]
    cluster: Cluster,
}

/// An image without what no rule looks at.
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

/// A verdict in the form of a case file.
#[derive(Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Expectation {
    pub(crate) verdict: String,
    #[serde(default)]
    pub(crate) findings: Vec<ExpectedFinding>,
    #[serde(default)]
    pub(crate) excepted: Vec<ExpectedSuppression>,
    /// The lineage in the report; compared if the case gives it.
    #[serde(default)]
    pub(crate) lineage: Option<Value>,
}

#[derive(Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ExpectedFinding {
    pub(crate) rule: String,
    pub(crate) level: Level,
    pub(crate) pointer: String,
    pub(crate) message: String,
    pub(crate) notes: Vec<String>,
    pub(crate) help: String,
}

#[derive(Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ExpectedSuppression {
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
    let CaseFile { cases, .. } =
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let read = |case: Value| {
        serde_json::from_value(short_forms::expand(case.clone(), rule.id))
            .unwrap_or_else(|error| panic!("{file}: {}: {error}", case["name"]))
    };
    cases.into_iter().map(read).collect()
}

pub(crate) fn file_of(rule: &Rule) -> String {
    format!("{}.yaml", rule.id)
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// When the facts of a case were observed that does not give a time.
const OBSERVED_AT: &str = "2026-01-15T12:00:00Z";
