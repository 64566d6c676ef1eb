//! The metrics at the admin address after known events.

use layerpin_sample_registry::Authority;
use layerpin_test_support::documents::{create, machine_config, policy, update};
use layerpin_test_support::os_registry::OsRegistry;
use layerpin_test_support::program::{Setup, metric};

#[tokio::test]
async fn every_metric_counts_its_events() {
    let OsRegistry { registry: _registry, host, digest } = OsRegistry::start();
    let tagged = machine_config().image(&format!("{host}/acme/os:1"));
    let pinned = machine_config().image(&format!("{host}/acme/os@{digest}"));
    let spec = "  rules: {floating-tag: warn}\n";
    let layerpin = Setup::serve().policy(spec).certificate(&Authority::new()).start();
    layerpin.webhooks.review("/mutate", &create(&tagged)).await;
    layerpin.webhooks.review("/validate", &create(&tagged)).await;
    layerpin.webhooks.review("/validate", &update(&pinned, &tagged)).await;
    layerpin.webhooks.review("/validate", &create(&machine_config().image("os:1"))).await;
    let mut dry_run = create(&pinned);
    dry_run["request"]["dryRun"] = serde_json::json!(true);
    layerpin.webhooks.review("/validate", &dry_run).await;
    layerpin.webhooks.post("/validate", "").await;
    layerpin.webhooks.post("/dry-run", tagged.to_string()).await;

    let answer = layerpin.admin.get("/metrics").await;
    assert_eq!(answer.header("content-type"), layerpin::metrics::CONTENT_TYPE);
    let text = answer.text;
    let hash = layerpin::policy::Policy::parse(&policy(spec)).unwrap().hash().to_owned();
    for (series, value) in [
        ("reviews_total{endpoint=\"mutate\",operation=\"CREATE\",verdict=\"warn\",dry_run=\"false\"}", 1.0),
        ("reviews_total{endpoint=\"validate\",operation=\"CREATE\",verdict=\"warn\",dry_run=\"false\"}", 1.0),
        ("reviews_total{endpoint=\"validate\",operation=\"UPDATE\",verdict=\"pass\",dry_run=\"false\"}", 1.0),
        ("reviews_total{endpoint=\"validate\",operation=\"CREATE\",verdict=\"deny\",dry_run=\"false\"}", 1.0),
        (
            "reviews_total{endpoint=\"validate\",operation=\"other\",verdict=\"invalid\",dry_run=\"false\"}",
            1.0,
        ),
        ("reviews_total{endpoint=\"dry-run\",operation=\"CREATE\",verdict=\"pass\",dry_run=\"true\"}", 1.0),
        ("reviews_total{endpoint=\"validate\",operation=\"CREATE\",verdict=\"pass\",dry_run=\"true\"}", 1.0),
        ("review_duration_seconds_count{endpoint=\"mutate\"}", 1.0),
        ("review_duration_seconds_count{endpoint=\"validate\"}", 5.0),
        ("review_duration_seconds_bucket{le=\"+Inf\",endpoint=\"dry-run\"}", 1.0),
        ("findings_total{rule=\"floating-tag\",level=\"warn\"}", 1.0),
        ("findings_total{rule=\"malformed-reference\",level=\"deny\"}", 1.0),
        // The first question found that the port speaks no TLS.
        (&format!("registry_requests_total{{host=\"{host}\",outcome=\"failed\"}}"), 1.0),
        (&format!("registry_requests_total{{host=\"{host}\",outcome=\"found\"}}"), 4.0),
        (&format!("registry_request_duration_seconds_count{{host=\"{host}\"}}"), 5.0),
        ("cache_requests_total{cache=\"manifest\",outcome=\"miss\"}", 2.0),
        ("cache_requests_total{cache=\"manifest\",outcome=\"hit\"}", 2.0),
        // An image that is known by its digest answers for its manifest as well.
        ("cache_requests_total{cache=\"image\",outcome=\"hit\"}", 2.0),
        (&format!("policy_info{{name=\"test\",hash=\"{hash}\"}}"), 1.0),
        ("policy_reload_failures_total", 0.0),
        (&format!("build_info{{version=\"{}\",revision=\"unknown\"}}", env!("CARGO_PKG_VERSION")), 1.0),
    ] {
        assert_eq!(metric(&text, &format!("layerpin_{series}")), Some(value), "{series}: {text}");
    }
    assert!(metric(&text, "layerpin_certificate_expiry_timestamp_seconds").is_some_and(|end| end > 1e9));
    assert_eq!(text.lines().last(), Some("# EOF"));
    assert!(!text.contains("acme"), "no image is a label: {text}");
}

#[tokio::test]
async fn series_with_known_labels_are_zero_from_the_start() {
    let layerpin = Setup::serve().arguments(["--offline"]).start();
    let text = layerpin.metrics().await;
    for series in [
        "reviews_total{endpoint=\"mutate\",operation=\"CREATE\",verdict=\"pass\",dry_run=\"false\"}",
        "reviews_total{endpoint=\"validate\",operation=\"UPDATE\",verdict=\"deny\",dry_run=\"true\"}",
        "reviews_total{endpoint=\"validate\",operation=\"other\",verdict=\"busy\",dry_run=\"false\"}",
        "reviews_total{endpoint=\"dry-run\",operation=\"CREATE\",verdict=\"warn\",dry_run=\"true\"}",
        "review_duration_seconds_count{endpoint=\"validate\"}",
        "findings_total{rule=\"floating-tag\",level=\"deny\"}",
    ] {
        assert_eq!(metric(&text, &format!("layerpin_{series}")), Some(0.0), "{series}: {text}");
    }
}
