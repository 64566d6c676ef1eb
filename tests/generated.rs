//! Files that are generated from the code are as the code would make them now.
//!
//! `make generate` makes them again: it runs this test with `LAYERPIN_GENERATE=1`, which writes the
//! files instead of comparing them.

use std::collections::BTreeSet;

use layerpin_test_support::repository;

#[test]
fn generated_files_are_fresh() {
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
        assert!(found == content, "{name} is stale; make it again with `make generate`");
    }
}

#[test]
fn every_verb_has_its_page_in_the_manual_and_every_page_its_verb() {
    if std::env::var_os("LAYERPIN_GENERATE").is_some() {
        // The pages are being written by the test beside this one.
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

/// The pages of the manual: one of the program, one of each verb.
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
fn the_deployed_policy_is_the_recommended_one() {
    let manifest = include_str!("../deploy/base/policy.yaml");
    let recommended = include_str!("../policies/recommended.yaml");
    let indented: String = recommended.lines().map(|line| format!("    {line}\n")).collect();
    let (_, deployed) = manifest.split_once("  policy.yaml: |\n").unwrap();
    assert_eq!(deployed, indented);
}

#[test]
fn every_policy_that_is_shipped_fits_the_schema_and_is_read() {
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
