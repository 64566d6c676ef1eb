//! Waiting for a condition, never for a fixed time.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// Repeats `attempt` until it returns something, and returns that.
///
/// # Panics
///
/// When it returns nothing in time.
#[expect(clippy::disallowed_methods, reason = "the pause between two attempts, up to a deadline")]
pub async fn eventually<T>(claim: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Some(value) => return value,
            None if Instant::now() > deadline => panic!("not in {PATIENCE:?}: {claim}"),
            None => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// The same in a test without a runtime, with the error of the last attempt in the panic.
///
/// # Panics
///
/// When no attempt succeeds in time.
#[expect(clippy::disallowed_methods, reason = "the pause between two attempts, up to a deadline")]
pub fn eventually_blocking<T, E: Display>(claim: &str, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(last) if Instant::now() > deadline => panic!("not in {PATIENCE:?}: {claim}: {last}"),
            Err(_) => thread::sleep(LONG_PAUSE),
        }
    }
}

/// Fails a test instead of letting it hang.
///
/// # Panics
///
/// When `future` does not finish in time.
pub async fn in_time<T>(claim: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not in {PATIENCE:?}: {claim}"),
    }
}

/// Far more than any condition takes that becomes true at all.
pub const PATIENCE: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(10);
/// What is repeated without a runtime starts a process most of the time.
const LONG_PAUSE: Duration = Duration::from_millis(50);
