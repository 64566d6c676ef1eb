//! Writes a file as a whole or not at all.
//!
//! The new content goes to a temporary file beside the old one and is renamed when it is complete, so that no
//! reader and no full disk leaves half of it. A file that is replaced keeps its mode, its owner where the
//! system allows that, and the links that lead to it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

/// Replaces the content `before` of the file at `path` by `after`; of a symbolic link, that of its target.
///
/// Fails, and changes nothing, when the content is not `before` any more or the file cannot be written.
pub fn replace(path: &Path, before: &str, after: &str) -> Result<(), ReplaceError> {
    let target = fs::canonicalize(path)?;
    // A file that must not be written is not replaced either, even if its folder allows it.
    let mut file = OpenOptions::new().read(true).write(true).open(&target)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ReplaceError::NotRegular);
    }
    let mut found = Vec::with_capacity(before.len());
    file.read_to_end(&mut found)?;
    if found != before.as_bytes() {
        return Err(ReplaceError::Changed);
    }
    let draft = draft(&target, 0o600, after.as_bytes())?;
    let own = draft.as_file().metadata()?;
    if (own.uid(), own.gid()) != (metadata.uid(), metadata.gid()) {
        // Only root may give a file away; for others the owner changes, as with every editor that writes a
        // new file.
        let _ = fchown(draft.as_file(), Some(metadata.uid()), Some(metadata.gid()));
    }
    draft.as_file().set_permissions(metadata.permissions())?;
    Ok(persist(draft, &target)?)
}

/// Writes `content` to the file at `path`, which need not exist.
///
/// A pipe or a device cannot be replaced, and a link must not be: these are written directly.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return fs::write(path, content);
    }
    persist(draft(path, 0o666, content)?, path)
}

/// Why a file was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// The operating system returned an error.
    #[error("{}", crate::errors::words(.0))]
    Io(#[from] io::Error),
    /// Its content is not the one that was read.
    #[error("it changed since it was read; run the command again")]
    Changed,
    /// It is a pipe, a device or the like.
    #[error("it is not a regular file")]
    NotRegular,
}

/// A temporary file beside `target` with this content, which is deleted unless it is persisted. The umask
/// applies to `mode`.
fn draft(target: &Path, mode: u32, content: &[u8]) -> io::Result<NamedTempFile> {
    let folder = target.parent().unwrap_or(Path::new("/"));
    // A file that is opened here, because errors of tempfile's own functions repeat the path. A hidden `.tmp`
    // is ignored by our own search for files.
    let draft = Builder::new()
        .prefix(".layerpin-")
        .suffix(".tmp")
        .make_in(folder, |path| OpenOptions::new().write(true).create_new(true).mode(mode).open(path))?;
    draft.as_file().write_all(content)?;
    Ok(draft)
}

fn persist(draft: NamedTempFile, target: &Path) -> io::Result<()> {
    draft.as_file().sync_all()?;
    draft.persist(target).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_its_link() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("a.yaml"), folder.path().join("link.yaml"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("a.yaml", &link).unwrap();
        replace(&link, "old", "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("a.yaml"));
        assert_eq!(names(folder.path()), ["a.yaml", "link.yaml"]);
    }

    #[test]
    fn a_file_that_changed_since_it_was_read_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, "newer").unwrap();
        assert!(matches!(replace(&file, "old", "new"), Err(ReplaceError::Changed)));
        assert_eq!(fs::read_to_string(&file).unwrap(), "newer");
        assert_eq!(names(folder.path()), ["a.yaml"]);
        fs::remove_file(&file).unwrap();
        assert_eq!(replace(&file, "old", "new").unwrap_err().to_string(), "No such file or directory");
        assert!(replace(Path::new("/dev/null"), "", "new").is_err());
    }

    #[test]
    fn a_new_file_is_written_whole_and_a_link_is_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("facts.json"), folder.path().join("link.json"));
        for content in ["old", "new"] {
            write(&file, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), content);
        }
        symlink("facts.json", &link).unwrap();
        write(&link, b"newer").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "newer");
        assert_eq!(names(folder.path()), ["facts.json", "link.json"]);
        let error = write(&folder.path().join("absent/facts.json"), b"").unwrap_err();
        assert_eq!(crate::errors::words(&error), "No such file or directory");
    }
}
