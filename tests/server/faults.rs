//! Registries that are down, slow, broken or hostile: an answer in time that names the cause, and
//! the next review served.

use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{ClosedPort, Fault, Registry, TokenFault, TokenService};
use layerpin_test_support::documents::{NOWHERE, create, machine_config, policy};
use layerpin_test_support::os_registry::OsRegistry;
use layerpin_test_support::program::{ANSWERED, Layerpin, SHORT, Setup};
use serde_json::Value;
use tokio::time::timeout;

use crate::answers::{denied_by, not_pinned, patched, policy_of, short};

/// A server for which an unanswered question is a denial, and a tag is none. It has time enough that only
/// what its caller gives it can run out.
fn start() -> Layerpin {
    setup().start()
}

fn setup() -> Setup {
    Setup::serve().policy(SPEC).arguments(["--timeout", "60s"])
}

const SPEC: &str = "  onUnknown: deny\n  rules: {floating-tag: off}\n";

async fn ask(layerpin: &Layerpin, path: &str, image: &str) -> Value {
    layerpin.webhooks.review(path, &create(&machine_config().image(image))).await
}

/// Sends a review with little time, and takes the answer while there is some left.
async fn ask_shortly(layerpin: &Layerpin, path: &str, image: &str) -> Value {
    let path = format!("{path}?{SHORT}");
    timeout(ANSWERED, ask(layerpin, &path, image)).await.expect("an answer in time")
}

/// `/mutate` changes nothing and names the cause, and `/validate` denies for it.
async fn assert_unknown(layerpin: &Layerpin, image: &str, cause: &str, help: &str) {
    assert_eq!(ask(layerpin, "/mutate", image).await, unpinned(image, cause));
    assert_denied(layerpin, image, cause, help).await;
}

async fn assert_denied(layerpin: &Layerpin, image: &str, cause: &str, help: &str) {
    assert_eq!(ask(layerpin, "/validate", image).await, denial(image, cause, help));
}

/// The same where nobody answers and only the little time that there is ends it.
async fn assert_out_of_time(layerpin: &Layerpin, image: &str, host: &str) {
    let cause = format!("{host} did not answer in time");
    assert_eq!(ask_shortly(layerpin, "/mutate", image).await, unpinned(image, &cause));
    assert_eq!(ask_shortly(layerpin, "/validate", image).await, denial(image, &cause, ASK_LATER));
}

fn unpinned(image: &str, cause: &str) -> Value {
    not_pinned(&format!("osImageURL: `{image}` not pinned: {cause}"))
}

fn denial(image: &str, cause: &str, help: &str) -> Value {
    let message = format!(
        "[unpullable-image] whether nodes can pull `{image}` is not known: {cause} (/spec/osImageURL)\n  \
         note: `onUnknown` is `deny` in policy `test`\n  \
         help: {help}"
    );
    denied_by(&policy_of(&policy(SPEC)), "unpullable-image=deny", &message)
}

/// A tag that nobody asked for yet is pinned.
async fn assert_well_again(layerpin: &Layerpin, registry: &Registry) {
    let digest = registry.push("acme/os", Some("after"), &Image::base("4.18.1"));
    let object = machine_config().image(&format!("{}/acme/os:after", registry.host()));
    let answer = layerpin.webhooks.review("/mutate", &create(&object)).await;
    let pinned = format!("{}/acme/os@{digest}", registry.host());
    assert_eq!(patched(&object, &answer)["spec"]["osImageURL"], pinned);
}

fn registry() -> Registry {
    let registry = Registry::start().unwrap();
    let base = Image::base("4.18.1");
    registry.push("acme/os", Some("1"), &base);
    // A manifest whose type says nothing, so that its body is needed.
    registry.push_manifest("acme/os", Some("untyped"), "application/json", base.manifest());
    registry
}

const ASK_LATER: &str = "apply again when the registry answers; `onUnknown` in the policy sets the level";
const ASK_AS_NODES: &str = "pass the pull secret of the nodes with `--authfile`";

/// What to do where the registry did answer.
fn look_at(image: &str) -> String {
    format!("inspect it: skopeo inspect --raw docker://{image}")
}

#[tokio::test]
async fn a_registry_that_is_down_is_named() {
    let closed = ClosedPort::take().unwrap();
    let host = closed.host();
    let layerpin = start();
    let cause = format!("{host} cannot be reached: Connection refused");
    assert_unknown(&layerpin, &format!("{host}/acme/os:1"), &cause, ASK_LATER).await;
    assert_well_again(&layerpin, &registry()).await;
}

#[tokio::test]
async fn a_registry_that_freezes_costs_the_budget_and_no_more() {
    for (fault, tag) in [(Fault::FreezeAfterAccept, "1"), (Fault::FreezeAfterHeaders, "untyped")] {
        let registry = registry();
        let host = registry.host();
        let layerpin = start();
        registry.set_fault(fault);
        assert_out_of_time(&layerpin, &format!("{host}/acme/os:{tag}"), &host).await;
        registry.clear_fault();
        assert_well_again(&layerpin, &registry).await;
    }
}

#[tokio::test]
async fn a_refusal_without_the_nodes_credentials_is_unknown() {
    for (fault, status) in [(Fault::UnauthorizedForEver, 401), (Fault::ForbiddenForEver, 403)] {
        let registry = registry();
        let host = registry.host();
        let layerpin = start();
        registry.set_fault(fault);
        let cause = format!(
            "{host} returned {status}; there are no credentials for it; the credentials of the nodes are not known \
             (`--authfile`)"
        );
        assert_unknown(&layerpin, &format!("{host}/acme/os:1"), &cause, ASK_AS_NODES).await;
        registry.clear_fault();
        assert_well_again(&layerpin, &registry).await;
    }
}

#[tokio::test]
async fn a_refusal_of_the_nodes_credentials_is_a_fault() {
    let registry = registry();
    let host = registry.host();
    let image = format!("{host}/acme/os:1");
    let auths = serde_json::json!({host.as_str(): {"username": "robot", "password": "s3cr3t-word"}});
    let layerpin = setup().auths(&auths).start();
    registry.set_fault(Fault::ForbiddenForEver);
    let cause = format!("{host} returned 403 for the configured credentials");
    assert_eq!(ask(&layerpin, "/mutate", &image).await, unpinned(&image, &cause));
    let message = format!(
        "[unpullable-image] nodes cannot pull `{image}`: {cause} (/spec/osImageURL)\n  \
         note: `unpullable-image` is `deny` by default in policy `test`\n  \
         help: add an entry for `{host}` with pull access to the pull secret `openshift-config/pull-secret`"
    );
    let expected = denied_by(&policy_of(&policy(SPEC)), "unpullable-image=deny", &message);
    assert_eq!(ask(&layerpin, "/validate", &image).await, expected);
    registry.clear_fault();
    assert_well_again(&layerpin, &registry).await;
}

#[tokio::test]
async fn an_answer_of_404_means_that_it_is_not_there() {
    let registry = registry();
    let host = registry.host();
    let image = format!("{host}/acme/os:1");
    let layerpin = start();
    registry.set_fault(Fault::Status(404));
    let warning = format!("osImageURL: not pinned, because {host} has no `{image}`");
    assert_eq!(ask(&layerpin, "/mutate", &image).await, not_pinned(&warning));
    let message = format!(
        "[unpullable-image] {host} has no image `{image}` (/spec/osImageURL)\n  \
         note: `unpullable-image` is `deny` by default in policy `test`\n  \
         help: check the repository and push the image, then apply again"
    );
    let expected = denied_by(&policy_of(&policy(SPEC)), "unpullable-image=deny", &message);
    assert_eq!(ask(&layerpin, "/validate", &image).await, expected);
    registry.clear_fault();
    assert_well_again(&layerpin, &registry).await;
}

#[tokio::test]
async fn what_the_registry_does_wrong_is_told() {
    let answered = |words: &'static str| move |host: &str| format!("{host} returned {words}");
    type Words = Box<dyn Fn(&str) -> String>;
    let later = |_: &str| ASK_LATER.to_owned();
    let table: [(Fault, Words, Words); 4] = [
        (Fault::Status(500), Box::new(answered("500")), Box::new(later)),
        (Fault::Status(429), Box::new(answered("429")), Box::new(later)),
        (
            Fault::EndlessBody,
            Box::new(answered("an invalid response: the body has more than 4194304 bytes")),
            Box::new(look_at),
        ),
        (
            Fault::RedirectLoop,
            Box::new(answered("an invalid response: more than 5 redirects")),
            Box::new(look_at),
        ),
    ];
    for (fault, cause, help) in table {
        let registry = registry();
        let host = registry.host();
        let layerpin = start();
        registry.set_fault(fault);
        let image = format!("{host}/acme/os:1");
        assert_unknown(&layerpin, &image, &cause(&host), &help(&image)).await;
        registry.clear_fault();
        assert_well_again(&layerpin, &registry).await;
    }
}

#[tokio::test]
async fn a_body_that_does_not_fit_its_digest_pins_nothing() {
    let registry = registry();
    let host = registry.host();
    let layerpin = start();
    registry.set_fault(Fault::WrongBody);
    let image = format!("{host}/acme/os:untyped");
    let answer = ask(&layerpin, "/mutate", &image).await;
    let expected = short(&Image::base("4.18.1").digest());
    let warning = answer["response"]["warnings"][0].as_str().unwrap().to_owned();
    let (before, found) = warning.split_at(warning.len() - expected.len());
    let words = format!(
        "osImageURL: `{image}` not pinned: {host} returned content with another digest: expected {expected}, got "
    );
    assert_eq!(before, words);
    assert_ne!(found, expected);
    assert_eq!(answer, not_pinned(&warning));
    registry.clear_fault();
    assert_well_again(&layerpin, &registry).await;
}

#[tokio::test]
async fn a_manifest_with_another_digest_than_the_requested_one_is_not_an_answer() {
    let OsRegistry { registry, host, .. } = OsRegistry::start();
    let layerpin = start();
    let digest = Image::base("4.18.1").digest();
    registry.set_fault(Fault::WrongDigest);
    let image = format!("{host}/acme/os@{digest}");
    let wrong = layerpin_sample_registry::digest_of(b"another manifest");
    let cause = format!(
        "{host} returned content with another digest: expected {}, got {}",
        short(&digest),
        short(&wrong)
    );
    assert_denied(&layerpin, &image, &cause, &look_at(&image)).await;
    registry.clear_fault();
    assert_well_again(&layerpin, &registry).await;
}

#[tokio::test]
async fn a_token_service_that_hangs_costs_the_budget_and_no_more() {
    let tokens = TokenService::start().unwrap();
    let registry = Registry::builder().bearer_auth(&tokens).start().unwrap();
    registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let host = registry.host();
    let layerpin = start();
    tokens.set_fault(TokenFault::Hang);
    assert_out_of_time(&layerpin, &format!("{host}/acme/os:1"), &host).await;
    tokens.clear_fault();
    assert_well_again(&layerpin, &registry).await;
}

#[tokio::test]
async fn a_token_service_on_another_host_is_not_asked() {
    let registry = registry();
    let host = registry.host();
    let layerpin = start();
    let challenge = "Bearer realm=\"https://auth.example/token\",service=\"registry\"";
    registry.set_fault(Fault::StatusWithHeader(401, "www-authenticate".into(), challenge.into()));
    let cause = format!("no token for {host}: it named the token service auth.example without TLS");
    assert_unknown(&layerpin, &format!("{host}/acme/os:1"), &cause, ASK_LATER).await;
    registry.clear_fault();
    assert_well_again(&layerpin, &registry).await;
}

#[tokio::test]
async fn a_link_local_registry_is_never_contacted() {
    let layerpin = start();
    let image = format!("169.254.169.254/latest/meta-data@{NOWHERE}");
    let cause = "169.254.169.254 is a link-local or unspecified address, which is never contacted";
    assert_denied(&layerpin, &image, cause, "use another address of the registry").await;
}
