//! The cluster source against an API server on loopback that speaks the real protocol and has the
//! faults of real ones. What only the real API server can show is in `tests/e2e`.
//!
//! [`api_server`] is that server, [`objects`] has what it serves, and [`known`] follows it inside the
//! test's own process; [`program`] starts the program itself.

mod access;
mod api_server;
#[path = "../server/client.rs"]
#[expect(dead_code, reason = "the tests of the server use more of it")]
mod client;
mod credentials;
#[path = "../server/documents.rs"]
#[expect(dead_code, reason = "the tests of the server use more of it")]
mod documents;
mod dry_run;
#[path = "../server/eventually.rs"]
mod eventually;
mod faults;
mod kinds;
mod known;
mod lineage;
mod objects;
#[path = "../server/program.rs"]
#[expect(dead_code, reason = "the tests of the server use more of it")]
mod program;
mod settings;
mod tls;
