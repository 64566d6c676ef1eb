//! Layers: a few files as a tar of fixed bytes, packed or not.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::{Compression, GzBuilder, read::GzDecoder};

use crate::digest::digest_of;

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    packing: Packing,
    diff_id: String,
    digest: String,
    blob: Bytes,
}

/// How the tar of a layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packing {
    /// By gzip, as most are.
    Gzip,
    /// By zstd.
    Zstd,
    /// Not at all.
    Plain,
}

impl Layer {
    /// Makes a layer of `files`, pairs of path and content, in the order given.
    ///
    /// All are regular files of mode 0644, owned by root, of one fixed time.
    ///
    /// # Panics
    ///
    /// When a path is absolute, climbs with `..`, or is too long for tar.
    pub fn of_files(files: &[(&str, &[u8])]) -> Self {
        Self::of_tar(&tar_of(files).expect("a path that fits into a tar archive"), Packing::Gzip)
    }

    /// Makes a layer of any bytes that are to be its tar.
    pub fn of_tar(tar: &[u8], packing: Packing) -> Self {
        let blob = packing.pack(tar).expect("writing to memory does not fail");
        Self { packing, diff_id: digest_of(tar), digest: digest_of(&blob), blob }
    }

    /// Returns the same layer in another packing: its digest changes, its diffID stays.
    pub fn repacked(&self, packing: Packing) -> Self {
        let tar = self.packing.unpack(&self.blob).expect("the blob packed by this type");
        Self::of_tar(&tar, packing)
    }

    /// Returns how the tar is packed.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Returns the digest of the uncompressed tar.
    pub fn diff_id(&self) -> String {
        self.diff_id.clone()
    }

    /// Returns the digest of the compressed blob.
    pub fn digest(&self) -> String {
        self.digest.clone()
    }

    /// Returns the compressed blob.
    pub fn blob(&self) -> &Bytes {
        &self.blob
    }

    /// Returns the content of the file at `path`, or nothing if the layer has none there.
    pub fn file(&self, path: &str) -> Option<Vec<u8>> {
        let tar = self.packing.unpack(&self.blob).expect("the blob packed by this type");
        let mut archive = tar::Archive::new(tar.as_slice());
        let entries = archive.entries().expect("the tar written by this type");
        for entry in entries {
            let mut entry = entry.expect("the tar written by this type");
            if entry.path_bytes().as_ref() == path.as_bytes() {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).expect("the tar written by this type");
                return Some(content);
            }
        }
        None
    }
}

impl Packing {
    fn pack(self, tar: &[u8]) -> io::Result<Bytes> {
        match self {
            Self::Gzip => gzip(tar),
            Self::Zstd => zstd::encode_all(tar, zstd::DEFAULT_COMPRESSION_LEVEL).map(Bytes::from),
            Self::Plain => Ok(Bytes::copy_from_slice(tar)),
        }
    }

    fn unpack(self, blob: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip => {
                let mut tar = Vec::new();
                GzDecoder::new(blob).read_to_end(&mut tar)?;
                Ok(tar)
            }
            Self::Zstd => zstd::decode_all(blob),
            Self::Plain => Ok(blob.to_vec()),
        }
    }
}

fn tar_of(files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        append(&mut builder, path, content)?;
    }
    builder.into_inner()
}

/// Appends a regular file with the fixed mode, owner and time of all files here.
pub(super) fn append<W: Write>(builder: &mut tar::Builder<W>, path: &str, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MODIFIED);
    builder.append_data(&mut header, path, content)
}

fn gzip(bytes: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .operating_system(GZIP_SYSTEM_UNKNOWN)
        .write(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.into())
}

/// The time of modification of all files: 2024-01-01T00:00:00Z, in seconds.
const MODIFIED: u64 = 1_704_067_200;

/// RFC 1952, 2.3.1: the byte must not depend on the machine.
const GZIP_SYSTEM_UNKNOWN: u8 = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_diff_id_is_the_digest_of_the_uncompressed_tar() {
        let layer = Layer::of_files(&[("etc/motd", b"hello")]);
        let mut tar = Vec::new();
        GzDecoder::new(layer.blob().as_ref()).read_to_end(&mut tar).expect("gzip");
        assert_eq!(digest_of(&tar), layer.diff_id());
        assert_eq!(digest_of(layer.blob()), layer.digest());
    }

    #[test]
    fn another_packing_keeps_the_diff_id() {
        let layer = Layer::of_files(&[("etc/motd", b"hello")]);
        for packing in [Packing::Gzip, Packing::Zstd, Packing::Plain] {
            let repacked = layer.repacked(packing);
            assert_eq!(repacked.diff_id(), layer.diff_id());
            assert_eq!(repacked.digest() == layer.digest(), packing == Packing::Gzip);
            assert_eq!(repacked.file("etc/motd").as_deref(), Some(&b"hello"[..]));
        }
    }

    #[test]
    fn a_file_is_found_by_its_path_alone() {
        let layer = Layer::of_files(&[("etc/motd", b"hello"), ("etc/issue", b"there")]);
        assert_eq!(layer.file("etc/issue").as_deref(), Some(&b"there"[..]));
        assert_eq!(layer.file("etc/hosts"), None);
    }
}
