//! The certificate object, and as much DER as it takes to find a key.

use alloc::vec::Vec;

use super::Session;

/// Tags.
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
const VERSION: u8 = 0xA0;

/// One element: all of it, its content, and what is behind it.
pub(super) struct Element<'a> {
    pub(super) whole: &'a [u8],
    pub(super) content: &'a [u8],
    pub(super) rest: &'a [u8],
}

/// Takes the element with this tag apart (X.690, definite lengths).
pub(super) fn take(bytes: &[u8], tag: u8) -> Option<Element<'_>> {
    let (&found, after) = bytes.split_first()?;
    let (&first, after) = after.split_first()?;
    if found != tag {
        return None;
    }
    let (header, len) = if first < 0x80 {
        (2, usize::from(first))
    } else {
        let digits = after.get(..usize::from(first & 0x7F)).filter(|digits| digits.len() <= 4)?;
        (2 + digits.len(), digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)))
    };
    let content = bytes.get(header..header.checked_add(len)?)?;
    let (whole, rest) = bytes.split_at(header + len);
    Some(Element { whole, content, rest })
}

/// SubjectPublicKeyInfo of the last certificate (RFC 5280, 4.1); none if the chain is not DER.
pub(crate) fn public_key(chain: &[u8]) -> Option<&[u8]> {
    let mut certificate = take(chain, SEQUENCE)?;
    while !certificate.rest.is_empty() {
        certificate = take(certificate.rest, SEQUENCE)?;
    }
    let signed = take(certificate.content, SEQUENCE)?.content;
    let serial = take(signed, VERSION).map_or(signed, |version| version.rest);
    // Signature algorithm, issuer, validity, subject.
    let mut at = take(serial, INTEGER)?.rest;
    for _ in 0..4 {
        at = take(at, SEQUENCE)?.rest;
    }
    Some(take(at, SEQUENCE)?.whole)
}

impl Session {
    /// DER certificates, root first.
    pub(crate) fn chain(&self) -> &[u8] {
        &self.chain
    }

    /// The certificate object: the chain, as TF-RMM caches it, or all of the slot.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        let mut object = Vec::new();
        if self.spec.chain_header {
            let root = take(&self.chain, SEQUENCE).map_or(&[][..], |root| root.whole);
            let hash = self.spec.hash.digest(&[root]);
            object.extend(((4 + hash.len() + self.chain.len()) as u16).to_le_bytes());
            object.extend([0; 2]);
            object.extend(hash);
        }
        object.extend(&self.chain);
        object
    }
}
