//! Requests as tests see them, to learn what a client sent.

use std::fmt;

use hyper::header::{AUTHORIZATION, HOST};

use crate::http::Request;
use crate::printed::keep_secret;

/// A request as it was received.
///
/// `Debug` leaves out the value of `Authorization`.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordedRequest {
    /// The method, such as `GET`.
    pub method: String,
    /// The path with the query, such as `/v2/acme/os/manifests/4.18`.
    pub path: String,
    /// The value of `Host`, if there was one.
    pub host: Option<String>,
    /// The headers in the order received, names in lower case, values as text.
    pub headers: Vec<(String, String)>,
}

impl RecordedRequest {
    /// Returns the first value of a header; `name` is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// Returns the value of `Authorization`, if there was one.
    pub fn authorization(&self) -> Option<&str> {
        self.header(AUTHORIZATION.as_str())
    }

    pub(crate) fn of(request: &Request) -> Self {
        if let Some((_, credential)) = request.header(AUTHORIZATION).and_then(|value| value.split_once(' ')) {
            keep_secret(credential);
        }
        Self {
            method: request.method.to_string(),
            path: request
                .uri
                .path_and_query()
                .map_or_else(|| request.path().to_owned(), |path_and_query| path_and_query.to_string()),
            host: request.header(HOST).map(str::to_owned),
            headers: request
                .headers
                .iter()
                .map(|(name, value)| {
                    let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                    (name.to_string(), value)
                })
                .collect(),
        }
    }

    /// Tells whether the request is of `method` and its path with query contains `path_part`.
    pub(crate) fn is_of(&self, method: &str, path_part: &str) -> bool {
        self.method == method && self.path.contains(path_part)
    }
}

impl fmt::Debug for RecordedRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| match name == AUTHORIZATION.as_str() {
                true => (name.as_str(), "<redacted>"),
                false => (name.as_str(), value.as_str()),
            })
            .collect();
        formatter
            .debug_struct("RecordedRequest")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("headers", &headers)
            .finish()
    }
}
