//! Unsigned varints of the page index: seven bits per byte, low bits first, bit 7 says that more follow.

/// Appends `value`; one to ten bytes.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes one varint from the front of `input`. `None` if it is cut off, longer than needed or beyond 64 bits; `input` is then
/// left where the varint began.
pub(crate) fn take(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (position, &byte) in input.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if position == 9 && byte > 1 {
            return None;
        }
        value |= bits << (7 * position);
        if byte & 0x80 == 0 {
            if byte == 0 && position > 0 {
                return None;
            }
            *input = &input[position + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_back_and_the_rest_is_left() {
        for value in [
            0,
            1,
            127,
            128,
            300,
            16_383,
            16_384,
            u64::from(u32::MAX),
            u64::MAX - 1,
            u64::MAX,
        ] {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            for cut in 0..bytes.len() {
                assert_eq!(take(&mut &bytes[..cut]), None);
            }
            bytes.push(0xee);
            let mut rest = &bytes[..];
            assert_eq!(take(&mut rest), Some(value));
            assert_eq!(rest, [0xee]);
        }
    }

    #[test]
    fn overlong_and_oversized_varints_are_refused() {
        for bytes in [&[0x80, 0x00][..], &[0xff, 0x80, 0x00], &[0xff; 11]] {
            assert_eq!(take(&mut &bytes[..]), None);
        }
        let mut too_big = [0xff; 10];
        too_big[9] = 2;
        assert_eq!(take(&mut &too_big[..]), None);
    }
}
