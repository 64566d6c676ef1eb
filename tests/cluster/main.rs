//! The cluster source with an API server on loopback that serves the real protocol and has the faults of real
//! ones. Tests that need a real API server are in `tests/e2e`.
//!
//! [`api_server`] is that server, [`objects`] has what it serves, and [`known`] reads it inside the test's own
//! process.

mod access;
mod api_server;
mod credentials;
mod dry_run;
mod faults;
mod kinds;
mod known;
mod lineage;
mod objects;
mod settings;
mod tls;
