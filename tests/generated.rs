//! Files that are generated from the code are as the code would make them now.
//!
//! `make generate` makes them again: it runs this test with `LAYERPIN_GENERATE=1`, which writes the
//! files instead of comparing them.

use std::path::Path;

#[test]
fn generated_files_are_fresh() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = layerpin::policy::file::schema();
    let files = [
        ("policies/RULES.md", layerpin::rules::page()),
        ("policies/policy.schema.json", format!("{schema:#}\n")),
    ];
    for (name, content) in files {
        let path = repository.join(name);
        if std::env::var_os("LAYERPIN_GENERATE").is_some() {
            std::fs::write(&path, content).unwrap();
            continue;
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == content, "{name} is stale; make it again with `make generate`");
    }
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
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
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
