//! The ways in which a MachineConfig is written with kubectl, and all that kubectl prints of it.

use std::thread;
use std::time::Instant;

use layerpin_test_support::documents::REPIN;
use serde_json::{Value, json};

use crate::cluster::{machine_config, take_turn};
use crate::kubectl::{Answer, Caller};
use crate::{Tag, annotation};

#[test]
fn a_tag_that_is_applied_by_the_server_is_pinned_and_applying_it_again_changes_nothing() {
    let Some(cluster) = take_turn() else { return };
    let image = Tag::push(&cluster.registry, "server-side/os");
    let object = machine_config("server-side", &image.reference());
    let apply = ["apply", "--server-side", "--field-manager=gitops"];

    let applied = cluster.kubectl_on(Caller::User, &apply, &object);
    assert_eq!(
        told(&applied),
        (true, "machineconfig.machineconfiguration.openshift.io/server-side serverside-applied\n")
    );
    assert_eq!(applied.stderr, pinned(&image, "worker"));
    let before = cluster.stored("server-side").unwrap();
    assert_eq!(before["spec"]["osImageURL"], image.pinned_to(&image.digest));

    cluster.kubectl_on(Caller::User, &apply, &object).accepted("the same again");
    let after = cluster.stored("server-side").unwrap();
    for field in ["generation", "resourceVersion", "annotations"] {
        assert_eq!(after["metadata"][field], before["metadata"][field], "{field}");
    }
}

#[test]
fn a_tag_is_pinned_however_it_comes_in() {
    let Some(cluster) = take_turn() else { return };
    let image = Tag::push(&cluster.registry, "ways/os");
    let name = "machineconfig.machineconfiguration.openshift.io/ways";
    let merge = format!("--patch={}", json!({"spec": {"osImageURL": image.reference()}}));
    let json = format!(
        "--patch={}",
        json!([{"op": "replace", "path": "/spec/osImageURL", "value": image.reference()}])
    );
    let patch = ["patch", "machineconfig", "ways"];
    let ways: [(Vec<&str>, &str); 4] = [
        (vec!["create"], "created"),
        (vec!["replace"], "replaced"),
        ([&patch[..], &["--type=merge", &merge]].concat(), "patched"),
        ([&patch[..], &["--type=json", &json]].concat(), "patched"),
    ];
    for (arguments, done) in ways {
        let answer = match arguments[0] {
            "patch" => cluster.kubectl(Caller::User, &arguments),
            _ => cluster.kubectl_on(Caller::User, &arguments, &machine_config("ways", &image.reference())),
        };
        assert_eq!(told(&answer), (true, &*format!("{name} {done}\n")), "{answer:?}");
        assert_eq!(answer.stderr, pinned(&image, "worker"), "{done}");
        let stored = cluster.stored("ways").unwrap();
        assert_eq!(stored["spec"]["osImageURL"], image.pinned_to(&image.digest));
        assert_eq!(annotation(&stored, "layerpin.io/pinned-from"), Some(&*image.record_of(&image.digest)));
        // The next way starts from something else.
        let other = machine_config("ways", "");
        cluster.kubectl_on(Caller::User, &["replace"], &other).accepted("an image is taken out");
    }
}

#[test]
fn every_verb_prints_the_whole_denial() {
    let Some(cluster) = take_turn() else { return };
    cluster.apply(&machine_config("denied", "")).accepted("no image is none");
    let short = machine_config("denied", "os:4.18");
    let denial = "admission webhook \"validate.layerpin.io\" denied the request: \
                  [malformed-reference] `os:4.18` names no registry; there is no default one (/spec/osImageURL)\n  \
                  note: nodes find the error only after they are drained, and the pool becomes degraded\n  \
                  note: `malformed-reference` is `deny` in policy `recommended`\n  \
                  help: put the registry in front: registry.example.com/path@sha256:<digest>\n";
    let replaced = cluster.kubectl_on(Caller::User, &["replace"], &short);
    assert_eq!(told(&replaced), (false, ""));
    assert_eq!(
        replaced.stderr,
        format!("Error from server (Forbidden): error when replacing \"STDIN\": {denial}")
    );
    let merge = format!("--patch={}", json!({"spec": {"osImageURL": "os:4.18"}}));
    let patched =
        cluster.kubectl(Caller::User, &["patch", "machineconfig", "denied", "--type=merge", &merge]);
    assert_eq!(told(&patched), (false, ""));
    assert!(patched.stderr.ends_with(denial), "{patched:?}");
    assert_eq!(cluster.stored("denied").unwrap()["spec"]["osImageURL"], "");
}

#[test]
fn an_image_without_a_role_is_judged_once_it_gets_one() {
    let Some(cluster) = take_turn() else { return };
    let image = Tag::push(&cluster.registry, "role/os");
    let role = "machineconfiguration.openshift.io/role=worker";
    for (name, text) in [("role-later", &*image.reference()), ("role-never", "os:4.18")] {
        let object = machine_config(name, text).without_labels();
        cluster.apply(&object).accepted("no pool takes it");
        assert_eq!(cluster.stored(name).unwrap()["spec"]["osImageURL"], text);
    }
    cluster
        .kubectl(Caller::User, &["label", "machineconfig", "role-later", role])
        .accepted("a tag is pinned");
    let stored = cluster.stored("role-later").unwrap();
    assert_eq!(stored["spec"]["osImageURL"], image.pinned_to(&image.digest));
    let reason = cluster
        .kubectl(Caller::User, &["label", "machineconfig", "role-never", role])
        .refused("a short name must reach no pool");
    assert!(reason.contains("[malformed-reference] "), "{reason}");
}

#[test]
fn a_generated_name_and_a_forced_replacement_are_pinned() {
    let Some(cluster) = take_turn() else { return };
    let image = Tag::push(&cluster.registry, "generated/os");
    let object = machine_config("", &image.reference())
        .metadata_field("name", Value::Null)
        .metadata_field("generateName", "generated-");
    let create = ["create", "--output=jsonpath={.metadata.name} {.spec.osImageURL}"];
    let created = cluster.kubectl_on(Caller::User, &create, &object).accepted("a tag is pinned").stdout;
    let (name, found) = created.split_once(' ').unwrap();
    assert_eq!(found, image.pinned_to(&image.digest));

    // It is deleted and made again, so there is no pin to be held.
    let moved = image.move_on(&cluster.registry);
    let again = machine_config(name, &image.reference()).annotation(REPIN, "true");
    cluster.kubectl_on(Caller::User, &["replace", "--force"], &again).accepted("a tag is pinned");
    let stored = cluster.stored(name).unwrap();
    assert_eq!(stored["spec"]["osImageURL"], image.pinned_to(&moved));
    assert_eq!(annotation(&stored, "layerpin.io/repin"), None);
}

#[test]
fn two_who_apply_the_same_tag_conflict_and_who_forces_it_keeps_the_pin() {
    let Some(cluster) = take_turn() else { return };
    let image = Tag::push(&cluster.registry, "managers/os");
    let object = machine_config("managers", &image.reference());
    let apply = |manager: &str, more: &[&str]| {
        let manager = format!("--field-manager={manager}");
        let arguments = [&["apply", "--server-side", &manager], more].concat();
        cluster.kubectl_on(Caller::User, &arguments, &object)
    };
    apply("one", &[]).accepted("a tag is pinned");
    let before = cluster.stored("managers").unwrap();
    let conflict = apply("two", &[]).refused("the tag is not what is stored, and that is another's");
    assert!(conflict.contains("conflict with \"one\": .spec.osImageURL"), "{conflict}");
    apply("two", &["--force-conflicts"]).accepted("the pin holds");
    let after = cluster.stored("managers").unwrap();
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(after["metadata"]["generation"], before["metadata"]["generation"]);
    assert_eq!(annotation(&after, "layerpin.io/pinned-from"), Some(&*image.record_of(&image.digest)));
}

#[test]
fn what_has_no_image_in_whatever_way_passes_and_an_image_that_comes_later_is_judged() {
    let Some(cluster) = take_turn() else { return };
    for (name, spec) in [
        ("none-null", json!({"osImageURL": null, "baseOSExtensionsContainerImage": null})),
        ("none-empty", json!({})),
        ("none-missing", Value::Null),
    ] {
        let mut object = machine_config(name, "").into_json();
        object["spec"] = spec;
        if object["spec"].is_null() {
            object.as_object_mut().unwrap().remove("spec");
        }
        let answer = cluster.kubectl_on(Caller::User, &["create"], &object).accepted("no image is none");
        assert_eq!(answer.stderr, "", "{name}");
        let patch = r#"--patch={"spec":{"osImageURL":"os:4.18"}}"#;
        let reason = cluster
            .kubectl(Caller::User, &["patch", "machineconfig", name, "--type=merge", patch])
            .refused("a short name is no pull spec");
        assert!(reason.contains("[malformed-reference] "), "{name}: {reason}");
    }
}

#[test]
fn neither_names_nor_annotations_like_the_operators_exempt_anybody() {
    let Some(cluster) = take_turn() else { return };
    let namesake = "system:serviceaccount:openshift-machine-config-operator:default";
    cluster.let_write("namesake", &[namesake]);
    let rendered = machine_config("rendered-worker-00000000000000000000000000000000", "os:4.18")
        .annotation("machineconfiguration.openshift.io/generated-by-controller-version", "abc");
    for caller in [&[][..], &[&*format!("--as={namesake}")]] {
        // Only the admin may speak for somebody else.
        let arguments = [&["create"], caller].concat();
        let reason =
            cluster.kubectl_on(Caller::Admin, &arguments, &rendered).refused("anybody can copy that");
        assert!(reason.contains("[malformed-reference] "), "{reason}");
    }
}

#[test]
fn a_machine_config_of_the_largest_size_is_pinned() {
    let Some(cluster) = take_turn() else { return };
    let image = Tag::push(&cluster.registry, "large/os");
    let contents = json!({"source": format!("data:,{}", "x".repeat(1_400_000))});
    let config = json!({
        "ignition": {"version": "3.4.0"},
        "storage": {"files": [{"path": "/etc/large", "contents": contents}]},
    });
    let object = machine_config("large", &image.reference()).field("config", config);
    let created = cluster.kubectl_on(Caller::User, &["create"], &object);
    assert_eq!(told(&created), (true, "machineconfig.machineconfiguration.openshift.io/large created\n"));
    let stored = cluster.stored("large").unwrap();
    assert_eq!(stored["spec"]["osImageURL"], image.pinned_to(&image.digest));
    assert_eq!(stored["spec"]["config"], object["spec"]["config"]);
    // Both of them are in the review of the next change.
    let other = cluster.registry.push(
        "large/os",
        Some("next"),
        &layerpin_sample_registry::images::Image::base("9.6.3"),
    );
    let next = format!("{}:next", image.repository);
    let patch = format!("--patch={}", json!({"spec": {"osImageURL": next}}));
    cluster
        .kubectl(Caller::User, &["patch", "machineconfig", "large", "--type=merge", &patch])
        .accepted("a large object is changed");
    assert_eq!(cluster.stored("large").unwrap()["spec"]["osImageURL"], image.pinned_to(&other));
    cluster
        .kubectl(Caller::User, &["delete", "machineconfig", "large"])
        .accepted("a large object is deleted");
}

#[test]
fn two_hundred_machine_configs_at_once_are_pinned_and_their_tag_is_asked_for_once_a_minute() {
    let Some(cluster) = take_turn() else { return };
    let image = Tag::push(&cluster.registry, "many/os");
    let (writers, each) = (8, 25);
    let begun = Instant::now();
    thread::scope(|scope| {
        for writer in 0..writers {
            let (cluster, image) = (&*cluster, &image);
            scope.spawn(move || {
                let objects = (0..each).map(|number| {
                    machine_config(&format!("many-{}", writer * each + number), &image.reference())
                });
                let list = json!({"apiVersion": "v1", "kind": "List", "items": objects.collect::<Vec<_>>()});
                cluster.kubectl_on(Caller::User, &["create"], &list).accepted("all are created");
            });
        }
    });
    let minutes = begun.elapsed().as_secs() / 60;
    for number in 0..writers * each {
        let name = format!("many-{number}");
        let stored = cluster.stored(&name).unwrap();
        assert_eq!(stored["spec"]["osImageURL"], image.pinned_to(&image.digest), "{name}");
    }
    // What a tag names is remembered for a minute. A slow machine may take longer than that.
    let asked = cluster.registry.count("HEAD", "/v2/many/os/manifests/4.18");
    assert!(
        (1..=1 + minutes).contains(&u64::try_from(asked).unwrap()),
        "asked {asked} times in {minutes} minutes"
    );
}

/// Whether kubectl succeeded, and what it printed.
fn told(answer: &Answer) -> (bool, &str) {
    (answer.succeeded, &answer.stdout)
}

/// What kubectl tells of a tag that was pinned.
fn pinned(image: &Tag, pool: &str) -> String {
    format!(
        "Warning: osImageURL: pinned `{}` to {}…; nodes of pool `{pool}` and of custom pools will reboot\n",
        image.reference(),
        &image.digest[.."sha256:".len() + 12]
    )
}
