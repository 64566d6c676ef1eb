//! Lineage through the program: what `explain` and `/validate` make of images in a registry.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::{Architecture, Image, Index, MediaTypes, OCI_MANIFEST, Packing};
use serde_json::{Value, json};

use crate::documents::{create, machine_config};
use crate::program::Setup;

/// A registry that holds the payload of 4.18.14 and its base for two architectures.
struct Shelf {
    registry: Registry,
    bases: [Image; 2],
    base: String,
    payload: String,
}

impl Shelf {
    fn fill() -> Self {
        let registry = Registry::start().unwrap();
        let bases = [Architecture::Amd64, Architecture::Arm64].map(|of| Image::base_for(VERSION, of));
        let digest = registry.push("ocp/os", None, &Index::of(&bases));
        let base = format!("{}/ocp/os@{digest}", registry.host());
        let payload = Image::release_payload("4.18.14", &[("rhel-coreos", &base)]);
        let digest = registry.push("ocp/release", None, &payload);
        let payload = format!("{}/ocp/release@{digest}", registry.host());
        Self { registry, bases, base, payload }
    }

    fn derived(&self) -> [Image; 2] {
        self.bases.each_ref().map(|base| Image::derived(base, &[("etc/motd", b"hello")]))
    }

    fn push(&self, image: &Image) -> String {
        format!("{}/acme/os@{}", self.registry.host(), self.registry.push("acme/os", None, image))
    }

    fn push_index<'a>(&self, images: impl IntoIterator<Item = &'a Image>) -> String {
        let digest = self.registry.push("acme/os", None, &Index::of(images));
        format!("{}/acme/os@{digest}", self.registry.host())
    }

    /// What `explain` tells of `image` against the release: a line for each platform.
    fn explained(&self, image: &str) -> Vec<String> {
        explained(image, &["--release-image", &self.payload])
    }
}

fn explained(image: &str, arguments: &[&str]) -> Vec<String> {
    let setup = Setup::verb("explain").arguments([image, "--format", "json"]).arguments(arguments);
    let (code, output, error) = setup.ended();
    assert_eq!((code, error.as_str()), (0, ""), "{image}");
    let explanation: Value = serde_json::from_str(&output).unwrap();
    let lineage = explanation["images"][0]["lineage"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line = |entry: &Value| {
        let own = entry["ownLayers"].as_u64().map_or("-".to_owned(), |own| own.to_string());
        let [platform, result, reason] = ["platform", "result", "reason"].map(|key| text(&entry[key]));
        format!("{platform} {result} {own} {reason}")
    };
    lineage.iter().map(line).collect()
}

/// Words of `labels`, taken from `from`, over other layers.
fn dressed(from: &Image, labels: &[&str]) -> Image {
    labels.iter().fold(Image::scratch(), |image, name| image.with_label(name, from.label(name).unwrap()))
}

#[test]
fn images_in_a_registry_are_told_apart() {
    let shelf = Shelf::fill();
    let [amd64, arm64] = shelf.derived();
    let twenty = (0..20).fold(shelf.bases[0].clone(), |image, index| {
        image.with_layer(&[("etc/motd", format!("layer {index}").as_bytes())])
    });
    let bootable = ["containers.bootc", "ostree.bootable"];
    let squashed = dressed(&amd64, &[bootable.as_slice(), &["ostree.final-diffid"]].concat())
        .with_layer(&[("usr/bin/everything", b"in one layer")]);
    let rechunked = dressed(&amd64, &[bootable.as_slice(), &["org.opencontainers.image.version"]].concat())
        .with_layer(&[("usr/bin/some", b"of it")])
        .with_layer(&[("usr/bin/more", b"of it")]);
    let rechunked = {
        let last = rechunked.diff_ids()[1].clone();
        rechunked.with_label("ostree.final-diffid", &last)
    };
    let liar = dressed(&amd64, &["org.opencontainers.image.version"])
        .with_label("baseOSContainerImage", &shelf.base)
        .with_layer(&[("etc/os-release", b"ID=alpine")]);
    let next = Image::derived(&Image::base("418.94.202601150000-0"), &[("etc/motd", b"hello")]);
    let wrong = arm64.clone().with_architecture(Architecture::Amd64);
    let not_there = format!("{}/acme/os@sha256:{}", shelf.registry.host(), "0".repeat(64));
    let derived = |own: usize| vec![format!("linux/amd64 derived {own} -")];
    let both = |words: &str| ["amd64", "arm64"].map(|of| format!("linux/{of} {words}")).to_vec();
    let foreign = "linux/amd64 foreign - it shares no layer with the base of 4.18.14".to_owned();
    for (what, image, expected) in [
        ("the base itself", shelf.base.clone(), both("same 0 -")),
        ("one layer", shelf.push(&amd64), derived(1)),
        ("twenty layers", shelf.push(&twenty), derived(20)),
        ("recompressed", shelf.push(&amd64.clone().repacked(Packing::Zstd)), derived(1)),
        ("as Docker has it", shelf.push(&amd64.clone().with_media_types(MediaTypes::Docker)), derived(1)),
        ("an index", shelf.push_index([&amd64, &arm64]), both("derived 1 -")),
        ("an index with one platform", shelf.push_index([&amd64]), derived(1)),
        ("a child of an index", shelf.push(&arm64), vec!["linux/arm64 derived 1 -".to_owned()]),
        ("no bootable label", shelf.push(&bootable.iter().fold(amd64.clone(), |image, label| image.without_label(label))), derived(1)),
        ("another release", shelf.push(&next), vec![foreign.clone()]),
        ("labels that lie", shelf.push(&liar), vec![foreign]),
        (
            "another architecture",
            shelf.push(&wrong),
            vec!["linux/amd64 foreign - built on the base of 4.18.14 for linux/arm64".to_owned()],
        ),
        (
            "squashed",
            shelf.push(&squashed),
            vec![
                "linux/amd64 unprovable - its layers were squashed into one, the base's too, so they prove nothing"
                    .to_owned(),
            ],
        ),
        (
            "rechunked",
            shelf.push(&rechunked),
            vec![
                "linux/amd64 unprovable - its content was cut into layers anew (rechunked), so they prove nothing"
                    .to_owned(),
            ],
        ),
        (
            "not there",
            not_there,
            vec![format!("- unknown - {} has no such image", shelf.registry.host())],
        ),
    ] {
        assert_eq!(shelf.explained(&image), expected, "{what}");
    }
}

#[test]
fn a_config_that_disagrees_with_its_manifest_is_unknown() {
    let shelf = Shelf::fill();
    let mut manifest: Value = serde_json::from_slice(&shelf.derived()[0].manifest()).unwrap();
    shelf.push(&shelf.derived()[0]);
    manifest["layers"].as_array_mut().unwrap().pop();
    let digest = shelf.registry.push_manifest("acme/os", None, OCI_MANIFEST, manifest.to_string());
    let lines = shelf.explained(&format!("{}/acme/os@{digest}", shelf.registry.host()));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(" unknown - the image could not be read: "), "{lines:?}");
}

#[test]
fn a_base_that_vanished_makes_the_lineage_unknown() {
    let shelf = Shelf::fill();
    let image = shelf.push(&shelf.derived()[0]);
    shelf.registry.delete_repository("ocp/os");
    let expected = format!("linux/amd64 unknown - the base `{}` is no longer there", shelf.base);
    assert_eq!(shelf.explained(&image), [expected]);
}

#[test]
fn what_lineage_is_judged_against_is_a_setting() {
    let shelf = Shelf::fill();
    let image = shelf.push(&shelf.derived()[0]);
    let nothing = "- unknown - nothing to judge against: no cluster, no --release-image, no --base-image and no \
                   acceptedBases";
    assert_eq!(explained(&image, &["--no-cluster"]), [nothing]);
    assert_eq!(explained(&image, &["--base-image", &shelf.base]), ["linux/amd64 derived 1 -"]);
    let other = shelf.push(&Image::base("418.94.202601150000-0"));
    let refused = explained(&image, &["--base-image", &other]);
    assert!(
        refused[0].starts_with("linux/amd64 foreign - it shares no layer with the base `"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_review_judges_the_lineage_against_the_release_that_was_named() {
    let shelf = Shelf::fill();
    let setup = Setup::serve().policy("  rules: {foreign-base: deny}\n");
    let layerpin = setup.arguments(["--release-image", &shelf.payload]).start();
    let image = shelf.push(&shelf.derived()[0]);
    let answer = layerpin.webhooks.review("/validate", &create(&machine_config(&image))).await;
    assert_eq!(answer["response"]["allowed"], json!(true), "{answer}");
    assert_eq!(answer["response"].get("warnings"), None, "{answer}");
    let foreign = shelf.push(&Image::base("418.94.202601150000-0"));
    let answer = layerpin.webhooks.review("/validate", &create(&machine_config(&foreign))).await;
    let message = answer["response"]["status"]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("[foreign-base] "), "{answer}");
    assert!(message.ends_with(&format!("help: build it again on the base: FROM {}", shelf.base)), "{answer}");
    let mut fallen = shelf.derived()[0].clone();
    for label in ["containers.bootc", "ostree.bootable"] {
        fallen = fallen.without_label(label);
    }
    let fallen = shelf.push(&fallen);
    let answer = layerpin.webhooks.review("/validate", &create(&machine_config(&fallen))).await;
    let message = answer["response"]["status"]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("[not-bootable] nodes will refuse `"), "{answer}");
}

#[test]
fn explain_takes_files_and_says_what_it_cannot_take() {
    let shelf = Shelf::fill();
    let image = shelf.push(&shelf.derived()[0]);
    let setup = Setup::verb("explain").arguments(["worker.yaml", "--release-image", &shelf.payload]);
    setup.write("worker.yaml", &machine_config(&image).to_string());
    let (code, output, error) = setup.ended();
    assert_eq!((code, error.as_str()), (0, ""));
    let name = machine_config(&image)["metadata"]["name"].as_str().unwrap().to_owned();
    let head = format!("MachineConfig {name}\n{image}\n\nderived  linux/amd64, pool worker\n");
    assert!(output.starts_with(&head), "{output}");
    for (what, message) in [
        ("absent.yaml", "error: absent.yaml: no such file\n"),
        ("os:4.18", "error: "),
        ("empty.yaml", "error: empty.yaml: no MachineConfig in it names an `osImageURL`\n"),
    ] {
        let setup = Setup::verb("explain").arguments([what]);
        setup.write("empty.yaml", "kind: Pod\n");
        let (code, output, error) = setup.ended();
        assert_eq!((code, output.as_str()), (2, ""), "{what}");
        assert!(error.starts_with(message), "{what}: {error}");
    }
}

const VERSION: &str = "418.94.202601140000-0";
