//! Why a request has no response, and the cause that is reported for it.

use std::error::Error;

use crate::errors::{chain, innermost};
use crate::model::facts::Cause;
use crate::registry::http::address_guard::ForbiddenName;
use crate::registry::http::proxy::Proxy;
use crate::text::shown;

/// Why there is no response.
pub(crate) enum SendError {
    /// The host does not have TLS on this port.
    NoTls(Cause),
    Cause(Cause),
}

impl From<Cause> for SendError {
    fn from(cause: Cause) -> Self {
        Self::Cause(cause)
    }
}

impl SendError {
    pub(crate) fn of(error: &reqwest::Error, host: String, proxy: Option<&Proxy>) -> Self {
        if chain(error).any(|error| error.is::<ForbiddenName>()) {
            return Self::Cause(Cause::ForbiddenAddress { host });
        }
        let has_no_tls = chain(error).any(|error| {
            let message = error.downcast_ref::<rustls::Error>();
            matches!(message, Some(rustls::Error::InvalidMessage(_))) || is_handshake_cut(error)
        });
        let reason = match proxy {
            // A TLS error is about the host: the proxy has connected to it.
            Some(proxy) if error.is_connect() && !chain(error).any(is_of_tls) => {
                format!("through the proxy {}: {}", shown(proxy.address()), reason(error))
            }
            _ => reason(error),
        };
        let is_of_certificate = |error: &(dyn Error + 'static)| {
            matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
        };
        let cause = match chain(error).any(is_of_certificate) {
            true => Cause::Untrusted { host, reason },
            false => Cause::Unreachable { host, reason },
        };
        if has_no_tls { Self::NoTls(cause) } else { Self::Cause(cause) }
    }
}

impl From<SendError> for Cause {
    fn from(error: SendError) -> Self {
        match error {
            SendError::NoTls(cause) | SendError::Cause(cause) => cause,
        }
    }
}

/// A server without TLS may close the connection after the first message.
fn is_handshake_cut(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| {
        error.kind() == std::io::ErrorKind::UnexpectedEof && error.to_string().contains("tls handshake")
    })
}

fn is_of_tls(error: &(dyn Error + 'static)) -> bool {
    error.is::<rustls::Error>() || is_handshake_cut(error)
}

/// The innermost cause, because the outer ones repeat the URL.
pub(crate) fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "connection timed out".to_owned();
    }
    let is_end = |error: &std::io::Error| error.kind() == std::io::ErrorKind::UnexpectedEof;
    if !error.is_connect() && chain(error).any(|error| error.downcast_ref().is_some_and(is_end)) {
        // The message of rustls ends with a link to its manual.
        return "connection closed before message completed".to_owned();
    }
    shown(&innermost(error))
}
