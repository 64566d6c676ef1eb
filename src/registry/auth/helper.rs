//! Credential helpers: programs that store credentials for Docker and similar tools (`credHelpers`,
//! `credsStore`).
//!
//! Owns how a helper is run: as `docker-credential-NAME` in `PATH`, once at a time for each host, with a
//! deadline and a limit on its output. The output is never shown. A helper runs in its own process group,
//! which is killed when it does not answer.

use std::process::Stdio;
use std::time::Duration;

use moka::future::Cache;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::errors;
use crate::registry::auth::credential::Credential;

/// What a helper is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HelperRequest {
    /// The part of its name after `docker-credential-`.
    pub(crate) helper: String,
    /// The registry: `host` or `host:port`.
    pub(crate) host: String,
}

/// A credential, `None` for a host that the helper does not know, or why the helper failed.
pub(crate) type HelperResult = Result<Option<Credential>, String>;

/// Runs helpers, and keeps their answers for a while.
#[derive(Debug)]
pub(crate) struct Helpers(Cache<HelperRequest, Option<Credential>>);

impl Helpers {
    pub(crate) fn new() -> Self {
        Self(Cache::builder().max_capacity(MAX_KEPT).time_to_live(KEPT).build())
    }

    /// The answer of the helper, which runs once for all callers that wait for it.
    pub(crate) async fn ask(&self, request: HelperRequest) -> HelperResult {
        let kept = self.0.clone();
        // A task of its own goes on for later callers when this caller gives up.
        let asked = tokio::spawn(async move { kept.try_get_with(request.clone(), request.run()).await });
        match asked.await {
            Ok(answer) => answer.map_err(|reason| reason.to_string()),
            Err(_) => Err("internal error; see the log of layerpin".to_owned()),
        }
    }

    /// Forgets all answers, because the files that name the helpers have changed.
    pub(crate) fn forget(&self) {
        self.0.invalidate_all();
    }
}

impl HelperRequest {
    /// Whether `name` can follow `docker-credential-`: it must not be a path to another folder.
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
            // So that the programs that a helper script runs are killed with it. On the command line this makes
            // it a background job: one that reads from the terminal is stopped (SIGTTIN) and killed at the
            // deadline. A user could not answer it anyway: its standard input is the request, and several
            // helpers may run at once.
            .process_group(0)
            .spawn()
            .map_err(|error| failed("cannot be run", error))?;
        let mut group = ProcessGroup::of(&child);
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that does not read its input may still answer.
            let _ = stdin.write_all(format!("{}\n", self.host).as_bytes()).await;
        }
        let mut output = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let read = stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output).await;
            read.map_err(|error| failed("cannot be read", error))?;
        }
        if output.len() as u64 > MAX_OUTPUT {
            return Err(format!("{program} printed more than {MAX_OUTPUT} bytes"));
        }
        let status = child.wait().await.map_err(|error| failed("cannot be waited for", error))?;
        // Programs that it started on purpose, such as the agent of `gpg`, continue.
        group.leave();
        if !status.success() {
            // The one message that the protocol defines.
            let is_unknown = String::from_utf8_lossy(&output).trim() == NOT_FOUND;
            return if is_unknown { Ok(None) } else { Err(format!("{program} failed ({status})")) };
        }
        let output: HelperOutput = serde_json::from_slice(&output)
            .map_err(|_| format!("{program} did not print a credential in JSON"))?;
        Ok(Credential::of_helper(&self.host, output.username, output.secret))
    }
}

/// The processes of a helper, which are killed when this is dropped.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.cast_signed())))
    }

    /// Lets them continue: the number of the group may soon be that of another group.
    fn leave(&mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // An error has no receiver here; the helper itself is also killed by its handle.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The output of `get` (`credentials.Credentials` of docker-credential-helpers).
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HelperOutput {
    username: String,
    secret: String,
}

/// `credentialsNotFoundError` of docker-credential-helpers.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// A helper may send requests to a cloud; a webhook has ten seconds for everything.
const LONGEST_RUN: Duration = Duration::from_secs(5);
/// Tokens are a few kilobytes.
const MAX_OUTPUT: u64 = 64 * 1024;
/// The credentials that helpers of clouds issue are valid for hours.
const KEPT: Duration = Duration::from_secs(300);
const MAX_KEPT: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_helper_is_not_a_path() {
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
