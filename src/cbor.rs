//! CBOR as this project writes it: definite lengths, every head in its shortest form (RFC 8949, 4.2.1).
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use alloc::vec::Vec;

/// Major type 0: an unsigned number.
pub const UNSIGNED: u8 = 0;
/// Major type 1: -1 - n.
pub const NEGATIVE: u8 = 1;
/// Major type 2: bytes.
pub const BYTES: u8 = 2;
/// Major type 3: text in UTF-8.
pub const TEXT: u8 = 3;
/// Major type 4: items in order.
pub const ARRAY: u8 = 4;
/// Major type 5: keys and values.
pub const MAP: u8 = 5;

const FALSE: u8 = 0xf4;
const NULL: u8 = 0xf6;

/// Adds the head of an item: major type and number, in the shortest form.
#[inline(never)]
pub fn head(out: &mut Vec<u8>, major: u8, n: u64) {
    let [.., e, f, g, h] = n.to_be_bytes();
    let major = major << 5;
    match n {
        0..24 => out.push(major | h),
        24..0x100 => out.extend_from_slice(&[major | 24, h]),
        0x100..0x1_0000 => out.extend_from_slice(&[major | 25, g, h]),
        0x1_0000..0x1_0000_0000 => out.extend_from_slice(&[major | 26, e, f, g, h]),
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&n.to_be_bytes());
        }
    }
}

/// Returns a length as the number of a head.
#[must_use]
pub fn length(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Items one after the other. Who begins an array of `n` items writes `n` items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Items(pub Vec<u8>);

impl Items {
    /// Begins an array of `len` items.
    pub fn array(&mut self, len: usize) -> &mut Self {
        head(&mut self.0, ARRAY, length(len));
        self
    }

    /// Adds a number.
    pub fn number(&mut self, n: impl Into<u64>) -> &mut Self {
        head(&mut self.0, UNSIGNED, n.into());
        self
    }

    /// Adds numbers.
    pub fn numbers(&mut self, numbers: &[u64]) -> &mut Self {
        for n in numbers {
            head(&mut self.0, UNSIGNED, *n);
        }
        self
    }

    /// Adds a byte string.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        head(&mut self.0, BYTES, length(value.len()));
        self.0.extend_from_slice(value);
        self
    }

    /// Adds text.
    pub fn text(&mut self, value: &str) -> &mut Self {
        head(&mut self.0, TEXT, length(value.len()));
        self.0.extend_from_slice(value.as_bytes());
        self
    }

    /// Adds text, or null.
    pub fn text_or_null(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => self.null(),
        }
    }

    /// Adds null.
    pub fn null(&mut self) -> &mut Self {
        self.0.push(NULL);
        self
    }

    /// Adds true or false.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.0.push(FALSE | u8::from(value));
        self
    }
}
