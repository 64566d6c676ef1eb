//! Writers of MachineConfigs who never stop, and who look at every answer.
//!
//! Owns what an answer is called; which answers are right at a time is for the test to say. They speak
//! to the API server themselves: a `kubectl` for each request would be most of the work.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use layerpin_sample_registry::images::Image;
use layerpin_test_support::eventually::eventually_blocking;
use reqwest::{Client, Method, header};
use serde_json::{Value, json};

use crate::cluster::{Cluster, machine_config};
use crate::kubectl::Caller;

/// What a writer writes: an object is created, patched with the same image, and deleted, and then the
/// next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Writes {
    /// An image by its tag.
    Tag,
    /// An image by its digest.
    Digest,
    /// A name that nodes cannot pull.
    ShortName,
}

/// Stored with the digest that the tag names, and with the record of it.
pub(super) const PINNED: &str = "pinned";
/// Stored, or there still, as it was sent.
pub(super) const AS_SENT: &str = "as sent";
/// Denied by this rule.
pub(super) const MALFORMED: &str = "[malformed-reference]";
/// Denied by this rule.
pub(super) const FLOATING: &str = "[floating-tag]";
/// A webhook was to be asked, and gave no answer.
pub(super) const UNJUDGED: &str = "unjudged";
/// The API server gave no answer, or none that was about the object.
const UNSERVED: &str = "unserved";

/// Writers at work, one for each of [`Writes`]; dropping it stops them.
pub(super) struct Traffic {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    stopped: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The right answers.
    expected: BTreeMap<Writes, Vec<&'static str>>,
    /// How many objects were written from the first request to the last, with right answers alone.
    rounds: BTreeMap<Writes, u64>,
    /// What else was answered, whole.
    wrong: Vec<String>,
}

impl Traffic {
    /// Starts to write images of `name`, and waits until each writer had its first right answers.
    pub(super) fn start(cluster: &Cluster, name: &'static str) -> Self {
        layerpin::install_crypto_provider();
        let repository = format!("{}/{name}/os", cluster.registry.host());
        let digest = cluster.registry.push(&format!("{name}/os"), Some("1"), &Image::base("9.6.1"));
        let state = State {
            expected: [
                (Writes::Tag, vec![PINNED]),
                (Writes::Digest, vec![AS_SENT]),
                (Writes::ShortName, vec![MALFORMED]),
            ]
            .into(),
            ..State::default()
        };
        let shared = Arc::new(Shared { stopped: AtomicBool::new(false), state: Mutex::new(state) });
        let pinned = format!("{repository}@{digest}");
        let threads = [
            (Writes::Tag, format!("{repository}:1")),
            (Writes::Digest, pinned.clone()),
            (Writes::ShortName, "os:1".to_owned()),
        ];
        let threads = threads.map(|(writes, image)| {
            let writer = Writer {
                client: client(cluster),
                url: format!(
                    "{}/apis/machineconfiguration.openshift.io/v1/machineconfigs",
                    cluster.api_server().url()
                ),
                writes,
                name: format!("{name}-{}", format!("{writes:?}").to_lowercase()),
                record: format!("{repository}:1@{digest}"),
                pinned: pinned.clone(),
                image,
                shared: Arc::clone(&shared),
            };
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(writer.work());
            })
        });
        let traffic = Self { shared, threads: threads.into() };
        traffic.goes_on();
        traffic
    }

    /// From now on these are the right answers to `writes`. For a request under way those before are as well.
    pub(super) fn expect(&self, writes: Writes, answers: &[&'static str]) {
        self.shared.state().expected.insert(writes, answers.to_vec());
    }

    /// From now on the API server itself may be away.
    pub(super) fn expect_also_unserved(&self) {
        self.shared.state().expected.values_mut().for_each(|answers| answers.push(UNSERVED));
    }

    /// Waits until each writer has done some more from beginning to end.
    pub(super) fn goes_on(&self) {
        let before = self.shared.state().rounds.clone();
        eventually_blocking("the writers go on", || {
            let state = self.shared.state();
            let done = |writes| {
                let count = |rounds: &BTreeMap<_, _>| rounds.get(&writes).copied().unwrap_or(0);
                count(&state.rounds) >= count(&before) + 3
            };
            let all = [Writes::Tag, Writes::Digest, Writes::ShortName].into_iter().all(done);
            if all { Ok(()) } else { Err(format!("{:?} {:?}", state.rounds, state.wrong)) }
        });
    }

    /// Stops the writers, and claims that every answer was right.
    pub(super) fn was_all_right(mut self) {
        self.stop();
        let wrong = std::mem::take(&mut self.shared.state().wrong);
        assert!(wrong.is_empty(), "{} wrong answers:\n{}", wrong.len(), wrong.join("\n"));
    }

    fn stop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            if !thread::panicking() {
                ended.unwrap();
            }
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop();
        if thread::panicking() {
            eprintln!("the writers were told:\n{}", self.shared.state().wrong.join("\n"));
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer {
    client: Client,
    /// Of all MachineConfigs.
    url: String,
    writes: Writes,
    /// What the names of its objects begin with.
    name: String,
    image: String,
    pinned: String,
    record: String,
    shared: Arc<Shared>,
}

impl Writer {
    async fn work(&self) {
        for number in 0.. {
            if self.shared.stopped.load(Ordering::Relaxed) {
                return;
            }
            let is_right = self.write(&format!("{}-{number}", self.name)).await;
            if is_right {
                *self.shared.state().rounds.entry(self.writes).or_default() += 1;
            }
            // The machine has other work.
            #[expect(clippy::disallowed_methods, reason = "the pause between two writes")]
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Writes one object from beginning to end; tells whether all went right.
    async fn write(&self, name: &str) -> bool {
        let object = machine_config(name, &self.image);
        let (answer, is_right) = self.ask(Method::POST, &self.url, &object).await;
        if !matches!(&*answer, PINNED | AS_SENT) {
            return is_right;
        }
        let one = format!("{}/{name}", self.url);
        // Without the record: where a policy no longer pins, nobody takes it away.
        let patch = json!({
            "metadata": { "annotations": { "layerpin.io/pinned-from": null } },
            "spec": object["spec"],
        });
        let (_, is_patched_right) = self.ask(Method::PATCH, &one, &patch).await;
        // No name comes twice, so one that stays because a server was away is in nobody's way.
        let _ = self.client.delete(&one).send().await;
        is_right && is_patched_right
    }

    /// Sends an object or a patch: what the answer is called, and whether it is a right one.
    async fn ask(&self, method: Method, url: &str, content: &Value) -> (String, bool) {
        let expected = self.shared.state().expected[&self.writes].clone();
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = self.client.request(method.clone(), url).header(header::CONTENT_TYPE, kind);
        let (answer, whole) = match request.body(content.to_string()).send().await {
            Err(error) => (UNSERVED.to_owned(), format!("{error:?}")),
            Ok(response) => {
                let status = response.status();
                match response.text().await {
                    Err(error) => (UNSERVED.to_owned(), format!("{status} {error:?}")),
                    Ok(text) => (self.name_of(status.is_success(), &text), format!("{status} {text}")),
                }
            }
        };
        let mut state = self.shared.state();
        // What is right may have changed meanwhile, and what happened since may have cost this answer.
        let expected = [expected, state.expected[&self.writes].clone()].concat();
        let is_right = expected.contains(&&*answer);
        if !is_right {
            let expected = expected.join(" or ");
            state.wrong.push(format!("{method} {url}: expected {expected}, found {answer}: {whole}"));
        }
        drop(state);
        // One that is expected not to be served has not written anything.
        let is_served = answer != UNSERVED;
        (answer, is_right && is_served)
    }

    /// What an answer is called.
    fn name_of(&self, is_success: bool, text: &str) -> String {
        let document: Value = serde_json::from_str(text).unwrap_or_default();
        if is_success {
            let record = &document["metadata"]["annotations"]["layerpin.io/pinned-from"];
            return match document["spec"]["osImageURL"].as_str() {
                Some(image) if image == self.image && record.is_null() => AS_SENT,
                Some(image) if image == self.pinned && *record == *self.record => PINNED,
                _ => "another object",
            }
            .to_owned();
        }
        let message = document["message"].as_str().unwrap_or_default();
        if let Some((_, denial)) = message.split_once("denied the request: ") {
            return denial.split_inclusive(']').next().unwrap_or_default().to_owned();
        }
        if message.contains("failed calling webhook") { UNJUDGED } else { UNSERVED }.to_owned()
    }
}

fn client(cluster: &Cluster) -> Client {
    let authority = fs::read(cluster.api_server().authority()).unwrap();
    let token = format!("Bearer {}", Caller::User.token());
    Client::builder()
        .tls_certs_only(reqwest::Certificate::from_pem_bundle(&authority).unwrap())
        .no_proxy()
        .default_headers([(header::AUTHORIZATION, token.parse().unwrap())].into_iter().collect())
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

const PAUSE: Duration = Duration::from_millis(100);
/// For one answer. Both webhooks together may take 20 seconds.
const PATIENCE: Duration = Duration::from_secs(60);
