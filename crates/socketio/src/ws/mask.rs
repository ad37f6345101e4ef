//! Owns the masking of frame payloads.
//! Never chooses a key: the client role passes one in, which must be hard to guess.

/// The four bytes that a client mixes into a payload.
pub type MaskKey = [u8; 4];

/// Masks or unmasks `payload` in place, eight bytes at a time. `offset` is the position of its first byte in the
/// frame's payload, for a payload that comes in pieces. Masking twice restores the payload.
pub fn mask(payload: &mut [u8], key: MaskKey, offset: usize) {
    let mut turned = key;
    turned.rotate_left(offset % 4);
    let word = u64::from_ne_bytes([
        turned[0], turned[1], turned[2], turned[3], turned[0], turned[1], turned[2], turned[3],
    ]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(turned.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn masking_is_byte_wise_exclusive_or_and_its_own_inverse(
            payload: Vec<u8>, key: MaskKey, offset in 0usize..9,
        ) {
            let mut masked = payload.clone();
            mask(&mut masked, key, offset);
            let expected: Vec<u8> =
                payload.iter().enumerate().map(|(i, byte)| byte ^ key[(i + offset) % 4]).collect();
            prop_assert_eq!(&masked, &expected);
            mask(&mut masked, key, offset);
            prop_assert_eq!(masked, payload);
        }

        #[test]
        fn masking_in_two_pieces_is_masking_at_once(payload: Vec<u8>, key: MaskKey, cut: prop::sample::Index) {
            let mut whole = payload.clone();
            mask(&mut whole, key, 0);
            let mut pieces = payload;
            let cut = if pieces.is_empty() { 0 } else { cut.index(pieces.len()) };
            mask(&mut pieces[..cut], key, 0);
            mask(&mut pieces[cut..], key, cut);
            prop_assert_eq!(whole, pieces);
        }
    }
}
