//! The log: its destination, its format, and its writer.
//!
//! Lines are collected for a moment and written together, in order. No line is lost: a full buffer makes the callers
//! wait, and the end of the program waits for the last write. `tracing-appender` cannot do that: at the end it waits
//! for one second and drops the rest, its buffer is bounded in lines rather than bytes, and it wakes its thread for
//! every line.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// How much is logged where `RUST_LOG` is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// What a server does, with a line for each review.
    Work,
    /// Only failures of this program. Verbs other than `serve` report to standard error.
    Failures,
}

/// The form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// A JSON object per line.
    Json,
}

/// Logs to standard error: text on a terminal, otherwise a JSON object per line. `RUST_LOG` filters.
///
/// Dropping the result writes the last lines. A second call does nothing.
#[must_use = "the last lines are written when this is dropped"]
pub fn start(verbosity: Verbosity) -> Log {
    let level = match verbosity {
        Verbosity::Work => "info",
        // The Kubernetes client logs every failed request as an error; the findings report those.
        Verbosity::Failures => "error,kube_client=off",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let format = if io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json };
    let lines = Arc::new(LogBuffer::default());
    let writer = {
        let lines = Arc::clone(&lines);
        thread::Builder::new().name("log".to_owned()).spawn(move || lines.write_to(io::stderr()))
    };
    let dispatch = match &writer {
        Ok(_) => dispatch(format, filter, LogWriter(Arc::clone(&lines))),
        // Without the thread every caller writes its own lines.
        Err(_) => dispatch(format, filter, io::stderr),
    };
    // This fails only when a log was started before.
    let _ = dispatch.try_init();
    Log { lines, writer: writer.ok() }
}

/// Writes what passes `filter` to `writer`.
pub(crate) fn dispatch<W>(format: LogFormat, filter: EnvFilter, writer: W) -> Dispatch
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Text => builder.into(),
        LogFormat::Json => builder.event_format(JsonLine).into(),
    }
}

/// The running log.
#[derive(Debug)]
pub struct Log {
    lines: Arc<LogBuffer>,
    writer: Option<JoinHandle<()>>,
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines.close();
        if let Some(writer) = self.writer.take() {
            // This fails only if the thread panicked, and there is nowhere to report that.
            let _ = writer.join();
        }
    }
}

/// Formats an event as one line of JSON. With the JSON format of `tracing-subscriber`, which checks each fragment for
/// UTF-8, the line would need twice as many instructions, a tenth of all that a review needs.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = JsonMembers(Vec::with_capacity(USUAL_LINE));
        line.name("timestamp");
        write!(line.0, "\"{:.6}\"", Timestamp::now()).map_err(|_| fmt::Error)?;
        line.add_text("level", event.metadata().level().as_str());
        event.record(&mut line);
        line.add_text("target", event.metadata().target());
        line.0.extend_from_slice(b"}\n");
        writer.write_str(str::from_utf8(&line.0).map_err(|_| fmt::Error)?)
    }
}

/// The members of a JSON object, as they are written.
struct JsonMembers(Vec<u8>);

impl JsonMembers {
    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(if self.0.is_empty() { b"{\"" } else { b",\"" });
        // The name of a field is an identifier.
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// Adds a text. Few have anything to escape, which is found out faster than each byte is looked up.
    fn text(&mut self, text: &str) {
        let has_escapes = |found, byte: u8| found | (byte < b' ') | (byte == b'"') | (byte == b'\\');
        if text.bytes().fold(false, has_escapes) {
            return self.value(text);
        }
        self.0.push(b'"');
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(b'"');
    }

    fn value(&mut self, value: &(impl Serialize + ?Sized)) {
        // Writing texts, numbers and truth values to memory does not fail.
        let _ = serde_json::to_writer(&mut self.0, value);
    }

    fn add(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        self.name(name);
        self.value(value);
    }

    fn add_text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.text(text);
    }
}

impl Visit for JsonMembers {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_text(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), &value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.name(field.name());
        let _ = if (0.0..MAX_EXACT).contains(&value) {
            // Integers are formatted in a fraction of the time. The leading one of the second makes room for the point.
            let thousandths = (value * 1000.0).round() as u64;
            self.value(&(thousandths / 1000));
            let point = self.0.len();
            self.value(&(1000 + thousandths % 1000));
            self.0[point] = b'.';
            Ok(())
        } else if value.is_finite() {
            write!(self.0, "{value:.3}")
        } else {
            // JSON has no infinity.
            self.0.write_all(b"null")
        };
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), &format_args!("{value:?}"));
    }
}

/// Lines that are not written yet. A system call and a wake-up for each would take longer than a verdict.
#[derive(Debug, Default)]
struct LogBuffer {
    waiting: Mutex<PendingLines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct PendingLines {
    bytes: Vec<u8>,
    is_closed: bool,
}

impl LogBuffer {
    /// Adds a whole line. Waits while the buffer is full, so that no line is lost and memory stays bounded.
    fn push(&self, line: &[u8]) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |waiting: &mut PendingLines| waiting.bytes.len() >= MAX_WAITING && !waiting.is_closed;
        let waiting = self.changed.wait_while(waiting, is_full);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let is_first = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if is_first {
            self.changed.notify_all();
        }
    }

    fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.changed.notify_all();
    }

    /// Writes lines as they come, until the buffer is closed.
    fn write_to(&self, mut out: impl Write) {
        let mut taken = Vec::new();
        loop {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let is_idle = |waiting: &mut PendingLines| waiting.bytes.is_empty() && !waiting.is_closed;
            let waiting = self.changed.wait_while(waiting, is_idle);
            let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
            let may_collect =
                |waiting: &mut PendingLines| !waiting.is_closed && waiting.bytes.len() < MAX_WAITING;
            let collected = self.changed.wait_timeout_while(waiting, COLLECTED, may_collect);
            let (mut waiting, _) = collected.unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut waiting.bytes, &mut taken);
            let is_closed = waiting.is_closed;
            drop(waiting);
            self.changed.notify_all();
            // When standard error is closed there is nowhere to report that.
            let _ = out.write_all(&taken).and_then(|()| out.flush());
            taken.clear();
            if is_closed {
                return;
            }
        }
    }
}

/// The writer of the subscriber, which writes a whole line at a time.
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

/// How long lines are collected. Short enough for a person who watches the log.
const COLLECTED: Duration = Duration::from_millis(2);
/// Some thousands of lines.
const MAX_WAITING: usize = 1024 * 1024;
/// Below this, a thousandth of a number is exact.
const MAX_EXACT: f64 = 1e12;
/// The bytes of the line of a usual review.
const USUAL_LINE: usize = 640;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Writes one piece for each permission.
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
    fn no_line_is_lost_when_the_reader_is_slow_or_the_program_ends() {
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
        lines.close();
        writer.join().unwrap();
        let written = written.lock().unwrap();
        let text = std::str::from_utf8(&written).unwrap();
        assert_eq!(text.lines().filter(|line| line.len() == 499).count(), 4 * 3000);
        assert!(text.ends_with("\nlast\n"));
    }

    /// Keeps the lines of a log.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `log` logs, without colours.
    pub(crate) fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let dispatch = dispatch(format, EnvFilter::new("info"), move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, log);
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let mut parts = text.split('\u{1b}');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |plain, part| plain + part.split_once('m').map_or(part, |(_, text)| text))
    }

    #[test]
    fn a_line_of_json_has_every_kind_of_field() {
        let line = logged(LogFormat::Json, || {
            tracing::debug!("below the level");
            let words = Some("c\u{7}");
            tracing::info!(
                text = "a\"b\n",
                dryRun = true,
                ?words,
                count = -1,
                milliseconds = 1.25,
                below = -0.0625,
                end = f64::NAN,
                "said"
            );
        });
        let (first, rest) = line.split_once(",\"level\":").unwrap();
        let time = first.strip_prefix("{\"timestamp\":\"").unwrap().trim_end_matches('"');
        assert!(
            time.len() == "2026-01-31T12:00:00.123456Z".len() && time.parse::<Timestamp>().is_ok(),
            "{time}"
        );
        let expected = r#""INFO","message":"said","text":"a\"b\n","dryRun":true,"words":"Some(\"c\\u{7}\")","count":-1,"#;
        let expected = format!(
            "{expected}\"milliseconds\":1.250,\"below\":-0.062,\"end\":null,\"target\":\"{}\"}}\n",
            module_path!()
        );
        assert_eq!(rest, expected);
    }

    #[test]
    fn a_line_of_text_has_the_same_fields() {
        let line = logged(LogFormat::Text, || {
            tracing::info!(text = "a", dryRun = true, milliseconds = 1.25, "said")
        });
        assert!(line.contains(r#"said text="a" dryRun=true milliseconds=1.25"#), "{line}");
    }
}
