//! A small OCI registry and token service on loopback, for tests, a demo and benchmarks.
//!
//! - [`images`] makes images of fixed bytes: bases, derived images, indexes, release payloads.
//! - [`Registry`] shows them over the distribution protocol, records what clients
//!   ask for, and misbehaves on request as a [`Fault`] says.
//! - [`TokenService`] gives out bearer tokens, real enough for other registries.
//! - [`ClosedPort`] is an address where nobody listens.
//! - [`Authority`] issues certificates for all of these.
//! - [`DockerRegistry`] runs the registry of the Docker distribution, if it is
//!   installed, as a second opinion on the protocol.
//!
//! Servers run on threads of their own and stop when they are dropped. This is
//! no production code: content is kept in memory and nothing is limited.
//!
//! ```
//! use layerpin_sample_registry::{Registry, images::Image};
//!
//! let registry = Registry::start()?;
//! let digest = registry.push("acme/os", Some("4.18"), &Image::base("4.18.1"));
//! println!("{}/acme/os:4.18 is {digest}", registry.host());
//! # Ok::<(), std::io::Error>(())
//! ```

mod closed_port;
mod digest;
mod docker_registry;
mod fault;
mod http;
pub mod images;
mod log;
mod printed;
mod registry;
mod requests;
mod script;
mod server;
mod tls;
mod token_service;

pub use self::closed_port::ClosedPort;
pub use self::digest::digest_of;
pub use self::docker_registry::{DockerRegistry, DockerRegistryBuilder};
pub use self::fault::{Fault, FaultPlan};
pub use self::printed::{keep_printed, keep_secret, printed_file};
pub use self::registry::{Registry, RegistryBuilder};
pub use self::requests::RecordedRequest;
pub use self::script::write_script;
pub use self::tls::{Authority, TlsIdentity};
pub use self::token_service::{TokenFault, TokenField, TokenService, TokenServiceBuilder};
