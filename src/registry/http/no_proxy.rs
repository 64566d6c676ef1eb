//! `NO_PROXY`: hosts that are contacted without a proxy.
//!
//! The rules are those of Go (`golang.org/x/net`, `http/httpproxy`), which nodes pull with: a name matches itself
//! and its subdomains, one that begins with a dot or `*.` only subdomains; addresses and networks match hosts that
//! are written as an address, and no name is resolved for them; a port restricts an entry; `*` in any place
//! matches all hosts. That loopback needs no proxy is in [`crate::registry::http::client`].

use std::net::IpAddr;

use reqwest::Url;

/// The entries of `NO_PROXY` or of `status.noProxy`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NoProxy(Vec<NoProxyEntry>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum NoProxyEntry {
    AllHosts,
    Network {
        address: IpAddr,
        prefix: u8,
    },
    Address {
        address: IpAddr,
        port: Option<u16>,
    },
    /// A domain without its leading dot.
    Domain {
        name: String,
        apex: ApexDomain,
        port: Option<u16>,
    },
}

/// Whether an entry matches the domain itself, or only its subdomains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ApexDomain {
    Included,
    Excluded,
}

impl NoProxy {
    /// Parses entries separated by commas. An entry that is not valid matches no host.
    pub(crate) fn parse(text: &str) -> Self {
        Self(
            text.split(',')
                .filter_map(|entry| NoProxyEntry::parse(&entry.trim().to_ascii_lowercase()))
                .collect(),
        )
    }

    /// Whether `url` is requested without a proxy.
    pub(crate) fn matches(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let address = address(host);
        self.0.iter().any(|entry| entry.matches(host, address, url.port_or_known_default()))
    }
}

impl NoProxyEntry {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::AllHosts);
        }
        if let Some(network) = network(text) {
            return Some(network);
        }
        let (host, port) = match text.rsplit_once(':') {
            // Several colons without brackets are an IPv6 address without a port.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        let port = match port {
            Some(port) => Some(port.parse().ok()?),
            None => None,
        };
        if let Some(address) = address(host) {
            return Some(Self::Address { address, port });
        }
        let below = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        let (name, apex) = match below.strip_prefix('.') {
            Some(name) => (name, ApexDomain::Excluded),
            None => (below, ApexDomain::Included),
        };
        (!name.is_empty()).then(|| Self::Domain { name: name.to_owned(), apex, port })
    }

    fn matches(&self, host: &str, host_address: Option<IpAddr>, host_port: Option<u16>) -> bool {
        let is_port = |port: &Option<u16>| port.is_none() || *port == host_port;
        match self {
            Self::AllHosts => true,
            Self::Network { address, prefix } => {
                host_address.is_some_and(|found| is_in_network(found, *address, *prefix))
            }
            Self::Address { address, port } => host_address == Some(*address) && is_port(port),
            Self::Domain { name, apex, port } => {
                let is_domain = match host.strip_suffix(name.as_str()) {
                    Some("") => *apex == ApexDomain::Included,
                    Some(rest) => rest.ends_with('.'),
                    None => false,
                };
                is_domain && is_port(port)
            }
        }
    }
}

fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok().map(|address: IpAddr| address.to_canonical())
}

fn network(text: &str) -> Option<NoProxyEntry> {
    let (address, prefix) = text.split_once('/')?;
    let (address, prefix): (IpAddr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (prefix <= longest).then_some(NoProxyEntry::Network { address, prefix })
}

fn is_in_network(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (address.to_bits() ^ network.to_bits()).leading_zeros() >= u32::from(prefix)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            (address.to_bits() ^ network.to_bits()).leading_zeros() >= u32::from(prefix)
        }
        _ => false,
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
