//! What the cluster says of registries, handed over to the client that asks them.
//!
//! Owns the shapes of the mirror sets, `image.config.openshift.io`, the proxy and the trust bundles,
//! and when each part is put in force: only when all of it could be read, so that a kind that cannot
//! be read never takes a mirror or a certificate away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;
use tokio::sync::Notify;

use crate::cluster::reflector::{ObjectMap, Readiness, Store};
use crate::cluster::resources::{PAGE, Resource, WithData, WithSpec, WithStatus, nullable};
use crate::model::facts::Fact;
use crate::model::facts::registry_sources::{IMAGE_CONFIG, RegistrySources};
use crate::registry::http::proxy::ProxySettings;
use crate::registry::http::tls_roots::ClusterCas;
use crate::registry::mirrors::mirror_sets::{ClusterRegistries, MirrorSet, SourcePolicy};
use crate::reload::Reloaded;
use crate::sources::RegistryClient;
use crate::text::shown;
use crate::tls::pem::CaBundle;

/// What is read of each kind.
#[derive(Debug)]
pub(crate) struct RegistryConfig {
    pub(crate) digest_mirrors: Store<Vec<MirrorSet>>,
    pub(crate) tag_mirrors: Store<Vec<MirrorSet>>,
    pub(crate) content_policies: Store<Vec<MirrorSet>>,
    pub(crate) image: Store<ImageConfig>,
    pub(crate) proxy: Store<ProxySettings>,
    pub(crate) registry_authorities: Store<Bundle>,
    pub(crate) internal_authorities: Store<Bundle>,
    pub(crate) trust_bundle: Store<Bundle>,
    /// The fault in a bundle that was told of last.
    told: Mutex<Option<String>>,
}

/// `spec.registrySources` of `image.config.openshift.io/cluster`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageConfig {
    insecure: Vec<String>,
    sources: RegistrySources,
}

/// CA bundles by key.
pub(crate) type Bundle = BTreeMap<String, String>;

impl RegistryConfig {
    pub(crate) fn new(changed: &Arc<Notify>) -> Self {
        Self {
            digest_mirrors: Store::new(&DIGEST_MIRRORS, Arc::clone(changed)),
            tag_mirrors: Store::new(&TAG_MIRRORS, Arc::clone(changed)),
            content_policies: Store::new(&CONTENT_POLICIES, Arc::clone(changed)),
            image: Store::new(&IMAGE, Arc::clone(changed)),
            proxy: Store::new(&PROXY, Arc::clone(changed)),
            registry_authorities: Store::new(&REGISTRY_AUTHORITIES, Arc::clone(changed)),
            internal_authorities: Store::new(&INTERNAL_AUTHORITIES, Arc::clone(changed)),
            trust_bundle: Store::new(&TRUST_BUNDLE, Arc::clone(changed)),
            told: Mutex::default(),
        }
    }

    pub(crate) fn kinds(&self) -> [&dyn Readiness; 8] {
        [
            &self.digest_mirrors,
            &self.tag_mirrors,
            &self.content_policies,
            &self.image,
            &self.proxy,
            &self.registry_authorities,
            &self.internal_authorities,
            &self.trust_bundle,
        ]
    }

    /// Puts in force what is known. Each change is one line of log.
    pub(crate) fn hand_over(&self, registry: &RegistryClient) {
        if let Some(registries) = self.registries()
            && registry.registries().replace(registries.registries()) == Reloaded::Changed
        {
            tracing::info!(kind = "mirror sets and image configuration", "registries changed");
        }
        let proxies = match self.proxy.object() {
            // With nothing in its status the cluster has no proxy, and what the process was started
            // with counts.
            Fact::Known(proxies) if proxies != ProxySettings::default() => Some(proxies),
            Fact::Known(_) | Fact::Absent => Some(ProxySettings::from_environment()),
            Fact::Unknown(_) => None,
        };
        if let Some(proxies) = proxies
            && registry.proxies().replace(proxies) == Reloaded::Changed
        {
            tracing::info!(kind = PROXY.name, "proxies for registries changed");
        }
        match self.trusted() {
            Ok(None) => {}
            Ok(Some(trusted)) => {
                *self.told.lock().unwrap_or_else(PoisonError::into_inner) = None;
                if registry.certificates().replace(trusted) == Reloaded::Changed {
                    tracing::info!(kind = "trust bundles", "certificates for registries changed");
                }
            }
            Err(fault) => {
                let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                if told.as_ref() != Some(&fault) {
                    tracing::error!(
                        error = %fault,
                        "certificates for registries not taken over; those before them are in force"
                    );
                    *told = Some(fault);
                }
            }
        }
    }

    /// From which registries nodes may pull.
    pub(crate) fn registry_sources(&self) -> Fact<RegistrySources> {
        match self.image.object() {
            Fact::Known(image) => Fact::Known(image.sources),
            Fact::Absent => Fact::Absent,
            Fact::Unknown(cause) => Fact::Unknown(cause),
        }
    }

    /// `None` while one of the kinds is not known.
    fn registries(&self) -> Option<ClusterRegistries> {
        let joined = |slot: &Store<Vec<MirrorSet>>| {
            let objects: ObjectMap<_> = known(slot.fact())?;
            Some(objects.values().flatten().cloned().collect::<Vec<_>>())
        };
        let image = known(self.image.object())?;
        let mut digest_mirrors = joined(&self.digest_mirrors)?;
        digest_mirrors.extend(joined(&self.content_policies)?);
        Some(ClusterRegistries {
            digest_mirrors,
            tag_mirrors: joined(&self.tag_mirrors)?,
            insecure: image.insecure,
            blocked: image.sources.blocked,
        })
    }

    /// `None` while one of the bundles is not known. Fails with the ConfigMap and the key whose bundle is
    /// broken.
    fn trusted(&self) -> Result<Option<ClusterCas>, String> {
        let mut trusted = ClusterCas::default();
        for slot in [&self.internal_authorities, &self.registry_authorities] {
            let Some(bundle) = known(slot.object()) else { return Ok(None) };
            for (key, text) in bundle {
                // A colon cannot stand in a key.
                let host = key.replace("..", ":");
                trusted.hosts.entry(host).or_default().authorities = authorities(slot.name(), &key, &text)?;
            }
        }
        let Some(bundle) = known(self.trust_bundle.object()) else { return Ok(None) };
        if let Some(text) = bundle.get(BUNDLE_KEY) {
            trusted.everywhere = authorities(self.trust_bundle.name(), BUNDLE_KEY, text)?;
        }
        Ok(Some(trusted))
    }
}

/// What is known, or nothing where there is no such thing; `None` while neither is sure.
fn known<T: Default>(fact: Fact<T>) -> Option<T> {
    match fact {
        Fact::Known(value) => Some(value),
        Fact::Absent => Some(T::default()),
        Fact::Unknown(_) => None,
    }
}

/// Reads a bundle in PEM, which the operator also takes in base64.
fn authorities(kind: &str, key: &str, text: &str) -> Result<CaBundle, String> {
    let decoded = (!text.contains("-----BEGIN"))
        .then(|| BASE64_STANDARD.decode(text.split_whitespace().collect::<String>()).ok())
        .flatten()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    CaBundle::parse(decoded.as_deref().unwrap_or(text))
        .map_err(|fault| format!("{kind}, key `{}`: {fault}", shown(key)))
}

static DIGEST_MIRRORS: Resource<Vec<MirrorSet>> = Resource {
    name: "ImageDigestMirrorSets",
    paths: &["/apis/config.openshift.io/v1/imagedigestmirrorsets"],
    object: None,
    page: PAGE,
    read: mirror_sets,
};

static TAG_MIRRORS: Resource<Vec<MirrorSet>> = Resource {
    name: "ImageTagMirrorSets",
    paths: &["/apis/config.openshift.io/v1/imagetagmirrorsets"],
    object: None,
    page: PAGE,
    read: mirror_sets,
};

static CONTENT_POLICIES: Resource<Vec<MirrorSet>> = Resource {
    name: "ImageContentSourcePolicies",
    paths: &["/apis/operator.openshift.io/v1alpha1/imagecontentsourcepolicies"],
    object: None,
    page: PAGE,
    read: mirror_sets,
};

/// The three kinds have each a list of its own, of the same shape.
fn mirror_sets(text: &str) -> crate::cluster::resources::Read<Vec<MirrorSet>> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct MirrorSetSpec {
        #[serde(deserialize_with = "nullable")]
        image_digest_mirrors: Vec<MirrorBody>,
        #[serde(deserialize_with = "nullable")]
        image_tag_mirrors: Vec<MirrorBody>,
        #[serde(deserialize_with = "nullable")]
        repository_digest_mirrors: Vec<MirrorBody>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct MirrorBody {
        source: String,
        #[serde(default, deserialize_with = "nullable")]
        mirrors: Vec<String>,
        #[serde(default, deserialize_with = "nullable")]
        mirror_source_policy: String,
    }
    let WithSpec::<MirrorSetSpec> { metadata, spec } = serde_json::from_str(text)?;
    let written = spec.image_digest_mirrors.into_iter().chain(spec.image_tag_mirrors);
    let sets = written.chain(spec.repository_digest_mirrors).map(|written| MirrorSet {
        source: written.source,
        mirrors: written.mirrors,
        source_policy: match written.mirror_source_policy.as_str() {
            "NeverContactSource" => SourcePolicy::NeverContactSource,
            _ => SourcePolicy::AllowContactingSource,
        },
    });
    Ok(Some((metadata.name, sets.collect())))
}

static IMAGE: Resource<ImageConfig> = Resource {
    name: IMAGE_CONFIG,
    paths: &["/apis/config.openshift.io/v1/images"],
    object: Some("cluster"),
    page: PAGE,
    read: |text| {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct ImageConfigSpec {
            #[serde(deserialize_with = "nullable")]
            registry_sources: RegistrySourcesSpec,
        }
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct RegistrySourcesSpec {
            #[serde(deserialize_with = "nullable")]
            insecure_registries: Vec<String>,
            #[serde(deserialize_with = "nullable")]
            blocked_registries: Vec<String>,
            #[serde(deserialize_with = "nullable")]
            allowed_registries: Vec<String>,
        }
        let WithSpec::<ImageConfigSpec> { metadata, spec } = serde_json::from_str(text)?;
        let RegistrySourcesSpec { insecure_registries, blocked_registries, allowed_registries } =
            spec.registry_sources;
        let sources = RegistrySources { allowed: allowed_registries, blocked: blocked_registries };
        Ok(Some((metadata.name, ImageConfig { insecure: insecure_registries, sources })))
    },
};

/// The status, which has what the operator adds to `noProxy`.
static PROXY: Resource<ProxySettings> = Resource {
    name: "Proxy/cluster",
    paths: &["/apis/config.openshift.io/v1/proxies"],
    object: Some("cluster"),
    page: PAGE,
    read: |text| {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct ProxyStatus {
            #[serde(deserialize_with = "nullable")]
            http_proxy: String,
            #[serde(deserialize_with = "nullable")]
            https_proxy: String,
            #[serde(deserialize_with = "nullable")]
            no_proxy: String,
        }
        let WithStatus::<ProxyStatus> { metadata, status } = serde_json::from_str(text)?;
        let ProxyStatus { http_proxy: http, https_proxy: https, no_proxy } = status;
        Ok(Some((metadata.name, ProxySettings { http, https, no_proxy })))
    },
};

/// What the operator merges from `additionalTrustedCA` and the internal registry's.
static REGISTRY_AUTHORITIES: Resource<Bundle> = Resource {
    name: "ConfigMap openshift-config-managed/merged-trusted-image-registry-ca",
    paths: MANAGED,
    object: Some("merged-trusted-image-registry-ca"),
    page: PAGE,
    read: bundle,
};

static INTERNAL_AUTHORITIES: Resource<Bundle> = Resource {
    name: "ConfigMap openshift-config-managed/image-registry-ca",
    paths: MANAGED,
    object: Some("image-registry-ca"),
    page: PAGE,
    read: bundle,
};

/// What the operator merges from the proxy's `trustedCA` and the roots of the system.
static TRUST_BUNDLE: Resource<Bundle> = Resource {
    name: "ConfigMap openshift-config-managed/trusted-ca-bundle",
    paths: MANAGED,
    object: Some("trusted-ca-bundle"),
    page: PAGE,
    read: bundle,
};

fn bundle(text: &str) -> crate::cluster::resources::Read<Bundle> {
    let WithData { metadata, data } = serde_json::from_str(text)?;
    Ok(Some((metadata.name, data)))
}

const MANAGED: &[&str] = &["/api/v1/namespaces/openshift-config-managed/configmaps"];
const BUNDLE_KEY: &str = "ca-bundle.crt";
