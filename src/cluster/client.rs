//! Requests to the API server, each with a deadline, and the reasons why one fails.
//!
//! The client is built in the background, because an exec plug-in may take long. No response body is ever
//! put into a message: it may hold a secret.

use std::fmt::{self, Debug};
use std::pin::pin;
use std::time::Duration;

use axum::http::Response;
use futures_util::{AsyncReadExt, Stream, StreamExt};
use http_body_util::{LengthLimitError, Limited};
use kube::api::{Api, ListParams, ObjectList, PostParams, WatchEvent, WatchParams};
use kube::client::{AuthError, ClientBuilder, ConfigExt};
use kube::core::{Request, Status};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tower::util::MapResponseLayer;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

use crate::cluster::access::{AccessError, ClusterAccess, words as kubeconfig_words};
use crate::errors;
use crate::text::shown;

/// The client of one API server.
pub(crate) struct ApiClient {
    config: kube::Config,
    /// `host:port` of the API server, for messages.
    server: String,
    /// The command of the exec plug-in.
    plug_in: Option<String>,
    state: Mutex<ClientState>,
}

enum ClientState {
    NotBuilt,
    /// Being built, for which an exec plug-in may be running. All callers wait for this one.
    Building(JoinHandle<Result<Client, String>>),
    Ready {
        client: Client,
        since: Instant,
    },
    Failed {
        reason: String,
        until: Instant,
    },
}

impl ApiClient {
    /// Prepares a client. What is wrong with the configuration is reported at once, unless only running an
    /// exec plug-in would show it.
    pub(crate) fn new(mut access: ClusterAccess) -> Result<Self, AccessError> {
        access.config.connect_timeout = Some(CONNECT_TIMEOUT);
        // Callers retry with pauses and deadlines of their own.
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
            certificates.and(token).map_err(|error| access.unusable(words(&error, None)))?;
        }
        Ok(Self { config: access.config, server, plug_in, state: Mutex::new(ClientState::NotBuilt) })
    }

    /// `host:port` of the API server.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// One page of a list.
    pub(crate) async fn list<K: Clone + DeserializeOwned>(
        &self,
        path: &str,
        parameters: &ListParams,
        deadline: Instant,
    ) -> Result<ObjectList<K>, ApiError> {
        let request = Request::new(path).list(parameters).map_err(kube::Error::BuildRequest);
        self.call(deadline, |client| async move {
            // `Client::request` holds the page three times: in frames, as bytes and as text. With it the process
            // needed 115 MB for 200 MachineConfigs of 1.4 MB each.
            let mut body = pin!(client.request_stream(request?).await?);
            let mut page = Vec::new();
            body.read_to_end(&mut page).await.map_err(kube::Error::ReadEvents)?;
            serde_json::from_slice(&page).map_err(kube::Error::SerdeError)
        })
        .await
    }

    /// Opens a watch. Returns when the API server has accepted it.
    pub(crate) async fn watch<K: Clone + DeserializeOwned>(
        &self,
        path: &str,
        parameters: &WatchParams,
        resource_version: &str,
        deadline: Instant,
    ) -> Result<impl Stream<Item = kube::Result<WatchEvent<K>>> + use<K>, ApiError> {
        let request = Request::new(path).watch(parameters, resource_version);
        let request = request.map_err(kube::Error::BuildRequest);
        self.call(deadline, |client| async move { client.request_events(request?).await }).await
    }

    /// The next event of a watch; `None` at its end, when the connection breaks, and at `deadline`.
    pub(crate) async fn next_event<K>(
        &self,
        events: &mut (impl Stream<Item = kube::Result<WatchEvent<K>>> + Unpin),
        deadline: Instant,
    ) -> Result<Option<WatchEvent<K>>, ApiError> {
        let next = events.next().with_subscriber(Dispatch::none());
        match timeout_at(deadline, next).await {
            Err(_) | Ok(None | Some(Err(kube::Error::ReadEvents(_)))) => Ok(None),
            Ok(Some(Ok(event))) => Ok(Some(event)),
            Ok(Some(Err(error))) => Err(self.failure(&error)),
        }
    }

    /// Creates an object without a namespace, and returns it as the API server answers it.
    pub(crate) async fn create<K>(&self, object: &K, deadline: Instant) -> Result<K, ApiError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        self.call(
            deadline,
            |client| async move { Api::all(client).create(&PostParams::default(), object).await },
        )
        .await
    }

    /// Runs `call` with the client, by `deadline`.
    async fn call<T, F: Future<Output = kube::Result<T>>>(
        &self,
        deadline: Instant,
        call: impl FnOnce(Client) -> F,
    ) -> Result<T, ApiError> {
        let client = self.client(deadline).await?;
        // kube logs the whole body of a response that it cannot decode, and that may hold a secret.
        let call = call(client).with_subscriber(Dispatch::none());
        let Ok(outcome) = timeout_at(deadline, call).await else { return Err(self.out_of_time()) };
        match outcome.map_err(|error| self.failure(&error)) {
            Err(failure @ ApiError::Unauthorized { .. }) => {
                self.forget_client().await;
                Err(failure)
            }
            outcome => outcome,
        }
    }

    pub(crate) fn out_of_time(&self) -> ApiError {
        ApiError::OutOfTime { server: self.server.clone() }
    }

    pub(crate) fn invalid(&self, reason: String) -> ApiError {
        ApiError::InvalidResponse { server: self.server.clone(), reason }
    }

    fn failure(&self, error: &kube::Error) -> ApiError {
        match error {
            kube::Error::Api(status) => self.status_error(status),
            // The text of the error quotes the response.
            kube::Error::SerdeError(error) => {
                let (line, column) = (error.line(), error.column());
                self.invalid(format!("unexpected JSON at line {line}, column {column}"))
            }
            kube::Error::FromUtf8(_) => self.invalid("it is not UTF-8".to_owned()),
            error if errors::chain(error).any(|error| error.is::<LengthLimitError>()) => {
                self.invalid(format!("more than {MAX_RESPONSE} bytes"))
            }
            error => ApiError::Unreachable {
                server: self.server.clone(),
                reason: words(error, self.plug_in.as_deref()),
            },
        }
    }

    /// The error that a `meta/v1 Status` reports.
    pub(crate) fn status_error(&self, status: &Status) -> ApiError {
        let server = self.server.clone();
        // Then kube has put the whole body into the message.
        let message =
            if status.reason == NOT_A_STATUS { "no reason given".to_owned() } else { short(&status.message) };
        match status.code {
            401 => ApiError::Unauthorized { server },
            403 => ApiError::Forbidden { message },
            404 => ApiError::NotServed,
            410 => ApiError::Gone,
            code => ApiError::Status { server, code, message },
        }
    }

    /// The client, built again when its certificate has expired.
    async fn client(&self, deadline: Instant) -> Result<Client, ApiError> {
        let Ok(mut state) = timeout_at(deadline, self.state.lock()).await else {
            return Err(self.still_building());
        };
        loop {
            match &mut *state {
                ClientState::Ready { client, .. } => {
                    let has_expired = client.valid_until().is_some_and(|end| end <= jiff::Timestamp::now());
                    if !has_expired {
                        return Ok(client.clone());
                    }
                    *state = ClientState::NotBuilt;
                }
                ClientState::Failed { reason, until } => {
                    if Instant::now() < *until {
                        return Err(ApiError::NoCredentials { reason: reason.clone() });
                    }
                    *state = ClientState::NotBuilt;
                }
                ClientState::NotBuilt => {
                    let (config, plug_in) = (self.config.clone(), self.plug_in.clone());
                    *state = ClientState::Building(tokio::task::spawn_blocking(move || {
                        build(config).map_err(|error| words(&error, plug_in.as_deref()))
                    }));
                }
                ClientState::Building(task) => {
                    let outcome = match timeout_at(deadline, task).await {
                        Err(_) => return Err(self.still_building()),
                        Ok(Err(error)) => Err(error.to_string()),
                        Ok(Ok(outcome)) => outcome,
                    };
                    *state = match outcome {
                        Ok(client) => ClientState::Ready { client, since: Instant::now() },
                        Err(reason) => ClientState::Failed { reason, until: Instant::now() + PLUG_IN_PAUSE },
                    };
                }
            }
        }
    }

    /// Lets the next request run the exec plug-in again, whose credentials were rejected.
    async fn forget_client(&self) {
        if self.plug_in.is_none() {
            return;
        }
        let mut state = self.state.lock().await;
        if matches!(&*state, ClientState::Ready { since, .. } if since.elapsed() > PLUG_IN_PAUSE) {
            *state = ClientState::NotBuilt;
        }
    }

    fn still_building(&self) -> ApiError {
        match &self.plug_in {
            Some(command) => ApiError::NoCredentials {
                reason: format!("the exec plug-in `{command}` has not answered yet"),
            },
            None => self.out_of_time(),
        }
    }
}

impl Debug for ApiClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ApiClient").field("server", &self.server).finish_non_exhaustive()
    }
}

/// kube's client, with a limit on the size of each response.
fn build(config: kube::Config) -> kube::Result<Client> {
    let limit =
        MapResponseLayer::new(|response: Response<_>| response.map(|body| Limited::new(body, MAX_RESPONSE)));
    Ok(ClientBuilder::try_from(config)?.with_layer(&limit).build())
}

/// Why a request to the API server failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    /// The resource is not served.
    #[error("the API server does not serve it")]
    NotServed,
    /// The resource version of a watch, or the token of a page, is too old.
    #[error("the resource version is too old")]
    Gone,
    /// The account lacks a right.
    #[error("{message}")]
    Forbidden {
        /// The API server's message, which names verb, resource and account.
        message: String,
    },
    /// The credentials are not valid.
    #[error("the API server {server} rejected the credentials (401 Unauthorized)")]
    Unauthorized {
        /// `host:port`.
        server: String,
    },
    /// Another HTTP status.
    #[error("the API server {server} returned {code}: {message}")]
    Status {
        /// `host:port`.
        server: String,
        /// The HTTP status.
        code: u16,
        /// The API server's message.
        message: String,
    },
    /// There is no connection.
    #[error("cannot reach the API server {server}: {reason}")]
    Unreachable {
        /// `host:port`.
        server: String,
        /// What the network reported.
        reason: String,
    },
    /// The deadline passed.
    #[error("the API server {server} did not answer in time")]
    OutOfTime {
        /// `host:port`.
        server: String,
    },
    /// The response does not follow the protocol.
    #[error("the API server {server} returned an invalid response: {reason}")]
    InvalidResponse {
        /// `host:port`.
        server: String,
        /// What is wrong.
        reason: String,
    },
    /// The exec plug-in gave no credentials.
    #[error("no credentials for the API server: {reason}")]
    NoCredentials {
        /// What happened.
        reason: String,
    },
}

/// The API server's message, safe for a terminal and not too long.
fn short(message: &str) -> String {
    let mut text: String = message.chars().take(MAX_MESSAGE).collect();
    if text.len() < message.len() {
        text.push('…');
    }
    shown(&text)
}

/// What kube's client reports. The output of a plug-in is left out: it may be a credential.
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
            let scheme = shown(proxy_url.scheme_str().unwrap_or_default());
            format!("its proxy has the unsupported scheme `{scheme}`")
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
        AuthError::AuthExec(_) => "the auth provider of the kubeconfig returned no token".to_owned(),
        other => other.to_string(),
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a plug-in is not run again after it failed, or after its credentials were rejected.
const PLUG_IN_PAUSE: Duration = Duration::from_secs(5);
/// For one response, which is a page of a list or all events of a watch. An object has up to 1.5 MiB in etcd.
const MAX_RESPONSE: usize = 64 * 1024 * 1024;
const MAX_MESSAGE: usize = 400;
/// kube's reason for an error response that is not a `Status`.
const NOT_A_STATUS: &str = "Failed to parse error data";
