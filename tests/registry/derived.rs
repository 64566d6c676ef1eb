//! Images derived by Debian's `buildah` and copied by `skopeo`, read back from `docker-registry`:
//! what stays the same of them, and what does not.

use std::path::Path;
use std::process::Command;

use layerpin::facts::Fact;
use layerpin::facts::image::{Platform, PlatformImage};
use layerpin_sample_registry::DockerRegistry;
use tempfile::TempDir;

use crate::docker_registry::{archive, needs};
use crate::support::Asker;

/// A registry with a base of six layers in it, and a folder for `buildah`.
struct Workshop {
    registry: DockerRegistry,
    folder: TempDir,
    asker: Asker,
}

impl Workshop {
    fn open() -> Self {
        let registry = DockerRegistry::start().unwrap();
        registry.skopeo_copy(&archive("chunked"), "rhcos/os:base", None).unwrap();
        Self { registry, folder: tempfile::tempdir().unwrap(), asker: Asker::anonymous() }
    }

    /// The pull spec of what is pushed under `tag`.
    fn named(&self, tag: &str) -> String {
        format!("{}/rhcos/os:{tag}", self.registry.host())
    }

    /// Builds `container_file`, in which `BASE` stands for the base, and pushes it under `tag`.
    fn build(&self, tag: &str, container_file: &str, options: &[&str]) {
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

    /// What another registry holds after a copy that packs by zstd. In the same one `skopeo` would
    /// find the layers as they were.
    async fn repacked(&self, tag: &str) -> PlatformImage {
        let other = DockerRegistry::start().unwrap();
        let (folder, copy) = (self.folder.path().join("unpacked"), format!("{}/rhcos/os:zstd", other.host()));
        let folder = format!("dir:{}", path(&folder));
        skopeo_copy(&format!("docker://{}", self.named(tag)), &folder, &["--dest-decompress"]);
        skopeo_copy(&folder, &format!("docker://{copy}"), &["--dest-compress-format", "zstd"]);
        self.read_at(&copy).await
    }

    async fn read(&self, tag: &str) -> PlatformImage {
        self.read_at(&self.named(tag)).await
    }

    async fn read_at(&self, reference: &str) -> PlatformImage {
        match self.asker.image(reference).await {
            Fact::Known(image) => match image.platforms.get(&Platform::of_node("amd64")) {
                Some(Fact::Known(image)) => image.clone(),
                other => panic!("{reference}: {other:?}"),
            },
            other => panic!("{reference}: {other:?}"),
        }
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

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn diff_ids(image: &PlatformImage) -> Vec<&str> {
    image.layers.iter().map(|layer| layer.diff_id.as_str()).collect()
}

fn digests(image: &PlatformImage) -> Vec<&str> {
    image.layers.iter().map(|layer| layer.digest.as_str()).collect()
}

#[tokio::test]
async fn builds_keep_the_layers_of_the_base_unless_they_squash_them() {
    needs!("docker-registry", "skopeo", "buildah");
    let workshop = Workshop::open();
    let base = workshop.read("base").await;
    assert_eq!(base.layers.len(), 6);
    let simple = "FROM BASE\nCOPY motd /etc/motd\nLABEL acme=1\n";
    let stages = "FROM BASE AS tools\nCOPY motd /tool\nFROM BASE\nCOPY --from=tools /tool /usr/bin/tool\n";
    for (tag, file, options, own_layers) in [
        ("plain", simple, &[][..], 1),
        ("layers", "FROM BASE\nCOPY motd /etc/one\nCOPY motd /etc/two\n", &["--layers"], 2),
        ("stages", stages, &[], 1),
    ] {
        workshop.build(tag, file, options);
        let image = workshop.read(tag).await;
        assert_eq!(&diff_ids(&image)[..6], diff_ids(&base), "{tag}");
        assert_eq!(image.layers.len(), 6 + own_layers, "{tag}");
        assert_eq!(image.labels.get("ostree.final-diffid"), base.labels.get("ostree.final-diffid"), "{tag}");
        let own: Vec<_> = image.history.iter().skip(base.history.len()).collect();
        assert!(own.iter().any(|step| step.comment.starts_with("FROM ")), "{tag}: {own:?}");
        assert!(own.iter().any(|step| step.created_by.contains("COPY")), "{tag}: {own:?}");
    }
    workshop.build("squashed", simple, &["--squash"]);
    let squashed = workshop.read("squashed").await;
    assert_eq!(squashed.layers.len(), 1);
    assert_eq!(squashed.labels.get("ostree.final-diffid"), base.labels.get("ostree.final-diffid"));
}

#[tokio::test]
async fn copies_keep_diff_ids_whatever_they_do_to_layers_and_manifests() {
    needs!("docker-registry", "skopeo", "buildah");
    let workshop = Workshop::open();
    workshop.build("plain", "FROM BASE\nCOPY motd /etc/motd\n", &[]);
    let plain = workshop.read("plain").await;
    let zstd = workshop.repacked("plain").await;
    assert_eq!(diff_ids(&zstd), diff_ids(&plain));
    let shared = digests(&zstd).into_iter().filter(|digest| digests(&plain).contains(digest)).count();
    assert_eq!(shared, 0, "all of it was packed anew");
    let (from, to) = (workshop.named("plain"), workshop.named("docker"));
    skopeo_copy(&format!("docker://{from}"), &format!("docker://{to}"), &["--format", "v2s2"]);
    let docker = workshop.read("docker").await;
    assert_eq!(diff_ids(&docker), diff_ids(&plain));
    assert_ne!(docker.manifest, plain.manifest);
    assert_eq!(docker.labels, plain.labels);
    assert!(docker.annotations.is_empty(), "{:?}", docker.annotations);
}
