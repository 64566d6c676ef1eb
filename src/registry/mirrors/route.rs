//! Where an image is pulled from: the endpoints of a reference, in the order in which nodes try them.
//!
//! Owns the model of `containers-registries.conf(5)` and how `containers/image` reads it: which entry
//! is for a reference, which mirrors may answer for a tag and which for a digest, and what is
//! blocked. Pure; [`crate::registry::mirrors::registries_conf`] and [`crate::registry::mirrors::mirror_sets`] make it. The repository that
//! the user wrote is never changed by it: an endpoint is where to ask, not what the image is called.

use crate::model::image_reference::ImageReference;
use crate::model::pull_spec::PullSpec;
use crate::registry::http::Trust;

/// What is configured of registries: mirrors, blocked and insecure ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryTable {
    /// No two have the same prefix.
    entries: Vec<RegistryEntry>,
}

/// One `[[registry]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryEntry {
    /// What it is for: `host[:port][/namespace…]`, or `*.domain` for every host below a domain.
    pub prefix: String,
    /// What is asked in place of the prefix. `None`, for wildcards alone: what the reference says.
    pub location: Option<String>,
    /// What is asked before the location, in this order.
    pub mirrors: Vec<Mirror>,
    /// How the location is spoken to.
    pub trust: Trust,
    /// Whether the location may be pulled from.
    pub access: PullAccess,
}

/// Somewhere else to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// What is asked in place of the prefix of the entry.
    pub location: String,
    /// How it is spoken to.
    pub trust: Trust,
    /// What it may answer.
    pub answers: PullFromMirror,
}

/// What a mirror may answer (`pull-from-mirror`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullFromMirror {
    /// Tags and digests.
    All,
    /// Digests alone.
    Digests,
    /// Tags alone.
    Tags,
}

/// Whether images may be pulled from a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullAccess {
    /// They may.
    Allowed,
    /// They may not (`blocked`).
    Blocked,
}

/// The endpoints of one reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Whom to ask, in this order: the mirrors, then the source.
    pub endpoints: Vec<Endpoint>,
    /// The prefix of the entry that blocks the source, which is then not among the endpoints.
    pub blocked: Option<String>,
}

/// Somewhere to ask for one reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The reference as this endpoint has it.
    pub reference: PullSpec,
    /// How it is spoken to.
    pub trust: Trust,
    /// Whether it is a mirror.
    pub role: Role,
}

/// What an endpoint is to a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It holds a copy.
    Mirror,
    /// It is the registry that the reference names, or what is configured in its place.
    Source,
}

impl Route {
    /// Nothing is configured for `reference`.
    fn to_source(reference: PullSpec) -> Self {
        let source = Endpoint { reference, trust: Trust::Verified, role: Role::Source };
        Self { endpoints: vec![source], blocked: None }
    }
}

impl RegistryTable {
    /// What `entries` say. Of several with the same prefix the first counts, as on nodes.
    pub fn new(entries: impl IntoIterator<Item = RegistryEntry>) -> Self {
        let mut registries = Self::default();
        for entry in entries {
            if registries.entries.iter().all(|earlier| earlier.prefix != entry.prefix) {
                registries.entries.push(entry);
            }
        }
        registries
    }

    /// Takes the entries of `other` over: one with the same prefix replaces that of before as a
    /// whole, as a drop-in file does.
    pub fn overlay(&mut self, other: Self) {
        self.entries.retain(|entry| other.entries.iter().all(|later| later.prefix != entry.prefix));
        self.entries.extend(other.entries);
    }

    /// The entries.
    pub fn entries(&self) -> &[RegistryEntry] {
        &self.entries
    }

    /// Where `reference` is pulled from.
    ///
    /// An endpoint whose name for the image would be no reference is left out. A mirror that is
    /// blocked itself is left out, too.
    pub fn route(&self, reference: &PullSpec) -> Route {
        let asked = reference.clone();
        if self.entries.is_empty() {
            return Route::to_source(asked);
        }
        let name = name(&asked);
        let Some((entry, end)) = self.find(&name) else { return Route::to_source(asked) };
        let suffix = &asked.as_str()[asked.repository().len()..];
        let rewritten = |location: &str| PullSpec::parse(&format!("{location}{}{suffix}", &name[end..])).ok();
        let wanted = match asked.digest() {
            Some(_) => PullFromMirror::Digests,
            None => PullFromMirror::Tags,
        };
        let mirrors = entry
            .mirrors
            .iter()
            .filter(|mirror| matches!(mirror.answers, PullFromMirror::All) || mirror.answers == wanted);
        let mut endpoints: Vec<_> = mirrors
            .filter_map(|mirror| {
                let reference = rewritten(&mirror.location)?;
                Some(Endpoint { reference, trust: mirror.trust, role: Role::Mirror })
            })
            .filter(|endpoint| self.blocking(&endpoint.reference).is_none())
            .collect();
        let source = entry.location.as_deref().and_then(rewritten).unwrap_or(asked);
        // Nodes look for the entry of the place that they are about to ask; `containers-registries.conf`
        // promises that of the prefix. Whoever blocks either means it.
        let blocked = match entry.access {
            PullAccess::Blocked => Some(entry),
            PullAccess::Allowed => self.blocking(&source),
        };
        let blocked = blocked.map(|entry| entry.prefix.clone());
        if blocked.is_none() {
            endpoints.push(Endpoint { reference: source, trust: entry.trust, role: Role::Source });
        }
        Route { endpoints, blocked }
    }

    /// The entry that blocks what is at `reference`.
    fn blocking(&self, reference: &ImageReference) -> Option<&RegistryEntry> {
        let (entry, _) = self.find(&name(reference))?;
        (entry.access == PullAccess::Blocked).then_some(entry)
    }

    /// The entry with the longest prefix of `name`, and where that ends.
    fn find(&self, name: &str) -> Option<(&RegistryEntry, usize)> {
        let matching = self.entries.iter().filter_map(|entry| Some((entry, matched(name, &entry.prefix)?)));
        // Of two of one length the one that comes first by name counts; nodes sort them.
        matching.max_by(|(one, _), (other, _)| {
            one.prefix.len().cmp(&other.prefix.len()).then_with(|| other.prefix.cmp(&one.prefix))
        })
    }
}

/// How far `prefix` reaches into `name`; `None` when it does not match (`refMatchingPrefix` of
/// `containers/image`). That `example.com` matches `example.com:5000` as well is how nodes do it.
fn matched(name: &str, prefix: &str) -> Option<usize> {
    let end = match prefix.strip_prefix('*') {
        Some(domain) if domain.starts_with('.') => {
            let start = name.find(domain)?;
            if name[..start].contains('/') {
                return None;
            }
            start + domain.len()
        }
        _ => name.starts_with(prefix).then_some(prefix.len())?,
    };
    name[end..].chars().next().is_none_or(|next| matches!(next, ':' | '/')).then_some(end)
}

/// Host and repository as nodes write them in full.
fn name(reference: &ImageReference) -> String {
    let host = match reference.host() {
        "index.docker.io" => "docker.io",
        host => host,
    };
    format!("{host}/{}", reference.api_path())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn entry(prefix: &str, location: &str) -> RegistryEntry {
        RegistryEntry {
            prefix: prefix.into(),
            location: Some(location.to_owned()).filter(|location| !location.is_empty()),
            mirrors: Vec::new(),
            trust: Trust::Verified,
            access: PullAccess::Allowed,
        }
    }

    fn mirror(location: &str, answers: PullFromMirror) -> Mirror {
        Mirror { location: location.into(), trust: Trust::Verified, answers }
    }

    /// The endpoints as text, mirrors marked by `<`, insecure ones by `!`, and what blocks the source.
    fn route(registries: &RegistryTable, reference: &str) -> Vec<String> {
        let route = registries.route(&PullSpec::parse(reference).unwrap());
        let mut lines: Vec<_> = route
            .endpoints
            .iter()
            .map(|endpoint| {
                let role = if endpoint.role == Role::Mirror { "<" } else { "" };
                let trust = if endpoint.trust == Trust::Insecure { "!" } else { "" };
                format!("{role}{trust}{}", endpoint.reference)
            })
            .collect();
        lines.extend(route.blocked.map(|prefix| format!("blocked by {prefix}")));
        lines
    }

    #[test]
    fn prefixes_match_as_on_nodes() {
        for (name, prefix, end) in [
            ("a.b/c", "a.b", Some(3)),
            ("a.b/c", "a.b/c", Some(5)),
            ("a.b/cd", "a.b/c", None),
            ("a.b/c/d", "a.b/c", Some(5)),
            ("a.b:5000/c", "a.b", Some(3)),
            ("a.bc/d", "a.b", None),
            ("x.a.b/c", "*.a.b", Some(5)),
            ("x.y.a.b:5000/c", "*.a.b", Some(7)),
            ("a.b/c", "*.a.b", None),
            ("x.a.bc/d", "*.a.b", None),
            ("q.r/x.a.b", "*.a.b", None),
            ("a.b", "a.b/c", None),
        ] {
            assert_eq!(matched(name, prefix), end, "{name} {prefix}");
        }
    }

    #[test]
    fn what_is_not_configured_is_asked_as_it_is_written() {
        let registries = RegistryTable::default();
        assert_eq!(route(&registries, "quay.io/acme/os:1"), ["quay.io/acme/os:1"]);
        assert_eq!(route(&registries, "quay.io/acme/os"), ["quay.io/acme/os:latest"]);
        assert_eq!(
            route(&registries, &format!("quay.io/acme/os:1@{DIGEST}")),
            [format!("quay.io/acme/os@{DIGEST}")]
        );
        assert_eq!(route(&registries, "docker.io/fedora:1"), ["docker.io/fedora:1"]);
    }

    #[test]
    fn mirrors_come_first_each_for_what_it_may_answer() {
        let mut quay = entry("quay.io/acme", "quay.io/acme");
        quay.mirrors = vec![
            mirror("all.example/acme", PullFromMirror::All),
            mirror("tags.example", PullFromMirror::Tags),
            Mirror { trust: Trust::Insecure, ..mirror("digests.example:5000/x/y", PullFromMirror::Digests) },
        ];
        let registries = RegistryTable::new([quay]);
        assert_eq!(
            route(&registries, "quay.io/acme/os:1"),
            ["<all.example/acme/os:1", "<tags.example/os:1", "quay.io/acme/os:1"]
        );
        assert_eq!(
            route(&registries, &format!("quay.io/acme/os:1@{DIGEST}")),
            [
                format!("<all.example/acme/os@{DIGEST}"),
                format!("<!digests.example:5000/x/y/os@{DIGEST}"),
                format!("quay.io/acme/os@{DIGEST}")
            ]
        );
        assert_eq!(route(&registries, "quay.io/other/os:1"), ["quay.io/other/os:1"]);
    }

    #[test]
    fn the_longest_prefix_decides_alone() {
        let mut wide = entry("quay.io", "wide.example");
        wide.trust = Trust::Insecure;
        wide.mirrors = vec![mirror("m.example", PullFromMirror::All)];
        let narrow = entry("quay.io/acme", "narrow.example/a");
        let registries = RegistryTable::new([wide, narrow]);
        assert_eq!(route(&registries, "quay.io/acme/os:1"), ["narrow.example/a/os:1"]);
        assert_eq!(route(&registries, "quay.io/x/os:1"), ["<m.example/x/os:1", "!wide.example/x/os:1"]);
    }

    #[test]
    fn wildcards_are_for_the_hosts_below() {
        let mut plain = entry("*.example.com", "");
        plain.trust = Trust::Insecure;
        let moved = entry("*.old.example.com", "new.example.com");
        let registries = RegistryTable::new([plain, moved]);
        assert_eq!(route(&registries, "a.example.com/os:1"), ["!a.example.com/os:1"]);
        assert_eq!(route(&registries, "a.old.example.com/os:1"), ["new.example.com/os:1"]);
        assert_eq!(route(&registries, "example.com/os:1"), ["example.com/os:1"]);
    }

    #[test]
    fn what_is_blocked_is_not_asked_its_mirrors_are() {
        let mut source = entry("quay.io", "quay.io");
        source.access = PullAccess::Blocked;
        source.mirrors = vec![
            mirror("m.example", PullFromMirror::Digests),
            mirror("bad.example", PullFromMirror::Digests),
        ];
        let mut bad = entry("bad.example", "bad.example");
        bad.access = PullAccess::Blocked;
        let elsewhere = entry("old.example", "bad.example/x");
        let registries = RegistryTable::new([source, bad, elsewhere]);
        assert_eq!(
            route(&registries, &format!("quay.io/os@{DIGEST}")),
            [format!("<m.example/os@{DIGEST}"), "blocked by quay.io".into()]
        );
        assert_eq!(route(&registries, "quay.io/os:1"), ["blocked by quay.io"]);
        assert_eq!(route(&registries, "old.example/os:1"), ["blocked by bad.example"]);
    }

    #[test]
    fn docker_hub_is_matched_by_its_full_name() {
        let mut hub = entry("docker.io", "docker.io");
        hub.mirrors = vec![mirror("m.example/hub", PullFromMirror::All)];
        let registries = RegistryTable::new([hub]);
        for text in ["docker.io/fedora:1", "index.docker.io/fedora:1", "docker.io/library/fedora:1"] {
            assert_eq!(
                route(&registries, text),
                ["<m.example/hub/library/fedora:1", "docker.io/library/fedora:1"],
                "{text}"
            );
        }
    }

    #[test]
    fn a_drop_in_replaces_entries_and_a_second_one_of_a_file_does_not() {
        let mut registries = RegistryTable::new([entry("a.b", "one.example"), entry("a.b", "two.example")]);
        assert_eq!(route(&registries, "a.b/os:1"), ["one.example/os:1"]);
        registries.overlay(RegistryTable::new([entry("a.b", "three.example"), entry("c.d", "e.f")]));
        assert_eq!(route(&registries, "a.b/os:1"), ["three.example/os:1"]);
        assert_eq!(route(&registries, "c.d/os:1"), ["e.f/os:1"]);
    }
}
