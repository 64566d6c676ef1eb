//! The replies of a registry that has a fault.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use hyper::{Method, StatusCode};
use tokio::sync::mpsc;

use super::State;
use super::distribution::{DOCKER_CONTENT_DIGEST, Endpoint, unsupported};
use crate::digest::digest_of;
use crate::fault::{Fault, MetFault, Release};
use crate::http::{Answer, PieceReceiver, PieceSender, Reply, Request};
use crate::images::DOCKER_SCHEMA_1_SIGNED;

/// Replies to a request that has met a fault.
pub(super) async fn reply(state: &State, request: Request, met: MetFault) -> Reply {
    let MetFault { fault, release } = met;
    let answer = match fault {
        Fault::FreezeAfterAccept => {
            release.released().await;
            return Reply::Close;
        }
        Fault::CloseAfterAccept => return Reply::Close,
        Fault::GarbageResponse => return Reply::Garbage,
        Fault::Status(status) => error_of(status),
        Fault::StatusWithHeader(status, name, value) => {
            let name = HeaderName::try_from(name).expect("a header name");
            error_of(status).with_header(name, &value)
        }
        Fault::UnauthorizedForEver => state.access.challenge(Endpoint::parse(request.path())),
        Fault::ForbiddenForEver => error_of(403),
        Fault::NoHead if request.method == Method::HEAD => unsupported(),
        Fault::RedirectLoop => redirect(request.path()),
        Fault::RedirectTo(base) => {
            let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
            redirect(&format!("{}{path}", base.trim_end_matches('/')))
        }
        Fault::Latency(time) => {
            #[expect(clippy::disallowed_methods, reason = "the fault is the delay")]
            tokio::time::sleep(time).await;
            state.answer(&request)
        }
        fault => {
            let answer = state.answer(&request);
            // A challenge or a missing manifest stays what it is.
            return match answer.status.is_success() {
                true => spoiled(answer, &request.method, fault, release),
                false => Reply::Answer(answer),
            };
        }
    };
    Reply::Answer(answer)
}

/// Spoils an answer that would have been good.
fn spoiled(mut answer: Answer, method: &Method, fault: Fault, release: Release) -> Reply {
    let to_get = method == Method::GET;
    let to_head = method == Method::HEAD;
    match fault {
        Fault::FreezeAfterHeaders if to_get => return stalled(answer, release),
        Fault::HeadWithoutDigest if !to_head => {}
        Fault::HeadWithoutDigest | Fault::NoDigestHeader => {
            answer.headers.remove(DOCKER_CONTENT_DIGEST);
        }
        Fault::WrongDigest => {
            let wrong = digest_of(b"another manifest");
            answer = answer.with_header(DOCKER_CONTENT_DIGEST, &wrong);
        }
        Fault::WrongBody if to_get => answer.body = altered(&answer.body),
        Fault::EndlessBody => {
            answer.headers.remove(DOCKER_CONTENT_DIGEST);
            // The reply has no length, not even to HEAD, whose body is not sent.
            return endless(answer);
        }
        Fault::OversizedHeadLength if to_head => {
            answer.headers.insert(CONTENT_LENGTH, HeaderValue::from(ONE_TEBIBYTE));
        }
        Fault::SlowBody { bytes, every } if to_get => return slow(answer, bytes, every),
        Fault::Schema1 => answer = schema_1(),
        // The rest do not concern this method.
        _ => {}
    }
    Reply::Answer(answer)
}

fn error_of(status: u16) -> Answer {
    let status = StatusCode::from_u16(status).expect("a status of three digits");
    let (code, message) = match status {
        StatusCode::UNAUTHORIZED => ("UNAUTHORIZED", "authentication required"),
        StatusCode::FORBIDDEN => ("DENIED", "requested access to the resource is denied"),
        StatusCode::NOT_FOUND => ("MANIFEST_UNKNOWN", "manifest unknown"),
        StatusCode::TOO_MANY_REQUESTS => ("TOOMANYREQUESTS", "too many requests"),
        _ => ("UNKNOWN", "unknown error"),
    };
    Answer::error(status, code, message)
}

fn redirect(location: &str) -> Answer {
    Answer::empty(StatusCode::TEMPORARY_REDIRECT).with_header(LOCATION, location)
}

/// Changes one byte: a digit of the first digest, so that JSON stays JSON, or else the last byte.
fn altered(body: &[u8]) -> Bytes {
    let mut body = body.to_vec();
    let digit = body
        .windows(DIGEST_PREFIX.len())
        .position(|window| window == DIGEST_PREFIX)
        .map_or(body.len().saturating_sub(1), |start| start + DIGEST_PREFIX.len());
    if let Some(byte) = body.get_mut(digit) {
        *byte = if *byte == b'0' { b'1' } else { b'0' };
    }
    body.into()
}

fn schema_1() -> Answer {
    let body = Bytes::from_static(SCHEMA_1_MANIFEST);
    let digest = digest_of(&body);
    Answer { body, ..Answer::empty(StatusCode::OK) }
        .with_header(CONTENT_TYPE, DOCKER_SCHEMA_1_SIGNED)
        .with_header(DOCKER_CONTENT_DIGEST, &digest)
}

fn stalled(answer: Answer, release: Release) -> Reply {
    let length = answer.body.len();
    streamed(answer, Some(length), |_, pieces| async move {
        tokio::select! {
            () = release.released() => {}
            () = pieces.closed() => {}
        }
        let _ = pieces.send(Err(io::Error::other("released"))).await;
    })
}

fn slow(answer: Answer, bytes: usize, every: Duration) -> Reply {
    let length = answer.body.len();
    streamed(answer, Some(length), move |mut body, pieces| async move {
        while !body.is_empty() {
            #[expect(clippy::disallowed_methods, reason = "the fault is the delay")]
            tokio::time::sleep(every).await;
            let piece = body.split_to(bytes.clamp(1, body.len()));
            if pieces.send(Ok(piece)).await.is_err() {
                return;
            }
        }
    })
}

fn endless(answer: Answer) -> Reply {
    streamed(answer, None, |_, pieces| async move {
        let spaces = Bytes::from_static(&[b' '; 16 * 1024]);
        let mut piece = Bytes::from_static(b"{\"schemaVersion\":2,");
        while pieces.send(Ok(piece)).await.is_ok() {
            piece = spaces.clone();
        }
    })
}

/// Makes a reply whose body is produced by a task, which ends with the connection.
fn streamed<Producer>(
    mut answer: Answer,
    length: Option<usize>,
    produce: impl FnOnce(Bytes, PieceSender) -> Producer,
) -> Reply
where
    Producer: Future<Output = ()> + Send + 'static,
{
    if let Some(length) = length {
        answer.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let (sender, receiver): (PieceSender, PieceReceiver) = mpsc::channel(1);
    tokio::spawn(produce(answer.body.clone(), sender));
    Reply::Stream(answer, receiver)
}

const DIGEST_PREFIX: &[u8] = b"sha256:";

const ONE_TEBIBYTE: u64 = 1 << 40;

const SCHEMA_1_MANIFEST: &[u8] = br#"{
   "schemaVersion": 1,
   "name": "library/old",
   "tag": "latest",
   "architecture": "amd64",
   "fsLayers": [],
   "history": [],
   "signatures": []
}"#;
