//! `layerpin serve`: the admission webhooks.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::ExitStatus;
use crate::cli::args::ServeArgs;
use crate::cli::connect;
use crate::cli::session;
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::server::{ConnectionLimits, DryRunAccess, Parts, Server, Shutdown};
use crate::tls::profile::{CipherSuite, Protocol, Version};
use crate::tls::{ClientAuthority, ServingCertificate};

/// Serves until SIGTERM or SIGINT.
pub fn run(options: &ServeArgs) -> anyhow::Result<ExitStatus> {
    session::block_on(serve(options))??;
    Ok(ExitStatus::Clean)
}

#[expect(clippy::print_stdout, reason = "its first two lines, while the reader is waiting")]
async fn serve(options: &ServeArgs) -> anyhow::Result<()> {
    let policy = connect::policy(&options.facts)?;
    raise_file_limit();
    let metrics = Arc::new(Metrics::new());
    let sources = connect::connect(&options.facts, &metrics)?;
    let dry_run = match (options.dry_run_access, sources.cluster()) {
        (Some(DryRunAccess::Authorized), None) => bail!(
            "--dry-run-access authorized: no cluster is configured to check who may create MachineConfigs; set \
             --kubeconfig, or use `anyone` or `off`"
        ),
        (Some(access), _) => access,
        (None, Some(_)) => DryRunAccess::Authorized,
        (None, None) => DryRunAccess::Anyone,
    };
    let client_authority = options.client_ca.as_deref().map(ClientAuthority::from_file);
    let client_authority = client_authority.transpose().context("--client-ca")?;
    let parts = Parts {
        engine: Engine::new(sources),
        policy,
        certificate: Arc::new(certificate(options)?),
        client_authority,
        protocol: protocol(options),
        metrics,
        dry_run,
        timeout: options.facts.timeout,
        limits: ConnectionLimits::default(),
    };
    // Before the addresses are printed, because their reader may send a signal at once.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let server = Server::bind(parts, options.listen, options.admin_listen).await?;
    println!("listening on https://{}", server.address()?);
    println!("admin listening on https://{}", server.admin_address()?);
    tracing::info!(
        address = %server.address()?,
        admin_address = %server.admin_address()?,
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );
    let stop = async {
        let how = tokio::select! {
            _ = terminate.recv() => Shutdown::AfterLingering,
            _ = interrupt.recv() => Shutdown::Now,
        };
        tracing::info!("stopping");
        how
    };
    server.serve(stop).await;
    tracing::info!("stopped");
    Ok(())
}

/// The TLS settings of the flags. `None` when no flag is set, and the settings of the cluster apply. One flag takes
/// precedence over the whole profile of the cluster, because the two together might leave no cipher suite.
fn protocol(options: &ServeArgs) -> Option<Protocol> {
    let (minimum, suites) = (options.tls_min_version, options.tls_cipher_suites.as_deref());
    let suites_or_all = suites.unwrap_or(CipherSuite::value_variants());
    (minimum.is_some() || suites.is_some())
        .then(|| Protocol::new(minimum.unwrap_or(Version::Tls12), suites_or_all))
}

fn certificate(options: &ServeArgs) -> anyhow::Result<ServingCertificate> {
    if let (Some(certificate), Some(key)) = (&options.tls_cert, &options.tls_key) {
        return ServingCertificate::from_files(certificate, key).context("--tls-cert and --tls-key");
    }
    let (certificate, authority) = ServingCertificate::self_signed(options.listen.ip())?;
    write_authority(&options.dev_ca_out, &authority)?;
    tracing::warn!(
        authority = %options.dev_ca_out.display(),
        "no --tls-cert given: serving with a self-signed certificate"
    );
    Ok(certificate)
}

fn write_authority(path: &Path, pem: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    crate::atomic_file::write(path, pem.as_bytes())
        .with_context(|| format!("cannot write the CA to {} (--dev-ca-out)", path.display()))
}

/// Every connection is an open file, and the usual soft limit is lower than the limit of connections.
fn raise_file_limit() {
    if let Err(error) = rlimit::increase_nofile_limit(rlimit::INFINITY) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
