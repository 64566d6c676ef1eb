//! Layerpin guards `MachineConfig.spec.osImageURL` on OpenShift: the one field that replaces the
//! operating system of a whole pool of nodes.
//!
//! One engine stands behind every door. The road of a review, from the socket to the verdict:
//!
//! ```text
//! server::connection ─▶ server::webhook ─▶ review::decode ─▶ machine_config::Subject
//!      (TLS, limits)       (budget)                                 │
//!                                                                   ▼
//!   review::respond ◀─ evaluate / pin::plan ◀─ facts::Facts ◀─ sources::Sources
//!      (bytes)          (pure: rules, policy)     (plain data)   (the only outward questions)
//! ```
//!
//! - [`image_reference`], [`digest`], [`record`]: what is written in the field, and what was.
//! - [`machine_config`]: the few fields that are judged.
//! - [`documents`]: the MachineConfigs in a file, each with the places of its values.
//! - [`facts`]: what is known of the outside; a failed question is a fact of its own kind.
//! - [`pools`], [`lineage`], [`os_version`]: whom an object reaches, and what its image is built on.
//! - [`rules`], [`policy`], [`mod@evaluate`]: what is seen, what it costs, what that comes to.
//! - [`pin`]: what to write instead of a tag. [`edit`] writes it into a text, [`replace`] into a file.
//! - [`question`], [`sources`]: what is asked of the outside, and who answers. [`engine`] ties the
//!   steps together for one object, [`run`] for many.
//! - [`review`], [`report`]: the words that go back. [`server`], [`tls`]: the door itself.

pub mod cli;
pub mod commands;
pub mod digest;
pub mod documents;
pub mod duration;
pub mod edit;
pub mod engine;
pub mod errors;
pub mod evaluate;
pub mod explain;
pub mod facts;
pub mod files;
pub mod image_reference;
mod last_seen;
pub mod lineage;
pub mod log;
pub mod machine_config;
pub mod metrics;
pub mod os_version;
pub mod pattern;
pub mod pin;
pub mod policy;
pub mod pools;
pub mod question;
pub mod record;
pub mod replace;
pub mod report;
pub mod review;
pub mod rules;
pub mod run;
pub mod server;
pub mod sources;
pub mod tls;

/// Makes aws-lc-rs the one TLS provider of the process. To be called before anything else; calling
/// it again does nothing.
pub fn install_crypto_provider() {
    // It fails only when a provider is installed already, and there is no other in this program.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
