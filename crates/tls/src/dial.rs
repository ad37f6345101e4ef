//! The dialling end: one configuration for good, which asks at each handshake what is valid now.
//!
//! Never keeps a session for later: who comes back is checked anew.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::tls::Tls;

/// Checks with the authorities, and shows the certificate, of now.
#[derive(Debug)]
struct Newest(Arc<Tls>);

pub(crate) fn config(tls: &Arc<Tls>) -> Result<ClientConfig, Error> {
    let newest = Arc::new(Newest(Arc::clone(tls)));
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&newest) as Arc<dyn ServerCertVerifier>)
        .with_client_cert_resolver(newest);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

impl Newest {
    fn verifier(&self) -> Arc<dyn ServerCertVerifier> {
        self.0.verifier().expect("a dialling end has authorities, or `config` was not called")
    }
}

impl ServerCertVerifier for Newest {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.look();
        self.verifier().verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier().verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier().verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier().supported_verify_schemes()
    }
}

impl ResolvesClientCert for Newest {
    fn resolve(&self, _hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // Shown whatever the hints say: who is refused shall hear why.
        self.0.shown().filter(|shown| shown.key.choose_scheme(schemes).is_some())
    }

    fn has_certs(&self) -> bool {
        self.0.shown().is_some()
    }
}
