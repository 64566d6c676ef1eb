//! Rules on the pools that take the object.

pub(super) mod extensions_clash;
pub(super) mod shadowed_override;
pub(super) mod stream_conflict;
