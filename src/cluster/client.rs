//! Requests to the API server, each with a deadline, and the reasons why one fails.
//!
//! The client is built in the background, because an exec plug-in may take long. No response body is ever
//! put into a message: it may hold a secret.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::Response;
use futures_util::future::{BoxFuture, Shared};
use futures_util::{AsyncReadExt, FutureExt, Stream, StreamExt};
use http_body_util::{LengthLimitError, Limited};
use kube::api::{Api, ListParams, ObjectList, PostParams, WatchEvent, WatchParams};
use kube::client::{AuthError, ClientBuilder, ConfigExt};
use kube::config::ExecConfig;
use kube::core::{Request, Status};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};
use tower::util::MapResponseLayer;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

use crate::cluster::access::{AccessError, ClusterAccess, words as kubeconfig_words};
use crate::errors;
use crate::text::shown;

/// The client of one API server.
#[derive(derive_more::Debug)]
#[debug("ApiClient({server})")]
pub(crate) struct ApiClient {
    config: kube::Config,
    /// `host:port` of the API server, for messages.
    pub(crate) server: String,
    /// The command of the exec plug-in.
    plug_in: Option<String>,
    /// Built, or being built, for which an exec plug-in may be running. All callers wait for this one.
    client: Mutex<Option<Shared<BoxFuture<'static, BuiltClient>>>>,
}

/// A client, or why there is none, and since when.
type BuiltClient = (Result<Client, String>, Instant);

impl ApiClient {
    /// Prepares a client. What is wrong with the configuration is reported at once, unless only running an
    /// exec plug-in would show it.
    pub(crate) fn new(access: ClusterAccess) -> Result<Self, AccessError> {
        let ClusterAccess { mut config, origin } = access;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // Callers retry with pauses and deadlines of their own.
        config.default_retry = false;
        let command = |exec: &ExecConfig| exec.command.as_deref().map_or("(no command)".to_owned(), shown);
        let plug_in = config.auth_info.exec.as_ref().map(command);
        let url = &config.cluster_url;
        let host = shown(url.host().unwrap_or_default());
        let server = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        // Both would run a plug-in.
        if plug_in.is_none() && config.auth_info.auth_provider.is_none() {
            let certificates = config.rustls_client_config().map(drop);
            let token = config.auth_layer().map(drop);
            let unusable = |error| AccessError::unusable(&origin, &words(&error, None));
            certificates.and(token).map_err(unusable)?;
        }
        Ok(Self { config, server, plug_in, client: Mutex::default() })
    }

    /// One page of a list, whose text is read into `page`.
    pub(crate) async fn list<K: Clone + DeserializeOwned>(
        &self,
        path: &str,
        parameters: &ListParams,
        page: &mut Vec<u8>,
        deadline: Instant,
    ) -> Result<ObjectList<K>, ApiError> {
        let request = Request::new(path).list(parameters).map_err(kube::Error::BuildRequest);
        self.call(deadline, |client| async move {
            // `Client::request` holds the page three times: in frames, as bytes and as text. With it the process
            // needed 115 MB for 200 MachineConfigs of 1.4 MB each.
            let mut body = pin!(client.request_stream(request?).await?);
            page.clear();
            body.read_to_end(page).await.map_err(kube::Error::ReadEvents)?;
            serde_json::from_slice(page).map_err(kube::Error::SerdeError)
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
        if matches!(&outcome, Err(kube::Error::Api(status)) if status.code == 401) {
            self.forget_client();
        }
        outcome.map_err(|error| self.failure(&error))
    }

    pub(crate) fn out_of_time(&self) -> ApiError {
        ApiError::Other(format!("the API server {} did not answer in time", self.server))
    }

    pub(crate) fn invalid(&self, reason: &str) -> ApiError {
        ApiError::Other(format!("the API server {} returned an invalid response: {reason}", self.server))
    }

    fn failure(&self, error: &kube::Error) -> ApiError {
        match error {
            kube::Error::Api(status) => self.status_error(status),
            // The text of the error quotes the response.
            kube::Error::SerdeError(error) => {
                let (line, column) = (error.line(), error.column());
                self.invalid(&format!("unexpected JSON at line {line}, column {column}"))
            }
            kube::Error::FromUtf8(_) => self.invalid("it is not UTF-8"),
            error if errors::chain(error).any(|error| error.is::<LengthLimitError>()) => {
                self.invalid(&format!("more than {MAX_RESPONSE} bytes"))
            }
            error => {
                let reason = words(error, self.plug_in.as_deref());
                ApiError::Other(format!("cannot reach the API server {}: {reason}", self.server))
            }
        }
    }

    /// The error that a `meta/v1 Status` reports.
    pub(crate) fn status_error(&self, status: &Status) -> ApiError {
        let server = &self.server;
        // Then kube has put the whole body into the message.
        let message =
            if status.reason == NOT_A_STATUS { "no reason given".to_owned() } else { shown(&status.message) };
        match status.code {
            401 => ApiError::Other(format!(
                "the API server {server} rejected the credentials (401 Unauthorized)"
            )),
            403 => ApiError::Forbidden(message),
            404 => ApiError::NotServed,
            410 => ApiError::Gone,
            code => ApiError::Other(format!("the API server {server} returned {code}: {message}")),
        }
    }

    /// The client, built again when its certificate has expired, and some time after it could not be built.
    async fn client(&self, deadline: Instant) -> Result<Client, ApiError> {
        let client = self
            .built_client(|(outcome, since)| match outcome {
                Ok(client) => client.valid_until().is_some_and(|end| end <= jiff::Timestamp::now()),
                Err(_) => since.elapsed() >= PLUG_IN_PAUSE,
            })
            .get_or_insert_with(|| {
                let (config, plug_in) = (self.config.clone(), self.plug_in.clone());
                let build = move || build(config).map_err(|error| words(&error, plug_in.as_deref()));
                let task = tokio::task::spawn_blocking(build);
                let built = async { task.await.unwrap_or_else(|error| Err(error.to_string())) };
                built.map(|outcome| (outcome, Instant::now())).boxed().shared()
            })
            .clone();
        let reason = match (timeout_at(deadline, client).await, &self.plug_in) {
            (Ok((Ok(client), _)), _) => return Ok(client),
            (Ok((Err(reason), _)), _) => reason,
            (Err(_), Some(command)) => format!("the exec plug-in `{command}` has not answered yet"),
            (Err(_), None) => return Err(self.out_of_time()),
        };
        Err(ApiError::Other(format!("no credentials for the API server: {reason}")))
    }

    /// Lets the next request run the exec plug-in again, whose credentials were rejected.
    fn forget_client(&self) {
        if self.plug_in.is_some() {
            drop(self.built_client(|(outcome, since)| outcome.is_ok() && since.elapsed() > PLUG_IN_PAUSE));
        }
    }

    /// The client, unless it is built and `is_over`.
    fn built_client(
        &self,
        is_over: impl Fn(&BuiltClient) -> bool,
    ) -> MutexGuard<'_, Option<Shared<BoxFuture<'static, BuiltClient>>>> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.take_if(|client| client.peek().is_some_and(is_over));
        client
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
    /// The account lacks a right: the API server's message, which names verb, resource and account.
    #[error("{0}")]
    Forbidden(String),
    /// Nothing that callers distinguish: the message.
    #[error("{0}")]
    Other(String),
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
/// kube's reason for an error response that is not a `Status`.
const NOT_A_STATUS: &str = "Failed to parse error data";
