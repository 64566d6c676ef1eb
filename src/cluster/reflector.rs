//! Keeping up with one kind: list, watch, and start over when that ends.
//!
//! Owns the pace at which a failing API server is asked again, what becomes of that which was known
//! meanwhile, and the one line of log for each change between known and not known. A kind never
//! fails for good, and never holds up another.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::api::{ListParams, WatchParams};
use kube::core::Request;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::cluster::client::{ApiClient, ApiError, ApiStatus};
use crate::cluster::resources::Resource;
use crate::model::facts::{Cause, Fact};

/// How patient the source is.
#[derive(Clone, Copy, Debug)]
pub struct WatchConfig {
    /// The time for one answer.
    pub call: Duration,
    /// The pause after a first failure; it doubles with each further one.
    pub first_pause: Duration,
    /// The longest pause, and that between looks for a kind which is not served.
    pub longest_pause: Duration,
    /// For how long that which was known is still used when the API server cannot be reached.
    pub stale: Duration,
    /// How long a watch lasts. A connection that went dead unnoticed is noticed soon after.
    pub watch: Duration,
    /// For how long readiness waits for the first answers.
    pub settle: Duration,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(10),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            stale: Duration::from_secs(300),
            watch: Duration::from_secs(120),
            settle: Duration::from_secs(15),
        }
    }
}

/// The objects of one kind, by name.
pub(crate) type ObjectMap<T> = Arc<BTreeMap<String, T>>;

/// What is known of one kind, filled in by [`Store::follow`] or [`Store::read`].
#[derive(Debug)]
pub(crate) struct Store<T: 'static> {
    kind: &'static Resource<T>,
    state: Mutex<StoreState<T>>,
    /// What to do where the API server says that reading it is forbidden, for the end of a sentence.
    where_forbidden: &'static str,
    /// Told of each change.
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct StoreState<T> {
    fact: Fact<ObjectMap<T>>,
    /// Whether there was an answer yet, be it a failure.
    is_settled: bool,
    /// The trouble that is under way: since when, and what was said of it.
    trouble: Option<(Instant, ApiError)>,
}

impl<T: Clone + PartialEq + Debug + Send + Sync + 'static> Store<T> {
    pub(crate) fn new(kind: &'static Resource<T>, changed: Arc<Notify>) -> Self {
        let fact = Fact::Unknown(cause(kind.name, "not read yet"));
        let state = StoreState { fact, is_settled: false, trouble: None };
        Self { kind, state: Mutex::new(state), where_forbidden: "", changed }
    }

    /// Adds what to do where reading the kind is forbidden, when that is another thing than for the rest.
    pub(crate) fn where_forbidden(self, what_to_do: &'static str) -> Self {
        Self { where_forbidden: what_to_do, ..self }
    }

    /// What is known.
    pub(crate) fn fact(&self) -> Fact<ObjectMap<T>> {
        self.locked().fact.clone()
    }

    /// The only object of interest. One that is not there is absent.
    pub(crate) fn object(&self) -> Fact<T> {
        match self.fact() {
            Fact::Known(objects) => match self.kind.object.and_then(|name| objects.get(name)) {
                Some(object) => Fact::Known(object.clone()),
                None => Fact::Absent,
            },
            Fact::Absent => Fact::Absent,
            Fact::Unknown(cause) => Fact::Unknown(cause),
        }
    }

    /// Reads the kind once.
    pub(crate) async fn read(&self, connection: &ApiClient, deadline: Instant) {
        match list(connection, self.kind, || deadline).await {
            Ok(listing) => self.put(Fact::Known(Arc::new(listing.objects))),
            Err(ApiError::NotServed) => self.put(Fact::Absent),
            Err(failure) => self.fail(failure, Duration::ZERO),
        }
    }

    /// Keeps up with the kind, for ever.
    pub(crate) async fn follow(&self, connection: &ApiClient, pace: WatchConfig) {
        let mut pause = pace.first_pause;
        loop {
            let listing = list(connection, self.kind, || Instant::now() + pace.call).await;
            let failure = match listing {
                Ok(Listing { path, objects, version }) => {
                    let mut objects = Arc::new(objects);
                    // After a refusal an open watch counts, below: who may list and not watch would be known
                    // and unknown by turns.
                    if !self.is_refused() {
                        self.put(Fact::Known(Arc::clone(&objects)));
                    }
                    let begun = Instant::now();
                    let end = self.watch(connection, path, version, &mut objects, pace).await;
                    if begun.elapsed() > pause * 2 {
                        pause = pace.first_pause;
                    }
                    match end {
                        // Too old to go on from: nothing is wrong, the list is made anew.
                        ApiError::Gone => None,
                        failure => Some(failure),
                    }
                }
                Err(ApiError::NotServed) => {
                    self.put(Fact::Absent);
                    None
                }
                Err(failure) => Some(failure),
            };
            if let Some(failure) = failure {
                self.fail(failure, pace.stale);
            }
            #[expect(clippy::disallowed_methods, reason = "no event tells that the API server is back")]
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(pace.longest_pause);
        }
    }

    /// Watches until that cannot go on, and tells why.
    async fn watch(
        &self,
        connection: &ApiClient,
        path: &str,
        mut version: String,
        objects: &mut ObjectMap<T>,
        pace: WatchConfig,
    ) -> ApiError {
        loop {
            let begun = Instant::now();
            let before = version.clone();
            if let Err(failure) = self.watch_once(connection, path, &mut version, objects, pace).await {
                return failure;
            }
            // A watch that ends at once and brings nothing would be begun again without end.
            if before == version && begun.elapsed() < pace.first_pause {
                return connection.nonsense("a watch that ends at once".to_owned());
            }
        }
    }

    /// One watch, to its regular end.
    async fn watch_once(
        &self,
        connection: &ApiClient,
        path: &str,
        version: &mut String,
        objects: &mut ObjectMap<T>,
        pace: WatchConfig,
    ) -> Result<(), ApiError> {
        let seconds = u32::try_from(pace.watch.as_secs()).unwrap_or(u32::MAX).max(1);
        let mut parameters = WatchParams::default().timeout(seconds.min(MAX_WATCH));
        if let Some(name) = self.kind.object {
            parameters = parameters.fields(&format!("metadata.name={name}"));
        }
        let request = Request::new(path).watch(&parameters, version);
        let request = request.map_err(|error| connection.nonsense(error.to_string()))?;
        let mut body = connection.open(request, Instant::now() + pace.call).await?.into_body();
        if self.is_refused() {
            self.put(Fact::Known(Arc::clone(objects)));
        }
        let deadline = Instant::now() + pace.watch + pace.call;
        let mut lines = Vec::new();
        loop {
            // Connections are cut by whatever stands between, and the next watch goes on from here. What is
            // really wrong is seen when that is begun.
            let Ok(Some(piece)) = connection.next(&mut body, deadline).await else { return Ok(()) };
            lines.extend_from_slice(&piece);
            let mut begin = 0;
            while let Some(length) = lines[begin..].iter().position(|byte| *byte == b'\n') {
                let line = &lines[begin..begin + length];
                begin += length + 1;
                self.event(connection, line, version, objects)?;
            }
            lines.drain(..begin);
            if lines.len() > MAX_OBJECT {
                return Err(connection.nonsense(format!("an object of more than {MAX_OBJECT} bytes")));
            }
            if lines.is_empty() && lines.capacity() > KEPT_BUFFER {
                lines = Vec::new();
            }
        }
    }

    fn event(
        &self,
        connection: &ApiClient,
        line: &[u8],
        version: &mut String,
        objects: &mut ObjectMap<T>,
    ) -> Result<(), ApiError> {
        #[derive(Deserialize)]
        struct Event<'a> {
            r#type: &'a str,
            #[serde(borrow)]
            object: &'a RawValue,
        }
        let broken = |error: serde_json::Error| self.broken(connection, &error);
        let event: Event<'_> = serde_json::from_slice(line).map_err(broken)?;
        let text = event.object.get();
        if event.r#type == "ERROR" {
            let status: ApiStatus = serde_json::from_str(text).map_err(broken)?;
            return Err(status.into_failure(connection));
        }
        let head: Head = serde_json::from_str(text).map_err(broken)?;
        if event.r#type != "BOOKMARK"
            && let Some((name, object)) = (self.kind.read)(text).map_err(broken)?
        {
            let now = (event.r#type != "DELETED").then_some(object);
            if objects.get(&name) != now.as_ref() {
                let map = Arc::make_mut(objects);
                match now {
                    Some(object) => map.insert(name, object),
                    None => map.remove(&name),
                };
                self.put(Fact::Known(Arc::clone(objects)));
            }
        }
        *version = head.metadata.resource_version;
        Ok(())
    }

    fn broken(&self, connection: &ApiClient, error: &serde_json::Error) -> ApiError {
        broken(connection, self.kind.name, error)
    }

    /// Takes over what the API server said.
    fn put(&self, fact: Fact<ObjectMap<T>>) {
        let mut state = self.locked();
        let recovered = state.trouble.take().is_some();
        if recovered {
            tracing::info!(kind = self.kind.name, "read from the cluster");
        } else if state.is_settled && state.fact != fact {
            match (&state.fact, &fact) {
                (_, Fact::Absent) => tracing::info!(kind = self.kind.name, "no longer served by the cluster"),
                (Fact::Absent, _) => tracing::info!(kind = self.kind.name, "served by the cluster now"),
                _ => {}
            }
        }
        state.is_settled = true;
        if state.fact != fact {
            state.fact = fact;
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Remembers a failure, and tells of it once. What was known stays for as long as `stale`, unless
    /// the API server said plainly that it will not tell.
    fn fail(&self, failure: ApiError, stale: Duration) {
        let mut state = self.locked();
        let kind = self.kind.name;
        let mut reason = failure.to_string();
        let unknown = if matches!(failure, ApiError::Forbidden { .. }) {
            reason.push_str(self.where_forbidden);
            Cause::Forbidden { kind: kind.to_owned(), reason: reason.clone() }
        } else {
            cause(kind, &reason)
        };
        let is_told = matches!(&state.trouble, Some((_, told)) if *told == failure);
        let since = state.trouble.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        let is_final = matches!(failure, ApiError::Forbidden { .. }) || since.elapsed() >= stale;
        match (&state.fact, is_final) {
            (Fact::Unknown(_), _) => {
                if !is_told {
                    tracing::warn!(kind, %reason, "not read from the cluster");
                }
                state.fact = Fact::Unknown(unknown);
            }
            (_, true) => {
                tracing::warn!(kind, %reason, "not read from the cluster any more; nothing is taken for known");
                state.fact = Fact::Unknown(unknown);
            }
            (_, false) => {
                if !is_told {
                    tracing::warn!(kind, %reason, "not read from the cluster; what was known stays for now");
                }
            }
        }
        state.is_settled = true;
        state.trouble = Some((since, failure));
        drop(state);
        self.changed.notify_one();
    }

    /// Whether the API server said plainly that it will not tell, and has not told since.
    fn is_refused(&self) -> bool {
        matches!(self.locked().trouble, Some((_, ApiError::Forbidden { .. })))
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, StoreState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a kind has come, whatever its objects are.
pub(crate) trait Readiness {
    /// What messages call the kind.
    fn name(&self) -> &'static str;
    /// Whether there was an answer yet, be it a failure.
    fn is_settled(&self) -> bool;
    /// Why it is not known, in words; `None` when it is known or there is no such thing.
    fn trouble(&self) -> Option<String>;
}

impl<T: Clone + PartialEq + Debug + Send + Sync + 'static> Readiness for Store<T> {
    fn name(&self) -> &'static str {
        self.kind.name
    }

    fn is_settled(&self) -> bool {
        self.locked().is_settled
    }

    fn trouble(&self) -> Option<String> {
        match &self.locked().fact {
            Fact::Known(_) | Fact::Absent => None,
            Fact::Unknown(cause) => Some(cause.to_string()),
        }
    }
}

/// All objects of a kind, and from where a watch goes on.
struct Listing<T> {
    path: &'static str,
    objects: BTreeMap<String, T>,
    version: String,
}

/// Lists a kind in the best version that is served, a page at a time.
async fn list<T>(
    connection: &ApiClient,
    kind: &Resource<T>,
    deadline: impl Fn() -> Instant,
) -> Result<Listing<T>, ApiError> {
    for path in kind.paths {
        match list_version(connection, kind, path, &deadline).await {
            Err(ApiError::NotServed) => {}
            outcome => return outcome,
        }
    }
    Err(ApiError::NotServed)
}

async fn list_version<T>(
    connection: &ApiClient,
    kind: &Resource<T>,
    path: &'static str,
    deadline: &impl Fn() -> Instant,
) -> Result<Listing<T>, ApiError> {
    #[derive(Deserialize)]
    struct Page<'a> {
        metadata: PageMetadata,
        #[serde(borrow)]
        items: Option<Vec<&'a RawValue>>,
    }
    let mut objects = BTreeMap::new();
    let mut parameters = ListParams::default().limit(kind.page);
    if let Some(name) = kind.object {
        parameters = parameters.fields(&format!("metadata.name={name}"));
    }
    loop {
        let request = Request::new(path).list(&parameters);
        let request = request.map_err(|error| connection.nonsense(error.to_string()))?;
        let body = connection.ask(request, MAX_PAGE, deadline()).await?;
        let broken = |error: serde_json::Error| broken(connection, kind.name, &error);
        let page: Page<'_> = serde_json::from_slice(&body).map_err(broken)?;
        for item in page.items.unwrap_or_default() {
            if let Some((name, object)) = (kind.read)(item.get()).map_err(broken)? {
                objects.insert(name, object);
            }
        }
        if page.metadata.r#continue.is_empty() {
            return Ok(Listing { path, objects, version: page.metadata.resource_version });
        }
        parameters = parameters.continue_token(&page.metadata.r#continue);
    }
}

/// Says where an answer is broken, and nothing of what it holds.
fn broken(connection: &ApiClient, kind: &str, error: &serde_json::Error) -> ApiError {
    let (line, column) = (error.line(), error.column());
    connection.nonsense(format!("{kind} is not of the shape that is known (line {line}, column {column})"))
}

fn cause(kind: &str, reason: &str) -> Cause {
    Cause::Cluster { kind: kind.to_owned(), reason: reason.to_owned() }
}

/// Between the whole pause and three quarters of it, so that two servers do not ask in step.
fn jittered(pause: Duration) -> Duration {
    let mut bytes = [0_u8; 1];
    // Without randomness they ask in step, which is no harm.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    pause.mul_f64(1.0 - f64::from(bytes[0]) / 1024.0)
}

#[derive(Deserialize)]
struct Head {
    metadata: HeadMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadMetadata {
    #[serde(default)]
    resource_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    r#continue: String,
}

/// kube's own limit.
const MAX_WATCH: u32 = 294;
/// An object has 1.5 MiB at most in etcd, and somewhat more as JSON.
const MAX_OBJECT: usize = 8 * 1024 * 1024;
const MAX_PAGE: usize = 64 * 1024 * 1024;
/// A larger buffer is given back when it is empty.
const KEPT_BUFFER: usize = 64 * 1024;
