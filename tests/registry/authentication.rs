//! Credentials: which are sent, to which host, how often, and how a refusal is reported.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use layerpin::model::facts::{CredentialsSent, NodeCredentials};
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{ClosedPort, Fault, Registry, TokenFault, TokenField, TokenService};
use serde_json::{Value, json};

use crate::support::{Asker, image, is_alone, lines, no_token, out_of_time, password, refused, run_alone};

const HEAD: &str = "HEAD /v2/acme/os/manifests";

fn push(registry: &Registry) -> String {
    for tag in ["2", "3"] {
        registry.push("acme/os", Some(tag), &Image::base("4.18.1"));
    }
    registry.push("acme/os", Some("1"), &Image::base("4.18.1"))
}

fn only(registry: &Registry, entry: Value) -> Asker {
    Asker::with(&json!({(registry.host()): entry}))
}

#[tokio::test]
async fn basic_credentials_are_sent_after_a_challenge_and_then_at_once() {
    let registry = Registry::builder().basic_auth("alice", "s3cr3t-word").start().unwrap();
    let (host, digest) = (registry.host(), push(&registry));
    for entry in
        [password("alice", "s3cr3t-word"), json!({"auth": BASE64_STANDARD.encode("alice:s3cr3t-word")})]
    {
        let asker = only(&registry, entry);
        registry.clear_requests();
        assert_eq!(asker.ask(&format!("{host}/acme/os:1")).await, image(&digest, &host));
        assert_eq!(asker.ask(&format!("{host}/acme/os:2")).await, image(&digest, &host));
        let requests = registry.requests();
        assert_eq!(
            lines(&requests),
            [format!("{HEAD}/1 -"), format!("{HEAD}/1 Basic"), format!("{HEAD}/2 Basic")]
        );
        let shown = format!("Basic {}", BASE64_STANDARD.encode("alice:s3cr3t-word"));
        assert_eq!(requests[2].authorization(), Some(shown.as_str()));
    }
}

#[tokio::test]
async fn only_the_entry_of_the_repository_is_sent() {
    let registry = Registry::builder().basic_auth("alice", "s3cr3t-word").start().unwrap();
    let (host, digest) = (registry.host(), push(&registry));
    let asker = Asker::with(&json!({
        (host.as_str()): password("host", "x"),
        (format!("{host}/acme/os")): password("alice", "s3cr3t-word"),
        "127.0.0.1": password("port", "x"),
    }));
    assert_eq!(asker.ask(&format!("{host}/acme/os:1")).await, image(&digest, &host));
    assert_eq!(registry.requests().len(), 2);
}

#[tokio::test]
async fn a_refusal_says_which_credentials_were_sent_and_whether_nodes_have_them() {
    let registry = Registry::builder().basic_auth("alice", "s3cr3t-word").start().unwrap();
    let host = registry.host();
    push(&registry);
    let (plain, basic) = (format!("{HEAD}/1 -"), format!("{HEAD}/1 Basic"));
    for (asker, shown, as_nodes, expected) in [
        (
            only(&registry, password("alice", "wrong")),
            CredentialsSent::Entry,
            NodeCredentials::Same,
            vec![plain.clone(), basic],
        ),
        (
            Asker::with(&json!({"quay.io": password("alice", "s3cr3t-word")})),
            CredentialsSent::NoEntry,
            NodeCredentials::Same,
            vec![plain.clone()],
        ),
        (Asker::anonymous(), CredentialsSent::NoEntry, NodeCredentials::NotAtHand, vec![plain.clone()]),
    ] {
        registry.clear_requests();
        let answer = asker.ask(&format!("{host}/acme/os:1")).await;
        assert_eq!(answer, refused(&host, 401, shown, as_nodes));
        assert_eq!(lines(&registry.requests()), expected);
    }
}

#[tokio::test]
async fn authentication_is_tried_once() {
    let registry = Registry::builder().basic_auth("alice", "s3cr3t-word").start().unwrap();
    let host = registry.host();
    push(&registry);
    let asker = only(&registry, password("alice", "s3cr3t-word"));
    asker.ask(&format!("{host}/acme/os:2")).await;
    for (fault, status, expected) in [
        // An authorization that was sent before may have expired, so it is renewed once.
        (Fault::UnauthorizedForEver, 401, ["Basic", "-", "Basic"].as_slice()),
        (Fault::ForbiddenForEver, 403, &["-"]),
    ] {
        registry.set_fault(fault.clone());
        registry.clear_requests();
        let answer = asker.ask_now(&format!("{host}/acme/os:1")).await;
        assert_eq!(
            answer,
            refused(&host, status, CredentialsSent::Entry, NodeCredentials::Same),
            "{fault:?}"
        );
        let expected: Vec<_> = expected.iter().map(|scheme| format!("{HEAD}/1 {scheme}")).collect();
        assert_eq!(lines(&registry.requests()), expected, "{fault:?}");
    }
}

#[tokio::test]
async fn one_token_is_used_for_the_whole_repository() {
    for (field, is_anonymous) in
        [(TokenField::Token, true), (TokenField::AccessToken, true), (TokenField::Both, false)]
    {
        let tokens = TokenService::builder().user("alice", "s3cr3t-word").token_field(field);
        let tokens = if is_anonymous { tokens.anonymous_pull() } else { tokens };
        let tokens = tokens.start().unwrap();
        let registry = Registry::builder().bearer_auth(&tokens).start().unwrap();
        let (host, digest) = (registry.host(), push(&registry));
        let asker =
            if is_anonymous { Asker::anonymous() } else { only(&registry, password("alice", "s3cr3t-word")) };
        for tag in ["1", "2", "3"] {
            assert_eq!(asker.ask(&format!("{host}/acme/os:{tag}")).await, image(&digest, &host), "{field:?}");
        }
        assert_eq!(asker.ask(&format!("{host}/acme/os@{digest}")).await, image(&digest, &host));
        let expected = [
            format!("{HEAD}/1 -"),
            format!("{HEAD}/1 Bearer"),
            format!("{HEAD}/2 Bearer"),
            format!("{HEAD}/3 Bearer"),
            format!("{HEAD}/{digest} Bearer"),
        ];
        assert_eq!(lines(&registry.requests()), expected, "{field:?}");
        let scheme = if is_anonymous { "-" } else { "Basic" };
        let asked = tokens.requests();
        assert_eq!(lines(&asked), [format!("GET /token {scheme}")], "{field:?}");
        assert_eq!(asked[0].path, "/token?scope=repository%3Aacme%2Fos%3Apull&service=sample-registry");
    }
}

#[tokio::test]
async fn each_repository_has_its_own_token() {
    let tokens = TokenService::start().unwrap();
    let registry = Registry::builder().bearer_auth(&tokens).start().unwrap();
    let host = registry.host();
    let asker = Asker::anonymous();
    let repositories = ["acme", "acme/manifests/os", "manifests"];
    for tag in ["1", "2"] {
        for repository in repositories {
            let digest = registry.push(repository, Some(tag), &Image::base("4.18.1"));
            let answer = asker.ask(&format!("{host}/{repository}:{tag}")).await;
            assert_eq!(answer, image(&digest, &host), "{repository}");
        }
    }
    assert_eq!(tokens.requests().len(), 3);
    let second: Vec<_> =
        repositories.iter().map(|name| format!("HEAD /v2/{name}/manifests/2 Bearer")).collect();
    assert_eq!(lines(&registry.requests())[6..], second);
}

#[tokio::test]
async fn an_identity_token_is_never_sent_to_the_registry() {
    let tokens = TokenService::builder().user("alice", "s3cr3t-word").start().unwrap();
    let registry = Registry::builder().bearer_auth(&tokens).start().unwrap();
    let (host, digest) = (registry.host(), push(&registry));
    let asker = only(&registry, json!({"identitytoken": tokens.identity_token("alice")}));
    assert_eq!(asker.ask(&format!("{host}/acme/os:1")).await, image(&digest, &host));
    assert_eq!(lines(&tokens.requests()), ["POST /token -"]);
    let requests = registry.requests();
    assert_eq!(lines(&requests), [format!("{HEAD}/1 -"), format!("{HEAD}/1 Bearer")]);
    assert!(!requests[1].authorization().unwrap().contains(&tokens.identity_token("alice")));

    let asker = only(&registry, json!({"identitytoken": "invented"}));
    let answer = asker.ask(&format!("{host}/acme/os:1")).await;
    assert_eq!(answer, refused(&host, 401, CredentialsSent::Entry, NodeCredentials::Same));
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once() {
    let tokens = TokenService::start().unwrap();
    let registry = Registry::builder().bearer_auth(&tokens).start().unwrap();
    let (host, digest) = (registry.host(), push(&registry));
    let asker = Asker::anonymous();
    asker.ask(&format!("{host}/acme/os:1")).await;
    tokens.revoke_all();
    registry.clear_requests();
    for tag in ["2", "3"] {
        assert_eq!(asker.ask(&format!("{host}/acme/os:{tag}")).await, image(&digest, &host));
    }
    let expected = [
        format!("{HEAD}/2 Bearer"),
        format!("{HEAD}/2 -"),
        format!("{HEAD}/2 Bearer"),
        format!("{HEAD}/3 Bearer"),
    ];
    assert_eq!(lines(&registry.requests()), expected);
    assert_eq!(tokens.requests().len(), 2);
}

#[tokio::test]
async fn an_expired_token_is_not_sent() {
    let tokens = TokenService::builder().anonymous_pull().expires_in(Duration::from_secs(1)).start().unwrap();
    let registry = Registry::builder().bearer_auth(&tokens).start().unwrap();
    let (host, digest) = (registry.host(), push(&registry));
    let asker = Asker::anonymous();
    for tag in ["1", "2"] {
        assert_eq!(asker.ask(&format!("{host}/acme/os:{tag}")).await, image(&digest, &host));
    }
    // A token is not used in its last second.
    let of = |tag: &str| [format!("{HEAD}/{tag} -"), format!("{HEAD}/{tag} Bearer")];
    assert_eq!(lines(&registry.requests()), [of("1"), of("2")].concat());
    assert_eq!(tokens.requests().len(), 2);
}

#[tokio::test]
async fn a_token_without_an_expiry_is_used_for_a_while() {
    let tokens = TokenService::builder().anonymous_pull().without_expires_in().start().unwrap();
    let registry = Registry::builder().bearer_auth(&tokens).start().unwrap();
    let (host, digest) = (registry.host(), push(&registry));
    let asker = Asker::anonymous();
    for tag in ["1", "2"] {
        assert_eq!(asker.ask(&format!("{host}/acme/os:{tag}")).await, image(&digest, &host));
    }
    assert_eq!(tokens.requests().len(), 1);
}

#[tokio::test]
async fn a_token_service_that_refuses_is_a_refusal_of_the_registry() {
    let tokens = TokenService::builder().user("alice", "s3cr3t-word").start().unwrap();
    let registry = Registry::builder().bearer_auth(&tokens).start().unwrap();
    let host = registry.host();
    push(&registry);
    for (asker, shown, as_nodes) in [
        (only(&registry, password("alice", "wrong")), CredentialsSent::Entry, NodeCredentials::Same),
        (Asker::with(&json!({})), CredentialsSent::NoEntry, NodeCredentials::Same),
        (Asker::anonymous(), CredentialsSent::NoEntry, NodeCredentials::NotAtHand),
    ] {
        let answer = asker.ask(&format!("{host}/acme/os:1")).await;
        assert_eq!(answer, refused(&host, 401, shown, as_nodes));
    }
    tokens.set_fault(TokenFault::Status(403));
    let answer = Asker::anonymous().ask(&format!("{host}/acme/os:1")).await;
    assert_eq!(answer, refused(&host, 403, CredentialsSent::NoEntry, NodeCredentials::NotAtHand));
}

#[tokio::test]
async fn a_token_service_that_fails_is_named_with_its_failure() {
    let tokens = TokenService::start().unwrap();
    let registry = Registry::builder().bearer_auth(&tokens).start().unwrap();
    let (host, digest) = (registry.host(), push(&registry));
    let service = tokens.host();
    let asker = Asker::anonymous();
    for (fault, reason) in [
        (TokenFault::Status(500), "returned 500 Internal Server Error"),
        (TokenFault::Status(404), "returned 404 Not Found"),
        (TokenFault::Garbage, "returned an invalid response: not JSON"),
        (TokenFault::NoToken, "returned an invalid response: no token"),
    ] {
        tokens.set_fault(fault.clone());
        let answer = asker.ask_now(&format!("{host}/acme/os:1")).await;
        assert_eq!(answer, no_token(&host, &format!("token service {service} {reason}")), "{fault:?}");
    }
    tokens.set_fault(TokenFault::Hang);
    assert_eq!(asker.shortly().ask(&format!("{host}/acme/os:2")).await, out_of_time(&host));
    tokens.clear_fault();
    assert_eq!(asker.ask(&format!("{host}/acme/os:3")).await, image(&digest, &host));
    drop(tokens);
    let _closed = ClosedPort::take_at(service.parse().unwrap()).unwrap();
    let answer = Asker::anonymous().ask(&format!("{host}/acme/os:1")).await;
    let reason = format!("{service} cannot be reached: Connection refused");
    assert_eq!(answer, no_token(&host, &reason));
}

#[tokio::test]
async fn a_token_service_that_is_not_trusted_gets_no_request() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    let asker = only(&registry, password("alice", "s3cr3t-word"));
    let open = |named: &str| format!("it named the token service {named} without TLS");
    for (realm, reason) in [
        ("https://auth.example/token", open("auth.example")),
        ("http://auth.example:81/token", open("auth.example:81")),
        ("http://169.254.169.254/token", open("169.254.169.254")),
        ("/token", "its token service `/token` is not a valid URL".to_owned()),
        ("file:///token", "its token service `file:///token` is not a valid URL".to_owned()),
        ("", "its token service `` is not a valid URL".to_owned()),
    ] {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
        registry.set_fault(Fault::StatusWithHeader(401, "WWW-Authenticate".into(), challenge));
        registry.clear_requests();
        assert_eq!(asker.ask_now(&format!("{host}/acme/os:1")).await, no_token(&host, &reason), "{realm}");
        assert_eq!(lines(&registry.requests()), [format!("{HEAD}/1 -")]);
    }
}

#[tokio::test]
async fn a_bearer_challenge_takes_precedence_over_basic() {
    let tokens = TokenService::builder().user("alice", "s3cr3t-word").start().unwrap();
    let registry = Registry::builder().bearer_auth(&tokens).start().unwrap();
    let (host, digest) = (registry.host(), push(&registry));
    let bearer = format!("Bearer realm=\"{}\",service=\"{}\"", tokens.realm(), tokens.service());
    for challenges in [format!("Basic realm=\"r\", {bearer}"), format!("{bearer}, Basic realm=\"r\"")] {
        registry.set_fault(Fault::StatusWithHeader(401, "WWW-Authenticate".into(), challenges).times(1));
        tokens.clear_requests();
        registry.clear_requests();
        let asker = only(&registry, password("alice", "s3cr3t-word"));
        assert_eq!(asker.ask(&format!("{host}/acme/os:1")).await, image(&digest, &host));
        assert_eq!(lines(&registry.requests()), [format!("{HEAD}/1 -"), format!("{HEAD}/1 Bearer")]);
        assert_eq!(tokens.requests().len(), 1, "the scope is made up where the challenge has none");
    }
}

#[tokio::test]
async fn a_challenge_with_an_unknown_scheme_gets_no_credentials() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    registry.set_fault(Fault::StatusWithHeader(401, "WWW-Authenticate".into(), "Negotiate".into()));
    let answer = only(&registry, password("alice", "s3cr3t-word")).ask(&format!("{host}/acme/os:1")).await;
    assert_eq!(answer, refused(&host, 401, CredentialsSent::Entry, NodeCredentials::Same));
    assert_eq!(lines(&registry.requests()), [format!("{HEAD}/1 -")]);
}

#[tokio::test]
async fn no_secret_is_printed_logged_or_in_metrics() {
    if !is_alone() {
        return run_alone("authentication::no_secret_is_printed_logged_or_in_metrics", &[]);
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let tokens = TokenService::builder().user("alice", "pass-secret").start().unwrap();
    let of_tokens = Registry::builder().bearer_auth(&tokens).start().unwrap();
    let of_passwords = Registry::builder().basic_auth("alice", "pass-secret").start().unwrap();
    let mut printed = String::new();
    let mut secrets = vec!["pass-secret".to_owned(), BASE64_STANDARD.encode("alice:pass-secret")];
    secrets.push(tokens.identity_token("alice"));
    for (registry, entry) in [
        (&of_passwords, password("alice", "pass-secret")),
        (&of_passwords, password("alice", "pass-secret but wrong")),
        (&of_tokens, password("alice", "pass-secret")),
        (&of_tokens, password("alice", "pass-secret but wrong")),
        (&of_tokens, json!({"identitytoken": tokens.identity_token("alice")})),
    ] {
        push(registry);
        let asker = only(registry, entry);
        for fault in
            [None, Some(Fault::UnauthorizedForEver), Some(Fault::CloseAfterAccept), Some(Fault::Status(500))]
        {
            match fault {
                Some(fault) => registry.set_fault(fault),
                None => registry.clear_fault(),
            }
            let answer = asker.ask_now(&format!("{}/acme/os:1", registry.host())).await;
            printed += &format!("{answer:?}{}", serde_json::to_string(&answer).unwrap());
            if let layerpin::model::facts::Fact::Unknown(cause) = answer {
                printed += &cause.to_string();
            }
        }
        registry.clear_fault();
        asker.ask_now(&format!("{}/acme/os:1", registry.host())).await;
        let shown = registry.requests();
        secrets.extend(
            shown.iter().filter_map(|request| Some(request.authorization()?.split_once(' ')?.1.to_owned())),
        );
        let client = &asker.client;
        printed += &format!("{client:?}{:?}{}", client.credentials, asker.metrics.encode());
    }
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("127.0.0.1"), "the log was listened to");
    assert!(secrets.len() > 10, "secrets were shown");
    for secret in secrets {
        assert!(!printed.contains(&secret), "{secret} is printed");
        assert!(!logged.contains(&secret), "{secret} is logged");
    }
}

/// The log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
