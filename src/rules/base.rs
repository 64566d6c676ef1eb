//! Rules on the base that the image is built on.

pub(super) mod foreign_base;
pub(super) mod older_os;
pub(super) mod stale_base;
pub(super) mod stream_mismatch;
pub(super) mod unprovable_base;
