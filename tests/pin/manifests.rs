//! A hundred manifests in the styles that people write them, each with what becomes of it.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use layerpin::manifests;
use layerpin::model::digest::Digest;
use layerpin::model::facts::{Fact, Facts, Manifest, ManifestKind};
use layerpin::model::image_reference::ImageReference;
use layerpin::model::machine_config::Field;
use layerpin::model::pull_spec::PullSpec;
use layerpin::pin;
use layerpin::policy::Policy;
use serde_json::{Value, json};
use serde_saphyr::options::DuplicateKeyPolicy;

use crate::program::Workplace;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn each_manifest_gets_the_expected_result() {
    let workplace = Workplace::new();
    copy(&workplace);
    let diff = workplace.pin(&["--facts", "facts.json", "manifests"]);
    let check = workplace.pin(&["--facts", "facts.json", "--check", "manifests"]);
    assert_eq!((diff.status, check.status), (2, 2));
    // The words are the same, but that a check has the changes for its data.
    let mut lines: Vec<_> = check.output.lines().chain(check.error.lines()).collect();
    let mut words: Vec<_> = diff.error.lines().collect();
    lines.sort_unstable();
    words.sort_unstable();
    assert_eq!(lines, words);
    insta::assert_snapshot!("words", diff.error);
    insta::assert_snapshot!("diff", diff.output);
}

#[test]
fn each_manifest_is_the_same_except_for_its_pins() {
    let workplace = Workplace::new();
    copy(&workplace);
    let before = texts();
    workplace.pin(&["--facts", "facts.json", "--write", "manifests"]);
    let policy = Policy::recommended();
    let mut changed = 0;
    for (name, text) in before {
        let after = fs::read_to_string(workplace.path("manifests").join(&name)).unwrap();
        if after == text {
            continue;
        }
        changed += 1;
        // Another parser reads both, and the patch that the webhook would make leads from one to the other.
        let read = manifests::read(&text);
        let patches = read.documents.iter().map(|document| {
            let plan = pin::plan(&document.subject, &facts(), &policy);
            (document.subject.name.clone(), plan.patch())
        });
        let mut expected = parsed(&text);
        for (object, patch) in patches {
            let found = expected
                .iter_mut()
                .find_map(|value| find(value, &object))
                .unwrap_or_else(|| panic!("{name}"));
            json_patch::patch(found, &patch).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert_eq!(parsed(&after), expected, "{name}");
    }
    assert!(changed > 80, "{changed}");
    let again = workplace.pin(&["--facts", "facts.json", "--write", "manifests"]);
    assert!(!again.error.contains(": pinned "), "{}", again.error);
}

/// Every document of a text, by another parser. The texts in ConfigMaps, Secrets and kustomizations are
/// taken for documents.
fn parsed(text: &str) -> Vec<Value> {
    let text = text.trim_start_matches('\u{feff}');
    let mut values: Vec<Value> = match serde_json::Deserializer::from_str(text).into_iter().collect() {
        Ok(values) => values,
        Err(_) => {
            // One manifest has a key twice, in a part that nobody judges.
            let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
            serde_saphyr::from_multiple_with_options(text, options)
                .unwrap_or_else(|error| panic!("{error}\n{text}"))
        }
    };
    for value in &mut values {
        unpack_all(value);
        let items = value.get_mut("items").and_then(Value::as_array_mut);
        items.into_iter().flatten().for_each(unpack_all);
        let patches = value.get_mut("patches").and_then(Value::as_array_mut);
        patches.into_iter().flatten().filter_map(|patch| patch.get_mut("patch")).for_each(unpack);
    }
    values
}

fn unpack_all(value: &mut Value) {
    for key in ["data", "stringData"] {
        let data = value.get_mut(key).and_then(Value::as_object_mut).map(|data| data.values_mut());
        data.into_iter().flatten().for_each(unpack);
    }
}

fn unpack(text: &mut Value) {
    if let Some(inner) = text.as_str().filter(|inner| inner.contains("kind")) {
        *text = json!({"items": parsed(inner)});
    }
}

/// The MachineConfig called `name` inside a document.
fn find<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let metadata = &value["metadata"];
    let given = metadata["name"].as_str().or(metadata["generateName"].as_str());
    if given == Some(name.trim_end_matches('*')) && value.get("spec").is_some() {
        return Some(value);
    }
    match value {
        Value::Object(entries) => entries.values_mut().find_map(|entry| find(entry, name)),
        Value::Array(items) => items.iter_mut().find_map(|item| find(item, name)),
        _ => None,
    }
}

/// The manifests, and the facts by which every tag in them names one digest.
fn copy(workplace: &Workplace) {
    for (name, text) in texts() {
        workplace.write(&format!("manifests/{name}"), &text);
    }
    workplace.write("facts.json", &serde_json::to_string(&facts()).unwrap());
}

fn facts() -> Facts {
    let mut facts = Facts::none(Timestamp::UNIX_EPOCH);
    let manifest = |reference: &PullSpec| {
        Fact::Known(Manifest {
            digest: Digest::parse(DIGEST).unwrap(),
            kind: ManifestKind::Index,
            endpoint: reference.host().to_owned(),
        })
    };
    for (_, text) in texts() {
        for document in manifests::read(&text).documents {
            let object = document.subject.object;
            for field in Field::ALL {
                let references = [
                    object.reference(field).map(ImageReference::pull_spec),
                    object.true_record(field).map(|record| record.pull_spec().clone()),
                ];
                for reference in references.into_iter().flatten() {
                    facts.manifests.insert(reference.clone(), manifest(&reference));
                }
            }
        }
    }
    facts
}

/// The names and texts of the manifests, in order.
fn texts() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pin/manifests");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}
