//! The admin address: alive, ready, metrics.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{RawQuery, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;

use super::State;
use crate::metrics;

pub(super) fn routes(state: Arc<State>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics))
        .with_state(state)
}

/// Tells whether the server is ready to judge, check by check, in the form of the API server's own
/// `/readyz`; `?exclude=NAME` leaves a check out of the sum.
async fn ready(Shared(state): Shared<Arc<State>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let excluded: Vec<_> = query.split('&').filter_map(|pair| pair.strip_prefix("exclude=")).collect();
    let mut status = StatusCode::OK;
    let mut lines = String::new();
    for (name, fault) in checks(&state) {
        let line = match fault {
            None => format!("[+]{name} ok\n"),
            Some(fault) if excluded.contains(&name) => format!("[+]{name} excluded: {fault}\n"),
            Some(fault) => {
                status = StatusCode::SERVICE_UNAVAILABLE;
                format!("[-]{name} failed: {fault}\n")
            }
        };
        lines.push_str(&line);
    }
    lines.push_str(if status == StatusCode::OK { "ready\n" } else { "not ready\n" });
    (status, lines).into_response()
}

fn checks(state: &State) -> [(&'static str, Option<String>); 3] {
    let draining = state.draining.load(Ordering::Relaxed);
    let ended = state.certificate.expiry() <= Timestamp::now().as_second();
    [
        ("certificate", ended.then(|| "the serving certificate has ended".to_owned())),
        ("policy", state.policy.fault().map(|fault| format!("{fault}; the policy before it is in force"))),
        ("shutdown", draining.then(|| "the server is about to stop".to_owned())),
    ]
}

async fn show_metrics(Shared(state): Shared<Arc<State>>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], state.metrics.encode()).into_response()
}
