//! What passes both webhooks untouched, and asks no registry anything.

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::Image;
use serde_json::{Value, json};

use crate::documents::{annotated, create, machine_config, review, untouched, update};
use crate::program::Layerpin;

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

fn tagged() -> (Registry, Value) {
    let registry = Registry::start().unwrap();
    registry.push("acme/os", Some("4.18"), &Image::base("4.18.1"));
    let object = machine_config(&format!("{}/acme/os:4.18", registry.host()));
    (registry, object)
}

#[tokio::test]
async fn what_the_operators_own_accounts_write_passes() {
    let (registry, mut object) = tagged();
    object["metadata"]["name"] = json!("rendered-worker-0123456789abcdef0123456789abcdef");
    let accounts = ["machine-config-controller", "machine-config-operator"];
    let reviews = accounts.map(|account| {
        let mut review = create(&object);
        let user = format!("system:serviceaccount:openshift-machine-config-operator:{account}");
        review["request"]["userInfo"]["username"] = json!(user);
        (account, review)
    });
    assert_untouched(reviews, &registry).await;
}

#[tokio::test]
async fn the_name_of_a_rendered_config_exempts_nobody() {
    let (_registry, mut object) = tagged();
    object["metadata"]["name"] = json!("rendered-worker-0123456789abcdef0123456789abcdef");
    let mut review = create(&object);
    review["request"]["userInfo"]["username"] = json!("system:admin");
    let answer = Layerpin::start().webhooks.review("/validate", &review).await;
    assert_eq!(answer["response"]["auditAnnotations"]["findings"], "floating-tag=deny");
}

#[tokio::test]
async fn what_is_neither_created_nor_updated_passes() {
    let (registry, object) = tagged();
    let reviews = [
        ("DELETE with a null object", review("DELETE", &Value::Null, &object)),
        ("CONNECT", review("CONNECT", &Value::Null, &Value::Null)),
    ];
    assert_untouched(reviews, &registry).await;
}

#[tokio::test]
async fn what_is_no_machine_config_passes() {
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
async fn what_names_no_image_passes() {
    let (registry, object) = tagged();
    let mut absent = machine_config("");
    absent["spec"].as_object_mut().unwrap().remove("osImageURL");
    let mut null = machine_config("");
    null["spec"]["osImageURL"] = Value::Null;
    let reviews = [
        ("absent", create(&absent)),
        ("empty", create(&machine_config(""))),
        ("null", create(&null)),
        ("taken away", update(&machine_config(""), &object)),
    ];
    assert_untouched(reviews, &registry).await;
}

#[tokio::test]
async fn an_update_of_other_things_passes() {
    let (registry, object) = tagged();
    let image = object["spec"]["osImageURL"].as_str().unwrap();
    let mut arguments = object.clone();
    arguments["spec"]["kernelArguments"] = json!(["quiet"]);
    let mut label = object.clone();
    label["metadata"]["labels"]["team"] = json!("storage");
    let reviews = [
        ("nothing", update(&object, &object)),
        ("kernel arguments", update(&arguments, &object)),
        ("a label", update(&label, &object)),
        ("an annotation", update(&annotated(image, json!({"a": "b"})), &object)),
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
