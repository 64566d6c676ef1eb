//! The main job on an embedded default: no cluster, no network, no root.
//!
//! Starts a sample registry that holds a release payload, the base image that it names and images
//! layered on it, all made here by code; starts the webhook server against it; sends it real
//! reviews and prints each with its answer. Then it stays up for curl. With `DEMO_ONCE=1` it ends
//! by itself: with status 0 when every answer was as it should be, with 1 when one was not.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use base64::prelude::{BASE64_STANDARD, Engine};
use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::{Architecture, Image, Index};
use layerpin_test_support::documents::{RECORD, REPIN, by, create, machine_config, update};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> Result<ExitCode> {
    layerpin::install_crypto_provider();
    let folder = folder()?;
    let shelf = Shelf::fill()?;
    let server = Server::start(&folder, &shelf.release)?;
    let client = Client::trusting(&server.authority)?;
    client.runtime.spawn(server.ends_with_this());

    heading("The sample registry");
    println!("{} holds\n", shelf.host);
    for (name, digest) in &shelf.images {
        println!("  {name:<24}{digest}");
    }
    let mut stage = Stage { client: &client, server: &server, failures: Vec::new() };
    play(&mut stage, &shelf)?;
    if !stage.failures.is_empty() {
        heading("Not as it should be");
        println!("{}", stage.failures.join("\n"));
        return Ok(ExitCode::FAILURE);
    }
    println!("\nEvery answer was as it should be.");
    if std::env::var("DEMO_ONCE").is_ok_and(|value| value == "1") {
        return Ok(ExitCode::SUCCESS);
    }
    invite(&folder, &shelf, &server)?;
    server.wait()?;
    Ok(ExitCode::SUCCESS)
}

fn play(stage: &mut Stage<'_>, shelf: &Shelf) -> Result<()> {
    let tag = format!("{}/acme/os:4.18", shelf.host);
    let pinned = format!("{}/acme/os@{}", shelf.host, shelf.monday);
    let moved = format!("{}/acme/os@{}", shelf.host, shelf.tuesday);
    let record = format!("{tag}@{}", shelf.monday);
    let stored = machine_config().image(&pinned).annotation(RECORD, &record);

    stage.scene(
        "1. /mutate pins a tag",
        &format!("CREATE, osImageURL: {tag}"),
        "/mutate",
        &create(&machine_config().image(&tag)),
        &["allowed: true", &format!("\"value\":\"{pinned}\""), "will reboot"],
    )?;
    stage.scene(
        "2. /validate refuses a tag that nobody pinned",
        &format!("CREATE, osImageURL: {tag}"),
        "/validate",
        &create(&machine_config().image(&tag)),
        &["allowed: false", "[floating-tag]", &format!("help: write `{pinned}`")],
    )?;
    stage.scene(
        "3. /validate lets an image pass that is built on the base of the release",
        &format!("CREATE, osImageURL: {pinned}"),
        "/validate",
        &create(&machine_config().image(&pinned)),
        &["allowed: true"],
    )?;
    let missing = format!("{}/acme/os@sha256:{}", shelf.host, "0".repeat(64));
    stage.scene(
        "4. /validate refuses a digest that the registry has not",
        &format!("CREATE, osImageURL: {missing}"),
        "/validate",
        &create(&machine_config().image(&missing)),
        &["allowed: false", "[unpullable-image]"],
    )?;
    let old = format!("{}/acme/os@{}", shelf.host, shelf.old);
    stage.scene(
        "5. /validate warns about an image that is built on something else",
        &format!("CREATE, osImageURL: {old}"),
        "/validate",
        &create(&machine_config().image(&old)),
        &["allowed: true", "[foreign-base]"],
    )?;
    stage.scene(
        "6. /validate refuses what no node can read",
        &format!("CREATE, osImageURL: docker://{pinned}"),
        "/validate",
        &create(&machine_config().image(&format!("docker://{pinned}"))),
        &["allowed: false", "[malformed-reference]", &format!("help: write `{pinned}`")],
    )?;

    shelf.registry.tag("acme/os", "4.18", &shelf.tuesday);
    stage.scene(
        "7. The tag moves, the same file is applied again: the pin holds",
        &format!("UPDATE, osImageURL: {tag}; stored: {pinned}"),
        "/mutate",
        &update(&machine_config().image(&tag), &stored),
        &["allowed: true", &format!("\"value\":\"{pinned}\""), "kept ", "annotate it layerpin.io/repin=true"],
    )?;
    stage.scene(
        "8. Until somebody asks for the new image",
        &format!("UPDATE, osImageURL: {pinned}, layerpin.io/repin: \"true\""),
        "/mutate",
        &update(&stored.clone().annotation(REPIN, "true"), &stored),
        &["allowed: true", &format!("\"value\":\"{moved}\""), "layerpin.io~1repin"],
    )?;

    let operator = "system:serviceaccount:openshift-machine-config-operator:machine-config-controller";
    let rendered = machine_config().named("rendered-worker-0123456789abcdef").image(&tag);
    stage.scene(
        "9. What the Machine Config Operator writes passes untouched",
        &format!("CREATE by {operator}, osImageURL: {tag}"),
        "/validate",
        &by(operator, create(&rendered)),
        &["allowed: true"],
    )
}

/// The sample registry and what it holds.
struct Shelf {
    registry: Registry,
    host: String,
    images: Vec<(&'static str, String)>,
    /// What the server is to judge lineage against.
    release: String,
    /// Built on the base of the release before.
    old: String,
    monday: String,
    tuesday: String,
}

impl Shelf {
    fn fill() -> Result<Self> {
        let registry = Registry::start().context("cannot start the sample registry")?;
        let host = registry.host();
        let bases = |version| {
            [Architecture::Amd64, Architecture::Arm64]
                .map(|architecture| Image::base_for(version, architecture))
        };
        let layered = |bases: &[Image; 2], note: &str| {
            let images = bases.each_ref().map(|base| Image::derived(base, &[("etc/motd", note.as_bytes())]));
            Index::of(&images)
        };
        let old = layered(&bases("418.94.202509030000-0"), "built the week before\n");
        let old = registry.push("acme/os", Some("old"), &old);
        let bases = bases("418.94.202509100000-0");
        let base = registry.push("ocp/rhel-coreos", None, &Index::of(&bases));
        let payload =
            Image::release_payload("4.18.14", &[("rhel-coreos", &format!("{host}/ocp/rhel-coreos@{base}"))]);
        let payload = registry.push("ocp/release", Some("4.18.14"), &payload);
        let monday = registry.push("acme/os", Some("4.18"), &layered(&bases, "built on Monday\n"));
        let tuesday = registry.push("acme/os", Some("next"), &layered(&bases, "built on Tuesday\n"));
        let release = format!("{host}/ocp/release@{payload}");
        let images = vec![
            ("ocp/release:4.18.14", payload),
            ("ocp/rhel-coreos", base),
            ("acme/os:4.18", monday.clone()),
            ("acme/os:next", tuesday.clone()),
            ("acme/os:old", old.clone()),
        ];
        Ok(Self { registry, host, images, release, old, monday, tuesday })
    }
}

/// The webhook server: the program itself, as a user would start it.
struct Server {
    child: Child,
    url: String,
    admin_url: String,
    authority: PathBuf,
}

impl Server {
    fn start(folder: &Path, release: &str) -> Result<Self> {
        let program = program()?;
        let authority = folder.join("ca.crt");
        let log = fs::File::create(folder.join("server.log")).context("cannot write the server's log")?;
        let mut child = Command::new(&program)
            .args([
                "serve",
                "--no-cluster",
                "--release-image",
                release,
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
                "--dev-ca-out",
            ])
            .arg(&authority)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdout = child.stdout.take().context("the server has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut address = |prefix: &str| -> Result<String> {
            let line = lines.next().transpose()?.unwrap_or_default();
            match line.strip_prefix(prefix) {
                Some(url) => Ok(url.to_owned()),
                None => bail!("the server did not start; see {}", folder.join("server.log").display()),
            }
        };
        let url = address("listening on ")?;
        let admin_url = address("admin listening on ")?;
        Ok(Self { child, url, admin_url, authority })
    }

    /// Passes on to the server that this program is to end. Ctrl-C reaches both, as they belong to the
    /// terminal's foreground group; other signals reach this one alone.
    fn ends_with_this(&self) -> impl Future<Output = ()> + use<> {
        let server = Pid::from_child(&self.child);
        async move {
            let signals = (signal(SignalKind::terminate()), signal(SignalKind::hangup()));
            let (Ok(mut terminate), Ok(mut hangup)) = signals else { return };
            tokio::select! { _ = terminate.recv() => {}, _ = hangup.recv() => {} }
            // It may have ended by itself.
            let _ = kill_process(server, Signal::TERM);
        }
    }

    fn wait(mut self) -> Result<()> {
        self.child.wait().context("cannot wait for the server")?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays the API server.
struct Client {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
}

impl Client {
    fn trusting(authority: &Path) -> Result<Self> {
        let certificate = reqwest::Certificate::from_pem(&fs::read(authority)?)?;
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([certificate]).build()?;
        Ok(Self { runtime: tokio::runtime::Runtime::new()?, http })
    }

    fn post(&self, url: &str, body: &Value) -> Result<Value> {
        self.runtime.block_on(async {
            let answer = self.http.post(url).body(body.to_string()).send().await?.error_for_status()?;
            Ok(serde_json::from_slice(&answer.bytes().await?)?)
        })
    }
}

/// Where reviews are sent, and what was not as it should be.
struct Stage<'a> {
    client: &'a Client,
    server: &'a Server,
    failures: Vec<String>,
}

impl Stage<'_> {
    fn scene(&mut self, title: &str, says: &str, path: &str, review: &Value, expects: &[&str]) -> Result<()> {
        heading(title);
        println!("{says}\n");
        let url = format!("{}{path}?timeout=10s", self.server.url);
        let answer = self.client.post(&url, review).with_context(|| format!("POST {url}"))?;
        let shown = show(&answer)?;
        print!("{shown}");
        for expected in expects {
            if !shown.contains(expected) {
                self.failures.push(format!("{title}: the answer lacks {expected}"));
            }
        }
        if answer["response"]["uid"] != review["request"]["uid"] {
            self.failures.push(format!("{title}: the answer has another uid"));
        }
        Ok(())
    }
}

/// What is in an answer, one thing a line.
fn show(answer: &Value) -> Result<String> {
    let response = &answer["response"];
    let mut shown = format!("  allowed: {}\n", response["allowed"]);
    if let Some(message) = response["status"]["message"].as_str() {
        for line in message.lines() {
            shown.push_str(&format!("  {line}\n"));
        }
    }
    for warning in response["warnings"].as_array().into_iter().flatten() {
        shown.push_str(&format!("  Warning: {}\n", warning.as_str().unwrap_or_default()));
    }
    if let Some(patch) = response["patch"].as_str() {
        let operations: Vec<Value> = serde_json::from_slice(&BASE64_STANDARD.decode(patch)?)?;
        for operation in operations {
            shown.push_str(&format!("  patch: {operation}\n"));
        }
    }
    Ok(shown)
}

/// Leaves files and lines that work when they are pasted.
fn invite(folder: &Path, shelf: &Shelf, server: &Server) -> Result<()> {
    let tag = format!("{}/acme/os:4.18", shelf.host);
    let object = machine_config().image(&tag);
    fs::write(folder.join("machine_config.yaml"), object.to_yaml())?;
    fs::write(folder.join("review.json"), format!("{:#}\n", create(&object)))?;
    fs::write(folder.join("url"), &server.url)?;
    fs::write(folder.join("admin-url"), &server.admin_url)?;
    let folder = folder.display();
    let authority = server.authority.display();
    let (url, admin_url) = (&server.url, &server.admin_url);
    heading("Try it yourself");
    println!(
        "The server is up; its log is {folder}/server.log. In another terminal, in this folder:\n
  curl --cacert {authority} --data-binary @{folder}/machine_config.yaml -H 'Accept: text/plain' {url}/dry-run
  curl --cacert {authority} --data-binary @{folder}/review.json '{url}/mutate?timeout=10s'
  curl --cacert {authority} --data-binary @{folder}/review.json '{url}/validate?timeout=10s'
  curl --cacert {authority} {admin_url}/readyz
  curl --cacert {authority} {admin_url}/metrics\n
Ctrl-C ends it."
    );
    Ok(())
}

fn heading(text: &str) {
    println!("\n{text}\n{}", "-".repeat(text.chars().count()));
}

/// Where the demo leaves its files: `target/demo`, told as it is reached from here.
fn folder() -> Result<PathBuf> {
    let folder = PathBuf::from("target/demo");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// The program stands beside the folder of examples that this one is in.
fn program() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let program = this.parent().and_then(Path::parent).context("no folder above")?.join("layerpin");
    if !program.exists() {
        bail!("{} is not built; use `make demo`, which builds it first", program.display());
    }
    Ok(program)
}
