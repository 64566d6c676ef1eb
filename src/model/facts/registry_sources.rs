//! Which registries a cluster lets its nodes pull from.
//!
//! Owns the part of `spec.registrySources` of `image.config.openshift.io/cluster` that decides this, as the
//! Machine Config Operator interprets it when it writes `/etc/containers/policy.json` of nodes. The name in
//! the MachineConfig counts there, even if the image comes from a mirror.

use serde::{Deserialize, Serialize};

use crate::model::facts::cluster::Cluster;
use crate::model::facts::{Cause, Fact};
use crate::model::image_reference::ImageReference;

/// `spec.registrySources` of `image.config.openshift.io/cluster`. Each entry is `host[:port][/path]` or
/// `*.domain`; the operator ignores other entries, and so does this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RegistrySources {
    /// `allowedRegistries`. Empty when every registry is allowed.
    pub allowed: Vec<String>,
    /// `blockedRegistries`. OpenShift allows only one of the two lists.
    pub blocked: Vec<String>,
}

/// Whether nodes of a cluster may pull from a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryAccess<'a> {
    /// They may pull from it.
    Allowed,
    /// It is outside `allowedRegistries`, which are these.
    Outside(&'a [String]),
    /// It is inside this entry of `blockedRegistries`.
    Blocked(&'a str),
    /// An object that decides it could not be read: its name, and the cause.
    Unknown(&'static str, &'a Cause),
}

impl Cluster {
    /// Whether nodes may pull from the repository of `reference`. Without a cluster, and if its API server
    /// does not serve the object, every repository is allowed.
    ///
    /// The repository of the release payload, `status.desired.image` of the ClusterVersion, is always
    /// allowed, because the operator makes sure that the cluster can be upgraded.
    pub fn registry_access(&self, reference: &ImageReference) -> RegistryAccess<'_> {
        let sources = match &self.registry_sources {
            Fact::Known(sources) => sources,
            Fact::Absent | Fact::Unknown(Cause::NotAsked) => return RegistryAccess::Allowed,
            Fact::Unknown(cause) => return RegistryAccess::Unknown(IMAGE_CONFIG, cause),
        };
        let found = sources.access(reference);
        if found == RegistryAccess::Allowed {
            return found;
        }
        match &self.version {
            Fact::Known(version) => match ImageReference::parse(&version.desired.image) {
                Ok(payload) if payload.repository() == reference.repository() => RegistryAccess::Allowed,
                _ => found,
            },
            Fact::Absent | Fact::Unknown(Cause::NotAsked) => found,
            Fact::Unknown(cause) => RegistryAccess::Unknown(CLUSTER_VERSION, cause),
        }
    }
}

impl RegistrySources {
    fn access(&self, reference: &ImageReference) -> RegistryAccess<'_> {
        let repository = reference.repository().to_string();
        let asked = reference.pull_spec().to_string();
        let holds = |scope: &String| is_scope(scope) && (is_inside(&repository, scope) || *scope == asked);
        if let Some(scope) = self.blocked.iter().find(|scope| holds(scope)) {
            return RegistryAccess::Blocked(scope);
        }
        let is_bounded = self.allowed.iter().any(|scope| is_scope(scope));
        if is_bounded && !self.allowed.iter().any(holds) {
            return RegistryAccess::Outside(&self.allowed);
        }
        RegistryAccess::Allowed
    }
}

/// Tells whether everything in `scope` is in `outer` as well (`ScopeIsNestedInsideScope` of
/// openshift/runtime-utils).
pub(crate) fn is_inside(scope: &str, outer: &str) -> bool {
    if scope == outer || scope.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/')) {
        return true;
    }
    let Some(domain) = outer.strip_prefix('*').filter(|domain| domain.starts_with('.')) else { return false };
    let host = match scope.split_once(':') {
        Some((host, _)) if host.contains('/') => return false,
        Some((host, _)) => host,
        None => scope.split('/').next().unwrap_or_default(),
    };
    host.ends_with(domain)
}

/// Tells whether the operator accepts `scope` (`IsValidRegistriesConfScope` of
/// openshift/runtime-utils).
pub(crate) fn is_scope(scope: &str) -> bool {
    match scope.strip_prefix("*.") {
        Some(domain) => !domain.contains(['/', '@', ':', '*']),
        None => !scope.is_empty() && !scope.contains('*'),
    }
}

/// The name of the object in messages.
pub(crate) const IMAGE_CONFIG: &str = "image.config.openshift.io/cluster";
const CLUSTER_VERSION: &str = "ClusterVersion/version";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::facts::cluster::{ClusterVersion, Release};

    #[test]
    fn scopes_are_inside_others_as_the_operator_sees_them() {
        for (scope, outer, inside) in [
            ("a.b", "a.b", true),
            ("a.b/c", "a.b", true),
            ("a.bc", "a.b", false),
            ("a.b:5000", "a.b", false),
            ("x.a.b", "*.a.b", true),
            ("*.x.a.b", "*.a.b", true),
            ("x.a.b:5000/c", "*.a.b", true),
            ("x.a.b/c", "*.a.b", true),
            ("a.b", "*.a.b", false),
            ("q.r/x.a.b", "*.a.b", false),
            ("q.r/x.a.b:5000", "*.a.b", false),
            ("a.b", "a.b/c", false),
        ] {
            assert_eq!(is_inside(scope, outer), inside, "{scope} {outer}");
        }
    }

    fn sources(allowed: &[&str], blocked: &[&str]) -> RegistrySources {
        let strings = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        RegistrySources { allowed: strings(allowed), blocked: strings(blocked) }
    }

    #[test]
    fn a_repository_is_allowed_inside_one_list_and_outside_the_other() {
        let outside = "outside";
        for (allowed, blocked, reference, expected) in [
            (&[][..], &[][..], "q.io/acme/os:1", None),
            (&["q.io"], &[], "q.io/acme/os:1", None),
            (&["q.io/acme"], &[], "q.io/acme/os:1", None),
            (&["q.io/acme/os"], &[], "q.io/acme/os:1", None),
            (&["q.io/acme/os:1"], &[], "q.io/acme/os:1", None),
            (&["q.io/acme/os:2"], &[], "q.io/acme/os:1", Some(outside)),
            (&["q.io/ac"], &[], "q.io/acme/os:1", Some(outside)),
            (&["q.io"], &[], "q.io:5000/acme/os:1", Some(outside)),
            (&["q.io:5000"], &[], "q.io:5000/acme/os:1", None),
            (&["*.q.io"], &[], "x.q.io/os:1", None),
            (&["*.q.io"], &[], "x.q.io:5000/os:1", None),
            (&["*.q.io"], &[], "q.io/os:1", Some(outside)),
            // Entries that the operator ignores do not make a list.
            (&["*"], &[], "q.io/os:1", None),
            (&["*", "r.io"], &[], "q.io/os:1", Some(outside)),
            (&[], &["q.io/acme"], "q.io/acme/os:1", Some("q.io/acme")),
            (&[], &["*.io"], "q.io/acme/os:1", Some("*.io")),
            (&[], &["q.io/other"], "q.io/acme/os:1", None),
            (&[], &["*"], "q.io/acme/os:1", None),
        ] {
            let sources = sources(allowed, blocked);
            let expected = match expected {
                None => RegistryAccess::Allowed,
                Some("outside") => RegistryAccess::Outside(&sources.allowed),
                Some(scope) => RegistryAccess::Blocked(scope),
            };
            let reference = ImageReference::parse(reference).unwrap();
            assert_eq!(sources.access(&reference), expected, "{allowed:?} {blocked:?} {reference}");
        }
    }

    #[test]
    fn the_repository_of_the_payload_is_always_allowed() {
        let payload =
            "q.io/ocp/release@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let desired = Release { version: "4.18.14".into(), image: payload.into() };
        let version = ClusterVersion { desired, history: Vec::new(), available: Vec::new() };
        let parse = |text| ImageReference::parse(text).unwrap();
        for registry_sources in [sources(&["r.io"], &[]), sources(&[], &["q.io"])] {
            let registry_sources = Fact::Known(registry_sources);
            let mut cluster =
                Cluster { version: Fact::Known(version.clone()), registry_sources, ..Cluster::default() };
            assert_eq!(cluster.registry_access(&parse("q.io/ocp/release:other")), RegistryAccess::Allowed);
            assert_ne!(cluster.registry_access(&parse("q.io/ocp/releases:other")), RegistryAccess::Allowed);
            let cause = Cause::Internal;
            cluster.version = Fact::Unknown(cause.clone());
            let unknown = RegistryAccess::Unknown("ClusterVersion/version", &cause);
            assert_eq!(cluster.registry_access(&parse("q.io/ocp/release:other")), unknown);
            cluster.version = Fact::Absent;
            assert_ne!(cluster.registry_access(&parse("q.io/ocp/release:other")), RegistryAccess::Allowed);
        }
    }
}
