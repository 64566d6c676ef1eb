//! Layers: one file from a compressed tar while it is downloaded.
//!
//! Owns the limits for a layer. Nothing is written to disk, and at most [`MEMORY`] is used for any layer. Blocks,
//! so it needs a thread for blocking work. Sources: the OCI image specification (`layer.md`), POSIX `pax`.

use std::io::{self, BufReader, Cursor, Read};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use tar::{EntryType, PaxExtensions};
use tokio::sync::mpsc;

use crate::bounded::ByteLimit;

/// What a layer does to a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LayerOutcome {
    /// It has the file, with this content.
    Holds(Vec<u8>),
    /// It removes the file of the layers below.
    Removes,
    /// It does not change the file.
    Unchanged,
}

/// Finds the regular file `path` in `layer`: a tar, plain or compressed with gzip or zstd.
///
/// Of several with the same name the last is used, as when a layer is unpacked. Fails with what is wrong with the
/// layer: a phrase about it.
pub(crate) fn find(path: &str, layer: impl Read) -> Result<LayerOutcome, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    let unpacked = unpack(layer).map_err(unreadable)?;
    let mut archive = tar::Archive::new(ByteLimit::new(unpacked, MAX_UNPACKED, "it unpacks to"));
    // Raw, because the archive would read names of any length into memory.
    let entries = archive.entries().map_err(unreadable)?.raw(true);
    let (mut effect, mut is_removed) = (LayerOutcome::Unchanged, false);
    let mut long_name: Option<Vec<u8>> = None;
    for (count, entry) in entries.enumerate() {
        let mut entry = entry.map_err(unreadable)?;
        if count == MAX_ENTRIES {
            return Err(format!("has more than {MAX_ENTRIES} entries"));
        }
        let kind = entry.header().entry_type();
        match kind {
            EntryType::XHeader => {
                let extension = read_entry(&mut entry, MAX_EXTENSION).map_err(unreadable)?;
                if let Some(name) = extended_name(&extension)? {
                    long_name = Some(name);
                }
                continue;
            }
            EntryType::GNULongName => {
                let mut name = read_entry(&mut entry, MAX_EXTENSION).map_err(unreadable)?;
                name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
                long_name = Some(name);
                continue;
            }
            EntryType::GNULongLink | EntryType::XGlobalHeader => continue,
            _ => {}
        }
        let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        let name = plain(&name);
        if name == path.as_bytes() {
            effect = match kind {
                EntryType::Regular | EntryType::Continuous => {
                    LayerOutcome::Holds(read_entry(&mut entry, MAX_FILE).map_err(unreadable)?)
                }
                _ => return Err(format!("has `{path}`, but not as a regular file")),
            };
        } else {
            is_removed |= removes(path.as_bytes(), name, kind);
        }
    }
    // A whiteout affects the layers below and not the files of its own layer.
    Ok(match (effect, is_removed) {
        (LayerOutcome::Unchanged, true) => LayerOutcome::Removes,
        (effect, _) => effect,
    })
}

/// The bytes of a layer, as they are downloaded.
pub(crate) struct LayerChunks {
    receiver: mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

impl LayerChunks {
    /// The chunks from `receiver`, until its sender is dropped.
    pub(crate) fn new(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self { receiver, chunk: Bytes::new() }
    }
}

impl Read for LayerChunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let amount = self.chunk.len().min(buffer.len());
        bytes::Buf::copy_to_slice(&mut self.chunk, &mut buffer[..amount]);
        Ok(amount)
    }
}

/// Decompresses by the first bytes, because media types are often wrong.
fn unpack<'a>(packed: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut packed = BufReader::new(packed);
    let mut start = Vec::with_capacity(MAGIC);
    packed.by_ref().take(MAGIC as u64).read_to_end(&mut start)?;
    let (is_gzip, is_zstd) = (start.starts_with(&GZIP), start.starts_with(&ZSTD));
    let packed = Cursor::new(start).chain(packed);
    Ok(if is_gzip {
        Box::new(MultiGzDecoder::new(packed))
    } else if is_zstd {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
        decoder.window_log_max(MAX_WINDOW_LOG)?;
        Box::new(decoder)
    } else {
        Box::new(packed)
    })
}

fn read_entry(entry: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    ByteLimit::new(entry, limit as u64, "an entry has").read_to_end(&mut content)?;
    Ok(content)
}

/// The name in an extended header, which replaces that of the next entry.
fn extended_name(extension: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut name = None;
    for record in PaxExtensions::new(extension) {
        let record = record.map_err(|error| format!("cannot be read: {error}"))?;
        match record.key_bytes() {
            b"path" => name = Some(record.value_bytes().to_vec()),
            // Only files of 8 GiB need it. Ignoring it would misplace the end of the entry.
            b"size" => return Err("has an entry with an extended size".to_owned()),
            _ => {}
        }
    }
    Ok(name)
}

/// The name, relative to the root.
fn plain(name: &[u8]) -> &[u8] {
    let mut name = name;
    loop {
        name = match name {
            [b'/', rest @ ..] | [b'.', b'/', rest @ ..] => rest,
            [rest @ .., b'/'] => rest,
            _ => return name,
        };
    }
}

/// Whether an entry removes `path` of the layers below: by a whiteout of the file or of a parent folder, by the mark
/// of an opaque parent folder, or as anything but a folder in place of a parent folder.
fn removes(path: &[u8], name: &[u8], kind: EntryType) -> bool {
    let (folder, file) =
        name.split_at(name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1));
    match file.strip_prefix(WHITEOUT) {
        Some(OPAQUE) => path.starts_with(folder),
        Some(hidden) => is_at_or_above(&[folder, hidden].concat(), path),
        None => kind != EntryType::Directory && is_at_or_above(name, path),
    }
}

fn is_at_or_above(place: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(place).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
}

/// The most memory for one layer: the window of zstd, the file while its buffer grows, an extended header, and the
/// buffers of the decompressors.
pub(crate) const MEMORY: usize = (1 << MAX_WINDOW_LOG) + 2 * MAX_FILE + MAX_EXTENSION + 1024 * 1024;
/// The largest window in images (the best compression of `containers/image`).
const MAX_WINDOW_LOG: u32 = 25;
/// `image-references` of a release with 200 components has 200 KB.
const MAX_FILE: usize = 4 * 1024 * 1024;
/// Names and attributes of one entry.
const MAX_EXTENSION: usize = 64 * 1024;
/// The manifests of a release unpack to some tens of megabytes.
const MAX_UNPACKED: u64 = 512 * 1024 * 1024;
/// A release has some thousand manifests; an operating system in one layer has more files than this.
const MAX_ENTRIES: usize = 100_000;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const MAGIC: usize = 4;
/// The start of the name of a whiteout, and the rest of the mark of an opaque folder.
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..opq";

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::Header;

    use super::*;

    const PATH: &str = "release-manifests/image-references";

    struct Tar(tar::Builder<Vec<u8>>);

    impl Tar {
        fn new() -> Self {
            Self(tar::Builder::new(Vec::new()))
        }

        fn entry(mut self, kind: EntryType, name: &str, content: &[u8]) -> Self {
            let mut header = Header::new_ustar();
            header.set_entry_type(kind);
            header.set_size(content.len() as u64);
            header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            self.0.append(&header, content).unwrap();
            self
        }

        fn file(self, name: &str, content: &[u8]) -> Self {
            self.entry(EntryType::Regular, name, content)
        }

        fn bytes(self) -> Vec<u8> {
            self.0.into_inner().unwrap()
        }
    }

    fn effect(tar: &[u8]) -> Result<LayerOutcome, String> {
        find(PATH, tar)
    }

    fn holds(content: &[u8]) -> Result<LayerOutcome, String> {
        Ok(LayerOutcome::Holds(content.to_vec()))
    }

    #[test]
    fn every_packing_is_known_by_its_first_bytes() {
        let tar = Tar::new().file("a", b"1").file(PATH, b"found").file("b", b"2").bytes();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&tar).unwrap();
        // A layer may be several members one after another.
        let (first, rest) = tar.split_at(700);
        let members = [first, rest].map(|part| {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(part).unwrap();
            gzip.finish().unwrap()
        });
        for packed in [
            gzip.finish().unwrap(),
            members.concat(),
            zstd::encode_all(&*tar, 3).unwrap(),
            [first, rest].map(|part| zstd::encode_all(part, 3).unwrap()).concat(),
            tar.clone(),
        ] {
            assert_eq!(effect(&packed), holds(b"found"));
        }
    }

    #[test]
    fn a_file_is_found_with_each_notation_of_its_name() {
        let long =
            |kind, name: &[u8]| Tar::new().entry(kind, "extension", name).file("short", b"found").bytes();
        let record = format!("{} path={PATH}\n", PATH.len() + "00 path=\n".len());
        for tar in [
            Tar::new().file("./release-manifests/image-references", b"found").bytes(),
            Tar::new().file("/release-manifests/image-references", b"found").bytes(),
            long(EntryType::GNULongName, format!("{PATH}\0").as_bytes()),
            long(EntryType::XHeader, record.as_bytes()),
        ] {
            assert_eq!(effect(&tar), holds(b"found"));
        }
        let elsewhere = Tar::new()
            .entry(EntryType::XHeader, "extension", b"18 path=elsewhere\n")
            .file(PATH, b"not this")
            .bytes();
        assert_eq!(effect(&elsewhere), Ok(LayerOutcome::Unchanged));
    }

    #[test]
    fn of_several_files_the_last_is_used() {
        let tar = Tar::new().file(PATH, b"first").file(PATH, b"last").bytes();
        assert_eq!(effect(&tar), holds(b"last"));
    }

    #[test]
    fn whiteouts_affect_the_layers_below() {
        for name in [
            "release-manifests/.wh.image-references",
            "release-manifests/.wh..wh..opq",
            ".wh.release-manifests",
            ".wh..wh..opq",
            "./.wh.release-manifests",
        ] {
            assert_eq!(effect(&Tar::new().file(name, b"").bytes()), Ok(LayerOutcome::Removes), "{name}");
            let beside = Tar::new().file(PATH, b"found").file(name, b"").bytes();
            assert_eq!(effect(&beside), holds(b"found"), "{name}");
        }
        let folder = |kind| Tar::new().entry(kind, "release-manifests", b"").bytes();
        assert_eq!(effect(&folder(EntryType::Symlink)), Ok(LayerOutcome::Removes));
        assert_eq!(effect(&folder(EntryType::Directory)), Ok(LayerOutcome::Unchanged));
        for name in ["release-manifests/.wh.other", ".wh.other", "usr/.wh..wh..opq"] {
            assert_eq!(effect(&Tar::new().file(name, b"").bytes()), Ok(LayerOutcome::Unchanged), "{name}");
        }
    }

    #[test]
    fn entries_beyond_the_limits_are_refused() {
        let big = vec![0; MAX_FILE + 1];
        let entry_of = |limit: usize| Err(format!("cannot be read: an entry has more than {limit} bytes"));
        assert_eq!(effect(&Tar::new().file(PATH, &big).bytes()), entry_of(MAX_FILE));
        for kind in [EntryType::XHeader, EntryType::GNULongName] {
            let tar = Tar::new().entry(kind, "extension", &big[..=MAX_EXTENSION]).bytes();
            assert_eq!(effect(&tar), entry_of(MAX_EXTENSION));
        }
        let size = Tar::new().entry(EntryType::XHeader, "extension", b"10 size=1\n").bytes();
        assert_eq!(effect(&size), Err("has an entry with an extended size".into()));
        let link = Tar::new().entry(EntryType::Symlink, PATH, b"").bytes();
        let no_file = "has `release-manifests/image-references`, but not as a regular file";
        assert_eq!(effect(&link), Err(no_file.into()));
    }

    #[test]
    fn a_layer_with_too_many_entries_is_refused() {
        let mut tar = Tar::new();
        for _ in 0..=MAX_ENTRIES {
            tar = tar.file("a", b"");
        }
        assert_eq!(effect(&tar.bytes()), Err("has more than 100000 entries".into()));
    }

    #[test]
    fn a_layer_that_decompresses_without_end_is_refused() {
        let mut header = Header::new_ustar();
        header.set_path("zeros").unwrap();
        header.set_size(MAX_UNPACKED * 4);
        header.set_cksum();
        let endless = header.as_bytes().chain(io::repeat(0));
        let bomb = zstd::stream::read::Encoder::new(endless.take(MAX_UNPACKED + 1), 1).unwrap();
        assert_eq!(
            find(PATH, io::BufReader::new(bomb)),
            Err("cannot be read: it unpacks to more than 536870912 bytes".into())
        );
    }

    #[test]
    fn a_window_that_needs_too_much_memory_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(MAX_WINDOW_LOG + 1).unwrap();
        encoder.write_all(&Tar::new().file(PATH, b"found").bytes()).unwrap();
        let packed = encoder.finish().unwrap();
        let reason = effect(&packed).unwrap_err();
        assert!(reason.contains("Frame requires too much memory"), "{reason}");
    }

    #[test]
    fn a_truncated_layer_is_an_error_and_one_without_the_file_is_not() {
        let tar = Tar::new().file("a", &[b'x'; 2000]).file(PATH, b"found").bytes();
        let packed = zstd::encode_all(&*tar, 3).unwrap();
        assert!(effect(&tar[..1000]).is_err());
        assert!(effect(&packed[..packed.len() - 8]).is_err());
        assert!(effect(&[b'x'; 1024]).is_err());
        assert_eq!(effect(b""), Ok(LayerOutcome::Unchanged));
    }

    #[test]
    fn chunks_are_read_as_one_stream() {
        let tar = Tar::new().file(PATH, b"found").bytes();
        let (sender, receiver) = mpsc::channel(2);
        let reading = std::thread::spawn(|| find(PATH, LayerChunks::new(receiver)));
        for chunk in tar.chunks(3) {
            // The reader stops at the end of the archive, before its padding.
            let _ = sender.blocking_send(Bytes::copy_from_slice(chunk));
        }
        drop(sender);
        assert_eq!(reading.join().unwrap(), holds(b"found"));
    }
}
