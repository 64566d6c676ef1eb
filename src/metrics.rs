//! The metrics, in the OpenMetrics text format.
//!
//! Owns their names, which are part of the contract, and the bound on their labels: an image reference is never a
//! label, and hosts beyond [`MAX_HOSTS`] are counted together.

use std::collections::HashSet;
use std::sync::RwLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::evaluate::Finding;
use crate::policy::{Level, Policy};
use crate::rules;

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How many registry hosts have their own series; the others are counted as `other`.
pub const MAX_HOSTS: usize = 64;

/// All metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reviews: Family<ReviewLabels, Counter>,
    review_duration: Family<EndpointLabel, Histogram>,
    findings: Family<FindingLabels, Counter>,
    registry_requests: Family<RegistryLabels, Counter>,
    registry_duration: Family<HostLabel, Histogram>,
    cache_requests: Family<CacheLabels, Counter>,
    policy: Family<PolicyLabels, Gauge>,
    policy_failures: Counter,
    certificate_expiry: Gauge<f64, AtomicU64>,
    hosts: RwLock<HashSet<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReviewLabels {
    endpoint: &'static str,
    operation: &'static str,
    verdict: &'static str,
    pub(crate) dry_run: bool,
}

impl ReviewLabels {
    /// The labels of a review that is not a dry run.
    pub(crate) fn new(endpoint: &'static str, operation: &str, verdict: &'static str) -> Self {
        let operation = OPERATIONS.iter().find(|known| **known == operation).copied().unwrap_or("other");
        Self { endpoint, operation, verdict, dry_run: false }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabel {
    endpoint: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FindingLabels {
    rule: &'static str,
    level: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RegistryLabels {
    host: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HostLabel {
    host: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    cache: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyLabels {
    name: String,
    hash: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    revision: &'static str,
}

impl Metrics {
    /// Metrics of a process that starts.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("layerpin");
        let review_duration = Family::new_with_constructor(durations as fn() -> Histogram);
        let registry_duration = Family::new_with_constructor(durations as fn() -> Histogram);
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION"), revision: REVISION }).set(1);
        registry.register("build_info", "Version and revision of the program", build);
        let metrics = Self {
            reviews: Family::default(),
            review_duration,
            findings: Family::default(),
            registry_requests: Family::default(),
            registry_duration,
            cache_requests: Family::default(),
            policy: Family::default(),
            policy_failures: Counter::default(),
            certificate_expiry: Gauge::default(),
            hosts: RwLock::default(),
            registry: Registry::default(),
        };
        registry.register("reviews", "Reviews answered", metrics.reviews.clone());
        registry.register(
            "review_duration_seconds",
            "Time from the head of the request to the response",
            metrics.review_duration.clone(),
        );
        registry.register("findings", "Findings of rules in reviews", metrics.findings.clone());
        registry.register(
            "registry_requests",
            "HTTP requests to registries and their token services",
            metrics.registry_requests.clone(),
        );
        registry.register(
            "registry_request_duration_seconds",
            "Time from the request to the head of the response",
            metrics.registry_duration.clone(),
        );
        registry.register("cache_requests", "Look-ups in caches", metrics.cache_requests.clone());
        registry.register("policy_info", "The policy in use", metrics.policy.clone());
        registry.register(
            "policy_reload_failures",
            "Failed reloads of the policy file, counted again every minute while the file cannot be used",
            metrics.policy_failures.clone(),
        );
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "Expiry of the serving certificate",
            metrics.certificate_expiry.clone(),
        );
        metrics.start_at_zero();
        Self { registry, ..metrics }
    }

    /// All series as text.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }

    /// Counts one answered review.
    pub(crate) fn review(&self, labels: ReviewLabels, took: Duration) {
        self.reviews.get_or_create(&labels).inc();
        let endpoint = labels.endpoint;
        self.review_duration.get_or_create(&EndpointLabel { endpoint }).observe(took.as_secs_f64());
    }

    /// Makes the series of reviews and findings whose labels are known before anything is counted: an increase
    /// from nothing is invisible to `rate()`.
    fn start_at_zero(&self) {
        for (endpoint, verdicts, dry_runs) in [
            ("mutate", &["pass", "warn"][..], &[false, true][..]),
            ("validate", &["pass", "warn", "deny"], &[false, true]),
            ("dry-run", &["pass", "warn", "deny"], &[true]),
        ] {
            for (operation, verdict) in ["CREATE", "UPDATE"]
                .iter()
                .flat_map(|operation| verdicts.iter().map(move |verdict| (operation, verdict)))
            {
                for dry_run in dry_runs.iter().copied() {
                    let labels = ReviewLabels { dry_run, ..ReviewLabels::new(endpoint, operation, verdict) };
                    drop(self.reviews.get_or_create(&labels));
                }
            }
            for verdict in ["busy", "invalid"] {
                let dry_run = endpoint == "dry-run";
                let labels = ReviewLabels { dry_run, ..ReviewLabels::new(endpoint, "", verdict) };
                drop(self.reviews.get_or_create(&labels));
            }
            drop(self.review_duration.get_or_create(&EndpointLabel { endpoint }));
        }
        for rule in rules::ALL {
            for level in [Level::Warn, Level::Deny] {
                drop(self.findings.get_or_create(&FindingLabels { rule: rule.id, level: level.as_str() }));
            }
        }
    }

    /// Counts findings of a review.
    pub fn findings(&self, findings: &[Finding]) {
        for finding in findings {
            let labels = FindingLabels { rule: finding.rule.id, level: finding.level.as_str() };
            self.findings.get_or_create(&labels).inc();
        }
    }

    /// Counts one HTTP request to a registry or its token service.
    pub fn registry_request(&self, host: &str, outcome: &'static str, took: Duration) {
        let host = self.bounded(host);
        self.registry_duration.get_or_create(&HostLabel { host: host.clone() }).observe(took.as_secs_f64());
        self.registry_requests.get_or_create(&RegistryLabels { host, outcome }).inc();
    }

    /// Counts one look-up in a cache.
    pub fn cache_request(&self, cache: &'static str, outcome: &'static str) {
        self.cache_requests.get_or_create(&CacheLabels { cache, outcome }).inc();
    }

    /// Shows the policy in use.
    pub fn policy(&self, policy: &Policy) {
        self.policy.clear();
        let labels = PolicyLabels { name: policy.name().to_owned(), hash: policy.hash().to_owned() };
        self.policy.get_or_create(&labels).set(1);
    }

    /// Counts a policy file that could not be loaded.
    pub fn policy_reload_failure(&self) {
        self.policy_failures.inc();
    }

    /// Shows the expiry of the serving certificate, in seconds since 1970.
    pub fn certificate_expiry(&self, timestamp: i64) {
        self.certificate_expiry.set(timestamp as f64);
    }

    fn bounded(&self, host: &str) -> String {
        let known = |hosts: &HashSet<String>| hosts.contains(host);
        if self.hosts.read().is_ok_and(|hosts| known(&hosts)) {
            return host.to_owned();
        }
        match self.hosts.write() {
            Ok(mut hosts) if hosts.len() < MAX_HOSTS || known(&hosts) => {
                hosts.insert(host.to_owned());
                host.to_owned()
            }
            _ => "other".to_owned(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Up to the longest timeout of the API server, which is 30 seconds.
fn durations() -> Histogram {
    Histogram::new([
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ])
}

const OPERATIONS: [&str; 4] = ["CREATE", "UPDATE", "DELETE", "CONNECT"];

/// The commit that was built, if the build sets it.
const REVISION: &str = match option_env!("LAYERPIN_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_beyond_the_bound_are_counted_together() {
        let metrics = Metrics::new();
        for index in 0..MAX_HOSTS + 10 {
            metrics.registry_request(&format!("h{index}.example"), "found", Duration::ZERO);
        }
        metrics.registry_request("h0.example", "found", Duration::ZERO);
        let text = metrics.encode();
        assert!(text.contains("layerpin_registry_requests_total{host=\"h0.example\",outcome=\"found\"} 2"));
        assert!(text.contains("layerpin_registry_requests_total{host=\"other\",outcome=\"found\"} 10"));
    }

    #[test]
    fn alerts_use_existing_metrics() {
        let rules = include_str!("../deploy/openshift/prometheus_rule.yaml");
        let metrics = Metrics::new();
        // A family without series is not shown.
        metrics.registry_request("registry.example", "failed", Duration::ZERO);
        let text = metrics.encode();
        let words = rules.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let asked: std::collections::BTreeSet<_> =
            words.filter(|word| word.starts_with("layerpin_")).collect();
        assert!(asked.len() >= 4, "{asked:?}");
        for name in asked {
            let kind = match name.strip_suffix("_total") {
                Some(counter) => format!("# TYPE {counter} counter\n"),
                None => format!("# TYPE {name} gauge\n"),
            };
            assert!(text.contains(&kind), "{name}: {text}");
        }
    }

    #[test]
    fn unknown_operations_are_counted_together() {
        let metrics = Metrics::new();
        for operation in ["CREATE", "EVIL1", "EVIL2"] {
            metrics.review(ReviewLabels::new("validate", operation, "pass"), Duration::from_millis(1));
        }
        let text = metrics.encode();
        let series = "layerpin_reviews_total{endpoint=\"validate\",operation=\"other\",verdict=\"pass\",dry_run=\"false\"} 2";
        assert!(text.contains(series), "{text}");
    }

    #[test]
    fn only_the_policy_in_use_is_shown() {
        let metrics = Metrics::new();
        let warn_only = Policy::parse(include_str!("../policies/warn-only.yaml")).unwrap();
        metrics.policy(&Policy::recommended());
        metrics.policy(&warn_only);
        metrics.policy_reload_failure();
        metrics.certificate_expiry(1_800_000_000);
        let text = metrics.encode();
        let shown: Vec<_> = text.lines().filter(|line| line.starts_with("layerpin_policy_info{")).collect();
        assert_eq!(
            shown,
            [format!("layerpin_policy_info{{name=\"warn-only\",hash=\"{}\"}} 1", warn_only.hash())]
        );
        assert!(text.contains("layerpin_policy_reload_failures_total 1"), "{text}");
        assert!(text.contains("layerpin_certificate_expiry_timestamp_seconds 1800000000"), "{text}");
        assert!(text.contains("layerpin_build_info{version="), "{text}");
    }
}
