//! Images derived by Debian's `buildah` and copied by `skopeo`, in `docker-registry`.

use std::path::Path;
use std::process::Command;

use layerpin_sample_registry::DockerRegistry;
use tempfile::TempDir;

use crate::tools::{archive, run};

/// A registry with a base of six layers in it, and a folder for `buildah`.
pub struct Workshop {
    registry: DockerRegistry,
    folder: TempDir,
}

impl Workshop {
    /// Starts the registry and copies the base into it.
    pub fn open() -> Self {
        let registry = DockerRegistry::start().unwrap();
        registry.skopeo_copy(&archive("chunked"), "rhcos/os:base", None).unwrap();
        Self { registry, folder: tempfile::tempdir().unwrap() }
    }

    /// The pull spec of what is pushed under `tag`.
    pub fn named(&self, tag: &str) -> String {
        format!("{}/rhcos/os:{tag}", self.registry.host())
    }

    /// Builds `container_file`, in which `BASE` stands for the base, and pushes it under `tag`.
    pub fn build(&self, tag: &str, container_file: &str, options: &[&str]) {
        let context = self.folder.path().join("context");
        std::fs::create_dir_all(&context).unwrap();
        std::fs::write(context.join("motd"), "hello").unwrap();
        let text = container_file.replace("BASE", &self.named("base"));
        std::fs::write(context.join("Containerfile"), text).unwrap();
        let image = format!("localhost/{tag}");
        let build = ["build", "--isolation", "chroot", "--tls-verify=false", "--tag", &image];
        self.buildah(&[&build[..], options, &[path(&context)]].concat());
        self.buildah(&["push", "--tls-verify=false", &image, &format!("docker://{}", self.named(tag))]);
    }

    fn buildah(&self, arguments: &[&str]) {
        // A store and temporary files of its own, and nothing of the user's.
        let folder = |name: &str| {
            let folder = self.folder.path().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            folder
        };
        run(Command::new("buildah")
            .args([
                "--storage-driver",
                "vfs",
                "--root",
                path(&folder("root")),
                "--runroot",
                path(&folder("run")),
            ])
            .args(arguments)
            .env("TMPDIR", folder("tmp")));
    }

    /// Another registry with a copy of `tag` that is packed by zstd, and the pull spec there. In the
    /// same registry `skopeo` would find the layers as they were.
    pub fn repacked(&self, tag: &str) -> (DockerRegistry, String) {
        let other = DockerRegistry::start().unwrap();
        let (folder, copy) = (self.folder.path().join("unpacked"), format!("{}/rhcos/os:zstd", other.host()));
        let folder = format!("dir:{}", path(&folder));
        skopeo_copy(&format!("docker://{}", self.named(tag)), &folder, &["--dest-decompress"]);
        skopeo_copy(&folder, &format!("docker://{copy}"), &["--dest-compress-format", "zstd"]);
        (other, copy)
    }

    /// Pushes what `tag` names once more, under `copy` and as Docker's schema 2.
    pub fn push_as_docker(&self, tag: &str, copy: &str) {
        let (from, to) = (self.named(tag), self.named(copy));
        skopeo_copy(&format!("docker://{from}"), &format!("docker://{to}"), &["--format", "v2s2"]);
    }
}

fn skopeo_copy(from: &str, to: &str, options: &[&str]) {
    run(Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"])
        .args(options)
        .args([from, to]));
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
