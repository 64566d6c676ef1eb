//! A log of what arrived at a server, on which tests wait in place of sleeping.

use std::fmt::Debug;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// The entries since the start or the last clearing; it keeps the first [`CAPACITY`].
#[derive(Debug)]
pub(crate) struct Log<Entry> {
    entries: Mutex<Vec<Entry>>,
    // One for threads that wait and one for tasks that wait.
    arrival: Condvar,
    length: watch::Sender<usize>,
}

impl<Entry: Clone + Debug> Log<Entry> {
    pub(crate) fn new() -> Self {
        Self { entries: Mutex::new(Vec::new()), arrival: Condvar::new(), length: watch::Sender::new(0) }
    }

    pub(crate) fn record(&self, entry: Entry) {
        let mut entries = self.lock();
        if entries.len() == CAPACITY {
            return;
        }
        entries.push(entry);
        self.length.send_replace(entries.len());
        self.arrival.notify_all();
    }

    pub(crate) fn all(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    pub(crate) fn count(&self, counts: impl Fn(&Entry) -> bool) -> usize {
        self.lock().iter().filter(|entry| counts(entry)).count()
    }

    pub(crate) fn clear(&self) {
        let mut entries = self.lock();
        entries.clear();
        self.length.send_replace(0);
    }

    /// Blocks the thread until there are `count` entries, for [`PATIENCE`] at most.
    pub(crate) fn wait(&self, count: usize) -> io::Result<Vec<Entry>> {
        let (entries, timeout) = self
            .arrival
            .wait_timeout_while(self.lock(), PATIENCE, |entries| entries.len() < count)
            .unwrap_or_else(PoisonError::into_inner);
        match timeout.timed_out() {
            true => Err(too_few(&entries, count)),
            false => Ok(entries.clone()),
        }
    }

    /// Waits until there are `count` entries, for [`PATIENCE`] at most, and lets other tasks run.
    pub(crate) async fn arrived(&self, count: usize) -> io::Result<Vec<Entry>> {
        let mut length = self.length.subscribe();
        let reached = length.wait_for(|length| *length >= count);
        // What it gives holds the length for reading, and whoever records an entry holds the entries
        // and wants to write the length: it must be gone before the entries are taken.
        let is_reached = tokio::time::timeout(PATIENCE, reached).await.is_ok();
        if is_reached { Ok(self.all()) } else { Err(too_few(&self.lock(), count)) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_few(entries: &[impl Debug], count: usize) -> io::Error {
    let arrived = entries.len();
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("{arrived} of {count} arrived within {PATIENCE:?}: {entries:?}"),
    )
}

/// How long a wait lasts at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many entries are kept; more come only from a benchmark or a demo left running.
const CAPACITY: usize = 100_000;
