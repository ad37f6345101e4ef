//! Who a player is: the player token, a JWT that the back end or its identity provider signed.
//!
//! Never takes an algorithm that is not configured, nor a shared secret from a set of public keys; never logs a token.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use greenroom_core::PlayerId;
use greenroom_wire::error::Code;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{LoginAlgorithm, LoginConfig, LoginKeys};
use crate::http::error::ApiError;

use super::vouched::Vouched;

/// Difference between two clocks that is forgiven.
const LEEWAY_S: u64 = 30;
/// Longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Largest set of keys, in bytes.
const KEYS_BYTES_MAX: usize = 256 * 1024;
/// Most keys of a set.
const KEYS_MAX: usize = 64;
/// Time between two looks at a URL while nothing unknown comes.
const URL_EVERY: Duration = Duration::from_mins(5);
/// Time between two looks at a file.
const FILE_EVERY: Duration = Duration::from_secs(5);
/// Shortest time between two fetches, whatever keys tokens name.
const FETCH_GAP: Duration = Duration::from_secs(10);
/// How long a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Shortest shared secret, in bytes: that of the hash (RFC 7518, 3.2).
const SHARED_BYTES_MIN: usize = 32;

/// Why keys cannot be used. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The place of the keys cannot be called.
    #[error("the keys of player tokens cannot be fetched")]
    Fetch(#[source] reqwest::Error),
    /// It answered otherwise than with keys.
    #[error("the place of the keys of player tokens answered {0}")]
    Status(u16),
    /// More than 256 KiB.
    #[error("the keys of player tokens have more than 256 KiB")]
    TooLarge,
    /// The file cannot be read.
    #[error("the keys of player tokens cannot be read from {}", .file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No JSON with a list `keys`.
    #[error("the keys of player tokens are no JWK set: {0}")]
    NoSet(String),
    /// None of them is for a configured algorithm.
    #[error("none of the {0} keys of player tokens is for an algorithm that is allowed here")]
    NoKey(usize),
    /// A secret that can be guessed.
    #[error("a shared secret of player tokens has less than 32 bytes")]
    Weak,
}

#[derive(Clone)]
struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(flatten)]
    others: Vouched,
}

/// Knows the keys and reads tokens with them.
pub(crate) struct Login {
    config: LoginConfig,
    algorithms: Vec<Algorithm>,
    http: reqwest::Client,
    keys: RwLock<Arc<[Key]>>,
    /// When the keys were looked for last; held while they are.
    looked_at: Mutex<Option<Instant>>,
}

impl Login {
    /// Looks for the keys once. A place that does not answer is asked again later: players are refused until then.
    pub(crate) async fn open(config: LoginConfig) -> Result<Self, LoginError> {
        let algorithms = config.algorithms.iter().map(|algorithm| algorithm.of_jwt()).collect();
        // Another part of the process may have installed it before; either is the same.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(LoginError::Fetch)?;
        let login =
            Self { config, algorithms, http, keys: RwLock::new(Arc::from([])), looked_at: Mutex::new(None) };
        match (login.look().await, &login.config.keys) {
            (Ok(()), _) => {}
            (Err(error), LoginKeys::Url(_)) => warn!(error = %chain(&error), "players cannot log in yet"),
            (Err(error), LoginKeys::File(_) | LoginKeys::Shared(_)) => return Err(error),
        }
        Ok(login)
    }

    /// Looks for the keys again and again until `stop`. Keys that cannot be had leave those known in force.
    pub(super) async fn keep_fresh(&self, stop: CancellationToken) {
        let every = match &self.config.keys {
            LoginKeys::Url(_) => URL_EVERY,
            LoginKeys::File(_) | LoginKeys::Shared(_) => FILE_EVERY,
        };
        loop {
            let pause = if self.known().is_empty() { FETCH_GAP.min(every) } else { every };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            if let Err(error) = self.look().await {
                warn!(error = %chain(&error), "the keys of player tokens were not renewed");
            }
        }
    }

    /// Whose token this is, and what else it says.
    pub(super) async fn player(&self, token: &str) -> Result<(PlayerId, Vouched), ApiError> {
        let refused = |message: &str| ApiError::new(Code::Unauthorized, message);
        if token.len() > TOKEN_BYTES_MAX {
            return Err(refused("the player token has more than 8 KiB"));
        }
        let header = decode_header(token).map_err(|_| refused("the player token is no JWT"))?;
        if !self.algorithms.contains(&header.alg) {
            return Err(refused("the player token is signed with an algorithm that is not allowed here"));
        }
        let mut keys = self.fitting(&header);
        if keys.is_empty() {
            self.look_for_unknown().await;
            keys = self.fitting(&header);
        }
        if keys.is_empty() {
            return Err(if self.known().is_empty() {
                ApiError::new(Code::LoginUnavailable, "the keys of player tokens are not known yet; retry")
            } else {
                refused("the player token is signed with a key that is not known here")
            });
        }
        let claims = self.claims(token, &header, &keys).map_err(|error| refused(why(&error)))?;
        let sub = claims.sub.parse::<PlayerId>();
        let player =
            sub.map_err(|error| refused(&format!("the sub of the player token cannot be used: {error}")))?;
        Ok((player, claims.others))
    }

    fn claims(&self, token: &str, header: &Header, keys: &[Key]) -> jsonwebtoken::errors::Result<Claims> {
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["exp", "sub", "aud"]);
        if let Some(issuer) = &self.config.issuer {
            validation.set_issuer(&[issuer]);
            validation.set_required_spec_claims(&["exp", "sub", "aud", "iss"]);
        }
        let mut outcome = Err(jsonwebtoken::errors::ErrorKind::InvalidSignature.into());
        for key in keys {
            outcome = decode::<Claims>(token, &key.key, &validation).map(|read| read.claims);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn known(&self) -> Arc<[Key]> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fitting(&self, header: &Header) -> Vec<Key> {
        let named = |key: &Key| match (&header.kid, &key.kid) {
            (Some(asked), Some(has)) => asked == has,
            (Some(_), None) | (None, _) => true,
        };
        self.known().iter().filter(|key| key.algorithm == header.alg && named(key)).cloned().collect()
    }

    /// A key that nobody knows: perhaps a new one. Many tokens with unknown keys cause one fetch in a while.
    async fn look_for_unknown(&self) {
        let before = self.looked_at.try_lock().ok().and_then(|looked_at| *looked_at);
        let recently = before.is_some_and(|before| before.elapsed() < FETCH_GAP);
        if recently || !matches!(self.config.keys, LoginKeys::Url(_)) {
            return;
        }
        if let Err(error) = self.look().await {
            warn!(error = %chain(&error), "the keys of player tokens were not renewed");
        }
    }

    async fn look(&self) -> Result<(), LoginError> {
        let asked_at = Instant::now();
        let mut looked_at = self.looked_at.lock().await;
        if looked_at.is_some_and(|looked_at| looked_at > asked_at) {
            return Ok(()); // somebody else just did
        }
        let keys = self.read().await;
        *looked_at = Some(Instant::now());
        let keys = keys?;
        let before = self.known();
        if !before.iter().map(|key| &key.kid).eq(keys.iter().map(|key| &key.kid)) {
            info!(count = keys.len(), "the keys of player tokens changed");
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
        Ok(())
    }

    async fn read(&self) -> Result<Vec<Key>, LoginError> {
        match &self.config.keys {
            LoginKeys::Url(url) => self.set(&self.fetch(url).await?),
            LoginKeys::File(file) => self.set(&read_file(file.clone()).await?),
            LoginKeys::Shared(secrets) => secrets
                .iter()
                .map(|secret| {
                    let bytes = secret.expose().as_bytes();
                    let key = DecodingKey::from_secret(bytes);
                    let fits = bytes.len() >= SHARED_BYTES_MIN;
                    fits.then_some(Key { kid: None, algorithm: Algorithm::HS256, key })
                        .ok_or(LoginError::Weak)
                })
                .collect(),
        }
    }

    async fn fetch(&self, url: &str) -> Result<Vec<u8>, LoginError> {
        let failed = |error: reqwest::Error| LoginError::Fetch(error.without_url());
        let mut answer = self.http.get(url).send().await.map_err(failed)?;
        if !answer.status().is_success() {
            return Err(LoginError::Status(answer.status().as_u16()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > KEYS_BYTES_MAX {
                return Err(LoginError::TooLarge);
            }
        }
        Ok(bytes)
    }

    /// The usable keys of a JWK set; what is not understood is left out, as RFC 7517 asks.
    fn set(&self, bytes: &[u8]) -> Result<Vec<Key>, LoginError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(bytes).map_err(|error| LoginError::NoSet(error.to_string()))?;
        let count = set.keys.len();
        let usable = set.keys.into_iter().take(KEYS_MAX).filter_map(|key| self.key(key));
        let keys: Vec<Key> = usable.collect();
        if keys.is_empty() { Err(LoginError::NoKey(count)) } else { Ok(keys) }
    }

    fn key(&self, value: Value) -> Option<Key> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let told = jwk.common.key_algorithm.and_then(|algorithm| algorithm.to_string().parse().ok());
        // A shared secret among public keys is none, so HS256 is not looked for.
        let families = [
            (matches!(jwk.algorithm, AlgorithmParameters::EllipticCurve(_)), Algorithm::ES256),
            (matches!(jwk.algorithm, AlgorithmParameters::RSA(_)), Algorithm::RS256),
            (matches!(jwk.algorithm, AlgorithmParameters::OctetKeyPair(_)), Algorithm::EdDSA),
        ];
        let (_, algorithm) = families.into_iter().find(|(is, _)| *is)?;
        let fits =
            self.algorithms.contains(&algorithm) && told.is_none_or(|told: Algorithm| told == algorithm);
        let key = fits.then(|| DecodingKey::from_jwk(&jwk).ok()).flatten()?;
        Some(Key { kid: jwk.common.key_id, algorithm, key })
    }
}

async fn read_file(file: PathBuf) -> Result<Vec<u8>, LoginError> {
    let unreadable = |source| LoginError::Unreadable { file: file.clone(), source };
    let length = tokio::fs::metadata(&file).await.map_err(unreadable)?.len();
    if length > KEYS_BYTES_MAX as u64 {
        return Err(LoginError::TooLarge);
    }
    tokio::fs::read(&file).await.map_err(unreadable)
}

impl LoginAlgorithm {
    const fn of_jwt(self) -> Algorithm {
        match self {
            Self::EdDsa => Algorithm::EdDSA,
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
            Self::Hs256 => Algorithm::HS256,
        }
    }
}

/// What a player may know of a refusal.
fn why(error: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    let kind = error.kind();
    let words = [
        (matches!(kind, ErrorKind::ExpiredSignature), "the player token is over; get a new one"),
        (matches!(kind, ErrorKind::ImmatureSignature), "the player token is not valid yet"),
        (matches!(kind, ErrorKind::InvalidAudience), "the player token is meant for another audience"),
        (matches!(kind, ErrorKind::InvalidIssuer), "the player token has another issuer"),
        (
            matches!(kind, ErrorKind::MissingRequiredClaim(_)),
            "the player token lacks one of exp, sub, aud and, if asked for, iss",
        ),
        (matches!(kind, ErrorKind::Json(_)), "the claims of the player token are not as expected"),
    ];
    let found = words.into_iter().find(|(is, _)| *is);
    found.map_or("the signature of the player token is wrong", |(_, words)| words)
}

fn chain(error: &LoginError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
