//! `/dry-run`: what the cluster would do with one object, with the evidence.
//!
//! Takes a bare MachineConfig, YAML or JSON, or an AdmissionReview. The verdict is never enforced:
//! a denial is part of the report, and the status is 200.

use std::sync::Arc;

use axum::body::Body;
use axum::extract;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};

use tokio::time::Instant;

use crate::admission::{self, Disposition};
use crate::cluster::CallerAccess;
use crate::manifests;
use crate::model::machine_config::Subject;
use crate::report::{Report, Style};
use crate::server::ServerState;
use crate::server::request::{self, Rejection};
use crate::text::shown;

/// Who may use `/dry-run`, which makes the server ask registries on a caller's behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DryRunAccess {
    /// Whoever reaches the server.
    Anyone,
    /// Whoever shows a bearer token whose owner may create MachineConfigs.
    Authorized,
    /// Nobody: the path is not there.
    Off,
}

/// Rehearses one object.
pub(super) async fn dry_run(
    extract::State(state): extract::State<Arc<ServerState>>,
    request: Request<Body>,
) -> Response {
    let begun = tokio::time::Instant::now();
    let form = ReportFormat::wanted(request.headers());
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

/// Lets the caller in, or says why not. Asks the API server, by `deadline`.
async fn authorize(state: &ServerState, token: Option<&str>, deadline: Instant) -> Result<(), Rejection> {
    let Some(token) = token else {
        return Err(Rejection::new(
            StatusCode::UNAUTHORIZED,
            "a bearer token is wanted, of somebody who may create MachineConfigs; with curl: -H \
             \"Authorization: Bearer $(oc whoami --show-token)\"",
        ));
    };
    let right = match state.engine.sources().cluster() {
        Some(cluster) => cluster.caller_access(token, deadline).await,
        None => Err("there is no cluster to ask".to_owned()),
    };
    match right {
        Ok(CallerAccess::Granted) => Ok(()),
        Ok(CallerAccess::UnknownToken) => {
            Err(Rejection::new(StatusCode::UNAUTHORIZED, "the cluster does not accept this bearer token"))
        }
        Ok(CallerAccess::Missing(user)) => Err(Rejection::new(
            StatusCode::FORBIDDEN,
            format!(
                "`{user}` may not create machineconfigs.machineconfiguration.openshift.io, which is what \
                 /dry-run asks for"
            ),
        )),
        Err(reason) => Err(Rejection::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("whether the caller may use /dry-run is not known: {reason}"),
        )),
    }
}

/// The bearer token of a request; `None` where there is none.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

async fn rehearse(state: &ServerState, request: Request<Body>) -> Result<(&'static str, Report), Rejection> {
    let token = bearer(request.headers());
    // The body comes first: a caller who is still sending would not see a refusal.
    let accepted = request::accept(state, request).await?;
    if state.dry_run == DryRunAccess::Authorized {
        authorize(state, token.as_deref(), accepted.deadline).await?;
    }
    let refuse = |message: String| Rejection::new(StatusCode::BAD_REQUEST, message);
    let (operation, subject) = subject(&accepted.body).map_err(refuse)?;
    let policy = state.policy.current();
    let rehearsal = state.engine.dry_run(subject, policy, accepted.deadline).await;
    Ok((operation, Report::of_dry_run(rehearsal)))
}

/// The object of a review, or the bare object, which counts as created.
fn subject(body: &[u8]) -> Result<(&'static str, Subject), String> {
    let text = std::str::from_utf8(body).map_err(|error| format!("the body is not UTF-8: {error}"))?;
    if text.trim().is_empty() {
        return Err("the body is empty; a MachineConfig or an AdmissionReview is expected".to_owned());
    }
    if !is_review(body) {
        return manifests::read_one(text)
            .map(|subject| ("CREATE", subject))
            .map_err(|error| error.to_string());
    }
    let review = admission::decode(body).map_err(|error| error.to_string())?;
    let operation = if review.operation == "UPDATE" { "UPDATE" } else { "CREATE" };
    match review.matter {
        Disposition::Judge(subject) => Ok((operation, *subject)),
        Disposition::Pass(reason) => Err(format!("nothing to judge in this review: {}", reason.as_str())),
        Disposition::Unreadable(fault) => Err(format!("the MachineConfig cannot be judged: {fault}")),
    }
}

fn is_review(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct ObjectKind<'a> {
        #[serde(borrow, default)]
        kind: std::borrow::Cow<'a, str>,
    }
    serde_json::from_slice::<ObjectKind<'_>>(body).is_ok_and(|document| document.kind == "AdmissionReview")
}

/// The form in which the caller wants the report.
enum ReportFormat {
    Json,
    Text,
}

impl ReportFormat {
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
            Self::Text => {
                ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], report.to_dry_run_text(Style::Plain))
                    .into_response()
            }
            Self::Json => ([(header::CONTENT_TYPE, "application/json")], report.to_json()).into_response(),
        }
    }
}
