//! Who may use `/dry-run`, depending on `--dry-run-access`.

use std::time::Duration;

use layerpin_test_support::documents::machine_config;
use layerpin_test_support::program::{Layerpin, Setup};
use reqwest::Certificate;
use tokio::time::Instant;

use crate::api_server::{ApiServer, TOKEN};

const REVIEWS: &str = "POST /apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS: &str = "POST /apis/authorization.k8s.io/v1/subjectaccessreviews";

fn start(server: &ApiServer, arguments: &[&str]) -> Layerpin {
    let setup = Setup::serve();
    let path = setup.write("kubeconfig", &server.kubeconfig().to_string());
    setup.arguments(["--kubeconfig".as_ref(), path.as_os_str()]).arguments(arguments).start()
}

/// The status, the first line and the `WWW-Authenticate` header that a caller with this header gets.
async fn call(layerpin: &Layerpin, authorization: Option<&str>) -> (u16, String, Option<String>) {
    call_at(layerpin, "/dry-run", authorization).await
}

async fn call_at(
    layerpin: &Layerpin,
    path: &str,
    authorization: Option<&str>,
) -> (u16, String, Option<String>) {
    let authority = Certificate::from_pem(layerpin.authority.as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
    // Not a valid reference, so that no registry is asked.
    let object = machine_config().image("os").to_string();
    let mut request = client.post(format!("https://{}{path}", layerpin.address)).body(object);
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let challenge = answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    let text = answer.text().await.unwrap();
    (status, text.lines().next().unwrap_or_default().to_owned(), challenge)
}

#[tokio::test]
async fn with_a_cluster_dry_run_requires_a_token_of_somebody_who_may_create_machine_configs() {
    let server = ApiServer::start().await;
    server.user("good-token", "alice", true);
    server.user("poor-token", "bob\u{1b}[2J", false);
    for arguments in [&[][..], &["--dry-run-access", "authorized"]] {
        let layerpin = start(&server, arguments);
        let required = "a bearer token of a user who may create MachineConfigs is required; with curl: -H \
                      \"Authorization: Bearer $(oc whoami --show-token)\"";
        for none in [None, Some("Basic Z29vZC10b2tlbg=="), Some("Bearer "), Some("good-token")] {
            assert_eq!(
                call(&layerpin, none).await,
                (401, required.into(), Some("Bearer".into())),
                "{none:?}"
            );
        }
        let unknown = "the cluster does not accept this bearer token";
        assert_eq!(
            call(&layerpin, Some("Bearer bad-token")).await,
            (401, unknown.into(), Some("Bearer".into()))
        );
        let missing = "`bob\\u{1b}[2J` may not create machineconfigs.machineconfiguration.openshift.io, which \
                       /dry-run requires";
        assert_eq!(call(&layerpin, Some("Bearer poor-token")).await, (403, missing.into(), None));
        for scheme in ["Bearer", "bearer"] {
            assert_eq!(call(&layerpin, Some(&format!("{scheme} good-token"))).await, (200, "{".into(), None));
        }
        let metrics = layerpin.metrics().await;
        let refused = "layerpin_reviews_total{endpoint=\"dry-run\",operation=\"other\",verdict=\"unauthorized\",dry_run=\"true\"} 6";
        assert!(metrics.contains(refused), "{metrics}");
        assert_eq!(layerpin.log.message("review").await["user"], "alice");
        let log = layerpin.log.text();
        for token in ["good-token", "bad-token", "poor-token", TOKEN] {
            assert!(!log.contains(token), "{log}");
        }
    }
}

#[tokio::test]
async fn answers_of_the_api_server_are_cached() {
    let server = ApiServer::start().await;
    server.user("good-token", "alice", true);
    server.user("poor-token", "bob", false);
    let layerpin = start(&server, &[]);
    for _ in 0..5 {
        assert_eq!(call(&layerpin, Some("Bearer good-token")).await.0, 200);
        assert_eq!(call(&layerpin, Some("Bearer poor-token")).await.0, 403);
    }
    assert!(server.requests(REVIEWS) < 5, "{} reviews", server.requests(REVIEWS));
    assert!(server.requests(ACCESS) < 5, "{} reviews", server.requests(ACCESS));
}

#[tokio::test]
async fn without_an_answer_of_the_api_server_dry_run_is_503_in_time() {
    let server = ApiServer::start().await;
    server.user("good-token", "alice", true);
    // So long that only the timeout in the request can expire.
    let layerpin = start(&server, &["--timeout", "60s"]);
    server.forbid("/apis/authentication.k8s.io/v1/tokenreviews", true);
    let forbidden = "cannot check whether the client may use /dry-run: User \"layerpin\" cannot create it";
    assert_eq!(call(&layerpin, Some("Bearer good-token")).await, (503, forbidden.into(), None));
    server.forbid("/apis/authentication.k8s.io/v1/tokenreviews", false);

    server.freeze(true);
    let begun = Instant::now();
    let silent = format!(
        "cannot check whether the client may use /dry-run: the API server {} did not answer in time",
        server.address
    );
    let answer = call_at(&layerpin, "/dry-run?timeout=1s", Some("Bearer good-token")).await;
    assert_eq!(answer, (503, silent, None));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    server.freeze(false);
    assert_eq!(call(&layerpin, Some("Bearer good-token")).await.0, 200);

    server.down(true);
    let (status, told, _) = call(&layerpin, Some("Bearer other-token")).await;
    assert!(status == 503 && told.contains("cannot reach the API server"), "{status} {told}");
}

#[tokio::test]
async fn with_anyone_and_off_the_api_server_is_not_asked() {
    let server = ApiServer::start().await;
    assert_eq!(call(&start(&server, &["--dry-run-access", "anyone"]), None).await.0, 200);
    assert_eq!(call(&start(&server, &["--dry-run-access", "off"]), None).await.0, 404);
    assert_eq!(server.requests(REVIEWS), 0);
}

#[test]
fn dry_run_access_authorized_needs_a_cluster() {
    let expected = "error: --dry-run-access authorized: no cluster is configured to check who may create MachineConfigs; \
                    set --kubeconfig, or use `anyone` or `off`\n";
    for more in [&[][..], &["--offline"], &["--no-cluster"]] {
        let setup = Setup::serve().arguments(["--dry-run-access", "authorized"]).arguments(more);
        let (code, output, error) = setup.ended();
        assert_eq!((code, output.as_str(), error.as_str()), (2, "", expected), "{more:?}");
    }
}
