//! What a certificate says: its names and its time.
//!
//! Never judges whether it is to be believed: the library has done that, or the file is our own.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Its DNS names, in lower case.
    pub names: Vec<String>,
    /// From when on it is valid.
    pub begins_at: SystemTime,
    /// Until when.
    pub ends_at: SystemTime,
}

/// What `certificate` says; `None` when it cannot be read.
#[must_use]
pub fn facts(certificate: &CertificateDer<'_>) -> Option<CertificateFacts> {
    let read = Certificate::from_der(certificate).ok()?;
    let read = read.tbs_certificate();
    let alternatives = read.get_extension::<SubjectAltName>().ok()?;
    let names = alternatives.into_iter().flat_map(|(_critical, names)| names.0);
    let names = names.filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        GeneralName::OtherName(_)
        | GeneralName::Rfc822Name(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EdiPartyName(_)
        | GeneralName::UniformResourceIdentifier(_)
        | GeneralName::IpAddress(_)
        | GeneralName::RegisteredId(_) => None,
    });
    let validity = read.validity();
    Some(CertificateFacts {
        names: names.collect(),
        begins_at: UNIX_EPOCH + validity.not_before.to_unix_duration(),
        ends_at: UNIX_EPOCH + validity.not_after.to_unix_duration(),
    })
}
