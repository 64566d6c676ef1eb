//! Files and folders that the settings of registries are read from.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::errors;

/// A file and its text.
#[derive(Hash)]
pub(crate) struct TextFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl TextFile {
    pub(crate) fn read(path: PathBuf) -> Result<Self, FileError> {
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Self { path, text }),
            Err(error) => Err(FileError::new(path.display(), errors::words(&error))),
        }
    }
}

/// What is in a folder, in the order of the names.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = std::fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let entries = entries.map_err(|error| FileError::new(folder.display(), errors::words(&error)))?;
    let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort_unstable();
    Ok(paths)
}

/// A file or folder that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct FileError {
    /// The path, and the line where it is known.
    place: String,
    reason: String,
}

impl FileError {
    pub(crate) fn new(place: impl Display, reason: String) -> Self {
        Self { place: place.to_string(), reason }
    }
}
