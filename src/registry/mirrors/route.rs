//! Where an image is pulled from: the endpoints of a reference, in the order in which nodes try them.
//!
//! Owns the model of `containers-registries.conf(5)` and how `containers/image` interprets it: which entry is for
//! a reference, which mirrors are used for a tag and which for a digest, and what is blocked. Plain data, which
//! [`crate::registry::mirrors::registries_conf`] and [`crate::registry::mirrors::mirror_sets`] make. An endpoint
//! never changes the repository in a user's reference.

use crate::model::image_reference::ImageReference;
use crate::model::pull_spec::PullSpec;
use crate::registry::http::Trust;

/// The configuration of registries: mirrors, blocked and insecure registries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryTable {
    /// Each prefix is here once.
    entries: Vec<RegistryEntry>,
}

/// One `[[registry]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryEntry {
    /// Which references it is for: `host[:port][/namespace…]`, or `*.domain` for all subdomains.
    pub prefix: String,
    /// What replaces the prefix. `None`, only for wildcards: nothing, the reference stays as it is.
    pub location: Option<String>,
    /// The mirrors, which are tried before the location in this order.
    pub mirrors: Vec<Mirror>,
    /// How the location is connected to.
    pub trust: Trust,
    /// Whether images may be pulled from the location.
    pub access: PullAccess,
}

/// A mirror of a `[[registry]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// What replaces the prefix of the entry.
    pub location: String,
    /// How it is connected to.
    pub trust: Trust,
    /// What it is used for.
    pub answers: PullFromMirror,
}

/// What a mirror is used for (`pull-from-mirror`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullFromMirror {
    /// Tags and digests.
    All,
    /// Only digests.
    Digests,
    /// Only tags.
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
    /// The mirrors, then the source, in the order in which they are tried.
    pub endpoints: Vec<Endpoint>,
    /// The prefix of the entry that blocks the source, which then is not an endpoint.
    pub blocked: Option<String>,
}

/// A place from which the image of one reference can be pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The reference at this endpoint.
    pub reference: PullSpec,
    /// How it is connected to.
    pub trust: Trust,
    /// Whether it is a mirror.
    pub role: Role,
}

/// Whether an endpoint is a mirror or the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has copies of images.
    Mirror,
    /// It is the registry in the reference, or the location that replaces it.
    Source,
}

impl Route {
    /// The route when nothing is configured for `reference`.
    fn to_source(reference: PullSpec) -> Self {
        let source = Endpoint { reference, trust: Trust::Verified, role: Role::Source };
        Self { endpoints: vec![source], blocked: None }
    }
}

impl RegistryTable {
    /// Makes a table. Of several entries with the same prefix the first is used, as on nodes.
    pub fn new(entries: impl IntoIterator<Item = RegistryEntry>) -> Self {
        let mut table = Self::default();
        for entry in entries {
            if table.entries.iter().all(|earlier| earlier.prefix != entry.prefix) {
                table.entries.push(entry);
            }
        }
        table
    }

    /// Adds the entries of `other`, each of which replaces a whole entry with the same prefix, as a drop-in file
    /// does.
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
    /// Leaves out mirrors that are blocked themselves, and endpoints at which the image would not have a valid
    /// reference.
    pub fn route(&self, reference: &PullSpec) -> Route {
        if self.entries.is_empty() {
            return Route::to_source(reference.clone());
        }
        let name = name(reference);
        let Some((entry, end)) = self.find(&name) else { return Route::to_source(reference.clone()) };
        let suffix = &reference.as_str()[reference.repository().len()..];
        let rewritten = |location: &str| PullSpec::parse(&format!("{location}{}{suffix}", &name[end..])).ok();
        let wanted = match reference.digest() {
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
        let source = entry.location.as_deref().and_then(rewritten).unwrap_or_else(|| reference.clone());
        // Nodes look up the entry of the location; `containers-registries.conf(5)` documents the entry of the
        // prefix. Either of them blocks.
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

    /// The entry that blocks `reference`.
    fn blocking(&self, reference: &ImageReference) -> Option<&RegistryEntry> {
        let (entry, _) = self.find(&name(reference))?;
        (entry.access == PullAccess::Blocked).then_some(entry)
    }

    /// The entry with the longest prefix of `name`, and where the prefix ends.
    fn find(&self, name: &str) -> Option<(&RegistryEntry, usize)> {
        let matching = self.entries.iter().filter_map(|entry| Some((entry, matched(name, &entry.prefix)?)));
        // Of two with the same length, the first by name is used; nodes sort them.
        matching.max_by(|(one, _), (other, _)| {
            one.prefix.len().cmp(&other.prefix.len()).then_with(|| other.prefix.cmp(&one.prefix))
        })
    }
}

/// Where `prefix` ends in `name`; `None` when it does not match (`refMatchingPrefix` of `containers/image`).
/// `example.com` also matches `example.com:5000`, as on nodes.
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

/// Host and repository in full, as nodes write them.
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

    /// The endpoints as text, with `<` for a mirror and `!` for an insecure one, and what blocks the source.
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
    fn without_configuration_the_source_is_used() {
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
    fn mirrors_come_first_each_for_tags_or_digests() {
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
    fn only_the_longest_prefix_is_used() {
        let mut wide = entry("quay.io", "wide.example");
        wide.trust = Trust::Insecure;
        wide.mirrors = vec![mirror("m.example", PullFromMirror::All)];
        let narrow = entry("quay.io/acme", "narrow.example/a");
        let registries = RegistryTable::new([wide, narrow]);
        assert_eq!(route(&registries, "quay.io/acme/os:1"), ["narrow.example/a/os:1"]);
        assert_eq!(route(&registries, "quay.io/x/os:1"), ["<m.example/x/os:1", "!wide.example/x/os:1"]);
    }

    #[test]
    fn wildcards_match_subdomains() {
        let mut plain = entry("*.example.com", "");
        plain.trust = Trust::Insecure;
        let moved = entry("*.old.example.com", "new.example.com");
        let registries = RegistryTable::new([plain, moved]);
        assert_eq!(route(&registries, "a.example.com/os:1"), ["!a.example.com/os:1"]);
        assert_eq!(route(&registries, "a.old.example.com/os:1"), ["new.example.com/os:1"]);
        assert_eq!(route(&registries, "example.com/os:1"), ["example.com/os:1"]);
    }

    #[test]
    fn a_blocked_source_is_not_used_but_its_mirrors_are() {
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
    fn a_drop_in_replaces_an_entry_and_a_duplicate_in_the_same_file_does_not() {
        let mut registries = RegistryTable::new([entry("a.b", "one.example"), entry("a.b", "two.example")]);
        assert_eq!(route(&registries, "a.b/os:1"), ["one.example/os:1"]);
        registries.overlay(RegistryTable::new([entry("a.b", "three.example"), entry("c.d", "e.f")]));
        assert_eq!(route(&registries, "a.b/os:1"), ["three.example/os:1"]);
        assert_eq!(route(&registries, "c.d/os:1"), ["e.f/os:1"]);
    }
}
