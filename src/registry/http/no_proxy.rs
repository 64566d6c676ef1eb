//! `NO_PROXY`: who is asked without the proxy.
//!
//! The rules are those of the programs that nodes pull with, which are Go's (`golang.org/x/net`,
//! `http/httpproxy`): a name is for itself and the domains below it, one that begins with a dot or `*.`
//! for those below it alone; addresses and networks are for hosts that are written as an address, and
//! no name is looked up for them; a port narrows an entry; `*` anywhere is for everybody. That no
//! proxy is asked for loopback is for [`crate::registry::http::client`] to see to.

use std::net::IpAddr;

use reqwest::Url;

/// The entries of `NO_PROXY` or of `status.noProxy`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NoProxy(Vec<NoProxyEntry>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum NoProxyEntry {
    Everybody,
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
        itself: SubdomainsOnly,
        port: Option<u16>,
    },
}

/// Whether a domain counts, or only what is below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SubdomainsOnly {
    Included,
    Excluded,
}

impl NoProxy {
    /// Reads entries that commas separate. What is neither of the forms names nobody.
    pub(crate) fn parse(text: &str) -> Self {
        Self(
            text.split(',')
                .filter_map(|entry| NoProxyEntry::parse(&entry.trim().to_ascii_lowercase()))
                .collect(),
        )
    }

    /// Whether `url` is asked without a proxy.
    pub(crate) fn names(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let address = address(host);
        self.0.iter().any(|entry| entry.names(host, address, url.port_or_known_default()))
    }
}

impl NoProxyEntry {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Everybody);
        }
        if let Some(network) = network(text) {
            return Some(network);
        }
        let (host, port) = match text.rsplit_once(':') {
            // More colons are those of an address of IPv6 without a port.
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
        let (name, itself) = match below.strip_prefix('.') {
            Some(name) => (name, SubdomainsOnly::Excluded),
            None => (below, SubdomainsOnly::Included),
        };
        (!name.is_empty()).then(|| Self::Domain { name: name.to_owned(), itself, port })
    }

    fn names(&self, host: &str, asked: Option<IpAddr>, at: Option<u16>) -> bool {
        let is_port = |port: &Option<u16>| port.is_none() || *port == at;
        match self {
            Self::Everybody => true,
            Self::Network { address, prefix } => {
                asked.is_some_and(|asked| is_in_network(asked, *address, *prefix))
            }
            Self::Address { address, port } => asked == Some(*address) && is_port(port),
            Self::Domain { name, itself, port } => {
                let is_domain = match host.strip_suffix(name.as_str()) {
                    Some("") => *itself == SubdomainsOnly::Included,
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

fn is_in_network(asked: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (asked, network) {
        (IpAddr::V4(asked), IpAddr::V4(network)) => {
            let differing = asked.to_bits() ^ network.to_bits();
            differing.leading_zeros() >= u32::from(prefix)
        }
        (IpAddr::V6(asked), IpAddr::V6(network)) => {
            let differing = asked.to_bits() ^ network.to_bits();
            differing.leading_zeros() >= u32::from(prefix)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_name_whom_they_name_for_nodes() {
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
            assert_eq!(NoProxy::parse(entries).names(&Url::parse(url).unwrap()), expected, "{entries} {url}");
        }
    }
}
