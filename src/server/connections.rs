//! Connections: how they are accepted, limited, served and ended.
//!
//! [`listener`] accepts them, [`limits`] says how many and for how long, [`connection`] serves them, [`frames`] finds
//! the heads of HTTP/2 requests, and [`handshake`] logs handshakes that fail.

mod connection;
mod frames;
mod handshake;
pub(super) mod limits;
pub(super) mod listener;
