//! From paths on a command line to texts: files, folders, standard input.
//!
//! Owns which files of a folder are read, in which order, and what is refused: a text that is too large or
//! not UTF-8. An unreadable file does not keep the others from being read. [`crate::manifests`] parses the
//! texts.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use ignore::WalkBuilder;

use crate::errors;
use crate::manifests::{DocumentFault, FileSelection};
use crate::model::machine_config::Position;
pub use crate::report::ReadError;

/// Files of more bytes than this are refused. A MachineConfig is at most 1.5 MiB, the limit of etcd,
/// so this is room for a dump of every MachineConfig of a large cluster.
pub const MAX_BYTES: u64 = 64 << 20;

/// The name of standard input in messages.
pub const STANDARD_INPUT: &str = "<stdin>";

/// A text to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Standard input.
    Standard,
    /// A file that was named.
    Named(PathBuf),
    /// A file that was found in a folder that was named.
    Found(PathBuf),
}

impl ReadError {
    /// A part of `file` that could not be read.
    pub fn of(file: &str, fault: DocumentFault) -> Self {
        Self {
            file: file.to_owned(),
            position: fault.position,
            help: Some(fault.help().to_owned()),
            message: fault.message,
        }
    }
}

/// Finds the inputs that `paths` name, in their order; the files of a folder sorted by name. An input that
/// is named twice is returned once.
///
/// A file that is named, and `-` for standard input, is read whatever its name is. In a folder, files that
/// end in `.yaml`, `.yml` or `.json` are read, hidden ones too, because Git tracks them like any other.
/// Skipped are files that Git ignores, `.git` itself, and names that begin with `..`, which the kubelet
/// creates in a mounted ConfigMap. Links to files are followed. Links to folders are not: their files are in
/// the tree already, or outside it.
pub fn find(paths: &[PathBuf]) -> (Vec<Input>, Vec<ReadError>) {
    let mut inputs = Vec::new();
    let mut unread = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            inputs.push(Input::Standard);
        } else if path.is_dir() {
            walk(path, &mut inputs, &mut unread);
        } else {
            inputs.push(Input::Named(plain(path)));
        }
    }
    let mut seen = HashSet::new();
    inputs.retain(|input| seen.insert(input.path().map(Path::to_owned)));
    (inputs, unread)
}

impl Input {
    /// Its name in messages: the path as it was named or found, without a leading `./`.
    pub fn name(&self) -> String {
        match self {
            Self::Standard => STANDARD_INPUT.to_owned(),
            Self::Named(path) | Self::Found(path) => name(path),
        }
    }

    /// The path. Standard input has none.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Standard => None,
            Self::Named(path) | Self::Found(path) => Some(path),
        }
    }

    /// The command that pins the images of the file, quoted for a shell. Standard input has none.
    pub fn pin_command(&self) -> Option<String> {
        let file = name(self.path()?);
        let is_plain = |character: char| character.is_alphanumeric() || "/._-+=:,@%".contains(character);
        let argument = match file.chars().all(is_plain) {
            true => file.clone(),
            false => format!("'{}'", file.replace('\'', "'\\''")),
        };
        // An argument that begins with a hyphen would be read as an option.
        let end_of_options = if file.starts_with('-') { "-- " } else { "" };
        Some(format!("layerpin pin --write {end_of_options}{argument}"))
    }

    /// How it was selected, which decides the severity of a fault in it.
    pub fn selection(&self) -> FileSelection {
        match self {
            Self::Standard | Self::Named(_) => FileSelection::ByName,
            Self::Found(path) if ends_in(path, "json") => FileSelection::InFolderAsJson,
            Self::Found(_) => FileSelection::InFolder,
        }
    }

    /// Reads the whole text. Fails when it is larger than [`MAX_BYTES`] or not UTF-8.
    pub fn read(&self) -> Result<String, ReadError> {
        let refusal = |position, message: String, help: Option<&str>| ReadError {
            file: self.name(),
            position,
            message,
            help: help.map(str::to_owned),
        };
        let bytes = self.bytes().map_err(|error| refusal(None, errors::words(&error), None))?;
        let Some(bytes) = bytes else {
            let message = format!("larger than {} MiB, the limit for one file", MAX_BYTES >> 20);
            return Err(refusal(None, message, Some("split or exclude the file")));
        };
        if is_utf_16(&bytes) {
            return Err(refusal(None, "the text is UTF-16".to_owned(), Some(SAVE_AS_UTF_8)));
        }
        String::from_utf8(bytes).map_err(|error| {
            let (valid, rest) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
            let byte = rest.first().copied().unwrap_or_default();
            refusal(Some(end_of(valid)), format!("not UTF-8: byte 0x{byte:02x}"), Some(SAVE_AS_UTF_8))
        })
    }

    /// The bytes of the text. `None` when there are more than [`MAX_BYTES`].
    fn bytes(&self) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        match self.path() {
            None => io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes)?,
            Some(path) => {
                let file = File::open(path)?;
                let size = file.metadata()?.len();
                if size > MAX_BYTES {
                    return Ok(None);
                }
                bytes.reserve_exact(usize::try_from(size).unwrap_or_default());
                file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?
            }
        };
        Ok((bytes.len() as u64 <= MAX_BYTES).then_some(bytes))
    }

    /// The size of the file in bytes; zero where the file system does not report it.
    fn size(&self) -> u64 {
        self.path().and_then(|path| path.metadata().ok()).map_or(0, |metadata| metadata.len())
    }
}

/// Runs `work` on every input, in parallel on a few threads, and returns the results in the order of the
/// inputs. Only one large file is processed at a time, to bound memory.
///
/// `done` counts the inputs that are processed, for a progress bar.
pub fn side_by_side<T: Send>(
    inputs: &[Input],
    done: &AtomicUsize,
    work: impl Fn(&Input) -> T + Sync,
) -> Vec<T> {
    let queue = Mutex::new(inputs.iter().enumerate());
    let (large, results) = (Mutex::new(()), Mutex::new(BTreeMap::new()));
    // The queue is not locked while an input is processed.
    let next = || lock(&queue).next();
    let take = || {
        while let Some((index, input)) = next() {
            let result = {
                let _turn = (input.size() > LARGE).then(|| lock(&large));
                work(input)
            };
            lock(&results).insert(index, result);
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(inputs.len());
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(take))));
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// A thread that panics ends the run, so that what it left half done does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn walk(folder: &Path, inputs: &mut Vec<Input>, unread: &mut Vec<ReadError>) {
    let entries = WalkBuilder::new(folder)
        .hidden(false)
        // `.ignore` is for search tools; it does not say what belongs to the repository.
        .ignore(false)
        .filter_entry(|entry| {
            let name = entry.file_name().as_encoded_bytes();
            entry.depth() == 0 || !(name == b".git" || name.starts_with(b".."))
        })
        .sort_by_file_name(std::ffi::OsStr::cmp)
        .build();
    for entry in entries {
        match entry {
            Ok(entry) => {
                let path = entry.path();
                let is_file = || match entry.file_type() {
                    // A broken link is kept, so that reading it reports an error.
                    Some(kind) if kind.is_symlink() => path.metadata().map_or(true, |found| found.is_file()),
                    kind => kind.is_some_and(|kind| kind.is_file()),
                };
                if ENDINGS.iter().any(|ending| ends_in(path, ending)) && is_file() {
                    inputs.push(Input::Found(plain(path)));
                }
            }
            Err(error) => unread.push(walk_fault(folder, &error)),
        }
    }
}

/// Tells whether the name of a file ends so.
fn ends_in(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|own| own.eq_ignore_ascii_case(ending))
}

fn walk_fault(folder: &Path, error: &ignore::Error) -> ReadError {
    fn path_of(error: &ignore::Error) -> Option<&Path> {
        match error {
            ignore::Error::WithPath { path, .. } => Some(path),
            ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => path_of(err),
            _ => None,
        }
    }
    let path = path_of(error).unwrap_or(folder);
    // The innermost message is that of the system; the outer ones repeat the path.
    let message = error.io_error().map_or_else(|| error.to_string(), |error| errors::innermost(error));
    ReadError { file: name(path), position: None, message, help: None }
}

/// Tells whether a text is UTF-16: by its byte order mark, or by its first characters, of which every other
/// byte is zero.
fn is_utf_16(bytes: &[u8]) -> bool {
    let begins_with_mark = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    begins_with_mark || matches!(bytes, [a, 0, b, 0, ..] | [0, a, 0, b, ..] if *a != 0 && *b != 0)
}

/// The position after `text`, which is UTF-8.
fn end_of(text: &[u8]) -> Position {
    let before = String::from_utf8_lossy(text);
    let last = before.rsplit('\n').next().unwrap_or_default();
    Position { line: before.split('\n').count() as u64, column: last.chars().count() as u64 + 1 }
}

/// The path without a leading `./`.
fn plain(path: &Path) -> PathBuf {
    let short = path.strip_prefix(".").ok().filter(|short| !short.as_os_str().is_empty());
    short.unwrap_or(path).to_owned()
}

fn name(path: &Path) -> String {
    plain(path).to_string_lossy().into_owned()
}

const SAVE_AS_UTF_8: &str = "save the file as UTF-8";
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
/// More threads do not help: the disk and memory are the limit.
const MAX_THREADS: usize = 8;
/// Files of more bytes than this are processed one at a time.
const LARGE: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(paths: &[&Path]) -> (Vec<String>, Vec<String>) {
        let paths: Vec<_> = paths.iter().map(|path| path.to_path_buf()).collect();
        let (inputs, unread) = find(&paths);
        (inputs.iter().map(Input::name).collect(), unread.iter().map(ToString::to_string).collect())
    }

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    fn below(folder: &Path, names: &[&str]) -> Vec<String> {
        names.iter().map(|name| folder.join(name).to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn yaml_and_json_in_a_folder_are_found_in_the_order_of_names() {
        let folder = tree(&[
            "b.yaml",
            "a/z.yml",
            "a/B.JSON",
            "a.yaml",
            "notes.txt",
            ".hidden/x.yaml",
            ".git/config.yaml",
            "..2026/y.yaml",
        ]);
        let folder = folder.path();
        let expected = below(folder, &[".hidden/x.yaml", "a/B.JSON", "a/z.yml", "a.yaml", "b.yaml"]);
        assert_eq!(names(&[folder]), (expected, vec![]));
    }

    #[test]
    fn files_that_git_ignores_are_skipped_unless_they_are_named() {
        let folder = tree(&[".git/HEAD", "a.yaml", "out/b.yaml", "sub/c.yaml", "sub/d.yaml"]);
        let folder = folder.path();
        std::fs::write(folder.join(".gitignore"), "out/\n").unwrap();
        std::fs::write(folder.join("sub/.gitignore"), "c.yaml\n").unwrap();
        std::fs::write(folder.join(".ignore"), "a.yaml\n").unwrap();
        assert_eq!(names(&[folder]).0, below(folder, &["a.yaml", "sub/d.yaml"]));
        // From inside a folder of the repository the rules above it count too.
        assert_eq!(names(&[&folder.join("sub")]).0, below(folder, &["sub/d.yaml"]));
        let named = folder.join("out/b.yaml");
        assert_eq!(
            names(&[&named, folder, &named]).0,
            below(folder, &["out/b.yaml", "a.yaml", "sub/d.yaml"])
        );
        // No repository, nothing that Git ignores.
        std::fs::remove_dir_all(folder.join(".git")).unwrap();
        assert_eq!(names(&[folder]).0.len(), 4);
    }

    #[test]
    fn links_to_files_are_read_and_loops_end() {
        let folder = tree(&["real/a.yaml"]);
        let folder = folder.path();
        symlink("real/a.yaml", folder.join("link.yaml")).unwrap();
        symlink(".", folder.join("loop")).unwrap();
        symlink("self.yaml", folder.join("self.yaml")).unwrap();
        symlink("real", folder.join("folder.yaml")).unwrap();
        let (found, unread) = names(&[folder]);
        assert_eq!((found, unread.len()), (below(folder, &["link.yaml", "real/a.yaml", "self.yaml"]), 0));
        let fault = Input::Named(folder.join("self.yaml")).read().unwrap_err();
        assert_eq!(fault.message, "Too many levels of symbolic links");
        // A link that is named is followed.
        assert_eq!(names(&[&folder.join("loop/real")]).0, below(folder, &["loop/real/a.yaml"]));
        assert_eq!(names(&[&folder.join("folder.yaml")]).0, below(folder, &["folder.yaml/a.yaml"]));
    }

    #[test]
    fn a_mounted_config_map_is_read_once() {
        let folder = tree(&["..2026_01_15/worker.yaml"]);
        let folder = folder.path();
        symlink("..2026_01_15", folder.join("..data")).unwrap();
        symlink("..data/worker.yaml", folder.join("worker.yaml")).unwrap();
        assert_eq!(names(&[folder]).0, below(folder, &["worker.yaml"]));
    }

    #[test]
    fn unreadable_files_are_named_with_the_position() {
        let folder = tree(&[]);
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            Input::Named(path)
        };
        let large = write("large.yaml", b"");
        File::options()
            .write(true)
            .open(folder.path().join("large.yaml"))
            .unwrap()
            .set_len(MAX_BYTES + 1)
            .unwrap();
        for (input, position, message) in [
            (write("a.yaml", b"ok: 1\n\xc3\xa4\xff"), Some((2, 2)), "not UTF-8: byte 0xff"),
            (write("b.yaml", b"\xff\xfea\0"), None, "the text is UTF-16"),
            (write("c.yaml", b"k\0i\0n\0d\0"), None, "the text is UTF-16"),
            (write("d.yaml", b"\0k\0i\0n\0d"), None, "the text is UTF-16"),
            (large, None, "larger than 64 MiB, the limit for one file"),
            (Input::Named(folder.path().join("gone.yaml")), None, "No such file or directory"),
            (Input::Named(folder.path().to_owned()), None, "Is a directory"),
        ] {
            let Err(ReadError { position: found, message: said, .. }) = input.read() else {
                panic!("{message}")
            };
            assert_eq!((found.map(|at| (at.line, at.column)), said.as_str()), (position, message));
        }
    }

    #[test]
    fn a_file_that_is_deleted_after_it_was_found_is_named() {
        let folder = tree(&["a.yaml", "b.yaml"]);
        let (inputs, unread) = find(&[folder.path().to_owned()]);
        assert_eq!((inputs.len(), unread.len()), (2, 0));
        std::fs::remove_file(folder.path().join("a.yaml")).unwrap();
        let read: Vec<_> = inputs.iter().map(Input::read).collect();
        let error = read[0].as_ref().unwrap_err().to_string();
        assert_eq!(error, format!("{}: No such file or directory", inputs[0].name()));
        assert_eq!(read[1].as_deref().unwrap(), "");
    }

    #[test]
    fn the_command_that_pins_can_be_pasted_into_a_shell() {
        for (file, command) in [
            ("manifests/worker.yaml", "layerpin pin --write manifests/worker.yaml"),
            ("a b/it's.yaml", "layerpin pin --write 'a b/it'\\''s.yaml'"),
            ("-x.yaml", "layerpin pin --write -- -x.yaml"),
        ] {
            assert_eq!(Input::Named(file.into()).pin_command().as_deref(), Some(command));
        }
        assert_eq!(Input::Standard.pin_command(), None);
    }

    #[test]
    fn control_characters_in_names_are_escaped() {
        let input = Input::Named(PathBuf::from("./a\u{1b}[31m.yaml"));
        assert_eq!(input.read().unwrap_err().to_string(), "a\\u{1b}[31m.yaml: No such file or directory");
    }

    #[test]
    fn results_are_in_the_order_of_the_inputs() {
        let inputs: Vec<_> = (0..1000).map(|index| Input::Named(PathBuf::from(index.to_string()))).collect();
        let done = AtomicUsize::new(0);
        let names: Vec<_> = inputs.iter().map(Input::name).collect();
        assert_eq!(side_by_side(&inputs, &done, Input::name), names);
        assert_eq!(done.into_inner(), 1000);
    }
}
