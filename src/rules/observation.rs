//! What a rule reports, before the policy gives it a level.

use crate::lineage::{Lineage, MissingFact};
use crate::messages;
use crate::model::facts::image::Platform;
use crate::model::machine_config::Field;

/// What a rule reports on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The field.
    pub field: Field,
    /// Whether the fault was found, or could not be ruled out.
    pub certainty: Certainty,
    /// What is wrong with this object: one phrase.
    pub message: String,
    /// Further facts that explain it.
    pub notes: Vec<String>,
    /// One thing to do.
    pub help: String,
    /// The fact that could not be had. Of several observations on one field that lack the same fact only
    /// the strictest is reported.
    pub missing: Option<MissingFact>,
    /// The id of a rule that reports the same fault. While that rule is on, this is not reported.
    pub covered_by: Option<&'static str>,
}

/// Whether a fault was found or could not be ruled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// The fault was found.
    Fault,
    /// A minor form of the fault was found: it is a warning even where the rule denies.
    Minor,
    /// A fact that would decide is not known.
    Unknown,
}

impl Observation {
    pub(super) fn new(field: Field, certainty: Certainty, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            field,
            certainty,
            message,
            notes: Vec::new(),
            help: String::new(),
            missing: None,
            covered_by: None,
        }
    }

    pub(super) fn fault(field: Field, message: impl Into<String>) -> Self {
        Self::new(field, Certainty::Fault, message)
    }

    pub(super) fn note(self, note: impl Into<String>) -> Self {
        self.notes([note.into()])
    }

    pub(super) fn notes(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: help.into(), ..self }
    }

    pub(super) fn missing(self, missing: Option<MissingFact>) -> Self {
        Self { missing, ..self }
    }

    pub(super) fn covered_by(self, rule: &'static str) -> Self {
        Self { covered_by: Some(rule), ..self }
    }
}

/// Where in a cluster something was observed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PoolPlatform<'a> {
    pub(super) pool: Option<&'a str>,
    pub(super) platform: Option<&'a Platform>,
}

impl<'a> From<&'a Lineage> for PoolPlatform<'a> {
    fn from(lineage: &'a Lineage) -> Self {
        Self { pool: lineage.pool.as_deref(), platform: lineage.platform.as_ref() }
    }
}

/// Merges equal observations into one, with a note that lists their pools and platforms.
pub(super) fn merged<'a>(
    observations: impl IntoIterator<Item = (Observation, PoolPlatform<'a>)>,
) -> Vec<Observation> {
    let mut merged: Vec<(Observation, Vec<PoolPlatform<'a>>)> = Vec::new();
    for (observation, place) in observations {
        match merged.iter_mut().find(|(earlier, _)| *earlier == observation) {
            Some((_, places)) => places.push(place),
            None => merged.push((observation, vec![place])),
        }
    }
    merged.into_iter().map(|(observation, places)| observation.notes(list_places(&places))).collect()
}

/// `in pools `infra` and `worker`, on linux/amd64`. `None` when no place is known.
fn list_places(places: &[PoolPlatform<'_>]) -> Option<String> {
    let sorted = |mut items: Vec<String>| {
        items.sort_unstable();
        items.dedup();
        items
    };
    let pools = sorted(places.iter().filter_map(|place| Some(format!("`{}`", place.pool?))).collect());
    let platforms = sorted(places.iter().filter_map(|place| Some(place.platform?.to_string())).collect());
    let mut parts = Vec::new();
    if !pools.is_empty() {
        parts.push(format!("in {}", messages::pools(&pools)));
    }
    if !platforms.is_empty() {
        parts.push(format!("on {}", messages::list(&platforms)));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}
