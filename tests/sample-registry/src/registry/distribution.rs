//! The distribution protocol: which endpoint a path names, and its answer.
//!
//! Reading is complete but for catalogues, paging and ranges; writing is as
//! much as clients such as `skopeo` use. `Accept` is not looked at: a manifest
//! is answered in the type it was stored with, as most registries do today.
//!
//! Source: the OCI distribution specification, "Endpoints".

use hyper::header::{CONTENT_TYPE, HeaderName, LOCATION, RANGE};
use hyper::{Method, StatusCode};

use super::storage::{Missing, Storage};
use crate::digest::{digest_of, is_digest};
use crate::http::{Answer, Request};

/// The header that states the digest of a manifest or blob.
pub(super) const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What the path of a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint<'a> {
    /// `/v2/`
    Version,
    /// `/v2/<repository>/manifests/<reference>`
    Manifest { repository: &'a str, reference: &'a str },
    /// `/v2/<repository>/blobs/<digest>`
    Blob { repository: &'a str, digest: &'a str },
    /// `/v2/<repository>/blobs/uploads/`
    Uploads { repository: &'a str },
    /// `/v2/<repository>/blobs/uploads/<identifier>`
    Upload { repository: &'a str, identifier: &'a str },
    /// `/v2/<repository>/tags/list`
    Tags { repository: &'a str },
    /// Anything else.
    Unknown,
}

impl<'a> Endpoint<'a> {
    pub(super) fn parse(path: &'a str) -> Self {
        let Some(rest) = path.strip_prefix("/v2/") else {
            return match path {
                "/v2" => Self::Version,
                _ => Self::Unknown,
            };
        };
        if rest.is_empty() {
            Self::Version
        } else if let Some((repository, reference)) = rest.rsplit_once("/manifests/") {
            Self::Manifest { repository, reference }
        } else if let Some((repository, identifier)) = rest.rsplit_once("/blobs/uploads/") {
            match identifier {
                "" => Self::Uploads { repository },
                _ => Self::Upload { repository, identifier },
            }
        } else if let Some(repository) = rest.strip_suffix("/blobs/uploads") {
            Self::Uploads { repository }
        } else if let Some((repository, digest)) = rest.rsplit_once("/blobs/") {
            Self::Blob { repository, digest }
        } else if let Some(repository) = rest.strip_suffix("/tags/list") {
            Self::Tags { repository }
        } else {
            Self::Unknown
        }
    }

    /// Returns the repository, if the endpoint is of one.
    pub(super) fn repository(self) -> Option<&'a str> {
        match self {
            Self::Manifest { repository, .. }
            | Self::Blob { repository, .. }
            | Self::Uploads { repository }
            | Self::Upload { repository, .. }
            | Self::Tags { repository } => Some(repository),
            Self::Version | Self::Unknown => None,
        }
    }
}

/// Answers a request from what is stored.
pub(super) fn answer(storage: &Storage, request: &Request) -> Answer {
    let method = &request.method;
    match Endpoint::parse(request.path()) {
        Endpoint::Version => Answer::json(StatusCode::OK, &serde_json::json!({})),
        Endpoint::Manifest { repository, reference } => match *method {
            Method::GET | Method::HEAD => manifest(storage, repository, reference),
            Method::PUT => put_manifest(storage, repository, reference, request),
            Method::DELETE if is_digest(reference) => {
                deleted(storage.delete_manifest(repository, reference), manifest_missing)
            }
            Method::DELETE => deleted(storage.delete_tag(repository, reference), manifest_missing),
            _ => unsupported(),
        },
        Endpoint::Blob { repository, digest } => match *method {
            Method::GET | Method::HEAD => blob(storage, repository, digest),
            Method::DELETE => deleted(storage.delete_blob(repository, digest), blob_missing),
            _ => unsupported(),
        },
        Endpoint::Uploads { repository } => match *method {
            Method::POST => begin_upload(storage, repository, request),
            _ => unsupported(),
        },
        Endpoint::Upload { repository, identifier } => match *method {
            Method::PATCH => continue_upload(storage, repository, identifier, request),
            Method::PUT => end_upload(storage, repository, identifier, request),
            _ => unsupported(),
        },
        Endpoint::Tags { repository } => match *method {
            Method::GET | Method::HEAD => tags(storage, repository),
            _ => unsupported(),
        },
        Endpoint::Unknown => Answer::error(StatusCode::NOT_FOUND, "NOT_FOUND", "no such endpoint"),
    }
}

/// Makes the answer to a method that an endpoint does not have.
pub(super) fn unsupported() -> Answer {
    Answer::error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "the operation is unsupported")
}

fn manifest(storage: &Storage, repository: &str, reference: &str) -> Answer {
    match storage.manifest(repository, reference) {
        Ok((digest, manifest)) => Answer { body: manifest.bytes, ..Answer::empty(StatusCode::OK) }
            .with_header(CONTENT_TYPE, &manifest.media_type)
            .with_header(DOCKER_CONTENT_DIGEST, &digest),
        Err(missing) => manifest_missing(missing),
    }
}

fn put_manifest(storage: &Storage, repository: &str, reference: &str, request: &Request) -> Answer {
    let Some(media_type) = request.header(CONTENT_TYPE) else {
        return Answer::error(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", "the request has no Content-Type");
    };
    if is_digest(reference) && reference != digest_of(&request.body) {
        return digest_invalid();
    }
    let digest = storage.put_manifest(repository, media_type, request.body.clone());
    if !is_digest(reference) {
        storage.tag(repository, reference, &digest).expect("the manifest that was just stored");
    }
    Answer::empty(StatusCode::CREATED)
        .with_header(LOCATION, &format!("/v2/{repository}/manifests/{digest}"))
        .with_header(DOCKER_CONTENT_DIGEST, &digest)
}

fn blob(storage: &Storage, repository: &str, digest: &str) -> Answer {
    match storage.blob(repository, digest) {
        Ok(bytes) => Answer { body: bytes, ..Answer::empty(StatusCode::OK) }
            .with_header(CONTENT_TYPE, "application/octet-stream")
            .with_header(DOCKER_CONTENT_DIGEST, digest),
        Err(missing) => blob_missing(missing),
    }
}

/// Begins an upload, or takes a whole blob; a mount is answered by an upload, as is allowed.
fn begin_upload(storage: &Storage, repository: &str, request: &Request) -> Answer {
    match request.parameter("digest") {
        Some(digest) => finish(storage, repository, &digest, request.body.to_vec()),
        None => upload_accepted(repository, &storage.begin_upload(), 0),
    }
}

fn continue_upload(storage: &Storage, repository: &str, identifier: &str, request: &Request) -> Answer {
    match storage.append_to_upload(identifier, &request.body) {
        Some(length) => upload_accepted(repository, identifier, length),
        None => upload_missing(),
    }
}

fn end_upload(storage: &Storage, repository: &str, identifier: &str, request: &Request) -> Answer {
    let Some(digest) = request.parameter("digest") else {
        return digest_invalid();
    };
    let Some(mut bytes) = storage.end_upload(identifier) else {
        return upload_missing();
    };
    bytes.extend_from_slice(&request.body);
    finish(storage, repository, &digest, bytes)
}

fn finish(storage: &Storage, repository: &str, digest: &str, bytes: Vec<u8>) -> Answer {
    if digest != digest_of(&bytes) {
        return digest_invalid();
    }
    storage.put_blob(repository, bytes);
    Answer::empty(StatusCode::CREATED)
        .with_header(LOCATION, &format!("/v2/{repository}/blobs/{digest}"))
        .with_header(DOCKER_CONTENT_DIGEST, digest)
}

fn tags(storage: &Storage, repository: &str) -> Answer {
    match storage.tags(repository) {
        Ok(tags) => Answer::json(StatusCode::OK, &serde_json::json!({"name": repository, "tags": tags})),
        Err(_) => repository_missing(),
    }
}

fn upload_accepted(repository: &str, identifier: &str, length: usize) -> Answer {
    let location = format!("/v2/{repository}/blobs/uploads/{identifier}");
    Answer::empty(StatusCode::ACCEPTED)
        .with_header(LOCATION, &location)
        .with_header(RANGE, &format!("0-{}", length.saturating_sub(1)))
}

fn deleted(outcome: Result<(), Missing>, missing_answer: fn(Missing) -> Answer) -> Answer {
    match outcome {
        Ok(()) => Answer::empty(StatusCode::ACCEPTED),
        Err(missing) => missing_answer(missing),
    }
}

fn manifest_missing(missing: Missing) -> Answer {
    match missing {
        Missing::Repository => repository_missing(),
        Missing::Content => not_found("MANIFEST_UNKNOWN", "manifest unknown"),
    }
}

fn blob_missing(missing: Missing) -> Answer {
    match missing {
        Missing::Repository => repository_missing(),
        Missing::Content => not_found("BLOB_UNKNOWN", "blob unknown to registry"),
    }
}

fn repository_missing() -> Answer {
    not_found("NAME_UNKNOWN", "repository name not known to registry")
}

fn upload_missing() -> Answer {
    not_found("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
}

fn not_found(code: &str, message: &str) -> Answer {
    Answer::error(StatusCode::NOT_FOUND, code, message)
}

fn digest_invalid() -> Answer {
    Answer::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "provided digest did not match uploaded content")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_one_endpoint() {
        let table = [
            ("/v2", Endpoint::Version),
            ("/v2/", Endpoint::Version),
            ("/v2/acme/os/manifests/4.18", Endpoint::Manifest { repository: "acme/os", reference: "4.18" }),
            (
                "/v2/manifests/manifests/latest",
                Endpoint::Manifest { repository: "manifests", reference: "latest" },
            ),
            ("/v2/os/blobs/sha256:abc", Endpoint::Blob { repository: "os", digest: "sha256:abc" }),
            ("/v2/os/blobs/uploads/", Endpoint::Uploads { repository: "os" }),
            ("/v2/os/blobs/uploads/upload-1", Endpoint::Upload { repository: "os", identifier: "upload-1" }),
            ("/v2/os/tags/list", Endpoint::Tags { repository: "os" }),
            ("/v2/os", Endpoint::Unknown),
            ("/healthz", Endpoint::Unknown),
        ];
        for (path, expected) in table {
            assert_eq!(Endpoint::parse(path), expected, "{path}");
        }
    }
}
