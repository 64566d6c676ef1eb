//! The explanation as a graph, in the languages of Graphviz and Mermaid.
//!
//! One node for the expected base, one for the base that was found, one for the layers of the base and one
//! for each layer above; an arrow points to what is built on top. Texts are escaped as each language needs.

use std::fmt::Write as _;

use crate::explain::{BaseExtent, Drawing, DrawnBase, Explanation, MAX_LAYERS};
use crate::messages;

/// A node: the lines of its text, and how it is drawn.
struct GraphNode {
    lines: Vec<String>,
    /// Its attributes for Graphviz.
    style: &'static str,
    /// The text on the arrow from the node, which has the same style. `None` when what follows is built on it.
    gap: Option<&'static str>,
}

impl Explanation {
    /// The graph in the language of Graphviz.
    pub fn to_dot(&self) -> String {
        let graph = self.graph(
            |name, GraphNode { lines, style, .. }| {
                let separator = if style.is_empty() { "" } else { ", " };
                let text = lines.join("\n").replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                format!("{name} [label=\"{text}\"{separator}{style}];")
            },
            |from, GraphNode { style, gap, .. }, to| match gap {
                Some(gap) => format!("{from} -> {to} [{style}, label=\"{gap}\"];"),
                None => format!("{from} -> {to};"),
            },
        );
        format!("digraph lineage {{\n  rankdir=TB;\n  node [shape=box, fontname=\"monospace\"];\n{graph}}}\n")
    }

    /// The graph in the language of Mermaid.
    pub fn to_mermaid(&self) -> String {
        let graph = self.graph(
            |name, node| {
                let text = MERMAID
                    .iter()
                    .fold(node.lines.join("\n"), |text, (plain, escaped)| text.replace(*plain, escaped));
                format!("{name}[\"{}\"]", text.replace('\n', "<br/>"))
            },
            |from, node, to| match node.gap {
                Some(gap) => format!("{from} -. {gap} .-> {to}"),
                None => format!("{from} --> {to}"),
            },
        );
        format!("flowchart TB\n{graph}")
    }

    /// A line for each node of each drawing, and one for the arrow to it.
    fn graph(
        &self,
        node: impl Fn(&str, &GraphNode) -> String,
        arrow: impl Fn(&str, &GraphNode, &str) -> String,
    ) -> String {
        let mut out = String::new();
        let drawings = self
            .images
            .iter()
            .flat_map(|image| image.lineage.iter().map(|drawing| drawing.nodes(&image.image)));
        for (chain, nodes) in drawings.enumerate() {
            for (index, drawn) in nodes.iter().enumerate() {
                let name = format!("n{chain}_{index}");
                // Writing to a string does not fail.
                let _ = writeln!(out, "  {}", node(&name, drawn));
                if let Some(before) = index.checked_sub(1) {
                    let _ =
                        writeln!(out, "  {}", arrow(&format!("n{chain}_{before}"), &nodes[before], &name));
                }
            }
        }
        out
    }
}

impl Drawing {
    fn nodes(&self, image: &str) -> Vec<GraphNode> {
        let layers = |lines| GraphNode { lines, style: "", gap: None };
        let base = |base: DrawnBase<'_>| {
            let (style, gap) = match base.extent {
                BaseExtent::Whole | BaseExtent::OfPlatform(_) => ("style=bold", None),
                BaseExtent::Part => ("style=dashed, color=red", Some("only in part")),
                BaseExtent::Nothing => ("style=dashed, color=red", Some("not included")),
                BaseExtent::Unknown => ("style=dashed", Some("not known")),
            };
            let release = base.release.map(|release| format!("release {release}"));
            let platform = match base.extent {
                BaseExtent::OfPlatform(platform) => Some(format!("for {platform}")),
                _ => None,
            };
            let lines = [release, Some(base.reference.to_owned()), platform].into_iter().flatten().collect();
            GraphNode { lines, style, gap }
        };
        let mut nodes: Vec<_> = self.bases().into_iter().map(base).collect();
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
        let lines = [image.to_owned(), of, result].into_iter().filter(|line| !line.is_empty()).collect();
        nodes.push(GraphNode { lines, style: "shape=folder", gap: None });
        nodes
    }
}

/// What Mermaid reads as markup. The number sign comes first, because each escape begins with one.
const MERMAID: [(char, &str); 6] =
    [('#', "#35;"), ('"', "#quot;"), ('<', "#lt;"), ('>', "#gt;"), ('&', "#amp;"), ('`', "#96;")];

/// The characters of a command that a node shows.
const MAX_TEXT: usize = 80;
