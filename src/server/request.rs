//! The body of a POST and the time for its response.

use std::time::Duration;

use axum::body::HttpBody;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use crate::admission::MAX_BYTES;
use crate::server::ServerState;
use crate::server::body::Body;
use crate::server::connections::limits::RequestPermit;

/// A request whose body was read.
pub(super) struct AcceptedRequest {
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// By when it must be answered.
    pub(super) deadline: Instant,
    _permit: RequestPermit,
}

/// A request that is rejected, with the reason.
#[derive(Debug)]
pub(super) struct Rejection {
    status: StatusCode,
    pub(super) message: String,
}

impl Rejection {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The label under which the rejection is counted.
    pub(super) fn label(&self) -> &'static str {
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => "busy",
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "unauthorized",
            _ => "invalid",
        }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let header = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, "1")),
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
            // The rest of the body is not read, so no other request can follow on this connection.
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
                Some((header::CONNECTION, "close"))
            }
            _ => None,
        };
        (self.status, AppendHeaders(header), format!("{}\n", self.message)).into_response()
    }
}

/// Admits the request and reads its body.
pub(super) async fn accept(
    state: &ServerState,
    request: Request<axum::body::Body>,
) -> Result<AcceptedRequest, Rejection> {
    let begun = Instant::now();
    let (head, body) = request.into_parts();
    let budget = budget(head.uri.query(), state.parts.timeout)?;
    let announced = body.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if announced > Some(MAX_BYTES) && head.headers.contains_key(header::EXPECT) {
        // The client waits before it sends.
        return Err(too_large());
    }
    let announced = announced.map(|length| length.min(MAX_BYTES));
    let permit = state.budget.admit(announced.unwrap_or(MAX_BYTES))?;
    let deadline = begun + budget;
    let until = deadline.min(begun + state.parts.limits.body);
    let late = |_| Rejection::new(StatusCode::REQUEST_TIMEOUT, "the request body did not arrive in time");
    let body = timeout_at(until, read(body, announced)).await.map_err(late)??;
    Ok(AcceptedRequest { headers: head.headers, body, deadline, _permit: permit })
}

async fn read(mut body: axum::body::Body, announced: Option<usize>) -> Result<Body, Rejection> {
    let mut bytes = Body::new(announced.unwrap_or(0), MAX_BYTES);
    let mut excess = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Rejection::new(StatusCode::BAD_REQUEST, format!("cannot read the request body: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if excess == 0 && bytes.push(&data).map_err(no_memory)? {
            continue;
        }
        // Read on for a while: a client that is still sending would not see the response.
        bytes = Body::new(0, 0);
        excess += data.len();
        if excess > MAX_BYTES {
            break;
        }
    }
    if excess > 0 { Err(too_large()) } else { Ok(bytes) }
}

fn no_memory(error: std::io::Error) -> Rejection {
    tracing::error!(%error, "no memory for a request body");
    Rejection::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "there is no memory for the request body; try again in a moment",
    )
}

fn too_large() -> Rejection {
    Rejection::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!(
            "the body is larger than {MAX_BYTES} bytes, which two MachineConfigs of the largest size do not exceed"
        ),
    )
}

/// The time for the whole response: the API server's `?timeout=` less a margin for the network, and at most
/// `longest`.
fn budget(query: Option<&str>, longest: Duration) -> Result<Duration, Rejection> {
    let given = query
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("timeout="))
        .filter(|text| !text.is_empty());
    let Some(text) = given else { return Ok(longest) };
    let parsed = crate::duration::parse(text).filter(|duration| !duration.is_zero()).ok_or_else(|| {
        Rejection::new(
            StatusCode::BAD_REQUEST,
            format!("timeout=`{}` is not a valid duration; write it as 10s", crate::text::shown(text)),
        )
    })?;
    let margin = (parsed / 10).clamp(SMALLEST_MARGIN, LARGEST_MARGIN).min(parsed / 2);
    Ok((parsed - margin).min(longest))
}

const SMALLEST_MARGIN: Duration = Duration::from_millis(50);
const LARGEST_MARGIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_the_timeout_of_the_api_server_less_a_margin() {
        let longest = Duration::from_secs(10);
        for (query, milliseconds) in [
            (None, 10_000),
            (Some(""), 10_000),
            (Some("timeout=10s"), 9_500),
            (Some("x=1&timeout=2s"), 1_800),
            (Some("timeout=1m0s"), 10_000),
            (Some("timeout=300ms"), 250),
            (Some("timeout=20ms"), 10),
            (Some("timeout=1.5s"), 1_350),
        ] {
            assert_eq!(budget(query, longest).unwrap(), Duration::from_millis(milliseconds), "{query:?}");
        }
        for query in ["timeout=abc", "timeout=-1s", "timeout=0s", "timeout=10"] {
            assert_eq!(budget(Some(query), longest).unwrap_err().status, StatusCode::BAD_REQUEST, "{query}");
        }
    }
}
