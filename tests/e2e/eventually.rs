//! Waiting, for a condition and never for a time.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// Far more than anything here takes; only a condition that never comes takes so long.
const PATIENCE: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(50);

/// Repeats `attempt` until it succeeds, and returns what it then gave.
///
/// # Panics
///
/// When it does not in time, with what the last attempt said.
pub(crate) fn eventually<T, E: Display>(claim: &str, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(last) if Instant::now() > deadline => panic!("not in {PATIENCE:?}: {claim}: {last}"),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
