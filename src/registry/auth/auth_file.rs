//! Auth files (`containers-auth.json`, dockerconfigjson): their format, and which entry is for which
//! repository.
//!
//! Errors name the file and the key, never the value. An entry that cannot be used affects only its own
//! registry, as on nodes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::prelude::{BASE64_STANDARD, Engine};
use derive_more::Debug;
use serde::Deserialize;

use crate::model::image_reference::ImageReference;
use crate::registry::auth::credential::{Credential, Secret};
use crate::registry::auth::helper::HelperRequest;
use crate::registry::files::FileError;
use crate::text::shown;

/// Where an auth file is, and how it is written.
#[derive(Clone, Debug, Hash)]
pub(crate) struct AuthFile {
    pub(crate) path: PathBuf,
    pub(crate) form: AuthFileFormat,
}

impl AuthFile {
    pub(crate) fn unusable(&self, reason: String) -> FileError {
        FileError::new(format_args!("auth file {}", self.path.display()), reason)
    }
}

/// The format of an auth file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AuthFileFormat {
    /// Entries under `auths`, and credential helpers.
    Usual,
    /// Only entries (`.dockercfg`).
    Legacy,
}

/// The registry of `reference`, as keys of auth files name it.
pub(crate) fn host(reference: &ImageReference) -> &str {
    match reference.host() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

/// The content of an auth file.
#[derive(Debug, Default)]
#[debug("{:?}", by_key.keys())]
pub(crate) struct AuthEntries {
    by_key: BTreeMap<String, StoredAuth>,
    /// The helpers for single hosts (`credHelpers`).
    pub(crate) helpers: BTreeMap<String, Helper>,
    /// The helper for hosts without an entry (`credsStore`).
    pub(crate) store: Option<Helper>,
    /// What is wrong with the entries that cannot be used.
    pub(crate) faults: Vec<String>,
}

/// The entry of a key (`decodeDockerAuth` of `containers/image`).
enum StoredAuth {
    Usable(Credential),
    /// No credential: what `logout` leaves behind, or a text without a colon, which nodes read the same way.
    Empty,
    /// Nodes fail on it; they neither pull anonymously nor look for a shorter key.
    Broken(String),
}

/// The name of a helper, or what is wrong with it.
pub(crate) type Helper = Result<String, String>;

impl AuthEntries {
    /// Parses the text of an auth file. Fails with the position of what is wrong.
    pub(crate) fn parse(text: &str, form: AuthFileFormat) -> Result<Self, String> {
        // Tools in Go write `null` for an empty value.
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct AuthFileBody {
            auths: Option<BTreeMap<String, Option<AuthEntryBody>>>,
            cred_helpers: Option<BTreeMap<String, String>>,
            creds_store: Option<String>,
        }
        let file = match form {
            AuthFileFormat::Usual => serde_json::from_str(text),
            AuthFileFormat::Legacy => serde_json::from_str(text)
                .map(|auths| AuthFileBody { auths: Some(auths), ..AuthFileBody::default() }),
        };
        let file: AuthFileBody = file.map_err(|error| {
            let expected = r#"not a dockerconfigjson; {"auths": {"quay.io": {"auth": "…"}}} is expected"#;
            format!("line {}, column {}: {expected}", error.line(), error.column())
        })?;
        let mut entries = Self::default();
        for (written, entry) in file.auths.into_iter().flatten() {
            let key = normalized(&written);
            let stored = entries.stored(&written, &key, entry.unwrap_or_default());
            // Of two spellings of a key, the normalized one takes precedence.
            if written == key || !entries.by_key.contains_key(&key) {
                entries.by_key.insert(key, stored);
            }
        }
        for (host, name) in file.cred_helpers.into_iter().flatten() {
            let helper = entries.helper(&host, name);
            entries.helpers.insert(normalized(&host), helper);
        }
        let store = file.creds_store.filter(|name| !name.is_empty());
        entries.store = store.map(|name| entries.helper("credsStore", name));
        Ok(entries)
    }

    /// The credential under the longest key that matches. Fails when that entry cannot be used.
    pub(crate) fn find(&self, reference: &ImageReference) -> Result<Option<&Credential>, &str> {
        let mut key = format!("{}/{}", host(reference), reference.api_path());
        loop {
            match self.by_key.get(&key) {
                Some(StoredAuth::Usable(credential)) => return Ok(Some(credential)),
                Some(StoredAuth::Empty) => return Ok(None),
                Some(StoredAuth::Broken(fault)) => return Err(fault),
                None => {}
            }
            let Some(end) = key.rfind('/') else { return Ok(None) };
            key.truncate(end);
        }
    }

    fn stored(&mut self, written: &str, key: &str, entry: AuthEntryBody) -> StoredAuth {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let secret = if let Some(token) = given(entry.identitytoken) {
            Secret::IdentityToken(token)
        } else if let Some(auth) = given(entry.auth) {
            let decoded = BASE64_STANDARD.decode(auth.trim()).ok();
            let decoded = decoded.and_then(|decoded| String::from_utf8(decoded).ok());
            let parts = decoded.as_deref().map(|decoded| decoded.split_once(':'));
            let Some(Some((user, password))) = parts else {
                let fault = format!("entry `{}`: `auth` is not `user:password` in base64", shown(written));
                self.faults.push(fault.clone());
                return if parts.is_some() { StoredAuth::Empty } else { StoredAuth::Broken(fault) };
            };
            // Docker's tools sometimes end the password with a NUL.
            let password = password.trim_end_matches('\0');
            Secret::Password { user: user.to_owned(), password: password.to_owned() }
        } else if let Some(user) = given(entry.username) {
            Secret::Password { user, password: entry.password.unwrap_or_default() }
        } else {
            return StoredAuth::Empty;
        };
        StoredAuth::Usable(Credential { key: key.to_owned(), secret })
    }

    fn helper(&mut self, key: &str, name: String) -> Helper {
        if HelperRequest::is_helper(&name) {
            return Ok(name);
        }
        let fault = format!(
            "the helper for `{}` is not a valid name; the `NAME` of a program `docker-credential-NAME` is expected",
            shown(key)
        );
        self.faults.push(fault.clone());
        Err(fault)
    }
}

#[derive(Default, Deserialize)]
struct AuthEntryBody {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// Older tools write a URL as the key, and Docker Hub has three names.
fn normalized(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let key = match bare {
        // In a URL, the path is the version of the API.
        Some(url) => url.split('/').next().unwrap_or(url),
        None => key.trim_end_matches('/'),
    };
    match key.split_once('/') {
        None if matches!(key, "index.docker.io" | "registry-1.docker.io") => "docker.io".to_owned(),
        Some(("index.docker.io", rest)) => format!("docker.io/{rest}"),
        _ => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(auths: serde_json::Value) -> AuthEntries {
        AuthEntries::parse(
            &serde_json::json!({"auths": auths, "credsStore": "x"}).to_string(),
            AuthFileFormat::Usual,
        )
        .unwrap()
    }

    fn auth(user: &str) -> serde_json::Value {
        serde_json::json!({"auth": BASE64_STANDARD.encode(format!("{user}:secret"))})
    }

    #[test]
    fn the_longest_matching_key_wins() {
        let entries = entries(serde_json::json!({
            "quay.io": auth("host"), "quay.io/acme": auth("namespace"), "quay.io/acme/os": auth("repository"),
            "quay.io:443": auth("port"), "https://index.docker.io/v1/": auth("hub"), "http://old.example/v2/": auth("old"),
            "empty.example": {}, "quay.io/none": {}, "twice.example": auth("twice"),
            "https://twice.example/v1/": auth("url"), "plain.example": {"username": "plain", "password": "secret"},
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
            ("quay.io/none/os", None),
            ("twice.example/os", Some("twice")),
            ("other.example/x", None),
            ("io/x.y/z".trim_start_matches("io/"), None),
        ] {
            let found = entries.find(&ImageReference::parse(reference).unwrap()).unwrap();
            assert_eq!(found.and_then(Credential::password).map(|(user, _)| user), user, "{reference}");
        }
    }

    #[test]
    fn null_is_read_as_an_empty_value() {
        let whole = AuthEntries::parse(
            r#"{"auths": null, "credHelpers": null, "credsStore": null}"#,
            AuthFileFormat::Usual,
        );
        let whole = whole.unwrap();
        assert!(whole.by_key.is_empty() && whole.helpers.is_empty() && whole.store.is_none());
        let one = entries(serde_json::json!({"a.b": null, "c.d": {"auth": null, "identitytoken": "t"}}));
        let found = |reference| one.find(&ImageReference::parse(reference).unwrap()).unwrap();
        assert!(found("a.b/c").is_none() && found("c.d/e").is_some());
    }

    #[test]
    fn identity_tokens_take_precedence_over_passwords() {
        let entries = entries(serde_json::json!({"a.b": {"auth": "YTpi", "identitytoken": "t"}}));
        let found = entries.find(&ImageReference::parse("a.b/c").unwrap()).unwrap().unwrap();
        assert!(found.secret == Secret::IdentityToken("t".to_owned()));
    }

    #[test]
    fn errors_name_the_position_and_never_the_secret() {
        let secret = "c2VjcmV0c2VjcmV0";
        for (text, message) in [
            ("", "line 1, column 0: not a dockerconfigjson"),
            (
                &*format!("{{\"auths\": {{\"a.b\": {{\"auth\": 5, \"x\": \"{secret}\"}}}}}}"),
                "line 1, column 28",
            ),
        ] {
            let error = AuthEntries::parse(text, AuthFileFormat::Usual).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
            assert!(!error.contains("secret") && !error.contains(secret), "{error}");
        }
    }

    #[test]
    fn a_broken_entry_affects_only_its_own_registry() {
        let secret = BASE64_STANDARD.encode("secret");
        let broken = format!("{secret}%");
        let entries = entries(serde_json::json!({
            "a.b": auth("host"), "a.b/c": {"auth": broken}, "d.e": {"auth": secret}, "f.g": auth("other"),
        }));
        let fault = |key: &str| format!("entry `{key}`: `auth` is not `user:password` in base64");
        for (reference, expected) in [
            // A shorter key is not used instead.
            ("a.b/c/os", Err(fault("a.b/c"))),
            ("a.b/os", Ok(Some("host"))),
            // Nodes pull anonymously here: it can be decoded, but has no colon.
            ("d.e/os", Ok(None)),
            ("f.g/os", Ok(Some("other"))),
        ] {
            let found = entries.find(&ImageReference::parse(reference).unwrap());
            let user = found.map(|found| found.and_then(Credential::password).map(|(user, _)| user));
            assert_eq!(user.map_err(ToString::to_string), expected, "{reference}");
        }
        let faults: Vec<_> = entries.faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults, [fault("a.b/c"), fault("d.e")]);
        assert!(!format!("{entries:?} {:?}", entries.faults).contains(&secret));
    }

    #[test]
    fn debug_output_has_no_secrets() {
        let entries = entries(serde_json::json!({"a.b": auth("user")}));
        let found = entries.find(&ImageReference::parse("a.b/c").unwrap()).unwrap().unwrap();
        let printed = format!("{found:?} {entries:?} {:?}", found.basic());
        assert!(
            !printed.contains("secret") && !printed.contains(&BASE64_STANDARD.encode("user:secret")),
            "{printed}"
        );
    }

    #[test]
    fn a_helper_with_an_invalid_name_is_reported_by_its_key() {
        for (text, key) in [
            (r#"{"credHelpers": {"a.b": "../../bin/x"}}"#, "a.b"),
            (r#"{"credHelpers": {"a.b": ""}}"#, "a.b"),
            (r#"{"credsStore": "x y"}"#, "credsStore"),
        ] {
            let entries = AuthEntries::parse(text, AuthFileFormat::Usual).unwrap();
            let [error] = &*entries.faults else { panic!("{:?}", entries.faults) };
            let helper = entries.helpers.values().chain(&entries.store).next().unwrap();
            assert_eq!(helper.as_ref(), Err(error));
            assert_eq!(
                error.to_string(),
                format!(
                    "the helper for `{key}` is not a valid name; the `NAME` of a program `docker-credential-NAME` is expected"
                )
            );
        }
    }
}
