//! The form of a `registries.conf`, version 2 (`containers-registries.conf(5)`): text to [`RegistryTable`].
//!
//! What nodes refuse is refused here, with line and key; what they pass over is passed over, too, and
//! named. Short names are no business of this program, so search registries and aliases are not read.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::image_reference::ImageReference;
use crate::registry::http::Trust;
use crate::registry::mirrors::registries_conf::RegistriesConfFault;
use crate::registry::mirrors::route::{EndpointScheme, Mirror, PullFromMirror, RegistryEntry, RegistryTable};
use crate::text::shown;

/// A key that nodes pass over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IgnoredKeys {
    pub(crate) line: usize,
    pub(crate) name: String,
}

/// The text of one file.
pub(crate) struct RegistriesToml<'a> {
    pub(crate) text: &'a str,
}

type TomlTable<'a> = DeTable<'a>;
type Value<'a> = Spanned<DeValue<'a>>;

impl RegistriesToml<'_> {
    /// What it says, and what nodes pass over in it.
    pub(crate) fn registries(&self) -> Result<(RegistryTable, Vec<IgnoredKeys>), RegistriesConfFault> {
        let document = TomlTable::parse(self.text).map_err(|error| {
            let span = error.span().unwrap_or_default();
            self.fault(span, format!("not TOML: {}", shown(&error.message().replace('\n', ", "))))
        })?;
        let mut passed_over = Vec::new();
        let mut entries: Vec<(RegistryEntry, Range<usize>)> = Vec::new();
        for (key, value) in document.get_ref() {
            match key.get_ref().as_ref() {
                "registry" => {
                    for table in self.tables("registry", value)? {
                        entries.push((self.entry(table, &mut passed_over)?, table.span()));
                    }
                }
                "registries" => {
                    return Err(self.fault(
                        key.span(),
                        "`registries` is of version 1 of the format; write `[[registry]]` tables".to_owned(),
                    ));
                }
                key if NOT_READ.contains(&key) => {}
                name => passed_over.push(IgnoredKeys { line: self.line(&key.span()), name: shown(name) }),
            }
        }
        self.check_conflicts(&entries)?;
        Ok((RegistryTable::new(entries.into_iter().map(|(entry, _)| entry)), passed_over))
    }

    fn entry(
        &self,
        value: &Value<'_>,
        passed_over: &mut Vec<IgnoredKeys>,
    ) -> Result<RegistryEntry, RegistriesConfFault> {
        let mut prefix = None;
        let mut location = None;
        let mut trust = Trust::Verified;
        let mut access = EndpointScheme::Open;
        let mut by_digest_only = false;
        let mut mirrors = Vec::new();
        for (key, value) in self.members("registry", value)? {
            match key.get_ref().as_ref() {
                "prefix" => prefix = self.place("prefix", value)?,
                "location" => location = self.place("location", value)?,
                "insecure" => trust = if self.is_set("insecure", value)? { Trust::Insecure } else { trust },
                "blocked" => {
                    access = if self.is_set("blocked", value)? { EndpointScheme::Blocked } else { access }
                }
                "mirror-by-digest-only" => by_digest_only = self.is_set("mirror-by-digest-only", value)?,
                "mirror" => {
                    for table in self.tables("mirror", value)? {
                        mirrors.push((self.mirror(table, passed_over)?, table.span()));
                    }
                }
                "pull-from-mirror" => {
                    return Err(self.fault(
                        key.span(),
                        "`pull-from-mirror` belongs into `[[registry.mirror]]`".to_owned(),
                    ));
                }
                name => passed_over.push(IgnoredKeys { line: self.line(&key.span()), name: shown(name) }),
            }
        }
        let prefix = match (prefix, &location) {
            (Some(prefix), _) => prefix,
            (None, Some(location)) => location.clone(),
            (None, None) => {
                return Err(
                    self.fault(value.span(), "`[[registry]]` has neither `location` nor `prefix`".to_owned())
                );
            }
        };
        if let Some(domain) = prefix.strip_prefix("*.") {
            if domain.contains(['/', '@', ':']) {
                let message =
                    format!("`prefix` is `{}`; a wildcard is `*.` and a domain alone", shown(&prefix));
                return Err(self.fault(value.span(), message));
            }
        } else if location.is_none() {
            let message = format!(
                "`location` is missing; only a `prefix` such as `*.example.com` goes without, and this is `{}`",
                shown(&prefix)
            );
            return Err(self.fault(value.span(), message));
        }
        let mut read = Vec::new();
        for ((mirror, answers), span) in mirrors {
            if by_digest_only && answers.is_some() {
                let message = "`pull-from-mirror` cannot stand beside `mirror-by-digest-only`".to_owned();
                return Err(self.fault(span, message));
            }
            let answers =
                if by_digest_only { PullFromMirror::Digests } else { answers.unwrap_or(PullFromMirror::All) };
            read.push(Mirror { answers, ..mirror });
        }
        Ok(RegistryEntry { prefix, location, mirrors: read, trust, access })
    }

    fn mirror(
        &self,
        value: &Value<'_>,
        passed_over: &mut Vec<IgnoredKeys>,
    ) -> Result<(Mirror, Option<PullFromMirror>), RegistriesConfFault> {
        let mut location = None;
        let mut trust = Trust::Verified;
        let mut answers = None;
        for (key, value) in self.members("mirror", value)? {
            match key.get_ref().as_ref() {
                "location" => location = self.place("location", value)?,
                "insecure" => trust = if self.is_set("insecure", value)? { Trust::Insecure } else { trust },
                "pull-from-mirror" => {
                    answers = match self.string("pull-from-mirror", value)? {
                        "" => None,
                        "all" => Some(PullFromMirror::All),
                        "digest-only" => Some(PullFromMirror::Digests),
                        "tag-only" => Some(PullFromMirror::Tags),
                        other => {
                            let message = format!(
                                "`pull-from-mirror` is `{}`; `all`, `digest-only` or `tag-only` is expected",
                                shown(other)
                            );
                            return Err(self.fault(value.span(), message));
                        }
                    }
                }
                name => passed_over.push(IgnoredKeys { line: self.line(&key.span()), name: shown(name) }),
            }
        }
        let Some(location) = location else {
            return Err(self.fault(value.span(), "`[[registry.mirror]]` has no `location`".to_owned()));
        };
        Ok((Mirror { location, trust, answers: PullFromMirror::All }, answers))
    }

    /// Nodes refuse a file in which one place is both secure and insecure, or blocked and open.
    fn check_conflicts(&self, entries: &[(RegistryEntry, Range<usize>)]) -> Result<(), RegistriesConfFault> {
        let place = |entry: &RegistryEntry| entry.location.clone().unwrap_or_else(|| entry.prefix.clone());
        for (index, (entry, span)) in entries.iter().enumerate() {
            for (earlier, earlier_span) in &entries[..index] {
                if place(entry) != place(earlier) {
                    continue;
                }
                for (key, differs) in
                    [("insecure", entry.trust != earlier.trust), ("blocked", entry.access != earlier.access)]
                {
                    if differs {
                        let message = format!(
                            "`{key}` of `{}` is another than in line {}",
                            shown(&place(entry)),
                            self.line(earlier_span)
                        );
                        return Err(self.fault(span.clone(), message));
                    }
                }
            }
        }
        Ok(())
    }

    /// A host with what follows it. `None` when it is empty.
    fn place(&self, key: &str, value: &Value<'_>) -> Result<Option<String>, RegistriesConfFault> {
        let text = self.string(key, value)?;
        let place = text.trim_end_matches('/');
        if place.is_empty() {
            return Ok(None);
        }
        let wrong =
            |what: &str| Err(self.fault(value.span(), format!("`{key}` is `{}`, {what}", shown(text))));
        if place.starts_with("http://") || place.starts_with("https://") {
            return wrong("which begins with a scheme; write the host alone");
        }
        // A repository below the place must be a reference that names its registry.
        let named = place.strip_prefix("*.").unwrap_or(place);
        if ImageReference::parse(&format!("{named}/a")).is_err() && key != "prefix" {
            return wrong("which is no host, with or without a path");
        }
        Ok(Some(place.to_owned()))
    }

    fn string<'v>(&self, key: &str, value: &'v Value<'_>) -> Result<&'v str, RegistriesConfFault> {
        value.get_ref().as_str().ok_or_else(|| self.expected(key, "a string", value))
    }

    fn is_set(&self, key: &str, value: &Value<'_>) -> Result<bool, RegistriesConfFault> {
        value.get_ref().as_bool().ok_or_else(|| self.expected(key, "`true` or `false`", value))
    }

    fn tables<'v, 'i>(
        &self,
        key: &str,
        value: &'v Value<'i>,
    ) -> Result<&'v [Value<'i>], RegistriesConfFault> {
        match value.get_ref() {
            DeValue::Array(tables) => Ok(tables),
            _ => Err(self.expected(key, &format!("written `[[{key}]]`, a list of tables,"), value)),
        }
    }

    fn members<'v, 'i>(
        &self,
        key: &str,
        value: &'v Value<'i>,
    ) -> Result<&'v TomlTable<'i>, RegistriesConfFault> {
        match value.get_ref() {
            DeValue::Table(table) => Ok(table),
            _ => Err(self.expected(key, "a table", value)),
        }
    }

    fn expected(&self, key: &str, what: &str, value: &Value<'_>) -> RegistriesConfFault {
        self.fault(value.span(), format!("`{key}` is {}; {what} is expected", value.get_ref().type_str()))
    }

    fn fault(&self, span: Range<usize>, message: String) -> RegistriesConfFault {
        RegistriesConfFault::Content { line: self.line(&span), message }
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

/// What has a meaning for nodes and none for a program that takes no short names and keeps
/// credentials elsewhere.
const NOT_READ: [&str; 5] = [
    "unqualified-search-registries",
    "credential-helpers",
    "short-name-mode",
    "additional-layer-store-auth-helper",
    "aliases",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn registries(text: &str) -> Result<(RegistryTable, Vec<IgnoredKeys>), String> {
        RegistriesToml { text }.registries().map_err(|fault| fault.to_string())
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
unqualified-search-registries = ["docker.io"]
short-name-mode = "enforcing"
credential-helpers = ["pass"]
[aliases]
os = "quay.io/acme/os"

[[registry]]
prefix = "quay.io/acme/"
location = "internal.example:5000/acme//"
insecure = true
blocked = true

[[registry.mirror]]
location = "one.example"
insecure = true

[[registry.mirror]]
location = "two.example/x"
pull-from-mirror = "tag-only"

[[registry.mirror]]
location = "three.example"
pull-from-mirror = "digest-only"

[[registry]]
location = "localhost"
mirror-by-digest-only = true
mirror = [{location = "four.example"}]

[[registry]]
prefix = "*.example.org"
"#;
        let mirror = |location: &str, trust, answers| Mirror { location: location.into(), trust, answers };
        let expected = RegistryTable::new([
            RegistryEntry {
                prefix: "quay.io/acme".into(),
                location: Some("internal.example:5000/acme".into()),
                mirrors: vec![
                    mirror("one.example", Trust::Insecure, PullFromMirror::All),
                    mirror("two.example/x", Trust::Verified, PullFromMirror::Tags),
                    mirror("three.example", Trust::Verified, PullFromMirror::Digests),
                ],
                trust: Trust::Insecure,
                access: EndpointScheme::Blocked,
            },
            RegistryEntry {
                prefix: "localhost".into(),
                location: Some("localhost".into()),
                mirrors: vec![mirror("four.example", Trust::Verified, PullFromMirror::Digests)],
                trust: Trust::Verified,
                access: EndpointScheme::Open,
            },
            RegistryEntry {
                prefix: "*.example.org".into(),
                location: None,
                mirrors: Vec::new(),
                trust: Trust::Verified,
                access: EndpointScheme::Open,
            },
        ]);
        assert_eq!(registries(text), Ok((expected, Vec::new())));
        assert_eq!(registries(""), Ok((RegistryTable::default(), Vec::new())));
    }

    #[test]
    fn what_nodes_pass_over_is_named() {
        let text = "unknown = 1\n[[registry]]\nlocation = \"a.b\"\nblockd = true\n[[registry.mirror]]\nlocation = \"c.d\"\nx = 1\n";
        let (_, passed_over) = registries(text).unwrap();
        let mut named: Vec<_> = passed_over.iter().map(|key| (key.line, key.name.as_str())).collect();
        named.sort_unstable();
        assert_eq!(named, [(1, "unknown"), (4, "blockd"), (7, "x")]);
    }

    #[test]
    fn faults_name_line_and_key() {
        for (text, message) in [
            ("[[registry]\n", ":1: not TOML: "),
            (
                "\n\nregistry = 5",
                ":3: `registry` is integer; written `[[registry]]`, a list of tables, is expected",
            ),
            (
                "[registry]\nlocation = \"a.b\"",
                ":1: `registry` is table; written `[[registry]]`, a list of tables, is expected",
            ),
            ("registry = [5]", ":1: `registry` is integer; a table is expected"),
            (
                "[registries.search]\nregistries = []",
                ":1: `registries` is of version 1 of the format; write `[[registry]]` tables",
            ),
            ("[[registry]]\ninsecure = true", ":1: `[[registry]]` has neither `location` nor `prefix`"),
            ("[[registry]]\n\nlocation = 1", ":3: `location` is integer; a string is expected"),
            (
                "[[registry]]\nlocation = \"a.b\"\nblocked = \"yes\"",
                ":3: `blocked` is string; `true` or `false` is expected",
            ),
            (
                "[[registry]]\nlocation = \"https://a.b\"",
                ":2: `location` is `https://a.b`, which begins with a scheme; write the host alone",
            ),
            (
                "[[registry]]\nlocation = \"mirror\"",
                ":2: `location` is `mirror`, which is no host, with or without a path",
            ),
            (
                "[[registry]]\nprefix = \"a.b\"",
                ":1: `location` is missing; only a `prefix` such as `*.example.com` goes without, and this is `a.b`",
            ),
            (
                "[[registry]]\nprefix = \"*.a.b/c\"",
                ":1: `prefix` is `*.a.b/c`; a wildcard is `*.` and a domain alone",
            ),
            (
                "[[registry]]\nlocation = \"a.b\"\npull-from-mirror = \"all\"",
                ":3: `pull-from-mirror` belongs into `[[registry.mirror]]`",
            ),
            (
                "[[registry]]\nlocation = \"a.b\"\n[[registry.mirror]]\ninsecure = true",
                ":3: `[[registry.mirror]]` has no `location`",
            ),
            (
                "[[registry]]\nlocation = \"a.b\"\n[[registry.mirror]]\nlocation = \"c.d\"\npull-from-mirror = \"tags\"",
                ":5: `pull-from-mirror` is `tags`; `all`, `digest-only` or `tag-only` is expected",
            ),
            (
                "[[registry]]\nlocation = \"a.b\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"c.d\"\npull-from-mirror = \"all\"",
                ":4: `pull-from-mirror` cannot stand beside `mirror-by-digest-only`",
            ),
            (
                "[[registry]]\nlocation = \"a.b\"\n[[registry]]\nprefix = \"c.d\"\nlocation = \"a.b\"\ninsecure = true",
                ":3: `insecure` of `a.b` is another than in line 1",
            ),
            (
                "[[registry]]\nlocation = \"a.b\"\nblocked = true\n[[registry]]\nprefix = \"c.d\"\nlocation = \"a.b\"",
                ":4: `blocked` of `a.b` is another than in line 1",
            ),
            (
                "[[registry]]\nlocation = \"a\\u001b.b\"",
                ":2: `location` is `a\\u{1b}.b`, which is no host, with or without a path",
            ),
        ] {
            let error = registries(text).unwrap_err();
            if message.ends_with(": ") {
                assert!(error.starts_with(message) && !error.contains('\n'), "{error}");
            } else {
                assert_eq!(error, message, "{text}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".*") {
            let _ = registries(&text);
        }

        #[test]
        fn no_values_make_the_reader_panic(
            key in "(prefix|location|insecure|blocked|mirror|pull-from-mirror|x)",
            value in "(1|true|\"[a-z*./:]{0,9}\"|\\[\\]|\\[\\{\\}\\]|\\{\\})",
        ) {
            let _ = registries(&format!("[[registry]]\n{key} = {value}\n[[registry.mirror]]\n{key} = {value}\n"));
        }
    }
}
