//! The endpoints of a reference, tried one after another as nodes do.
//!
//! Owns which endpoint is next, how much of the caller's time a mirror gets, and what several answers amount to.
//! A mirror that does not have the image, refuses or fails passes the request on to the next endpoint. When
//! no endpoint has an answer, the result names each of them with its reason.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use crate::model::facts::{Attempt, Cause, Fact};
use crate::model::pull_spec::PullSpec;
use crate::registry::RegistryClient;
use crate::registry::auth::credential::Credential;
use crate::registry::auth::keychain::Keychain;
use crate::registry::http::Trust;
use crate::registry::mirrors::route::{Endpoint, Role, Route};
use crate::registry::repository_client::RepositoryClient;
use crate::registry::waiting::Pauses;

impl RegistryClient {
    /// The answer of the first endpoint that has one to `ask`, which gets the time by which it must answer.
    pub(crate) async fn ask<T, F: Future<Output = Fact<T>>>(
        self: &Arc<Self>,
        reference: &PullSpec,
        deadline: Instant,
        ask: impl Fn(RepositoryClient, Instant) -> F,
    ) -> Fact<T> {
        let mut pauses = Pauses::until(deadline);
        loop {
            let mut endpoints = self.endpoints(reference, deadline);
            let answer = loop {
                let Some((endpoint, by)) = endpoints.next().await else { break endpoints.end() };
                let repository = RepositoryClient { client: Arc::clone(self), endpoint };
                if let Some(known) = endpoints.note(ask(repository, by).await) {
                    return Fact::Known(known);
                }
            };
            if !pauses.wait(answer.cause()).await {
                return answer;
            }
        }
    }

    /// The endpoints of `reference`, for an answer by `deadline`.
    pub(crate) fn endpoints(&self, reference: &PullSpec, deadline: Instant) -> Endpoints<'_> {
        let route = self.registries.current().route(reference);
        Endpoints::new(&self.credentials, route, reference, deadline)
    }
}

/// An endpoint with the credential for it.
#[derive(Clone, Debug)]
pub(crate) struct ResolvedEndpoint {
    /// The reference as the endpoint has it.
    pub(crate) reference: PullSpec,
    pub(crate) trust: Trust,
    pub(crate) credential: Option<Credential>,
    /// What the endpoint is called in an answer: its host, or its repository if it is a mirror on the same
    /// host as the source.
    pub(crate) name: String,
}

/// The endpoints that remain, and what the earlier ones answered.
pub(crate) struct Endpoints<'a> {
    keychain: &'a Keychain,
    remaining: std::vec::IntoIter<Endpoint>,
    blocked: Option<String>,
    /// The registry in the reference as the user wrote it.
    host: String,
    deadline: Instant,
    attempts: Vec<Attempt>,
    /// The name of the endpoint returned last.
    current: String,
}

impl<'a> Endpoints<'a> {
    /// The endpoints of `route`, which is that of `reference`, for an answer by `deadline`.
    pub(crate) fn new(keychain: &'a Keychain, route: Route, reference: &PullSpec, deadline: Instant) -> Self {
        Self {
            keychain,
            remaining: route.endpoints.into_iter(),
            blocked: route.blocked,
            host: reference.api_host().to_owned(),
            deadline,
            attempts: Vec::new(),
            current: String::new(),
        }
    }

    /// The next endpoint, and by when it must answer. Skips an endpoint whose credentials cannot be read,
    /// and notes it.
    pub(crate) async fn next(&mut self) -> Option<(ResolvedEndpoint, Instant)> {
        loop {
            let endpoint = self.remaining.next()?;
            let by = self.endpoint_deadline();
            let host = endpoint.reference.api_host().to_owned();
            let is_beside = endpoint.role == Role::Mirror && host == self.host;
            let name = if is_beside { endpoint.reference.repository().to_owned() } else { host };
            self.current.clone_from(&name);
            let found = timeout_at(by, self.keychain.find(&endpoint.reference)).await;
            let reason = match found {
                Ok(Ok(credential)) => {
                    let Endpoint { reference, trust, .. } = endpoint;
                    return Some((ResolvedEndpoint { reference, trust, credential, name }, by));
                }
                Ok(Err(reason)) => reason,
                Err(_) => "the credential helper did not answer in time".to_owned(),
            };
            self.note::<()>(Fact::Unknown(Cause::NoCredential { host: name, reason }));
        }
    }

    /// By when the endpoint that was taken just now must answer.
    ///
    /// All but the last get half of the time that is left, so that a mirror that hangs leaves time for the
    /// source. Nodes wait longer, but no API server waits for them.
    fn endpoint_deadline(&self) -> Instant {
        if self.remaining.len() == 0 {
            return self.deadline;
        }
        let now = Instant::now();
        now + self.deadline.saturating_duration_since(now) / 2
    }

    /// Returns a known answer, and notes any other for [`Self::end`].
    pub(crate) fn note<T>(&mut self, answer: Fact<T>) -> Option<T> {
        let cause = match answer {
            Fact::Known(known) => return Some(known),
            Fact::Absent => None,
            Fact::Unknown(cause) => Some(cause),
        };
        self.attempts.push(Attempt { endpoint: std::mem::take(&mut self.current), cause });
        None
    }

    /// The result when no endpoint has an answer.
    pub(crate) fn end<T>(self) -> Fact<T> {
        let mut attempts = self.attempts;
        match (self.blocked, attempts.len()) {
            (Some(scope), 0) => return Fact::Unknown(Cause::Blocked { scope }),
            (Some(scope), _) => {
                attempts.push(Attempt { endpoint: scope.clone(), cause: Some(Cause::Blocked { scope }) });
            }
            (None, 1) => {
                return attempts.pop().and_then(|attempt| attempt.cause).map_or(Fact::Absent, Fact::Unknown);
            }
            (None, _) if attempts.iter().all(|attempt| attempt.cause.is_none()) => return Fact::Absent,
            (None, _) => {}
        }
        Fact::Unknown(Cause::Unanswered { attempts })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn endpoints<'a>(keychain: &'a Keychain, names: &[&str], blocked: Option<&str>) -> Endpoints<'a> {
        let endpoint = |name: &&str| Endpoint {
            reference: PullSpec::parse(&format!("{name}/os:1")).unwrap(),
            trust: Trust::Verified,
            role: Role::Mirror,
        };
        let route =
            Route { endpoints: names.iter().map(endpoint).collect(), blocked: blocked.map(str::to_owned) };
        let reference = PullSpec::parse("written.example/os:1").unwrap();
        Endpoints::new(keychain, route, &reference, Instant::now() + Duration::from_secs(8))
    }

    async fn outcome(answers: &[(&str, Fact<u8>)], blocked: Option<&str>) -> Fact<u8> {
        let names: Vec<_> = answers.iter().map(|(name, _)| *name).collect();
        let keychain = Keychain::none();
        let mut endpoints = endpoints(&keychain, &names, blocked);
        for (_, answer) in answers {
            endpoints.next().await.unwrap();
            if let Some(known) = endpoints.note(answer.clone()) {
                return Fact::Known(known);
            }
        }
        assert!(endpoints.next().await.is_none());
        endpoints.end()
    }

    #[tokio::test]
    async fn the_answers_of_several_endpoints_give_one_result() {
        let down = || Cause::OutOfTime { host: "m.x".into() };
        let attempt = |endpoint: &str, cause| Attempt { endpoint: endpoint.into(), cause };
        let blocked = || Cause::Blocked { scope: "s.x".into() };
        for (answers, scope, expected) in [
            (vec![("s.x", Fact::Known(1))], None, Fact::Known(1)),
            (vec![("m.x", Fact::Absent), ("s.x", Fact::Known(1))], None, Fact::Known(1)),
            (vec![("m.x", Fact::Unknown(down())), ("n.x", Fact::Known(2))], Some("s.x"), Fact::Known(2)),
            (vec![("s.x", Fact::Absent)], None, Fact::Absent),
            (vec![("s.x", Fact::Unknown(down()))], None, Fact::Unknown(down())),
            (vec![("m.x", Fact::Absent), ("s.x", Fact::Absent)], None, Fact::Absent),
            (vec![], Some("s.x"), Fact::Unknown(blocked())),
            (
                vec![("m.x", Fact::Unknown(down())), ("s.x", Fact::Absent)],
                None,
                Fact::Unknown(Cause::Unanswered {
                    attempts: vec![attempt("m.x", Some(down())), attempt("s.x", None)],
                }),
            ),
            (
                vec![("m.x", Fact::Absent)],
                Some("s.x"),
                Fact::Unknown(Cause::Unanswered {
                    attempts: vec![attempt("m.x", None), attempt("s.x", Some(blocked()))],
                }),
            ),
        ] {
            assert_eq!(outcome(&answers, scope).await, expected, "{answers:?} {scope:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_mirror_gets_half_of_the_time_and_the_last_endpoint_the_rest() {
        let keychain = Keychain::none();
        let mut endpoints = endpoints(&keychain, &["m.x", "n.x", "s.x"], None);
        let mut seconds = Vec::new();
        while let Some((_, by)) = endpoints.next().await {
            let given = by.duration_since(Instant::now());
            seconds.push(given.as_secs());
            tokio::time::advance(given).await;
        }
        assert_eq!(seconds, [4, 2, 2]);
    }
}
