//! `/dry-run`: what the cluster would do with one object, with the evidence.
//!
//! Takes a bare MachineConfig, YAML or JSON, or an AdmissionReview. The verdict is never enforced:
//! a denial is part of the report, and the status is 200.

use std::sync::Arc;

use axum::body::Body;
use axum::extract;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::State;
use super::request::{self, Refusal};
use crate::image_reference::shown;
use crate::machine_config::Subject;
use crate::report::{Report, Style};
use crate::review::{self, Matter};

/// Who may use `/dry-run`, which makes the server ask registries on a caller's behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Access {
    /// Whoever reaches the server.
    Anyone,
    /// Nobody: the path is not there.
    Off,
}

/// Rehearses one object.
pub(super) async fn dry_run(
    extract::State(state): extract::State<Arc<State>>,
    request: Request<Body>,
) -> Response {
    let begun = tokio::time::Instant::now();
    let form = Form::wanted(request.headers());
    match rehearse(&state, request).await {
        Ok((operation, report)) => {
            state.metrics.review("dry-run", operation, report.verdict(), begun.elapsed());
            tracing::info!(
                endpoint = "dry-run",
                name = %shown(report.name()),
                operation,
                verdict = report.verdict(),
                rules = report.rules().join(","),
                milliseconds = begun.elapsed().as_secs_f64() * 1000.0,
                "review"
            );
            form.render(&report)
        }
        Err(refusal) => {
            state.metrics.review("dry-run", "", refusal.label(), begun.elapsed());
            tracing::warn!(endpoint = "dry-run", reason = refusal.message(), "request refused");
            refusal.into_response()
        }
    }
}

async fn rehearse(state: &State, request: Request<Body>) -> Result<(&'static str, Report), Refusal> {
    let accepted = request::accept(state, request).await?;
    let refuse = |message: String| Refusal::new(StatusCode::BAD_REQUEST, message);
    let (operation, subject) = subject(&accepted.body).map_err(refuse)?;
    let policy = state.policy.current();
    let rehearsal = state.engine.rehearse(subject, policy, accepted.deadline).await;
    Ok((operation, Report::of_rehearsal(rehearsal)))
}

/// The object of a review, or the bare object, which counts as created.
fn subject(body: &[u8]) -> Result<(&'static str, Subject), String> {
    let text = std::str::from_utf8(body).map_err(|error| format!("the body is not UTF-8: {error}"))?;
    if text.trim().is_empty() {
        return Err("the body is empty; a MachineConfig or an AdmissionReview is expected".to_owned());
    }
    if !is_review(body) {
        return Subject::from_text(text)
            .map(|subject| ("CREATE", subject))
            .map_err(|error| error.to_string());
    }
    let review = review::decode(body).map_err(|error| error.to_string())?;
    let operation = if review.operation == "UPDATE" { "UPDATE" } else { "CREATE" };
    match review.matter {
        Matter::Judge(subject) => Ok((operation, *subject)),
        Matter::Pass(reason) => Err(format!("nothing to judge in this review: {}", reason.as_str())),
        Matter::Unreadable(fault) => Err(format!("the MachineConfig cannot be judged: {fault}")),
    }
}

fn is_review(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Kind<'a> {
        #[serde(borrow, default)]
        kind: std::borrow::Cow<'a, str>,
    }
    serde_json::from_slice::<Kind<'_>>(body).is_ok_and(|document| document.kind == "AdmissionReview")
}

/// The form in which the caller wants the report.
enum Form {
    Json,
    Text,
}

impl Form {
    fn wanted(headers: &HeaderMap) -> Self {
        let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let first = accepts.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
        match first.into_iter().find(|range| matches!(*range, "text/plain" | "application/json")) {
            Some("text/plain") => Self::Text,
            _ => Self::Json,
        }
    }

    fn render(&self, report: &Report) -> Response {
        match self {
            Self::Text => (
                [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
                report.to_rehearsal_text(Style::Plain),
            )
                .into_response(),
            Self::Json => ([(header::CONTENT_TYPE, "application/json")], report.to_json()).into_response(),
        }
    }
}
