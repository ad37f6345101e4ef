//! Join tokens and the keys they are checked with.

use greenroom_core::Timestamp;
use greenroom_wire::record::SigningKeyRecord;
use greenroom_wire::token::{ISSUER, JoinClaims, PublicKeys, Purpose, Signer, Verifier};
use serde_json::{Value, json};

use crate::From::Process;
use crate::{golden, text};

fn claims() -> JoinClaims {
    JoinClaims {
        iss: ISSUER.to_owned(),
        aud: text("arena"),
        sub: text("alice"),
        jti: "token-0".to_owned(),
        iat: 1_700_000_000,
        exp: 1_700_000_030,
        purpose: Purpose::Join,
        room: text("room-1"),
        epoch: 1,
        instance: text("arena-a1b2c.0"),
        seat: 0,
        seats: 4,
        key: Some(text("guild:42")),
        init: json!({"map": "dunes"}),
    }
}

/// The key pair of RFC 8032 section 7.1, test 1.
fn signer() -> Signer {
    let record = SigningKeyRecord {
        version: 1,
        kid: "AQIDBAUG".to_owned(),
        secret: "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A".to_owned(),
        created_at_ms: 1_700_000_000_000,
    };
    Signer::new(&record).unwrap()
}

/// The keys that agents and servers are told.
pub(crate) fn keys() -> PublicKeys {
    PublicKeys { keys: vec![signer().public()] }
}

#[test]
fn claims_and_keys_are_written_as_ever() {
    golden(Process, "token_claims", &claims());
    golden(Process, "token_claims_plain", &JoinClaims { key: None, init: Value::Null, ..claims() });
    golden(Process, "token_keys", &keys());
}

#[test]
fn a_token_of_an_earlier_program_is_still_believed() {
    let stored = golden(Process, "token_signed", &signer().sign(&claims()));
    let token: String = serde_json::from_str(&stored).unwrap();
    let verifier = Verifier::new("arena".parse().unwrap(), &keys());
    let read = verifier.claims(&token).unwrap();
    assert_eq!(read, claims());
    assert!(!read.is_expired(Timestamp::from_unix_ms(1_700_000_029_999)));
}
