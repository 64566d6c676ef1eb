//! Registry credentials: where they are read from, and which of them a repository gets.
//!
//! Owns the order in which files and helpers are searched. [`crate::registry::auth::auth_file`] parses a file
//! into [`crate::registry::auth::credential`] values.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::errors;
use crate::model::image_reference::ImageReference;
use crate::registry::auth::auth_file::{AuthEntries, AuthFile, AuthFileFormat, Helper, host};
use crate::registry::auth::credential::Credential;
use crate::registry::auth::helper::{HelperRequest, Helpers};
use crate::registry::files::FileError;
use crate::reload::{Reloadable, Reloaded};

/// The credentials in use; they can be replaced while requests are under way.
#[derive(Debug)]
pub struct Keychain {
    source: CredentialSource,
    files: Vec<AuthFile>,
    /// File by file, in the order in which they are searched.
    entries: Reloadable<Vec<AuthEntries>>,
    helpers: Helpers,
}

/// Where credentials come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CredentialSource {
    /// A file that the user named for nodes as well.
    Named,
    /// The files that Podman and Docker read, as far as they exist.
    Usual,
    /// The global pull secret, which [`Keychain::replace`] brings.
    Cluster,
}

impl Keychain {
    /// No credentials: every request is anonymous.
    pub fn none() -> Self {
        Self::without_files(CredentialSource::Usual)
    }

    /// The credentials of a cluster: none until the first [`Keychain::replace`].
    pub fn of_cluster() -> Self {
        Self::without_files(CredentialSource::Cluster)
    }

    /// Reads an auth file. Fails when the file cannot be read. An entry that cannot be used is logged, and is an
    /// error for each request that needs it.
    pub fn from_file(path: &Path) -> Result<Self, FileError> {
        let file = AuthFile { path: path.to_owned(), form: AuthFileFormat::Usual };
        Self::reading(CredentialSource::Named, vec![file])
    }

    /// Reads the files that other tools of the user read (`containers-auth.json(5)`): the file that
    /// `REGISTRY_AUTH_FILE` names, else the files of Podman and then of Docker, of which the first one with an
    /// entry is used. `variable` returns an environment variable, `user` is the user ID.
    ///
    /// These are credentials of the user and not of nodes. Fails when an existing file cannot be used.
    pub fn from_usual_files(
        variable: impl Fn(&str) -> Option<OsString>,
        user: Option<u32>,
    ) -> Result<Self, FileError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let usual = |path: PathBuf| AuthFile { path, form: AuthFileFormat::Usual };
        if let Some(path) = variable("REGISTRY_AUTH_FILE") {
            let files = vec![usual(path)];
            // A file that is named must exist.
            read(CredentialSource::Named, &files)?;
            return Self::reading(CredentialSource::Usual, files);
        }
        let home = variable("HOME");
        let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let of_session = variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json"));
        let of_session = of_session.or_else(|| Some(format!("/run/containers/{}/auth.json", user?).into()));
        let configuration = variable("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
        let docker = variable("DOCKER_CONFIG").or_else(|| below_home(".docker"));
        let below = |folder: Option<PathBuf>, path: &str| Some(usual(folder?.join(path)));
        let files = [
            of_session.map(usual),
            below(configuration, "containers/auth.json"),
            below(docker, "config.json"),
            below_home(".dockercfg").map(|path| AuthFile { path, form: AuthFileFormat::Legacy }),
        ];
        Self::reading(CredentialSource::Usual, files.into_iter().flatten().collect())
    }

    /// Reads the files again. Fails once for content that cannot be used; the previous credentials stay in
    /// use.
    pub fn reload(&self) -> Result<Reloaded, FileError> {
        if self.files.is_empty() {
            return Ok(Reloaded::Same);
        }
        let reloaded = self.entries.reload(read(self.source, &self.files), |texts| parse(texts))?;
        if reloaded == Reloaded::Changed {
            self.helpers.forget();
        }
        Ok(reloaded)
    }

    /// Uses the entries of the global pull secret: `Ok` has its text, a dockerconfigjson, and `Err` why it has none.
    /// With `None` it does not exist, and no entries are used. Fails once for a secret that cannot be used; the
    /// previous entries stay in use. Has no effect on credentials that are not those of the cluster.
    pub fn replace(&self, secret: Option<Result<&str, &'static str>>) -> Result<Reloaded, String> {
        if !self.are_of_cluster() {
            return Ok(Reloaded::Same);
        }
        let was_there = self.has_pull_secret();
        let content = secret.transpose().map_err(str::to_owned);
        let parse = |text: &Option<&str>| match text {
            Some(text) => {
                let entries = AuthEntries::parse(text, AuthFileFormat::Usual)?;
                log_faults("the global pull secret", &entries);
                Ok(vec![entries])
            }
            None => Ok(Vec::new()),
        };
        let reloaded = self.entries.reload(content, parse)?;
        Ok(if was_there || self.has_pull_secret() { reloaded } else { Reloaded::Same })
    }

    /// Whether these are the credentials of a cluster, which [`Keychain::replace`] replaces.
    pub fn are_of_cluster(&self) -> bool {
        self.source == CredentialSource::Cluster
    }

    fn without_files(source: CredentialSource) -> Self {
        Self { source, files: Vec::new(), entries: Reloadable::new(Vec::new()), helpers: Helpers::new() }
    }

    fn reading(source: CredentialSource, files: Vec<AuthFile>) -> Result<Self, FileError> {
        let entries = Reloadable::from_content(&read(source, &files)?, |texts| parse(texts))?;
        Ok(Self { source, files, entries, helpers: Helpers::new() })
    }

    fn has_pull_secret(&self) -> bool {
        !self.entries.current().is_empty()
    }

    /// The credential for `reference`, from the first file that has one: that of the helper for the host, of the
    /// entry with the longest matching key, or of the helper for all hosts. Fails with what is wrong with the
    /// helper or the entry.
    pub(crate) async fn find(&self, reference: &ImageReference) -> Result<Option<Credential>, String> {
        let files = self.entries.current();
        let host = host(reference);
        for entries in files.iter() {
            let ask = async |helper: &Helper| {
                self.helpers.ask(HelperRequest { helper: helper.clone()?, host: host.to_owned() }).await
            };
            let found = match entries.helpers.get(host) {
                Some(helper) => ask(helper).await?,
                None => match (entries.find(reference)?, &entries.store) {
                    (Some(entry), _) => Some(entry.clone()),
                    (None, Some(helper)) => ask(helper).await?,
                    (None, None) => None,
                },
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Whether nodes have the same credentials: an auth file was given, or the cluster has a global pull
    /// secret. Nodes will then be refused as well.
    pub fn are_those_of_nodes(&self) -> bool {
        match self.source {
            CredentialSource::Usual => false,
            CredentialSource::Named => true,
            CredentialSource::Cluster => self.has_pull_secret(),
        }
    }
}

/// Reads the files. Of the usual ones those that do not exist are left out.
fn read(source: CredentialSource, files: &[AuthFile]) -> Result<Vec<(AuthFile, String)>, FileError> {
    let read = |file: &AuthFile| match std::fs::read_to_string(&file.path) {
        Ok(text) => Some(Ok((file.clone(), text))),
        Err(error)
            if source == CredentialSource::Usual
                && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
        {
            None
        }
        Err(error) => Some(Err(file.unusable(errors::words(&error)))),
    };
    files.iter().filter_map(read).collect()
}

fn parse(texts: &[(AuthFile, String)]) -> Result<Vec<AuthEntries>, FileError> {
    let parse = |(file, text): &(AuthFile, String)| {
        let entries = AuthEntries::parse(text, file.form).map_err(|reason| file.unusable(reason))?;
        log_faults(&format!("auth file {}", file.path.display()), &entries);
        Ok(entries)
    };
    texts.iter().map(parse).collect()
}

/// Logs each broken entry. A command without a log still reports it with the answer that needs the entry.
fn log_faults(origin: &str, entries: &AuthEntries) {
    for fault in &entries.faults {
        tracing::warn!(origin, %fault, "an entry of the registry credentials cannot be used; the other entries are used");
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use futures_util::FutureExt;

    use super::*;

    /// The credential in a file, for which there is nothing to wait.
    fn found(credentials: &Keychain, reference: &ImageReference) -> Option<Credential> {
        credentials.find(reference).now_or_never().unwrap().unwrap()
    }

    fn auth(user: &str) -> serde_json::Value {
        serde_json::json!({"auth": BASE64_STANDARD.encode(format!("{user}:secret"))})
    }

    #[test]
    fn a_broken_file_does_not_replace_the_previous_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        let write = |user: &str| {
            std::fs::write(&path, serde_json::json!({"auths": {"a.b": auth(user)}}).to_string()).unwrap();
        };
        write("one");
        let credentials = Keychain::from_file(&path).unwrap();
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
        let credentials = Keychain::of_cluster();
        let reference = ImageReference::parse("a.b/c").unwrap();
        let user = || Some(found(&credentials, &reference)?.password()?.0.to_owned());
        let secret = |user| serde_json::json!({"auths": {"a.b": auth(user)}}).to_string();
        let in_force = || (user(), credentials.are_those_of_nodes());
        assert_eq!(credentials.replace(None).unwrap(), Reloaded::Same);
        assert_eq!(in_force(), (None, false));
        for name in ["one", "two"] {
            let text = secret(name);
            assert_eq!(credentials.replace(Some(Ok(&text))).unwrap(), Reloaded::Changed);
            assert_eq!(credentials.replace(Some(Ok(&text))).unwrap(), Reloaded::Same);
            assert_eq!(in_force(), (Some(name.to_owned()), true));
        }
        for (broken, message) in [
            (Some(Ok("{")), "line 1, column 1: not a dockerconfigjson"),
            (Some(Err("it has no key")), "it has no key"),
        ] {
            let error = credentials.replace(broken).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
            assert_eq!(credentials.replace(broken).unwrap(), Reloaded::Same, "an error is returned once");
            assert_eq!(in_force(), (Some("two".to_owned()), true));
        }
        assert_eq!(credentials.replace(Some(Ok("{}"))).unwrap(), Reloaded::Changed);
        assert_eq!(in_force(), (None, true));
        assert_eq!(credentials.replace(None).unwrap(), Reloaded::Changed);
        assert_eq!(in_force(), (None, false));
    }

    #[test]
    fn an_auth_file_takes_precedence_over_the_pull_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        std::fs::write(&path, serde_json::json!({"auths": {"a.b": auth("file")}}).to_string()).unwrap();
        let credentials = Keychain::from_file(&path).unwrap();
        assert_eq!(credentials.replace(Some(Ok("{}"))).unwrap(), Reloaded::Same);
        let found = found(&credentials, &ImageReference::parse("a.b/c").unwrap()).unwrap();
        assert_eq!(found.password().unwrap().0, "file");
    }

    #[tokio::test]
    async fn the_usual_files_are_searched_in_order_and_the_first_entry_is_used() {
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
        let user = async |credentials: &Keychain| {
            let found = credentials.find(&reference).await.unwrap();
            found.and_then(|found| Some(found.password()?.0.to_owned()))
        };
        let home = variables(&[("HOME", "home"), ("XDG_RUNTIME_DIR", "run")]);
        let credentials = Keychain::from_usual_files(&home, None).unwrap();
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
        assert_eq!(user(&Keychain::from_usual_files(named, None).unwrap()).await.as_deref(), Some("docker"));
        let elsewhere = variables(&[("HOME", "none"), ("DOCKER_CONFIG", "home/.docker")]);
        assert_eq!(
            user(&Keychain::from_usual_files(elsewhere, None).unwrap()).await.as_deref(),
            Some("docker")
        );
        let missing = variables(&[("REGISTRY_AUTH_FILE", "missing.json")]);
        let error = Keychain::from_usual_files(missing, None).unwrap_err().to_string();
        assert_eq!(error, format!("auth file {}: No such file or directory", at("missing.json").display()));
        write("home/.docker/config.json", serde_json::json!({"auths": []}));
        let error = Keychain::from_usual_files(&home, None).unwrap_err().to_string();
        let path = at("home/.docker/config.json");
        assert!(error.starts_with(&format!("auth file {}: line 1, column ", path.display())), "{error}");
        assert!(Keychain::from_usual_files(|_| None, None).is_ok());
    }
}
