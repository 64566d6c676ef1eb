//! `make bench`: what judging the lineage of an image costs, once everything is known.
//!
//! 200 layers against 20 bases of 200 layers each, in the three cases that take the longest ways: the
//! image is built on the last of them, parts with all of them at the last layer, and shares nothing.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use layerpin::lineage::{self, Ancestry, ForeignReason};
use layerpin::model::digest::Digest;
use layerpin::model::facts::image::{Image, Layer, Platform, PlatformImage};
use layerpin::model::facts::{Fact, Facts, ManifestKind};
use layerpin::model::image_reference::ImageReference;
use layerpin::model::pull_spec::PullSpec;
use layerpin::policy::Policy;
use layerpin_test_support::measure::{Report, is_benchmark, median};

fn main() -> ExitCode {
    if !is_benchmark() {
        return ExitCode::SUCCESS;
    }
    let policy = Policy::recommended();
    let image = ImageReference::parse("quay.io/acme/os:1").unwrap();
    let mut report = Report::default();
    for (name, base, own, expected) in [
        ("built on the last base", Some(BASES - 1), true, None),
        ("parted at the last layer", Some(0), false, Some(ForeignReason::PartOfBase)),
        ("nothing shared", None, true, Some(ForeignReason::NothingShared)),
    ] {
        let facts = facts(&image, base, own);
        let judgement = lineage::judge(&image, &[], &facts, &policy);
        match (&judgement.lineage[0].ancestry, expected) {
            (Ancestry::Derived { .. }, None) => {}
            (Ancestry::Foreign { reason, .. }, Some(expected)) if *reason == expected => {}
            (other, _) => panic!("{name}: {other:?}"),
        }
        let times: Vec<_> = (0..ROUNDS)
            .map(|_| {
                let begin = Instant::now();
                black_box(lineage::judge(&image, &[], black_box(&facts), &policy));
                begin.elapsed()
            })
            .collect();
        let median = median(&times);
        let figure = format!("{:>7.1} µs for {LAYERS} layers, {BASES} bases", median.as_secs_f64() * 1e6);
        report.line(name, &figure, Some(median < TARGET));
    }
    report.end(&format!("{} µs", TARGET.as_micros()))
}

/// An image on the base of this number, whole and with one layer of its own or less its last layer; or
/// on none.
fn facts(image: &ImageReference, base: Option<usize>, whole: bool) -> Facts {
    let mut facts = Facts::none("2026-01-15T12:00:00Z".parse().unwrap());
    // The bases differ in their last layer alone, as those of releases that share their RHEL CoreOS.
    let layers = |base: usize| -> Vec<Layer> {
        (0..LAYERS)
            .map(|index| layer(&if index + 1 == LAYERS { format!("{base}") } else { format!("- {index}") }))
            .collect()
    };
    for base in 0..BASES {
        let reference = PullSpec::parse(&format!("quay.io/ocp/os:{base}")).unwrap();
        facts.given.base_images.push(reference.clone().into());
        facts.images.insert(reference, single(layers(base)));
    }
    let mut own = match base {
        Some(base) => layers(base),
        None => (0..LAYERS).map(|index| layer(&format!("other {index}"))).collect(),
    };
    if !whole {
        own.pop();
    }
    own.push(layer("own"));
    facts.images.insert(image.pull_spec(), single(own));
    facts
}

fn layer(name: &str) -> Layer {
    Layer { diff_id: Digest::of(name.as_bytes()), digest: Digest::of(b"compressed"), size: 1 }
}

fn single(layers: Vec<Layer>) -> Fact<Arc<Image>> {
    let image = PlatformImage {
        manifest: Digest::of(b"manifest"),
        config: Digest::of(b"config"),
        layers,
        labels: Default::default(),
        annotations: Default::default(),
        history: Vec::new(),
        created: None,
    };
    let platforms = [(Platform::of_node("amd64"), Fact::Known(image))].into_iter().collect();
    Fact::Known(Arc::new(Image { digest: Digest::of(b"index"), kind: ManifestKind::Image, platforms }))
}

const LAYERS: usize = 200;
const BASES: usize = 20;
const ROUNDS: usize = 201;
/// A thousandth of the shortest budget that an API server gives a review.
const TARGET: Duration = Duration::from_micros(1000);
