//! Images derived by Debian's `buildah` and copied by `skopeo`, read back from `docker-registry`:
//! what stays the same, and what does not.

use layerpin::model::facts::Fact;
use layerpin::model::facts::image::{Platform, PlatformImage};
use layerpin_test_support::tools::needs;
use layerpin_test_support::workshop::Workshop;

use crate::support::Asker;

async fn read(reference: &str) -> PlatformImage {
    match Asker::anonymous().image(reference).await {
        Fact::Known(image) => match image.platforms.get(&Platform::of_node("amd64")) {
            Some(Fact::Known(image)) => image.clone(),
            other => panic!("{reference}: {other:?}"),
        },
        other => panic!("{reference}: {other:?}"),
    }
}

fn diff_ids(image: &PlatformImage) -> Vec<&str> {
    image.layers.iter().map(|layer| layer.diff_id.as_str()).collect()
}

fn digests(image: &PlatformImage) -> Vec<&str> {
    image.layers.iter().map(|layer| layer.digest.as_str()).collect()
}

#[tokio::test]
async fn builds_keep_the_layers_of_the_base_unless_they_squash_them() {
    needs!("docker-registry", "skopeo", "buildah");
    let workshop = Workshop::open();
    let base = read(&workshop.named("base")).await;
    assert_eq!(base.layers.len(), 6);
    let simple = "FROM BASE\nCOPY motd /etc/motd\nLABEL acme=1\n";
    let stages = "FROM BASE AS tools\nCOPY motd /tool\nFROM BASE\nCOPY --from=tools /tool /usr/bin/tool\n";
    for (tag, file, options, own_layers) in [
        ("plain", simple, &[][..], 1),
        ("layers", "FROM BASE\nCOPY motd /etc/one\nCOPY motd /etc/two\n", &["--layers"], 2),
        ("stages", stages, &[], 1),
    ] {
        workshop.build(tag, file, options);
        let image = read(&workshop.named(tag)).await;
        assert_eq!(&diff_ids(&image)[..6], diff_ids(&base), "{tag}");
        assert_eq!(image.layers.len(), 6 + own_layers, "{tag}");
        assert_eq!(image.labels.get("ostree.final-diffid"), base.labels.get("ostree.final-diffid"), "{tag}");
        let own: Vec<_> = image.history.iter().skip(base.history.len()).collect();
        assert!(own.iter().any(|step| step.comment.starts_with("FROM ")), "{tag}: {own:?}");
        assert!(own.iter().any(|step| step.created_by.contains("COPY")), "{tag}: {own:?}");
    }
    workshop.build("squashed", simple, &["--squash"]);
    let squashed = read(&workshop.named("squashed")).await;
    assert_eq!(squashed.layers.len(), 1);
    assert_eq!(squashed.labels.get("ostree.final-diffid"), base.labels.get("ostree.final-diffid"));
}

#[tokio::test]
async fn copies_keep_diff_ids_whatever_they_do_to_layers_and_manifests() {
    needs!("docker-registry", "skopeo", "buildah");
    let workshop = Workshop::open();
    workshop.build("plain", "FROM BASE\nCOPY motd /etc/motd\n", &[]);
    let plain = read(&workshop.named("plain")).await;
    let (_other, zstd) = workshop.repacked("plain");
    let zstd = read(&zstd).await;
    assert_eq!(diff_ids(&zstd), diff_ids(&plain));
    let shared = digests(&zstd).into_iter().filter(|digest| digests(&plain).contains(digest)).count();
    assert_eq!(shared, 0, "all of it was packed anew");
    workshop.push_as_docker("plain", "docker");
    let docker = read(&workshop.named("docker")).await;
    assert_eq!(diff_ids(&docker), diff_ids(&plain));
    assert_ne!(docker.manifest, plain.manifest);
    assert_eq!(docker.labels, plain.labels);
    assert!(docker.annotations.is_empty(), "{:?}", docker.annotations);
}
