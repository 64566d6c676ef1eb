//! A folder of files, a registry, and the program run in between.

use std::path::PathBuf;
use std::process::Command;

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::Image;
use layerpin_test_support::program::{Ended, Folder};
use layerpin_test_support::tools::search_path;

/// A folder to run in, and a registry that holds `acme/os:4.18`.
pub(crate) struct Workplace {
    folder: Folder,
    pub(crate) registry: Registry,
    /// What `acme/os:4.18` names.
    pub(crate) digest: String,
}

/// How a program ended that wrote this.
pub(crate) fn expected(status: i32, output: &str, error: &str) -> Ended {
    Ended { status, output: output.to_owned(), error: error.to_owned() }
}

impl Workplace {
    pub(crate) fn new() -> Self {
        let registry = Registry::start().unwrap();
        let digest = registry.push("acme/os", Some("4.18"), &Image::base("4.18.1"));
        Self { folder: Folder::new(), registry, digest }
    }

    /// The path of a file in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    /// Writes a file, with the host for `REGISTRY` and the digest for `DIGEST`.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        self.folder.write(name, self.real(text))
    }

    /// Reads a file, with `REGISTRY` for the host and `DIGEST` for the digest.
    pub(crate) fn read(&self, name: &str) -> String {
        self.general(&self.folder.read(name))
    }

    /// The names in the folder, hidden ones too.
    pub(crate) fn names(&self) -> Vec<String> {
        self.folder.names()
    }

    /// Runs `layerpin pin` in the folder.
    pub(crate) fn pin(&self, arguments: &[&str]) -> Ended {
        self.pin_with_input(arguments, "")
    }

    /// Runs `layerpin pin` in the folder, with `input` on standard input.
    pub(crate) fn pin_with_input(&self, arguments: &[&str], input: &str) -> Ended {
        self.general_ended(Ended::with_input(self.command(arguments), self.real(input)))
    }

    /// `layerpin pin` in the folder, with no environment but what a test gives it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.folder.command(["pin"].iter().chain(arguments));
        // For the programs that some tests run this one with.
        command.env("PATH", search_path());
        command
    }

    /// How a command ended. Host, digest and folder are replaced by `REGISTRY`, `DIGEST` and `FOLDER`, because
    /// they differ from run to run.
    pub(crate) fn ended(&self, output: std::process::Output) -> Ended {
        self.general_ended(output.into())
    }

    fn general_ended(&self, Ended { status, output, error }: Ended) -> Ended {
        Ended { status, output: self.general(&output), error: self.general(&error) }
    }

    fn real(&self, text: &str) -> String {
        text.replace("REGISTRY", &self.registry.host()).replace("DIGEST", &self.digest)
    }

    fn general(&self, text: &str) -> String {
        text.replace(&self.registry.host(), "REGISTRY")
            .replace(&self.digest, "DIGEST")
            .replace(self.path("").to_str().unwrap().trim_end_matches('/'), "FOLDER")
    }
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
