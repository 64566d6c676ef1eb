//! Requests to registries and token services.
//!
//! Owns redirects and the limit of what is read. Authorization is sent only to the host that it is for, and not
//! along a redirect to another.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use jiff::Timestamp;
use moka::sync::Cache;
use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION};
use reqwest::{Client, Method, Response, StatusCode, Url};

use crate::errors::chain;
use crate::metrics::Metrics;
use crate::model::facts::Cause;
use crate::registry::http::Trust;
use crate::registry::http::address_guard::{self, authority, is_loopback};
use crate::registry::http::authorization::Authorization;
use crate::registry::http::client::ClientPool;
use crate::registry::http::host_limiter::{self, HostLimiters, HostLimits, Permit, Rejected, RequestOutcome};
use crate::registry::http::proxy::Proxies;
use crate::registry::http::send_error::{SendError, reason};
use crate::registry::http::tls_roots::CertDirs;

/// What is requested of a registry.
#[derive(Clone, Debug)]
pub(crate) struct RequestTarget {
    /// The registry: `host` or `host:port`.
    pub(crate) host: String,
    pub(crate) trust: Trust,
    /// The path, which starts with `/v2/`.
    pub(crate) path: String,
}

/// The head of a response, and the body that is still to be read.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The host that answered, after redirects.
    pub(crate) host: String,
    /// Whether that is another host than the one that was asked.
    pub(crate) is_redirected: bool,
    /// Whether it came over TLS from a host whose certificate is trusted.
    pub(crate) is_verified: bool,
    /// Whether the host is configured as insecure.
    pub(crate) is_insecure: bool,
    pub(crate) is_loopback: bool,
    body: Option<Response>,
    /// Kept until the body is read.
    _permit: Option<Permit>,
}

/// Sends requests.
#[derive(Debug)]
pub(crate) struct Transport {
    clients: ClientPool,
    /// Registries that may be contacted without TLS, and do not have it.
    plain: Cache<String, ()>,
    limiters: HostLimiters,
    metrics: Arc<Metrics>,
}

/// The HTTP client cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the HTTP client: {0}")]
pub struct SetUpError(#[source] reqwest::Error);

impl Transport {
    pub(crate) fn new(
        certificates: Arc<CertDirs>,
        proxies: Arc<Proxies>,
        limits: HostLimits,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SetUpError> {
        let clients = ClientPool::new(certificates, proxies, limits.in_flight).map_err(SetUpError)?;
        Ok(Self {
            clients,
            plain: Cache::builder().max_capacity(1024).time_to_live(PLAIN_KEPT).build(),
            limiters: HostLimiters::new(limits),
            metrics,
        })
    }

    /// Sends a request to a registry: over TLS, or without it when the registry does not have TLS and is on loopback
    /// or insecure.
    pub(crate) async fn send(
        &self,
        method: &Method,
        target: &RequestTarget,
        headers: HeaderMap,
        authorization: Option<&Authorization>,
    ) -> Result<Reply, Cause> {
        let start = |scheme: &str| {
            let url = Url::parse(&format!("{scheme}://{}{}", target.host, target.path));
            url.map(|url| RequestStart { url, trust: target.trust }).map_err(|error| Cause::Unreachable {
                host: target.host.clone(),
                reason: format!("its name is not valid in a URL: {error}"),
            })
        };
        let encrypted = start("https")?;
        let is_loopback = is_loopback(&encrypted.url);
        let may_be_plain = is_loopback || target.trust == Trust::Insecure;
        if may_be_plain && self.plain.contains_key(&target.host) {
            return Ok(self.follow(method, start("http")?, &headers, authorization).await?);
        }
        let error = match self.follow(method, encrypted, &headers, authorization).await {
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        // An insecure registry may not listen on the port of HTTPS at all, as on nodes.
        let has_no_tls = match &error {
            SendError::NoTls(_) => true,
            SendError::Cause(Cause::Unreachable { .. }) => target.trust == Trust::Insecure,
            SendError::Cause(_) => false,
        };
        if !may_be_plain || !has_no_tls {
            return Err(error.into());
        }
        match self.follow(method, start("http")?, &headers, authorization).await {
            Ok(reply) => {
                self.plain.insert(target.host.clone(), ());
                Ok(reply)
            }
            Err(plain) if is_loopback => Err(plain.into()),
            // The error over TLS is more useful.
            Err(_) => Err(error.into()),
        }
    }

    /// Sends a request to a URL.
    pub(crate) async fn send_to(
        &self,
        method: &Method,
        start: RequestStart,
        headers: HeaderMap,
        authorization: Option<&Authorization>,
    ) -> Result<Reply, Cause> {
        Ok(self.follow(method, start, &headers, authorization).await?)
    }

    /// Sends a form. It may contain a credential, so redirects are not followed.
    pub(crate) async fn send_form(
        &self,
        start: RequestStart,
        headers: HeaderMap,
        form: &[(&str, &str)],
    ) -> Result<Reply, Cause> {
        let request = self.client_for(&start.url, &start).await?.post(start.url.clone());
        let request = request.headers(headers).form(form);
        Ok(self.exchange(&Method::POST, request, &start.url, &start).await?)
    }

    /// Reads a body of at most `limit` bytes.
    pub(crate) async fn read(&self, mut reply: Reply, limit: usize) -> Result<Vec<u8>, Cause> {
        let mut bytes = Vec::new();
        while let Some(chunk) = reply.chunk().await? {
            if bytes.len() + chunk.len() > limit {
                let reason = format!("the body has more than {limit} bytes");
                return Err(Cause::InvalidResponse { host: reply.host, reason });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    async fn follow(
        &self,
        method: &Method,
        start: RequestStart,
        headers: &HeaderMap,
        authorization: Option<&Authorization>,
    ) -> Result<Reply, SendError> {
        let mut url = start.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let client = self.client_for(&url, &start).await?;
            let mut request = client.request(method.clone(), url.clone()).headers(headers.clone());
            if let Some(authorization) = authorization.filter(|_| start.is_origin_of(&url)) {
                request = request.header(AUTHORIZATION, authorization.header());
            }
            let reply = self.exchange(method, request, &url, &start).await?;
            if !reply.status.is_redirection() {
                return Ok(reply);
            }
            url = next(&url, &reply)?;
        }
        let host = authority(&start.url);
        let reason = format!("more than {MAX_REDIRECTS} redirects");
        Err(Cause::InvalidResponse { host, reason }.into())
    }

    async fn exchange(
        &self,
        method: &Method,
        request: reqwest::RequestBuilder,
        url: &Url,
        start: &RequestStart,
    ) -> Result<Reply, SendError> {
        let host = authority(url);
        let permit = self.limiters.of(&host).enter().await;
        let mut permit = permit.map_err(|rejected| rejection(rejected, host.clone()))?;
        let begun = Instant::now();
        let sent = tokio::time::timeout(self.limiters.limits.response_timeout, send_twice(request)).await;
        let label = match &sent {
            Ok(Ok(response)) => outcome_of(response.status()),
            Ok(Err(error)) if error.is_timeout() => "timeout",
            Ok(Err(_)) => "failed",
            Err(_) => "timeout",
        };
        self.metrics.registry_request(&host, label, begun.elapsed());
        let Ok(outcome) = sent else {
            permit.settle(RequestOutcome::Failed);
            return Err(Cause::OutOfTime { host }.into());
        };
        let response = match outcome {
            Ok(response) => response,
            Err(error) => {
                let error = SendError::of(&error, host.clone(), self.clients.proxy(url).as_ref());
                // A host without TLS is reachable.
                let is_reachable = matches!(error, SendError::NoTls(_));
                permit.settle(if is_reachable { RequestOutcome::Answered } else { RequestOutcome::Failed });
                return Err(match error {
                    // After a redirect, it says nothing about the host that was asked.
                    SendError::NoTls(cause) if !start.is_origin_of(url) => SendError::Cause(cause),
                    error => error,
                });
            }
        };
        let status = response.status();
        if MAY_ASK_FOR_A_PAUSE.contains(&status)
            && let Some(pause) = host_limiter::retry_after(response.headers(), SystemTime::now())
        {
            let status = status.as_u16();
            permit.settle(RequestOutcome::Paused { status, pause });
            return Err(Cause::Paused { host, status, until: after(pause) }.into());
        }
        permit.settle(if status.is_server_error() {
            RequestOutcome::Failed
        } else {
            RequestOutcome::Answered
        });
        let headers = response.headers().clone();
        let body = Some(response).filter(|_| status.is_success() && method != Method::HEAD);
        if body.is_none() {
            // No body is read, and a caller that repeats the request must not wait for its own slot.
            permit.release();
        }
        Ok(Reply {
            status,
            headers,
            is_redirected: !start.is_origin_of(url),
            is_verified: url.scheme() == "https" && start.trust_in(url) == Trust::Verified,
            is_insecure: start.trust_in(url) == Trust::Insecure,
            is_loopback: is_loopback(url),
            host,
            body,
            _permit: Some(permit),
        })
    }

    /// The client for `url`. Fails for an address that is never contacted.
    async fn client_for(&self, url: &Url, start: &RequestStart) -> Result<Client, SendError> {
        let is_forbidden = address_guard::is_forbidden(url)
            // A proxy resolves names itself. If this machine can resolve them too, they are checked here.
            || self.clients.proxy(url).is_some() && address_guard::resolves_to_forbidden(url).await;
        if is_forbidden {
            return Err(Cause::ForbiddenAddress { host: authority(url) }.into());
        }
        self.clients
            .of(url, start.trust_in(url))
            .map_err(|error| Cause::Unreachable { host: authority(url), reason: reason(&error) }.into())
    }
}

/// Where a request goes before redirects. Its trust is for that host only.
#[derive(Debug)]
pub(crate) struct RequestStart {
    pub(crate) url: Url,
    pub(crate) trust: Trust,
}

impl RequestStart {
    fn is_origin_of(&self, url: &Url) -> bool {
        self.url.origin() == url.origin()
    }

    fn trust_in(&self, url: &Url) -> Trust {
        if authority(url) == authority(&self.url) { self.trust } else { Trust::Verified }
    }
}

impl Reply {
    /// The next part of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Cause> {
        let Some(body) = &mut self.body else { return Ok(None) };
        let chunk = body.chunk().await;
        chunk.map_err(|error| Cause::Unreachable { host: self.host.clone(), reason: reason(&error) })
    }

    #[cfg(test)]
    pub(crate) fn for_test(is_verified: bool, is_loopback: bool, is_insecure: bool) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            headers: HeaderMap::new(),
            host: "registry.example".into(),
            is_redirected: false,
            is_verified,
            is_insecure,
            is_loopback,
            body: None,
            _permit: None,
        }
    }
}

/// Sends a request, and sends it again when the server had closed an idle connection. All requests here can be
/// repeated safely.
async fn send_twice(request: reqwest::RequestBuilder) -> Result<Response, reqwest::Error> {
    let again = request.try_clone();
    let outcome = request.send().await;
    if let (Err(error), Some(again)) = (&outcome, again)
        && !error.is_connect()
        && chain(error).any(is_connection_cut)
        && let Ok(response) = again.send().await
    {
        return Ok(response);
    }
    outcome
}

/// The connection was closed before the response. Hyper reports an incomplete message, rustls an unexpected
/// end of file.
fn is_connection_cut(error: &(dyn Error + 'static)) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    let is_reset =
        |error: &std::io::Error| matches!(error.kind(), ConnectionReset | BrokenPipe | UnexpectedEof);
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
        || error.downcast_ref().is_some_and(is_reset)
}

fn rejection(rejected: Rejected, host: String) -> Cause {
    match rejected {
        Rejected::Paused { status, left } => Cause::Paused { host, status, until: after(left) },
        Rejected::CircuitOpen { failures, left } => Cause::CircuitOpen { host, failures, until: after(left) },
        Rejected::QueueFull => Cause::QueueFull { host },
    }
}

/// The time of day after `pause`, which is at most an hour.
fn after(pause: Duration) -> Timestamp {
    Timestamp::now().checked_add(pause).unwrap_or(Timestamp::MAX)
}

fn next(url: &Url, reply: &Reply) -> Result<Url, SendError> {
    let invalid = |reason: &str| {
        SendError::from(Cause::InvalidResponse { host: authority(url), reason: reason.to_owned() })
    };
    let location = reply.headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let location = location.ok_or_else(|| invalid("a redirect without a location"))?;
    let mut next = url.join(location).map_err(|_| invalid("a redirect to an invalid URL"))?;
    if !matches!(next.scheme(), "http" | "https") || next.host_str().is_none() {
        return Err(invalid("a redirect to a URL that is not HTTP"));
    }
    if url.scheme() == "https" && next.scheme() == "http" {
        return Err(invalid("a redirect from HTTPS to HTTP"));
    }
    // The HTTP client would use a user in the URL as a credential.
    let _ = next.set_username("");
    let _ = next.set_password(None);
    Ok(next)
}

fn outcome_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..=299 => "found",
        300..=399 => "redirected",
        401 | 403 => "refused",
        404 => "absent",
        429 => "limited",
        400..=499 => "rejected",
        _ => "failed",
    }
}

/// Statuses with which a host may ask for a pause (RFC 6585, section 4; RFC 9110, section 15.6.4).
const MAY_ASK_FOR_A_PAUSE: [StatusCode; 2] = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
const MAX_REDIRECTS: usize = 5;
/// How long it is remembered that a port has no TLS.
const PLAIN_KEPT: Duration = Duration::from_secs(60);
