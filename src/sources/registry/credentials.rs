//! Registry credentials, as an auth file holds them (`containers-auth.json`, dockerconfigjson).
//!
//! Owns the form of the file and which entry is for which repository. What is secret here prints
//! as nothing, and errors name the key, never the value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;

use super::helpers::{Helpers, Question};
use super::tokens::Authorization;
use crate::image_reference::{ImageReference, shown};
use crate::last_seen::LastSeen;
pub use crate::last_seen::Reloaded;

/// The credentials in force; they can be replaced while questions are under way.
#[derive(Debug)]
pub struct Credentials {
    source: Source,
    /// File by file, in the order in which they are searched.
    entries: ArcSwap<Vec<Entries>>,
    helpers: Helpers,
    seen: LastSeen,
}

/// Where credentials come from.
#[derive(Debug)]
enum Source {
    Nothing,
    File(AuthFile),
    /// Those that the tools of the field read, as far as they are there.
    Usual(Vec<AuthFile>),
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
        Self::reading(Source::File(AuthFile { path: path.to_owned(), form: Form::Usual }))
    }

    /// Reads the files that the user's other tools read (`containers-auth.json(5)`): the one that
    /// `REGISTRY_AUTH_FILE` names, or else those of Podman and then those of Docker, of which the first
    /// with an entry counts. `variable` gives a variable of the environment, `user` is the number of the
    /// user.
    ///
    /// These are the user's own and not those of nodes. Fails when one that is there is broken.
    pub fn from_usual_files(
        variable: impl Fn(&str) -> Option<OsString>,
        user: Option<u32>,
    ) -> Result<Self, AuthFileError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = variable("REGISTRY_AUTH_FILE") {
            // Whoever names a file means it to be there.
            read(&path)?;
            return Self::reading(Source::Usual(vec![AuthFile { path, form: Form::Usual }]));
        }
        let home = variable("HOME");
        let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let of_session = variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json"));
        let of_session = of_session.or_else(|| Some(format!("/run/containers/{}/auth.json", user?).into()));
        let configuration = variable("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
        let docker = variable("DOCKER_CONFIG").or_else(|| below_home(".docker"));
        let files = [
            (of_session, Form::Usual),
            (configuration.map(|folder| folder.join("containers/auth.json")), Form::Usual),
            (docker.map(|folder| folder.join("config.json")), Form::Usual),
            (below_home(".dockercfg"), Form::Legacy),
        ];
        let files = files.into_iter().filter_map(|(path, form)| Some(AuthFile { path: path?, form }));
        Self::reading(Source::Usual(files.collect()))
    }

    /// Looks at the files again. What was in force stays when one is broken; a fault is told of once.
    pub fn reload(&self) -> Result<Reloaded, AuthFileError> {
        if self.source.files().is_empty() {
            return Ok(Reloaded::Same);
        }
        let outcome = self.source.texts();
        let content = outcome.as_deref().map(joined);
        if !self.seen.is_new(content.as_deref()) {
            return Ok(Reloaded::Same);
        }
        self.entries.store(Arc::new(parse(&outcome?)?));
        self.helpers.forget();
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
            PullSecret::Text(text) => vec![Entries::parse(text, Form::Usual)?],
            PullSecret::Broken(fault) => return Err(AuthFileFault::NoText(fault)),
            PullSecret::Absent => Vec::new(),
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
        Self { source, entries: ArcSwap::default(), helpers: Helpers::new(), seen: LastSeen::default() }
    }

    fn reading(source: Source) -> Result<Self, AuthFileError> {
        let texts = source.texts()?;
        let this = Self::from_source(source);
        this.entries.store(Arc::new(parse(&texts)?));
        this.seen.is_new::<AuthFileError>(Ok(&joined(&texts)));
        Ok(this)
    }

    /// What to show to the registry of `reference`: of the first file that has something for it the
    /// helper of the host, or the entry with the longest matching key, or what the helper for all hosts
    /// says. Fails with what is wrong with a helper.
    pub(super) async fn find(&self, reference: &ImageReference) -> Result<Option<Credential>, String> {
        let files = self.entries.load_full();
        let host = host(reference);
        for entries in files.iter() {
            let ask = |helper: &String| {
                let question = Question { helper: helper.clone(), host: host.to_owned() };
                self.helpers.ask(question)
            };
            let found = match (entries.helpers.get(host), entries.find(reference), &entries.store) {
                (Some(helper), _, _) => ask(helper).await?,
                (None, Some(entry), _) => Some(entry.clone()),
                (None, None, Some(helper)) => ask(helper).await?,
                (None, None, None) => None,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Whether these are the credentials that nodes have: an auth file was named, or the cluster has a
    /// global pull secret. A refusal then tells what nodes will meet.
    pub fn are_those_of_nodes(&self) -> bool {
        match &self.source {
            Source::Nothing | Source::Usual(_) => false,
            Source::File(_) => true,
            Source::Cluster { is_there } => is_there.load(Ordering::Relaxed),
        }
    }
}

/// An auth file that may be read again.
#[derive(Clone, Debug)]
struct AuthFile {
    path: PathBuf,
    form: Form,
}

/// How an auth file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Entries below `auths`, beside helpers.
    Usual,
    /// Entries alone (`.dockercfg`).
    Legacy,
}

/// The text of an auth file.
struct Text {
    file: AuthFile,
    text: String,
}

impl Source {
    fn files(&self) -> &[AuthFile] {
        match self {
            Self::Nothing | Self::Cluster { .. } => &[],
            Self::File(file) => std::slice::from_ref(file),
            Self::Usual(files) => files,
        }
    }

    /// What the files hold. Of the usual ones those that are not there are passed over.
    fn texts(&self) -> Result<Vec<Text>, AuthFileError> {
        let mut texts = Vec::new();
        for file in self.files() {
            match read(&file.path) {
                Ok(text) => texts.push(Text { file: file.clone(), text }),
                Err(error) if matches!(self, Self::Usual(_)) && error.is_not_there() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(texts)
    }
}

fn joined(texts: &[Text]) -> Vec<u8> {
    let parts =
        texts.iter().flat_map(|text| [text.file.path.as_os_str().as_encoded_bytes(), text.text.as_bytes()]);
    parts.collect::<Vec<_>>().join(&0)
}

fn parse(texts: &[Text]) -> Result<Vec<Entries>, AuthFileError> {
    let parse = |text: &Text| {
        Entries::parse(&text.text, text.file.form).map_err(|fault| AuthFileError::new(&text.file.path, fault))
    };
    texts.iter().map(parse).collect()
}

/// The registry of `reference` as the keys of auth files name it.
fn host(reference: &ImageReference) -> &str {
    match reference.host() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
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
    /// What a helper said for `host`. `None` when that is nothing.
    pub(super) fn of_helper(host: &str, user: String, secret: String) -> Option<Self> {
        let secret = match user.as_str() {
            "" => return None,
            // How helpers say that the secret is an identity token.
            "<token>" => Secret::IdentityToken(secret),
            _ => Secret::Password { user, password: secret },
        };
        Some(Self { key: host.to_owned(), secret })
    }

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
    /// The helper for each of some hosts (`credHelpers`).
    helpers: BTreeMap<String, String>,
    /// The helper for the hosts without an entry (`credsStore`).
    store: Option<String>,
}

impl fmt::Debug for Entries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.by_key.keys()).finish()
    }
}

impl Entries {
    fn parse(text: &str, form: Form) -> Result<Self, AuthFileFault> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct File {
            auths: BTreeMap<String, Entry>,
            cred_helpers: BTreeMap<String, String>,
            creds_store: String,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Entry {
            auth: String,
            username: String,
            password: String,
            identitytoken: String,
        }
        let file = match form {
            Form::Usual => serde_json::from_str(text),
            Form::Legacy => serde_json::from_str(text).map(|auths| File { auths, ..File::default() }),
        };
        let file: File =
            file.map_err(|error| AuthFileFault::NotJson { line: error.line(), column: error.column() })?;
        let store = Some(file.creds_store).filter(|store| !store.is_empty());
        let stores = store.iter().map(|helper| ("credsStore", helper));
        for (key, helper) in
            file.cred_helpers.iter().map(|(host, helper)| (host.as_str(), helper)).chain(stores)
        {
            if !Question::is_helper(helper) {
                return Err(AuthFileFault::Helper { key: shown(key) });
            }
        }
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
        let helpers = file.cred_helpers.into_iter().map(|(host, helper)| (normalized(&host), helper));
        Ok(Self { by_key, helpers: helpers.collect(), store })
    }

    fn find(&self, reference: &ImageReference) -> Option<&Credential> {
        let mut key = format!("{}/{}", host(reference), reference.api_path());
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
    fault: AuthFileFault,
}

impl AuthFileError {
    fn new(path: &Path, fault: AuthFileFault) -> Self {
        Self { path: path.to_owned(), fault }
    }

    fn is_not_there(&self) -> bool {
        let AuthFileFault::Unreadable(error) = &self.fault else { return false };
        matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
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
    /// A helper's name is none.
    #[error("the helper for `{key}` is no name; `NAME` of a program `docker-credential-NAME` is expected")]
    Helper {
        /// The host, or `credsStore`.
        key: String,
    },
    /// An entry is broken.
    #[error("the entry `{key}`: `auth` is not the base64 of `user:password`")]
    Entry {
        /// The entry's key.
        key: String,
    },
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn entries(auths: serde_json::Value) -> Entries {
        Entries::parse(&serde_json::json!({"auths": auths, "credsStore": "x"}).to_string(), Form::Usual)
            .unwrap()
    }

    /// What stands in a file: there is nobody to wait for.
    fn found(credentials: &Credentials, reference: &ImageReference) -> Option<Credential> {
        credentials.find(reference).now_or_never().unwrap().unwrap()
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
            let error = Entries::parse(text, Form::Usual).unwrap_err().to_string();
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
            let found = found(&credentials, &ImageReference::parse("a.b/c").unwrap()).unwrap();
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
        let user = || Some(found(&credentials, &reference)?.password()?.0.to_owned());
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
        let found = found(&credentials, &ImageReference::parse("a.b/c").unwrap()).unwrap();
        assert_eq!(found.password().unwrap().0, "file");
    }

    #[tokio::test]
    async fn the_usual_files_are_searched_in_their_order_and_the_first_entry_counts() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let write = |name: &str, content: serde_json::Value| {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), content.to_string()).unwrap();
        };
        let variables = |names: &[(&str, &str)]| {
            let given: Vec<_> = names.iter().map(|(name, path)| ((*name).to_owned(), at(path))).collect();
            move |name: &str| {
                given.iter().find(|(known, _)| known == name).map(|(_, path)| path.clone().into_os_string())
            }
        };
        let reference = ImageReference::parse("a.b/c/d").unwrap();
        let user = async |credentials: &Credentials| {
            let found = credentials.find(&reference).await.unwrap();
            found.and_then(|found| Some(found.password()?.0.to_owned()))
        };
        let home = variables(&[("HOME", "home"), ("XDG_RUNTIME_DIR", "run")]);
        let credentials = Credentials::from_usual_files(&home, None).unwrap();
        assert_eq!(user(&credentials).await, None);
        assert!(!credentials.are_those_of_nodes());
        // From the last to the first: each takes the place of those after it.
        for (name, content) in [
            ("home/.dockercfg", serde_json::json!({"https://a.b/v1/": auth("legacy")})),
            ("home/.docker/config.json", serde_json::json!({"auths": {"a.b/c/d": auth("docker")}})),
            ("home/.config/containers/auth.json", serde_json::json!({"auths": {"a.b/c": auth("config")}})),
            (
                "run/containers/auth.json",
                serde_json::json!({"auths": {"a.b": auth("session"), "x.y": auth("x")}}),
            ),
        ] {
            write(name, content);
            assert_eq!(credentials.reload().unwrap(), Reloaded::Changed, "{name}");
            let expected =
                name.split(['/', '.']).find(|part| ["dockercfg", "docker", "config", "run"].contains(part));
            let found = user(&credentials).await.unwrap();
            let expected = match expected.unwrap() {
                "dockercfg" => "legacy",
                "run" => "session",
                other => other,
            };
            assert_eq!(found, expected, "{name}");
        }
        let named = variables(&[("HOME", "home"), ("REGISTRY_AUTH_FILE", "home/.docker/config.json")]);
        assert_eq!(
            user(&Credentials::from_usual_files(named, None).unwrap()).await.as_deref(),
            Some("docker")
        );
        let elsewhere = variables(&[("HOME", "none"), ("DOCKER_CONFIG", "home/.docker")]);
        assert_eq!(
            user(&Credentials::from_usual_files(elsewhere, None).unwrap()).await.as_deref(),
            Some("docker")
        );
        let missing = variables(&[("REGISTRY_AUTH_FILE", "missing.json")]);
        let error = Credentials::from_usual_files(missing, None).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("auth file {}: No such file or directory (os error 2)", at("missing.json").display())
        );
        write("home/.docker/config.json", serde_json::json!({"auths": {"a.b": {"auth": "%"}}}));
        let error = Credentials::from_usual_files(&home, None).unwrap_err().to_string();
        let path = at("home/.docker/config.json");
        let fault = "the entry `a.b`: `auth` is not the base64 of `user:password`";
        assert_eq!(error, format!("auth file {}: {fault}", path.display()));
        assert!(Credentials::from_usual_files(|_| None, None).is_ok());
    }

    #[test]
    fn a_helper_that_is_no_name_is_refused_by_its_key() {
        for (text, key) in [
            (r#"{"credHelpers": {"a.b": "../../bin/x"}}"#, "a.b"),
            (r#"{"credHelpers": {"a.b": ""}}"#, "a.b"),
            (r#"{"credsStore": "x y"}"#, "credsStore"),
        ] {
            let error = Entries::parse(text, Form::Usual).unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "the helper for `{key}` is no name; `NAME` of a program `docker-credential-NAME` is expected"
                )
            );
        }
    }
}
