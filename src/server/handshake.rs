//! Handshakes that fail, in the log where a person can mend them.
//!
//! The caller's side often says too little: Go's client, and so the API server, names the alert only where its
//! request was on the way before the alert came. Scans and probes, which speak no TLS or hang up, are not told.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustls::{AlertDescription, Error};
use tokio::time::Instant;

/// The failures of one listener. Each kind is told once a minute, because a caller that is turned away tries again
/// with every review.
#[derive(Debug, Default)]
pub(super) struct HandshakeFailures {
    told: Mutex<Vec<(FailureKind, Instant)>>,
}

impl HandshakeFailures {
    /// Takes note of a failure: a line of log where somebody can do something about it.
    pub(super) fn note(&self, error: &io::Error, caller: SocketAddr) {
        let fault = error.get_ref().and_then(|inner| inner.downcast_ref()).and_then(HandshakeFailure::of);
        match fault.filter(|fault| self.is_due(fault.kind)) {
            Some(HandshakeFailure { kind: _, words }) => {
                tracing::warn!(%caller, fault = words, "a TLS handshake failed");
            }
            None => tracing::debug!(%error, "a TLS handshake failed"),
        }
    }

    fn is_due(&self, kind: FailureKind) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(_, at)| at.elapsed() < PAUSE);
        let is_due = told.iter().all(|(other, _)| *other != kind);
        if is_due {
            told.push((kind, Instant::now()));
        }
        is_due
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailureKind {
    NoCertificate,
    OtherCertificate,
    NotTrusted,
    NothingInCommon,
}

struct HandshakeFailure {
    kind: FailureKind,
    words: String,
}

impl HandshakeFailure {
    fn of(error: &Error) -> Option<Self> {
        use AlertDescription::{
            BadCertificate, CertificateExpired, CertificateRevoked, CertificateUnknown, UnknownCA,
            UnsupportedCertificate,
        };

        let (kind, words) = match error {
            Error::NoCertificatesPresented => (
                FailureKind::NoCertificate,
                "the caller shows no certificate, and `--client-ca` asks for one; give the API server one, or leave \
                 the flag out"
                    .to_owned(),
            ),
            Error::InvalidCertificate(reason) => (
                FailureKind::OtherCertificate,
                format!("the caller's certificate is none of `--client-ca`: {reason}"),
            ),
            Error::AlertReceived(
                alert @ (BadCertificate | CertificateExpired | CertificateRevoked | CertificateUnknown
                | UnknownCA | UnsupportedCertificate),
            ) => (
                FailureKind::NotTrusted,
                format!(
                    "the caller does not accept the serving certificate ({alert:?}); look whether the `caBundle` \
                     of the webhook configurations is of the authority that issued it, and whether it has the \
                     name that is called"
                ),
            ),
            Error::PeerIncompatible(reason) => (
                FailureKind::NothingInCommon,
                format!(
                    "the caller has no TLS version or cipher suite in common with this server ({reason:?}); see \
                     `--tls-min-version`, `--tls-cipher-suites` and `spec.tlsSecurityProfile` of \
                     APIServer/cluster"
                ),
            ),
            _ => return None,
        };
        Some(Self { kind, words })
    }
}

const PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_kind_is_due_once_a_minute() {
        let failures = HandshakeFailures::default();
        let due = |kinds: [FailureKind; 2]| kinds.map(|kind| failures.is_due(kind));
        assert_eq!(due([FailureKind::NoCertificate, FailureKind::NoCertificate]), [true, false]);
        tokio::time::advance(PAUSE / 2).await;
        assert_eq!(due([FailureKind::NotTrusted, FailureKind::NoCertificate]), [true, false]);
        tokio::time::advance(PAUSE / 2).await;
        assert_eq!(due([FailureKind::NotTrusted, FailureKind::NoCertificate]), [false, true]);
    }
}
