//! The registry: a server that holds images and shows them to clients.
//!
//! This file is the handle that tests keep; the protocol, the storage, the
//! access control and the misbehaviour have their own files.

mod access;
mod distribution;
mod misbehaviour;
mod storage;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use self::access::Access;
use self::distribution::Endpoint;
use self::storage::Storage;
use crate::fault::{Fault, FaultPlan, FaultSwitch, MetFault};
use crate::http::{Answer, Reply, Request};
use crate::images::Artifact;
use crate::log::Log;
use crate::requests::RecordedRequest;
use crate::server::{Admission, BoundListener, Server, Service};
use crate::tls::TlsIdentity;
use crate::token_service::TokenService;

/// A running registry; dropping it stops it and closes its connections.
#[derive(Debug)]
pub struct Registry {
    server: Server,
    state: Arc<State>,
    scheme: &'static str,
}

impl Registry {
    /// Starts a registry on a free port of loopback, over plain HTTP, open to all.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// Begins to describe a registry.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            access: Access::Open,
        }
    }

    /// Returns host and port as a pull spec has them, such as `127.0.0.1:34567`.
    pub fn host(&self) -> String {
        self.server.address().to_string()
    }

    /// Returns the URL of the root, such as `http://127.0.0.1:34567`.
    pub fn base_url(&self) -> String {
        format!("{}://{}", self.scheme, self.host())
    }

    /// Stores an image or an index with all it points to, and returns its digest.
    ///
    /// With a tag, the tag then points to it, wherever it pointed before.
    pub fn push<'a>(&self, repository: &str, tag: Option<&str>, artifact: impl Into<Artifact<'a>>) -> String {
        let artifact = artifact.into();
        for image in artifact.images() {
            for blob in image.blobs() {
                self.state.storage.put_blob(repository, blob);
            }
            let media_type = image.manifest_media_type();
            self.push_manifest(repository, None, media_type, image.manifest());
        }
        self.push_manifest(repository, tag, artifact.media_type(), artifact.manifest())
    }

    /// Stores any bytes as a manifest of any media type, and returns their digest.
    pub fn push_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> String {
        let digest = self.state.storage.put_manifest(repository, media_type, bytes);
        if let Some(tag) = tag {
            self.tag(repository, tag, &digest);
        }
        digest
    }

    /// Stores any bytes as a blob, and returns their digest.
    pub fn push_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> String {
        self.state.storage.put_blob(repository, bytes)
    }

    /// Makes or moves a tag.
    ///
    /// # Panics
    ///
    /// When the repository has no manifest of this digest.
    pub fn tag(&self, repository: &str, tag: &str, digest: &str) {
        if let Err(missing) = self.state.storage.tag(repository, tag, digest) {
            panic!("cannot tag {repository}@{digest} as {tag}: unknown {missing:?}");
        }
    }

    /// Removes a tag and leaves its manifest.
    ///
    /// # Panics
    ///
    /// When there is no such tag.
    pub fn delete_tag(&self, repository: &str, tag: &str) {
        if let Err(missing) = self.state.storage.delete_tag(repository, tag) {
            panic!("cannot delete {repository}:{tag}: unknown {missing:?}");
        }
    }

    /// Removes a manifest with all tags that point to it.
    ///
    /// # Panics
    ///
    /// When there is no such manifest.
    pub fn delete_manifest(&self, repository: &str, digest: &str) {
        if let Err(missing) = self.state.storage.delete_manifest(repository, digest) {
            panic!("cannot delete {repository}@{digest}: unknown {missing:?}");
        }
    }

    /// Removes a blob, while manifests still point to it.
    ///
    /// # Panics
    ///
    /// When there is no such blob.
    pub fn delete_blob(&self, repository: &str, digest: &str) {
        if let Err(missing) = self.state.storage.delete_blob(repository, digest) {
            panic!("cannot delete blob {digest} of {repository}: unknown {missing:?}");
        }
    }

    /// Removes a repository with all it holds.
    ///
    /// # Panics
    ///
    /// When there is no such repository.
    pub fn delete_repository(&self, repository: &str) {
        if let Err(missing) = self.state.storage.delete_repository(repository) {
            panic!("cannot delete {repository}: unknown {missing:?}");
        }
    }

    /// Misbehaves from now on, in place of an earlier fault.
    pub fn set_fault(&self, fault: impl Into<FaultPlan>) {
        self.state.faults.set(Some(fault.into()));
    }

    /// Behaves well from now on, and closes the connections that a fault kept waiting.
    pub fn clear_fault(&self) {
        self.state.faults.set(None);
    }

    /// Returns the requests since the start or the last clearing, in their order.
    ///
    /// The first 100 000 are kept.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.state.requests.all()
    }

    /// Counts the requests of `method` whose path with query contains `path_part`.
    pub fn count(&self, method: &str, path_part: &str) -> usize {
        self.state.requests.count(|request| request.is_of(method, path_part))
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.state.requests.clear();
    }

    /// Blocks the thread until `count` requests have arrived, and returns them all.
    ///
    /// Fails with `TimedOut` after a minute. In asynchronous code, use
    /// [`Registry::requests_arrived`], which lets the client run.
    pub fn wait_for_requests(&self, count: usize) -> io::Result<Vec<RecordedRequest>> {
        self.state.requests.wait(count)
    }

    /// Waits until `count` requests have arrived, and returns them all.
    ///
    /// Fails with `TimedOut` after a minute. Needs a runtime with time enabled.
    pub async fn requests_arrived(&self, count: usize) -> io::Result<Vec<RecordedRequest>> {
        self.state.requests.arrived(count).await
    }

    /// Returns how many TCP connections were accepted since the start.
    pub fn connections(&self) -> usize {
        self.state.connections.count(|()| true)
    }

    /// Blocks the thread until `count` TCP connections have been accepted.
    ///
    /// Fails with `TimedOut` after a minute.
    pub fn wait_for_connections(&self, count: usize) -> io::Result<()> {
        self.state.connections.wait(count).map(drop)
    }

    /// Waits until `count` TCP connections have been accepted.
    ///
    /// Fails with `TimedOut` after a minute. Needs a runtime with time enabled.
    pub async fn connections_arrived(&self, count: usize) -> io::Result<()> {
        self.state.connections.arrived(count).await.map(drop)
    }
}

/// A description of a registry, which [`RegistryBuilder::start`] starts.
#[derive(Debug)]
pub struct RegistryBuilder {
    address: SocketAddr,
    tls: Option<TlsIdentity>,
    access: Access,
}

impl RegistryBuilder {
    /// Binds this address in place of a free port of `127.0.0.1`.
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Serves HTTPS with this identity, in place of plain HTTP.
    pub fn tls(mut self, identity: TlsIdentity) -> Self {
        self.tls = Some(identity);
        self
    }

    /// Demands Basic credentials; each call allows one more account.
    pub fn basic_auth(mut self, user: &str, password: &str) -> Self {
        self.access = self.access.with_account(user, password);
        self
    }

    /// Demands tokens of this service, in place of Basic credentials.
    pub fn bearer_auth(mut self, service: &TokenService) -> Self {
        self.access = Access::Bearer(service.issuer());
        self
    }

    /// Starts the registry on a thread of its own.
    ///
    /// Fails when the address cannot be bound.
    pub fn start(self) -> io::Result<Registry> {
        let listener = BoundListener::bind(self.address)?;
        let scheme = match self.tls {
            Some(_) => "https",
            None => "http",
        };
        let tls = match self.tls {
            Some(identity) => Some(identity.server_config()?),
            None => None,
        };
        let state = Arc::new(State {
            access: self.access,
            storage: Storage::default(),
            faults: FaultSwitch::new(),
            requests: Log::new(),
            connections: Log::new(),
        });
        let server = listener.serve(tls, Arc::clone(&state))?;
        Ok(Registry { server, state, scheme })
    }
}

/// What the handle and the server share.
#[derive(Debug)]
struct State {
    access: Access,
    storage: Storage,
    faults: FaultSwitch,
    requests: Log<RecordedRequest>,
    connections: Log<()>,
}

impl State {
    /// Answers as a registry without faults does.
    fn answer(&self, request: &Request) -> Answer {
        let endpoint = Endpoint::parse(request.path());
        self.access
            .refusal(request, endpoint)
            .unwrap_or_else(|| distribution::answer(&self.storage, request))
            .with_header(API_VERSION, "registry/2.0")
    }
}

impl Service for State {
    async fn admit(&self) -> Admission {
        // Met before it is recorded: whoever sees the record may clear the fault at once.
        let met = self.faults.meet_connection();
        self.connections.record(());
        match met {
            None => Admission::Serve,
            Some(MetFault { fault, release }) => {
                if fault == Fault::FreezeAfterAccept {
                    release.released().await;
                }
                Admission::Close
            }
        }
    }

    async fn reply(&self, request: Request) -> Reply {
        let met = self.faults.meet(request.path());
        self.requests.record(RecordedRequest::of(&request));
        match met {
            None => Reply::Answer(self.answer(&request)),
            Some(met) => misbehaviour::reply(self, request, met).await,
        }
    }
}

/// The header by which a client of the Docker era recognizes a registry.
const API_VERSION: hyper::header::HeaderName =
    hyper::header::HeaderName::from_static("docker-distribution-api-version");
