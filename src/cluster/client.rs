//! The API server: one request, by a deadline, with an answer or the reason why there is none.
//!
//! Owns the client, which is made in the background because an exec plug-in may take its time, and
//! the words for failures. No body of an answer is ever put into words: it may hold a secret.

use std::fmt;
use std::time::Duration;

use axum::http::{Request, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use kube::Client;
use kube::client::{AuthError, Body, ConfigExt};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::cluster::access::{AccessError, ClusterAccess, words as kubeconfig_words};
use crate::errors;
use crate::text::shown;

/// A way to one API server.
pub(crate) struct ApiClient {
    config: kube::Config,
    /// Who is asked, for messages: `host:port`.
    server: String,
    /// The command of the exec plug-in.
    plug_in: Option<String>,
    made: Mutex<ClientState>,
}

/// The client, on its way from configuration to use.
enum ClientState {
    Not,
    Ready {
        client: Client,
        since: Instant,
    },
    /// It is being made, for which an exec plug-in may be at work. Whoever asks waits for this one rather
    /// than starting another.
    Working(JoinHandle<Result<Client, String>>),
    Failed {
        reason: String,
        until: Instant,
    },
}

impl ApiClient {
    /// Prepares a connection. What can be seen to be wrong without running anything is told at once.
    pub(crate) fn new(mut access: ClusterAccess) -> Result<Self, AccessError> {
        access.config.connect_timeout = Some(CONNECT);
        // Retries are paced by those who ask, inside their deadlines.
        access.config.default_retry = false;
        let plug_in = access
            .config
            .auth_info
            .exec
            .as_ref()
            .map(|exec| exec.command.as_deref().map_or_else(|| "(no command)".to_owned(), shown));
        let url = &access.config.cluster_url;
        let host = shown(url.host().unwrap_or_default());
        let server = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        // Both would run a plug-in.
        if plug_in.is_none() && access.config.auth_info.auth_provider.is_none() {
            let certificates = access.config.rustls_client_config().map(drop);
            let token = access.config.auth_layer().map(drop);
            certificates.and(token).map_err(|error| access.wrong(words(&error, None)))?;
        }
        Ok(Self { config: access.config, server, plug_in, made: Mutex::new(ClientState::Not) })
    }

    /// Who is asked.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Sends a request and reads the whole answer, of at most `most` bytes.
    pub(crate) async fn ask(
        &self,
        request: Request<Vec<u8>>,
        most: usize,
        deadline: Instant,
    ) -> Result<Vec<u8>, ApiError> {
        let response = self.open(request, deadline).await?;
        self.read(response.into_body(), most, deadline).await
    }

    /// Sends a request, and returns when the head of a good answer is there.
    pub(crate) async fn open(
        &self,
        request: Request<Vec<u8>>,
        deadline: Instant,
    ) -> Result<Response<Body>, ApiError> {
        let client = self.client(deadline).await?;
        let sent = client.send(request.map(Body::from));
        let response = match timeout_at(deadline, sent).await {
            Err(_) => return Err(self.out_of_time()),
            Ok(Err(error)) => return Err(self.unreachable(words(&error, self.plug_in.as_deref()))),
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.read(response.into_body(), MAX_STATUS, deadline).await.unwrap_or_default();
        let message = ApiStatus::message_of(&body);
        Err(match status.as_u16() {
            401 => {
                self.forget_client().await;
                ApiError::NotAccepted { server: self.server.clone() }
            }
            403 => ApiError::Forbidden { message },
            404 => ApiError::NotServed,
            410 => ApiError::Gone,
            status => ApiError::Status { server: self.server.clone(), status, message },
        })
    }

    async fn read(&self, mut body: Body, most: usize, deadline: Instant) -> Result<Vec<u8>, ApiError> {
        let mut bytes = Vec::new();
        while let Some(frame) = self.next(&mut body, deadline).await? {
            if bytes.len() + frame.len() > most {
                return Err(self.nonsense(format!("more than {most} bytes")));
            }
            bytes.extend_from_slice(&frame);
        }
        Ok(bytes)
    }

    /// The next piece of a body; `None` at its end.
    pub(crate) async fn next(&self, body: &mut Body, deadline: Instant) -> Result<Option<Bytes>, ApiError> {
        loop {
            match timeout_at(deadline, body.frame()).await {
                Err(_) => return Err(self.out_of_time()),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(self.unreachable(shown(&errors::innermost(&error)))),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    pub(crate) fn out_of_time(&self) -> ApiError {
        ApiError::OutOfTime { server: self.server.clone() }
    }

    pub(crate) fn nonsense(&self, reason: String) -> ApiError {
        ApiError::Nonsense { server: self.server.clone(), reason }
    }

    fn unreachable(&self, reason: String) -> ApiError {
        ApiError::Unreachable { server: self.server.clone(), reason }
    }

    /// The client, made anew where its certificate has ended.
    async fn client(&self, deadline: Instant) -> Result<Client, ApiError> {
        let Ok(mut made) = timeout_at(deadline, self.made.lock()).await else {
            return Err(self.waiting());
        };
        loop {
            match &mut *made {
                ClientState::Ready { client, .. } => {
                    let is_over = client.valid_until().is_some_and(|end| end <= jiff::Timestamp::now());
                    if !is_over {
                        return Ok(client.clone());
                    }
                    *made = ClientState::Not;
                }
                ClientState::Failed { reason, until } => {
                    if Instant::now() < *until {
                        return Err(ApiError::NoCredentials { reason: reason.clone() });
                    }
                    *made = ClientState::Not;
                }
                ClientState::Not => {
                    let (config, plug_in) = (self.config.clone(), self.plug_in.clone());
                    *made = ClientState::Working(tokio::task::spawn_blocking(move || {
                        Client::try_from(config).map_err(|error| words(&error, plug_in.as_deref()))
                    }));
                }
                ClientState::Working(task) => {
                    let outcome = match timeout_at(deadline, task).await {
                        Err(_) => return Err(self.waiting()),
                        Ok(Err(error)) => Err(error.to_string()),
                        Ok(Ok(outcome)) => outcome,
                    };
                    *made = match outcome {
                        Ok(client) => ClientState::Ready { client, since: Instant::now() },
                        Err(reason) => ClientState::Failed { reason, until: Instant::now() + PLUG_IN_PAUSE },
                    };
                }
            }
        }
    }

    /// What a plug-in gave is not accepted any more: the next request asks it again.
    async fn forget_client(&self) {
        if self.plug_in.is_none() {
            return;
        }
        let mut made = self.made.lock().await;
        if matches!(&*made, ClientState::Ready { since, .. } if since.elapsed() > PLUG_IN_PAUSE) {
            *made = ClientState::Not;
        }
    }

    fn waiting(&self) -> ApiError {
        match &self.plug_in {
            Some(command) => ApiError::NoCredentials {
                reason: format!("the exec plug-in `{command}` has not answered yet"),
            },
            None => self.out_of_time(),
        }
    }
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connection").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Why the API server gave no good answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    /// It serves no such kind.
    #[error("the API server does not serve it")]
    NotServed,
    /// What was asked for is too old to be continued.
    #[error("the API server has forgotten where the last answer ended")]
    Gone,
    /// The account has not the right.
    #[error("{message}")]
    Forbidden {
        /// What the API server says is missing.
        message: String,
    },
    /// The account is not known.
    #[error("the API server {server} does not accept the credentials")]
    NotAccepted {
        /// Who was asked.
        server: String,
    },
    /// Another status that is no answer.
    #[error("the API server {server} answered {status}: {message}")]
    Status {
        /// Who was asked.
        server: String,
        /// The HTTP status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// No connection could be made, or it broke.
    #[error("the API server {server} cannot be reached: {reason}")]
    Unreachable {
        /// Who was asked.
        server: String,
        /// What the network said.
        reason: String,
    },
    /// There was no answer in time.
    #[error("the API server {server} did not answer in time")]
    OutOfTime {
        /// Who was asked.
        server: String,
    },
    /// The answer was not what the protocol promises.
    #[error("the API server {server} answered wrongly: {reason}")]
    Nonsense {
        /// Who was asked.
        server: String,
        /// What was wrong.
        reason: String,
    },
    /// There is nothing to show to the API server.
    #[error("no credentials for the API server: {reason}")]
    NoCredentials {
        /// What happened.
        reason: String,
    },
}

/// A `meta/v1 ApiStatus`, of which only the message is of use.
#[derive(Deserialize)]
pub(crate) struct ApiStatus {
    #[serde(default)]
    message: String,
    #[serde(default)]
    code: u16,
}

impl ApiStatus {
    /// The status that stands in place of an object at the end of a watch.
    pub(crate) fn into_failure(self, connection: &ApiClient) -> ApiError {
        let message = short(&self.message);
        match self.code {
            410 => ApiError::Gone,
            403 => ApiError::Forbidden { message },
            status => ApiError::Status { server: connection.server.clone(), status, message },
        }
    }

    fn message_of(body: &[u8]) -> String {
        serde_json::from_slice::<Self>(body)
            .map_or_else(|_| "without a reason".to_owned(), |status| short(&status.message))
    }
}

/// A message from outside: harmless to a terminal, and not endless.
fn short(message: &str) -> String {
    let mut text: String = message.chars().take(MAX_MESSAGE).collect();
    if text.len() < message.len() {
        text.push('…');
    }
    shown(&text)
}

/// What a client says of its failure. What a plug-in printed stays out of it: it may be a credential.
fn words(error: &kube::Error, plug_in: Option<&str>) -> String {
    let plug_in = plug_in.unwrap_or("of the kubeconfig");
    match error {
        kube::Error::Auth(error) => plug_in_words(error, plug_in),
        kube::Error::Service(error) => match error.downcast_ref::<AuthError>() {
            Some(error) => plug_in_words(error, plug_in),
            None => shown(&errors::innermost(&**error)),
        },
        kube::Error::InferKubeconfig(error) => kubeconfig_words(error),
        kube::Error::RustlsTls(error) => error.to_string(),
        kube::Error::ProxyProtocolUnsupported { proxy_url } => {
            format!(
                "its proxy is of a kind that is not known: `{}`",
                shown(proxy_url.scheme_str().unwrap_or(""))
            )
        }
        other => shown(&errors::innermost(other)),
    }
}

fn plug_in_words(error: &AuthError, plug_in: &str) -> String {
    match error {
        AuthError::AuthExecRun { out, .. } => {
            format!("the exec plug-in `{plug_in}` failed ({}); run it by hand to see why", out.status)
        }
        AuthError::AuthExecStart(error) => {
            format!("the exec plug-in `{plug_in}` cannot be started: {}", errors::words(error))
        }
        AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed => {
            format!("the exec plug-in `{plug_in}` printed no ExecCredential")
        }
        AuthError::ReadTokenFile(error, path) => {
            format!("the token file {}: {}", path.display(), errors::words(error))
        }
        AuthError::AuthExec(_) => "the auth provider of the kubeconfig gave no token".to_owned(),
        other => other.to_string(),
    }
}

const CONNECT: Duration = Duration::from_secs(5);
/// A plug-in that failed is left alone for a moment, and one whose answer was refused.
const PLUG_IN_PAUSE: Duration = Duration::from_secs(5);
const MAX_STATUS: usize = 64 * 1024;
const MAX_MESSAGE: usize = 400;
