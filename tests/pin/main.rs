//! `layerpin pin` as its users meet it: whole outputs, the bytes of the files, and what is refused.

mod bad_input;
mod files;
mod generated;
mod manifests;
mod mirrors;
mod outputs;
mod program;
