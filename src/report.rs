//! The report: what was found, as JSON for programs and as text for people.
//!
//! Owns the report's form, which is part of the contract: fields may be added, none renamed. What
//! does not apply is `null` or an empty list, never left out.

use std::fmt::Write as _;

use json_patch::Patch;
use serde::Serialize;

use crate::engine::Rehearsal;
use crate::evaluate::{Finding, Outcome, Verdict};
use crate::facts::Facts;
use crate::machine_config::{Field, Subject};

/// A report on objects.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    api_version: &'static str,
    kind: &'static str,
    policy: PolicyReport,
    objects: Vec<ObjectReport>,
    summary: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<Facts>,
}

#[derive(Debug, Serialize)]
struct PolicyReport {
    name: String,
    hash: String,
}

#[derive(Debug, Serialize)]
struct ObjectReport {
    name: String,
    file: Option<String>,
    line: Option<u64>,
    verdict: &'static str,
    image: Option<String>,
    pinned: Option<String>,
    lineage: [(); 0],
    findings: Vec<FindingReport>,
    excepted: Vec<ExceptedReport>,
    warnings: Vec<String>,
    patch: Patch,
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
struct ExceptedReport {
    rule: &'static str,
    message: String,
    pointer: &'static str,
    reason: String,
    expires: String,
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    objects: usize,
    denied: usize,
    warned: usize,
    passed: usize,
}

impl Report {
    /// The report on what the cluster would do with one object.
    ///
    /// The verdict is that of the object after the patch. The findings are those of the object as it
    /// came, each marked `fixed` where the patch mends it, and those that the patch brings.
    pub fn of_rehearsal(rehearsal: Rehearsal) -> Self {
        let Rehearsal { subject, policy, facts, plan, before, verdict } = rehearsal;
        let outcome = verdict.outcome();
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
            name: subject.name.clone(),
            file: None,
            line: subject.origin.line(),
            verdict: outcome.as_str(),
            image: subject.object.image(Field::OsImage).map(|image| image.text.clone()),
            pinned: plan.pinned(Field::OsImage).map(ToString::to_string),
            lineage: [],
            findings,
            excepted: excepted(&verdict),
            warnings: plan.warnings.clone(),
            patch: plan.patch(),
        };
        Self {
            api_version: "layerpin.io/v1alpha1",
            kind: "Report",
            policy: PolicyReport { name: policy.name().to_owned(), hash: policy.hash().to_owned() },
            objects: vec![object],
            summary: Summary {
                objects: 1,
                denied: usize::from(outcome == Outcome::Deny),
                warned: usize::from(outcome == Outcome::Warn),
                passed: usize::from(outcome == Outcome::Pass),
            },
            facts: Some(facts),
        }
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

    /// The report as text for people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for object in &self.objects {
            // Writing to a string does not fail.
            let _ = object.write(&mut text);
        }
        text
    }
}

impl ObjectReport {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        for finding in &self.findings {
            let severity = match (finding.fixed, finding.level) {
                (true, _) => "fixed",
                (false, "deny") => "error",
                (false, _) => "warning",
            };
            writeln!(out, "{severity}[{}]: {}", finding.rule, finding.message)?;
            let file = self.file.as_deref().unwrap_or("<request>");
            let place = match (finding.line, finding.column) {
                (Some(line), Some(column)) => format!("{file}:{line}:{column}"),
                _ => file.to_owned(),
            };
            writeln!(out, "  --> {place} ({} of MachineConfig {})", finding.pointer, self.name)?;
            for note in &finding.notes {
                writeln!(out, "  note: {note}")?;
            }
            if !finding.fixed {
                writeln!(out, "  help: {}", finding.help)?;
            }
            writeln!(out)?;
        }
        for excepted in &self.excepted {
            writeln!(out, "excepted[{}]: {}", excepted.rule, excepted.message)?;
            writeln!(out, "  note: until {}: {}\n", excepted.expires, excepted.reason)?;
        }
        for warning in &self.warnings {
            writeln!(out, "mutate: {warning}")?;
        }
        for operation in &self.patch.0 {
            writeln!(out, "patch: {}", serde_json::to_string(operation).unwrap_or_default())?;
        }
        writeln!(out, "verdict on MachineConfig {}: {}", self.name, self.verdict)
    }
}

impl FindingReport {
    fn new(finding: &Finding, subject: &Subject, fixed: bool) -> Self {
        let place = subject.origin.place(finding.field);
        Self {
            rule: finding.rule.id,
            level: finding.level.as_str(),
            message: finding.message.clone(),
            pointer: finding.field.pointer(),
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
            notes: finding.notes.clone(),
            help: finding.help.clone(),
            fixed,
        }
    }
}

fn excepted(verdict: &Verdict) -> Vec<ExceptedReport> {
    verdict
        .excepted
        .iter()
        .map(|excepted| ExceptedReport {
            rule: excepted.rule.id,
            message: excepted.message.clone(),
            pointer: excepted.field.pointer(),
            reason: excepted.reason.clone(),
            expires: excepted.expires.to_string(),
        })
        .collect()
}

/// A finding before and one after the patch are the same when the rule still finds fault with the
/// field; their words differ, because the value does.
fn same_fault(one: &Finding, other: &Finding) -> bool {
    one.rule.id == other.rule.id && one.field == other.field
}
