//! How long it takes to read a release payload of a real size from a registry on loopback: some 200
//! components, and a last layer of some ten megabytes.
//!
//! Each reading is by a client of its own, so that nothing is remembered.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use layerpin::metrics::Metrics;
use layerpin::model::digest::Digest;
use layerpin::model::facts::Fact;
use layerpin::model::pull_spec::PullSpec;
use layerpin::registry::auth::keychain::Keychain;
use layerpin::sources::RegistryClient;
use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::{Component, Image, Layer, Packing};
use layerpin_test_support::measure::{is_benchmark, median};

fn main() -> ExitCode {
    if !is_benchmark() {
        return ExitCode::SUCCESS;
    }
    layerpin::install_crypto_provider();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let registry = Registry::start().expect("a registry");
    for packing in [Packing::Gzip, Packing::Zstd, Packing::Plain] {
        let payload = payload(packing);
        let layer = payload.layers().last().expect("a layer").blob().len();
        let digest = registry.push("ocp/release", None, &payload);
        let reference = format!("{}/ocp/release@{digest}", registry.host());
        let reference = PullSpec::parse(&reference).expect("a reference");
        let times: Vec<_> = (0..READINGS).map(|_| runtime.block_on(read(&reference))).collect();
        println!(
            "{packing:?}: layer of {:.1} MB, median {:.0} ms, slowest {:.0} ms of {READINGS}",
            layer as f64 / 1e6,
            median(&times).as_secs_f64() * 1e3,
            times.iter().max().expect("a reading").as_secs_f64() * 1e3,
        );
    }
    ExitCode::SUCCESS
}

async fn read(reference: &PullSpec) -> Duration {
    let client = RegistryClient::new(Keychain::none(), Arc::new(Metrics::new())).expect("a client");
    let begun = Instant::now();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    match client.payload(reference, deadline).await {
        Fact::Known(payload) => assert_eq!(payload.os_images.len(), 2),
        other => panic!("{other:?}"),
    }
    begun.elapsed()
}

/// A payload whose manifests pack as manifests do, to about a fifth.
fn payload(packing: Packing) -> Image {
    let pull_spec = |index: usize| format!("quay.io/ocp/art@{}", Digest::of(&index.to_le_bytes()));
    let component = |index: usize| {
        Component::new(&format!("component-{index}"), &pull_spec(index))
            .with_annotation("io.openshift.build.commit.id", &pull_spec(index)[24..64])
            .with_annotation("io.openshift.build.source-location", "https://github.com/openshift/component")
    };
    let mut components: Vec<_> = (0..198).map(component).collect();
    components.push(Component::os("rhel-coreos", &pull_spec(198), "rhel-9", "9.6.1"));
    components.push(Component::os("rhel-coreos-10", &pull_spec(199), "rhel-10", "10.2.1"));
    let release = Image::release_payload_of("4.21.3", &components);
    let file = |path| release.layers()[1].file(path).expect("a file of the payload");
    let references = file("release-manifests/image-references");
    let manifests: Vec<_> = (0..MANIFESTS).map(manifest).collect();
    let mut files: Vec<(String, &[u8])> = Vec::new();
    for (index, manifest) in manifests.iter().enumerate() {
        files.push((format!("release-manifests/0000_50_component_{index}.yaml"), manifest));
    }
    files.push(("release-manifests/image-references".to_owned(), &references));
    let files: Vec<_> = files.iter().map(|(path, content)| (path.as_str(), *content)).collect();
    Image::scratch().with_layer_of(Layer::of_files(&files).repacked(packing))
}

/// Some text that repeats, and some that does not.
fn manifest(index: usize) -> Vec<u8> {
    let mut text = String::new();
    for line in 0..LINES {
        let digest = Digest::of(&[index.to_le_bytes(), line.to_le_bytes()].concat());
        text.push_str(
            "                  description: what the field means, in a sentence that comes again and again\n",
        );
        text.push_str("                  type: object\n                  default: ");
        text.push_str(&digest.as_str()[7..41]);
        text.push('\n');
    }
    text.into_bytes()
}

const READINGS: usize = 15;
const MANIFESTS: usize = 1000;
const LINES: usize = 400;
