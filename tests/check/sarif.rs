//! The report as SARIF 2.1.0.
//!
//! The rules that are checked here are those of the standard (OASIS, sections in the comments) and of
//! what code scanning on GitHub asks for beyond it.

use serde_json::{Value, json};

use crate::tree::{Tree, machine_config, policy};

fn log() -> (Value, i32) {
    let tree = Tree::known(&[
        ("dir/a b.yaml", &machine_config("a", "quay.io/acme/os:4.18")),
        ("broken.yaml", "kind: MachineConfig\nspec: [\n"),
        ("excepted.yaml", &machine_config("c", "quay.io/acme/os:4.18")),
    ]);
    let exception =
        "  exceptions:\n    - {names: [c], rules: [floating-tag], reason: soon, expires: 2026-01-31}\n";
    tree.judge_by(&policy(&[], exception));
    let ended = tree.check([
        "--facts",
        "facts.json",
        "--format",
        "sarif",
        "dir/a b.yaml",
        "broken.yaml",
        "excepted.yaml",
    ]);
    (serde_json::from_str(&ended.output).unwrap(), ended.status)
}

#[test]
fn findings_are_results_with_their_regions() {
    let (log, status) = log();
    let run = &log["runs"][0];
    let results = run["results"].as_array().unwrap();
    let index = layerpin::rules::ALL.iter().position(|rule| rule.id == "floating-tag");
    assert_eq!(
        results[0],
        json!({
            "ruleId": "floating-tag",
            "ruleIndex": index,
            "level": "error",
            "message": {"text": "`quay.io/acme/os:4.18` is a tag, not a digest\nnote: each node resolves the tag \
                for itself, so nodes of one pool can end up on different images\nnote: `floating-tag` is `deny` in \
                policy `test`\nhelp: pin it: layerpin pin --write 'dir/a b.yaml'"},
            "locations": [{
                "physicalLocation": {
                    "artifactLocation": {"uri": "dir/a%20b.yaml"},
                    "region": {"startLine": 8, "startColumn": 15},
                },
                "logicalLocations": [{
                    "name": "a",
                    "fullyQualifiedName": "MachineConfig/a/spec/osImageURL",
                    "kind": "resource",
                }],
            }],
        })
    );
    assert_eq!(
        (&results[1]["level"], &results[1]["suppressions"]),
        (
            &json!("note"),
            &json!([{"kind": "external", "status": "accepted", "justification": "until 2026-01-31: soon"}])
        )
    );
    assert_eq!(results.len(), 2);
    let invocation = &run["invocations"][0];
    assert_eq!(
        (&invocation["executionSuccessful"], &invocation["exitCode"]),
        (&json!(false), &json!(status))
    );
    let notification = &invocation["toolExecutionNotifications"][0];
    assert_eq!(notification["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "broken.yaml");
    assert_eq!(status, 2);
}

#[test]
fn every_rule_is_described_with_its_help() {
    let (log, _) = log();
    let described = log["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(described.len(), layerpin::rules::ALL.len());
    for (described, rule) in described.iter().zip(layerpin::rules::ALL) {
        assert_eq!(described["id"], rule.id);
        assert_eq!(described["help"]["markdown"], rule.documentation.trim());
        let sentence = described["fullDescription"]["text"].as_str().unwrap();
        assert!(!sentence.is_empty() && !sentence.contains("###"), "{}: {sentence}", rule.id);
        // What a scanner shows of a description is cut after 1024 characters.
        assert!(sentence.chars().count() <= 1024, "{}", rule.id);
        let level = described["defaultConfiguration"]["level"].as_str().unwrap();
        assert_eq!(level == "error", rule.recommended == layerpin::policy::Level::Deny, "{}", rule.id);
    }
}

#[test]
fn the_log_keeps_the_rules_of_the_standard() {
    let (log, _) = log();
    // 3.13: the version, and at least the runs; nothing that the standard does not know.
    keys(&log, &["$schema", "version", "runs"], &["version", "runs"]);
    assert_eq!(log["version"], "2.1.0");
    let run = only(&log["runs"]);
    keys(run, &["tool", "invocations", "columnKind", "properties", "results"], &["tool"]);
    // 3.14.17: the unit of columns.
    assert!(["utf16CodeUnits", "unicodeCodePoints"].contains(&run["columnKind"].as_str().unwrap()));
    let driver = &run["tool"]["driver"];
    keys(driver, &["name", "semanticVersion", "rules"], &["name"]);
    let rules = driver["rules"].as_array().unwrap();
    for rule in rules {
        keys(rule, &["id", "shortDescription", "fullDescription", "help", "defaultConfiguration"], &["id"]);
        for text in ["shortDescription", "fullDescription", "help"] {
            // 3.12.3: a multiformat message has its plain form.
            assert!(rule[text]["text"].is_string(), "{rule}");
        }
        level(&rule["defaultConfiguration"]["level"]);
    }
    let invocation = only(&run["invocations"]);
    keys(
        invocation,
        &["executionSuccessful", "exitCode", "toolExecutionNotifications"],
        &["executionSuccessful"],
    );
    for notification in invocation["toolExecutionNotifications"].as_array().unwrap() {
        keys(notification, &["level", "message", "locations"], &["message"]);
        level(&notification["level"]);
        location(only(&notification["locations"]));
    }
    let results = run["results"].as_array().unwrap();
    assert!(!results.is_empty());
    for result in results {
        keys(
            result,
            &["ruleId", "ruleIndex", "level", "message", "locations", "suppressions"],
            &["ruleId", "message"],
        );
        // 3.27.6: the index is that of the rule in the tool.
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        level(&result["level"]);
        location(only(&result["locations"]));
        for suppression in result["suppressions"].as_array().unwrap_or(&Vec::new()) {
            keys(suppression, &["kind", "status", "justification"], &["kind"]);
            assert!(["inSource", "external"].contains(&suppression["kind"].as_str().unwrap()));
            assert!(
                ["accepted", "underReview", "rejected"].contains(&suppression["status"].as_str().unwrap())
            );
        }
    }
}

fn location(location: &Value) {
    keys(location, &["physicalLocation", "logicalLocations"], &[]);
    let physical = &location["physicalLocation"];
    keys(physical, &["artifactLocation", "region"], &["artifactLocation"]);
    // 3.10.1: a URI reference, so no space and nothing beyond ASCII.
    let uri = physical["artifactLocation"]["uri"].as_str().unwrap();
    assert!(uri.bytes().all(|byte| byte.is_ascii_graphic()) && !uri.starts_with("./"), "{uri}");
    if let Some(region) = physical.get("region") {
        keys(region, &["startLine", "startColumn"], &["startLine"]);
        // 3.30.5, 3.30.6: both count from one.
        assert!(region["startLine"].as_u64().unwrap() >= 1 && region["startColumn"].as_u64().unwrap() >= 1);
    }
}

fn level(value: &Value) {
    // 3.27.10
    assert!(["none", "note", "warning", "error"].contains(&value.as_str().unwrap()), "{value}");
}

fn keys(object: &Value, known: &[&str], required: &[&str]) {
    let object = object.as_object().unwrap();
    for key in object.keys() {
        assert!(known.contains(&key.as_str()), "`{key}` is not known");
    }
    for key in required {
        assert!(object.contains_key(*key), "`{key}` is missing");
    }
}

fn only(list: &Value) -> &Value {
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 1);
    &list[0]
}
