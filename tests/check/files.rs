//! What lies in files and folders, and what is wrong with it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use layerpin_test_support::program::{Ended, layerpin};
use layerpin_test_support::tools::{needs, search_path};

use crate::tree::{DIGEST, Tree, machine_config};

fn pinned(name: &str) -> String {
    machine_config(name, &format!("quay.io/acme/os@{DIGEST}"))
}

#[test]
fn unreadable_files_are_named_and_the_rest_is_judged() {
    let tree = Tree::known(&[
        ("a.yaml", &machine_config("a", "quay.io/acme/os:4.18")),
        ("tab.yaml", "kind: MachineConfig\nmetadata:\n\tname: x\n"),
        ("z.yaml", &pinned("z")),
    ]);
    tree.write("bytes.yaml", b"kind: MachineConfig\nname: \xff\n");
    symlink("self.yaml", tree.path("self.yaml")).unwrap();
    File::create(tree.path("large.yaml")).unwrap().set_len(200 << 20).unwrap();
    let found = tree.check(["--facts", "facts.json", "a.yaml", "absent.yaml", "."]);
    assert_eq!(found.status, 2, "what could not be judged weighs more than what is denied");
    assert!(found.output.starts_with("error[floating-tag]: "), "{}", found.output);
    let (tab, rest) = found.error.split_once("error: tab.yaml:3:").unwrap();
    assert_eq!(
        tab,
        "error: absent.yaml: No such file or directory\n\
         error: bytes.yaml:2:7: not UTF-8: byte 0xff\n  help: save the file as UTF-8\n\
         error: large.yaml: larger than 64 MiB, the limit for one file\n  \
         help: split or exclude the file\n\
         error: self.yaml: Too many levels of symbolic links\n"
    );
    let last = rest.lines().last().unwrap();
    assert_eq!(last, "2 MachineConfigs in 8 files: 1 denied, 1 passed; 5 places could not be judged");
}

#[test]
fn the_last_of_a_hundred_thousand_documents_is_judged_at_its_position() {
    let other = "kind: ConfigMap\n---\n";
    let text = other.repeat(100_000) + &machine_config("last", "quay.io/acme/os:4.18");
    let tree = Tree::known(&[("many.yaml", &text)]);
    let found = tree.check(["--facts", "facts.json", "many.yaml"]);
    assert_eq!(found.status, 1, "{}", found.error);
    let place = found.output.lines().nth(1).unwrap();
    assert!(place.starts_with("  --> many.yaml:200008:15 "), "{place}");
    assert_eq!(found.error.lines().last().unwrap(), "1 MachineConfig in 1 file: 1 denied");
}

#[test]
fn an_unreadable_folder_is_named_and_the_rest_is_judged() {
    needs!("setpriv");
    let tree =
        Tree::known(&[("a/a.yaml", &pinned("a")), ("b/b.yaml", &pinned("b")), ("c.yaml", &pinned("c"))]);
    fs::set_permissions(tree.path("a"), Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(tree.path("c.yaml"), Permissions::from_mode(0o000)).unwrap();
    // Root may read everything; without these capabilities it is held to what the mode says.
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set", "-dac_override,-dac_read_search"])
        .arg(layerpin())
        .args(["check", "--facts", "facts.json", "."])
        .current_dir(tree.path(""))
        .env_clear()
        .env("PATH", search_path());
    tree.environment(&mut command);
    let found = Ended::of(command);
    fs::set_permissions(tree.path("a"), Permissions::from_mode(0o700)).unwrap();
    assert_eq!(
        found,
        Ended {
            status: 2,
            output: String::new(),
            error: "error: a: Permission denied\nerror: c.yaml: Permission denied\n\
                1 MachineConfig in 3 files: 1 passed; 2 places could not be judged\n"
                .into(),
        }
    );
}

#[test]
fn files_that_git_ignores_are_skipped() {
    let tree = Tree::known(&[
        (".git/HEAD", ""),
        (".gitignore", "vendor/\n"),
        ("vendor/mc.yaml", &machine_config("ignored", "quay.io/acme/os:4.18")),
        (".openshift/mc.yml", &machine_config("hidden", "quay.io/acme/os:4.18")),
        ("deep/er/mc.json", "{}"),
        ("notes.md", &machine_config("prose", "quay.io/acme/os:4.18")),
    ]);
    let names = |arguments: &[&str]| -> Vec<String> {
        let report = tree.report(&[&["--facts", "facts.json"], arguments].concat());
        let objects = report["objects"].as_array().unwrap().clone();
        objects.iter().map(|object| object["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&["."]), ["hidden"]);
    // What is named is judged whatever it is called and whoever ignores it.
    assert_eq!(names(&["notes.md", "vendor/mc.yaml"]), ["prose", "ignored"]);
}

#[test]
fn lists_many_documents_json_and_embedded_objects_are_judged_at_their_positions() {
    let tag = |name: &str| machine_config(name, "quay.io/acme/os:4.18");
    let indent = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let config_map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: install\ndata:\n  99-os.yaml: |\n{}",
        indent(&tag("embedded"))
    );
    let list =
        format!("apiVersion: v1\nkind: List\nitems:\n- {}", tag("listed").trim_end().replace('\n', "\n  "));
    let json = r#"{"apiVersion":"machineconfiguration.openshift.io/v1","kind":"MachineConfig",
 "metadata":{"name":"json"},"spec":{"osImageURL":"quay.io/acme/os:4.18"}}"#;
    let tree = Tree::known(&[
        ("config-map.yaml", &config_map),
        ("json.json", json),
        ("list.yaml", &list),
        ("many.yaml", &format!("{}---\nkind: Pod\napiVersion: v1\n---\n{}", tag("one"), tag("two"))),
    ]);
    let report = tree.report(&["--facts", "facts.json", "."]);
    let found: Vec<_> = report["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| {
            let finding = &object["findings"][0];
            (
                object["file"].as_str().unwrap(),
                object["name"].as_str().unwrap(),
                finding["line"].as_u64().unwrap(),
                finding["column"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("config-map.yaml", "embedded", 14, 19),
            ("json.json", "json", 2, 50),
            ("list.yaml", "listed", 11, 17),
            ("many.yaml", "one", 8, 15),
            ("many.yaml", "two", 20, 15),
        ]
    );
}

#[test]
fn a_template_in_a_folder_is_skipped_with_a_warning() {
    let chart = "{{- if .Values.enabled }}\napiVersion: machineconfiguration.openshift.io/v1\n\
                 kind: MachineConfig\nmetadata: {name: a}\nspec:\n  osImageURL: {{ .Values.image }}\n{{- end }}\n";
    let tree = Tree::known(&[
        ("chart/templates/mc.yaml", chart),
        ("chart/templates/pod.yaml", "{{ x }}\nkind: Pod\n"),
    ]);
    let found = tree.check(["--facts", "facts.json", "."]);
    assert_eq!((found.status, found.output.as_str()), (0, ""));
    assert!(found.error.starts_with("warning: chart/templates/mc.yaml:1:1: "), "{}", found.error);
    assert!(found.error.contains("helm template"), "{}", found.error);
    assert!(
        found.error.ends_with(
            "note: 1 template without a MachineConfig was skipped\nno MachineConfigs in 3 files\n"
        ),
        "{}",
        found.error
    );
    let named = tree.check(["--facts", "facts.json", "chart/templates/mc.yaml"]);
    assert_eq!(named.status, 2, "a file that is named is to be judged");
}

#[test]
fn objects_of_a_template_are_judged_and_one_with_a_parameter_is_skipped_with_a_warning() {
    let item =
        |name: &str, image: &str| machine_config(name, image).trim_end().replace('\n', "\n  ").to_owned();
    let template = format!(
        "kind: Template\napiVersion: template.openshift.io/v1\nobjects:\n- {}\n- {}\n",
        item("tagged", "quay.io/acme/os:4.18"),
        item("open", "quay.io/acme/os:${TAG}")
    );
    let tree = Tree::known(&[("t/template.yaml", &template)]);
    let found = tree.check(["--facts", "facts.json", "t"]);
    assert_eq!(found.status, 1);
    assert!(found.output.contains("--> t/template.yaml:11:17 ("), "{}", found.output);
    assert_eq!(
        found.error,
        "warning: t/template.yaml:19:17: `quay.io/acme/os:${TAG}` contains a parameter of the template\n  \
         help: check the output of `oc process --local -f FILE -o yaml`\n\
         1 MachineConfig in 1 file: 1 denied\n"
    );
    let named = tree.check(["--facts", "facts.json", "t/template.yaml"]);
    assert_eq!(named.status, 2, "a file that is named is to be judged");
}

#[test]
fn a_missing_api_version_is_a_warning_in_a_folder_and_an_error_in_a_named_file() {
    let object = machine_config("a", "quay.io/acme/os:4.18");
    let (_, headless) = object.split_once('\n').unwrap();
    let other = object.replace("machineconfiguration.openshift.io/v1", "machineconfig.openshift.io/v1");
    let tree = Tree::known(&[("t/headless.yaml", headless), ("t/other.yaml", &other)]);
    let found = tree.check(["--facts", "facts.json", "t"]);
    assert_eq!(
        (found.status, found.error.as_str()),
        (
            0,
            "warning: t/headless.yaml:1:1: `kind: MachineConfig` without an `apiVersion`\n  \
             help: write `apiVersion: machineconfiguration.openshift.io/v1`\n\
             warning: t/other.yaml:1:13: `apiVersion` is `machineconfig.openshift.io/v1`; \
             a MachineConfig has `machineconfiguration.openshift.io/v1`\n  \
             help: write `apiVersion: machineconfiguration.openshift.io/v1`\n\
             no MachineConfigs in 2 files\n"
        )
    );
    assert_eq!(tree.check(["--facts", "facts.json", "t/other.yaml"]).status, 2);
}

#[test]
fn broken_yaml_in_a_folder_is_an_error_and_settings_with_comments_are_not() {
    let tree = Tree::known(&[
        ("broken.yaml", "a: [1\nb: 2\n"),
        ("jinja.yaml", "{% if x %}\nkind: Pod\n{% endif %}\n"),
        ("settings.json", "{\n  \"a\": \"x\" // a comment\n}\n"),
    ]);
    let found = tree.check(["--facts", "facts.json", "."]);
    assert_eq!(found.status, 2);
    assert!(found.error.starts_with("error: broken.yaml:2:"), "{}", found.error);
    assert!(
        found.error.contains("note: 1 template without a MachineConfig was skipped\n"),
        "{}",
        found.error
    );
    assert!(
        found.error.ends_with("no MachineConfigs in 4 files; 1 place could not be judged\n"),
        "{}",
        found.error
    );
    let named = tree.check(["--facts", "facts.json", "settings.json"]);
    assert!(named.status == 2 && named.error.starts_with("error: settings.json:2:"), "{named:?}");
}

#[test]
fn control_characters_from_files_are_escaped() {
    let escape = "\u{1b}]0;owned\u{7}";
    let object = machine_config(r#""a\e[31m\u202e""#, r#""quay.io/acme/os:\e[2J""#);
    let tree =
        Tree::known(&[("a.yaml", &object), (&format!("{escape}.yaml"), &object), ("c.yaml", "a: \u{1b}[1m")]);
    for format in ["text", "json", "sarif", "github"] {
        let found = tree.check(["--facts", "facts.json", "--format", format, "."]);
        for text in [&found.output, &found.error] {
            let raw: Vec<char> = text
                .chars()
                .filter(|character| {
                    (character.is_control() && *character != '\n') || *character == '\u{202e}'
                })
                .collect();
            assert!(raw.is_empty(), "{format}: {raw:?} in {text}");
        }
    }
}

#[test]
fn the_order_is_that_of_the_files_however_many_are_read_at_once() {
    let files: Vec<_> =
        (0..300).map(|index| (format!("{index:03}.yaml"), pinned(&format!("mc-{index:03}")))).collect();
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let tree = Tree::known(&files);
    let report = tree.report(&["--facts", "facts.json", "."]);
    let names: Vec<_> =
        report["objects"].as_array().unwrap().iter().map(|object| object["name"].as_str().unwrap()).collect();
    let expected: Vec<_> = (0..300).map(|index| format!("mc-{index:03}")).collect();
    assert_eq!(names, expected);
}
