//! Evaluation: the observations of the rules at the levels of the policy become one verdict.
//!
//! Pure: the same subject, facts and policy always give the same verdict, with its findings in the same
//! order (by field, then by rule). All findings are reported, not only the first.

use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::lineage::{self, Lineage, LineageAssessment, MissingFact};
use crate::model::facts::Facts;
use crate::model::facts::cluster::Cluster;
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::{Field, Subject};
use crate::model::question::{Freshness, Question, Step};
use crate::pin::{self, Plan};
use crate::policy::{Level, Policy};
use crate::pools::{self, AffectedPool};
use crate::rules::{self, Certainty, Context, Judge, Observation, Rule, RuleInput};

/// Judges `subject`.
pub fn evaluate(subject: &Subject, facts: &Facts, policy: &Policy) -> Verdict {
    let evaluation = Evaluation::of(subject, &facts.cluster, policy);
    evaluation.verdict(facts, evaluation.assessment(facts).lineage)
}

/// The evaluation of one object: all that does not depend on what registries answer.
pub struct Evaluation<'a> {
    subject: &'a Subject,
    policy: &'a Policy,
    pools: Vec<AffectedPool<'a>>,
    /// The names of the pools.
    names: Vec<&'a str>,
    /// The rules that are not off.
    rules: Vec<(&'static Rule, Judge, Level)>,
}

impl<'a> Evaluation<'a> {
    /// The evaluation of `subject`, in the pools that `cluster` has.
    pub fn of(subject: &'a Subject, cluster: &'a Cluster, policy: &'a Policy) -> Self {
        let pools = pools::affected(subject, cluster);
        let names = pools::names(&pools);
        let levels = rules::judges().map(|(rule, judge)| (rule, judge, policy.level_alone(rule, &names)));
        let mut rules = Vec::with_capacity(rules::ALL.len());
        rules.extend(levels.filter(|(.., level)| *level != Level::Off));
        Self { subject, policy, pools, names, rules }
    }

    /// The verdict if `facts` contain everything that is needed; otherwise what must be asked.
    pub fn step(&self, facts: &Facts) -> Step<Verdict> {
        let assessment = self.assessment(facts);
        let questions = self.questions(facts, &assessment);
        Step::after(questions, || self.verdict(facts, assessment.lineage))
    }

    fn assessment(&self, facts: &Facts) -> LineageAssessment {
        let image = self.subject.object.reference(Field::OsImage);
        image.map(|image| lineage::judge(image, &self.pools, facts, self.policy)).unwrap_or_default()
    }

    fn questions(&self, facts: &Facts, assessment: &LineageAssessment) -> Vec<Question> {
        let asks = |input: RuleInput| self.rules.iter().any(|(rule, ..)| rule.needs(input));
        let mut questions = Vec::new();
        if asks(RuleInput::Manifest) || asks(RuleInput::Image) {
            let references = Field::ALL.iter().filter_map(|field| self.subject.object.reference(*field));
            for reference in references.map(ImageReference::pull_spec) {
                questions.extend(pin::look_ups(&reference, Freshness::Cached, facts));
            }
        }
        if asks(RuleInput::Image) {
            questions.extend_from_slice(&assessment.questions);
            questions.extend(rules::further_questions(self.subject, &self.pools, facts));
        }
        questions
    }

    fn verdict(&self, facts: &Facts, lineage: Vec<Lineage>) -> Verdict {
        let Self { subject, policy, pools, names, rules } = self;
        let today = facts.observed_at.to_zoned(TimeZone::UTC).date();
        let context = Context { subject, facts, policy, pools, lineage: &lineage };
        let is_on = |id: &str| rules.iter().any(|(rule, ..)| rule.id == id);
        let mut verdict = Verdict::default();
        let mut found: Vec<RankedFinding> = Vec::new();
        for (rule, judge, level) in rules.iter().copied() {
            for observation in judge(&context) {
                if observation.covered_by.is_some_and(is_on) {
                    continue;
                }
                let exceptions = || policy.exceptions(rule, &subject.name);
                if let Some(exception) = exceptions().find(|exception| exception.applies_on(today)) {
                    verdict.excepted.push(Suppressed {
                        rule,
                        field: observation.field,
                        message: observation.message,
                        reason: exception.reason.clone(),
                        expires: exception.expires,
                    });
                    continue;
                }
                let Observation { field, certainty, message, mut notes, help, missing, .. } = observation;
                notes.extend(exceptions().map(|exception| {
                    format!("its exception expired on {}: {}", exception.expires, exception.reason)
                }));
                let level_of_rule = || policy.level(rule, names).reason;
                let (level, reason) = match certainty {
                    Certainty::Fault => (level, level_of_rule()),
                    Certainty::Minor => (level.min(Level::Warn), level_of_rule()),
                    Certainty::Unknown if level < policy.on_unknown() => (level, level_of_rule()),
                    Certainty::Unknown => (policy.on_unknown(), on_unknown(policy)),
                };
                if level != Level::Off {
                    notes.push(reason);
                    found.push((Finding { rule, level, field, message, notes, help }, certainty, missing));
                }
            }
        }
        verdict.findings = without_repetitions(found);
        let compares_bases = rules.iter().any(|(rule, ..)| rule.needs(RuleInput::Base));
        verdict.lacks_base = compares_bases && lineage.iter().any(Lineage::lacks_base);
        verdict.lineage = lineage;
        verdict.findings.sort_by_key(|finding| finding.field);
        verdict.excepted.sort_by_key(|excepted| excepted.field);
        verdict
    }
}

fn on_unknown(policy: &Policy) -> String {
    let value = match policy.on_unknown() {
        Level::Off => "allow",
        level => level.as_str(),
    };
    format!("`onUnknown` is `{value}` in policy `{}`", policy.name())
}

/// A finding, with its certainty and the fact that is missing for it.
type RankedFinding = (Finding, Certainty, Option<MissingFact>);

/// Drops findings on one field that are unknown for lack of the same fact, except for the strictest, and
/// all of them if a fault depends on that fact. Of equally strict ones the rule with the cheapest inputs is
/// kept, then the first: one registry that does not answer is one thing to fix.
fn without_repetitions(found: Vec<RankedFinding>) -> Vec<Finding> {
    let rank = |(finding, certainty, _): &RankedFinding| {
        let unknown = *certainty == Certainty::Unknown;
        (std::cmp::Reverse(finding.level), unknown, finding.rule.inputs, finding.rule.id)
    };
    let is_repeated = |ranked: &RankedFinding| {
        let (finding, certainty, missing) = ranked;
        *certainty == Certainty::Unknown
            && missing.is_some()
            && found.iter().any(|other| {
                other.2 == *missing && other.0.field == finding.field && rank(other) < rank(ranked)
            })
    };
    let repeated: Vec<_> = found.iter().map(is_repeated).collect();
    let kept = found.into_iter().zip(repeated).filter(|(_, repeated)| !repeated);
    kept.map(|((finding, ..), _)| finding).collect()
}

/// The findings on one object.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Every finding, by field and then by rule.
    pub findings: Vec<Finding>,
    /// What an exception of the policy suppresses.
    pub excepted: Vec<Suppressed>,
    /// The lineage of the operating system image in each pool on each platform.
    pub lineage: Vec<Lineage>,
    /// Whether a rule compares the image with bases, but no base is named. That is not a fault of the object,
    /// and so not a finding.
    pub lacks_base: bool,
}

impl Verdict {
    /// The level of the strictest finding.
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

/// The verdict on an object in its present state, and its facts.
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

/// The level of a verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerdictLevel {
    /// There are no findings.
    #[default]
    Pass,
    /// There are warnings.
    Warn,
    /// There are findings that deny.
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

/// What a rule found, at its level in the policy.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// A warning or a denial.
    pub level: Level,
    /// The field.
    pub field: Field,
    /// What is wrong with this object: one phrase.
    pub message: String,
    /// Explanations; the last one is the reason for the level.
    pub notes: Vec<String>,
    /// One thing to do.
    pub help: String,
}

/// A finding that an exception of the policy suppresses.
#[derive(Clone, Debug)]
pub struct Suppressed {
    /// The rule.
    pub rule: &'static Rule,
    /// The field.
    pub field: Field,
    /// What was found.
    pub message: String,
    /// The reason of the exception.
    pub reason: String,
    /// The last day of the exception.
    pub expires: jiff::civil::Date,
}
