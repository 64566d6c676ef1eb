//! Status, standard output and standard error of each way of running it.

use layerpin_sample_registry::images::Image;

use std::process::Command;

use layerpin_test_support::tools::{needs, run};

use crate::program::{Workplace, expected, machine_config, pinned};

const TAG: &str = "REGISTRY/acme/os:4.18";

fn workplace() -> Workplace {
    let workplace = Workplace::new();
    workplace.write("worker.yaml", &machine_config("os", TAG));
    workplace
}

fn after() -> String {
    pinned("os", "REGISTRY/acme/os@DIGEST", &format!("{TAG}@DIGEST"))
}

#[test]
fn without_an_option_it_prints_a_diff_and_changes_nothing() {
    let workplace = workplace();
    let ended = workplace.pin(&["worker.yaml"]);
    let diff = "--- a/worker.yaml\n\
        +++ b/worker.yaml\n\
        @@ -1,7 +1,9 @@\n\
        \x20apiVersion: machineconfiguration.openshift.io/v1\n\
        \x20kind: MachineConfig\n\
        \x20metadata:\n\
        +  annotations:\n\
        +    layerpin.io/pinned-from: REGISTRY/acme/os:4.18@DIGEST\n\
        \x20  name: os\n\
        \x20spec:\n\
        \x20  # the layered image\n\
        -  osImageURL: REGISTRY/acme/os:4.18 # ours\n\
        +  osImageURL: REGISTRY/acme/os@DIGEST # ours\n";
    let words = "worker.yaml:7:15: would pin `REGISTRY/acme/os:4.18` to DIGEST\n";
    assert_eq!(ended, expected(0, diff, words));
    assert_eq!(workplace.read("worker.yaml"), machine_config("os", TAG));
}

#[test]
fn git_applies_the_diff() {
    needs!("git");
    let workplace = workplace();
    let output = workplace.command(&["worker.yaml"]).output().unwrap();
    std::fs::write(workplace.path("pin.diff"), output.stdout).unwrap();
    run(Command::new("git").args(["apply", "pin.diff"]).current_dir(workplace.path(".")));
    assert_eq!(workplace.read("worker.yaml"), after());
}

#[test]
fn git_applies_the_diff_of_an_odd_name_or_a_lone_carriage_return() {
    needs!("git");
    let text = machine_config("os", TAG).replace("# the layered image", "# one\r  # two");
    for name in ["the worker.yaml", "a\"b\\c\td é.yaml", "ä.yaml"] {
        let workplace = Workplace::new();
        workplace.write(name, &text);
        let output = workplace.command(&[name]).output().unwrap();
        assert!(output.status.success(), "{name}: {output:?}");
        std::fs::write(workplace.path("pin.diff"), output.stdout).unwrap();
        run(Command::new("git").args(["apply", "pin.diff"]).current_dir(workplace.path(".")));
        let written = workplace.read(name);
        workplace.write(name, &text);
        assert_eq!(workplace.pin(&["--write", name]).status, 0);
        assert_eq!(workplace.read(name), written);
        assert!(written.contains("# one\r  # two"));
    }
}

#[test]
fn check_changes_nothing_and_exits_with_1() {
    let workplace = workplace();
    let told = "worker.yaml:7:15: would pin `REGISTRY/acme/os:4.18` to DIGEST\n";
    assert_eq!(workplace.pin(&["--check", "worker.yaml"]), expected(1, told, ""));
    assert_eq!(workplace.read("worker.yaml"), machine_config("os", TAG));
}

#[test]
fn write_edits_in_place_and_a_second_time_changes_nothing() {
    let workplace = workplace();
    let told = "worker.yaml:7:15: pinned `REGISTRY/acme/os:4.18` to DIGEST\n";
    assert_eq!(workplace.pin(&["--write", "worker.yaml"]), expected(0, "", told));
    assert_eq!(workplace.read("worker.yaml"), after());
    for option in ["--write", "--check"] {
        assert_eq!(workplace.pin(&[option, "worker.yaml"]), expected(0, "", ""));
    }
    assert_eq!(workplace.pin(&["worker.yaml"]), expected(0, "", ""));
    assert_eq!(workplace.read("worker.yaml"), after());
}

#[test]
fn update_shows_old_and_new_and_rolls_forward_only_when_told_to_write() {
    let workplace = workplace();
    workplace.pin(&["--write", "worker.yaml"]);
    let note = "note: worker.yaml:9:15: `REGISTRY/acme/os:4.18` still names DIGEST\n";
    for arguments in [&["--update", "--check", "worker.yaml"][..], &["--update", "--write", "worker.yaml"]] {
        assert_eq!(workplace.pin(arguments), expected(0, "", note));
    }
    let new = workplace.registry.push("acme/os", Some("4.18"), &Image::base("4.18.2"));
    // Without --update a pin holds, whatever the tag means today.
    assert_eq!(workplace.pin(&["--check", "worker.yaml"]), expected(0, "", ""));
    let told = |done: &str| {
        format!("worker.yaml:9:15: {done} `REGISTRY/acme/os:4.18` forward from DIGEST to {new}\n")
    };
    assert_eq!(workplace.pin(&["--update", "--check", "worker.yaml"]), expected(1, &told("would roll"), ""));
    assert_eq!(workplace.read("worker.yaml"), after());
    assert_eq!(workplace.pin(&["--update", "--write", "worker.yaml"]), expected(0, "", &told("rolled")));
    assert_eq!(workplace.read("worker.yaml"), after().replace("DIGEST", &new));
}

#[test]
fn update_of_a_digest_without_a_record_requests_nothing() {
    let workplace = Workplace::new();
    workplace.write("worker.yaml", &machine_config("os", "REGISTRY/acme/os@DIGEST"));
    let note = "note: worker.yaml:7:15: `REGISTRY/acme/os@DIGEST` has no record of a tag, so there is nothing to ask\n";
    assert_eq!(workplace.pin(&["--update", "worker.yaml"]), expected(0, "", note));
    assert_eq!(workplace.registry.requests().len(), 0);
}

#[test]
fn update_keeps_a_pin_whose_tag_is_gone_and_says_so() {
    let workplace = workplace();
    workplace.pin(&["--write", "worker.yaml"]);
    workplace.registry.delete_tag("acme/os", "4.18");
    let error = "error: worker.yaml:9:15: REGISTRY no longer has `REGISTRY/acme/os:4.18`; DIGEST stays\n";
    assert_eq!(workplace.pin(&["--update", "--write", "worker.yaml"]), expected(2, "", error));
    assert_eq!(workplace.read("worker.yaml"), after());
    let error =
        "error: worker.yaml:9:15: `REGISTRY/acme/os:4.18`: not asked: `--offline` is set; DIGEST stays\n";
    assert_eq!(workplace.pin(&["--update", "--offline", "--write", "worker.yaml"]), expected(2, "", error));
}

#[test]
fn tag_and_digest_together_need_no_registry() {
    let workplace = Workplace::new();
    workplace.write("worker.yaml", &machine_config("os", "REGISTRY/acme/os:4.18@DIGEST"));
    let told = "worker.yaml:7:15: dropped the tag `4.18` of `REGISTRY/acme/os:4.18@DIGEST`: nodes refuse tag and digest together\n";
    assert_eq!(workplace.pin(&["--offline", "--write", "worker.yaml"]), expected(0, "", told));
    assert_eq!(workplace.read("worker.yaml"), after());
    assert_eq!(workplace.registry.requests().len(), 0);
}

#[test]
fn an_outdated_record_is_removed() {
    let workplace = Workplace::new();
    let other = format!("{TAG}@sha256:{}", "0".repeat(64));
    workplace.write("worker.yaml", &pinned("os", "REGISTRY/acme/os@DIGEST", &other));
    let told = "worker.yaml:5:5: removed the record `layerpin.io/pinned-from`, which is not true of `REGISTRY/acme/os@DIGEST`\n";
    assert_eq!(workplace.pin(&["--write", "worker.yaml"]), expected(0, "", told));
    let without = machine_config("os", "REGISTRY/acme/os@DIGEST");
    assert_eq!(
        workplace.read("worker.yaml"),
        without.replace("metadata:\n", "metadata:\n  annotations: {}\n")
    );
}

#[test]
fn a_repin_request_is_completed_and_removed() {
    let workplace = Workplace::new();
    let text = pinned("os", "REGISTRY/acme/os@DIGEST", &format!("{TAG}@DIGEST"))
        .replace("  name: os\n", "    layerpin.io/repin: \"true\"\n  name: os\n");
    workplace.write("worker.yaml", &text);
    let new = workplace.registry.push("acme/os", Some("4.18"), &Image::base("4.18.2"));
    let told = format!(
        "worker.yaml:10:15: rolled `{TAG}` forward from DIGEST to {new}\n\
         worker.yaml:6:5: removed the annotation `layerpin.io/repin`\n"
    );
    assert_eq!(workplace.pin(&["--write", "worker.yaml"]), expected(0, "", &told));
    assert_eq!(workplace.read("worker.yaml"), after().replace("DIGEST", &new));
}

#[test]
fn an_unknown_digest_is_reported_for_each_file_and_the_others_are_pinned() {
    let workplace = workplace();
    workplace.write("absent.yaml", &machine_config("os", "REGISTRY/acme/os:5"));
    workplace.write("short.yaml", &machine_config("os", "acme/os:4.18"));
    workplace.write("nobody.yaml", &machine_config("os", "127.0.0.1:1/acme/os:4.18"));
    let ended = workplace.pin(&["--write", "absent.yaml", "short.yaml", "worker.yaml"]);
    let words = "error: absent.yaml:7:15: `REGISTRY/acme/os:5` is not pinned: REGISTRY has no `REGISTRY/acme/os:5`\n\
        \x20 help: name a tag that exists; `skopeo list-tags docker://REGISTRY/acme/os` lists them\n\
        error: short.yaml:7:15: `acme/os:4.18` names no registry; there is no default one\n\
        \x20 help: put the registry in front: registry.example.com/path@sha256:<digest>\n\
        worker.yaml:7:15: pinned `REGISTRY/acme/os:4.18` to DIGEST\n";
    assert_eq!(ended, expected(2, "", words));
    assert_eq!(workplace.read("worker.yaml"), after());
    let ended = workplace.pin(&["--check", "nobody.yaml"]);
    assert_eq!((ended.status, ended.output.as_str()), (2, ""));
    let begins =
        "error: nobody.yaml:7:15: `127.0.0.1:1/acme/os:4.18` is not pinned: 127.0.0.1:1 cannot be reached";
    assert!(ended.error.starts_with(begins), "{}", ended.error);
}

#[test]
fn one_field_is_pinned_though_the_other_cannot_be() {
    let workplace = Workplace::new();
    let text =
        format!("{}  baseOSExtensionsContainerImage: REGISTRY/acme/ext:9\n", machine_config("os", TAG));
    workplace.write("worker.yaml", &text);
    let ended = workplace.pin(&["--write", "worker.yaml"]);
    assert_eq!(ended.status, 2);
    assert_eq!(
        workplace.read("worker.yaml"),
        format!("{}  baseOSExtensionsContainerImage: REGISTRY/acme/ext:9\n", after())
    );
}

#[test]
fn each_reference_is_requested_once_and_the_order_is_that_of_the_files() {
    let workplace = Workplace::new();
    for number in 0..40 {
        workplace.write(&format!("tree/{number:02}.yaml"), &machine_config("os", TAG));
    }
    let ended = workplace.pin(&["--write", "tree"]);
    let words: String = (0..40)
        .map(|number| format!("tree/{number:02}.yaml:7:15: pinned `REGISTRY/acme/os:4.18` to DIGEST\n"))
        .collect();
    assert_eq!(ended, expected(0, "", &words));
    assert_eq!(workplace.registry.count("HEAD", "/manifests/4.18"), 1);
    assert_eq!(workplace.read("tree/39.yaml"), after());
}

#[test]
fn standard_input_is_pinned_to_standard_output() {
    let workplace = Workplace::new();
    let input = machine_config("os", TAG);
    let words = "<stdin>:7:15: pinned `REGISTRY/acme/os:4.18` to DIGEST\n";
    assert_eq!(workplace.pin_with_input(&["--write", "-"], &input), expected(0, &after(), words));
    // What is pinned already, or no MachineConfig, comes out as it went in.
    for text in [after(), "kind: Pod\n".to_owned()] {
        assert_eq!(workplace.pin_with_input(&["--write", "-"], &text), expected(0, &text, ""));
    }
    let told = "<stdin>:7:15: would pin `REGISTRY/acme/os:4.18` to DIGEST\n";
    assert_eq!(workplace.pin_with_input(&["--check", "-"], &input), expected(1, told, ""));
    let diff = workplace.pin_with_input(&["-"], &input).output;
    assert!(diff.starts_with("--- <stdin>\n+++ <stdin>\n@@ -1,7 +1,9 @@\n"), "{diff}");
}

#[test]
fn pin_false_in_a_policy_does_not_stop_the_pin_command() {
    let workplace = workplace();
    workplace.write("policy.yaml", include_str!("../../policies/warn-only.yaml"));
    let ended = workplace.pin(&["--policy", "policy.yaml", "--check", "worker.yaml"]);
    assert_eq!(ended.status, 1, "{ended:?}");
}

#[test]
fn a_registry_that_the_policy_does_not_allow_gets_no_request() {
    let workplace = workplace();
    workplace.write(
        "policy.yaml",
        "apiVersion: layerpin.io/v1alpha1\nkind: OSImagePolicy\nmetadata: {name: strict}\n\
         spec: {registries: {allow: [\"quay.io/*\"]}}\n",
    );
    let ended = workplace.pin(&["--policy", "policy.yaml", "--write", "worker.yaml"]);
    let words = "error: worker.yaml:7:15: `REGISTRY/acme/os:4.18` is not pinned: not asked: `registries.allow` of the policy does not include it\n";
    assert_eq!(ended, expected(2, "", words));
    assert_eq!(workplace.registry.requests().len(), 0);
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let workplace = workplace();
    for arguments in [&[][..], &["--write", "--check", "worker.yaml"], &["--nope", "worker.yaml"]] {
        assert_eq!(workplace.pin(arguments).status, 2, "{arguments:?}");
    }
}
