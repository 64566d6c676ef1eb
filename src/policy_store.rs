//! The policy in use, and the file that it is read from.
//!
//! Apart from [`crate::policy`], which reads no files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::errors;
use crate::policy::Policy;
use crate::reload::{Reloadable, Reloaded};

/// Holds the policy in use. A file that cannot be read or has an error never replaces it.
#[derive(Debug)]
pub struct PolicyStore {
    path: Option<PathBuf>,
    policy: Reloadable<Policy>,
}

impl PolicyStore {
    /// Holds the recommended policy, which never changes.
    pub fn built_in() -> Self {
        Self { path: None, policy: Reloadable::new(Policy::recommended()) }
    }

    /// Reads a policy file. Fails with the file and the line of each error in it.
    pub fn from_file(path: &Path) -> Result<Self, PolicyFileError> {
        let policy = Reloadable::from_content(&read(path)?, |text| parse(path, text))?;
        Ok(Self { path: Some(path.to_owned()), policy })
    }

    /// The policy in use.
    pub fn current(&self) -> Arc<Policy> {
        self.policy.current()
    }

    /// Why the current content of the file is not in use. `None` when it is.
    pub fn fault(&self) -> Option<String> {
        self.policy.fault()
    }

    /// Reads the file again. Fails once for each content that cannot be used; the previous policy stays in
    /// use.
    pub fn reload(&self) -> Result<Reloaded, PolicyFileError> {
        let Some(path) = &self.path else { return Ok(Reloaded::Same) };
        self.policy.reload(read(path), |text| parse(path, text))
    }
}

/// A policy file that cannot be used: one line for each error, with file and line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PolicyFileError(String);

fn read(path: &Path) -> Result<String, PolicyFileError> {
    std::fs::read_to_string(path).map_err(|error| {
        PolicyFileError(format!("policy file {}: {}", path.display(), errors::words(&error)))
    })
}

fn parse(path: &Path, text: &str) -> Result<Policy, PolicyFileError> {
    Policy::parse(text).map_err(|errors| {
        let lines: Vec<_> = errors
            .0
            .iter()
            .map(|error| format!("{}:{}: {}", path.display(), error.line, error.message))
            .collect();
        PolicyFileError(lines.join("\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "apiVersion: layerpin.io/v1alpha1\nkind: OSImagePolicy\nmetadata: {name: one}\n";

    #[test]
    fn a_broken_policy_never_replaces_a_good_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.yaml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write(SOUND);
        let store = PolicyStore::from_file(&path).unwrap();
        assert_eq!(store.reload().unwrap(), Reloaded::Same);
        write(&SOUND.replace("one", "two"));
        assert_eq!(store.reload().unwrap(), Reloaded::Changed);
        assert_eq!(store.current().name(), "two");
        write(&format!("{SOUND}spec:\n  rules:\n    nope: deny\n    floating-tag: often\n"));
        let error = store.reload().unwrap_err();
        let lines: Vec<_> = error.to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains("policy.yaml:6: unknown rule `nope`"), "{error}");
        assert_eq!(store.current().name(), "two");
        assert_eq!(store.fault(), Some(error.to_string()));
        assert_eq!(store.reload().unwrap(), Reloaded::Same, "an error is returned once");
        std::fs::remove_file(&path).unwrap();
        assert!(store.reload().is_err());
        write(SOUND);
        assert_eq!(store.reload().unwrap(), Reloaded::Changed);
        assert_eq!((store.current().name(), store.fault()), ("one", None));
    }

    #[test]
    fn a_swap_of_symlinks_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, name) in [("v1", "one"), ("v2", "two")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("policy.yaml"), SOUND.replace("one", name)).unwrap();
        }
        std::os::unix::fs::symlink("v1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/policy.yaml", at("policy.yaml")).unwrap();
        let store = PolicyStore::from_file(&at("policy.yaml")).unwrap();
        std::os::unix::fs::symlink("v2", at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_eq!(store.reload().unwrap(), Reloaded::Changed);
        assert_eq!(store.current().name(), "two");
    }

    #[test]
    fn a_broken_policy_at_the_start_is_an_error_that_names_the_file() {
        let error = PolicyStore::from_file(Path::new("/nowhere/policy.yaml")).unwrap_err().to_string();
        assert!(error.starts_with("policy file /nowhere/policy.yaml: "), "{error}");
    }
}
