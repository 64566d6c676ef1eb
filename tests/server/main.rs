//! `layerpin serve` from outside: the program itself over TLS, registries on loopback behind it.
//!
//! [`answers`] has the answers that are expected. Limits that are too long to wait for are set short in
//! [`embedded`], the same server inside the test's own process.

mod answers;
mod bad_input;
mod base;
#[path = "../rules/cases.rs"]
mod cases;
mod command_line;
mod derived;
mod dry_run;
mod embedded;
mod faults;
mod genuine;
mod limits;
mod lineage;
mod logs;
mod metrics;
mod mutate;
mod policy;
mod prefetch;
mod registries;
mod reload;
mod same_engine;
mod secrets;
mod shutdown;
mod tls;
mod untouched;
mod validate;
