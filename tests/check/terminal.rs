//! Terminals and pipes.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Fault, Registry};
use layerpin_test_support::program::{Ended, layerpin};
use layerpin_test_support::tools::{needs, search_path};

use crate::tree::{DIGEST, Tree, machine_config};

/// The program on a terminal of its own, made by `script`.
fn on_a_terminal(tree: &Tree, arguments: &str) -> Command {
    let mut command = Command::new("script");
    command
        .args(["--quiet", "--return", "--command"])
        .arg(format!("{} {arguments}", layerpin().display()))
        .arg("/dev/null")
        .current_dir(tree.path(""))
        .env_clear()
        .env("PATH", search_path())
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    tree.environment(&mut command);
    command
}

#[test]
fn a_terminal_gets_colour_unless_no_color_is_set() {
    needs!("script");
    let tree = Tree::known(&[("a.yaml", &machine_config("a", "quay.io/acme/os:4.18"))]);
    let arguments = "check --facts facts.json a.yaml";
    let colourful = Ended::of(on_a_terminal(&tree, arguments));
    assert_eq!(colourful.status, 1);
    assert!(colourful.output.contains("\u{1b}[1;31merror[floating-tag]\u{1b}[0m: "), "{colourful:?}");
    assert!(colourful.output.contains("\u{1b}[1;31m1 denied\u{1b}[0m"), "{colourful:?}");
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let mut command = on_a_terminal(&tree, arguments);
        command.env(name, value);
        let plain = Ended::of(command);
        assert_eq!(plain.status, 1);
        assert!(
            plain.output.contains("error[floating-tag]: ") && !plain.output.contains('\u{1b}'),
            "{plain:?}"
        );
    }
    // In a pipe there is none.
    let piped = tree.check(["--facts", "facts.json", "a.yaml"]);
    assert!(!format!("{}{}", piped.output, piped.error).contains('\u{1b}'));
}

#[test]
fn a_drawing_on_a_terminal_has_colour_unless_no_color_is_set() {
    needs!("script");
    let image = format!("quay.io/acme/os@{DIGEST}");
    let tree = Tree::known(&[("a.yaml", &machine_config("a", &image))]);
    let arguments = "explain --facts facts.json a.yaml";
    let colourful = Ended::of(on_a_terminal(&tree, arguments));
    assert_eq!(colourful.status, 0);
    assert!(colourful.output.contains("\u{1b}[1;33munknown\u{1b}[0m"), "{colourful:?}");
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let mut command = on_a_terminal(&tree, arguments);
        command.env(name, value);
        let plain = Ended::of(command);
        assert_eq!(plain.status, 0);
        assert!(plain.output.contains("unknown") && !plain.output.contains('\u{1b}'), "{plain:?}");
    }
}

#[test]
fn progress_is_shown_on_a_terminal_and_erased_at_the_end() {
    needs!("script");
    let registry = Registry::start().unwrap();
    let digest = registry.push("acme/os", None, &Image::base("4.18.1"));
    registry.set_fault(Fault::FreezeAfterAccept);
    let tree =
        Tree::of(&[("a.yaml", &machine_config("a", &format!("{}/acme/os@{digest}", registry.host())))]);
    let mut command = on_a_terminal(&tree, "check --timeout 60s a.yaml");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut seen = Vec::new();
    let mut piece = [0; 256];
    let mut is_frozen = true;
    // The registry is let go when the progress was seen, so this ends only if it is shown.
    loop {
        let count = output.read(&mut piece).unwrap_or(0);
        if count == 0 {
            break;
        }
        seen.extend_from_slice(&piece[..count]);
        if is_frozen && String::from_utf8_lossy(&seen).contains("judged 0 of 1 MachineConfigs") {
            registry.clear_fault();
            is_frozen = false;
        }
    }
    child.wait().unwrap();
    let seen = String::from_utf8_lossy(&seen);
    assert!(!is_frozen, "{seen}");
    let (_, last) = seen.rsplit_once("\r\u{1b}[K").unwrap();
    assert!(last.contains("1 MachineConfig in 1 file: "), "{seen}");
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let image = "quay.io/acme/os:4.18";
    let many: String =
        (0..500).map(|index| format!("---\n{}", machine_config(&format!("mc-{index}"), image))).collect();
    let tree = Tree::known(&[("many.yaml", &many)]);
    for arguments in
        [&["check", "--facts", "facts.json", "many.yaml"][..], &["completions", "bash"], &["rules"]]
    {
        let mut child =
            tree.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        let expected = if arguments[0] == "check" {
            (Some(1), "500 MachineConfigs in 1 file: 500 denied\n")
        } else {
            (Some(0), "")
        };
        assert_eq!((output.status.code(), error.as_str()), expected, "{arguments:?}");
    }
}

#[test]
fn a_full_disk_behind_standard_output_is_a_failure() {
    let Ok(full) = File::options().write(true).open("/dev/full") else {
        eprintln!("skipped: there is no /dev/full");
        return;
    };
    let tree = Tree::known(&[("a.yaml", &machine_config("a", "quay.io/acme/os:4.18"))]);
    let output = tree.command(["check", "--facts", "facts.json", "a.yaml"]).stdout(full).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.starts_with("error: cannot write to standard output: No space left"), "{error}");
}

#[test]
fn completions_know_every_verb() {
    let tree = Tree::of(&[]);
    let help = Ended::of(tree.command(["--help"])).output;
    let verbs =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let verbs: Vec<_> = verbs.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(verbs.contains(&"check") && verbs.contains(&"serve"), "{help}");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = Ended::of(tree.command(["completions", shell]));
        assert_eq!((script.status, &*script.error), (0, ""), "{shell}");
        for verb in &verbs {
            assert!(script.output.contains(verb), "{shell}: {verb}");
        }
    }
}

#[test]
fn bash_completes_verbs_and_options() {
    let tree = Tree::of(&[]);
    tree.write("layerpin.bash", Ended::of(tree.command(["completions", "bash"])).output);
    for (words, expected) in [("layerpin exp", "explain"), ("layerpin pin --wri", "--write")] {
        let last = words.split(' ').count() - 1;
        let line = format!(
            "source ./layerpin.bash; COMP_WORDS=({words}); COMP_CWORD={last}; \
             _layerpin layerpin \"${{COMP_WORDS[{last}]}}\" \"${{COMP_WORDS[{last}-1]}}\"; echo \"${{COMPREPLY[*]}}\""
        );
        let mut bash = std::process::Command::new("bash");
        bash.args(["-c", &line]).current_dir(tree.path("."));
        let completed = Ended::of(bash);
        assert_eq!((&*completed.output, &*completed.error), (&*format!("{expected}\n"), ""), "{words}");
    }
}
