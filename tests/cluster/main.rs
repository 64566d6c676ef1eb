//! The cluster source against an API server on loopback that speaks the real protocol and has the
//! faults of real ones. What only the real API server can show is in `tests/e2e`.
//!
//! [`api_server`] is that server, [`objects`] has what it serves, and [`known`] follows it inside the
//! test's own process.

#![expect(dead_code, reason = "the tests of dry-run access and credentials use the rest")]

mod api_server;
#[path = "../server/eventually.rs"]
mod eventually;
mod faults;
mod kinds;
mod known;
mod objects;
