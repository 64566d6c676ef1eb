//! TLS versions and cipher suites.
//!
//! Owns their names in flags (IANA) and in the profiles of the cluster (OpenSSL), and the settings that each profile
//! results in. A version or suite that is not supported is reported, and nothing is used in its place. As in the API
//! server, the suites of TLS 1.3 cannot be chosen: all of them are used wherever TLS 1.3 is.

use std::fmt;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, SupportedProtocolVersion};
use serde::Deserialize;

use crate::text::shown;

/// The supported versions, by the names of kube-apiserver's `--tls-min-version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Version {
    /// TLS 1.2 or later.
    #[value(name = "VersionTLS12")]
    Tls12,
    /// TLS 1.3.
    #[value(name = "VersionTLS13")]
    Tls13,
}

/// A supported cipher suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CipherSuite {
    /// Its name at IANA.
    name: &'static str,
    /// Its name in OpenSSL and in OpenShift's profiles.
    openssl: &'static str,
}

/// The TLS versions and cipher suites in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// The suites of TLS 1.2, in the order of [`SUITES`]. Without any, TLS 1.2 is not used.
    tls12: Vec<CipherSuite>,
}

impl Default for Protocol {
    /// TLS 1.2 and 1.3 with every suite, which is the profile `Intermediate`.
    fn default() -> Self {
        Self::new(Version::Tls12, SUITES)
    }
}

impl Protocol {
    /// TLS from `minimum` upwards, for TLS 1.2 with these suites only.
    pub fn new(minimum: Version, suites: &[CipherSuite]) -> Self {
        let wanted = |suite: &&CipherSuite| suite.is_of_tls12() && suites.contains(suite);
        let tls12 = match minimum {
            Version::Tls12 => SUITES.iter().filter(wanted).copied().collect(),
            Version::Tls13 => Vec::new(),
        };
        Self { tls12 }
    }

    /// The cryptography provider, limited to these suites.
    pub(crate) fn provider(&self) -> CryptoProvider {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| {
            suite.version().version == ProtocolVersion::TLSv1_3
                || self.tls12.iter().any(|wanted| suite.suite().as_str() == Some(wanted.name))
        });
        provider
    }

    pub(crate) fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        if self.tls12.is_empty() { vec![&TLS13] } else { vec![&TLS13, &TLS12] }
    }
}

/// For the log: `VersionTLS13`, or `VersionTLS12` with its suites.
impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tls12.is_empty() {
            return formatter.write_str("VersionTLS13");
        }
        let names: Vec<_> = self.tls12.iter().map(|suite| suite.name).collect();
        write!(formatter, "VersionTLS12 ({}) and VersionTLS13", names.join(", "))
    }
}

impl CipherSuite {
    /// Whether it is a suite of TLS 1.2.
    fn is_of_tls12(&self) -> bool {
        // OpenSSL uses other names only for these.
        self.name != self.openssl
    }

    fn of_openssl(name: &str) -> Option<Self> {
        SUITES.iter().find(|suite| suite.openssl == name).copied()
    }
}

impl ValueEnum for CipherSuite {
    fn value_variants<'a>() -> &'a [Self] {
        SUITES
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name))
    }
}

/// `spec.tlsSecurityProfile` of `APIServer/cluster` (`config.openshift.io/v1`), as it is written there.
/// The default is a cluster without a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Profile {
    /// `type`.
    pub r#type: Option<String>,
    /// `custom`.
    pub custom: Option<CustomProfile>,
}

/// What the profile `Custom` consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct CustomProfile {
    /// `minTLSVersion`.
    #[serde(rename = "minTLSVersion")]
    pub minimum: Option<String>,
    /// `ciphers`, in OpenSSL's names.
    pub ciphers: Option<Vec<String>>,
}

/// The settings that a profile results in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveProfile {
    /// The versions and suites in use.
    pub protocol: Protocol,
    /// What the profile has that is not supported, in its names and its order.
    pub unsupported: Vec<String>,
}

impl Profile {
    /// The settings of the profile. Fails with the unknown value of an unknown profile, because any guess might be
    /// less strict.
    pub fn meaning(&self) -> Result<EffectiveProfile, String> {
        let unknown = |field: &str, value: &str| {
            let value = shown(value);
            format!("spec.tlsSecurityProfile.{field} of APIServer/cluster is `{value}`, which is not known")
        };
        let custom = self.custom.clone().unwrap_or_default();
        let (minimum, ciphers) = (custom.minimum.unwrap_or_default(), custom.ciphers.unwrap_or_default());
        let every = || SUITES.iter().map(|suite| suite.openssl);
        let (minimum, ciphers): (&str, Vec<&str>) = match self.r#type.as_deref().unwrap_or_default() {
            "" | "Intermediate" => ("VersionTLS12", every().collect()),
            "Modern" => ("VersionTLS13", every().collect()),
            "Old" => ("VersionTLS10", every().chain(OLD_CIPHERS.iter().copied()).collect()),
            // Without a list every suite is used.
            "Custom" if ciphers.is_empty() => (&minimum, every().collect()),
            "Custom" => (&minimum, ciphers.iter().map(String::as_str).collect()),
            other => return Err(unknown("type", other)),
        };
        let mut unsupported = Vec::new();
        let minimum = match minimum {
            "" | "VersionTLS12" => Version::Tls12,
            "VersionTLS13" => Version::Tls13,
            older @ ("VersionTLS10" | "VersionTLS11") => {
                unsupported.push(older.to_owned());
                Version::Tls12
            }
            other => return Err(unknown("custom.minTLSVersion", other)),
        };
        let mut suites = Vec::new();
        for name in ciphers {
            match CipherSuite::of_openssl(name) {
                Some(suite) => suites.push(suite),
                None => unsupported.push(shown(name)),
            }
        }
        Ok(EffectiveProfile { protocol: Protocol::new(minimum, &suites), unsupported })
    }
}

/// Every supported suite, those of TLS 1.3 first.
static SUITES: &[CipherSuite] = &[
    suite("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
    suite("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
    suite("TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
    suite("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    suite("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    suite("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    suite("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
    suite("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    suite("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"),
];

const fn suite(name: &'static str, openssl: &'static str) -> CipherSuite {
    CipherSuite { name, openssl }
}

/// What the profile `Old` has beyond [`SUITES`] (`config/v1/types_tlssecurityprofile.go` of OpenShift's
/// API): suites without authenticated encryption or without forward secrecy.
static OLD_CIPHERS: &[&str] = &[
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-RSA-AES256-SHA384",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA256",
    "AES256-SHA256",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn custom(minimum: &str, ciphers: &[&str]) -> Profile {
        let ciphers = Some(ciphers.iter().map(ToString::to_string).collect());
        let custom = CustomProfile { minimum: Some(minimum.into()), ciphers };
        Profile { r#type: Some("Custom".into()), custom: Some(custom) }
    }

    fn named(name: &str) -> Profile {
        Profile { r#type: Some(name.into()), custom: None }
    }

    #[test]
    fn every_suite_of_the_provider_has_a_name() {
        let provider = aws_lc_rs::default_provider();
        // rustls says with the name which suites are of TLS 1.3.
        let mut known: Vec<_> =
            SUITES.iter().map(|suite| (suite.name.to_owned(), suite.is_of_tls12())).collect();
        let of_provider = provider.cipher_suites.iter().map(|suite| {
            let name = format!("{:?}", suite.suite());
            (name.replacen("TLS13_", "TLS_", 1), !name.starts_with("TLS13_"))
        });
        let mut there: Vec<_> = of_provider.collect();
        known.sort();
        there.sort();
        assert_eq!(known, there);
    }

    #[test]
    fn profiles_result_in_settings() {
        let ecdsa = "VersionTLS12 (TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256) and VersionTLS13";
        let every = Protocol::default().to_string();
        let old = format!("VersionTLS10, {}", OLD_CIPHERS.join(", "));
        for (profile, protocol_text, unsupported) in [
            (Profile::default(), every.as_str(), ""),
            (named("Intermediate"), &every, ""),
            (named("Old"), &every, &old),
            (named("Modern"), "VersionTLS13", ""),
            (custom("VersionTLS12", &["ECDHE-ECDSA-AES128-GCM-SHA256"]), ecdsa, ""),
            (
                custom("VersionTLS11", &["AES128-SHA", "ECDHE-ECDSA-AES128-GCM-SHA256", "a\u{1b}b"]),
                ecdsa,
                r"VersionTLS11, AES128-SHA, a\u{1b}b",
            ),
            (custom("VersionTLS13", &["ECDHE-ECDSA-AES128-GCM-SHA256"]), "VersionTLS13", ""),
            (custom("VersionTLS12", &["AES128-SHA"]), "VersionTLS13", "AES128-SHA"),
            (custom("VersionTLS12", &["TLS_AES_128_GCM_SHA256"]), "VersionTLS13", ""),
            (custom("VersionTLS12", &[]), &every, ""),
            (custom("", &[]), &every, ""),
        ] {
            let EffectiveProfile { protocol, unsupported: out } = profile.meaning().unwrap();
            assert_eq!(
                (protocol.to_string().as_str(), out.join(", ").as_str()),
                (protocol_text, unsupported),
                "{profile:?}"
            );
        }
    }

    #[test]
    fn an_unknown_profile_is_an_error() {
        for (profile, fault) in [
            (named("Quantum"), "type of APIServer/cluster is `Quantum`, which is not known"),
            (
                custom("VersionTLS14", &[]),
                "custom.minTLSVersion of APIServer/cluster is `VersionTLS14`, which is not known",
            ),
        ] {
            let error = profile.meaning().unwrap_err();
            assert_eq!(error, format!("spec.tlsSecurityProfile.{fault}"));
        }
    }
}
