//! Any text with one image in it: only the lines that must change do, and another parser reads back
//! the pinned value and the record.

use std::borrow::Cow;

use jiff::Timestamp;
use layerpin::manifests;
use layerpin::manifests::edit;
use layerpin::model::digest::Digest;
use layerpin::model::facts::{Fact, Facts, Manifest, ManifestKind};
use layerpin::model::pull_spec::PullSpec;
use layerpin::pin;
use layerpin::policy::Policy;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

const IMAGE: &str = "registry.example.com:5000/acme/os:4.18";
const REPOSITORY: &str = "registry.example.com:5000/acme/os";
const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OLD: &str = "registry.example.com:5000/acme/os:4.17@sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_the_lines_that_must_change_do_and_another_parser_agrees(style in style()) {
        let text = style.text();
        let after = pinned(&text).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
        // Another parser: the same document but for the value and the record.
        prop_assert_eq!(style.value(&after), expected(style.value(&text)), "\n{}", after);
        // Every line that has no part in the change is there, in its order.
        let mut rest = after.split_inclusive('\n');
        for line in text.split_inclusive('\n').filter(|line| !style.may_change(line)) {
            let line = line.trim_end_matches(['\r', '\n']);
            prop_assert!(rest.any(|other| other.trim_end_matches(['\r', '\n']) == line), "{line:?} is gone\n{after}");
        }
        // What is new is about the image and its record, and nothing else.
        for line in after.split_inclusive('\n') {
            let is_old = text.split_inclusive('\n').any(|old| old.trim_end() == line.trim_end());
            prop_assert!(is_old || style.may_change(line), "{line:?} is new\n{after}");
        }
        let ends = |text: &str| (text.starts_with('\u{feff}'), text.ends_with('\n'), text.contains("\r\n"));
        prop_assert_eq!(ends(&after), ends(&text));
        prop_assert_eq!(after.matches('\n').count() - after.matches("\r\n").count() > 0, style.line_break == "\n");
        prop_assert_eq!(pinned(&after).unwrap(), after);
    }

    #[test]
    fn no_text_is_too_odd_to_be_read(text in "[a-z:{}\\[\\]&*!|>'\"%@`#,?\\- \n\t\r~<]{0,80}") {
        manifests::read(&text);
        let object = format!("apiVersion: machineconfiguration.openshift.io/v1\nkind: MachineConfig\nmetadata: {{name: a}}\nspec:\n  osImageURL: {IMAGE}\n  x: {text}\n");
        if let Ok(after) = pinned(&object) {
            prop_assert_eq!(pinned(&after).unwrap(), after);
        }
    }
}

/// Pins `text`; the registry says `DIGEST` to everything.
fn pinned(text: &str) -> Result<String, edit::EditError> {
    let read = manifests::read(text);
    let mut facts = Facts::none(Timestamp::UNIX_EPOCH);
    let manifest = Manifest {
        digest: Digest::parse(DIGEST).unwrap(),
        kind: ManifestKind::Index,
        endpoint: "registry.example.com:5000".to_owned(),
    };
    facts.manifests.insert(PullSpec::parse(IMAGE).unwrap(), Fact::Known(manifest));
    let policy = Policy::recommended();
    let plans: Vec<_> =
        read.documents.iter().map(|document| pin::plan(&document.subject, &facts, &policy)).collect();
    edit::write(text, read.documents.iter().zip(&plans)).map(Cow::into_owned)
}

fn expected(mut object: Value) -> Value {
    object["spec"]["osImageURL"] = format!("{REPOSITORY}@{DIGEST}").into();
    let metadata = object["metadata"].as_object_mut().unwrap();
    let annotations = metadata.entry("annotations").or_insert_with(|| Value::Object(serde_json::Map::new()));
    if annotations.is_null() {
        *annotations = Value::Object(serde_json::Map::new());
    }
    annotations["layerpin.io/pinned-from"] = format!("{IMAGE}@{DIGEST}").into();
    object
}

/// How a text is written.
#[derive(Clone, Debug)]
struct Style {
    line_break: &'static str,
    mark: &'static str,
    ends_with_line_break: bool,
    indent: usize,
    quote: &'static str,
    key_quote: &'static str,
    spec_first: bool,
    metadata: Metadata,
    annotations: &'static str,
    labels: &'static str,
    comments: bool,
    around: Around,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metadata {
    Block { annotations_first: bool },
    Flow,
    FlowInLines,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Around {
    Nothing,
    Markers,
    List,
    ConfigMap,
    Json,
    JsonInLines,
}

fn style() -> impl Strategy<Value = Style> {
    let text = (
        select(vec!["\n", "\r\n"]),
        select(vec!["", "\u{feff}"]),
        any::<bool>(),
        1_usize..6,
        select(vec!["", "'", "\""]),
        select(vec!["", "'", "\""]),
    );
    let object = (
        any::<bool>(),
        select(vec![
            Metadata::Block { annotations_first: true },
            Metadata::Block { annotations_first: false },
            Metadata::Flow,
            Metadata::FlowInLines,
        ]),
        select(vec![
            "absent", "null", "tilde", "nothing", "empty", "flow", "block", "old", "old flow", "old null",
        ]),
        select(vec!["absent", "flow", "block"]),
        any::<bool>(),
        select(vec![
            Around::Nothing,
            Around::Markers,
            Around::List,
            Around::ConfigMap,
            Around::Json,
            Around::JsonInLines,
        ]),
    );
    (text, object).prop_map(|(text, object)| {
        let (line_break, mark, ends_with_line_break, indent, quote, key_quote) = text;
        let (spec_first, metadata, annotations, labels, comments, around) = object;
        Style {
            line_break,
            mark,
            ends_with_line_break,
            indent,
            quote,
            key_quote,
            spec_first,
            metadata,
            annotations,
            labels,
            comments,
            around,
        }
    })
}

impl Style {
    fn text(&self) -> String {
        let lines = match self.around {
            Around::Json => vec![self.json().to_string()],
            Around::JsonInLines => serde_json::to_string_pretty(&self.json())
                .unwrap()
                .lines()
                .map(|line| {
                    let margin = line.len() - line.trim_start().len();
                    format!("{}{}", " ".repeat(margin / 2 * self.indent), line.trim_start())
                })
                .collect(),
            Around::Nothing => self.object(),
            Around::Markers => {
                let mut lines = vec!["# first".to_owned(), "kind: Pod".to_owned(), "--- # second".to_owned()];
                lines.extend(self.object());
                lines.extend(["...".to_owned(), "---".to_owned(), "kind: Secret".to_owned()]);
                lines
            }
            Around::List => {
                let mut lines =
                    vec!["apiVersion: v1".to_owned(), "kind: List".to_owned(), "items:".to_owned()];
                for (index, line) in self.object().into_iter().enumerate() {
                    lines.push(format!("{}{line}", if index == 0 { "- " } else { "  " }));
                }
                lines.push("- kind: Pod".to_owned());
                lines
            }
            Around::ConfigMap => {
                let mut lines =
                    vec!["kind: ConfigMap".to_owned(), "data:".to_owned(), "  config: |".to_owned()];
                lines.extend(self.object().into_iter().map(|line| format!("    {line}")));
                lines.push("  other: x".to_owned());
                lines
            }
        };
        let mut text = format!("{}{}", self.mark, lines.join(self.line_break));
        // Without a line break anywhere there would be no telling of which kind they are.
        if self.ends_with_line_break || lines.len() == 1 {
            text.push_str(self.line_break);
        }
        text
    }

    fn object(&self) -> Vec<String> {
        let step = " ".repeat(self.indent);
        let key = |name: &str| format!("{0}{name}{0}", self.key_quote);
        let comment = |text: &str| if self.comments { format!("  # {text}") } else { String::new() };
        let mut spec = vec![format!("{}:{}", key("spec"), comment("what it wants"))];
        spec.push(format!("{step}{}: {1}{IMAGE}{1}{2}", key("osImageURL"), self.quote, comment("layered")));
        spec.push(format!("{step}{}: [a, b]", key("kernelArguments")));
        let mut metadata = self.metadata(&key, &comment, &step);
        let mut lines = vec![
            format!("{}: machineconfiguration.openshift.io/v1", key("apiVersion")),
            format!("{}: MachineConfig", key("kind")),
        ];
        if self.spec_first {
            lines.append(&mut spec);
            lines.append(&mut metadata);
        } else {
            lines.append(&mut metadata);
            lines.append(&mut spec);
        }
        lines
    }

    fn metadata(
        &self,
        key: &dyn Fn(&str) -> String,
        comment: &dyn Fn(&str) -> String,
        step: &str,
    ) -> Vec<String> {
        let labels = match self.labels {
            "absent" => None,
            _ => Some(format!("{}: {{machineconfiguration.openshift.io/role: worker}}", key("labels"))),
        };
        let record = key("layerpin.io/pinned-from");
        let annotations = match self.annotations {
            "absent" => None,
            "null" => Some("null".to_owned()),
            "tilde" => Some("~".to_owned()),
            "nothing" => Some(String::new()),
            "old" | "old flow" => Some(format!("{{{}: b, {record}: '{OLD}'}}", key("a"))),
            "old null" => Some(format!("{{{record}: , {}: b}}", key("a"))),
            "flow" | "block" => Some(format!("{{{}: b, {}: 'd: e'}}", key("a"), key("c"))),
            _ => Some("{}".to_owned()),
        };
        let annotations =
            annotations.map(|value| format!("{}: {value}", key("annotations")).trim_end().to_owned());
        let name = format!("{}: os", key("name"));
        match self.metadata {
            Metadata::Flow | Metadata::FlowInLines => {
                let entries: Vec<_> = [Some(name), annotations, labels].into_iter().flatten().collect();
                if self.metadata == Metadata::Flow {
                    return vec![format!(
                        "{}: {{{}}}{}",
                        key("metadata"),
                        entries.join(", "),
                        comment("of it")
                    )];
                }
                let mut lines = vec![format!("{}: {{", key("metadata"))];
                let count = entries.len();
                lines.extend(entries.into_iter().enumerate().map(|(index, entry)| {
                    format!("{step}{entry}{}", if index + 1 < count { "," } else { "" })
                }));
                // Closed at a margin, so that it may stand in a list.
                lines.push(format!("{step}}}"));
                lines
            }
            Metadata::Block { annotations_first } => {
                let mut lines = vec![format!("{}:{}", key("metadata"), comment("of it"))];
                if self.comments {
                    lines.push(format!("{step}# names are unique"));
                }
                let mut entries = vec![vec![format!("{step}{name}{}", comment("its name"))]];
                let block = match self.annotations {
                    "block" => Some(vec![("a", "b".to_owned()), ("c", "|".to_owned())]),
                    "old" => Some(vec![("a", "b".to_owned()), ("layerpin.io/pinned-from", OLD.to_owned())]),
                    _ => None,
                };
                if let Some(block) = block {
                    let mut lines = vec![format!("{step}{}:{}", key("annotations"), comment("notes"))];
                    for (name, value) in block {
                        lines.push(format!("{step}{step}{}: {value}", key(name)));
                        if value == "|" {
                            lines.push(format!("{step}{step} text"));
                            lines.push(String::new());
                        }
                    }
                    entries.push(lines);
                } else if let Some(annotations) = annotations {
                    entries.push(vec![format!("{step}{annotations}{}", comment("notes"))]);
                }
                if annotations_first {
                    entries.reverse();
                }
                if let Some(labels) = labels {
                    entries.push(match self.labels {
                        "block" => vec![
                            format!("{step}{}:", key("labels")),
                            format!("{step}{step}machineconfiguration.openshift.io/role: worker"),
                        ],
                        _ => vec![format!("{step}{labels}")],
                    });
                }
                lines.extend(entries.into_iter().flatten());
                lines
            }
        }
    }

    fn json(&self) -> Value {
        let mut metadata = serde_json::json!({"name": "os"});
        match self.annotations {
            "absent" => {}
            "null" | "tilde" | "nothing" => metadata["annotations"] = Value::Null,
            "empty" => metadata["annotations"] = serde_json::json!({}),
            "flow" | "block" => metadata["annotations"] = serde_json::json!({"a": "b", "z": "d: \"e\"\\"}),
            _ => metadata["annotations"] = serde_json::json!({"a": "b", "layerpin.io/pinned-from": OLD}),
        }
        serde_json::json!({
            "apiVersion": "machineconfiguration.openshift.io/v1",
            "kind": "MachineConfig",
            "metadata": metadata,
            "spec": {"osImageURL": IMAGE, "kernelArguments": ["a", "b"]},
        })
    }

    /// What another parser reads in a text of this style.
    fn value(&self, text: &str) -> Value {
        let parse = |text: &str| -> Value {
            serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
        };
        match self.around {
            Around::Nothing => parse(text),
            Around::Json | Around::JsonInLines => {
                let json: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).unwrap();
                assert_eq!(parse(text), json);
                json
            }
            Around::Markers => {
                let start = text.find("--- # second").unwrap();
                let end = text.find("...").unwrap();
                parse(&text[start..end])
            }
            Around::List => parse(text)["items"][0].clone(),
            Around::ConfigMap => parse(parse(text)["data"]["config"].as_str().unwrap()),
        }
    }

    /// Whether a line has a part in the change: the image, the record, and the annotations around it
    /// where they are written in braces or not at all.
    fn may_change(&self, line: &str) -> bool {
        let is_flow = matches!(self.metadata, Metadata::Flow) && line.contains("metadata");
        let is_null = line.contains("annotations") && !line.trim_end().ends_with(':');
        // A map that is written in lines of its own gets a line that ends it.
        let closes = self.around == Around::JsonInLines || self.metadata == Metadata::FlowInLines;
        line.contains(REPOSITORY)
            || line.contains("layerpin.io/pinned-from")
            || line.trim_start().trim_start_matches(['"', '\'']).starts_with("annotations")
            || is_flow
            || is_null
            || self.around == Around::Json
            || (closes && matches!(line.trim(), "}" | "},"))
    }
}
