//! JoinTokens: who may sit where, signed by the control plane (JWT, EdDSA over Ed25519), and the keys to check them.
//!
//! Never keeps state: whether a token was used before is the gameserver's to know. A server that is not ours checks
//! one with any JWT library against `GET /v1/keys`; `docs/tokens.md` has the recipe.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use greenroom_core::{FleetName, InstanceId, PlayerId, RoomId, RoomKey, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::Text;
use crate::ed25519::Secret;
use crate::record::SigningKeyRecord;

/// Issuer of every JoinToken.
pub const ISSUER: &str = "greenroom";
/// Room for a token without growing.
const TOKEN_BYTES: usize = 1_024;

/// What a JoinToken says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinClaims {
    /// Always [`ISSUER`].
    pub iss: String,
    /// The fleet.
    pub aud: Text<FleetName>,
    /// The player.
    pub sub: Text<PlayerId>,
    /// Unique id of this token.
    pub jti: String,
    /// Unix seconds of issue.
    pub iat: u64,
    /// Unix seconds; a first connection after this is refused.
    pub exp: u64,
    /// What it is for. Only `join` exists so far.
    pub purpose: Purpose,
    /// The room.
    pub room: Text<RoomId>,
    /// The room's owner count: a token of an older epoch is refused.
    pub epoch: u32,
    /// The process that was promised; any other one refuses the token.
    pub instance: Text<InstanceId>,
    /// Seat number.
    pub seat: u16,
    /// Seats of the room, for the server that opens it.
    pub seats: u16,
    /// The key the room was asked for by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<RoomKey>>,
    /// Handed to the room's `create` by whoever arrives first. At most 4 KiB.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub init: serde_json::Value,
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Take the seat.
    Join,
}

/// Public keys as a JWK set (RFC 7517, RFC 8037): `{"keys":[{"kty":"OKP","crv":"Ed25519","kid","x",..}]}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PublicKeys {
    /// All that are valid now.
    pub keys: Vec<PublicKey>,
}

/// One public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PublicKey {
    /// `OKP`.
    pub kty: String,
    /// `Ed25519`.
    pub crv: String,
    /// `EdDSA`.
    pub alg: String,
    /// `sig`.
    #[serde(rename = "use")]
    pub usage: String,
    /// Key id, as in the tokens' header.
    pub kid: String,
    /// The public bytes, base64url.
    pub x: String,
}

/// Why a signing key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The stored secret is not 32 bytes of base64url. The store is damaged; restore it or delete the key record.
    #[error("signing key {kid} is not 32 bytes of base64url")]
    Malformed {
        /// Which.
        kid: String,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for a signing key: {0}")]
    Random(getrandom::Error),
}

/// Signs JoinTokens. Signing the same claims twice gives the same token.
pub struct Signer {
    /// The header of every token, encoded, with the dot after it.
    header: String,
    secret: Secret,
    public: PublicKey,
}

impl Signer {
    /// A new random key, to be stored before its first use.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate(now: Timestamp) -> Result<SigningKeyRecord, KeyError> {
        let mut secret = [0u8; 32];
        getrandom::fill(&mut secret).map_err(KeyError::Random)?;
        let mut kid = [0u8; 6];
        getrandom::fill(&mut kid).map_err(KeyError::Random)?;
        Ok(SigningKeyRecord {
            version: 1,
            kid: URL_SAFE_NO_PAD.encode(kid),
            secret: URL_SAFE_NO_PAD.encode(secret),
            created_at_ms: now.unix_ms(),
        })
    }

    /// The signer of a stored key.
    ///
    /// # Errors
    /// When the record is damaged.
    pub fn new(record: &SigningKeyRecord) -> Result<Self, KeyError> {
        let malformed = || KeyError::Malformed { kid: record.kid.clone() };
        let bytes = URL_SAFE_NO_PAD.decode(&record.secret).map_err(|_| malformed())?;
        let secret: [u8; 32] = bytes.try_into().map_err(|_| malformed())?;
        let secret = Secret::new(&secret);
        let public = secret.public();
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(record.kid.clone());
        Ok(Self {
            header: format!("{}.", URL_SAFE_NO_PAD.encode(json(&header))),
            secret,
            public: PublicKey {
                kty: "OKP".to_owned(),
                crv: "Ed25519".to_owned(),
                alg: "EdDSA".to_owned(),
                usage: "sig".to_owned(),
                kid: record.kid.clone(),
                x: URL_SAFE_NO_PAD.encode(public),
            },
        })
    }

    /// The token of these claims.
    #[must_use]
    pub fn sign(&self, claims: &JoinClaims) -> String {
        let mut token = String::with_capacity(TOKEN_BYTES);
        token.push_str(&self.header);
        URL_SAFE_NO_PAD.encode_string(json(claims), &mut token);
        let signature = self.secret.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }

    /// What to give to gameservers.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public.clone()
    }
}

/// What a part of a JWT says, before it is encoded.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("headers and claims have text keys only")
}

/// Why a token was not believed. The texts go to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a JWT, or not one of ours in form.
    #[error("the join token is malformed")]
    Malformed,
    /// Signed by nobody we know; keys may have been rotated: ask for a new token.
    #[error("the join token's signature does not match any known key")]
    Signature,
    /// For another fleet than this server's.
    #[error("the join token is for fleet {found}, this server belongs to {expected}")]
    Audience {
        /// In the token.
        found: FleetName,
        /// Ours.
        expected: FleetName,
    },
}

/// Checks JoinTokens of one fleet.
pub struct Verifier {
    fleet: FleetName,
    keys: BTreeMap<String, DecodingKey>,
}

impl Verifier {
    /// A verifier for servers of `fleet`. Unusable keys in the set are left out.
    #[must_use]
    pub fn new(fleet: FleetName, public: &PublicKeys) -> Self {
        let keys = public
            .keys
            .iter()
            .filter(|key| key.kty == "OKP" && key.crv == "Ed25519")
            .filter_map(|key| Some((key.kid.clone(), DecodingKey::from_ed_components(&key.x).ok()?)))
            .collect();
        Self { fleet, keys }
    }

    /// The claims of a token whose signature, issuer and fleet hold. Expiry is left to the caller, because a re-entry
    /// is allowed after it.
    ///
    /// # Errors
    /// When it is not one of ours; nothing of it may be believed then.
    pub fn claims(&self, token: &str) -> Result<JoinClaims, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed)?;
        let key = header.kid.and_then(|kid| self.keys.get(&kid)).ok_or(TokenError::Signature)?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
        let refused = |error: jsonwebtoken::errors::Error| {
            let signature = matches!(error.kind(), jsonwebtoken::errors::ErrorKind::InvalidSignature);
            if signature { TokenError::Signature } else { TokenError::Malformed }
        };
        let claims = jsonwebtoken::decode::<JoinClaims>(token, key, &validation).map_err(refused)?;
        if claims.claims.aud.0 == self.fleet {
            Ok(claims.claims)
        } else {
            Err(TokenError::Audience { found: claims.claims.aud.0, expected: self.fleet.clone() })
        }
    }
}

impl JoinClaims {
    /// Whether a first connection at `now` comes too late.
    #[must_use]
    pub const fn is_expired(&self, now: Timestamp) -> bool {
        now.unix_ms() >= self.exp.saturating_mul(1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> JoinClaims {
        JoinClaims {
            iss: ISSUER.to_owned(),
            aud: Text("arena".parse().unwrap()),
            sub: Text("alice".parse().unwrap()),
            jti: "t1".to_owned(),
            iat: 100,
            exp: 130,
            purpose: Purpose::Join,
            room: Text("r1".parse().unwrap()),
            epoch: 1,
            instance: Text("arena-a1b2c.0".parse().unwrap()),
            seat: 2,
            seats: 4,
            key: None,
            init: serde_json::Value::Null,
        }
    }

    fn signer() -> Signer {
        Signer::new(&Signer::generate(Timestamp::from_unix_ms(1)).unwrap()).unwrap()
    }

    #[test]
    fn a_signed_token_gives_its_claims_back_and_is_the_same_each_time() {
        let signer = signer();
        let verifier = Verifier::new("arena".parse().unwrap(), &PublicKeys { keys: vec![signer.public()] });
        let token = signer.sign(&claims());
        assert_eq!(verifier.claims(&token).unwrap(), claims());
        assert_eq!(signer.sign(&claims()), token);
    }

    #[test]
    fn a_token_that_is_not_ours_is_refused_with_its_own_error() {
        let (ours, other) = (signer(), signer());
        let keys = PublicKeys { keys: vec![ours.public()] };
        let verifier = Verifier::new("arena".parse().unwrap(), &keys);
        let good = ours.sign(&claims());
        let (head, signature) = good.rsplit_once('.').unwrap();
        let (_, other_signature) = good.split_once('.').unwrap();
        let mut flipped = signature.as_bytes().to_vec();
        flipped[3] = if flipped[3] == b'A' { b'B' } else { b'A' };
        let flipped = format!("{head}.{}", String::from_utf8(flipped).unwrap());
        for (name, token, error) in [
            ("empty", String::new(), TokenError::Malformed),
            ("not a token", "a.b.c".to_owned(), TokenError::Malformed),
            ("no header", other_signature.to_owned(), TokenError::Malformed),
            ("unknown key", other.sign(&claims()), TokenError::Signature),
            ("changed signature", flipped, TokenError::Signature),
        ] {
            assert_eq!(verifier.claims(&token).unwrap_err(), error, "{name}");
        }
        let lobby = Verifier::new("lobby".parse().unwrap(), &keys);
        assert!(matches!(lobby.claims(&good).unwrap_err(), TokenError::Audience { .. }));
    }

    #[test]
    fn a_token_expires_at_the_start_of_its_second() {
        assert!(!claims().is_expired(Timestamp::from_unix_ms(129_999)));
        assert!(claims().is_expired(Timestamp::from_unix_ms(130_000)));
    }
}
