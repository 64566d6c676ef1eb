//! `make bench`: what `layerpin check` costs on a repository of many files, with the release binary.
//!
//! Times are those of whole runs of the program, files warm in the page cache. Beside them stands what
//! it takes to read the same files with a plain YAML parser, in the same run.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::Image;
use layerpin_test_support::documents;
use layerpin_test_support::measure::{Report, is_benchmark, median, memory};
use layerpin_test_support::program::layerpin;
use tempfile::TempDir;

fn main() -> ExitCode {
    if !is_benchmark() {
        return ExitCode::SUCCESS;
    }
    let mut report = Report::default();

    layerpin::install_crypto_provider();
    let many = tree(FILES, |index| match index % (FILES / IMAGES) {
        0 => machine_config(index, &format!("quay.io/acme/os:{index}")),
        _ => other(index),
    });
    let took = median_time(|| check(many.path(), &["--offline"]).objects, IMAGES);
    let parsed = median_time(|| parse(many.path()), FILES);
    let figure =
        format!("{:>5.0} ms, a plain YAML parser {:.0} ms", milliseconds(took), milliseconds(parsed));
    let name = format!("{FILES} files, {IMAGES} of them with an image");
    report.line(&name, &figure, Some(took < Duration::from_secs(1)));

    let registry = Registry::start().unwrap_or_else(|error| panic!("the registry: {error}"));
    for image in 0..DISTINCT {
        registry.push("acme/os", Some(&image.to_string()), &Image::base(&format!("4.18.{image}")));
    }
    let host = registry.host();
    let shared =
        tree(REFERENCES, |index| machine_config(index, &format!("{host}/acme/os:{}", index % DISTINCT)));
    let judged = check(shared.path(), &["--no-cluster"]);
    assert_eq!(judged.objects, REFERENCES);
    let heads = registry.count("HEAD", "/manifests/");
    let figure = format!("{heads:>5} questions");
    report.line(&format!("{REFERENCES} references to {DISTINCT} images"), &figure, Some(heads == DISTINCT));

    let large = tempfile::tempdir().unwrap_or_else(|error| panic!("a folder: {error}"));
    let text = other(0).repeat(LARGE / other(0).len() + 1);
    fs::write(large.path().join("large.yaml"), text).unwrap_or_else(|error| panic!("a large file: {error}"));
    let refused = check(large.path(), &["--offline"]);
    let resident = refused.resident_megabytes;
    assert!(refused.errors.contains("larger than 64 MiB"), "{}", refused.errors);
    let figure = format!("{resident:>5.0} MB resident, refused with the limit named");
    let name = format!("a file of {} MB", LARGE / 1_000_000);
    report.line(&name, &figure, Some(resident < RESIDENT_MEGABYTES));
    report.end(&format!("1 s; one question for each image; {RESIDENT_MEGABYTES} MB"))
}

/// What a run of the program came to.
struct Judged {
    objects: usize,
    errors: String,
    resident_megabytes: f64,
}

/// Runs `layerpin check` on a folder, and sees the most that was resident.
fn check(folder: &Path, options: &[&str]) -> Judged {
    let output = tempfile::NamedTempFile::new().unwrap_or_else(|error| panic!("a file: {error}"));
    let into = output.reopen().unwrap_or_else(|error| panic!("a file: {error}"));
    let mut child = Command::new(layerpin())
        .args(["check", "--format", "json"])
        .args(options)
        .arg(folder)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(into)
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("layerpin: {error}"));
    let mut resident_megabytes = 0.0;
    while child.try_wait().unwrap_or_else(|error| panic!("layerpin: {error}")).is_none() {
        resident_megabytes = memory(child.id(), "VmHWM").unwrap_or(resident_megabytes);
        #[expect(clippy::disallowed_methods, reason = "the pause between two measurements")]
        std::thread::sleep(Duration::from_millis(1));
    }
    let text = fs::read_to_string(output.path()).unwrap_or_default();
    let report: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    Judged {
        objects: usize::try_from(report["summary"]["objects"].as_u64().unwrap_or_default())
            .unwrap_or_default(),
        errors: report["errors"].to_string(),
        resident_megabytes,
    }
}

/// Reads every file with a plain YAML parser, one after the other, and counts them.
fn parse(folder: &Path) -> usize {
    let files = fs::read_dir(folder).unwrap_or_else(|error| panic!("the folder: {error}"));
    files
        .map(|file| {
            let path = file.unwrap_or_else(|error| panic!("a file: {error}")).path();
            let text =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let value: serde_json::Value =
                serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(value.is_object());
        })
        .count()
}

/// The median time of some runs, each of which must come to `expected`.
fn median_time(run: impl Fn() -> usize, expected: usize) -> Duration {
    let times: Vec<_> = (0..RUNS)
        .map(|_| {
            let begun = Instant::now();
            let found = run();
            let took = begun.elapsed();
            assert_eq!(found, expected);
            took
        })
        .collect();
    median(&times)
}

/// A folder of `count` files.
fn tree(count: usize, text: impl Fn(usize) -> String) -> TempDir {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("a folder: {error}"));
    for index in 0..count {
        let path = folder.path().join(format!("{index:05}.yaml"));
        fs::write(&path, text(index)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    folder
}

fn machine_config(index: usize, image: &str) -> String {
    documents::machine_config().named(&format!("99-os-{index}")).image(image).to_yaml()
}

fn other(index: usize) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings-{index}\n  namespace: shop\ndata:\n  \
         level: \"info\"\n  greeting: |\n    good morning\n    and good night\n  list: [a, b, c]\n"
    )
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

const FILES: usize = 10_000;
const IMAGES: usize = 100;
const REFERENCES: usize = 1000;
const DISTINCT: usize = 50;
const LARGE: usize = 200_000_000;
const RESIDENT_MEGABYTES: f64 = 100.0;
const RUNS: usize = 5;
