//! What the README shows is what the program says.

use layerpin::digest::Digest;
use layerpin::evaluate::evaluate;
use layerpin::facts::{Fact, Facts, Manifest, ManifestKind};
use layerpin::image_reference::ImageReference;
use layerpin::machine_config::Subject;
use layerpin::pin;
use layerpin::policy::Policy;
use layerpin::review::Answer;

const README: &str = include_str!("../README.md");

#[test]
fn the_first_screen_shows_the_exact_answers() {
    let objects = blocks("yaml");
    let answers = blocks("text");
    let subject = Subject::from_text(objects[0]).unwrap();
    let policy = Policy::recommended();
    let (_, digest) = answers[1].rsplit_once("os@").unwrap();
    let manifest = Manifest {
        digest: Digest::parse(digest.trim().trim_end_matches('`')).unwrap(),
        kind: ManifestKind::Index,
        endpoint: "quay.io".into(),
    };
    let mut facts = Facts::none("2026-01-01T00:00:00Z".parse().unwrap());
    facts.manifests.insert(ImageReference::parse("quay.io/acme/os:4.18").unwrap(), Fact::Known(manifest));

    let warnings = pin::plan(&subject, &facts, &policy).warnings;
    assert_eq!(answers[0].trim_end(), format!("Warning: {}", warnings.join("\nWarning: ")));
    let denial = Answer::enforce(&evaluate(&subject, &facts, &policy)).denial.unwrap();
    assert_eq!(answers[1].trim_end(), denial);
}

#[test]
fn the_policy_that_is_shown_is_read() {
    let policy = Policy::parse(blocks("yaml")[1]).unwrap();
    assert_eq!(policy.name(), "example");
}

/// The fenced blocks of `language`.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}
