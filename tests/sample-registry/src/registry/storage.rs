//! What a registry holds: manifests, blobs and tags by repository.
//!
//! A manifest or blob is found only through a repository it was pushed to, as
//! in real registries.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::digest::{digest_of, is_digest};

/// The content of a registry.
#[derive(Debug, Default)]
pub(super) struct Storage {
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    repositories: BTreeMap<String, Repository>,
    uploads: HashMap<String, Vec<u8>>,
    uploads_begun: u64,
}

#[derive(Debug, Default)]
struct Repository {
    tags: BTreeMap<String, String>,
    manifests: HashMap<String, StoredManifest>,
    blobs: HashMap<String, Bytes>,
}

/// A manifest with the media type it was pushed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredManifest {
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

/// Why something was not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Repository,
    Content,
}

impl Storage {
    /// Finds a manifest by tag or digest, and returns it with its digest.
    pub(super) fn manifest(
        &self,
        repository: &str,
        reference: &str,
    ) -> Result<(String, StoredManifest), Missing> {
        self.read(repository, |repository| {
            let digest = match is_digest(reference) {
                true => reference,
                false => repository.tags.get(reference)?,
            };
            let manifest = repository.manifests.get(digest)?;
            Some((digest.to_owned(), manifest.clone()))
        })
    }

    /// Finds a blob by digest.
    pub(super) fn blob(&self, repository: &str, digest: &str) -> Result<Bytes, Missing> {
        self.read(repository, |repository| repository.blobs.get(digest).cloned())
    }

    /// Returns the tags of a repository, sorted.
    pub(super) fn tags(&self, repository: &str) -> Result<Vec<String>, Missing> {
        self.read(repository, |repository| Some(repository.tags.keys().cloned().collect()))
    }

    /// Stores a manifest and returns its digest.
    pub(super) fn put_manifest(&self, repository: &str, media_type: &str, bytes: impl Into<Bytes>) -> String {
        let bytes = bytes.into();
        let digest = digest_of(&bytes);
        let manifest = StoredManifest { media_type: media_type.to_owned(), bytes };
        self.lock().repository(repository).manifests.insert(digest.clone(), manifest);
        digest
    }

    /// Stores a blob and returns its digest.
    pub(super) fn put_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> String {
        let bytes = bytes.into();
        let digest = digest_of(&bytes);
        self.lock().repository(repository).blobs.insert(digest.clone(), bytes);
        digest
    }

    /// Points a tag to a manifest of the same repository.
    pub(super) fn tag(&self, repository: &str, tag: &str, digest: &str) -> Result<(), Missing> {
        self.change(repository, |repository| {
            repository.manifests.get(digest)?;
            repository.tags.insert(tag.to_owned(), digest.to_owned());
            Some(())
        })
    }

    /// Removes a tag; the manifest stays.
    pub(super) fn delete_tag(&self, repository: &str, tag: &str) -> Result<(), Missing> {
        self.change(repository, |repository| repository.tags.remove(tag).map(drop))
    }

    /// Removes a manifest and the tags that point to it; its blobs stay.
    pub(super) fn delete_manifest(&self, repository: &str, digest: &str) -> Result<(), Missing> {
        self.change(repository, |repository| {
            repository.manifests.remove(digest)?;
            repository.tags.retain(|_, target| target != digest);
            Some(())
        })
    }

    /// Removes a blob.
    pub(super) fn delete_blob(&self, repository: &str, digest: &str) -> Result<(), Missing> {
        self.change(repository, |repository| repository.blobs.remove(digest).map(drop))
    }

    /// Removes a repository with all it holds.
    pub(super) fn delete_repository(&self, repository: &str) -> Result<(), Missing> {
        match self.lock().repositories.remove(repository) {
            Some(_) => Ok(()),
            None => Err(Missing::Repository),
        }
    }

    /// Begins an upload and returns its identifier.
    pub(super) fn begin_upload(&self) -> String {
        let mut content = self.lock();
        content.uploads_begun += 1;
        let identifier = format!("upload-{}", content.uploads_begun);
        content.uploads.insert(identifier.clone(), Vec::new());
        identifier
    }

    /// Adds a piece to an upload, and returns how many bytes it has now.
    pub(super) fn append_to_upload(&self, identifier: &str, piece: &[u8]) -> Option<usize> {
        let mut content = self.lock();
        let upload = content.uploads.get_mut(identifier)?;
        upload.extend_from_slice(piece);
        Some(upload.len())
    }

    /// Ends an upload and returns all its bytes.
    pub(super) fn end_upload(&self, identifier: &str) -> Option<Vec<u8>> {
        self.lock().uploads.remove(identifier)
    }

    fn read<T>(&self, name: &str, find: impl FnOnce(&Repository) -> Option<T>) -> Result<T, Missing> {
        let content = self.lock();
        let repository = content.repositories.get(name).ok_or(Missing::Repository)?;
        find(repository).ok_or(Missing::Content)
    }

    fn change<T>(&self, name: &str, change: impl FnOnce(&mut Repository) -> Option<T>) -> Result<T, Missing> {
        let mut content = self.lock();
        let repository = content.repositories.get_mut(name).ok_or(Missing::Repository)?;
        change(repository).ok_or(Missing::Content)
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn repository(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }
}
