//! The case files of the rules: an object, facts and a policy in, the whole verdict out.
//!
//! Each rule has one file in `tests/cases/`, named after it: a list of cases. A case holds an
//! `object` (a MachineConfig), and may hold the object that is `stored`, `facts` in the form that
//! they have on disk, and the `spec` of a policy named `case` in the place of the recommended one.
//! Only images are written shorter than on disk: a layer is a word, which stands for its diffID.
//! What is expected is compared whole, with what other rules find in the same object.

#[allow(dead_code, reason = "the tests of the server use the rest")]
#[path = "server/client.rs"]
mod client;
#[allow(dead_code, reason = "the tests of the server use the rest")]
#[path = "server/documents.rs"]
mod documents;
#[allow(dead_code, reason = "the tests of the server use the rest")]
#[path = "server/embedded.rs"]
mod embedded;
#[allow(dead_code, reason = "the tests of the server use the rest")]
#[path = "server/eventually.rs"]
mod eventually;
#[allow(dead_code, reason = "the tests of the server use the rest")]
#[path = "server/program.rs"]
mod program;
#[path = "rules/same_engine.rs"]
mod same_engine;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use layerpin::digest::Digest;
use layerpin::evaluate::{Verdict, evaluate};
use layerpin::facts::cluster::Cluster;
use layerpin::facts::image::{Image, Layer, Payload, Platform, PlatformImage};
use layerpin::facts::{Fact, Facts, Given, Manifest, ManifestKind};
use layerpin::image_reference::ImageReference;
use layerpin::lineage::FINAL_DIFF_ID;
use layerpin::machine_config::{Field, Operation, Subject};
use layerpin::policy::{Level, Policy};
use layerpin::report::LineageReport;
use layerpin::rules::{self, Input, Rule};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[test]
fn every_case_comes_to_the_verdict_that_it_expects() {
    let mut failures = String::new();
    for (file, cases) in all() {
        for case in cases {
            let mut found = Expectation::of(&case.verdict());
            found.lineage = found.lineage.filter(|_| case.expect.lineage.is_some());
            if found != case.expect {
                let (expected, found) = (pretty(&case.expect), pretty(&found));
                failures += &format!("\n{file}: {}\nexpected {expected}\nfound {found}\n", case.name);
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn every_rule_has_its_file_and_every_file_its_rule() {
    let rules: BTreeSet<_> = rules::ALL.iter().map(|rule| file_of(rule)).collect();
    let files: BTreeSet<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files, rules);
}

#[test]
fn every_rule_has_a_denied_a_passed_and_an_unknown_case() {
    for rule in rules::ALL {
        let cases = cases(rule);
        let speaks = |case: &Case| case.expect.findings.iter().any(|finding| finding.rule == rule.id);
        let denied = cases.iter().any(|case| speaks(case) && case.expect.verdict == "deny");
        assert!(denied, "{} has no case in which it denies", file_of(rule));
        let passed = cases.iter().any(|case| case.expect.verdict == "pass" && !case.references().is_empty());
        assert!(passed, "{} has no case that passes", file_of(rule));
        let unknown = cases.iter().any(|case| speaks(case) && case.knows_nothing());
        assert!(unknown, "{} has no case in which it speaks though nothing is known", file_of(rule));
        if !rule.inputs.iter().any(|input| matches!(input, Input::Manifest | Input::Image)) {
            // What is judged from the object alone costs the same, whoever does not answer.
            let stands = cases.iter().any(|case| {
                let denies = |finding: &Found| finding.rule == rule.id && finding.level == Level::Deny;
                case.knows_nothing() && case.expect.findings.iter().any(denies)
            });
            assert!(stands, "{} has no case in which it denies though nothing is known", file_of(rule));
        }
    }
}

#[test]
fn every_case_has_a_name_of_its_own() {
    for (file, cases) in all() {
        let mut names = BTreeSet::new();
        for case in cases {
            assert!(names.insert(case.name.clone()), "{file}: `{}` is there twice", case.name);
        }
    }
}

/// One case.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    name: String,
    object: Value,
    stored: Option<Value>,
    #[serde(default)]
    facts: CaseFacts,
    policy: Option<Value>,
    expect: Expectation,
}

impl Case {
    fn verdict(&self) -> Verdict {
        evaluate(&self.subject(), &self.facts(), &self.policy())
    }

    fn subject(&self) -> Subject {
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

    fn facts(&self) -> Facts {
        let CaseFacts { observed_at, manifests, given, images, payloads, cluster } = self.facts.clone();
        let images = images
            .into_iter()
            .map(|(reference, fact)| (reference, with(fact, CaseImage::expand).map(Arc::new)));
        let images = images.collect();
        let observed_at = observed_at.unwrap_or_else(|| OBSERVED_AT.parse().unwrap());
        Facts { observed_at, manifests, given, images, payloads, cluster: cluster.into() }
    }

    fn policy(&self) -> Policy {
        let Some(spec) = &self.policy else { return Policy::recommended() };
        let policy = json!({
            "apiVersion": "layerpin.io/v1alpha1", "kind": "OSImagePolicy", "metadata": {"name": "case"}, "spec": spec,
        });
        Policy::parse(&policy.to_string()).unwrap_or_else(|errors| panic!("{}: {errors}", self.name))
    }

    fn references(&self) -> Vec<ImageReference> {
        let object = self.subject().object;
        Field::ALL
            .into_iter()
            .filter_map(|field| object.reference(field))
            .map(ImageReference::asked)
            .collect()
    }

    fn knows_nothing(&self) -> bool {
        let facts = self.facts();
        self.references().iter().all(|reference| matches!(facts.manifest(reference), Fact::Unknown(_)))
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
    given: Given,
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
        let platforms = platforms.map(|(platform, fact)| (platform, with(fact, CasePlatform::expand)));
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

fn with<T, U>(fact: Fact<T>, expand: impl FnOnce(T) -> U) -> Fact<U> {
    match fact {
        Fact::Known(known) => Fact::Known(expand(known)),
        Fact::Absent => Fact::Absent,
        Fact::Unknown(cause) => Fact::Unknown(cause),
    }
}

/// A verdict in the words of a case file.
#[derive(Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Expectation {
    verdict: String,
    #[serde(default)]
    findings: Vec<Found>,
    #[serde(default)]
    excepted: Vec<Spared>,
    /// What the report says of the lineage; compared where the case states it.
    #[serde(default)]
    lineage: Option<Value>,
}

#[derive(Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Found {
    rule: String,
    level: Level,
    pointer: String,
    message: String,
    notes: Vec<String>,
    help: String,
}

#[derive(Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spared {
    rule: String,
    pointer: String,
    message: String,
    reason: String,
    expires: jiff::civil::Date,
}

impl Expectation {
    fn of(verdict: &Verdict) -> Self {
        let findings = verdict.findings.iter().map(|finding| Found {
            rule: finding.rule.id.to_owned(),
            level: finding.level,
            pointer: finding.field.pointer().to_owned(),
            message: finding.message.clone(),
            notes: finding.notes.clone(),
            help: finding.help.clone(),
        });
        let excepted = verdict.excepted.iter().map(|excepted| Spared {
            rule: excepted.rule.id.to_owned(),
            pointer: excepted.field.pointer().to_owned(),
            message: excepted.message.clone(),
            reason: excepted.reason.clone(),
            expires: excepted.expires,
        });
        let lineage: Vec<_> = verdict.lineage.iter().map(LineageReport::from).collect();
        let lineage = serde_json::to_value(lineage).unwrap();
        Self {
            verdict: verdict.outcome().as_str().to_owned(),
            findings: findings.collect(),
            excepted: excepted.collect(),
            lineage: Some(lineage),
        }
    }
}

fn all() -> impl Iterator<Item = (String, Vec<Case>)> {
    rules::ALL.iter().map(|rule| (file_of(rule), cases(rule)))
}

fn cases(rule: &Rule) -> Vec<Case> {
    let file = file_of(rule);
    let text =
        std::fs::read_to_string(folder().join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn file_of(rule: &Rule) -> String {
    format!("{}.yaml", rule.id)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

/// When the answers of a case were had that does not say.
const OBSERVED_AT: &str = "2026-01-15T12:00:00Z";
