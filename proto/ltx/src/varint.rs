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
