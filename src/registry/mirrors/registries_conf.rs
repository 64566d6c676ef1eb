//! `registries.conf`, version 2, and its drop-in folder (`containers-registries.conf(5)`).
//!
//! Owns which files are read, in which order, and what is in use;
//! [`registries_toml`](crate::registry::mirrors::registries_toml) owns the format of one file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::registry::files::{FileError, TextFile, list};
use crate::registry::mirrors::registries_toml::RegistriesToml;
use crate::registry::mirrors::route::RegistryTable;
use crate::reload::{Reloadable, Reloaded};

/// The registries in use; they can be replaced while requests are under way.
#[derive(Debug)]
pub struct RegistriesConf {
    file: Option<PathBuf>,
    table: Reloadable<RegistryTable>,
}

impl RegistriesConf {
    /// Nothing is configured, until [`Self::replace`].
    pub fn none() -> Self {
        Self { file: None, table: Reloadable::new(RegistryTable::default()) }
    }

    /// Reads `file`, and every `*.conf` in the folder `file` + `.d`, in the order of their names.
    ///
    /// The file must exist, the folder need not. An entry of a later file replaces one of the same
    /// prefix.
    pub fn from_file(file: &Path) -> Result<Self, FileError> {
        Ok(Self {
            file: Some(file.to_owned()),
            table: Reloadable::from_content(&read(file)?, |files| parse(files))?,
        })
    }

    /// The registries in use.
    pub fn current(&self) -> Arc<RegistryTable> {
        self.table.current()
    }

    /// Uses the registries of a cluster, unless a file was given, which takes precedence.
    pub fn replace(&self, registries: RegistryTable) -> Reloaded {
        if self.file.is_some() { Reloaded::Same } else { self.table.replace(registries) }
    }

    /// Reads the files again. Fails once for content that cannot be used; the previous registries stay in
    /// use.
    pub fn reload(&self) -> Result<Reloaded, FileError> {
        let Some(file) = &self.file else { return Ok(Reloaded::Same) };
        self.table.reload(read(file), |files| parse(files))
    }
}

fn read(file: &Path) -> Result<Vec<TextFile>, FileError> {
    let mut paths = vec![file.to_owned()];
    let mut folder = file.as_os_str().to_owned();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    if !matches!(folder.try_exists(), Ok(false)) {
        let is_conf = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "conf");
        paths.extend(list(&folder)?.into_iter().filter(|path| is_conf(path) && path.is_file()));
    }
    paths.into_iter().map(TextFile::read).collect()
}

fn parse(files: &[TextFile]) -> Result<RegistryTable, FileError> {
    let mut registries = RegistryTable::default();
    for TextFile { path, text } in files {
        let (read, ignored) = RegistriesToml { path, text }.registries()?;
        for key in ignored {
            tracing::warn!(file = %path.display(), line = key.line, key = key.name, "unknown key ignored, as nodes do");
        }
        registries.overlay(read);
    }
    Ok(registries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::pull_spec::PullSpec;
    use crate::registry::http::Trust;
    use crate::registry::mirrors::route::{PullAccess, RegistryEntry};

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
            let reference = PullSpec::parse("a.b/os:1").unwrap();
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
        assert_eq!(conf.reload().unwrap(), Reloaded::Same, "an error is returned once");
        assert_eq!(source(&conf), "second.example/os:1", "the previous registries stay in use");
        drop_in("30-c.conf", &entry("third.example"));
        assert_eq!(conf.reload().unwrap(), Reloaded::Changed);
        assert_eq!(source(&conf), "third.example/os:1");
        std::fs::remove_file(&file).unwrap();
        let error = conf.reload().unwrap_err().to_string();
        assert_eq!(error, format!("{}: No such file or directory", file.display()));
    }

    #[test]
    fn a_named_file_is_not_replaced_by_what_a_cluster_says() {
        let registries = RegistryTable::new([RegistryEntry {
            prefix: "a.b".into(),
            location: Some("c.d".into()),
            mirrors: Vec::new(),
            trust: Trust::Verified,
            access: PullAccess::Allowed,
        }]);
        let open = RegistriesConf::none();
        assert_eq!(open.replace(registries.clone()), Reloaded::Changed);
        assert_eq!(open.replace(registries.clone()), Reloaded::Same);
        assert_eq!(*open.current(), registries);
        let file = tempfile::NamedTempFile::new().unwrap();
        let named = RegistriesConf::from_file(file.path()).unwrap();
        assert_eq!(named.replace(registries), Reloaded::Same);
        assert_eq!(*named.current(), RegistryTable::default());
    }
}
