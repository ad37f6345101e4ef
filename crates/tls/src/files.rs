//! The PEM files: how they are read, and how it is seen that they are others.
//!
//! Never keeps a key: what was read belongs to the caller.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// A certificate and its private key, in PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFiles {
    /// The certificate, then those that lead to a known authority.
    pub certificates: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

impl PairFiles {
    /// Reads both.
    ///
    /// # Errors
    /// See [`TlsError`]; a key that is not the certificate's is one.
    pub fn read(&self) -> Result<CertifiedKey, TlsError> {
        let certificates = certificates(&self.certificates)?;
        let key = PrivateKeyDer::from_pem_slice(&bytes(&self.key)?)
            .map_err(|_| TlsError::Pem { path: self.key.clone(), what: "private key" })?;
        CertifiedKey::from_der(certificates, key, &ring::default_provider()).map_err(|source| {
            TlsError::Pair { certificates: self.certificates.clone(), key: self.key.clone(), source }
        })
    }
}

/// Why certificates cannot be used. Whoever put the files there mends them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read. Put it there, readable to this process.
    #[error("{path} cannot be read; put it there, readable to this process", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should, in PEM.
    #[error("{path} holds no {what} in pem", path = .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// Certificate and key cannot be used, or not together. Put both of one issue there.
    #[error(
        "{certificates} and {key} cannot be used together; put certificate and key of one issue there",
        certificates = .certificates.display(), key = .key.display()
    )]
    Pair {
        /// The file of the certificate.
        certificates: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What the library said.
        source: rustls::Error,
    },
    /// What a file of authorities holds cannot be used.
    #[error("{path} holds a certificate that can be no authority", path = .path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: rustls::Error,
    },
    /// The library cannot work with what was read.
    #[error("tls cannot be set up")]
    Setup(#[source] rustls::Error),
}

fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes(path)?).collect();
    let read = read.ok().filter(|certificates| !certificates.is_empty());
    read.ok_or_else(|| TlsError::Pem { path: path.to_owned(), what: "certificate" })
}

/// Reads authorities.
pub(crate) fn authorities(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|source| TlsError::Authority { path: path.to_owned(), source })?;
    }
    Ok(Arc::new(roots))
}

/// What tells that files are others: when they were changed, their bytes, their inodes.
type Stamp = Vec<(SystemTime, u64, u64)>;

/// Files that are read again when they change. Links are followed, so that a mounted secret whose link moves is another.
#[derive(Debug)]
pub struct Watched {
    paths: Vec<PathBuf>,
    taken: Option<Stamp>,
    seen: Option<Stamp>,
}

impl Watched {
    /// These files, as they are now. Called before they are read: what changes meanwhile is told.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let taken = stamp(&paths);
        Self { paths, seen: taken.clone(), taken }
    }

    /// Whether they are others than those that were told last. Told once, when they have been at rest from one look to the
    /// next, so that a pair is not read while somebody replaces it. Nothing is told while one is missing.
    pub fn has_changed(&mut self) -> bool {
        let now = stamp(&self.paths);
        let is_told = now.is_some() && now == self.seen && now != self.taken;
        if is_told {
            self.taken.clone_from(&now);
        }
        self.seen = now;
        is_told
    }

    /// Whether the last look found others that may not rest yet: look again soon.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.seen.is_some() && self.seen != self.taken
    }

    /// They are about to be read, whether they changed or not.
    pub fn take(&mut self) {
        self.taken = stamp(&self.paths);
        self.seen.clone_from(&self.taken);
    }
}

fn stamp(paths: &[PathBuf]) -> Option<Stamp> {
    let of = |path: &PathBuf| {
        let file = fs::metadata(path).ok()?;
        Some((file.modified().ok()?, file.len(), file.ino()))
    };
    paths.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_once_when_they_have_changed_and_rest() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let put = |path: &Path, text: &str| {
            fs::write(folder.path().join("new"), text).unwrap();
            fs::rename(folder.path().join("new"), path).unwrap();
        };
        put(&a, "1");
        put(&b, "1");
        let mut watched = Watched::new(vec![a.clone(), b.clone()]);
        assert!(!watched.has_changed());
        put(&a, "22");
        assert!(!watched.has_changed() && watched.is_changing(), "somebody is at it");
        put(&b, "22");
        assert!(!watched.has_changed(), "still");
        assert!(watched.has_changed() && !watched.is_changing(), "both are new and rest");
        assert!(!watched.has_changed(), "told once");
        fs::remove_file(&a).unwrap();
        assert!(!watched.has_changed() && !watched.has_changed(), "one is missing");
        put(&a, "333");
        assert!(!watched.has_changed() && watched.has_changed(), "it came back as another");
        put(&a, "4444");
        watched.take();
        assert!(!watched.has_changed() && !watched.has_changed(), "it was taken meanwhile");
    }
}
