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
            CheckResult::Passed => format!("[+]{name} ok\n"),
            CheckResult::PassedWithNote(note) => format!("[+]{name} ok: {note}\n"),
            CheckResult::Failed(fault) if excluded.contains(&name) => {
                format!("[+]{name} excluded: {fault}\n")
            }
            CheckResult::Failed(fault) => {
                status = StatusCode::SERVICE_UNAVAILABLE;
                format!("[-]{name} failed: {fault}\n")
            }
        };
        lines.push_str(&line);
    }
    lines.push_str(if status == StatusCode::OK { "ready\n" } else { "not ready\n" });
    (status, lines).into_response()
}

/// The outcome of one check.
enum CheckResult {
    Passed,
    PassedWithNote(String),
    Failed(String),
}

impl CheckResult {
    fn of(fault: Option<String>) -> Self {
        fault.map_or(Self::Passed, Self::Failed)
    }
}

fn checks(state: &ServerState) -> Vec<(&'static str, CheckResult)> {
    let draining = state.draining.load(Ordering::Relaxed);
    let policy = state.policy.fault().map(|fault| format!("{fault}; still using the previous policy"));
    let mut checks = vec![
        ("certificate", CheckResult::of(state.certificate.fault(Timestamp::now()))),
        ("policy", CheckResult::of(policy)),
        ("shutdown", CheckResult::of(draining.then(|| "the server is shutting down".to_owned()))),
    ];
    if let Some(cluster) = state.engine.sources().cluster() {
        checks.insert(1, ("cluster", cluster_check(cluster)));
    }
    checks
}

/// Fails until the cluster was read for the first time. After that, what is unknown does not fail the check: the
/// policy's `onUnknown` decides.
fn cluster_check(cluster: &ClusterSource) -> CheckResult {
    let unsettled = cluster.unsettled();
    if !unsettled.is_empty() {
        return CheckResult::Failed(format!("not read yet: {}", unsettled.join(", ")));
    }
    let unknown = cluster.unknown();
    if unknown.is_empty() { CheckResult::Passed } else { CheckResult::PassedWithNote(unknown.join("; ")) }
}

async fn show_metrics(Shared(state): Shared<Arc<ServerState>>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], state.metrics.encode()).into_response()
}
