//! Layerpin guards `MachineConfig.spec.osImageURL` on OpenShift: the one field that replaces the
//! operating system of a whole pool of nodes.
//!
//! One engine serves every entry point. The path of a review, from the socket to the verdict:
//!
//! ```text
//! server::connections ─▶ server::webhook ─▶ admission::decode ─▶ Subject
//!   (TLS, limits)         (time budget)                            │
//!                                                                  ▼
//!             facts ◀─ sources (registry, cluster) ◀─ engine::resolve ─▶ pin::step, evaluate::step
//!                       (the only requests sent)      (asks until          (pure: rules, lineage, policy)
//!                                                      nothing is missing)        │
//!                                                                                 ▼
//!                                                                        admission::respond
//! ```
//!
//! The layers, the lowest first; a module imports only from layers below its own:
//!
//! - [`text`], [`errors`], [`duration`], [`bounded`]: small tools.
//! - [`model`]: image references, the fields of a MachineConfig, facts, questions. Plain data.
//! - [`catalog`], [`policy`]: the list of rules, and the levels that a policy gives them.
//! - [`pools`], [`lineage`], [`pin`], [`rules`], [`mod@evaluate`], [`messages`]: the decisions, from plain data.
//! - [`manifests`]: the MachineConfigs in a text, and edits to it. [`report`], [`explain`]: output.
//! - [`reload`], [`atomic_file`], [`log`], [`metrics`], [`policy_store`], [`tls`]: what touches the system.
//! - [`registry`], [`cluster`], [`sources`]: where answers come from.
//! - [`engine`]: the one loop of questions and answers.
//! - [`admission`], [`server`], [`cli`]: the entry points.

#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a panic while a review is answered becomes the decision of `failurePolicy`"
    )
)]
#![cfg_attr(
    not(test),
    warn(clippy::fn_params_excessive_bools, reason = "a bare `true` at a call says nothing; use an enum")
)]
#![warn(
    clippy::print_stdout,
    reason = "`println!` panics when the reader closes the pipe; use `cli::output`"
)]

pub mod admission;
pub mod atomic_file;
pub(crate) mod bounded;
pub mod catalog;
pub mod cli;
pub mod cluster;
pub(crate) mod duration;
pub mod engine;
pub mod errors;
pub mod evaluate;
pub mod explain;
pub mod lineage;
pub mod log;
pub mod manifests;
pub mod messages;
pub mod metrics;
pub mod model;
pub mod pin;
pub mod policy;
pub mod policy_store;
pub mod pools;
pub mod registry;
pub mod reload;
pub mod report;
pub mod rules;
pub mod server;
pub mod sources;
pub(crate) mod text;
pub mod tls;

/// The allocator of the process: a review needs a twelfth fewer instructions than with that of glibc. It is built without
/// huge pages, which would make the process twice as large. jemalloc is as fast, but built for one page size, and nodes
/// may have pages of 4 or 64 KiB.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Makes aws-lc-rs the one TLS provider of the process. To be called before anything else; calling
/// it again does nothing.
pub fn install_crypto_provider() {
    // It fails only when a provider is installed already, and there is no other in this program.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
