//! The explanation as a graph, in the languages of Graphviz and Mermaid.
//!
//! A node for the base that was expected, one for the one that was found, one for the layers that are
//! shared and one for each own layer; an arrow points to what is built on top. Texts from outside are
//! escaped as each language wants it.

use std::fmt::Write as _;

use crate::explain::{BaseExtent, Drawing, Explanation};
use crate::messages;
use crate::model::digest::Digest;

/// A node: what it is, and the lines of its text.
struct GraphNode {
    shape: Shape,
    lines: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A base that was looked for and is not there.
    Missing,
    /// A base of which the lowest layers alone are there.
    Part,
    /// A base that may be there or not.
    Doubtful,
    /// A base.
    Base,
    /// Layers.
    Layers,
    /// The image.
    Image,
}

impl Shape {
    /// What stands on the arrow from it, where that is not to be followed.
    fn breach(self) -> Option<&'static str> {
        match self {
            Self::Missing => Some("not below"),
            Self::Part => Some("only in part"),
            Self::Doubtful => Some("not known"),
            Self::Base | Self::Layers | Self::Image => None,
        }
    }
}

impl Explanation {
    /// The graph in the language of Graphviz.
    pub fn to_dot(&self) -> String {
        let mut out =
            String::from("digraph lineage {\n  rankdir=TB;\n  node [shape=box, fontname=\"monospace\"];\n");
        self.write(&mut out, |out, chain, nodes| {
            for (index, node) in nodes.iter().enumerate() {
                let text: Vec<_> = node.lines.iter().map(|line| dot(line)).collect();
                let style = match node.shape {
                    Shape::Missing | Shape::Part => ", style=dashed, color=red",
                    Shape::Doubtful => ", style=dashed",
                    Shape::Base => ", style=bold",
                    Shape::Layers => "",
                    Shape::Image => ", shape=folder",
                };
                let _ = writeln!(out, "  n{chain}_{index} [label=\"{}\"{style}];", text.join("\\n"));
                if index > 0 {
                    let before = nodes[index - 1].shape;
                    let color = if before == Shape::Doubtful { "" } else { ", color=red" };
                    let broken =
                        before.breach().map(|why| format!(" [style=dashed{color}, label=\"{why}\"]"));
                    let broken = broken.unwrap_or_default();
                    let _ = writeln!(out, "  n{chain}_{} -> n{chain}_{index}{broken};", index - 1);
                }
            }
        });
        out.push_str("}\n");
        out
    }

    /// The graph in the language of Mermaid.
    pub fn to_mermaid(&self) -> String {
        let mut out = String::from("flowchart TB\n");
        self.write(&mut out, |out, chain, nodes| {
            for (index, node) in nodes.iter().enumerate() {
                let text: Vec<_> = node.lines.iter().map(|line| mermaid(line)).collect();
                let _ = writeln!(out, "  n{chain}_{index}[\"{}\"]", text.join("<br/>"));
                if index > 0 {
                    let broken = nodes[index - 1].shape.breach().map(|why| format!("-. {why} .->"));
                    let arrow = broken.as_deref().unwrap_or("-->");
                    let _ = writeln!(out, "  n{chain}_{} {arrow} n{chain}_{index}", index - 1);
                }
            }
        });
        out
    }

    fn write(&self, out: &mut String, chain_of: impl Fn(&mut String, usize, &[GraphNode])) {
        let mut chain = 0;
        for image in &self.images {
            for drawing in &image.lineage {
                chain_of(out, chain, &drawing.nodes(&image.image));
                chain += 1;
            }
        }
    }
}

impl Drawing {
    fn nodes(&self, image: &str) -> Vec<GraphNode> {
        let report = &self.report;
        let mut nodes = Vec::new();
        let base = |shape, release: Option<&str>, reference: &str| {
            let release = release.map(|release| format!("release {release}"));
            GraphNode { shape, lines: release.into_iter().chain([reference.to_owned()]).collect() }
        };
        if report.base() != report.expected_base()
            && let Some(expected) = report.expected_base()
        {
            let shape = if self.below == BaseExtent::Unknown { Shape::Doubtful } else { Shape::Missing };
            nodes.push(base(shape, report.expected_release(), expected));
        }
        if let Some(found) = report.base() {
            let shape = match self.below {
                BaseExtent::Whole | BaseExtent::OfPlatform(_) => Shape::Base,
                BaseExtent::Part => Shape::Part,
                BaseExtent::Nothing => Shape::Missing,
                BaseExtent::Unknown => Shape::Doubtful,
            };
            let mut node = base(shape, report.release(), found);
            if let BaseExtent::OfPlatform(other) = &self.below {
                node.lines.push(format!("for {other}"));
            }
            nodes.push(node);
        }
        let shared = self.base_layers();
        if shared > 0 {
            nodes.push(GraphNode {
                shape: Shape::Layers,
                lines: vec![format!("{} of the base", messages::layers(shared))],
            });
        }
        for layer in self.own().iter().take(MAX_LAYERS) {
            let digest = Digest::parse(&layer.diff_id).map(|digest| digest.short()).unwrap_or_default();
            let command = layer.created_by.as_ref().map(|command| command.chars().take(MAX_TEXT).collect());
            let lines = [format!("{digest} {} bytes", layer.size)].into_iter().chain(command);
            nodes.push(GraphNode { shape: Shape::Layers, lines: lines.collect() });
        }
        if self.own().len() > MAX_LAYERS {
            let more = messages::layers(self.own().len() - MAX_LAYERS);
            nodes.push(GraphNode { shape: Shape::Layers, lines: vec![format!("and {more} more")] });
        }
        let place = [report.platform().map(str::to_owned), report.pool().map(|pool| format!("pool {pool}"))];
        let place = place.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let verdict = match report.reason() {
            Some(reason) => format!("{}: {reason}", report.result()),
            None => report.result().to_owned(),
        };
        let lines = [image.to_owned(), place, verdict].into_iter().filter(|line| !line.is_empty());
        nodes.push(GraphNode { shape: Shape::Image, lines: lines.collect() });
        nodes
    }
}

fn dot(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn mermaid(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '#' => out.push_str("#35;"),
            '"' => out.push_str("#quot;"),
            '<' => out.push_str("#lt;"),
            '>' => out.push_str("#gt;"),
            '&' => out.push_str("#amp;"),
            '`' => out.push_str("#96;"),
            _ => out.push(character),
        }
    }
    out
}

/// The own layers that have a node each.
const MAX_LAYERS: usize = 24;
/// The characters of a command that a node shows.
const MAX_TEXT: usize = 80;
