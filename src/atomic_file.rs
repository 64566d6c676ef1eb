//! Puts a new text in the place of a file's old one, all of it or nothing.
//!
//! Owns what a file keeps when its text changes: its mode, its owner where the system lets us, and
//! the links that lead to it. The new text is written beside the file and takes its name when it is
//! complete, so that no reader and no full disk ever leaves half of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

/// Puts `after` in the place of `before` at `path`; of a symbolic link, at its target.
///
/// Fails, and leaves everything as it was, when the file does not hold `before` any more, cannot be
/// written, or the new text cannot be stored.
pub fn replace(path: &Path, before: &str, after: &str) -> Result<(), ReplaceError> {
    let target = fs::canonicalize(path)?;
    // A file that may not be written is not replaced either, though its folder would allow it.
    let mut file = OpenOptions::new().read(true).write(true).open(&target)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ReplaceError::NoFile);
    }
    let mut found = Vec::with_capacity(before.len());
    file.read_to_end(&mut found)?;
    if found != before.as_bytes() {
        return Err(ReplaceError::Changed);
    }
    let folder = target.parent().unwrap_or(Path::new("/"));
    let (mut draft, mut file) = Draft::create(folder)?;
    file.write_all(after.as_bytes())?;
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (metadata.uid(), metadata.gid()) {
        // Only root may give a file away; for anybody else the file becomes theirs, as it does with
        // every editor that writes this way.
        let _ = chown(&draft.path, Some(metadata.uid()), Some(metadata.gid()));
    }
    file.set_permissions(metadata.permissions())?;
    file.sync_all()?;
    fs::rename(&draft.path, &target)?;
    draft.is_in_place = true;
    Ok(())
}

/// Why a file keeps its old text.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// The operating system refused.
    #[error("{}", crate::errors::words(.0))]
    Io(#[from] io::Error),
    /// It has another text than the one that was read.
    #[error("it changed since it was read; run the command again")]
    Changed,
    /// It is a pipe, a device or the like.
    #[error("it is not a regular file")]
    NoFile,
}

/// A file that is deleted unless it comes to its place.
struct Draft {
    path: PathBuf,
    is_in_place: bool,
}

impl Draft {
    /// Makes an empty file in `folder`, which nobody else may read yet.
    fn create(folder: &Path) -> io::Result<(Self, File)> {
        let mut attempt = 0;
        loop {
            // The kubelet, Git's ignore files and our own walk have no use for a hidden `.tmp`.
            let path = folder.join(format!(".layerpin-{}-{attempt}.tmp", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok((Self { path, is_in_place: false }, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < MAX_ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_in_place {
            // There is nobody left to tell; the error that led here is told.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Drafts that a process of the same number left behind when it was killed.
const MAX_ATTEMPTS: usize = 100;

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
    fn the_mode_and_the_link_stay() {
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
    fn a_file_that_changed_meanwhile_stays() {
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
}
