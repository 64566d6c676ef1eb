//! Which node belongs to which pool, as the machine config operator decides it.
//!
//! Owns the precedence: `master` before a custom pool, a custom pool before `worker`. A node in two
//! custom pools is in none: the operator refuses to touch it (`pkg/helpers` of the operator,
//! `GetPoolsForNode`).

use std::collections::BTreeMap;

use crate::cluster::reflector::ObjectMap;
use crate::cluster::resources::{Node, PoolShape};
use crate::model::facts::Fact;
use crate::model::facts::cluster::Pool;

/// The pools, sorted by name, with the nodes of each counted by architecture.
pub(crate) fn count(pools: &ObjectMap<PoolShape>, nodes: Fact<ObjectMap<Node>>) -> Vec<Pool> {
    let mut counts: BTreeMap<&str, BTreeMap<String, u32>> = BTreeMap::new();
    if let Fact::Known(nodes) = &nodes {
        for node in nodes.values().filter(|node| !node.architecture.is_empty()) {
            if let Some(pool) = pool_of(node, pools) {
                *counts.entry(pool).or_default().entry(node.architecture.clone()).or_default() += 1;
            }
        }
    }
    let counted = |(name, shape): (&String, &PoolShape)| {
        let nodes = match &nodes {
            Fact::Known(_) => Fact::Known(counts.get(name.as_str()).cloned().unwrap_or_default()),
            Fact::Absent => Fact::Absent,
            Fact::Unknown(cause) => Fact::Unknown(cause.clone()),
        };
        Pool { nodes, ..shape.pool.clone() }
    };
    pools.iter().map(counted).collect()
}

fn pool_of<'a>(node: &Node, pools: &'a ObjectMap<PoolShape>) -> Option<&'a str> {
    if node.labels.get("kubernetes.io/os").is_some_and(|system| system == "windows") {
        return None;
    }
    let selecting: Vec<&str> = pools
        .iter()
        .filter(|(_, shape)| shape.node_selector.selects(&node.labels))
        .map(|(name, _)| name.as_str())
        .collect();
    let custom: Vec<_> = selecting.iter().filter(|name| !matches!(**name, "master" | "worker")).collect();
    let is_in = |name: &str| selecting.iter().find(|selecting| **selecting == name).copied();
    match custom.as_slice() {
        [] => is_in("master").or_else(|| is_in("worker")),
        [custom] => is_in("master").or(Some(**custom)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::facts::Cause;
    use crate::model::facts::cluster::Selector;

    fn pool(name: &str, roles: &[&str]) -> (String, PoolShape) {
        let label = |role: &&str| (format!("node-role.kubernetes.io/{role}"), String::new());
        let pool = Pool {
            name: name.to_owned(),
            machine_config_selector: Selector::default(),
            os_image_stream: None,
            paused: false,
            nodes: Fact::Unknown(Cause::NotAsked),
        };
        let node_selector =
            Selector { match_labels: roles.iter().map(label).collect(), ..Selector::default() };
        (name.to_owned(), PoolShape { pool, node_selector })
    }

    fn pools() -> ObjectMap<PoolShape> {
        let names = ["master", "worker", "infra", "edge"];
        let mut pools: BTreeMap<_, _> = names.map(|name| pool(name, &[name])).into();
        pools.extend([pool("everything", &[])]);
        Arc::new(pools)
    }

    fn node(roles: &[&str], architecture: &str) -> Node {
        let labels = roles.iter().map(|role| (format!("node-role.kubernetes.io/{role}"), String::new()));
        Node { labels: labels.collect(), architecture: architecture.to_owned() }
    }

    #[test]
    fn each_node_has_the_pool_that_the_operator_gives_it() {
        for (roles, expected) in [
            (&["master"][..], Some("master")),
            (&["worker"], Some("worker")),
            (&["master", "worker"], Some("master")),
            (&["infra"], Some("infra")),
            (&["worker", "infra"], Some("infra")),
            (&["master", "worker", "infra"], Some("master")),
            (&["worker", "infra", "edge"], None),
            (&["master", "infra", "edge"], None),
            (&["other"], None),
            (&[], None),
        ] {
            assert_eq!(pool_of(&node(roles, "amd64"), &pools()), expected, "{roles:?}");
        }
        let mut windows = node(&["worker"], "amd64");
        windows.labels.insert("kubernetes.io/os".to_owned(), "windows".to_owned());
        assert_eq!(pool_of(&windows, &pools()), None);
    }

    #[test]
    fn nodes_are_counted_by_architecture() {
        let nodes = BTreeMap::from([
            ("a".to_owned(), node(&["worker"], "amd64")),
            ("b".to_owned(), node(&["worker"], "arm64")),
            ("c".to_owned(), node(&["worker"], "arm64")),
            ("just-joined".to_owned(), node(&["worker"], "")),
        ]);
        let counted = count(&pools(), Fact::Known(Arc::new(nodes)));
        let of = |name: &str| counted.iter().find(|pool| pool.name == name).unwrap().nodes.clone();
        assert_eq!(of("worker"), Fact::Known([("amd64".to_owned(), 1), ("arm64".to_owned(), 2)].into()));
        assert_eq!(of("infra"), Fact::Known(BTreeMap::new()));
        let names: Vec<_> = counted.iter().map(|pool| pool.name.as_str()).collect();
        assert_eq!(names, ["edge", "everything", "infra", "master", "worker"]);

        let cause = Cause::Cluster { kind: "Nodes".to_owned(), reason: "r".to_owned() };
        let counted = count(&pools(), Fact::Unknown(cause.clone()));
        assert!(counted.iter().all(|pool| pool.nodes == Fact::Unknown(cause.clone())));
    }
}
