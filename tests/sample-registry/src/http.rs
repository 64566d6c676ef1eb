//! Requests and replies as the services of this crate see them.
//!
//! A request is whole before it is looked at. A reply is mostly a plain answer;
//! the other forms are ways to misbehave.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode, Uri};
use serde::Serialize;
use tokio::sync::mpsc;

/// A request with its whole body.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Request {
    pub(crate) fn path(&self) -> &str {
        self.uri.path()
    }

    /// Returns a header as text, or nothing if it is absent or not text.
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the first value of a query parameter, decoded.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        parameters(self.uri.query().unwrap_or_default()).find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// Splits `application/x-www-form-urlencoded` text into decoded pairs.
pub(crate) fn parameters(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key), decoded(value))
    })
}

/// Returns the first value of a parameter in `application/x-www-form-urlencoded` text.
pub(crate) fn parameter(text: &str, name: &str) -> Option<String> {
    parameters(text).find(|(key, _)| key == name).map(|(_, value)| value)
}

/// What a service does about a request.
pub(crate) enum Reply {
    /// Answers in full.
    Answer(Answer),
    /// Answers with a body that comes piece by piece; its length is whatever the headers say.
    Stream(Answer, PieceReceiver),
    /// Closes the connection without a byte of an answer.
    Close,
    /// Sends bytes that are not HTTP and closes the connection.
    Garbage,
}

/// The end of a body into which its producer puts pieces; an error breaks the connection.
pub(crate) type PieceSender = mpsc::Sender<io::Result<Bytes>>;
/// The end of a body from which the connection takes pieces.
pub(crate) type PieceReceiver = mpsc::Receiver<io::Result<Bytes>>;

/// A status, headers and the body that `GET` shows; `HEAD` gets its length only.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub(crate) fn json(status: StatusCode, document: &impl Serialize) -> Self {
        let body = serde_json::to_vec(document).expect("a document of strings and numbers");
        Self { body: body.into(), ..Self::empty(status) }.with_header(CONTENT_TYPE, "application/json")
    }

    /// Makes an error in the form of the distribution specification, "Error Codes".
    pub(crate) fn error(status: StatusCode, code: &str, message: &str) -> Self {
        Self::json(status, &serde_json::json!({"errors": [{"code": code, "message": message}]}))
    }

    /// Sets a header, in place of an earlier value.
    ///
    /// # Panics
    ///
    /// When `value` has bytes that a header cannot carry.
    pub(crate) fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a value fit for a header");
        self.headers.insert(name, value);
        self
    }

    /// Turns the answer into what hyper sends in reply to `method`.
    pub(crate) fn into_response(mut self, method: &Method) -> Response<ReplyBody> {
        // Hyper refuses a length that differs from the body's, but not if there is no body.
        if method == Method::HEAD {
            let length = HeaderValue::from(self.body.len());
            self.headers.entry(CONTENT_LENGTH).or_insert(length);
            let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
            return response(self.status, self.headers, body);
        }
        let body = Full::new(self.body).map_err(|never| match never {}).boxed_unsync();
        response(self.status, self.headers, body)
    }

    /// Turns status and headers into a response whose body comes from `pieces`.
    pub(crate) fn into_stream(self, pieces: PieceReceiver) -> Response<ReplyBody> {
        response(self.status, self.headers, PieceBody { pieces }.boxed_unsync())
    }
}

pub(crate) type ReplyBody = UnsyncBoxBody<Bytes, io::Error>;

struct PieceBody {
    pieces: PieceReceiver,
}

impl Body for PieceBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.pieces.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

fn response(status: StatusCode, headers: HeaderMap, body: ReplyBody) -> Response<ReplyBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => match tail.split_at_checked(2).and_then(|(hex, after)| {
                let value = u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?;
                Some((value, after))
            }) {
                Some((value, after)) => {
                    rest = after;
                    value
                }
                None => b'%',
            },
            other => *other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_split_and_decoded() {
        let table = [
            ("", vec![], "nothing"),
            ("a", vec![("a", "")], "a key alone"),
            ("a=1&b=2", vec![("a", "1"), ("b", "2")], "two pairs"),
            (
                "scope=repository%3Aacme%2Fos%3Apull+push",
                vec![("scope", "repository:acme/os:pull push")],
                "escapes and a plus",
            ),
            ("a=100%&b=%zz", vec![("a", "100%"), ("b", "%zz")], "broken escapes"),
        ];
        for (text, expected, what) in table {
            let pairs: Vec<_> = parameters(text).collect();
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            assert_eq!(pairs, expected, "{what}");
        }
    }
}
