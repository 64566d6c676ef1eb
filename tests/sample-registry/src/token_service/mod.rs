//! The token service: it gives out the bearer tokens that a registry asks for.
//!
//! This file is the handle that tests keep; the [`Issuer`] behind it grants and
//! remembers tokens, and a registry of this crate asks it whether one is good.
//!
//! Source: the Docker registry's "Token Authentication Specification" and
//! "OAuth2 Token Authentication".

mod endpoint;
mod issuer;
mod jwt;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub(crate) use self::issuer::{Issuer, Rejection};

use self::endpoint::Endpoint;
use self::issuer::Terms;
use crate::log::Log;
use crate::printed::keep_account;
use crate::requests::RecordedRequest;
use crate::server::{BoundListener, Server};
use crate::tls::TlsIdentity;

/// A running token service; dropping it stops it and closes its connections.
///
/// Registries that were started with it go on to accept its tokens.
#[derive(Debug)]
pub struct TokenService {
    server: Server,
    endpoint: Arc<Endpoint>,
}

/// The field of the answer that carries the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenField {
    /// `token`, as registries of the Docker era send it.
    Token,
    /// `access_token`, as OAuth 2.0 has it.
    AccessToken,
    /// Both, with the same value.
    Both,
}

/// A way in which the token service misbehaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// Takes the request and never answers, until the fault is changed or cleared.
    Hang,
    /// Answers with this status and a JSON error.
    Status(u16),
    /// Answers 200 with a body that is not JSON.
    Garbage,
    /// Answers 200 with an empty JSON object.
    NoToken,
}

impl TokenService {
    /// Starts a token service with anonymous pulls and no accounts.
    pub fn start() -> io::Result<Self> {
        Self::builder().anonymous_pull().start()
    }

    /// Begins to describe a token service.
    pub fn builder() -> TokenServiceBuilder {
        TokenServiceBuilder {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            terms: Terms::default(),
        }
    }

    /// Returns host and port, such as `127.0.0.1:34567`.
    pub fn host(&self) -> String {
        self.server.address().to_string()
    }

    /// Returns the URL at which tokens are asked for.
    pub fn realm(&self) -> &str {
        self.endpoint.issuer.realm()
    }

    /// Returns the name of the service, which is the audience of the tokens.
    pub fn service(&self) -> &str {
        self.endpoint.issuer.service()
    }

    /// Returns the name of the issuer that the tokens state.
    pub fn issuer_name(&self) -> &str {
        self.endpoint.issuer.name()
    }

    /// Returns the certificate, in PEM, to which the chain in each token leads.
    pub fn root_certificate_pem(&self) -> String {
        self.endpoint.issuer.root_certificate_pem().to_owned()
    }

    /// Makes an identity token of a user: a refresh token, which docker calls `identitytoken`.
    ///
    /// # Panics
    ///
    /// When there is no such user.
    pub fn identity_token(&self, user: &str) -> String {
        self.endpoint.issuer.refresh_token(user).unwrap_or_else(|| panic!("there is no user {user}"))
    }

    /// Makes a token for one repository, as if a client had asked for it.
    pub fn issue(&self, user: &str, repository: &str, actions: &[&str]) -> String {
        let scope = format!("repository:{repository}:{}", actions.join(","));
        self.endpoint.issuer.grant(user, &scope).token
    }

    /// Sets for how long tokens are good that are issued from now on.
    pub fn set_expiry(&self, expiry: Duration) {
        self.endpoint.issuer.set_expiry(expiry);
    }

    /// Makes registries of this crate refuse all tokens issued so far; identity tokens stay good.
    pub fn revoke_all(&self) {
        self.endpoint.issuer.revoke_all();
    }

    /// Misbehaves from now on, in place of an earlier fault.
    pub fn set_fault(&self, fault: TokenFault) {
        self.endpoint.fault.send_replace(Some(fault));
    }

    /// Behaves well from now on, and closes the connections that a fault kept waiting.
    pub fn clear_fault(&self) {
        self.endpoint.fault.send_replace(None);
    }

    /// Returns the requests since the start or the last clearing, in their order.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.endpoint.requests.all()
    }

    /// Counts the requests of `method` whose path with query contains `path_part`.
    pub fn count(&self, method: &str, path_part: &str) -> usize {
        self.endpoint.requests.count(|request| request.is_of(method, path_part))
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.endpoint.requests.clear();
    }

    /// Waits until `count` requests have arrived, and returns them all.
    ///
    /// Fails with `TimedOut` after a minute. Needs a runtime with time enabled.
    pub async fn requests_arrived(&self, count: usize) -> io::Result<Vec<RecordedRequest>> {
        self.endpoint.requests.arrived(count).await
    }

    pub(crate) fn issuer(&self) -> Arc<Issuer> {
        Arc::clone(&self.endpoint.issuer)
    }
}

/// A description of a token service, which [`TokenServiceBuilder::start`] starts.
#[derive(Debug)]
pub struct TokenServiceBuilder {
    address: SocketAddr,
    tls: Option<TlsIdentity>,
    terms: Terms,
}

impl TokenServiceBuilder {
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

    /// Names the service, in place of `sample-registry`.
    pub fn service(mut self, name: &str) -> Self {
        self.terms.service = name.to_owned();
        self
    }

    /// Adds a user, who gets whatever access is asked for.
    pub fn user(mut self, user: &str, password: &str) -> Self {
        keep_account(user, password);
        self.terms.accounts.push((user.to_owned(), password.to_owned()));
        self
    }

    /// Gives tokens to pull to those who show no credentials; without this, they get 401.
    pub fn anonymous_pull(mut self) -> Self {
        self.terms.anonymous_pull = true;
        self
    }

    /// Sets for how long tokens are good, in place of five minutes.
    pub fn expires_in(mut self, expiry: Duration) -> Self {
        self.terms.expiry = expiry;
        self
    }

    /// Leaves `expires_in` out of the answers.
    ///
    /// The specification has clients assume 60 seconds then.
    pub fn without_expires_in(mut self) -> Self {
        self.terms.states_expiry = false;
        self
    }

    /// Chooses the field that carries the token, in place of `token`.
    pub fn token_field(mut self, field: TokenField) -> Self {
        self.terms.token_field = field;
        self
    }

    /// Starts the service on a thread of its own.
    ///
    /// Fails when the address cannot be bound.
    pub fn start(self) -> io::Result<TokenService> {
        let listener = BoundListener::bind(self.address)?;
        let scheme = match self.tls {
            Some(_) => "https",
            None => "http",
        };
        let tls = match self.tls {
            Some(identity) => Some(identity.server_config()?),
            None => None,
        };
        let realm = format!("{scheme}://{}{}", listener.address(), endpoint::PATH);
        let endpoint = Arc::new(Endpoint {
            issuer: Arc::new(Issuer::new(realm, self.terms)),
            fault: watch::Sender::new(None),
            requests: Log::new(),
        });
        let server = listener.serve(tls, Arc::clone(&endpoint))?;
        Ok(TokenService { server, endpoint })
    }
}
