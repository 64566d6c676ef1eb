//! What the documentation says of the repository is so.

use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn every_row_about_registries_names_tests_that_exist() {
    let mut rows = 0;
    let mut wrong = Vec::new();
    for line in read("docs/registries.md").lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let (setting, tests) = (cells[0], *cells.last().unwrap());
        if tests == "test" {
            continue;
        }
        rows += 1;
        let named = quoted(tests);
        if named.is_empty() {
            wrong.push(format!("{setting}: names no test"));
        }
        let files: BTreeSet<_> = named.iter().copied().filter(|name| name.contains('/')).collect();
        if files.is_empty() {
            wrong.push(format!("{setting}: names no file"));
        }
        for file in &files {
            if !repository().join(file).exists() {
                wrong.push(format!("{setting}: there is no `{file}`"));
            } else if file.ends_with(".rs") && !has_tests(&read(file)) {
                wrong.push(format!("{setting}: there is no test in `{file}`"));
            }
        }
        for test in named.iter().filter(|name| !name.contains('/')) {
            // The file stands behind the tests in it, in brackets.
            let (_, behind) = tests.split_once(&format!("`{test}`")).unwrap();
            let Some(file) = quoted(behind).into_iter().find(|name| name.contains('/')) else {
                wrong.push(format!("{setting}: no file is named for `{test}`"));
                continue;
            };
            let is_test = is_test_of(&read(file), test);
            if !is_test {
                wrong.push(format!("{setting}: there is no test `{test}` in `{file}`"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert!(rows > 20, "only {rows} rows were found");
}

fn has_tests(text: &str) -> bool {
    text.contains("#[test]") || text.contains("#[tokio::test")
}

/// Tells whether `text` has a function of that name which is a test.
fn is_test_of(text: &str, name: &str) -> bool {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(index, line)| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.starts_with(&format!("fn {name}("))
            && lines[..index]
                .iter()
                .rev()
                .take_while(|before| before.starts_with("#["))
                .any(|before| before.starts_with("#[test]") || before.starts_with("#[tokio::test"))
    })
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_function_that_is_no_test_does_not_count() {
    let text = "#[tokio::test(flavor = \"multi_thread\")]\nasync fn one() {}\n\nfn two() {}\n#[test]\nfn three() {}\n";
    let found = ["one", "two", "three", "four"].map(|name| is_test_of(text, name));
    assert_eq!(found, [true, false, true, false]);
}
