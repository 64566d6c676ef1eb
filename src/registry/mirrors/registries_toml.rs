//! The format of a `registries.conf`, version 2 (`containers-registries.conf(5)`): text to [`RegistryTable`].
//!
//! What nodes refuse is an error with the line; keys that nodes ignore are ignored and reported. Short names
//! are not supported, so search registries and aliases are not read. `serde_ignored` is not used because it
//! has the path of an ignored key and not its line.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::de::DeTable;
use toml::{Deserializer, Spanned};

use crate::model::image_reference::ImageReference;
use crate::registry::files::FileError;
use crate::registry::http::Trust;
use crate::registry::mirrors::route::{Mirror, PullAccess, PullFromMirror, RegistryEntry, RegistryTable};
use crate::text::shown;

/// One file.
pub(crate) struct RegistriesToml<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: &'a str,
}

/// A key that nodes ignore.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IgnoredKey {
    pub(crate) line: usize,
    pub(crate) name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FileTable {
    registry: Vec<Spanned<RegistryBody>>,
    registries: Option<Spanned<IgnoredAny>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default, expecting = "a table")]
struct RegistryBody {
    prefix: Option<Spanned<String>>,
    location: Option<Spanned<String>>,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<Spanned<MirrorTable>>,
    pull_from_mirror: Option<Spanned<IgnoredAny>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default, expecting = "a table")]
struct MirrorTable {
    location: Option<Spanned<String>>,
    insecure: bool,
    pull_from_mirror: Option<Spanned<String>>,
}

impl RegistriesToml<'_> {
    /// The registries, and the keys that nodes ignore.
    pub(crate) fn registries(&self) -> Result<(RegistryTable, Vec<IgnoredKey>), FileError> {
        let error = |error: toml::de::Error| {
            let message = error.to_string().trim_end().replace('\n', " ");
            self.error(&error.span().unwrap_or_default(), shown(&message))
        };
        let document = DeTable::parse(self.text).map_err(|syntax| {
            let message = format!("not valid TOML: {}", shown(&syntax.message().replace('\n', ", ")));
            self.error(&syntax.span().unwrap_or_default(), message)
        })?;
        let ignored = self.ignored(document.get_ref());
        let file = FileTable::deserialize(Deserializer::from(document)).map_err(error)?;
        if let Some(version_1) = file.registries {
            let message = "`registries` belongs to version 1 of the format; write `[[registry]]` tables";
            return Err(self.error(&version_1.span(), message));
        }
        let entries: Vec<_> =
            file.registry.into_iter().map(|body| self.entry(body)).collect::<Result<_, _>>()?;
        self.check_conflicts(&entries)?;
        Ok((RegistryTable::new(entries.into_iter().map(Spanned::into_inner)), ignored))
    }

    /// The keys that nodes ignore.
    fn ignored(&self, file: &DeTable<'_>) -> Vec<IgnoredKey> {
        let mut ignored = Vec::new();
        let mut add_unknown = |table: &DeTable<'_>, known: &[&str]| {
            let unknown = table.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
            ignored.extend(
                unknown.map(|key| IgnoredKey { line: self.line(&key.span()), name: shown(key.get_ref()) }),
            );
        };
        add_unknown(file, &FILE_KEYS);
        for registry in tables(file, "registry") {
            add_unknown(registry, &REGISTRY_KEYS);
            for mirror in tables(registry, "mirror") {
                add_unknown(mirror, &MIRROR_KEYS);
            }
        }
        ignored
    }

    fn entry(&self, body: Spanned<RegistryBody>) -> Result<Spanned<RegistryEntry>, FileError> {
        let span = body.span();
        let error = |message: String| Err(self.error(&span, message));
        let body = body.into_inner();
        if let Some(misplaced) = body.pull_from_mirror {
            let message = "`pull-from-mirror` belongs in `[[registry.mirror]]`";
            return Err(self.error(&misplaced.span(), message));
        }
        let location = self.place("location", body.location)?;
        let Some(prefix) = self.place("prefix", body.prefix)?.or_else(|| location.clone()) else {
            return error("`[[registry]]` has neither `location` nor `prefix`".to_owned());
        };
        if let Some(domain) = prefix.strip_prefix("*.") {
            if domain.contains(['/', '@', ':']) {
                return error(format!(
                    "`prefix` is `{}`; only a domain can follow the wildcard `*.`",
                    shown(&prefix)
                ));
            }
        } else if location.is_none() {
            return error(format!(
                "`location` is missing; it can be left out only for a `prefix` such as `*.example.com`, not `{}`",
                shown(&prefix)
            ));
        }
        let of_registry = body.mirror_by_digest_only.then_some(PullFromMirror::Digests);
        let mirrors = body.mirror.into_iter().map(|mirror| self.mirror(mirror, of_registry));
        let entry = RegistryEntry {
            prefix,
            location,
            mirrors: mirrors.collect::<Result<_, _>>()?,
            trust: body.insecure.into(),
            access: if body.blocked { PullAccess::Blocked } else { PullAccess::Allowed },
        };
        Ok(Spanned::new(span, entry))
    }

    fn mirror(
        &self,
        body: Spanned<MirrorTable>,
        of_registry: Option<PullFromMirror>,
    ) -> Result<Mirror, FileError> {
        let span = body.span();
        let body = body.into_inner();
        let Some(location) = self.place("location", body.location)? else {
            return Err(self.error(&span, "`[[registry.mirror]]` has no `location`"));
        };
        let pull = body.pull_from_mirror.filter(|pull| !pull.get_ref().is_empty());
        let answers = match pull.as_ref().map(|pull| pull.get_ref().as_str()) {
            Some(_) if of_registry.is_some() => {
                let message = "`pull-from-mirror` cannot be used together with `mirror-by-digest-only`";
                return Err(self.error(&span, message));
            }
            None => of_registry.unwrap_or(PullFromMirror::All),
            Some("all") => PullFromMirror::All,
            Some("digest-only") => PullFromMirror::Digests,
            Some("tag-only") => PullFromMirror::Tags,
            Some(other) => {
                let span = pull.as_ref().map(Spanned::span).unwrap_or_default();
                let expected = "`all`, `digest-only` or `tag-only` is expected";
                return Err(
                    self.error(&span, format!("`pull-from-mirror` is `{}`; {expected}", shown(other)))
                );
            }
        };
        Ok(Mirror { location, trust: body.insecure.into(), answers })
    }

    /// Nodes refuse a file in which one place is both secure and insecure, or blocked and allowed.
    fn check_conflicts(&self, entries: &[Spanned<RegistryEntry>]) -> Result<(), FileError> {
        let place = |entry: &RegistryEntry| entry.location.clone().unwrap_or_else(|| entry.prefix.clone());
        for (index, spanned) in entries.iter().enumerate() {
            let entry = spanned.get_ref();
            let same_place =
                entries[..index].iter().filter(|earlier| place(earlier.get_ref()) == place(entry));
            for (line, earlier) in same_place.map(|earlier| (self.line(&earlier.span()), earlier.get_ref())) {
                let insecure = (entry.trust != earlier.trust).then_some("insecure");
                let blocked = (entry.access != earlier.access).then_some("blocked");
                if let Some(key) = insecure.or(blocked) {
                    let place = shown(&place(entry));
                    let message = format!("`{key}` of `{place}` differs from line {line}");
                    return Err(self.error(&spanned.span(), message));
                }
            }
        }
        Ok(())
    }

    /// A host with what follows it. `None` when it is empty.
    fn place(&self, key: &str, text: Option<Spanned<String>>) -> Result<Option<String>, FileError> {
        let Some(text) = text else { return Ok(None) };
        let (span, text) = (text.span(), text.into_inner());
        let place = text.trim_end_matches('/');
        if place.is_empty() {
            return Ok(None);
        }
        let wrong = |what: &str| Err(self.error(&span, format!("`{key}` is `{}`, {what}", shown(&text))));
        if place.starts_with("http://") || place.starts_with("https://") {
            return wrong("which begins with a scheme; write only the host");
        }
        // A repository below the place must be a reference that names its registry.
        let named = place.strip_prefix("*.").unwrap_or(place);
        if ImageReference::parse(&format!("{named}/a")).is_err() && key != "prefix" {
            return wrong("which is not a host, with or without a path");
        }
        Ok(Some(place.to_owned()))
    }

    fn error(&self, span: &Range<usize>, message: impl Into<String>) -> FileError {
        FileError::new(format_args!("{}:{}", self.path.display(), self.line(span)), message.into())
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

/// The tables below `key`, which may be of another type.
fn tables<'t, 'i>(table: &'t DeTable<'i>, key: &str) -> impl Iterator<Item = &'t DeTable<'i>> {
    let array = table.get(key).and_then(|value| value.get_ref().as_array());
    array.into_iter().flat_map(|array| array.iter()).filter_map(|value| value.get_ref().as_table())
}

impl From<bool> for Trust {
    /// The key `insecure`.
    fn from(insecure: bool) -> Self {
        if insecure { Self::Insecure } else { Self::Verified }
    }
}

/// The last five have a meaning for nodes but not for a program without short names, whose credentials come
/// from elsewhere.
const FILE_KEYS: [&str; 7] = [
    "registry",
    "registries",
    "unqualified-search-registries",
    "credential-helpers",
    "short-name-mode",
    "additional-layer-store-auth-helper",
    "aliases",
];
const REGISTRY_KEYS: [&str; 7] =
    ["prefix", "location", "insecure", "blocked", "mirror-by-digest-only", "mirror", "pull-from-mirror"];
const MIRROR_KEYS: [&str; 3] = ["location", "insecure", "pull-from-mirror"];

#[cfg(test)]
mod tests {
    use super::*;

    fn registries(text: &str) -> Result<(RegistryTable, Vec<IgnoredKey>), String> {
        let file = RegistriesToml { path: Path::new("conf"), text };
        file.registries().map_err(|error| error.to_string().replacen("conf:", "", 1))
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
                access: PullAccess::Blocked,
            },
            RegistryEntry {
                prefix: "localhost".into(),
                location: Some("localhost".into()),
                mirrors: vec![mirror("four.example", Trust::Verified, PullFromMirror::Digests)],
                trust: Trust::Verified,
                access: PullAccess::Allowed,
            },
            RegistryEntry {
                prefix: "*.example.org".into(),
                location: None,
                mirrors: Vec::new(),
                trust: Trust::Verified,
                access: PullAccess::Allowed,
            },
        ]);
        assert_eq!(registries(text), Ok((expected, Vec::new())));
        assert_eq!(registries(""), Ok((RegistryTable::default(), Vec::new())));
    }

    #[test]
    fn keys_that_nodes_ignore_are_named() {
        let text = "unknown = 1\n[[registry]]\nlocation = \"a.b\"\nblockd = true\n[[registry.mirror]]\nlocation = \"c.d\"\nx = 1\n";
        let (_, ignored) = registries(text).unwrap();
        let mut named: Vec<_> = ignored.iter().map(|key| (key.line, key.name.as_str())).collect();
        named.sort_unstable();
        assert_eq!(named, [(1, "unknown"), (4, "blockd"), (7, "x")]);
    }

    #[test]
    fn errors_name_line_and_key() {
        for (text, message) in [
            ("[[registry]\n", "1: not valid TOML: "),
            ("\n\nregistry = 5", "3: invalid type: integer `5`, expected a sequence in `registry`"),
            ("[registry]\nlocation = \"a.b\"", "1: invalid type: map, expected a sequence in `registry`"),
            ("registry = [5]", "1: invalid type: integer `5`, expected a table in `registry`"),
            (
                "[registries.search]\nregistries = []",
                "1: `registries` belongs to version 1 of the format; write `[[registry]]` tables",
            ),
            ("[[registry]]\ninsecure = true", "1: `[[registry]]` has neither `location` nor `prefix`"),
            (
                "[[registry]]\n\nlocation = 1",
                "3: invalid type: integer `1`, expected a string in `registry.location`",
            ),
            (
                "[[registry]]\nlocation = \"a.b\"\nblocked = \"yes\"",
                "3: invalid type: string \"yes\", expected a boolean in `registry.blocked`",
            ),
            (
                "[[registry]]\nlocation = \"https://a.b\"",
                "2: `location` is `https://a.b`, which begins with a scheme; write only the host",
            ),
            (
                "[[registry]]\nlocation = \"mirror\"",
                "2: `location` is `mirror`, which is not a host, with or without a path",
            ),
            (
                "[[registry]]\nprefix = \"a.b\"",
                "1: `location` is missing; it can be left out only for a `prefix` such as `*.example.com`, not `a.b`",
            ),
            (
                "[[registry]]\nprefix = \"*.a.b/c\"",
                "1: `prefix` is `*.a.b/c`; only a domain can follow the wildcard `*.`",
            ),
            (
                "[[registry]]\nlocation = \"a.b\"\npull-from-mirror = \"all\"",
                "3: `pull-from-mirror` belongs in `[[registry.mirror]]`",
            ),
            (
                "[[registry]]\nlocation = \"a.b\"\n[[registry.mirror]]\ninsecure = true",
                "3: `[[registry.mirror]]` has no `location`",
            ),
            (
                "[[registry]]\nlocation = \"a.b\"\n[[registry.mirror]]\nlocation = \"c.d\"\npull-from-mirror = \"tags\"",
                "5: `pull-from-mirror` is `tags`; `all`, `digest-only` or `tag-only` is expected",
            ),
            (
                "[[registry]]\nlocation = \"a.b\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"c.d\"\npull-from-mirror = \"all\"",
                "4: `pull-from-mirror` cannot be used together with `mirror-by-digest-only`",
            ),
            (
                "[[registry]]\nlocation = \"a.b\"\n[[registry]]\nprefix = \"c.d\"\nlocation = \"a.b\"\ninsecure = true",
                "3: `insecure` of `a.b` differs from line 1",
            ),
            (
                "[[registry]]\nlocation = \"a.b\"\nblocked = true\n[[registry]]\nprefix = \"c.d\"\nlocation = \"a.b\"",
                "4: `blocked` of `a.b` differs from line 1",
            ),
            (
                "[[registry]]\nlocation = \"a\\u001b.b\"",
                "2: `location` is `a\\u{1b}.b`, which is not a host, with or without a path",
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
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = registries(&text);
        }

        #[test]
        fn no_values_make_the_parser_panic(
            key in "(prefix|location|insecure|blocked|mirror|pull-from-mirror|x)",
            value in "(1|true|\"[a-z*./:]{0,9}\"|\\[\\]|\\[\\{\\}\\]|\\{\\})",
        ) {
            let _ = registries(&format!("[[registry]]\n{key} = {value}\n[[registry.mirror]]\n{key} = {value}\n"));
        }
    }
}
