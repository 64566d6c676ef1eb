//! Registry credentials, as an auth file holds them (`containers-auth.json`, dockerconfigjson).
//!
//! Owns the form of the file and which entry is for which repository. What is secret here prints
//! as nothing, and errors name the key, never the value.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;

use super::tokens::Authorization;
use crate::image_reference::{ImageReference, shown};
use crate::last_seen::LastSeen;
pub use crate::last_seen::Reloaded;

/// The credentials in force; they can be replaced while questions are under way.
#[derive(Debug)]
pub struct Credentials {
    source: Source,
    entries: ArcSwap<Entries>,
    seen: LastSeen,
}

/// Where credentials come from.
#[derive(Debug)]
enum Source {
    Nothing,
    File(PathBuf),
    /// The global pull secret, handed over by whoever watches it.
    Cluster {
        /// Whether there is one. Without it nobody knows what nodes show.
        is_there: AtomicBool,
    },
}

/// The global pull secret as it stands in the cluster.
#[derive(Clone, Copy)]
pub enum PullSecret<'a> {
    /// Its text, a dockerconfigjson.
    Text(&'a str),
    /// It holds no text, and why.
    Broken(&'static str),
    /// There is none.
    Absent,
}

impl Credentials {
    /// No credentials: every registry is asked anonymously.
    pub fn none() -> Self {
        Self::from_source(Source::Nothing)
    }

    /// Those of the cluster: none until the first [`Credentials::replace`].
    pub fn of_cluster() -> Self {
        Self::from_source(Source::Cluster { is_there: AtomicBool::new(false) })
    }

    /// Reads an auth file. Fails when it cannot be read or one of its entries is broken.
    pub fn from_file(path: &Path) -> Result<Self, AuthFileError> {
        let text = read(path)?;
        let entries = Entries::parse(&text).map_err(|fault| AuthFileError::new(path, fault))?;
        let this = Self::from_source(Source::File(path.to_owned()));
        this.entries.store(Arc::new(entries));
        this.seen.is_new::<AuthFileError>(Ok(text.as_bytes()));
        Ok(this)
    }

    /// Looks at the file again. What was in force stays when it is broken; a fault is told of once.
    pub fn reload(&self) -> Result<Reloaded, AuthFileError> {
        let Source::File(path) = &self.source else { return Ok(Reloaded::Same) };
        let outcome = read(path);
        if !self.seen.is_new(outcome.as_ref().map(String::as_bytes)) {
            return Ok(Reloaded::Same);
        }
        let entries = Entries::parse(&outcome?).map_err(|fault| AuthFileError::new(path, fault))?;
        self.entries.store(Arc::new(entries));
        Ok(Reloaded::Changed)
    }

    /// Takes over the global pull secret. One that is gone takes its entries with it; what was in force
    /// stays when it is broken, and a fault is told of once. Of no effect on other credentials than
    /// those of the cluster.
    pub fn replace(&self, secret: PullSecret<'_>) -> Result<Reloaded, AuthFileFault> {
        let Source::Cluster { is_there } = &self.source else { return Ok(Reloaded::Same) };
        let text = match &secret {
            PullSecret::Text(text) => Ok(text.as_bytes()),
            PullSecret::Broken(fault) => Err(fault),
            PullSecret::Absent => Err(&"absent"),
        };
        if !self.seen.is_new(text) {
            return Ok(Reloaded::Same);
        }
        let entries = match secret {
            PullSecret::Text(text) => Entries::parse(text)?,
            PullSecret::Broken(fault) => return Err(AuthFileFault::NoText(fault)),
            PullSecret::Absent => Entries::default(),
        };
        let was_there = is_there.swap(matches!(secret, PullSecret::Text(_)), Ordering::Relaxed);
        self.entries.store(Arc::new(entries));
        let nothing_yet = !was_there && matches!(secret, PullSecret::Absent);
        Ok(if nothing_yet { Reloaded::Same } else { Reloaded::Changed })
    }

    /// Whether these are those of the cluster, which [`Credentials::replace`] replaces.
    pub fn are_of_cluster(&self) -> bool {
        matches!(self.source, Source::Cluster { .. })
    }

    fn from_source(source: Source) -> Self {
        Self { source, entries: ArcSwap::default(), seen: LastSeen::default() }
    }

    /// The entry for the repository of `reference`: the one with the longest matching key.
    pub fn find(&self, reference: &ImageReference) -> Option<Credential> {
        self.entries.load().find(reference).cloned()
    }

    /// Whether these are the credentials that nodes have: an auth file was named, or the cluster has a
    /// global pull secret. A refusal then tells what nodes will meet.
    pub fn are_those_of_nodes(&self) -> bool {
        match &self.source {
            Source::Nothing => false,
            Source::File(_) => true,
            Source::Cluster { is_there } => is_there.load(Ordering::Relaxed),
        }
    }
}

/// What to show to one registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    key: String,
    secret: Secret,
}

#[derive(Clone, PartialEq, Eq)]
enum Secret {
    Password { user: String, password: String },
    IdentityToken(String),
}

impl Credential {
    /// The header for basic authentication. `None` when there is no password.
    pub(super) fn basic(&self) -> Option<Authorization> {
        let (user, password) = self.password()?;
        Some(Authorization::basic(user, password))
    }

    pub(super) fn password(&self) -> Option<(&str, &str)> {
        match &self.secret {
            Secret::Password { user, password } => Some((user, password)),
            Secret::IdentityToken(_) => None,
        }
    }

    pub(super) fn identity_token(&self) -> Option<&str> {
        match &self.secret {
            Secret::Password { .. } => None,
            Secret::IdentityToken(token) => Some(token),
        }
    }

    /// Tells credentials apart without telling what they are.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let secret = match &self.secret {
            Secret::Password { user, password } => format!("{user}\0{password}"),
            Secret::IdentityToken(token) => format!("\0\0{token}"),
        };
        let text = format!("{}\0{secret}", self.key);
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(hmac::sign(&FINGERPRINT_KEY, text.as_bytes()).as_ref());
        Fingerprint(fingerprint)
    }
}

/// The HMAC-SHA256 of a credential under a key that this process alone has: whoever sees it, in a
/// core dump or a log, cannot try passwords against it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 32]);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Fingerprint(…)")
    }
}

static FINGERPRINT_KEY: LazyLock<hmac::Key> = LazyLock::new(|| {
    // Where the system gives no randomness there is no TLS either.
    hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).expect("randomness from the system")
});

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credential").field("key", &self.key).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Entries {
    by_key: BTreeMap<String, Credential>,
}

impl fmt::Debug for Entries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.by_key.keys()).finish()
    }
}

impl Entries {
    fn parse(text: &str) -> Result<Self, AuthFileFault> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            auths: BTreeMap<String, Entry>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Entry {
            auth: String,
            username: String,
            password: String,
            identitytoken: String,
        }
        let file: File = serde_json::from_str(text)
            .map_err(|error| AuthFileFault::NotJson { line: error.line(), column: error.column() })?;
        let mut by_key = BTreeMap::new();
        for (written, entry) in file.auths {
            let key = normalized(&written);
            let secret = if !entry.identitytoken.is_empty() {
                Secret::IdentityToken(entry.identitytoken)
            } else if !entry.auth.is_empty() {
                let broken = || AuthFileFault::Entry { key: shown(&written) };
                let decoded = BASE64_STANDARD.decode(entry.auth.trim()).map_err(|_| broken())?;
                let decoded = String::from_utf8(decoded).map_err(|_| broken())?;
                let (user, password) = decoded.split_once(':').ok_or_else(broken)?;
                // Docker's own tools end the password with a NUL now and then.
                let password = password.trim_end_matches('\0');
                Secret::Password { user: user.to_owned(), password: password.to_owned() }
            } else if !entry.username.is_empty() {
                Secret::Password { user: entry.username, password: entry.password }
            } else {
                // An entry without anything in it is what `logout` leaves behind.
                continue;
            };
            by_key.insert(key.clone(), Credential { key, secret });
        }
        Ok(Self { by_key })
    }

    fn find(&self, reference: &ImageReference) -> Option<&Credential> {
        let host = match reference.host() {
            "index.docker.io" | "registry-1.docker.io" => "docker.io",
            host => host,
        };
        let mut key = format!("{host}/{}", reference.api_path());
        loop {
            if let Some(credential) = self.by_key.get(&key) {
                return Some(credential);
            }
            key.truncate(key.rfind('/')?);
        }
    }
}

/// Brings the spellings of keys together: older tools write an URL, and Docker Hub has three names.
fn normalized(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let key = match bare {
        // What follows the host in an URL is the version of the API.
        Some(url) => url.split('/').next().unwrap_or(url),
        None => key.trim_end_matches('/'),
    };
    match key.split_once('/') {
        None if matches!(key, "index.docker.io" | "registry-1.docker.io") => "docker.io".to_owned(),
        Some(("index.docker.io", rest)) => format!("docker.io/{rest}"),
        _ => key.to_owned(),
    }
}

/// An auth file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("auth file {}: {fault}", path.display())]
pub struct AuthFileError {
    path: PathBuf,
    #[source]
    fault: AuthFileFault,
}

impl AuthFileError {
    fn new(path: &Path, fault: AuthFileFault) -> Self {
        Self { path: path.to_owned(), fault }
    }
}

fn read(path: &Path) -> Result<String, AuthFileError> {
    std::fs::read_to_string(path).map_err(|error| AuthFileError::new(path, AuthFileFault::Unreadable(error)))
}

/// What is wrong with an auth file.
#[derive(Debug, thiserror::Error)]
pub enum AuthFileFault {
    /// It could not be read.
    #[error("{0}")]
    Unreadable(std::io::Error),
    /// It is not JSON of the right shape.
    #[error(
        "line {line}, column {column}: not a dockerconfigjson; {{\"auths\": {{\"quay.io\": {{\"auth\": \"…\"}}}}}} is expected"
    )]
    NotJson {
        /// The line, counted from one.
        line: usize,
        /// The column, counted from one.
        column: usize,
    },
    /// There is no text where it should be.
    #[error("{0}")]
    NoText(&'static str),
    /// An entry is broken.
    #[error("the entry `{key}`: `auth` is not the base64 of `user:password`")]
    Entry {
        /// The entry's key.
        key: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(auths: serde_json::Value) -> Entries {
        Entries::parse(&serde_json::json!({"auths": auths, "credsStore": "x"}).to_string()).unwrap()
    }

    fn auth(user: &str) -> serde_json::Value {
        serde_json::json!({"auth": BASE64_STANDARD.encode(format!("{user}:secret"))})
    }

    #[test]
    fn the_longest_matching_key_wins() {
        let entries = entries(serde_json::json!({
            "quay.io": auth("host"), "quay.io/acme": auth("namespace"), "quay.io/acme/os": auth("repository"),
            "quay.io:443": auth("port"), "https://index.docker.io/v1/": auth("hub"), "http://old.example/v2/": auth("old"),
            "empty.example": {}, "plain.example": {"username": "plain", "password": "secret"},
        }));
        for (reference, user) in [
            ("quay.io/acme/os:1", Some("repository")),
            ("quay.io/acme/other", Some("namespace")),
            ("quay.io/acmes/os", Some("host")),
            ("quay.io:443/acme/os", Some("port")),
            ("docker.io/fedora", Some("hub")),
            ("index.docker.io/a/b", Some("hub")),
            ("old.example/x", Some("old")),
            ("plain.example/x", Some("plain")),
            ("empty.example/x", None),
            ("other.example/x", None),
            ("io/x.y/z".trim_start_matches("io/"), None),
        ] {
            let found = entries.find(&ImageReference::parse(reference).unwrap());
            assert_eq!(found.and_then(Credential::password).map(|(user, _)| user), user, "{reference}");
        }
    }

    #[test]
    fn identity_tokens_come_before_passwords() {
        let entries = entries(serde_json::json!({"a.b": {"auth": "YTpi", "identitytoken": "t"}}));
        let found = entries.find(&ImageReference::parse("a.b/c").unwrap()).unwrap();
        assert_eq!((found.identity_token(), found.password()), (Some("t"), None));
    }

    #[test]
    fn faults_name_the_place_and_never_the_secret() {
        let secret = "c2VjcmV0c2VjcmV0";
        for (text, message) in [
            ("", "line 1, column 0: not a dockerconfigjson"),
            (
                &*format!("{{\"auths\": {{\"a.b\": {{\"auth\": 5, \"x\": \"{secret}\"}}}}}}"),
                "line 1, column 28",
            ),
            (
                &format!("{{\"auths\": {{\"a.b\": {{\"auth\": \"{secret}\"}}}}}}"),
                "the entry `a.b`: `auth` is not",
            ),
            (
                &format!("{{\"auths\": {{\"a.b\": {{\"auth\": \"{secret}%\"}}}}}}"),
                "the entry `a.b`: `auth` is not",
            ),
        ] {
            let error = Entries::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
            assert!(!error.contains("secret") && !error.contains(secret), "{error}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let entries = entries(serde_json::json!({"a.b": auth("user")}));
        let found = entries.find(&ImageReference::parse("a.b/c").unwrap()).unwrap();
        let printed = format!("{found:?} {entries:?} {:?}", found.basic());
        assert!(
            !printed.contains("secret") && !printed.contains(&BASE64_STANDARD.encode("user:secret")),
            "{printed}"
        );
    }

    #[test]
    fn fingerprints_tell_credentials_apart_and_are_no_plain_digest() {
        let fingerprint = |key: &str, entry: serde_json::Value| {
            let entries = entries(serde_json::json!({key: entry}));
            entries.find(&ImageReference::parse("a.b/c").unwrap()).unwrap().fingerprint()
        };
        let one = fingerprint("a.b", auth("one"));
        assert!(one == fingerprint("a.b", auth("one")));
        assert!(one != fingerprint("a.b", auth("two")));
        assert!(one != fingerprint("a.b/c", auth("one")));
        let token = serde_json::json!({"identitytoken": "one\0secret"});
        assert!(one != fingerprint("a.b", token));
        let plain = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"a.b\0one\0secret");
        assert_ne!(one.0, plain.as_ref());
        assert_eq!(format!("{one:?}"), "Fingerprint(…)");
    }

    #[test]
    fn a_broken_file_leaves_what_was_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        let write = |user: &str| {
            std::fs::write(&path, serde_json::json!({"auths": {"a.b": auth(user)}}).to_string()).unwrap();
        };
        write("one");
        let credentials = Credentials::from_file(&path).unwrap();
        let user = || {
            let found = credentials.find(&ImageReference::parse("a.b/c").unwrap()).unwrap();
            found.password().unwrap().0.to_owned()
        };
        assert_eq!(credentials.reload().unwrap(), Reloaded::Same);
        write("two");
        assert_eq!(credentials.reload().unwrap(), Reloaded::Changed);
        assert_eq!(user(), "two");
        std::fs::write(&path, "{").unwrap();
        let error = credentials.reload().unwrap_err().to_string();
        assert!(error.contains("auth.json: line 1"), "{error}");
        assert_eq!(user(), "two");
    }

    #[test]
    fn the_pull_secret_of_the_cluster_can_be_replaced_emptied_and_deleted() {
        let credentials = Credentials::of_cluster();
        let reference = ImageReference::parse("a.b/c").unwrap();
        let user = || Some(credentials.find(&reference)?.password()?.0.to_owned());
        let secret = |user| serde_json::json!({"auths": {"a.b": auth(user)}}).to_string();
        let in_force = || (user(), credentials.are_those_of_nodes());
        assert_eq!(credentials.replace(PullSecret::Absent).unwrap(), Reloaded::Same);
        assert_eq!(in_force(), (None, false));
        for name in ["one", "two"] {
            let text = secret(name);
            assert_eq!(credentials.replace(PullSecret::Text(&text)).unwrap(), Reloaded::Changed);
            assert_eq!(credentials.replace(PullSecret::Text(&text)).unwrap(), Reloaded::Same);
            assert_eq!(in_force(), (Some(name.to_owned()), true));
        }
        for (broken, message) in [
            (PullSecret::Text("{"), "line 1, column 1: not a dockerconfigjson"),
            (PullSecret::Broken("it has no key"), "it has no key"),
        ] {
            let error = credentials.replace(broken).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
            assert_eq!(credentials.replace(broken).unwrap(), Reloaded::Same, "a fault is told of once");
            assert_eq!(in_force(), (Some("two".to_owned()), true));
        }
        assert_eq!(credentials.replace(PullSecret::Text("{}")).unwrap(), Reloaded::Changed);
        assert_eq!(in_force(), (None, true));
        assert_eq!(credentials.replace(PullSecret::Absent).unwrap(), Reloaded::Changed);
        assert_eq!(in_force(), (None, false));
    }

    #[test]
    fn an_auth_file_wins_over_the_pull_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        std::fs::write(&path, serde_json::json!({"auths": {"a.b": auth("file")}}).to_string()).unwrap();
        let credentials = Credentials::from_file(&path).unwrap();
        assert_eq!(credentials.replace(PullSecret::Text("{}")).unwrap(), Reloaded::Same);
        let found = credentials.find(&ImageReference::parse("a.b/c").unwrap()).unwrap();
        assert_eq!(found.password().unwrap().0, "file");
    }
}
