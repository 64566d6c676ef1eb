//! What becomes of each field, and why.
//!
//! Owns when a field is pinned, when a pin holds, and what becomes of the records. The value that it writes
//! is `repository@digest`, never tag and digest together.

use crate::model::digest::Digest;
use crate::model::facts::cluster::Cluster;
use crate::model::facts::{Cause, Facts};
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::{Field, PerField, Subject, WORKER};
use crate::model::pull_spec::PullSpec;
use crate::model::record::Record;
use crate::pin::{resolved, tag_to_resolve};
use crate::policy::Policy;
use crate::pools::{self, AffectedPool, Winner};

/// Changes to one object, and what was decided about each of its fields.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    fields: PerField<FieldPlan>,
    /// Whether the annotation that asks for a new look-up is removed.
    pub removes_repin: bool,
    pub(super) has_annotations: bool,
}

/// What becomes of one field.
#[derive(Clone, Debug, Default)]
struct FieldPlan {
    /// What it will say. `None` when it stays as it is.
    value: Option<ImageReference>,
    /// Its record: `None` when it stays as it is, `Some(None)` when it is removed.
    record: Option<Option<Record>>,
    decision: Option<PinChange>,
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
        /// The nodes that reboot: a clause that begins with `; `, and nothing where no nodes do.
        reboots: String,
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
        /// The nodes that reboot: a clause that begins with `; `, and nothing where no nodes do.
        reboots: String,
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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// The registry has no such tag.
    #[error("there is no such tag")]
    Absent,
    /// There is no answer.
    #[error("{0}")]
    Unknown(Cause),
    /// Nodes would not find the digest; the reason.
    #[error("{0}")]
    NotForNodes(String),
}

/// Plans what to change in `subject`, so that its images stand by digest and its records are true.
pub fn plan(subject: &Subject, facts: &Facts, policy: &Policy) -> Plan {
    let object = &subject.object;
    let mut plan = Plan { has_annotations: object.has_annotations, ..Plan::default() };
    if policy.pins() {
        plan.fields = Field::ALL.map(|field| FieldPlan::of(subject, field, facts)).into();
        let failed = |field| matches!(plan.decision(field), Some(PinChange::NotPinned { .. }));
        plan.removes_repin = object.repin && !Field::ALL.into_iter().any(failed);
    }
    plan
}

impl FieldPlan {
    /// What is decided, with the value and the record that follow from it.
    fn of(subject: &Subject, field: Field, facts: &Facts) -> Self {
        let object = &subject.object;
        let decision = object.reference(field).and_then(|reference| decide(subject, field, reference, facts));
        let written = match &decision {
            Some(
                PinChange::Pinned { reference, digest, .. } | PinChange::TagDropped { reference, digest },
            ) => Some((reference, digest)),
            Some(PinChange::Kept { tag, digest, .. } | PinChange::RolledForward { tag, to: digest, .. }) => {
                Some((&**tag, digest))
            }
            _ => None,
        };
        let Some((reference, digest)) = written else {
            // The record beside a pinned field may speak of something else.
            let is_pinned = object.reference(field).is_some_and(ImageReference::is_pinned);
            let is_untrue = is_pinned && object.true_record(field).is_none();
            let record = object.record_text(field).filter(|_| is_untrue).map(|_| None);
            return Self { value: None, record, decision };
        };
        let tag = reference.tag().or(reference.effective_tag()).unwrap_or_default();
        let record = Record::new(reference, tag, digest);
        let is_new = record.as_ref().map(Record::to_string).as_deref() != object.record_text(field);
        Self { value: Some(reference.pinned_to(digest)), record: is_new.then_some(record), decision }
    }
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
        return Some(match resolved(&tag, facts) {
            _ if named == Some(&digest) => PinChange::StillCurrent { tag, digest },
            Ok(to) => PinChange::RolledForward { reboots: reboots(&to), tag, from: digest, to },
            Err(why) => PinChange::NotRolled { tag, digest, why },
        });
    }
    // The true record of the stored object, where the same tag is asked for and no new look-up.
    let stored = subject.stored.as_ref().filter(|_| !subject.object.repin);
    let record = stored.and_then(|stored| stored.true_record(field));
    if let Some(record) = record.filter(|record| record.answers(reference)) {
        let digest = record.digest().clone();
        let moved_to = named.filter(|named| **named != digest).cloned();
        return Some(PinChange::Kept { tag: record.pull_spec().clone(), digest, moved_to });
    }
    let reference = reference.clone();
    Some(match resolved(&tag, facts) {
        Ok(digest) => PinChange::Pinned { reference, reboots: reboots(&digest), digest },
        Err(why) => PinChange::NotPinned { reference, why },
    })
}

impl Plan {
    /// Tells whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        let is_unchanged = |field| self.pinned(field).is_none() && self.record(field).is_none();
        Field::ALL.into_iter().all(is_unchanged) && !self.removes_repin
    }

    /// What was decided about `field`; `None` where it is in order.
    pub fn decision(&self, field: Field) -> Option<&PinChange> {
        self.fields[field].decision.as_ref()
    }

    /// What `field` will say. `None` when it stays as it is.
    pub fn pinned(&self, field: Field) -> Option<&ImageReference> {
        self.fields[field].value.as_ref()
    }

    /// What becomes of the record beside `field`: `None` when it stays as it is, `Some(None)` when it
    /// is removed.
    pub fn record(&self, field: Field) -> Option<Option<&Record>> {
        self.fields[field].record.as_ref().map(Option::as_ref)
    }
}

/// Whose nodes reboot when `field` comes to say `pinned`, as far as they are known.
fn reboots(subject: &Subject, field: Field, pinned: &ImageReference, cluster: &Cluster) -> String {
    let stored = subject.stored.as_ref().map(|stored| stored.text(field));
    if stored == Some(pinned.as_str()) {
        return String::new();
    }
    let mut pools = pools::affected(subject, cluster);
    // Where another MachineConfig decides, nothing changes on nodes.
    pools.retain(|pool| !matches!(pool.winner(field, subject, cluster), Winner::Other(_)));
    if let [AffectedPool { name: WORKER, known: None }] = pools[..] {
        return format!("; nodes of pool `{WORKER}` and of custom pools will reboot");
    }
    let reboot = |pool: &AffectedPool<'_>| {
        let nodes = match pool.node_count() {
            None => "nodes".to_owned(),
            Some(1) => "1 node".to_owned(),
            Some(count) => format!("{count} nodes"),
        };
        let is_paused = pool.known.is_some_and(|known| known.paused);
        format!("{nodes} of pool `{}`{}", pool.name, if is_paused { " (once unpaused)" } else { "" })
    };
    match pools.iter().map(reboot).collect::<Vec<_>>().as_slice() {
        [] => String::new(),
        [one] => format!("; {one} will reboot"),
        [first @ .., last] => format!("; {} and {last} will reboot", first.join(", ")),
    }
}
