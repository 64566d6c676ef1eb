//! Credentials: who gets in, and how those are told who do not.

mod support;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Authority, Registry, TokenFault, TokenField, TokenService};
use serde_json::{Value, json};

use support::{Reply, ask, ask_tls, in_time, send};

const MANIFEST: &str = "/v2/acme/os/manifests/4.18";
const SCOPE: &str = "/token?service=sample-registry&scope=repository:acme/os:pull";

#[tokio::test]
async fn basic_credentials_open_the_registry() {
    let registry = Registry::builder()
        .basic_auth("alice", "s3cr3t-word")
        .basic_auth("bob", "s3cr3t-word too")
        .start()
        .expect("a registry");
    registry.push("acme/os", Some("4.18"), &Image::base("4.18.1"));
    let table = [
        (Some(basic("alice", "s3cr3t-word")), 200, "an account"),
        (Some(basic("bob", "s3cr3t-word too")), 200, "another account"),
        (Some(basic("alice", "wrong")), 401, "the wrong password"),
        (Some("Bearer token".to_owned()), 401, "another scheme"),
        (None, 401, "no credentials"),
    ];
    for (authorization, status, what) in table {
        let reply = get(&registry.host(), MANIFEST, authorization.as_deref()).await;
        assert_eq!(reply.status, status, "{what}");
        if status == 401 {
            assert_eq!(reply.header("www-authenticate"), Some("Basic realm=\"sample registry\""), "{what}");
            assert_eq!(reply.error_code(), "UNAUTHORIZED", "{what}");
        }
    }
}

#[tokio::test]
async fn a_token_opens_the_repository_it_is_for() {
    let (tokens, registry) = tokens_and_registry();
    let challenge = |rest: &str| {
        let realm = tokens.realm();
        Some(format!("Bearer realm=\"{realm}\",service=\"sample-registry\"{rest}"))
    };
    let challenged = async |path: &str, token: Option<String>| {
        let authorization = token.map(|token| format!("Bearer {token}"));
        let reply = get(&registry.host(), path, authorization.as_deref()).await;
        (reply.status, reply.header("www-authenticate").map(str::to_owned))
    };
    let scope = ",scope=\"repository:acme/os:pull\"";

    assert_eq!(challenged("/v2/", None).await, (401, challenge("")));
    assert_eq!(challenged(MANIFEST, None).await, (401, challenge(scope)));
    assert_eq!(
        challenged(MANIFEST, Some("invented".to_owned())).await,
        (401, challenge(&format!("{scope},error=\"invalid_token\"")))
    );
    let elsewhere = tokens.issue("alice", "acme/other", &["pull"]);
    assert_eq!(
        challenged(MANIFEST, Some(elsewhere)).await,
        (401, challenge(&format!("{scope},error=\"insufficient_scope\"")))
    );
    let good = tokens.issue("alice", "acme/os", &["pull"]);
    assert_eq!(challenged(MANIFEST, Some(good.clone())).await, (200, None));
    tokens.revoke_all();
    assert_eq!(challenged(MANIFEST, Some(good)).await.0, 401);
    tokens.set_expiry(Duration::ZERO);
    let expired = tokens.issue("alice", "acme/os", &["pull"]);
    assert_eq!(challenged(MANIFEST, Some(expired)).await.0, 401);
}

#[tokio::test]
async fn tokens_are_given_for_a_password_and_refused_without() {
    let (tokens, registry) = tokens_and_registry();
    let table = [
        (Some(basic("alice", "s3cr3t-word")), 200, "the password"),
        (Some(basic("alice", "wrong")), 401, "the wrong password"),
        (Some("Basic ?".to_owned()), 401, "no base64"),
        (None, 401, "no credentials"),
    ];
    for (authorization, status, what) in table {
        let reply = get(&tokens.host(), SCOPE, authorization.as_deref()).await;
        assert_eq!(reply.status, status, "{what}");
        if status == 200 {
            assert_eq!(reply.json()["expires_in"], 300, "{what}");
            let authorization = format!("Bearer {}", text(&reply.json()["token"]));
            let reply = get(&registry.host(), MANIFEST, Some(&authorization)).await;
            assert_eq!(reply.status, 200, "{what}");
        }
    }
    assert_eq!(tokens.count("GET", "scope=repository:acme/os:pull"), 4);
    assert_eq!(tokens.requests()[0].authorization(), Some(basic("alice", "s3cr3t-word").as_str()));
}

#[tokio::test]
async fn anonymous_tokens_only_pull() {
    let tokens = TokenService::start().expect("a token service");
    let path = "/token?scope=repository:acme/os:pull,push";
    let reply = get(&tokens.host(), path, None).await;
    let claims = claims_of(text(&reply.json()["token"]));
    assert_eq!(claims["access"], json!([{"type": "repository", "name": "acme/os", "actions": ["pull"]}]));
}

#[tokio::test]
async fn a_token_states_who_what_and_until_when() {
    let tokens = TokenService::builder()
        .service("acme-registry")
        .user("alice", "s3cr3t-word")
        .expires_in(Duration::from_secs(90))
        .start()
        .expect("a token service");
    let claims = claims_of(&tokens.issue("alice", "acme/os", &["pull", "push"]));
    assert_eq!(claims["iss"], tokens.issuer_name());
    assert_eq!(claims["sub"], "alice");
    assert_eq!(claims["aud"], "acme-registry");
    assert_eq!(claims["exp"].as_u64(), claims["iat"].as_u64().map(|time| time + 90));
    assert_eq!(claims["access"][0]["actions"], json!(["pull", "push"]));
    assert_ne!(claims["jti"], claims_of(&tokens.issue("alice", "acme/os", &["pull"]))["jti"]);
}

#[tokio::test]
async fn an_identity_token_is_exchanged_for_tokens() {
    let tokens = TokenService::builder()
        .user("alice", "s3cr3t-word")
        .token_field(TokenField::AccessToken)
        .without_expires_in()
        .start()
        .expect("a token service");
    let identity_token = tokens.identity_token("alice");
    let table = [(identity_token.as_str(), 200, "the identity token"), ("invented", 401, "an invented one")];
    for (refresh_token, status, what) in table {
        let form = format!(
            "grant_type=refresh_token&refresh_token={refresh_token}\
             &service=sample-registry&scope=repository%3Aacme%2Fos%3Apull&client_id=test"
        );
        let reply = send("POST", &tokens.host(), "/token", &[], form).await.expect("a reply");
        assert_eq!(reply.status, status, "{what}");
        if status == 200 {
            let document = reply.json();
            assert_eq!(claims_of(text(&document["access_token"]))["sub"], "alice");
            assert_eq!(document["refresh_token"], refresh_token);
            assert_eq!(document.get("token"), None);
            assert_eq!(document.get("expires_in"), None);
        }
    }
}

#[tokio::test]
async fn an_offline_token_is_an_identity_token() {
    let (tokens, _registry) = tokens_and_registry();
    let path = format!("{SCOPE}&offline_token=true");
    let reply = get(&tokens.host(), &path, Some(&basic("alice", "s3cr3t-word"))).await;
    let refresh_token = reply.json()["refresh_token"].clone();
    let form = format!("grant_type=refresh_token&refresh_token={}", text(&refresh_token));
    let reply = send("POST", &tokens.host(), "/token", &[], form).await.expect("a reply");
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn the_token_service_speaks_tls() {
    let authority = Authority::new();
    let tokens = TokenService::builder()
        .tls(authority.issue(&["127.0.0.1"]))
        .anonymous_pull()
        .start()
        .expect("a token service");
    assert!(tokens.realm().starts_with("https://127.0.0.1:"));
    let reply = ask_tls(&tokens.host(), SCOPE, &authority.ca_pem()).await.expect("a reply over TLS");
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn the_token_service_misbehaves_on_request() {
    let tokens = TokenService::start().expect("a token service");
    tokens.set_fault(TokenFault::Status(503));
    assert_eq!(get(&tokens.host(), SCOPE, None).await.status, 503);
    tokens.set_fault(TokenFault::NoToken);
    let reply = get(&tokens.host(), SCOPE, None).await;
    assert_eq!((reply.status, reply.json()), (200, json!({})));
    tokens.set_fault(TokenFault::Garbage);
    let reply = get(&tokens.host(), SCOPE, None).await;
    assert_eq!(reply.status, 200);
    serde_json::from_slice::<Value>(&reply.body).expect_err("a body that is not JSON");
    tokens.clear_fault();
    assert_eq!(get(&tokens.host(), SCOPE, None).await.status, 200);
}

#[tokio::test]
async fn a_hanging_token_service_continues_when_the_fault_is_cleared() {
    let tokens = TokenService::start().expect("a token service");
    tokens.set_fault(TokenFault::Hang);
    let host = tokens.host();
    let client = tokio::spawn(async move { ask("GET", &host, SCOPE, &[]).await });
    tokens.requests_arrived(1).await.expect("one request");
    assert!(!client.is_finished(), "a reply from a service that hangs");
    tokens.clear_fault();
    in_time(client).await.expect("no panic").expect_err("a closed connection");
}

fn tokens_and_registry() -> (TokenService, Registry) {
    let tokens = TokenService::builder().user("alice", "s3cr3t-word").start().expect("a token service");
    let registry = Registry::builder().bearer_auth(&tokens).start().expect("a registry");
    registry.push("acme/os", Some("4.18"), &Image::base("4.18.1"));
    (tokens, registry)
}

async fn get(host: &str, path: &str, authorization: Option<&str>) -> Reply {
    let headers: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
    ask("GET", host, path, &headers).await.expect("a reply")
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn claims_of(token: &str) -> Value {
    let claims = token.split('.').nth(1).expect("three parts");
    let json = URL_SAFE_NO_PAD.decode(claims).expect("base64");
    serde_json::from_slice(&json).expect("JSON claims")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}
