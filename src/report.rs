//! The report: what was found, for programs and for people.
//!
//! Owns the report as JSON, which is part of the contract: fields may be added, none renamed. What does not
//! apply is `null` or an empty list, never left out. The other formats are made from the same values:
//! [`text`] for people, [`sarif`] for code scanners, [`github`] for annotations.

pub mod github;
pub mod lineage;
pub mod sarif;
pub mod text;

use std::fmt;

use json_patch::Patch;
use serde::{Serialize, Serializer};

use crate::evaluate::{DryRun, Finding, Judgement, Suppressed, Verdict, VerdictLevel};
use crate::model::facts::Facts;
use crate::model::machine_config::{Field, Position, Subject};
use crate::pin::{self, Plan};
use crate::policy::Policy;
use crate::text::{escaped, is_unprintable};

pub use lineage::LineageReport;
pub use text::Style;

/// A report on objects.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    api_version: &'static str,
    kind: &'static str,
    policy: PolicyReport,
    objects: Vec<ObjectReport>,
    errors: Vec<ReadError>,
    /// How many objects have which verdict.
    pub summary: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<Facts>,
}

#[derive(Debug, Serialize)]
struct PolicyReport {
    name: String,
    hash: String,
}

/// The report on one object.
#[derive(Debug, Serialize)]
pub struct ObjectReport {
    name: String,
    file: Option<String>,
    line: Option<u64>,
    verdict: &'static str,
    image: Option<String>,
    pinned: Option<String>,
    /// The registry or mirror that answered for the image.
    endpoint: Option<String>,
    lineage: Vec<LineageReport>,
    findings: Vec<FindingReport>,
    excepted: Vec<SuppressedReport>,
    warnings: Vec<String>,
    patch: Patch,
    #[serde(skip)]
    lacks_base: bool,
}

#[derive(Debug, Serialize)]
struct FindingReport {
    rule: &'static str,
    level: &'static str,
    message: String,
    #[serde(flatten)]
    location: FieldLocation,
    notes: Vec<String>,
    help: String,
    fixed: bool,
}

#[derive(Debug, Serialize)]
struct SuppressedReport {
    rule: &'static str,
    message: String,
    #[serde(flatten)]
    location: FieldLocation,
    reason: String,
    expires: String,
}

/// Where a field is.
#[derive(Debug, Serialize)]
struct FieldLocation {
    pointer: &'static str,
    #[serde(flatten, serialize_with = "line_and_column")]
    position: Option<Position>,
}

/// A file, a folder or a part of a file that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadError {
    /// The name of the file in messages.
    pub file: String,
    /// The position in it, when there is one.
    #[serde(flatten, serialize_with = "line_and_column")]
    pub position: Option<Position>,
    /// What is wrong.
    pub message: String,
    /// One thing to do about it.
    pub help: Option<String>,
}

/// How many objects have which verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// All of them.
    pub objects: usize,
    /// Those with a finding that denies.
    pub denied: usize,
    /// Those with findings that only warn.
    pub warned: usize,
    /// Those with no finding.
    pub passed: usize,
}

impl Report {
    /// The report on what the cluster would do with one object.
    ///
    /// The verdict is that of the object after the patch. The findings are those before the patch, each
    /// marked `fixed` where the patch fixes it, and those that only the patched object has.
    pub fn of_dry_run(dry_run: DryRun) -> Self {
        let DryRun { subject, policy, facts, plan, before, verdict } = dry_run;
        // The messages of the same fault differ after a patch, because the value does.
        let remains = |finding: &Finding, findings: &[Finding]| {
            findings.iter().any(|other| (other.rule.id, other.field) == (finding.rule.id, finding.field))
        };
        let old = before.findings.iter().map(|finding| {
            let fixed = !remains(finding, &verdict.findings);
            FindingReport { fixed, ..FindingReport::new(finding, &subject) }
        });
        let new = verdict.findings.iter().filter(|finding| !remains(finding, &before.findings));
        let object = ObjectReport {
            findings: old.chain(new.map(|finding| FindingReport::new(finding, &subject))).collect(),
            warnings: plan.warnings(),
            ..ObjectReport::new(&subject, &verdict, &plan, &facts)
        };
        Self { facts: Some(facts), ..Self::of_files(&policy, vec![object], Vec::new()) }
    }

    /// The report on files: the objects that were judged, and what could not be.
    pub fn of_files(policy: &Policy, objects: Vec<ObjectReport>, unread: Vec<ReadError>) -> Self {
        Self {
            api_version: "layerpin.io/v1alpha1",
            kind: "Report",
            policy: PolicyReport { name: policy.name().to_owned(), hash: policy.hash().to_owned() },
            summary: Summary::of(&objects),
            objects,
            errors: unread,
            facts: None,
        }
    }

    /// A note for the end of the text: that a rule needs a base image and none is known. In the other formats
    /// the `lineage` of each object has the reason.
    pub fn remark(&self) -> Option<&'static str> {
        self.objects.iter().any(|object| object.lacks_base).then_some(
            "lineage was not checked, because no base image is known: no cluster, and no --release-image, \
             --base-image or `acceptedBases`",
        )
    }

    /// The verdict on the only or the first object.
    pub fn verdict(&self) -> &'static str {
        self.objects.first().map_or("pass", |object| object.verdict)
    }

    /// The rule of each finding.
    pub fn rules(&self) -> Vec<&'static str> {
        self.objects.iter().flat_map(|object| &object.findings).map(|finding| finding.rule).collect()
    }

    /// The report as JSON, indented, with a line break at the end.
    pub fn to_json(&self) -> String {
        json(self)
    }
}

impl ObjectReport {
    /// The report on an object that was judged as it is in a file.
    pub fn of_judgement(subject: &Subject, judgement: &Judgement, policy: &Policy) -> Self {
        let Judgement { verdict, facts } = judgement;
        Self::new(subject, verdict, &pin::plan(subject, facts, policy), facts)
    }

    fn new(subject: &Subject, verdict: &Verdict, plan: &Plan, facts: &Facts) -> Self {
        let reference = subject.object.reference(Field::OsImage);
        let manifest = reference.and_then(|image| facts.manifest(&image.pull_spec()).known());
        let findings = verdict.findings.iter().map(|finding| FindingReport::new(finding, subject));
        let excepted = verdict.excepted.iter().map(|excepted| SuppressedReport::new(excepted, subject));
        Self {
            name: subject.name.clone(),
            file: subject.origin.file().map(str::to_owned),
            line: subject.origin.line(),
            verdict: verdict.outcome().as_str(),
            image: subject.object.image(Field::OsImage).map(|image| image.text.clone()),
            pinned: plan.pinned(Field::OsImage).map(ToString::to_string),
            endpoint: manifest.map(|manifest| manifest.endpoint.clone()),
            lineage: verdict.lineage.iter().map(LineageReport::from).collect(),
            findings: findings.collect(),
            excepted: excepted.collect(),
            warnings: Vec::new(),
            patch: plan.patch(),
            lacks_base: verdict.lacks_base,
        }
    }
}

impl FindingReport {
    fn new(finding: &Finding, subject: &Subject) -> Self {
        Self {
            rule: finding.rule.id,
            level: finding.level.as_str(),
            message: finding.message.clone(),
            location: FieldLocation::new(finding.field, subject),
            notes: finding.notes.clone(),
            help: finding.help.clone(),
            fixed: false,
        }
    }

    /// `error` or `warning`, as the formats for scanners have it.
    fn severity(&self) -> &'static str {
        if self.level == "deny" { "error" } else { "warning" }
    }

    /// The message with notes and help, a line each.
    fn lines(&self) -> String {
        let notes = self.notes.iter().map(|note| format!("\nnote: {note}"));
        format!("{}{}\nhelp: {}", self.message, notes.collect::<String>(), self.help)
    }
}

impl SuppressedReport {
    fn new(excepted: &Suppressed, subject: &Subject) -> Self {
        Self {
            rule: excepted.rule.id,
            message: excepted.message.clone(),
            location: FieldLocation::new(excepted.field, subject),
            reason: excepted.reason.clone(),
            expires: excepted.expires.to_string(),
        }
    }
}

impl FieldLocation {
    fn new(field: Field, subject: &Subject) -> Self {
        Self { pointer: field.pointer(), position: subject.origin.position(field) }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&escaped(&self.file))?;
        if let Some(Position { line, column }) = self.position {
            write!(formatter, ":{line}:{column}")?;
        }
        write!(formatter, ": {}", escaped(&self.message))
    }
}

impl Summary {
    fn of(objects: &[ObjectReport]) -> Self {
        let count = |outcome: VerdictLevel| {
            objects.iter().filter(|object| object.verdict == outcome.as_str()).count()
        };
        Self {
            objects: objects.len(),
            denied: count(VerdictLevel::Deny),
            warned: count(VerdictLevel::Warn),
            passed: count(VerdictLevel::Pass),
        }
    }
}

/// `line` and `column`, which are `null` when they are not known.
fn line_and_column<S: Serializer>(position: &Option<Position>, serializer: S) -> Result<S::Ok, S::Error> {
    let (line, column) = position.map(|at| (at.line, at.column)).unzip();
    serializer.collect_map([("line", line), ("column", column)])
}

/// A document as indented JSON with a line break at the end. Characters that a terminal obeys, and that JSON
/// allows in a string, are escaped.
pub(crate) fn json(document: &impl Serialize) -> String {
    // Strings, numbers and maps with text keys always serialize.
    let text = serde_json::to_string_pretty(document).unwrap_or_default();
    let mut json = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        if is_unprintable(character) && character != '\n' {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                json.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            json.push(character);
        }
    }
    json.push('\n');
    json
}
