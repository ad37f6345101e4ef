//! A certificate that lives for one run, for the server under measurement and for who connects to it.
//! Never one that anybody else trusts.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

/// Certificate and key in a folder that vanishes with it.
#[derive(Debug)]
pub(crate) struct Secure {
    folder: TempDir,
    client: Arc<ClientConfig>,
}

impl Secure {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("certificate.pem"), made.cert.pem())?;
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).context("the certificate was just made")?;
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { folder, client: Arc::new(client) })
    }

    /// What tells a gameserver of ours to speak TLS.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("GREENROOM_TLS_CERTIFICATES", "certificate.pem"), ("GREENROOM_TLS_KEY", "key.pem")]
            .map(|(name, file)| (name, self.folder.path().join(file)))
    }

    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }
}
