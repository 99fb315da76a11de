//! Distinguished names as text (RFC 4514), for policies and logs.
//!
//! Trust: names are the host's until the chain is verified, and the device maker's after it. The text has printable ASCII
//! only: every other byte is escaped, which RFC 4514 allows and a console needs.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::asn1::{Fields, NotDer};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use der::{Decode, Tag, Tagged, asn1::AnyRef};

/// Attribute types with a short name: RFC 4514, section 3, and `serialNumber` (RFC 4519, 2.31).
const SHORT_NAMES: [(&[u8], &str); 10] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 1, 1], "UID"),
];

/// Writes a Name (RFC 5280, 4.1.2.4) as text: the last relative name first.
pub(super) fn text(name: &[u8]) -> Result<String, NotDer> {
    let mut sets = Vec::new();
    let mut names = Fields::sequence(name)?;
    while !names.is_empty() {
        sets.push(names.take(Tag::Set)?);
    }
    let mut out = String::new();
    for set in sets.into_iter().rev() {
        let mut separator = if out.is_empty() { "" } else { "," };
        let mut attributes = Fields::open(set, Tag::Set)?;
        // A relative name has at least one attribute.
        loop {
            out.push_str(separator);
            separator = "+";
            attribute(&mut out, Fields::open(attributes.any()?, Tag::Sequence)?)?;
            if attributes.is_empty() {
                break;
            }
        }
    }
    Ok(out)
}

/// Writes `type=value` (RFC 4514, 2.3 and 2.4).
fn attribute(out: &mut String, mut fields: Fields<'_>) -> Result<(), NotDer> {
    let oid = fields.oid()?;
    let der = fields.raw()?;
    fields.end()?;
    let value = AnyRef::from_der(der)?;
    let short = SHORT_NAMES.iter().find(|(bytes, _)| *bytes == oid);
    let is_text = match value.tag() {
        Tag::Utf8String => core::str::from_utf8(value.value()).is_ok(),
        Tag::PrintableString | Tag::Ia5String | Tag::NumericString => value.value().is_ascii(),
        // No universal string type: written as its DER.
        _ => true,
    };
    if !is_text {
        return Err(NotDer);
    }
    let is_readable =
        matches!(value.tag(), Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString);
    match short {
        Some((_, name)) if is_readable => {
            let _ = write!(out, "{name}=");
            escape(out, value.value());
        }
        _ => {
            match short {
                Some((_, name)) => out.push_str(name),
                None => {
                    let _ = write!(out, "{}", Dotted(oid));
                }
            }
            out.push_str("=#");
            der.iter().for_each(|byte| hex(out, *byte));
        }
    }
    Ok(())
}

/// Writes a value with what must be escaped escaped (RFC 4514, 2.4).
fn escape(out: &mut String, value: &[u8]) {
    let last = value.len().saturating_sub(1);
    for (index, byte) in value.iter().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            b' ' if index == 0 || index == last => out.push_str("\\ "),
            b'#' if index == 0 => out.push_str("\\#"),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => {
                out.push('\\');
                hex(out, *byte);
            }
        }
    }
}

/// Writes an object identifier's bytes as numbers and dots (X.690, 8.19). Not the `der` crate's own: that one may panic.
pub(super) struct Dotted<'a>(pub(super) &'a [u8]);

impl fmt::Display for Dotted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut arc: u64 = 0;
        let mut is_first = true;
        for byte in self.0 {
            // Wide enough for every arc that `der` takes (32 bits).
            arc = (arc << 7) | u64::from(byte & 0x7F);
            if byte & 0x80 != 0 {
                continue;
            }
            if is_first {
                // The first two arcs are one number: 40 times the first, which is at most 2, plus the second.
                let root = (arc / 40).min(2);
                arc = arc.saturating_sub(root.saturating_mul(40));
                write!(f, "{root}")?;
                is_first = false;
            }
            write!(f, ".{arc}")?;
            arc = 0;
        }
        Ok(())
    }
}

/// Writes text that is not part of a name: printable ASCII as it is, every other byte and the backslash as `\xx`.
pub(super) fn printable(value: &[u8]) -> String {
    let mut out = String::new();
    for byte in value {
        match byte {
            b' '..=b'[' | b']'..=b'~' => out.push(char::from(*byte)),
            _ => {
                out.push('\\');
                hex(&mut out, *byte);
            }
        }
    }
    out
}

/// Writes two lower-case hexadecimal digits.
fn hex(out: &mut String, byte: u8) {
    for digit in [byte >> 4, byte & 0xF] {
        out.extend(char::from_digit(digit.into(), 16));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DER of one value with a short length.
    fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        [&[tag, body.len().try_into().unwrap()][..], &body].concat()
    }

    fn one(oid: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        tlv(0x30, &[&tlv(6, &[oid]), &tlv(tag, &[value])])
    }

    fn name(sets: &[&[&[u8]]]) -> Vec<u8> {
        let sets: Vec<_> = sets.iter().map(|set| tlv(0x31, set)).collect();
        tlv(0x30, &[&sets.concat()])
    }

    fn cn(value: &[u8]) -> String {
        text(&name(&[&[&one(&[0x55, 4, 3], 0x0C, value)]])).unwrap()
    }

    #[test]
    fn the_last_relative_name_comes_first_and_several_values_are_joined() {
        let country = one(&[0x55, 4, 6], 0x13, b"DE");
        let (common, serial) = (one(&[0x55, 4, 3], 0x0C, b"leaf"), one(&[0x55, 4, 5], 0x13, b"42"));
        let text = text(&name(&[&[&country], &[&common, &serial]])).unwrap();
        assert_eq!(text, "CN=leaf+serialNumber=42,C=DE");
    }

    #[test]
    fn what_could_end_a_value_or_a_line_is_escaped() {
        for (value, text) in [
            (&b"a,b+c"[..], "CN=a\\,b\\+c"),
            (b"# \"<>;\\ ", "CN=\\# \\\"\\<\\>\\;\\\\\\ "),
            (b" ", "CN=\\ "),
            (b"", "CN="),
            (b"\x1b[2J\n\0", "CN=\\1b[2J\\0a\\00"),
            ("é".as_bytes(), "CN=\\c3\\a9"),
        ] {
            assert_eq!(cn(value), text);
        }
    }

    #[test]
    fn unknown_types_and_odd_strings_are_written_as_their_der() {
        let unknown = one(&[0x2A, 3, 4], 0x0C, b"x");
        assert_eq!(text(&name(&[&[&unknown]])).unwrap(), "1.2.3.4=#0c0178");
        let wide = one(&[0x55, 4, 3], 0x1E, &[0, 0x41]);
        assert_eq!(text(&name(&[&[&wide]])).unwrap(), "CN=#1e020041");
    }

    #[test]
    fn object_identifiers_are_written_as_everybody_does() {
        for text in
            ["1.2.840.10045.4.3.2", "2.5.29.19", "0.9.2342.19200300.100.1.25", "1.3.6.1.4.1.4294967295"]
        {
            let oid = der::asn1::ObjectIdentifier::new(text).unwrap();
            assert_eq!(Dotted(oid.as_bytes()).to_string(), text);
        }
        // The example of X.690, 8.19.5.
        assert_eq!(Dotted(&[0x88, 0x37, 3]).to_string(), "2.999.3");
    }

    #[test]
    fn an_empty_name_is_an_empty_text() {
        assert_eq!(text(&name(&[])), Ok(String::new()));
    }

    #[test]
    fn a_name_that_is_not_one_is_refused() {
        let not_utf8 = one(&[0x55, 4, 3], 0x0C, &[0xFF]);
        let not_ascii = one(&[0x55, 4, 3], 0x13, &[0xE9]);
        let mut longer = one(&[0x55, 4, 3], 0x0C, b"x");
        longer[1] += 2;
        longer.extend([5, 0]);
        for bad in
            [name(&[&[]]), name(&[&[&not_utf8]]), name(&[&[&not_ascii]]), name(&[&[&longer]]), tlv(0x31, &[])]
        {
            assert_eq!(text(&bad), Err(NotDer), "{bad:x?}");
        }
    }
}
