//! CBOR, written only: shortest heads, definite lengths, keys of maps in the order of their bytes (RFC 8949 4.2.1).

use alloc::vec::Vec;

/// An item of one kind (major type) with its number.
fn head(major: u8, number: u64) -> Vec<u8> {
    let major = major << 5;
    let bytes = number.to_be_bytes();
    let (info, tail) = match number {
        0..24 => return [major | number as u8].into(),
        24..0x100 => (24, &bytes[7..]),
        0x100..0x1_0000 => (25, &bytes[6..]),
        0x1_0000..0x1_0000_0000 => (26, &bytes[4..]),
        _ => (27, &bytes[..]),
    };
    [&[major | info], tail].concat()
}

pub(super) fn uint(number: u64) -> Vec<u8> {
    head(0, number)
}

pub(super) fn int(number: i64) -> Vec<u8> {
    match u64::try_from(number) {
        Ok(number) => head(0, number),
        Err(_) => head(1, number.unsigned_abs() - 1),
    }
}

pub(super) fn bytes(bytes: &[u8]) -> Vec<u8> {
    [&head(2, bytes.len() as u64), bytes].concat()
}

pub(super) fn text(text: &str) -> Vec<u8> {
    [&head(3, text.len() as u64), text.as_bytes()].concat()
}

pub(super) fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [head(4, items.len() as u64), items.concat()].concat()
}

/// Values are encoded items; no key may stand twice.
pub(super) fn map(items: Vec<(i64, Vec<u8>)>) -> Vec<u8> {
    let mut items: Vec<_> = items.into_iter().map(|(key, value)| (int(key), value)).collect();
    items.sort();
    let mut map = head(5, items.len() as u64);
    items.into_iter().for_each(|(key, value)| map.extend([key, value].concat()));
    map
}

pub(super) fn tag(number: u64, item: &[u8]) -> Vec<u8> {
    [&head(6, number), item].concat()
}

pub(super) fn boolean(value: bool) -> Vec<u8> {
    [if value { 0xF5 } else { 0xF4 }].into()
}
