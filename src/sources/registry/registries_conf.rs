//! `registries.conf`, version 2, and its drop-in folder (`containers-registries.conf(5)`).
//!
//! Owns the form of the file. What nodes refuse is refused here, with file, line and key; what they
//! pass over is passed over, too, and named. Short names are no business of this program, so search
//! registries and aliases are not read.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::routes::{Access, Answers, Entry, Mirror, Registries, Trust};
use crate::image_reference::{ImageReference, shown};
use crate::last_seen::{LastSeen, Reloaded};

/// The registries in force; they can be replaced while questions are under way.
#[derive(Debug)]
pub struct RegistriesConf {
    file: Option<PathBuf>,
    current: ArcSwap<Registries>,
    seen: LastSeen,
}

impl RegistriesConf {
    /// Nothing is configured, or what somebody else configures with [`Self::replace`].
    pub fn none() -> Self {
        Self { file: None, current: ArcSwap::default(), seen: LastSeen::default() }
    }

    /// Reads `file`, and every `*.conf` in the folder `file` + `.d`, in the order of their names.
    ///
    /// The file must be there, the folder need not. An entry of a later file replaces one of the same
    /// prefix.
    pub fn from_file(file: &Path) -> Result<Self, RegistriesConfError> {
        let files = read(file)?;
        let registries = parse(&files)?;
        let seen = LastSeen::default();
        seen.is_new::<RegistriesConfError>(Ok(&joined(&files)));
        Ok(Self { file: Some(file.to_owned()), current: ArcSwap::from_pointee(registries), seen })
    }

    /// The registries in force.
    pub fn current(&self) -> Arc<Registries> {
        self.current.load_full()
    }

    /// Puts what a cluster says in force, unless a file was named: who names a file means it.
    pub fn replace(&self, registries: Registries) -> Reloaded {
        if self.file.is_some() || **self.current.load() == registries {
            return Reloaded::Same;
        }
        self.current.store(Arc::new(registries));
        Reloaded::Changed
    }

    /// Looks at the files again. What was in force stays when one is broken; a fault is told of once.
    pub fn reload(&self) -> Result<Reloaded, RegistriesConfError> {
        let Some(file) = &self.file else { return Ok(Reloaded::Same) };
        let outcome = read(file);
        let content = outcome.as_deref().map(joined);
        if !self.seen.is_new(content.as_deref()) {
            return Ok(Reloaded::Same);
        }
        self.current.store(Arc::new(parse(&outcome?)?));
        Ok(Reloaded::Changed)
    }
}

/// A file and its text.
struct File {
    path: PathBuf,
    text: String,
}

fn read(file: &Path) -> Result<Vec<File>, RegistriesConfError> {
    let mut paths = vec![file.to_owned()];
    let mut folder = file.as_os_str().to_owned();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    match std::fs::read_dir(&folder) {
        Ok(entries) => {
            let mut drop_ins = Vec::new();
            for entry in entries {
                let path = entry.map_err(|error| RegistriesConfError::unreadable(&folder, error))?.path();
                if path.extension().is_some_and(|extension| extension == "conf") && path.is_file() {
                    drop_ins.push(path);
                }
            }
            drop_ins.sort_unstable();
            paths.extend(drop_ins);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(RegistriesConfError::unreadable(&folder, error)),
    }
    let read = |path: PathBuf| match std::fs::read_to_string(&path) {
        Ok(text) => Ok(File { path, text }),
        Err(error) => Err(RegistriesConfError::unreadable(&path, error)),
    };
    paths.into_iter().map(read).collect()
}

/// Everything that was read as one text, so that it can be compared with what was read before.
fn joined(files: &[File]) -> Vec<u8> {
    let parts =
        files.iter().flat_map(|file| [file.path.as_os_str().as_encoded_bytes(), file.text.as_bytes()]);
    parts.collect::<Vec<_>>().join(&0)
}

fn parse(files: &[File]) -> Result<Registries, RegistriesConfError> {
    let mut registries = Registries::default();
    for file in files {
        let (read, passed_over) = Document { text: &file.text }
            .registries()
            .map_err(|fault| RegistriesConfError { path: file.path.clone(), fault })?;
        for key in passed_over {
            tracing::warn!(file = %file.path.display(), line = key.line, key = key.name, "a key is not known and passed over, as nodes do");
        }
        registries.overlay(read);
    }
    Ok(registries)
}

/// A `registries.conf` that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}{fault}", path.display())]
pub struct RegistriesConfError {
    path: PathBuf,
    fault: RegistriesConfFault,
}

impl RegistriesConfError {
    fn unreadable(path: &Path, error: std::io::Error) -> Self {
        Self { path: path.to_owned(), fault: RegistriesConfFault::Unreadable(error) }
    }
}

/// What is wrong with a `registries.conf`.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesConfFault {
    /// It could not be read.
    #[error(": {0}")]
    Unreadable(std::io::Error),
    /// Something in it is wrong.
    #[error(":{line}: {message}")]
    Content {
        /// The line, counted from one.
        line: usize,
        /// What is wrong there; names the key.
        message: String,
    },
}

/// A key that nodes pass over.
#[derive(Debug, PartialEq, Eq)]
struct PassedOver {
    line: usize,
    name: String,
}

struct Document<'a> {
    text: &'a str,
}

type Table<'a> = DeTable<'a>;
type Value<'a> = Spanned<DeValue<'a>>;

impl Document<'_> {
    fn registries(&self) -> Result<(Registries, Vec<PassedOver>), RegistriesConfFault> {
        let document = Table::parse(self.text).map_err(|error| {
            let span = error.span().unwrap_or_default();
            self.fault(span, format!("not TOML: {}", shown(&error.message().replace('\n', ", "))))
        })?;
        let mut passed_over = Vec::new();
        let mut entries: Vec<(Entry, Range<usize>)> = Vec::new();
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
                name => passed_over.push(PassedOver { line: self.line(&key.span()), name: shown(name) }),
            }
        }
        self.check_conflicts(&entries)?;
        Ok((Registries::new(entries.into_iter().map(|(entry, _)| entry)), passed_over))
    }

    fn entry(
        &self,
        value: &Value<'_>,
        passed_over: &mut Vec<PassedOver>,
    ) -> Result<Entry, RegistriesConfFault> {
        let mut prefix = None;
        let mut location = None;
        let mut trust = Trust::Verified;
        let mut access = Access::Open;
        let mut by_digest_only = false;
        let mut mirrors = Vec::new();
        for (key, value) in self.members("registry", value)? {
            match key.get_ref().as_ref() {
                "prefix" => prefix = self.place("prefix", value)?,
                "location" => location = self.place("location", value)?,
                "insecure" => trust = if self.is_set("insecure", value)? { Trust::Insecure } else { trust },
                "blocked" => access = if self.is_set("blocked", value)? { Access::Blocked } else { access },
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
                name => passed_over.push(PassedOver { line: self.line(&key.span()), name: shown(name) }),
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
            let answers = if by_digest_only { Answers::Digests } else { answers.unwrap_or(Answers::All) };
            read.push(Mirror { answers, ..mirror });
        }
        Ok(Entry { prefix, location, mirrors: read, trust, access })
    }

    fn mirror(
        &self,
        value: &Value<'_>,
        passed_over: &mut Vec<PassedOver>,
    ) -> Result<(Mirror, Option<Answers>), RegistriesConfFault> {
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
                        "all" => Some(Answers::All),
                        "digest-only" => Some(Answers::Digests),
                        "tag-only" => Some(Answers::Tags),
                        other => {
                            let message = format!(
                                "`pull-from-mirror` is `{}`; `all`, `digest-only` or `tag-only` is expected",
                                shown(other)
                            );
                            return Err(self.fault(value.span(), message));
                        }
                    }
                }
                name => passed_over.push(PassedOver { line: self.line(&key.span()), name: shown(name) }),
            }
        }
        let Some(location) = location else {
            return Err(self.fault(value.span(), "`[[registry.mirror]]` has no `location`".to_owned()));
        };
        Ok((Mirror { location, trust, answers: Answers::All }, answers))
    }

    /// Nodes refuse a file in which one place is both secure and insecure, or blocked and open.
    fn check_conflicts(&self, entries: &[(Entry, Range<usize>)]) -> Result<(), RegistriesConfFault> {
        let place = |entry: &Entry| entry.location.clone().unwrap_or_else(|| entry.prefix.clone());
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

    fn members<'v, 'i>(&self, key: &str, value: &'v Value<'i>) -> Result<&'v Table<'i>, RegistriesConfFault> {
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

    fn registries(text: &str) -> Result<(Registries, Vec<PassedOver>), String> {
        Document { text }.registries().map_err(|fault| fault.to_string())
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
        let expected = Registries::new([
            Entry {
                prefix: "quay.io/acme".into(),
                location: Some("internal.example:5000/acme".into()),
                mirrors: vec![
                    mirror("one.example", Trust::Insecure, Answers::All),
                    mirror("two.example/x", Trust::Verified, Answers::Tags),
                    mirror("three.example", Trust::Verified, Answers::Digests),
                ],
                trust: Trust::Insecure,
                access: Access::Blocked,
            },
            Entry {
                prefix: "localhost".into(),
                location: Some("localhost".into()),
                mirrors: vec![mirror("four.example", Trust::Verified, Answers::Digests)],
                trust: Trust::Verified,
                access: Access::Open,
            },
            Entry {
                prefix: "*.example.org".into(),
                location: None,
                mirrors: Vec::new(),
                trust: Trust::Verified,
                access: Access::Open,
            },
        ]);
        assert_eq!(registries(text), Ok((expected, Vec::new())));
        assert_eq!(registries(""), Ok((Registries::default(), Vec::new())));
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

    #[test]
    fn drop_ins_come_in_the_order_of_their_names_and_replace() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("registries.conf");
        let drop_in = |name: &str, text: &str| {
            std::fs::create_dir_all(folder.path().join("registries.conf.d")).unwrap();
            std::fs::write(folder.path().join("registries.conf.d").join(name), text).unwrap();
        };
        let entry = |location: &str| format!("[[registry]]\nprefix = \"a.b\"\nlocation = \"{location}\"\n");
        let source = |conf: &RegistriesConf| {
            let reference = ImageReference::parse("a.b/os:1").unwrap();
            conf.current().route(&reference).endpoints[0].reference.to_string()
        };
        std::fs::write(&file, entry("main.example")).unwrap();
        let conf = RegistriesConf::from_file(&file).unwrap();
        assert_eq!(source(&conf), "main.example/os:1");
        assert_eq!(conf.reload().unwrap(), Reloaded::Same);
        drop_in("20-b.conf", &entry("second.example"));
        drop_in("10-a.conf", &entry("first.example"));
        drop_in("30-c.conf.bak", "not read");
        assert_eq!(conf.reload().unwrap(), Reloaded::Changed);
        assert_eq!(source(&conf), "second.example/os:1");
        drop_in("30-c.conf", "[[registry]]\n\nblocked = true\n");
        let error = conf.reload().unwrap_err().to_string();
        let path = folder.path().join("registries.conf.d/30-c.conf");
        assert_eq!(
            error,
            format!("{}:1: `[[registry]]` has neither `location` nor `prefix`", path.display())
        );
        assert_eq!(conf.reload().unwrap(), Reloaded::Same, "a fault is told of once");
        assert_eq!(source(&conf), "second.example/os:1", "what was in force stays");
        drop_in("30-c.conf", &entry("third.example"));
        assert_eq!(conf.reload().unwrap(), Reloaded::Changed);
        assert_eq!(source(&conf), "third.example/os:1");
        std::fs::remove_file(&file).unwrap();
        let error = conf.reload().unwrap_err().to_string();
        assert_eq!(error, format!("{}: No such file or directory (os error 2)", file.display()));
    }

    #[test]
    fn a_named_file_is_not_replaced_by_what_a_cluster_says() {
        let registries = Registries::new([Entry {
            prefix: "a.b".into(),
            location: Some("c.d".into()),
            mirrors: Vec::new(),
            trust: Trust::Verified,
            access: Access::Open,
        }]);
        let open = RegistriesConf::none();
        assert_eq!(open.replace(registries.clone()), Reloaded::Changed);
        assert_eq!(open.replace(registries.clone()), Reloaded::Same);
        assert_eq!(*open.current(), registries);
        let file = tempfile::NamedTempFile::new().unwrap();
        let named = RegistriesConf::from_file(file.path()).unwrap();
        assert_eq!(named.replace(registries), Reloaded::Same);
        assert_eq!(*named.current(), Registries::default());
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
