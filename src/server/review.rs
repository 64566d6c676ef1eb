//! The steps that `/mutate`, `/validate` and `/dry-run` share: accept the request, decode and decide, count and
//! log.
//!
//! Owns the log line and the metrics of a review. A request that is rejected is a warning in the log and is
//! counted by the reason.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use crate::admission::ReviewHead;
use crate::metrics::ReviewLabels;
use crate::model::digest::Digest;
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::{Field, Subject};
use crate::server::{ServerState, dry_run, request, webhook};
use crate::text::shown;

/// The endpoints that review objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReviewEndpoint {
    Mutate,
    Validate,
    DryRun,
}

impl ReviewEndpoint {
    pub(super) const ALL: [Self; 3] = [Self::Mutate, Self::Validate, Self::DryRun];

    /// Its path without the slash, also in the log and in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mutate => "mutate",
            Self::Validate => "validate",
            Self::DryRun => "dry-run",
        }
    }
}

/// A review with its decision.
pub(super) struct Decided {
    pub(super) head: ReviewHead,
    pub(super) outcome: Outcome,
    pub(super) response: Response,
}

/// What the log says of a decision.
pub(super) struct Outcome {
    pub(super) image: ReviewedImage,
    pub(super) verdict: &'static str,
    /// The rules with findings, separated by commas.
    pub(super) rules: String,
    pub(super) note: String,
}

/// The image of a review as the log shows it. Both are empty for an object that is not checked.
#[derive(Default)]
pub(super) struct ReviewedImage {
    as_written: String,
    digest: String,
}

impl ReviewedImage {
    /// The operating system image of `subject`, or else its extensions image. The digest is the one that
    /// `resolved` has for it, or else the one in the reference.
    pub(super) fn of<'a>(
        subject: &'a Subject,
        resolved: impl FnOnce(Field, &'a ImageReference) -> Option<&'a Digest>,
    ) -> Self {
        let object = &subject.object;
        let image = Field::ALL.into_iter().find_map(|field| Some((field, object.image(field)?)));
        let Some((field, image)) = image else { return Self::default() };
        let reference = object.reference(field);
        let digest = reference.and_then(|reference| resolved(field, reference).or(reference.digest()));
        let as_written = match &image.reference {
            Ok(_) => shown(&image.text),
            Err(_) => without_credentials(&image.text),
        };
        Self { as_written, digest: digest.map(|digest| digest.as_str().to_owned()).unwrap_or_default() }
    }
}

/// A text that is not a valid reference, without what a URL has before the `@`.
fn without_credentials(text: &str) -> String {
    let (name, digest) = text.rfind("@sha").map_or((text, ""), |at| text.split_at(at));
    match name.rsplit_once('@') {
        Some((_, rest)) => shown(&format!("…@{rest}{digest}")),
        None => shown(text),
    }
}

/// Answers a POST to `endpoint`.
pub(super) async fn answer(
    state: &ServerState,
    endpoint: ReviewEndpoint,
    request: Request<Body>,
) -> Response {
    let begun = Instant::now();
    let decided = match request::accept(state, request).await {
        Ok(request) if endpoint == ReviewEndpoint::DryRun => dry_run::dry_run(state, &request).await,
        Ok(request) => webhook::review(state, endpoint, &request).await,
        Err(rejection) => Err(rejection),
    };
    let took = begun.elapsed();
    let (operation, verdict, dry_run) = match &decided {
        Ok(Decided { head, outcome, .. }) => (head.operation.as_str(), outcome.verdict, head.dry_run),
        Err(rejection) => ("", rejection.label(), endpoint == ReviewEndpoint::DryRun),
    };
    let mut labels = ReviewLabels::new(endpoint.name(), operation, verdict);
    labels.dry_run = dry_run;
    state.parts.metrics.review(labels, took);
    match decided {
        Ok(decided) => {
            log(endpoint, &decided, took);
            decided.response
        }
        Err(rejection) => {
            tracing::warn!(endpoint = endpoint.name(), reason = rejection.message, "request refused");
            rejection.into_response()
        }
    }
}

/// Writes the log line, in which whatever comes from the request is cleaned of control characters.
fn log(endpoint: ReviewEndpoint, decided: &Decided, took: Duration) {
    let Decided { head, outcome: Outcome { image, verdict, rules, note }, response: _ } = decided;
    tracing::info!(
        endpoint = endpoint.name(),
        uid = shown(&head.uid),
        name = shown(&head.name),
        operation = shown(&head.operation),
        user = shown(&head.user),
        dryRun = head.dry_run,
        image = image.as_written,
        digest = image.digest,
        verdict,
        rules,
        note,
        milliseconds = took.as_secs_f64() * 1000.0,
        "review"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogFormat;
    use crate::model::facts::Facts;
    use crate::policy::Policy;

    fn image(text: &str) -> (String, String) {
        let object = format!(
            "{{\"apiVersion\": \"machineconfiguration.openshift.io/v1\", \"kind\": \"MachineConfig\", \
             \"metadata\": {{\"name\": \"a\"}}, \"spec\": {{\"osImageURL\": \"{text}\"}}}}"
        );
        let subject = crate::manifests::read_one(&object).unwrap();
        let plan =
            crate::pin::plan(&subject, &Facts::none(jiff::Timestamp::UNIX_EPOCH), &Policy::recommended());
        let ReviewedImage { as_written, digest } =
            ReviewedImage::of(&subject, |field, _| plan.pinned(field)?.digest());
        (as_written, digest)
    }

    #[test]
    fn the_line_of_a_review_has_all_fields_as_text_too() {
        let head = ReviewHead {
            uid: "u-1".into(),
            operation: "CREATE".into(),
            name: "99-worker-os".into(),
            user: "al\u{1b}ice".into(),
            dry_run: true,
        };
        let image = ReviewedImage { as_written: "quay.io/acme/os:1".into(), digest: "sha256:5".into() };
        let (verdict, rules, note) = ("warn", "floating-tag".into(), "patched".into());
        let outcome = Outcome { image, verdict, rules, note };
        let decided = Decided { head, outcome, response: Response::default() };
        let text = crate::log::tests::logged(LogFormat::Text, || {
            log(ReviewEndpoint::Mutate, &decided, Duration::from_micros(1250));
        });
        let expected = r#"review endpoint="mutate" uid="u-1" name="99-worker-os" operation="CREATE" user="al\\u{1b}ice" dryRun=true image="quay.io/acme/os:1" digest="sha256:5" verdict="warn" rules="floating-tag" note="patched" milliseconds=1.25"#;
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn an_image_is_shown_as_written_but_without_credentials() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let pinned = format!("quay.io/acme/os@{digest}");
        for (text, shown, expected) in [
            ("quay.io/acme/os:1", "quay.io/acme/os:1", ""),
            (&pinned, &pinned, &digest),
            ("https://robot:hunter@2@quay.io/acme/os:1", "…@quay.io/acme/os:1", ""),
            ("robot:hunter2@quay.io/os@sha256:5", "…@quay.io/os@sha256:5", ""),
            ("quay.io/os@sha256:5", "quay.io/os@sha256:5", ""),
            ("", "", ""),
        ] {
            assert_eq!(image(text), (shown.to_owned(), expected.to_owned()), "{text}");
        }
    }
}
