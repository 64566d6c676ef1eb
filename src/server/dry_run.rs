//! `/dry-run`: what the cluster would do with one object, with the evidence.
//!
//! Takes a MachineConfig in YAML or JSON, or an AdmissionReview. The verdict is not enforced: a denial is part of the
//! report, and the status is 200.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use crate::admission::{self, Disposition, Review, ReviewHead};
use crate::cluster::CallerAccess;
use crate::manifests;
use crate::model::machine_config::Subject;
use crate::report::{Report, Style};
use crate::server::ServerState;
use crate::server::request::{AcceptedRequest, Rejection};
use crate::server::review::{Decided, Outcome, ReviewedImage};

/// Who may use `/dry-run`, which makes the server send requests to registries for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DryRunAccess {
    /// Every client that reaches the server.
    Anyone,
    /// Clients with the bearer token of a user who may create MachineConfigs.
    Authorized,
    /// Nobody: the path does not exist.
    Off,
}

/// Checks with the API server, by `deadline`, whether the client may use the endpoint. Returns its user name.
async fn authorize(state: &ServerState, token: Option<&str>, deadline: Instant) -> Result<String, Rejection> {
    let Some(token) = token else {
        return Err(Rejection::new(
            StatusCode::UNAUTHORIZED,
            "a bearer token of a user who may create MachineConfigs is required; with curl: -H \"Authorization: \
             Bearer $(oc whoami --show-token)\"",
        ));
    };
    let right = match state.parts.engine.sources().cluster() {
        Some(cluster) => cluster.caller_access(token, deadline).await,
        None => Err("no cluster is configured".to_owned()),
    };
    let (status, message) = match right {
        Ok(CallerAccess::Granted(user)) => return Ok(user),
        Ok(CallerAccess::UnknownToken) => {
            (StatusCode::UNAUTHORIZED, "the cluster does not accept this bearer token".to_owned())
        }
        Ok(CallerAccess::Missing(user)) => (
            StatusCode::FORBIDDEN,
            format!(
                "`{user}` may not create machineconfigs.machineconfiguration.openshift.io, which /dry-run requires"
            ),
        ),
        Err(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("cannot check whether the client may use /dry-run: {reason}"),
        ),
    };
    Err(Rejection::new(status, message))
}

/// The bearer token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Shows what the cluster would do with one object.
pub(super) async fn dry_run(state: &ServerState, request: &AcceptedRequest) -> Result<Decided, Rejection> {
    // After the body was read: a client that is still sending would not see the rejection.
    let caller = match state.parts.dry_run {
        DryRunAccess::Authorized => authorize(state, bearer(&request.headers), request.deadline).await?,
        DryRunAccess::Anyone | DryRunAccess::Off => String::new(),
    };
    let refuse = |message: String| Rejection::new(StatusCode::BAD_REQUEST, message);
    let (mut head, subject) = subject(&request.body).map_err(refuse)?;
    if head.user.is_empty() {
        head.user = caller;
    }
    let policy = state.parts.policy.current();
    let dry_run = state.parts.engine.dry_run(subject, policy, request.deadline).await;
    let image = ReviewedImage::of(&dry_run.subject, |field, _| dry_run.plan.pinned(field)?.digest());
    let report = Report::of_dry_run(dry_run);
    Ok(Decided {
        // Nothing is stored, whatever the review says of itself.
        head: ReviewHead { dry_run: true, ..head },
        outcome: Outcome {
            image,
            verdict: report.verdict(),
            rules: report.rules().join(","),
            note: String::new(),
        },
        response: response(&report, &request.headers),
    })
}

/// The object of an AdmissionReview, or the bare object, which is reviewed as if it were created.
fn subject(body: &[u8]) -> Result<(ReviewHead, Subject), String> {
    let text = std::str::from_utf8(body).map_err(|error| format!("the body is not UTF-8: {error}"))?;
    if text.trim().is_empty() {
        return Err("the body is empty; expected a MachineConfig or an AdmissionReview".to_owned());
    }
    if !is_review(body) {
        let subject = manifests::read_one(text).map_err(|error| error.to_string())?;
        let (operation, name) = ("CREATE".to_owned(), subject.name.clone());
        return Ok((ReviewHead { operation, name, ..ReviewHead::default() }, subject));
    }
    let Review { head, disposition } = admission::decode(body).map_err(|error| error.to_string())?;
    match disposition {
        Disposition::Judge(subject) => Ok((head, *subject)),
        Disposition::Pass(reason) => {
            Err(format!("nothing to check in this AdmissionReview: {}", reason.as_str()))
        }
        Disposition::Unreadable(fault) => Err(format!("cannot read the MachineConfig: {fault}")),
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

/// The report as text or as JSON, whichever the client names first.
fn response(report: &Report, headers: &HeaderMap) -> Response {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut accepted = accepts.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
    let (format, body) = match accepted.find(|range| matches!(*range, "text/plain" | "application/json")) {
        Some("text/plain") => ("text/plain; charset=utf-8", report.to_dry_run_text(Style::Plain)),
        _ => ("application/json", report.to_json()),
    };
    ([(header::CONTENT_TYPE, format)], body).into_response()
}
