//! Pages name tests, messages and alerts that exist.

use std::collections::BTreeSet;
use std::path::Path;

use layerpin_test_support::repository;

#[test]
fn each_row_of_the_page_on_registries_names_tests_that_exist() {
    assert_eq!(rows_without_tests("docs/registries.md", 20), [""; 0]);
}

#[test]
fn each_row_of_the_page_on_failures_names_tests_that_exist() {
    assert_eq!(rows_without_tests("docs/failures.md", 50), [""; 0]);
}

/// Returns the errors in the last column of the tables of `page`, which must have more than `least` rows.
fn rows_without_tests(page: &str, least: usize) -> Vec<String> {
    let page = read(page);
    let mut wrong = Vec::new();
    let rows = rows(&page);
    assert!(rows.len() > least, "only {} rows were found", rows.len());
    for cells in rows {
        let (setting, tests) = (cells[0], *cells.last().unwrap());
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
    wrong
}

/// Returns the cells of the rows of all tables whose last column is `test`.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let lines = page.lines().filter(|line| line.starts_with("| "));
    let rows = lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>());
    rows.filter(|cells| *cells.last().unwrap() != "test").collect()
}

#[test]
fn the_program_prints_the_messages_of_the_page_on_failures() {
    let page = read("docs/failures.md");
    let messages = rows(&page).into_iter().flat_map(|cells| quoted(cells[1]));
    assert_eq!(not_printed(messages), [""; 0]);
}

#[test]
fn the_program_prints_the_reasons_of_the_page_on_lineage() {
    let page = read("docs/lineage.md");
    let results = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let reasons: Vec<_> = results.flat_map(|result| result.split('*').skip(1).step_by(2)).collect();
    assert!(reasons.len() > 10, "{reasons:?}");
    assert_eq!(not_printed(reasons.into_iter()), [""; 0]);
}

/// Returns the parts of `messages` that are in no source file. `…` stands for text that differs.
fn not_printed<'a>(messages: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut texts = String::new();
    for folder in ["src", "tests", "deploy"] {
        gather(&repository().join(folder), &mut texts);
    }
    let texts = as_it_prints(&texts);
    let mut missing = Vec::new();
    for message in messages {
        for piece in message.split('…').filter(|piece| !texts.contains(&as_it_prints(piece))) {
            missing.push(format!("`{piece}` of `{message}`"));
        }
    }
    missing
}

/// Collects the text of all files that can contain messages.
fn gather(folder: &Path, texts: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, texts);
        } else if path.extension().is_some_and(|name| name == "rs" || name == "yaml")
            && path != repository().join("tests/docs.rs")
        {
            texts.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// Joins strings that span several lines of source, and removes quotation marks, which the page and the program
/// use for different things.
fn as_it_prints(text: &str) -> String {
    let mut joined = String::new();
    for line in text.split("\\\n") {
        joined.push_str(if joined.is_empty() { line } else { line.trim_start() });
    }
    joined.chars().filter(|character| !matches!(character, '`' | '"' | '\\')).collect()
}

#[test]
fn the_runbook_of_each_alert_is_a_section_that_names_it() {
    let rules = read("deploy/openshift/prometheus_rule.yaml");
    let page = read("docs/failures.md");
    let names: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let links: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("runbook: ")).collect();
    assert!(names.len() >= 4 && names.len() == links.len(), "{names:?} {links:?}");
    for (name, link) in names.iter().zip(links) {
        let section = link.strip_prefix("docs/failures.md#").unwrap();
        let heading = section.replace('-', " ");
        let part = page.split("\n## ").find(|part| part.lines().next().unwrap().to_lowercase() == heading);
        let part = part.unwrap_or_else(|| panic!("{name}: there is no section `{section}`"));
        assert!(part.contains(&format!("`{name}`")), "{name} is not in the section `{section}`");
    }
}

fn has_tests(text: &str) -> bool {
    text.contains("#[test]") || text.contains("#[tokio::test")
}

/// Returns whether `text` has a test of this name.
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

/// Returns the parts of `text` between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn a_function_that_is_not_a_test_does_not_count() {
    let text = "#[tokio::test(flavor = \"multi_thread\")]\nasync fn one() {}\n\nfn two() {}\n#[test]\nfn three() {}\n";
    let found = ["one", "two", "three", "four"].map(|name| is_test_of(text, name));
    assert_eq!(found, [true, false, true, false]);
}
