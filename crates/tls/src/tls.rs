//! One end's certificate, key and authorities, as they are valid now.
//!
//! Never gives up what works: files that cannot be used are told of, and what was read before stays in use.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::dial;
use crate::facts::{CertificateFacts, facts};
use crate::files::{PairFiles, TlsError, Watched, authorities};

/// Time between two looks at the files. What has changed is taken up when it has been at rest for one look.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Longest time before its end at which a certificate is told of. A shorter-lived one: at the last fifth of its life.
const SOON_MAX: Duration = Duration::from_hours(14 * 24);
/// Time between two words about a certificate that ends soon.
const SOON_AGAIN: Duration = Duration::from_hours(24);
/// The same of one that has ended.
const OVER_AGAIN: Duration = Duration::from_hours(1);

/// Certificate, key and authorities of one end, read again when the files change. New connections get the new ones, those
/// that are open go on. Shared by all that accept or dial with them.
#[derive(Debug)]
pub struct Tls {
    pair: Option<PairFiles>,
    ca: Option<PathBuf>,
    current: RwLock<Arc<Loaded>>,
    watch: Mutex<Watch>,
}

/// What was read last.
#[derive(Debug)]
struct Loaded {
    shown: Option<Arc<CertifiedKey>>,
    accepting: Option<Arc<ServerConfig>>,
    verifier: Option<Arc<WebPkiServerVerifier>>,
    /// Of the certificate itself.
    facts: Option<CertificateFacts>,
}

#[derive(Debug)]
struct Watch {
    files: Watched,
    looked_at: Instant,
    told: Option<(Age, Instant)>,
}

/// How much of a certificate's life is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Fine,
    Soon,
    Over,
}

impl Tls {
    /// Reads the files: a certificate with its key, or authorities, or both. Who accepts with authorities asks callers for
    /// a certificate of theirs: one that comes without is let in and [`Tls::accepting`] says who it is not; who dials checks
    /// the other end by them.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn open(pair: Option<PairFiles>, ca: Option<PathBuf>) -> Result<Arc<Self>, TlsError> {
        let of_pair = pair.iter().flat_map(|pair| [pair.certificates.clone(), pair.key.clone()]);
        let files = Watched::new(of_pair.chain(ca.clone()).collect());
        let loaded = Loaded::read(pair.as_ref(), ca.as_ref())?;
        let watch = Watch { files, looked_at: Instant::now(), told: None };
        let current = RwLock::new(Arc::new(loaded));
        let tls = Self { pair, ca, current, watch: Mutex::new(watch) };
        tls.tell_age();
        Ok(Arc::new(tls))
    }

    /// How a connection is accepted now; `None` without a certificate. Callers may come without a certificate: whether one
    /// was shown is seen on the connection, and a wrong one ends the handshake.
    #[must_use]
    pub fn accepting(&self) -> Option<Arc<ServerConfig>> {
        self.current().accepting.clone()
    }

    /// How to dial, now and after every change of the files; `None` without authorities.
    ///
    /// # Errors
    /// When the library cannot be set up.
    pub fn dialling(self: &Arc<Self>) -> Result<Option<ClientConfig>, TlsError> {
        if self.ca.is_none() {
            return Ok(None);
        }
        dial::config(self).map(Some).map_err(TlsError::Setup)
    }

    /// What the certificate in use says; `None` without one.
    #[must_use]
    pub fn facts(&self) -> Option<CertificateFacts> {
        self.current().facts.clone()
    }

    /// Looks at the files every [`LOOK_EVERY`] until `stop`.
    pub async fn keep_fresh(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let tls = Arc::clone(&self);
            // Files may lie on a network.
            let looking = tokio::task::spawn_blocking(move || tls.look()).await;
            if let Err(error) = looking {
                error!(%error, "looking at certificates panicked");
            }
        }
    }

    /// Takes new files up, if the last look is long enough ago. Somebody who dials now and then needs no loop.
    pub(crate) fn look(&self) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        // The loop's own period may be a little short of it.
        if watch.looked_at.elapsed() < LOOK_EVERY / 2 {
            return;
        }
        watch.looked_at = Instant::now();
        let has_changed = watch.files.has_changed();
        drop(watch);
        if has_changed {
            self.reload();
        }
        self.tell_age();
    }

    fn reload(&self) {
        match Loaded::read(self.pair.as_ref(), self.ca.as_ref()) {
            Ok(loaded) => self.replace(loaded),
            Err(error) => {
                let why = why(&error);
                warn!(error = %why, "new certificates cannot be used; those of before stay in use");
            }
        }
    }

    fn replace(&self, loaded: Loaded) {
        let now = SystemTime::now();
        let is_over =
            |loaded: &Loaded| loaded.facts.as_ref().is_some_and(|facts| age(facts, now) == Age::Over);
        if is_over(&loaded) && !is_over(&self.current()) {
            return warn!(
                files = %self.names(),
                "the new certificate has expired already; the one of before stays in use"
            );
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        info!(files = %self.names(), "certificates were read again; new connections use them");
    }

    /// Says when the certificate ends soon, and when it has ended; not more often than a person can bear.
    fn tell_age(&self) {
        let Some(facts) = self.facts() else { return };
        let (now, moment) = (SystemTime::now(), Instant::now());
        let age = age(&facts, now);
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let again = if age == Age::Over { OVER_AGAIN } else { SOON_AGAIN };
        if watch.told.is_some_and(|(told, at)| told == age && moment.duration_since(at) < again) {
            return;
        }
        watch.told = Some((age, moment));
        drop(watch);
        let files = self.names();
        match age {
            Age::Fine => {}
            Age::Soon => {
                let hours = facts.ends_at.duration_since(now).unwrap_or_default().as_secs() / 3600;
                warn!(%files, hours_left = hours, "the certificate expires soon; replace the files, no restart is needed");
            }
            Age::Over => {
                error!(%files, "the certificate has expired, nobody will take it; replace the files, no restart is needed");
            }
        }
    }

    fn names(&self) -> String {
        let of_pair = self.pair.iter().flat_map(|pair| [&pair.certificates, &pair.key]);
        let all: Vec<_> = of_pair.chain(&self.ca).map(|path| path.display().to_string()).collect();
        all.join(", ")
    }

    fn current(&self) -> Arc<Loaded> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn verifier(&self) -> Option<Arc<dyn ServerCertVerifier>> {
        self.current().verifier.clone().map(|verifier| verifier as Arc<dyn ServerCertVerifier>)
    }

    pub(crate) fn shown(&self) -> Option<Arc<CertifiedKey>> {
        self.current().shown.clone()
    }
}

impl Loaded {
    fn read(pair: Option<&PairFiles>, ca: Option<&PathBuf>) -> Result<Self, TlsError> {
        let shown = pair.map(PairFiles::read).transpose()?.map(Arc::new);
        let roots = ca.map(|ca| authorities(ca)).transpose()?;
        let accepting =
            shown.as_ref().map(|shown| accepting(Arc::clone(shown), roots.as_ref())).transpose()?;
        let provider = Arc::new(ring::default_provider());
        let verifier =
            roots.map(|roots| WebPkiServerVerifier::builder_with_provider(roots, provider).build());
        let verifier = verifier.transpose().map_err(|error| general(&error))?;
        let facts = shown.as_ref().and_then(|shown| facts(shown.cert.first()?));
        Ok(Self { shown, accepting, verifier, facts })
    }
}

fn accepting(
    shown: Arc<CertifiedKey>,
    roots: Option<&Arc<RootCertStore>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?;
    let resolver = Arc::new(SingleCertAndKey::from(shown));
    let mut config = match roots {
        None => builder.with_no_client_auth().with_cert_resolver(resolver),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| general(&error))?;
            builder.with_client_cert_verifier(verifier).with_cert_resolver(resolver)
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if roots.is_some() {
        // Who comes back is checked anew: a session kept for later would outlive a certificate or an authority.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

fn general(error: &impl std::fmt::Display) -> TlsError {
    TlsError::Setup(rustls::Error::General(error.to_string()))
}

/// The error with its cause.
fn why(error: &TlsError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn age(facts: &CertificateFacts, now: SystemTime) -> Age {
    let Ok(left) = facts.ends_at.duration_since(now) else { return Age::Over };
    let life = facts.ends_at.duration_since(facts.begins_at).unwrap_or_default();
    if left < SOON_MAX.min(life / 5) { Age::Soon } else { Age::Fine }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// A certificate of its own that ends with the year.
    fn put(pair: &PairFiles, until_year: i32) {
        let (key, mut params) =
            (KeyPair::generate().unwrap(), CertificateParams::new(["a.test".to_owned()]).unwrap());
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until_year, 1, 1);
        std::fs::write(&pair.certificates, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&pair.key, key.serialize_pem()).unwrap();
    }

    #[test]
    fn files_that_cannot_be_used_leave_what_works_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let pair = PairFiles { certificates: folder.path().join("a"), key: folder.path().join("b") };
        put(&pair, 4000);
        let tls = Tls::open(Some(pair.clone()), None).unwrap();
        let shown = || tls.shown().unwrap().cert[0].clone();
        let first = shown();
        let key = std::fs::read(&pair.key).unwrap();
        put(&pair, 4000);
        let fits = std::fs::read(&pair.key).unwrap();
        std::fs::write(&pair.key, key).unwrap();
        tls.reload();
        assert_eq!(shown(), first, "the key is that of the other");
        std::fs::write(&pair.key, fits).unwrap();
        tls.reload();
        let second = shown();
        assert_ne!(second, first);
        put(&pair, 2021);
        tls.reload();
        assert_eq!(shown(), second, "one that has expired is worse");
    }

    #[test]
    fn a_certificate_is_told_of_in_the_last_fifth_of_its_life_and_at_most_two_weeks_before_its_end() {
        let hour = |hours: u64| SystemTime::UNIX_EPOCH + Duration::from_hours(hours);
        let facts = |ends| CertificateFacts { names: Vec::new(), begins_at: hour(0), ends_at: hour(ends) };
        let day = 24;
        let cases = [
            (day, 19, Age::Fine),
            (day, 20, Age::Soon),
            (day, 24, Age::Soon),
            (day, 25, Age::Over),
            (365 * day, 350 * day, Age::Fine),
            (365 * day, 352 * day, Age::Soon),
        ];
        for (ends, now, wanted) in cases {
            assert_eq!(age(&facts(ends), hour(now)), wanted, "{now} of {ends} h");
        }
    }
}
