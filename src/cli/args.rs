//! The command line. Types only; their comments are the text of `--help`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::model::image_reference::ImageReference;
use crate::server::DryRunAccess;
use crate::tls::profile::{CipherSuite, Version};

/// Guards MachineConfig.spec.osImageURL on OpenShift: pins tags to digests and judges images before
/// they reach a node.
#[derive(Debug, Parser)]
#[command(name = "layerpin", version, max_term_width = 100, propagate_version = true)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the admission webhooks
    ///
    /// Answers AdmissionReviews for MachineConfigs over TLS: POST /mutate pins tags to digests, POST
    /// /validate denies or warns, POST /dry-run shows what both would do with one object. The admin
    /// address has /healthz, /readyz and /metrics. Stops at SIGTERM after finishing what is in work.
    ///
    /// Logs a line for each review to standard error, as text on a terminal and as JSON otherwise;
    /// RUST_LOG filters. Prints `listening on https://ADDR` when it listens.
    Serve(Box<ServeArgs>),
    /// Judge MachineConfigs in files, as they stand
    ///
    /// Reads YAML and JSON: many documents in a file, lists, and MachineConfigs that objects of other kinds
    /// carry: a ConfigMap, the text of a Secret, an OpenShift Template, a policy or ManifestWork of
    /// Advanced Cluster Management, a SyncSet of Hive, a kustomization. Documents of other kinds are passed
    /// over. Of a folder, the files are read that end in .yaml, .yml or .json, less what Git ignores; a
    /// file that is named is read whatever it is called.
    ///
    /// Exit status: 0 when nothing costs more than a warning, 1 when something is denied, 2 when
    /// something could not be done; what could be judged is reported all the same.
    Check(Box<CheckArgs>),
    /// Replace tags by digests in files, and record what each tag was
    ///
    /// Takes files, folders (their .yaml, .yml and .json files, less what Git ignores) and - for standard
    /// input. Without --write or --check it prints what it would change as a diff. A file that cannot be
    /// changed exactly is left alone and named. Exit status: 0 nothing left to do, 1 --check would
    /// change something, 2 something could not be done.
    Pin(Box<PinArgs>),
    /// Print the base image to build FROM, by digest
    ///
    /// Of the cluster's release, of one of its pools (--pool), of the release that --release-image names,
    /// or an image that --base-image names. Standard output has the pull spec alone: podman build --build-arg BASE=$(layerpin base --release-image REF) …
    Base(Box<BaseArgs>),
    /// Draw the lineage of an image: its base, its own layers, and what is wrong
    ///
    /// Takes a pull spec, or a file or folder with MachineConfigs, whose osImageURL is then explained for
    /// each pool that they reach. A pull spec alone is measured by the base of any OS stream of the
    /// release. Exit status: 0 it was explained, whatever came of it, 2 something could not be read.
    Explain(Box<ExplainArgs>),
    /// List the rules, or show the page of one
    ///
    /// Without RULE, a line for each rule: its id, its level in the recommended policy, its fault. With
    /// RULE, what the rule looks at, why that is a fault, and what to do about it.
    Rules(RulesArgs),
    /// Print the completion script of a shell
    ///
    /// For bash: layerpin completions bash > ~/.local/share/bash-completion/completions/layerpin
    Completions(CompletionsArgs),
}

/// Where facts come from; the same for every verb.
#[derive(Args, Debug)]
pub struct FactArgs {
    /// Kubeconfig of the cluster [default: those of $KUBECONFIG, ~/.kube/config, the account of the
    /// pod; else there is no cluster]
    #[arg(long, value_name = "FILE", env = "LAYERPIN_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", env = "LAYERPIN_CONTEXT")]
    pub context: Option<String>,

    /// Do without a cluster, whatever else names one
    #[arg(long, env = "LAYERPIN_NO_CLUSTER")]
    pub no_cluster: bool,

    /// Release payload to judge lineage against, in place of the cluster's
    #[arg(long, value_name = "REF", env = "LAYERPIN_RELEASE_IMAGE", value_parser = image, conflicts_with = "facts")]
    pub release_image: Option<ImageReference>,

    /// Base image accepted as such, in place of a release; may be given several times, or with commas
    /// in between
    #[arg(
        long,
        value_name = "REF",
        env = "LAYERPIN_BASE_IMAGE",
        value_parser = image,
        value_delimiter = ',',
        conflicts_with = "facts"
    )]
    pub base_image: Vec<ImageReference>,

    /// Registry credentials (dockerconfigjson), taken for those that nodes have [default: in a cluster
    /// the global pull secret; else the file of $REGISTRY_AUTH_FILE, or those of Podman and Docker:
    /// $XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json, ~/.docker/config.json,
    /// ~/.dockercfg. Those are the user's own: that they are refused tells nothing of the nodes]
    #[arg(long, value_name = "FILE", env = "LAYERPIN_AUTHFILE")]
    pub authfile: Option<PathBuf>,

    /// Mirrors, blocked and insecure registries as nodes have them (containers-registries.conf, version
    /// 2), with the drop-in files of the folder FILE.d [default: in a cluster its mirror sets and image
    /// settings; else none]
    #[arg(long, value_name = "FILE", env = "LAYERPIN_REGISTRIES_CONF")]
    pub registries_conf: Option<PathBuf>,

    /// CA certificates for single registries, in the layout of containers-certs.d: DIR/HOST/*.crt, or
    /// DIR/HOST:PORT/*.crt, with *.cert and *.key for client certificates [default: without a cluster
    /// the usual folders: ~/.config/containers/certs.d, /etc/containers/certs.d, /etc/docker/certs.d]
    #[arg(long, value_name = "DIR", env = "LAYERPIN_CERT_DIR")]
    pub cert_dir: Option<PathBuf>,

    /// The policy; see policies/ and policies/RULES.md [default: the recommended policy, built in]
    #[arg(long, value_name = "FILE", env = "LAYERPIN_POLICY")]
    pub policy: Option<PathBuf>,

    /// Ask nobody: everything that needs an answer from a registry is unknown
    #[arg(long, env = "LAYERPIN_OFFLINE")]
    pub offline: bool,

    /// Take facts from FILE, as --save-facts wrote it, and ask nobody: what the file does not hold is
    /// unknown, and exceptions of the policy end by the time of the recorded run
    #[arg(long, value_name = "FILE", env = "LAYERPIN_FACTS")]
    pub facts: Option<PathBuf>,

    /// The time for all outward questions of one object together, such as 5s or 500ms. The API
    /// server's own timeout, less a margin, bounds it further
    #[arg(long, value_name = "DURATION", env = "LAYERPIN_TIMEOUT", default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
}

/// Options of `layerpin serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Address of the webhooks; port 0 takes a free one
    #[arg(long, value_name = "ADDR", env = "LAYERPIN_LISTEN", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,

    /// Address of probes and metrics, TLS as well
    #[arg(long, value_name = "ADDR", env = "LAYERPIN_ADMIN_LISTEN", default_value = "0.0.0.0:9443")]
    pub admin_listen: SocketAddr,

    /// Serving certificate chain, PEM; read again when it changes [default: a self-signed one]
    #[arg(long, value_name = "FILE", env = "LAYERPIN_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Key of the serving certificate, PEM
    #[arg(long, value_name = "FILE", env = "LAYERPIN_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// CA certificates, PEM: only callers with a certificate from one of them reach the webhooks
    #[arg(long, value_name = "FILE", env = "LAYERPIN_CLIENT_CA")]
    pub client_ca: Option<PathBuf>,

    /// Least version of TLS, at both addresses [default: with either of these two flags VersionTLS12; else
    /// what tlsSecurityProfile of APIServer/cluster says, and VersionTLS12 where there is none]
    #[arg(long, value_enum, value_name = "VERSION", env = "LAYERPIN_TLS_MIN_VERSION")]
    pub tls_min_version: Option<Version>,

    /// Cipher suites of TLS 1.2, with commas in between; without any of that version it is not spoken.
    /// TLS 1.3 always has all of its own, whether they are named or not [default: with either of these
    /// two flags all; else what tlsSecurityProfile of APIServer/cluster says]
    #[arg(
        long,
        value_enum,
        value_name = "SUITES",
        env = "LAYERPIN_TLS_CIPHER_SUITES",
        value_delimiter = ','
    )]
    pub tls_cipher_suites: Option<Vec<CipherSuite>>,

    /// Where to write the CA of the self-signed certificate, for clients to trust
    #[arg(long, value_name = "FILE", env = "LAYERPIN_DEV_CA_OUT", default_value = "certs/dev-ca.crt")]
    pub dev_ca_out: PathBuf,

    /// Who may use /dry-run, which makes the server ask registries on a caller's behalf [default:
    /// authorized with a cluster, anyone without]
    #[arg(long, value_enum, value_name = "ACCESS", env = "LAYERPIN_DRY_RUN_ACCESS")]
    pub dry_run_access: Option<DryRunAccess>,

    /// Where facts come from.
    #[command(flatten, next_help_heading = "Facts")]
    pub facts: FactArgs,
}

/// Options of `layerpin pin`.
#[derive(Args, Debug)]
pub struct PinArgs {
    /// Files, folders, or - for standard input
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,

    /// Write the pins into the files: the value and an annotation that records the tag change, every
    /// other byte stays. Standard input is written to standard output
    #[arg(long, conflicts_with = "check")]
    pub write: bool,

    /// Only tell what would change; exit status 1 when something would
    #[arg(long)]
    pub check: bool,

    /// Ask again what the recorded tag of each pinned image means today, and roll forward to it
    #[arg(long)]
    pub update: bool,

    /// Where facts come from.
    #[command(flatten, next_help_heading = "Facts")]
    pub facts: FactArgs,

    /// What is left behind.
    #[command(flatten)]
    pub record: RecordArgs,
}

/// What a verb that ends leaves behind.
#[derive(Args, Debug)]
pub struct RecordArgs {
    /// Write everything that was asked and answered to FILE, for --facts. It holds references, digests
    /// and hosts, and no credentials
    #[arg(long, value_name = "FILE", env = "LAYERPIN_SAVE_FACTS", conflicts_with = "facts")]
    pub save_facts: Option<PathBuf>,
}

/// Options of `layerpin check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Files, folders, or - for standard input
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// The form of the report on standard output
    #[arg(long, value_enum, env = "LAYERPIN_FORMAT", default_value = "text")]
    pub format: Format,

    /// Where facts come from.
    #[command(flatten, next_help_heading = "Facts")]
    pub facts: FactArgs,

    /// What is left behind.
    #[command(flatten)]
    pub record: RecordArgs,
}

/// The forms of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: each finding with its place, its reason and one thing to do
    Text,
    /// The whole report, with what would be written instead
    Json,
    /// SARIF 2.1.0, for code scanners
    Sarif,
    /// Workflow commands of GitHub Actions, which become annotations
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
    /// A pool of the cluster: the base of its own OS stream
    #[arg(long, value_name = "NAME")]
    pub pool: Option<String>,

    /// The OS stream, such as rhel-10, or the tag in the release, such as rhel-coreos-10 [default: the
    /// one that pools get which choose none]
    #[arg(long, value_name = "NAME")]
    pub stream: Option<String>,

    /// What to print: the pull spec alone, or a document with every stream and its platforms
    #[arg(long, value_enum, default_value = "text")]
    pub format: BaseFormat,

    /// Where facts come from.
    #[command(flatten, next_help_heading = "Facts")]
    pub facts: FactArgs,
}

/// Forms of what `layerpin base` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BaseFormat {
    /// The pull spec alone.
    Text,
    /// Release, streams, references and platforms.
    Json,
}

/// Options of `layerpin explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// A pull spec, a file or folder with MachineConfigs, or - for standard input
    #[arg(value_name = "IMAGE|PATH")]
    pub what: String,

    /// Form of the output
    #[arg(long, value_enum, default_value = "text")]
    pub format: ExplainFormat,

    /// Where facts come from.
    #[command(flatten, next_help_heading = "Facts")]
    pub facts: FactArgs,

    /// What is left behind.
    #[command(flatten)]
    pub record: RecordArgs,
}

/// Forms of the output of `layerpin explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    /// A drawing, as wide as the terminal
    Text,
    /// Everything that is known, layer by layer
    Json,
    /// A graph for Graphviz
    Dot,
    /// A graph for Mermaid
    Mermaid,
}

/// Options of `layerpin rules`.
#[derive(Args, Debug)]
pub struct RulesArgs {
    /// The id of a rule, such as floating-tag [default: list all]
    #[arg(value_name = "RULE")]
    pub rule: Option<String>,
}

fn image(text: &str) -> Result<ImageReference, String> {
    ImageReference::parse(text).map_err(|error| format!("{error}\n\nhelp: {}", error.help()))
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::cli::duration::parse(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "not a duration; write it as 5s, 500ms or 1m30s".to_owned())
}
