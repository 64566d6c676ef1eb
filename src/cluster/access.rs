//! Finds the cluster: a kubeconfig, the service account of the pod, or none.
//!
//! Sends no request and runs no exec plug-in, so that a server listens before its API server answers.
//! Messages never quote a kubeconfig, which holds credentials.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use axum::http::Uri;
use base64::prelude::{BASE64_STANDARD, Engine};
use hyper_util::client::proxy::matcher::Matcher;
use kube::Config;
use kube::config::{Cluster, Kubeconfig, KubeconfigError, LoadDataError};

use crate::errors;
use crate::text::shown;
use crate::tls::pem::CaBundle;

/// The options that name a cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterChoice {
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`.
    pub context: Option<String>,
}

/// The environment that names a cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterEnvironment {
    /// `KUBECONFIG`: files separated by colons.
    pub kubeconfig: Option<OsString>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`, which are set in every pod.
    pub service: Option<(String, String)>,
    /// The folder into which the service account of a pod is mounted.
    pub account: PathBuf,
}

impl ClusterEnvironment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name| variable(name)?.into_string().ok();
        Self {
            kubeconfig: variable("KUBECONFIG"),
            home: variable("HOME").map(PathBuf::from),
            service: text("KUBERNETES_SERVICE_HOST").zip(text("KUBERNETES_SERVICE_PORT")),
            account: PathBuf::from(ACCOUNT),
        }
    }

    fn kubeconfigs(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = self.kubeconfig.iter().flat_map(std::env::split_paths).collect();
        files.retain(|path| !path.as_os_str().is_empty());
        // Like kubectl, ignores missing files as long as one exists.
        if files.iter().any(|path| path.exists()) {
            files.retain(|path| path.exists());
        }
        let usual = self.home.as_ref().map(|home| home.join(".kube/config"));
        files.extend(usual.filter(|path| files.is_empty() && path.exists()));
        files
    }
}

/// Address and credentials of an API server.
#[derive(Clone, derive_more::Debug)]
#[debug("ClusterAccess({origin})")]
pub struct ClusterAccess {
    pub(crate) config: Config,
    /// Where they were found, such as `kubeconfig /root/.kube/config`, or the service account of the pod.
    pub(crate) origin: String,
}

impl ClusterAccess {
    /// Finds the cluster: the file of `choice`, those of `KUBECONFIG`, `~/.kube/config`, or the service account
    /// of the pod, in this order. `None` when there is none of these.
    pub fn find(
        choice: &ClusterChoice,
        environment: &ClusterEnvironment,
    ) -> Result<Option<Self>, AccessError> {
        let files = choice.kubeconfig.clone().map_or_else(|| environment.kubeconfigs(), |path| vec![path]);
        match (files.as_slice(), &choice.context) {
            ([], None) => Self::of_pod(environment),
            ([], Some(context)) => Err(AccessError(format!(
                "--context `{}`: there is no kubeconfig; name one with --kubeconfig",
                shown(context)
            ))),
            (files, context) => Self::from_files(files, context.as_deref()).map(Some),
        }
    }

    fn from_files(files: &[PathBuf], context: Option<&str>) -> Result<Self, AccessError> {
        let names: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
        let origin = format!("kubeconfig {}", names.join(":"));
        let unusable = |fault: String| AccessError::unusable(&origin, &fault);
        let mut kubeconfig = Kubeconfig::default();
        for path in files {
            // The first file that sets a value takes precedence.
            kubeconfig = kubeconfig.merge(read(path)?).map_err(|error| unusable(words(&error)))?;
        }
        let known: Vec<_> = kubeconfig.contexts.iter().map(|context| shown(&context.name)).collect();
        let known =
            if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
        let chosen = context.map(str::to_owned).or(kubeconfig.current_context.take());
        let Some(chosen) = chosen.filter(|name| !name.is_empty()) else {
            return Err(unusable(format!("no context is selected; select one with --context ({known})")));
        };
        let context = kubeconfig.contexts.iter().find(|named| named.name == chosen);
        let Some(context) = context.and_then(|named| named.context.as_ref()) else {
            let name = shown(&chosen);
            return Err(unusable(format!(
                "there is no context `{name}`; select another with --context ({known})"
            )));
        };
        let cluster = kubeconfig.clusters.iter().find(|named| named.name == context.cluster);
        let cluster = cluster.and_then(|named| named.cluster.clone());
        let has_proxy = cluster.as_ref().is_some_and(|cluster| cluster.proxy_url.is_some());
        kubeconfig.current_context = Some(chosen.clone());
        let in_context = |fault: String| unusable(format!("context `{}`: {fault}", shown(&chosen)));
        if let Some(cluster) = &cluster {
            check_ca(cluster).map_err(in_context)?;
        }
        let mut config = Config::try_from(kubeconfig).map_err(|error| in_context(words(&error)))?;
        if !has_proxy && !wants_proxy(&config.cluster_url) {
            config.proxy_url = None;
        }
        Ok(Self { config, origin })
    }

    /// The service account that the kubelet mounts into a pod. `None` outside a pod, and in a pod without one.
    fn of_pod(environment: &ClusterEnvironment) -> Result<Option<Self>, AccessError> {
        let Some((host, port)) = &environment.service else { return Ok(None) };
        let (token, authority) = (environment.account.join("token"), environment.account.join("ca.crt"));
        if !token.exists() {
            return Ok(None);
        }
        let origin = format!("service account in {}", environment.account.display());
        let unusable = |fault: String| AccessError::unusable(&origin, &fault);
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let url = format!("https://{host}:{port}");
        let url =
            url.parse().map_err(|error| unusable(format!("{} is not a valid URL: {error}", shown(&url))))?;
        let mut config = Config::new(url);
        config.auth_info.token_file = Some(token.display().to_string());
        let pem = std::fs::read(&authority)
            .map_err(|error| unusable(format!("ca.crt: {}", errors::words(&error))))?;
        let roots = CaBundle::parse(&String::from_utf8_lossy(&pem));
        let roots = roots.map_err(|fault| unusable(format!("ca.crt: {fault}")))?.into_certificates();
        config.root_cert = Some(roots.iter().map(|root| root.to_vec()).collect());
        // kube reads it again about once a minute, like the token.
        config.root_cert_file = Some(authority);
        Ok(Some(Self { config, origin }))
    }
}

fn read(path: &Path) -> Result<Kubeconfig, AccessError> {
    Kubeconfig::read_from(path)
        .map_err(|error| AccessError::unusable(&format!("kubeconfig {}", path.display()), &words(&error)))
}

/// Checks the CA certificates of the API server. kube would report an error in them without the line. Inline
/// data takes precedence over a file, like in kubectl.
fn check_ca(cluster: &Cluster) -> Result<(), String> {
    let data = cluster.certificate_authority_data.as_deref().filter(|data| !data.is_empty());
    let (field, pem) = match (data, &cluster.certificate_authority) {
        (Some(data), _) => {
            let field = "`certificate-authority-data` of its cluster".to_owned();
            let pem = BASE64_STANDARD.decode(data).map_err(|_| format!("{field} is not base64"))?;
            (field, pem)
        }
        (None, Some(path)) => {
            let field = format!("`certificate-authority` of its cluster, {path}");
            let pem = std::fs::read(path)
                .map_err(|error| format!("{field}: {}; name another file", errors::words(&error)))?;
            (field, pem)
        }
        (None, None) => return Ok(()),
    };
    let found = CaBundle::parse(&String::from_utf8_lossy(&pem));
    found.map(drop).map_err(|fault| format!("{field}: {fault}; fix or remove it"))
}

/// Describes an error without quoting the file, which holds credentials.
pub(crate) fn words(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(error, _) => {
            format!("{}; name another file with --kubeconfig", errors::words(error))
        }
        KubeconfigError::Parse(error) => match error.location() {
            Some(at) => format!("line {}, column {}: not a valid kubeconfig", at.line(), at.column()),
            None => "not a valid kubeconfig".to_owned(),
        },
        KubeconfigError::LoadClusterOfContext(name) => format!("there is no cluster `{}`", shown(name)),
        KubeconfigError::MissingClusterUrl => "its cluster has no `server`".to_owned(),
        KubeconfigError::ParseClusterUrl(error) => {
            format!("`server` of its cluster is not a valid URL: {error}")
        }
        KubeconfigError::ParseProxyUrl(error) => {
            format!("the proxy (`proxy-url` of its cluster, or HTTPS_PROXY) is not a valid URL: {error}")
        }
        KubeconfigError::LoadClientCertificate(error) => {
            format!("`client-certificate` of its user: {}", of_file(error))
        }
        KubeconfigError::LoadClientKey(error) => format!("`client-key` of its user: {}", of_file(error)),
        KubeconfigError::ParseCertificates(_) => "`client-certificate` of its user is not PEM".to_owned(),
        other => other.to_string(),
    }
}

/// Describes an error in a file, or in the data that replaces it.
fn of_file(error: &LoadDataError) -> String {
    match error {
        LoadDataError::ReadFile(error, path) => {
            format!("{}: {}; name another file", path.display(), errors::words(error))
        }
        LoadDataError::DecodeBase64(_) => "its data is not base64".to_owned(),
        LoadDataError::NoBase64DataOrFile => "it is missing".to_owned(),
    }
}

/// Whether `HTTPS_PROXY` applies to the API server: not if `NO_PROXY` names it, and not on loopback.
fn wants_proxy(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|host| host.is_loopback());
    !is_loopback && Matcher::from_env().intercept(url).is_some()
}

/// A cluster that cannot be used: where it was found, what is wrong there, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AccessError(String);

impl AccessError {
    pub(crate) fn unusable(origin: &str, fault: &str) -> Self {
        Self(format!("{origin}: {fault}\n  help: to run without a cluster, use `--no-cluster`"))
    }
}

const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
