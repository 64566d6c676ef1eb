//! `layerpin base`: the pull spec to build FROM, alone on standard output.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::{Architecture, Component, Image, Index};
use layerpin_test_support::program::Setup;
use serde_json::{Value, json};

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
fn a_tag_that_a_mirror_has_is_named_by_digest_where_that_is_found_too() {
    let (source, mirror) = (Registry::start().unwrap(), Registry::start().unwrap());
    let digest = mirror.push("acme/os", Some("hotfix"), &Image::base("4.18.1"));
    let base = || {
        let setup = Setup::verb("base").arguments(["--no-cluster", "--registries-conf", "registries.conf"]);
        let mirrored = format!(
            "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\npull-from-mirror = \"tag-only\"\n",
            source.host(),
            mirror.host()
        );
        setup.write("registries.conf", &mirrored);
        setup.arguments(["--base-image", &format!("{}/acme/os:hotfix", source.host())]).ended()
    };
    let error = format!(
        "error: {}/acme/os:hotfix cannot be built on by its digest: {} has {}… under the tag, but it is not where \
         nodes pull digests from\n",
        source.host(),
        mirror.host(),
        &digest[..19]
    );
    assert_eq!(base(), (2, String::new(), error));
    source.push("acme/os", None, &Image::base("4.18.1"));
    assert_eq!(base(), (0, format!("{}/acme/os@{digest}\n", source.host()), String::new()));
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
                "the release payload {host}/acme/os:1 cannot be read: it is not a release payload: its layers do not have \
                 release-manifests/image-references"
            ),
        ),
        (
            &["--release-image", &release, "--offline"],
            format!("the release payload {release} cannot be read: not asked: `--offline` is set"),
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

/// Facts of a cluster that runs `version`, with the pools `infra` and `worker`, of which `infra` has
/// chosen a stream.
fn cluster(version: &str, objects: Value) -> Value {
    let payload = "quay.io/ocp/release:1";
    let pool = |name: &str, stream: Value| {
        json!({
            "name": name, "machineConfigSelector": {}, "osImageStream": stream, "paused": false,
            "nodes": {"known": {"amd64": 1}},
        })
    };
    let mut cluster = json!({
        "version": {"known": {"desired": {"version": version, "image": payload}}},
        "pools": {"known": [pool("infra", json!("rhel-10")), pool("worker", Value::Null)]},
        "streams": "absent",
    });
    cluster.as_object_mut().unwrap().extend(objects.as_object().unwrap().clone());
    json!({"observedAt": "2026-01-01T00:00:00Z", "cluster": cluster})
}

/// What `layerpin base` makes of facts.
fn base_of(facts: &Value, arguments: &[&str]) -> (i32, String, String) {
    let setup = Setup::verb("base");
    setup.write("facts.json", &facts.to_string());
    setup.arguments(["--facts", "facts.json"]).arguments(arguments.iter().copied()).ended()
}

const NINE: &str = "quay.io/ocp/os@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const TEN: &str = "quay.io/ocp/os@sha256:10123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde";

#[test]
fn each_pool_of_the_cluster_has_the_base_of_its_own_stream() {
    let streams = json!({
        "defaultStream": "rhel-9", "available": {"rhel-9": NINE, "rhel-10": TEN},
        "releaseImage": "quay.io/ocp/release:1",
    });
    let facts = cluster("5.0.1", json!({"streams": {"known": streams}}));
    let note =
        "note: release 5.0.1 has the streams rhel-10, rhel-9; this is rhel-9 (--stream chooses another)\n";
    for (arguments, expected, words) in [
        (&[][..], NINE, note),
        (&["--pool", "worker"], NINE, ""),
        (&["--pool", "infra"], TEN, ""),
        (&["--pool", "infra", "--stream", "rhel-9"], NINE, ""),
        (&["--stream", "rhel-10"], TEN, ""),
    ] {
        let found = base_of(&facts, arguments);
        assert_eq!(found, (0, format!("{expected}\n"), words.to_owned()), "{arguments:?}");
    }
    let (code, output, error) = base_of(&facts, &["--pool", "edge"]);
    assert_eq!((code, output.as_str()), (2, ""));
    assert_eq!(error, "error: no pool is named `edge`; there are infra, worker\n");
    // As with a hosted control plane.
    let hosted = cluster("5.0.1", json!({"streams": facts["cluster"]["streams"], "pools": "absent"}));
    let (code, output, error) = base_of(&hosted, &["--pool", "worker"]);
    assert_eq!((code, output.as_str()), (2, ""));
    assert_eq!(error, "error: the cluster has no MachineConfigPools; without --pool its base is printed\n");
}

#[test]
fn without_streams_the_controller_config_names_the_base() {
    let of = |release: &str| json!({"controllerConfig": {"known": {"baseOsContainerImage": NINE, "releaseVersion": release}}});
    let facts = cluster("4.18.14", of("4.18.14"));
    for arguments in [&[][..], &["--pool", "worker"]] {
        assert_eq!(base_of(&facts, arguments), (0, format!("{NINE}\n"), String::new()));
    }
    // One that is left over from the release before names another base, and the payload was not read.
    let (code, output, error) = base_of(&cluster("4.18.14", of("4.18.13")), &[]);
    assert_eq!((code, output.as_str()), (2, ""));
    assert_eq!(
        error,
        "note: ControllerConfig/machine-config-controller was ignored: it belongs to 4.18.13, but the cluster's \
         release is 4.18.14\nerror: the base of the cluster is not known: cannot read the release payload \
         `quay.io/ocp/release:1`: not asked: the facts file (`--facts`) has no answer\n"
    );
}
