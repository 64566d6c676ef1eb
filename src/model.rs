//! What is judged and what is known of the outside, as plain data: no I/O, no clock, no tokio.

pub mod digest;
pub mod facts;
pub mod field;
pub mod image_reference;
pub mod level;
pub mod machine_config;
pub mod os_version;
pub mod pattern;
pub mod pull_spec;
pub mod question;
pub mod record;
