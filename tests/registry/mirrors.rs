//! Mirrors, blocked and insecure registries of `registries.conf`.

use std::time::Duration;

use futures_util::future::join_all;
use layerpin::model::facts::{Attempt, Cause, CredentialsSent, Fact, NodeCredentials};
use layerpin::model::question::{Freshness, Platforms};
use layerpin::registry::RegistrySettings;
use layerpin::registry::auth::keychain::Keychain;
use layerpin::registry::mirrors::registries_conf::RegistriesConf;
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Authority, DockerRegistry, Fault, Registry};
use layerpin_test_support::tools::{archive, needs};
use serde_json::{Value, json};

use crate::docker_registry::digest_by_skopeo;
use crate::support::{Asker, image, lines, parse, password};

/// A client that reads `conf` and an auth file with these `auths`.
fn asker(conf: &str, auths: &Value) -> Asker {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registries.conf");
    std::fs::write(&file, conf).unwrap();
    let auth_file = folder.path().join("auth.json");
    std::fs::write(&auth_file, json!({"auths": auths}).to_string()).unwrap();
    Asker::with_settings(RegistrySettings {
        registries: RegistriesConf::from_file(&file).unwrap(),
        ..RegistrySettings::from(Keychain::from_file(&auth_file).unwrap())
    })
}

fn registry(tag: &str, version: &str) -> (Registry, String, String) {
    let registry = Registry::start().unwrap();
    let digest = registry.push("acme/os", Some(tag), &Image::base(version));
    let host = registry.host();
    (registry, host, digest)
}

/// `source` in place of `registry.example`, with `mirrors`.
fn conf(source: &str, mirrors: &[(&str, &str)]) -> String {
    let mut text = format!("[[registry]]\nprefix = \"registry.example\"\nlocation = \"{source}\"\n");
    for (location, more) in mirrors {
        text.push_str(&format!("[[registry.mirror]]\nlocation = \"{location}\"\n{more}\n"));
    }
    text
}

const REFERENCE: &str = "registry.example/acme/os:1";
const HEAD: &str = "HEAD /v2/acme/os/manifests/1 -";

#[tokio::test]
async fn mirrors_are_used_before_the_source_each_for_tags_or_digests() {
    let (tags, tag_host, by_tag) = registry("1", "4.18.1");
    let (digests, digest_host, by_digest) = registry("1", "4.18.2");
    let (source, source_host, by_source) = registry("1", "4.18.3");
    for digest in [&by_tag, &by_digest] {
        assert_ne!(*digest, by_source);
    }
    let mirrors = [
        (&*tag_host, "pull-from-mirror = \"tag-only\""),
        (&*digest_host, "pull-from-mirror = \"digest-only\""),
    ];
    let asker = asker(&conf(&source_host, &mirrors), &json!({}));
    assert_eq!(asker.ask(REFERENCE).await, image(&by_tag, &tag_host));
    assert_eq!((digests.requests().len(), source.requests().len()), (0, 0));
    tags.clear_requests();
    assert_eq!(
        asker.ask(&format!("registry.example/acme/os@{by_digest}")).await,
        image(&by_digest, &digest_host)
    );
    // An image that only the tag mirror has is not found by its digest.
    assert_eq!(asker.ask(&format!("registry.example/acme/os@{by_tag}")).await, Fact::Absent);
    assert_eq!(tags.requests().len(), 0, "a tag mirror is not asked for a digest");
    tags.delete_tag("acme/os", "1");
    assert_eq!(asker.ask_now(REFERENCE).await, image(&by_source, &source_host));
    assert!(
        lines(&digests.requests()).iter().all(|line| line.contains("sha256:")),
        "nor a digest mirror for a tag"
    );
}

#[tokio::test]
async fn a_mirror_that_hangs_leaves_time_for_the_source() {
    let (mirror, mirror_host, _) = registry("1", "4.18.1");
    let (_source, source_host, digest) = registry("1", "4.18.2");
    mirror.set_fault(Fault::FreezeAfterAccept);
    let asker = asker(&conf(&source_host, &[(&mirror_host, "")]), &json!({}));
    // The mirror gets half of it; a connection to it times out only after more than that.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(8);
    let answer = asker.client.manifest(&parse(REFERENCE), Freshness::Cached, deadline).await;
    assert_eq!(answer, image(&digest, &source_host));
}

#[tokio::test]
async fn equal_requests_cost_a_mirror_one_request() {
    let (mirror, mirror_host, digest) = registry("1", "4.18.1");
    let asker = asker(&conf("registry.example", &[(&mirror_host, "")]), &json!({}));
    asker.ask("registry.example/acme/os:0").await;
    mirror.clear_requests();
    let answers = join_all((0..100).map(|_| asker.ask(REFERENCE))).await;
    assert_eq!(answers, vec![image(&digest, &mirror_host); 100]);
    assert_eq!(lines(&mirror.requests()), [HEAD]);
}

#[tokio::test]
async fn a_blocked_source_gets_no_request_but_its_mirrors_do() {
    let (mirror, mirror_host, digest) = registry("1", "4.18.1");
    let (source, source_host, _) = registry("1", "4.18.1");
    let text = conf(&source_host, &[(&mirror_host, "pull-from-mirror = \"digest-only\"")])
        .replace("location = ", "blocked = true\nlocation = ");
    let text = text.replacen("[[registry.mirror]]\nblocked = true\n", "[[registry.mirror]]\n", 1);
    let asker = asker(&text, &json!({}));
    let blocked = || Cause::Blocked { scope: "registry.example".into() };
    assert_eq!(asker.ask(REFERENCE).await, Fact::Unknown(blocked()));
    assert_eq!(mirror.connections(), 0);
    let reference = format!("registry.example/acme/os@{digest}");
    assert_eq!(asker.ask(&reference).await, image(&digest, &mirror_host));
    mirror.delete_repository("acme/os");
    let attempts = vec![
        Attempt { endpoint: mirror_host, cause: None },
        Attempt { endpoint: "registry.example".into(), cause: Some(blocked()) },
    ];
    assert_eq!(asker.ask_now(&reference).await, Fact::Unknown(Cause::Unanswered { attempts }));
    assert_eq!(source.connections(), 0);
}

#[tokio::test]
async fn each_endpoint_gets_its_own_credentials() {
    let mirror = Registry::builder().basic_auth("mirror", "m-secret").start().unwrap();
    let source = Registry::builder().basic_auth("source", "s-secret").start().unwrap();
    let digest = source.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let (mirror_host, source_host) = (mirror.host(), source.host());
    let auths = json!({
        (mirror_host.as_str()): password("mirror", "m-secret"),
        (source_host.as_str()): password("source", "s-secret"),
        "registry.example": password("logical", "l-secret"),
    });
    let asker = asker(&conf(&source_host, &[(&mirror_host, "")]), &auths);
    assert_eq!(asker.ask(REFERENCE).await, image(&digest, &source_host));
    let shown = |registry: &Registry| -> Vec<String> {
        registry.requests().iter().filter_map(|request| request.authorization().map(str::to_owned)).collect()
    };
    assert_eq!(shown(&mirror), ["Basic bWlycm9yOm0tc2VjcmV0"]);
    assert_eq!(shown(&source), ["Basic c291cmNlOnMtc2VjcmV0"]);
}

#[tokio::test]
async fn without_an_answer_each_endpoint_is_reported() {
    let (mirror, mirror_host, _) = registry("1", "4.18.1");
    let (source, source_host, _) = registry("1", "4.18.1");
    mirror.set_fault(Fault::ForbiddenForEver);
    source.set_fault(Fault::Status(500));
    let asker = asker(&conf(&source_host, &[(&mirror_host, "")]), &json!({}));
    let refused = Cause::Refused {
        host: mirror_host.clone(),
        status: 403,
        shown: CredentialsSent::NoEntry,
        as_nodes: NodeCredentials::Same,
    };
    let failed = Cause::Status { host: source_host.clone(), status: 500 };
    let attempts = vec![
        Attempt { endpoint: mirror_host, cause: Some(refused) },
        Attempt { endpoint: source_host, cause: Some(failed) },
    ];
    assert_eq!(asker.ask(REFERENCE).await, Fact::Unknown(Cause::Unanswered { attempts }));
}

#[tokio::test]
async fn an_image_is_read_from_the_first_mirror_that_has_all_of_it() {
    let base = Image::base("4.18.1");
    let (broken, broken_host, digest) = registry("1", "4.18.1");
    let (_mirror, mirror_host, _) = registry("1", "4.18.1");
    broken.set_fault(Fault::Status(500).on("/blobs/"));
    let mirrors = [(&*broken_host, ""), (&*mirror_host, "")];
    let asker = asker(&conf("registry.example", &mirrors), &json!({}));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let (_, answer) = asker
        .client
        .image(&parse(&format!("registry.example/acme/os@{digest}")), None, &Platforms::All, deadline)
        .await;
    let Fact::Known(found) = answer else { panic!("{answer:?}") };
    assert_eq!(found.digest.as_str(), base.digest());
}

#[tokio::test]
async fn only_an_insecure_registry_is_contacted_without_verification() {
    let authority = Authority::new();
    let start = || Registry::builder().tls(authority.issue(&["other.example"])).start().unwrap();
    let (one, other) = (start(), start());
    let digest = one.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let (one, other) = (one.host(), other.host());
    let asker = asker(&format!("[[registry]]\nlocation = \"{one}\"\ninsecure = true\n"), &json!({}));
    assert_eq!(asker.ask(&format!("{one}/acme/os:1")).await, image(&digest, &one));
    let answer = asker.ask(&format!("{other}/acme/os:1")).await;
    assert!(matches!(answer, Fact::Unknown(Cause::Untrusted { .. })), "{answer:?}");
}

#[tokio::test]
async fn the_docker_registry_mirrors_another() {
    needs!("docker-registry", "skopeo", "htpasswd");
    let origin = DockerRegistry::start().unwrap();
    origin.skopeo_copy(&archive("chunked"), "acme/os:1", None).unwrap();
    let mirror =
        DockerRegistry::builder().htpasswd("m", "s3cr3t-word").mirror_of(&origin.base_url()).start().unwrap();
    let (origin_host, mirror_host) = (origin.host(), mirror.host());
    let digest = digest_by_skopeo(&format!("{origin_host}/acme/os:1"), &["--no-creds"]);
    let conf = conf(&origin_host, &[(&mirror_host, "")]);
    let entry = json!({(mirror_host.as_str()): password("m", "s3cr3t-word")});
    for reference in [REFERENCE, &format!("registry.example/acme/os@{digest}")] {
        assert_eq!(asker(&conf, &entry).ask(reference).await, image(&digest, &mirror_host));
        // When a mirror refuses, the source is used.
        assert_eq!(asker(&conf, &json!({})).ask(reference).await, image(&digest, &origin_host));
    }
}
