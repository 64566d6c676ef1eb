//! What is asked of registries, and what their absence costs.

use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Fault, Registry};
use layerpin_test_support::program::Ended;

use crate::tree::{Tree, machine_config, policy};

/// A tree of `files` MachineConfigs that name `images` tags in turn.
fn many(registry: &Registry, files: usize, images: usize) -> Tree {
    let tree = Tree::of(&[]);
    for file in 0..files {
        let image = format!("{}/acme/os:{}", registry.host(), file % images);
        tree.write(&format!("{file:04}.yaml"), machine_config(&format!("mc-{file:04}"), &image));
    }
    tree
}

#[test]
fn each_distinct_reference_is_requested_once() {
    let registry = Registry::start().unwrap();
    let image = Image::base("4.18.1");
    for tag in 0..10 {
        registry.push("acme/os", Some(&tag.to_string()), &image);
    }
    let tree = many(&registry, 200, 10);
    let report = tree.report(&["."]);
    assert_eq!(report["summary"]["denied"], 200, "every tag floats");
    assert_eq!(registry.count("HEAD", "/manifests/"), 10);
    assert_eq!(registry.count("GET", "/manifests/"), 0);
}

#[test]
fn the_manifest_that_lineage_reads_is_not_requested_twice() {
    let registry = Registry::start().unwrap();
    let base = Image::base("4.18.1");
    let base_digest = registry.push("ocp/os", None, &base);
    let image = Image::derived(&base, &[("etc/motd", b"ours")]);
    let digest = registry.push("acme/os", None, &image);
    let pinned = format!("{}/acme/os@{digest}", registry.host());
    let tree = Tree::of(&[("a.yaml", &machine_config("a", &pinned))]);
    tree.write("b.yaml", machine_config("b", &pinned));
    tree.judge_by(&policy(&[("foreign-base", "deny")], ""));
    let base = format!("{}/ocp/os@{base_digest}", registry.host());
    for arguments in
        [&["check", "--base-image", &base, "."][..], &["explain", "--base-image", &base, &pinned]]
    {
        registry.clear_requests();
        let ended = Ended::of(tree.command(arguments));
        assert_eq!(ended.status, 0, "{ended:?}");
        let asked = |method| registry.count(method, &format!("/acme/os/manifests/{digest}"));
        assert_eq!((asked("HEAD"), asked("GET")), (0, 1), "{arguments:?}");
    }
    // Where no rule looks into the image, the head is enough.
    tree.judge_by(&policy(&[], ""));
    registry.clear_requests();
    assert_eq!(tree.check(["."]).status, 0);
    assert_eq!((registry.count("HEAD", "/manifests/"), registry.count("GET", "/manifests/")), (1, 0));
}

#[test]
fn a_reference_without_an_answer_is_not_requested_again_for_the_next_object() {
    let registry = Registry::start().unwrap();
    registry.set_fault(Fault::Status(500));
    let tree = many(&registry, 100, 2);
    let ended = tree.check(["--timeout", "5s", "."]);
    assert_eq!(ended.error, "100 MachineConfigs in 100 files: 100 denied\n");
    assert_eq!(ended.output.matches("warning[unpullable-image]").count(), 100);
    // Nobody applied anything.
    let help =
        "  help: run layerpin again when the registry answers; `onUnknown` in the policy sets the level\n";
    assert_eq!(ended.output.matches(help).count(), 100, "{}", ended.output);
    // One question may be repeated inside its budget; a question for each object would be a hundred.
    assert!(registry.count("", "/manifests/") <= 20, "{}", registry.count("", "/manifests/"));
}

#[test]
fn a_pin_is_proposed_only_when_nodes_can_pull_its_digest() {
    for answers_for in ["all", "tag-only"] {
        let (mirror, source) = (Registry::start().unwrap(), Registry::start().unwrap());
        let digest = mirror.push("acme/os", Some("1"), &Image::base("4.18.1"));
        let tag = format!("{}/acme/os:1", source.host());
        let pinned = format!("{}/acme/os@{digest}", source.host());
        let tree = Tree::of(&[("a.yaml", &machine_config("a", &tag))]);
        tree.write(
            "registries.conf",
            format!(
                "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\npull-from-mirror = \"{answers_for}\"\n",
                source.host(),
                mirror.host()
            ),
        );
        let report = tree.report(&["--registries-conf", "registries.conf", "a.yaml"]);
        let (object, finding) = (&report["objects"][0], &report["objects"][0]["findings"][0]);
        assert_eq!(object["endpoint"], mirror.host());
        assert_eq!(finding["rule"], "floating-tag", "{report}");
        if answers_for == "all" {
            assert_eq!(object["pinned"], pinned);
            assert_eq!(finding["help"], "pin it: layerpin pin --write a.yaml");
        } else {
            assert_eq!(object["pinned"], serde_json::Value::Null);
            assert_eq!(finding["help"], format!("write `{pinned}` when nodes can pull it"));
        }
    }
}

#[test]
fn the_timeout_is_for_each_object_and_the_others_are_judged() {
    let silent = Registry::start().unwrap();
    silent.set_fault(Fault::FreezeAfterAccept);
    let sound = Registry::start().unwrap();
    let digest = sound.push("acme/os", None, &Image::base("4.18.1"));
    let tree = Tree::of(&[
        ("a.yaml", &machine_config("a", &format!("{}/acme/os@{digest}", silent.host()))),
        ("b.yaml", &machine_config("b", &format!("{}/acme/os@{digest}", sound.host()))),
    ]);
    let report = tree.report(&["--timeout", "3s", "."]);
    let verdicts: Vec<_> =
        report["objects"].as_array().unwrap().iter().map(|object| object["verdict"].clone()).collect();
    assert_eq!(verdicts, ["warn", "pass"]);
    let message = report["objects"][0]["findings"][0]["message"].as_str().unwrap();
    assert!(message.ends_with("did not answer in time"), "{message}");
}
