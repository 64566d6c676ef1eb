//! Keeps a [`Store`] up to date: lists the resource, watches it, and lists again when the watch cannot go on.
//!
//! Requests, paging and watch events are kube's. The loop is not `kube::runtime::watcher`, which reports no
//! event when a watch opens and sets no timeout for a request: after an outage, or when a right is granted, a
//! store would stay unknown until an object changes, and a request that is never answered would block the
//! store for good.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use kube::api::{ListParams, WatchEvent, WatchParams};
use tokio::time::{Instant, sleep};

use crate::cluster::client::{ApiClient, ApiError};
use crate::cluster::objects::ObjectSummary;
use crate::cluster::resources::Resource;
use crate::cluster::store::{ObjectMap, Store};
use crate::model::facts::{Cause, Fact};

/// Timeouts and pauses of reading from the cluster.
#[derive(Clone, Copy, Debug)]
pub struct WatchConfig {
    /// Timeout of one request.
    pub request_timeout: Duration,
    /// The pause after the first failure. It doubles with each further failure.
    pub first_pause: Duration,
    /// The longest pause. Also the time after which a resource that is not served is looked for again.
    pub longest_pause: Duration,
    /// How long the last known state is used while reading fails.
    pub stale_after: Duration,
    /// How long one watch lasts. A dead connection is noticed soon after.
    pub watch_timeout: Duration,
    /// How long the server waits for the first answers before it is ready.
    pub startup_timeout: Duration,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(10),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            stale_after: Duration::from_secs(300),
            watch_timeout: Duration::from_secs(120),
            startup_timeout: Duration::from_secs(15),
        }
    }
}

/// A store of any type.
pub(crate) trait Reflector: Debug + Send + Sync {
    fn resource(&self) -> &'static Resource;

    /// Reads the resource once, by `deadline`.
    fn read<'a>(&'a self, client: &'a ApiClient, deadline: Instant) -> BoxFuture<'a, ()>;

    /// Keeps the store up to date; never returns.
    fn follow<'a>(&'a self, client: &'a ApiClient, config: WatchConfig) -> BoxFuture<'a, ()>;

    /// Whether the API server was asked at least once, with whatever outcome.
    fn is_settled(&self) -> bool;

    /// Why the resource is unknown; `None` while it is known or not served.
    fn unknown(&self) -> Option<Cause>;
}

impl<T: ObjectSummary> Reflector for Store<T> {
    fn resource(&self) -> &'static Resource {
        self.resource
    }

    fn read<'a>(&'a self, client: &'a ApiClient, deadline: Instant) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            match list(client, self.resource, || deadline).await {
                Ok(listing) => self.replace(Fact::Known(listing.objects)),
                Err(ApiError::NotServed) => self.replace(Fact::Absent),
                Err(failure) => self.fail(failure, Duration::ZERO),
            }
        })
    }

    fn follow<'a>(&'a self, client: &'a ApiClient, config: WatchConfig) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut pause = config.first_pause;
            loop {
                match list(client, self.resource, || Instant::now() + config.request_timeout).await {
                    Ok(listing) => {
                        let begun = Instant::now();
                        match watch(self, client, listing, config).await {
                            // Nothing is wrong: the next list tells what is served, and from where to watch.
                            ApiError::Gone | ApiError::NotServed => {}
                            failure => self.fail(failure, config.stale_after),
                        }
                        if begun.elapsed() > pause * 2 {
                            pause = config.first_pause;
                        }
                    }
                    Err(ApiError::NotServed) => self.replace(Fact::Absent),
                    Err(failure) => self.fail(failure, config.stale_after),
                }
                #[expect(clippy::disallowed_methods, reason = "no event tells that the API server is back")]
                sleep(jittered(pause)).await;
                pause = (pause * 2).min(config.longest_pause);
            }
        })
    }

    fn is_settled(&self) -> bool {
        let state = self.locked();
        state.failure.is_some() || state.fact.cause().is_none()
    }

    fn unknown(&self) -> Option<Cause> {
        self.locked().fact.cause().cloned()
    }
}

/// All objects of a resource, and where a watch continues from.
struct Listing<T> {
    path: String,
    objects: ObjectMap<T>,
    resource_version: String,
}

/// Lists a resource in the preferred version that is served. `deadline` is that of each request.
async fn list<T: ObjectSummary>(
    client: &ApiClient,
    resource: &Resource,
    deadline: impl Fn() -> Instant,
) -> Result<Listing<T>, ApiError> {
    let mut paths = resource.paths();
    let mut path = paths.next().unwrap_or_default();
    let mut parameters = ListParams {
        limit: Some(resource.page_size),
        field_selector: resource.field_selector(),
        ..ListParams::default()
    };
    let mut objects = BTreeMap::new();
    // One for all pages: a page may have megabytes, and memory that is freed returns to the system only after a while.
    let mut text = Vec::new();
    loop {
        let page = match client.list::<T::Object>(&path, &parameters, &mut text, deadline()).await {
            Err(ApiError::NotServed) if parameters.continue_token.is_none() => {
                path = paths.next().ok_or(ApiError::NotServed)?;
                continue;
            }
            page => page?,
        };
        for object in page.items {
            let name = object.as_ref().name.clone();
            objects.extend(T::of(object).map(|summary| (name, summary)));
        }
        parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if parameters.continue_token.is_none() {
            let resource_version = page.metadata.resource_version.unwrap_or_default();
            return Ok(Listing { path, objects: Arc::new(objects), resource_version });
        }
    }
}

/// Watches from a list onwards until that cannot go on, and tells why.
async fn watch<T: ObjectSummary>(
    store: &Store<T>,
    client: &ApiClient,
    mut listing: Listing<T>,
    config: WatchConfig,
) -> ApiError {
    // While reading is forbidden only an open watch makes the store known again. Otherwise a resource that may
    // be listed and not watched would be known and unknown by turns.
    if !store.is_forbidden() {
        store.replace(Fact::Known(Arc::clone(&listing.objects)));
    }
    loop {
        let begun = Instant::now();
        let before = listing.resource_version.clone();
        if let Err(failure) = watch_once(store, client, &mut listing, config).await {
            return failure;
        }
        // Without a pause such a watch would be repeated endlessly.
        if before == listing.resource_version && begun.elapsed() < config.first_pause {
            return client.invalid("the watch ends at once");
        }
    }
}

/// One watch, until the API server ends it or the connection breaks: the next one continues from there.
async fn watch_once<T: ObjectSummary>(
    store: &Store<T>,
    client: &ApiClient,
    listing: &mut Listing<T>,
    config: WatchConfig,
) -> Result<(), ApiError> {
    let seconds = u32::try_from(config.watch_timeout.as_secs()).unwrap_or(MAX_WATCH_SECONDS);
    let parameters = WatchParams {
        field_selector: store.resource.field_selector(),
        timeout: Some(seconds.clamp(1, MAX_WATCH_SECONDS)),
        ..WatchParams::default()
    };
    let Listing { path, objects, resource_version } = listing;
    let opened_by = Instant::now() + config.request_timeout;
    let events = client.watch::<T::Object>(path, &parameters, resource_version, opened_by).await?;
    let mut events = pin!(events);
    if store.is_forbidden() {
        store.replace(Fact::Known(Arc::clone(objects)));
    }
    let deadline = Instant::now() + config.watch_timeout + config.request_timeout;
    while let Some(event) = client.next_event(&mut events, deadline).await? {
        let (object, is_deleted) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
            WatchEvent::Deleted(object) => (object, true),
            WatchEvent::Bookmark(bookmark) => {
                *resource_version = bookmark.metadata.resource_version;
                continue;
            }
            WatchEvent::Error(status) => return Err(client.status_error(&status)),
        };
        let metadata = object.as_ref();
        let name = metadata.name.clone();
        *resource_version = metadata.resource_version.clone().unwrap_or_default();
        let summary = T::of(object).filter(|_| !is_deleted);
        if objects.get(&name) != summary.as_ref() {
            let map = Arc::make_mut(objects);
            match summary {
                Some(summary) => map.insert(name, summary),
                None => map.remove(&name),
            };
            store.replace(Fact::Known(Arc::clone(objects)));
        }
    }
    Ok(())
}

/// Takes up to a quarter off a pause, so that replicas do not send their requests at the same time.
fn jittered(pause: Duration) -> Duration {
    let mut bytes = [0_u8; 1];
    // Without randomness the pause is not shortened, which is harmless.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    pause.mul_f64(1.0 - f64::from(bytes[0]) / 1024.0)
}

/// kube rejects longer watches.
const MAX_WATCH_SECONDS: u32 = 294;
