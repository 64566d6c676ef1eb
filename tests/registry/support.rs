//! A client under test, and the notation in which answers and requests are compared.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Once};
use std::time::Duration;

use layerpin::metrics::Metrics;
use layerpin::model::digest::Digest;
use layerpin::model::facts::image::{Image, Payload};
use layerpin::model::facts::{Cause, CredentialsSent, Fact, Manifest, ManifestKind, NodeCredentials};
use layerpin::model::pull_spec::PullSpec;
use layerpin::model::question::{Freshness, Platforms};
use layerpin::registry::auth::keychain::Keychain;
use layerpin::registry::{HostLimits, RegistrySettings};
use layerpin::reload::Reloaded;
use layerpin::sources::RegistryClient;
use layerpin_sample_registry::RecordedRequest;
use layerpin_test_support::documents::auth_file;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

/// A client with the auth file that it read.
#[derive(Clone)]
pub(crate) struct Asker {
    pub(crate) client: Arc<RegistryClient>,
    pub(crate) metrics: Arc<Metrics>,
    auth_file: Option<Arc<TempDir>>,
    /// For one answer.
    time: Duration,
}

impl Asker {
    /// A client without credentials.
    pub(crate) fn anonymous() -> Self {
        Self::new(Keychain::none(), None)
    }

    /// A client with an auth file that has these `auths`.
    pub(crate) fn with(auths: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, auths);
        let credentials = Keychain::from_file(&folder.path().join(AUTH_FILE)).unwrap();
        Self::new(credentials, Some(folder))
    }

    /// Replaces the auth file and reloads it.
    pub(crate) fn change(&self, auths: &Value) {
        write(self.auth_file.as_ref().unwrap(), auths);
        assert_eq!(self.client.credentials.reload().unwrap(), Reloaded::Changed);
    }

    /// The same client, which waits only briefly for an answer that never comes.
    pub(crate) fn shortly(&self) -> Self {
        Self { time: SHORT, ..self.clone() }
    }

    /// The same client when the time for an answer has already passed.
    pub(crate) fn too_late(&self) -> Self {
        Self { time: Duration::ZERO, ..self.clone() }
    }

    /// Asks for the manifest of a reference.
    pub(crate) async fn ask(&self, reference: &str) -> Fact<Manifest> {
        self.client.manifest(&parse(reference), Freshness::Cached, self.deadline()).await
    }

    /// Asks for the manifest, and accepts no cached answer.
    pub(crate) async fn ask_now(&self, reference: &str) -> Fact<Manifest> {
        self.client.manifest(&parse(reference), Freshness::Fresh, self.deadline()).await
    }

    /// Asks for the content of a release payload.
    pub(crate) async fn payload(&self, reference: &str) -> Fact<Payload> {
        self.client.payload(&parse(reference), self.deadline()).await
    }

    /// A client with its own settings.
    pub(crate) fn with_settings(settings: RegistrySettings) -> Self {
        Self::new(settings, None)
    }

    /// A client with its own limits.
    pub(crate) fn with_limits(credentials: Keychain, limits: HostLimits) -> Self {
        Self::new(RegistrySettings { limits, ..RegistrySettings::from(credentials) }, None)
    }

    /// Asks for the content of an image for every platform.
    pub(crate) async fn image(&self, reference: &str) -> Fact<Image> {
        self.image_for(reference, &Platforms::All).await
    }

    /// Asks for the content of an image for some platforms.
    pub(crate) async fn image_for(&self, reference: &str, platforms: &Platforms) -> Fact<Image> {
        let (_, fact) = self.client.image(&parse(reference), None, platforms, self.deadline()).await;
        fact.map(Arc::unwrap_or_clone)
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.time
    }

    fn new(settings: impl Into<RegistrySettings>, auth_file: Option<TempDir>) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap());
        let metrics = Arc::new(Metrics::new());
        let client = RegistryClient::new(settings, Arc::clone(&metrics)).unwrap();
        Self { client, metrics, auth_file: auth_file.map(Arc::new), time: PATIENCE }
    }
}

fn write(folder: &TempDir, auths: &Value) {
    std::fs::write(folder.path().join(AUTH_FILE), auth_file(auths)).unwrap();
}

/// An entry of an auth file.
pub(crate) fn password(user: &str, password: &str) -> Value {
    json!({"username": user, "password": password})
}

pub(crate) fn parse(reference: &str) -> PullSpec {
    PullSpec::parse(reference).unwrap()
}

pub(crate) fn image(digest: &str, endpoint: &str) -> Fact<Manifest> {
    known(digest, ManifestKind::Image, endpoint)
}

pub(crate) fn known(digest: &str, kind: ManifestKind, endpoint: &str) -> Fact<Manifest> {
    Fact::Known(Manifest { digest: Digest::parse(digest).unwrap(), kind, endpoint: endpoint.to_owned() })
}

pub(crate) fn refused<T>(
    host: &str,
    status: u16,
    shown: CredentialsSent,
    as_nodes: NodeCredentials,
) -> Fact<T> {
    Fact::Unknown(Cause::Refused { host: host.to_owned(), status, shown, as_nodes })
}

pub(crate) fn nonsense<T>(host: &str, reason: &str) -> Fact<T> {
    Fact::Unknown(Cause::InvalidResponse { host: host.to_owned(), reason: reason.to_owned() })
}

pub(crate) fn unreachable<T>(host: &str, reason: &str) -> Fact<T> {
    Fact::Unknown(Cause::Unreachable { host: host.to_owned(), reason: reason.to_owned() })
}

pub(crate) fn untrusted<T>(host: &str, reason: &str) -> Fact<T> {
    let reason = format!("invalid peer certificate: {reason}");
    Fact::Unknown(Cause::Untrusted { host: host.to_owned(), reason })
}

pub(crate) fn out_of_time<T>(host: &str) -> Fact<T> {
    Fact::Unknown(Cause::OutOfTime { host: host.to_owned() })
}

pub(crate) fn no_token<T>(host: &str, reason: &str) -> Fact<T> {
    Fact::Unknown(Cause::NoToken { host: host.to_owned(), reason: reason.to_owned() })
}

/// Requests as lines: the method, the path without query, and the scheme of the credentials.
pub(crate) fn lines(requests: &[RecordedRequest]) -> Vec<String> {
    let line = |request: &RecordedRequest| {
        let path = request.path.split('?').next().unwrap_or_default();
        let scheme = request.authorization().and_then(|value| value.split(' ').next());
        format!("{} {path} {}", request.method, scheme.unwrap_or("-"))
    };
    requests.iter().map(line).collect()
}

/// Whether this process was started by [`run_alone`].
pub(crate) fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// Runs `test` again in its own process with `environment`, and fails if it fails. For what is global in a process, such
/// as its CA certificates and its log.
pub(crate) fn run_alone(test: &str, environment: &[(&str, &Path)]) {
    run_alone_by(Command::new(std::env::current_exe().unwrap()), test, environment);
}

/// Like [`run_alone`], with a command to which the program of this process is appended.
pub(crate) fn run_alone_by(mut program: Command, test: &str, environment: &[(&str, &Path)]) {
    let output = program
        .args([test, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("1 passed"), "`{test}` names no test: {stdout}");
}

const ALONE: &str = "LAYERPIN_TEST_ALONE";
/// How long a test waits for an answer that is certain.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long a test waits for an answer that never comes; the value does not matter.
const SHORT: Duration = Duration::from_millis(300);
const AUTH_FILE: &str = "auth.json";
