//! What a person sees.

use layerpin_sample_registry::ClosedPort;
use layerpin_test_support::documents::kubeconfig;
use layerpin_test_support::program::Ended;
use serde_json::json;

use crate::tree::{DIGEST, Tree, machine_config, policy};

const WORKER: &str = "# The layered image of the workers.
apiVersion: machineconfiguration.openshift.io/v1
kind: MachineConfig
metadata:
  name: 99-worker-os
  labels:
    machineconfiguration.openshift.io/role: worker
spec:
  osImageURL: quay.io/acme/os:4.18
";

#[test]
fn a_finding_tells_what_is_wrong_where_why_and_what_to_do() {
    let tree = Tree::known(&[("worker.yaml", WORKER)]);
    assert_eq!(
        tree.check(["--facts", "facts.json", "worker.yaml"]),
        Ended {
            status: 1,
            output: "error[floating-tag]: `quay.io/acme/os:4.18` is a tag, not a digest\n  \
                --> worker.yaml:9:15 (/spec/osImageURL of MachineConfig 99-worker-os)\n  \
                note: each node resolves the tag for itself, so nodes of one pool can end up on different images\n  \
                note: `floating-tag` is `deny` in policy `test`\n  \
                help: pin it: layerpin pin --write worker.yaml\n\n"
                .into(),
            error: "1 MachineConfig in 1 file: 1 denied\n".into(),
        }
    );
}

#[test]
fn standard_output_is_empty_without_findings() {
    let pinned = format!("quay.io/acme/os@{DIGEST}");
    let tree = Tree::known(&[
        ("a.yaml", &machine_config("a", &pinned)),
        ("b.yaml", "kind: ConfigMap\napiVersion: v1\nmetadata: {name: b}\n"),
        (
            "c.yaml",
            "apiVersion: machineconfiguration.openshift.io/v1\nkind: MachineConfig\nmetadata: {name: c}\n",
        ),
    ]);
    assert_eq!(
        tree.check(["--facts", "facts.json", "."]),
        Ended {
            status: 0,
            output: String::new(),
            // `facts.json` is a file of the folder as any other.
            error: "2 MachineConfigs in 4 files: 2 passed\n".into(),
        }
    );
}

#[test]
fn a_warning_does_not_fail_the_check() {
    let tree = Tree::known(&[("worker.yaml", &machine_config("99-worker-os", "quay.io/acme/os:4.18"))]);
    tree.judge_by(&policy(&[("floating-tag", "warn")], ""));
    let ended = tree.check(["--facts", "facts.json", "worker.yaml"]);
    assert_eq!((ended.status, ended.error.as_str()), (0, "1 MachineConfig in 1 file: 1 warned\n"));
    assert!(ended.output.starts_with("warning[floating-tag]: "), "{}", ended.output);
}

#[test]
fn no_machine_configs_is_stated() {
    let tree = Tree::of(&[("notes.txt", "")]);
    assert_eq!(
        tree.check(["--offline", "."]),
        Ended { status: 0, output: String::new(), error: "no MachineConfigs in no files\n".into() }
    );
}

#[test]
fn an_exception_is_shown_with_its_expiry() {
    let tree = Tree::known(&[("worker.yaml", WORKER)]);
    let exception = "  exceptions:\n    - {names: [99-*], rules: [floating-tag], reason: moved next week, expires: 2026-01-31}\n";
    tree.judge_by(&policy(&[], exception));
    assert_eq!(
        tree.check(["--facts", "facts.json", "worker.yaml"]),
        Ended {
            status: 0,
            output: "excepted[floating-tag]: `quay.io/acme/os:4.18` is a tag, not a digest\n  \
                --> worker.yaml:9:15 (/spec/osImageURL of MachineConfig 99-worker-os)\n  \
                note: until 2026-01-31: moved next week\n\n"
                .into(),
            error: "1 MachineConfig in 1 file: 1 passed\n".into(),
        }
    );
}

#[test]
fn standard_input_is_judged_and_no_file_is_named() {
    let tree = Tree::known(&[]);
    let ended = tree.check_input(&["--facts", "facts.json", "-"], WORKER);
    assert_eq!((ended.status, ended.error.as_str()), (1, "1 MachineConfig in 1 file: 1 denied\n"));
    assert!(ended.output.contains("--> <stdin>:9:15 "), "{}", ended.output);
    assert!(ended.output.contains(&format!("help: write `quay.io/acme/os@{DIGEST}`\n")), "{}", ended.output);
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let tree = Tree::of(&[("a.yaml", "")]);
    for (arguments, message) in [
        (&[][..], "<PATH>..."),
        (&["--format", "xml", "a.yaml"], "[possible values: text, json, sarif, github]"),
        (&["--facts", "a.json", "--save-facts", "b.json", "a.yaml"], "cannot be used with"),
        (&["--policy", "absent.yaml", "a.yaml"], "error: policy file absent.yaml: No such file"),
    ] {
        let ended = tree.check(arguments);
        assert_eq!((ended.status, ended.output.as_str()), (2, ""), "{arguments:?}");
        assert!(ended.error.contains(message), "{message}: {}", ended.error);
    }
}

#[test]
fn an_unreachable_cluster_is_reported_only_with_the_findings() {
    let tree = Tree::of(&[("a.yaml", &machine_config("a", &format!("quay.io/acme/os@{DIGEST}")))]);
    tree.judge_by(&policy(&[("foreign-base", "warn")], ""));
    let port = ClosedPort::take().unwrap();
    let closed = port.host();
    let cluster = json!({"server": format!("https://{closed}")});
    tree.write("kubeconfig", kubeconfig(&cluster, &json!({"token": "x"})).to_string());
    // No registry is asked either.
    tree.write("blocked.conf", "[[registry]]\nlocation = \"quay.io\"\nblocked = true\n");
    let ended = tree.check(["--kubeconfig", "kubeconfig", "--registries-conf", "blocked.conf", "a.yaml"]);
    assert_eq!(ended.error, "1 MachineConfig in 1 file: 1 denied\n", "{}", ended.output);
    assert!(ended.output.contains(&format!("cannot reach the API server {closed}")), "{}", ended.output);
}
