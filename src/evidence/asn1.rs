//! What the certificate parsers need of DER (X.690): values one after the other, what is in them, and one error.
//!
//! Trust: the bytes are the host's. The `der` crate reads tags and lengths and refuses what is not canonical; its errors
//! are dropped here, because printing them costs more image than everything that reads certificates. Its typed values
//! are generic over their reader and cost an instance each, so what primitive values hold is read here.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use der::asn1::AnyRef;
use der::{Decode, Header, Reader, SliceReader, Tag, TagNumber, Tagged};

/// Bit of a first byte that makes an INTEGER negative.
const SIGN: u8 = 0x80;
/// Bit of a byte of an object identifier behind which its number goes on.
const MORE: u8 = 0x80;

/// Bytes that are not DER, or DER of another type than the one that has to stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotDer;

impl From<der::Error> for NotDer {
    fn from(_: der::Error) -> Self {
        Self
    }
}

/// The values in a constructed value, in order.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a>(SliceReader<'a>);

impl<'a> Fields<'a> {
    /// Reads DER values that stand one after the other.
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, NotDer> {
        Ok(Self(SliceReader::new(bytes)?))
    }

    /// Opens `value`, which must have this tag.
    pub(super) fn open(value: AnyRef<'a>, tag: Tag) -> Result<Self, NotDer> {
        if value.tag() == tag { Self::of(value.value()) } else { Err(NotDer) }
    }

    /// Opens the one value in `der`, a SEQUENCE.
    pub(super) fn sequence(der: &'a [u8]) -> Result<Self, NotDer> {
        Self::open(AnyRef::from_der(der)?, Tag::Sequence)
    }

    /// Takes the next value with its header: the exact bytes.
    pub(super) fn raw(&mut self) -> Result<&'a [u8], NotDer> {
        Ok(self.0.tlv_bytes()?)
    }

    /// Takes the next value, of any type.
    pub(super) fn any(&mut self) -> Result<AnyRef<'a>, NotDer> {
        Ok(AnyRef::decode(&mut self.0)?)
    }

    /// Takes the next value, of this type.
    pub(super) fn take(&mut self, tag: Tag) -> Result<AnyRef<'a>, NotDer> {
        let value = self.any()?;
        if value.tag() == tag { Ok(value) } else { Err(NotDer) }
    }

    /// Takes the next value if there is one of this type.
    pub(super) fn optional(&mut self, tag: Tag) -> Result<Option<AnyRef<'a>>, NotDer> {
        if self.is_empty() || Header::peek(&self.0)?.tag() != tag {
            return Ok(None);
        }
        self.any().map(Some)
    }

    /// Takes an object identifier: its bytes.
    pub(super) fn oid(&mut self) -> Result<&'a [u8], NotDer> {
        oid(self.any()?)
    }

    /// Takes a BOOLEAN DEFAULT FALSE. DER leaves FALSE out, but certificates that spell it are in the field.
    pub(super) fn boolean(&mut self) -> Result<bool, NotDer> {
        match self.optional(Tag::Boolean)?.map(AnyRef::value) {
            None | Some([0]) => Ok(false),
            Some([0xFF]) => Ok(true),
            Some(_) => Err(NotDer),
        }
    }

    /// Returns whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_finished()
    }

    /// Checks that nothing is left.
    pub(super) fn end(self) -> Result<(), NotDer> {
        if self.is_empty() { Ok(()) } else { Err(NotDer) }
    }
}

/// Returns the bytes of an object identifier (X.690, 8.19): whole numbers, in as few bytes as they need.
pub(super) fn oid(value: AnyRef<'_>) -> Result<&[u8], NotDer> {
    let bytes = content(value, Tag::ObjectIdentifier)?;
    let mut is_start = true;
    for byte in bytes {
        if is_start && *byte == MORE {
            return Err(NotDer);
        }
        is_start = byte & MORE == 0;
    }
    if is_start && !bytes.is_empty() { Ok(bytes) } else { Err(NotDer) }
}

/// Returns what is in a value, which must have this tag.
pub(super) fn content(value: AnyRef<'_>, tag: Tag) -> Result<&[u8], NotDer> {
    if value.tag() == tag { Ok(value.value()) } else { Err(NotDer) }
}

/// Returns the bytes of an INTEGER that is not negative, big-endian, without a leading zero byte; zero is one zero byte.
pub(super) fn unsigned(value: AnyRef<'_>) -> Result<&[u8], NotDer> {
    match content(value, Tag::Integer)? {
        [0, rest @ ..] if rest.first().is_some_and(|byte| byte & SIGN != 0) => Ok(rest),
        // Not canonical (X.690, 8.3.2), negative, or nothing.
        [0, _, ..] | [] => Err(NotDer),
        [first, ..] if first & SIGN != 0 => Err(NotDer),
        bytes => Ok(bytes),
    }
}

/// Returns the bytes of a BIT STRING; bits that do not fill the last byte are zero there.
pub(super) fn bits(value: AnyRef<'_>) -> Result<&[u8], NotDer> {
    let (unused, bytes) = content(value, Tag::BitString)?.split_first().ok_or(NotDer)?;
    // X.690, 8.6.2 and 11.2.1: at most seven, none of nothing, and all of them zero.
    let last = bytes.last().copied().unwrap_or_default();
    let is_sound =
        *unused < 8 && last.trailing_zeros() >= u32::from(*unused) && (*unused == 0 || !bytes.is_empty());
    if is_sound { Ok(bytes) } else { Err(NotDer) }
}

/// Returns the bytes of a BIT STRING of whole bytes.
pub(super) fn octets(value: AnyRef<'_>) -> Result<&[u8], NotDer> {
    let bytes = bits(value)?;
    if value.value().first() == Some(&0) { Ok(bytes) } else { Err(NotDer) }
}

/// Returns the tag `[number]` of a constructed value.
pub(super) const fn context(number: u32) -> Tag {
    Tag::ContextSpecific { constructed: true, number: TagNumber(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(tag: Tag, bytes: &[u8]) -> AnyRef<'_> {
        AnyRef::new(tag, bytes).unwrap()
    }

    #[test]
    fn unsigned_numbers_are_canonical() {
        for (bytes, number) in [
            (&[0][..], Ok(&[0][..])),
            (&[1], Ok(&[1])),
            (&[0, 0x80], Ok(&[0x80])),
            (&[0x7F, 0, 0], Ok(&[0x7F, 0, 0])),
            (&[0, 0x7F], Err(NotDer)),
            (&[0, 0], Err(NotDer)),
            (&[0x80], Err(NotDer)),
            (&[], Err(NotDer)),
        ] {
            assert_eq!(unsigned(value(Tag::Integer, bytes)), number, "{bytes:x?}");
        }
        assert_eq!(unsigned(value(Tag::Enumerated, &[1])), Err(NotDer));
    }

    #[test]
    fn unused_bits_are_zero_and_fewer_than_eight() {
        for (bytes, expected) in [
            (&[0][..], Ok(&[][..])),
            (&[0, 0xFF], Ok(&[0xFF])),
            (&[7, 0x80], Ok(&[0x80])),
            (&[3, 0xFF, 0xF8], Ok(&[0xFF, 0xF8])),
            (&[3, 0xFF, 0xFC], Err(NotDer)),
            (&[8, 0], Err(NotDer)),
            (&[1], Err(NotDer)),
            (&[], Err(NotDer)),
        ] {
            assert_eq!(bits(value(Tag::BitString, bytes)), expected, "{bytes:x?}");
        }
        assert_eq!(octets(value(Tag::BitString, &[7, 0x80])), Err(NotDer));
        assert_eq!(octets(value(Tag::BitString, &[0, 0x80])), Ok(&[0x80][..]));
    }

    #[test]
    fn object_identifiers_are_canonical() {
        assert_eq!(oid(value(Tag::ObjectIdentifier, &[0x55, 4, 3])), Ok(&[0x55, 4, 3][..]));
        for bad in [&[0x55, 0x80, 4][..], &[0x55, 4, 0x83], &[]] {
            assert_eq!(oid(value(Tag::ObjectIdentifier, bad)), Err(NotDer), "{bad:x?}");
        }
    }
}
