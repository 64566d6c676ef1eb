//! From options to the policy and the sources of facts.
//!
//! The same for every command, so that webhooks and command line get the same answers.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;

use crate::cli::args::FactArgs;
use crate::cluster::WatchConfig;
use crate::cluster::access::{ClusterAccess, ClusterChoice, ClusterEnvironment};
use crate::errors;
use crate::metrics::Metrics;
use crate::model::facts::{AcceptedBases, Facts};
use crate::policy_store::PolicyStore;
use crate::registry::RegistrySettings;
use crate::registry::auth::keychain::Keychain;
use crate::registry::http::tls_roots::CertDirs;
use crate::registry::mirrors::registries_conf::RegistriesConf;
use crate::sources::{ClusterSource, RegistryClient, Sources};
use crate::text::shown;

/// The policy that the options name, or the recommended one.
pub(crate) fn policy(options: &FactArgs) -> anyhow::Result<PolicyStore> {
    Ok(match &options.policy {
        Some(path) => PolicyStore::from_file(path)?,
        None => PolicyStore::built_in(),
    })
}

/// The sources that the options describe. Nothing is asked yet: a server then calls
/// [`Sources::follow_cluster`], other commands [`Sources::read_cluster`].
pub(crate) fn connect(options: &FactArgs, metrics: &Arc<Metrics>) -> anyhow::Result<Sources> {
    if let Some(path) = &options.facts {
        return Ok(Sources::recorded(Arc::new(recorded(path)?)));
    }
    let given = AcceptedBases {
        release_image: options.release_image.clone(),
        base_images: options.base_image.clone(),
    };
    if options.offline {
        return Ok(Sources::offline().accepting(given));
    }
    let cluster = cluster(options)?;
    let credentials = match (&options.authfile, &cluster) {
        (Some(path), _) => Keychain::from_file(path)?,
        (None, Some(_)) => Keychain::of_cluster(),
        (None, None) => Keychain::from_usual_files(|name| std::env::var_os(name), user())?,
    };
    let registries = match &options.registries_conf {
        Some(file) => RegistriesConf::from_file(file)?,
        None => RegistriesConf::none(),
    };
    let certificates = match (&options.cert_dir, &cluster) {
        (Some(folder), _) => CertDirs::from_dir(folder)?,
        (None, Some(_)) => CertDirs::of_system(),
        (None, None) => CertDirs::from_usual(usual_cert_dirs()),
    };
    let settings = RegistrySettings { registries, certificates, ..RegistrySettings::from(credentials) };
    let registry = RegistryClient::new(settings, Arc::clone(metrics))?;
    Ok(Sources::network(registry, cluster).accepting(given))
}

/// The user ID of this process.
fn user() -> Option<u32> {
    std::fs::metadata("/proc/self").ok().map(|process| process.uid())
}

/// Where Podman, Buildah and Skopeo look for certificates of registries, the user's own first.
fn usual_cert_dirs() -> Vec<PathBuf> {
    let of_user = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let of_user = of_user.map(|home| Path::new(&home).join(".config/containers/certs.d"));
    let of_system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
    of_user.into_iter().chain(of_system).collect()
}

/// The cluster that the options and the environment name; `None` where they name none.
fn cluster(options: &FactArgs) -> anyhow::Result<Option<Arc<ClusterSource>>> {
    if options.no_cluster {
        return Ok(None);
    }
    let choice = ClusterChoice { kubeconfig: options.kubeconfig.clone(), context: options.context.clone() };
    let access = ClusterAccess::find(&choice, &ClusterEnvironment::of_process())?;
    Ok(access.map(|access| ClusterSource::new(access, WatchConfig::default())).transpose()?)
}

/// The facts of an earlier run. Fails with the file, and the place in it that cannot be read.
fn recorded(path: &Path) -> anyhow::Result<Facts> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| anyhow!("facts file {name}: {}", errors::words(&error)))?;
    Facts::parse(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or(&message);
        anyhow!("{name}:{line}:{column}: not facts as --save-facts writes them: {}", shown(message))
    })
}
