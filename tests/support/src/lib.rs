//! What the test suites, the benchmarks and the demo share.
//!
//! - [`program`] starts the program under test, waits for its addresses and reads its log.
//! - [`client`] sends requests to it.
//! - [`os_registry`] is a registry with one image.
//! - [`documents`] builds MachineConfigs, reviews, policies, facts and other input.
//! - [`eventually`] repeats a check until a condition holds.
//! - [`tools`] finds external tools, and skips a test without them.
//! - [`kubernetes`] has the arguments and files of a real API server.
//! - [`workshop`] builds images with some of those tools.
//! - [`measure`] is for the benchmarks.
//! - [`mount`] swaps files as the kubelet does.
//!
//! Nothing here depends on the library under test, so that a test compares it only with what is written
//! in the test itself.

pub mod client;
pub mod documents;
pub mod eventually;
pub mod kubernetes;
pub mod measure;
pub mod mount;
pub mod os_registry;
pub mod program;
pub mod tools;
pub mod workshop;

use std::path::Path;

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}
