//! Instructions per review, counted by `callgrind`: unlike times they do not depend on what else the machine does.
//!
//! Two processes answer N and 2N reviews of an object that is already pinned, from a warm cache; the difference divided
//! by N leaves out the start. `BENCH_PROGRAM` counts another binary, for example of an earlier version.

#[path = "road/documents.rs"]
#[expect(dead_code, reason = "the other reviews are for the benchmark of time")]
mod documents;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use documents::Reviews;
use layerpin_sample_registry::Registry;
use layerpin_test_support::client::Client;
use layerpin_test_support::measure::{Report, is_benchmark};
use layerpin_test_support::program::{Guard, addresses, layerpin};

fn main() -> ExitCode {
    if !is_benchmark() {
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("skipped: valgrind is not on PATH; apt-get install valgrind");
        return ExitCode::SUCCESS;
    }
    layerpin::install_crypto_provider();
    let program = std::env::var_os("BENCH_PROGRAM").map_or_else(layerpin, PathBuf::from);
    let registry = Registry::start().expect("a registry");
    let review = Reviews::of(&registry).pinned;
    let [once, twice] = [REVIEWS, 2 * REVIEWS].map(|reviews| instructions(&program, &review, reviews));
    let each = (twice - once) / REVIEWS;
    let mut report = Report::default();
    let figure = format!("{each:>7} instructions");
    report.line("pinned, /validate, warm cache", &figure, Some(each <= TARGET));
    report.end(&format!("{TARGET} instructions"))
}

/// The instructions of a process that answers `count` reviews.
fn instructions(program: &Path, review: &str, count: u64) -> u64 {
    let folder = tempfile::tempdir().expect("a folder");
    let log = std::fs::File::create(folder.path().join("log")).expect("its log");
    let mut child = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=counted"])
        .arg(program)
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .current_dir(folder.path())
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("valgrind");
    let output = child.stdout.take().expect("its output");
    let mut child = Guard(child);
    let [address, _] = addresses(output, || program.display().to_string());
    let authority = std::fs::read_to_string(folder.path().join("certs/dev-ca.crt")).expect("its CA");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = Client::of_http_1(address, &authority);
        for _ in 0..count {
            let answer = client.post("/validate?timeout=10s", review.to_owned()).await;
            assert!(answer.text.contains("\"allowed\":true"), "{answer:?}");
        }
    });
    let process = rustix::process::Pid::from_child(&child.0);
    rustix::process::kill_process(process, rustix::process::Signal::INT).expect("a running process");
    child.0.wait().expect("a process that ends");
    let counted = std::fs::read_to_string(folder.path().join("counted")).expect("the file of callgrind");
    let total =
        counted.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    total.and_then(|total| total.trim().parse().ok()).expect("a total")
}

/// So many that the start, whose gathering of randomness takes a varying number of instructions, does not show.
const REVIEWS: u64 = 4000;
/// For a pinned review, with its whole log line.
const TARGET: u64 = 100_000;
