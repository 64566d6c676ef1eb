//! What changes while the server runs: policy, certificate and credentials are reloaded, and the TLS settings of the
//! cluster are followed.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use crate::reload::Reloaded;
use crate::server::ServerState;
use crate::tls::ServingCertificate;

/// Reloads everything once a second, until the task is aborted. Each change is one line of log.
pub(super) async fn watch(state: Arc<ServerState>) {
    let policy_fault = Arc::new(PersistentFault::default());
    loop {
        #[expect(clippy::disallowed_methods, reason = "the pause between two rounds")]
        tokio::time::sleep(PAUSE).await;
        let (state, policy_fault) = (Arc::clone(&state), Arc::clone(&policy_fault));
        if let Err(error) = tokio::task::spawn_blocking(move || reload(&state, &policy_fault)).await {
            tracing::error!(%error, "reload stopped unexpectedly");
        }
    }
}

fn reload(state: &ServerState, policy_fault: &PersistentFault) {
    match state.parts.policy.reload() {
        Ok(Reloaded::Same) => {
            if state.parts.policy.fault().is_some() && policy_fault.counts_again() {
                state.parts.metrics.policy_reload_failure();
            }
        }
        Ok(Reloaded::Changed) => {
            let policy = state.parts.policy.current();
            state.parts.metrics.policy(&policy);
            tracing::info!(policy = policy.name(), hash = policy.hash(), "policy changed");
        }
        Err(error) => {
            policy_fault.begins();
            state.parts.metrics.policy_reload_failure();
            tracing::error!(%error, "policy reload failed; still using the previous policy");
        }
    }
    match state.parts.certificate.reload() {
        Ok(Reloaded::Same) => {}
        Ok(Reloaded::Changed) => {
            state.parts.metrics.certificate_expiry(state.parts.certificate.expiry());
            tracing::info!(expiry = state.parts.certificate.expiry(), "serving certificate changed");
            log_fault(&state.parts.certificate);
        }
        Err(error) => {
            tracing::error!(%error, "serving certificate reload failed; still using the previous certificate");
        }
    }
    if let (Some(cluster), Some(settings)) = (state.parts.engine.sources().cluster(), &state.tls_settings) {
        settings.follow(cluster.tls_profile());
    }
    let Some(registry) = state.parts.engine.sources().registry() else { return };
    log("registry credentials", registry.credentials.reload());
    log("registries.conf", registry.registries.reload());
    log("registry certificates", registry.certificates.reload());
}

/// A fault that is logged once and counted once a minute for as long as it lasts: an alert on a counter that does not
/// increase would end before the fault does.
#[derive(Default)]
struct PersistentFault(AtomicU32);

impl PersistentFault {
    fn begins(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Tells whether a reload that finds the same fault is to be counted.
    fn counts_again(&self) -> bool {
        (self.0.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(RELOADS_A_MINUTE)
    }
}

/// Logs that clients reject the certificate. The alert covers one that expires soon.
pub(super) fn log_fault(certificate: &ServingCertificate) {
    if let Some(fault) = certificate.fault(Timestamp::now()) {
        tracing::error!(%fault, "clients reject the serving certificate");
    }
}

/// Logs each change and each new fault.
fn log(what: &str, outcome: Result<Reloaded, impl Display>) {
    match outcome {
        Ok(Reloaded::Same) => {}
        Ok(Reloaded::Changed) => tracing::info!("{what} changed"),
        Err(error) => tracing::error!(%error, "{what}: reload failed; still using the previous content"),
    }
}

/// A mounted Secret or ConfigMap is updated about once a minute.
const PAUSE: Duration = Duration::from_secs(1);
const RELOADS_A_MINUTE: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_fault_is_counted_once_a_minute() {
        let fault = PersistentFault::default();
        let counted = |reloads: u32| (0..reloads).filter(|_| fault.counts_again()).count();
        assert_eq!(counted(59), 0);
        fault.begins();
        assert_eq!([counted(59), counted(1), counted(120)], [0, 1, 2]);
    }
}
