//! Runs the case files of the rules: from an object, facts and a policy to the verdict.
//!
//! [`cases`] describes their format. The whole verdict is compared, with the findings of other rules.

#[path = "rules/cases.rs"]
mod cases;

use std::collections::BTreeSet;

use layerpin::evaluate::{Verdict, evaluate};
use layerpin::model::facts::Fact;
use layerpin::model::image_reference::ImageReference;
use layerpin::model::machine_config::Field;
use layerpin::model::pull_spec::PullSpec;
use layerpin::policy::{Level, Policy};
use layerpin::report::LineageReport;
use layerpin::rules::{self, RuleInput};
use serde::Serialize;
use serde_json::json;

use cases::{Case, Expectation, ExpectedFinding, ExpectedSuppression, all, cases, file_of, folder};

#[test]
fn every_case_gets_the_verdict_that_it_expects() {
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
fn each_rule_has_a_case_file_and_each_file_a_rule() {
    let rules: BTreeSet<_> = rules::ALL.iter().map(file_of).collect();
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
        let reports = |case: &Case| case.expect.findings.iter().any(|finding| finding.rule == rule.id);
        let denied = cases.iter().any(|case| reports(case) && case.expect.verdict == "deny");
        assert!(denied, "{} has no case that it denies", file_of(rule));
        let passed = cases.iter().any(|case| case.expect.verdict == "pass" && !case.references().is_empty());
        assert!(passed, "{} has no case that passes", file_of(rule));
        let unknown = cases.iter().any(|case| reports(case) && case.knows_nothing());
        assert!(unknown, "{} has no case with a finding while nothing is known", file_of(rule));
        if !rule.inputs.iter().any(|input| matches!(input, RuleInput::Manifest | RuleInput::Image)) {
            // A rule that looks at the object alone keeps its level when nothing is known.
            let denied = cases.iter().any(|case| {
                let denies =
                    |finding: &ExpectedFinding| finding.rule == rule.id && finding.level == Level::Deny;
                case.knows_nothing() && case.expect.findings.iter().any(denies)
            });
            assert!(denied, "{} has no case that it denies while nothing is known", file_of(rule));
        }
    }
}

#[test]
fn case_names_are_unique_in_a_file() {
    for (file, cases) in all() {
        let mut names = BTreeSet::new();
        for case in cases {
            assert!(names.insert(case.name.clone()), "{file}: two cases are named `{}`", case.name);
        }
    }
}

impl Case {
    fn verdict(&self) -> Verdict {
        evaluate(&self.subject(), &self.facts(), &self.policy())
    }

    fn policy(&self) -> Policy {
        let Some(spec) = &self.policy else { return Policy::recommended() };
        let policy = json!({
            "apiVersion": "layerpin.io/v1alpha1", "kind": "OSImagePolicy", "metadata": {"name": "case"}, "spec": spec,
        });
        Policy::parse(&policy.to_string()).unwrap_or_else(|errors| panic!("{}: {errors}", self.name))
    }

    fn references(&self) -> Vec<PullSpec> {
        let object = self.subject().object;
        Field::ALL
            .into_iter()
            .filter_map(|field| object.reference(field))
            .map(ImageReference::pull_spec)
            .collect()
    }

    fn knows_nothing(&self) -> bool {
        let facts = self.facts();
        self.references().iter().all(|reference| matches!(facts.manifest(reference), Fact::Unknown(_)))
    }
}

impl Expectation {
    /// The expectation that this verdict meets.
    fn of(verdict: &Verdict) -> Self {
        let findings = verdict.findings.iter().map(|finding| ExpectedFinding {
            rule: finding.rule.id.to_owned(),
            level: finding.level,
            pointer: finding.field.pointer().to_owned(),
            message: finding.message.clone(),
            notes: finding.notes.clone(),
            help: finding.help.clone(),
        });
        let excepted = verdict.excepted.iter().map(|excepted| ExpectedSuppression {
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

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap()
}
