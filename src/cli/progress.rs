//! Progress of long work, on standard error.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::cli::output;

/// A line on the terminal that is updated as work goes on, and removed on drop. Nothing is written where
/// standard error is not a terminal, nor when the work is short.
pub(crate) struct Progress {
    done: Arc<AtomicUsize>,
    /// The thread that writes, until the sender is gone.
    watcher: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Reports work on `total` things, such as `files`.
    pub(crate) fn of(doing: &'static str, total: usize, things: &'static str) -> Self {
        let done = Arc::new(AtomicUsize::new(0));
        let watcher = std::io::stderr().is_terminal().then(|| {
            let (end, ended) = mpsc::channel();
            let done = Arc::clone(&done);
            let thread = thread::spawn(move || {
                let mut pause = SHORT_WORK;
                let mut has_written = false;
                while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                    let done = done.load(Ordering::Relaxed);
                    output::remark(&format!("{CLEAR}{doing} {done} of {total} {things}"));
                    (pause, has_written) = (BETWEEN, true);
                }
                if has_written {
                    output::remark(CLEAR);
                }
            });
            (end, thread)
        });
        Self { done, watcher }
    }

    /// How many things are done: whoever works adds to it.
    pub(crate) fn done(&self) -> &AtomicUsize {
        &self.done
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.watcher.take() {
            drop(end);
            // It panics only where writing to standard error does.
            let _ = thread.join();
        }
    }
}

/// Returns to the first column and erases the line (ECMA-48 `EL`).
const CLEAR: &str = "\r\u{1b}[K";
/// Work that ends sooner needs no progress.
const SHORT_WORK: Duration = Duration::from_millis(700);
const BETWEEN: Duration = Duration::from_millis(200);
