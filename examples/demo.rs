//! Runs the webhooks with a sample registry; needs no cluster, no network and no root.
//!
//! The registry has a release payload, its base image and layered images, all made by this program. The webhook
//! server gets reviews, and each is printed with its response. Then the server keeps running for curl. With
//! `DEMO_ONCE=1` the demo exits: with status 0 if every response was as expected, and 1 otherwise.

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
    let samples = SampleImages::fill()?;
    let server = Server::start(&folder, &samples.release)?;
    let client = Client::trusting(&server.authority)?;
    client.runtime.spawn(server.forward_signals());

    heading("The sample registry");
    println!("{} contains\n", samples.host);
    for (name, digest) in &samples.images {
        println!("  {name:<24}{digest}");
    }
    let mut steps = Steps { client: &client, server: &server, failures: Vec::new() };
    run_all(&mut steps, &samples)?;
    if !steps.failures.is_empty() {
        heading("Unexpected responses");
        println!("{}", steps.failures.join("\n"));
        return Ok(ExitCode::FAILURE);
    }
    println!("\nAll responses were as expected.");
    if std::env::var("DEMO_ONCE").is_ok_and(|value| value == "1") {
        return Ok(ExitCode::SUCCESS);
    }
    print_commands(&folder, &samples, &server)?;
    server.wait()?;
    Ok(ExitCode::SUCCESS)
}

fn run_all(steps: &mut Steps<'_>, samples: &SampleImages) -> Result<()> {
    let tag = format!("{}/acme/os:4.18", samples.host);
    let pinned = format!("{}/acme/os@{}", samples.host, samples.first_build);
    let moved = format!("{}/acme/os@{}", samples.host, samples.second_build);
    let record = format!("{tag}@{}", samples.first_build);
    let stored = machine_config().image(&pinned).annotation(RECORD, &record);

    steps.run(
        Step {
            title: "1. /mutate pins a tag",
            request: &format!("CREATE, osImageURL: {tag}"),
            path: "/mutate",
        },
        &create(&machine_config().image(&tag)),
        &["allowed: true", &format!("\"value\":\"{pinned}\""), "will reboot"],
    )?;
    steps.run(
        Step {
            title: "2. /validate denies a tag that is not pinned",
            request: &format!("CREATE, osImageURL: {tag}"),
            path: "/validate",
        },
        &create(&machine_config().image(&tag)),
        &["allowed: false", "[floating-tag]", &format!("help: write `{pinned}`")],
    )?;
    steps.run(
        Step {
            title: "3. /validate allows an image that is built on the base image of the release",
            request: &format!("CREATE, osImageURL: {pinned}"),
            path: "/validate",
        },
        &create(&machine_config().image(&pinned)),
        &["allowed: true"],
    )?;
    let missing = format!("{}/acme/os@sha256:{}", samples.host, "0".repeat(64));
    steps.run(
        Step {
            title: "4. /validate denies a digest that the registry does not have",
            request: &format!("CREATE, osImageURL: {missing}"),
            path: "/validate",
        },
        &create(&machine_config().image(&missing)),
        &["allowed: false", "[unpullable-image]"],
    )?;
    let old = format!("{}/acme/os@{}", samples.host, samples.old);
    steps.run(
        Step {
            title: "5. /validate warns about an image that is built on something else",
            request: &format!("CREATE, osImageURL: {old}"),
            path: "/validate",
        },
        &create(&machine_config().image(&old)),
        &["allowed: true", "[foreign-base]"],
    )?;
    steps.run(
        Step {
            title: "6. /validate denies a reference that nodes cannot parse",
            request: &format!("CREATE, osImageURL: docker://{pinned}"),
            path: "/validate",
        },
        &create(&machine_config().image(&format!("docker://{pinned}"))),
        &["allowed: false", "[malformed-reference]", &format!("help: write `{pinned}`")],
    )?;

    samples.registry.tag("acme/os", "4.18", &samples.second_build);
    steps.run(
        Step {
            title: "7. /mutate keeps the pin when the tag has moved and the same file is applied again",
            request: &format!("UPDATE, osImageURL: {tag}; stored: {pinned}"),
            path: "/mutate",
        },
        &update(&machine_config().image(&tag), &stored),
        &["allowed: true", &format!("\"value\":\"{pinned}\""), "kept ", "annotate it layerpin.io/repin=true"],
    )?;
    steps.run(
        Step {
            title: "8. /mutate pins the new digest when layerpin.io/repin is set",
            request: &format!("UPDATE, osImageURL: {pinned}, layerpin.io/repin: \"true\""),
            path: "/mutate",
        },
        &update(&stored.clone().annotation(REPIN, "true"), &stored),
        &["allowed: true", &format!("\"value\":\"{moved}\""), "layerpin.io~1repin"],
    )?;

    let operator = "system:serviceaccount:openshift-machine-config-operator:machine-config-controller";
    let rendered = machine_config().named("rendered-worker-0123456789abcdef").image(&tag);
    steps.run(
        Step {
            title: "9. /validate allows what the Machine Config Operator writes",
            request: &format!("CREATE by {operator}, osImageURL: {tag}"),
            path: "/validate",
        },
        &by(operator, create(&rendered)),
        &["allowed: true"],
    )
}

/// The sample registry and its images.
struct SampleImages {
    registry: Registry,
    host: String,
    images: Vec<(&'static str, String)>,
    /// Pull spec of the release payload.
    release: String,
    /// Digest of an image on the base image of the previous release.
    old: String,
    first_build: String,
    second_build: String,
}

impl SampleImages {
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
        let old = layered(&bases("418.94.202509030000-0"), "build on the previous release\n");
        let old = registry.push("acme/os", Some("old"), &old);
        let bases = bases("418.94.202509100000-0");
        let base = registry.push("ocp/rhel-coreos", None, &Index::of(&bases));
        let payload =
            Image::release_payload("4.18.14", &[("rhel-coreos", &format!("{host}/ocp/rhel-coreos@{base}"))]);
        let payload = registry.push("ocp/release", Some("4.18.14"), &payload);
        let first_build = registry.push("acme/os", Some("4.18"), &layered(&bases, "first build\n"));
        let second_build = registry.push("acme/os", Some("next"), &layered(&bases, "second build\n"));
        let release = format!("{host}/ocp/release@{payload}");
        let images = vec![
            ("ocp/release:4.18.14", payload),
            ("ocp/rhel-coreos", base),
            ("acme/os:4.18", first_build.clone()),
            ("acme/os:next", second_build.clone()),
            ("acme/os:old", old.clone()),
        ];
        Ok(Self { registry, host, images, release, old, first_build, second_build })
    }
}

/// The webhook server, as a separate process.
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

    /// Forwards SIGTERM and SIGHUP to the server. Ctrl-C reaches both processes, because they are in the foreground
    /// group of the terminal.
    fn forward_signals(&self) -> impl Future<Output = ()> + use<> {
        let server = Pid::from_child(&self.child);
        async move {
            let signals = (signal(SignalKind::terminate()), signal(SignalKind::hangup()));
            let (Ok(mut terminate), Ok(mut hangup)) = signals else { return };
            tokio::select! { _ = terminate.recv() => {}, _ = hangup.recv() => {} }
            // The server may have exited already.
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
        // The server may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends reviews as the API server does.
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

/// What a step of the demo shows.
struct Step<'a> {
    title: &'a str,
    /// The request in words.
    request: &'a str,
    /// The endpoint.
    path: &'a str,
}

/// The steps of the demo, with the unexpected responses so far.
struct Steps<'a> {
    client: &'a Client,
    server: &'a Server,
    failures: Vec<String>,
}

impl Steps<'_> {
    fn run(&mut self, step: Step<'_>, review: &Value, expected_parts: &[&str]) -> Result<()> {
        let Step { title, request, path } = step;
        heading(title);
        println!("{request}\n");
        let url = format!("{}{path}?timeout=10s", self.server.url);
        let answer = self.client.post(&url, review).with_context(|| format!("POST {url}"))?;
        let shown = show(&answer)?;
        print!("{shown}");
        for expected in expected_parts {
            if !shown.contains(expected) {
                self.failures.push(format!("{title}: the response does not contain {expected}"));
            }
        }
        if answer["response"]["uid"] != review["request"]["uid"] {
            self.failures.push(format!("{title}: the response has another uid"));
        }
        Ok(())
    }
}

/// Formats a response, with one line for each field.
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

/// Writes files for the commands of the README, and prints these commands.
fn print_commands(folder: &Path, samples: &SampleImages, server: &Server) -> Result<()> {
    let tag = format!("{}/acme/os:4.18", samples.host);
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
        "The server is running, and logs to {folder}/server.log. In another terminal, in this folder, run:\n
  curl --cacert {authority} --data-binary @{folder}/machine_config.yaml -H 'Accept: text/plain' {url}/dry-run
  curl --cacert {authority} --data-binary @{folder}/review.json '{url}/mutate?timeout=10s'
  curl --cacert {authority} --data-binary @{folder}/review.json '{url}/validate?timeout=10s'
  curl --cacert {authority} {admin_url}/readyz
  curl --cacert {authority} {admin_url}/metrics\n
Press Ctrl-C to stop."
    );
    Ok(())
}

fn heading(text: &str) {
    println!("\n{text}\n{}", "-".repeat(text.chars().count()));
}

/// Creates the folder for the files of the demo.
fn folder() -> Result<PathBuf> {
    let folder = PathBuf::from("target/demo");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// Returns the path of the program, which is in the folder above the examples.
fn program() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let program = this.parent().and_then(Path::parent).context("no folder above")?.join("layerpin");
    if !program.exists() {
        bail!("{} is not built; run `make demo`, which builds it", program.display());
    }
    Ok(program)
}
