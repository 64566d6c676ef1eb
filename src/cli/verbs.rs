//! The verbs: what each of them runs.

pub mod base;
pub mod check;
pub mod completions;
pub mod explain;
pub mod pin;
pub mod rules;
pub mod serve;
