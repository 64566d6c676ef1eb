//! Credentials for registries: where they are read, which of them a repository gets, and the tokens that they are
//! exchanged for.

pub(crate) mod auth_file;
pub(crate) mod challenge;
pub(crate) mod credential;
pub(crate) mod helper;
pub mod keychain;
pub(crate) mod token;
