//! No credential is in anything that a full run of the suites printed: the traces of every process that
//! ran a server of the sample registry, the output of the tests and of the programs that they started,
//! and the answers of the webhooks and of `kubectl`. `tests/printed.sh` runs the suites, keeps all that,
//! and then this.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every credential in `text`, as the number of its line. Words of several lines cannot be found.
fn lines_with<'a>(text: &'a [u8], secrets: &'a BTreeSet<Vec<u8>>) -> impl Iterator<Item = usize> + 'a {
    // Credentials are looked for whole, so it is enough to try where one can begin.
    let begins: [Vec<&[u8]>; 256] = std::array::from_fn(|byte| {
        secrets.iter().map(Vec::as_slice).filter(|secret| usize::from(secret[0]) == byte).collect()
    });
    text.split(|byte| *byte == b'\n').enumerate().filter_map(move |(number, line)| {
        let is_at =
            |at: usize| begins[usize::from(line[at])].iter().any(|secret| line[at..].starts_with(secret));
        (0..line.len()).any(is_at).then_some(number + 1)
    })
}

fn kept() -> Option<PathBuf> {
    let folder = std::env::var_os("LAYERPIN_PRINTED").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: nothing is kept without LAYERPIN_PRINTED; `make test` and `make e2e` run this");
    }
    folder
}

fn secrets(folder: &Path) -> BTreeSet<Vec<u8>> {
    let text = std::fs::read(folder.join("secrets.txt")).unwrap();
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
}

#[test]
fn no_credential_is_in_anything_that_the_suites_printed() {
    let Some(folder) = kept() else { return };
    let secrets = secrets(&folder);
    let mut found = Vec::new();
    let mut names = Vec::new();
    let mut traced = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let text = std::fs::read(&path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        traced += if name.starts_with("traces-") { text.len() } else { 0 };
        // Not the line itself: this is printed, too.
        found.extend(lines_with(&text, &secrets).map(|line| format!("{}:{line}", path.display())));
        names.push(name);
    }
    assert_eq!(found, [""; 0], "credentials were printed");
    // What was looked at is what it is said to be.
    for name in ["programs", "answers", "output"] {
        assert!(names.iter().any(|found| found.starts_with(name)), "{name} is missing among {names:?}");
    }
    let (least_secrets, least_traced) = least(&folder);
    assert!(secrets.len() > least_secrets, "{} credentials are few for a full run", secrets.len());
    assert!(traced > least_traced, "{traced} bytes of traces are few for a full run");
}

/// How many credentials and bytes of traces a full run has at least, by the name of its folder.
fn least(folder: &Path) -> (usize, usize) {
    match folder.file_name().and_then(|name| name.to_str()) {
        Some("test") => (50, 1_000_000),
        Some("e2e") => (10, 1_000_000),
        other => panic!("there is no run called {other:?}"),
    }
}

#[test]
fn credentials_are_found_wherever_they_stand_in_a_line() {
    let secrets = BTreeSet::from([b"s3cr3t-word".to_vec(), b"YWxpY2U6czNjcjN0LXdvcmQ=".to_vec()]);
    let text = b"a word\nat the end s3cr3t-word\nBasic YWxpY2U6czNjcjN0LXdvcmQ=, and more\ns3cr3t-wor\n\xffs3cr3t-words";
    assert_eq!(lines_with(text, &secrets).collect::<Vec<_>>(), [2, 3, 5]);
}
