//! The README shows the output of the program.

use layerpin::admission::AdmissionAnswer;
use layerpin::evaluate::evaluate;
use layerpin::manifests;
use layerpin::model::digest::Digest;
use layerpin::model::facts::{Fact, Facts, Manifest, ManifestKind};
use layerpin::model::pull_spec::PullSpec;
use layerpin::pin;
use layerpin::policy::Policy;
use layerpin_test_support::documents;
use layerpin_test_support::program::{Ended, Folder};

const README: &str = include_str!("../README.md");

#[test]
fn the_warning_and_the_denial_are_those_of_the_webhooks() {
    let objects = blocks("yaml");
    let answers = blocks("text");
    let subject = manifests::read_one(objects[0]).unwrap();
    let policy = Policy::recommended();
    let (_, digest) = answers[1].rsplit_once("os@").unwrap();
    let manifest = Manifest {
        digest: Digest::parse(digest.trim().trim_end_matches('`')).unwrap(),
        kind: ManifestKind::Index,
        endpoint: "quay.io".into(),
    };
    let mut facts = Facts::none("2026-01-01T00:00:00Z".parse().unwrap());
    facts.manifests.insert(PullSpec::parse("quay.io/acme/os:4.18").unwrap(), Fact::Known(manifest));

    let warnings = pin::plan(&subject, &facts, &policy).warnings();
    assert_eq!(answers[0].trim_end(), format!("Warning: {}", warnings.join("\nWarning: ")));
    let denial = AdmissionAnswer::enforce(&evaluate(&subject, &facts, &policy)).denial.unwrap();
    assert_eq!(answers[1].trim_end(), denial);
}

#[test]
fn the_policy_is_valid() {
    let policy = Policy::parse(blocks("yaml")[1]).unwrap();
    assert_eq!(policy.name(), "example");
}

#[test]
fn the_sessions_show_the_output_of_the_program() {
    let folder = Folder::new();
    let digest = "sha256:d62fb07a0f905f95183b45680b6864bde52e96190c1e29ad4c5e342b14c1c302";
    let labels = serde_json::json!({"containers.bootc": "1", "ostree.final-diffid": digest});
    let platform = serde_json::json!({"known": {
        "manifest": digest, "config": digest, "labels": labels,
        "layers": [{"diffId": digest, "digest": digest, "size": 1}],
    }});
    let mut facts = documents::facts(&[("quay.io/acme/os:4.18", digest)]);
    facts["images"]["quay.io/acme/os:4.18"] = serde_json::json!({"known": {"digest": digest, "kind": "index", "platforms": {"linux/amd64": platform}}});
    folder.write("worker.yaml", blocks("yaml")[0]);
    folder.write("facts.json", facts.to_string());
    let sessions = blocks("console");
    assert_eq!(sessions.len(), 2);
    for session in sessions {
        let (line, shown) = session.split_once('\n').unwrap();
        let mut command = folder.command(line.strip_prefix("$ layerpin ").unwrap().split(' '));
        command.env("LAYERPIN_FACTS", "facts.json");
        assert_eq!(Ended::of(command).output, shown, "{line}");
    }
}

/// Returns the fenced blocks of `language`.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}
