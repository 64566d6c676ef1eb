//! What changes while the server runs: policy, certificate and credentials are read again, and TLS
//! is spoken as the cluster wants it.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use crate::reload::Reloaded;
use crate::server::ServerState;
use crate::tls::ServingCertificate;

/// Looks at everything again and again, for ever. Each change is one line of log.
pub(super) async fn watch(state: Arc<ServerState>) {
    let policy_fault = Arc::new(PersistentFault::default());
    loop {
        #[expect(clippy::disallowed_methods, reason = "the pause between two rounds")]
        tokio::time::sleep(PAUSE).await;
        let (state, policy_fault) = (Arc::clone(&state), Arc::clone(&policy_fault));
        if let Err(error) = tokio::task::spawn_blocking(move || look(&state, &policy_fault)).await {
            tracing::error!(%error, "files could not be read again");
        }
    }
}

fn look(state: &ServerState, policy_fault: &PersistentFault) {
    match state.policy.reload() {
        Ok(Reloaded::Same) => {
            if state.policy.fault().is_some() && policy_fault.counts_again() {
                state.metrics.policy_reload_failure();
            }
        }
        Ok(Reloaded::Changed) => {
            let policy = state.policy.current();
            state.metrics.policy(&policy);
            tracing::info!(policy = policy.name(), hash = policy.hash(), "policy changed");
        }
        Err(error) => {
            policy_fault.begins();
            state.metrics.policy_reload_failure();
            tracing::error!(%error, "policy not taken over; the one before it is in force");
        }
    }
    match state.certificate.reload() {
        Ok(Reloaded::Same) => {}
        Ok(Reloaded::Changed) => {
            state.metrics.certificate_expiry(state.certificate.expiry());
            tracing::info!(expiry = state.certificate.expiry(), "serving certificate changed");
            tell_of_fault(&state.certificate);
        }
        Err(error) => {
            tracing::error!(%error, "serving certificate not taken over; the one before it is in force");
        }
    }
    if let Some(cluster) = state.engine.sources().cluster() {
        state.spoken.follow(cluster.tls_profile());
    }
    let Some(registry) = state.engine.sources().registry() else { return };
    match registry.credentials().reload() {
        Ok(Reloaded::Same) => {}
        Ok(Reloaded::Changed) => tracing::info!("registry credentials changed"),
        Err(error) => tracing::error!(%error, "credentials not taken over; those before them are in force"),
    }
    tell("registries.conf", registry.registries().reload());
    tell("certificates of registries", registry.certificates().reload());
}

/// A fault that is told once and counted once a minute for as long as it lasts: an alert on a counter
/// that stands still would end before the fault does.
#[derive(Default)]
struct PersistentFault(AtomicU32);

impl PersistentFault {
    fn begins(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// To be asked at each look that finds the fault still there.
    fn counts_again(&self) -> bool {
        (self.0.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(LOOKS_A_MINUTE)
    }
}

/// A line of log where clients will not accept the certificate. That it ends later is for the alert.
pub(super) fn tell_of_fault(certificate: &ServingCertificate) {
    if let Some(fault) = certificate.fault(Timestamp::now()) {
        tracing::error!(%fault, "no client accepts the serving certificate");
    }
}

/// One line of log for each change, and one for each new fault.
fn tell(what: &str, outcome: Result<Reloaded, impl Display>) {
    match outcome {
        Ok(Reloaded::Same) => {}
        Ok(Reloaded::Changed) => tracing::info!("{what} changed"),
        Err(error) => tracing::error!(%error, "{what} not taken over; what was before is in force"),
    }
}

/// A mounted Secret or ConfigMap is a minute late anyway.
const PAUSE: Duration = Duration::from_secs(1);
const LOOKS_A_MINUTE: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_lasts_is_counted_once_a_minute_from_its_beginning() {
        let fault = PersistentFault::default();
        let counted = |looks: u32| (0..looks).filter(|_| fault.counts_again()).count();
        assert_eq!(counted(59), 0);
        fault.begins();
        assert_eq!([counted(59), counted(1), counted(120)], [0, 1, 2]);
    }
}
