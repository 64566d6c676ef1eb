//! Release payloads: the list of images inside one, and the operating system images on it.

pub(crate) mod image_stream;
pub(crate) mod layers;
pub(crate) mod payload;
