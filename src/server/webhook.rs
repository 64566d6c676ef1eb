//! `/mutate` and `/validate`: the two admission webhooks.
//!
//! `/mutate` pins and never denies; `/validate` enforces the verdict on the object as it then
//! stands. Each review is one line of log.

use std::sync::Arc;

use axum::body::Body;
use axum::extract;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::admission::{self, AdmissionAnswer, Disposition, Review};
use crate::evaluate::VerdictLevel;
use crate::model::machine_config::Subject;
use crate::server::ServerState;
use crate::server::request::{self, AcceptedRequest, Rejection};
use crate::text::shown;

/// Pins what can be pinned.
pub(super) async fn mutate(
    extract::State(state): extract::State<Arc<ServerState>>,
    request: Request<Body>,
) -> Response {
    answer(&state, Webhook::Mutate, request).await
}

/// Judges the object as it stands.
pub(super) async fn validate(
    extract::State(state): extract::State<Arc<ServerState>>,
    request: Request<Body>,
) -> Response {
    answer(&state, Webhook::Validate, request).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Webhook {
    Mutate,
    Validate,
}

impl Webhook {
    fn as_str(self) -> &'static str {
        match self {
            Self::Mutate => "mutate",
            Self::Validate => "validate",
        }
    }
}

async fn answer(state: &ServerState, endpoint: Webhook, request: Request<Body>) -> Response {
    let begun = tokio::time::Instant::now();
    let accepted = match request::accept(state, request).await {
        Ok(accepted) => accepted,
        Err(refusal) => return refuse(state, endpoint, refusal, begun),
    };
    let review = match admission::decode(&accepted.body) {
        Ok(review) => review,
        Err(error) => {
            let refusal = Rejection::new(StatusCode::BAD_REQUEST, error.to_string());
            return refuse(state, endpoint, refusal, begun);
        }
    };
    let outcome = settle(state, endpoint, &review, &accepted).await;
    report(state, endpoint, &review, &outcome, &accepted);
    let body = admission::respond(&review.uid, &outcome.answer);
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// What is answered, and what of it goes into log and metrics.
struct Outcome {
    answer: AdmissionAnswer,
    outcome: VerdictLevel,
    rules: Vec<&'static str>,
    note: Option<String>,
}

async fn settle(
    state: &ServerState,
    endpoint: Webhook,
    review: &Review,
    accepted: &AcceptedRequest,
) -> Outcome {
    let quiet = |note: &str| Outcome {
        answer: AdmissionAnswer::pass(),
        outcome: VerdictLevel::Pass,
        rules: Vec::new(),
        note: Some(note.to_owned()),
    };
    match &review.matter {
        Disposition::Pass(reason) => quiet(reason.as_str()),
        Disposition::Unreadable(fault) => unreadable(endpoint, fault),
        Disposition::Judge(subject) => match endpoint {
            Webhook::Mutate => pin(state, subject, accepted).await,
            Webhook::Validate => judge(state, subject, accepted).await,
        },
    }
}

async fn pin(state: &ServerState, subject: &Subject, accepted: &AcceptedRequest) -> Outcome {
    let policy = state.policy.current();
    let plan = state.engine.pin(subject, &policy, accepted.deadline).await;
    let warnings = plan.warnings();
    let outcome = if warnings.is_empty() { VerdictLevel::Pass } else { VerdictLevel::Warn };
    let note = (!plan.is_empty()).then(|| "patched".to_owned());
    let answer = AdmissionAnswer { patch: Some(plan.patch()), warnings, ..AdmissionAnswer::default() };
    Outcome { answer, outcome, rules: Vec::new(), note }
}

async fn judge(state: &ServerState, subject: &Subject, accepted: &AcceptedRequest) -> Outcome {
    let policy = state.policy.current();
    let verdict = state.engine.judge(subject, &policy, accepted.deadline).await.verdict;
    state.metrics.findings(&verdict.findings);
    let mut answer = AdmissionAnswer::enforce(&verdict);
    answer.audit.insert("policy", format!("{}@{}", policy.name(), policy.hash()));
    let rules = verdict.findings.iter().map(|finding| finding.rule.id).collect();
    let note = (!verdict.excepted.is_empty()).then(|| "excepted".to_owned());
    Outcome { answer, outcome: verdict.outcome(), rules, note }
}

/// A MachineConfig that cannot be read: `/mutate` lets it pass with a word, `/validate` refuses it.
fn unreadable(endpoint: Webhook, fault: &str) -> Outcome {
    let message = format!("the MachineConfig cannot be judged: {fault}");
    let (answer, outcome) = match endpoint {
        Webhook::Mutate => {
            (AdmissionAnswer { warnings: vec![message], ..AdmissionAnswer::default() }, VerdictLevel::Warn)
        }
        Webhook::Validate => {
            (AdmissionAnswer { denial: Some(message), ..AdmissionAnswer::default() }, VerdictLevel::Deny)
        }
    };
    Outcome { answer, outcome, rules: Vec::new(), note: Some(fault.to_owned()) }
}

fn report(
    state: &ServerState,
    endpoint: Webhook,
    review: &Review,
    settled: &Outcome,
    accepted: &AcceptedRequest,
) {
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

fn refuse(
    state: &ServerState,
    endpoint: Webhook,
    refusal: Rejection,
    begun: tokio::time::Instant,
) -> Response {
    state.metrics.review(endpoint.as_str(), "", refusal.label(), begun.elapsed());
    tracing::warn!(endpoint = endpoint.as_str(), reason = refusal.message(), "request refused");
    refusal.into_response()
}
