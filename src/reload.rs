//! Files that are read again while the program runs: has their content changed?
//!
//! The content is compared rather than watched, because a mounted ConfigMap or Secret changes by a
//! swap of symlinks, after which a watch on the file is dead. The same content, sound or broken, is
//! told of once.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use crate::model::digest::Digest;

/// What the last look at some files brought: the digest of their content, or why there was none.
#[derive(Debug, Default)]
pub(crate) struct LastSeen(Mutex<Option<Result<Digest, String>>>);

impl LastSeen {
    /// Remembers `content` and tells whether it is another than at the last look.
    pub(crate) fn is_new<E: Display>(&self, content: Result<&[u8], &E>) -> bool {
        let now = content.map(Digest::of).map_err(ToString::to_string);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = seen.as_ref() != Some(&now);
        *seen = Some(now);
        is_new
    }
}

/// Whether reading a file again brought anything new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// Its content is as it was.
    Same,
    /// Its content is another, and in force.
    Changed,
}
