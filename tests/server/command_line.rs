//! The command line: settings, exit codes, and what is said when something cannot be done.

use std::time::Duration;

use layerpin_sample_registry::{Authority, Fault, Registry};
use layerpin_test_support::documents::{create, machine_config, policy};
use layerpin_test_support::program::{ANSWERED, Setup};
use tokio::time::timeout;

use crate::answers::not_pinned;

#[test]
fn what_cannot_be_done_ends_with_2_and_names_the_file() {
    let broken = Setup::serve();
    broken.write("policy.yaml", &policy("  rules: {nope: deny}\n"));
    for (setup, message) in [
        (
            Setup::serve().arguments(["--policy", "absent.yaml"]),
            "error: policy file absent.yaml: No such file",
        ),
        (broken.arguments(["--policy", "policy.yaml"]), "error: policy.yaml:5: unknown rule `nope`"),
        (
            Setup::serve().arguments(["--tls-cert", "absent.crt", "--tls-key", "absent.key"]),
            "error: --tls-cert and --tls-key: cannot read absent.crt: No such file or directory\n",
        ),
        (Setup::serve().arguments(["--tls-cert", "absent.crt"]), "--tls-key <FILE>"),
        (
            Setup::serve().arguments(["--authfile", "absent.json"]),
            "error: auth file absent.json: No such file or directory\n",
        ),
        (Setup::serve().arguments(["--timeout", "soon"]), "not a duration; write it as 5s, 500ms or 1m30s"),
        (
            Setup::serve().arguments(["--release-image", "ocp-release:4.18.14"]),
            "error: invalid value 'ocp-release:4.18.14' for '--release-image <REF>': `ocp-release:4.18.14` names no \
             registry; there is no default one\n\nhelp: put the registry in front",
        ),
        (
            Setup::serve().arguments([
                "--base-image",
                "quay.io/acme/os:1",
                "--base-image",
                "docker://quay.io/os",
            ]),
            "error: invalid value 'docker://quay.io/os' for '--base-image <REF>': `docker://quay.io/os` begins with \
             the transport",
        ),
        (
            Setup::serve().arguments(["--facts", "facts.json", "--base-image", "quay.io/acme/os:1"]),
            "the argument '--facts <FILE>' cannot be used with '--base-image <REF>'",
        ),
        (
            Setup::serve().arguments(["--tls-min-version", "VersionTLS11"]),
            "error: invalid value 'VersionTLS11' for '--tls-min-version <VERSION>'\n  [possible values: \
             VersionTLS12, VersionTLS13]\n",
        ),
        (
            Setup::serve()
                .arguments(["--tls-cipher-suites", "TLS_AES_128_GCM_SHA256,TLS_RSA_WITH_AES_128_CBC_SHA"]),
            "error: invalid value 'TLS_RSA_WITH_AES_128_CBC_SHA' for '--tls-cipher-suites <SUITES>'\n  [possible \
             values: TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256, \
             TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, \
             TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, \
             TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256]\n",
        ),
        (Setup::verb("conquer"), "unrecognized subcommand 'conquer'"),
        (Setup::verb("rules").arguments(["nope"]), "error: unknown rule `nope`; the rules are "),
    ] {
        let (code, output, error) = setup.ended();
        assert_eq!((code, output.as_str()), (2, ""), "{error}");
        assert!(error.contains(message), "{message}: {error}");
    }
}

/// Broken files: the only line of the error names the file, the place in it, and what is expected there.
#[test]
fn files_that_are_broken_are_named_with_the_place_and_what_to_do() {
    let authority = Authority::new();
    let (one, two) = (authority.issue(&["127.0.0.1"]), authority.issue(&["127.0.0.1"]));
    let (first, second) = (one.certificate_pem().trim_end(), two.certificate_pem());
    let lines = first.lines().count();
    let between = |rubbish: &str| {
        format!("{first}\n-----BEGIN CERTIFICATE-----\n{rubbish}\n-----END CERTIFICATE-----\n{second}")
    };
    let (no_base64, no_certificate) = (between("rubbish!"), between("cnViYmlzaA=="));
    let pem = "PEM that begins with `BEGIN CERTIFICATE` is expected";
    let (at, remedy) = (lines + 1, "fix it or remove it");
    let pair = "--tls-cert and --tls-key: ";
    let serving = ["--tls-cert", "one", "--tls-key", "two"];
    for (arguments, one, two, expected) in [
        (
            &serving[..],
            first,
            two.key_pem(),
            format!(
                "{pair}one and two do not match: keys may not be consistent: KeyMismatch; the key must \
                 belong to the first certificate in the file"
            ),
        ),
        (
            &serving,
            first,
            first,
            format!(
                "{pair}two cannot be used: no private key in PEM format; PEM that begins with `BEGIN PRIVATE \
                 KEY` is expected"
            ),
        ),
        (
            &serving,
            &no_base64,
            one.key_pem(),
            format!("{pair}one cannot be used: base64 decode error: InvalidCharacter(33); {pem}"),
        ),
        (
            &["--client-ca", "one"],
            &no_base64,
            "",
            format!("--client-ca: one cannot be used: line {at}: the certificate that begins here is not valid base64; {remedy}"),
        ),
        (
            &["--client-ca", "one"],
            &no_certificate,
            "",
            format!(
                "--client-ca: one cannot be used: line {at}: the certificate that begins here cannot be used: \
                 invalid peer certificate: BadEncoding; {remedy}"
            ),
        ),
        (
            &["--client-ca", "one"],
            one.key_pem(),
            "",
            format!("--client-ca: one cannot be used: line 1: a private key among CA certificates; {remedy}"),
        ),
        (
            &["--authfile", "one"],
            "{\"auths\": [\n\"hunter2\"]}",
            "",
            "auth file one: line 1, column 10: not a dockerconfigjson; {\"auths\": {\"quay.io\": {\"auth\": \"…\"}}} \
             is expected"
                .to_owned(),
        ),
        (
            &["--registries-conf", "one"],
            "[[registry]]\nprefix = 5\n",
            "",
            "one:2: invalid type: integer `5`, expected a string in `registry.prefix`".to_owned(),
        ),
    ] {
        let setup = Setup::serve();
        setup.write("one", one);
        setup.write("two", two);
        let (code, output, error) = setup.arguments(arguments).ended();
        assert_eq!((code, output.as_str(), error), (2, "", format!("error: {expected}\n")));
    }
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let authority = Authority::new();
    let setup = Setup::verb("serve").arguments(["--listen", &address, "--admin-listen", "127.0.0.1:0"]);
    let setup = setup.certificate(&authority);
    let (code, output, error) = setup.ended();
    let expected = format!("error: cannot listen on {address}: Address already in use\n");
    assert_eq!((code, output.as_str(), error), (2, "", expected));
}

#[test]
fn rules_are_listed_and_shown() {
    let (code, list, _) = Setup::verb("rules").ended();
    assert_eq!((code, list.lines().count()), (0, layerpin::rules::ALL.len()));
    let (code, page, _) = Setup::verb("rules").arguments(["floating-tag"]).ended();
    let rule = layerpin::rules::ALL.iter().find(|rule| rule.id == "floating-tag").unwrap();
    assert_eq!((code, page), (0, rule.page()));
}

#[tokio::test]
async fn settings_come_from_the_environment_too() {
    let authority = Authority::new();
    let setup = Setup::serve().certificate(&authority);
    setup.write("policy.yaml", &policy("  rules: {floating-tag: warn}\n"));
    let layerpin = setup
        .environment("LAYERPIN_POLICY", "policy.yaml")
        .environment("LAYERPIN_OFFLINE", "true")
        .environment("LAYERPIN_DRY_RUN_ACCESS", "off")
        .environment("RUST_LOG", "warn")
        .start();
    let review = create(&machine_config().image("registry.example/acme/os:1"));
    let answer = layerpin.webhooks.review("/validate", &review).await;
    let warnings = answer["response"]["warnings"].as_array().unwrap();
    assert!(warnings[0].as_str().unwrap().starts_with("[floating-tag] "), "{answer}");
    assert!(warnings[1].as_str().unwrap().contains("not asked: `--offline` is set"), "{answer}");
    assert_eq!(layerpin.webhooks.post("/dry-run", "").await.status, 404);
    assert_eq!(layerpin.log.text(), "");
}

#[tokio::test]
async fn the_timeout_bounds_what_the_api_server_would_wait_for() {
    let registry = Registry::start().unwrap();
    registry.set_fault(Fault::Latency(Duration::from_secs(3600)));
    let image = format!("{}/acme/os:1", registry.host());
    let review = create(&machine_config().image(&image));
    let layerpin = Setup::serve().arguments(["--timeout", "200ms"]).start();
    let expected =
        not_pinned(&format!("osImageURL: `{image}` not pinned: {} did not answer in time", registry.host()));
    for path in ["/mutate", "/mutate?timeout=30s"] {
        let answer = timeout(ANSWERED, layerpin.webhooks.review(path, &review)).await;
        assert_eq!(answer.expect("an answer in time"), expected, "{path}");
    }
}
