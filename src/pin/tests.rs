//! Plans, from the object and the facts to the patch, the object after it and the warnings.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::model::digest::Digest;
use crate::model::facts::{Cause, ManifestKind};

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
    (image, after["metadata"]["annotations"].clone(), plan.warnings())
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
            assert_eq!(warnings, [format!("osImageURL: pinned `{text}` to sha256:fedcba987654…; {pools}")]);
        }
    }
}

#[test]
fn the_extensions_image_is_pinned_beside_it() {
    let spec = json!({"osImageURL": TAG, "baseOSExtensionsContainerImage": "quay.io/acme/os"});
    let (object, subject) = subject(&spec, &Value::Null);
    let (_, annotations, warnings) = outcome(&object, &subject, &facts(NEW));
    assert_eq!(annotations["layerpin.io/extensions-pinned-from"], format!("quay.io/acme/os:latest@{NEW}"));
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
    assert_eq!(warnings, ["osImageURL: `quay.io/acme/os:1` not pinned: the registry was not asked"]);
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
    let recorded = json!({"layerpin.io/repin": "true", "layerpin.io/pinned-from": format!("{TAG}@{OLD}")});
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
            "osImageURL: kept sha256:0123456789ab…: `quay.io/acme/os:1`: not asked: `--offline` is set",
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
    let policy = Policy::parse(include_str!("../../policies/warn-only.yaml")).unwrap();
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
        Fact::Known(Manifest { digest: digest.clone(), kind: ManifestKind::Index, endpoint: endpoint.into() })
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
    assert!(plan.is_empty() && plan.warnings().is_empty());
}
