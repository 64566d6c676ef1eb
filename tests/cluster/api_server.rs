//! An API server on loopback, with lists in pages, watches, and the faults of real ones.
//!
//! Serves HTTPS with a certificate of its own CA and accepts one token. It stores objects unchanged and does
//! not validate them.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State as Shared};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use layerpin_sample_registry::{Authority, keep_secret};
use layerpin_test_support::documents::kubeconfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_rustls::TlsAcceptor;

use crate::objects::SENSITIVE;

/// The only token that is accepted.
pub(crate) const TOKEN: &str = "token-of-layerpin";

pub(crate) struct ApiServer {
    pub(crate) address: SocketAddr,
    /// The CA of its certificate, in PEM.
    pub(crate) authority: String,
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

struct Inner {
    state: Mutex<State>,
    /// Wakes watches, and requests that wait for the end of a freeze.
    woken: Notify,
}

#[derive(Default)]
struct State {
    version: u64,
    /// Watches from an earlier version get 410 Gone.
    forgotten: u64,
    collections: BTreeMap<String, BTreeMap<String, Value>>,
    events: Vec<Event>,
    forbidden: HashSet<String>,
    /// Resources that may be listed but not watched.
    unwatchable: HashSet<String>,
    /// The size of the Ignition config in each MachineConfig.
    ignition: usize,
    frozen: bool,
    down: bool,
    /// Method, path and the relevant part of the query of each request.
    requests: Vec<String>,
    connections: Vec<AbortHandle>,
    /// Tokens of users, and whether each may create MachineConfigs.
    users: BTreeMap<String, (Value, bool)>,
}

impl State {
    /// An object as it is sent.
    fn complete(&self, path: &str, object: &Value) -> Value {
        let mut object = object.clone();
        if self.ignition > 0 && path == MACHINE_CONFIGS {
            object["spec"]["config"] = json!({"storage": "x".repeat(self.ignition)});
        }
        object
    }
}

#[derive(Clone)]
struct Event {
    version: u64,
    path: String,
    r#type: &'static str,
    object: Value,
}

impl ApiServer {
    /// Starts a server that serves the core resources, and those of which only one object is read.
    pub(crate) async fn start() -> Self {
        layerpin::install_crypto_provider();
        [TOKEN, SENSITIVE].into_iter().for_each(keep_secret);
        let authority = Authority::new();
        let identity = authority.issue(&["127.0.0.1"]);
        let chain = vec![CertificateDer::from_pem_slice(identity.certificate_pem().as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem().as_bytes()).unwrap();
        let tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner { state: Mutex::default(), woken: Notify::new() });
        let task = tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), Arc::clone(&inner)));
        let server = Self { address, authority: authority.ca_pem(), inner, task };
        for path in [NODES, CONFIG_MAPS, SECRETS, MANAGED, IMAGES, PROXIES, API_SERVERS] {
            server.serve(path);
        }
        server
    }

    /// A kubeconfig for this server.
    pub(crate) fn kubeconfig(&self) -> Value {
        self.kubeconfig_for(&json!({"token": TOKEN}))
    }

    /// A kubeconfig for this server, with another user.
    pub(crate) fn kubeconfig_for(&self, user: &Value) -> Value {
        use base64::prelude::{BASE64_STANDARD, Engine};
        let authority = BASE64_STANDARD.encode(&self.authority);
        let server = format!("https://{}", self.address);
        kubeconfig(&json!({"server": server, "certificate-authority-data": authority}), user)
    }

    /// Starts serving a resource.
    pub(crate) fn serve(&self, path: &str) {
        self.change(|state| {
            state.collections.entry(path.to_owned()).or_default();
        });
    }

    /// Serves the resources of OpenShift.
    pub(crate) fn serve_openshift(&self) {
        for path in [VERSIONS, CONTROLLER_CONFIGS, STREAMS, POOLS, MACHINE_CONFIGS] {
            self.serve(path);
        }
    }

    /// Stops serving a resource.
    pub(crate) fn withdraw(&self, path: &str) {
        self.change(|state| drop(state.collections.remove(path)));
    }

    /// Stores an object, and sends an event to the watches.
    pub(crate) fn put(&self, path: &str, object: Value) {
        self.change(|state| {
            state.version += 1;
            let version = state.version;
            let mut object = object;
            object["metadata"]["resourceVersion"] = version.to_string().into();
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let before = state.collections.entry(path.to_owned()).or_default().insert(name, object.clone());
            let r#type = if before.is_some() { "MODIFIED" } else { "ADDED" };
            state.events.push(Event { version, path: path.to_owned(), r#type, object });
        });
    }

    /// Deletes an object, and sends an event to the watches.
    pub(crate) fn delete(&self, path: &str, name: &str) {
        self.change(|state| {
            state.version += 1;
            let version = state.version;
            let mut object = state.collections.get_mut(path).unwrap().remove(name).unwrap();
            object["metadata"]["resourceVersion"] = version.to_string().into();
            state.events.push(Event { version, path: path.to_owned(), r#type: "DELETED", object });
        });
    }

    /// Forbids reading a resource, or allows it again.
    pub(crate) fn forbid(&self, path: &str, forbidden: bool) {
        self.change(|state| {
            if forbidden {
                state.forbidden.insert(path.to_owned());
            } else {
                state.forbidden.remove(path);
            }
        });
    }

    /// Forbids watching a resource, which may still be listed.
    pub(crate) fn forbid_to_watch(&self, path: &str) {
        self.change(|state| {
            state.unwatchable.insert(path.to_owned());
        });
    }

    /// Ends every watch with 410 Gone, also those that start from a resource version of before.
    pub(crate) fn forget(&self) {
        self.change(|state| {
            state.version += 1;
            state.forgotten = state.version;
        });
    }

    /// Closes every connection without finishing its response.
    pub(crate) fn cut(&self) {
        self.change(|state| state.connections.drain(..).for_each(|connection| connection.abort()));
    }

    /// Stops answering, with connections left open, or continues.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.change(|state| state.frozen = frozen);
    }

    /// Closes connections and accepts no more, or accepts them again.
    pub(crate) fn down(&self, down: bool) {
        self.change(|state| state.down = down);
        self.cut();
    }

    /// Sets the size of the Ignition config in each MachineConfig.
    pub(crate) fn set_ignition_size(&self, ignition: usize) {
        self.change(|state| state.ignition = ignition);
    }

    /// Adds a user.
    pub(crate) fn user(&self, token: &str, name: &str, may_create: bool) {
        let user = json!({"username": name, "uid": "7", "groups": ["system:authenticated"], "extra": {"scopes": ["all"]}});
        keep_secret(token);
        self.change(|state| drop(state.users.insert(token.to_owned(), (user, may_create))));
    }

    /// The requests so far whose line holds `part`.
    pub(crate) fn requests(&self, part: &str) -> usize {
        self.inner.locked().requests.iter().filter(|line| line.contains(part)).count()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.inner.locked());
        self.inner.woken.notify_waiters();
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

impl Inner {
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, inner: Arc<Inner>) {
    let routes = Router::new().fallback(answer).with_state(Arc::clone(&inner));
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        if inner.locked().down {
            continue;
        }
        let (tls, routes) = (tls.clone(), routes.clone());
        let connection = tokio::spawn(async move {
            // A client may close its connection at any time.
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = TowerToHyperService::new(routes);
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        inner.locked().connections.push(connection.abort_handle());
    }
}

async fn answer(Shared(inner): Shared<Arc<Inner>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let (path, query) = (head.uri.path().to_owned(), Query::of(&head.uri));
    let what = if query.has("watch") { "WATCH" } else { head.method.as_str() };
    let line =
        format!("{what} {path} limit={} fields={}", query.value("limit"), query.value("fieldSelector"));
    inner.locked().requests.push(line);
    thaw(&inner).await;
    let bearer = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or("");
    if bearer != format!("Bearer {TOKEN}") {
        return status(StatusCode::UNAUTHORIZED, "Unauthorized");
    }
    if head.method == Method::POST {
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        return review(&inner.locked(), &path, &serde_json::from_slice(&body).unwrap());
    }
    let state = inner.locked();
    if state.forbidden.contains(&path) {
        let message = format!("{path} is forbidden: User \"layerpin\" cannot list it");
        return status(StatusCode::FORBIDDEN, &message);
    }
    if what == "WATCH" && state.unwatchable.contains(&path) {
        let message = format!("{path} is forbidden: User \"layerpin\" cannot watch it");
        return status(StatusCode::FORBIDDEN, &message);
    }
    let Some(objects) = state.collections.get(&path) else {
        return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
    };
    let wanted = query.value("fieldSelector").strip_prefix("metadata.name=").map(str::to_owned);
    let counts = |object: &Value| wanted.as_deref().is_none_or(|name| object["metadata"]["name"] == name);
    if !query.has("watch") {
        let limit = query.value("limit").parse().unwrap_or(usize::MAX);
        let after = query.value("continue");
        let mut left =
            objects.iter().filter(|(name, object)| name.as_str() > after.as_str() && counts(object));
        let page: Vec<_> = left.by_ref().take(limit).collect();
        let more = left.next().and(page.last()).map_or("", |(name, _)| name.as_str());
        let metadata = json!({"resourceVersion": state.version.to_string(), "continue": more});
        let items: Vec<_> = page.into_iter().map(|(_, object)| state.complete(&path, object)).collect();
        return json!({"kind": "List", "metadata": metadata, "items": items}).to_string().into_response();
    }
    drop(state);
    let from: u64 = query.value("resourceVersion").parse().unwrap();
    let events = stream::unfold(from, move |seen| {
        let (inner, path, wanted) = (Arc::clone(&inner), path.clone(), wanted.clone());
        async move { next(&inner, &path, wanted.as_deref(), seen).await }
    });
    Body::from_stream(events).into_response()
}

/// Waits for the next events of a watch; `None` at its end.
async fn next(
    inner: &Inner,
    path: &str,
    wanted: Option<&str>,
    seen: u64,
) -> Option<(Result<Bytes, Infallible>, u64)> {
    if seen == u64::MAX {
        return None;
    }
    loop {
        let woken = inner.woken.notified();
        tokio::pin!(woken);
        // From here on a change wakes this watch.
        woken.as_mut().enable();
        {
            let state = inner.locked();
            if seen < state.forgotten {
                let object =
                    json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"});
                let line = format!("{}\n", json!({"type": "ERROR", "object": object}));
                return Some((Ok(line.into()), u64::MAX));
            }
            if !state.collections.contains_key(path) || state.forbidden.contains(path) {
                return None;
            }
            let news = state.events.iter().filter(|event| {
                let counts = wanted.is_none_or(|name| event.object["metadata"]["name"] == name);
                event.version > seen && event.path == path && counts
            });
            let lines: String = news
                .map(|event| {
                    let object = state.complete(path, &event.object);
                    format!("{}\n", json!({"type": event.r#type, "object": object}))
                })
                .collect();
            if !lines.is_empty() && !state.frozen {
                return Some((Ok(lines.into()), state.version));
            }
        }
        woken.await;
    }
}

async fn thaw(inner: &Inner) {
    loop {
        let woken = inner.woken.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        if !inner.locked().frozen {
            return;
        }
        woken.await;
    }
}

/// TokenReview and SubjectAccessReview.
fn review(state: &State, path: &str, review: &Value) -> Response {
    let spec = &review["spec"];
    let outcome = match path {
        "/apis/authentication.k8s.io/v1/tokenreviews" => {
            match state.users.get(spec["token"].as_str().unwrap()) {
                Some((user, _)) => json!({"authenticated": true, "user": user}),
                None => json!({"error": "invalid bearer token"}),
            }
        }
        "/apis/authorization.k8s.io/v1/subjectaccessreviews" => {
            let asked = json!({
                "group": "machineconfiguration.openshift.io", "resource": "machineconfigs", "verb": "create",
            });
            let may = |(user, may): &(Value, bool)| {
                *may && [("user", "username"), ("groups", "groups"), ("uid", "uid"), ("extra", "extra")]
                    .iter()
                    .all(|(asked, told)| spec[asked] == user[told])
            };
            json!({"allowed": spec["resourceAttributes"] == asked && state.users.values().any(may)})
        }
        _ => return (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
    };
    if state.forbidden.contains(path) {
        return status(StatusCode::FORBIDDEN, "User \"layerpin\" cannot create it");
    }
    let mut answer = review.clone();
    answer["status"] = outcome;
    (StatusCode::CREATED, answer.to_string()).into_response()
}

fn status(code: StatusCode, message: &str) -> Response {
    let body = json!({"kind": "Status", "code": code.as_u16(), "message": message});
    (code, body.to_string()).into_response()
}

/// A query, decoded.
struct Query(BTreeMap<String, String>);

impl Query {
    fn of(uri: &Uri) -> Self {
        let url = reqwest::Url::parse(&format!("https://server{uri}")).unwrap();
        Self(url.query_pairs().into_owned().collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Empty when there is no such parameter.
    fn value(&self, name: &str) -> String {
        self.0.get(name).cloned().unwrap_or_default()
    }
}

pub(crate) const NODES: &str = "/api/v1/nodes";
pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/openshift-machine-config-operator/configmaps";
pub(crate) const SECRETS: &str = "/api/v1/namespaces/openshift-config/secrets";
pub(crate) const VERSIONS: &str = "/apis/config.openshift.io/v1/clusterversions";
pub(crate) const CONTROLLER_CONFIGS: &str = "/apis/machineconfiguration.openshift.io/v1/controllerconfigs";
pub(crate) const STREAMS: &str = "/apis/machineconfiguration.openshift.io/v1/osimagestreams";
pub(crate) const OLD_STREAMS: &str = "/apis/machineconfiguration.openshift.io/v1alpha1/osimagestreams";
pub(crate) const POOLS: &str = "/apis/machineconfiguration.openshift.io/v1/machineconfigpools";
pub(crate) const MACHINE_CONFIGS: &str = "/apis/machineconfiguration.openshift.io/v1/machineconfigs";
pub(crate) const MANAGED: &str = "/api/v1/namespaces/openshift-config-managed/configmaps";
pub(crate) const IMAGES: &str = "/apis/config.openshift.io/v1/images";
pub(crate) const PROXIES: &str = "/apis/config.openshift.io/v1/proxies";
pub(crate) const API_SERVERS: &str = "/apis/config.openshift.io/v1/apiservers";
pub(crate) const DIGEST_MIRRORS: &str = "/apis/config.openshift.io/v1/imagedigestmirrorsets";
pub(crate) const TAG_MIRRORS: &str = "/apis/config.openshift.io/v1/imagetagmirrorsets";
pub(crate) const CONTENT_POLICIES: &str = "/apis/operator.openshift.io/v1alpha1/imagecontentsourcepolicies";
