//! `layerpin base`: the pull spec to build FROM, alone on standard output.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::{Architecture, Component, Image, Index};
use serde_json::{Value, json};

use crate::program::Setup;

/// A registry with a release of two streams, and the pull specs of both.
fn release() -> (Registry, [String; 2]) {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let of = |version: &str| {
        let images = [Architecture::Amd64, Architecture::Arm64]
            .map(|architecture| Image::base_for(version, architecture));
        format!("{host}/ocp/os@{}", registry.push("ocp/os", None, &Index::of(&images)))
    };
    let references = [of("9.6.1"), of("10.2.1")];
    let payload = Image::release_payload_of(
        "4.21.3",
        &[
            Component::os("rhel-coreos", &references[0], "rhel-9", "9.6.1"),
            Component::os("rhel-coreos-10", &references[1], "rhel-10", "10.2.1"),
        ],
    );
    registry.push("ocp/release", Some("4.21.3"), &payload);
    (registry, references)
}

fn base(arguments: &[&str]) -> (i32, String, String) {
    Setup::verb("base").arguments(arguments.iter().copied()).arguments(["--no-cluster"]).ended()
}

#[test]
fn the_base_of_a_release_stands_alone_on_standard_output() {
    let (registry, [nine, ten]) = release();
    let payload = format!("{}/ocp/release:4.21.3", registry.host());
    let note =
        "note: release 4.21.3 has the streams rhel-9, rhel-10; this is rhel-9 (--stream chooses another)\n";
    for (stream, expected, words) in [
        (&[][..], &nine, note),
        (&["--stream", "rhel-9"], &nine, ""),
        (&["--stream", "rhel-10"], &ten, ""),
        (&["--stream", "rhel-coreos-10"], &ten, ""),
    ] {
        let found = base(&[&["--release-image", payload.as_str()][..], stream].concat());
        assert_eq!(found, (0, format!("{expected}\n"), words.to_owned()), "{stream:?}");
    }
}

#[test]
fn the_document_has_every_stream_and_platform() {
    let (registry, [nine, ten]) = release();
    let payload = format!("{}/ocp/release:4.21.3", registry.host());
    let (code, output, _) = base(&["--release-image", &payload, "--stream", "rhel-10", "--format", "json"]);
    let image = |tag: &str, stream: &str, version: &str, reference: &str, platforms: Value| {
        json!({
            "tag": tag, "stream": stream, "osVersion": version, "reference": reference, "platforms": platforms,
        })
    };
    let expected = |platforms: Value| {
        json!({
            "release": "4.21.3", "reference": ten, "stream": "rhel-10",
            "images": [
                image("rhel-coreos", "rhel-9", "9.6.1", &nine, platforms),
                image("rhel-coreos-10", "rhel-10", "10.2.1", &ten, json!(["linux/amd64", "linux/arm64"])),
            ],
        })
    };
    assert_eq!(code, 0);
    let document = |output: &str| serde_json::from_str::<Value>(output).unwrap();
    assert_eq!(document(&output), expected(json!(["linux/amd64", "linux/arm64"])));
    registry.delete_manifest("ocp/os", nine.split_once('@').unwrap().1);
    let (code, output, _) = base(&["--release-image", &payload, "--stream", "rhel-10", "--format", "json"]);
    assert_eq!((code, document(&output)), (0, expected(Value::Null)), "what is not there is not known");
}

#[test]
fn a_base_that_the_user_names_is_pinned() {
    let registry = Registry::start().unwrap();
    let digest = registry.push("acme/os", Some("hotfix"), &Image::base("4.18.1"));
    let repository = format!("{}/acme/os", registry.host());
    let pinned = format!("{repository}@{digest}");
    for reference in [format!("{repository}:hotfix"), format!("{repository}:other@{digest}"), pinned.clone()]
    {
        assert_eq!(base(&["--base-image", &reference]), (0, format!("{pinned}\n"), String::new()));
    }
}

#[test]
fn what_cannot_be_had_ends_with_2_and_says_why() {
    let (registry, _) = release();
    let host = registry.host();
    registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let release = format!("{host}/ocp/release:4.21.3");
    for (arguments, expected) in [
        (
            &[][..],
            "nothing says which release is meant; name its payload with --release-image, or a cluster with \
             --kubeconfig"
                .to_owned(),
        ),
        (
            &["--release-image", &format!("{host}/ocp/release:none")],
            format!("there is no release payload {host}/ocp/release:none"),
        ),
        (
            &["--release-image", &format!("{host}/acme/os:1")],
            format!(
                "the release payload {host}/acme/os:1 cannot be read: it is no release payload: its layers hold no \
                 release-manifests/image-references"
            ),
        ),
        (
            &["--release-image", &release, "--offline"],
            format!("the release payload {release} cannot be read: not asked, because of --offline"),
        ),
        (
            &["--release-image", &release, "--stream", "rhel-8"],
            "release 4.21.3 has no stream `rhel-8`; there are rhel-9, rhel-10".to_owned(),
        ),
        (&["--base-image", &format!("{host}/acme/os:2")], format!("there is no base image {host}/acme/os:2")),
    ] {
        let (code, output, error) = base(arguments);
        assert_eq!((code, output.as_str(), error), (2, "", format!("error: {expected}\n")), "{arguments:?}");
    }
}
