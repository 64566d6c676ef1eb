//! What passes both webhooks untouched, and asks no registry anything.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::Image;
use layerpin_test_support::documents::{MachineConfig, by, create, machine_config, review, update};
use layerpin_test_support::program::Layerpin;
use serde_json::{Value, json};

use crate::answers::untouched;

const RENDERED: &str = "rendered-worker-0123456789abcdef0123456789abcdef";

/// Sends reviews to both webhooks, each of which must let them pass without a question.
async fn assert_untouched(reviews: impl IntoIterator<Item = (&'static str, Value)>, registry: &Registry) {
    let layerpin = Layerpin::start();
    for (what, review) in reviews {
        for path in ["/mutate", "/validate"] {
            assert_eq!(layerpin.webhooks.review(path, &review).await, untouched(), "{what} {path}");
        }
    }
    assert_eq!(registry.connections(), 0);
}

fn tagged() -> (Registry, MachineConfig) {
    let registry = Registry::start().unwrap();
    registry.push("acme/os", Some("4.18"), &Image::base("4.18.1"));
    let object = machine_config().image(&format!("{}/acme/os:4.18", registry.host()));
    (registry, object)
}

#[tokio::test]
async fn writes_of_the_operators_service_accounts_pass() {
    let (registry, object) = tagged();
    let object = object.named(RENDERED);
    let accounts = ["machine-config-controller", "machine-config-operator"];
    let reviews = accounts.map(|account| {
        let user = format!("system:serviceaccount:openshift-machine-config-operator:{account}");
        (account, by(&user, create(&object)))
    });
    assert_untouched(reviews, &registry).await;
}

#[tokio::test]
async fn the_name_of_a_rendered_config_exempts_nobody() {
    let (_registry, object) = tagged();
    let review = by("system:admin", create(&object.named(RENDERED)));
    let answer = Layerpin::start().webhooks.review("/validate", &review).await;
    assert_eq!(answer["response"]["auditAnnotations"]["findings"], "floating-tag=deny");
}

#[tokio::test]
async fn other_operations_than_create_and_update_pass() {
    let (registry, object) = tagged();
    let reviews = [
        ("DELETE with a null object", review("DELETE", &Value::Null, &object)),
        ("CONNECT", review("CONNECT", &Value::Null, &Value::Null)),
    ];
    assert_untouched(reviews, &registry).await;
}

#[tokio::test]
async fn objects_of_other_kinds_pass() {
    let (registry, object) = tagged();
    let with = |resource: Value| {
        let mut review = create(&object);
        review["request"]["resource"] = resource;
        review
    };
    let mut status = create(&object);
    status["request"]["subResource"] = json!("status");
    let reviews = [
        ("a pod", with(json!({"group": "", "version": "v1", "resource": "pods"}))),
        (
            "another group",
            with(json!({"group": "example.com", "version": "v1", "resource": "machineconfigs"})),
        ),
        ("a sub-resource", status),
    ];
    assert_untouched(reviews, &registry).await;
}

#[tokio::test]
async fn a_machine_config_without_an_image_passes() {
    let (registry, object) = tagged();
    let empty = machine_config().image("");
    let reviews = [
        ("absent", create(&machine_config())),
        ("empty", create(&empty)),
        ("null", create(&machine_config().field("osImageURL", Value::Null))),
        ("removed", update(&empty, &object)),
    ];
    assert_untouched(reviews, &registry).await;
}

#[tokio::test]
async fn an_update_of_other_fields_passes() {
    let (registry, object) = tagged();
    let arguments = object.clone().field("kernelArguments", ["quiet"].as_slice());
    let label = object.clone().label("team", "storage");
    let annotation = object.clone().annotation("a", "b");
    let reviews = [
        ("nothing", update(&object, &object)),
        ("kernel arguments", update(&arguments, &object)),
        ("a label", update(&label, &object)),
        ("an annotation", update(&annotation, &object)),
    ];
    assert_untouched(reviews, &registry).await;
}

#[tokio::test]
async fn a_dry_run_gets_the_same_answer() {
    let (_registry, object) = tagged();
    let layerpin = Layerpin::start();
    let real = create(&object);
    let mut rehearsal = real.clone();
    rehearsal["request"]["dryRun"] = json!(true);
    for path in ["/mutate", "/validate"] {
        let answers =
            (layerpin.webhooks.review(path, &real).await, layerpin.webhooks.review(path, &rehearsal).await);
        assert_ne!(answers.0, untouched());
        assert_eq!(answers.0, answers.1);
    }
}
