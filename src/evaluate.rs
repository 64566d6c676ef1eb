//! The fold: what the rules see, at the levels of the policy, becomes one verdict.
//!
//! Pure and total: the same subject, facts and policy give the same verdict for ever, in the same
//! order (by field, then by rule). All findings are told, never only the first.

use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::lineage::{self, Lineage, MissingFact};
use crate::model::facts::Facts;
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::{Field, Subject};
use crate::model::question::{Freshness, Question, Step};
use crate::pin::{self, Plan};
use crate::policy::{Level, Policy};
use crate::pools::{self, AffectedPool};
use crate::rules::{self, Certainty, Context, Observation, Rule, RuleInput};

/// Judges `subject`.
pub fn evaluate(subject: &Subject, facts: &Facts, policy: &Policy) -> Verdict {
    let affected = pools::affected(subject, &facts.cluster);
    Evaluation::of(subject, facts, policy, &affected).verdict()
}

/// Judges `subject` under `policy` once `facts` hold all that it is judged by.
pub fn assess(subject: &Subject, facts: &Facts, policy: &Policy) -> Step<Verdict> {
    let affected = pools::affected(subject, &facts.cluster);
    let evaluation = Evaluation::of(subject, facts, policy, &affected);
    Step::after(evaluation.questions(), || evaluation.verdict())
}

/// An object as far as it can be seen: what both the questions and the verdict rest on.
struct Evaluation<'a> {
    subject: &'a Subject,
    facts: &'a Facts,
    policy: &'a Policy,
    affected: &'a [AffectedPool<'a>],
    pools: Vec<&'a str>,
    /// The rules that are not off.
    rules: Vec<(&'static Rule, Level)>,
    judgement: lineage::LineageAssessment,
}

impl<'a> Evaluation<'a> {
    fn of(
        subject: &'a Subject,
        facts: &'a Facts,
        policy: &'a Policy,
        affected: &'a [AffectedPool<'a>],
    ) -> Self {
        let pools = pools::names(affected);
        let levels = rules::ALL.iter().map(|rule| (*rule, policy.level_alone(rule, &pools)));
        let rules = levels.filter(|(_, level)| *level != Level::Off).collect();
        let judgement = match subject.object.reference(Field::OsImage) {
            Some(image) => lineage::judge(image, affected, facts, policy),
            None => lineage::LineageAssessment::default(),
        };
        Self { subject, facts, policy, affected, pools, rules, judgement }
    }

    fn questions(&self) -> Vec<Question> {
        let asks = |input: RuleInput| self.rules.iter().any(|(rule, _)| rule.inputs.contains(&input));
        let mut questions = Vec::new();
        if asks(RuleInput::Manifest) || asks(RuleInput::Image) {
            let references = Field::ALL.iter().filter_map(|field| self.subject.object.reference(*field));
            for reference in references.map(ImageReference::pull_spec) {
                questions.extend(pin::look_ups(&reference, Freshness::Cached, self.facts));
            }
        }
        if asks(RuleInput::Image) {
            questions.extend_from_slice(&self.judgement.questions);
            questions.extend(rules::further_questions(self.subject, self.affected, self.facts));
        }
        questions
    }

    fn verdict(self) -> Verdict {
        let Self { subject, facts, policy, affected, pools, rules, judgement } = self;
        let today = facts.observed_at.to_zoned(TimeZone::UTC).date();
        let lineage = judgement.lineage;
        let case = Context { subject, facts, policy, pools: affected, lineage: &lineage };
        let mut verdict = Verdict::default();
        let mut found: Vec<RankedFinding> = Vec::new();
        for (rule, level) in &rules {
            let (rule, level) = (*rule, *level);
            for observation in (rule.judge)(&case) {
                let mut notes = observation.notes.clone();
                let exceptions: Vec<_> = policy.exceptions(rule, &subject.name).collect();
                if let Some(exception) = exceptions.iter().find(|exception| exception.holds_on(today)) {
                    verdict.excepted.push(Suppressed {
                        rule,
                        field: observation.field,
                        message: observation.message,
                        reason: exception.reason.clone(),
                        expires: exception.expires,
                    });
                    continue;
                }
                for exception in exceptions {
                    notes.push(format!(
                        "the exception for it ended on {}: {}",
                        exception.expires, exception.reason
                    ));
                }
                let level = match observation.certainty {
                    Certainty::Fault => {
                        notes.push(policy.level(rule, &pools).why);
                        level
                    }
                    Certainty::Minor => {
                        notes.push(policy.level(rule, &pools).why);
                        level.min(Level::Warn)
                    }
                    // The rule costs less than ignorance would, so it is the rule that decides.
                    Certainty::Unknown if level < policy.on_unknown() => {
                        notes.push(policy.level(rule, &pools).why);
                        level
                    }
                    Certainty::Unknown => {
                        notes.push(format!(
                            "{} in policy `{}`",
                            on_unknown(policy.on_unknown()),
                            policy.name()
                        ));
                        policy.on_unknown()
                    }
                };
                if level != Level::Off {
                    let (certainty, missing) = (observation.certainty, observation.missing.clone());
                    found.push((Finding::new(rule, level, observation, notes), certainty, missing));
                }
            }
        }
        verdict.findings = without_repetitions(found);
        let judges_lineage =
            rules.iter().any(|(rule, _)| rules::OF_LINEAGE.iter().any(|of| of.id == rule.id));
        verdict.lacks_base = judges_lineage && lineage.iter().any(Lineage::lacks_base);
        verdict.lineage = lineage;
        verdict.findings.sort_by_key(|finding| finding.field);
        verdict.excepted.sort_by_key(|excepted| excepted.field);
        verdict
    }
}

/// A finding, with how sure it is and the answer that is missing for it.
type RankedFinding = (Finding, Certainty, Option<MissingFact>);

/// Of the findings that say of one field that they do not know, for want of the same answer, the
/// strictest alone, and none where a fault says as much already; of equals that of the rule that needs
/// the least, and of these the first. One registry that does not answer is one thing to do something about.
fn without_repetitions(found: Vec<RankedFinding>) -> Vec<Finding> {
    let rank = |(finding, certainty, _): &RankedFinding| {
        let unknown = *certainty == Certainty::Unknown;
        (std::cmp::Reverse(finding.level), unknown, finding.rule.inputs, finding.rule.id)
    };
    let is_repeated = |told: &RankedFinding| {
        let (finding, certainty, missing) = told;
        *certainty == Certainty::Unknown
            && missing.is_some()
            && found.iter().any(|other| {
                other.2 == *missing && other.0.field == finding.field && rank(other) < rank(told)
            })
    };
    let repeated: Vec<_> = found.iter().map(is_repeated).collect();
    let kept = found.into_iter().zip(repeated).filter(|(_, repeated)| !repeated);
    kept.map(|((finding, ..), _)| finding).collect()
}

/// What was found, and what that comes to.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Every finding, by field and then by rule.
    pub findings: Vec<Finding>,
    /// What would be a finding but for an exception of the policy.
    pub excepted: Vec<Suppressed>,
    /// What is known of the lineage of the operating system image, in each pool on each platform.
    pub lineage: Vec<Lineage>,
    /// Whether lineage was to be judged, and nothing named a base to judge it by. That is no fault of
    /// the object, and so no finding.
    pub lacks_base: bool,
}

impl Verdict {
    /// The verdict on the whole object: its strictest finding.
    pub fn outcome(&self) -> VerdictLevel {
        match self.findings.iter().map(|finding| finding.level).max() {
            Some(Level::Deny) => VerdictLevel::Deny,
            Some(Level::Warn) => VerdictLevel::Warn,
            Some(Level::Off) | None => VerdictLevel::Pass,
        }
    }

    /// The findings at `level`.
    pub fn at(&self, level: Level) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.level == level)
    }
}

/// An object as it stands, judged.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// What was found.
    pub verdict: Verdict,
    /// What the verdict rests on.
    pub facts: Facts,
}

/// What the cluster would do with an object, step by step.
#[derive(Debug)]
pub struct DryRun {
    /// The object as it came.
    pub subject: Subject,
    /// The policy that it was judged under.
    pub policy: Arc<Policy>,
    /// What was known.
    pub facts: Facts,
    /// What `/mutate` would change.
    pub plan: Plan,
    /// The verdict on the object as it came.
    pub before: Verdict,
    /// The verdict on the object after the plan: what `/validate` would say.
    pub verdict: Verdict,
}

/// What a verdict comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictLevel {
    /// Nothing was found.
    Pass,
    /// Something was found that costs a warning.
    Warn,
    /// Something was found that costs a denial.
    Deny,
}

impl VerdictLevel {
    /// The verdict as reports, logs and metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }
}

/// One thing that a rule found, at the level that the policy gives it.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// What it costs: a warning or a denial.
    pub level: Level,
    /// The field.
    pub field: Field,
    /// What is wrong with this object: one phrase.
    pub message: String,
    /// What explains it, the reason for the level last.
    pub notes: Vec<String>,
    /// One thing to do.
    pub help: String,
}

impl Finding {
    fn new(rule: &'static Rule, level: Level, observation: Observation, notes: Vec<String>) -> Self {
        let Observation { field, message, help, .. } = observation;
        Self { rule, level, field, message, notes, help }
    }
}

/// A finding that an exception of the policy took out of the verdict.
#[derive(Clone, Debug)]
pub struct Suppressed {
    /// The rule.
    pub rule: &'static Rule,
    /// The field.
    pub field: Field,
    /// What was found.
    pub message: String,
    /// Why it is excepted.
    pub reason: String,
    /// The last day on which it is.
    pub expires: jiff::civil::Date,
}

fn on_unknown(level: Level) -> &'static str {
    match level {
        Level::Off => "`onUnknown` is `allow`",
        Level::Warn => "`onUnknown` is `warn`",
        Level::Deny => "`onUnknown` is `deny`",
    }
}
