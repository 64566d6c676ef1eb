//! Durations as Go and Kubernetes write them: `10s`, `1m30s`, `500ms`.

use std::time::Duration;

use jiff::SignedDuration;

/// Parses a duration. `None` when `text` is none, has no unit, or is negative.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    Duration::try_from(text.parse::<SignedDuration>().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_writes_is_read() {
        for (text, expected) in [
            ("10s", Some(Duration::from_secs(10))),
            ("1m0s", Some(Duration::from_secs(60))),
            ("1h2m3s", Some(Duration::from_secs(3723))),
            ("500ms", Some(Duration::from_millis(500))),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("250µs", Some(Duration::from_micros(250))),
            ("10", None),
            ("-1s", None),
            ("", None),
            ("ten seconds", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
