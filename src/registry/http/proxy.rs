//! Proxies: which one a request uses.
//!
//! Owns the settings; [`NoProxy`] has the exceptions. A password in the URL of a proxy is not in `Debug` output.

use arc_swap::ArcSwap;
use derive_more::Debug;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Url;
use reqwest::header::HeaderValue;

use crate::registry::http::no_proxy::NoProxy;
use crate::reload::Reloaded;

/// The proxies in use; they can be replaced while requests are under way.
#[derive(Debug)]
#[debug("Proxies(…)")]
pub struct Proxies(ArcSwap<CurrentProxies>);

struct CurrentProxies {
    settings: ProxySettings,
    matcher: Matcher,
    no_proxy: NoProxy,
}

/// Proxies, from environment variables or a cluster. An empty string stands for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[debug("ProxySettings({no_proxy:?})")]
pub struct ProxySettings {
    /// The proxy for `http` (`HTTP_PROXY`, `status.httpProxy` of a cluster's Proxy).
    pub http: String,
    /// The proxy for `https` (`HTTPS_PROXY`, `status.httpsProxy`).
    pub https: String,
    /// Hosts that need no proxy (`NO_PROXY`, `status.noProxy`), separated by commas.
    pub no_proxy: String,
}

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[debug("Proxy({address})")]
pub struct Proxy {
    /// Its address, without credentials.
    address: String,
    authorization: Option<HeaderValue>,
}

impl ProxySettings {
    /// Reads the environment: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` if one of them is missing, and
    /// `NO_PROXY`; each in lower case if it does not exist in upper case.
    pub fn from_environment() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let read = |name: &str| variable(name).or_else(|| variable(&name.to_lowercase()));
        let read = |name: &str| read(name).filter(|value| !value.is_empty());
        let all = read("ALL_PROXY").unwrap_or_default();
        Self {
            http: read("HTTP_PROXY").unwrap_or_else(|| all.clone()),
            https: read("HTTPS_PROXY").unwrap_or(all),
            no_proxy: read("NO_PROXY").unwrap_or_default(),
        }
    }
}

impl Proxies {
    /// Uses `settings`. A proxy that is not a valid URL is ignored.
    pub fn new(settings: ProxySettings) -> Self {
        Self(ArcSwap::from_pointee(CurrentProxies::new(settings)))
    }

    /// Uses other settings from now on.
    pub fn replace(&self, settings: ProxySettings) -> Reloaded {
        if self.0.load().settings == settings {
            return Reloaded::Same;
        }
        self.0.store(CurrentProxies::new(settings).into());
        Reloaded::Changed
    }

    /// The proxy for `url`.
    pub(crate) fn of(&self, url: &Url) -> Option<Proxy> {
        let current = self.0.load();
        if current.no_proxy.matches(url) {
            return None;
        }
        let found = current.matcher.intercept(&url.as_str().parse().ok()?)?;
        Some(Proxy { address: found.uri().to_string(), authorization: found.basic_auth().cloned() })
    }
}

impl CurrentProxies {
    fn new(settings: ProxySettings) -> Self {
        let matcher = Matcher::builder().http(settings.http.clone()).https(settings.https.clone()).build();
        let no_proxy = NoProxy::parse(&settings.no_proxy);
        Self { settings, matcher, no_proxy }
    }
}

impl Proxy {
    /// Its URL without credentials, such as `http://proxy.example:3128`.
    pub(crate) fn address(&self) -> &str {
        self.address.trim_end_matches('/')
    }

    /// The proxy for the HTTP client.
    pub(crate) fn for_client(&self) -> Result<reqwest::Proxy, reqwest::Error> {
        let proxy = reqwest::Proxy::all(&self.address)?;
        Ok(match &self.authorization {
            Some(authorization) => proxy.custom_http_auth(authorization.clone()),
            None => proxy,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies() -> Proxies {
        Proxies::new(ProxySettings {
            http: "http://plain.example:3128".into(),
            https: "http://alice:secret@proxy.example:3129".into(),
            no_proxy: ".svc, cluster.local,10.128.0.0/14, 192.0.2.7,internal.example".into(),
        })
    }

    #[test]
    fn each_url_has_the_proxy_of_its_scheme_unless_it_is_excepted() {
        let proxies = proxies();
        for (url, expected) in [
            ("https://quay.io/v2/", Some("http://proxy.example:3129/")),
            ("http://quay.io/v2/", Some("http://plain.example:3128/")),
            ("https://registry.svc/v2/", None),
            ("https://a.b.cluster.local:5000/v2/", None),
            ("https://xcluster.local/v2/", Some("http://proxy.example:3129/")),
            ("https://10.130.4.5:5000/v2/", None),
            ("https://10.132.4.5/v2/", Some("http://proxy.example:3129/")),
            ("https://192.0.2.7/v2/", None),
            ("https://internal.example/v2/", None),
            ("https://x.internal.example/v2/", None),
        ] {
            let found = proxies.of(&Url::parse(url).unwrap());
            assert_eq!(found.map(|proxy| proxy.address).as_deref(), expected, "{url}");
        }
        let url = Url::parse("https://quay.io/").unwrap();
        assert_eq!(
            Proxies::new(ProxySettings { no_proxy: "*".into(), ..proxies.0.load().settings.clone() })
                .of(&url),
            None
        );
        assert_eq!(Proxies::new(ProxySettings::default()).of(&url), None);
    }

    #[test]
    fn variables_in_upper_case_take_precedence() {
        let variables = |given: &[(&str, &str)]| {
            ProxySettings::from_variables(|name| {
                given.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let settings = |http: &str, https: &str, no_proxy: &str| ProxySettings {
            http: http.into(),
            https: https.into(),
            no_proxy: no_proxy.into(),
        };
        assert_eq!(variables(&[]), settings("", "", ""));
        assert_eq!(
            variables(&[("HTTP_PROXY", "a"), ("http_proxy", "b"), ("https_proxy", "c")]),
            settings("a", "c", "")
        );
        assert_eq!(
            variables(&[("ALL_PROXY", "a"), ("HTTPS_PROXY", "b"), ("no_proxy", "c")]),
            settings("a", "b", "c")
        );
        assert_eq!(variables(&[("ALL_PROXY", "a"), ("HTTPS_PROXY", "")]), settings("a", "a", ""));
    }

    #[test]
    fn debug_output_has_no_password() {
        let proxies = proxies();
        let proxy = proxies.of(&Url::parse("https://quay.io/").unwrap()).unwrap();
        let printed = format!("{proxies:?} {proxy:?} {:?}", proxies.0.load().settings);
        assert!(!printed.contains("secret"), "{printed}");
        assert!(proxy.authorization.is_some());
    }

    #[test]
    fn settings_can_change() {
        let proxies = proxies();
        assert_eq!(proxies.replace(proxies.0.load().settings.clone()), Reloaded::Same);
        assert_eq!(proxies.replace(ProxySettings::default()), Reloaded::Changed);
        assert_eq!(proxies.of(&Url::parse("https://quay.io/").unwrap()), None);
    }
}
