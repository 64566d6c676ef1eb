//! What a verb judges with: the policy, the engine, and the runtime that both live in.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::cli::args::FactArgs;
use crate::cli::connect;
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::model::facts::Facts;
use crate::policy::Policy;
use crate::sources::Sources;

/// The policy and the sources of a run over many objects.
pub(crate) struct Session {
    pub(crate) policy: Arc<Policy>,
    sources: Sources,
    timeout: Duration,
}

impl Session {
    /// Reads what the options name. Nothing is asked yet.
    pub(crate) fn open(options: &FactArgs) -> anyhow::Result<Self> {
        let policy = connect::policy(options)?.current();
        let sources = connect::connect(options, &Arc::new(Metrics::new()))?;
        Ok(Self { policy, sources, timeout: options.timeout })
    }

    /// The same with a policy that pins, whatever the policy says.
    pub(crate) fn pinning(self) -> Self {
        Self { policy: Arc::new(Arc::unwrap_or_clone(self.policy).pinning()), ..self }
    }

    /// By when everything about one object must be answered that is asked for from now on.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Does `work` with an engine that has read the cluster, and gives its result with everything that was
    /// asked and answered.
    pub(crate) fn run<T>(&self, work: impl AsyncFnOnce(&Engine) -> T) -> anyhow::Result<(T, Facts)> {
        block_on(async {
            let engine = Engine::for_run(self.sources.clone(), self.deadline()).await;
            let result = work(&engine).await;
            (result, engine.into_facts())
        })
    }
}

/// Does `work` on a runtime of its own.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = Runtime::new().context("cannot start the runtime")?;
    let result = runtime.block_on(work);
    // An exec plug-in of the kubeconfig may hang for ever, and is not waited for.
    runtime.shutdown_background();
    Ok(result)
}
