//! Clients of the server: one on reqwest, and plain TLS streams for everything that reqwest does not send.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use layerpin_sample_registry::TlsIdentity;
use layerpin_sample_registry::keep_printed;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use reqwest::{Body, Certificate, ClientBuilder, Identity, Version};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CipherSuite, ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::eventually::{PATIENCE, in_time};

/// A client that trusts one CA and keeps its connections open.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

/// A response with its whole body.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The version of HTTP.
    pub version: Version,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Client {
    /// A client that speaks the version of HTTP that the server prefers.
    pub fn new(address: SocketAddr, authority: &str) -> Self {
        Self::build(address, builder(authority))
    }

    /// A client that speaks HTTP/1.1 only.
    pub fn of_http_1(address: SocketAddr, authority: &str) -> Self {
        Self::build(address, builder(authority).http1_only())
    }

    /// A client with a certificate of its own.
    pub fn with_identity(address: SocketAddr, authority: &str, identity: &TlsIdentity) -> Self {
        let pem = format!("{}{}", identity.certificate_pem(), identity.key_pem());
        Self::build(address, builder(authority).identity(Identity::from_pem(pem.as_bytes()).unwrap()))
    }

    /// Posts a body. The path may have a query.
    pub async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.try_post(path, body).await.unwrap()
    }

    /// Posts a body to a server that may not answer.
    pub async fn try_post(&self, path: &str, body: impl Into<Body>) -> reqwest::Result<Answer> {
        let request = self.http.post(format!("{}{path}", self.base));
        Answer::read(request.header(CONTENT_TYPE, "application/json").body(body).send().await?).await
    }

    /// Posts a body with an `Accept` header.
    pub async fn post_for(&self, accept: &str, path: &str, body: impl Into<Body>) -> Answer {
        let request = self.http.post(format!("{}{path}", self.base));
        Answer::read(request.header(ACCEPT, accept).body(body).send().await.unwrap()).await.unwrap()
    }

    /// Gets a path.
    pub async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.unwrap()
    }

    /// Gets a path from a server that may not answer.
    pub async fn try_get(&self, path: &str) -> reqwest::Result<Answer> {
        Answer::read(self.http.get(format!("{}{path}", self.base)).send().await?).await
    }

    /// Sends a review, and returns the review in the response with its patch decoded.
    pub async fn review(&self, path: &str, review: &Value) -> Value {
        self.post(path, review.to_string()).await.review()
    }

    fn build(address: SocketAddr, builder: ClientBuilder) -> Self {
        Self { http: builder.build().unwrap(), base: format!("https://{address}") }
    }
}

impl Answer {
    /// The review in the body, with its patch decoded.
    pub fn review(&self) -> Value {
        assert_eq!((self.status, self.header("content-type")), (200, "application/json"), "{}", self.text);
        let mut review = self.json();
        if let Some(patch) = review["response"].get_mut("patch") {
            let decoded = BASE64_STANDARD.decode(patch.as_str().unwrap()).unwrap();
            *patch = serde_json::from_slice(&decoded).unwrap();
        }
        review
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// The value of a header. Empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and body, to compare both at once.
    pub fn refusal(&self) -> (u16, &str) {
        (self.status, &self.text)
    }

    async fn read(response: reqwest::Response) -> reqwest::Result<Self> {
        let (status, version) = (response.status().as_u16(), response.version());
        let headers = response.headers().clone();
        let text = response.text().await?;
        keep_printed("answers", text.as_bytes());
        Ok(Self { status, version, headers, text })
    }
}

/// A TLS stream to the server, which carries any bytes.
pub struct Wire(pub TlsStream<TcpStream>);

impl Wire {
    /// Connects without ALPN, that is for HTTP/1.1.
    pub async fn connect(address: SocketAddr, authority: &str) -> Self {
        Self::try_connect(address, authority).await.unwrap()
    }

    /// The same with a server that may not accept.
    pub async fn try_connect(address: SocketAddr, authority: &str) -> std::io::Result<Self> {
        Self::offering(address, authority, Vec::new()).await
    }

    /// Connects and offers HTTP/2 alone.
    pub async fn of_http_2(address: SocketAddr, authority: &str) -> Self {
        Self::offering(address, authority, vec![b"h2".to_vec()]).await.unwrap()
    }

    async fn offering(
        address: SocketAddr,
        authority: &str,
        protocols: Vec<Vec<u8>>,
    ) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut configuration = tls(authority);
        configuration.alpn_protocols = protocols;
        TlsConnector::from(Arc::new(configuration)).connect(name, stream).await.map(Self)
    }

    /// The result of a handshake in which the client offers only this version, and only this suite if there
    /// is one: the suite that was negotiated, or the alert of the server.
    pub async fn agreed(
        address: SocketAddr,
        authority: &str,
        version: &'static SupportedProtocolVersion,
        suite: Option<CipherSuite>,
    ) -> Result<CipherSuite, rustls::Error> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|known| suite.is_none_or(|suite| known.suite() == suite));
        let configuration = tls_of(authority, provider, &[version]);
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        match TlsConnector::from(Arc::new(configuration)).connect(name, stream).await {
            Ok(stream) => Ok(stream.get_ref().1.negotiated_cipher_suite().unwrap().suite()),
            Err(error) => Err(error.downcast().unwrap()),
        }
    }

    /// Sends bytes at once.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Reads until the server closes the connection, cleanly or not.
    pub async fn rest(mut self) -> String {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        let read = async {
            while let Ok(length @ 1..) = self.0.read(&mut buffer).await {
                bytes.extend_from_slice(&buffer[..length]);
            }
        };
        in_time("the server closes the connection", read).await;
        String::from_utf8(bytes).unwrap()
    }

    /// Reads one response with a `content-length`: status line and body.
    pub async fn answer(&mut self) -> (String, String) {
        let mut bytes = Vec::new();
        let read = async {
            loop {
                let mut buffer = [0; 4096];
                let length = self.0.read(&mut buffer).await.unwrap();
                assert_ne!(length, 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
                bytes.extend_from_slice(&buffer[..length]);
                if let Some(whole) = whole(std::str::from_utf8(&bytes).unwrap()) {
                    return whole;
                }
            }
        };
        in_time("a response arrives", read).await
    }
}

/// Status line and body of a response. `None` while a part is missing.
fn whole(text: &str) -> Option<(String, String)> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.to_owned();
    let length: usize = lines.find_map(|line| line.strip_prefix("content-length: "))?.parse().unwrap();
    (body.len() == length).then(|| (status, body.to_owned()))
}

/// A POST of HTTP/1.1 with a `content-length`.
pub fn post_of(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: layerpin\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn builder(authority: &str) -> ClientBuilder {
    // It fails only when a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .tls_certs_only([Certificate::from_pem(authority.as_bytes()).unwrap()])
        .no_proxy()
        .timeout(PATIENCE)
}

fn tls(authority: &str) -> ClientConfig {
    tls_of(authority, rustls::crypto::aws_lc_rs::default_provider(), rustls::DEFAULT_VERSIONS)
}

fn tls_of(
    authority: &str,
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}
