//! TLS handshakes that fail for a reason that an administrator can fix, in the log.
//!
//! The client often says too little: Go's client, and so the API server, names the alert only if it arrives after the
//! request was sent. Scans and probes, which do not speak TLS or close the connection, are logged at debug level.

use std::io;
use std::mem::{Discriminant, discriminant};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustls::{AlertDescription, Error};
use tokio::time::Instant;

/// The failures of one listener. Each kind is logged once a minute, because a client that is rejected tries again with
/// every review.
#[derive(Debug, Default)]
pub(super) struct HandshakeFailures {
    logged: Mutex<Vec<(Discriminant<Error>, Instant)>>,
}

impl HandshakeFailures {
    /// Logs a failure, as a warning if somebody can fix it.
    pub(super) fn note(&self, error: &io::Error, client: SocketAddr) {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner.and_then(fault).filter(|_| inner.is_some_and(|inner| self.is_due(inner))) {
            Some(fault) => tracing::warn!(%client, fault, "TLS handshake failed"),
            None => tracing::debug!(%error, "TLS handshake failed"),
        }
    }

    fn is_due(&self, error: &Error) -> bool {
        let kind = discriminant(error);
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.retain(|(_, at)| at.elapsed() < INTERVAL);
        let is_due = logged.iter().all(|(other, _)| *other != kind);
        if is_due {
            logged.push((kind, Instant::now()));
        }
        is_due
    }
}

/// What somebody can fix.
fn fault(error: &Error) -> Option<String> {
    use AlertDescription::{
        BadCertificate, CertificateExpired, CertificateRevoked, CertificateUnknown, UnknownCA,
        UnsupportedCertificate,
    };

    Some(match error {
        Error::NoCertificatesPresented => {
            "the client sent no certificate, but `--client-ca` requires one; configure a client certificate for the \
             API server, or remove the flag"
                .to_owned()
        }
        Error::InvalidCertificate(reason) => {
            format!("the client certificate is not issued by a CA in `--client-ca`: {reason}")
        }
        Error::AlertReceived(
            alert @ (BadCertificate | CertificateExpired | CertificateRevoked | CertificateUnknown | UnknownCA
            | UnsupportedCertificate),
        ) => format!(
            "the client rejected the serving certificate ({alert:?}); check that the `caBundle` of the webhook \
             configurations contains the CA that issued it, and that it is valid for the name of the service"
        ),
        Error::PeerIncompatible(reason) => format!(
            "the client has no TLS version or cipher suite in common with this server ({reason:?}); see \
             `--tls-min-version`, `--tls-cipher-suites` and `spec.tlsSecurityProfile` of APIServer/cluster"
        ),
        _ => return None,
    })
}

const INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_kind_is_logged_once_a_minute() {
        let failures = HandshakeFailures::default();
        let (missing, untrusted) =
            (Error::NoCertificatesPresented, Error::AlertReceived(AlertDescription::UnknownCA));
        let due = |errors: [&Error; 2]| errors.map(|error| failures.is_due(error));
        assert_eq!(due([&missing, &missing]), [true, false]);
        tokio::time::advance(INTERVAL / 2).await;
        assert_eq!(due([&untrusted, &missing]), [true, false]);
        tokio::time::advance(INTERVAL / 2).await;
        assert_eq!(due([&untrusted, &missing]), [false, true]);
    }
}
