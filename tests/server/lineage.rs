//! Lineage through the program: what `explain` and `/validate` make of images in a registry.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::{Architecture, Image, Index, MediaTypes, OCI_MANIFEST, Packing};
use layerpin_test_support::documents::{create, machine_config};
use layerpin_test_support::program::Setup;
use serde_json::{Value, json};

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

/// What `explain` tells of `image`: for each platform its result, the layers of its own, and the reason.
pub(crate) fn explained(image: &str, arguments: &[&str]) -> Vec<String> {
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
fn images_in_a_registry_are_classified_by_their_ancestry() {
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
        (
            "no bootable label",
            shelf.push(&bootable.iter().fold(amd64.clone(), |image, label| image.without_label(label))),
            derived(1),
        ),
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
                "linux/amd64 unprovable - its layers, including those of the base, were squashed into one"
                    .to_owned(),
            ],
        ),
        (
            "rechunked",
            shelf.push(&rechunked),
            vec!["linux/amd64 unprovable - its content was split into new layers (rechunked)".to_owned()],
        ),
        ("not there", not_there, vec![format!("- unknown - {} has no such image", shelf.registry.host())]),
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
    assert!(lines[0].contains(" unknown - cannot read the image: "), "{lines:?}");
}

#[test]
fn a_base_that_vanished_makes_the_lineage_unknown() {
    let shelf = Shelf::fill();
    let image = shelf.push(&shelf.derived()[0]);
    shelf.registry.delete_repository("ocp/os");
    let expected = format!("linux/amd64 unknown - the base `{}` no longer exists", shelf.base);
    assert_eq!(shelf.explained(&image), [expected]);
}

#[test]
fn what_lineage_is_judged_against_is_a_setting() {
    let shelf = Shelf::fill();
    let image = shelf.push(&shelf.derived()[0]);
    let nothing = "- unknown - no base image to compare with: no OpenShift cluster, no --release-image, no --base-image and no \
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
    let answer = layerpin.webhooks.review("/validate", &create(&machine_config().image(&image))).await;
    assert_eq!(answer["response"]["allowed"], json!(true), "{answer}");
    assert_eq!(answer["response"].get("warnings"), None, "{answer}");
    let foreign = shelf.push(&Image::base("418.94.202601150000-0"));
    let answer = layerpin.webhooks.review("/validate", &create(&machine_config().image(&foreign))).await;
    let message = answer["response"]["status"]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("[foreign-base] "), "{answer}");
    assert!(message.ends_with(&format!("help: rebuild it on this base: FROM {}", shelf.base)), "{answer}");
    let mut fallen = shelf.derived()[0].clone();
    for label in ["containers.bootc", "ostree.bootable"] {
        fallen = fallen.without_label(label);
    }
    let fallen = shelf.push(&fallen);
    let answer = layerpin.webhooks.review("/validate", &create(&machine_config().image(&fallen))).await;
    let message = answer["response"]["status"]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("[not-bootable] nodes will reject `"), "{answer}");
}

#[test]
fn explain_reads_files_and_names_the_ones_it_cannot_read() {
    let shelf = Shelf::fill();
    let image = shelf.push(&shelf.derived()[0]);
    let setup = Setup::verb("explain").arguments(["worker.yaml", "--release-image", &shelf.payload]);
    setup.write("worker.yaml", &machine_config().image(&image).to_string());
    let (code, output, error) = setup.ended();
    assert_eq!((code, error.as_str()), (0, ""));
    let head = format!("MachineConfig 99-worker-os\n{image}\n\nderived  linux/amd64, pool worker\n");
    assert!(output.starts_with(&head), "{output}");
    for (what, message) in [
        ("absent.yaml", "error: absent.yaml: no such file\n"),
        ("os:4.18", "error: "),
        ("empty.yaml", "error: empty.yaml: no MachineConfig in it sets `osImageURL`\n"),
    ] {
        let setup = Setup::verb("explain").arguments([what]);
        setup.write("empty.yaml", "kind: Pod\n");
        let (code, output, error) = setup.ended();
        assert_eq!((code, output.as_str()), (2, ""), "{what}");
        assert!(error.starts_with(message), "{what}: {error}");
    }
}

#[test]
fn facts_of_a_release_are_replayed_byte_for_byte_without_a_registry() {
    let shelf = Shelf::fill();
    let folder = tempfile::tempdir().unwrap();
    let [amd64, arm64] = shelf.derived();
    let derived = shelf.push_index([&amd64, &arm64]);
    let foreign = shelf.push(&Image::base("418.94.202601150000-0"));
    let run = |verb: &str, image: &str, arguments: &[&str]| {
        let setup = Setup::verb(verb).arguments(["worker.json"]).arguments(arguments);
        setup.write("worker.json", &machine_config().image(image).to_string());
        setup.ended()
    };
    let mut runs = Vec::new();
    for given in [["--release-image", &shelf.payload], ["--base-image", &shelf.base]] {
        for (image, result) in [(&derived, "derived"), (&foreign, "foreign")] {
            for verb in ["check", "explain"] {
                let file = folder.path().join(format!("{}.json", runs.len()));
                let record = ["--format", "json", "--save-facts", file.to_str().unwrap()];
                let live = run(verb, image, &[&record[..], &given].concat());
                assert_eq!(live.0, 0, "{live:?}");
                assert!(live.1.contains(&format!("\"result\": \"{result}\"")), "{live:?}");
                runs.push((verb, image, file, live));
            }
        }
    }
    drop(shelf);
    for (verb, image, file, live) in runs {
        let replay = ["--format", "json", "--facts", file.to_str().unwrap()];
        assert_eq!(run(verb, image, &replay), live, "{verb} {image}");
    }
}

#[test]
fn facts_that_cannot_be_written_are_an_error_beside_the_drawing() {
    let shelf = Shelf::fill();
    let arguments = [&shelf.base, "--base-image", &shelf.base, "--save-facts", "absent/facts.json"];
    let (code, output, error) = Setup::verb("explain").arguments(arguments).ended();
    assert_eq!(code, 2);
    assert!(output.contains("this is the base itself"), "{output}");
    assert!(error.starts_with("error: cannot write the facts to absent/facts.json: "), "{error}");
}

#[tokio::test]
async fn where_nothing_names_a_base_the_text_says_so_once_and_it_is_no_finding() {
    let shelf = Shelf::fill();
    let image = shelf.push(&shelf.derived()[0]);
    let remark = "note: lineage was not checked, because no base image is known: no cluster, and no --release-image, \
                  --base-image or `acceptedBases`\n";
    let check = |arguments: &[&str], policy: &str| {
        let setup =
            Setup::verb("check").policy(policy).arguments(["one.json", "two.json"]).arguments(arguments);
        for name in ["one.json", "two.json"] {
            setup.write(name, &machine_config().image(&image).to_string());
        }
        setup.ended()
    };
    let summary = "2 MachineConfigs in 2 files: 2 passed\n";
    let usual = "  rules: {older-os: warn}\n";
    let off = "  rules: {foreign-base: off, older-os: off, stale-base: off, stream-mismatch: off, unprovable-base: off}\n";
    assert_eq!(check(&[], usual), (0, String::new(), format!("{remark}{summary}")));
    for (arguments, policy) in [
        (&["--base-image", &shelf.base][..], usual),
        (&["--release-image", &shelf.payload], usual),
        (&[], off),
        (&["--format", "github"], usual),
    ] {
        assert_eq!(
            check(arguments, policy),
            (0, String::new(), summary.to_owned()),
            "{arguments:?} {policy}"
        );
    }

    let object = machine_config().image(&image);
    let verdict = "verdict on MachineConfig 99-worker-os: pass\n".to_owned();
    for (arguments, expected) in
        [(&[][..], format!("{verdict}{remark}")), (&["--base-image", &shelf.base], verdict.clone())]
    {
        let layerpin = Setup::serve().arguments(arguments).start();
        let answer = layerpin.webhooks.post_for("text/plain", "/dry-run", object.to_string()).await;
        assert_eq!(answer.text, expected, "{arguments:?}");
    }
}

#[test]
fn a_drawing_in_a_pipe_is_plain_and_as_wide_as_columns_says() {
    let shelf = Shelf::fill();
    let image = shelf.push(&Image::derived(&Image::base("418.94.202601150000-0"), &[("etc/motd", b"hello")]));
    let drawn = |columns: Option<&str>| {
        let setup = Setup::verb("explain").arguments([&image, "--release-image", &shelf.payload]);
        let setup = match columns {
            Some(columns) => setup.environment("COLUMNS", columns),
            None => setup,
        };
        let (code, output, error) = setup.ended();
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(!output.contains('\u{1b}'), "{output}");
        output
    };
    let widest = |text: &str| {
        let lines = text.lines().filter(|line| !line.contains("sha256:"));
        lines.map(|line| line.chars().count()).max().unwrap()
    };
    let (wide, narrow) = (drawn(Some("100")), drawn(Some("40")));
    assert!(widest(&narrow) <= 40 && widest(&wide) > 40, "{narrow}{wide}");
    assert_eq!(drawn(None), wide, "100 columns where nobody says");
    assert_eq!(drawn(Some("many")), wide);
}

const VERSION: &str = "418.94.202601140000-0";
