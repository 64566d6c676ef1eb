//! Every fault of a registry, directly, through a proxy and as a mirror, for one caller and for many at once.
//!
//! The answer is the same each time: behind a proxy it names the registry, and a mirror is skipped. The registry
//! gets the requests of one caller, for any number of callers.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use jiff::Timestamp;
use layerpin::model::facts::{Attempt, Cause, CredentialsSent, Fact, Manifest, NodeCredentials};
use layerpin::model::question::Freshness;
use layerpin::registry::RegistrySettings;
use layerpin::registry::auth::keychain::Keychain;
use layerpin::registry::http::proxy::{Proxies, ProxySettings};
use layerpin::registry::http::tls_roots::{CertDirs, ClusterCas, HostTrust};
use layerpin::registry::mirrors::registries_conf::RegistriesConf;
use layerpin::tls::pem::CaBundle;
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Authority, ClosedPort, Fault, FaultPlan, Registry, TokenFault, TokenService};
use tokio::time::Instant;

use crate::connect_proxy::Proxy;
use crate::support::{Asker, image, lines, parse};

/// What is wrong with a registry, and the answer that is expected.
struct Case {
    trouble: Trouble,
    asked_for: AskedFor,
    /// The methods of the requests for the manifest, when the port is known to have no TLS.
    requests: &'static [&'static str],
    /// The expected answer.
    expected: fn(&Asked) -> Fact<Manifest>,
    /// Whether the request ends with an answer, or only by the deadline.
    ends: Ends,
}

#[derive(Debug)]
enum Trouble {
    Of(FaultPlan),
    Down,
    /// Its token service accepts requests and does not answer.
    TokensHang,
    /// It names a token service on another host, which is not trusted.
    TokensElsewhere,
}

#[derive(Clone, Copy)]
enum AskedFor {
    Tag,
    /// A manifest whose header has no kind, so that its body is needed.
    Untyped,
    Digest,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// By an answer.
    Soon,
    /// By the deadline.
    Late,
    /// By an answer that asks for a pause of ten minutes.
    Paused,
}

/// The registry with the fault, as the caller sees it.
struct Asked {
    host: String,
    way: Way,
    /// The URL of the proxy, if there is one.
    proxy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Directly,
    ThroughAProxy,
    /// As a mirror of a source that has the image.
    AsAMirror,
    /// As a mirror of a source that does not have it.
    AsTheLastMirror,
}

fn cases() -> Vec<Case> {
    let case = |trouble, requests, ends, expected| Case {
        trouble,
        asked_for: AskedFor::Tag,
        requests,
        expected,
        ends,
    };
    let late = |trouble, requests| case(trouble, requests, Ends::Late, out_of_time);
    let of =
        |fault: Fault, requests, expected| case(Trouble::Of(fault.into()), requests, Ends::Soon, expected);
    let freezes = |fault: Fault, requests| late(Trouble::Of(fault.into()), requests);
    let untyped = |case| Case { asked_for: AskedFor::Untyped, ..case };
    let by_digest = |case| Case { asked_for: AskedFor::Digest, ..case };
    let pause = |status, when: &str, expected| {
        let fault = Fault::StatusWithHeader(status, "Retry-After".into(), when.into());
        case(Trouble::Of(fault.into()), &["HEAD"], Ends::Paused, expected)
    };
    let date = httpdate::fmt_http_date(SystemTime::now() + PAUSE);
    let for_ever = Duration::from_secs(3600);
    vec![
        case(Trouble::Down, &[], Ends::Soon, |asked| match asked.way {
            Way::ThroughAProxy => {
                unreachable(asked, &format!("through the proxy {}: tunnel error: unsuccessful", asked.proxy))
            }
            _ => unreachable(asked, "Connection refused"),
        }),
        freezes(Fault::FreezeAfterAccept, &[]),
        untyped(freezes(Fault::FreezeAfterHeaders, &["HEAD", "GET"])),
        freezes(Fault::Latency(for_ever), &["HEAD"]),
        late(Trouble::TokensHang, &["HEAD"]),
        case(Trouble::TokensElsewhere, &["HEAD"], Ends::Soon, |asked| {
            let reason = match asked.way {
                Way::ThroughAProxy => "it uses TLS, but its token service auth.example does not",
                _ => "it named the token service auth.example without TLS",
            };
            unknown(Cause::NoToken { host: asked.host.clone(), reason: reason.into() })
        }),
        of(Fault::UnauthorizedForEver, &["HEAD"], |asked| refused(asked, 401)),
        of(Fault::ForbiddenForEver, &["HEAD"], |asked| refused(asked, 403)),
        of(Fault::Status(404), &["HEAD"], |_| Fact::Absent),
        of(Fault::Status(429), &["HEAD"], |asked| status(asked, 429)),
        of(Fault::Status(500), &["HEAD"], |asked| status(asked, 500)),
        of(Fault::Status(503), &["HEAD"], |asked| status(asked, 503)),
        pause(429, "600", |asked| paused(asked, 429)),
        pause(503, "600", |asked| paused(asked, 503)),
        pause(429, &date, |asked| paused(asked, 429)),
        pause(503, &date, |asked| paused(asked, 503)),
        by_digest(of(Fault::WrongDigest, &["HEAD"], |asked| mismatch(asked, b"another manifest"))),
        untyped(of(Fault::EndlessBody, &["HEAD", "GET"], |asked| {
            nonsense(asked, "the body has more than 4194304 bytes")
        })),
        of(Fault::RedirectLoop, &["HEAD"; 6], |asked| nonsense(asked, "more than 5 redirects")),
        of(Fault::Schema1, &["HEAD"], |asked| {
            nonsense(asked, "it only has a manifest of Docker schema 1, which nodes cannot boot")
        }),
        of(Fault::GarbageResponse, &["HEAD"], |asked| unreachable(asked, "invalid HTTP version parsed")),
        // On paths only, so that connections are accepted and the requests arrive.
        case(
            Trouble::Of(Fault::CloseAfterAccept.on("/manifests/")),
            &["HEAD", "HEAD"],
            Ends::Soon,
            |asked| unreachable(asked, "connection closed before message completed"),
        ),
    ]
}

fn unknown(cause: Cause) -> Fact<Manifest> {
    Fact::Unknown(cause)
}

fn out_of_time(asked: &Asked) -> Fact<Manifest> {
    unknown(Cause::OutOfTime { host: asked.host.clone() })
}

fn unreachable(asked: &Asked, reason: &str) -> Fact<Manifest> {
    unknown(Cause::Unreachable { host: asked.host.clone(), reason: reason.into() })
}

fn nonsense(asked: &Asked, reason: &str) -> Fact<Manifest> {
    unknown(Cause::InvalidResponse { host: asked.host.clone(), reason: reason.into() })
}

fn status(asked: &Asked, status: u16) -> Fact<Manifest> {
    unknown(Cause::Status { host: asked.host.clone(), status })
}

fn refused(asked: &Asked, status: u16) -> Fact<Manifest> {
    let (shown, as_nodes) = (CredentialsSent::NoEntry, NodeCredentials::NotAtHand);
    unknown(Cause::Refused { host: asked.host.clone(), status, shown, as_nodes })
}

fn paused(asked: &Asked, status: u16) -> Fact<Manifest> {
    unknown(Cause::Paused { host: asked.host.clone(), status, until: Timestamp::UNIX_EPOCH })
}

fn mismatch(asked: &Asked, found: &[u8]) -> Fact<Manifest> {
    let digest = |text: String| layerpin::model::digest::Digest::parse(&text).unwrap();
    unknown(Cause::DigestMismatch {
        host: asked.host.clone(),
        expected: digest(os().digest()),
        found: digest(layerpin_sample_registry::digest_of(found)),
    })
}

fn os() -> Image {
    Image::base("4.18.1")
}

fn untyped() -> Image {
    Image::base("4.18.2")
}

/// Checks the end of a pause, and replaces it by the Unix epoch.
fn without_time(fact: Fact<Manifest>) -> Fact<Manifest> {
    fn look(cause: &mut Cause) {
        match cause {
            Cause::Paused { until, .. } => {
                let left = until.duration_since(Timestamp::now()).as_secs();
                assert!((500..=600).contains(&left), "{left}");
                *until = Timestamp::UNIX_EPOCH;
            }
            Cause::Unanswered { attempts } => {
                attempts.iter_mut().filter_map(|attempt| attempt.cause.as_mut()).for_each(look);
            }
            _ => {}
        }
    }
    match fact {
        Fact::Unknown(mut cause) => {
            look(&mut cause);
            Fact::Unknown(cause)
        }
        fact => fact,
    }
}

/// A registry with a fault, the proxy or source, and a client.
struct Scene {
    registry: Option<Registry>,
    /// The address at which it does not listen.
    _closed: ClosedPort,
    tokens: Option<TokenService>,
    source: Option<Registry>,
    proxy: Option<Proxy>,
    asked: Asked,
    asker: Asker,
}

impl Scene {
    async fn new(case: &Case, way: Way) -> Self {
        let authority = Authority::new();
        let is_tls = way == Way::ThroughAProxy;
        let tokens = matches!(case.trouble, Trouble::TokensHang).then(|| {
            let builder = TokenService::builder().anonymous_pull();
            let builder = if is_tls { builder.tls(authority.issue(&["127.0.0.1"])) } else { builder };
            let tokens = builder.start().unwrap();
            tokens.set_fault(TokenFault::Hang);
            tokens
        });
        let mut builder = Registry::builder();
        if is_tls {
            builder = builder.tls(authority.issue(&["registry.example"]));
        }
        if let Some(tokens) = &tokens {
            builder = builder.bearer_auth(tokens);
        }
        let registry = Some(filled(builder.start().unwrap()));
        let registry = match &case.trouble {
            Trouble::Down => None,
            trouble => {
                set(registry.as_ref().unwrap(), trouble, way);
                registry
            }
        };
        let closed = ClosedPort::take().unwrap();
        let address = registry.as_ref().map_or_else(|| closed.host(), Registry::host);
        let host = if is_tls { "registry.example:5000".to_owned() } else { address.clone() };
        let source = match way {
            Way::AsAMirror => Some(filled(Registry::start().unwrap())),
            Way::AsTheLastMirror => Some(Registry::start().unwrap()),
            Way::Directly | Way::ThroughAProxy => None,
        };
        let mut settings = RegistrySettings::from(Keychain::none());
        settings.proxies = Proxies::new(ProxySettings::default());
        let proxy = match way {
            Way::ThroughAProxy => {
                let proxy = Proxy::start(&address).await;
                let https = format!("http://{}", proxy.address);
                settings.proxies = Proxies::new(ProxySettings { https, ..ProxySettings::default() });
                let trusted = [Some(host.clone()), tokens.as_ref().map(TokenService::host)];
                settings.certificates = trusting(&authority, trusted.into_iter().flatten());
                Some(proxy)
            }
            _ => None,
        };
        if let Some(source) = &source {
            settings.registries = mirrored(&source.host(), &host);
        }
        let address = proxy.as_ref().map(|proxy| format!("http://{}", proxy.address)).unwrap_or_default();
        let asked = Asked { host, way, proxy: address };
        let asker = Asker::with_settings(settings);
        Self { registry, _closed: closed, tokens, source, proxy, asked, asker }
    }

    fn reference(&self, what: &str) -> String {
        match self.source {
            Some(_) => format!("source.example/acme/os{what}"),
            None => format!("{}/acme/os{what}", self.asked.host),
        }
    }

    async fn ask(&self, what: &str, askers: usize, patience: Duration) -> Vec<Fact<Manifest>> {
        let reference = parse(&self.reference(what));
        let deadline = Instant::now() + patience;
        join_all((0..askers).map(|_| self.asker.client.manifest(&reference, Freshness::Cached, deadline)))
            .await
    }

    fn expected(&self, case: &Case) -> Fact<Manifest> {
        let of_registry = (case.expected)(&self.asked);
        let attempt = |endpoint: &str, fact| match fact {
            Fact::Unknown(cause) => Attempt { endpoint: endpoint.to_owned(), cause: Some(cause) },
            _ => Attempt { endpoint: endpoint.to_owned(), cause: None },
        };
        match (self.asked.way, of_registry) {
            (Way::AsAMirror, _) => {
                let image_of_case =
                    if matches!(case.asked_for, AskedFor::Untyped) { untyped() } else { os() };
                image(&image_of_case.digest(), &self.source.as_ref().unwrap().host())
            }
            (Way::AsTheLastMirror, fact @ Fact::Unknown(_)) => {
                let source = self.source.as_ref().unwrap().host();
                let attempts = vec![attempt(&self.asked.host, fact), attempt(&source, Fact::Absent)];
                unknown(Cause::Unanswered { attempts })
            }
            (_, fact) => fact,
        }
    }

    /// The requests for manifests that arrived.
    fn requests(&self) -> Vec<String> {
        let requests = self.registry.as_ref().map(Registry::requests).unwrap_or_default();
        lines(&requests).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }
}

fn filled(registry: Registry) -> Registry {
    for tag in ["1", "after"] {
        registry.push("acme/os", Some(tag), &os());
    }
    registry.push_manifest("acme/os", Some("untyped"), "application/json", untyped().manifest());
    registry
}

fn set(registry: &Registry, trouble: &Trouble, way: Way) {
    match trouble {
        Trouble::Of(fault) => registry.set_fault(fault.clone()),
        Trouble::TokensElsewhere => {
            let scheme = if way == Way::ThroughAProxy { "http" } else { "https" };
            let challenge = format!("Bearer realm=\"{scheme}://auth.example/token\"");
            registry.set_fault(Fault::StatusWithHeader(401, "www-authenticate".into(), challenge));
        }
        Trouble::TokensHang | Trouble::Down => {}
    }
}

fn trusting(authority: &Authority, hosts: impl Iterator<Item = String>) -> CertDirs {
    let certificates = CertDirs::of_system();
    let trust = || HostTrust { authorities: CaBundle::parse(&authority.ca_pem()).unwrap(), identity: None };
    let hosts: BTreeMap<_, _> = hosts.map(|host| (host, trust())).collect();
    certificates.replace(ClusterCas { hosts, ..ClusterCas::default() });
    certificates
}

/// `source.example` at `source`, with the mirror `mirror`.
fn mirrored(source: &str, mirror: &str) -> RegistriesConf {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "[[registry]]\nprefix = \"source.example\"\nlocation = \"{source}\"\n\
         [[registry.mirror]]\nlocation = \"{mirror}\"\n"
    );
    std::fs::write(file.path(), text).unwrap();
    RegistriesConf::from_file(file.path()).unwrap()
}

/// Runs one case for a number of callers, and sends another request after it.
async fn run(case: &Case, way: Way, askers: usize) {
    let scene = Scene::new(case, way).await;
    let what = format!("{:?} {way:?} by {askers}", case.trouble);
    let patience = match (case.ends, way) {
        (Ends::Late, Way::Directly | Way::ThroughAProxy) => SHORT,
        // The mirror gets half of it.
        (Ends::Late, Way::AsAMirror | Way::AsTheLastMirror) => SHARED,
        _ => PATIENCE,
    };
    let asked_for = match case.asked_for {
        AskedFor::Tag => ":1".to_owned(),
        AskedFor::Untyped => ":untyped".to_owned(),
        AskedFor::Digest => format!("@{}", os().digest()),
    };
    let answers: Vec<_> =
        scene.ask(&asked_for, askers, patience).await.into_iter().map(without_time).collect();
    assert_eq!(answers, vec![scene.expected(case); askers], "{what}");
    let requests = scene.requests();
    match case.ends {
        // Under load the deadline may pass before the last request arrives.
        Ends::Late => assert!(case.requests.starts_with(&as_strs(&requests)), "{what}: {requests:?}"),
        _ => assert_eq!(requests, case.requests, "{what}"),
    }
    if let Some(proxy) = scene.proxy.as_ref().filter(|_| case.ends != Ends::Late) {
        assert!(!proxy.requests().is_empty(), "{what}");
    }
    // The fault has no lasting effect, except for a pause.
    let Some(registry) = scene.registry.as_ref().filter(|_| case.ends != Ends::Paused) else { return };
    registry.clear_fault();
    if let Some(tokens) = &scene.tokens {
        tokens.clear_fault();
    }
    let after = scene.ask(":after", 1, PATIENCE).await;
    assert_eq!(after, [image(&os().digest(), &scene.asked.host)], "after {what}");
}

fn as_strs(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).collect()
}

/// Runs every case, for one caller and for many. Those that wait run in parallel.
async fn run_all(way: Way) {
    let cases = cases();
    let (late, soon): (Vec<_>, Vec<_>) = cases.iter().partition(|case| case.ends == Ends::Late);
    for case in soon {
        run(case, way, 1).await;
        run(case, way, MANY).await;
    }
    join_all(late.iter().flat_map(|case| [run(case, way, 1), run(case, way, MANY)])).await;
}

#[tokio::test]
async fn every_fault_has_its_answer() {
    run_all(Way::Directly).await;
}

#[tokio::test]
async fn every_fault_behind_a_proxy_has_the_same_answer() {
    run_all(Way::ThroughAProxy).await;
}

#[tokio::test]
async fn a_mirror_with_any_fault_is_skipped_and_gets_one_request_for_all_callers() {
    run_all(Way::AsAMirror).await;
}

#[tokio::test]
async fn the_fault_of_a_mirror_is_reported_when_the_source_has_no_image() {
    run_all(Way::AsTheLastMirror).await;
}

const MANY: usize = 20;
const PAUSE: Duration = Duration::from_secs(600);
/// How long a test waits for an answer that is certain.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it waits for one that never comes; the value does not matter.
const SHORT: Duration = Duration::from_secs(1);
/// The same if a source must have time to answer after it.
const SHARED: Duration = Duration::from_secs(8);
