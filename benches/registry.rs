//! How registries are asked, with registries on loopback: equal and different tags at once, one that is
//! frozen beside others, and what a million references leave in memory.
//!
//! What the registry alone needs for the same questions is measured in the same run, by a plain HTTP
//! client with as many questions in flight; the two take turns. `BENCH_REFERENCES` says how many
//! references the last part asks for.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use layerpin::metrics::Metrics;
use layerpin::model::facts::{Fact, Manifest};
use layerpin::model::pull_spec::PullSpec;
use layerpin::model::question::Freshness;
use layerpin::registry::HostLimits;
use layerpin::registry::auth::keychain::Keychain;
use layerpin::sources::RegistryClient;
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Fault, Registry, TokenService};
use layerpin_test_support::measure::{Report, is_benchmark, median, memory};

fn main() -> ExitCode {
    if !is_benchmark() {
        return ExitCode::SUCCESS;
    }
    layerpin::install_crypto_provider();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut report = Report::default();
    runtime.block_on(async {
        equal_tags(&mut report).await;
        different_tags(&mut report).await;
        frozen(&mut report).await;
        memory_of(references(), &mut report).await;
    });
    report.end(&format!("one question; ratios of {RATIO}; {GROWTH} MB more"))
}

async fn equal_tags(report: &mut Report) {
    let tokens = TokenService::builder().anonymous_pull().start().expect("a token service");
    let registry = Registry::builder().bearer_auth(&tokens).start().expect("a registry");
    registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let client = client();
    let reference = parse(&format!("{}/acme/os:1", registry.host()));
    let answers = join_all((0..QUESTIONS).map(|_| ask(&client, &reference))).await;
    assert!(answers.iter().all(is_known), "every question is answered");
    let path = "/manifests/1";
    let answered = registry
        .requests()
        .iter()
        .filter(|request| {
            request.method == "HEAD" && request.path.ends_with(path) && request.authorization().is_some()
        })
        .count();
    let (heads, fetched) = (answered, tokens.requests().len());
    let figure = format!("{heads} HEAD with a token, {fetched} token");
    report.line(&format!("{QUESTIONS} equal tags at once"), &figure, Some(heads == 1 && fetched == 1));
}

async fn different_tags(report: &mut Report) {
    let (registry, host) = with_tags(QUESTIONS);
    let in_flight = HostLimits::default().in_flight;
    let mut ratios = Vec::new();
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // Both have asked before: what is measured is questions, not how it is found out that a port
        // speaks no TLS.
        let plain = reqwest::Client::builder().no_proxy().build().expect("a plain client");
        let client = client();
        let last = format!("{}/v2/acme/os/manifests/t{QUESTIONS}", registry.base_url());
        plain.head(last).send().await.expect("an answer");
        ask(&client, &parse(&format!("{host}/acme/os:t{QUESTIONS}"))).await;

        let begun = Instant::now();
        let heads = (0..QUESTIONS)
            .map(|tag| plain.head(format!("{}/v2/acme/os/manifests/t{tag}", registry.base_url())).send());
        let answers: Vec<_> = stream::iter(heads).buffer_unordered(in_flight).collect().await;
        let alone = begun.elapsed();
        assert!(answers.into_iter().all(|answer| answer.is_ok_and(|answer| answer.status() == 200)));

        let references: Vec<_> = (0..QUESTIONS).map(|tag| parse(&format!("{host}/acme/os:t{tag}"))).collect();
        let begun = Instant::now();
        let answers = join_all(references.iter().map(|reference| ask(&client, reference))).await;
        let asked = begun.elapsed();
        assert!(answers.iter().all(is_known), "every question is answered");
        ratios.push(asked.as_secs_f64() / alone.as_secs_f64());
        times.0.push(asked.as_secs_f64());
        times.1.push(alone.as_secs_f64());
    }
    let ratio = median(&ratios);
    let figure = format!(
        "{:.0} ms, the registry alone {:.0} ms, ratio {ratio:.2} (most {RATIO})",
        median(&times.0) * 1e3,
        median(&times.1) * 1e3,
    );
    report.line(&format!("{QUESTIONS} different tags, {in_flight} in flight"), &figure, Some(ratio <= RATIO));
}

async fn frozen(report: &mut Report) {
    let (stuck, stuck_host) = with_tags(QUESTIONS);
    let (_other, host) = with_tags(QUESTIONS);
    let mut medians = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let client = client();
        // Both are known to speak no TLS from here on.
        ask(&client, &parse(&format!("{stuck_host}/acme/os:t0"))).await;
        ask(&client, &parse(&format!("{host}/acme/os:t0"))).await;
        // With nobody frozen, then beside one.
        for (index, times) in medians.iter_mut().enumerate() {
            let before = stuck.requests().len();
            let mut waiting = tokio::task::JoinSet::new();
            if index == 1 {
                stuck.set_fault(Fault::Latency(Duration::from_secs(3600)));
                for tag in 1..QUESTIONS {
                    let (client, reference) =
                        (Arc::clone(&client), parse(&format!("{stuck_host}/acme/os:t{tag}")));
                    waiting.spawn(async move { ask(&client, &reference).await });
                }
                stuck.requests_arrived(before + HostLimits::default().in_flight).await.expect("it is asked");
            }
            let mut each = Vec::new();
            for tag in 0..FEW {
                let tag = 1 + index * FEW + tag;
                let reference = parse(&format!("{host}/acme/os:t{tag}"));
                let begun = Instant::now();
                assert!(is_known(&ask(&client, &reference).await), "round {round}");
                each.push(begun.elapsed().as_secs_f64());
            }
            times.push(median(&each));
            stuck.clear_fault();
        }
    }
    let [free, beside] = &medians;
    let (free, beside) = (median(free) * 1e3, median(beside) * 1e3);
    let figure =
        format!("{beside:.2} ms, with nobody frozen {free:.2} ms, ratio {:.2} (most {RATIO})", beside / free);
    report.line("an answer beside a frozen registry", &figure, Some(beside / free <= RATIO));
}

async fn memory_of(references: usize, report: &mut Report) {
    let registry = Registry::start().expect("a registry");
    // A short refusal for whatever is asked for.
    registry.set_fault(Fault::Status(404));
    let client = client();
    let part = references / PARTS;
    let mut resident = Vec::new();
    for index in 0..PARTS {
        let numbers = index * part..(index + 1) * part;
        let asked = stream::iter(numbers).map(|number| {
            let (client, host) = (&client, registry.host());
            async move { ask(client, &parse(&format!("{host}/acme/os:n{number}"))).await }
        });
        let mut asked = asked.buffer_unordered(HostLimits::default().in_flight);
        while let Some(answer) = asked.next().await {
            assert_eq!(answer, Fact::Absent);
        }
        // The record of the registry of what it was asked, which is in this process.
        registry.clear_requests();
        resident.push(memory(std::process::id(), "VmRSS").expect("VmRSS of this process"));
    }
    // The caches are full after the first parts.
    let (full, end) = (resident[PARTS / 2 - 1], resident[PARTS - 1]);
    let figure = format!("{full:.1} MB after half of them, {end:.1} MB at the end (most {GROWTH} MB more)");
    report.line(&format!("memory over {references} references"), &figure, Some(end - full <= GROWTH));
}

fn with_tags(count: usize) -> (Registry, String) {
    let registry = Registry::start().expect("a registry");
    let digest = registry.push("acme/os", None, &Image::base("4.18.1"));
    for tag in 0..=count {
        registry.tag("acme/os", &format!("t{tag}"), &digest);
    }
    let host = registry.host();
    (registry, host)
}

fn client() -> Arc<RegistryClient> {
    RegistryClient::new(Keychain::none(), Arc::new(Metrics::new())).expect("a client")
}

async fn ask(client: &Arc<RegistryClient>, reference: &PullSpec) -> Fact<Manifest> {
    client.manifest(reference, Freshness::Cached, tokio::time::Instant::now() + Duration::from_secs(60)).await
}

fn is_known(answer: &Fact<Manifest>) -> bool {
    matches!(answer, Fact::Known(_))
}

fn parse(text: &str) -> PullSpec {
    PullSpec::parse(text).expect("a reference")
}

fn references() -> usize {
    match std::env::var("BENCH_REFERENCES") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("BENCH_REFERENCES=`{text}` is no number")),
        Err(_) => 1_000_000,
    }
}

const QUESTIONS: usize = 1000;
const ROUNDS: usize = 5;
const FEW: usize = 20;
const RATIO: f64 = 2.0;
const PARTS: usize = 10;
const GROWTH: f64 = 8.0;
