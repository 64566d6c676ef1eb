//! Where the log goes, in which form, and how much of it there is.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How much is logged where `RUST_LOG` says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// What a server does: a line for each review.
    Work,
    /// Failures of this program alone. Verbs other than `serve` say on standard error what a person
    /// must know.
    Failures,
}

/// Logs to standard error: text on a terminal, a JSON object a line otherwise. `RUST_LOG` filters.
///
/// Lines are gathered for a moment and written together, in order; dropping what is returned writes
/// the last of them. To be called once; calling it again does nothing.
#[must_use = "the last lines are written when this is dropped"]
pub fn start(amount: Verbosity) -> Log {
    let level = match amount {
        Verbosity::Work => "info",
        // The client of Kubernetes calls each question that fails an error. What that costs, and why, is
        // told with the findings.
        Verbosity::Failures => "error,kube_client=off",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let lines = Arc::new(LogBuffer::default());
    let writer = {
        let lines = Arc::clone(&lines);
        thread::Builder::new().name("log".to_owned()).spawn(move || lines.write_to(std::io::stderr()))
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    // Setting it up fails only when there is a log already.
    let _ = match (&writer, std::io::stderr().is_terminal()) {
        (Ok(_), true) => builder.with_writer(LogWriter(Arc::clone(&lines))).try_init(),
        (Ok(_), false) => builder
            .with_writer(LogWriter(Arc::clone(&lines)))
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        // Without a thread each line is written by whoever has something to say.
        (Err(_), _) => builder.with_writer(std::io::stderr).json().flatten_event(true).try_init(),
    };
    Log { lines, writer: writer.ok() }
}

/// The log while it runs.
#[derive(Debug)]
pub struct Log {
    lines: Arc<LogBuffer>,
    writer: Option<JoinHandle<()>>,
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines.end();
        if let Some(writer) = self.writer.take() {
            // It fails only if the thread panicked, and then there is nowhere to say so.
            let _ = writer.join();
        }
    }
}

/// Lines on their way. A system call for each, and a reader woken by each, would cost a review more
/// than its verdict does.
#[derive(Debug, Default)]
struct LogBuffer {
    waiting: Mutex<PendingLines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct PendingLines {
    bytes: Vec<u8>,
    has_ended: bool,
}

impl LogBuffer {
    /// Takes a whole line. Waits where the reader of the log is that far behind, so that no line is
    /// ever lost and memory stays bounded.
    fn push(&self, line: &[u8]) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |waiting: &mut PendingLines| waiting.bytes.len() >= MAX_WAITING && !waiting.has_ended;
        let waiting = self.changed.wait_while(waiting, is_full);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let is_first = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if is_first {
            self.changed.notify_all();
        }
    }

    fn end(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).has_ended = true;
        self.changed.notify_all();
    }

    /// Writes lines as they come, until the end.
    fn write_to(&self, mut out: impl Write) {
        let mut taken = Vec::new();
        loop {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let is_idle = |waiting: &mut PendingLines| waiting.bytes.is_empty() && !waiting.has_ended;
            let waiting = self.changed.wait_while(waiting, is_idle);
            let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
            // More lines gather meanwhile; the end is not waited for.
            let may_gather =
                |waiting: &mut PendingLines| !waiting.has_ended && waiting.bytes.len() < MAX_WAITING;
            let gathered = self.changed.wait_timeout_while(waiting, GATHERED, may_gather);
            let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut waiting.bytes, &mut taken);
            let has_ended = waiting.has_ended;
            drop(waiting);
            self.changed.notify_all();
            // Where nobody reads the log any more, there is nobody to tell.
            let _ = out.write_all(&taken).and_then(|()| out.flush());
            taken.clear();
            if has_ended {
                return;
            }
        }
    }
}

/// Where the subscriber writes: it hands over a line at a time.
#[derive(Debug)]
struct LogWriter(Arc<LogBuffer>);

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = &'a LogBuffer;

    fn make_writer(&'a self) -> Self::Writer {
        &self.0
    }
}

impl Write for &LogBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How long lines gather. Short enough for a person who watches.
const GATHERED: Duration = Duration::from_millis(2);
/// Some thousands of lines.
const MAX_WAITING: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Somewhere to write that takes one piece for each permission.
    struct ThrottledWriter {
        permissions: std::sync::mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for ThrottledWriter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // After the last permission everything goes through.
            let _ = self.permissions.recv();
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_line_is_lost_though_nobody_reads_for_long_and_the_end_writes_the_last() {
        let lines = Arc::new(LogBuffer::default());
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let (permit, permissions) = std::sync::mpsc::channel();
        let slow = ThrottledWriter { permissions, written: Arc::clone(&written) };
        let writer = {
            let lines = Arc::clone(&lines);
            thread::spawn(move || lines.write_to(slow))
        };
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let lines = Arc::clone(&lines);
                // Each alone is more than may wait.
                thread::spawn(move || (0..3000).for_each(|_| lines.push(&[&[b'x'; 499][..], b"\n"].concat())))
            })
            .collect();
        drop(permit);
        for writer in writers {
            writer.join().unwrap();
        }
        lines.push(b"last\n");
        lines.end();
        writer.join().unwrap();
        let written = written.lock().unwrap();
        let text = std::str::from_utf8(&written).unwrap();
        assert_eq!(text.lines().filter(|line| line.len() == 499).count(), 4 * 3000);
        assert!(text.ends_with("\nlast\n"));
    }
}
