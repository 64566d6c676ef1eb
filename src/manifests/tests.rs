//! Texts as people write them, and what is read in them.

use super::*;
use crate::manifests::read::declares_machine_config;
use crate::model::machine_config::Field;

const HEAD: &str = "apiVersion: machineconfiguration.openshift.io/v1\nkind: MachineConfig\n";

fn yaml(name: &str, image: &str) -> String {
    format!("{HEAD}metadata:\n  name: {name}\nspec:\n  osImageURL: {image}\n")
}

fn json(name: &str, image: &str) -> String {
    format!(
        "{{\"apiVersion\":\"machineconfiguration.openshift.io/v1\",\"kind\":\"MachineConfig\",\
         \"metadata\":{{\"name\":\"{name}\"}},\"spec\":{{\"osImageURL\":\"{image}\"}}}}"
    )
}

fn indented(text: &str, margin: &str) -> String {
    text.lines().map(|line| format!("{margin}{line}\n")).collect()
}

/// What was read, a line each: `name line path image line:column`, or a fault.
fn told(text: &str) -> Vec<String> {
    let read = read(text);
    let documents = read.documents.iter().map(|ManifestDocument { subject, .. }| {
        let origin = &subject.origin;
        let position = origin.position(Field::OsImage).unwrap_or(Position { line: 0, column: 0 });
        format!(
            "{} {} {} {} {}:{}",
            subject.name,
            origin.line().unwrap(),
            if origin.path().is_empty() { "." } else { origin.path() },
            subject.object.text(Field::OsImage),
            position.line,
            position.column
        )
    });
    let faults = read.faults.iter().map(|fault| {
        let position = fault
            .position
            .map_or("-".to_owned(), |position| format!("{}:{}", position.line, position.column));
        format!("{:?} {position} {} {}", fault.kind, fault.declares_machine_config, fault.message)
    });
    let others = (read.skipped > 0).then(|| format!("{} others", read.skipped));
    documents.chain(faults).chain(others).collect()
}

#[test]
fn documents_are_read_in_order_and_others_skipped() {
    let text = format!(
        "# a comment\n---\n{}---\nkind: Pod\nspec: {{a: b}}\n---\n---\n{}...\n",
        yaml("a", "r.io/a:1"),
        yaml("b", "'r.io/b:1'")
    );
    assert_eq!(told(&text), ["a 3 . r.io/a:1 8:15", "b 14 . r.io/b:1 19:15", "2 others"]);
}

#[test]
fn json_alone_in_a_row_and_inside_yaml_is_read() {
    let (a, b) = (json("a", "r.io/a:1"), json("b", "r.io/b:1"));
    assert_eq!(told(&a), ["a 1 . r.io/a:1 1:122"]);
    let expected = ["a 1 . r.io/a:1 1:122", "b 2 . r.io/b:1 2:122"];
    assert_eq!(told(&format!("{a}\n{b}\n")), expected);
    assert_eq!(told(&format!("\u{feff}{a}\r\n{b}")), expected);
    assert_eq!(told(&format!("{a}{b}")), ["a 1 . r.io/a:1 1:122", "b 1 . r.io/b:1 1:255"]);
    assert_eq!(told(&format!("{a}\n---\n{b}")), ["a 1 . r.io/a:1 1:122", "b 3 . r.io/b:1 3:122"]);
    let pretty =
        serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&a).unwrap()).unwrap();
    let tabs = pretty.replace("  ", "\t");
    assert_eq!(told(&tabs), ["a 1 . r.io/a:1 8:17"]);
}

#[test]
fn lists_are_read_item_by_item_and_lists_inside_them() {
    let item = |name: &str| format!("- {}", indented(&yaml(name, "r.io/os:1"), "  ").trim_start());
    let list = format!("apiVersion: v1\nkind: List\nitems:\n{}- kind: Pod\n{}", item("a"), item("b"));
    assert_eq!(told(&list), ["a 4 /items/0 r.io/os:1 9:17", "b 11 /items/2 r.io/os:1 16:17", "1 others"]);
    let nested = format!("apiVersion: v1\nkind: List\nitems:\n- {}", indented(&list, "  ").trim_start());
    assert_eq!(
        told(&nested),
        ["a 7 /items/0/items/0 r.io/os:1 12:19", "b 14 /items/0/items/2 r.io/os:1 19:19", "1 others"]
    );
    // The API server's own lists leave kind and version out of their items.
    let bare = "apiVersion: machineconfiguration.openshift.io/v1\nkind: MachineConfigList\nitems:\n\
                - metadata: {name: a}\n  spec: {osImageURL: r.io/os:1}\n";
    assert_eq!(told(bare), ["a 4 /items/0 r.io/os:1 5:22"]);
    let elsewhere = bare.replace("MachineConfigList", "List");
    assert_eq!(told(&elsewhere), ["1 others"]);
}

#[test]
fn machine_configs_in_the_data_of_a_config_map_are_read() {
    let map = |value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata:\n  other: x\n  99-os.yaml: {value}"
        )
    };
    let inner = yaml("a", "r.io/a:1");
    let literal = map(&format!("|\n{}", indented(&inner, "    ")));
    assert_eq!(told(&literal), ["a 7 /data/99-os.yaml r.io/a:1 12:19"]);
    assert_eq!(told(&literal.replace('\n', "\r\n")), ["a 7 /data/99-os.yaml r.io/a:1 12:19"]);
    let twice = map(&format!(
        "|-\n\n{}    ---\n{}",
        indented(&inner, "    "),
        indented(&yaml("b", "r.io/b:1"), "    ")
    ));
    assert_eq!(told(&twice), ["a 8 /data/99-os.yaml r.io/a:1 13:19", "b 15 /data/99-os.yaml r.io/b:1 20:19"]);
    // One line, with escapes: the column is that of the character in the file.
    let quoted = map(&format!("{}\n", serde_json::to_string(&inner).unwrap()));
    assert_eq!(told(&quoted), ["a 6 /data/99-os.yaml r.io/a:1 6:130"]);
    let line = quoted.lines().nth(5).unwrap();
    assert!(line[129..].starts_with("r.io/a:1"), "{line}");
    let compact = map(&format!("{}\n", serde_json::to_string(&json("a", "r.io/a:1")).unwrap()));
    let column = compact.lines().nth(5).unwrap().find("\\\"r.io/a:1").unwrap() + 1;
    assert_eq!(told(&compact), [format!("a 6 /data/99-os.yaml r.io/a:1 6:{}", column)]);
    // Folded: only where the text begins is known.
    let folded = map(&format!(">-\n{}", indented(&json("a", "r.io/a:1"), "    ")));
    assert_eq!(told(&folded), ["a 7 /data/99-os.yaml r.io/a:1 7:5"]);
    // A ConfigMap in a ConfigMap, as a node pool's is among install-time manifests.
    let outer = map(&format!("|\n{}", indented(&literal, "    ")));
    assert_eq!(told(&outer), ["a 13 /data/99-os.yaml/data/99-os.yaml r.io/a:1 18:23"]);
    // Texts of other sorts are nobody's fault, and a broken MachineConfig is.
    for other in ["|\n    #!/bin/sh\n    oc get MachineConfig: {\n", "MachineConfig\n", "[MachineConfig]\n"] {
        assert_eq!(told(&map(other)), ["1 others"], "{other}");
    }
    let broken = map("|\n    kind: MachineConfig\n    a: b: c\n");
    assert_eq!(told(&broken)[0].split(' ').take(3).collect::<Vec<_>>(), ["Syntax", "8:9", "true"]);
}

#[test]
fn a_role_with_a_placeholder_names_no_pool() {
    let object = |role: &str| {
        format!(
            "{HEAD}metadata:\n  name: a\n  labels: {{x: y, machineconfiguration.openshift.io/role: '{role}'}}\n\
             spec: {{osImageURL: r.io/a:1}}\n"
        )
    };
    let template =
        |role: &str| format!("kind: Template\nobjects:\n- {}", indented(&object(role), "  ").trim_start());
    for (text, pools) in [
        (template("worker"), vec!["worker"]),
        (template("${ROLE}"), vec![]),
        (template("${{ROLE}}-gpu"), vec![]),
        (object("{{ .Values.pool }}"), vec![]),
        // Elsewhere it is a text, which the API server will refuse.
        (object("${ROLE}"), vec!["${ROLE}"]),
    ] {
        let read = read(&text);
        assert_eq!(read.documents[0].subject.pools(), pools, "{text}");
        assert_eq!(read.documents[0].subject.object.labels["x"], "y");
    }
}

#[test]
fn machine_configs_in_the_text_of_a_secret_are_read_and_base64_is_reported() {
    let head = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
    let text = indented(&yaml("a", "r.io/a:1"), "    ");
    assert_eq!(
        told(&format!("{head}stringData:\n  x.yaml: |\n{text}")),
        ["a 6 /stringData/x.yaml r.io/a:1 11:19"]
    );
    assert_eq!(told(&format!("{head}data:\n  x.yaml: |\n{text}")), ["1 others"]);
    let message = "a MachineConfig in base64, which is not decoded";
    // `kind: MachineConfig` at each of the three places in a group, and with broken lines.
    for encoded in [
        "a2luZDogTWFjaGluZUNvbmZpZwo=",
        "IGtpbmQ6IE1hY2hpbmVDb25maWcK",
        "ICBraW5kOiBNYWNoaW5lQ29uZmlnCg==",
        "\"a2luZDogTWFjaGlu\\nZUNvbmZpZwo=\\n\"",
    ] {
        for (head, key) in [(head, "data"), ("kind: ConfigMap\n", "binaryData")] {
            let line = head.lines().count() + 2;
            assert_eq!(
                told(&format!("{head}{key}:\n  other: cG9k\n  x.yaml: {encoded}\n")),
                [format!("Encoded {}:11 true {message}", line + 1)]
            );
        }
    }
    assert_eq!(told(&format!("{head}data: {{x: a2luZDogUG9kCg==}}\n")), ["1 others"]);
}

#[test]
fn lists_of_every_kind_are_read_and_those_without_one() {
    let item = |name: &str| format!("- {}", indented(&yaml(name, "r.io/os:1"), "  ").trim_start());
    let two = item("a") + &item("b");
    assert_eq!(told(&two), ["a 1 /0 r.io/os:1 6:17", "b 7 /1 r.io/os:1 12:17"]);
    let array = format!("[{},\n{}]\n", json("a", "r.io/a:1"), json("b", "r.io/b:1"));
    assert_eq!(told(&array), ["a 1 /0 r.io/a:1 1:123", "b 2 /1 r.io/b:1 2:122"]);
    assert_eq!(told(&format!("kind: AnyList\nitems:\n{two}")).len(), 2);
    // The items of the API server's own lists leave out what they are.
    let maps = format!(
        "apiVersion: v1\nkind: ConfigMapList\nitems:\n- metadata: {{name: m}}\n  data:\n    x: |\n{}",
        indented(&yaml("a", "r.io/a:1"), "      ")
    );
    assert_eq!(told(&maps), ["a 7 /items/0/data/x r.io/a:1 12:21"]);
    assert_eq!(told(&maps.replace("ConfigMapList", "PodList")), ["1 others"]);
}

#[test]
fn objects_for_other_clusters_are_read() {
    let item = format!("- {}- kind: Pod\n", indented(&yaml("a", "r.io/a:1"), "  ").trim_start());
    let work = |kind: &str, outer: &str| {
        let margin = "  ".repeat(outer.split('/').count());
        let keys: String =
            outer.split('/').enumerate().map(|(at, key)| format!("{}{key}:\n", "  ".repeat(at))).collect();
        format!("apiVersion: {kind}\nmetadata: {{name: w}}\n{keys}{}", indented(&item, &margin))
    };
    for (kind, outer) in [
        ("work.open-cluster-management.io/v1\nkind: ManifestWork", "spec/workload/manifests"),
        (
            "work.open-cluster-management.io/v1alpha1\nkind: ManifestWorkReplicaSet",
            "spec/manifestWorkTemplate/workload/manifests",
        ),
        ("hive.openshift.io/v1\nkind: SyncSet", "spec/resources"),
        ("hive.openshift.io/v1\nkind: SelectorSyncSet", "spec/resources"),
    ] {
        let depth = outer.split('/').count();
        let line = 4 + depth;
        let column = 2 * depth + 17;
        assert_eq!(
            told(&work(kind, outer)),
            [format!("a {line} /{outer}/0 r.io/a:1 {}:{column}", line + 5), "1 others".to_owned()]
        );
        let elsewhere = kind.replace("open-cluster-management.io", "example.com").replace("hive.", "x.");
        assert_eq!(told(&work(&elsewhere, outer)), ["1 others"]);
    }
}

#[test]
fn objects_of_a_template_are_read_and_parameters_in_judged_fields_are_reported() {
    let item = |name: &str, image: &str| format!("- {}", indented(&yaml(name, image), "  ").trim_start());
    let template = |api_version: &str| {
        format!(
            "apiVersion: {api_version}\nkind: Template\nmetadata: {{name: t}}\nobjects:\n{}{}- kind: Pod\n{}\
             parameters: [{{name: TAG}}]\n",
            item("a", "r.io/a:1"),
            item("b", "r.io/b:${TAG}"),
            item("'${TAG}'", "r.io/c:1")
        )
    };
    for api_version in ["template.openshift.io/v1", "v1"] {
        assert_eq!(
            told(&template(api_version)),
            [
                "a 5 /objects/0 r.io/a:1 10:17",
                "${TAG} 18 /objects/3 r.io/c:1 23:17",
                "Parameter 16:17 true `r.io/b:${TAG}` contains a parameter of the template",
                "1 others",
            ]
        );
    }
    assert_eq!(told(&template("example.com/v1")), ["1 others"]);
    // Text in a template has its parameters too, and elsewhere `${…}` is no parameter.
    let map = format!("kind: ConfigMap\ndata:\n  x: |\n{}", indented(&yaml("a", "r.io/a:${TAG}"), "    "));
    assert_eq!(told(&map), ["a 4 /data/x r.io/a:${TAG} 9:19"]);
    let inside = format!("kind: Template\nobjects:\n- {}", indented(&map, "  ").trim_start());
    assert_eq!(told(&inside), ["Parameter 11:21 true `r.io/a:${TAG}` contains a parameter of the template"]);
}

#[test]
fn objects_that_a_policy_defines_are_read() {
    let policy = |kind: &str, key: &str, items: &str| {
        format!(
            "apiVersion: policy.open-cluster-management.io/v1\nkind: {kind}\nmetadata: {{name: p}}\nspec:\n  {key}:\n{}",
            indented(items, "  ")
        )
    };
    let item = |compliance: &str, object: &str| {
        format!("- complianceType: {compliance}\n  objectDefinition:\n{}", indented(object, "    "))
    };
    let items = item("musthave", &yaml("a", "r.io/a:1")) + &item("MustNotHave", &yaml("b", "r.io/b:1"));
    let configuration = policy("ConfigurationPolicy", "object-templates", &items);
    assert_eq!(told(&configuration), ["a 8 /spec/object-templates/0/objectDefinition r.io/a:1 13:21"]);
    let outer = policy("Policy", "policy-templates", &item("musthave", &configuration));
    let path = "/spec/policy-templates/0/objectDefinition/spec/object-templates/0/objectDefinition";
    assert_eq!(told(&outer), [format!("a 15 {path} r.io/a:1 20:27")]);
    // The kind may come after what it is the kind of.
    let (head, rest) = outer.split_at(outer.find("metadata").unwrap());
    assert_eq!(told(&format!("{rest}{head}")), [format!("a 13 {path} r.io/a:1 18:27")]);
    let others = policy("ConfigurationPolicy", "object-templates", &item("musthave", "kind: Pod\n"));
    assert_eq!(told(&others), ["1 others"]);
    assert_eq!(told(&configuration.replace("open-cluster-management.io", "example.com")), ["1 others"]);
    // What the cluster itself renders says nothing yet, and is told where it speaks of one.
    let raw = |text: &str| {
        policy("ConfigurationPolicy", "object-templates-raw", &indented(text, "  ")).replace("raw:", "raw: |")
    };
    assert_eq!(
        told(&raw("{{ range }}\nkind: MachineConfig\n")),
        ["PolicyTemplate 6:5 true a template that is not rendered"]
    );
    for value in ["'{{hub .ManagedClusterName hub}}'", "'r.io/a:{{ .Tag }}'"] {
        let open = configuration.replace("r.io/a:1", value);
        assert_eq!(told(&open), ["PolicyTemplate 13:21 true a template that is not rendered"]);
    }
    assert!(!read(&raw("{{ range }}\nkind: MachineConfig\n")).faults[0].help().contains("helm"));
    assert_eq!(told(&raw("{{ range }}\nkind: Pod\n")), ["1 others"]);
}

#[test]
fn patches_in_a_kustomization_are_read() {
    let patches = format!(
        "patches:\n- path: other.yaml\n- target: {{kind: MachineConfig}}\n  patch: |-\n{}\
         - patch: |-\n    - op: replace\n      path: /spec/config\n      value: r.io/c:1\n\
         patchesStrategicMerge:\n- other.yaml\n- |\n{}",
        indented(&yaml("a", "r.io/a:1"), "    "),
        indented(&yaml("b", "r.io/b:1"), "  ")
    );
    let expected =
        |shift: u64| [(5 + shift, "a /patches/1/patch", 19), (18 + shift, "b /patchesStrategicMerge/1", 17)];
    for (head, shift) in [
        ("", 0),
        ("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n", 2),
        ("apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n", 2),
    ] {
        let seen = told(&format!("{head}{patches}"));
        let expected = expected(shift).map(|(line, rest, column)| {
            let (name, path) = rest.split_once(' ').unwrap();
            format!("{name} {line} {path} r.io/{name}:1 {}:{column}", line + 5)
        });
        assert_eq!(seen, expected);
    }
    let other = format!("apiVersion: example.com/v1\nkind: Kustomization\n{patches}");
    assert_eq!(told(&other), ["1 others"]);
}

#[test]
fn values_that_a_json_patch_sets_are_read() {
    let operations = "- {op: test, path: /spec/osImageURL, value: r.io/old:1}\n\
                      - op: replace\n  path: /spec/osImageURL\n  value: r.io/a:1\n\
                      - {op: add, path: /spec/baseOSExtensionsContainerImage, value: r.io/x:1}\n\
                      - {op: remove, path: /spec/osImageURL}\n\
                      - {op: add, path: /spec/config, value: {a: b}}\n";
    let both = |path: &str, name: &str, line: u64, column: u64| {
        [
            format!("{name} {line} {path}/1 r.io/a:1 {}:{column}", line + 2),
            // `told` shows the one field alone.
            format!("{name} {} {path}/2  0:0", line + 3),
        ]
    };
    let seen = told(operations);
    assert_eq!(seen[..2], both("", "*", 2, 10));
    assert_eq!(seen[2..], ["3 others"]);
    let extensions = &read(operations).documents[1].subject;
    assert_eq!(extensions.object.text(Field::ExtensionsImage), "r.io/x:1");
    assert_eq!(extensions.origin.position(Field::ExtensionsImage), Some(Position { line: 5, column: 64 }));
    let origin = extensions.origin.clone().in_file("a.yaml", Some("layerpin pin".to_owned()));
    assert_eq!(origin.pin_command(), None);
    let array = r#"[{"op": "add", "path": "/spec/osImageURL", "value": "r.io/a:1"}]"#;
    assert_eq!(told(array), ["* 1 /0 r.io/a:1 1:53"]);
    for key in ["patches", "patchesJson6902"] {
        let patch = |target: &str| {
            format!("{key}:\n- target: {{{target}}}\n  patch: |\n{}", indented(operations, "    "))
        };
        let path = format!("/{key}/0/patch");
        for (target, name) in
            [("kind: MachineConfig, name: os", "os"), ("kind: Machine.*", "*"), ("labelSelector: a=b", "*")]
        {
            assert_eq!(told(&patch(target)), both(&path, name, 5, 14), "{target}");
        }
        assert_eq!(told(&patch("kind: ControllerConfig")), ["1 others"]);
    }
    // One operation that cannot be read does not hide the others.
    for (value, fault) in [("'r.io/a:{{ .Tag }}'", "Template 4:10 true "), ("[a]", "Object 4:10 true ")] {
        let seen = told(&operations.replace("r.io/a:1", value));
        assert!(seen[0] == "* 5 /2  0:0" && seen[1].starts_with(fault), "{seen:?}");
    }
}

#[test]
fn aliases_and_merge_keys_are_followed() {
    let text = format!(
        "x-image: &os r.io/os:1\nx-base: &base {{osImageURL: r.io/base:1, fips: false}}\n{HEAD}metadata: &m\n  name: a\nspec:\n  osImageURL: *os\n---\n\
         x: &base {{osImageURL: r.io/base:1}}\n{HEAD}metadata: {{name: b}}\nspec:\n  <<: *base\n  fips: true\n"
    );
    assert_eq!(told(&text), ["a 1 . r.io/os:1 8:15", "b 10 . r.io/base:1 10:23"]);
}

#[test]
fn an_alias_bomb_is_never_expanded() {
    let mut bomb = String::from("a0: &a0 [x, x]\n");
    for level in 1..40 {
        bomb.push_str(&format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1));
    }
    // Where nobody needs it, it costs nothing.
    assert_eq!(told(&format!("{bomb}{}", yaml("a", "r.io/a:1"))).len(), 1);
    let used =
        format!("{bomb}{HEAD}metadata: {{name: a}}\nspec:\n  osImageURL: r.io/a:1\n  extensions: *a39\n");
    assert!(told(&used)[0].contains("the aliases expand to more than 1000000 values"), "{:?}", told(&used));
    let cycle =
        format!("{HEAD}metadata: {{name: a}}\nspec: &s\n  osImageURL: r.io/a:1\n  extensions: [*s]\n");
    assert!(told(&cycle)[0].contains("the aliases nest deeper than 600 values"), "{:?}", told(&cycle));
    let lists = format!(
        "l0: &l0\n  {{kind: List, items: []}}\n{}kind: List\nitems: [*l30, *l30]\n",
        (1..31)
            .map(|n| format!("l{n}: &l{n} {{kind: List, items: [*l{0}, *l{0}]}}\n", n - 1))
            .collect::<String>()
    );
    assert!(told(&lists)[0].contains("more than 200000 objects"), "{:?}", told(&lists));
    let merges = format!(
        "m0: &m0 {{a: b}}\n{}{HEAD}metadata: {{name: a}}\nspec:\n  <<: *m39\n",
        (1..40).map(|n| format!("m{n}: &m{n} {{<<: [*m{0}, *m{0}, *m{0}]}}\n", n - 1)).collect::<String>()
    );
    assert!(told(&merges)[0].contains("the aliases expand to"), "{:?}", told(&merges));
}

#[test]
fn a_text_that_aliases_repeat_is_read_a_bounded_number_of_times() {
    let map = |copies: usize| {
        let copies: String = (0..copies).map(|copy| format!("  k{copy}: *t\n")).collect();
        let text = indented(&yaml("a", "r.io/a:1"), "    ") + &"    # padding\n".repeat(1000);
        format!("kind: ConfigMap\ndata:\n  x: &t |\n{text}{copies}")
    };
    assert_eq!(told(&map(9)).len(), 10);
    let seen = told(&map(1000));
    assert!(seen.len() < 60, "{}", seen.len());
    assert!(
        seen.last().unwrap().ends_with(" true the aliases repeat more than 16 times the text of the file"),
        "{seen:?}"
    );
    // Also when each of them is a text in a text.
    let nested = format!("kind: ConfigMap\ndata:\n  x: &t |\n{}  y: *t\n", indented(&map(1000), "    "));
    let seen = told(&nested);
    assert!(seen.len() < 120, "{}", seen.len());
}

#[test]
fn a_document_that_cannot_be_read_does_not_hide_the_others() {
    let good = yaml("good", "r.io/a:1");
    for (bad, fault) in [
        ("a: [1, 2", "Syntax"),
        ("kind: MachineConfig\nspec:\n\tosImageURL: x", "Syntax 3:2 true"),
        (
            &format!("{HEAD}metadata: {{name: a}}\nspec:\n  osImageURL: [a]"),
            "Object 5:15 true `spec.osImageURL`: invalid type",
        ),
        (
            &format!("{HEAD}metadata: {{name: a}}\nspec:\n  osImageURL: 4.18"),
            "Object 5:15 true `spec.osImageURL`: invalid type",
        ),
        (&format!("{HEAD}metadata: {{}}\nspec: {{}}"), "Object 3:11 true metadata.name is missing"),
        (
            &format!("{HEAD}metadata: {{name: a}}\nspec:\n  osImageURL: a\n  osImageURL: b"),
            "Object 6:3 true duplicate key `osImageURL`",
        ),
        (
            &format!("{HEAD}metadata: {{name: a}}\nspec:\n  osImageURL: *gone"),
            "Object 5:15 true the alias `*gone` has no anchor",
        ),
        (&format!("{HEAD}metadata: {{name: a}}\nspec: [a]"), "Object 4:7 true `spec` is not a mapping"),
        (
            &format!("{HEAD}metadata: {{name: a, labels: [a]}}"),
            "Object 3:29 true `metadata.labels` is not a mapping",
        ),
    ] {
        let seen = told(&format!("{bad}\n---\n{good}"));
        assert!(seen[0].starts_with("good "), "{bad}: {seen:?}");
        assert!(seen[1].starts_with(fault), "{bad}: {seen:?}");
        assert_eq!(seen.len(), 2, "{bad}: {seen:?}");
    }
    let seen = told(&format!("{}\n{{\"kind\": tru", json("good", "r.io/a:1")));
    assert_eq!(seen[0], "good 1 . r.io/a:1 1:125");
    assert!(seen[1].starts_with("Syntax 2:12 false EOF while parsing"), "{seen:?}");
}

#[test]
fn a_missing_or_mistyped_group_is_reported_and_another_one_skipped() {
    let text =
        |api_version: &str| format!("{api_version}kind: MachineConfig\nmetadata: {{name: a}}\nspec: {{}}\n");
    for group in [
        "machineconfig.openshift.io/v1",
        "machineconfiguration.opensift.io/v1",
        "config.OpenShift.io/v1",
        "v1",
    ] {
        let expected = format!(
            "ApiVersion 1:13 true `apiVersion` is `{group}`; a MachineConfig has `machineconfiguration.openshift.io/v1`"
        );
        assert_eq!(told(&text(&format!("apiVersion: {group}\n"))), [expected]);
    }
    let missing = "ApiVersion 1:1 true `kind: MachineConfig` without an `apiVersion`";
    assert_eq!(told(&text("")), [missing]);
    assert_eq!(
        told(&text("apiVersion: '{{ .Values.api }}'\n")),
        ["Template 1:13 true a template that is not rendered"]
    );
    for group in ["machineconfig.talos.dev/v1alpha1", "cluster.x-k8s.io/v1beta1", "example.com/v1"] {
        assert_eq!(told(&text(&format!("apiVersion: {group}\n"))), ["1 others"], "{group}");
    }
    // A reference to a MachineConfig is none.
    assert_eq!(told("kind: MachineConfig\nname: a\n"), ["1 others"]);
    // In their own list they need not say what they are, nor all of it.
    let list = "apiVersion: machineconfiguration.openshift.io/v1\nkind: MachineConfigList\nitems:\n\
                - kind: MachineConfig\n  metadata: {name: a}\n  spec: {osImageURL: r.io/os:1}\n";
    assert_eq!(told(list), ["a 4 /items/0 r.io/os:1 6:22"]);
}

#[test]
fn templates_are_told_apart_from_broken_yaml() {
    let head = format!("{HEAD}metadata: {{name: a}}\nspec:\n");
    for (text, position) in [
        (format!("{{{{- if .Values.os }}}}\n{}{{{{- end }}}}\n", yaml("a", "r.io/a:1")), "1:1 true"),
        (format!("{head}  osImageURL: {{{{ .Values.os }}}}\n"), "5:15 true"),
        (format!("{head}  osImageURL: \"{{{{ .Values.os }}}}\"\n"), "5:15 true"),
        (format!("{head}  osImageURL: quay.io/acme/os:{{{{ .Values.tag }}}}\n"), "5:15 true"),
        (format!("{HEAD}metadata:\n  name: {{{{ .Release.Name }}}}\nspec: {{}}\n"), "4:9 true"),
        (format!("{HEAD}metadata: {{name: a}}\nspec: {{{{ toYaml .Values.spec }}}}\n"), "4:7 true"),
        (
            format!("{HEAD}metadata: {{name: a}}\nspec:\n  {{{{- toYaml .Values.spec | nindent 2 }}}}\n"),
            "5:3 true",
        ),
        ("kind: {{ .k }}\na: [\n".to_owned(), "1:7 false"),
    ] {
        let seen = told(&text);
        assert!(seen[0].starts_with(&format!("Template {position} ")), "{text}: {seen:?}");
        assert_eq!(seen.len(), 1);
    }
    // A template elsewhere in the object leaves what is judged as it is.
    assert_eq!(
        told(&format!("{head}  osImageURL: r.io/a:1\n  config: {{a: '{{{{ x }}}}'}}\n")),
        ["a 1 . r.io/a:1 5:15"]
    );
}

#[test]
fn templates_and_variants_of_json_are_no_errors_in_a_folder_but_broken_yaml_is() {
    let fault = |kind, declares_machine_config| DocumentFault {
        kind,
        position: None,
        message: String::new(),
        declares_machine_config,
    };
    for (kind, concerns, in_folder, as_json) in [
        (FaultKind::Syntax, true, Severity::Error, Severity::Error),
        (FaultKind::Syntax, false, Severity::Error, Severity::Ignored),
        (FaultKind::Template, true, Severity::Note, Severity::Note),
        (FaultKind::Template, false, Severity::Ignored, Severity::Ignored),
        (FaultKind::PolicyTemplate, true, Severity::Note, Severity::Note),
        (FaultKind::Parameter, true, Severity::Note, Severity::Note),
        (FaultKind::ApiVersion, true, Severity::Note, Severity::Note),
        (FaultKind::Encoded, true, Severity::Note, Severity::Note),
        (FaultKind::Object, true, Severity::Error, Severity::Error),
    ] {
        let fault = fault(kind, concerns);
        assert_eq!(fault.severity(FileSelection::ByName), Severity::Error);
        assert_eq!(fault.severity(FileSelection::InFolder), in_folder, "{kind:?}");
        assert_eq!(fault.severity(FileSelection::InFolderAsJson), as_json, "{kind:?}");
    }
    for (text, says) in [
        ("kind: MachineConfig", true),
        ("kind: 'MachineConfig'", true),
        ("{\"kind\":\"MachineConfig\"}", true),
        ("\"{\\\"kind\\\": \\\"MachineConfig\\\"}\"", true),
        ("kind: MachineConfigPool", false),
        ("name: MachineConfig", false),
    ] {
        assert_eq!(declares_machine_config(text), says, "{text}");
    }
}

#[test]
fn line_ends_byte_order_marks_and_directives_do_not_matter() {
    let plain = yaml("a", "r.io/a:1");
    for text in
        [plain.clone(), plain.replace('\n', "\r\n"), format!("\u{feff}{plain}"), plain.trim_end().to_owned()]
    {
        assert_eq!(told(&text), ["a 1 . r.io/a:1 6:15"], "{text:?}");
    }
    let directives = format!("%YAML 1.2\n---\n{plain}...\n%YAML 1.1\n---\n{plain}");
    assert_eq!(told(&directives), ["a 3 . r.io/a:1 8:15", "a 12 . r.io/a:1 17:15"]);
    // Columns count characters.
    let wide = format!("{HEAD}metadata: {{name: ä}}\nspec: {{x: 'äöü', osImageURL: r.io/a:1}}\n");
    assert_eq!(told(&wide), ["ä 1 . r.io/a:1 4:30"]);
}

#[test]
fn deep_and_wide_texts_are_read_or_refused() {
    let deep = format!("{}{}\n---\n{}", "[".repeat(100_000), "]".repeat(100_000), yaml("a", "r.io/a:1"));
    let seen = told(&deep);
    assert!(seen[0].starts_with("a ") && seen[1].starts_with("Syntax 1:"), "{seen:?}");
    let deep = format!(
        "{HEAD}metadata: {{name: a}}\nspec:\n  osImageURL: r.io/a:1\n  config: {}{}\n",
        "{a: ".repeat(200),
        "}".repeat(200)
    );
    assert_eq!(told(&deep), ["a 1 . r.io/a:1 5:15"]);
    let many = format!("{}---\n{}", "a: b\n---\n".repeat(99_999), yaml("a", "r.io/a:1"));
    assert_eq!(told(&many)[1..], ["100000 others"]);
    let wide = format!(
        "{HEAD}metadata: {{name: a}}\nspec:\n  osImageURL: r.io/a:1\n  extensions: [{}]\n",
        "a,".repeat(600_000)
    );
    assert_eq!(told(&wide), ["Object 1:1 true the document has more values than the limit"]);
}

#[test]
fn documents_that_are_not_mappings_are_skipped() {
    for text in ["", "# nothing\n", "---\n---\n", "a sentence\n", "- a\n- b\n", "42\n", "null\n"] {
        assert_eq!(read(text).documents.len() + read(text).faults.len(), 0, "{text}");
    }
    let commented = format!("// ours\n{}", json("a", "r.io/a:1"));
    assert_eq!(told(&commented), ["Object 1:1 true a string, not an object"]);
}

const WORKER: &str = "apiVersion: machineconfiguration.openshift.io/v1
kind: MachineConfig
metadata:
  name: 99-worker-os
  labels:
    machineconfiguration.openshift.io/role: worker
spec:
  kernelArguments: [a]
  # the layered image
  osImageURL: quay.io/acme/os:4.18
";

#[test]
fn one_object_reads_the_same_from_yaml_and_json_and_yaml_has_positions() {
    let from_yaml = read_one(WORKER).unwrap();
    let value: serde_json::Value = serde_saphyr::from_str(WORKER).unwrap();
    let from_json = read_one(&value.to_string()).unwrap();
    for subject in [&from_yaml, &from_json] {
        assert_eq!(subject.name, "99-worker-os");
        assert_eq!(subject.pools(), ["worker"]);
        assert_eq!(subject.object.text(Field::OsImage), "quay.io/acme/os:4.18");
        assert_eq!(subject.object.text(Field::ExtensionsImage), "");
        assert!(!subject.object.has_annotations);
    }
    assert_eq!(from_yaml.origin.position(Field::OsImage), Some(Position { line: 10, column: 15 }));
    assert_eq!(from_json.origin.position(Field::OsImage), None);
}

#[test]
fn all_labels_and_what_clashes_with_an_override_are_kept() {
    let text = WORKER
        .replace("role: worker", "role: worker\n    team: edge\n    empty: null")
        .replace("kernelArguments: [a]", "kernelType: realtime\n  extensions: [usbguard, ipsec]");
    let object = read_one(&text).unwrap().object;
    let labels: Vec<_> = object.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(labels, ["empty=", "machineconfiguration.openshift.io/role=worker", "team=edge"]);
    assert_eq!(object.kernel_type, "realtime");
    assert_eq!(object.extensions, ["usbguard", "ipsec"]);
    assert!(!object.is_generated);
    let annotation =
        "  annotations: {machineconfiguration.openshift.io/generated-by-controller-version: abc}\nspec:";
    let generated = read_one(&WORKER.replace("spec:", annotation)).unwrap().object;
    assert!(generated.is_generated);
}

#[test]
fn a_text_that_is_not_exactly_one_machine_config_is_refused() {
    let many = format!("{WORKER}  extensions: [{}]\n", "a,".repeat(20_000));
    let map = format!("kind: ConfigMap\ndata:\n  x: |\n{}", indented(WORKER, "    "));
    let list = format!("kind: List\nitems:\n- {}", indented(WORKER, "  ").trim_start());
    for (text, message) in [
        ("{", "line 1, column 1: EOF while parsing an object"),
        (
            "apiVersion: v1\nkind: Pod\n",
            "not a MachineConfig: kind is `Pod`; expected `machineconfiguration.openshift.io/v1`, `MachineConfig`",
        ),
        (
            "a: b\n",
            "not a MachineConfig: kind is ``; expected `machineconfiguration.openshift.io/v1`, `MachineConfig`",
        ),
        (
            "apiVersion: v1\nkind: MachineConfig\nspec: {}\n",
            "line 1, column 13: `apiVersion` is `v1`; a MachineConfig has `machineconfiguration.openshift.io/v1`",
        ),
        (
            "apiVersion: machineconfiguration.openshift.io/v1\nkind: MachineConfig\nspec: {}\n",
            "line 1, column 1: metadata.name is missing",
        ),
        (
            &WORKER.replace("osImageURL: quay.io/acme/os:4.18", "osImageURL: [a]"),
            "line 10, column 15: `spec.osImageURL`: invalid type: sequence, expected a string",
        ),
        ("kind: [", "line 1, column 7: unclosed bracket '['"),
        (&format!("{WORKER}---\n{WORKER}"), "expected one MachineConfig, found 2 objects"),
        (&format!("{WORKER}---\nkind: Pod\n"), "expected one MachineConfig, found 2 objects"),
        (&map, "expected one MachineConfig, found one inside another object"),
        (&list, "expected one MachineConfig, found one inside another object"),
        (&many, "line 1, column 1: the document has more values than the limit"),
    ] {
        assert_eq!(read_one(text).unwrap_err().to_string(), message);
    }
}
