//! OCI digests of bytes.
//!
//! Only `sha256` exists here: it is the one algorithm that every registry and
//! every client of the tests agrees on.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};

/// Computes the OCI digest of `bytes`, in the form `sha256:<64 lower-case hex digits>`.
pub fn digest_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(SHA256_PREFIX.len() + 64);
    text.push_str(SHA256_PREFIX);
    for byte in digest(&SHA256, bytes).as_ref() {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
    }
    text
}

/// Tells whether `text` is a well-formed `sha256` digest rather than a tag.
pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix(SHA256_PREFIX).is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

const SHA256_PREFIX: &str = "sha256:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        assert_eq!(digest_of(b""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn only_whole_lower_case_sha256_digests_are_digests() {
        let whole = digest_of(b"x");
        let table = [
            (whole.as_str(), true, "a whole digest"),
            ("latest", false, "a tag"),
            ("sha256:abc", false, "a short digest"),
            (&whole.to_uppercase(), false, "an upper-case digest"),
        ];
        for (text, expected, what) in table {
            assert_eq!(is_digest(text), expected, "{what}");
        }
    }
}
