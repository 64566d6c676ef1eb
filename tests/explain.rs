//! What `layerpin explain` draws: whole outputs, from facts in this file.
//!
//! `INSTA_UPDATE=always cargo test --test explain` makes the snapshots again; look at the difference.

use std::collections::BTreeMap;
use std::sync::Arc;

use layerpin::explain::{Explanation, ImageExplanation};
use layerpin::lineage;
use layerpin::model::digest::Digest;
use layerpin::model::facts::image::{HistoryStep, Image, Layer, OsImage, Payload, Platform, PlatformImage};
use layerpin::model::facts::{Cause, Fact, Facts, Manifest, ManifestKind};
use layerpin::model::machine_config::Subject;
use layerpin::model::pull_spec::PullSpec;
use layerpin::policy::Policy;
use layerpin::pools;
use layerpin::report::Style;
use layerpin_test_support::documents::machine_config;
use serde_json::{Value, json};

#[test]
fn a_stale_image_is_drawn_wide() {
    insta::assert_snapshot!(stale().explained().to_text(100, Style::Plain));
}

#[test]
fn the_readme_shows_the_drawing_of_a_stale_image() {
    let drawing = stale().explained().to_text(100, Style::Plain);
    assert!(include_str!("../README.md").contains(&format!("```text\n{drawing}```\n")), "{drawing}");
}

#[test]
fn a_stale_image_is_drawn_narrow_and_no_line_of_prose_is_wider() {
    let text = stale().explained().to_text(60, Style::Plain);
    for line in text.lines().filter(|line| !line.contains("@sha256:")) {
        assert!(line.chars().count() <= 60, "{line}");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn colour_marks_what_is_wrong_and_changes_no_text() {
    let explanation = stale().explained();
    let (plain, coloured) = (explanation.to_text(100, Style::Plain), explanation.to_text(100, Style::Colour));
    assert!(coloured.contains("\u{1b}[1;31mforeign\u{1b}[0m"), "{coloured}");
    let mut stripped = String::new();
    for part in coloured.split('\u{1b}') {
        stripped.push_str(part.strip_prefix('[').map_or(part, |rest| rest.split_once('m').unwrap().1));
    }
    assert_eq!(stripped, plain);
}

#[test]
fn a_stale_image_is_a_graph_for_graphviz() {
    insta::assert_snapshot!(stale().explained().to_dot());
}

#[test]
fn a_stale_image_is_a_graph_for_mermaid() {
    insta::assert_snapshot!(stale().explained().to_mermaid());
}

#[test]
fn a_stale_image_is_explained_as_json() {
    insta::assert_snapshot!(stale().explained().to_json());
}

#[test]
fn every_other_result_is_drawn() {
    let mut all = String::new();
    let (base, own) = (["rhel", "packages of 4.18.14", "meta of 4.18.14"], "RUN dnf install -y foo");
    let derived = [base.as_slice(), &["own"]].concat();
    for (what, image, base_fact) in [
        ("the base itself", Some(platform(&base, &["base"; 3])), None),
        ("one layer above the base", Some(platform(&derived, &["base", "base", "base", own])), None),
        (
            "another image with the same lowest layer",
            Some(platform(&["rhel", "x", "y"], &["base", "x", "y"])),
            None,
        ),
        ("nothing in common", Some(platform(&["alpine", "y"], &["ADD alpine", "COPY y"])), None),
        ("squashed", Some(squashed()), None),
        ("forty layers above the base", Some(many()), None),
        ("an image that is not there", None, None),
        ("a base that is not known", Some(platform(&derived, &[])), Some(Fact::Unknown(Cause::Offline))),
        ("control characters", Some(hostile(&derived)), None),
    ] {
        let mut world = World::new();
        if let Some(fact) = base_fact {
            world.facts.images.insert(reference(BASE_14), fact);
        }
        world.image(image);
        all += &format!("### {what}\n{}\n", world.explained().to_text(100, Style::Plain));
    }
    assert!(!all.chars().any(|character| character.is_control() && character != '\n'));
    insta::assert_snapshot!(all);
}

#[test]
fn a_partly_included_base_is_drawn_as_such() {
    let shuffled = platform(&["x", "packages of 4.18.14", "meta of 4.18.14"], &[]);
    for (what, image, base_fact, arrow) in [
        ("whole", platform(&["rhel", "packages of 4.18.14", "meta of 4.18.14", "own"], &[]), None, "-->"),
        ("in part", platform(&["rhel", "x"], &[]), None, "-. only in part .->"),
        ("scattered", shuffled, None, "-. not included .->"),
        ("nothing", platform(&["alpine"], &[]), None, "-. not included .->"),
        ("not known", platform(&["rhel"], &[]), Some(Fact::Unknown(Cause::Offline)), "-. not known .->"),
    ] {
        let mut world = World::new();
        if let Some(fact) = base_fact {
            world.facts.images.insert(reference(BASE_14), fact);
        }
        world.image(Some(image));
        let mermaid = world.explained().to_mermaid();
        assert!(mermaid.contains(&format!("  n0_0 {arrow} n0_1\n")), "{what}: {mermaid}");
    }
}

#[test]
fn the_layers_of_another_platform_are_named_as_such() {
    let mut world = World::new();
    let layers = ["rhel for arm64", "packages for arm64"];
    let base = platform(&layers, &[]);
    let Some(Fact::Known(of)) = world.facts.images.get(&reference(BASE_14)).cloned() else { panic!() };
    let mut of = Arc::unwrap_or_clone(of);
    of.platforms.insert(Platform::of_node("arm64"), Fact::Known(base));
    world.facts.images.insert(reference(BASE_14), Fact::Known(Arc::new(of)));
    world.image(Some(platform(&[layers.as_slice(), &["own"]].concat(), &[])));
    let explained = world.explained();
    let (text, mermaid) = (explained.to_text(100, Style::Plain), explained.to_mermaid());
    assert!(
        text.contains(
            "  expected  4.18.14  quay.io/ocp/os@sha256:141414141414…\n  \
             ╳  this image contains its layers for linux/arm64, not for linux/amd64\n  │\n  \
             ├─ 2 layers of the base, 688.4 MiB\n  └─ "
        ),
        "{text}"
    );
    assert!(mermaid.contains(&format!("{BASE_14}<br/>for linux/arm64\"]\n")), "{mermaid}");
    assert!(mermaid.contains("  n0_0 --> n0_1\n"), "{mermaid}");
}

#[test]
fn a_machine_config_is_drawn_once_for_all_pools_with_the_same_result() {
    let mut world = World::new();
    let pool = |name: &str, stream: Option<&str>, nodes: Value| {
        json!({
            "name": name,
            "machineConfigSelector": {"matchExpressions": [
                {"key": "machineconfiguration.openshift.io/role", "operator": "In", "values": ["worker", name]},
            ]},
            "osImageStream": stream,
            "paused": false,
            "nodes": {"known": nodes},
        })
    };
    let mut cluster = serde_json::to_value(&*world.facts.cluster).unwrap();
    cluster["streams"] = json!({"known": {
        "releaseImage": PAYLOAD_14, "defaultStream": "rhel-9",
        "available": {"rhel-9": BASE_14, "rhel-10": BASE_10},
    }});
    cluster["pools"] = json!({"known": [
        pool("worker", None, json!({"amd64": 3})),
        pool("infra", None, json!({"amd64": 2})),
        pool("edge", Some("rhel-10"), json!({"amd64": 1, "arm64": 1})),
    ]});
    world.facts.cluster = serde_json::from_value(cluster).unwrap();
    world.facts.images.insert(reference(BASE_10), single(platform(&["rhel 10", "packages", "meta"], &[])));
    world.image(Some(platform(
        &["rhel", "packages of 4.18.14", "meta of 4.18.14", "motd"],
        &["coreos-assembler", "coreos-assembler", "coreos-assembler", "COPY motd /etc/motd"],
    )));
    let subject = Subject::from_json(&machine_config().image(IMAGE).to_string()).unwrap();
    let affected = pools::affected(&subject, &world.facts.cluster);
    let image = reference(IMAGE);
    let judgement = lineage::judge(&image, &affected, &world.facts, &Policy::recommended());
    assert_eq!(judgement.questions, []);
    let told = ImageExplanation::new(Some(&subject.name), &image, &judgement.lineage, &world.facts);
    insta::assert_snapshot!(Explanation::new(vec![told]).to_text(100, Style::Plain));
}

#[test]
fn without_a_known_base_the_drawing_says_so() {
    let mut world = World::new();
    world.facts.cluster = Default::default();
    world.image(Some(platform(&["a", "b"], &["a", "b"])));
    insta::assert_snapshot!(world.explained().to_text(100, Style::Plain));
}

#[test]
fn texts_of_an_image_are_escaped_in_a_graph() {
    let mut world = World::new();
    world.image(Some(platform(&["alpine"], &["RUN echo \"]; n [label=\\\"x<b>`#"])));
    let explanation = world.explained();
    assert!(
        explanation.to_dot().contains(r#"RUN echo \"]; n [label=\\\"x<b>`#"#),
        "{}",
        explanation.to_dot()
    );
    let mermaid = explanation.to_mermaid();
    assert!(mermaid.contains("RUN echo #quot;]; n [label=\\#quot;x#lt;b#gt;#96;#35;"), "{mermaid}");
}

#[test]
fn a_mirror_that_answered_is_named_and_the_registry_itself_is_not() {
    for (endpoint, told) in
        [("quay.io", ""), ("mirror.example:5000", "  read from the mirror mirror.example:5000\n")]
    {
        let mut world = stale();
        let manifest = Manifest {
            digest: reference(IMAGE).digest().unwrap().clone(),
            kind: ManifestKind::Image,
            endpoint: endpoint.to_owned(),
        };
        world.facts.manifests.insert(reference(IMAGE), Fact::Known(manifest));
        let explanation = world.explained();
        let text = explanation.to_text(100, Style::Plain);
        assert!(text.starts_with(&format!("{IMAGE}\n{told}\nforeign  ")), "{text}");
        let document: Value = serde_json::from_str(&explanation.to_json()).unwrap();
        assert_eq!(document["images"][0]["endpoint"], endpoint);
    }
}

/// The README's example: built on 4.18.13, and the cluster runs 4.18.14.
fn stale() -> World {
    let mut world = World::new();
    let layers = ["rhel", "packages of 4.18.13", "meta of 4.18.13", "driver", "motd"];
    let commands = [
        "coreos-assembler",
        "coreos-assembler",
        "coreos-assembler",
        "/bin/sh -c dnf install -y https://example.com/drivers/kmod-example-1.2.3.rpm && ostree container commit",
        "/bin/sh -c #(nop) COPY file:5e5f in /etc/motd ",
    ];
    world.image(Some(platform(&layers, &commands)));
    world
}

struct World {
    facts: Facts,
}

impl World {
    fn new() -> Self {
        let mut facts = Facts::none("2026-01-15T12:00:00Z".parse().unwrap());
        let release = |version: &str, payload: &str| json!({"version": version, "image": payload});
        facts.cluster = serde_json::from_value(json!({
            "version": {"known": {
                "desired": release("4.18.14", PAYLOAD_14),
                "history": [
                    {"release": release("4.18.14", PAYLOAD_14), "state": "completed"},
                    {"release": release("4.18.13", PAYLOAD_13), "state": "completed"},
                ],
            }},
            "controllerConfig": {"known": {"baseOsContainerImage": BASE_14, "releaseVersion": "4.18.14"}},
            "streams": "absent",
        }))
        .unwrap();
        for (version, payload, base) in [("4.18.13", PAYLOAD_13, BASE_13), ("4.18.14", PAYLOAD_14, BASE_14)] {
            let image = OsImage { reference: reference(base).into(), stream: None, os_version: None };
            let os_images = BTreeMap::from([("rhel-coreos".to_owned(), image)]);
            let known = Payload { version: version.to_owned(), os_images };
            facts.payloads.insert(reference(payload), Fact::Known(known));
            let layers = ["rhel", &format!("packages of {version}"), &format!("meta of {version}")];
            facts.images.insert(reference(base), single(platform(&layers, &[])));
        }
        Self { facts }
    }

    fn image(&mut self, of: Option<PlatformImage>) {
        self.facts.images.insert(reference(IMAGE), of.map_or(Fact::Absent, single));
    }

    fn explained(&self) -> Explanation {
        let image = reference(IMAGE);
        let judgement = lineage::judge(&image, &[], &self.facts, &Policy::recommended());
        assert_eq!(judgement.questions, []);
        Explanation::new(vec![ImageExplanation::new(None, &image, &judgement.lineage, &self.facts)])
    }
}

fn reference(text: &str) -> PullSpec {
    PullSpec::parse(text).unwrap()
}

fn single(of: PlatformImage) -> Fact<Arc<Image>> {
    let platforms = BTreeMap::from([(Platform::of_node("amd64"), Fact::Known(of))]);
    Fact::Known(Arc::new(Image {
        digest: reference(IMAGE).digest().unwrap().clone(),
        kind: ManifestKind::Image,
        platforms,
    }))
}

/// An image whose layers are called so, made by these commands; without any it tells no history.
fn platform(layers: &[&str], commands: &[&str]) -> PlatformImage {
    let layer = |(index, name): (usize, &&str)| Layer {
        diff_id: Digest::of(name.as_bytes()),
        digest: Digest::of(format!("compressed {name}").as_bytes()),
        size: 700_000_000 >> (index * 5),
    };
    let step = |(index, command): (usize, &&str)| HistoryStep {
        created_by: (*command).to_owned(),
        created: Some(format!("2026-01-1{}T09:30:15.123456789Z", index % 10)),
        comment: String::new(),
        empty_layer: false,
    };
    let labels = [
        ("ostree.bootable", "true".to_owned()),
        ("ostree.final-diffid", Digest::of(layers[0].as_bytes()).to_string()),
    ];
    PlatformImage {
        manifest: Digest::of(b"manifest"),
        config: Digest::of(b"config"),
        layers: layers.iter().enumerate().map(layer).collect(),
        labels: labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        annotations: BTreeMap::new(),
        history: commands.iter().enumerate().map(step).collect(),
        created: None,
    }
}

fn squashed() -> PlatformImage {
    let mut image = platform(&["everything"], &["/bin/sh"]);
    image.labels.insert("ostree.final-diffid".to_owned(), Digest::of(b"gone").to_string());
    image
}

fn many() -> PlatformImage {
    let mut image = platform(&["rhel", "packages of 4.18.14", "meta of 4.18.14"], &[]);
    image.layers.extend((1..=40).map(|index| Layer {
        diff_id: Digest::of(format!("own {index}").as_bytes()),
        digest: Digest::of(b"compressed"),
        size: 2048,
    }));
    image
}

fn hostile(layers: &[&str]) -> PlatformImage {
    let mut image = platform(layers, &["a", "b", "c", "RUN \u{1b}[2J\u{202e}gnp.exe\r\n\tnow"]);
    image.history[3].created = Some("\u{1b}]0;title\u{7}".to_owned());
    image.layers[0].diff_id = Digest::of(b"not the base");
    image.labels.insert("version".to_owned(), "\u{1b}[31mred".to_owned());
    image
}

const IMAGE: &str = "quay.io/acme/os@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const BASE_13: &str =
    "quay.io/ocp/os@sha256:1313131313131313131313131313131313131313131313131313131313131313";
const BASE_14: &str =
    "quay.io/ocp/os@sha256:1414141414141414141414141414141414141414141414141414141414141414";
const BASE_10: &str =
    "quay.io/ocp/os@sha256:1010101010101010101010101010101010101010101010101010101010101010";
const PAYLOAD_13: &str =
    "quay.io/ocp/release@sha256:a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3";
const PAYLOAD_14: &str =
    "quay.io/ocp/release@sha256:a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4";
