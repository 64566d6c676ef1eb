//! What to write instead of a tag, and the record of it.
//!
//! Owns when a field is pinned, when a pin holds, and what becomes of the annotations. A plan never
//! judges: where the digest is not known it changes nothing and says so, and leaves the verdict to
//! the rules. The value that it writes is `repository@digest`, never tag and digest together.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::Value;

use crate::model::digest::Digest;
use crate::model::facts::cluster::Cluster;
use crate::model::facts::{Fact, Facts, Manifest};
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::{Field, Object, REPIN_ANNOTATION, Subject, WORKER};
use crate::model::pull_spec::PullSpec;
use crate::model::question::{Freshness, Question, Step};
use crate::model::record::Record;
use crate::policy::Policy;
use crate::pools::{self, AffectedPool, Winner};
use crate::text::shown;

/// What is still to be asked before `reference` can be pinned, a digest that `facts` name included: one
/// that was found elsewhere than in the registry of the reference is asked for again, because nodes pull
/// digests from mirrors that may not be those for tags.
pub fn look_ups(reference: &PullSpec, freshness: Freshness, facts: &Facts) -> Vec<Question> {
    let manifest = Question::manifest(reference.clone(), freshness);
    let by_digest = facts.manifest(reference).known().and_then(|manifest| {
        let is_elsewhere = manifest.endpoint != reference.api_host();
        let digest = || Question::manifest(reference.pinned_to(&manifest.digest), Freshness::Cached);
        is_elsewhere.then(digest)
    });
    let questions = [Some(manifest), by_digest].into_iter().flatten();
    questions.filter(|question| !question.is_answered_by(facts)).collect()
}

/// Plans what to change in `subject` once `facts` hold all that the plan depends on.
pub fn step(subject: &Subject, facts: &Facts, policy: &Policy) -> Step<Plan> {
    let freshness = if subject.object.repin { Freshness::Fresh } else { Freshness::Cached };
    let tags = Field::ALL.into_iter().filter(|_| policy.pins());
    let tags = tags.filter_map(|field| asked(&subject.object, field));
    let missing = tags.flat_map(|tag| look_ups(&tag, freshness, facts)).collect();
    Step::after(missing, || plan(subject, facts, policy))
}

/// Plans what to change in `subject`, so that its images stand by digest and its records are true.
pub fn plan(subject: &Subject, facts: &Facts, policy: &Policy) -> Plan {
    let mut plan = Plan { has_annotations: subject.object.has_annotations, ..Plan::default() };
    if !policy.pins() {
        return plan;
    }
    for field in Field::ALL {
        if let Some(reference) = subject.object.reference(field) {
            plan.field(subject, field, reference, facts);
        }
    }
    plan.settle_repin(subject);
    plan
}

/// Changes to one object, and what its author is told about them.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    changes: Vec<(Field, ImageReference)>,
    records: Vec<(Field, Option<Record>)>,
    removes_repin: bool,
    has_annotations: bool,
    unanswered: bool,
    /// What the author is told, a sentence each.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Tells whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.records.is_empty() && !self.removes_repin
    }

    /// What `field` will say. `None` when it stays as it is.
    pub fn pinned(&self, field: Field) -> Option<&ImageReference> {
        self.changes.iter().find(|(changed, _)| *changed == field).map(|(_, reference)| reference)
    }

    /// What becomes of the record beside `field`: `None` when it stays as it is, `Some(None)` when it
    /// goes.
    pub fn record(&self, field: Field) -> Option<Option<&Record>> {
        self.records.iter().find(|(changed, _)| *changed == field).map(|(_, record)| record.as_ref())
    }

    /// Tells whether the annotation that asks for a fresh look goes.
    pub fn removes_repin(&self) -> bool {
        self.removes_repin
    }

    /// The changes as a JSON patch (RFC 6902) on the object under review.
    pub fn patch(&self) -> Patch {
        let mut operations = Vec::new();
        for (field, reference) in &self.changes {
            operations.push(PatchOperation::Replace(ReplaceOperation {
                path: PointerBuf::from_tokens(["spec", field.key()]),
                value: Value::from(reference.as_str()),
            }));
        }
        let annotation = |key: &str| PointerBuf::from_tokens(["metadata", "annotations", key]);
        if !self.has_annotations && self.records.iter().any(|(_, record)| record.is_some()) {
            // A member cannot be added to a map that is not there.
            let entries = self.records.iter().filter_map(|(field, record)| {
                Some((field.record_annotation().to_owned(), Value::from(record.as_ref()?.to_string())))
            });
            operations.push(PatchOperation::Add(AddOperation {
                path: PointerBuf::from_tokens(["metadata", "annotations"]),
                value: Value::Object(entries.collect()),
            }));
            return Patch(operations);
        }
        for (field, record) in &self.records {
            let path = annotation(field.record_annotation());
            operations.push(match record {
                Some(record) => {
                    PatchOperation::Add(AddOperation { path, value: Value::from(record.to_string()) })
                }
                None => PatchOperation::Remove(RemoveOperation { path }),
            });
        }
        if self.removes_repin {
            operations.push(PatchOperation::Remove(RemoveOperation { path: annotation(REPIN_ANNOTATION) }));
        }
        Patch(operations)
    }

    /// The subject as it stands after the patch.
    pub fn apply(&self, subject: &Subject) -> Subject {
        let mut after = subject.clone();
        for (field, reference) in &self.changes {
            after.object.set_reference(*field, reference.clone());
        }
        for (field, record) in &self.records {
            after.object.set_record(*field, record.as_ref().map(Record::to_string));
        }
        after.object.repin &= !self.removes_repin;
        after
    }

    fn field(&mut self, subject: &Subject, field: Field, reference: &ImageReference, facts: &Facts) {
        let object = &subject.object;
        let key = field.key();
        let held = subject.stored.as_ref().filter(|_| !object.repin).and_then(|stored| {
            let record = stored.true_record(field)?;
            record.answers(reference).then_some(record)
        });
        match (reference.digest(), reference.tag()) {
            (Some(digest), Some(tag)) => {
                self.pin(object, field, reference, tag, digest);
                self.warnings.push(format!(
                    "{key}: dropped the tag `{tag}`, because nodes refuse tag and digest together; kept {}",
                    digest.short()
                ));
            }
            (Some(digest), None) => {
                let record = object.true_record(field);
                match record.as_ref().filter(|_| object.repin) {
                    Some(record) => self.look_again(subject, field, record, digest, facts),
                    None if record.is_none() && object.record_text(field).is_some() => {
                        self.records.push((field, None));
                    }
                    None => {}
                }
            }
            (None, _) => match (held, facts.manifest(&reference.pull_spec())) {
                (Some(record), fact) => self.hold(object, field, &record, fact_digest(fact)),
                (None, Fact::Known(manifest)) => {
                    if let Err(reason) = confirmed(&reference.pull_spec(), manifest, facts) {
                        self.unanswered = true;
                        self.warnings.push(format!("{key}: `{reference}` not pinned: {reason}"));
                        return;
                    }
                    let tag = reference.effective_tag().unwrap_or_default();
                    self.pin(object, field, reference, tag, &manifest.digest);
                    let rolls = rolls(subject, field, &reference.pinned_to(&manifest.digest), &facts.cluster);
                    self.warnings
                        .push(format!("{key}: pinned `{reference}` to {}{rolls}", manifest.digest.short()));
                }
                (None, Fact::Absent) => {
                    self.unanswered = true;
                    self.warnings.push(format!(
                        "{key}: not pinned, because {} has no `{}`",
                        reference.host(),
                        reference.pull_spec()
                    ));
                }
                (None, Fact::Unknown(cause)) => {
                    self.unanswered = true;
                    self.warnings.push(format!("{key}: `{reference}` not pinned: {cause}"));
                }
            },
        }
    }

    fn hold(&mut self, object: &Object, field: Field, record: &Record, named_now: Option<&Digest>) {
        let key = field.key();
        let (asked, digest) = (record.pull_spec(), record.digest());
        self.pin(object, field, asked, asked.tag().unwrap_or_default(), digest);
        self.warnings.push(match named_now.filter(|now| *now != digest) {
            Some(moved) => format!(
                "{key}: kept {} though `{asked}` now names {}; to roll forward, annotate it {REPIN_ANNOTATION}=true",
                digest.short(),
                moved.short()
            ),
            None => format!(
                "{key}: kept {}, to which `{asked}` was pinned; to look again, annotate it {REPIN_ANNOTATION}=true",
                digest.short()
            ),
        });
    }

    fn look_again(
        &mut self,
        subject: &Subject,
        field: Field,
        record: &Record,
        digest: &Digest,
        facts: &Facts,
    ) {
        let key = field.key();
        let asked = record.pull_spec();
        match facts.manifest(asked) {
            Fact::Known(manifest) if manifest.digest == *digest => {
                self.warnings.push(format!("{key}: `{asked}` still names {}", digest.short()));
            }
            Fact::Known(manifest) => {
                if let Err(reason) = confirmed(asked, manifest, facts) {
                    self.warnings.push(format!("{key}: kept {}: {reason}", digest.short()));
                    return;
                }
                self.pin(&subject.object, field, asked, asked.tag().unwrap_or_default(), &manifest.digest);
                let rolls = rolls(subject, field, &asked.pinned_to(&manifest.digest), &facts.cluster);
                self.warnings.push(format!("{key}: pinned `{asked}` to {}{rolls}", manifest.digest.short()));
            }
            Fact::Absent => self.warnings.push(format!(
                "{key}: kept {}, because {} no longer has `{asked}`",
                digest.short(),
                asked.host()
            )),
            Fact::Unknown(cause) => {
                self.warnings.push(format!("{key}: kept {}: `{asked}`: {cause}", digest.short()));
            }
        }
    }

    fn pin(&mut self, object: &Object, field: Field, asked: &ImageReference, tag: &str, digest: &Digest) {
        self.changes.push((field, asked.pinned_to(digest)));
        let record = Record::new(asked, tag, digest);
        let written = record.as_ref().map(Record::to_string);
        if written.as_deref() != object.record_text(field) {
            self.records.push((field, record));
        }
    }

    fn settle_repin(&mut self, subject: &Subject) {
        if !subject.object.repin || self.unanswered {
            return;
        }
        self.removes_repin = true;
        let looked = Field::ALL.iter().any(|field| asked(&subject.object, *field).is_some());
        if !looked {
            self.warnings.push(format!(
                "{REPIN_ANNOTATION}: nothing to look up; no field has a tag or a record of one"
            ));
        }
    }
}

/// The tag that a field asks about: its own, or with `layerpin.io/repin` that of its true record.
fn asked(object: &Object, field: Field) -> Option<PullSpec> {
    let reference = object.reference(field)?;
    match reference.digest() {
        None => Some(reference.pull_spec()),
        Some(_) if object.repin && reference.tag().is_none() => {
            object.true_record(field).map(|record| record.pull_spec().clone())
        }
        Some(_) => None,
    }
}

/// Whether nodes will find by its digest what was found by the tag `asked`. Fails with the reason.
pub fn confirmed(asked: &PullSpec, manifest: &Manifest, facts: &Facts) -> Result<(), String> {
    if manifest.endpoint == asked.api_host() {
        return Ok(());
    }
    let found = format!("{} has {} under the tag", shown(&manifest.endpoint), manifest.digest.short());
    match facts.manifest(&asked.pinned_to(&manifest.digest)) {
        Fact::Known(_) => Ok(()),
        Fact::Absent => Err(format!("{found}, but it is not where nodes pull digests from")),
        Fact::Unknown(cause) => Err(format!("{found}, but by its digest: {cause}")),
    }
}

fn fact_digest(fact: &Fact<Manifest>) -> Option<&Digest> {
    match fact {
        Fact::Known(manifest) => Some(&manifest.digest),
        Fact::Absent | Fact::Unknown(_) => None,
    }
}

/// Whose nodes reboot when `field` comes to say `pinned`, and how many they are where that is known.
/// Empty when none do.
fn rolls(subject: &Subject, field: Field, pinned: &ImageReference, cluster: &Cluster) -> String {
    let stored = subject.stored.as_ref().map(|stored| stored.text(field));
    if stored == Some(pinned.as_str()) {
        return String::new();
    }
    let mut pools = pools::affected(subject, cluster);
    // Where another MachineConfig decides, nothing rolls.
    pools.retain(|pool| !matches!(pool.winner(field, subject, cluster), Winner::Other(_)));
    if let [AffectedPool { name: WORKER, known: None }] = pools[..] {
        return format!("; nodes of pool `{WORKER}` and of custom pools will reboot");
    }
    let phrases: Vec<_> = pools.iter().map(nodes_of).collect();
    match phrases.as_slice() {
        [] => String::new(),
        [one] => format!("; {one} will reboot"),
        [first @ .., last] => format!("; {} and {last} will reboot", first.join(", ")),
    }
}

fn nodes_of(pool: &AffectedPool<'_>) -> String {
    let nodes = match pool.node_count() {
        None => "nodes".to_owned(),
        Some(1) => "1 node".to_owned(),
        Some(count) => format!("{count} nodes"),
    };
    let paused = if pool.known.is_some_and(|known| known.paused) { " (once unpaused)" } else { "" };
    format!("{nodes} of pool `{}`{paused}", pool.name)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::model::facts::{Cause, Manifest, ManifestKind};

    const OLD: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const NEW: &str = "sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    const TAG: &str = "quay.io/acme/os:1";

    fn subject(spec: &Value, annotations: &Value) -> (Value, Subject) {
        let mut object = json!({
            "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfig",
            "metadata": {"name": "a", "labels": {"machineconfiguration.openshift.io/role": "worker"}},
            "spec": spec,
        });
        if !annotations.is_null() {
            object["metadata"]["annotations"] = annotations.clone();
        }
        let subject = Subject::from_json(&object.to_string()).unwrap();
        (object, subject)
    }

    /// What is asked before a plan is made.
    fn asks(subject: &Subject, facts: &Facts, policy: &Policy) -> Vec<Question> {
        match step(subject, facts, policy) {
            Step::Ask(questions) => questions,
            Step::Done(_) => Vec::new(),
        }
    }

    fn facts(digest: &str) -> Facts {
        let mut facts = Facts::none(Timestamp::UNIX_EPOCH);
        let known = Fact::Known(Manifest {
            digest: Digest::parse(digest).unwrap(),
            kind: ManifestKind::Index,
            endpoint: "quay.io".into(),
        });
        for text in [TAG, "quay.io/acme/os:latest"] {
            facts.manifests.insert(PullSpec::parse(text).unwrap(), known.clone());
        }
        facts
    }

    /// What a plan makes of an object: the image, its annotations, and what the author is told.
    fn outcome(object: &Value, subject: &Subject, facts: &Facts) -> (String, Value, Vec<String>) {
        let plan = plan(subject, facts, &Policy::recommended());
        let mut after = object.clone();
        json_patch::patch(&mut after, &plan.patch()).unwrap();
        let applied = plan.apply(subject);
        let read_back = Subject::from_json(&after.to_string()).unwrap();
        for field in Field::ALL {
            assert_eq!(applied.object.text(field), read_back.object.text(field));
            assert_eq!(applied.object.record_text(field), read_back.object.record_text(field));
        }
        assert_eq!(applied.object.repin, read_back.object.repin);
        assert_eq!(applied.object.has_annotations, read_back.object.has_annotations);
        let image = after["spec"]["osImageURL"].as_str().unwrap_or_default().to_owned();
        (image, after["metadata"]["annotations"].clone(), plan.warnings)
    }

    #[test]
    fn a_tag_is_pinned_and_recorded() {
        for (text, tag) in [(TAG, "1"), ("quay.io/acme/os", "latest")] {
            for annotations in [Value::Null, json!({}), json!({"x/y": "z"})] {
                let (object, subject) = subject(&json!({"osImageURL": text}), &annotations);
                let (image, after, warnings) = outcome(&object, &subject, &facts(NEW));
                assert_eq!(image, format!("quay.io/acme/os@{NEW}"));
                assert_eq!(after["layerpin.io/pinned-from"], format!("quay.io/acme/os:{tag}@{NEW}"));
                assert_eq!(after.get("x/y"), annotations.get("x/y"));
                let pools = "nodes of pool `worker` and of custom pools will reboot";
                assert_eq!(
                    warnings,
                    [format!("osImageURL: pinned `{text}` to sha256:fedcba987654…; {pools}")]
                );
            }
        }
    }

    #[test]
    fn the_extensions_image_is_pinned_beside_it() {
        let spec = json!({"osImageURL": TAG, "baseOSExtensionsContainerImage": "quay.io/acme/os"});
        let (object, subject) = subject(&spec, &Value::Null);
        let (_, annotations, warnings) = outcome(&object, &subject, &facts(NEW));
        assert_eq!(
            annotations["layerpin.io/extensions-pinned-from"],
            format!("quay.io/acme/os:latest@{NEW}")
        );
        assert_eq!(warnings.len(), 2);
    }

    #[test]
    fn tag_and_digest_keep_the_digest_and_need_no_answer() {
        let (object, subject) = subject(&json!({"osImageURL": format!("{TAG}@{OLD}")}), &Value::Null);
        let unknown = Facts::none(Timestamp::UNIX_EPOCH);
        let (image, annotations, warnings) = outcome(&object, &subject, &unknown);
        assert_eq!(image, format!("quay.io/acme/os@{OLD}"));
        assert_eq!(annotations, json!({"layerpin.io/pinned-from": format!("{TAG}@{OLD}")}));
        assert_eq!(
            warnings,
            ["osImageURL: dropped the tag `1`, because nodes refuse tag and digest together; kept \
              sha256:0123456789ab…"]
        );
        assert_eq!(asks(&subject, &Facts::none(Timestamp::UNIX_EPOCH), &Policy::recommended()), []);
    }

    #[test]
    fn without_an_answer_nothing_is_changed_and_the_cause_is_told() {
        let (object, subject) = subject(&json!({"osImageURL": TAG}), &json!({"layerpin.io/repin": "true"}));
        let mut facts = Facts::none(Timestamp::UNIX_EPOCH);
        let (image, annotations, warnings) = outcome(&object, &subject, &facts);
        assert_eq!((image.as_str(), annotations), (TAG, json!({"layerpin.io/repin": "true"})));
        assert_eq!(warnings, ["osImageURL: `quay.io/acme/os:1` not pinned: nobody asked the registry"]);
        facts.manifests.insert(PullSpec::parse(TAG).unwrap(), Fact::Absent);
        let (image, _, warnings) = outcome(&object, &subject, &facts);
        assert_eq!(image, TAG);
        assert_eq!(warnings, ["osImageURL: not pinned, because quay.io has no `quay.io/acme/os:1`"]);
    }

    #[test]
    fn records_are_kept_when_true_and_removed_when_not() {
        let spec = json!({"osImageURL": format!("quay.io/acme/os@{OLD}")});
        for (record, kept) in [
            (format!("{TAG}@{OLD}"), true),
            (format!("{TAG}@{NEW}"), false),
            (format!("quay.io/acme/other:1@{OLD}"), false),
            ("nonsense".to_owned(), false),
        ] {
            let (object, subject) = subject(&spec, &json!({"layerpin.io/pinned-from": record}));
            let (_, annotations, warnings) = outcome(&object, &subject, &facts(NEW));
            assert_eq!(annotations.get("layerpin.io/pinned-from").is_some(), kept, "{record}");
            assert_eq!(warnings.len(), 0);
        }
    }

    fn update(spec: &Value, annotations: &Value) -> (Value, Subject) {
        let (object, mut updated) = subject(spec, annotations);
        let (_, stored) = subject(
            &json!({"osImageURL": format!("quay.io/acme/os@{OLD}")}),
            &json!({"layerpin.io/pinned-from": format!("{TAG}@{OLD}")}),
        );
        updated.operation = crate::model::machine_config::Operation::Update;
        updated.stored = Some(stored.object);
        (object, updated)
    }

    #[test]
    fn a_pin_holds_when_the_tag_moved() {
        let (object, subject) = update(&json!({"osImageURL": TAG}), &Value::Null);
        let (image, annotations, warnings) = outcome(&object, &subject, &facts(NEW));
        assert_eq!(image, format!("quay.io/acme/os@{OLD}"));
        assert_eq!(annotations["layerpin.io/pinned-from"], format!("{TAG}@{OLD}"));
        assert_eq!(
            warnings,
            ["osImageURL: kept sha256:0123456789ab… though `quay.io/acme/os:1` now names \
              sha256:fedcba987654…; to roll forward, annotate it layerpin.io/repin=true"]
        );
        for facts in [facts(OLD), Facts::none(Timestamp::UNIX_EPOCH)] {
            let (image, _, warnings) = outcome(&object, &subject, &facts);
            assert_eq!(image, format!("quay.io/acme/os@{OLD}"));
            assert_eq!(
                warnings,
                ["osImageURL: kept sha256:0123456789ab…, to which `quay.io/acme/os:1` was pinned; to look \
                  again, annotate it layerpin.io/repin=true"]
            );
        }
    }

    #[test]
    fn another_tag_is_another_pin() {
        let (object, subject) = update(&json!({"osImageURL": "quay.io/acme/os"}), &Value::Null);
        let (image, _, _) = outcome(&object, &subject, &facts(NEW));
        assert_eq!(image, format!("quay.io/acme/os@{NEW}"));
    }

    #[test]
    fn a_record_that_is_not_true_holds_nothing() {
        let (object, mut subject) = update(&json!({"osImageURL": TAG}), &Value::Null);
        let stored = subject.stored.as_mut().unwrap();
        stored.set_record(Field::OsImage, Some(format!("{TAG}@{NEW}")));
        assert_eq!(outcome(&object, &subject, &facts(NEW)).0, format!("quay.io/acme/os@{NEW}"));
    }

    #[test]
    fn repin_rolls_forward_from_the_tag_and_from_the_record() {
        let repin = json!({"layerpin.io/repin": "true", "layerpin.io/pinned-from": format!("{TAG}@{OLD}")});
        for text in [TAG.to_owned(), format!("quay.io/acme/os@{OLD}")] {
            let (object, subject) = update(&json!({"osImageURL": text}), &repin);
            assert_eq!(
                asks(&subject, &Facts::none(Timestamp::UNIX_EPOCH), &Policy::recommended()),
                [Question::manifest(PullSpec::parse(TAG).unwrap(), Freshness::Fresh)]
            );
            let (image, annotations, _) = outcome(&object, &subject, &facts(NEW));
            assert_eq!(image, format!("quay.io/acme/os@{NEW}"));
            assert_eq!(annotations, json!({"layerpin.io/pinned-from": format!("{TAG}@{NEW}")}));
        }
    }

    #[test]
    fn repin_that_finds_nothing_new_or_nothing_at_all_is_removed_too() {
        let spec = json!({"osImageURL": format!("quay.io/acme/os@{OLD}")});
        let recorded =
            json!({"layerpin.io/repin": "true", "layerpin.io/pinned-from": format!("{TAG}@{OLD}")});
        let mut absent = facts(OLD);
        absent.manifests.insert(PullSpec::parse(TAG).unwrap(), Fact::Absent);
        let mut unknown = facts(OLD);
        unknown.manifests.insert(PullSpec::parse(TAG).unwrap(), Fact::Unknown(Cause::Offline));
        for (annotations, facts, warning) in [
            (&recorded, facts(OLD), "osImageURL: `quay.io/acme/os:1` still names sha256:0123456789ab…"),
            (
                &recorded,
                absent,
                "osImageURL: kept sha256:0123456789ab…, because quay.io no longer has `quay.io/acme/os:1`",
            ),
            (
                &recorded,
                unknown,
                "osImageURL: kept sha256:0123456789ab…: `quay.io/acme/os:1`: not asked, because of --offline",
            ),
            (
                &json!({"layerpin.io/repin": "true"}),
                facts(NEW),
                "layerpin.io/repin: nothing to look up; no field has a tag or a record of one",
            ),
        ] {
            let (object, subject) = update(&spec, annotations);
            let (image, after, warnings) = outcome(&object, &subject, &facts);
            assert_eq!(image, format!("quay.io/acme/os@{OLD}"));
            assert_eq!(after.get("layerpin.io/repin"), None);
            assert_eq!(warnings, [warning]);
        }
    }

    #[test]
    fn a_planned_object_needs_no_second_plan() {
        for spec in [json!({"osImageURL": TAG}), json!({"osImageURL": format!("{TAG}@{OLD}")})] {
            let (_, subject) = subject(&spec, &json!({"layerpin.io/repin": "true"}));
            let policy = Policy::recommended();
            let after = plan(&subject, &facts(NEW), &policy).apply(&subject);
            assert!(plan(&after, &facts(OLD), &policy).is_empty());
        }
    }

    #[test]
    fn a_policy_that_does_not_pin_changes_nothing() {
        let policy = Policy::parse(include_str!("../policies/warn-only.yaml")).unwrap();
        let (_, subject) = subject(&json!({"osImageURL": TAG}), &json!({"layerpin.io/repin": "true"}));
        assert!(plan(&subject, &facts(NEW), &policy).is_empty());
        assert_eq!(asks(&subject, &Facts::none(Timestamp::UNIX_EPOCH), &policy), []);
    }

    #[test]
    fn the_pools_that_will_roll_are_named_with_their_nodes() {
        let pool = |name: &str, roles: &[&str], nodes: Value, paused: bool| {
            json!({
                "name": name, "paused": paused, "osImageStream": null, "nodes": nodes,
                "machineConfigSelector": {"matchExpressions": [
                    {"key": "machineconfiguration.openshift.io/role", "operator": "In", "values": roles}]},
            })
        };
        let infra = |paused| pool("infra", &["worker", "infra"], json!({"known": {"amd64": 1}}), paused);
        let gpu = pool("gpu", &["worker", "gpu"], json!({"unknown": {"cause": "offline"}}), false);
        let worker = pool("worker", &["worker"], json!({"known": {"amd64": 10, "arm64": 2}}), false);
        let over = json!([{
            "name": "zz", "labels": {"machineconfiguration.openshift.io/role": "infra"}, "osImageUrl": "x",
        }]);
        let table = [
            (json!([worker]), json!([]), "; 12 nodes of pool `worker` will reboot"),
            (
                json!([gpu, infra(true), worker]),
                json!([]),
                "; nodes of pool `gpu`, 1 node of pool `infra` (once unpaused) and 12 nodes of pool `worker` will reboot",
            ),
            (json!([infra(false), worker]), over.clone(), "; 12 nodes of pool `worker` will reboot"),
            (json!([infra(false)]), over, ""),
        ];
        for (pools, configs, expected) in table {
            let mut facts = facts(NEW);
            let cluster = json!({"pools": {"known": pools}, "machineConfigs": {"known": configs}});
            facts.cluster = serde_json::from_value(cluster).unwrap();
            let (object, subject) = subject(&json!({"osImageURL": TAG}), &Value::Null);
            let (_, _, warnings) = outcome(&object, &subject, &facts);
            let expected = format!("osImageURL: pinned `{TAG}` to sha256:fedcba987654…{expected}");
            assert_eq!(warnings, [expected]);
        }
    }

    #[test]
    fn what_a_mirror_has_under_a_tag_is_pinned_only_when_its_digest_is_found_too() {
        let policy = Policy::recommended();
        let (object, subject) = subject(&json!({"osImageURL": TAG}), &Value::Null);
        let asked = PullSpec::parse(TAG).unwrap();
        let digest = Digest::parse(NEW).unwrap();
        let pinned = asked.pinned_to(&digest);
        let at = |endpoint: &str| {
            Fact::Known(Manifest {
                digest: digest.clone(),
                kind: ManifestKind::Index,
                endpoint: endpoint.into(),
            })
        };
        let mut facts = Facts::none(Timestamp::UNIX_EPOCH);
        facts.manifests.insert(asked.clone(), at("quay.io"));
        assert_eq!(asks(&subject, &facts, &policy), [], "the registry itself knows what it has");
        facts.manifests.insert(asked.clone(), at("m.example"));
        assert_eq!(asks(&subject, &facts, &policy), [Question::manifest(pinned.clone(), Freshness::Cached)]);
        let unpinned =
            "osImageURL: `quay.io/acme/os:1` not pinned: m.example has sha256:fedcba987654… under the tag";
        for (fact, warning) in [
            (Fact::Absent, format!("{unpinned}, but it is not where nodes pull digests from")),
            (
                Fact::Unknown(Cause::OutOfTime { host: "n.example".into() }),
                format!("{unpinned}, but by its digest: n.example did not answer in time"),
            ),
        ] {
            facts.manifests.insert(pinned.clone(), fact);
            assert_eq!(asks(&subject, &facts, &policy), []);
            let (image, _, warnings) = outcome(&object, &subject, &facts);
            assert_eq!((image.as_str(), warnings), (TAG, vec![warning]));
        }
        facts.manifests.insert(pinned.clone(), at("n.example"));
        let (image, _, _) = outcome(&object, &subject, &facts);
        assert_eq!(image, pinned.as_str());
    }

    #[test]
    fn a_malformed_image_is_left_to_the_rules() {
        let (_, subject) = subject(&json!({"osImageURL": "os:1"}), &Value::Null);
        let plan = plan(&subject, &facts(NEW), &Policy::recommended());
        assert!(plan.is_empty() && plan.warnings.is_empty());
    }
}
