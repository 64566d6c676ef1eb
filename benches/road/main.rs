//! `make bench`: what a review costs, on the release binary, over TLS with connections kept.
//!
//! Reviews are compared with a route on the same kind of listener that only reads the body and answers 200
//! ([`servers`]); `wrk` makes the load ([`load`]). All kinds are measured in turns, round by round,
//! and ratios are taken within a round, so that what else the machine does weighs on all alike. Every
//! review is answered for good and logged; the log is read and counted.

mod documents;
mod load;
mod servers;

use std::process::ExitCode;

use layerpin_test_support::measure::{Report, is_benchmark, median};

use documents::{LARGE, Reviews};
use load::{Kind, Load};
use servers::Servers;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return servers::serve_empty_route();
    }
    if !is_benchmark() {
        return ExitCode::SUCCESS;
    }
    if let Err(reason) = load::available() {
        eprintln!("skipped: {reason}");
        return ExitCode::FAILURE;
    }
    let settings = Settings::from_environment();
    let servers = Servers::start();
    let reviews = Reviews::of(&servers.registry);
    let mut report = Report::default();

    let pinned = Load::new(&servers.layerpin, "/validate?timeout=10s", &reviews.pinned);
    let tagged = Load::new(&servers.layerpin, "/mutate?timeout=10s", &reviews.tagged);
    let empty = Load::new(&servers.empty, "/empty", &reviews.pinned);
    let kinds: [(&str, &Load); 3] =
        [("empty route", &empty), ("pinned, /validate", &pinned), ("tag, /mutate", &tagged)];
    println!(
        "{} rounds of {} s for each kind, {} connections; reviews of {} bytes",
        settings.rounds,
        settings.seconds,
        load::CONNECTIONS,
        reviews.pinned.len()
    );
    for (_, load) in kinds {
        load.run(1, Kind::Many);
    }
    let mut rates = [const { Vec::new() }; 3];
    for round in 0..settings.rounds {
        // Whoever comes first in every round would get the quieter machine, or the busier one.
        for offset in 0..kinds.len() {
            let index = (round + offset) % kinds.len();
            let (_, load) = kinds[index];
            rates[index].push(load.run(settings.seconds, Kind::Many).rate);
        }
    }
    let [of_empty, ..] = &rates;
    for ((name, _), rate) in kinds.iter().zip(&rates) {
        let ratios: Vec<_> = rate.iter().zip(of_empty).map(|(one, other)| one / other).collect();
        let ratio = median(&ratios);
        let figure = format!("{:>7.0} reviews/s, {:>5.1} % of the empty route", median(rate), ratio * 100.0);
        report.line(name, &figure, (*name != "empty route").then_some(ratio >= RATIO));
    }

    let update = Load::new(&servers.layerpin, "/validate?timeout=10s", &reviews.large_update);
    let empty_update = Load::new(&servers.empty, "/empty", &reviews.large_update);
    update.run(1, Kind::One);
    let mut medians = Vec::new();
    let mut empty_medians = Vec::new();
    for _ in 0..settings.rounds {
        medians.push(update.run(settings.seconds, Kind::One).median_milliseconds);
        empty_medians.push(empty_update.run(settings.seconds, Kind::One).median_milliseconds);
    }
    let milliseconds = median(&medians);
    let figure = format!("{milliseconds:>7.2} ms, the empty route {:.2} ms", median(&empty_medians));
    let name = format!("UPDATE of {:.1} MB", reviews.large_update.len() as f64 / 1e6);
    report.line(&name, &figure, Some(milliseconds < LARGE.milliseconds));

    while servers.layerpin.reviews_logged() < settings.reviews {
        pinned.run(settings.seconds, Kind::Many);
        tagged.run(settings.seconds, Kind::Many);
    }
    let (answered, logged) = (servers.layerpin.reviews_counted(), servers.layerpin.reviews_logged());
    let resident = servers.layerpin.resident_megabytes();
    let figure = format!("{resident:>7.1} MB after {answered} reviews");
    report.line("resident memory", &figure, Some(resident < RESIDENT_MEGABYTES));
    report.line("log", &format!("{logged:>7} lines, one for each review"), Some(logged == answered));
    let heads = servers.heads_of_equal_tags(EQUAL_TAGS, &reviews);
    report.line(&format!("{EQUAL_TAGS} equal tags at once"), &format!("{heads:>7} HEAD"), Some(heads == 1));
    // Each of them has a connection of its own; what those leave behind is the allocator's.
    let figure = format!("{:>7.1} MB", servers.layerpin.resident_megabytes());
    report.line("resident memory after it", &figure, None);
    report.end(&format!(
        "{:.0} % of the empty route; {} ms; one HEAD; {RESIDENT_MEGABYTES} MB",
        RATIO * 100.0,
        LARGE.milliseconds
    ))
}

/// What the environment asks for.
struct Settings {
    reviews: u64,
    rounds: usize,
    seconds: u64,
}

impl Settings {
    fn from_environment() -> Self {
        let number = |name: &str, default: u64| match std::env::var(name) {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}=`{text}` is no number")),
            Err(_) => default,
        };
        Self {
            reviews: number("BENCH_REVIEWS", 1_000_000),
            rounds: usize::try_from(number("BENCH_ROUNDS", 7)).unwrap_or(1).max(1),
            seconds: number("BENCH_SECONDS", 2).max(1),
        }
    }
}

/// Of the rate of the empty route.
const RATIO: f64 = 0.85;
const RESIDENT_MEGABYTES: f64 = 30.0;
const EQUAL_TAGS: usize = 1000;
