//! CBOR maps with numbers as keys, as COSE and EAT have them: what is in a token, by key and not by order.
//!
//! Trust: anybody's bytes.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use minicbor::Decoder;
use minicbor::data::Type;
use std::collections::BTreeMap;

/// Most entries of a map.
const MAX_ENTRIES: u64 = 64;

/// A map: encoded values by key. Keys that are no numbers are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map<'a>(BTreeMap<i64, &'a [u8]>);

/// Takes the next item, encoded.
fn item<'a>(decoder: &mut Decoder<'a>) -> Option<&'a [u8]> {
    let start = decoder.position();
    decoder.skip().ok()?;
    decoder.input().get(start..decoder.position())
}

/// Tells whether everything was read.
pub fn is_done(decoder: &Decoder<'_>) -> bool {
    decoder.position() == decoder.input().len()
}

impl<'a> Map<'a> {
    /// Reads a map that is all of `bytes`; of definite length, no key twice.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut decoder = Decoder::new(bytes);
        let map = Self::take(&mut decoder)?;
        is_done(&decoder).then_some(map)
    }

    /// Reads a map.
    pub fn take(decoder: &mut Decoder<'a>) -> Option<Self> {
        let count = decoder.map().ok()?.filter(|count| *count <= MAX_ENTRIES)?;
        let mut map = BTreeMap::new();
        for _ in 0..count {
            let key = item(decoder)?;
            let value = item(decoder)?;
            if let Ok(key) = Decoder::new(key).i64()
                && map.insert(key, value).is_some()
            {
                return None;
            }
        }
        Some(Self(map))
    }

    /// Tells whether a key is there.
    pub fn has(&self, key: i64) -> bool {
        self.0.contains_key(&key)
    }

    /// Returns a decoder of a value.
    pub fn value(&self, key: i64) -> Option<Decoder<'a>> {
        self.0.get(&key).map(|value| Decoder::new(value))
    }

    /// Returns bytes.
    pub fn bytes(&self, key: i64) -> Option<&'a [u8]> {
        self.value(key)?.bytes().ok()
    }

    /// Returns text.
    pub fn text(&self, key: i64) -> Option<&'a str> {
        self.value(key)?.str().ok()
    }

    /// Returns a number.
    pub fn number(&self, key: i64) -> Option<i64> {
        self.value(key)?.i64().ok()
    }

    /// Returns a boolean.
    pub fn boolean(&self, key: i64) -> Option<bool> {
        self.value(key)?.bool().ok()
    }

    /// Returns what `read` makes of each item of an array.
    pub fn list<T>(
        &self,
        key: i64,
        max: u64,
        read: impl Fn(&mut Decoder<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut decoder = self.value(key)?;
        let count = decoder.array().ok()?.filter(|count| *count <= max)?;
        (0..count).map(|_| read(&mut decoder)).collect()
    }
}

/// Tells whether the next item is an array.
pub fn is_array(decoder: &Decoder<'_>) -> bool {
    matches!(decoder.datatype(), Ok(Type::Array))
}
