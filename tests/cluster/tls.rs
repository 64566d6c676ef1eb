//! The TLS profile of the cluster, and the handshakes that a running server accepts with it.

use layerpin_sample_registry::Authority;
use layerpin_test_support::client::Wire;
use layerpin_test_support::program::Layerpin;
use rustls::AlertDescription::{HandshakeFailure, ProtocolVersion};
use rustls::CipherSuite;
use rustls::Error::AlertReceived;
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};

use crate::api_server::{API_SERVERS, ApiServer};
use crate::credentials::{logged, start};

const CHANGED: &str = "TLS settings changed";
const CHANGED_WITH_LESS: &str = "TLS settings changed; part of the profile is not supported";
const NOT_TAKEN: &str = "TLS settings not applied; still using the previous settings";
const KIND: &str = "tlsSecurityProfile of APIServer/cluster";
const LONG: CipherSuite = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
const SHORT: CipherSuite = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;

fn wants(server: &ApiServer, profile: Value) {
    let spec = json!({"audit": {"profile": "Default"}, "tlsSecurityProfile": profile});
    server.put(API_SERVERS, json!({"metadata": {"name": "cluster"}, "spec": spec}));
}

/// The outcome of handshakes with TLS 1.2 and one cipher suite each, the same at both addresses.
async fn agreed(layerpin: &Layerpin) -> [Result<CipherSuite, rustls::Error>; 2] {
    let of = async |address| {
        let authority = &layerpin.authority;
        assert!(Wire::agreed(address, authority, &TLS13, None).await.is_ok());
        [
            Wire::agreed(address, authority, &TLS12, Some(LONG)).await,
            Wire::agreed(address, authority, &TLS12, Some(SHORT)).await,
        ]
    };
    let webhooks = of(layerpin.address).await;
    assert_eq!(webhooks, of(layerpin.admin_address).await);
    webhooks
}

#[tokio::test]
async fn new_connections_follow_the_tls_profile_of_the_cluster() {
    let server = ApiServer::start().await;
    let layerpin = start(&server, |setup| setup);
    let mut open = Wire::connect(layerpin.address, &layerpin.authority).await;
    let no_version = Err(AlertReceived(ProtocolVersion));
    assert_eq!(agreed(&layerpin).await, [Ok(LONG), Ok(SHORT)]);

    wants(&server, json!({"type": "Modern", "modern": {}}));
    logged(&layerpin, CHANGED, 1).await;
    assert_eq!(layerpin.log.with_message(CHANGED)[0]["protocol"], "VersionTLS13");
    assert_eq!(agreed(&layerpin).await, [no_version.clone(), no_version.clone()]);

    let custom = json!({"minTLSVersion": "VersionTLS11", "ciphers": [
        "ECDHE-ECDSA-AES256-GCM-SHA384", "AES128-SHA",
    ]});
    wants(&server, json!({"type": "Custom", "custom": custom}));
    logged(&layerpin, CHANGED_WITH_LESS, 1).await;
    let line = layerpin.log.with_message(CHANGED_WITH_LESS).remove(0);
    let spoken = "VersionTLS12 (TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384) and VersionTLS13";
    assert_eq!(
        (&line["level"], &line["kind"], &line["protocol"], &line["unsupported"]),
        (&json!("WARN"), &json!(KIND), &json!(spoken), &json!("VersionTLS11, AES128-SHA"))
    );
    let long_alone = [Ok(LONG), Err(AlertReceived(HandshakeFailure))];
    assert_eq!(agreed(&layerpin).await, long_alone);

    // An unknown profile and a resource that cannot be read change nothing.
    wants(&server, json!({"type": "Quantum"}));
    logged(&layerpin, NOT_TAKEN, 1).await;
    let fault = "spec.tlsSecurityProfile.type of APIServer/cluster is `Quantum`, which is not known";
    assert_eq!(layerpin.log.with_message(NOT_TAKEN)[0]["error"], fault);
    assert_eq!(agreed(&layerpin).await, long_alone);
    server.forbid(API_SERVERS, true);
    server.cut();
    layerpin.log.message("cannot read from the cluster; no longer using the last known state").await;
    assert_eq!(agreed(&layerpin).await, long_alone);
    server.forbid(API_SERVERS, false);

    server.delete(API_SERVERS, "cluster");
    logged(&layerpin, CHANGED, 2).await;
    assert_eq!(agreed(&layerpin).await, [Ok(LONG), Ok(SHORT)]);

    // The connection that was open all the time still works.
    open.send("POST /validate HTTP/1.1\r\nhost: layerpin\r\ncontent-length: 0\r\n\r\n").await;
    assert!(open.answer().await.0.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn flags_take_precedence_over_the_profile_of_the_cluster() {
    let server = ApiServer::start().await;
    wants(&server, json!({"type": "Modern", "modern": {}}));
    let authority = Authority::new();
    let flags = ["--tls-min-version", "VersionTLS12"];
    let layerpin = start(&server, |setup| setup.certificate(&authority).arguments(flags));
    let listed = format!("GET {API_SERVERS} ");
    layerpin_test_support::eventually::eventually("the profile is read", async || {
        (server.requests(&listed) > 0 && layerpin.admin.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    // Settings are reloaded in order: when this later change is seen, the profile was read too.
    layerpin.replace("tls.crt", "");
    layerpin.log.message("serving certificate reload failed; still using the previous certificate").await;
    assert_eq!(agreed(&layerpin).await, [Ok(LONG), Ok(SHORT)]);
    assert_eq!(layerpin.log.with_message(CHANGED), [] as [Value; 0]);
}
