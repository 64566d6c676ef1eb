//! Images that are found at mirrors: what is written is what nodes pull by its digest.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::Image;
use layerpin_test_support::program::Ended;

use crate::program::{Workplace, expected, machine_config, pinned};

/// A registry that is mirrored by `REGISTRY`, and `registries.conf`, which says so. The mirror answers
/// for what `answers_for` says.
fn mirrored(workplace: &Workplace, answers_for: &str) -> Registry {
    let source = Registry::start().unwrap();
    let conf = format!(
        "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"REGISTRY\"\npull-from-mirror = \"{answers_for}\"\n",
        source.host()
    );
    workplace.write("registries.conf", &conf);
    source
}

fn pin(workplace: &Workplace, source: &Registry, arguments: &[&str]) -> Ended {
    let mut all = vec!["--registries-conf", "registries.conf"];
    all.extend(arguments);
    let Ended { status, output, error } = workplace.pin(&all);
    let general = |text: String| text.replace(&source.host(), "SOURCE");
    Ended { status, output: general(output), error: general(error) }
}

#[test]
fn a_tag_that_a_mirror_has_is_pinned_where_its_digest_is_found_too() {
    for (answers_for, is_at_source) in [("all", false), ("tag-only", true)] {
        let workplace = Workplace::new();
        let source = mirrored(&workplace, answers_for);
        if is_at_source {
            source.push("acme/os", None, &Image::base("4.18.1"));
        }
        let repository = format!("{}/acme/os", source.host());
        workplace.write("a.yaml", &machine_config("os", &format!("{repository}:4.18")));
        let ended = pin(&workplace, &source, &["--write", "a.yaml"]);
        assert_eq!(ended, expected(0, "", "a.yaml:7:15: pinned `SOURCE/acme/os:4.18` to DIGEST\n"));
        let expected = pinned("os", &format!("{repository}@DIGEST"), &format!("{repository}:4.18@DIGEST"));
        assert_eq!(workplace.read("a.yaml"), expected, "{answers_for}");
    }
}

#[test]
fn a_digest_that_only_a_tag_mirror_has_is_not_written() {
    let workplace = Workplace::new();
    let source = mirrored(&workplace, "tag-only");
    let text = machine_config("os", &format!("{}/acme/os:4.18", source.host()));
    workplace.write("a.yaml", &text);
    let reason = format!(
        "REGISTRY has {}… under the tag, but it is not where nodes pull digests from",
        &workplace.digest[..19]
    );
    let error = format!("error: a.yaml:7:15: `SOURCE/acme/os:4.18` is not pinned: {reason}\n");
    assert_eq!(pin(&workplace, &source, &["--write", "a.yaml"]), expected(2, "", &error));
    assert_eq!(workplace.read("a.yaml").replace("REGISTRY", &workplace.registry.host()), text);
    let asked = format!("manifests/{}", workplace.digest);
    assert_eq!(source.count("HEAD", &asked), 1, "the source was asked by the digest");
    // A pin that is looked at again is kept for the same reason.
    let old = source.push("acme/os", None, &Image::base("4.18.0"));
    let repository = format!("{}/acme/os", source.host());
    workplace
        .write("a.yaml", &pinned("os", &format!("{repository}@{old}"), &format!("{repository}:4.18@{old}")));
    let error = format!("error: a.yaml:9:15: `SOURCE/acme/os:4.18`: {reason}; {old} stays\n");
    assert_eq!(pin(&workplace, &source, &["--update", "--write", "a.yaml"]), expected(2, "", &error));
}
