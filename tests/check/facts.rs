//! Facts of one run, written and read again.

use layerpin::model::facts::Facts;
use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::Image;
use layerpin_test_support::os_registry::OsRegistry;
use layerpin_test_support::program::Ended;
use serde_json::{Value, json};

use crate::tree::{Tree, machine_config, policy};

#[test]
fn a_recorded_run_is_replayed_byte_for_byte_without_the_registry() {
    let OsRegistry { registry, host, .. } = OsRegistry::start();
    let tree = Tree::of(&[
        ("a.yaml", &machine_config("a", &format!("{host}/acme/os:1"))),
        ("b.yaml", &machine_config("b", &format!("{host}/acme/absent:1"))),
        ("c.yaml", &machine_config("c", "os:1")),
    ]);
    let files = ["a.yaml", "b.yaml", "c.yaml"];
    for format in ["text", "json", "sarif", "github"] {
        let live = tree.check(["--format", format, "--save-facts", "facts.json"].iter().chain(&files));
        assert_eq!(live.status, 1, "{}", live.error);
        assert!(live.output.contains("has no image"), "{}", live.output);
        let before = registry.requests().len();
        for more in [&[][..], &["--offline"]] {
            let replay =
                tree.check(["--format", format, "--facts", "facts.json"].iter().chain(more).chain(&files));
            assert_eq!(replay, live);
        }
        assert_eq!(registry.requests().len(), before, "a replay asks nobody");
    }
}

#[test]
fn saved_facts_hold_the_run_and_no_secret() {
    let registry = Registry::builder().basic_auth("alice", "s3cr3t-pass").start().unwrap();
    let digest = registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let host = registry.host();
    // base64 of alice:s3cr3t-pass
    let auth = "YWxpY2U6czNjcjN0LXBhc3M=";
    let tree = Tree::of(&[
        ("a.yaml", &machine_config("a", &format!("{host}/acme/os:1"))),
        ("auth.json", &json!({"auths": {&host: {"auth": auth}}}).to_string()),
    ]);
    let ended = tree.check(["--authfile", "auth.json", "--save-facts", "facts.json", "a.yaml"]);
    assert_eq!(ended.status, 1, "{}", ended.error);
    let text = tree.read("facts.json");
    let facts: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        facts["manifests"],
        json!({format!("{host}/acme/os:1"): {"known": {"digest": digest, "kind": "image", "endpoint": host}}})
    );
    for secret in ["alice", "s3cr3t", auth, "Basic", "Bearer"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    let left: Vec<_> =
        std::fs::read_dir(tree.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "nothing else is left behind: {left:?}");
}

#[test]
fn facts_missing_from_the_file_are_unknown() {
    let tree = Tree::known(&[("a.yaml", &machine_config("a", "quay.io/acme/other:1"))]);
    let ended = tree.check(["--facts", "facts.json", "a.yaml"]);
    assert_eq!(ended.status, 1);
    assert!(
        ended.output.contains(
            "warning[unpullable-image]: whether nodes can pull `quay.io/acme/other:1` is not known: not asked: the \
             facts file (`--facts`) has no answer\n"
        ),
        "{}",
        ended.output
    );
    assert!(ended.output.contains("help: record the facts again with `--save-facts`\n"), "{}", ended.output);
}

#[test]
fn exceptions_expire_by_the_time_of_the_recorded_run() {
    let exception =
        "  exceptions:\n    - {names: ['*'], rules: [floating-tag], reason: soon, expires: 2001-01-31}\n";
    let tree = Tree::known(&[("a.yaml", &machine_config("a", "quay.io/acme/os:4.18"))]);
    tree.judge_by(&policy(&[], exception));
    for (observed_at, status) in [("2001-01-31T23:59:59Z", 0), ("2001-02-01T00:00:00Z", 1)] {
        let mut facts: Value = serde_json::from_str(&tree.read("facts.json")).unwrap();
        facts["observedAt"] = json!(observed_at);
        tree.write("facts.json", facts.to_string());
        let ended = tree.check(["--facts", "facts.json", "a.yaml"]);
        assert_eq!(ended.status, status, "{observed_at}: {}", ended.output);
    }
}

#[test]
fn an_invalid_facts_file_is_named_with_the_position() {
    let tree = Tree::of(&[
        ("a.yaml", ""),
        ("facts.json", "{\n  \"observedAt\": \"2026-01-15T12:00:00Z\",\n  \"x\": 1\n}"),
    ]);
    tree.write("torn.json", "{\n  \"observedAt\"");
    for (file, message) in [
        ("facts.json", "error: facts.json:3:5: not facts as --save-facts writes them: unknown field `x`"),
        ("torn.json", "error: torn.json:2:14: not facts as --save-facts writes them: EOF while parsing"),
        ("absent.json", "error: facts file absent.json: No such file"),
    ] {
        let Ended { status, output, error } = tree.check(["--facts", file, "a.yaml"]);
        assert_eq!((status, output.as_str()), (2, ""));
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn facts_that_cannot_be_written_fail_the_run_after_its_report() {
    let tree = Tree::of(&[("a.yaml", &machine_config("a", "os:1"))]);
    let ended = tree.check(["--offline", "--save-facts", "absent/facts.json", "a.yaml"]);
    assert_eq!(ended.status, 2);
    assert!(ended.output.starts_with("error[malformed-reference]: "), "{}", ended.output);
    assert!(
        ended
            .error
            .starts_with("error: cannot write the facts to absent/facts.json: No such file or directory\n"),
        "{}",
        ended.error
    );
    // A disk that is full.
    if std::path::Path::new("/dev/full").exists() {
        let ended = tree.check(["--offline", "--save-facts", "/dev/full", "a.yaml"]);
        assert_eq!(ended.status, 2);
        assert!(
            ended.error.contains("cannot write the facts to /dev/full: No space left"),
            "{}",
            ended.error
        );
    }
}

#[test]
fn every_option_of_facts_is_an_environment_variable_of_the_same_name() {
    let mut command = <layerpin::cli::args::CommandLine as clap::CommandFactory>::command();
    command.build();
    let mut seen = 0;
    for verb in command.get_subcommands() {
        let options = verb.get_arguments().filter(|argument| {
            argument.get_help_heading() == Some("Facts") || argument.get_id() == "save_facts"
        });
        for option in options {
            let long = option.get_long().unwrap();
            let expected = format!("LAYERPIN_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(option.get_env(), Some(expected.as_ref()), "{} --{long}", verb.get_name());
            seen += 1;
        }
    }
    assert!(seen > 8, "{seen}");
}

/// As `check --save-facts` of version 0.1 wrote them, when manifests and images were two questions.
#[test]
fn facts_of_an_earlier_version_give_the_same_verdicts() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let recorded = include_str!("../vectors/facts-manifests-and-images.json");
    let tree = Tree::of(&[
        ("facts.json", recorded),
        ("objects.yaml", include_str!("../vectors/facts-manifests-and-images.yaml")),
    ]);
    let policy = format!("{root}policies/recommended.yaml");
    let report = tree.report(&["--facts", "facts.json", "--policy", &policy, "objects.yaml"]);
    let pinned = "quay.io/acme/os@sha256:dafc731e78a421b6c8bf0ef019740fd17b6603c977f1e88ae38ce2139b769ae2";
    let objects = report["objects"].as_array().unwrap().iter();
    let found: Vec<_> = objects
        .map(|object| {
            let findings = object["findings"].as_array().unwrap().iter();
            let findings = findings.map(|finding| json!([finding["rule"], finding["level"]]));
            let lineage = object["lineage"].as_array().unwrap().iter().map(|lineage| &lineage["result"]);
            json!([
                object["name"],
                object["verdict"],
                findings.collect::<Vec<_>>(),
                lineage.collect::<Vec<_>>(),
                object["pinned"],
            ])
        })
        .collect();
    assert_eq!(
        Value::from(found),
        json!([
            ["derived", "pass", [], ["derived"], null],
            ["tagged", "deny", [["floating-tag", "deny"]], ["derived"], pinned],
            ["foreign", "deny", [["foreign-base", "warn"], ["not-bootable", "deny"]], ["foreign"], null],
            ["absent", "deny", [["unpullable-image", "deny"]], ["unknown"], null],
        ])
    );
    let facts = Facts::parse(recorded).unwrap();
    assert_eq!(serde_json::to_string_pretty(&facts).unwrap() + "\n", recorded, "written as it was read");
}
