//! The registry takes what clients push.

mod support;

use std::path::Path;
use std::process::Command;

use layerpin_sample_registry::images::{Architecture, Artifact, Image, Index, OCI_MANIFEST};
use layerpin_sample_registry::{Registry, TokenService, digest_of};

use support::{ask, send};

#[tokio::test]
async fn a_blob_arrives_in_pieces_and_is_checked() {
    let registry = Registry::start().expect("a registry");
    let host = registry.host();
    let digest = digest_of(b"one two");

    let begun = send("POST", &host, "/v2/acme/os/blobs/uploads/", &[], "").await.expect("a reply");
    assert_eq!(begun.status, 202);
    let location = begun.header("location").expect("a location");
    let continued = send("PATCH", &host, location, &[], "one ").await.expect("a reply");
    assert_eq!(continued.status, 202);
    assert_eq!(continued.header("range"), Some("0-3"));
    let ended =
        send("PUT", &host, &format!("{location}?digest={digest}"), &[], "two").await.expect("a reply");
    assert_eq!(ended.status, 201);
    let blob = ask("GET", &host, &format!("/v2/acme/os/blobs/{digest}"), &[]).await.expect("a reply");
    assert_eq!(blob.body, "one two");

    let path = format!("/v2/acme/os/blobs/uploads/?digest={digest}");
    let refused = send("POST", &host, &path, &[], "something else").await.expect("a reply");
    assert_eq!(refused.error_code(), "DIGEST_INVALID");
}

#[tokio::test]
async fn a_manifest_is_kept_as_it_was_pushed() {
    let registry = Registry::start().expect("a registry");
    let host = registry.host();
    let image = Image::base("4.18.1");
    let path = "/v2/acme/os/manifests/4.18";
    let headers = [("content-type", OCI_MANIFEST)];
    let pushed = send("PUT", &host, path, &headers, image.manifest()).await.expect("a reply");
    assert_eq!(pushed.status, 201);
    assert_eq!(pushed.header("docker-content-digest"), Some(image.digest().as_str()));
    let pulled = ask("GET", &host, path, &[]).await.expect("a reply");
    assert_eq!(pulled.body, image.manifest());
    let path = format!("/v2/acme/os/manifests/{}", digest_of(b"another"));
    let refused = send("PUT", &host, &path, &headers, image.manifest()).await.expect("a reply");
    assert_eq!(refused.error_code(), "DIGEST_INVALID");
    let deleted = ask("DELETE", &host, "/v2/acme/os/manifests/4.18", &[]).await.expect("a reply");
    assert_eq!(deleted.status, 202);
}

#[test]
fn skopeo_pushes_and_pulls_with_a_token() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        eprintln!("skipped: no skopeo");
        return;
    }
    let tokens = TokenService::builder().user("alice", "s3cr3t-word").start().expect("a token service");
    let registry = Registry::builder().bearer_auth(&tokens).start().expect("a registry");
    let index = Index::of([
        &Image::base_for("4.18.1", Architecture::Amd64),
        &Image::base_for("4.18.1", Architecture::Arm64),
    ]);
    let folder = std::env::temp_dir().join(format!("layerpin-push-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let archive = folder.join("index.tar");
    Artifact::from(&index).write_oci_archive(&archive).expect("an archive");

    let pushed = format!("docker://{}/acme/os:4.18", registry.host());
    skopeo_copy(&folder, &format!("oci-archive:{}", archive.display()), &pushed);
    let copy = format!("docker://{}/acme/copy:4.18", registry.host());
    skopeo_copy(&folder, &pushed, &copy);
    // Fails unless the copy has the digest of the original.
    registry.tag("acme/copy", "same", &index.digest());
    assert!(tokens.count("GET", "/token") > 0, "tokens were asked for");
    std::fs::remove_dir_all(&folder).expect("the folder");
}

fn skopeo_copy(folder: &Path, from: &str, to: &str) {
    let mut command = Command::new("skopeo");
    command
        .arg("--insecure-policy")
        .arg("--tmpdir")
        .arg(folder)
        .args(["copy", "--all", "--preserve-digests"])
        .args(["--src-tls-verify=false", "--dest-tls-verify=false"])
        .args(["--dest-creds", "alice:s3cr3t-word"]);
    if from.starts_with("docker:") {
        command.args(["--src-creds", "alice:s3cr3t-word"]);
    }
    let output = command.arg(from).arg(to).output().expect("skopeo");
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{from} to {to}: {problem}");
}
