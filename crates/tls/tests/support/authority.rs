//! Certificates that live for a test. Used by the tests of every crate that listens or dials.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is the test's")]

use std::path::{Path, PathBuf};

use greenroom_tls::PairFiles;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

/// A folder with an authority in it.
pub(crate) struct Authority {
    pub(crate) folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let (folder, key) = (TempDir::new().unwrap(), KeyPair::generate().unwrap());
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Signs a certificate for these names and addresses, apart by spaces, and puts it there as `<file>.pem` and `<file>.key`.
    pub(crate) fn sign(&self, file: &str, names: &str, until_year: i32) -> PairFiles {
        let names: Vec<String> = names.split(' ').map(str::to_owned).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let folder = self.folder.path();
        put(&folder.join(format!("{file}.key")), &key.serialize_pem());
        put(&folder.join(format!("{file}.pem")), &certificate.pem());
        PairFiles {
            certificates: folder.join(format!("{file}.pem")),
            key: folder.join(format!("{file}.key")),
        }
    }
}

/// Replaces a file as tools do: whole, by a new name.
pub(crate) fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}
