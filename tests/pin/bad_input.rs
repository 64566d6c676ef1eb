//! Files that cannot be pinned: each is named with the place and one thing to do, the exit status is 2,
//! nothing in them changes, and the other files are done.

use std::fs;
use std::os::unix::fs::symlink;

use crate::program::{Workplace, machine_config};

const TAG: &str = "REGISTRY/acme/os:4.18";
const HEAD: &str = "apiVersion: machineconfiguration.openshift.io/v1\nkind: MachineConfig\n";

/// What is said of a file with these bytes, when it is named beside a good one.
fn said(bytes: &[u8]) -> String {
    let workplace = Workplace::new();
    let path = workplace.path("bad.yaml");
    fs::write(&path, bytes).unwrap();
    workplace.write("good.yaml", &machine_config("os", TAG));
    let ended = workplace.pin(&["--write", "bad.yaml", "good.yaml"]);
    assert_eq!((ended.status, ended.output.as_str()), (2, ""), "{ended:?}");
    assert!(workplace.read("good.yaml").contains("acme/os@DIGEST"), "{ended:?}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(workplace.names(), ["bad.yaml", "good.yaml"]);
    let good = "good.yaml:7:15: pinned `REGISTRY/acme/os:4.18` to DIGEST\n";
    ended.error.strip_suffix(good).unwrap_or_else(|| panic!("{ended:?}")).to_owned()
}

#[test]
fn a_file_that_is_not_yaml_is_named_with_line_and_column() {
    for (text, words) in [
        (
            "kind: MachineConfig\nspec:\n\tosImageURL: a\n",
            "error: bad.yaml:3:2: tabs disallowed within this context (block indentation)\n  help: fix the syntax at this position\n",
        ),
        (
            "a: [1, 2\n",
            "error: bad.yaml:1:4: unclosed bracket '['\n  help: fix the syntax at this position\n",
        ),
        (
            "{\"a\": 1,\n \"b\": tru",
            "error: bad.yaml:2:9: EOF while parsing a value\n  help: fix the syntax at this position\n",
        ),
    ] {
        assert_eq!(said(text.as_bytes()), words, "{text}");
    }
}

#[test]
fn a_file_that_is_not_text_is_named_with_line_and_column() {
    assert_eq!(
        said(b"a: b\nc: \xff\n"),
        "error: bad.yaml:2:4: not UTF-8: byte 0xff\n  help: save the file as UTF-8\n"
    );
    assert_eq!(said(b"\xff\xfea\0"), "error: bad.yaml: the text is UTF-16\n  help: save the file as UTF-8\n");
}

#[test]
fn a_template_is_named_and_in_a_folder_only_noted() {
    let text = format!("{HEAD}metadata:\n  name: os\nspec:\n  osImageURL: {{{{ .Values.image }}}}\n");
    let help = "  help: render it and check the output of `helm template CHART` or `kustomize build DIR`\n";
    let words = "bad.yaml:6:15: a template that is not rendered";
    assert_eq!(said(text.as_bytes()), format!("error: {words}\n{help}"));
    let workplace = Workplace::new();
    workplace.write("chart/bad.yaml", &text);
    workplace.write("chart/deployment.yaml", "{{- if .Values.x }}\nkind: Deployment\n{{- end }}\n");
    let ended = workplace.pin(&["--check", "chart"]);
    let note = format!("note: chart/{words}; the file is passed over\n");
    assert_eq!((ended.status, ended.error), (0, note));
}

#[test]
fn values_that_cannot_be_edited_in_place_are_named_with_the_value_to_write() {
    let workplace = Workplace::new();
    for (text, words) in [
        (
            format!("x: &os {TAG}\n{HEAD}metadata: {{name: os}}\nspec: {{osImageURL: *os}}\n"),
            "error: bad.yaml:5:20: `spec.osImageURL` comes from an alias, so an edit would change other values too\n\
             \x20 help: replace the alias with the value: REGISTRY/acme/os@DIGEST\n",
        ),
        (
            format!("{HEAD}metadata: {{name: os}}\nspec:\n  osImageURL: >-\n    {TAG}\n"),
            "error: bad.yaml:6:5: `spec.osImageURL` is a block scalar, which cannot be edited in place\n\
             \x20 help: write it on one line: REGISTRY/acme/os@DIGEST\n",
        ),
        (
            format!("x: &os {{osImageURL: {TAG}}}\n{HEAD}metadata: {{name: os}}\nspec:\n  <<: *os\n"),
            "error: bad.yaml:6:7: `spec.osImageURL` comes from a merge key (`<<`), so an edit would change other values too\n\
             \x20 help: write it in the object itself: REGISTRY/acme/os@DIGEST\n",
        ),
        (
            format!("{HEAD}metadata: {{name: os}}\nspec:\n  osImageURL: {TAG}\n  osImageURL: {TAG}\n"),
            "error: bad.yaml:6:3: duplicate key `osImageURL`\n\
             \x20 help: fix the object at this position; `oc apply --dry-run=server -f FILE` shows what the API server expects\n",
        ),
    ] {
        let bad = workplace.write("bad.yaml", &text);
        let before = fs::read(&bad).unwrap();
        let ended = workplace.pin(&["--write", "bad.yaml"]);
        assert_eq!((ended.status, ended.output.as_str(), ended.error.as_str()), (2, "", words));
        assert_eq!(fs::read(&bad).unwrap(), before);
    }
}

#[test]
fn an_alias_bomb_is_refused_at_its_place() {
    let mut text = String::from("a0: &a0 [x, x]\n");
    for level in 1..40 {
        text.push_str(&format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1));
    }
    text.push_str(&format!(
        "{HEAD}metadata: {{name: os}}\nspec:\n  osImageURL: a.io/os:1\n  extensions: *a39\n"
    ));
    let words = said(text.as_bytes());
    assert!(words.contains("the aliases expand to more than 1000000 values"), "{words}");
}

#[test]
fn a_hundred_thousand_documents_are_read() {
    let workplace = Workplace::new();
    let many = "kind: Pod\n---\n".repeat(100_000);
    workplace.write("many.yaml", &format!("{many}{}", machine_config("os", TAG)));
    let ended = workplace.pin(&["--check", "many.yaml"]);
    let told = "many.yaml:200007:15: would pin `REGISTRY/acme/os:4.18` to DIGEST\n";
    assert_eq!((ended.status, ended.output.as_str()), (1, told));
}

#[test]
fn a_huge_file_is_refused_with_the_limit() {
    let workplace = Workplace::new();
    let file = fs::File::create(workplace.path("huge.yaml")).unwrap();
    file.set_len(200 << 20).unwrap();
    let ended = workplace.pin(&["huge.yaml"]);
    let words =
        "error: huge.yaml: larger than 64 MiB, the limit for one file\n  help: split or exclude the file\n";
    assert_eq!((ended.status, ended.error.as_str()), (2, words));
}

#[test]
fn deep_nesting_is_refused_at_its_place() {
    let text = format!("a: {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(
        said(text.as_bytes()),
        "error: bad.yaml:1:259: recursion limit exceeded\n  help: fix the syntax at this position\n"
    );
}

#[test]
fn missing_files_and_looping_links_are_named() {
    let workplace = Workplace::new();
    symlink("loop.yaml", workplace.path("loop.yaml")).unwrap();
    workplace.write("good.yaml", &machine_config("os", TAG));
    let ended = workplace.pin(&["--check", "gone.yaml", "loop.yaml", "good.yaml"]);
    let words = "error: gone.yaml: No such file or directory\n\
        error: loop.yaml: Too many levels of symbolic links\n";
    let told = "good.yaml:7:15: would pin `REGISTRY/acme/os:4.18` to DIGEST\n";
    assert_eq!((ended.status, ended.output.as_str(), ended.error.as_str()), (2, told, words));
}

#[test]
fn control_characters_are_escaped() {
    let workplace = Workplace::new();
    workplace.write(
        "bad.yaml",
        &format!("{HEAD}metadata: {{name: os}}\nspec: {{osImageURL: \"a.io/\\e]0;x\\a:1\"}}\n"),
    );
    workplace.write(
        "key.yaml",
        &format!("{HEAD}metadata: {{name: os}}\n\"\\e[31m\": 1\nspec: {{\"\\e[31m\": 1, \"\\e[31m\": 2}}\n"),
    );
    workplace.write("\u{1b}[31m.yaml", "a: [\n");
    let ended = workplace.pin(&["--check", "."]);
    let named = workplace.pin(&["--check", "\u{1b}[31m.yaml"]);
    for text in [&ended.error, &named.error] {
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
        assert!(text.contains("\\u{1b}"), "{text:?}");
    }
    assert_eq!((ended.status, named.status), (2, 2));
}

#[test]
fn a_file_with_one_error_is_not_changed_at_all() {
    let workplace = Workplace::new();
    let text = format!("{}---\nkind: MachineConfig\na: [\n", machine_config("os", TAG));
    workplace.write("bad.yaml", &text);
    let ended = workplace.pin(&["--write", "bad.yaml"]);
    assert_eq!(ended.status, 2);
    assert_eq!(workplace.read("bad.yaml"), text);
}
