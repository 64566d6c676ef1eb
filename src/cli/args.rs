//! The command line as types; their doc comments are the text of `--help` and of the man pages.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::model::image_reference::ImageReference;
use crate::server::DryRunAccess;
use crate::tls::profile::{CipherSuite, Version};

/// Guards MachineConfig.spec.osImageURL on OpenShift: pins tags to digests and checks images before
/// nodes pull them.
#[derive(Debug, Parser)]
#[command(name = "layerpin", version, max_term_width = 100, propagate_version = true)]
pub struct CommandLine {
    /// The verb and its options.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the admission webhooks
    ///
    /// Serves AdmissionReviews of MachineConfigs over TLS. POST /mutate pins tags to digests, POST
    /// /validate denies or warns, POST /dry-run shows what both would do with an object. The admin address
    /// serves /healthz, /readyz and /metrics. On SIGTERM the server finishes the reviews in progress and
    /// stops.
    ///
    /// Prints `listening on https://ADDR` once it listens. Logs one line for each review to standard error:
    /// as text on a terminal, as JSON otherwise. RUST_LOG sets the filter.
    Serve(Box<ServeArgs>),
    /// Check MachineConfigs in files, as the webhooks would
    ///
    /// Reads YAML and JSON with any number of documents. Finds MachineConfigs in lists and in objects that
    /// contain them: ConfigMap, Secret (stringData), OpenShift Template, Policy and ManifestWork of Advanced
    /// Cluster Management, SyncSet of Hive, Kustomization. Other documents are ignored. In a folder, reads
    /// the files that end in .yaml, .yml or .json and are not ignored by Git. A file that is named on the
    /// command line is read whatever its name is.
    ///
    /// Exit status: 0 if nothing is denied (warnings are allowed), 1 if something is denied, 2 if something
    /// could not be read or done. With status 2 everything else is still checked and reported.
    Check(Box<CheckArgs>),
    /// Replace tags by digests in files, and record the tags
    ///
    /// Reads files, folders (files that end in .yaml, .yml or .json and are not ignored by Git) and - for
    /// standard input. Without --write and --check, prints the changes as a diff. A file in which the value
    /// cannot be replaced exactly stays unchanged and is reported.
    ///
    /// Exit status: 0 if nothing is left to do, 1 if --check found something to change, 2 if something could
    /// not be read or done.
    Pin(Box<PinArgs>),
    /// Print the base image to build FROM, by digest
    ///
    /// Prints the base image of the cluster's release, of one of its pools (--pool), of another release
    /// (--release-image), or the image of --base-image by digest. Standard output has the pull spec alone,
    /// for use in a command: podman build --build-arg BASE=$(layerpin base --release-image REF) …
    Base(Box<BaseArgs>),
    /// Show the lineage of an image: its base, its own layers, and what is wrong
    ///
    /// Takes a pull spec, or a file or folder with MachineConfigs. The osImageURL of a MachineConfig is
    /// explained for each pool that selects it. A pull spec is compared with the base images of all OS
    /// streams of the release.
    ///
    /// Exit status: 0 if the image was explained, whatever the result is, 2 if something could not be read.
    Explain(Box<ExplainArgs>),
    /// List the rules, or show the documentation of one
    ///
    /// Without RULE, prints one line for each rule: its id, its level in the recommended policy, and the
    /// fault that it finds. With RULE, prints what the rule checks, why that is a fault, and how to fix it.
    Rules(RulesArgs),
    /// Print the completion script for a shell
    ///
    /// For bash: layerpin completions bash > ~/.local/share/bash-completion/completions/layerpin
    Completions(CompletionsArgs),
}

/// Options about the sources of facts, the same for every verb that needs facts.
#[derive(Args, Debug)]
pub struct FactArgs {
    /// Kubeconfig of the cluster [default: the files of $KUBECONFIG, else ~/.kube/config, else the service
    /// account of the pod, else no cluster]
    #[arg(long, value_name = "FILE", env = "LAYERPIN_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// Context in the kubeconfig [default: its current context]
    #[arg(long, value_name = "NAME", env = "LAYERPIN_CONTEXT")]
    pub context: Option<String>,

    /// Use no cluster, even if a kubeconfig or a service account is found
    #[arg(long, env = "LAYERPIN_NO_CLUSTER")]
    pub no_cluster: bool,

    /// Release image whose base images are accepted, instead of the release of the cluster
    #[arg(long, value_name = "REF", env = "LAYERPIN_RELEASE_IMAGE", value_parser = image, conflicts_with = "facts")]
    pub release_image: Option<ImageReference>,

    /// Base image that is accepted, instead of those of a release; can be repeated, or separated by
    /// commas
    #[arg(
        long,
        value_name = "REF",
        env = "LAYERPIN_BASE_IMAGE",
        value_parser = image,
        value_delimiter = ',',
        conflicts_with = "facts"
    )]
    pub base_image: Vec<ImageReference>,

    /// Registry credentials (dockerconfigjson) that nodes use [default: in a cluster the global pull
    /// secret; else the user's own credentials, which say nothing about nodes: the file of
    /// $REGISTRY_AUTH_FILE, or those of Podman and Docker: $XDG_RUNTIME_DIR/containers/auth.json,
    /// ~/.config/containers/auth.json, ~/.docker/config.json, ~/.dockercfg]
    #[arg(long, value_name = "FILE", env = "LAYERPIN_AUTHFILE")]
    pub authfile: Option<PathBuf>,

    /// Mirrors, blocked and insecure registries of the nodes (containers-registries.conf, version 2), with
    /// the drop-in files in FILE.d [default: in a cluster its mirror sets and image configuration; else
    /// none]
    #[arg(long, value_name = "FILE", env = "LAYERPIN_REGISTRIES_CONF")]
    pub registries_conf: Option<PathBuf>,

    /// Certificates for single registries, in the layout of containers-certs.d: CA certificates as
    /// DIR/HOST/*.crt or DIR/HOST:PORT/*.crt, client certificates as *.cert with *.key [default: without a
    /// cluster ~/.config/containers/certs.d, /etc/containers/certs.d, /etc/docker/certs.d]
    #[arg(long, value_name = "DIR", env = "LAYERPIN_CERT_DIR")]
    pub cert_dir: Option<PathBuf>,

    /// Policy file [default: the built-in policy `recommended`]
    #[arg(long, value_name = "FILE", env = "LAYERPIN_POLICY")]
    pub policy: Option<PathBuf>,

    /// Use no registry and no cluster: everything that they would answer is unknown
    #[arg(long, env = "LAYERPIN_OFFLINE")]
    pub offline: bool,

    /// Read facts from FILE, as written by --save-facts, and use no registry and no cluster; what FILE does
    /// not contain is unknown, and exceptions expire by the time of the recorded run
    #[arg(long, value_name = "FILE", env = "LAYERPIN_FACTS")]
    pub facts: Option<PathBuf>,

    /// Time limit for all requests to registries and the cluster for one object, such as 5s, 500ms or
    /// 1m30s; in a webhook the timeout of the API server, less a margin, is a further limit
    #[arg(long, value_name = "DURATION", env = "LAYERPIN_TIMEOUT", default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
}

/// Options of `layerpin serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Address of the webhooks; port 0 chooses a free port
    #[arg(long, value_name = "ADDR", env = "LAYERPIN_LISTEN", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,

    /// Address of probes and metrics, also over TLS; port 0 chooses a free port
    #[arg(long, value_name = "ADDR", env = "LAYERPIN_ADMIN_LISTEN", default_value = "0.0.0.0:9443")]
    pub admin_listen: SocketAddr,

    /// Serving certificate chain (PEM), reloaded when it changes [default: a self-signed certificate]
    #[arg(long, value_name = "FILE", env = "LAYERPIN_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the serving certificate (PEM), reloaded when it changes
    #[arg(long, value_name = "FILE", env = "LAYERPIN_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// CA certificates (PEM); the webhooks then accept only callers with a client certificate from one of
    /// these CAs
    #[arg(long, value_name = "FILE", env = "LAYERPIN_CLIENT_CA")]
    pub client_ca: Option<PathBuf>,

    /// Minimum TLS version of both addresses [default: that of tlsSecurityProfile in APIServer/cluster;
    /// VersionTLS12 if there is none or if --tls-cipher-suites is set]
    #[arg(long, value_enum, value_name = "VERSION", env = "LAYERPIN_TLS_MIN_VERSION")]
    pub tls_min_version: Option<Version>,

    /// Cipher suites of TLS 1.2, separated by commas; if none of them is for TLS 1.2, that version is
    /// disabled. All suites of TLS 1.3 are always enabled [default: those of tlsSecurityProfile in
    /// APIServer/cluster; all if there is none or if --tls-min-version is set]
    #[arg(
        long,
        value_enum,
        value_name = "SUITES",
        env = "LAYERPIN_TLS_CIPHER_SUITES",
        value_delimiter = ','
    )]
    pub tls_cipher_suites: Option<Vec<CipherSuite>>,

    /// File for the CA certificate of the self-signed certificate
    #[arg(long, value_name = "FILE", env = "LAYERPIN_DEV_CA_OUT", default_value = "certs/dev-ca.crt")]
    pub dev_ca_out: PathBuf,

    /// Who may use /dry-run, which sends requests to registries on behalf of the caller [default:
    /// authorized with a cluster, anyone without]
    #[arg(long, value_enum, value_name = "ACCESS", env = "LAYERPIN_DRY_RUN_ACCESS")]
    pub dry_run_access: Option<DryRunAccess>,

    /// The sources of facts.
    #[command(flatten, next_help_heading = "Facts")]
    pub facts: FactArgs,
}

/// Options of `layerpin pin`.
#[derive(Args, Debug)]
pub struct PinArgs {
    /// Files, folders, or - for standard input
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,

    /// Write the digests and the annotation that records the tag into the files; every other byte stays the
    /// same. Standard input is written to standard output
    #[arg(long, conflicts_with = "check")]
    pub write: bool,

    /// List what would change, and exit with status 1 if anything would
    #[arg(long)]
    pub check: bool,

    /// Resolve the recorded tag of each pinned image again, and pin its current digest
    #[arg(long)]
    pub update: bool,

    /// The sources of facts.
    #[command(flatten, next_help_heading = "Facts")]
    pub facts: FactArgs,

    /// The record of the run.
    #[command(flatten)]
    pub record: RecordArgs,
}

/// Options about the record of a run.
#[derive(Args, Debug)]
pub struct RecordArgs {
    /// Write all facts of this run to FILE, for --facts; FILE contains references, digests and host names,
    /// and no credentials
    #[arg(long, value_name = "FILE", env = "LAYERPIN_SAVE_FACTS", conflicts_with = "facts")]
    pub save_facts: Option<PathBuf>,
}

/// Options of `layerpin check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Files, folders, or - for standard input
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Format of the report on standard output
    #[arg(long, value_enum, env = "LAYERPIN_FORMAT", default_value = "text")]
    pub format: Format,

    /// The sources of facts.
    #[command(flatten, next_help_heading = "Facts")]
    pub facts: FactArgs,

    /// The record of the run.
    #[command(flatten)]
    pub record: RecordArgs,
}

/// The formats of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people: each finding with its place, its reason and how to fix it
    Text,
    /// The whole report, with the references to write instead
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Workflow commands of GitHub Actions, which are shown as annotations
    Github,
}

/// Options of `layerpin completions`.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Options of `layerpin base`.
#[derive(Args, Debug)]
pub struct BaseArgs {
    /// Pool of the cluster, to print the base image of its OS stream
    #[arg(long, value_name = "NAME")]
    pub pool: Option<String>,

    /// OS stream, such as rhel-10, or tag in the release, such as rhel-coreos-10 [default: the stream of
    /// pools that choose none]
    #[arg(long, value_name = "NAME")]
    pub stream: Option<String>,

    /// Format of the output
    #[arg(long, value_enum, default_value = "text")]
    pub format: BaseFormat,

    /// The sources of facts.
    #[command(flatten, next_help_heading = "Facts")]
    pub facts: FactArgs,
}

/// The formats of `layerpin base`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BaseFormat {
    /// The pull spec alone
    Text,
    /// A document with the release, every stream, its base image and its platforms
    Json,
}

/// Options of `layerpin explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// A pull spec, a file or folder with MachineConfigs, or - for standard input
    #[arg(value_name = "IMAGE|PATH")]
    pub what: String,

    /// Format of the output
    #[arg(long, value_enum, default_value = "text")]
    pub format: ExplainFormat,

    /// The sources of facts.
    #[command(flatten, next_help_heading = "Facts")]
    pub facts: FactArgs,

    /// The record of the run.
    #[command(flatten)]
    pub record: RecordArgs,
}

/// The formats of `layerpin explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    /// A drawing as wide as the terminal
    Text,
    /// All details, layer by layer
    Json,
    /// A graph for Graphviz
    Dot,
    /// A graph for Mermaid
    Mermaid,
}

/// Options of `layerpin rules`.
#[derive(Args, Debug)]
pub struct RulesArgs {
    /// Id of a rule, such as floating-tag [default: list all rules]
    #[arg(value_name = "RULE")]
    pub rule: Option<String>,
}

fn image(text: &str) -> Result<ImageReference, String> {
    ImageReference::parse(text).map_err(|error| format!("{error}\n\nhelp: {}", error.help()))
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::duration::parse(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "not a duration; write it as 5s, 500ms or 1m30s".to_owned())
}
