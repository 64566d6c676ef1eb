//! Life under change: certificates, policies, replicas, the API server, etcd and the registry change or
//! go away while MachineConfigs are written all the time.
//!
//! [`traffic`] writes them and holds every answer against what is right at the time, [`balancer`] stands
//! in for the Service of several replicas.

mod balancer;
mod traffic;

use std::time::{Duration, Instant};

use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Authority, Fault};
use layerpin_test_support::documents;
use layerpin_test_support::eventually::eventually_blocking;
use layerpin_test_support::mount::swap_data;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cluster::{Turn, machine_config, take_turn_of_change};
use crate::kubectl::Caller;
use crate::rights::Account;
use crate::servers::Layerpin;
use crate::webhooks::Webhooks;
use balancer::Balancer;
use traffic::{AS_SENT, FLOATING, MALFORMED, PINNED, Traffic, UNJUDGED, Writes};

#[test]
fn certificate_and_authority_are_swapped_twice_and_no_review_is_lost() {
    let Some(turn) = take_turn_of_change() else { return };
    let mut authority = Authority::named("first");
    let layerpin = Mounted::new(&turn, "swapped", &authority, RECOMMENDED).start(&[]);
    let put_in_force = |bundle: &str| turn.put_in_force([Webhooks::at(&layerpin.url, bundle).under("Fail")]);
    put_in_force(&authority.ca_pem());
    let traffic = Traffic::start(&turn, "swapped");
    for name in ["second", "third"] {
        let next = Authority::named(name);
        put_in_force(&(authority.ca_pem() + &next.ca_pem()));
        traffic.goes_on();
        Mounted::swap_certificate(&turn, "swapped", name, &next);
        eventually_blocking("the new certificate is shown", || {
            let answer = turn.fetch_trusting(&layerpin, "/healthz", &next);
            if answer.succeeded { Ok(()) } else { Err(answer.stderr) }
        });
        traffic.goes_on();
        put_in_force(&next.ca_pem());
        traffic.goes_on();
        authority = next;
    }
    traffic.was_all_right();
    let log = layerpin.log();
    assert_eq!(log.matches("serving certificate changed").count(), 2, "{log}");
}

#[test]
fn a_policy_is_changed_broken_and_repaired_and_every_answer_follows_a_valid_one() {
    let Some(turn) = take_turn_of_change() else { return };
    let authority = Authority::new();
    let layerpin = Mounted::new(&turn, "policy", &authority, RECOMMENDED).start(&[]);
    turn.put_in_force([Webhooks::at(&layerpin.url, &authority.ca_pem()).under("Fail")]);
    let ready = |path: &str| turn.fetch_trusting(&layerpin, path, &authority);
    // A fault that lasts is counted once a minute.
    let is_counted_since = |begun: Instant| {
        let metrics = ready("/metrics").accepted("reading the metrics").stdout;
        let count =
            metrics.lines().find_map(|line| line.strip_prefix("layerpin_policy_reload_failures_total "));
        let (count, most) = (count.unwrap().parse::<u64>().unwrap(), 1 + begun.elapsed().as_secs() / 60);
        assert!((1..=most).contains(&count), "counted {count} times, which is not among 1 to {most}");
    };
    let traffic = Traffic::start(&turn, "policy");

    traffic.expect(Writes::Tag, &[PINNED, AS_SENT]);
    Mounted::swap_policy(&turn, "policy", "changed", &policy("pin: false\n  rules: {floating-tag: warn}"));
    says(&layerpin, "policy changed", 1);
    traffic.expect(Writes::Tag, &[AS_SENT]);
    traffic.goes_on();
    assert!(ready("/readyz").succeeded);

    let broken = Instant::now();
    Mounted::swap_policy(&turn, "policy", "broken", &policy("rules: {floating-tags: deny}"));
    says(&layerpin, "policy reload failed; still using the previous policy", 1);
    traffic.goes_on();
    is_counted_since(broken);
    let (status, told) = asked(&layerpin, "/readyz", &authority);
    assert_eq!(status, 503);
    let expected = "[-]policy failed: policy-policy/policy.yaml:5: unknown rule `floating-tags`";
    assert!(told.contains(expected), "{told}");
    // What the deployment asks: a broken policy must not take both pods away.
    ready("/readyz?exclude=policy").accepted("the server is ready");

    // A write is two reviews. When the policy changes between them, /mutate leaves the tag, as the policy
    // before said, and /validate denies it, as the policy from now on says.
    traffic.expect(Writes::Tag, &[AS_SENT, PINNED, FLOATING]);
    Mounted::swap_policy(&turn, "policy", "fixed", RECOMMENDED);
    says(&layerpin, "policy changed", 2);
    traffic.expect(Writes::Tag, &[PINNED]);
    traffic.goes_on();
    ready("/readyz").accepted("the policy is fixed");
    is_counted_since(broken);
    traffic.was_all_right();
}

#[test]
fn replicas_are_rolled_one_after_the_other_and_no_review_is_lost() {
    let Some(turn) = take_turn_of_change() else { return };
    let authority = Authority::new();
    let start = |name: &str| Layerpin::start(name, turn.folder(), &authority);
    let (mut replicas, balancer) = ([start("rolled-0"), start("rolled-1")], Balancer::start());
    replicas.iter().for_each(|replica| balancer.add(replica));
    turn.put_in_force([Webhooks::at(&balancer.url(), &authority.ca_pem()).under("Fail")]);
    let traffic = Traffic::start(&turn, "rolled");
    for (number, replica) in replicas.iter_mut().enumerate() {
        replica.signal(Signal::TERM);
        let told = balancer.turned_away(replica);
        assert!(told.contains("[-]shutdown failed: the server is shutting down"), "{told}");
        traffic.goes_on();
        let end = replica.end();
        assert_eq!(end.code(), Some(0), "{}", replica.log());
        traffic.goes_on();
        let next = start(&format!("rolled-{}", number + 2));
        balancer.add(&next);
        *replica = next;
    }
    traffic.goes_on();
    traffic.was_all_right();
    // The API server keeps its connections; those to a replica that ended were made anew elsewhere.
    assert!(replicas.iter().any(|replica| balancer.is_in_use(replica)), "a new replica is in use");
}

#[test]
fn a_killed_replica_costs_what_the_failure_policy_says_and_nothing_once_it_is_out_of_the_service() {
    let Some(turn) = take_turn_of_change() else { return };
    let authority = Authority::new();
    let start = |name: &str| Layerpin::start(name, turn.folder(), &authority);
    for (failure_policy, names) in [("Fail", ["fail-0", "fail-1"]), ("Ignore", ["ignore-0", "ignore-1"])] {
        let ([first, second], balancer) = (names.map(start), Balancer::start());
        balancer.add(&first);
        balancer.add(&second);
        turn.put_in_force([Webhooks::at(&balancer.url(), &authority.ca_pem()).under(failure_policy)]);
        let traffic = Traffic::start(&turn, names[0]);
        let (mut killed, _left) = if balancer.is_in_use(&first) { (first, second) } else { (second, first) };

        // A call may be under way. Without /mutate a tag is not pinned, and /validate says so; without
        // /validate nobody judges. What is good already is stored either way, but under `Fail`.
        let lost: &[&str] = if failure_policy == "Fail" { &[UNJUDGED] } else { &[AS_SENT] };
        traffic.expect(Writes::Tag, &[&[PINNED, FLOATING], lost].concat());
        traffic.expect(Writes::Digest, &[&[AS_SENT], lost].concat());
        traffic.expect(Writes::ShortName, &[&[MALFORMED], lost].concat());
        // Requests of before were to have the answers of before.
        traffic.goes_on();
        killed.signal(Signal::KILL);
        assert_eq!(killed.end().code(), Some(128 + 9));
        balancer.turned_away(&killed);
        // The API server finds its connection broken when it reads on, or when it asks by it once more.
        traffic.goes_on();

        traffic.expect(Writes::Tag, &[PINNED]);
        traffic.expect(Writes::Digest, &[AS_SENT]);
        traffic.expect(Writes::ShortName, &[MALFORMED]);
        traffic.goes_on();
        traffic.was_all_right();
    }
}

/// A call that is under way for certain when its replica is killed.
#[test]
fn a_review_under_way_is_lost_with_its_replica_and_is_not_asked_for_again() {
    let Some(turn) = take_turn_of_change() else { return };
    let authority = Authority::new();
    let digest = turn.registry.push("under-way/os", None, &Image::base("9.6.1"));
    let object = machine_config("under-way", &format!("{}/under-way/os@{digest}", turn.registry.host()));
    let create = ["create", "--dry-run=server", "--output=jsonpath={.spec.osImageURL}"];
    for (failure_policy, name) in [("Fail", "under-way-fail"), ("Ignore", "under-way-ignore")] {
        let mut layerpin = Layerpin::start(name, turn.folder(), &authority);
        turn.put_in_force([Webhooks::at(&layerpin.url, &authority.ca_pem()).under(failure_policy)]);
        turn.registry.set_fault(Fault::FreezeAfterAccept);
        let asked = || turn.registry.requests().iter().filter(|it| it.path.contains("/under-way/")).count();
        let before = asked();
        let answer = std::thread::scope(|scope| {
            let answer = scope.spawn(|| turn.kubectl_on(Caller::User, &create, &object));
            eventually_blocking("the registry is asked", || match asked() - before {
                0 => Err("no request"),
                _ => Ok(()),
            });
            layerpin.signal(Signal::KILL);
            layerpin.end();
            answer.join().unwrap()
        });
        turn.registry.clear_fault();
        if failure_policy == "Fail" {
            let reason = answer.refused("nobody has judged the image");
            assert!(reason.contains(r#"failed calling webhook "validate.layerpin.io""#), "{reason}");
        } else {
            let stored = answer.accepted("the object is stored as it was sent").stdout;
            assert_eq!(stored, object["spec"]["osImageURL"]);
        }
        turn.remove_webhooks();
    }
}

#[test]
fn the_api_server_is_restarted_and_what_is_known_of_the_cluster_is_kept_and_then_followed_again() {
    let Some(mut turn) = take_turn_of_change() else { return };
    let following = Following::start(&turn, "restarted");
    let traffic = Traffic::start(&turn, "restarted");
    traffic.expect_also_unserved();
    turn.restart_api_server(|| following.knows("4.18.14"));
    traffic.goes_on();
    following.follows(&turn, "4.18.15");
    traffic.goes_on();
    traffic.was_all_right();
}

#[test]
fn etcd_is_away_for_ten_seconds_and_reviews_go_on_after_it() {
    let Some(mut turn) = take_turn_of_change() else { return };
    let following = Following::start(&turn, "etcd-away");
    let traffic = Traffic::start(&turn, "etcd-away");
    traffic.expect_also_unserved();
    turn.restart_etcd(|| {
        for_as_long_as(Duration::from_secs(10), || following.knows("4.18.14"));
    });
    traffic.goes_on();
    following.follows(&turn, "4.18.15");
    traffic.goes_on();
    traffic.was_all_right();
}

#[test]
fn a_registry_frozen_for_a_minute_costs_what_the_rules_say_under_either_failure_policy() {
    let Some(turn) = take_turn_of_change() else { return };
    let authority = Authority::new();
    // By default half a second of the ten that the API server waits is left for the way there and back. A
    // machine that runs API servers, etcd and six writers beside it can be held up for longer. How the time
    // is reckoned is tested beside the code; here it is what comes of it.
    let arguments = ["--no-cluster", "--timeout=7s"];
    let layerpin = Layerpin::start_by(&[], "frozen", turn.folder(), &authority, &arguments);
    // Side by side: a name says which of the two pairs of webhooks is asked.
    let pairs = [("Fail", "!"), ("Ignore", "")].map(|(failure_policy, negation)| {
        let name = format!("layerpin-{}", failure_policy.to_lowercase());
        let expression = format!("{negation}object.metadata.name.startsWith('ignore-')");
        let webhooks = Webhooks::at(&layerpin.url, &authority.ca_pem()).under(failure_policy);
        webhooks.named(&name).on_condition("one-of-two", &expression)
    });
    turn.put_in_force(pairs);
    let create = ["create", "--dry-run=server", "--output=jsonpath={.spec.osImageURL}"];
    let tag = format!("{}/frozen/os:1", turn.registry.host());
    let digest = turn.registry.push("frozen/os", Some("1"), &Image::base("9.7.99"));
    let is_pinned = |name: &str| {
        eventually_blocking("a tag is pinned", || {
            let answer = turn.kubectl_on(Caller::User, &create, &machine_config(name, &tag));
            if answer.stdout.ends_with(&digest) { Ok(()) } else { Err(format!("{answer:?}")) }
        });
    };
    is_pinned("ignore-frozen");
    eventually_blocking("/validate is in force", || {
        let answer = turn.kubectl_on(Caller::User, &create, &machine_config("ignore-frozen", "os"));
        if answer.stderr.contains("denied the request") { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    let traffic = ["fail-frozen", "ignore-frozen"].map(|name| Traffic::start(&turn, name));

    for traffic in &traffic {
        traffic.expect(Writes::Tag, &[PINNED, FLOATING]);
    }
    // The images of the writers are known already; these are not.
    let image = |number: usize| {
        let digest = turn.registry.push("frozen/os", None, &Image::base(&format!("9.7.{number}")));
        format!("{}/frozen/os@{digest}", turn.registry.host())
    };
    let images: Vec<_> = (0..90).map(image).collect();
    let unknown_tag = format!("{}/frozen/os:unknown", turn.registry.host());
    turn.registry.set_fault(Fault::FreezeAfterAccept);
    let mut unasked = images.iter();
    for_as_long_as(Duration::from_secs(60), || {
        for name in ["fail-frozen-digest-new", "ignore-frozen-digest-new"] {
            // A verdict, not a deadline that the API server saw pass: that would be silent under `Ignore`.
            let image = unasked.next().expect("most answers take seconds");
            let answer = turn.kubectl_on(Caller::User, &create, &machine_config(name, image));
            let answer = answer.accepted("a pinned image passes");
            assert_eq!(answer.stdout, *image);
            let [warning] = answer.warnings()[..] else { panic!("{answer:?}") };
            assert!(warning.starts_with("[unpullable-image] "), "{warning}");
        }
        for name in ["fail-frozen-tag-new", "ignore-frozen-tag-new"] {
            let answer = turn.kubectl_on(Caller::User, &create, &machine_config(name, &unknown_tag));
            let reason = answer.refused("a tag that could not be pinned");
            assert!(reason.contains("denied the request: [floating-tag] "), "{reason}");
        }
    });
    turn.registry.clear_fault();
    is_pinned("fail-frozen");
    for traffic in traffic {
        traffic.goes_on();
        traffic.was_all_right();
    }
}

#[test]
fn the_operator_renders_while_no_server_answers_under_fail() {
    let Some(turn) = take_turn_of_change() else { return };
    let authority = Authority::new();
    let mut layerpin = Layerpin::start("gone", turn.folder(), &authority);
    let configurations = turn.manifest("webhooks.yaml");
    let accounts = accounts_left_alone(&configurations[0]);
    assert_eq!(accounts, accounts_left_alone(&configurations[1]));
    let resembling = ["machine-config-controller", "system:serviceaccount:other:machine-config-controller"];
    let users: Vec<_> = accounts.iter().map(String::as_str).chain(resembling).collect();
    turn.let_write("accounts", &users);
    turn.put_in_force([Webhooks::at(&layerpin.url, &authority.ca_pem()).under("Fail")]);
    layerpin.signal(Signal::KILL);
    layerpin.end();

    let image = format!("{}/gone/os:1", turn.registry.host());
    for (number, user) in users.iter().enumerate() {
        let is_operator = number < accounts.len();
        let writer = format!("--as={user}");
        let rendered = machine_config(&format!("rendered-worker-{number:032x}"), &image).without_labels();
        // Nothing but its writer tells this one from what a user writes.
        let generated = machine_config(&format!("99-worker-generated-{number}"), &image);
        let answer = turn.kubectl_on(Caller::Admin, &["create", &writer], &rendered);
        answer.accepted("what has no role is not asked about");
        let answer = turn.kubectl_on(Caller::Admin, &["create", &writer], &generated);
        let name = generated["metadata"]["name"].as_str().unwrap();
        if is_operator {
            answer.accepted("the operator is not asked about");
            assert_eq!(turn.stored(name).unwrap()["spec"], generated["spec"]);
            let patch = r#"--patch={"spec":{"osImageURL":"quay.io/acme/os:2"}}"#;
            let arguments = ["patch", "machineconfig", name, "--type=merge", patch, &writer];
            turn.kubectl(Caller::Admin, &arguments).accepted("nor about what it changes");
        } else {
            let reason = answer.refused("a name that resembles is another");
            assert!(reason.contains(r#"failed calling webhook "validate.layerpin.io""#), "{reason}");
            assert_eq!(turn.stored(name), None);
        }
    }
}

/// The accounts that the conditions of a webhook leave alone.
fn accounts_left_alone(configuration: &Value) -> Vec<String> {
    let conditions = configuration["webhooks"][0]["matchConditions"].as_array().unwrap();
    let condition = conditions.iter().find(|it| it["name"] == "not-the-machine-config-operator").unwrap();
    let expression = condition["expression"].as_str().unwrap();
    let accounts: Vec<_> = expression.split('\'').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(accounts.len() >= 2 && accounts.iter().all(|name| name.starts_with("system:serviceaccount:")));
    accounts
}

/// Files of a server as the kubelet mounts them.
struct Mounted<'a> {
    turn: &'a Turn,
    name: &'a str,
}

impl<'a> Mounted<'a> {
    fn new(turn: &'a Turn, name: &'a str, authority: &Authority, policy: &str) -> Self {
        Self::swap_certificate(turn, name, "first", authority);
        Self::swap_policy(turn, name, "first", policy);
        Self { turn, name }
    }

    fn swap_certificate(turn: &Turn, name: &str, version: &str, authority: &Authority) {
        let identity = authority.issue(&["127.0.0.1"]);
        let files = [("tls.crt", identity.certificate_pem()), ("tls.key", identity.key_pem())];
        swap_data(&turn.folder().join(format!("{name}-tls")), version, &files);
    }

    fn swap_policy(turn: &Turn, name: &str, version: &str, policy: &str) {
        swap_data(&turn.folder().join(format!("{name}-policy")), version, &[("policy.yaml", policy)]);
    }

    /// Starts the server on these files, with more arguments.
    fn start(&self, more: &[&str]) -> Layerpin {
        let name = self.name;
        let arguments = [
            &*format!("--tls-cert={name}-tls/tls.crt"),
            &*format!("--tls-key={name}-tls/tls.key"),
            &*format!("--policy={name}-policy/policy.yaml"),
        ];
        let more = if more.is_empty() { &["--no-cluster"][..] } else { more };
        Layerpin::serve(name, self.turn.folder(), &[&arguments, more].concat())
    }
}

/// A server in force that follows the cluster, by the account of `deploy/`.
struct Following {
    layerpin: Layerpin,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Following {
    fn start(turn: &Turn, name: &str) -> Self {
        let token = Account::new(turn).token;
        // What it reads is wanted, and no pool whose nodes no image here is for.
        for object in [["node", "worker-0"], ["machineconfigpool", "worker"]] {
            turn.kubectl(Caller::Admin, &[&["delete"], &object[..]].concat()).accepted("deleting a pool");
        }
        let kubeconfig = turn.kubeconfig_for(name, &token);
        let authority = Authority::new();
        let mounted = Mounted::new(turn, name, &authority, RECOMMENDED);
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        // Whom `authorized` lets in only the API server knows, which is about to be away.
        let layerpin = mounted.start(&[&kubeconfig, "--dry-run-access=anyone"]);
        turn.put_in_force([Webhooks::at(&layerpin.url, &authority.ca_pem()).under("Fail")]);
        layerpin::install_crypto_provider();
        let authority = reqwest::Certificate::from_pem(authority.ca_pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
        let following = Self { layerpin, client, runtime: tokio::runtime::Runtime::new().unwrap() };
        eventually_blocking("the cluster is known", || following.release("4.18.14"));
        following
    }

    /// Claims that the server knows this release, and that it is ready.
    fn knows(&self, version: &str) {
        self.release(version).unwrap();
        let url = format!("{}/readyz", self.layerpin.admin_url);
        let (status, text) = self.runtime.block_on(async {
            let answer = self.client.get(url).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        });
        assert_eq!(status, 200, "{text}");
    }

    /// Puts another release into the cluster, and waits until the server knows it.
    fn follows(&self, turn: &Turn, version: &str) {
        let patch = format!("--patch={}", json!({"status": {"desired": {"version": version}}}));
        let arguments =
            ["patch", "clusterversion", "version", "--subresource=status", "--type=merge", &patch];
        eventually_blocking("the cluster is upgraded", || {
            let answer = turn.kubectl(Caller::Admin, &arguments);
            if answer.succeeded { Ok(()) } else { Err(answer.stderr) }
        });
        eventually_blocking("the upgrade is seen", || self.release(version));
    }

    /// Whether the facts of a judgement have this release.
    fn release(&self, version: &str) -> Result<(), String> {
        let url = format!("{}/dry-run", self.layerpin.url);
        let request = self.client.post(url).body(machine_config("x", "os").to_string());
        let report = self.runtime.block_on(async { request.send().await.unwrap().text().await.unwrap() });
        let document: Value = serde_json::from_str(&report).unwrap_or_default();
        let found = &document["facts"]["cluster"]["version"]["known"]["desired"]["version"];
        if found == version { Ok(()) } else { Err(format!("not {version}: {report}")) }
    }
}

/// What the admin address answers to a path: the status, and the text, which kubectl does not show of a
/// refusal.
fn asked(layerpin: &Layerpin, path: &str, authority: &Authority) -> (u16, String) {
    layerpin::install_crypto_provider();
    let authority = reqwest::Certificate::from_pem(authority.ca_pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
    let request = client.get(format!("{}{path}", layerpin.admin_url));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    })
}

/// Waits until the log has a message so many times.
fn says(layerpin: &Layerpin, message: &str, times: usize) {
    eventually_blocking(message, || {
        let log = layerpin.log();
        if log.matches(message).count() >= times { Ok(()) } else { Err(log) }
    });
}

/// Repeats `claim` until `duration` is over, and once at least.
fn for_as_long_as(duration: Duration, mut claim: impl FnMut()) {
    let begun = Instant::now();
    while begun.elapsed() < duration {
        claim();
        #[expect(clippy::disallowed_methods, reason = "the pause between two looks")]
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn policy(spec: &str) -> String {
    documents::policy(&format!("  {spec}\n"))
}

const RECOMMENDED: &str = include_str!("../../policies/recommended.yaml");
