//! How registries are asked, as files say it: in force from the start, changed and broken meanwhile.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::sync::mpsc;

use base64::prelude::{BASE64_STANDARD, Engine};
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Authority, Registry, write_script};
use layerpin_test_support::documents::{create, machine_config};
use layerpin_test_support::eventually::{PATIENCE, eventually};
use layerpin_test_support::program::{Layerpin, Setup};
use serde_json::json;

use crate::answers::{not_pinned, short};

/// Whether `/validate` takes an image for one that nodes can pull.
async fn is_pullable(layerpin: &Layerpin, image: &str) -> bool {
    let review = layerpin.webhooks.review("/validate", &create(&machine_config().image(image))).await;
    review["response"]["allowed"] == true && !review.to_string().contains("unpullable-image")
}

/// The only fault that was logged with `message`.
fn only_fault(layerpin: &Layerpin, message: &str) -> String {
    let lines = layerpin.log.with_message(message);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0]["error"].as_str().unwrap().to_owned()
}

fn mirrored(source: &str, mirror: &str, more: &str) -> String {
    format!("[[registry]]\nlocation = \"{source}\"\n[[registry.mirror]]\nlocation = \"{mirror}\"\n{more}\n")
}

#[tokio::test]
async fn a_changed_registries_conf_is_loaded_and_a_broken_one_is_not() {
    let mirror = Registry::start().unwrap();
    let push = |version: &str| mirror.push("acme/os", None, &Image::base(version));
    let setup = Setup::serve();
    let conf = setup.write("registries.conf", &mirrored("one.example", &mirror.host(), ""));
    let layerpin = setup.arguments(["--registries-conf".as_ref(), conf.as_os_str()]).start();
    // No name here leads anywhere, so what is found was found at the mirror.
    assert!(is_pullable(&layerpin, &format!("one.example/acme/os@{}", push("4.18.1"))).await);

    layerpin.replace("registries.conf", "[[registry]]\nlocation = 5\n");
    let message = "registries.conf: reload failed; still using the previous content";
    layerpin.log.message(message).await;
    let fault = only_fault(&layerpin, message);
    assert!(fault.contains("/registries.conf:2: "), "{fault}");
    assert!(is_pullable(&layerpin, &format!("one.example/acme/os@{}", push("4.18.2"))).await);

    layerpin.replace("registries.conf", &mirrored("two.example", &mirror.host(), ""));
    layerpin.log.message("registries.conf changed").await;
    assert!(is_pullable(&layerpin, &format!("two.example/acme/os@{}", push("4.18.3"))).await);
    assert!(!is_pullable(&layerpin, &format!("one.example/acme/os@{}", push("4.18.4"))).await);
    only_fault(&layerpin, message);
    assert_eq!(layerpin.log.with_message("registries.conf changed").len(), 1);
}

#[tokio::test]
async fn changed_certificates_of_hosts_are_loaded_and_broken_ones_are_not() {
    let authority = Authority::new();
    let registry = Registry::builder().tls(authority.issue(&["127.0.0.1"])).start().unwrap();
    let host = registry.host();
    let image = |repository: &str| {
        let digest = registry.push(repository, None, &Image::base("4.18.1"));
        format!("{host}/{repository}@{digest}")
    };
    let setup = Setup::serve();
    let file = format!("certs.d/{host}/ca.crt");
    std::fs::create_dir_all(setup.path(&file).parent().unwrap()).unwrap();
    setup.write(&file, &Authority::named("another").ca_pem());
    let folder = setup.path("certs.d");
    let layerpin = setup.arguments(["--cert-dir".as_ref(), folder.as_os_str()]).start();
    assert!(!is_pullable(&layerpin, &image("acme/untrusted")).await);

    layerpin.replace(&file, &authority.ca_pem());
    layerpin.log.message("registry certificates changed").await;
    assert!(is_pullable(&layerpin, &image("acme/trusted")).await);

    layerpin.replace(&file, "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n");
    let message = "registry certificates: reload failed; still using the previous content";
    layerpin.log.message(message).await;
    let fault = only_fault(&layerpin, message);
    assert!(fault.contains("/ca.crt: line "), "{fault}");
    assert!(is_pullable(&layerpin, &image("acme/still")).await);

    layerpin.replace(&file, &(authority.ca_pem() + &Authority::named("another").ca_pem()));
    eventually("the folder is in force again", async || {
        (layerpin.log.with_message("registry certificates changed").len() == 2).then_some(())
    })
    .await;
    assert!(is_pullable(&layerpin, &image("acme/repaired")).await);
    only_fault(&layerpin, message);
}

#[tokio::test]
async fn a_digest_that_only_a_tag_mirror_has_is_not_pinned() {
    let (mirror, source) = (Registry::start().unwrap(), Registry::start().unwrap());
    let digest = mirror.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let setup = Setup::serve();
    let conf = mirrored(&source.host(), &mirror.host(), "pull-from-mirror = \"tag-only\"");
    let conf = setup.write("registries.conf", &conf);
    let layerpin = setup.arguments(["--registries-conf".as_ref(), conf.as_os_str()]).start();
    let image = format!("{}/acme/os:1", source.host());
    let answer = layerpin.webhooks.review("/mutate", &create(&machine_config().image(&image))).await;
    let warning = format!(
        "osImageURL: `{image}` not pinned: {} has {} under the tag, but it is not where nodes pull digests from",
        mirror.host(),
        short(&digest)
    );
    assert_eq!(answer, not_pinned(&warning));
    assert_eq!(source.count("HEAD", &format!("manifests/{digest}")), 1, "the source was asked by the digest");
}

#[tokio::test]
async fn who_answered_is_told() {
    let (mirror, source) = (Registry::start().unwrap(), Registry::start().unwrap());
    let image = Image::base("4.18.1");
    let digest = mirror.push("acme/os", None, &image);
    for (is_at_source, answers) in [(false, mirror.host()), (true, source.host())] {
        let conf = if is_at_source {
            source.push("acme/os", None, &image);
            String::new()
        } else {
            mirrored(&source.host(), &mirror.host(), "")
        };
        let reference = format!("{}/acme/os@{digest}", source.host());
        let ended = |verb: &str, what: &str, format: &str| {
            let setup = Setup::verb(verb);
            let conf = setup.write("registries.conf", &conf);
            let object = setup.write("object.json", &machine_config().image(&reference).to_string());
            let what = if what.is_empty() { object.to_str().unwrap().to_owned() } else { what.to_owned() };
            let options =
                ["--no-cluster", "--format", format, "--registries-conf", conf.to_str().unwrap(), &what];
            let (_, output, error) = setup.arguments(options).ended();
            assert!(!output.is_empty(), "{error}");
            output
        };
        let document = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let report = document(&ended("check", "", "json"));
        assert_eq!(report["objects"][0]["endpoint"], *answers, "{report}");
        let explanation = document(&ended("explain", &reference, "json"));
        assert_eq!(explanation["images"][0]["endpoint"], *answers, "{explanation}");
        let told = ended("explain", &reference, "text");
        assert_eq!(told.contains(&format!("  read from the mirror {answers}\n")), !is_at_source, "{told}");
    }
}

/// A proxy that refuses, and the headers with credentials that it was shown.
fn refusing_proxy() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, shown) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if line.is_empty() {
                    break;
                }
                if line.to_lowercase().starts_with("proxy-authorization") && sender.send(line).is_err() {
                    return;
                }
            }
        }
    });
    (address, shown)
}

#[tokio::test]
async fn no_secret_of_mirrors_helpers_and_proxies_is_printed_or_saved() {
    const OF_MIRROR: &str = "planted-for-the-mirror";
    const OF_HELPER: &str = "planted-in-the-helper";
    const OF_BROKEN_HELPER: &str = "planted-in-the-broken-helper";
    const OF_PROXY: &str = "planted-for-the-proxy";
    let of = |password: &str| BASE64_STANDARD.encode(format!("robot:{password}"));
    let mirror = Registry::builder().basic_auth("robot", OF_MIRROR).start().unwrap();
    let helped = Registry::builder().basic_auth("robot", OF_HELPER).start().unwrap();
    let refusing = Registry::builder().basic_auth("robot", "another-word").start().unwrap();
    for registry in [&mirror, &helped, &refusing] {
        registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    }
    let (proxy, shown) = refusing_proxy();
    let refusing_host = refusing.host();
    let setup = Setup::verb("check");
    for (name, script) in [
        ("planted", format!("printf '{{\"Username\":\"robot\",\"Secret\":\"{OF_HELPER}\"}}'")),
        ("broken", format!("echo {OF_BROKEN_HELPER}; echo {OF_BROKEN_HELPER} >&2; exit 1")),
    ] {
        write_script(&setup.path(&format!("docker-credential-{name}")), &script).unwrap();
    }
    let auths = json!({
        "auths": {mirror.host(): {"auth": of(OF_MIRROR)}, &refusing_host: {"auth": of(OF_MIRROR)}},
        "credHelpers": {helped.host(): "planted", "127.0.0.1:1": "broken"},
    });
    setup.write("auth.json", &auths.to_string());
    setup.write("registries.conf", &mirrored("one.example", &mirror.host(), ""));
    let images = [
        "one.example/acme/os:1".to_owned(),
        format!("{}/acme/os:1", helped.host()),
        format!("{refusing_host}/acme/os:1"),
        "127.0.0.1:1/acme/os:1".to_owned(),
        "far.example/acme/os:1".to_owned(),
    ];
    let objects: Vec<_> = images.iter().map(|image| machine_config().image(image).to_string()).collect();
    setup.write("objects.yaml", &objects.join("\n---\n"));
    let helpers = setup.path("");
    // Outside the folder, which is gone when the program has ended.
    let kept = tempfile::NamedTempFile::new().unwrap();
    let (_, output, error) = setup
        .arguments(["--registries-conf", "registries.conf", "--authfile", "auth.json", "--save-facts"])
        .arguments([kept.path().as_os_str(), "objects.yaml".as_ref()])
        .environment("PATH", format!("{}:/usr/bin:/bin", helpers.display()))
        .environment("HTTPS_PROXY", format!("http://robot:{OF_PROXY}@{proxy}"))
        .environment("RUST_LOG", "trace")
        .ended();
    let saved = std::fs::read_to_string(kept.path()).unwrap();

    // All of them were used.
    let shown_to = |registry: &Registry| {
        registry
            .requests()
            .iter()
            .filter_map(|request| request.authorization().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    assert!(shown_to(&mirror).contains(&format!("Basic {}", of(OF_MIRROR))));
    assert!(shown_to(&refusing).contains(&format!("Basic {}", of(OF_MIRROR))));
    assert!(shown_to(&helped).contains(&format!("Basic {}", of(OF_HELPER))));
    assert!(shown.recv_timeout(PATIENCE).unwrap().ends_with(&of(OF_PROXY)));
    assert!(
        error.contains("docker-credential-broken") || output.contains("docker-credential-broken"),
        "{output}{error}"
    );
    for image in &images {
        assert!(saved.contains(image), "{image}: {saved}");
    }
    let printed = output + &error + &saved;
    for secret in [OF_MIRROR, OF_HELPER, OF_BROKEN_HELPER, OF_PROXY] {
        assert!(!printed.contains(secret), "{secret} was printed");
        assert!(!printed.contains(&of(secret)), "the header with {secret} was printed");
    }
}
