//! The explanation as a drawing of characters, for wide and narrow terminals.
//!
//! From top to bottom: the expected base, the base that was found, its layers (one line), the layers above
//! with size, time and command. Readable without colour; only commands are cut, to the width of the
//! terminal.

use std::fmt::Write as _;

use crate::explain::{BaseExtent, Drawing, DrawnBase, DrawnLayer, Explanation, ImageExplanation, MAX_LAYERS};
use crate::messages;
use crate::model::image_reference::ImageReference;
use crate::report::{LineageReport, Style};

/// The widths that a drawing may have, in columns.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=160;
/// From this width on a layer and its command share a line.
const WIDE: usize = 90;

impl Explanation {
    /// The drawing, `width` columns wide (at least 40, at most 160). Pull specs to copy are never cut or
    /// wrapped.
    pub fn to_text(&self, width: usize, style: Style) -> String {
        let width = width.clamp(*WIDTHS.start(), *WIDTHS.end());
        let mut out = String::new();
        for (index, image) in self.images.iter().enumerate() {
            if index > 0 {
                out.push('\n');
            }
            image.write(&mut Canvas { out: &mut out, width, style });
        }
        out
    }
}

struct Canvas<'a> {
    out: &'a mut String,
    width: usize,
    style: Style,
}

impl Canvas<'_> {
    fn line(&mut self, text: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.out, "{}", text.trim_end());
    }

    /// Wraps text to the width, indented by `indent` columns.
    fn wrapped(&mut self, indent: usize, text: &str) {
        let mut line = String::new();
        for word in text.split(' ') {
            let columns = indent + line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && columns > self.width {
                self.line(&format!("{:indent$}{line}", ""));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(&format!("{:indent$}{line}", ""));
    }

    /// Writes `head` and as much of `text` as fits on the line.
    fn cut(&mut self, head: &str, text: &str) {
        let room = self.width.saturating_sub(head.chars().count());
        if text.chars().count() <= room {
            return self.line(&format!("{head}{text}"));
        }
        let kept: String = text.chars().take(room.saturating_sub(1)).collect();
        self.line(&format!("{head}{kept}…"));
    }
}

impl ImageExplanation {
    fn write(&self, canvas: &mut Canvas<'_>) {
        if let Some(name) = &self.machine_config {
            canvas.line(&format!("MachineConfig {name}"));
        }
        canvas.line(&self.image);
        if let Some(digest) = self.digest.as_ref().filter(|digest| !self.image.ends_with(*digest)) {
            canvas.line(&format!("  digest {digest}"));
        }
        if let Some(mirror) = self.endpoint.as_ref().filter(|_| self.is_mirrored) {
            canvas.line(&format!("  read from the mirror {mirror}"));
        }
        let mut drawn: Vec<(&Drawing, Vec<String>)> = Vec::new();
        for drawing in &self.lineage {
            let pool = drawing.report.pool.clone().into_iter();
            match drawn.iter_mut().find(|(earlier, _)| earlier.is_like(drawing)) {
                Some((_, pools)) => pools.extend(pool),
                None => drawn.push((drawing, pool.collect())),
            }
        }
        for (drawing, pools) in drawn {
            canvas.line("");
            drawing.write(&pools, canvas);
        }
    }
}

impl Drawing {
    /// Tells whether both drawings differ in the pool alone.
    fn is_like(&self, other: &Self) -> bool {
        let mut other = other.clone();
        other.report.pool.clone_from(&self.report.pool);
        *self == other
    }

    fn write(&self, pools: &[String], canvas: &mut Canvas<'_>) {
        let style = canvas.style;
        let pools = (!pools.is_empty()).then(|| messages::pools(pools));
        let of: Vec<_> = [self.report.platform.clone(), pools].into_iter().flatten().collect();
        let result = match self.report.result {
            result @ ("same" | "derived") if self.help.is_none() => style.good(result),
            result @ "foreign" => style.error(result),
            result => style.warning(result),
        };
        let gap = if of.is_empty() { "" } else { "  " };
        canvas.line(&format!("{result}{gap}{}", of.join(", ")));
        canvas.wrapped(2, &self.report.reason.clone().unwrap_or_else(|| self.proof()));
        if !self.layers.is_empty() {
            canvas.line("");
            self.write_bases(canvas);
            self.write_layers(canvas);
        }
        if !self.notes.is_empty() || self.help.is_some() {
            canvas.line("");
        }
        for note in &self.notes {
            canvas.wrapped(2, &format!("note: {note}"));
        }
        if let Some(help) = &self.help {
            // The line to copy is on its own, and is not wrapped.
            let (words, reference) = help.split_once("FROM ").unwrap_or((help, ""));
            canvas.wrapped(2, &format!("help: {}", words.trim_end()));
            if !reference.is_empty() {
                canvas.line(&format!("  FROM {reference}"));
            }
        }
    }

    /// What the layers prove, for an image that is in order.
    fn proof(&self) -> String {
        let release = self.report.release.as_ref().map(|release| format!(" of {release}"));
        let release = release.unwrap_or_default();
        match self.split_layers().1.len() {
            0 => format!("this is the base{release} itself"),
            count => format!("built on the base{release}, {} above it", messages::layers(count)),
        }
    }

    fn write_bases(&self, canvas: &mut Canvas<'_>) {
        let LineageReport { base, expected_base, result, platform, .. } = &self.report;
        let cross = canvas.style.error("╳");
        for drawn in self.bases() {
            let word = match (drawn.is_found, *result) {
                (true, "foreign" | "unprovable") if base != expected_base => "found",
                (true, "same" | "derived" | "unknown") => "base",
                _ => "expected",
            };
            canvas.line(&base_line(&drawn, word, canvas));
            let line = match (drawn.is_found, drawn.extent, platform) {
                (false, BaseExtent::Unknown, _) => {
                    "?  not known whether this image contains its layers".to_owned()
                }
                (false, _, _) => format!("{cross}  its layers are not in this image"),
                (true, BaseExtent::OfPlatform(other), Some(own)) => {
                    format!("{cross}  this image contains its layers for {other}, not for {own}")
                }
                _ => continue,
            };
            canvas.line(&format!("  {line}"));
        }
    }

    fn write_layers(&self, canvas: &mut Canvas<'_>) {
        let size = |layers: &[DrawnLayer]| bytes(layers.iter().map(|layer| layer.size).sum());
        let (of_base, own) = self.split_layers();
        if !of_base.is_empty() {
            canvas.line("  │");
            let end = if own.is_empty() { "└" } else { "├" };
            let count = messages::layers(of_base.len());
            canvas.line(&format!("  {end}─ {count} of the base, {}", size(of_base)));
        }
        let LineageReport { base, expected_base, .. } = &self.report;
        if matches!(self.extent, BaseExtent::Part | BaseExtent::Nothing)
            && base.is_some()
            && base == expected_base
        {
            let cross = canvas.style.error("╳");
            canvas.line(&format!("  {cross}  the layers from here on are not those of the base"));
        }
        let sizes: Vec<_> = own.iter().map(|layer| bytes(layer.size)).collect();
        let widest = sizes.iter().map(String::len).max().unwrap_or_default();
        for (index, layer) in own.iter().take(MAX_LAYERS).enumerate() {
            let branch = if index + 1 == own.len() { ["└", " "] } else { ["├", "│"] };
            layer.write(&format!("{:>widest$}", sizes[index]), branch, canvas);
        }
        if let Some(rest) = own.get(MAX_LAYERS..).filter(|rest| !rest.is_empty()) {
            canvas.line(&format!("  └─ and {} more, {}", messages::layers(rest.len()), size(rest)));
        }
    }
}

impl DrawnLayer {
    fn write(&self, size: &str, [branch, below]: [&str; 2], canvas: &mut Canvas<'_>) {
        let minute = |time: jiff::Timestamp| time.strftime("  %Y-%m-%d %H:%M").to_string();
        let time = self.created.as_deref().and_then(|text| text.parse().ok()).map(minute);
        let head = format!("  {branch}─ {size}  {}{}", self.short_diff_id(), time.unwrap_or_default());
        match &self.created_by {
            None => canvas.line(&head),
            Some(command) if canvas.width >= WIDE => canvas.cut(&format!("{head}  "), command),
            Some(command) => {
                canvas.line(&head);
                canvas.cut(&format!("  {below}    "), command);
            }
        }
    }
}

fn base_line(base: &DrawnBase<'_>, word: &str, canvas: &Canvas<'_>) -> String {
    let release = base.release.map(|release| format!("  {release}")).unwrap_or_default();
    let line = |reference: &str| format!("  {word:<8}{release}  {reference}");
    match ImageReference::parse(base.reference) {
        Ok(reference) if line(base.reference).chars().count() > canvas.width => {
            line(&messages::short(&reference))
        }
        _ => line(base.reference),
    }
}

/// A number of bytes: `512 B`, `1.5 KiB`, `12.0 MiB`.
fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut scaled = count as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1023.95 && unit + 1 < units.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        for (count, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (12_900_000, "12.3 MiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }
}
