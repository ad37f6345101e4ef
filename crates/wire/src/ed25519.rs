//! Ed25519 signatures, made in the fastest way that this processor knows.
//!
//! Never decides what is signed. Every way gives the same signature: it depends on the key and the message alone.

use ed25519_dalek::{Signer as _, SigningKey};
#[cfg(target_arch = "x86_64")]
use graviola::signing::eddsa::Ed25519SigningKey;

/// A secret key, expanded: doing that anew for each signature would cost three times what signing does.
pub(crate) enum Secret {
    /// Assembly for processors since about 2014, in three fifths of the time.
    #[cfg(target_arch = "x86_64")]
    Tuned(Ed25519SigningKey),
    /// Any processor.
    Portable(SigningKey),
}

impl Secret {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(tuned) = Self::tuned(secret) {
            return tuned;
        }
        Self::portable(secret)
    }

    fn portable(secret: &[u8; 32]) -> Self {
        Self::Portable(SigningKey::from_bytes(secret))
    }

    /// `None`: this processor lacks something of what the assembly needs, which would panic.
    #[cfg(target_arch = "x86_64")]
    fn tuned(secret: &[u8; 32]) -> Option<Self> {
        let has_all = is_x86_feature_detected!("adx")
            && is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("avx")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("pclmulqdq")
            && is_x86_feature_detected!("ssse3");
        has_all.then(|| Ed25519SigningKey::from_bytes(secret).ok().map(Self::Tuned)).flatten()
    }

    pub(crate) fn public(&self) -> [u8; 32] {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Tuned(key) => key.public_key().as_bytes(),
            Self::Portable(key) => key.verifying_key().to_bytes(),
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Tuned(key) => key.sign(message),
            Self::Portable(key) => key.sign(message).to_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn a_signature_is_that_of_rfc_8032() {
        // Section 7.1, tests 1 and 3: secret, public, message, signature.
        let cases = [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555\
                 fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                "af82",
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac1\
                 8ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ];
        for (secret, public, message, signature) in cases {
            let secret: [u8; 32] = bytes(secret).try_into().unwrap();
            for key in ways(&secret) {
                assert_eq!(key.public().to_vec(), bytes(public));
                assert_eq!(key.sign(&bytes(message)).to_vec(), bytes(signature));
            }
        }
    }

    /// At least one, and two where the processor knows both.
    fn ways(secret: &[u8; 32]) -> Vec<Secret> {
        #[cfg(target_arch = "x86_64")]
        let tuned = Secret::tuned(secret);
        #[cfg(not(target_arch = "x86_64"))]
        let tuned = None;
        [Secret::portable(secret)].into_iter().chain(tuned).collect()
    }

    proptest! {
        #[test]
        fn every_way_gives_the_same_signature(
            secret: [u8; 32],
            message in proptest::collection::vec(any::<u8>(), 0..1_500),
        ) {
            let chosen = Secret::new(&secret);
            for key in ways(&secret) {
                prop_assert_eq!(key.public(), chosen.public());
                prop_assert_eq!(key.sign(&message), chosen.sign(&message));
            }
        }
    }
}
