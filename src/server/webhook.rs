//! `/mutate` and `/validate`: the two admission webhooks.
//!
//! `/mutate` pins and never denies. `/validate` enforces the verdict on the object after all mutations.

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use crate::admission::{self, AdmissionAnswer, Disposition, Review};
use crate::evaluate::{Judgement, VerdictLevel};
use crate::model::machine_config::Subject;
use crate::server::ServerState;
use crate::server::request::{AcceptedRequest, Rejection};
use crate::server::review::{Decided, Outcome, ReviewEndpoint, ReviewedImage};

/// Pins the images that can be pinned, or enforces the policy on the object for [`ReviewEndpoint::Validate`].
pub(super) async fn review(
    state: &ServerState,
    endpoint: ReviewEndpoint,
    request: &AcceptedRequest,
) -> Result<Decided, Rejection> {
    let Review { head, disposition } = admission::decode(&request.body)
        .map_err(|error| Rejection::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let validates = endpoint == ReviewEndpoint::Validate;
    let (outcome, answer) = match disposition {
        Disposition::Judge(subject) if validates => judge(state, &subject, request).await,
        Disposition::Judge(subject) => pin(state, &subject, request).await,
        Disposition::Pass(reason) => {
            (unchecked(VerdictLevel::Pass, reason.as_str().to_owned()), AdmissionAnswer::default())
        }
        Disposition::Unreadable(fault) => {
            let mut answer = AdmissionAnswer::default();
            let message = format!("cannot read the MachineConfig: {fault}");
            let verdict = if validates {
                answer.denial = Some(message);
                VerdictLevel::Deny
            } else {
                answer.warnings.push(message);
                VerdictLevel::Warn
            };
            (unchecked(verdict, fault), answer)
        }
    };
    let body = admission::respond(&head.uid, &answer);
    let response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    Ok(Decided { head, outcome, response })
}

/// The outcome for an object of which no image is known.
fn unchecked(verdict: VerdictLevel, note: String) -> Outcome {
    Outcome { image: ReviewedImage::default(), verdict: verdict.as_str(), rules: String::new(), note }
}

async fn pin(
    state: &ServerState,
    subject: &Subject,
    request: &AcceptedRequest,
) -> (Outcome, AdmissionAnswer) {
    let policy = state.parts.policy.current();
    let plan = state.parts.engine.pin(subject, &policy, request.deadline).await;
    let warnings = plan.warnings();
    let verdict = if warnings.is_empty() { VerdictLevel::Pass } else { VerdictLevel::Warn };
    let outcome = Outcome {
        image: ReviewedImage::of(subject, |field, _| plan.pinned(field)?.digest()),
        verdict: verdict.as_str(),
        rules: String::new(),
        note: if plan.is_empty() { String::new() } else { "patched".to_owned() },
    };
    (outcome, AdmissionAnswer { patch: Some(plan.patch()), warnings, ..AdmissionAnswer::default() })
}

async fn judge(
    state: &ServerState,
    subject: &Subject,
    request: &AcceptedRequest,
) -> (Outcome, AdmissionAnswer) {
    let policy = state.parts.policy.current();
    let Judgement { verdict, facts } = state.parts.engine.judge(subject, &policy, request.deadline).await;
    state.parts.metrics.findings(&verdict.findings);
    let mut answer = AdmissionAnswer::enforce(&verdict);
    answer.audit.insert("policy", [policy.name(), "@", policy.hash()].concat());
    let rules: Vec<_> = verdict.findings.iter().map(|finding| finding.rule.id).collect();
    let outcome = Outcome {
        verdict: verdict.outcome().as_str(),
        image: ReviewedImage::of(subject, |_, reference| match reference.digest() {
            Some(digest) => Some(digest),
            None => Some(&facts.manifest(&reference.pull_spec()).known()?.digest),
        }),
        rules: rules.join(","),
        note: if verdict.excepted.is_empty() { String::new() } else { "excepted".to_owned() },
    };
    (outcome, answer)
}
