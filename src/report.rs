//! The report: what was found, for programs and for people.
//!
//! Owns the report's form as JSON, which is part of the contract: fields may be added, none renamed.
//! What does not apply is `null` or an empty list, never left out. The other forms are made from the
//! same values: [`text`] for people, [`sarif`] for code scanners, [`github`] for annotations.

pub mod github;
pub mod lineage;
pub mod sarif;
pub mod text;

use json_patch::Patch;
use serde::Serialize;

use crate::cli::inputs::ReadError;
use crate::engine::DryRun;
use crate::evaluate::{Finding, Suppressed, Verdict, VerdictLevel};
use crate::model::facts::{Fact, Facts};
use crate::model::machine_config::{Field, Position, Subject};
use crate::pin::Plan;
use crate::policy::Policy;
use crate::run::ObjectAssessment;
use crate::text::is_unprintable;

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
    errors: Vec<ErrorReport>,
    summary: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<Facts>,
}

#[derive(Debug, Serialize)]
struct PolicyReport {
    name: String,
    hash: String,
}

/// What a report says of one object.
#[derive(Debug, Serialize)]
pub struct ObjectReport {
    name: String,
    file: Option<String>,
    line: Option<u64>,
    verdict: &'static str,
    image: Option<String>,
    pinned: Option<String>,
    /// The registry that answered for the image: its own, or a mirror.
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
    pointer: &'static str,
    line: Option<u64>,
    column: Option<u64>,
    notes: Vec<String>,
    help: String,
    fixed: bool,
}

#[derive(Debug, Serialize)]
struct SuppressedReport {
    rule: &'static str,
    message: String,
    pointer: &'static str,
    line: Option<u64>,
    column: Option<u64>,
    reason: String,
    expires: String,
}

/// What could not be judged.
#[derive(Debug, Serialize)]
struct ErrorReport {
    file: String,
    line: Option<u64>,
    column: Option<u64>,
    message: String,
    help: Option<String>,
}

/// How many objects came to which verdict.
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
    /// The verdict is that of the object after the patch. The findings are those of the object as it
    /// came, each marked `fixed` where the patch mends it, and those that the patch brings.
    pub fn of_rehearsal(rehearsal: DryRun) -> Self {
        let DryRun { subject, policy, facts, plan, before, verdict } = rehearsal;
        let mut findings: Vec<FindingReport> = before
            .findings
            .iter()
            .map(|finding| {
                let remains = verdict.findings.iter().any(|after| same_fault(after, finding));
                FindingReport::new(finding, &subject, !remains)
            })
            .collect();
        let new =
            verdict.findings.iter().filter(|after| !before.findings.iter().any(|old| same_fault(old, after)));
        findings.extend(new.map(|finding| FindingReport::new(finding, &subject, false)));
        let object = ObjectReport {
            findings,
            warnings: plan.warnings.clone(),
            ..ObjectReport::new(&subject, &verdict, &plan, &facts)
        };
        Self { facts: Some(facts), ..Self::of_files(&policy, vec![object], Vec::new()) }
    }

    /// The report on what lies in files: the objects that were judged, and what could not be.
    pub fn of_files(policy: &Policy, objects: Vec<ObjectReport>, unread: Vec<ReadError>) -> Self {
        Self {
            api_version: "layerpin.io/v1alpha1",
            kind: "Report",
            policy: PolicyReport { name: policy.name().to_owned(), hash: policy.hash().to_owned() },
            summary: Summary::of(&objects),
            objects,
            errors: unread.into_iter().map(ErrorReport::from).collect(),
            facts: None,
        }
    }

    /// How many objects came to which verdict.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// What a reader of text is told once, however many objects there are: that lineage was to be judged
    /// and nothing names a base. `None` where one is named, or no rule of the policy asks for it. In the
    /// other forms the `lineage` of each object says so.
    pub fn remark(&self) -> Option<&'static str> {
        self.objects.iter().any(|object| object.lacks_base).then_some(
            "lineage was not judged, because nothing names a base: neither a cluster nor --release-image, \
             --base-image or `acceptedBases`",
        )
    }

    /// The verdict on the only or the first object.
    pub fn verdict(&self) -> &'static str {
        self.objects.first().map_or("pass", |object| object.verdict)
    }

    /// The name of the only or the first object.
    pub fn name(&self) -> &str {
        self.objects.first().map_or("", |object| &object.name)
    }

    /// The rules that found something, one entry for each finding.
    pub fn rules(&self) -> Vec<&'static str> {
        self.objects.iter().flat_map(|object| &object.findings).map(|finding| finding.rule).collect()
    }

    /// The report as JSON, indented, with an end of line.
    pub fn to_json(&self) -> String {
        json(self)
    }
}

impl ObjectReport {
    /// What a report says of an object that was judged as it stands in a file.
    pub fn of_judgement(subject: &Subject, judgement: &ObjectAssessment) -> Self {
        Self::new(subject, &judgement.verdict, &judgement.plan, &judgement.facts)
    }

    fn new(subject: &Subject, verdict: &Verdict, plan: &Plan, facts: &Facts) -> Self {
        let manifest =
            subject.object.reference(Field::OsImage).map(|image| facts.manifest(&image.pull_spec()));
        Self {
            name: subject.name.clone(),
            file: subject.origin.file().map(str::to_owned),
            line: subject.origin.line(),
            verdict: verdict.outcome().as_str(),
            image: subject.object.image(Field::OsImage).map(|image| image.text.clone()),
            pinned: plan.pinned(Field::OsImage).map(ToString::to_string),
            endpoint: match manifest {
                Some(Fact::Known(manifest)) => Some(manifest.endpoint.clone()),
                _ => None,
            },
            lineage: verdict.lineage.iter().map(LineageReport::from).collect(),
            findings: verdict
                .findings
                .iter()
                .map(|finding| FindingReport::new(finding, subject, false))
                .collect(),
            excepted: verdict
                .excepted
                .iter()
                .map(|excepted| SuppressedReport::new(excepted, subject))
                .collect(),
            warnings: Vec::new(),
            patch: plan.patch(),
            lacks_base: verdict.lacks_base,
        }
    }
}

impl FindingReport {
    fn new(finding: &Finding, subject: &Subject, fixed: bool) -> Self {
        let position = subject.origin.position(finding.field);
        Self {
            rule: finding.rule.id,
            level: finding.level.as_str(),
            message: finding.message.clone(),
            pointer: finding.field.pointer(),
            line: position.map(|position| position.line),
            column: position.map(|position| position.column),
            notes: finding.notes.clone(),
            help: finding.help.clone(),
            fixed,
        }
    }
}

impl SuppressedReport {
    fn new(excepted: &Suppressed, subject: &Subject) -> Self {
        let position = subject.origin.position(excepted.field);
        Self {
            rule: excepted.rule.id,
            message: excepted.message.clone(),
            pointer: excepted.field.pointer(),
            line: position.map(|position| position.line),
            column: position.map(|position| position.column),
            reason: excepted.reason.clone(),
            expires: excepted.expires.to_string(),
        }
    }
}

impl From<ReadError> for ErrorReport {
    fn from(unread: ReadError) -> Self {
        let ReadError { file, position, message, help } = unread;
        Self {
            file,
            line: position.map(|Position { line, .. }| line),
            column: position.map(|Position { column, .. }| column),
            message,
            help,
        }
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

/// A finding before and one after the patch are the same when the rule still finds fault with the
/// field; their words differ, because the value does.
fn same_fault(one: &Finding, other: &Finding) -> bool {
    one.rule.id == other.rule.id && one.field == other.field
}

/// A document as JSON that a terminal can bear too: what JSON lets stand in a string and a terminal
/// would obey is written as an escape, which means the same to a program.
fn json(document: &impl Serialize) -> String {
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
