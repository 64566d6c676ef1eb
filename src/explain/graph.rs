//! The explanation as a graph, in the languages of Graphviz and Mermaid.
//!
//! One node for the expected base, one for the base that was found, one for the layers of the base and one
//! for each layer above; an arrow points to what is built on top. Texts are escaped as each language needs.

use std::fmt::Write as _;

use crate::explain::{BaseExtent, Drawing, Explanation, MAX_LAYERS};
use crate::messages;

/// A node: what it is, and the lines of its text.
struct GraphNode<'a> {
    kind: GraphNodeKind<'a>,
    lines: Vec<String>,
}

#[derive(Clone, Copy)]
enum GraphNodeKind<'a> {
    Base(&'a BaseExtent),
    Layers,
    Image,
}

impl GraphNode<'_> {
    /// The text on the arrow from the node. `None` when what follows is built on it.
    fn gap(&self) -> Option<&'static str> {
        match self.kind {
            GraphNodeKind::Base(BaseExtent::Nothing) => Some("not included"),
            GraphNodeKind::Base(BaseExtent::Part) => Some("only in part"),
            GraphNodeKind::Base(BaseExtent::Unknown) => Some("not known"),
            _ => None,
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
                let style = match node.kind {
                    GraphNodeKind::Base(BaseExtent::Nothing | BaseExtent::Part) => {
                        ", style=dashed, color=red"
                    }
                    GraphNodeKind::Base(BaseExtent::Unknown) => ", style=dashed",
                    GraphNodeKind::Base(_) => ", style=bold",
                    GraphNodeKind::Layers => "",
                    GraphNodeKind::Image => ", shape=folder",
                };
                let _ = writeln!(out, "  n{chain}_{index} [label=\"{}\"{style}];", text.join("\\n"));
                if index > 0 {
                    let before = &nodes[index - 1];
                    let is_unknown = matches!(before.kind, GraphNodeKind::Base(BaseExtent::Unknown));
                    let color = if is_unknown { "" } else { ", color=red" };
                    let gap = before.gap().map(|gap| format!(" [style=dashed{color}, label=\"{gap}\"]"));
                    let gap = gap.unwrap_or_default();
                    let _ = writeln!(out, "  n{chain}_{} -> n{chain}_{index}{gap};", index - 1);
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
                    let gap = nodes[index - 1].gap().map(|gap| format!("-. {gap} .->"));
                    let arrow = gap.as_deref().unwrap_or("-->");
                    let _ = writeln!(out, "  n{chain}_{} {arrow} n{chain}_{index}", index - 1);
                }
            }
        });
        out
    }

    fn write(&self, out: &mut String, chain_of: impl Fn(&mut String, usize, &[GraphNode<'_>])) {
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
    fn nodes(&self, image: &str) -> Vec<GraphNode<'_>> {
        let layers = |lines| GraphNode { kind: GraphNodeKind::Layers, lines };
        let mut nodes: Vec<_> = self
            .bases()
            .into_iter()
            .map(|base| {
                let release = base.release.map(|release| format!("release {release}"));
                let platform = match base.extent {
                    BaseExtent::OfPlatform(platform) => Some(format!("for {platform}")),
                    _ => None,
                };
                let lines = [release, Some(base.reference.to_owned()), platform];
                GraphNode {
                    kind: GraphNodeKind::Base(base.extent),
                    lines: lines.into_iter().flatten().collect(),
                }
            })
            .collect();
        let (of_base, own) = self.split_layers();
        if !of_base.is_empty() {
            nodes.push(layers(vec![format!("{} of the base", messages::layers(of_base.len()))]));
        }
        for layer in own.iter().take(MAX_LAYERS) {
            let size = format!("{} {} bytes", layer.short_diff_id(), layer.size);
            let command = layer.created_by.as_ref().map(|command| command.chars().take(MAX_TEXT).collect());
            nodes.push(layers([size].into_iter().chain(command).collect()));
        }
        if own.len() > MAX_LAYERS {
            nodes.push(layers(vec![format!("and {} more", messages::layers(own.len() - MAX_LAYERS))]));
        }
        let report = &self.report;
        let of = [report.platform.clone(), report.pool.as_ref().map(|pool| format!("pool {pool}"))];
        let of = of.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let result = match &report.reason {
            Some(reason) => format!("{}: {reason}", report.result),
            None => report.result.to_owned(),
        };
        let lines = [image.to_owned(), of, result].into_iter().filter(|line| !line.is_empty());
        nodes.push(GraphNode { kind: GraphNodeKind::Image, lines: lines.collect() });
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

/// The characters of a command that a node shows.
const MAX_TEXT: usize = 80;
