//! Registry settings of the cluster, and their effect in a running server.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::sync::mpsc;

use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Authority, Registry};
use layerpin_test_support::documents::{create, machine_config};
use layerpin_test_support::eventually::{PATIENCE, eventually};
use layerpin_test_support::program::Layerpin;
use serde_json::{Value, json};

use crate::api_server::{ApiServer, CONTENT_POLICIES, DIGEST_MIRRORS, IMAGES, MANAGED, PROXIES, TAG_MIRRORS};
use crate::credentials::{judged, logged, start};

const REGISTRIES: &str = "registries changed";
const CERTIFICATES: &str = "certificates for registries changed";
const PROXIES_CHANGED: &str = "proxies for registries changed";

/// Whether `/validate` finds that nodes can pull an image.
async fn is_pullable(layerpin: &Layerpin, image: &str) -> bool {
    let review = layerpin.webhooks.review("/validate", &create(&machine_config().image(image))).await;
    review["response"]["allowed"] == true && !review.to_string().contains("unpullable-image")
}

#[tokio::test]
async fn digests_and_tags_are_looked_up_at_the_mirrors_of_the_mirror_sets() {
    let mirror = Registry::start().unwrap();
    let server = ApiServer::start().await;
    for path in [DIGEST_MIRRORS, TAG_MIRRORS, CONTENT_POLICIES] {
        server.serve(path);
    }
    let layerpin = start(&server, |setup| setup);
    // These hosts do not exist, so an image is found at a mirror only.
    let mirrors =
        |source: &str| json!([{"source": source, "mirrors": [format!("{}/mirror", mirror.host())]}]);
    let named = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});

    server.put(DIGEST_MIRRORS, named("a", json!({"imageDigestMirrors": mirrors("one.example/acme")})));
    logged(&layerpin, REGISTRIES, 1).await;
    let digest = mirror.push("mirror/os", Some("1"), &Image::base("4.18.1"));
    assert!(is_pullable(&layerpin, &format!("one.example/acme/os@{digest}")).await);

    server.put(CONTENT_POLICIES, named("a", json!({"repositoryDigestMirrors": mirrors("two.example/acme")})));
    logged(&layerpin, REGISTRIES, 2).await;
    assert!(is_pullable(&layerpin, &format!("two.example/acme/os@{digest}")).await);

    server.put(TAG_MIRRORS, named("a", json!({"imageTagMirrors": mirrors("one.example/acme")})));
    logged(&layerpin, REGISTRIES, 3).await;
    let review = create(&machine_config().image("one.example/acme/os:1"));
    let answer = layerpin.webhooks.review("/mutate", &review).await;
    let pinned = format!("one.example/acme/os@{digest}");
    assert!(answer["response"]["patch"].to_string().contains(&pinned), "{answer}");

    // A resource that cannot be read does not remove settings.
    server.forbid(DIGEST_MIRRORS, true);
    server.cut();
    eventually("the mirror sets are unknown", async || {
        let answer = layerpin.admin.get("/readyz").await;
        answer.text.contains("cannot read ImageDigestMirrorSets").then_some(())
    })
    .await;
    let digest = mirror.push("mirror/other", None, &Image::base("4.18.2"));
    assert!(is_pullable(&layerpin, &format!("one.example/acme/other@{digest}")).await);
    assert_eq!(layerpin.log.with_message(REGISTRIES).len(), 3);
}

#[tokio::test]
async fn a_blocked_registry_is_not_contacted() {
    let registry = Registry::start().unwrap();
    let server = ApiServer::start().await;
    let layerpin = start(&server, |setup| setup);
    assert!(judged(&layerpin, &registry, "acme/before").await.0);
    let asked = registry.requests().len();
    let sources = json!({"registrySources": {"blockedRegistries": [registry.host()]}});
    server.put(IMAGES, json!({"metadata": {"name": "cluster"}, "spec": sources}));
    logged(&layerpin, REGISTRIES, 1).await;
    judged(&layerpin, &registry, "acme/after").await;
    assert_eq!(registry.requests().len(), asked);
}

#[tokio::test]
async fn registries_are_trusted_by_the_ca_bundles_of_the_cluster() {
    let authority = Authority::new();
    let registry = Registry::builder().tls(authority.issue(&["127.0.0.1"])).start().unwrap();
    let server = ApiServer::start().await;
    let layerpin = start(&server, |setup| setup);
    let bundle = |name: &str, key: &str, text: &str| json!({"metadata": {"name": name}, "data": {key: text}});
    let key = registry.host().replace(':', "..");
    let pullable = async |repository: &str| {
        let digest = registry.push(repository, None, &Image::base("4.18.1"));
        is_pullable(&layerpin, &format!("{}/{repository}@{digest}", registry.host())).await
    };
    assert!(!pullable("acme/untrusted").await);

    server.put(MANAGED, bundle("merged-trusted-image-registry-ca", &key, &authority.ca_pem()));
    logged(&layerpin, CERTIFICATES, 1).await;
    assert!(pullable("acme/of-its-own").await);

    let broken = "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n";
    server.put(MANAGED, bundle("trusted-ca-bundle", "ca-bundle.crt", broken));
    let message = "cannot use the CA certificates; still using the previous ones";
    let told = layerpin.log.message(message).await;
    let prefix = "ConfigMap openshift-config-managed/trusted-ca-bundle, key `ca-bundle.crt`: ";
    assert!(told["error"].as_str().unwrap().starts_with(prefix), "{told}");
    assert!(pullable("acme/still").await);

    server.delete(MANAGED, "merged-trusted-image-registry-ca");
    server.put(MANAGED, bundle("trusted-ca-bundle", "ca-bundle.crt", &authority.ca_pem()));
    eventually("the bundle is used", async || {
        (layerpin.log.with_message(CERTIFICATES).len() >= 2).then_some(())
    })
    .await;
    assert!(pullable("acme/of-all").await);
    assert_eq!(layerpin.log.with_message(message).len(), 1, "an error is logged once");
}

#[tokio::test]
async fn registries_that_the_cluster_does_not_allow_are_denied_and_not_contacted() {
    let (registry, mirror) = (Registry::start().unwrap(), Registry::start().unwrap());
    let server = ApiServer::start().await;
    server.serve(DIGEST_MIRRORS);
    let mirrors = json!([{"source": "one.example/acme", "mirrors": [format!("{}/acme", mirror.host())]}]);
    server.put(DIGEST_MIRRORS, json!({"metadata": {"name": "a"}, "spec": {"imageDigestMirrors": mirrors}}));
    let layerpin = start(&server, |setup| setup);
    logged(&layerpin, REGISTRIES, 1).await;
    let put = |sources: Value| {
        let spec = json!({"registrySources": sources});
        server.put(IMAGES, json!({"metadata": {"name": "cluster"}, "spec": spec}));
    };
    let digest = registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    mirror.push("acme/os", None, &Image::base("4.18.1"));
    let here = format!("{}/acme/os@{digest}", registry.host());
    let mirrored = format!("one.example/acme/os@{digest}");
    let denied = async |image: &str, words: &str| {
        eventually(words, async || {
            let review = layerpin.webhooks.review("/validate", &create(&machine_config().image(image))).await;
            let response = review["response"].clone();
            (response["allowed"] == false && response.to_string().contains(words)).then_some(())
        })
        .await;
    };
    put(json!({"allowedRegistries": ["other.example"]}));
    denied(&here, "the cluster does not allow images from ").await;
    let asked = registry.requests().len();
    denied(&mirrored, "the cluster does not allow images from ").await;
    let tagged = create(&machine_config().image(&format!("{}/acme/os:1", registry.host())));
    let answer = layerpin.webhooks.review("/mutate", &tagged).await;
    assert_eq!(answer["response"]["patch"], Value::Null, "{answer}");
    let told = answer["response"]["warnings"].to_string();
    assert!(told.contains("the cluster does not allow its registry"), "{told}");
    assert_eq!((registry.requests().len(), mirror.requests().len()), (asked, 0));

    // Nodes compare the name in the object, so a mirror does not give access to a blocked registry.
    put(json!({"blockedRegistries": ["one.example"]}));
    denied(&mirrored, "the cluster blocks images from `one.example/acme/os`: `one.example` is blocked").await;
    assert!(is_pullable(&layerpin, &here).await);
    assert_eq!(mirror.requests().len(), 0);

    put(json!({"allowedRegistries": ["one.example/acme"]}));
    denied(&here, "the cluster does not allow images from ").await;
    assert!(is_pullable(&layerpin, &mirrored).await);
}

/// A proxy that sends the first line of each connection to a channel and then closes the connection.
fn proxy() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut line = String::new();
            let mut stream = BufReader::new(stream);
            let _ = stream.read_line(&mut line);
            if sender.send(line.trim_end().to_owned()).is_err() {
                return;
            }
            drop(stream);
        }
    });
    (format!("http://{address}"), lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_are_contacted_through_the_proxy_of_the_proxy_status() {
    let (address, lines) = proxy();
    let server = ApiServer::start().await;
    let layerpin = start(&server, |setup| setup);
    let status = json!({"httpProxy": "", "httpsProxy": address, "noProxy": ".svc,direct.example"});
    let spec = json!({"httpsProxy": "http://192.0.2.1:1", "noProxy": ""});
    server.put(PROXIES, json!({"metadata": {"name": "cluster"}, "spec": spec, "status": status}));
    logged(&layerpin, PROXIES_CHANGED, 1).await;
    let digest = layerpin_test_support::documents::NOWHERE;
    assert!(!is_pullable(&layerpin, &format!("proxied.example/acme/os@{digest}")).await);
    assert_eq!(lines.recv_timeout(PATIENCE).unwrap(), "CONNECT proxied.example:443 HTTP/1.1");
    while lines.try_recv().is_ok() {}
    assert!(!is_pullable(&layerpin, &format!("direct.example/acme/os@{digest}")).await);
    assert_eq!(lines.try_recv().ok(), None);

    server.put(PROXIES, json!({"metadata": {"name": "cluster"}, "spec": {}, "status": {}}));
    logged(&layerpin, PROXIES_CHANGED, 2).await;
    assert!(!is_pullable(&layerpin, &format!("proxied.example/acme/other@{digest}")).await);
    assert_eq!(lines.try_recv().ok(), None);
}
