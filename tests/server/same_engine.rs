//! One engine behind every door: the table of cases of the rules through `check`, `/validate` and
//! `/dry-run`.

use layerpin::engine::Engine;
use layerpin::model::facts::Facts;
use layerpin::policy::{Level, Policy};
use layerpin::policy_store::PolicyStore;
use layerpin::sources::Sources;
use layerpin_test_support::documents::create;
use layerpin_test_support::program::Setup;
use serde_json::{Value, json};

use crate::cases::{Case, all};
use crate::embedded::Embedded;

/// What a door says of an object: its verdict, and each finding with its level.
#[derive(Debug, PartialEq)]
struct Said {
    verdict: String,
    findings: Vec<String>,
}

#[tokio::test]
async fn check_validate_and_dry_run_say_the_same_of_every_case() {
    let mut judged = 0;
    for (file, cases) in all() {
        for case in cases {
            // `check` has no stored object to compare with, and takes `{{` in a file for a template.
            if case.stored.is_some() || case.object.to_string().contains("{{") {
                continue;
            }
            let name = format!("{file}: {}", case.name);
            say_the_same(&name, &case).await;
            judged += 1;
        }
    }
    assert!(judged > 50, "{judged}");
}

async fn say_the_same(name: &str, case: &Case) {
    let facts = serde_json::to_string(&case.facts()).unwrap();
    let mut spec = case.policy.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
    // What /mutate would change is judged unchanged by all three.
    spec.insert("pin".into(), json!(false));
    let policy = json!({
        "apiVersion": "layerpin.io/v1alpha1", "kind": "OSImagePolicy", "metadata": {"name": "case"}, "spec": spec,
    })
    .to_string();
    let object = &case.object;

    let setup = Setup::verb("check");
    setup.write("object.json", &object.to_string());
    setup.write("facts.json", &facts);
    setup.write("policy.json", &policy);
    let options = ["--format", "json", "--facts", "facts.json", "--policy", "policy.json", "object.json"];
    let (status, output, error) = setup.arguments(options).ended();
    let report: Value = serde_json::from_str(&output).unwrap_or_else(|_| panic!("{name}: {error}"));
    let checked = of_report(&report);
    // Not its warnings: what the facts of the case leave out is unknown here, and one thing that is not
    // known is told once.
    for denial in denials(case) {
        assert!(checked.findings.contains(&denial), "{name}: no {denial} in {checked:?}");
    }
    assert_eq!(status, i32::from(checked.verdict == "deny"), "{name}: {error}");

    let engine = Engine::new(Sources::recorded(Facts::parse(&facts).unwrap().into()));
    let store = setup_policy(&policy);
    let server = Embedded::of(engine, store).await;
    let validated = of_review(&server.webhooks.review("/validate", &create(object)).await);
    let rehearsed = of_report(&server.webhooks.post("/dry-run", object.to_string()).await.json());
    assert_eq!(rehearsed, checked, "{name}: /dry-run and check");
    if case.subject().object.names_an_image() {
        assert_eq!(validated, checked, "{name}: /validate and check");
    } else {
        // The webhook lets it pass untouched; there is nothing in it to judge.
        let nothing = |verdict: &str| Said { verdict: verdict.to_owned(), findings: Vec::new() };
        assert_eq!((validated, checked), (nothing("untouched"), nothing("pass")), "{name}");
    }
}

fn setup_policy(text: &str) -> PolicyStore {
    Policy::parse(text).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    PolicyStore::from_file(file.path()).unwrap()
}

/// The denials that the case expects.
fn denials(case: &Case) -> impl Iterator<Item = String> {
    let denials = case.expect.findings.iter().filter(|found| found.level == Level::Deny);
    denials.map(|found| format!("{}=deny", found.rule))
}

fn of_report(report: &Value) -> Said {
    let object = &report["objects"][0];
    let findings = object["findings"].as_array().unwrap_or_else(|| panic!("{report}")).iter();
    Said {
        verdict: object["verdict"].as_str().unwrap_or_else(|| panic!("{report}")).to_owned(),
        findings: findings
            .map(|finding| {
                format!("{}={}", finding["rule"].as_str().unwrap(), finding["level"].as_str().unwrap())
            })
            .collect(),
    }
}

fn of_review(review: &Value) -> Said {
    let audit = &review["response"]["auditAnnotations"];
    let findings = audit["findings"].as_str().unwrap_or_default();
    Said {
        verdict: audit["verdict"].as_str().unwrap_or("untouched").to_owned(),
        findings: findings.split(',').filter(|finding| !finding.is_empty()).map(str::to_owned).collect(),
    }
}
