//! The fold: what the rules see, at the levels of the policy, becomes one verdict.
//!
//! Pure and total: the same subject, facts and policy give the same verdict for ever, in the same
//! order (by field, then by rule). All findings are told, never only the first.

use jiff::tz::TimeZone;

use crate::facts::Facts;
use crate::machine_config::{Field, Subject};
use crate::policy::{Assigned, Level, Policy};
use crate::pools;
use crate::question::Question;
use crate::rules::{self, Case, Certainty, Input, Observation, Rule};

/// Judges `subject`.
pub fn evaluate(subject: &Subject, facts: &Facts, policy: &Policy) -> Verdict {
    let today = facts.observed_at.to_zoned(TimeZone::UTC).date();
    let case = Case { subject, facts, policy };
    let affected = pools::affected(subject, &facts.cluster);
    let pools = pools::names(&affected);
    let mut verdict = Verdict::default();
    for rule in rules::ALL {
        let Assigned { level, why } = policy.level(rule, &pools);
        if level == Level::Off {
            continue;
        }
        for observation in (rule.judge)(&case) {
            let mut notes = observation.notes.clone();
            let exceptions: Vec<_> = policy.exceptions(rule, &subject.name).collect();
            if let Some(exception) = exceptions.iter().find(|exception| exception.holds_on(today)) {
                verdict.excepted.push(Excepted {
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
                    notes.push(why.clone());
                    level
                }
                // The rule costs less than ignorance would, so it is the rule that decides.
                Certainty::Unknown if level < policy.on_unknown() => {
                    notes.push(why.clone());
                    level
                }
                Certainty::Unknown => {
                    notes.push(format!("{} in policy `{}`", on_unknown(policy.on_unknown()), policy.name()));
                    policy.on_unknown()
                }
            };
            if level != Level::Off {
                verdict.findings.push(Finding::new(rule, level, observation, notes));
            }
        }
    }
    verdict.findings.sort_by_key(|finding| finding.field);
    verdict.excepted.sort_by_key(|excepted| excepted.field);
    verdict
}

/// What must still be asked to judge `subject` under `policy`, given what `facts` hold already.
///
/// Once these are answered there may be more: ask until the list is empty.
pub fn questions(subject: &Subject, facts: &Facts, policy: &Policy) -> Vec<Question> {
    let affected = pools::affected(subject, &facts.cluster);
    let pools = pools::names(&affected);
    let asks = |rule: &&&'static Rule| {
        rule.inputs.contains(&Input::Image) && policy.level(rule, &pools).level != Level::Off
    };
    if !rules::ALL.iter().any(|rule| asks(&rule)) {
        return Vec::new();
    }
    let references = Field::ALL.iter().filter_map(|field| subject.object.reference(*field));
    let mut questions: Vec<_> = references.map(|reference| Question::manifest(reference.asked())).collect();
    questions.retain(|question| !question.is_answered_by(facts));
    questions
}

/// What was found, and what that comes to.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Every finding, by field and then by rule.
    pub findings: Vec<Finding>,
    /// What would be a finding but for an exception of the policy.
    pub excepted: Vec<Excepted>,
}

impl Verdict {
    /// The verdict on the whole object: its strictest finding.
    pub fn outcome(&self) -> Outcome {
        match self.findings.iter().map(|finding| finding.level).max() {
            Some(Level::Deny) => Outcome::Deny,
            Some(Level::Warn) => Outcome::Warn,
            Some(Level::Off) | None => Outcome::Pass,
        }
    }

    /// The findings at `level`.
    pub fn at(&self, level: Level) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.level == level)
    }
}

/// What a verdict comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was found.
    Pass,
    /// Something was found that costs a warning.
    Warn,
    /// Something was found that costs a denial.
    Deny,
}

impl Outcome {
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
pub struct Excepted {
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
