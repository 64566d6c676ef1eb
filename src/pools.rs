//! Which pools take a MachineConfig, and which MachineConfig takes precedence in each of them.
//!
//! Owns the rules by which the Machine Config Operator selects and merges MachineConfigs in each release
//! (`MergeMachineConfigs` in its `pkg/controller/common/helpers.go`). Pure: it uses what is known about the
//! cluster and, if nothing is, the role label of the object.

use std::collections::BTreeMap;

use crate::model::facts::Cause;
use crate::model::facts::cluster::{Cluster, MachineConfigSummary, Pool};
use crate::model::facts::image::Platform;
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::{Field, ROLE_LABEL, Subject, WORKER};
use crate::model::pull_spec::PullSpec;

/// A pool that takes an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AffectedPool<'a> {
    /// The pool's name.
    pub name: &'a str,
    /// The pool in the cluster. `None` without a cluster, or while it has no such pool.
    pub known: Option<&'a Pool>,
}

/// The pools that take `subject`, sorted by name.
///
/// These are the pools whose selectors match the object's labels. If none does (the pool may be created
/// later) or the pools are not known, it is the pool that the role label names.
pub fn affected<'a>(subject: &'a Subject, cluster: &'a Cluster) -> Vec<AffectedPool<'a>> {
    let labels = &subject.object.labels;
    let selecting: Vec<_> =
        all(cluster).filter(|pool| pool.known.is_some_and(|known| known.takes(labels))).collect();
    if !selecting.is_empty() {
        return selecting;
    }
    subject.pools().into_iter().map(|name| AffectedPool { name, known: None }).collect()
}

/// Every known pool of the cluster.
pub fn all(cluster: &Cluster) -> impl Iterator<Item = AffectedPool<'_>> {
    let pools = cluster.pools.known();
    pools.into_iter().flatten().map(|pool| AffectedPool { name: &pool.name, known: Some(pool) })
}

/// The names of `pools`.
pub fn names<'a>(pools: &[AffectedPool<'a>]) -> Vec<&'a str> {
    pools.iter().map(|pool| pool.name).collect()
}

impl<'a> AffectedPool<'a> {
    /// The nodes of the pool, counted by architecture. `None` when they are not known.
    pub fn nodes(&self) -> Option<&'a BTreeMap<String, u32>> {
        self.known?.nodes.known()
    }

    /// The number of the pool's nodes. `None` when they are not known.
    pub fn node_count(&self) -> Option<u32> {
        self.nodes().map(|nodes| nodes.values().fold(0, |sum: u32, count| sum.saturating_add(*count)))
    }

    /// The platforms that the pool's nodes need. `None` when the nodes are not known; empty when
    /// there are none.
    pub fn platforms(&self) -> Option<Vec<Platform>> {
        let nodes = self.nodes()?.iter().filter(|(_, count)| **count > 0);
        Some(nodes.map(|(architecture, _)| Platform::of_node(architecture)).collect())
    }

    /// The OS image stream of the pool: its own, otherwise for a custom pool that of `worker`, otherwise the
    /// default of the cluster. `None` when none is set.
    pub fn stream(&self, cluster: &'a Cluster) -> Option<&'a str> {
        let own = self.known.and_then(|pool| pool.os_image_stream.as_deref());
        let inherited = || {
            let worker = all(cluster).find(|pool| pool.name == WORKER)?.known?;
            worker.os_image_stream.as_deref().filter(|_| !BUILT_IN.contains(&self.name))
        };
        let default = || cluster.streams.known().map(|streams| streams.default_stream.as_str());
        own.or_else(inherited).or_else(default).filter(|stream| !stream.is_empty())
    }

    /// The MachineConfigs of the cluster that the pool takes, without `subject` itself. Fails with the cause
    /// when they are not known; empty without a cluster.
    pub fn others(
        &self,
        subject: &Subject,
        cluster: &'a Cluster,
    ) -> Result<Vec<&'a MachineConfigSummary>, &'a Cause> {
        let Some(pool) = self.known else { return Ok(Vec::new()) };
        if let Some(cause) = cluster.machine_configs.cause() {
            return Err(cause);
        }
        let configs = cluster.machine_configs.known().into_iter().flatten();
        Ok(configs.filter(|config| config.name != subject.name && pool.takes(&config.labels)).collect())
    }

    /// The operating system image that an override gives the pool now: that of the stored `subject`,
    /// otherwise that of the MachineConfig that takes precedence. `None` when there is no override, and when
    /// it is not known.
    pub fn current_image(&self, subject: &Subject, cluster: &Cluster) -> Option<PullSpec> {
        let field = Field::OsImage;
        if let Some(stored) = subject.stored.as_ref().and_then(|stored| stored.reference(field)) {
            return Some(stored.pull_spec());
        }
        let (pool, order) = (self.known?, Order::of(cluster)?);
        let configs = cluster.machine_configs.known()?.iter();
        let taken: Vec<_> = configs.filter(|config| pool.takes(&config.labels)).collect();
        let text = order.last(field, None, &taken)?.image(field);
        ImageReference::parse(text).ok().map(|reference| reference.pull_spec())
    }

    /// Which MachineConfig decides `field` in this pool once `subject` is stored.
    pub fn winner(&self, field: Field, subject: &Subject, cluster: &'a Cluster) -> Winner<'a> {
        let others = match self.others(subject, cluster) {
            Ok(others) => others,
            Err(cause) => return Winner::Unknown(cause),
        };
        if others.is_empty() {
            return Winner::Subject;
        }
        let orders: &[Order] = match Order::of(cluster) {
            Some(order) => &[order],
            None => &[Order::ByName, Order::WorkerFirst, Order::WorkerFirstWithoutGenerated],
        };
        let mut winners = orders.iter().map(|order| order.last(field, Some(subject), &others));
        let first = winners.next().flatten();
        if winners.any(|winner| winner != first) {
            return Winner::DependsOnRelease;
        }
        first.map_or(Winner::Subject, Winner::Other)
    }
}

/// Which MachineConfig decides a field in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Winner<'a> {
    /// The object under review: no other one takes precedence.
    Subject,
    /// Another one.
    Other(&'a MachineConfigSummary),
    /// It depends on the release of the cluster, which is not known.
    DependsOnRelease,
    /// The MachineConfigs are not known, for this cause.
    Unknown(&'a Cause),
}

/// In which order MachineConfigs are merged: the last one that names an image takes precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// One sort by name (before 4.15).
    ByName,
    /// Those with the role `worker` first, each group by name (from 4.15).
    WorkerFirst,
    /// The same, and generated MachineConfigs are ignored for images (from 4.21).
    WorkerFirstWithoutGenerated,
}

impl Order {
    fn of(cluster: &Cluster) -> Option<Self> {
        let release = minor(&cluster.version.known()?.desired.version)?;
        Some(if release < (4, 15) {
            Self::ByName
        } else if release < (4, 21) {
            Self::WorkerFirst
        } else {
            Self::WorkerFirstWithoutGenerated
        })
    }

    /// The last of `others` that names an image in `field`, if it comes after `subject`.
    fn last<'a>(
        self,
        field: Field,
        subject: Option<&Subject>,
        others: &[&'a MachineConfigSummary],
    ) -> Option<&'a MachineConfigSummary> {
        let key = |name: &str, labels: &BTreeMap<String, String>| {
            let worker = labels.get(ROLE_LABEL).is_some_and(|role| role == WORKER);
            (self != Self::ByName && !worker, name.to_owned())
        };
        let counts = |is_generated: bool| !(is_generated && self == Self::WorkerFirstWithoutGenerated);
        let own = subject.filter(|subject| counts(subject.object.is_generated));
        let own = own.map(|subject| key(&subject.name, &subject.object.labels));
        others
            .iter()
            .filter(|config| counts(config.is_generated) && !config.image(field).is_empty())
            .map(|config| (key(&config.name, &config.labels), *config))
            .filter(|(key, _)| own.as_ref().is_none_or(|own| key > own))
            .max_by(|(one, _), (other, _)| one.cmp(other))
            .map(|(_, config)| config)
    }
}

/// Major and minor of a release such as `4.18.14`. `None` when the text begins otherwise.
pub fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The pools that come with the cluster, which do not take what other pools take.
const BUILT_IN: [&str; 3] = ["arbiter", "master", WORKER];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const IMAGE: &str =
        "quay.io/acme/os@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn subject(name: &str, role: &str) -> Subject {
        let object = json!({
            "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfig",
            "metadata": {"name": name, "labels": {ROLE_LABEL: role}}, "spec": {"osImageURL": IMAGE},
        });
        Subject::from_json(&object.to_string()).unwrap()
    }

    fn pool(name: &str, roles: &[&str], nodes: Value) -> Value {
        json!({
            "name": name, "paused": false, "osImageStream": null, "nodes": {"known": nodes},
            "machineConfigSelector": {"matchExpressions": [
                {"key": ROLE_LABEL, "operator": "In", "values": roles}]},
        })
    }

    fn pools() -> Value {
        json!({"known": [
            pool("infra", &["worker", "infra"], json!({"arm64": 2})),
            pool("master", &["master"], json!({"amd64": 3})),
            pool("worker", &["worker"], json!({"amd64": 4, "arm64": 1, "s390x": 0})),
        ]})
    }

    fn cluster(members: Value) -> Cluster {
        let mut all = json!({"pools": pools()});
        all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn version(version: &str) -> Value {
        json!({"known": {"desired": {"version": version, "image": ""}}})
    }

    #[test]
    fn an_object_for_workers_is_taken_by_the_custom_pools_that_select_it() {
        let cluster = cluster(json!({}));
        for (role, expected) in [
            ("worker", vec!["infra", "worker"]),
            ("infra", vec!["infra"]),
            ("master", vec!["master"]),
            ("not-yet-there", vec!["not-yet-there"]),
        ] {
            let subject = subject("99-os", role);
            assert_eq!(names(&affected(&subject, &cluster)), expected, "{role}");
            let without = Cluster::default();
            assert_eq!(names(&affected(&subject, &without)), [role], "{role} without a cluster");
        }
    }

    #[test]
    fn a_pool_with_an_empty_selector_takes_nothing() {
        let mut members = pools();
        members["known"][0]["machineConfigSelector"] = json!({});
        let cluster = cluster(json!({"pools": members}));
        assert_eq!(names(&affected(&subject("99-os", "worker"), &cluster)), ["worker"]);
        assert_eq!(names(&affected(&subject("99-os", "infra"), &cluster)), ["infra"], "by its own role");
        assert_eq!(affected(&subject("99-os", "infra"), &cluster)[0].known, None);
    }

    #[test]
    fn nodes_give_their_number_and_platforms() {
        let cluster = cluster(json!({}));
        let subject = subject("99-os", "worker");
        let pools = affected(&subject, &cluster);
        assert_eq!(pools[0].platforms(), Some(vec![Platform::of_node("arm64")]));
        assert_eq!(pools[1].platforms(), Some(vec![Platform::of_node("amd64"), Platform::of_node("arm64")]));
        assert_eq!(pools[1].node_count(), Some(5));
        let unknown = AffectedPool { name: "worker", known: None };
        assert_eq!((unknown.platforms(), unknown.node_count()), (None, None));
    }

    #[test]
    fn a_custom_pool_takes_the_stream_of_worker_and_a_built_in_one_the_default() {
        let mut members = pools();
        members["known"][2]["osImageStream"] = json!("rhel-10");
        let streams = json!({"known": {"defaultStream": "rhel-9", "available": {}, "releaseImage": null}});
        let cluster = cluster(json!({"pools": members, "streams": streams}));
        let streams: Vec<_> = all(&cluster).map(|pool| pool.stream(&cluster).unwrap()).collect();
        assert_eq!(streams, ["rhel-10", "rhel-9", "rhel-10"]);
    }

    /// What takes precedence over `99-os` in pool `infra` in each release.
    fn winners(role: &str, others: Value) -> Vec<String> {
        ["4.14.9", "4.15.0-rc.1", "4.20.3", "4.21.0", "5.0.0", "?"]
            .map(|release| {
                let cluster = cluster(
                    json!({"machineConfigs": {"known": others.clone()}, "version": version(release)}),
                );
                let subject = subject("99-os", role);
                let infra = all(&cluster).next().unwrap();
                match infra.winner(Field::OsImage, &subject, &cluster) {
                    Winner::Subject => "-".to_owned(),
                    Winner::Other(config) => config.name.clone(),
                    Winner::DependsOnRelease => "unclear".to_owned(),
                    Winner::Unknown(cause) => cause.to_string(),
                }
            })
            .to_vec()
    }

    fn config(name: &str, role: &str, os_image: &str) -> Value {
        json!({"name": name, "labels": {ROLE_LABEL: role}, "osImageUrl": os_image, "isGenerated": false})
    }

    fn generated(mut config: Value) -> Value {
        config["isGenerated"] = true.into();
        config
    }

    #[test]
    fn precedence_depends_on_the_release() {
        for (what, role, other, expected) in [
            ("an empty field", "worker", config("zz", "worker", ""), ["-"; 6]),
            ("a later name", "worker", config("zz", "worker", "x"), ["zz"; 6]),
            ("an earlier name", "worker", config("00", "worker", "x"), ["-"; 6]),
            (
                "a custom pool's over worker's",
                "worker",
                config("00", "infra", "x"),
                ["-", "00", "00", "00", "00", "unclear"],
            ),
            (
                "worker's under a custom pool's",
                "infra",
                config("zz", "worker", "x"),
                ["zz", "-", "-", "-", "-", "unclear"],
            ),
            (
                "a generated one",
                "worker",
                generated(config("zz", "worker", "x")),
                ["zz", "zz", "zz", "-", "-", "unclear"],
            ),
            ("another pool's", "worker", config("zz", "master", "x"), ["-"; 6]),
            ("the stored self", "worker", config("99-os", "infra", "x"), ["-"; 6]),
        ] {
            assert_eq!(winners(role, json!([other])), expected, "{what}");
        }
        let three = json!([config("a", "infra", "x"), config("b", "infra", "x"), config("c", "worker", "x")]);
        assert_eq!(winners("worker", three), ["c", "b", "b", "b", "b", "unclear"]);
    }

    #[test]
    fn precedence_is_unknown_when_the_machine_configs_are() {
        let cluster = cluster(json!({"machineConfigs": {"unknown": {"cause": "offline"}}}));
        let subject = subject("99-os", "worker");
        let pool = affected(&subject, &cluster)[0];
        assert_eq!(pool.winner(Field::OsImage, &subject, &cluster), Winner::Unknown(&Cause::Offline));
    }

    #[test]
    fn releases_are_compared_by_major_and_minor() {
        for (text, expected) in [
            ("4.18.14", Some((4, 18))),
            ("5.0.0-0.nightly-2026-01-01", Some((5, 0))),
            ("4.15.0-0.okd-2024", Some((4, 15))),
            ("4", None),
            ("", None),
            ("v4.18", None),
        ] {
            assert_eq!(minor(text), expected, "{text}");
        }
    }
}
