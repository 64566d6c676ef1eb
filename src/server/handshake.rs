//! TLS handshakes that fail for a reason that an administrator can fix, in the log.
//!
//! The client often says too little: Go's client, and so the API server, names the alert only if it arrives after the
//! request was sent. Scans and probes, which do not speak TLS or close the connection, are logged at debug level.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustls::{AlertDescription, Error};
use tokio::time::Instant;

/// The failures of one listener. Each kind is logged once a minute, because a client that is rejected tries again with
/// every review.
#[derive(Debug, Default)]
pub(super) struct HandshakeFailures {
    logged: Mutex<Vec<(FailureKind, Instant)>>,
}

impl HandshakeFailures {
    /// Logs a failure, as a warning if somebody can fix it.
    pub(super) fn note(&self, error: &io::Error, client: SocketAddr) {
        let fault = error.get_ref().and_then(|inner| inner.downcast_ref()).and_then(HandshakeFailure::of);
        match fault.filter(|fault| self.is_due(fault.kind)) {
            Some(HandshakeFailure { kind: _, message }) => {
                tracing::warn!(%client, fault = message, "TLS handshake failed");
            }
            None => tracing::debug!(%error, "TLS handshake failed"),
        }
    }

    fn is_due(&self, kind: FailureKind) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.retain(|(_, at)| at.elapsed() < INTERVAL);
        let is_due = logged.iter().all(|(other, _)| *other != kind);
        if is_due {
            logged.push((kind, Instant::now()));
        }
        is_due
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailureKind {
    NoCertificate,
    UnknownIssuer,
    Untrusted,
    NoCommonProtocol,
}

struct HandshakeFailure {
    kind: FailureKind,
    message: String,
}

impl HandshakeFailure {
    fn of(error: &Error) -> Option<Self> {
        use AlertDescription::{
            BadCertificate, CertificateExpired, CertificateRevoked, CertificateUnknown, UnknownCA,
            UnsupportedCertificate,
        };

        let (kind, message) = match error {
            Error::NoCertificatesPresented => (
                FailureKind::NoCertificate,
                "the client sent no certificate, but `--client-ca` requires one; configure a client certificate for the \
                 API server, or remove the flag"
                    .to_owned(),
            ),
            Error::InvalidCertificate(reason) => (
                FailureKind::UnknownIssuer,
                format!("the client certificate is not issued by a CA in `--client-ca`: {reason}"),
            ),
            Error::AlertReceived(
                alert @ (BadCertificate | CertificateExpired | CertificateRevoked | CertificateUnknown
                | UnknownCA | UnsupportedCertificate),
            ) => (
                FailureKind::Untrusted,
                format!(
                    "the client rejected the serving certificate ({alert:?}); check that the `caBundle` of the webhook \
                     configurations contains the CA that issued it, and that it is valid for the name of the service"
                ),
            ),
            Error::PeerIncompatible(reason) => (
                FailureKind::NoCommonProtocol,
                format!(
                    "the client has no TLS version or cipher suite in common with this server ({reason:?}); see \
                     `--tls-min-version`, `--tls-cipher-suites` and `spec.tlsSecurityProfile` of \
                     APIServer/cluster"
                ),
            ),
            _ => return None,
        };
        Some(Self { kind, message })
    }
}

const INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_kind_is_logged_once_a_minute() {
        let failures = HandshakeFailures::default();
        let due = |kinds: [FailureKind; 2]| kinds.map(|kind| failures.is_due(kind));
        assert_eq!(due([FailureKind::NoCertificate, FailureKind::NoCertificate]), [true, false]);
        tokio::time::advance(INTERVAL / 2).await;
        assert_eq!(due([FailureKind::Untrusted, FailureKind::NoCertificate]), [true, false]);
        tokio::time::advance(INTERVAL / 2).await;
        assert_eq!(due([FailureKind::Untrusted, FailureKind::NoCertificate]), [false, true]);
    }
}
