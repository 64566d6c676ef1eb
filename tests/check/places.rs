//! Where people work: the same command line in every example, and it does there what it should.

use std::process::Command;

use layerpin_test_support::program::{Ended, layerpin};
use layerpin_test_support::repository;
use layerpin_test_support::tools::search_path;
use serde_json::Value;

use crate::tree::{Tree, machine_config};

/// What every example runs.
const COMMAND_LINE: &str = "layerpin check .";

/// The names and values of environment variables.
type Variables = Vec<(String, String)>;

/// The step of each example, with its environment.
fn steps() -> Vec<(&'static str, String, Variables)> {
    let hooks = read(".pre-commit-hooks.yaml");
    let action = read("examples/github/action.yml");
    let gitlab = read("examples/gitlab/.gitlab-ci.yml");
    let task = read("examples/tekton/task.yaml");
    let text = |value: &Value| value.as_str().unwrap().trim().to_owned();
    let words = |list: &Value| list.as_array().unwrap().iter().map(text).collect::<Vec<_>>().join(" ");
    let map = |value: &Value| -> Variables {
        value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value))).collect()
    };
    let step = &action["runs"]["steps"][1];
    let job = &gitlab["layerpin"];
    let tekton = &task["spec"]["steps"][0];
    let list: Vec<_> = tekton["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| (text(&variable["name"]), text(&variable["value"])))
        .collect();
    vec![
        ("pre-commit", text(&hooks[0]["entry"]), Vec::new()),
        ("github", text(&step["run"]), map(&step["env"])),
        ("gitlab", text(&job["script"][0]), map(&job["variables"])),
        ("tekton", words(&tekton["command"]) + " " + &words(&tekton["args"]), list),
    ]
}

#[test]
fn every_example_runs_the_same_command_line_and_fails_for_a_floating_tag() {
    let tree =
        Tree::known(&[("manifests/worker.yaml", &machine_config("99-worker-os", "quay.io/acme/os:4.18"))]);
    let program = layerpin();
    let folder = program.parent().unwrap();
    let path =
        std::env::join_paths([folder.to_owned()].into_iter().chain(std::env::split_paths(&search_path())))
            .unwrap();
    for (place, line, environment) in steps() {
        assert_eq!(line, COMMAND_LINE, "{place}");
        let mut command = Command::new("sh");
        command.args(["-e", "-c", &line]).current_dir(tree.path("")).env_clear().env("PATH", &path);
        command.env("LAYERPIN_FACTS", "facts.json").envs(environment);
        tree.environment(&mut command);
        let found = Ended::of(command);
        assert_eq!(found.status, 1, "{place}: {}", found.error);
        let begins = if place == "github" {
            "::error file=manifests/worker.yaml,line=8,col=15,title=floating-tag in MachineConfig 99-worker-os::"
        } else {
            "error[floating-tag]: "
        };
        assert!(found.output.starts_with(begins), "{place}: {}", found.output);
    }
}

#[test]
fn the_hooks_run_when_yaml_or_json_changes() {
    for hook in read(".pre-commit-hooks.yaml").as_array().unwrap() {
        for key in ["id", "name", "entry", "language"] {
            assert!(hook[key].is_string(), "{key}: {hook}");
        }
        assert_eq!(hook["pass_filenames"], false);
        assert_eq!(hook["files"], r"\.(ya?ml|json)$");
    }
}

fn read(name: &str) -> Value {
    let path = repository().join(name);
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap())
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}
