//! The policy in use, and the file that it is read from.
//!
//! Apart from [`crate::policy`], which reads no files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::errors;
use crate::policy::{Policy, PolicyErrors};
use crate::reload::LastSeen;

/// Holds the policy in force. A file that cannot be read or has a fault never replaces it.
#[derive(Debug)]
pub struct PolicyStore {
    path: Option<PathBuf>,
    current: ArcSwap<Policy>,
    seen: LastSeen,
    fault: ArcSwapOption<String>,
}

impl PolicyStore {
    /// Holds the recommended policy, for ever.
    pub fn built_in() -> Self {
        Self::holding(None, Policy::recommended())
    }

    /// Reads a policy file. Fails with the file and the line of each fault.
    pub fn from_file(path: &Path) -> Result<Self, PolicyFileError> {
        let text = read(path)?;
        let policy = Policy::parse(&text).map_err(|errors| PolicyFileError::faulty(path, &errors))?;
        let store = Self::holding(Some(path.to_owned()), policy);
        store.seen.is_new::<PolicyFileError>(Ok(text.as_bytes()));
        Ok(store)
    }

    /// The policy in force.
    pub fn current(&self) -> Arc<Policy> {
        self.current.load_full()
    }

    /// Why the file as it stands is not in force. `None` when it is.
    pub fn fault(&self) -> Option<String> {
        self.fault.load().as_deref().cloned()
    }

    /// Looks at the file again.
    pub fn reload(&self) -> PolicyReload {
        let Some(path) = &self.path else { return PolicyReload::Same };
        let outcome = read(path);
        if !self.seen.is_new(outcome.as_ref().map(String::as_bytes)) {
            return PolicyReload::Same;
        }
        let parsed = outcome
            .and_then(|text| Policy::parse(&text).map_err(|errors| PolicyFileError::faulty(path, &errors)));
        match parsed {
            Ok(policy) => {
                let policy = Arc::new(policy);
                self.current.store(Arc::clone(&policy));
                self.fault.store(None);
                PolicyReload::Changed(policy)
            }
            Err(error) => {
                self.fault.store(Some(Arc::new(error.to_string())));
                PolicyReload::Faulty(error)
            }
        }
    }

    fn holding(path: Option<PathBuf>, policy: Policy) -> Self {
        Self {
            path,
            current: ArcSwap::from_pointee(policy),
            seen: LastSeen::default(),
            fault: ArcSwapOption::empty(),
        }
    }
}

/// What a look at the policy file brought.
#[derive(Debug)]
pub enum PolicyReload {
    /// Its content is as it was.
    Same,
    /// Its content is another, and in force.
    Changed(Arc<Policy>),
    /// Its content is another and cannot be used; what was in force still is.
    Faulty(PolicyFileError),
}

/// A policy file that cannot be used: one line for each fault, with file and line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PolicyFileError(String);

impl PolicyFileError {
    fn faulty(path: &Path, errors: &PolicyErrors) -> Self {
        let lines: Vec<_> = errors
            .iter()
            .map(|error| format!("{}:{}: {}", path.display(), error.line, error.message))
            .collect();
        Self(lines.join("\n"))
    }
}

fn read(path: &Path) -> Result<String, PolicyFileError> {
    std::fs::read_to_string(path).map_err(|error| {
        PolicyFileError(format!("policy file {}: {}", path.display(), errors::words(&error)))
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
        assert!(matches!(store.reload(), PolicyReload::Same));
        write(&SOUND.replace("one", "two"));
        assert!(matches!(store.reload(), PolicyReload::Changed(policy) if policy.name() == "two"));
        write(&format!("{SOUND}spec:\n  rules:\n    nope: deny\n    floating-tag: often\n"));
        let PolicyReload::Faulty(error) = store.reload() else { panic!() };
        let lines: Vec<_> = error.to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains("policy.yaml:6: no rule is called `nope`"), "{error}");
        assert_eq!(store.current().name(), "two");
        assert_eq!(store.fault(), Some(error.to_string()));
        assert!(matches!(store.reload(), PolicyReload::Same), "a fault is told of once");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(store.reload(), PolicyReload::Faulty(_)));
        write(SOUND);
        assert!(matches!(store.reload(), PolicyReload::Changed(_)));
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
        assert!(matches!(store.reload(), PolicyReload::Changed(policy) if policy.name() == "two"));
    }

    #[test]
    fn a_broken_policy_at_the_start_is_an_error_that_names_the_file() {
        let error = PolicyStore::from_file(Path::new("/nowhere/policy.yaml")).unwrap_err().to_string();
        assert!(error.starts_with("policy file /nowhere/policy.yaml: "), "{error}");
    }
}
