//! Credential helpers, as shell scripts, and the files of other tools of the user.
//!
//! Helpers are found in `PATH`, so each of these tests runs in its own process.

use std::path::Path;

use futures_util::future::join_all;
use layerpin::model::facts::{Cause, CredentialsSent, Fact, NodeCredentials};
use layerpin::registry::auth::keychain::Keychain;
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Registry, write_script};
use serde_json::json;

use crate::support::{Asker, PATIENCE, image, is_alone, password, refused, run_alone};

/// The folder of `docker-credential-sample`, in a process whose `PATH` starts with it. `None` elsewhere, after
/// `test` of this module has passed in such a process.
fn alone(test: &str, script: &str) -> Option<String> {
    if is_alone() {
        let path = std::env::var("PATH").unwrap();
        return Some(path.split(':').next().unwrap().to_owned());
    }
    let folder = tempfile::tempdir().unwrap();
    let noted = "echo \"$1\" >> \"${0%/*}/runs\"\nread host\necho \"$host\" >> \"${0%/*}/runs\"";
    write_script(&folder.path().join("docker-credential-sample"), &format!("{noted}\n{script}")).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    run_alone(&format!("helpers::{test}"), &[("PATH", Path::new(&path))]);
    None
}

/// A client that reads `auth_file`, and a registry that accepts only `alice`.
fn parts(auth_file: impl Fn(&str) -> serde_json::Value) -> (Registry, String, Asker) {
    let registry = Registry::builder().basic_auth("alice", "s3cr3t-word").start().unwrap();
    registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), auth_file(&registry.host()).to_string()).unwrap();
    let credentials = Keychain::from_file(file.path()).unwrap();
    let host = registry.host();
    (registry, host, Asker::with_settings(credentials.into()))
}

fn no_credential(host: &str, reason: &str) -> Fact<layerpin::model::facts::Manifest> {
    Fact::Unknown(Cause::NoCredential { host: host.to_owned(), reason: reason.to_owned() })
}

#[tokio::test]
async fn the_helper_of_a_host_runs_once_for_all_requests() {
    let script = "echo '{\"ServerURL\":\"x\",\"Username\":\"alice\",\"Secret\":\"s3cr3t-word\"}'";
    let Some(folder) = alone("the_helper_of_a_host_runs_once_for_all_requests", script) else { return };
    // The helper of a host takes precedence over its entry.
    let (_registry, host, asker) = parts(
        |host| json!({"auths": {host: password("alice", "wrong")}, "credHelpers": {host: "sample", "other.example": "none"}}),
    );
    let digest = Image::base("4.18.1").digest();
    let reference = format!("{host}/acme/os:1");
    let answers = join_all((0..20).map(|_| asker.ask(&reference))).await;
    assert_eq!(answers, vec![image(&digest, &host); 20]);
    assert_eq!(asker.ask_now(&reference).await, image(&digest, &host));
    assert_eq!(std::fs::read_to_string(format!("{folder}/runs")).unwrap(), format!("get\n{host}\n"));
}

#[tokio::test]
async fn the_helper_for_all_hosts_runs_where_there_is_no_entry() {
    let script = "echo 'credentials not found in native keychain'; exit 1";
    let Some(folder) = alone("the_helper_for_all_hosts_runs_where_there_is_no_entry", script) else { return };
    let (_registry, host, asker) = parts(|_| json!({"credsStore": "sample"}));
    let reference = format!("{host}/acme/os:1");
    assert_eq!(
        asker.ask(&reference).await,
        refused(&host, 401, CredentialsSent::NoEntry, NodeCredentials::Same)
    );
    assert_eq!(std::fs::read_to_string(format!("{folder}/runs")).unwrap(), format!("get\n{host}\n"));
    let (_registry, host, asker) =
        parts(|host| json!({"auths": {host: password("alice", "s3cr3t-word")}, "credsStore": "sample"}));
    let digest = Image::base("4.18.1").digest();
    assert_eq!(asker.ask(&format!("{host}/acme/os:1")).await, image(&digest, &host));
    let runs = std::fs::read_to_string(format!("{folder}/runs")).unwrap();
    assert_eq!(runs.lines().count(), 2, "an entry comes before the store");
}

#[tokio::test]
async fn the_error_of_a_helper_does_not_contain_its_output() {
    let script = "echo 'planted-secret'; echo 'planted-secret' >&2; exit 3";
    let Some(_) = alone("the_error_of_a_helper_does_not_contain_its_output", script) else { return };
    let (registry, host, asker) = parts(|host| json!({"credHelpers": {host: "sample"}}));
    let answer = asker.ask(&format!("{host}/acme/os:1")).await;
    assert_eq!(answer, no_credential(&host, "docker-credential-sample failed (exit status: 3)"));
    assert_eq!(registry.connections(), 0);
}

#[tokio::test]
async fn a_helper_that_hangs_or_prints_without_end_is_killed() {
    let script = "case \"$host\" in *:*) exec sleep 3600;; *) exec cat /dev/zero;; esac";
    let Some(_) = alone("a_helper_that_hangs_or_prints_without_end_is_killed", script) else {
        return;
    };
    let (_registry, host, asker) =
        parts(|host| json!({"credHelpers": {host: "sample", "talks.example": "sample"}}));
    let answer = asker.ask(&format!("{host}/acme/os:1")).await;
    assert_eq!(answer, no_credential(&host, "docker-credential-sample did not answer within 5 seconds"));
    let answer = asker.ask("talks.example/acme/os:1").await;
    assert_eq!(
        answer,
        no_credential("talks.example", "docker-credential-sample printed more than 65536 bytes")
    );
}

#[tokio::test]
async fn programs_that_a_helper_started_are_killed_with_it_at_the_deadline() {
    // Not `exec`, so that it is a child of the helper.
    let script = "sleep 3600 > \"${0%/*}/held\"; true";
    let Some(folder) = alone("programs_that_a_helper_started_are_killed_with_it_at_the_deadline", script)
    else {
        return;
    };
    // It keeps this open for writing while it runs.
    let held = Reading::begin(make_pipe(&folder, "held"));
    let (_registry, host, asker) = parts(|host| json!({"credHelpers": {host: "sample"}}));
    let answer = asker.ask(&format!("{host}/acme/os:1")).await;
    assert_eq!(answer, no_credential(&host, "docker-credential-sample did not answer within 5 seconds"));
    assert_eq!(held.all(), "");
}

#[tokio::test]
async fn programs_that_a_helper_started_continue_when_it_has_answered() {
    // As `gpg` does with its agent.
    let script = "{ read word < \"${0%/*}/asked\"; echo \"$word\" > \"${0%/*}/held\"; } > /dev/null & \
                  echo '{\"Username\":\"alice\",\"Secret\":\"s3cr3t-word\"}'";
    let Some(folder) = alone("programs_that_a_helper_started_continue_when_it_has_answered", script) else {
        return;
    };
    let (asked, held) = (make_pipe(&folder, "asked"), Reading::begin(make_pipe(&folder, "held")));
    let (_registry, host, asker) = parts(|host| json!({"credHelpers": {host: "sample"}}));
    let digest = Image::base("4.18.1").digest();
    assert_eq!(asker.ask(&format!("{host}/acme/os:1")).await, image(&digest, &host));
    std::thread::spawn(move || std::fs::write(asked, "there\n"));
    assert_eq!(held.all(), "there\n");
}

fn make_pipe(folder: &str, name: &str) -> String {
    let path = format!("{folder}/{name}");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// A named pipe that is being read.
struct Reading(std::sync::mpsc::Receiver<String>);

impl Reading {
    fn begin(path: String) -> Self {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(std::fs::read_to_string(path).unwrap()));
        Self(receiver)
    }

    /// What was written, when no process has it open for writing.
    fn all(self) -> String {
        self.0.recv_timeout(PATIENCE).expect("the other end is closed")
    }
}

#[tokio::test]
async fn a_helper_that_is_not_installed_is_named() {
    let (_registry, host, asker) = parts(|host| json!({"credHelpers": {host: "not-installed"}}));
    let reason = "docker-credential-not-installed cannot be run: No such file or directory";
    assert_eq!(asker.ask(&format!("{host}/acme/os:1")).await, no_credential(&host, reason));
}
