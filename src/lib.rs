//! Layerpin.
pub mod digest;
pub mod engine;
pub mod evaluate;
pub mod facts;
pub mod image_reference;
pub mod machine_config;
pub mod metrics;
pub mod pattern;
pub mod pin;
pub mod policy;
pub mod record;
pub mod report;
pub mod review;
pub mod rules;
pub mod sources;
