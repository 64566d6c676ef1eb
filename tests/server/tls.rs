//! Certificates, client certificates, TLS versions and cipher suites.

use std::time::{Duration, Instant};

use layerpin_sample_registry::Authority;
use layerpin_test_support::client::{Client, Wire};
use layerpin_test_support::documents::{create, machine_config};
use layerpin_test_support::eventually::eventually;
use layerpin_test_support::mount::swap_data;
use layerpin_test_support::program::{Layerpin, Setup, secret_of};
use rcgen::{CertificateParams, KeyPair};
use reqwest::Version;
use rustls::AlertDescription::{HandshakeFailure, ProtocolVersion};
use rustls::CipherSuite;
use rustls::Error::AlertReceived;
use rustls::version::{TLS12, TLS13};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn http_1_and_http_2_are_served() {
    let layerpin = Layerpin::start();
    let old = Client::of_http_1(layerpin.address, &layerpin.authority);
    assert_eq!(old.post("/validate", "").await.version, Version::HTTP_11);
    assert_eq!(layerpin.webhooks.post("/validate", "").await.version, Version::HTTP_2);
}

#[tokio::test]
async fn a_new_pair_behind_a_swapped_link_is_served_and_one_that_does_not_match_is_not() {
    let (one, two) = (Authority::new(), Authority::new());
    let setup = Setup::serve().known_by(&one);
    let mount = setup.path("tls");
    let first = one.issue(&["127.0.0.1"]);
    let second = two.issue(&["127.0.0.1"]);
    swap_data(&mount, "v1", &secret_of(&first));
    let files = ["--tls-cert", "tls/tls.crt", "--tls-key", "tls/tls.key"];
    let layerpin = setup.arguments(files).start();
    assert_eq!(layerpin.admin.get("/healthz").await.status, 200);

    swap_data(&mount, "v2", &[("tls.crt", second.certificate_pem()), ("tls.key", first.key_pem())]);
    let message = "serving certificate reload failed; still using the previous certificate";
    let fault = layerpin.log.message(message).await["error"].as_str().unwrap().to_owned();
    assert!(fault.starts_with("tls/tls.crt and tls/tls.key do not match: "), "{fault}");
    assert!(Wire::try_connect(layerpin.address, &one.ca_pem()).await.is_ok());

    swap_data(&mount, "v3", &secret_of(&second));
    layerpin.log.message("serving certificate changed").await;
    assert!(Wire::try_connect(layerpin.address, &one.ca_pem()).await.is_err());
    let client = Client::new(layerpin.admin_address, &two.ca_pem());
    assert_eq!(client.get("/healthz").await.status, 200);
}

/// A certificate for loopback that is valid from one year to another.
fn valid_between(from: i32, until: i32) -> (String, String) {
    let mut parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(from, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn an_invalid_certificate_is_logged_at_the_start_and_replaced_without_a_restart() {
    let authority = Authority::new();
    for (from, until, fault) in [
        (
            2000,
            2001,
            "the serving certificate tls/tls.crt expired at 2001-01-01T00:00:00Z; renew it, the new one is loaded without a restart",
        ),
        (
            3000,
            3001,
            "the serving certificate tls/tls.crt is not valid before 3000-01-01T00:00:00Z; check the clock of this machine",
        ),
    ] {
        let setup = Setup::serve().known_by(&authority);
        let (certificate, key) = valid_between(from, until);
        let mount = setup.path("tls");
        swap_data(&mount, "v1", &[("tls.crt", &certificate), ("tls.key", &key)]);
        let files = ["--tls-cert", "tls/tls.crt", "--tls-key", "tls/tls.key"];
        let layerpin = setup.arguments(files).start();
        let line = layerpin.log.message("clients reject the serving certificate").await;
        assert_eq!((&line["level"], &line["fault"]), (&json!("ERROR"), &json!(fault)));
        assert!(layerpin.admin.try_get("/readyz").await.is_err());
        // The kubelet does not look at the certificate.
        let kubelet = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).no_proxy();
        let ready = kubelet.build().unwrap().get(format!("https://{}/readyz", layerpin.admin_address));
        let ready = ready.send().await.unwrap();
        assert_eq!(ready.status(), 503);
        let told = ready.text().await.unwrap();
        assert!(told.starts_with(&format!("[-]certificate failed: {fault}\n")), "{told}");

        swap_data(&mount, "v2", &secret_of(&authority.issue(&["127.0.0.1"])));
        layerpin.log.message("serving certificate changed").await;
        assert_eq!(layerpin.admin.get("/readyz").await.status, 200);
    }
}

#[tokio::test]
async fn with_a_client_ca_only_clients_with_a_certificate_reach_the_webhooks() {
    let callers = Authority::new();
    let setup = Setup::serve();
    let file = setup.write("clients.crt", &callers.ca_pem());
    let layerpin = setup.arguments(["--client-ca".as_ref(), file.as_os_str()]).start();
    assert!(layerpin.webhooks.try_post("/validate", "").await.is_err());
    assert_eq!(layerpin.admin.get("/healthz").await.status, 200);
    eventually("the server goes on", async || {
        layerpin.admin.try_get("/readyz").await.ok().filter(|answer| answer.status == 200)
    })
    .await;
    let review = create(&machine_config().image("os:1"));
    let by = |identity| Client::with_identity(layerpin.address, &layerpin.authority, &identity);
    for stranger in [Authority::new().issue_client("apiserver"), callers.issue(&["127.0.0.1"])] {
        // The second is of the right authority, but for servers.
        assert!(by(stranger).try_post("/validate", review.to_string()).await.is_err());
    }
    let answer = by(callers.issue_client("apiserver")).review("/validate", &review).await;
    assert_eq!(answer["response"]["auditAnnotations"]["findings"], "malformed-reference=deny");
}

/// How long the server reads from a client that it has rejected.
const LISTENS_ON: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_client_without_a_certificate_reads_the_alert_while_it_is_sending() {
    let setup = Setup::serve();
    let file = setup.write("clients.crt", &Authority::new().ca_pem());
    let layerpin = setup.arguments(["--client-ca".as_ref(), file.as_os_str()]).start();
    eventually("a client that is not held up reads the reason", async || {
        let begun = Instant::now();
        // With TLS 1.3 a client sends before it knows.
        let Wire(mut stream) = Wire::connect(layerpin.address, &layerpin.authority).await;
        let sent = stream.write_all(&[b'x'; 512 * 1024]).await;
        if sent.is_err() && begun.elapsed() >= LISTENS_ON {
            return None;
        }
        sent.unwrap();
        let answer = stream.read(&mut [0]).await.unwrap_err();
        assert!(answer.to_string().contains("CertificateRequired"), "{answer}");
        Some(())
    })
    .await;
}

#[tokio::test]
async fn a_failed_handshake_is_logged_with_what_to_do() {
    let callers = Authority::new();
    let setup = Setup::serve();
    let file = setup.write("clients.crt", &callers.ca_pem());
    let arguments = ["--client-ca".as_ref(), file.as_os_str(), "--tls-min-version=VersionTLS13".as_ref()];
    let layerpin = setup.arguments(arguments).start();
    let told = async |fault: &str| {
        let claim = format!("the log says: {fault}");
        let line = eventually(&claim, async || {
            let lines = layerpin.log.with_message("TLS handshake failed");
            lines.into_iter().find(|line| line["fault"].as_str().is_some_and(|told| told.contains(fault)))
        })
        .await;
        assert_eq!(line["level"], "WARN");
        assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    };
    assert!(layerpin.webhooks.try_post("/validate", "").await.is_err());
    told("the client sent no certificate, but `--client-ca` requires one; configure").await;

    let stranger = Authority::new().issue_client("apiserver");
    let stranger = Client::with_identity(layerpin.address, &layerpin.authority, &stranger);
    assert!(stranger.try_post("/validate", "").await.is_err());
    told("the client certificate is not issued by a CA in `--client-ca`: ").await;

    assert!(Wire::try_connect(layerpin.address, &Authority::new().ca_pem()).await.is_err());
    told("the client rejected the serving certificate (UnknownCA); check that the `caBundle`").await;

    let old = Wire::agreed(layerpin.address, &layerpin.authority, &TLS12, None).await;
    assert_eq!(old, Err(AlertReceived(ProtocolVersion)));
    told("the client has no TLS version or cipher suite in common with this server").await;
}

#[tokio::test]
async fn flags_set_the_version_and_the_suites_of_both_addresses() {
    let every = Layerpin::start();
    let newest = Setup::serve().arguments(["--tls-min-version", "VersionTLS13"]).start();
    let suites = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,TLS_AES_128_GCM_SHA256";
    let one = Setup::serve().arguments(["--tls-cipher-suites", suites]).start();
    let none = Setup::serve().environment("LAYERPIN_TLS_CIPHER_SUITES", "TLS_AES_128_GCM_SHA256").start();
    let (long, short) = (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    );
    let chacha = CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;
    let (no_version, no_suite) = (Err(AlertReceived(ProtocolVersion)), Err(AlertReceived(HandshakeFailure)));
    for (layerpin, older, with_long, with_short) in [
        (&every, Ok(()), Ok(long), Ok(short)),
        (&newest, no_version.clone().map(drop), no_version.clone(), no_version.clone()),
        (&one, Ok(()), Ok(long), no_suite),
        (&none, no_version.clone().map(drop), no_version.clone(), no_version.clone()),
    ] {
        for address in [layerpin.address, layerpin.admin_address] {
            let agreed = |version, suite| Wire::agreed(address, &layerpin.authority, version, suite);
            assert_eq!(agreed(&TLS12, None).await.map(drop), older);
            assert_eq!(agreed(&TLS12, Some(long)).await, with_long);
            assert_eq!(agreed(&TLS12, Some(short)).await, with_short);
            assert_eq!(agreed(&TLS13, Some(chacha)).await, Ok(chacha));
        }
    }
}
