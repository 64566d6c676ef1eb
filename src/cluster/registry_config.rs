//! The registry settings of the cluster, applied to the registry client: mirrors, blocked and insecure
//! registries, the proxy and CA certificates.
//!
//! A part is applied only when every resource that it comes from could be read, so that a resource that
//! cannot be read never removes a mirror or a certificate.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;

use crate::cluster::objects::{ApiObject, ObjectSummary, PullSecretText, WithData, WithStatus};
use crate::cluster::resources::Stores;
use crate::cluster::store::Store;
use crate::model::facts::Fact;
use crate::model::facts::registry_sources::RegistrySources;
use crate::registry::RegistryClient;
use crate::registry::http::proxy::ProxySettings;
use crate::registry::http::tls_roots::ClusterCas;
use crate::registry::mirrors::mirror_sets::{ClusterRegistries, MirrorSet};
use crate::registry::mirrors::route::PullAccess;
use crate::reload::Reloaded;
use crate::text::shown;
use crate::tls::pem::CaBundle;

/// Applies the registry settings of the cluster, and logs each change.
#[derive(Debug, Default)]
pub(crate) struct RegistryConfig {
    /// The error in a CA bundle that was logged last.
    logged: Mutex<Option<String>>,
}

impl RegistryConfig {
    /// Applies what is known to `registry`.
    pub(crate) fn apply(&self, stores: &Stores, registry: &RegistryClient) {
        if let Some(registries) = registries(stores) {
            let reloaded = registry.registries.replace(registries.registries());
            log_change("mirror sets and image configuration", "registries", reloaded);
        }
        if let Some(proxy) = known(stores.proxy.object()) {
            // The environment has the proxy where the cluster has none.
            let has_proxy = proxy != ProxySettings::default();
            let proxy = if has_proxy { proxy } else { ProxySettings::from_environment() };
            let reloaded = registry.proxies.replace(proxy);
            log_change(stores.proxy.resource.name, "proxies for registries", reloaded);
        }
        self.apply_certificates(stores, registry);
        apply_pull_secret(stores, registry);
    }

    fn apply_certificates(&self, stores: &Stores, registry: &RegistryClient) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        match certificates(stores) {
            Ok(None) => {}
            Ok(Some(certificates)) => {
                *logged = None;
                let reloaded = registry.certificates.replace(certificates);
                log_change("trust bundles", "certificates for registries", reloaded);
            }
            Err(fault) if logged.as_ref() == Some(&fault) => {}
            Err(fault) => {
                tracing::error!(error = %fault, "cannot use the CA certificates; still using the previous ones");
                *logged = Some(fault);
            }
        }
    }
}

fn log_change(kind: &str, what: &str, reloaded: Reloaded) {
    if reloaded == Reloaded::Changed {
        tracing::info!(kind, "{what} changed");
    }
}

/// `None` while one of the resources is unknown.
fn registries(stores: &Stores) -> Option<ClusterRegistries> {
    let all = |store: &Store<Vec<MirrorSet>>| {
        let objects = known(store.objects())?;
        Some(objects.values().flatten().cloned().collect::<Vec<_>>())
    };
    let image = known(stores.image.object())?;
    let mut digest_mirrors = all(&stores.digest_mirrors)?;
    digest_mirrors.extend(all(&stores.content_policies)?);
    Some(ClusterRegistries {
        digest_mirrors,
        tag_mirrors: all(&stores.tag_mirrors)?,
        insecure: image.insecure,
        blocked: image.sources.blocked,
    })
}

/// `None` while one of the bundles is unknown. Fails with ConfigMap and key of a bundle that is not valid.
fn certificates(stores: &Stores) -> Result<Option<ClusterCas>, String> {
    let mut certificates = ClusterCas::default();
    for store in [&stores.internal_registry_cas, &stores.registry_cas] {
        let Some(bundles) = known(store.object()) else { return Ok(None) };
        for (key, text) in bundles {
            // A key cannot contain a colon.
            let host = key.replace("..", ":");
            certificates.hosts.entry(host).or_default().authorities = ca_bundle(store, &key, &text)?;
        }
    }
    let Some(bundles) = known(stores.trusted_cas.object()) else { return Ok(None) };
    if let Some(text) = bundles.get(TRUSTED_CAS_KEY) {
        certificates.everywhere = ca_bundle(&stores.trusted_cas, TRUSTED_CAS_KEY, text)?;
    }
    Ok(Some(certificates))
}

/// Parses a bundle in PEM. Like the Machine Config Operator, accepts base64 of PEM too.
fn ca_bundle(store: &Store<CaBundles>, key: &str, text: &str) -> Result<CaBundle, String> {
    let decoded = (!text.contains("-----BEGIN"))
        .then(|| BASE64_STANDARD.decode(text.split_whitespace().collect::<String>()).ok())
        .flatten()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    CaBundle::parse(decoded.as_deref().unwrap_or(text))
        .map_err(|fault| format!("{}, key `{}`: {fault}", store.resource.name, shown(key)))
}

fn apply_pull_secret(stores: &Stores, registry: &RegistryClient) {
    let credentials = &registry.credentials;
    if !credentials.are_of_cluster() {
        return;
    }
    let secret = stores.pull_secret.object();
    let secret = match &secret {
        Fact::Known(PullSecretText(text)) => Some(text.as_deref().map_err(|fault| *fault)),
        Fact::Absent => None,
        Fact::Unknown(_) => return,
    };
    let kind = stores.pull_secret.resource.name;
    match credentials.replace(secret) {
        Ok(reloaded) => log_change(kind, "registry credentials", reloaded),
        Err(error) => {
            tracing::error!(kind, %error, "cannot use the registry credentials; still using the previous ones");
        }
    }
}

/// What is known, or the default where the object does not exist.
fn known<T: Default>(fact: Fact<T>) -> Option<T> {
    match fact {
        Fact::Known(value) => Some(value),
        Fact::Absent => Some(T::default()),
        Fact::Unknown(_) => None,
    }
}

/// Has the members of all three mirror resources, of which each object sets one.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MirrorSetSpec {
    image_digest_mirrors: Option<Vec<MirrorFields>>,
    image_tag_mirrors: Option<Vec<MirrorFields>>,
    repository_digest_mirrors: Option<Vec<MirrorFields>>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MirrorFields {
    source: String,
    mirrors: Option<Vec<String>>,
    mirror_source_policy: Option<String>,
}

impl ObjectSummary for Vec<MirrorSet> {
    type Object = ApiObject<MirrorSetSpec>;

    fn of(ApiObject { spec, .. }: Self::Object) -> Option<Self> {
        let spec = spec.unwrap_or_default();
        let sets = [spec.image_digest_mirrors, spec.image_tag_mirrors, spec.repository_digest_mirrors];
        let sets = sets.into_iter().flatten().flatten().map(|fields| MirrorSet {
            source: fields.source,
            mirrors: fields.mirrors.unwrap_or_default(),
            source_policy: match fields.mirror_source_policy.as_deref() {
                Some("NeverContactSource") => PullAccess::Blocked,
                _ => PullAccess::Allowed,
            },
        });
        Some(sets.collect())
    }
}

/// `spec.registrySources` of `image.config.openshift.io/cluster`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageConfig {
    pub(crate) sources: RegistrySources,
    insecure: Vec<String>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageConfigSpec {
    registry_sources: Option<RegistrySourcesFields>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RegistrySourcesFields {
    insecure_registries: Option<Vec<String>>,
    blocked_registries: Option<Vec<String>>,
    allowed_registries: Option<Vec<String>>,
}

impl ObjectSummary for ImageConfig {
    type Object = ApiObject<ImageConfigSpec>;

    fn of(ApiObject { spec, .. }: Self::Object) -> Option<Self> {
        let fields = spec.and_then(|spec| spec.registry_sources).unwrap_or_default();
        let sources = RegistrySources {
            allowed: fields.allowed_registries.unwrap_or_default(),
            blocked: fields.blocked_registries.unwrap_or_default(),
        };
        Some(Self { sources, insecure: fields.insecure_registries.unwrap_or_default() })
    }
}

/// The status is read, because only there the operator has added the cluster's own names to `noProxy`.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProxyStatus {
    http_proxy: Option<String>,
    https_proxy: Option<String>,
    no_proxy: Option<String>,
}

impl ObjectSummary for ProxySettings {
    type Object = WithStatus<ProxyStatus>;

    fn of(WithStatus { status, .. }: Self::Object) -> Option<Self> {
        let status = status.unwrap_or_default();
        Some(Self {
            http: status.http_proxy.unwrap_or_default(),
            https: status.https_proxy.unwrap_or_default(),
            no_proxy: status.no_proxy.unwrap_or_default(),
        })
    }
}

/// CA bundles by the key of a ConfigMap.
pub(crate) type CaBundles = BTreeMap<String, String>;

impl ObjectSummary for CaBundles {
    type Object = WithData;

    fn of(WithData { data, .. }: Self::Object) -> Option<Self> {
        Some(data.unwrap_or_default())
    }
}

const TRUSTED_CAS_KEY: &str = "ca-bundle.crt";
