//! Layerpin behind a real API server, with the webhook configurations of `deploy/`.
//!
//! What only an API server can show is claimed here: which requests it asks about, what it stores,
//! and what `kubectl` shows a user. `tools.sh` says where the API server comes from.

mod access;
mod admission_policy;
mod change;
mod client_certificate;
mod cluster;
mod deploy;
mod getting_started;
mod kubectl;
mod lineage;
mod process;
mod registries;
mod rights;
mod servers;
mod webhooks;
mod writing;

use layerpin_sample_registry::Registry;
use layerpin_sample_registry::images::Image;
use layerpin_test_support::eventually::eventually_blocking;
use serde_json::{Value, json};

use cluster::{machine_config, take_turn};
use kubectl::Caller;

#[test]
fn a_tag_is_stored_as_a_digest_with_a_record_of_the_tag() {
    let Some(cluster) = take_turn() else { return };
    let image = Tag::push(&cluster.registry, "stored/os");
    let digest = &image.digest;

    cluster.apply(&machine_config("stored", &image.reference())).accepted("a tag is pinned");

    let stored = cluster.stored("stored").unwrap();
    assert_eq!(stored["spec"]["osImageURL"], image.pinned_to(digest));
    assert_eq!(annotation(&stored, "layerpin.io/pinned-from"), Some(&*image.record_of(digest)));
}

#[test]
fn the_same_tag_again_keeps_its_pin_after_the_tag_moved() {
    let Some(cluster) = take_turn() else { return };
    let image = Tag::push(&cluster.registry, "kept/os");
    let object = machine_config("kept", &image.reference());
    cluster.apply(&object).accepted("a tag is pinned");
    let before = cluster.stored("kept").unwrap();

    image.move_on(&cluster.registry);
    // A rehearsal of rolling forward asks the registry anew; otherwise an answer from before may serve
    // for a while, and nobody knows yet that the tag has moved.
    let arguments = ["annotate", "machineconfig", "kept", "layerpin.io/repin=true", "--dry-run=server"];
    cluster.kubectl(Caller::User, &arguments).accepted("rolling forward is rehearsed");
    eventually_blocking("a warning says how to roll forward", || {
        let answer = cluster.apply(&object).accepted("the same tag is accepted again");
        let told = answer.warnings().iter().any(|warning| warning.contains("layerpin.io/repin"));
        if told { Ok(()) } else { Err(format!("{answer:?}")) }
    });

    let after = cluster.stored("kept").unwrap();
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(after["metadata"]["generation"], before["metadata"]["generation"]);
    assert_eq!(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
    // kubectl fails where there is a difference to show.
    cluster.kubectl_on(Caller::User, &["diff"], &object).accepted("the tag in Git is no difference");
}

#[test]
fn repin_rolls_forward_and_is_spent() {
    let Some(cluster) = take_turn() else { return };
    let image = Tag::push(&cluster.registry, "rolled/os");
    cluster.apply(&machine_config("rolled", &image.reference())).accepted("a tag is pinned");
    let moved = image.move_on(&cluster.registry);

    let arguments = ["annotate", "machineconfig", "rolled", "layerpin.io/repin=true"];
    cluster.kubectl(Caller::User, &arguments).accepted("a fresh look is asked for");

    let stored = cluster.stored("rolled").unwrap();
    assert_eq!(stored["spec"]["osImageURL"], image.pinned_to(&moved));
    assert_eq!(annotation(&stored, "layerpin.io/pinned-from"), Some(&*image.record_of(&moved)));
    assert_eq!(annotation(&stored, "layerpin.io/repin"), None);
}

#[test]
fn a_short_name_is_refused_by_its_rule() {
    let Some(cluster) = take_turn() else { return };

    let answer = cluster.apply(&machine_config("short", "os:4.18"));

    let reason = answer.refused("a short name is no pull spec");
    let (_, denial) = reason.split_once("denied the request: ").expect("a denial by a webhook");
    assert!(denial.starts_with("[malformed-reference] "), "{denial}");
    assert!(reason.contains("Forbidden") && reason.contains("validate.layerpin.io"), "{reason}");
    assert_eq!(cluster.stored("short"), None);
}

#[test]
fn a_tag_beside_a_digest_is_dropped() {
    let Some(cluster) = take_turn() else { return };
    let image = Tag::push(&cluster.registry, "both/os");
    let both = image.record_of(&image.digest);

    cluster.apply(&machine_config("both", &both)).accepted("tag and digest are accepted");

    let stored = cluster.stored("both").unwrap();
    assert_eq!(stored["spec"]["osImageURL"], image.pinned_to(&image.digest));
    assert_eq!(annotation(&stored, "layerpin.io/pinned-from"), Some(&*both));
}

#[test]
fn what_the_operator_writes_is_left_alone() {
    let Some(cluster) = take_turn() else { return };
    let image = Tag::push(&cluster.registry, "operator/os");
    let rendered = machine_config("rendered-worker-0123456789abcdef0123456789abcdef", &image.reference());
    let rendered = rendered.without_labels();
    // With a role it differs from what a user writes in nothing but its writer.
    let generated = machine_config("99-worker-generated-registries", &image.reference());
    let before = cluster.reviews();

    for object in [&rendered, &generated] {
        cluster
            .kubectl_on(Caller::MachineConfigController, &["create"], object)
            .accepted("the operator writes a tag");
        let stored = cluster.stored(object["metadata"]["name"].as_str().unwrap()).unwrap();
        assert_eq!(stored["spec"], object["spec"]);
        assert_eq!(stored["metadata"]["annotations"], Value::Null);
    }

    assert_eq!(cluster.reviews(), before, "the operator's writes are not asked about");
    // The same change by anybody else is.
    let arguments = ["annotate", "machineconfig", "99-worker-generated-registries", "layerpin.io/repin=true"];
    cluster.kubectl(Caller::User, &arguments).accepted("a user asks for a pin");
    let stored = cluster.stored("99-worker-generated-registries").unwrap();
    assert_eq!(stored["spec"]["osImageURL"], image.pinned_to(&image.digest));
}

#[test]
fn what_does_not_touch_the_image_is_not_asked_about() {
    let Some(cluster) = take_turn() else { return };
    let image = Tag::push(&cluster.registry, "asked/os");
    let pinned = image.pinned_to(&image.digest);
    let before = cluster.reviews();
    cluster.apply(&machine_config("asked", &pinned)).accepted("a digest is accepted");
    eventually_blocking("both webhooks were asked about the image", || match cluster.reviews() - before {
        2 => Ok(()),
        count => Err(format!("{count} reviews")),
    });

    let mut no_image = machine_config("asked-without-image", "").into_json();
    cluster.apply(&no_image).accepted("an empty image is none");
    no_image["spec"] = json!({ "kernelArguments": ["quiet"] });
    cluster.apply(&no_image).accepted("no image is none");
    for arguments in [
        &["label", "machineconfig", "asked", "colour=blue"][..],
        &["annotate", "machineconfig", "asked", "layerpin.io/repin=false"],
        &["patch", "machineconfig", "asked", "--type=merge", r#"--patch={"spec":{"fips":true}}"#],
        &["patch", "machineconfig", "asked", "--type=merge", r#"--patch={"spec":{"osImageURL":""}}"#],
        &["delete", "machineconfig", "asked"],
    ] {
        cluster.kubectl(Caller::User, arguments).accepted("the image stays as it is");
    }

    // A last one that is asked about: the count is complete when it is in.
    cluster.apply(&machine_config("asked", &pinned)).accepted("a digest is accepted");
    eventually_blocking("both webhooks were asked about the image", || match cluster.reviews() - before {
        count if count >= 4 => Ok(()),
        count => Err(format!("{count} reviews")),
    });
    assert_eq!(cluster.reviews() - before, 4);
}

#[test]
fn another_pool_for_the_same_image_is_asked_about() {
    let Some(cluster) = take_turn() else { return };
    let image = Tag::push(&cluster.registry, "pool/os");
    cluster.apply(&machine_config("pool", &image.pinned_to(&image.digest))).accepted("a digest is accepted");
    let before = cluster.reviews();

    let role = "machineconfiguration.openshift.io/role=master";
    cluster
        .kubectl(Caller::User, &["label", "machineconfig", "pool", "--overwrite", role])
        .accepted("the image moves to another pool");

    eventually_blocking("both webhooks were asked", || match cluster.reviews() - before {
        2 => Ok(()),
        count => Err(format!("{count} reviews")),
    });
}

#[test]
fn a_dry_run_gets_the_same_answer_and_stores_nothing() {
    let Some(cluster) = take_turn() else { return };
    let image = Tag::push(&cluster.registry, "dry/os");
    let object = machine_config("dry", &image.reference());

    let arguments = ["apply", "--dry-run=server", "--output=json"];
    let answer = cluster.kubectl_on(Caller::User, &arguments, &object).accepted("a tag is pinned");
    let answered: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(cluster.stored("dry"), None);
    let applied = cluster.apply(&object).accepted("a tag is pinned");
    let stored = cluster.stored("dry").unwrap();
    assert_eq!(answered["spec"], stored["spec"]);
    assert_eq!(answered["metadata"]["annotations"], stored["metadata"]["annotations"]);
    assert_eq!(answer.warnings(), applied.warnings());

    let short = machine_config("dry-short", "os:4.18");
    let denials = [&["create", "--dry-run=server"][..], &["create"]]
        .map(|arguments| cluster.kubectl_on(Caller::User, arguments, &short).refused("a short name"));
    assert_eq!(denials[0], denials[1]);
    assert_eq!(cluster.stored("dry-short"), None);
}

#[test]
fn without_an_answer_ignore_stores_what_was_sent() {
    let Some(cluster) = take_turn() else { return };
    let image = Tag::push(&cluster.registry, "ignore/os");

    cluster.while_nobody_answers("Ignore", || {
        cluster.apply(&machine_config("ignore", &image.reference())).accepted("nobody is there to judge");
    });

    let stored = cluster.stored("ignore").unwrap();
    assert_eq!(stored["spec"]["osImageURL"], image.reference());
    assert_eq!(annotation(&stored, "layerpin.io/pinned-from"), None);
}

#[test]
fn without_an_answer_fail_refuses_images_and_nothing_else() {
    let Some(cluster) = take_turn() else { return };
    let image = Tag::push(&cluster.registry, "fail/os");
    let object = machine_config("fail", &image.reference());
    cluster.apply(&object).accepted("a tag is pinned");

    cluster.while_nobody_answers("Fail", || {
        let reason =
            cluster.apply(&machine_config("fail-new", &image.reference())).refused("an image is set");
        assert!(reason.contains(r#"failed calling webhook "validate.layerpin.io""#), "{reason}");
        assert_eq!(cluster.stored("fail-new"), None);

        let rendered = machine_config("rendered-worker-fedcba9876543210fedcba9876543210", &image.reference());
        cluster
            .kubectl_on(Caller::MachineConfigController, &["create"], &rendered)
            .accepted("the operator renders");
        cluster
            .kubectl(Caller::User, &["label", "machineconfig", "fail", "colour=blue"])
            .accepted("the image stays as it is");
        cluster
            .kubectl(Caller::User, &["delete", "machineconfig", "fail"])
            .accepted("an image can be taken out");
    });
}

#[test]
fn both_configurations_select_the_same_requests() {
    let Some(cluster) = take_turn() else { return };
    let configurations = cluster.manifest("webhooks.yaml");
    let [mutate, validate] = &*configurations else { panic!("{configurations:?}") };
    for field in
        ["rules", "matchPolicy", "objectSelector", "matchConditions", "sideEffects", "timeoutSeconds"]
    {
        assert_eq!(mutate["webhooks"][0][field], validate["webhooks"][0][field], "{field}");
    }
}

/// A tag in the sample registry.
struct Tag {
    repository: String,
    path: &'static str,
    /// What it names at first.
    digest: String,
}

impl Tag {
    const NAME: &'static str = "4.18";

    fn push(registry: &Registry, path: &'static str) -> Self {
        let digest = registry.push(path, Some(Self::NAME), &Image::base("9.6.1"));
        Self { repository: format!("{}/{path}", registry.host()), path, digest }
    }

    /// Moves the tag to another image, and returns its digest.
    fn move_on(&self, registry: &Registry) -> String {
        let moved = registry.push(self.path, Some(Self::NAME), &Image::base("9.6.2"));
        assert_ne!(moved, self.digest);
        moved
    }

    fn reference(&self) -> String {
        format!("{}:{}", self.repository, Self::NAME)
    }

    fn pinned_to(&self, digest: &str) -> String {
        format!("{}@{digest}", self.repository)
    }

    fn record_of(&self, digest: &str) -> String {
        format!("{}@{digest}", self.reference())
    }
}

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][key].as_str()
}
