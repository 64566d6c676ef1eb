//! The container image: what is in it, and that this is all it takes.
//!
//! It is built and pushed by the commands of `docs/getting-started.md`, only quicker, with a store of its
//! own, and to a registry of the test.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use layerpin_sample_registry::{Authority, DockerRegistry};
use layerpin_test_support::client::Client;
use layerpin_test_support::documents::{UID, create, machine_config};
use layerpin_test_support::os_registry::OsRegistry;
use layerpin_test_support::program::{addresses, secret_of};
use layerpin_test_support::repository;
use layerpin_test_support::tools::{needs, run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

#[test]
fn the_image_holds_the_program_and_ca_certificates_and_that_is_all_it_takes() {
    needs!("buildah", "docker-registry", "make");
    let registry = DockerRegistry::start().unwrap();
    let store = Store::new(&registry.host());
    let name = store.follow_the_page();

    let (digest, config, files) = store.contents(&name);
    assert_eq!(pushed_config(&name), digest, "what was pushed is another image");
    let paths: Vec<_> = files.iter().map(|(path, file)| (path.as_str(), file.kind)).collect();
    assert_eq!(
        paths,
        [
            ("etc/", "folder of 0 0755"),
            ("etc/ssl/", "folder of 0 0755"),
            ("etc/ssl/certs/", "folder of 0 0755"),
            ("etc/ssl/certs/ca-certificates.crt", "file of 0 0644"),
            ("usr/", "folder of 0 0755"),
            ("usr/bin/", "folder of 0 0755"),
            ("usr/bin/layerpin", "file of 0 0755"),
        ]
    );
    let bundle = &files["etc/ssl/certs/ca-certificates.crt"].content;
    assert_eq!(std::str::from_utf8(bundle).unwrap(), store.bundle);
    let version = env!("CARGO_PKG_VERSION");
    let mut labels = config["Labels"].clone();
    assert!(labels.as_object_mut().unwrap().remove("io.buildah.version").is_some());
    let description = "Guards MachineConfig.spec.osImageURL on OpenShift";
    assert_eq!(
        labels,
        json!({
            "org.opencontainers.image.title": "layerpin",
            "org.opencontainers.image.description": description,
            "org.opencontainers.image.version": version,
            "org.opencontainers.image.revision": REVISION,
            "org.opencontainers.image.licenses": "Apache-2.0",
        })
    );
    assert_eq!(
        (&config["User"], &config["Entrypoint"], &config["Cmd"]),
        (&json!("65532:65532"), &json!(["/usr/bin/layerpin"]), &json!(["serve"]))
    );
    assert_eq!(config["ExposedPorts"], json!({"8443/tcp": {}, "9443/tcp": {}}));

    let container = store.buildah(&["from", &name]);
    let container = container.trim_end();
    let run = ["run", "--isolation", "chroot"];
    let told = store.buildah(&[&run[..], &[container, "--", "/usr/bin/layerpin", "--version"]].concat());
    assert_eq!(told, format!("layerpin {version}\n"));
    let shell = store.command(&[&run[..], &[container, "--", "/bin/sh", "-c", "true"]].concat()).output();
    assert!(!shell.unwrap().status.success(), "there is a shell");

    // A registry by a name, which the program can only look up with what it brings itself.
    let OsRegistry { registry, digest, .. } = OsRegistry::start();
    let (_, port) =
        registry.host().rsplit_once(':').map(|(host, port)| (host.to_owned(), port.to_owned())).unwrap();
    let name = format!("localhost:{port}/acme/os");
    let server = Serving::start(&store, container);
    let review = create(&machine_config().image(&format!("{name}:1")));
    let answer = server.review("/mutate", &review);
    assert_eq!(answer["response"]["uid"], UID);
    let warnings = answer["response"]["warnings"].to_string();
    assert!(warnings.contains(&format!("pinned `{name}:1` to {}", &digest.to_string()[..19])), "{answer}");
    let built = format!("layerpin_build_info{{version=\"{version}\",revision=\"{REVISION}\"}} 1\n");
    let metrics = server.metrics();
    assert!(metrics.contains(&built), "{metrics}");
}

/// No commit has it.
const REVISION: &str = "0123456789abcdef-of-the-test";

/// Images of `buildah`, away from those of the user.
struct Store {
    folder: TempDir,
    bundle: String,
    /// Of the registry that images are pushed to.
    host: String,
}

struct Entry {
    kind: &'static str,
    content: Vec<u8>,
}

impl Store {
    /// Without an image in it. The registry at `host` is spoken to in the open.
    fn new(host: &str) -> Self {
        // Where the build has room for more than one copy of the program; the system's may be small.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        std::fs::create_dir(folder.path().join("tmp")).unwrap();
        let store = Self { folder, bundle: Authority::new().ca_pem(), host: host.to_owned() };
        let path = |name| store.path(name).display().to_string();
        for (name, text) in [
            ("bundle.crt", store.bundle.clone()),
            (
                "storage.conf",
                format!(
                    "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
                    path("root"),
                    path("run")
                ),
            ),
            ("registries.conf", format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n")),
        ] {
            std::fs::write(store.path(name), text).unwrap();
        }
        store
    }

    /// Runs what `docs/getting-started.md` has for the image, and returns the image's name.
    fn follow_the_page(&self) -> String {
        let page = std::fs::read_to_string(repository().join("docs/getting-started.md")).unwrap();
        let (_, section) = page.split_once("\n## Build the image\n").expect("a section on the image");
        let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
        let block = block.expect("a block of commands").replace("registry.example.com", &self.host);
        let [build, push] = &*block.lines().collect::<Vec<_>>() else { panic!("{block}") };
        let name = build.strip_prefix("make image IMAGE=").expect("the image is built first");
        assert_eq!(push.strip_prefix("buildah push "), Some(name));
        run(self
            .at_home(Command::new("sh"))
            .args(["-e", "-c", &block])
            .current_dir(repository())
            .env("PROFILE", "dev")
            .env("LAYERPIN_REVISION", REVISION)
            .env("CA_BUNDLE", self.path("bundle.crt"))
            // Those of a `make` that runs this test.
            .env_remove("MAKEFLAGS")
            .env_remove("MAKELEVEL"));
        name.to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command, with this store in the place of the user's.
    fn at_home(&self, mut command: Command) -> Command {
        command
            .env("CONTAINERS_STORAGE_CONF", self.path("storage.conf"))
            .env("CONTAINERS_REGISTRIES_CONF", self.path("registries.conf"))
            .env("TMPDIR", self.path("tmp"));
        command
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.at_home(Command::new("buildah"));
        command.args(arguments);
        command
    }

    fn buildah(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }

    /// The configuration of the image with its digest, and everything in its layers by path.
    fn contents(&self, name: &str) -> (String, Value, BTreeMap<String, Entry>) {
        let layout = self.path("layout");
        self.buildah(&["push", name, &format!("oci:{}:image", layout.to_str().unwrap())]);
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            File::open(layout.join("blobs").join(digest.replace(':', "/"))).unwrap()
        };
        let index = File::open(layout.join("index.json")).unwrap();
        let index: Value = serde_json::from_reader(index).unwrap();
        let manifest: Value = serde_json::from_reader(blob(&index["manifests"][0])).unwrap();
        let image: Value = serde_json::from_reader(blob(&manifest["config"])).unwrap();
        let mut files = BTreeMap::new();
        for layer in manifest["layers"].as_array().unwrap() {
            assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
            let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(blob(layer)));
            for entry in archive.entries().unwrap() {
                let mut entry = entry.unwrap();
                let header = entry.header();
                let is =
                    (header.entry_type().is_dir(), header.uid().unwrap(), header.mode().unwrap() & 0o7777);
                let kind = match is {
                    (true, 0, 0o755) => "folder of 0 0755",
                    (false, 0, 0o755) => "file of 0 0755",
                    (false, 0, 0o644) => "file of 0 0644",
                    other => panic!("{:?}: {other:?}", entry.path()),
                };
                let path = entry.path().unwrap().to_str().unwrap().to_owned();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                files.insert(path, Entry { kind, content });
            }
        }
        let digest = manifest["config"]["digest"].as_str().unwrap().to_owned();
        (digest, image["config"].clone(), files)
    }
}

/// The digest of the configuration of the image that a registry has by this name.
fn pushed_config(name: &str) -> String {
    let (host, rest) = name.split_once('/').unwrap();
    let (repository, tag) = rest.rsplit_once(':').unwrap();
    layerpin::install_crypto_provider();
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let request = client
        .get(format!("http://{host}/v2/{repository}/manifests/{tag}"))
        .header("accept", "application/vnd.oci.image.manifest.v1+json");
    let runtime = Runtime::new().unwrap();
    let text = runtime.block_on(async { request.send().await.unwrap().text().await.unwrap() });
    let manifest: Value = serde_json::from_str(&text).unwrap();
    manifest["config"]["digest"].as_str().unwrap_or_else(|| panic!("{text}")).to_owned()
}

/// The server in a container.
struct Serving {
    _container: Container,
    runtime: Runtime,
    webhooks: Client,
    admin: Client,
}

impl Serving {
    fn start(store: &Store, container: &str) -> Self {
        let authority = Authority::new();
        let identity = authority.issue(&["127.0.0.1"]);
        let folder = store.path("tls");
        std::fs::create_dir(&folder).unwrap();
        for (name, text) in secret_of(&identity) {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let volume = format!("{}:/etc/layerpin/tls:ro", folder.to_str().unwrap());
        let child = store
            .command(&["run", "--isolation", "chroot", "--volume", &volume, container, "--"])
            .args(["/usr/bin/layerpin", "serve", "--no-cluster"])
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--tls-cert", "/etc/layerpin/tls/tls.crt", "--tls-key", "/etc/layerpin/tls/tls.key"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut container = Container(child);
        let [webhooks, admin] = addresses(container.0.stdout.take().unwrap(), String::new)
            .map(|address| Client::new(address, &authority.ca_pem()));
        Self { _container: container, runtime: Runtime::new().unwrap(), webhooks, admin }
    }

    fn review(&self, path: &str, review: &Value) -> Value {
        self.runtime.block_on(self.webhooks.review(path, review))
    }

    fn metrics(&self) -> String {
        self.runtime.block_on(self.admin.get("/metrics")).text
    }
}

/// A container; dropping it ends the program in it.
struct Container(Child);

impl Drop for Container {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.0);
        // It fails only if the program has ended by itself.
        let _ = kill_process(pid, Signal::TERM);
        let (sender, ended) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // The sender goes when the program has ended.
                if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            });
            let _ = self.0.wait();
            drop(sender);
        });
    }
}

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
