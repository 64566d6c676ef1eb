//! The lineage of images that Debian's `buildah` derived and `skopeo` copied, as the program tells it.

use layerpin_test_support::documents::{create, machine_config};
use layerpin_test_support::program::Setup;
use layerpin_test_support::tools::needs;
use layerpin_test_support::workshop::Workshop;
use serde_json::json;

use crate::lineage::explained;

#[tokio::test]
async fn images_built_by_other_tools_are_classified_by_their_ancestry() {
    needs!("docker-registry", "skopeo", "buildah");
    let workshop = Workshop::open();
    let simple = "FROM BASE\nCOPY motd /etc/motd\n";
    let stages = "FROM BASE AS tools\nCOPY motd /tool\nFROM BASE\nCOPY --from=tools /tool /usr/bin/tool\n";
    let three = "FROM BASE\nCOPY motd /etc/one\nCOPY motd /etc/two\nCOPY motd /etc/three\n";
    // All that the base says of itself, over nothing of it.
    let liar = "FROM BASE AS base\nFROM scratch\nLABEL containers.bootc=1 ostree.bootable=true \\\n  \
                baseOSContainerImage=BASE\nCOPY motd /etc/motd\n\
                COPY motd /etc/more\n";
    let annotation = format!("org.opencontainers.image.base.name={}", workshop.named("base"));
    for (tag, file, options) in [
        ("plain", simple, &[][..]),
        ("layers", three, &["--layers"]),
        ("stages", stages, &[]),
        ("squashed", simple, &["--squash"]),
        ("liar", liar, &["--layers", "--annotation", &annotation]),
    ] {
        workshop.build(tag, file, options);
    }
    workshop.push_as_docker("plain", "docker");
    let (_other, zstd) = workshop.repacked("plain");
    let base = workshop.named("base");
    let unprovable =
        "linux/amd64 unprovable - its layers, including those of the base, were squashed into one";
    let foreign = format!("linux/amd64 foreign - it shares no layer with the base `{base}`");
    for (image, expected) in [
        (base.as_str(), "linux/amd64 same 0 -"),
        (&workshop.named("plain"), "linux/amd64 derived 1 -"),
        (&workshop.named("layers"), "linux/amd64 derived 3 -"),
        (&workshop.named("stages"), "linux/amd64 derived 1 -"),
        (&workshop.named("docker"), "linux/amd64 derived 1 -"),
        (&zstd, "linux/amd64 derived 1 -"),
        (&workshop.named("squashed"), unprovable),
        (&workshop.named("liar"), &foreign),
    ] {
        assert_eq!(explained(image, &["--base-image", &base]), [expected], "{image}");
    }

    // The webhook says the same.
    let levels =
        "  rules: {unprovable-base: deny, foreign-base: deny, not-bootable: off, floating-tag: off}\n";
    let layerpin = Setup::serve().policy(levels).arguments(["--base-image", &base]).start();
    for (image, begins) in [
        (workshop.named("plain"), ""),
        (zstd, ""),
        (workshop.named("squashed"), "[unprovable-base] "),
        (workshop.named("liar"), "[foreign-base] "),
    ] {
        let answer = layerpin.webhooks.review("/validate", &create(&machine_config().image(&image))).await;
        assert_eq!(answer["response"]["allowed"], json!(begins.is_empty()), "{image}: {answer}");
        let message = answer["response"]["status"]["message"].as_str().unwrap_or_default();
        assert!(message.starts_with(begins), "{image}: {answer}");
    }
}
