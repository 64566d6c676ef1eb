//! The registry client over real sockets: an in-process registry that misbehaves on request, and
//! Debian's `docker-registry`.
//!
//! Tests compare the whole answer, and the requests that arrived at the registry.

mod addresses;
mod authentication;
mod caching;
mod certificates;
mod connect_proxy;
mod derived;
mod docker_registry;
mod every_fault;
mod faults;
mod helpers;
mod image_faults;
mod images;
mod manifests;
mod metrics;
mod mirrors;
mod namespaces;
mod payloads;
mod proxy;
mod rate_limits;
mod support;
mod tls;
