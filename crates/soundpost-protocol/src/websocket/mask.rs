//! The mask over what a client sends. Source: RFC 6455, section 5.3.

/// Takes the mask off, or puts it on: the two are one. `offset`: bytes of the frame's payload that lie before `part`.
pub(super) fn apply(part: &mut [u8], mut mask: [u8; 4], offset: usize) {
    mask.rotate_left(offset % 4);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = part.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_offset_agrees_with_the_rule_byte_by_byte() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        for length in 0..70 {
            let whole: Vec<u8> = (0..length).collect();
            let expected: Vec<u8> =
                whole.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            for cut in 0..=whole.len() {
                let mut parts = whole.clone();
                let (first, second) = parts.split_at_mut(cut);
                apply(first, mask, 0);
                apply(second, mask, cut);
                assert_eq!(parts, expected, "{length} bytes cut at {cut}");
            }
        }
    }
}
