//! Generated files are up to date.
//!
//! `make generate` writes them: it runs these tests with `LAYERPIN_GENERATE=1`.

use std::collections::BTreeSet;

use layerpin_test_support::repository;

#[test]
fn generated_files_are_up_to_date() {
    let schema = layerpin::policy::file::schema();
    let mut files = vec![
        ("policies/RULES.md".to_owned(), layerpin::rules::page()),
        ("policies/policy.schema.json".to_owned(), format!("{schema:#}\n")),
    ];
    files.extend(manual());
    for (name, content) in files {
        let path = repository().join(&name);
        if std::env::var_os("LAYERPIN_GENERATE").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            continue;
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == content, "{name} is out of date; run `make generate`");
    }
}

#[test]
fn each_verb_has_a_man_page_and_each_man_page_a_verb() {
    if std::env::var_os("LAYERPIN_GENERATE").is_some() {
        // The other test is writing the pages.
        return;
    }
    let folder = repository().join("docs/man");
    let found: BTreeSet<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| format!("docs/man/{}", entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    let expected: BTreeSet<_> = manual().into_iter().map(|(name, _)| name).collect();
    assert_eq!(found, expected);
}

/// Returns the man pages: one for the program and one for each verb.
fn manual() -> Vec<(String, String)> {
    let mut command = <layerpin::cli::args::CommandLine as clap::CommandFactory>::command();
    command.build();
    let verbs: Vec<_> = command.get_subcommands().filter(|verb| verb.get_name() != "help").cloned().collect();
    let page = |command: clap::Command, name: &str| {
        let mut text = Vec::new();
        let source = concat!("layerpin ", env!("CARGO_PKG_VERSION"));
        clap_mangen::Man::new(command).title(name).source(source).render(&mut text).unwrap();
        (format!("docs/man/{name}.1"), String::from_utf8(text).unwrap())
    };
    let mut pages = vec![page(command.clone(), "layerpin")];
    pages.extend(verbs.into_iter().map(|verb| {
        let name = format!("layerpin-{}", verb.get_name());
        page(verb, &name)
    }));
    pages
}

#[test]
fn the_deployed_policy_is_the_recommended_policy() {
    let manifest = include_str!("../deploy/base/policy.yaml");
    let recommended = include_str!("../policies/recommended.yaml");
    let indented: String = recommended.lines().map(|line| format!("    {line}\n")).collect();
    let (_, deployed) = manifest.split_once("  policy.yaml: |\n").unwrap();
    assert_eq!(deployed, indented);
}

#[test]
fn each_policy_in_the_repository_is_valid_and_matches_the_schema() {
    let folder = repository().join("policies");
    let schema = layerpin::policy::file::schema();
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        layerpin::policy::Policy::parse(&text)
            .unwrap_or_else(|errors| panic!("{}: {errors}", path.display()));
        let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let errors: Vec<_> =
            jsonschema::validator_for(&schema).unwrap().iter_errors(&value).map(|e| e.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{}", path.display());
        read += 1;
    }
    assert_eq!(read, 3);
}
