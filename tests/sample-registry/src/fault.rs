//! Ways in which a registry misbehaves on request.
//!
//! A [`Fault`] is what goes wrong, a [`FaultPlan`] where and how often. A
//! registry has one plan at a time; a client that a fault keeps waiting is let
//! go, by a closed connection, as soon as the plan is changed or cleared.

use std::time::Duration;

use tokio::sync::watch;

/// What goes wrong.
///
/// Unless its text says otherwise, a fault concerns the requests whose path
/// contains `/manifests/`; [`Fault::on`] names another part of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Accepts connections and never answers, on any path.
    FreezeAfterAccept,
    /// Answers `GET` with status and headers, and never sends the body; `HEAD` is answered well.
    FreezeAfterHeaders,
    /// Closes the connection in place of an answer, on any path.
    CloseAfterAccept,
    /// Answers with bytes that are not HTTP.
    GarbageResponse,
    /// Answers with this status and a JSON error.
    Status(u16),
    /// Answers with this status, a JSON error and one more header.
    StatusWithHeader(u16, String, String),
    /// Answers 401 with a challenge, whatever credentials are sent.
    UnauthorizedForEver,
    /// Answers 403, whatever credentials are sent.
    ForbiddenForEver,
    /// Answers `HEAD` with 405.
    NoHead,
    /// Leaves `Docker-Content-Digest` out of answers to `HEAD`.
    HeadWithoutDigest,
    /// Leaves `Docker-Content-Digest` out of all answers.
    NoDigestHeader,
    /// States in `Docker-Content-Digest` a digest that is not the body's.
    WrongDigest,
    /// Sends to `GET` a body of the same length that does not have the stated digest.
    WrongBody,
    /// Sends to `GET` a chunked body without end; no answer states a digest or a length.
    EndlessBody,
    /// States to `HEAD` a length of 1 TiB.
    OversizedHeadLength,
    /// Sends the body of `GET` so many bytes at a time.
    SlowBody {
        /// How many bytes are sent at once; at least one.
        bytes: usize,
        /// The pause before each piece.
        every: Duration,
    },
    /// Redirects (307) to the same path, for ever.
    RedirectLoop,
    /// Redirects (307) to the same path below another base, such as `http://127.0.0.1:1`.
    RedirectTo(String),
    /// Answers with a manifest of version 2 schema 1, of a deprecated media type.
    Schema1,
    /// Answers correctly after this time, on any path.
    Latency(Duration),
}

impl Fault {
    /// Plans the fault for requests whose path contains `path_part`; empty means all.
    pub fn on(self, path_part: &str) -> FaultPlan {
        FaultPlan { path_part: path_part.to_owned(), ..FaultPlan::from(self) }
    }

    /// Plans the fault for the next `count` requests it concerns; later ones are served well.
    pub fn times(self, count: usize) -> FaultPlan {
        FaultPlan::from(self).times(count)
    }

    fn usual_path_part(&self) -> &'static str {
        match self {
            Self::FreezeAfterAccept | Self::CloseAfterAccept | Self::Latency(_) => ANY_PATH,
            _ => "/manifests/",
        }
    }
}

/// A fault with the requests it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultPlan {
    fault: Fault,
    path_part: String,
    left: Option<usize>,
}

impl FaultPlan {
    /// Limits the plan to the next `count` requests it concerns.
    ///
    /// A connection that a fault ends before its first request counts as one.
    pub fn times(mut self, count: usize) -> Self {
        self.left = Some(count);
        self
    }
}

impl From<Fault> for FaultPlan {
    fn from(fault: Fault) -> Self {
        Self { path_part: fault.usual_path_part().to_owned(), fault, left: None }
    }
}

/// The place where a plan is set by a test and met by requests.
#[derive(Debug)]
pub(crate) struct FaultSwitch {
    plan: watch::Sender<Option<FaultPlan>>,
}

impl FaultSwitch {
    pub(crate) fn new() -> Self {
        Self { plan: watch::Sender::new(None) }
    }

    /// Sets a plan in place of the one before, and lets go whom that one keeps waiting.
    pub(crate) fn set(&self, plan: Option<FaultPlan>) {
        self.plan.send_replace(plan);
    }

    /// Returns the fault that a request for `path` meets, and counts it.
    pub(crate) fn meet(&self, path: &str) -> Option<MetFault> {
        self.meet_if(|plan| path.contains(&plan.path_part))
    }

    /// Returns the fault that a new connection meets, and counts it.
    pub(crate) fn meet_connection(&self) -> Option<MetFault> {
        self.meet_if(|plan| {
            plan.path_part == ANY_PATH
                && matches!(plan.fault, Fault::FreezeAfterAccept | Fault::CloseAfterAccept)
        })
    }

    fn meet_if(&self, concerns: impl FnOnce(&FaultPlan) -> bool) -> Option<MetFault> {
        // Subscribed before the plan is read: no change after the reading is missed.
        let changes = self.plan.subscribe();
        let mut met = None;
        self.plan.send_if_modified(|plan| {
            if let Some(plan) = plan
                && plan.left != Some(0)
                && concerns(plan)
            {
                plan.left = plan.left.map(|left| left - 1);
                met = Some(plan.fault.clone());
            }
            // Counting is no change: it lets nobody go.
            false
        });
        met.map(|fault| MetFault { fault, release: Release { changes } })
    }
}

/// A fault that a request has met.
pub(crate) struct MetFault {
    pub(crate) fault: Fault,
    pub(crate) release: Release,
}

/// The moment from which a fault no longer keeps a client waiting.
pub(crate) struct Release {
    changes: watch::Receiver<Option<FaultPlan>>,
}

impl Release {
    /// Waits until the plan is changed or cleared.
    pub(crate) async fn released(mut self) {
        // The sender goes only with the registry, which ends this task as well.
        let _ = self.changes.changed().await;
    }
}

const ANY_PATH: &str = "";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_concerns_the_paths_it_names() {
        let switch = FaultSwitch::new();
        let table = [
            (Fault::Status(500).into(), "/v2/os/manifests/1", true),
            (Fault::Status(500).into(), "/v2/os/blobs/1", false),
            (Fault::Status(500).on("/blobs/"), "/v2/os/blobs/1", true),
            (Fault::Status(500).on(""), "/v2/", true),
            (Fault::FreezeAfterAccept.into(), "/v2/", true),
        ];
        for (plan, path, expected) in table {
            switch.set(Some(FaultPlan::clone(&plan)));
            assert_eq!(switch.meet(path).is_some(), expected, "{plan:?} {path}");
        }
        switch.set(None);
        assert!(switch.meet("/v2/os/manifests/1").is_none());
    }

    #[test]
    fn a_limited_plan_runs_out() {
        let switch = FaultSwitch::new();
        switch.set(Some(Fault::Status(503).times(2)));
        let met = [1, 2, 3].map(|_| switch.meet("/v2/os/manifests/1").is_some());
        assert_eq!(met, [true, true, false]);
    }
}
