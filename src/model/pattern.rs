//! Patterns in which `*` matches any characters, including `/`; everything else is literal.

use derive_more::Display;

/// A pattern of a policy, for names of objects and pools and for repositories.
#[derive(Clone, Debug, Display, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Makes a pattern of `text`. Every text is a valid pattern.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Tells whether the pattern matches the whole `text`. Takes at most as many steps as the product of both
    /// lengths.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut at, mut seen) = (0, 0);
        // The position of the last star, and that in the text when it was reached.
        let mut star: Option<(usize, usize)> = None;
        while seen < text.len() {
            if pattern.get(at) == Some(&b'*') {
                star = Some((at, seen));
                at += 1;
            } else if pattern.get(at) == Some(&text[seen]) {
                at += 1;
                seen += 1;
            } else if let Some((star_at, star_seen)) = star {
                at = star_at + 1;
                seen = star_seen + 1;
                star = Some((star_at, seen));
            } else {
                return false;
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_matches_any_characters() {
        for (pattern, text, matches) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "a/b", true),
            ("quay.io/acme/*", "quay.io/acme/os", true),
            ("quay.io/acme/*", "quay.io/acme/team/os", true),
            ("quay.io/acme/*", "quay.io/acme", false),
            ("quay.io/acme/*", "quay.io/acmex/os", false),
            ("quay.io/acme/*", "evil.io/quay.io/acme/os", false),
            ("quay.io", "quayXio", false),
            ("*/os", "quay.io/a/os", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbX", false),
            ("**", "x", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), matches, "{pattern} on {text}");
        }
    }

    proptest! {
        #[test]
        fn a_star_matches_any_part_that_it_replaces(text in "[a-c/]{0,12}", from in 0usize..12, to in 0usize..12) {
            let (from, to) = (from.min(text.len()), to.min(text.len()));
            let pattern = Pattern::new(format!("{}*{}", &text[..from.min(to)], &text[from.max(to)..]));
            prop_assert!(pattern.matches(&text));
        }
    }
}
