//! What the cluster wants of TLS: `spec.tlsSecurityProfile` of `APIServer/cluster`.

use serde::Deserialize;

use crate::cluster::resources::{PAGE, Resource, WithSpec, nullable};
use crate::tls::profile::Profile;

/// `APIServer/cluster`.
pub(crate) static API_SERVER: Resource<Profile> = Resource {
    name: "APIServer/cluster",
    paths: &["/apis/config.openshift.io/v1/apiservers"],
    object: Some("cluster"),
    page: PAGE,
    read: |text| {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct ApiServerSpec {
            #[serde(deserialize_with = "nullable")]
            tls_security_profile: TlsProfileBody,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct TlsProfileBody {
            #[serde(deserialize_with = "nullable")]
            r#type: String,
            #[serde(deserialize_with = "nullable")]
            custom: Custom,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Custom {
            #[serde(rename = "minTLSVersion", deserialize_with = "nullable")]
            minimum: String,
            #[serde(deserialize_with = "nullable")]
            ciphers: Vec<String>,
        }
        let WithSpec::<ApiServerSpec> { metadata, spec } = serde_json::from_str(text)?;
        let TlsProfileBody { r#type, custom: Custom { minimum, ciphers } } = spec.tls_security_profile;
        Ok(Some((metadata.name, Profile { r#type, minimum, ciphers })))
    },
};
