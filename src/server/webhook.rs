//! `/mutate` and `/validate`: the two admission webhooks.
//!
//! `/mutate` pins and never denies. `/validate` enforces the verdict on the object after all mutations.

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use crate::admission::{self, AdmissionAnswer, Disposition, PassReason, Review};
use crate::evaluate::{Judgement, VerdictLevel};
use crate::model::machine_config::Subject;
use crate::server::ServerState;
use crate::server::request::{AcceptedRequest, Rejection};
use crate::server::review::{Decided, ReviewedImage};

/// What is answered, and what the log says of it.
#[derive(Default)]
struct Decision {
    answer: AdmissionAnswer,
    verdict: VerdictLevel,
    image: ReviewedImage,
    rules: String,
    note: String,
}

/// Pins the images that can be pinned.
pub(super) async fn mutate(state: &ServerState, request: &AcceptedRequest) -> Result<Decided, Rejection> {
    let Review { head, disposition } = decode(request)?;
    let decision = match disposition {
        Disposition::Pass(reason) => Decision::untouched(reason),
        Disposition::Unreadable(fault) => Decision {
            answer: AdmissionAnswer { warnings: vec![unreadable(&fault)], ..AdmissionAnswer::default() },
            verdict: VerdictLevel::Warn,
            note: fault,
            ..Decision::default()
        },
        Disposition::Judge(subject) => pin(state, &subject, request).await,
    };
    Ok(decision.of(head))
}

/// Enforces the policy on the object.
pub(super) async fn validate(state: &ServerState, request: &AcceptedRequest) -> Result<Decided, Rejection> {
    let Review { head, disposition } = decode(request)?;
    let decision = match disposition {
        Disposition::Pass(reason) => Decision::untouched(reason),
        Disposition::Unreadable(fault) => Decision {
            answer: AdmissionAnswer { denial: Some(unreadable(&fault)), ..AdmissionAnswer::default() },
            verdict: VerdictLevel::Deny,
            note: fault,
            ..Decision::default()
        },
        Disposition::Judge(subject) => judge(state, &subject, request).await,
    };
    Ok(decision.of(head))
}

fn decode(request: &AcceptedRequest) -> Result<Review, Rejection> {
    admission::decode(&request.body)
        .map_err(|error| Rejection::new(StatusCode::BAD_REQUEST, error.to_string()))
}

async fn pin(state: &ServerState, subject: &Subject, request: &AcceptedRequest) -> Decision {
    let policy = state.policy.current();
    let plan = state.engine.pin(subject, &policy, request.deadline).await;
    let warnings = plan.warnings();
    Decision {
        image: ReviewedImage::of(subject, |field, _| plan.pinned(field)?.digest()),
        verdict: if warnings.is_empty() { VerdictLevel::Pass } else { VerdictLevel::Warn },
        note: if plan.is_empty() { String::new() } else { "patched".to_owned() },
        answer: AdmissionAnswer { patch: Some(plan.patch()), warnings, ..AdmissionAnswer::default() },
        rules: String::new(),
    }
}

async fn judge(state: &ServerState, subject: &Subject, request: &AcceptedRequest) -> Decision {
    let policy = state.policy.current();
    let Judgement { verdict, facts } = state.engine.judge(subject, &policy, request.deadline).await;
    state.metrics.findings(&verdict.findings);
    let mut answer = AdmissionAnswer::enforce(&verdict);
    answer.audit.insert("policy", [policy.name(), "@", policy.hash()].concat());
    let rules: Vec<_> = verdict.findings.iter().map(|finding| finding.rule.id).collect();
    Decision {
        answer,
        verdict: verdict.outcome(),
        image: ReviewedImage::of(subject, |_, reference| match reference.digest() {
            Some(digest) => Some(digest),
            None => Some(&facts.manifest(&reference.pull_spec()).known()?.digest),
        }),
        rules: rules.join(","),
        note: if verdict.excepted.is_empty() { String::new() } else { "excepted".to_owned() },
    }
}

fn unreadable(fault: &str) -> String {
    format!("cannot read the MachineConfig: {fault}")
}

impl Decision {
    /// Allows an object that is not checked.
    fn untouched(reason: PassReason) -> Self {
        Self { note: reason.as_str().to_owned(), ..Self::default() }
    }

    fn of(self, head: admission::ReviewHead) -> Decided {
        let Self { answer, verdict, image, rules, note } = self;
        let body = admission::respond(&head.uid, &answer);
        let response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
        Decided { head, image, verdict: verdict.as_str(), rules, note, response }
    }
}
