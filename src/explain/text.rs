//! The explanation as a drawing of characters, for terminals wide and narrow.
//!
//! From the top down: the base that was expected, the one that was found, the layers that are shared
//! (as one line), the image's own with size, time and command. Readable without colour; only commands
//! are ever cut, and only to the width of the terminal.

use std::fmt::Write as _;

use crate::explain::{BaseExtent, Drawing, DrawnLayer, Explanation, ImageExplanation};
use crate::messages;
use crate::model::digest::Digest;
use crate::model::image_reference::ImageReference;
use crate::report::Style;

/// The widths that a drawing may have, in columns.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=160;
/// From this width on a layer and its command share a line.
const WIDE: usize = 90;
/// The layers of an image that are drawn one by one.
const MAX_LAYERS: usize = 24;

impl Explanation {
    /// The drawing, `width` columns wide (at least 40, at most 160). Pull specs that are to be copied
    /// are whole, whatever the width.
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

    /// Text in lines of the width, each `indent` columns in.
    fn wrapped(&mut self, indent: usize, text: &str) {
        let mut line = String::new();
        let mut columns = 0;
        for word in text.split(' ') {
            let length = word.chars().count();
            if columns > 0 && indent + columns + 1 + length > self.width {
                self.line(&format!("{:indent$}{line}", ""));
                line.clear();
                columns = 0;
            }
            if columns > 0 {
                line.push(' ');
                columns += 1;
            }
            line.push_str(word);
            columns += length;
        }
        self.line(&format!("{:indent$}{line}", ""));
    }
}

impl ImageExplanation {
    fn write(&self, canvas: &mut Canvas<'_>) {
        if let Some(name) = &self.machine_config {
            canvas.line(&format!("MachineConfig {name}"));
        }
        canvas.line(&self.image);
        if let Some(digest) = self.digest.as_ref().filter(|digest| !self.image.ends_with(*digest)) {
            canvas.line(&format!("  is {digest}"));
        }
        if let Some(mirror) = self.endpoint.as_ref().filter(|_| self.is_mirrored) {
            canvas.line(&format!("  read from the mirror {mirror}"));
        }
        let mut drawn: Vec<(&Drawing, Vec<&str>)> = Vec::new();
        for drawing in &self.lineage {
            let pool = drawing.report.pool().into_iter();
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
    /// Tells whether both are drawn alike, but for the pool.
    fn is_like(&self, other: &Self) -> bool {
        let alike = |one: &Self| Self { report: one.report.clone().without_pool(), ..one.clone() };
        alike(self) == alike(other)
    }

    fn write(&self, pools: &[&str], canvas: &mut Canvas<'_>) {
        let style = canvas.style;
        let place = [self.report.platform().map(str::to_owned), of_pools(pools)];
        let place: Vec<_> = place.into_iter().flatten().collect();
        let result = self.report.result();
        let painted = match result {
            "same" | "derived" if self.help.is_none() => style.good(result),
            "foreign" => style.error(result),
            _ => style.warning(result),
        };
        let gap = if place.is_empty() { "" } else { "  " };
        canvas.line(&format!("{painted}{gap}{}", place.join(", ")));
        match self.report.reason() {
            Some(reason) => canvas.wrapped(2, reason),
            None => canvas.wrapped(2, &self.praise()),
        }
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
            // The line to copy stands alone, and whole.
            match help.split_once("FROM ") {
                Some((words, reference)) => {
                    canvas.wrapped(2, &format!("help: {}", words.trim_end()));
                    canvas.line(&format!("  FROM {reference}"));
                }
                None => canvas.wrapped(2, &format!("help: {help}")),
            }
        }
    }

    fn praise(&self) -> String {
        let release = self.report.release().map(|release| format!(" of {release}")).unwrap_or_default();
        match self.own().len() {
            0 => format!("it is the base{release} itself"),
            count => format!("built on the base{release}, {} of its own", messages::layers(count)),
        }
    }

    fn write_bases(&self, canvas: &mut Canvas<'_>) {
        let (base, expected) = (self.report.base(), self.report.expected_base());
        if base != expected
            && let Some(expected) = expected
        {
            canvas.line(&base_line(self.report.expected_release(), expected, "expected", canvas));
            let line = if self.report.result() == "unknown" {
                "?  whether its layers are below this image is not known".to_owned()
            } else {
                format!("{}  its layers are not below this image", canvas.style.error("╳"))
            };
            canvas.line(&format!("  {line}"));
        }
        if let Some(base) = base {
            let word = match self.report.result() {
                "foreign" | "unprovable" if base == expected.unwrap_or_default() => "expected",
                "foreign" | "unprovable" => "found",
                _ => "base",
            };
            canvas.line(&base_line(self.report.release(), base, word, canvas));
            if let (BaseExtent::OfPlatform(other), Some(own)) = (&self.below, self.report.platform()) {
                let cross = canvas.style.error("╳");
                canvas.line(&format!("  {cross}  its layers for {other}, and not those for {own}"));
            }
        }
    }

    fn write_layers(&self, canvas: &mut Canvas<'_>) {
        let (shared, own) = (self.base_layers(), self.own());
        if shared > 0 {
            canvas.line("  │");
            let size: u64 = self.layers[..shared].iter().map(|layer| layer.size).sum();
            let end = if own.is_empty() { "└" } else { "├" };
            canvas.line(&format!("  {end}─ {} of the base, {}", messages::layers(shared), bytes(size)));
        }
        let parted = matches!(self.below, BaseExtent::Part | BaseExtent::Nothing)
            && self.report.base().is_some_and(|base| Some(base) == self.report.expected_base());
        if parted {
            let cross = canvas.style.error("╳");
            canvas.line(&format!("  {cross}  from here on its layers are not those of the base"));
        }
        let sizes: Vec<_> = own.iter().map(|layer| bytes(layer.size)).collect();
        let widest = sizes.iter().map(String::len).max().unwrap_or_default();
        for (index, layer) in own.iter().take(MAX_LAYERS).enumerate() {
            let last = index + 1 == own.len();
            layer.write(&format!("{:>widest$}", sizes[index]), last, canvas);
        }
        if own.len() > MAX_LAYERS {
            let rest = &own[MAX_LAYERS..];
            let size: u64 = rest.iter().map(|layer| layer.size).sum();
            canvas.line(&format!("  └─ and {} more, {}", messages::layers(rest.len()), bytes(size)));
        }
    }
}

impl DrawnLayer {
    fn write(&self, size: &str, last: bool, canvas: &mut Canvas<'_>) {
        let (branch, below) = if last { ("└", " ") } else { ("├", "│") };
        let digest = Digest::parse(&self.diff_id).map(|digest| digest.short()).unwrap_or_default();
        let time = self.created.as_deref().and_then(minute).unwrap_or_default();
        let time = if time.is_empty() { time } else { format!("  {time}") };
        let head = format!("  {branch}─ {size}  {digest}{time}");
        let Some(command) = &self.created_by else { return canvas.line(&head) };
        if canvas.width >= WIDE {
            let head = format!("{head}  ");
            let room = canvas.width.saturating_sub(head.chars().count());
            return canvas.line(&format!("{head}{}", cut(command, room)));
        }
        canvas.line(&head);
        let indent = format!("  {below}    ");
        let room = canvas.width.saturating_sub(indent.chars().count());
        canvas.line(&format!("{indent}{}", cut(command, room)));
    }
}

/// `in pool worker`, `in pools infra and worker`.
fn of_pools(pools: &[&str]) -> Option<String> {
    let names: Vec<_> = pools.iter().map(ToString::to_string).collect();
    match names.len() {
        0 => None,
        1 => Some(format!("pool {}", names[0])),
        _ => Some(format!("pools {}", messages::list(&names))),
    }
}

fn base_line(release: Option<&str>, base: &str, word: &str, canvas: &Canvas<'_>) -> String {
    let release = release.map(|release| format!("  {release}")).unwrap_or_default();
    let whole = format!("  {word:<8}{release}  {base}");
    if whole.chars().count() <= canvas.width {
        return whole;
    }
    let short = ImageReference::parse(base).map_or_else(|_| base.to_owned(), |base| messages::short(&base));
    format!("  {word:<8}{release}  {short}")
}

/// The time to the minute, in UTC. `None` for what is no time.
fn minute(text: &str) -> Option<String> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(time.strftime("%Y-%m-%d %H:%M").to_string())
}

fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let kept: String = text.chars().take(room.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// A number of bytes for a person: `512 B`, `1.5 KiB`, `12.0 MiB`.
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
    fn bytes_are_told_in_the_largest_unit_that_fits() {
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
