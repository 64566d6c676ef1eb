//! Load by `wrk`: one body, posted again and again over TLS on connections that are kept.

use std::io::Write;
use std::process::Command;

use tempfile::NamedTempFile;

use crate::servers::Server;

/// A request that is sent again and again.
pub(crate) struct Load {
    url: String,
    script: NamedTempFile,
    // The script reads it.
    _body: NamedTempFile,
}

/// How many connections send at once.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// [`CONNECTIONS`] of them, to see how much is answered.
    Many,
    /// A single one, to see how long an answer takes.
    One,
}

/// What `wrk` found.
pub(crate) struct Measured {
    /// Answers in a second.
    pub(crate) rate: f64,
    /// The time in which half of the answers came.
    pub(crate) median_milliseconds: f64,
}

/// The connections of [`Kind::Many`].
pub(crate) const CONNECTIONS: u32 = 16;

/// Tells whether `wrk` is there.
pub(crate) fn available() -> Result<(), &'static str> {
    // Without arguments it tells its usage, and fails.
    Command::new("wrk").output().map(drop).map_err(|_| "wrk is not on PATH; apt-get install wrk")
}

impl Load {
    /// A POST of `body` to a path of `server`.
    pub(crate) fn new(server: &Server, path: &str, body: &str) -> Self {
        let body_file = written(body);
        let script = format!(
            "wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/json'\n\
             local file = io.open('{}', 'rb')\nwrk.body = file:read('*a')\nfile:close()\n",
            body_file.path().display()
        );
        Self { url: server.url(path), script: written(&script), _body: body_file }
    }

    /// Sends for so many seconds.
    ///
    /// # Panics
    ///
    /// When an answer is not 200, or a connection fails: there is nothing to compare then.
    pub(crate) fn run(&self, seconds: u64, kind: Kind) -> Measured {
        let connections = match kind {
            Kind::Many => CONNECTIONS,
            Kind::One => 1,
        };
        let output = Command::new("wrk")
            .args(["--threads", "1", "--latency", "--timeout", "30s"])
            .args(["--connections", &connections.to_string(), "--duration", &format!("{seconds}s")])
            .arg("--script")
            .arg(self.script.path())
            .arg(&self.url)
            .output()
            .unwrap_or_else(|error| panic!("wrk: {error}"));
        let text = String::from_utf8_lossy(&output.stdout);
        let failed = ["Non-2xx", "Socket errors"].iter().any(|words| text.contains(words));
        assert!(output.status.success() && !failed, "{text}{}", String::from_utf8_lossy(&output.stderr));
        let after = |words: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(words));
            line.unwrap_or_else(|| panic!("no `{words}` in {text}")).trim().to_owned()
        };
        Measured {
            rate: after("Requests/sec:").parse().unwrap_or_else(|error| panic!("{error}: {text}")),
            median_milliseconds: milliseconds(&after("50%")),
        }
    }
}

fn written(content: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap_or_else(|error| panic!("a temporary file: {error}"));
    file.write_all(content.as_bytes()).unwrap_or_else(|error| panic!("a temporary file: {error}"));
    file
}

/// A time as `wrk` writes it: `850.00us`, `1.23ms` or `1.02s`.
fn milliseconds(text: &str) -> f64 {
    let (number, factor) = [("us", 0.001), ("ms", 1.0), ("s", 1000.0)]
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))
        .unwrap_or_else(|| panic!("`{text}` is no time"));
    number.parse::<f64>().unwrap_or_else(|_| panic!("`{text}` is no time")) * factor
}
