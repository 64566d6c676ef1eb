//! What the benchmarks share: medians, memory, and the lines of a report.

use std::fs;
use std::process::ExitCode;

/// Whether `cargo bench` started this process. `cargo test --benches` must not measure anything.
pub fn is_benchmark() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// The middle one of these figures.
pub fn median<T: PartialOrd + Copy>(figures: &[T]) -> T {
    let mut sorted = figures.to_vec();
    sorted.sort_by(|one, other| one.partial_cmp(other).unwrap());
    sorted[sorted.len() / 2]
}

/// The memory of a process in megabytes, from a field of `/proc/PROCESS/status`: `VmRSS` is resident now,
/// `VmHWM` the most that was. `None` when the process has ended.
pub fn memory(process: u32, field: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kilobytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes / 1000.0)
}

/// A table that is printed line by line, and fails when a target is missed.
#[derive(Default)]
pub struct Report {
    missed: bool,
}

impl Report {
    /// Prints a figure, and whether its target is reached if it has one.
    pub fn line(&mut self, name: &str, figure: &str, reached: Option<bool>) {
        let end = match reached {
            None => "",
            Some(true) => "  reached",
            Some(false) => {
                self.missed = true;
                "  MISSED"
            }
        };
        println!("{name:<44}{figure}{end}");
    }

    /// Prints the targets, and returns whether all are reached.
    pub fn end(self, targets: &str) -> ExitCode {
        println!("targets: {targets}");
        if self.missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
