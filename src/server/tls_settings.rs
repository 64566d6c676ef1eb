//! What both addresses speak: as the flags say, or as the cluster wants it.
//!
//! Owns what becomes of a profile that changes while the server runs. Connections that are open stay
//! as they are.

use std::sync::{Arc, Mutex, PoisonError};

use crate::model::facts::Fact;
use crate::tls::TlsEndpoint;
use crate::tls::profile::Profile;

/// Who says what is spoken.
#[derive(Debug)]
pub(crate) enum TlsSettings {
    /// The flags: nothing changes.
    Fixed,
    /// The cluster, with what it said last.
    OfCluster { endpoints: [Arc<TlsEndpoint>; 2], last: Mutex<Profile> },
}

impl TlsSettings {
    /// As the cluster wants it, which has said nothing yet.
    pub(crate) fn of_cluster(endpoints: [Arc<TlsEndpoint>; 2]) -> Self {
        Self::OfCluster { endpoints, last: Mutex::default() }
    }

    /// Takes over what the cluster says. Each change is one line of log. While the cluster is not known,
    /// what is spoken stays.
    pub(crate) fn follow(&self, profile: Fact<Profile>) {
        let Self::OfCluster { endpoints, last } = self else { return };
        let profile = match profile {
            Fact::Known(profile) => profile,
            Fact::Absent => Profile::default(),
            Fact::Unknown(_) => return,
        };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == profile {
            return;
        }
        *last = profile.clone();
        let kind = PROFILE;
        let meaning = match profile.meaning() {
            Ok(meaning) => meaning,
            Err(error) => return tracing::error!(kind, %error, "TLS settings not taken over; {STAYS}"),
        };
        for endpoint in endpoints {
            if let Err(error) = endpoint.speak(&meaning.protocol) {
                return tracing::error!(kind, %error, "TLS settings not taken over; {STAYS}");
            }
        }
        let spoken = meaning.protocol;
        if meaning.left_out.is_empty() {
            tracing::info!(kind, %spoken, "TLS settings changed");
        } else {
            let told = meaning.left_out.len().min(MOST_TOLD);
            let mut left_out = meaning.left_out[..told].join(", ");
            if told < meaning.left_out.len() {
                left_out.push_str(&format!(" and {} more", meaning.left_out.len() - told));
            }
            tracing::warn!(kind, %spoken, left_out, "TLS settings changed, less what cannot be done here");
        }
    }
}

/// More than the profile `Old` has; a line of log is no place for a list without end.
const MOST_TOLD: usize = 32;
const PROFILE: &str = "tlsSecurityProfile of APIServer/cluster";
const STAYS: &str = "what was spoken before still is";
