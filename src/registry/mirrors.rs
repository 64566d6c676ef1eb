//! Where the images of a reference are pulled from: mirrors of `registries.conf` and of the cluster, in the order that
//! nodes use.

pub(crate) mod endpoints;
pub mod mirror_sets;
pub mod registries_conf;
pub(crate) mod registries_toml;
pub mod route;
