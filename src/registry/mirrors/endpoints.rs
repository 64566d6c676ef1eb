//! The endpoints of a reference, asked one after another as nodes do.
//!
//! Owns who is asked, how much of a caller's time a mirror may take, and what several answers come to.
//! A mirror that has no such image, refuses or fails leaves the question to the next endpoint. What
//! nobody answered is told endpoint by endpoint.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use crate::model::facts::{Attempt, Cause, Fact};
use crate::model::pull_spec::PullSpec;
use crate::registry::RegistryClient;
use crate::registry::auth::credential::Credential;
use crate::registry::http::Trust;
use crate::registry::mirrors::route::{Endpoint, Role, Route};

/// An endpoint, and what is shown to it.
#[derive(Clone, Debug)]
pub(crate) struct ResolvedEndpoint {
    /// The reference as the endpoint has it.
    pub(crate) reference: PullSpec,
    pub(crate) trust: Trust,
    pub(crate) credential: Option<Credential>,
    /// What the endpoint is called in an answer: its host; its repository where it is a mirror on the
    /// very host that the user wrote.
    pub(crate) name: String,
}

/// A question on its way from endpoint to endpoint.
pub(crate) struct Endpoints {
    client: Arc<RegistryClient>,
    endpoints: std::vec::IntoIter<Endpoint>,
    blocked: Option<String>,
    /// The registry that the user wrote.
    host: String,
    deadline: Instant,
    attempts: Vec<Attempt>,
    asked: String,
}

impl RegistryClient {
    /// The way of a question about `reference` that is to be answered by `deadline`.
    pub(crate) fn tour(self: &Arc<Self>, reference: &PullSpec, deadline: Instant) -> Endpoints {
        let Route { endpoints, blocked } = self.registries.current().route(reference);
        Endpoints {
            client: Arc::clone(self),
            endpoints: endpoints.into_iter(),
            blocked,
            host: reference.api_host().to_owned(),
            deadline,
            attempts: Vec::new(),
            asked: String::new(),
        }
    }
}

impl Endpoints {
    /// The next to ask, and by when. An endpoint whose credentials cannot be had is noted and passed by.
    pub(crate) async fn next(&mut self) -> Option<(ResolvedEndpoint, Instant)> {
        loop {
            let endpoint = self.endpoints.next()?;
            let by = self.patience();
            let host = endpoint.reference.api_host().to_owned();
            let is_beside = endpoint.role == Role::Mirror && host == self.host;
            let name = if is_beside { endpoint.reference.repository().to_owned() } else { host };
            self.asked.clone_from(&name);
            let found = timeout_at(by, self.client.credentials.find(&endpoint.reference)).await;
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

    /// By when the next endpoint must have answered, the one that was taken just now.
    ///
    /// Whoever is not the last gets half of the time that is left: a frozen mirror must not cost the
    /// source its chance. Nodes would wait longer, but nobody waits for them.
    fn patience(&self) -> Instant {
        if self.endpoints.len() == 0 {
            return self.deadline;
        }
        let now = Instant::now();
        now + self.deadline.saturating_duration_since(now) / 2
    }

    /// The answer, when it is one; otherwise it is noted and the next endpoint's turn.
    pub(crate) fn note<T>(&mut self, answer: Fact<T>) -> Option<T> {
        let cause = match answer {
            Fact::Known(known) => return Some(known),
            Fact::Absent => None,
            Fact::Unknown(cause) => Some(cause),
        };
        self.attempts.push(Attempt { endpoint: std::mem::take(&mut self.asked), cause });
        None
    }

    /// What it comes to that nobody answered.
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
    use crate::registry::auth::keychain::Keychain;

    fn tour(names: &[&str], blocked: Option<&str>) -> Endpoints {
        crate::install_crypto_provider();
        let endpoint = |name: &&str| Endpoint {
            reference: PullSpec::parse(&format!("{name}/os:1")).unwrap(),
            trust: Trust::Verified,
            role: Role::Mirror,
        };
        Endpoints {
            client: RegistryClient::new(Keychain::none(), Arc::default()).unwrap(),
            endpoints: names.iter().map(endpoint).collect::<Vec<_>>().into_iter(),
            blocked: blocked.map(str::to_owned),
            host: "written.example".into(),
            deadline: Instant::now() + Duration::from_secs(8),
            attempts: Vec::new(),
            asked: String::new(),
        }
    }

    async fn outcome(answers: &[(&str, Fact<u8>)], blocked: Option<&str>) -> Fact<u8> {
        let names: Vec<_> = answers.iter().map(|(name, _)| *name).collect();
        let mut tour = tour(&names, blocked);
        for (_, answer) in answers {
            tour.next().await.unwrap();
            if let Some(known) = tour.note(answer.clone()) {
                return Fact::Known(known);
            }
        }
        assert!(tour.next().await.is_none());
        tour.end()
    }

    #[tokio::test]
    async fn what_several_endpoints_say_comes_to_one_answer() {
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
        let mut tour = tour(&["m.x", "n.x", "s.x"], None);
        let mut seconds = Vec::new();
        while let Some((_, by)) = tour.next().await {
            let given = by.duration_since(Instant::now());
            seconds.push(given.as_secs());
            tokio::time::advance(given).await;
        }
        assert_eq!(seconds, [4, 2, 2]);
    }
}
