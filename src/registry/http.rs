//! The connections to registries: clients, trusted certificates, proxies, addresses, and limits for each host.

pub(crate) mod address_guard;
pub(crate) mod client;
pub(crate) mod host_limiter;
pub(crate) mod no_proxy;
pub mod proxy;
pub mod tls_roots;
pub(crate) mod transport;
