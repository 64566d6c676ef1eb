//! `layerpin serve` from outside: the program itself over TLS, registries on loopback behind it.
//!
//! [`program`] starts it, [`client`] talks to it, [`documents`] has what is said. ConnectionLimits that are too
//! long to wait for are set short in [`embedded`], the same server inside the test's own process.

mod ahead;
mod bad_input;
mod base;
#[path = "../rules/cases.rs"]
mod cases;
mod client;
mod command_line;
mod derived;
mod documents;
mod dry_run;
mod embedded;
mod eventually;
mod faults;
mod genuine;
mod limits;
mod lineage;
mod logs;
mod metrics;
mod mount;
mod mutate;
mod policy;
mod program;
mod registries;
mod reload;
mod same_engine;
mod secrets;
mod shutdown;
mod tls;
#[path = "../registry/tools.rs"]
mod tools;
mod untouched;
mod validate;
#[path = "../registry/workshop.rs"]
mod workshop;
