//! Waiting, for a condition and never for a time.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// Repeats `attempt` until it gives something, and returns that.
///
/// # Panics
///
/// When it gives nothing in time.
pub(crate) async fn eventually<T>(claim: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Some(value) => return value,
            None if Instant::now() > deadline => panic!("not in {PATIENCE:?}: {claim}"),
            None => sleep(PAUSE).await,
        }
    }
}

/// Fails a test in place of letting it hang.
pub(crate) async fn in_time<T>(claim: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not in {PATIENCE:?}: {claim}"),
    }
}

/// Far more than anything here takes; only a condition that never comes takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(10);
