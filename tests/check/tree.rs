//! A folder with files, and the program run in it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use layerpin_sample_registry::keep_printed;
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};

/// A digest that the facts of [`Tree::known`] know.
pub(crate) const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A folder to run the program in.
pub(crate) struct Tree {
    folder: TempDir,
    policy: NamedTempFile,
}

/// How the program ended, and all that it wrote.
#[derive(Debug, PartialEq)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) output: String,
    pub(crate) error: String,
}

impl Tree {
    /// A folder with these files.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let tree =
            Self { folder: tempfile::tempdir().unwrap(), policy: tempfile::NamedTempFile::new().unwrap() };
        tree.judge_by(&policy(&[], ""));
        for (name, content) in files {
            tree.write(name, content);
        }
        tree
    }

    /// The same with `facts.json`, which knows `quay.io/acme/os` by the tag `4.18` and by [`DIGEST`].
    pub(crate) fn known(files: &[(&str, &str)]) -> Self {
        let tree = Self::of(files);
        let manifest = json!({"known": {"digest": DIGEST, "kind": "index", "endpoint": "quay.io"}});
        let facts = json!({
            "observedAt": "2026-01-15T12:00:00Z",
            "manifests": {"quay.io/acme/os:4.18": manifest, format!("quay.io/acme/os@{DIGEST}"): manifest},
        });
        tree.write("facts.json", facts.to_string());
        tree
    }

    /// Puts a policy in the place of the one that is there from the start.
    pub(crate) fn judge_by(&self, policy: &str) {
        std::fs::write(self.policy.path(), policy).unwrap();
    }

    /// The hash of the policy.
    pub(crate) fn policy_hash(&self) -> String {
        let text = std::fs::read_to_string(self.policy.path()).unwrap();
        layerpin::policy::Policy::parse(&text).unwrap().hash().to_owned()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// `layerpin` with these arguments, in this folder, with nothing but the policy in its environment.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_layerpin"));
        command.args(arguments).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        self.environment(&mut command);
        command
    }

    /// Puts into the environment of a command what the program finds there.
    pub(crate) fn environment(&self, command: &mut Command) {
        command.env("LAYERPIN_POLICY", self.policy.path());
    }

    /// Runs `layerpin check` with these arguments.
    pub(crate) fn check<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ended {
        let arguments: Vec<_> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        ended(self.command([OsStr::new("check").to_owned()].into_iter().chain(arguments)))
    }

    /// Runs `layerpin check` with these arguments and this on its standard input.
    pub(crate) fn check_input(&self, arguments: &[&str], input: &str) -> Ended {
        let command = self.command(["check"].iter().chain(arguments));
        let mut command = assert_cmd::Command::from_std(command);
        of(command.write_stdin(input).timeout(PATIENCE).output().unwrap())
    }

    /// The report of `layerpin check --format json` with these arguments.
    pub(crate) fn report(&self, arguments: &[&str]) -> Value {
        let ended = self.check(["--format", "json"].iter().chain(arguments));
        serde_json::from_str(&ended.output).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    }
}

/// Runs a command to its end.
pub(crate) fn ended(command: Command) -> Ended {
    of(assert_cmd::Command::from_std(command).timeout(PATIENCE).output().unwrap())
}

fn of(output: std::process::Output) -> Ended {
    let text = |bytes: Vec<u8>| {
        keep_printed("programs", &bytes);
        String::from_utf8(bytes).unwrap()
    };
    Ended {
        status: output.status.code().unwrap_or(-1),
        output: text(output.stdout),
        error: text(output.stderr),
    }
}

/// A MachineConfig of the pool `worker` that names `image`.
pub(crate) fn machine_config(name: &str, image: &str) -> String {
    format!(
        "apiVersion: machineconfiguration.openshift.io/v1\nkind: MachineConfig\nmetadata:\n  name: {name}\n  \
         labels:\n    machineconfiguration.openshift.io/role: worker\nspec:\n  osImageURL: {image}\n"
    )
}

/// A policy called `test` that judges by [`JUDGED`] alone, whatever rules there are, with these
/// `levels` and this `rest` of the spec, indented by two.
pub(crate) fn policy(levels: &[(&str, &str)], rest: &str) -> String {
    let rules: String = layerpin::rules::ALL
        .iter()
        .map(|rule| {
            let given = levels.iter().find(|(id, _)| *id == rule.id).map(|(_, level)| *level);
            let usual = if JUDGED.contains(&rule.id) { "deny" } else { "off" };
            format!("    {}: {}\n", rule.id, given.unwrap_or(usual))
        })
        .collect();
    format!(
        "apiVersion: layerpin.io/v1alpha1\nkind: OSImagePolicy\nmetadata: {{name: test}}\nspec:\n  rules:\n{rules}{rest}"
    )
}

/// The rules that these tests are about.
const JUDGED: [&str; 3] = ["floating-tag", "malformed-reference", "unpullable-image"];

/// Tells whether a program is there. A test whose tool is missing says `skipped`, and fails where
/// every tool is to be there.
pub(crate) fn has_tool(name: &str) -> bool {
    let is_there = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join(name).is_file());
    if !is_there {
        assert!(std::env::var_os("LAYERPIN_REQUIRE_TOOLS").is_none(), "{name} is not installed");
        eprintln!("skipped: {name} is not installed");
    }
    is_there
}

/// The path with the tools.
pub(crate) fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// The program itself.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_layerpin"))
}

/// Far more than anything here takes; only a program that hangs takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
