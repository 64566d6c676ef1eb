//! Which node belongs to which pool, as the Machine Config Operator decides it.
//!
//! `master` takes precedence over a custom pool, and a custom pool over `worker`. A node that two custom pools
//! select is in no pool: the operator does not update it (`GetPoolsForNode` in the operator's `pkg/helpers`).

use std::collections::BTreeMap;

use crate::cluster::objects::{NodeSummary, PoolSummary};
use crate::cluster::store::ObjectMap;
use crate::model::facts::Fact;
use crate::model::facts::cluster::Pool;

/// The pools, sorted by name, with the nodes of each counted by architecture.
pub(crate) fn count(pools: &ObjectMap<PoolSummary>, nodes: &Fact<ObjectMap<NodeSummary>>) -> Vec<Pool> {
    let mut counts: BTreeMap<&str, BTreeMap<String, u32>> = BTreeMap::new();
    if let Fact::Known(nodes) = nodes {
        for node in nodes.values().filter(|node| !node.architecture.is_empty()) {
            if let Some(pool) = pool_of(node, pools) {
                *counts.entry(pool).or_default().entry(node.architecture.clone()).or_default() += 1;
            }
        }
    }
    let counted = pools.iter().map(|(name, summary)| {
        let nodes = nodes.clone().map(|_| counts.get(name.as_str()).cloned().unwrap_or_default());
        Pool { nodes, ..summary.pool.clone() }
    });
    counted.collect()
}

fn pool_of<'a>(node: &NodeSummary, pools: &'a ObjectMap<PoolSummary>) -> Option<&'a str> {
    if node.labels.get("kubernetes.io/os").is_some_and(|system| system == "windows") {
        return None;
    }
    let selecting: Vec<&str> = pools
        .iter()
        .filter(|(_, pool)| pool.node_selector.selects(&node.labels))
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

    fn pool(name: &str, roles: &[&str]) -> (String, PoolSummary) {
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
        (name.to_owned(), PoolSummary { pool, node_selector })
    }

    fn pools() -> ObjectMap<PoolSummary> {
        let names = ["master", "worker", "infra", "edge"];
        let mut pools: BTreeMap<_, _> = names.map(|name| pool(name, &[name])).into();
        pools.extend([pool("everything", &[])]);
        Arc::new(pools)
    }

    fn node(roles: &[&str], architecture: &str) -> NodeSummary {
        let labels = roles.iter().map(|role| (format!("node-role.kubernetes.io/{role}"), String::new()));
        NodeSummary { labels: labels.collect(), architecture: architecture.to_owned() }
    }

    #[test]
    fn a_node_is_in_the_pool_that_the_operator_chooses() {
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
        let counted = count(&pools(), &Fact::Known(Arc::new(nodes)));
        let of = |name: &str| counted.iter().find(|pool| pool.name == name).unwrap().nodes.clone();
        assert_eq!(of("worker"), Fact::Known([("amd64".to_owned(), 1), ("arm64".to_owned(), 2)].into()));
        assert_eq!(of("infra"), Fact::Known(BTreeMap::new()));
        let names: Vec<_> = counted.iter().map(|pool| pool.name.as_str()).collect();
        assert_eq!(names, ["edge", "everything", "infra", "master", "worker"]);

        let cause = Cause::Cluster { kind: "Nodes".to_owned(), reason: "r".to_owned() };
        let counted = count(&pools(), &Fact::Unknown(cause.clone()));
        assert!(counted.iter().all(|pool| pool.nodes == Fact::Unknown(cause.clone())));
    }
}
