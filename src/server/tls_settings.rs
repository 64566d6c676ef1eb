//! The TLS versions and cipher suites of both addresses where no flag sets them: those of the cluster.
//!
//! A profile that changes applies to new connections; open ones keep their settings.

use std::sync::{Arc, Mutex, PoisonError};

use crate::model::facts::Fact;
use crate::tls::TlsEndpoint;
use crate::tls::profile::Profile;

/// The addresses, and the profile that was applied last.
#[derive(Debug)]
pub(crate) struct TlsSettings {
    pub(crate) endpoints: [Arc<TlsEndpoint>; 2],
    pub(crate) last: Mutex<Profile>,
}

impl TlsSettings {
    /// Applies the profile of the cluster. Each change is one line of log. While the profile is unknown, nothing
    /// changes.
    pub(crate) fn follow(&self, profile: Fact<Profile>) {
        let profile = match profile {
            Fact::Known(profile) => profile,
            Fact::Absent => Profile::default(),
            Fact::Unknown(_) => return,
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == profile {
            return;
        }
        *last = profile.clone();
        let kind = PROFILE;
        let meaning = match profile.meaning() {
            Ok(meaning) => meaning,
            Err(error) => return tracing::error!(kind, error, "{FAILED}"),
        };
        for endpoint in &self.endpoints {
            if let Err(error) = endpoint.use_protocol(&meaning.protocol) {
                return tracing::error!(kind, %error, "{FAILED}");
            }
        }
        let protocol = meaning.protocol;
        if meaning.unsupported.is_empty() {
            tracing::info!(kind, %protocol, "TLS settings changed");
        } else {
            let listed = meaning.unsupported.len().min(MAX_LISTED);
            let mut unsupported = meaning.unsupported[..listed].join(", ");
            if listed < meaning.unsupported.len() {
                unsupported.push_str(&format!(" and {} more", meaning.unsupported.len() - listed));
            }
            tracing::warn!(kind, %protocol, unsupported, "TLS settings changed; part of the profile is not supported");
        }
    }
}

/// More than the profile `Old` has; the list of a custom profile has no limit.
const MAX_LISTED: usize = 32;
const PROFILE: &str = "tlsSecurityProfile of APIServer/cluster";
const FAILED: &str = "TLS settings not applied; still using the previous settings";
