//! The forms of the report for programs: JSON and GitHub's workflow commands.

use layerpin_test_support::program::Ended;
use serde_json::{Value, json};

use crate::tree::{DIGEST, Tree, machine_config, policy};

fn tree() -> Tree {
    Tree::known(&[
        ("worker.yaml", &machine_config("99-worker-os", "quay.io/acme/os:4.18")),
        ("broken.yaml", "kind: MachineConfig\nspec: [\n"),
    ])
}

#[test]
fn json_is_the_whole_report() {
    let tree = tree();
    let mut report = tree.report(&["--facts", "facts.json", "worker.yaml", "broken.yaml"]);
    let lineage = report["objects"][0]["lineage"].take();
    assert_eq!((&lineage[0]["pool"], &lineage[0]["result"]), (&json!("worker"), &json!("unknown")));
    let error = report["errors"][0].take();
    assert_eq!((&error["file"], error["line"].is_u64()), (&json!("broken.yaml"), true), "{error}");
    assert_eq!(
        report,
        json!({
            "apiVersion": "layerpin.io/v1alpha1",
            "kind": "Report",
            "policy": {"name": "test", "hash": tree.policy_hash()},
            "objects": [{
                "name": "99-worker-os",
                "file": "worker.yaml",
                "line": 1,
                "verdict": "deny",
                "image": "quay.io/acme/os:4.18",
                "pinned": format!("quay.io/acme/os@{DIGEST}"),
                "lineage": Value::Null,
                "findings": [{
                    "rule": "floating-tag",
                    "level": "deny",
                    "message": "`quay.io/acme/os:4.18` is a tag, not a digest",
                    "pointer": "/spec/osImageURL",
                    "line": 8,
                    "column": 15,
                    "notes": [
                        "each node resolves the tag for itself, so nodes of one pool can end up on different images",
                        "`floating-tag` is `deny` in policy `test`",
                    ],
                    "help": "pin it: layerpin pin --write worker.yaml",
                    "fixed": false,
                }],
                "endpoint": "quay.io",
                "excepted": [],
                "warnings": [],
                "patch": [
                    {"op": "replace", "path": "/spec/osImageURL", "value": format!("quay.io/acme/os@{DIGEST}")},
                    {
                        "op": "add",
                        "path": "/metadata/annotations",
                        "value": {"layerpin.io/pinned-from": format!("quay.io/acme/os:4.18@{DIGEST}")},
                    },
                ],
            }],
            "errors": [Value::Null],
            "summary": {"objects": 1, "denied": 1, "warned": 0, "passed": 0},
        })
    );
}

#[test]
fn github_gets_one_command_for_each_finding_and_each_fault() {
    let tree = Tree::known(&[
        ("a, b:100%.yaml", &machine_config("a", "quay.io/acme/os:4.18")),
        ("c.yaml", &machine_config("c", "quay.io/acme/os:4.18")),
    ]);
    let exception =
        "  exceptions:\n    - {names: [c], rules: [floating-tag], reason: 50% done, expires: 2026-01-31}\n";
    tree.judge_by(&policy(&[("floating-tag", "warn")], exception));
    let ended = tree.check([
        "--facts",
        "facts.json",
        "--format",
        "github",
        "a, b:100%.yaml",
        "c.yaml",
        "absent.yaml",
    ]);
    assert_eq!(ended.status, 2);
    assert_eq!(
        ended.output,
        "::warning file=a%2C b%3A100%25.yaml,line=8,col=15,title=floating-tag in MachineConfig a::\
         `quay.io/acme/os:4.18` is a tag, not a digest%0Anote: each node resolves the tag for itself, so nodes of \
         one pool can end up on different images%0Anote: `floating-tag` is `warn` in policy `test`%0Ahelp: pin it: \
         layerpin pin --write 'a, b:100%25.yaml'\n\
         ::notice file=c.yaml,line=8,col=15,title=floating-tag in MachineConfig c::excepted until 2026-01-31: \
         `quay.io/acme/os:4.18` is a tag, not a digest%0Anote: 50%25 done\n\
         ::error file=absent.yaml,title=not judged::No such file or directory\n"
    );
}

#[test]
fn the_format_can_come_from_the_environment() {
    let tree = tree();
    let mut command = tree.command(["check", "worker.yaml"]);
    command.env("LAYERPIN_FORMAT", "json").env("LAYERPIN_FACTS", "facts.json");
    let ended = Ended::of(command);
    let report: Value = serde_json::from_str(&ended.output).unwrap();
    assert_eq!(report, tree.report(&["--facts", "facts.json", "worker.yaml"]));
}
