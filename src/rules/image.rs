//! Rules on the image that the reference names.

pub(super) mod not_bootable;
pub(super) mod single_platform_digest;
pub(super) mod unpullable_image;
pub(super) mod wrong_architecture;
