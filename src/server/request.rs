//! What every POST has in common: its place in the queue, its budget, its body.

use std::time::Duration;

use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use crate::admission::MAX_BYTES;
use crate::server::ServerState;
use crate::server::body::Body;

/// A request whose body was read, with the time by which it must be answered.
pub(super) struct AcceptedRequest {
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    pub(super) deadline: Instant,
    _review: OwnedSemaphorePermit,
    _memory: OwnedSemaphorePermit,
}

/// A request that is turned away, with the reason in words.
#[derive(Debug)]
pub(super) struct Rejection {
    status: StatusCode,
    message: String,
}

impl Rejection {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The label under which refusals are counted.
    pub(super) fn label(&self) -> &'static str {
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => "busy",
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "unauthorized",
            _ => "invalid",
        }
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            }
            // The rest of the body is not read, so nothing more can come on this connection.
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
                headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
            }
            _ => {}
        }
        (self.status, headers, format!("{}\n", self.message)).into_response()
    }
}

/// Finds a place for the request, reads its body and works out its deadline.
pub(super) async fn accept(
    state: &ServerState,
    request: Request<axum::body::Body>,
) -> Result<AcceptedRequest, Rejection> {
    let begun = Instant::now();
    let busy = |what: String| Rejection::new(StatusCode::SERVICE_UNAVAILABLE, what);
    let limits = &state.limits;
    let _review = state.reviews.clone().try_acquire_owned().map_err(|_| {
        busy(format!("{} reviews are in work, which is the limit; try again in a moment", limits.reviews))
    })?;
    let (head, body) = request.into_parts();
    let budget = budget(head.uri.query(), state.timeout)?;
    let announced = announced(&head.headers)?;
    let kilobytes = announced.unwrap_or(MAX_BYTES).div_ceil(1024).max(1);
    // At most MAX_BYTES, so it fits.
    let kilobytes = u32::try_from(kilobytes).unwrap_or(u32::MAX);
    let _memory = state.body_kilobytes.clone().try_acquire_many_owned(kilobytes).map_err(|_| {
        busy(format!(
            "{} kB of bodies are in work, which is the limit; try again in a moment",
            limits.body_kilobytes
        ))
    })?;
    let deadline = begun + budget;
    let until = deadline.min(begun + limits.body);
    let body = match timeout_at(until, read(body, announced)).await {
        Ok(body) => body?,
        Err(_) => return Err(Rejection::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    };
    Ok(AcceptedRequest { headers: head.headers, body, deadline, _review, _memory })
}

/// The length that the head announces. Fails when that is too much.
fn announced(headers: &HeaderMap) -> Result<Option<usize>, Rejection> {
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    match length {
        // A client that asks before it sends gets its answer before it sends.
        Some(length) if length > MAX_BYTES && headers.contains_key(header::EXPECT) => Err(too_large()),
        Some(length) => Ok(Some(length.min(MAX_BYTES))),
        None => Ok(None),
    }
}

async fn read(mut body: axum::body::Body, announced: Option<usize>) -> Result<Body, Rejection> {
    let mut held = Body::new(announced.unwrap_or(0), MAX_BYTES);
    let mut beyond = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Rejection::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if beyond == 0 && held.push(&data).map_err(no_memory)? {
            continue;
        }
        // Read on for a while: a client that is still sending would not see the answer.
        held = Body::new(0, 0);
        beyond += data.len();
        if beyond > MAX_BYTES {
            break;
        }
    }
    if beyond > 0 { Err(too_large()) } else { Ok(held) }
}

fn no_memory(error: std::io::Error) -> Rejection {
    tracing::error!(%error, "no memory for the body of a request");
    Rejection::new(StatusCode::SERVICE_UNAVAILABLE, "there is no memory for the body; try again in a moment")
}

fn too_large() -> Rejection {
    Rejection::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!(
            "the body has more than {MAX_BYTES} bytes; two MachineConfigs of the largest size fit in that"
        ),
    )
}

/// The time for the whole answer: what the API server says in `?timeout=`, less a margin for the way
/// there and back, and never more than `longest`.
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
            format!("timeout=`{}` is no duration; write it as 10s", crate::text::shown(text)),
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
    fn the_budget_is_the_api_servers_patience_less_a_margin() {
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
