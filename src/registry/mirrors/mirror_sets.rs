//! From objects of the cluster to the configuration of registries on nodes.
//!
//! Owns how the Machine Config Operator merges ImageDigestMirrorSet, ImageTagMirrorSet,
//! ImageContentSourcePolicy and the image configuration into the `registries.conf` of nodes
//! (`EditRegistriesConfig` of openshift/runtime-utils).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::facts::registry_sources::{is_inside, is_scope};
use crate::registry::http::Trust;
use crate::registry::mirrors::route::{Mirror, PullAccess, PullFromMirror, RegistryEntry, RegistryTable};

/// The configuration of registries in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterRegistries {
    /// `spec.imageDigestMirrors` of every ImageDigestMirrorSet, then `spec.repositoryDigestMirrors` of
    /// every ImageContentSourcePolicy; each kind in the order of the objects' names.
    pub digest_mirrors: Vec<MirrorSet>,
    /// `spec.imageTagMirrors` of every ImageTagMirrorSet, in the order of the objects' names.
    pub tag_mirrors: Vec<MirrorSet>,
    /// `spec.registrySources.insecureRegistries` of `image.config.openshift.io/cluster`.
    pub insecure: Vec<String>,
    /// `spec.registrySources.blockedRegistries` of `image.config.openshift.io/cluster`.
    pub blocked: Vec<String>,
}

/// The mirrors of one source in one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorSet {
    /// `source`: `host[:port][/namespace…]` or `*.domain`.
    pub source: String,
    /// `mirrors`, the preferred one first.
    pub mirrors: Vec<String>,
    /// Whether the source is used when no mirror has the image (`mirrorSourcePolicy`). `NeverContactSource` blocks the
    /// source for tags as well as digests.
    pub source_policy: PullAccess,
}

impl ClusterRegistries {
    /// The registries, as configured on the nodes of this cluster.
    pub fn registries(&self) -> RegistryTable {
        let digests = merge(&self.digest_mirrors);
        let tags = merge(&self.tag_mirrors);
        let mut entries = Vec::new();
        for (merged, answers) in [(&digests, PullFromMirror::Digests), (&tags, PullFromMirror::Tags)] {
            for set in merged {
                let entry = entry(&mut entries, &set.source);
                if set.source_policy == PullAccess::Blocked {
                    entry.access = PullAccess::Blocked;
                }
                entry.mirrors.extend(set.mirrors.iter().map(|location| Mirror {
                    location: location.clone(),
                    trust: Trust::Verified,
                    answers,
                }));
            }
        }
        for scope in self.blocked.iter().filter(|scope| is_scope(scope)) {
            entry(&mut entries, scope);
        }
        // Nodes use only the entry with the longest prefix, so the settings of a scope must also be in the entries
        // of the scopes inside it.
        for scope in self.insecure.iter().filter(|scope| is_scope(scope)) {
            entry(&mut entries, scope);
            for entry in &mut entries {
                if is_inside(&entry.prefix, scope) {
                    entry.trust = Trust::Insecure;
                }
                for mirror in entry.mirrors.iter_mut().filter(|mirror| is_inside(&mirror.location, scope)) {
                    mirror.trust = Trust::Insecure;
                }
            }
        }
        for scope in self.blocked.iter().filter(|scope| is_scope(scope)) {
            for entry in entries.iter_mut().filter(|entry| is_inside(&entry.prefix, scope)) {
                entry.access = PullAccess::Blocked;
            }
        }
        for set in digests.iter().chain(&tags) {
            inherit(&mut entries, &set.source);
        }
        RegistryTable::new(entries)
    }
}

/// Adds the mirrors of `source` to the entries inside it that have no mirrors.
fn inherit(entries: &mut [RegistryEntry], source: &str) {
    let Some(mirrors) =
        entries.iter().find(|entry| entry.prefix == source).map(|entry| entry.mirrors.clone())
    else {
        return;
    };
    for entry in entries.iter_mut() {
        if entry.prefix == source || !entry.mirrors.is_empty() || !is_inside(&entry.prefix, source) {
            continue;
        }
        // A scope inside a wildcard does not begin with its text; the operator leaves it without mirrors.
        let Some(rest) = entry.prefix.strip_prefix(source) else { continue };
        let moved =
            |mirror: &Mirror| Mirror { location: format!("{}{rest}", mirror.location), ..mirror.clone() };
        entry.mirrors = mirrors.iter().map(moved).collect();
    }
}

/// The entry for `scope`, which is added if it is missing.
fn entry<'a>(entries: &'a mut Vec<RegistryEntry>, scope: &str) -> &'a mut RegistryEntry {
    let index = entries.iter().position(|entry| entry.prefix == scope).unwrap_or_else(|| {
        entries.push(RegistryEntry {
            prefix: scope.to_owned(),
            location: (!scope.starts_with("*.")).then(|| scope.to_owned()),
            mirrors: Vec::new(),
            trust: Trust::Verified,
            access: PullAccess::Allowed,
        });
        entries.len() - 1
    });
    &mut entries[index]
}

/// Merges the mirrors of each source in an order that keeps the order in each set as far as possible. Sorted by
/// source.
fn merge(sets: &[MirrorSet]) -> Vec<MirrorSet> {
    let mut by_source: BTreeMap<&str, Vec<&MirrorSet>> = BTreeMap::new();
    for set in sets {
        // A set without another place is ignored, together with its policy.
        if is_scope(&set.source) && set.mirrors.iter().any(|mirror| *mirror != set.source) {
            by_source.entry(&set.source).or_default().push(set);
        }
    }
    let merged = by_source.into_iter().map(|(source, sets)| {
        let never = sets.iter().any(|set| set.source_policy == PullAccess::Blocked);
        MirrorSet {
            source: source.to_owned(),
            mirrors: in_order(source, &sets),
            source_policy: if never { PullAccess::Blocked } else { PullAccess::Allowed },
        }
    });
    merged.collect()
}

/// The mirrors of several sets for one source, sorted topologically: a mirror that is before another in any set
/// is before it here, unless the sets contradict each other. The source is last, and is in the list only if a set
/// has it before a mirror.
fn in_order(source: &str, sets: &[&MirrorSet]) -> Vec<String> {
    let mut before: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for set in sets {
        let mut order: Vec<&str> = set.mirrors.iter().map(String::as_str).collect();
        if !order.contains(&source) {
            order.push(source);
        }
        for pair in order.windows(2) {
            before.entry(pair[0]).or_default();
            before.entry(pair[1]).or_default().insert(pair[0]);
        }
    }
    let mut ready: VecDeque<&str> =
        before.iter().filter(|(_, earlier)| earlier.is_empty()).map(|(place, _)| *place).collect();
    let mut sorted: Vec<&str> = Vec::new();
    // A circle of sets is broken at the first name.
    while let Some(place) = ready.pop_front().or_else(|| before.keys().next().copied()) {
        before.remove(place);
        sorted.push(place);
        for (later, earlier) in &mut before {
            if earlier.remove(place) && earlier.is_empty() {
                ready.push_back(later);
            }
        }
    }
    if sorted.last() == Some(&source) {
        sorted.pop();
    }
    sorted.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(source: &str, mirrors: &[&str]) -> MirrorSet {
        MirrorSet {
            source: source.into(),
            mirrors: mirrors.iter().map(ToString::to_string).collect(),
            source_policy: PullAccess::Allowed,
        }
    }

    fn never(source: &str, mirrors: &[&str]) -> MirrorSet {
        MirrorSet { source_policy: PullAccess::Blocked, ..set(source, mirrors) }
    }

    #[test]
    fn the_mirrors_of_one_source_are_merged_in_order() {
        type Merged<'a> = &'a [(&'a str, &'a [&'a str])];
        let table: [(&[MirrorSet], Merged<'_>); 9] = [
            (&[], &[]),
            (&[set("a.b", &[]), set("c.d", &["c.d", "c.d"]), never("e.f", &["e.f"])], &[]),
            (
                &[set("s.net", &["z1", "y2", "x3"]), set("s.com", &["z1", "y2", "x3"])],
                &[("s.com", &["z1", "y2", "x3"]), ("s.net", &["z1", "y2", "x3"])],
            ),
            (&[set("s.com", &["z1", "y2"]), set("s.com", &["y2", "x3"])], &[("s.com", &["z1", "y2", "x3"])]),
            (&[set("s.com", &["y2", "x3"]), set("s.com", &["z1", "y2"])], &[("s.com", &["z1", "y2", "x3"])]),
            // The source in the middle stays there.
            (
                &[set("s.com", &["z1", "s.com", "y2"]), set("s.com", &["s.com", "y2", "x3"])],
                &[("s.com", &["z1", "s.com", "y2", "x3"])],
            ),
            // Unrelated sets: by name among those that nothing comes before.
            (&[set("s.com", &["r2"]), set("s.com", &["local"])], &[("s.com", &["local", "r2"])]),
            // Sets that contradict each other: the circle is broken at the first name.
            (
                &[set("s.com", &["r1", "r2"]), set("s.com", &["l", "r2", "r1"])],
                &[("s.com", &["l", "r1", "r2"])],
            ),
            (&[set("s.com", &["m", "m"])], &[("s.com", &["m"])]),
        ];
        for (sets, expected) in table {
            let merged = merge(sets);
            let found: Vec<_> = merged
                .iter()
                .map(|set| (set.source.as_str(), set.mirrors.iter().map(String::as_str).collect::<Vec<_>>()))
                .collect();
            let expected: Vec<_> =
                expected.iter().map(|(source, mirrors)| (*source, mirrors.to_vec())).collect();
            assert_eq!(found, expected, "{sets:?}");
        }
    }

    /// The entries as text, by prefix.
    fn entries(cluster: &ClusterRegistries) -> Vec<String> {
        let registries = cluster.registries();
        let trust = |trust| if trust == Trust::Insecure { "!" } else { "" };
        let mut lines: Vec<_> = registries
            .entries()
            .iter()
            .map(|entry| {
                let mirrors = entry.mirrors.iter().map(|mirror| {
                    let answers = if mirror.answers == PullFromMirror::Tags { "tags" } else { "digests" };
                    format!(" {answers}:{}{}", trust(mirror.trust), mirror.location)
                });
                let blocked = if entry.access == PullAccess::Blocked { " blocked" } else { "" };
                format!("{}{}{blocked}{}", trust(entry.trust), entry.prefix, mirrors.collect::<String>())
            })
            .collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn insecure_and_blocked_scopes_reach_the_entries_inside_them() {
        let strings = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let cluster = ClusterRegistries {
            insecure: strings(&["insecure.com", "*.insecure-example.com", "*.insecure.blocked-example.com"]),
            blocked: strings(&["blocked.com", "*.blocked.insecure-example.com", "*.blocked-example.com"]),
            digest_mirrors: vec![
                set("insecure.com/ns-i1", &["blocked.com/ns-b1", "other.com/ns-o1"]),
                set("blocked.com/ns-b/ns2-b", &["other.com/ns-o2", "insecure.com/ns-i2"]),
                set("other.com/ns-o3", &["insecure.com/ns-i2", "foo.insecure-example.com/bar"]),
            ],
            tag_mirrors: Vec::new(),
        };
        assert_eq!(
            entries(&cluster),
            [
                "!*.blocked.insecure-example.com blocked",
                "!*.insecure-example.com",
                "!*.insecure.blocked-example.com blocked",
                "!insecure.com",
                "!insecure.com/ns-i1 digests:blocked.com/ns-b1 digests:other.com/ns-o1",
                "*.blocked-example.com blocked",
                "blocked.com blocked",
                "blocked.com/ns-b/ns2-b blocked digests:other.com/ns-o2 digests:!insecure.com/ns-i2",
                "other.com/ns-o3 digests:!insecure.com/ns-i2 digests:!foo.insecure-example.com/bar",
            ]
        );
    }

    #[test]
    fn never_contacting_the_source_blocks_it_for_tags_as_well() {
        let cluster = ClusterRegistries {
            digest_mirrors: vec![never("a.com", &["d1.a.com"]), set("b.com", &["d1.b.com", "d2.b.com"])],
            tag_mirrors: vec![never("b.com", &["t1.b.com"]), set("c.com", &["t1.c.com"])],
            ..ClusterRegistries::default()
        };
        assert_eq!(
            entries(&cluster),
            [
                "a.com blocked digests:d1.a.com",
                "b.com blocked digests:d1.b.com digests:d2.b.com tags:t1.b.com",
                "c.com tags:t1.c.com",
            ]
        );
    }

    #[test]
    fn mirrors_of_a_scope_are_inherited_where_a_narrower_entry_hides_them() {
        let cluster = ClusterRegistries {
            digest_mirrors: vec![set("a.com", &["m.com/x"]), set("a.com/own", &["n.com"])],
            tag_mirrors: vec![set("a.com", &["t.com"])],
            insecure: vec!["a.com/plain".into()],
            blocked: vec!["a.com/own/deep".into(), "*.a.com".into(), "a*.com".into(), String::new()],
        };
        assert_eq!(
            entries(&cluster),
            [
                "!a.com/plain digests:m.com/x/plain tags:t.com/plain",
                "*.a.com blocked",
                "a.com digests:m.com/x tags:t.com",
                "a.com/own digests:n.com",
                "a.com/own/deep blocked digests:m.com/x/own/deep tags:t.com/own/deep",
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn every_place_is_kept_once_and_nothing_panics(
            sets in proptest::collection::vec(proptest::collection::vec("[a-d]", 0..5), 0..5)
        ) {
            let sets: Vec<_> = sets.iter().map(|mirrors| MirrorSet {
                source: "s.com".into(),
                mirrors: mirrors.clone(),
                source_policy: PullAccess::Allowed,
            }).collect();
            let named: BTreeSet<_> = sets.iter().flat_map(|set| set.mirrors.clone()).collect();
            let merged = merge(&sets);
            let mut found: Vec<_> = merged.iter().flat_map(|set| set.mirrors.clone()).collect();
            // Where sets contradict themselves the source may come before others.
            found.retain(|place| place != "s.com");
            proptest::prop_assert_eq!(found.len(), named.len());
            proptest::prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), named);
        }
    }
}
