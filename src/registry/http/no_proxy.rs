//! `NO_PROXY`: hosts that are contacted without a proxy.
//!
//! The rules are those of Go (`golang.org/x/net`, `http/httpproxy`), which nodes pull with: a name matches itself
//! and its subdomains, one that begins with a dot or `*.` only subdomains; addresses and networks match hosts that
//! are written as an address, and no name is resolved for them; a port restricts an entry; `*` in any place
//! matches all hosts. That loopback needs no proxy is in [`crate::registry::http::client`].

use std::net::IpAddr;

use ipnet::IpNet;
use reqwest::Url;

use crate::registry::http::address_guard::address;

/// The entries of `NO_PROXY` or of `status.noProxy`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NoProxy(Vec<NoProxyEntry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct NoProxyEntry {
    hosts: MatchedHosts,
    /// `None` stands for every port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum MatchedHosts {
    All,
    Network(IpNet),
    /// A domain and its subdomains; with a leading dot only the subdomains.
    Domain(String),
}

impl NoProxy {
    /// Parses entries separated by commas. An entry that is not valid matches no host.
    pub(crate) fn parse(text: &str) -> Self {
        let entries = text.split(',').map(|entry| entry.trim().to_ascii_lowercase());
        Self(entries.filter_map(|entry| NoProxyEntry::parse(&entry)).collect())
    }

    /// Whether `url` is requested without a proxy.
    pub(crate) fn matches(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let (address, port) = (address(host), url.port_or_known_default());
        let is_port = |entry: &NoProxyEntry| entry.port.is_none() || entry.port == port;
        self.0.iter().any(|entry| is_port(entry) && entry.hosts.contain(host, address))
    }
}

impl NoProxyEntry {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self { hosts: MatchedHosts::All, port: None });
        }
        if let Ok(network) = text.parse() {
            return Some(Self { hosts: MatchedHosts::Network(network), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            // Several colons without brackets are an IPv6 address without a port.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, Some(port.parse().ok()?))
            }
            _ => (text, None),
        };
        let name = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        let hosts = match address(host) {
            Some(address) => MatchedHosts::Network(address.into()),
            None if matches!(name, "" | ".") => return None,
            None => MatchedHosts::Domain(name.to_owned()),
        };
        Some(Self { hosts, port })
    }
}

impl MatchedHosts {
    fn contain(&self, host: &str, address: Option<IpAddr>) -> bool {
        match self {
            Self::All => true,
            Self::Network(network) => address.is_some_and(|address| network.contains(&address)),
            Self::Domain(name) => host
                .strip_suffix(name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.') || name.starts_with('.')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_match_the_same_hosts_as_on_nodes() {
        for (entries, url, expected) in [
            ("", "https://quay.io/", false),
            ("corp.test", "https://corp.test/", true),
            ("corp.test", "https://a.b.corp.test:5000/", true),
            ("corp.test", "https://xcorp.test/", false),
            (".corp.test", "https://a.corp.test/", true),
            (".corp.test", "https://corp.test/", false),
            ("*.corp.test", "https://a.corp.test/", true),
            ("*.corp.test", "https://corp.test/", false),
            ("Corp.Test", "https://corp.test/", true),
            ("a.test,, b.test ", "https://b.test/", true),
            ("corp.test:5000", "https://corp.test:5000/", true),
            ("corp.test:5000", "https://corp.test/", false),
            ("corp.test:443", "https://corp.test/", true),
            ("10.1.0.1", "https://10.1.0.1:5000/", true),
            ("10.1.0.1:443", "https://10.1.0.1:5000/", false),
            ("10.1.0.1", "https://10.1.0.11/", false),
            ("10.1.0.0/16", "https://10.1.255.255/", true),
            ("10.1.0.0/16", "https://10.2.0.0/", false),
            ("10.1.2.3/16", "https://10.1.0.1/", true),
            ("0.0.0.0/0", "https://10.2.0.0/", true),
            ("0.0.0.0/0", "https://quay.io/", false),
            ("10.1.0.0/33", "https://10.1.0.0/", false),
            ("fd00::/8", "https://[fd12::1]/", true),
            ("fd00::/8", "https://[fe00::1]/", false),
            ("::/0", "https://10.1.0.1/", false),
            ("fd00::1", "https://[fd00::1]:5000/", true),
            ("[fd00::1]:5000", "https://[fd00::1]:5000/", true),
            ("[fd00::1]:5000", "https://[fd00::1]/", false),
            ("10.1.0.1", "https://[::ffff:10.1.0.1]/", true),
            ("a.test,*", "https://10.1.0.1/", true),
            ("*", "https://quay.io/", true),
            (".", "https://quay.io/", false),
            ("corp.test:x", "https://corp.test/", false),
        ] {
            assert_eq!(
                NoProxy::parse(entries).matches(&Url::parse(url).unwrap()),
                expected,
                "{entries} {url}"
            );
        }
    }
}
