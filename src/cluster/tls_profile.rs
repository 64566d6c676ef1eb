//! Which TLS settings the cluster asks of servers: `spec.tlsSecurityProfile` of `APIServer/cluster`.

use serde::Deserialize;

use crate::cluster::objects::{ApiObject, ObjectSummary, nullable};
use crate::tls::profile::Profile;

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ApiServerSpec {
    #[serde(deserialize_with = "nullable")]
    tls_security_profile: TlsSecurityProfile,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct TlsSecurityProfile {
    #[serde(deserialize_with = "nullable")]
    r#type: String,
    #[serde(deserialize_with = "nullable")]
    custom: CustomProfile,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct CustomProfile {
    #[serde(rename = "minTLSVersion", deserialize_with = "nullable")]
    minimum: String,
    #[serde(deserialize_with = "nullable")]
    ciphers: Vec<String>,
}

impl ObjectSummary for Profile {
    type Object = ApiObject<ApiServerSpec>;

    fn of(ApiObject { spec, .. }: Self::Object) -> Option<Self> {
        let TlsSecurityProfile { r#type, custom: CustomProfile { minimum, ciphers } } =
            spec.tls_security_profile;
        Some(Self { r#type, minimum, ciphers })
    }
}
