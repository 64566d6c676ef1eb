//! A folder of files, a registry, and the program run in between.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Registry, keep_printed};
use tempfile::TempDir;

/// A folder to run in, and a registry that holds `acme/os:4.18`.
pub(crate) struct Workplace {
    folder: TempDir,
    pub(crate) registry: Registry,
    /// What `acme/os:4.18` names.
    pub(crate) digest: String,
}

/// How a run of the program ended. Host, digest and folder are replaced by `REGISTRY`, `DIGEST` and
/// `FOLDER`, because they differ from run to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn new(code: i32, stdout: &str, stderr: &str) -> Self {
        Self { code, stdout: stdout.to_owned(), stderr: stderr.to_owned() }
    }
}

impl Workplace {
    pub(crate) fn new() -> Self {
        let registry = Registry::start().unwrap();
        let digest = registry.push("acme/os", Some("4.18"), &Image::base("4.18.1"));
        Self { folder: tempfile::tempdir().unwrap(), registry, digest }
    }

    /// The path of a file in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file. `REGISTRY` and `DIGEST` in it become what they are.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, self.real(text)).unwrap();
        path
    }

    /// Reads a file, with `REGISTRY` and `DIGEST` for what they are.
    pub(crate) fn read(&self, name: &str) -> String {
        self.general(&std::fs::read_to_string(self.path(name)).unwrap())
    }

    /// The names in the folder, hidden ones too.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Runs `layerpin pin` in the folder.
    pub(crate) fn pin(&self, arguments: &[&str]) -> Ended {
        self.pin_with_input(arguments, "")
    }

    /// Runs `layerpin pin` in the folder, with `input` on standard input.
    pub(crate) fn pin_with_input(&self, arguments: &[&str], input: &str) -> Ended {
        let mut command = self.command(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = self.real(input);
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        // A program that reads no standard input may be gone before it is written.
        let _ = writer.join().unwrap();
        self.ended(&output)
    }

    /// `layerpin pin` in the folder, with no environment but what a test gives it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_layerpin"));
        command.arg("pin").args(arguments).current_dir(self.folder.path()).env_clear();
        // For the programs that tests put around this one.
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    pub(crate) fn ended(&self, output: &std::process::Output) -> Ended {
        let text = |bytes: &[u8]| {
            keep_printed("programs", bytes);
            self.general(std::str::from_utf8(bytes).unwrap())
        };
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    fn real(&self, text: &str) -> String {
        text.replace("REGISTRY", &self.registry.host()).replace("DIGEST", &self.digest)
    }

    fn general(&self, text: &str) -> String {
        text.replace(&self.registry.host(), "REGISTRY")
            .replace(&self.digest, "DIGEST")
            .replace(folder_name(self.folder.path()), "FOLDER")
    }
}

fn folder_name(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A MachineConfig called `name` with this image.
pub(crate) fn machine_config(name: &str, image: &str) -> String {
    format!(
        "apiVersion: machineconfiguration.openshift.io/v1\n\
         kind: MachineConfig\n\
         metadata:\n\
         \x20 name: {name}\n\
         spec:\n\
         \x20 # the layered image\n\
         \x20 osImageURL: {image} # ours\n"
    )
}

/// The same MachineConfig pinned, with a record.
pub(crate) fn pinned(name: &str, image: &str, record: &str) -> String {
    machine_config(name, image).replace(
        "metadata:\n",
        &format!("metadata:\n  annotations:\n    layerpin.io/pinned-from: {record}\n"),
    )
}
