//! Callers: a well-behaved one on reqwest, and bare TLS streams for the others.

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

/// A caller that trusts one CA and keeps its connections.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Client {
    /// A caller that speaks what the server prefers.
    pub(crate) fn new(address: SocketAddr, authority: &str) -> Self {
        Self::build(address, builder(authority))
    }

    /// A caller that speaks HTTP/1.1 only.
    pub(crate) fn of_http_1(address: SocketAddr, authority: &str) -> Self {
        Self::build(address, builder(authority).http1_only())
    }

    /// A caller that shows a certificate of its own.
    pub(crate) fn with_identity(address: SocketAddr, authority: &str, identity: &TlsIdentity) -> Self {
        let pem = format!("{}{}", identity.certificate_pem(), identity.key_pem());
        Self::build(address, builder(authority).identity(Identity::from_pem(pem.as_bytes()).unwrap()))
    }

    /// Posts a body. The path may have a query.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.try_post(path, body).await.unwrap()
    }

    /// Posts a body to a server that may not be there.
    pub(crate) async fn try_post(&self, path: &str, body: impl Into<Body>) -> reqwest::Result<Answer> {
        let request = self.http.post(format!("{}{path}", self.base));
        Answer::read(request.header(CONTENT_TYPE, "application/json").body(body).send().await?).await
    }

    /// Posts a body and says in which form the answer is wanted.
    pub(crate) async fn post_for(&self, accept: &str, path: &str, body: impl Into<Body>) -> Answer {
        let request = self.http.post(format!("{}{path}", self.base));
        Answer::read(request.header(ACCEPT, accept).body(body).send().await.unwrap()).await.unwrap()
    }

    /// Asks for a page.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.unwrap()
    }

    /// Asks a server that may not be there for a page.
    pub(crate) async fn try_get(&self, path: &str) -> reqwest::Result<Answer> {
        Answer::read(self.http.get(format!("{}{path}", self.base)).send().await?).await
    }

    /// Sends a review and reads the review that answers it, its patch decoded.
    pub(crate) async fn review(&self, path: &str, review: &Value) -> Value {
        self.post(path, review.to_string()).await.review()
    }

    fn build(address: SocketAddr, builder: ClientBuilder) -> Self {
        Self { http: builder.build().unwrap(), base: format!("https://{address}") }
    }
}

impl Answer {
    /// The review in an answer that is one, its patch decoded.
    pub(crate) fn review(&self) -> Value {
        assert_eq!((self.status, self.header("content-type")), (200, "application/json"), "{}", self.text);
        let mut review = self.json();
        if let Some(patch) = review["response"].get_mut("patch") {
            let decoded = BASE64_STANDARD.decode(patch.as_str().unwrap()).unwrap();
            *patch = serde_json::from_slice(&decoded).unwrap();
        }
        review
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// The value of a header, empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and text, to compare both at once.
    pub(crate) fn refusal(&self) -> (u16, &str) {
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

/// A TLS stream to the server, over which anything can be sent.
pub(crate) struct Wire(pub(crate) TlsStream<TcpStream>);

impl Wire {
    /// Shakes hands and offers HTTP/1.1.
    pub(crate) async fn connect(address: SocketAddr, authority: &str) -> Self {
        Self::try_connect(address, authority).await.unwrap()
    }

    pub(crate) async fn try_connect(address: SocketAddr, authority: &str) -> std::io::Result<Self> {
        Self::offering(address, authority, Vec::new()).await
    }

    /// Shakes hands and offers HTTP/2 alone.
    pub(crate) async fn of_http_2(address: SocketAddr, authority: &str) -> Self {
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

    /// What a handshake comes to with a client that offers no more than this version, and no more than this
    /// suite where one is named: the suite that is then spoken, or what the server said in its alert.
    pub(crate) async fn agreed(
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

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Reads until the server closes, however it does so.
    pub(crate) async fn rest(mut self) -> String {
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

    /// Reads one answer that states its length: status line, and body.
    pub(crate) async fn answer(&mut self) -> (String, String) {
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
        in_time("an answer comes", read).await
    }
}

/// Status line and body of an answer. `None` while some of it is missing.
fn whole(text: &str) -> Option<(String, String)> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.to_owned();
    let length: usize = lines.find_map(|line| line.strip_prefix("content-length: "))?.parse().unwrap();
    (body.len() == length).then(|| (status, body.to_owned()))
}

/// A POST of HTTP/1.1 whose head announces the body that follows.
pub(crate) fn post_of(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: layerpin\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn builder(authority: &str) -> ClientBuilder {
    layerpin::install_crypto_provider();
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
