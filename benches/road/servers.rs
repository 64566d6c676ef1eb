//! The servers: the release binary, a listener with an empty route, and a registry for both.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use layerpin::server::{ConnectionLimits, Listener};
use layerpin::tls::profile::Protocol;
use layerpin::tls::{ServingCertificate, TlsEndpoint};
use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::{Fault, Registry};
use layerpin_test_support::measure::memory;
use layerpin_test_support::program::{Guard, addresses, layerpin};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::documents::{NEW_TAG, Reviews};

/// Everything that runs while it is measured.
pub(crate) struct Servers {
    /// The release binary.
    pub(crate) layerpin: Server,
    /// A listener with the empty route.
    pub(crate) empty: Server,
    /// The registry of the images.
    pub(crate) registry: Registry,
}

impl Servers {
    pub(crate) fn start() -> Self {
        layerpin::install_crypto_provider();
        let this = std::env::current_exe().unwrap_or_else(|error| panic!("this program: {error}"));
        Self {
            layerpin: Server::start(&layerpin()),
            empty: Server::start(&this),
            registry: Registry::start().unwrap_or_else(|error| panic!("the registry: {error}")),
        }
    }

    /// Sends `count` reviews with the same new tag at once, while the registry takes its time, and
    /// tells how often it was asked.
    pub(crate) fn heads_of_equal_tags(&self, count: usize, reviews: &Reviews) -> usize {
        self.registry.push("acme/os", Some(NEW_TAG), &Image::base("4.20.1"));
        // Longer than it takes to send all of them.
        self.registry.set_fault(Fault::Latency(Duration::from_secs(2)));
        let url = self.layerpin.url("/mutate?timeout=10s");
        let runtime = tokio::runtime::Runtime::new().unwrap_or_else(|error| panic!("{error}"));
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            let mut client = self.layerpin.client();
            for index in 0..count {
                // The server takes so many at once on one connection of HTTP/2.
                if index % 250 == 0 {
                    client = self.layerpin.client();
                }
                let request = client.post(&url).body(reviews.with_new_tag());
                tasks.spawn(async move { request.send().await?.error_for_status()?.text().await });
            }
            while let Some(answer) = tasks.join_next().await {
                match answer {
                    Ok(Ok(text)) => assert!(text.contains("\"patch\":"), "{text}"),
                    other => panic!("{other:?}"),
                }
            }
        });
        self.registry.clear_fault();
        self.registry.count("HEAD", &format!("/manifests/{NEW_TAG}"))
    }
}

/// A server in a process of its own; dropping it kills it.
pub(crate) struct Server {
    child: Guard,
    address: SocketAddr,
    admin_address: SocketAddr,
    authority: Vec<u8>,
    log: RefCell<Log>,
    _folder: TempDir,
}

impl Server {
    /// Starts a program that takes the command line of `layerpin`.
    fn start(program: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("a folder: {error}"));
        // A file: whoever reads a pipe while it is written to would be measured, too.
        let path = folder.path().join("log");
        let log = File::create(&path).unwrap_or_else(|error| panic!("its log: {error}"));
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .current_dir(folder.path())
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let output = child.stdout.take().unwrap_or_else(|| panic!("{}", program.display()));
        let child = Guard(child);
        let [address, admin_address] = addresses(output, || program.display().to_string());
        let authority = std::fs::read(folder.path().join("certs/dev-ca.crt"));
        Self {
            child,
            address,
            admin_address,
            authority: authority.unwrap_or_else(|error| panic!("its CA: {error}")),
            log: RefCell::new(Log::at(&path)),
            _folder: folder,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// How many reviews its log has told of.
    pub(crate) fn reviews_logged(&self) -> u64 {
        let mut log = self.log.borrow_mut();
        // The last lines are gathered for a moment: read until nothing comes.
        loop {
            let before = log.reviews;
            log.read_on();
            if log.reviews == before {
                return before;
            }
            #[expect(clippy::disallowed_methods, reason = "the pause between two looks at the log")]
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// How many reviews its metrics have counted.
    pub(crate) fn reviews_counted(&self) -> u64 {
        let url = format!("https://{}/metrics", self.admin_address);
        let runtime = tokio::runtime::Runtime::new().unwrap_or_else(|error| panic!("{error}"));
        let text = runtime.block_on(async { self.client().get(url).send().await?.text().await });
        let text = text.unwrap_or_else(|error| panic!("its metrics: {error}"));
        let series = text.lines().filter(|line| line.starts_with("layerpin_reviews_total{"));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// What of it is in memory, as the kernel tells.
    pub(crate) fn resident_megabytes(&self) -> f64 {
        memory(self.child.0.id(), "VmRSS").unwrap_or_else(|| panic!("it has ended"))
    }

    fn client(&self) -> reqwest::Client {
        let authority = reqwest::Certificate::from_pem(&self.authority);
        let builder = reqwest::Client::builder().no_proxy();
        let client = authority.and_then(|authority| builder.tls_certs_only([authority]).build());
        client.unwrap_or_else(|error| panic!("a client: {error}"))
    }
}

/// A log that is read once, from where the last look ended.
struct Log {
    lines: BufReader<File>,
    line: Vec<u8>,
    reviews: u64,
}

impl Log {
    fn at(path: &Path) -> Self {
        let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { lines: BufReader::with_capacity(256 * 1024, file), line: Vec::new(), reviews: 0 }
    }

    /// Counts the lines that tell of a review, whose message is that word alone.
    fn read_on(&mut self) {
        while self.lines.read_until(b'\n', &mut self.line).is_ok_and(|length| length > 0) {
            if !self.line.ends_with(b"\n") {
                // The rest of it is still to come.
                return;
            }
            self.reviews += u64::from(self.line.windows(MESSAGE.len()).any(|window| window == MESSAGE));
            self.line.clear();
        }
    }
}

/// A listener like that of the webhooks, with a route that only reads the body and answers 200. It has no admin
/// address; the one that it prints is its own.
pub(crate) fn serve_empty_route() -> ExitCode {
    layerpin::install_crypto_provider();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (certificate, authority) = ServingCertificate::self_signed(free.ip()).expect("a certificate");
        std::fs::create_dir_all("certs").expect("a folder");
        std::fs::write("certs/dev-ca.crt", authority).expect("its CA");
        let tls = TlsEndpoint::new(Arc::new(certificate), None, &Protocol::default()).expect("TLS settings");
        let routes = Router::new()
            .route("/empty", post(|body: Bytes| async { drop(body) }))
            .layer(DefaultBodyLimit::disable());
        let listener = Listener::bind(free, Arc::new(tls), routes, ConnectionLimits::default()).await;
        let listener = listener.expect("a free port");
        let address = listener.address().expect("its address");
        println!("listening on https://{address}\nadmin listening on https://{address}");
        let (_closing, closed) = watch::channel(false);
        listener.serve(closed).await;
    });
    ExitCode::SUCCESS
}

const MESSAGE: &[u8] = b"\"message\":\"review\"";
