//! Names and addresses of a machine: each test runs the program with its own network and hosts file, with several
//! hosts on addresses beyond loopback.
//!
//! A test runs itself again under `unshare`, and prints `skipped` where that is not allowed.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use layerpin::model::facts::{Cause, CredentialsSent, Fact, Facts, Manifest, NodeCredentials};
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Authority, DockerRegistry, Fault, Registry, keep_printed};
use layerpin_test_support::documents::machine_config;
use layerpin_test_support::program::layerpin;
use layerpin_test_support::tools::{archive, missing, needs, skip, unshare};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::connect_proxy::Proxy;
use crate::docker_registry::digest_by_skopeo;
use crate::support::{
    image, is_alone, no_token, nonsense, parse, password, refused, run_alone_by, unreachable, untrusted,
};

/// A machine with the addresses `10.1.0.1` to `10.1.0.9`, `fd00::1` and some that are never contacted. Packets to
/// [`LOST`] and [`LOST_6`] are dropped.
struct Machine {
    folder: TempDir,
    authority: Authority,
    certificates: PathBuf,
}

impl Machine {
    /// The machine with these `hosts`, lines of a hosts file, in its own namespace. `None` elsewhere, after
    /// `test` of this module has passed in one.
    fn apart(test: &str, hosts: &[&str]) -> Option<Self> {
        if is_alone() {
            return Some(Self::here(hosts));
        }
        match entrance() {
            Ok(mut entrance) => {
                entrance.arg(std::env::current_exe().unwrap());
                run_alone_by(entrance, &format!("namespaces::{test}"), &[]);
            }
            Err(reason) => skip(&reason),
        }
        None
    }

    fn here(hosts: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificates = folder.path().join("certs.d");
        std::fs::create_dir(&certificates).unwrap();
        ip(NETWORK);
        cover(&folder, "/etc/hosts", &hosts.join("\n"));
        // No DNS, which would not answer here.
        cover(&folder, "/etc/nsswitch.conf", "hosts: files\n");
        let machine = Self { folder, authority: Authority::new(), certificates };
        machine.write("registries.conf", "");
        machine.write("auth.json", r#"{"auths": {}}"#);
        machine
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn registries_conf(&self, text: &str) {
        self.write("registries.conf", text);
    }

    fn auths(&self, auths: &Value) {
        self.write("auth.json", &json!({"auths": auths}).to_string());
    }

    /// Trusts the CA of this machine, only for `host`.
    fn trust(&self, host: &str) {
        let folder = self.certificates.join(host);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("ca.crt"), self.authority.ca_pem()).unwrap();
    }

    /// A registry at `address` that serves TLS as each of `names`, with `acme/os:1` of `version`.
    fn registry(&self, address: &str, names: &[&str], version: &str) -> (Registry, String) {
        let registry = Registry::builder().address(at(address)).tls(self.authority.issue(names));
        let registry = registry.start().unwrap();
        let digest = registry.push("acme/os", Some("1"), &Image::base(version));
        (registry, digest)
    }

    /// The answer of `layerpin check` for `reference`.
    async fn asks(&self, reference: &str) -> Fact<Manifest> {
        self.asks_with(reference, "20s", &[]).await
    }

    /// The same within `timeout`, with only `environment`.
    async fn asks_with(
        &self,
        reference: &str,
        timeout: &str,
        environment: &[(&str, &str)],
    ) -> Fact<Manifest> {
        let object = machine_config().image(reference);
        let facts = self.folder.path().join("facts.json");
        let output = tokio::process::Command::new(layerpin())
            .args(["check", "--no-cluster", "--timeout", timeout, "--save-facts"])
            .arg(&facts)
            .arg("--cert-dir")
            .arg(&self.certificates)
            .arg("--registries-conf")
            .arg(self.folder.path().join("registries.conf"))
            .arg("--authfile")
            .arg(self.folder.path().join("auth.json"))
            .arg(self.write("object.json", &object.to_string()))
            .env_clear()
            .envs(environment.iter().copied())
            .output()
            .await
            .unwrap();
        let facts = std::fs::read(facts).unwrap_or_default();
        keep_printed("programs", &[&*output.stdout, &output.stderr, &facts].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!([0, 1].contains(&output.status.code().unwrap()), "{error}");
        let facts: Facts = serde_json::from_slice(&facts).unwrap();
        facts.manifests[&parse(reference)].clone()
    }
}

/// The command that starts a program with its own network and mounts, or why that is not possible.
fn entrance() -> Result<Command, String> {
    if let Some(missing) = missing(&["unshare", "ip", "mount"]) {
        return Err(format!("{missing} is not on PATH"));
    }
    let unshare = unshare(&["--net", "--mount"])?;
    let mut entrance = Command::new(unshare[0]);
    entrance.args(&unshare[1..]);
    Ok(entrance)
}

/// Runs commands of `ip`.
fn ip(lines: &str) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{lines}");
}

/// Replaces a file of the system by `text` in this mount namespace.
fn cover(folder: &TempDir, path: &str, text: &str) {
    let name = Path::new(path).file_name().unwrap();
    let ours = folder.path().join(name);
    std::fs::write(&ours, text).unwrap();
    if Path::new(path).exists() {
        assert!(Command::new("mount").arg("--bind").arg(ours).arg(path).status().unwrap().success());
    }
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn forbidden(host: &str) -> Fact<Manifest> {
    Fact::Unknown(Cause::ForbiddenAddress { host: host.to_owned() })
}

/// Registries at addresses that must not be contacted, and the number of connections to them.
struct Trap(Vec<Registry>);

impl Trap {
    /// They serve TLS as each of `names`.
    fn set(machine: &Machine, names: &[&str]) -> Self {
        let secure = NOBODY.map(|address| machine.registry(&format!("{address}:443"), names, "4.18.9").0);
        let open = NOBODY.map(|address| {
            let registry = Registry::builder().address(at(&format!("{address}:80"))).start().unwrap();
            registry.push("acme/os", Some("1"), &Image::base("4.18.9"));
            registry
        });
        Self(secure.into_iter().chain(open).collect())
    }

    fn visits(&self) -> usize {
        self.0.iter().map(Registry::connections).sum()
    }
}

#[tokio::test]
async fn a_registry_beyond_loopback_needs_tls_unless_it_is_insecure() {
    let hosts = ["10.1.0.1 registry.test", "10.1.0.2 other.test"];
    let test = "a_registry_beyond_loopback_needs_tls_unless_it_is_insecure";
    let Some(machine) = Machine::apart(test, &hosts) else { return };
    let open = Registry::builder().address(at("10.1.0.1:80")).start().unwrap();
    let digest = open.push("acme/os", Some("1"), &Image::base("4.18.1"));
    let reference = "registry.test/acme/os:1";
    let closed = unreachable("registry.test", "Connection refused");
    assert_eq!(machine.asks(reference).await, closed);
    assert_eq!(open.connections(), 0, "nobody asks in the open");
    machine.registries_conf("[[registry]]\nlocation = \"other.test\"\ninsecure = true\n");
    assert_eq!(machine.asks(reference).await, closed, "that another is insecure changes nothing");
    machine.registries_conf("[[registry]]\nlocation = \"registry.test\"\ninsecure = true\n");
    assert_eq!(machine.asks(reference).await, image(&digest, "registry.test"));
    let named: Vec<_> = open.requests().into_iter().filter_map(|request| request.host).collect();
    assert!(!named.is_empty() && named.iter().all(|host| host == "registry.test"), "{named:?}");
}

#[tokio::test]
async fn a_certificate_must_have_the_requested_name() {
    let hosts = ["10.1.0.1 registry.test alias.test"];
    let test = "a_certificate_must_have_the_requested_name";
    let Some(machine) = Machine::apart(test, &hosts) else { return };
    let (_registry, digest) = machine.registry("10.1.0.1:443", &["registry.test"], "4.18.1");
    let untrusted = untrusted("registry.test", "UnknownIssuer");
    assert_eq!(machine.asks("registry.test/acme/os:1").await, untrusted);
    machine.trust("alias.test");
    assert_eq!(machine.asks("registry.test/acme/os:1").await, untrusted, "trusted for another name");
    machine.trust("registry.test");
    assert_eq!(machine.asks("registry.test/acme/os:1").await, image(&digest, "registry.test"));
    let answer = machine.asks("alias.test/acme/os:1").await;
    let Fact::Unknown(Cause::Untrusted { host, reason }) = &answer else { panic!("{answer:?}") };
    assert_eq!(host, "alias.test");
    assert!(reason.contains("not valid for name \"alias.test\""), "{reason}");
}

#[tokio::test]
async fn a_name_that_resolves_to_a_forbidden_address_is_not_contacted() {
    let names = ["meta.test", "mapped.test", "link.test", "zero.test", "zero-6.test", "all.test"];
    let hosts = [
        "169.254.169.254 meta.test",
        "::ffff:169.254.169.254 mapped.test",
        "fe80::1 link.test",
        "0.0.0.0 zero.test",
        ":: zero-6.test",
        "169.254.169.254 all.test",
        "fe80::1 all.test",
        "0.0.0.0 all.test",
    ];
    let test = "a_name_that_resolves_to_a_forbidden_address_is_not_contacted";
    let Some(machine) = Machine::apart(test, &hosts) else { return };
    let trap = Trap::set(&machine, &names);
    for name in names {
        machine.trust(name);
        assert_eq!(machine.asks(&format!("{name}/acme/os:1")).await, forbidden(name));
    }
    let insecure = names.map(|name| format!("[[registry]]\nlocation = \"{name}\"\ninsecure = true\n"));
    machine.registries_conf(&insecure.concat());
    for name in names {
        assert_eq!(machine.asks(&format!("{name}/acme/os:1")).await, forbidden(name), "insecure");
    }
    let proxy = Proxy::at("10.1.0.9:3128", "169.254.169.254:443").await;
    let address = format!("http://{}", proxy.address);
    let through = [("HTTPS_PROXY", &*address), ("HTTP_PROXY", &*address)];
    for name in names {
        let answer = machine.asks_with(&format!("{name}/acme/os:1"), "20s", &through).await;
        assert_eq!(answer, forbidden(name), "through a proxy");
    }
    assert_eq!(proxy.requests(), [[""; 0]; 0]);
    assert_eq!(trap.visits(), 0);
}

#[tokio::test]
async fn forbidden_addresses_among_several_are_skipped() {
    let hosts = [
        "169.254.169.254 first.test",
        "10.1.0.1 first.test",
        "10.1.0.1 last.test",
        "fe80::1 last.test",
        "169.254.169.254 last.test",
        "0.0.0.0 dead.test",
        "10.1.0.2 dead.test",
        "169.254.169.254 dead.test",
    ];
    let test = "forbidden_addresses_among_several_are_skipped";
    let Some(machine) = Machine::apart(test, &hosts) else { return };
    let names = ["first.test", "last.test", "dead.test"];
    let (registry, digest) = machine.registry("10.1.0.1:443", &names, "4.18.1");
    let trap = Trap::set(&machine, &names);
    for name in names {
        machine.trust(name);
    }
    for name in ["first.test", "last.test"] {
        assert_eq!(machine.asks(&format!("{name}/acme/os:1")).await, image(&digest, name));
    }
    assert!(registry.connections() >= 2);
    // The remaining address does not answer.
    let closed = unreachable("dead.test", "Connection refused");
    assert_eq!(machine.asks("dead.test/acme/os:1").await, closed);
    assert_eq!(trap.visits(), 0);
}

#[tokio::test]
async fn no_response_of_a_registry_leads_to_a_forbidden_address() {
    let hosts = ["10.1.0.1 registry.test", "169.254.169.254 meta.test", "0.0.0.0 zero.test"];
    let test = "no_response_of_a_registry_leads_to_a_forbidden_address";
    let Some(machine) = Machine::apart(test, &hosts) else { return };
    let (registry, digest) = machine.registry("10.1.0.1:443", &["registry.test"], "4.18.1");
    let names = ["meta.test", "zero.test"];
    let trap = Trap::set(&machine, &names);
    for name in ["registry.test", "meta.test", "zero.test"] {
        machine.trust(name);
    }
    let reference = "registry.test/acme/os:1";
    for name in names {
        registry.set_fault(Fault::RedirectTo(format!("https://{name}")));
        assert_eq!(machine.asks(reference).await, forbidden(name), "redirected");
        registry.set_fault(Fault::RedirectTo(format!("http://{name}")));
        assert_eq!(machine.asks(reference).await, nonsense("registry.test", "a redirect from HTTPS to HTTP"));
        let challenge = format!("Bearer realm=\"https://{name}/token\",service=\"registry\"");
        registry.set_fault(Fault::StatusWithHeader(401, "www-authenticate".into(), challenge));
        let reason = format!("{name} is a link-local or unspecified address, which is never contacted");
        assert_eq!(machine.asks(reference).await, no_token("registry.test", &reason));
    }
    registry.clear_fault();
    // A mirror there is skipped.
    machine.registries_conf(
        "[[registry]]\nlocation = \"registry.test\"\n[[registry.mirror]]\nlocation = \"meta.test\"\n",
    );
    assert_eq!(machine.asks(reference).await, image(&digest, "registry.test"));
    assert_eq!(trap.visits(), 0);
}

#[tokio::test]
async fn a_token_service_needs_tls_if_the_registry_has_it() {
    let hosts = ["10.1.0.1 registry.test", "10.1.0.2 tokens.test"];
    let test = "a_token_service_needs_tls_if_the_registry_has_it";
    let Some(machine) = Machine::apart(test, &hosts) else { return };
    let (registry, _) = machine.registry("10.1.0.1:443", &["registry.test"], "4.18.1");
    let open = Registry::builder().address(at("10.1.0.2:80")).start().unwrap();
    machine.trust("registry.test");
    machine.auths(&json!({"registry.test": password("alice", "s3cr3t-word")}));
    let challenge = "Bearer realm=\"http://tokens.test/token\",service=\"registry\"";
    registry.set_fault(Fault::StatusWithHeader(401, "www-authenticate".into(), challenge.into()));
    let answer = machine.asks("registry.test/acme/os:1").await;
    assert_eq!(answer, no_token("registry.test", "it uses TLS, but its token service tokens.test does not"));
    assert_eq!(open.connections(), 0);
}

#[tokio::test]
async fn no_proxy_matches_domains_addresses_and_networks() {
    let hosts = ["10.1.0.1 registry.corp.test", "10.1.0.2 corp.test", "10.1.0.3 notcorp.test"];
    let test = "no_proxy_matches_domains_addresses_and_networks";
    let Some(machine) = Machine::apart(test, &hosts) else { return };
    let hosts = [
        ("registry.corp.test", "10.1.0.1:443"),
        ("corp.test", "10.1.0.2:443"),
        ("notcorp.test", "10.1.0.3:443"),
        ("10.1.0.4", "10.1.0.4:443"),
        ("10.1.0.5", "10.1.0.5:443"),
    ];
    let every = hosts.map(|(name, _)| name);
    // Another registry is behind the proxy, so that the answer shows which way was used.
    let (_behind, elsewhere) = machine.registry("10.1.0.8:443", &every, "4.18.2");
    let proxy = Proxy::at("10.1.0.9:3128", "10.1.0.8:443").await;
    let mut registries = Vec::new();
    let mut here = String::new();
    for (name, address) in hosts {
        machine.trust(name);
        let (registry, digest) = machine.registry(address, &every, "4.18.1");
        registries.push(registry);
        here = digest;
    }
    let proxy_address = format!("http://{}", proxy.address);
    let mut tunnels = Vec::new();
    for (no_proxy, without) in [
        ("", &[][..]),
        (".corp.test", &["registry.corp.test"]),
        ("corp.test", &["registry.corp.test", "corp.test"]),
        ("10.1.0.4", &["10.1.0.4"]),
        ("10.1.0.4/31", &["10.1.0.4", "10.1.0.5"]),
        ("10.2.0.0/16, notcorp.test", &["notcorp.test"]),
        // A network matches only hosts that are written as an address; names are not resolved for it.
        ("10.1.0.0/16", &["10.1.0.4", "10.1.0.5"]),
        ("*", &["registry.corp.test", "corp.test", "notcorp.test", "10.1.0.4", "10.1.0.5"]),
    ] {
        for (name, _) in hosts {
            let environment = [("HTTPS_PROXY", &*proxy_address), ("NO_PROXY", no_proxy)];
            let answer = machine.asks_with(&format!("{name}/acme/os:1"), "20s", &environment).await;
            let asked: Vec<_> = proxy.requests().split_off(tunnels.len());
            tunnels.extend(asked.clone());
            if without.contains(&name) {
                assert_eq!(answer, image(&here, name), "{no_proxy}");
                assert_eq!(asked, [[""; 0]; 0], "{no_proxy} {name}");
            } else {
                assert_eq!(answer, image(&elsewhere, name), "{no_proxy}");
                let connect = format!("CONNECT {name}:443 HTTP/1.1");
                assert!(!asked.is_empty(), "{no_proxy} {name}");
                assert!(asked.iter().all(|head| *head == [connect.clone()]), "{no_proxy} {name}: {asked:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_unreachable_mirror_leaves_time_for_the_next() {
    let lost = format!("{LOST} lost.test");
    let hosts = [&*lost, "10.9.0.1 hole.test", "10.10.0.1 none.test", "10.1.0.1 source.test"];
    let test = "an_unreachable_mirror_leaves_time_for_the_next";
    let Some(machine) = Machine::apart(test, &hosts) else { return };
    let (_source, digest) = machine.registry("10.1.0.1:443", &["source.test"], "4.18.1");
    machine.trust("source.test");
    let reference = "source.test/acme/os:1";
    let mirrors = |names: &[&str]| {
        let mut text = "[[registry]]\nlocation = \"source.test\"\n".to_owned();
        for name in names {
            text.push_str(&format!("[[registry.mirror]]\nlocation = \"{name}\"\n"));
        }
        machine.registries_conf(&text);
    };
    // Each mirror that hangs takes half of the time left, and the last one must have time to answer.
    let budget = Duration::from_secs(8);
    for names in
        [&["hole.test"][..], &["none.test"], &["lost.test"], &["none.test", "hole.test", "lost.test"]]
    {
        mirrors(names);
        let begun = Instant::now();
        let answer = machine.asks_with(reference, "8s", &[]).await;
        assert_eq!(answer, image(&digest, "source.test"), "{names:?}");
        assert!(begun.elapsed() < budget + MARGIN, "{names:?}: {:?}", begun.elapsed());
    }
    // Alone, each is reported by its name.
    for (name, timeout, expected) in [
        ("hole.test", "20s", unreachable("hole.test", "Invalid argument")),
        ("none.test", "20s", unreachable("none.test", "No route to host")),
        ("lost.test", "1s", Fact::Unknown(Cause::OutOfTime { host: "lost.test".into() })),
    ] {
        assert_eq!(machine.asks_with(&format!("{name}/acme/os:1"), timeout, &[]).await, expected);
    }
}

#[tokio::test]
async fn one_dead_address_of_two_does_not_prevent_an_answer() {
    let hosts = [
        format!("{LOST} v6-lives.test"),
        "fd00::1 v6-lives.test".to_owned(),
        format!("{LOST_6} v4-lives.test"),
        "10.1.0.1 v4-lives.test".to_owned(),
        "fd00::2 v4-serves.test".to_owned(),
        "10.1.0.1 v4-serves.test".to_owned(),
        format!("{LOST} one-lives.test"),
        "10.1.0.1 one-lives.test".to_owned(),
    ];
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    let test = "one_dead_address_of_two_does_not_prevent_an_answer";
    let Some(machine) = Machine::apart(test, &hosts) else { return };
    let names = ["v6-lives.test", "v4-lives.test", "v4-serves.test", "one-lives.test"];
    let (_four, by_four) = machine.registry("10.1.0.1:443", &names, "4.18.4");
    let (_six, by_six) = machine.registry("[fd00::1]:443", &names, "4.18.6");
    for (name, digest) in names.into_iter().zip([&by_six, &by_four, &by_four, &by_four]) {
        machine.trust(name);
        let answer = machine.asks_with(&format!("{name}/acme/os:1"), "8s", &[]).await;
        assert_eq!(answer, image(digest, name));
    }
}

#[tokio::test]
async fn credentials_are_those_of_the_requested_name() {
    let hosts = ["10.1.0.1 one.test sub.one.test", "10.1.0.2 two.test"];
    let test = "credentials_are_those_of_the_requested_name";
    let Some(machine) = Machine::apart(test, &hosts) else { return };
    let registry = |address: &str, user: &str| {
        let names = ["one.test", "sub.one.test", "two.test", "10.1.0.1"];
        let registry = Registry::builder()
            .address(at(address))
            .tls(machine.authority.issue(&names))
            .basic_auth(user, "s3cr3t-word")
            .start()
            .unwrap();
        let digest = registry.push("acme/os", Some("1"), &Image::base("4.18.1"));
        (registry, digest)
    };
    let ((one, digest), (two, _)) = (registry("10.1.0.1:443", "one"), registry("10.1.0.2:443", "two"));
    let (other_port, _) = registry("10.1.0.1:5000", "port");
    for host in ["one.test", "one.test:5000", "sub.one.test", "two.test", "10.1.0.1"] {
        machine.trust(host);
    }
    machine.auths(
        &json!({"one.test": password("one", "s3cr3t-word"), "two.test": password("two", "s3cr3t-word")}),
    );
    let shown = |registry: &Registry| {
        let mut shown: Vec<_> =
            registry.requests().iter().filter_map(|r| r.authorization().map(str::to_owned)).collect();
        shown.sort();
        shown.dedup();
        shown
    };
    assert_eq!(machine.asks("one.test/acme/os:1").await, image(&digest, "one.test"));
    assert_eq!(machine.asks("two.test/acme/os:1").await, image(&digest, "two.test"));
    assert_eq!(shown(&one), [ONE]);
    assert_eq!(shown(&two), [TWO]);
    // Nor for a subdomain, its address, or another port.
    one.clear_requests();
    for host in ["sub.one.test", "10.1.0.1", "one.test:5000"] {
        let answer = machine.asks(&format!("{host}/acme/os:1")).await;
        assert_eq!(answer, refused(host, 401, CredentialsSent::NoEntry, NodeCredentials::Same));
    }
    assert_eq!((shown(&one), shown(&other_port)), (vec![], vec![]));
    // A redirect does not send credentials to another host, and that host cannot ask for its own.
    two.clear_requests();
    one.set_fault(Fault::RedirectTo("https://two.test".into()));
    let answer = machine.asks("one.test/acme/os:1").await;
    assert_eq!(answer, Fact::Unknown(Cause::Status { host: "two.test".into(), status: 401 }));
    assert_eq!(shown(&two), [""; 0]);
    assert!(!two.requests().is_empty());
}

#[tokio::test]
async fn the_docker_registry_is_trusted_by_its_name_and_ca() {
    needs!("docker-registry", "skopeo", "htpasswd");
    let hosts = ["10.1.0.1 registry.test", "10.1.0.2 mirror.test"];
    let test = "the_docker_registry_is_trusted_by_its_name_and_ca";
    let Some(machine) = Machine::apart(test, &hosts) else { return };
    let registry = DockerRegistry::builder()
        .address(at("10.1.0.1:5000"))
        .tls(machine.authority.issue(&["registry.test"]))
        .htpasswd("alice", "s3cr3t-word")
        .start()
        .unwrap();
    registry.skopeo_copy(&archive("derived"), "acme/os:1", Some(("alice", "s3cr3t-word"))).unwrap();
    let reference = "registry.test:5000/acme/os:1";
    let digest = digest_by_skopeo(reference, &["--creds", "alice:s3cr3t-word"]);
    let untrusted = untrusted("registry.test:5000", "UnknownIssuer");
    machine.auths(&json!({"registry.test:5000": password("alice", "s3cr3t-word")}));
    assert_eq!(machine.asks(reference).await, untrusted);
    machine.trust("registry.test:5000");
    assert_eq!(machine.asks(reference).await, image(&digest, "registry.test:5000"));
    // A mirror of the same kind, with another name and address, without authentication.
    let mirror = DockerRegistry::builder()
        .address(at("10.1.0.2:443"))
        .tls(machine.authority.issue(&["mirror.test"]))
        .start()
        .unwrap();
    mirror.skopeo_copy(&archive("chunked"), "acme/os:1", None).unwrap();
    machine.trust("mirror.test");
    machine.registries_conf(
        "[[registry]]\nlocation = \"registry.test:5000\"\n[[registry.mirror]]\nlocation = \"mirror.test\"\n",
    );
    let mirrored = digest_by_skopeo("mirror.test/acme/os:1", &["--no-creds"]);
    assert_ne!(mirrored, digest);
    assert_eq!(machine.asks(reference).await, image(&mirrored, "mirror.test"));
    // Without the mirror, the source answers.
    drop(mirror);
    assert_eq!(machine.asks(reference).await, image(&digest, "registry.test:5000"));
}

/// Packets to it are dropped.
const LOST: &str = "10.8.0.2";
const LOST_6: &str = "fd08::2";

/// Addresses of this machine that must not be contacted. Unspecified ones reach loopback.
const NOBODY: [&str; 4] = ["169.254.169.254", "127.0.0.1", "[::1]", "[fe80::1%1]"];

/// `one:s3cr3t-word` and `two:s3cr3t-word` as Basic credentials.
const ONE: &str = "Basic b25lOnMzY3IzdC13b3Jk";
const TWO: &str = "Basic dHdvOnMzY3IzdC13b3Jk";

/// How long the program itself may take on a busy machine, apart from the time it waits.
const MARGIN: Duration = Duration::from_secs(4);

/// No host behind `wire` has the addresses that are routed to it.
const NETWORK: &str = "\
link set lo up
address add 10.1.0.0/16 dev lo
address add fd00::1/128 dev lo nodad
address add 169.254.169.254/32 dev lo
address add fe80::1/128 dev lo nodad
link add wire type veth peer name end
link set wire up
link set end up
address add 10.8.0.1/24 dev wire
neighbour add 10.8.0.2 lladdr 02:00:00:00:00:01 dev wire nud permanent
address add fd08::1/64 dev wire nodad
neighbour add fd08::2 lladdr 02:00:00:00:00:01 dev wire nud permanent
route add blackhole 10.9.0.0/16
route add unreachable 10.10.0.0/16
";
