//! From options to what a verb judges with: the policy, and where facts come from.
//!
//! The same for every verb, so that the webhook and the command line ask the same world.

use std::sync::Arc;

use crate::cli::FactOptions;
use crate::metrics::Metrics;
use crate::policy::PolicyStore;
use crate::sources::registry::credentials::Credentials;
use crate::sources::{RegistryClient, Sources};

/// The policy that the options name, or the recommended one.
pub(super) fn policy(options: &FactOptions) -> anyhow::Result<PolicyStore> {
    Ok(match &options.policy {
        Some(path) => PolicyStore::from_file(path)?,
        None => PolicyStore::built_in(),
    })
}

/// The sources that the options describe. Nothing is asked yet.
pub(super) fn connect(options: &FactOptions, metrics: &Arc<Metrics>) -> anyhow::Result<Sources> {
    if options.offline {
        return Ok(Sources::Offline);
    }
    let credentials = match &options.authfile {
        Some(path) => Credentials::from_file(path)?,
        None => Credentials::none(),
    };
    Ok(Sources::Network(RegistryClient::new(credentials, Arc::clone(metrics))?))
}
