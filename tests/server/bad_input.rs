//! What no API server sends: refused in words, and the next review is answered.

use layerpin_test_support::documents::{UID, create, machine_config};
use layerpin_test_support::program::Layerpin;
use serde_json::json;

/// A review that is answered whatever came before it.
async fn next_is_served(layerpin: &Layerpin, after: &str) {
    let answer = layerpin.webhooks.review("/validate", &create(&machine_config().image("os:1"))).await;
    assert_eq!(answer["response"]["uid"], UID, "{after}");
    assert_eq!(answer["response"]["allowed"], false, "{after}");
}

#[tokio::test]
async fn what_is_no_review_is_refused_with_the_reason() {
    let layerpin = Layerpin::start();
    let good = create(&machine_config().image("os:1")).to_string();
    let beta = good.replace("admission.k8s.io/v1\"", "admission.k8s.io/v1beta1\"");
    for (body, reason) in [
        ("", "the body is empty; expected an AdmissionReview of admission.k8s.io/v1\n"),
        ("hello", "the body is not a valid AdmissionReview: expected value at line 1 column 1\n"),
        ("\u{0}", "the body is not a valid AdmissionReview: expected value at line 1 column 1\n"),
        (
            "{\"apiVersion\":\"v1\",\"kind\":\"Pod\"}",
            "the body is `Pod` of `v1`; expected `AdmissionReview` of `admission.k8s.io/v1`\n",
        ),
        (
            &beta,
            "the body is `AdmissionReview` of `admission.k8s.io/v1beta1`; expected `AdmissionReview` of \
             `admission.k8s.io/v1`; set `admissionReviewVersions: [v1]` in the webhook configuration\n",
        ),
        (
            &format!("{good}{good}"),
            &format!(
                "the body is not a valid AdmissionReview: trailing characters at line 1 column {}\n",
                good.len() + 1
            ),
        ),
    ] {
        for path in ["/mutate", "/validate"] {
            assert_eq!(layerpin.webhooks.post(path, body.to_owned()).await.refusal(), (400, reason));
        }
        next_is_served(&layerpin, reason).await;
    }
    let cut = layerpin.webhooks.post("/validate", good[..40].to_owned()).await;
    assert!(cut.status == 400 && cut.text.contains("EOF while parsing"), "{cut:?}");
    let no_text = layerpin.webhooks.post("/validate", vec![b'{', b'"', 0xff, b'"', b'}']).await;
    assert!(no_text.status == 400 && no_text.text.contains("invalid unicode"), "{no_text:?}");
}

#[tokio::test]
async fn nine_mebibytes_are_too_much_however_they_come() {
    let layerpin = Layerpin::start();
    let reason =
        "the body is larger than 8388608 bytes, which two MachineConfigs of the largest size do not exceed\n";
    let large = vec![b' '; 9 * 1024 * 1024];
    let whole = layerpin.webhooks.post("/validate", large.clone()).await;
    assert_eq!(whole.refusal(), (413, reason));
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
        large.chunks(64 * 1024).map(|piece| Ok(piece.to_vec())).collect();
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    assert_eq!(layerpin.webhooks.post("/validate", body).await.refusal(), (413, reason));
    next_is_served(&layerpin, "9 MiB").await;
}

#[tokio::test]
async fn other_methods_paths_and_timeouts_are_refused() {
    let layerpin = Layerpin::start();
    for path in ["/mutate", "/validate", "/dry-run"] {
        assert_eq!(layerpin.webhooks.get(path).await.refusal(), (405, "use POST\n"));
    }
    assert_eq!(layerpin.webhooks.post("/other", "").await.status, 404);
    let answer = layerpin.webhooks.post("/validate?timeout=abc", "").await;
    assert_eq!(answer.refusal(), (400, "timeout=`abc` is not a valid duration; write it as 10s\n"));
    next_is_served(&layerpin, "abc").await;
}

#[tokio::test]
async fn deep_nesting_in_other_fields_is_ignored() {
    let layerpin = Layerpin::start();
    let object = machine_config().image("os:1").field("config", "DEEP");
    let nest = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = create(&object).to_string().replace("\"DEEP\"", &nest);
    let answer = layerpin.webhooks.post("/validate", body).await.review();
    assert_eq!((&answer["response"]["uid"], &answer["response"]["allowed"]), (&json!(UID), &json!(false)));
}

#[tokio::test]
async fn a_number_in_place_of_a_string_is_named_and_the_uid_is_kept() {
    let layerpin = Layerpin::start();
    let object = machine_config().field("osImageURL", 5);
    let message = "cannot read the MachineConfig: `object.spec.osImageURL`: invalid type: integer `5`, \
                   expected a string";
    let review = create(&object);
    let mutated = layerpin.webhooks.review("/mutate", &review).await;
    assert_eq!(mutated["response"], json!({"uid": UID, "allowed": true, "warnings": [message]}));
    let validated = layerpin.webhooks.review("/validate", &review).await;
    let status = json!({"code": 403, "reason": "Forbidden", "message": message});
    assert_eq!(validated["response"], json!({"uid": UID, "allowed": false, "status": status}));
    next_is_served(&layerpin, message).await;
}

#[tokio::test]
async fn invalid_references_are_denied_unpinned_and_shown_without_control_characters() {
    let layerpin = Layerpin::start();
    let digest = "0123456789abcdef".repeat(4);
    for text in [
        " ",
        "os",
        "os:1",
        ":1",
        "@sha256:",
        "quay.io",
        "quay.io/",
        "quay.io//os",
        "quay.io/acme/os:",
        "quay.io/acme/os:a b",
        "quay.io/Acme/os:1",
        "quay.io/acme/os:1:2",
        "quay.io/acme/os@",
        "quay.io/acme/os@sha256",
        "quay.io/acme/os@sha256:0123",
        &format!("quay.io/acme/os@md5:{digest}"),
        &format!("quay.io/acme/os@sha256:{}", digest.to_uppercase()),
        &format!("quay.io/acme/os@sha256:{digest}@sha256:{digest}"),
        &format!("quay.io/acme/os@sha256:{digest}:1"),
        "docker://quay.io/acme/os:1",
        "https://quay.io/acme/os:1",
        "quay.io:/acme/os:1",
        "user:word@quay.io/acme/os:1",
        "quay.io/acme/\u{1b}[31mos:1",
        "quay.io/acme/os:1\n",
        "quay.io/äcme/os:1",
        &format!("quay.io/{}:1", "a".repeat(300)),
    ] {
        let review = create(&machine_config().image(text));
        let mutated = layerpin.webhooks.review("/mutate", &review).await;
        assert!(mutated["response"].get("patch").is_none(), "{text:?}: {mutated}");
        let answer = layerpin.webhooks.review("/validate", &review).await;
        let findings = &answer["response"]["auditAnnotations"]["findings"];
        assert_eq!(findings, "malformed-reference=deny", "{text:?}: {answer}");
        let message = answer["response"]["status"]["message"].as_str().unwrap();
        assert!(message.starts_with("[malformed-reference] "), "{text:?}: {message}");
        assert!(!message.contains('\u{1b}'), "{text:?}: {message}");
    }
    let metrics = layerpin.metrics().await;
    assert!(!metrics.contains("layerpin_registry_requests_total{"), "nobody was asked: {metrics}");
}
