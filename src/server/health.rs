//! The admin address: `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{RawQuery, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;

use crate::metrics;
use crate::server::ServerState;
use crate::sources::ClusterSource;

pub(crate) fn routes(state: Arc<ServerState>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics))
        .with_state(state)
}

/// Tells whether the server is ready, check by check, in the format of the API server's own `/readyz`.
/// `?exclude=NAME` ignores the result of a check.
async fn ready(Shared(state): Shared<Arc<ServerState>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let excluded: Vec<_> = query.split('&').filter_map(|pair| pair.strip_prefix("exclude=")).collect();
    let mut status = StatusCode::OK;
    let mut lines = String::new();
    for (name, outcome) in checks(&state) {
        let line = match outcome {
            Ok(None) => format!("[+]{name} ok\n"),
            Ok(Some(note)) => format!("[+]{name} ok: {note}\n"),
            Err(fault) if excluded.contains(&name) => format!("[+]{name} excluded: {fault}\n"),
            Err(fault) => {
                status = StatusCode::SERVICE_UNAVAILABLE;
                format!("[-]{name} failed: {fault}\n")
            }
        };
        lines.push_str(&line);
    }
    lines.push_str(if status == StatusCode::OK { "ready\n" } else { "not ready\n" });
    (status, lines).into_response()
}

/// The outcome of one check: it passed, perhaps with a note, or failed for a reason.
type CheckResult = Result<Option<String>, String>;

fn checks(state: &ServerState) -> Vec<(&'static str, CheckResult)> {
    let passed_unless = |fault: Option<String>| fault.map_or(Ok(None), Err);
    let draining = state.draining.load(Ordering::Relaxed);
    let policy = state.parts.policy.fault().map(|fault| format!("{fault}; still using the previous policy"));
    let mut checks = vec![
        ("certificate", passed_unless(state.parts.certificate.fault(Timestamp::now()))),
        ("policy", passed_unless(policy)),
        ("shutdown", passed_unless(draining.then(|| "the server is shutting down".to_owned()))),
    ];
    if let Some(cluster) = state.parts.engine.sources().cluster() {
        checks.insert(1, ("cluster", cluster_check(cluster)));
    }
    checks
}

/// Fails until the cluster was read for the first time. After that, what is unknown does not fail the check: the
/// policy's `onUnknown` decides.
fn cluster_check(cluster: &ClusterSource) -> CheckResult {
    let unsettled = cluster.unsettled();
    if !unsettled.is_empty() {
        return Err(format!("not read yet: {}", unsettled.join(", ")));
    }
    let unknown = cluster.unknown();
    Ok((!unknown.is_empty()).then(|| unknown.join("; ")))
}

async fn show_metrics(Shared(state): Shared<Arc<ServerState>>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], state.parts.metrics.encode()).into_response()
}
