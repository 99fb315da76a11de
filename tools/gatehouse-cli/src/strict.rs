//! CBOR arrays in their deterministic form (RFC 8949, 4.2.1): what the firmware's events and its evidence region are made of.
//!
//! Numbers, byte strings, texts, arrays, booleans and null; nothing else, each length in its shortest form. One value has one
//! encoding, so that what was hashed is what is read.
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
use thiserror::Error;

/// Deepest nesting of arrays.
const MAX_DEPTH: usize = 8;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CborError {
    /// The bytes end inside an item, or hold something that is none.
    #[error("CBOR byte {0}: truncated or malformed")]
    Malformed(usize),
    /// An item of a kind that has no place here.
    #[error("CBOR byte {0}: neither number, bytes, text, array, boolean nor null")]
    Kind(usize),
    /// A number or length that is not in its shortest form.
    #[error("CBOR byte {0}: not the shortest form")]
    NotShortest(usize),
    /// Arrays in arrays in arrays.
    #[error("CBOR byte {0}: nested too deeply")]
    Depth(usize),
    /// Bytes behind the end of the array.
    #[error("CBOR byte {0}: bytes behind the end")]
    Trailing(usize),
    /// A field that is missing, of another type, or outside its limits.
    #[error("CBOR byte {offset}: {field} is missing or cannot be")]
    Field {
        /// Where it should be.
        offset: usize,
        /// Name of the field.
        field: &'static str,
    },
    /// An array with another number of items.
    #[error("CBOR byte {offset}: {field} has {found} items, {wanted} are documented")]
    Items {
        /// Where the array starts.
        offset: usize,
        /// What the array is.
        field: &'static str,
        /// Items found.
        found: u64,
        /// Items documented.
        wanted: u64,
    },
}

/// Returns the length of the shortest head with this argument.
const fn head_len(argument: u64) -> usize {
    match argument {
        0..=0x17 => 1,
        0x18..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// Checks that `bytes` are one item in deterministic form, and nothing behind it.
///
/// # Errors
/// [`CborError`].
pub fn check(bytes: &[u8]) -> Result<(), CborError> {
    let mut decoder = Decoder::new(bytes);
    // Items that are still to come, per open array.
    let mut open: Vec<u64> = vec![1];
    while let Some(left) = open.last_mut() {
        let Some(rest) = left.checked_sub(1) else {
            open.pop();
            continue;
        };
        *left = rest;
        let at = decoder.position();
        let malformed = |_| CborError::Malformed(at);
        let len = |slice: &[u8]| u64::try_from(slice.len()).unwrap_or(u64::MAX);
        let (argument, content) = match decoder.datatype().map_err(malformed)? {
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => (decoder.u64().map_err(malformed)?, 0),
            Type::Bytes => {
                let bytes = decoder.bytes().map_err(malformed)?;
                (len(bytes), bytes.len())
            }
            Type::String => {
                let text = decoder.str().map_err(malformed)?;
                (len(text.as_bytes()), text.len())
            }
            Type::Array => {
                let items = decoder.array().map_err(malformed)?.ok_or(CborError::Kind(at))?;
                if open.len() > MAX_DEPTH {
                    return Err(CborError::Depth(at));
                }
                open.push(items);
                (items, 0)
            }
            Type::Bool => (decoder.bool().map_err(malformed).map(|_| 0)?, 0),
            Type::Null => (decoder.null().map_err(malformed).map(|()| 0)?, 0),
            _ => return Err(CborError::Kind(at)),
        };
        if decoder.position().checked_sub(at) != head_len(argument).checked_add(content) {
            return Err(CborError::NotShortest(at));
        }
    }
    if decoder.position() == bytes.len() { Ok(()) } else { Err(CborError::Trailing(decoder.position())) }
}

/// The fields of an array, in their order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    decoder: Decoder<'a>,
}

impl<'a> Fields<'a> {
    /// Checks the form of `bytes` and opens the array.
    ///
    /// # Errors
    /// [`CborError`].
    pub fn open(bytes: &'a [u8], field: &'static str, items: u64) -> Result<Self, CborError> {
        check(bytes)?;
        let mut fields = Self { decoder: Decoder::new(bytes) };
        fields.array(field, items)?;
        Ok(fields)
    }

    /// Makes the error of the field that comes next.
    #[must_use]
    pub fn wrong(&self, field: &'static str) -> CborError {
        CborError::Field { offset: self.decoder.position(), field }
    }

    /// Opens an array of any number of items, and returns it.
    ///
    /// # Errors
    /// [`CborError::Field`].
    pub fn list(&mut self, field: &'static str) -> Result<u64, CborError> {
        let wrong = self.wrong(field);
        self.decoder.array().ok().flatten().ok_or(wrong)
    }

    /// Opens an array of so many items.
    ///
    /// # Errors
    /// [`CborError::Field`], [`CborError::Items`].
    pub fn array(&mut self, field: &'static str, wanted: u64) -> Result<(), CborError> {
        let offset = self.decoder.position();
        let found = self.list(field)?;
        if found == wanted { Ok(()) } else { Err(CborError::Items { offset, field, found, wanted }) }
    }

    /// Reads a number that fits into `T`.
    ///
    /// # Errors
    /// [`CborError::Field`].
    pub fn number<T: TryFrom<u64>>(&mut self, field: &'static str) -> Result<T, CborError> {
        let wrong = self.wrong(field);
        self.decoder.u64().ok().and_then(|number| T::try_from(number).ok()).ok_or(wrong)
    }

    /// Reads bytes.
    ///
    /// # Errors
    /// [`CborError::Field`].
    pub fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], CborError> {
        let wrong = self.wrong(field);
        self.decoder.bytes().map_err(|_| wrong)
    }

    /// Reads exactly `N` bytes.
    ///
    /// # Errors
    /// [`CborError::Field`].
    pub fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], CborError> {
        let wrong = self.wrong(field);
        self.bytes(field)?.try_into().map_err(|_| wrong)
    }

    /// Reads text.
    ///
    /// # Errors
    /// [`CborError::Field`].
    pub fn text(&mut self, field: &'static str) -> Result<&'a str, CborError> {
        let wrong = self.wrong(field);
        self.decoder.str().map_err(|_| wrong)
    }

    /// Reads text that `read` knows.
    ///
    /// # Errors
    /// [`CborError::Field`].
    pub fn word<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, CborError> {
        let wrong = self.wrong(field);
        read(self.text(field)?).ok_or(wrong)
    }

    /// Reads text, or null.
    ///
    /// # Errors
    /// [`CborError::Field`].
    pub fn text_or_null(&mut self, field: &'static str) -> Result<Option<String>, CborError> {
        if self.is_null() { Ok(None) } else { Ok(Some(self.text(field)?.to_owned())) }
    }

    /// Reads a boolean.
    ///
    /// # Errors
    /// [`CborError::Field`].
    pub fn boolean(&mut self, field: &'static str) -> Result<bool, CborError> {
        let wrong = self.wrong(field);
        self.decoder.bool().map_err(|_| wrong)
    }

    /// Takes a null if it is there.
    pub fn is_null(&mut self) -> bool {
        matches!(self.decoder.datatype(), Ok(Type::Null)) && self.decoder.null().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shortest_form_is_taken() {
        for good in [b"\x80".as_slice(), b"\x00", b"\x18\x18", b"\x83\x41\x00\x61a\xf6", b"\x81\x81\xf5"] {
            assert_eq!(check(good), Ok(()), "{good:x?}");
        }
        assert_eq!(check(b"\x82\x01\x18\x17"), Err(CborError::NotShortest(2)));
        assert_eq!(check(b"\x58\x01\x00"), Err(CborError::NotShortest(0)));
        assert_eq!(check(b"\x98\x01\x00"), Err(CborError::NotShortest(0)));
        assert_eq!(check(b"\x9f\xff"), Err(CborError::Kind(0)));
        assert_eq!(check(b"\x5f\xff"), Err(CborError::Kind(0)));
        assert_eq!(check(b"\xa0"), Err(CborError::Kind(0)));
        assert_eq!(check(b"\x20"), Err(CborError::Kind(0)));
        assert_eq!(check(b"\xc0\x00"), Err(CborError::Kind(0)));
        assert_eq!(check(b"\x81"), Err(CborError::Malformed(1)));
        assert_eq!(check(b"\x61\xff"), Err(CborError::Malformed(0)));
        assert_eq!(check(b"\x80\x80"), Err(CborError::Trailing(1)));
        assert_eq!(check(&[0x81; 32]), Err(CborError::Depth(8)));
    }

    #[test]
    fn a_field_that_cannot_be_is_named() {
        let mut fields = Fields::open(b"\x83\x19\x01\x00\x41\x00\xf6", "thing", 3).unwrap();
        assert_eq!(fields.clone().number::<u8>("size"), Err(CborError::Field { offset: 1, field: "size" }));
        assert_eq!(fields.number::<u16>("size"), Ok(256));
        assert_eq!(fields.clone().text("name"), Err(CborError::Field { offset: 4, field: "name" }));
        assert_eq!(fields.bytes("name"), Ok([0].as_slice()));
        assert_eq!(fields.text_or_null("rule"), Ok(None));
        let items = CborError::Items { offset: 0, field: "thing", found: 0, wanted: 1 };
        assert_eq!(Fields::open(b"\x80", "thing", 1).err(), Some(items));
    }
}
