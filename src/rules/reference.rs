//! Rules on the image reference as it is written.

pub(super) mod floating_tag;
pub(super) mod malformed_reference;
pub(super) mod registry_not_allowed;
