//! Modules import only from the layers below them, so that there are no circles, and what decides about an
//! image needs no network, no clock and no files.
//!
//! Comments and unit tests do not count.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use layerpin_test_support::repository;

/// The modules of `src`, the lowest layer first. Modules of one layer do not import each other.
const LAYERS: &[&[&str]] = &[
    &["text", "errors", "duration", "bounded"],
    &["model"],
    &["catalog"],
    &["policy"],
    &["pools"],
    &["lineage"],
    &["messages", "pin"],
    &["rules"],
    &["evaluate"],
    &["manifests", "report"],
    &["explain"],
    &["reload", "atomic_file", "log"],
    &["metrics"],
    &["policy_store", "tls"],
    &["registry"],
    &["cluster"],
    &["sources"],
    &["engine"],
    &["admission"],
    &["server"],
    &["cli"],
];

/// What may not be found in the modules of [`PURE`].
const IMPURE: &[&str] = &[
    "tokio::",
    "reqwest::",
    "hyper::",
    "kube::",
    "std::net",
    "std::fs",
    "Timestamp::now",
    "Instant::now",
    "SystemTime::now",
];

/// The modules whose results depend on their arguments alone.
const PURE: &[&str] =
    &["model", "catalog", "policy", "rules", "lineage", "pools", "evaluate", "messages", "pin", "manifests"];

/// Exceptions: a file, and what it should not import.
const KNOWN: &[(&str, &str)] = &[];

#[test]
fn modules_import_only_from_lower_layers() {
    let mut found = BTreeSet::new();
    for path in rust_files(&repository().join("src")) {
        let name = path.strip_prefix(repository().join("src")).unwrap().to_str().unwrap().to_owned();
        let module = name.split(['/', '.']).next().unwrap();
        if ["lib", "main"].contains(&module) {
            continue;
        }
        let layer = layer(module).unwrap_or_else(|| panic!("give `{module}` its place in LAYERS"));
        let code = code(&std::fs::read_to_string(&path).unwrap());
        for import in code.split("crate::").skip(1) {
            let import = import
                .split(|character: char| character != '_' && !character.is_alphanumeric())
                .next()
                .unwrap();
            if import != module && self::layer(import).is_some_and(|other| other >= layer) {
                found.insert((name.clone(), import.to_owned()));
            }
        }
        if PURE.contains(&module) {
            let impure = IMPURE.iter().filter(|impure| code.contains(*impure));
            found.extend(impure.map(|impure| (name.clone(), (*impure).to_owned())));
        }
    }
    let known: BTreeSet<_> =
        KNOWN.iter().map(|(file, import)| ((*file).to_owned(), (*import).to_owned())).collect();
    let new: Vec<_> = found.difference(&known).collect();
    assert!(new.is_empty(), "imports from the same or a higher layer, or of the outside world: {new:#?}");
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(gone.is_empty(), "take these out of KNOWN: {gone:#?}");
}

#[test]
fn files_are_written_only_by_atomic_file() {
    // A file that is written in place is incomplete for a moment, or for good when the disk is full.
    let writes = ["fs::write", "File::create", "OpenOptions"];
    let files = rust_files(&repository().join("src")).into_iter().filter(|path| {
        let code = code(&std::fs::read_to_string(path).unwrap());
        writes.iter().any(|write| code.contains(write))
    });
    let expected = [repository().join("src/atomic_file.rs")];
    assert_eq!(files.collect::<Vec<_>>(), expected);
}

/// The position of a module in [`LAYERS`].
fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// A file without comments and without its module of unit tests, which is the last item.
fn code(text: &str) -> String {
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]");
    lines.filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn the_test_modules_and_comments_of_a_file_are_left_out() {
    let text = "use crate::text;\n//! crate::server\n    // crate::cli\n#[cfg(test)]\nmod tests { use crate::run; }\n";
    assert_eq!(code(text), "use crate::text;\n");
}
