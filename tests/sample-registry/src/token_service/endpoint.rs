//! The HTTP side of the token service: `GET` with Basic credentials or none,
//! `POST` with a refresh token or a password.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::{Method, StatusCode};
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::issuer::{Grant, Issuer};
use super::{TokenFault, TokenField};
use crate::http::{Answer, Reply, Request, parameter, parameters};
use crate::log::Log;
use crate::requests::RecordedRequest;
use crate::server::{Admission, Service};

/// The path of the only resource.
pub(super) const PATH: &str = "/token";

/// What the handle and the server share.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) issuer: Arc<Issuer>,
    pub(super) fault: watch::Sender<Option<TokenFault>>,
    pub(super) requests: Log<RecordedRequest>,
}

impl Endpoint {
    fn answer(&self, request: &Request) -> Answer {
        match (request.path(), &request.method) {
            (PATH, &Method::GET) => self.answer_get(request),
            (PATH, &Method::POST) => self.answer_post(request),
            (PATH, _) => Answer::empty(StatusCode::METHOD_NOT_ALLOWED),
            _ => Answer::empty(StatusCode::NOT_FOUND),
        }
    }

    fn answer_get(&self, request: &Request) -> Answer {
        let query = request.uri.query().unwrap_or_default();
        let scopes = scopes_of(query);
        match request.header(AUTHORIZATION) {
            None if self.issuer.terms().anonymous_pull => self.granted(self.issuer.grant_pull(&scopes), None),
            None => unauthorized(),
            Some(authorization) => match basic_credentials(authorization) {
                Some((user, password)) if self.issuer.knows(&user, &password) => {
                    let refresh_token = match parameter(query, "offline_token").as_deref() {
                        Some("true") => self.issuer.refresh_token(&user),
                        _ => None,
                    };
                    self.granted(self.issuer.grant(&user, &scopes), refresh_token)
                }
                _ => unauthorized(),
            },
        }
    }

    fn answer_post(&self, request: &Request) -> Answer {
        let form = String::from_utf8_lossy(&request.body);
        let scopes = scopes_of(&form);
        let user = match parameter(&form, "grant_type").as_deref() {
            Some("refresh_token") => parameter(&form, "refresh_token")
                .and_then(|refresh_token| self.issuer.user_of(&refresh_token)),
            Some("password") => parameter(&form, "username").filter(|user| {
                let password = parameter(&form, "password").unwrap_or_default();
                self.issuer.knows(user, &password)
            }),
            _ => None,
        };
        let Some(user) = user else {
            return unauthorized();
        };
        let refresh_token = match parameter(&form, "access_type").as_deref() {
            Some("offline") => self.issuer.refresh_token(&user),
            _ => parameter(&form, "refresh_token"),
        };
        self.granted(self.issuer.grant(&user, &scopes), refresh_token)
    }

    fn granted(&self, grant: Grant, refresh_token: Option<String>) -> Answer {
        let terms = self.issuer.terms();
        let mut document = Map::new();
        let fields: &[&str] = match terms.token_field {
            TokenField::Token => &["token"],
            TokenField::AccessToken => &["access_token"],
            TokenField::Both => &["token", "access_token"],
        };
        for field in fields {
            document.insert((*field).to_owned(), Value::from(grant.token.as_str()));
        }
        if terms.states_expiry {
            document.insert("expires_in".to_owned(), Value::from(grant.expires_in.as_secs()));
        }
        if let Some(refresh_token) = refresh_token {
            document.insert("refresh_token".to_owned(), Value::from(refresh_token));
        }
        Answer::json(StatusCode::OK, &document)
    }
}

impl Service for Endpoint {
    async fn admit(&self) -> Admission {
        Admission::Serve
    }

    async fn reply(&self, request: Request) -> Reply {
        let mut changes = self.fault.subscribe();
        let fault = changes.borrow_and_update().clone();
        // Recorded after the fault is read: whoever sees the record may clear the fault at once.
        self.requests.record(RecordedRequest::of(&request));
        let answer = match fault {
            None => self.answer(&request),
            Some(TokenFault::Hang) => {
                // The sender goes only with the service, which ends this task as well.
                let _ = changes.changed().await;
                return Reply::Close;
            }
            Some(TokenFault::Status(status)) => Answer::error(
                StatusCode::from_u16(status).expect("a status of three digits"),
                "UNKNOWN",
                "unknown error",
            ),
            Some(TokenFault::Garbage) => Answer {
                body: Bytes::from_static(b"<html>\x00\xff no token here"),
                ..Answer::empty(StatusCode::OK)
            }
            .with_header(CONTENT_TYPE, "text/html"),
            Some(TokenFault::NoToken) => Answer::json(StatusCode::OK, &Map::new()),
        };
        Reply::Answer(answer)
    }
}

/// Joins the scopes of a query or form: the parameter may be repeated or hold several.
fn scopes_of(form: &str) -> String {
    let scopes: Vec<String> =
        parameters(form).filter(|(key, _)| key == "scope").map(|(_, value)| value).collect();
    scopes.join(" ")
}

fn basic_credentials(authorization: &str) -> Option<(String, String)> {
    let encoded = authorization.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn unauthorized() -> Answer {
    Answer::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required")
        .with_header(WWW_AUTHENTICATE, "Basic realm=\"sample token service\"")
}
