//! What `layerpin explain` says of files that it cannot read: the same as `layerpin check`.

use layerpin_test_support::program::Ended;

use crate::tree::{DIGEST, Tree, machine_config};

#[test]
fn unreadable_files_are_named_with_the_position_and_the_rest_is_explained() {
    let image = format!("quay.io/acme/os@{DIGEST}");
    let tree = Tree::known(&[
        ("tree/good.yaml", &machine_config("good", &image)),
        ("tree/short.yaml", &machine_config("short", "os:4.18")),
        ("tree/tab.yaml", "a:\n\t- b\n"),
        ("tree/chart.yaml", "{{ x }}\nkind: MachineConfig\n"),
    ]);
    tree.write("tree/utf16.yaml", b"\xff\xfea\0");
    let explained = Ended::of(tree.command(["explain", "--facts", "facts.json", "tree"]));
    assert_eq!(explained.status, 2);
    assert!(explained.output.contains(&image), "{explained:?}");
    assert_eq!(
        explained.error,
        "error: tree/tab.yaml:2:2: tabs disallowed within this context (block indentation)\n  \
         help: fix the syntax at this position\n\
         error: tree/utf16.yaml: the text is UTF-16\n  \
         help: save the file as UTF-8\n\
         error: tree/short.yaml:8:15: `os:4.18` names no registry; there is no default one \
         (/spec/osImageURL of MachineConfig short)\n  \
         help: put the registry in front: registry.example.com/path@sha256:<digest>\n\
         warning: tree/chart.yaml:1:1: a template that is not rendered\n  \
         help: render it and check the output of `helm template CHART` or `kustomize build DIR`\n"
    );
}

#[test]
fn a_file_without_an_image_is_reported() {
    let tree = Tree::known(&[("a.yaml", "kind: ConfigMap\n")]);
    let explained = Ended::of(tree.command(["explain", "--facts", "facts.json", "a.yaml"]));
    assert_eq!((explained.status, &*explained.output), (2, ""));
    assert_eq!(explained.error, "error: a.yaml: no MachineConfig in it sets `osImageURL`\n");
}
