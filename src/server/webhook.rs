//! `/mutate` and `/validate`: the two admission webhooks.
//!
//! `/mutate` pins and never denies; `/validate` enforces the verdict on the object as it then
//! stands. Each review is one line of log.

use std::sync::Arc;

use axum::body::Body;
use axum::extract;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::admission::{self, Answer, Matter, Review};
use crate::evaluate::{Outcome, Verdict};
use crate::model::machine_config::Subject;
use crate::server::State;
use crate::server::request::{self, Accepted, Refusal};
use crate::text::shown;

/// Pins what can be pinned.
pub(super) async fn mutate(
    extract::State(state): extract::State<Arc<State>>,
    request: Request<Body>,
) -> Response {
    answer(&state, Endpoint::Mutate, request).await
}

/// Judges the object as it stands.
pub(super) async fn validate(
    extract::State(state): extract::State<Arc<State>>,
    request: Request<Body>,
) -> Response {
    answer(&state, Endpoint::Validate, request).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Mutate,
    Validate,
}

impl Endpoint {
    fn as_str(self) -> &'static str {
        match self {
            Self::Mutate => "mutate",
            Self::Validate => "validate",
        }
    }
}

async fn answer(state: &State, endpoint: Endpoint, request: Request<Body>) -> Response {
    let begun = tokio::time::Instant::now();
    let accepted = match request::accept(state, request).await {
        Ok(accepted) => accepted,
        Err(refusal) => return refuse(state, endpoint, refusal, begun),
    };
    let review = match admission::decode(&accepted.body) {
        Ok(review) => review,
        Err(error) => {
            let refusal = Refusal::new(StatusCode::BAD_REQUEST, error.to_string());
            return refuse(state, endpoint, refusal, begun);
        }
    };
    let outcome = settle(state, endpoint, &review, &accepted).await;
    report(state, endpoint, &review, &outcome, &accepted);
    let body = admission::respond(&review.uid, &outcome.answer);
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// What is answered, and what of it goes into log and metrics.
struct Settled {
    answer: Answer,
    outcome: Outcome,
    rules: Vec<&'static str>,
    note: Option<String>,
}

async fn settle(state: &State, endpoint: Endpoint, review: &Review, accepted: &Accepted) -> Settled {
    let quiet = |note: &str| Settled {
        answer: Answer::pass(),
        outcome: Outcome::Pass,
        rules: Vec::new(),
        note: Some(note.to_owned()),
    };
    match &review.matter {
        Matter::Pass(reason) => quiet(reason.as_str()),
        Matter::Unreadable(fault) => unreadable(endpoint, fault),
        Matter::Judge(subject) => match endpoint {
            Endpoint::Mutate => pin(state, subject, accepted).await,
            Endpoint::Validate => judge(state, subject, accepted).await,
        },
    }
}

async fn pin(state: &State, subject: &Subject, accepted: &Accepted) -> Settled {
    let policy = state.policy.current();
    let plan = state.engine.pin(subject, &policy, accepted.deadline).await;
    let outcome = if plan.warnings.is_empty() { Outcome::Pass } else { Outcome::Warn };
    let note = (!plan.is_empty()).then(|| "patched".to_owned());
    let answer = Answer { patch: Some(plan.patch()), warnings: plan.warnings, ..Answer::default() };
    Settled { answer, outcome, rules: Vec::new(), note }
}

async fn judge(state: &State, subject: &Subject, accepted: &Accepted) -> Settled {
    let policy = state.policy.current();
    let verdict: Verdict = state.engine.judge(subject, &policy, accepted.deadline).await;
    state.metrics.findings(&verdict.findings);
    let mut answer = Answer::enforce(&verdict);
    answer.audit.insert("policy", format!("{}@{}", policy.name(), policy.hash()));
    let rules = verdict.findings.iter().map(|finding| finding.rule.id).collect();
    let note = (!verdict.excepted.is_empty()).then(|| "excepted".to_owned());
    Settled { answer, outcome: verdict.outcome(), rules, note }
}

/// A MachineConfig that cannot be read: `/mutate` lets it pass with a word, `/validate` refuses it.
fn unreadable(endpoint: Endpoint, fault: &str) -> Settled {
    let message = format!("the MachineConfig cannot be judged: {fault}");
    let (answer, outcome) = match endpoint {
        Endpoint::Mutate => (Answer { warnings: vec![message], ..Answer::default() }, Outcome::Warn),
        Endpoint::Validate => (Answer { denial: Some(message), ..Answer::default() }, Outcome::Deny),
    };
    Settled { answer, outcome, rules: Vec::new(), note: Some(fault.to_owned()) }
}

fn report(state: &State, endpoint: Endpoint, review: &Review, settled: &Settled, accepted: &Accepted) {
    let took = accepted.begun.elapsed();
    state.metrics.review(endpoint.as_str(), &review.operation, settled.outcome.as_str(), took);
    tracing::info!(
        endpoint = endpoint.as_str(),
        uid = shown(&review.uid),
        name = shown(&review.name),
        operation = shown(&review.operation),
        verdict = settled.outcome.as_str(),
        rules = settled.rules.join(","),
        note = settled.note.as_deref().unwrap_or_default(),
        milliseconds = took.as_secs_f64() * 1000.0,
        "review"
    );
}

fn refuse(state: &State, endpoint: Endpoint, refusal: Refusal, begun: tokio::time::Instant) -> Response {
    state.metrics.review(endpoint.as_str(), "", refusal.label(), begun.elapsed());
    tracing::warn!(endpoint = endpoint.as_str(), reason = refusal.message(), "request refused");
    refusal.into_response()
}
