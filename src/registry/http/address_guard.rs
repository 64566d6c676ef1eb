//! Which addresses are contacted, and how names are resolved.
//!
//! Link-local and unspecified addresses are never contacted, in any notation and by any name. Private addresses
//! are, because registries have them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Whether `url` has an address that is never contacted. Names are left to [`GuardedResolver`].
pub(crate) fn is_forbidden(url: &Url) -> bool {
    literal_address(url).is_some_and(is_forbidden_address)
}

/// Whether the name in `url` resolves only to addresses that are never contacted, for requests whose proxy resolves
/// it. A name that this machine cannot resolve in time is allowed.
pub(crate) async fn resolves_to_forbidden(url: &Url) -> bool {
    let Some(name) = url.host_str().filter(|_| literal_address(url).is_none()) else { return false };
    matches!(tokio::time::timeout(LOOKUP, look_up(name)).await, Ok(Ok(Err(ForbiddenName))))
}

/// Whether the host of `url` is this machine, by address or by the name `localhost`.
pub(crate) fn is_loopback(url: &Url) -> bool {
    url.host_str() == Some("localhost") || literal_address(url).is_some_and(|address| address.is_loopback())
}

/// `host` or `host:port` of a URL.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Resolves names, without the addresses that are never contacted.
pub(crate) struct GuardedResolver;

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move { Ok(Box::new(look_up(name.as_str()).await??.into_iter()) as Addrs) })
    }
}

/// A name resolves only to addresses that are never contacted.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the name resolves to an address that is never contacted")]
pub(crate) struct ForbiddenName;

async fn look_up(name: &str) -> io::Result<Result<Vec<SocketAddr>, ForbiddenName>> {
    Ok(allowed(tokio::net::lookup_host((name, 0)).await?.collect()))
}

/// The addresses that may be contacted. Fails when there are only others.
fn allowed(found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, ForbiddenName> {
    let is_empty = found.is_empty();
    let allowed: Vec<_> = found.into_iter().filter(|address| !is_forbidden_address(address.ip())).collect();
    if allowed.is_empty() && !is_empty { Err(ForbiddenName) } else { Ok(allowed) }
}

fn literal_address(url: &Url) -> Option<IpAddr> {
    address(url.host_str()?)
}

/// The address that `host` is, without the notation for IPv4 in IPv6.
pub(crate) fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// Link-local addresses are those of the metadata services of clouds, unspecified ones are this machine.
fn is_forbidden_address(address: IpAddr) -> bool {
    let is_forbidden_v4 = |address: Ipv4Addr| address.is_link_local() || address.is_unspecified();
    match address.to_canonical() {
        IpAddr::V4(address) => is_forbidden_v4(address),
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || address.is_unspecified()
                || translated(address).is_some_and(is_forbidden_v4)
                || translated_by_own_prefix(address).iter().any(Ipv4Addr::is_link_local)
        }
    }
}

/// The IPv4 address to which a gateway translates an IPv6 address: NAT64 (RFC 6052), 6to4 (RFC 3056), and the
/// deprecated IPv4-compatible form (RFC 4291).
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => (high, low),
        [0x2002, high, low, ..] => (high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

/// The IPv4 addresses that a local-use prefix (RFC 8215) of 48, 56, 64 or 96 bits can stand for; byte 8 is left
/// out (RFC 6052, section 2.2). The length is not in the address, so three of the four are not meant, and they
/// are often 0.0.0.0.
fn translated_by_own_prefix(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    match address.octets() {
        [0, 0x64, 0xff, 0x9b, 0, 1, a, b, _, c, d, e, f, g, h, i] => {
            [[a, b, c, d], [b, c, d, e], [c, d, e, f], [f, g, h, i]].map(Ipv4Addr::from).to_vec()
        }
        _ => Vec::new(),
    }
}

/// How long a request waits for a name that this machine cannot resolve. Long enough for a slow DNS server, so that
/// a forbidden address is still found.
const LOOKUP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_addresses_are_found_in_every_notation() {
        for (text, forbidden) in [
            ("169.254.169.254", true),
            ("::ffff:169.254.169.254", true),
            ("fe80::1", true),
            ("64:ff9b::a9fe:a9fe", true),
            ("64:ff9b::", true),
            ("64:ff9b:1::a9fe:a9fe", true),
            ("64:ff9b:1:a9fe:a9:fe00::", true),
            ("64:ff9b:1:a9:fe:a9fe::", true),
            ("64:ff9b:1::a9:fea9:fe00:0", true),
            ("64:ff9b:1:a00:1::", false),
            ("64:ff9b:1::a00:1", false),
            ("64:ff9b::a00:1", false),
            ("2002:a9fe:a9fe::1", true),
            ("2002:a00:1::1", false),
            ("::169.254.169.254", true),
            ("::1", false),
            ("0.0.0.0", true),
            ("::", true),
            ("127.0.0.1", false),
            ("10.0.0.1", false),
            ("8.8.8.8", false),
            ("fd00::1", false),
        ] {
            assert_eq!(is_forbidden_address(text.parse().unwrap()), forbidden, "{text}");
        }
        // The URL parser normalizes unusual notations of addresses.
        let url = Url::parse("https://0251.0376.0251.0376/v2/").unwrap();
        assert!(is_forbidden(&url));
    }

    #[test]
    fn a_name_that_resolves_only_to_forbidden_addresses_is_an_error() {
        let addresses =
            |texts: &[&str]| -> Vec<SocketAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let kept = |texts: &[&str]| allowed(addresses(texts));
        assert_eq!(kept(&["169.254.169.254:0"]), Err(ForbiddenName));
        assert_eq!(kept(&["0.0.0.0:0", "[fe80::1]:0"]), Err(ForbiddenName));
        assert_eq!(kept(&["169.254.169.254:0", "10.0.0.1:0"]), Ok(addresses(&["10.0.0.1:0"])));
        assert_eq!(kept(&[]), Ok(Vec::new()));
    }

    #[test]
    fn loopback_is_found_by_name_and_address() {
        for (text, expected) in [
            ("http://127.0.0.1:5000/", true),
            ("http://127.1.2.3/", true),
            ("http://[::1]:5000/", true),
            ("http://localhost:5000/", true),
            ("http://localhost.example/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(text).unwrap()), expected, "{text}");
        }
    }
}
