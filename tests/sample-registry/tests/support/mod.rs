//! A plain HTTP client, which shows what was on the wire and follows nothing.

#![allow(dead_code, reason = "each test binary compiles this and uses a part of it")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A response with its whole body.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    pub(crate) fn error_code(&self) -> String {
        let document = self.json();
        let code = document["errors"][0]["code"].as_str();
        code.expect("an error code").to_owned()
    }
}

/// Asks without a body.
pub(crate) async fn ask(
    method: &str,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Reply, Failure> {
    send(method, host, path, headers, "").await
}

/// Asks with a body.
pub(crate) async fn send(
    method: &str,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Reply, Failure> {
    let stream = TcpStream::connect(host).await?;
    let request = request(method, host, path, headers, body.into())?;
    whole(begin(stream, request).await?).await
}

/// Asks over TLS, and trusts only the authority whose certificate is given.
pub(crate) async fn ask_tls(host: &str, path: &str, ca_pem: &str) -> Result<Reply, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let configuration = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(host).await?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(configuration))
        .connect(ServerName::try_from("127.0.0.1")?, stream)
        .await?;
    let request = request("GET", host, path, &[], Bytes::new())?;
    whole(begin(stream, request).await?).await
}

/// Asks with `GET`, and returns once status and headers are there.
pub(crate) async fn headers_of(host: &str, path: &str) -> Result<Response<Incoming>, Failure> {
    let stream = TcpStream::connect(host).await?;
    begin(stream, request("GET", host, path, &[], Bytes::new())?).await
}

/// Fails a test in place of letting it hang.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("an end within a minute")
}

fn request(
    method: &str,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<Request<Full<Bytes>>, Failure> {
    let mut request = Request::builder().method(method).uri(path).header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Ok(request.body(Full::new(body))?)
}

async fn begin(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, Failure> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

async fn whole(response: Response<Incoming>) -> Result<Reply, Failure> {
    let (head, body) = response.into_parts();
    Ok(Reply { status: head.status.as_u16(), headers: head.headers, body: body.collect().await?.to_bytes() })
}
