//! Credentials are sent to the registry that they are for, and printed nowhere.

use base64::prelude::{BASE64_STANDARD, Engine};
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Fault, Registry, TokenFault, TokenService};
use layerpin_test_support::documents::{create, machine_config, review};
use layerpin_test_support::program::Setup;
use serde_json::json;

const PASSWORD: &str = "hunter2-hunter2";
const IDENTITY: &str = "identity-token-of-the-robot";

#[tokio::test]
async fn no_credential_is_printed() {
    let tokens = TokenService::builder().user("robot", PASSWORD).start().unwrap();
    let registry = Registry::builder().bearer_auth(&tokens).start().unwrap();
    let refusing = Registry::builder().basic_auth("robot", "another-word").start().unwrap();
    let exchanging = Registry::builder().bearer_auth(&tokens).start().unwrap();
    for registry in [&registry, &refusing, &exchanging] {
        registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    }
    let (host, refusing_host, exchanging_host) = (registry.host(), refusing.host(), exchanging.host());
    let basic = BASE64_STANDARD.encode(format!("robot:{PASSWORD}"));
    let auths = json!({
        host.as_str(): {"auth": basic},
        refusing_host.as_str(): {"username": "robot", "password": PASSWORD},
        exchanging_host.as_str(): {"identitytoken": IDENTITY},
    });
    let layerpin = Setup::serve().auths(&auths).environment("RUST_LOG", "trace").start();
    let mut printed = String::new();
    let mut ask_all = async |tag: &str| {
        for host in [&host, &refusing_host, &exchanging_host] {
            let object = machine_config().image(&format!("{host}/acme/os:{tag}"));
            for path in ["/mutate", "/validate"] {
                printed += &layerpin.webhooks.review(path, &create(&object)).await.to_string();
            }
            let dry_run = review("CREATE", &object, &serde_json::Value::Null).to_string();
            printed += &layerpin.webhooks.post("/dry-run", dry_run.clone()).await.text;
            printed += &layerpin.webhooks.post_for("text/plain", "/dry-run", dry_run).await.text;
        }
    };
    ask_all("1").await;
    registry.set_fault(Fault::ForbiddenForEver);
    ask_all("2").await;
    registry.clear_fault();
    tokens.set_fault(TokenFault::Garbage);
    tokens.revoke_all();
    ask_all("3").await;
    layerpin.replace("auth.json", &format!("{{\"auths\": {{\"{host}\": {{\"auth\": \"{basic}!\"}}}}}}"));
    let message = "an entry of the registry credentials cannot be used; the other entries are used";
    layerpin.log.message(message).await;
    ask_all("4").await;
    layerpin.replace("auth.json", &format!("{{\"auths\": {{\"{host}\": {{\"auth\": \"{basic}\"}}}}"));
    layerpin.log.message("registry credentials: reload failed; still using the previous content").await;

    printed += &layerpin.metrics().await;
    printed += &layerpin.log.text();
    let shown: Vec<_> =
        registry.requests().iter().filter_map(|request| request.authorization().map(str::to_owned)).collect();
    let token =
        shown.iter().find_map(|value| value.strip_prefix("Bearer ")).expect("a token was shown").to_owned();
    assert!(
        refusing.requests().iter().any(|request| request.authorization() == Some(&format!("Basic {basic}")))
    );
    for (what, secret) in
        [("password", PASSWORD), ("basic", &basic), ("identity token", IDENTITY), ("bearer token", &token)]
    {
        assert!(!printed.contains(secret), "{what} was printed");
    }
    assert!(printed.contains("returned 401 for the configured credentials"), "the refusals are told");
}
