//! A folder with files, and the program run in it.

use std::ffi::OsStr;
use std::ops::Deref;
use std::process::Command;

use layerpin_test_support::documents;
use layerpin_test_support::program::{Ended, Folder};
use serde_json::Value;
use tempfile::NamedTempFile;

/// A digest that the facts of [`Tree::known`] know.
pub(crate) const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A folder to run the program in, with a policy outside it.
pub(crate) struct Tree {
    folder: Folder,
    policy: NamedTempFile,
}

impl Deref for Tree {
    type Target = Folder;

    fn deref(&self) -> &Folder {
        &self.folder
    }
}

impl Tree {
    /// A folder with these files.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let tree = Self { folder: Folder::new(), policy: NamedTempFile::new().unwrap() };
        tree.judge_by(&policy(&[], ""));
        for (name, content) in files {
            tree.write(name, content);
        }
        tree
    }

    /// The same with `facts.json`, which knows `quay.io/acme/os` by the tag `4.18` and by [`DIGEST`].
    pub(crate) fn known(files: &[(&str, &str)]) -> Self {
        let tree = Self::of(files);
        let (tag, pinned) = ("quay.io/acme/os:4.18", format!("quay.io/acme/os@{DIGEST}"));
        let facts = documents::facts(&[(tag, DIGEST), (&pinned, DIGEST)]);
        tree.write("facts.json", facts.to_string());
        tree
    }

    /// Replaces the policy.
    pub(crate) fn judge_by(&self, policy: &str) {
        std::fs::write(self.policy.path(), policy).unwrap();
    }

    /// The hash of the policy.
    pub(crate) fn policy_hash(&self) -> String {
        let text = std::fs::read_to_string(self.policy.path()).unwrap();
        layerpin::policy::Policy::parse(&text).unwrap().hash().to_owned()
    }

    /// `layerpin` with these arguments, in this folder, with nothing but the policy in its environment.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.folder.command(arguments);
        self.environment(&mut command);
        command
    }

    /// Adds the policy to the environment of a command.
    pub(crate) fn environment(&self, command: &mut Command) {
        command.env("LAYERPIN_POLICY", self.policy.path());
    }

    /// Runs `layerpin check` with these arguments.
    pub(crate) fn check<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ended {
        let arguments: Vec<_> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        Ended::of(self.command([OsStr::new("check").to_owned()].into_iter().chain(arguments)))
    }

    /// Runs `layerpin check` with these arguments and this on its standard input.
    pub(crate) fn check_input(&self, arguments: &[&str], input: &str) -> Ended {
        Ended::with_input(self.command(["check"].iter().chain(arguments)), input)
    }

    /// The report of `layerpin check --format json` with these arguments.
    pub(crate) fn report(&self, arguments: &[&str]) -> Value {
        let ended = self.check(["--format", "json"].iter().chain(arguments));
        serde_json::from_str(&ended.output).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    }
}

/// A MachineConfig of the pool `worker` that names `image`.
pub(crate) fn machine_config(name: &str, image: &str) -> String {
    documents::machine_config().named(name).image(image).to_yaml()
}

/// A policy called `test` in which only the rules in [`JUDGED`] are on, except for these `levels`. `rest` of
/// the spec is indented by two.
pub(crate) fn policy(levels: &[(&str, &str)], rest: &str) -> String {
    let rules: String = layerpin::rules::ALL
        .iter()
        .map(|rule| {
            let given = levels.iter().find(|(id, _)| *id == rule.id).map(|(_, level)| *level);
            let usual = if JUDGED.contains(&rule.id) { "deny" } else { "off" };
            format!("    {}: {}\n", rule.id, given.unwrap_or(usual))
        })
        .collect();
    documents::policy(&format!("  rules:\n{rules}{rest}"))
}

/// The rules that these tests are about.
const JUDGED: [&str; 3] = ["floating-tag", "malformed-reference", "unpullable-image"];
