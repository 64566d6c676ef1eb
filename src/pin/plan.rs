//! What becomes of each field, and why.
//!
//! Owns when a field is pinned, when a pin holds, and what becomes of the records. The value that it writes
//! is `repository@digest`, never tag and digest together.

use std::fmt;

use crate::model::digest::Digest;
use crate::model::facts::cluster::Cluster;
use crate::model::facts::{Cause, Fact, Facts};
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::{Field, Object, Subject, WORKER};
use crate::model::pull_spec::PullSpec;
use crate::model::record::Record;
use crate::pin::{confirmed, tag_to_resolve};
use crate::policy::Policy;
use crate::pools::{self, AffectedPool, Winner};

/// Changes to one object, and what was decided about each of its fields.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub(super) values: Vec<(Field, ImageReference)>,
    pub(super) records: Vec<(Field, Option<Record>)>,
    pub(super) decisions: Vec<(Field, PinChange)>,
    pub(super) removes_repin: bool,
    pub(super) has_annotations: bool,
}

/// What was decided about a field that had anything to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinChange {
    /// The digest that the tag names takes its place.
    Pinned {
        /// The reference as it was written.
        reference: ImageReference,
        /// The digest.
        digest: Digest,
        /// The nodes that reboot.
        reboots: Reboots,
    },
    /// The tag beside a digest is dropped.
    TagDropped {
        /// The reference as it was written.
        reference: ImageReference,
        /// The digest, which stays.
        digest: Digest,
    },
    /// The digest that the stored object has for the same tag is kept.
    Kept {
        /// The tag.
        tag: PullSpec,
        /// The digest.
        digest: Digest,
        /// What the tag names by now, where that is something else.
        moved_to: Option<Digest>,
    },
    /// The recorded tag was resolved again and names another digest now.
    RolledForward {
        /// The recorded tag.
        tag: PullSpec,
        /// The digest that the field had.
        from: Digest,
        /// The digest that it gets.
        to: Digest,
        /// The nodes that reboot.
        reboots: Reboots,
    },
    /// The recorded tag was resolved again and names the same digest.
    StillCurrent {
        /// The recorded tag.
        tag: PullSpec,
        /// The digest.
        digest: Digest,
    },
    /// The tag stays, because its digest is not known.
    NotPinned {
        /// The reference as it was written.
        reference: ImageReference,
        /// Why its digest is not known.
        why: Unresolved,
    },
    /// The digest stays, because it is not known what the recorded tag names now.
    NotRolled {
        /// The recorded tag.
        tag: PullSpec,
        /// The digest.
        digest: Digest,
        /// Why it is not known.
        why: Unresolved,
    },
    /// A new look-up was asked for, and there is no record of a tag to resolve.
    NoRecord {
        /// The reference as it was written.
        reference: ImageReference,
    },
}

/// Why the digest of a tag is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// The registry has no such tag.
    Absent,
    /// There is no answer.
    Unknown(Cause),
    /// Nodes would not find the digest; the reason.
    NotForNodes(String),
}

/// The nodes that reboot when a field changes, as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reboots {
    /// Those of these pools.
    Pools(Vec<PoolReboot>),
    /// Pools are not known: those of `worker`, and of custom pools.
    WorkersAndCustom,
}

/// A pool whose nodes reboot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolReboot {
    /// The pool.
    pub name: String,
    /// How many nodes it has, where that is known.
    pub nodes: Option<u32>,
    /// Whether it is paused, and its nodes reboot only once it no longer is.
    pub is_paused: bool,
}

/// Plans what to change in `subject`, so that its images stand by digest and its records are true.
pub fn plan(subject: &Subject, facts: &Facts, policy: &Policy) -> Plan {
    let object = &subject.object;
    let mut plan = Plan { has_annotations: object.has_annotations, ..Plan::default() };
    if !policy.pins() {
        return plan;
    }
    for field in Field::ALL {
        if let Some(reference) = object.reference(field)
            && let Some(change) = decide(subject, field, reference, facts)
        {
            plan.carry_out(object, field, change);
        }
        if plan.pinned(field).is_none() && object.record_text(field).is_some_and(|_| is_untrue(object, field))
        {
            plan.records.push((field, None));
        }
    }
    let failed = |(_, change): &(Field, PinChange)| matches!(change, PinChange::NotPinned { .. });
    plan.removes_repin = object.repin && !plan.decisions.iter().any(failed);
    plan
}

/// What becomes of a field. `None` where it is in order.
fn decide(subject: &Subject, field: Field, reference: &ImageReference, facts: &Facts) -> Option<PinChange> {
    if let (Some(digest), Some(_)) = (reference.digest(), reference.tag()) {
        return Some(PinChange::TagDropped { reference: reference.clone(), digest: digest.clone() });
    }
    let Some(tag) = tag_to_resolve(&subject.object, field) else {
        return subject.object.repin.then(|| PinChange::NoRecord { reference: reference.clone() });
    };
    let named = facts.manifest(&tag).known().map(|manifest| &manifest.digest);
    let reboots = |digest: &Digest| reboots(subject, field, &tag.pinned_to(digest), &facts.cluster);
    if let Some(digest) = reference.digest() {
        let digest = digest.clone();
        return Some(match resolve(&tag, facts) {
            _ if named == Some(&digest) => PinChange::StillCurrent { tag, digest },
            Ok(to) => PinChange::RolledForward { reboots: reboots(&to), tag, from: digest, to },
            Err(why) => PinChange::NotRolled { tag, digest, why },
        });
    }
    if let Some(record) = held(subject, field, reference) {
        let digest = record.digest().clone();
        let moved_to = named.filter(|named| **named != digest).cloned();
        return Some(PinChange::Kept { tag: record.pull_spec().clone(), digest, moved_to });
    }
    let reference = reference.clone();
    Some(match resolve(&tag, facts) {
        Ok(digest) => PinChange::Pinned { reference, reboots: reboots(&digest), digest },
        Err(why) => PinChange::NotPinned { reference, why },
    })
}

/// The true record of the stored object, where `reference` asks for the same tag and no new look-up is
/// asked for.
fn held(subject: &Subject, field: Field, reference: &ImageReference) -> Option<Record> {
    let stored = subject.stored.as_ref().filter(|_| !subject.object.repin)?;
    stored.true_record(field).filter(|record| record.answers(reference))
}

/// The digest that `tag` names, where nodes can pull it.
fn resolve(tag: &PullSpec, facts: &Facts) -> Result<Digest, Unresolved> {
    match facts.manifest(tag) {
        Fact::Known(manifest) => match confirmed(tag, manifest, facts) {
            Ok(()) => Ok(manifest.digest.clone()),
            Err(reason) => Err(Unresolved::NotForNodes(reason)),
        },
        Fact::Absent => Err(Unresolved::Absent),
        Fact::Unknown(cause) => Err(Unresolved::Unknown(cause.clone())),
    }
}

/// Whether the record beside a pinned field speaks of something else.
fn is_untrue(object: &Object, field: Field) -> bool {
    let is_pinned = object.reference(field).is_some_and(ImageReference::is_pinned);
    is_pinned && object.true_record(field).is_none()
}

impl Plan {
    /// Tells whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.records.is_empty() && !self.removes_repin
    }

    /// What was decided about `field`; `None` where it is in order.
    pub fn decision(&self, field: Field) -> Option<&PinChange> {
        self.decisions.iter().find(|(decided, _)| *decided == field).map(|(_, change)| change)
    }

    /// What `field` will say. `None` when it stays as it is.
    pub fn pinned(&self, field: Field) -> Option<&ImageReference> {
        self.values.iter().find(|(changed, _)| *changed == field).map(|(_, reference)| reference)
    }

    /// What becomes of the record beside `field`: `None` when it stays as it is, `Some(None)` when it
    /// is removed.
    pub fn record(&self, field: Field) -> Option<Option<&Record>> {
        self.records.iter().find(|(changed, _)| *changed == field).map(|(_, record)| record.as_ref())
    }

    /// Tells whether the annotation that asks for a new look-up is removed.
    pub fn removes_repin(&self) -> bool {
        self.removes_repin
    }

    /// Notes a decision, with the value and the record that follow from it.
    fn carry_out(&mut self, object: &Object, field: Field, change: PinChange) {
        let written = match &change {
            PinChange::Pinned { reference, digest, .. } => {
                Some((reference, reference.effective_tag().unwrap_or_default(), digest))
            }
            PinChange::TagDropped { reference, digest } => {
                Some((reference, reference.tag().unwrap_or_default(), digest))
            }
            PinChange::Kept { tag, digest, .. } | PinChange::RolledForward { tag, to: digest, .. } => {
                Some((&**tag, tag.tag().unwrap_or_default(), digest))
            }
            PinChange::StillCurrent { .. }
            | PinChange::NotPinned { .. }
            | PinChange::NotRolled { .. }
            | PinChange::NoRecord { .. } => None,
        };
        if let Some((reference, tag, digest)) = written {
            self.values.push((field, reference.pinned_to(digest)));
            let record = Record::new(reference, tag, digest);
            if record.as_ref().map(Record::to_string).as_deref() != object.record_text(field) {
                self.records.push((field, record));
            }
        }
        self.decisions.push((field, change));
    }
}

/// Whose nodes reboot when `field` comes to say `pinned`.
fn reboots(subject: &Subject, field: Field, pinned: &ImageReference, cluster: &Cluster) -> Reboots {
    let stored = subject.stored.as_ref().map(|stored| stored.text(field));
    if stored == Some(pinned.as_str()) {
        return Reboots::Pools(Vec::new());
    }
    let mut pools = pools::affected(subject, cluster);
    // Where another MachineConfig decides, nothing changes on nodes.
    pools.retain(|pool| !matches!(pool.winner(field, subject, cluster), Winner::Other(_)));
    if let [AffectedPool { name: WORKER, known: None }] = pools[..] {
        return Reboots::WorkersAndCustom;
    }
    let reboot = |pool: &AffectedPool<'_>| PoolReboot {
        name: pool.name.to_owned(),
        nodes: pool.node_count(),
        is_paused: pool.known.is_some_and(|known| known.paused),
    };
    Reboots::Pools(pools.iter().map(reboot).collect())
}

impl fmt::Display for Unresolved {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => formatter.write_str("there is no such tag"),
            Self::Unknown(cause) => cause.fmt(formatter),
            Self::NotForNodes(reason) => formatter.write_str(reason),
        }
    }
}

impl fmt::Display for Reboots {
    /// Writes a clause that begins with `; `, and nothing where no nodes reboot.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Pools(pools) = self else {
            return write!(formatter, "; nodes of pool `{WORKER}` and of custom pools will reboot");
        };
        for (index, pool) in pools.iter().enumerate() {
            formatter.write_str(match index {
                0 => "; ",
                _ if index + 1 == pools.len() => " and ",
                _ => ", ",
            })?;
            pool.fmt(formatter)?;
        }
        formatter.write_str(if pools.is_empty() { "" } else { " will reboot" })
    }
}

impl fmt::Display for PoolReboot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nodes {
            None => formatter.write_str("nodes")?,
            Some(1) => formatter.write_str("1 node")?,
            Some(count) => write!(formatter, "{count} nodes")?,
        }
        let paused = if self.is_paused { " (once unpaused)" } else { "" };
        write!(formatter, " of pool `{}`{paused}", self.name)
    }
}
