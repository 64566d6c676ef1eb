//! The cluster source against an API server on loopback that speaks the real protocol and has the
//! faults of real ones. What only the real API server can show is in `tests/e2e`.
//!
//! [`api_server`] is that server, [`objects`] has what it serves, and [`known`] follows it inside the
//! test's own process.

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
