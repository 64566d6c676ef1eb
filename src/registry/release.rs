//! Release payloads: the image stream inside one, and the operating system images that it names.

pub(crate) mod image_stream;
pub(crate) mod layers;
pub(crate) mod payload;
