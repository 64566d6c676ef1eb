//! HTTP to registries and token services: clients, trusted certificates, proxies, forbidden addresses, and limits
//! for each host.

pub(crate) mod address_guard;
pub(crate) mod authorization;
pub(crate) mod client;
pub(crate) mod host_limiter;
pub(crate) mod no_proxy;
pub mod proxy;
pub(crate) mod send_error;
pub mod tls_roots;
pub(crate) mod transport;

/// How a host is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// With TLS and a certificate that is trusted.
    Verified,
    /// With TLS and any certificate, or without TLS where the host has none (`insecure`).
    Insecure,
}
