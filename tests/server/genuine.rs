//! Tools that others made: Debian's registry, filled by `skopeo` and `buildah`, behind the server.

use std::process::Command;

use layerpin_sample_registry::DockerRegistry;
use layerpin_test_support::documents::{create, machine_config, policy};
use layerpin_test_support::program::{Layerpin, Setup};
use layerpin_test_support::tools::{archive, needs};

use crate::answers::patched;

/// Runs a tool, and returns what it prints.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The digest of what a tag names, as `skopeo` tells it.
fn digest_by_skopeo(reference: &str, options: &[&str]) -> String {
    let mut command = Command::new("skopeo");
    command.args(["inspect", "--no-tags", "--tls-verify=false", "--format", "{{.Digest}}"]).args(options);
    run(command.arg(format!("docker://{reference}")))
}

/// A tag is pinned to `digest`, and what comes of that passes.
async fn assert_pinned(layerpin: &Layerpin, reference: &str, digest: &str) {
    let object = machine_config().image(reference);
    let after = patched(&object, &layerpin.webhooks.review("/mutate", &create(&object)).await);
    let repository = reference.rsplit_once(':').unwrap().0;
    assert_eq!(after["spec"]["osImageURL"], format!("{repository}@{digest}"));
    let judged = layerpin.webhooks.review("/validate", &create(&after)).await;
    assert_eq!(judged["response"]["auditAnnotations"]["verdict"], "pass", "{judged}");
}

#[tokio::test]
async fn genuine_images_are_pinned_to_the_digests_that_skopeo_prints() {
    needs!("docker-registry", "skopeo", "htpasswd");
    let registry = DockerRegistry::builder().htpasswd("robot", "s3cr3t-word").start().unwrap();
    let host = registry.host();
    let auths = serde_json::json!({host.as_str(): {"username": "robot", "password": "s3cr3t-word"}});
    let layerpin = Setup::serve().auths(&auths).start();
    for name in ["base", "chunked", "derived"] {
        let tag = format!("rhcos/os:{name}");
        registry.skopeo_copy(&archive(name), &tag, Some(("robot", "s3cr3t-word"))).unwrap();
        let reference = format!("{host}/{tag}");
        let digest = digest_by_skopeo(&reference, &["--creds", "robot:s3cr3t-word"]);
        assert_pinned(&layerpin, &reference, &digest).await;
    }
}

#[tokio::test]
async fn an_image_that_buildah_built_is_pinned() {
    needs!("docker-registry", "skopeo", "buildah");
    let registry = DockerRegistry::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let reference = format!("{}/acme/os:built", registry.host());
    std::fs::write(folder.path().join("Containerfile"), CONTAINERFILE).unwrap();
    std::fs::write(folder.path().join("motd"), "built by a test\n").unwrap();
    // Storage of our own, so that nothing is left behind.
    let buildah = |arguments: &[&str]| {
        let mut command = Command::new("buildah");
        let storage = ["--storage-driver", "vfs", "--root", "root", "--runroot", "run"];
        run(command.current_dir(folder.path()).args(storage).args(arguments))
    };
    buildah(&["build", "--isolation", "chroot", "--tag", &reference, "."]);
    buildah(&["push", "--tls-verify=false", &reference]);
    let digest = digest_by_skopeo(&reference, &["--no-creds"]);
    // Without an ostree commit in it, some hosts would not boot it; that is not the matter here.
    let setup = Setup::serve();
    setup.write("policy.yaml", &policy("  rules: {not-bootable: off}\n"));
    let layerpin = setup.arguments(["--policy", "policy.yaml"]).start();
    assert_pinned(&layerpin, &reference, &digest).await;
}

const CONTAINERFILE: &str = "FROM scratch\nLABEL containers.bootc=1\nCOPY motd /etc/motd\n";
