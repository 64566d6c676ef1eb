//! TLS of the server: the certificate, the client authority, and the protocol versions of an address.

pub mod certificate;
pub mod endpoint;
pub mod pem;
pub mod profile;

pub use certificate::{CertificateError, ServingCertificate};
pub use endpoint::{ClientAuthority, TlsEndpoint};
