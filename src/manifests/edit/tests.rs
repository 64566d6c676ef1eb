//! Texts in the styles that people write, and what a pin makes of them.

use jiff::Timestamp;

use super::*;
use crate::model::digest::Digest;
use crate::model::facts::{Fact, Facts, Manifest, ManifestKind};
use crate::policy::Policy;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OLD: &str = "sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

/// In texts below, `HEAD` is the first two lines, `DIGEST` what each tag names and `OLD` another.
fn text(written: &str) -> String {
    written
        .replace("HEAD", "apiVersion: machineconfiguration.openshift.io/v1\nkind: MachineConfig")
        .replace("DIGEST", DIGEST)
        .replace("OLD", OLD)
}

fn pin(written: &str) -> Result<String, EditError> {
    let text = text(written);
    let read = manifests::read(&text);
    assert_eq!(read.faults, [], "{text}");
    let mut facts = Facts::none(Timestamp::UNIX_EPOCH);
    for document in &read.documents {
        for field in Field::ALL {
            if let Some(reference) = document.subject.object.reference(field) {
                let manifest = Manifest {
                    digest: Digest::parse(DIGEST).unwrap(),
                    kind: ManifestKind::Index,
                    endpoint: reference.host().to_owned(),
                };
                facts.manifests.insert(reference.pull_spec(), Fact::Known(manifest.clone()));
                if let Some(record) = document.subject.object.true_record(field) {
                    facts.manifests.insert(record.pull_spec().clone(), Fact::Known(manifest));
                }
            }
        }
    }
    let policy = Policy::recommended();
    let plans: Vec<_> =
        read.documents.iter().map(|document| crate::pin::plan(&document.subject, &facts, &policy)).collect();
    write(&text, read.documents.iter().zip(&plans)).map(Cow::into_owned)
}

#[track_caller]
fn becomes(before: &str, after: &str) {
    let after = text(after);
    let pinned = pin(before).unwrap_or_else(|inexact| panic!("{inexact:?}\n{before}"));
    assert_eq!(pinned, after, "\n--- is\n{pinned}\n--- should be\n{after}");
    assert_eq!(pin(&after).unwrap(), after, "a second time changes nothing");
    let crlf = text(before).replace('\n', "\r\n");
    if !before.contains('\r') {
        assert_eq!(pin(&crlf).unwrap().replace("\r\n", "\n"), after, "with Windows line ends");
        assert!(!pin(&crlf).unwrap().replace("\r\n", "").contains('\n'));
    }
}

#[test]
fn a_block_mapping_without_annotations_gets_them_first() {
    becomes(
        "# ours\nHEAD\nmetadata: # of the object\n  # the name\n  name: os\n  labels: {a: b}\nspec:\n  osImageURL:   r.io/os:1  # layered\n  fips: false\n",
        "# ours\nHEAD\nmetadata: # of the object\n  annotations:\n    layerpin.io/pinned-from: r.io/os:1@DIGEST\n  # the name\n  name: os\n  labels: {a: b}\nspec:\n  osImageURL:   r.io/os@DIGEST  # layered\n  fips: false\n",
    );
    // Four spaces, quotes, and no line break at the end.
    becomes(
        "HEAD\nspec:\n    osImageURL: 'r.io/os:1'\nmetadata:\n    name: os",
        "HEAD\nspec:\n    osImageURL: 'r.io/os@DIGEST'\nmetadata:\n    annotations:\n        layerpin.io/pinned-from: 'r.io/os:1@DIGEST'\n    name: os",
    );
    becomes(
        "\u{feff}---\n\"apiVersion\": \"machineconfiguration.openshift.io/v1\"\n\"kind\": \"MachineConfig\"\n\"metadata\":\n  \"name\": \"os\"\n\"spec\":\n  \"osImageURL\": \"r.io/os:1\"\n...\n",
        "\u{feff}---\n\"apiVersion\": \"machineconfiguration.openshift.io/v1\"\n\"kind\": \"MachineConfig\"\n\"metadata\":\n  \"annotations\":\n    \"layerpin.io/pinned-from\": \"r.io/os:1@DIGEST\"\n  \"name\": \"os\"\n\"spec\":\n  \"osImageURL\": \"r.io/os@DIGEST\"\n...\n",
    );
}

#[test]
fn existing_annotations_get_one_more() {
    becomes(
        "HEAD\nmetadata:\n  name: os\n  annotations: # why\n\n    # who\n    owner: team-a   # them\n    text: |+\n      a\n\nspec:\n  osImageURL: r.io/os:1\n",
        "HEAD\nmetadata:\n  name: os\n  annotations: # why\n    layerpin.io/pinned-from: r.io/os:1@DIGEST\n\n    # who\n    owner: team-a   # them\n    text: |+\n      a\n\nspec:\n  osImageURL: r.io/os@DIGEST\n",
    );
    for (before, after) in [
        ("annotations:", "annotations:\n      layerpin.io/pinned-from: r.io/os:1@DIGEST"),
        ("annotations:  # none", "annotations:  # none\n      layerpin.io/pinned-from: r.io/os:1@DIGEST"),
        ("annotations: ~", "annotations: {layerpin.io/pinned-from: r.io/os:1@DIGEST}"),
        ("annotations: null # none", "annotations: {layerpin.io/pinned-from: r.io/os:1@DIGEST} # none"),
        ("annotations: {}", "annotations: {layerpin.io/pinned-from: r.io/os:1@DIGEST}"),
        ("annotations: { }", "annotations: {layerpin.io/pinned-from: r.io/os:1@DIGEST}"),
        (
            "annotations: { # none\n    # yet\n   }",
            "annotations: {layerpin.io/pinned-from: r.io/os:1@DIGEST # none\n    # yet\n   }",
        ),
        ("annotations: {a: b}", "annotations: {layerpin.io/pinned-from: r.io/os:1@DIGEST, a: b}"),
        ("annotations: { 'a': b }", "annotations: { 'layerpin.io/pinned-from': r.io/os:1@DIGEST, 'a': b }"),
        (
            "annotations: {\"a\":\"b\"}",
            "annotations: {\"layerpin.io/pinned-from\":\"r.io/os:1@DIGEST\",\"a\":\"b\"}",
        ),
        (
            "annotations: {  # all\n    a: b,\n    c: d,\n   }",
            "annotations: {  # all\n    layerpin.io/pinned-from: r.io/os:1@DIGEST,\n    a: b,\n    c: d,\n   }",
        ),
        (
            "annotations: &notes\n     a: b",
            "annotations: &notes\n     layerpin.io/pinned-from: r.io/os:1@DIGEST\n     a: b",
        ),
        (
            "annotations: {layerpin.io/pinned-from: }",
            "annotations: {layerpin.io/pinned-from: r.io/os:1@DIGEST }",
        ),
        (
            "annotations:\n    layerpin.io/pinned-from:\n    a: b",
            "annotations:\n    layerpin.io/pinned-from: r.io/os:1@DIGEST\n    a: b",
        ),
        (
            "annotations:\n    layerpin.io/pinned-from: \"r.io/os:0@OLD\"",
            "annotations:\n    layerpin.io/pinned-from: \"r.io/os:1@DIGEST\"",
        ),
    ] {
        let object = |annotations: &str, image: &str| {
            format!("HEAD\nmetadata:\n   name: os\n   {annotations}\nspec:\n   osImageURL: {image}\n")
        };
        becomes(&object(before, "r.io/os:1"), &object(after, "r.io/os@DIGEST"));
    }
}

#[test]
fn both_fields_get_their_records() {
    becomes(
        "HEAD\nmetadata: {name: os}\nspec:\n  osImageURL: r.io/os\n  baseOSExtensionsContainerImage: \"r.io/ext:1@OLD\"\n",
        "HEAD\nmetadata: {annotations: {layerpin.io/pinned-from: r.io/os:latest@DIGEST, layerpin.io/extensions-pinned-from: \"r.io/ext:1@OLD\"}, name: os}\nspec:\n  osImageURL: r.io/os@DIGEST\n  baseOSExtensionsContainerImage: \"r.io/ext@OLD\"\n",
    );
    becomes(
        "HEAD\nmetadata:\n  name: os\nspec:\n  osImageURL: r.io/os:1\n  baseOSExtensionsContainerImage: r.io/ext:1\n",
        "HEAD\nmetadata:\n  annotations:\n    layerpin.io/pinned-from: r.io/os:1@DIGEST\n    layerpin.io/extensions-pinned-from: r.io/ext:1@DIGEST\n  name: os\nspec:\n  osImageURL: r.io/os@DIGEST\n  baseOSExtensionsContainerImage: r.io/ext@DIGEST\n",
    );
    becomes(
        "HEAD\nmetadata: {name: os, annotations: {a: b}}\nspec: {osImageURL: r.io/os:1, baseOSExtensionsContainerImage: r.io/ext:1}\n",
        "HEAD\nmetadata: {name: os, annotations: {layerpin.io/pinned-from: r.io/os:1@DIGEST, layerpin.io/extensions-pinned-from: r.io/ext:1@DIGEST, a: b}}\nspec: {osImageURL: r.io/os@DIGEST, baseOSExtensionsContainerImage: r.io/ext@DIGEST}\n",
    );
}

#[test]
fn null_in_braces_is_replaced() {
    becomes(
        "HEAD\nmetadata: {name: os, annotations: , labels: {}}\nspec: {osImageURL: r.io/os:1}\n",
        "HEAD\nmetadata: {name: os, annotations: {layerpin.io/pinned-from: r.io/os:1@DIGEST} , labels: {}}\nspec: {osImageURL: r.io/os@DIGEST}\n",
    );
}

#[test]
fn json_stays_json() {
    let compact = |annotations: &str, image: &str| {
        format!(
            "{{\"apiVersion\":\"machineconfiguration.openshift.io/v1\",\"kind\":\"MachineConfig\",\"metadata\":{{{annotations}\"name\":\"os\"}},\"spec\":{{\"osImageURL\":\"{image}\"}}}}"
        )
    };
    becomes(
        &compact("", "r.io/os:1"),
        &compact("\"annotations\":{\"layerpin.io/pinned-from\":\"r.io/os:1@DIGEST\"},", "r.io/os@DIGEST"),
    );
    let pretty = |annotations: &str, image: &str| {
        format!(
            "{{\n\t\"apiVersion\": \"machineconfiguration.openshift.io/v1\",\n\t\"kind\": \"MachineConfig\",\n\t\"metadata\": {{\n{annotations}\t\t\"name\": \"os\"\n\t}},\n\t\"spec\": {{\n\t\t\"osImageURL\": \"{image}\"\n\t}}\n}}\n"
        )
    };
    let record = "\t\t\"annotations\": {\n\t\t\t\"layerpin.io/pinned-from\": \"r.io/os:1@DIGEST\"\n\t\t},\n";
    becomes(&pretty("", "r.io/os:1"), &pretty(record, "r.io/os@DIGEST"));
    becomes(&pretty("\t\t\"annotations\": {},\n", "r.io/os:1"), &pretty(record, "r.io/os@DIGEST"));
    becomes(
        &pretty("\t\t\"annotations\": {\n\t\t\t\"a\": \"b\"\n\t\t},\n", "r.io/os:1"),
        &pretty(
            "\t\t\"annotations\": {\n\t\t\t\"layerpin.io/pinned-from\": \"r.io/os:1@DIGEST\",\n\t\t\t\"a\": \"b\"\n\t\t},\n",
            "r.io/os@DIGEST",
        ),
    );
    let two = format!("{}\n{}", compact("", "r.io/os:1"), compact("", "r.io/os:2"));
    assert_eq!(pin(&two).unwrap().matches("pinned-from").count(), 2);
}

#[test]
fn objects_in_lists_and_in_config_maps_are_edited_where_they_stand() {
    becomes(
        "apiVersion: v1\nkind: List\nitems:\n- metadata:\n    name: os\n  apiVersion: machineconfiguration.openshift.io/v1\n  kind: MachineConfig\n  spec:\n    osImageURL: r.io/os:1\n- kind: Pod\n",
        "apiVersion: v1\nkind: List\nitems:\n- metadata:\n    annotations:\n      layerpin.io/pinned-from: r.io/os:1@DIGEST\n    name: os\n  apiVersion: machineconfiguration.openshift.io/v1\n  kind: MachineConfig\n  spec:\n    osImageURL: r.io/os@DIGEST\n- kind: Pod\n",
    );
    let map = |metadata: &str, image: &str| {
        format!(
            "kind: ConfigMap\ndata:\n  config: |-\n\n    apiVersion: machineconfiguration.openshift.io/v1\n    kind: MachineConfig\n\n    metadata:\n{metadata}      name: os\n    spec:\n      osImageURL: {image}\nimmutable: true\n"
        )
    };
    becomes(
        &map("", "r.io/os:1"),
        &map("      annotations:\n        layerpin.io/pinned-from: r.io/os:1@DIGEST\n", "r.io/os@DIGEST"),
    );
}

#[test]
fn outdated_records_and_completed_repin_requests_are_removed() {
    let object = |annotations: &str| {
        format!(
            "HEAD\nmetadata:\n  annotations:{annotations}\n  name: os\nspec:\n  osImageURL: r.io/os@DIGEST\n"
        )
    };
    for (before, after) in [
        ("\n    layerpin.io/pinned-from: r.io/os:1@OLD # old", " {}"),
        (" # ours\n    layerpin.io/pinned-from: r.io/os:1@OLD", " {} # ours"),
        ("\n    a: b\n    layerpin.io/pinned-from: r.io/os:1@OLD\n    c: d", "\n    a: b\n    c: d"),
        (" {layerpin.io/pinned-from: r.io/os:1@OLD}", " {}"),
        (" {a: b, layerpin.io/pinned-from: r.io/os:1@OLD}", " {a: b}"),
        (" {layerpin.io/pinned-from: r.io/os:1@OLD, a: b}", " {a: b}"),
        (" {a: b, layerpin.io/pinned-from: r.io/os:1@OLD, layerpin.io/repin: 'true'}", " {a: b}"),
        (" {a: b, layerpin.io/repin: 'true', layerpin.io/pinned-from: r.io/os:1@OLD, c: d}", " {a: b, c: d}"),
        (" {layerpin.io/repin: 'true', layerpin.io/pinned-from: r.io/os:1@OLD}", " {}"),
        (
            "\n    layerpin.io/repin: 'true'\n    layerpin.io/pinned-from: r.io/os:1@DIGEST",
            "\n    layerpin.io/pinned-from: r.io/os:1@DIGEST",
        ),
    ] {
        becomes(&object(before), &object(after));
    }
    becomes(
        "HEAD\nspec:\n  osImageURL: r.io/os@DIGEST\nmetadata:\n  name: os\n  annotations:\n    a: b\n    layerpin.io/repin: \"true\"",
        "HEAD\nspec:\n  osImageURL: r.io/os@DIGEST\nmetadata:\n  name: os\n  annotations:\n    a: b",
    );
}

#[test]
fn repin_updates_the_digest() {
    becomes(
        "HEAD\nmetadata:\n  name: os\n  annotations:\n    layerpin.io/repin: 'true'\n    layerpin.io/pinned-from: 'r.io/os:1@OLD'\nspec: {osImageURL: \"r.io/os@OLD\"}\n",
        "HEAD\nmetadata:\n  name: os\n  annotations:\n    layerpin.io/pinned-from: 'r.io/os:1@DIGEST'\nspec: {osImageURL: \"r.io/os@DIGEST\"}\n",
    );
}

#[test]
fn unusual_scalars_that_are_used_once_are_edited() {
    for (before, after) in [
        ("\"r.io\\/os:\\x31\"", "\"r.io/os@DIGEST\""),
        ("!!str r.io/os:1", "!!str r.io/os@DIGEST"),
        ("&os r.io/os:1", "&os r.io/os@DIGEST"),
        ("\n    r.io/os:1", "\n    r.io/os@DIGEST"),
        ("\"r.io/\\\n    os:1\"", "\"r.io/os@DIGEST\""),
    ] {
        let object = |annotations: &str, image: &str| {
            format!("HEAD\nmetadata:\n{annotations}  name: os\nspec:\n  osImageURL: {image}\n")
        };
        let quote = if before.starts_with('"') { "\"" } else { "" };
        let record = format!("  annotations:\n    layerpin.io/pinned-from: {quote}r.io/os:1@DIGEST{quote}\n");
        becomes(&object("", before), &object(&record, after));
    }
}

#[test]
fn values_that_cannot_be_edited_in_place_are_refused_with_their_position() {
    let value = format!("r.io/os@{DIGEST}");
    let record = format!("r.io/os:1@{DIGEST}");
    for (before, position, message, help) in [
        (
            "x: &os r.io/os:1\nHEAD\nmetadata: {name: os}\nspec:\n  osImageURL: *os\n",
            (6, 15),
            "`spec.osImageURL` comes from an alias, so an edit would change other values too",
            format!("replace the alias with the value: {value}"),
        ),
        (
            "HEAD\nmetadata: {name: os}\nspec:\n  osImageURL: &os r.io/os:1\n  other: *os\n",
            (5, 19),
            "`spec.osImageURL` has an anchor that an alias refers to, so an edit would change other values too",
            format!("remove the anchor and write the value everywhere: {value}"),
        ),
        (
            "HEAD\nmetadata: {name: os}\nspec: &spec\n  osImageURL: r.io/os:1\nother: *spec\n",
            (5, 3),
            "`spec.osImageURL` has an anchor that an alias refers to, so an edit would change other values too",
            format!("remove the anchor and write the value everywhere: {value}"),
        ),
        (
            "kind: List\nitems: &items\n- apiVersion: machineconfiguration.openshift.io/v1\n  kind: MachineConfig\n  metadata: {name: os}\n  spec: {osImageURL: r.io/os:1}\nother: *items\n",
            (3, 3),
            "`spec.osImageURL` has an anchor that an alias refers to, so an edit would change other values too",
            format!("remove the anchor and write the value everywhere: {value}"),
        ),
        (
            "kind: ConfigMap\nmetadata:\n  annotations:\n    a: &text |\n      apiVersion: machineconfiguration.openshift.io/v1\n      kind: MachineConfig\n      metadata: {name: os}\n      spec: {osImageURL: r.io/os:1}\ndata:\n  a: *text\n",
            (10, 6),
            "`spec.osImageURL` comes from an alias, so an edit would change other values too",
            format!("replace the alias with the value: {value}"),
        ),
        (
            "x: &base {osImageURL: r.io/os:1}\nHEAD\nmetadata: {name: os}\nspec:\n  <<: *base\n",
            (6, 7),
            "`spec.osImageURL` comes from a merge key (`<<`), so an edit would change other values too",
            format!("write it in the object itself: {value}"),
        ),
        (
            "HEAD\nmetadata: {name: os}\nspec:\n  osImageURL: >-\n    r.io/os:1\n",
            (6, 5),
            "`spec.osImageURL` is a block scalar, which cannot be edited in place",
            format!("write it on one line: {value}"),
        ),
        (
            "HEAD\nmetadata:\n  ? name\n  : os\nspec:\n  osImageURL: r.io/os:1\n",
            (7, 15),
            "cannot be edited in place in this YAML style",
            format!("set by hand: {value}"),
        ),
        (
            "HEAD\nx: &m {annotations: {a: b}}\nmetadata:\n  <<: *m\n  name: os\nspec:\n  osImageURL: r.io/os:1\n",
            (5, 7),
            "`metadata.annotations` comes from a merge key (`<<`), so an edit would change other values too",
            format!("write it in the object itself: annotations, with layerpin.io/pinned-from: {record}"),
        ),
        (
            "kind: ConfigMap\ndata:\n  config: \"{\\\"apiVersion\\\": \\\"machineconfiguration.openshift.io/v1\\\", \\\"kind\\\": \\\"MachineConfig\\\", \\\"metadata\\\": {\\\"name\\\": \\\"os\\\"}, \\\"spec\\\": {\\\"osImageURL\\\": \\\"r.io/os:1\\\"}}\"\n",
            (3, 161),
            "`spec.osImageURL` is in a quoted or folded text, which cannot be edited in place",
            format!("set by hand: {value}; layerpin can edit a literal block (`key: |`)"),
        ),
        (
            "HEAD\nmetadata:\n  name: os\n  annotations:\n    &a\n    a: b\nspec:\n  osImageURL: r.io/os:1\n",
            (7, 5),
            "the annotations cannot be edited in place in this YAML style",
            format!("set by hand: the annotation layerpin.io/pinned-from: {record}"),
        ),
    ] {
        let refused = pin(before);
        let expected = EditError {
            position: Position { line: position.0, column: position.1 },
            message: message.to_owned(),
            help,
        };
        assert_eq!(refused, Err(expected), "{before}");
    }
}

#[test]
fn one_refusal_leaves_the_whole_text_unchanged() {
    let good = "HEAD\nmetadata: {name: a}\nspec: {osImageURL: r.io/os:1}\n";
    let bad = "x: &os r.io/os:1\nHEAD\nmetadata: {name: os}\nspec:\n  osImageURL: *os\n";
    assert!(pin(&format!("{good}---\n{bad}")).is_err());
}
