//! Credential helpers: programs that keep credentials for Docker and its kin (`credHelpers`,
//! `credsStore`).
//!
//! Owns how a helper is run: by the name `docker-credential-NAME`, found by `PATH`, one at a time for
//! each host, with a deadline and a bound on what it may say. What it says is never shown. It is in a
//! process group of its own, which ends with it where it does not answer.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::errors;
use crate::registry::auth::credential::Credential;
use crate::registry::single_flight::{Reuse, SingleFlight};

/// A question to a helper.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HelperRequest {
    /// What stands behind `docker-credential-`.
    pub(crate) helper: String,
    /// The registry: `host` or `host:port`.
    pub(crate) host: String,
}

/// A credential, none for a host that the helper does not know, or why there is no answer.
pub(crate) type HelperResult = Result<Option<Credential>, String>;

/// What helpers said, for a while.
#[derive(Debug)]
pub(crate) struct Helpers {
    kept: Cache<HelperRequest, Option<Credential>>,
    under_way: Arc<SingleFlight<HelperRequest, HelperResult>>,
}

impl Helpers {
    pub(crate) fn new() -> Self {
        let kept = Cache::builder().max_capacity(MAX_KEPT).time_to_live(KEPT).build();
        Self { kept, under_way: SingleFlight::new() }
    }

    /// What the helper says. It is run once however many ask.
    pub(crate) async fn ask(&self, question: HelperRequest) -> HelperResult {
        let known = || self.kept.get(&question).map(Ok);
        let (key, kept) = (question.clone(), self.kept.clone());
        let land = move |outcome: &HelperResult| {
            if let Ok(credential) = outcome {
                kept.insert(key, credential.clone());
            }
            Reuse::Answer
        };
        let asked = question.clone();
        let run = Box::pin(async move { asked.run().await });
        let answer = self.under_way.join(known, question.clone(), run, land).answer().await;
        answer.unwrap_or_else(|| Err("layerpin failed while asking; its log has the reason".to_owned()))
    }

    /// Forgets what helpers said: the files that name them have changed.
    pub(crate) fn forget(&self) {
        self.kept.invalidate_all();
    }
}

impl HelperRequest {
    /// Tells whether `name` can stand behind `docker-credential-`: it must not lead to another folder.
    pub(crate) fn is_helper(name: &str) -> bool {
        let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !name.is_empty() && name.bytes().all(is_usual)
    }

    async fn run(&self) -> HelperResult {
        let program = format!("docker-credential-{}", self.helper);
        match timeout(LONGEST_RUN, self.talk(&program)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("{program} did not answer within {} seconds", LONGEST_RUN.as_secs())),
        }
    }

    async fn talk(&self, program: &str) -> HelperResult {
        let failed =
            |what: &str, error: std::io::Error| format!("{program} {what}: {}", errors::words(&error));
        let mut child = Command::new(program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            // So that a helper that is a script takes along what it runs. On the command line this makes it a
            // job in the background: one that reads from the terminal itself is stopped by it (SIGTTIN) and
            // ends at the deadline. Nobody could answer it there: it has seconds, its standard input is the
            // question, and several of them may run at once.
            .process_group(0)
            .spawn()
            .map_err(|error| failed("cannot be run", error))?;
        let mut group = ProcessGroup::of(&child);
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that does not read its question may still answer.
            let _ = stdin.write_all(format!("{}\n", self.host).as_bytes()).await;
        }
        let mut said = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let read = stdout.take(MAX_SAID + 1).read_to_end(&mut said).await;
            read.map_err(|error| failed("cannot be read", error))?;
        }
        if said.len() as u64 > MAX_SAID {
            return Err(format!("{program} said more than {MAX_SAID} bytes"));
        }
        let status = child.wait().await.map_err(|error| failed("cannot be waited for", error))?;
        // What it left behind on purpose goes on, such as the agent of `gpg`.
        group.leave();
        if !status.success() {
            // The one message that the protocol defines.
            let is_unknown = String::from_utf8_lossy(&said).trim() == NOT_FOUND;
            return if is_unknown { Ok(None) } else { Err(format!("{program} failed ({status})")) };
        }
        let said: HelperOutput =
            serde_json::from_slice(&said).map_err(|_| format!("{program} answered what is no credential"))?;
        Ok(Credential::of_helper(&self.host, said.username, said.secret))
    }
}

/// The processes of a helper, killed when this is dropped.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.cast_signed())))
    }

    /// Leaves them alone: the number of the group may soon be another's.
    fn leave(&mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // There is nobody to tell; the helper itself is killed by its own handle as well.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// What `get` prints (docker-credential-helpers, `credentials.Credentials`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperOutput {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// `credentialsNotFoundError` of docker-credential-helpers.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// A helper may have to ask a cloud; a webhook has ten seconds for everything.
const LONGEST_RUN: Duration = Duration::from_secs(5);
/// Tokens are a few kilobytes.
const MAX_SAID: u64 = 64 * 1024;
/// Helpers of clouds hand out credentials that end after hours.
const KEPT: Duration = Duration::from_secs(300);
const MAX_KEPT: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_is_a_name_and_no_path() {
        for (name, is_helper) in [
            ("pass", true),
            ("ecr-login", true),
            ("a.b_c", true),
            ("", false),
            ("../x", false),
            ("a b", false),
            ("a/b", false),
        ] {
            assert_eq!(HelperRequest::is_helper(name), is_helper, "{name}");
        }
    }
}
