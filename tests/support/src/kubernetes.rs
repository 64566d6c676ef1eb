//! How etcd and kube-apiserver are started in a folder that they share.

use std::fs;
use std::path::Path;

use layerpin_sample_registry::Authority;

/// The arguments of etcd, which listens on sockets in its folder.
pub const ETCD_ARGUMENTS: [&str; 7] = [
    "--data-dir=etcd",
    "--listen-client-urls=unix://clients:0",
    "--advertise-client-urls=unix://clients:0",
    "--listen-peer-urls=unix://peers:0",
    "--initial-advertise-peer-urls=unix://peers:0",
    "--initial-cluster=default=unix://peers:0",
    // Nothing in it outlives the process.
    "--unsafe-no-fsync",
];

/// The arguments of a kube-apiserver that listens on `port`. Its files are those of [`write_api_server_files`].
pub fn api_server_arguments(port: u16) -> Vec<String> {
    let arguments = [
        "--etcd-servers=unix://clients:0",
        "--bind-address=127.0.0.1",
        "--cert-dir=api-server",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-key-file=service-accounts.crt",
        "--service-account-signing-key-file=service-accounts.key",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--token-auth-file=tokens.csv",
        "--authorization-mode=RBAC",
    ];
    let port = format!("--secure-port={port}");
    arguments.into_iter().map(str::to_owned).chain([port]).collect()
}

/// Writes the files of a kube-apiserver to `folder`. `tokens` has a line `token,user,uid,groups` for each user.
pub fn write_api_server_files(folder: &Path, tokens: &str) {
    let service_accounts = Authority::new().issue(&["service-accounts"]);
    for (file, text) in [
        ("tokens.csv", tokens),
        ("service-accounts.crt", service_accounts.certificate_pem()),
        ("service-accounts.key", service_accounts.key_pem()),
    ] {
        fs::write(folder.join(file), text).unwrap();
    }
}
