//! The certificate chain of a device (DSP0274, certificates and certificate chains): read, and verified up to a trust
//! anchor of the policy (RFC 5280, 6.1, without policies, name constraints and revocation lists).
//!
//! Trust: the bytes are the host's; their digest is the RMM's, but the host may have supplied the RMM's session with
//! any chain. Only a chain that ends at an anchor says who made the device.
//!
//! What signs is always the last certificate, and it must be an end entity. In the alias model of DSP0274 the device
//! certificate is a CA and issues the alias certificates below it; the last of those is the leaf, and no CA either. The
//! one exception is a chain of one certificate, which is its own issuer as a rule.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::asn1::{Fields, NotDer};
use super::chain_error::{ChainError, Part};
use super::x509::Certificate;
use crate::digest::Digest;
use crate::policy::types::{Anchor, AnchorKey, Denied, Policy, Time};
use crate::rsi::HashAlgorithm;
use alloc::vec::Vec;

/// Most certificates of a chain.
pub const MAX_CERTIFICATES: usize = 10;
/// Most bytes of a chain with its header: the length field of the slot has 16 bits.
pub const MAX_CHAIN_BYTES: usize = 0xFFFF;

/// First byte of every certificate: a SEQUENCE.
const SEQUENCE: u8 = 0x30;

/// What a chain is verified against.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'p> {
    /// Where it may end.
    pub anchors: &'p [Anchor],
    /// What is refused wherever it appears.
    pub denied: &'p Denied,
    /// No certificate may have ended before this time.
    pub floor: Option<Time>,
}

impl<'p> From<&'p Policy> for Trust<'p> {
    fn from(policy: &'p Policy) -> Self {
        Self { anchors: &policy.anchors, denied: &policy.denied, floor: policy.floor }
    }
}

/// A chain of well-formed certificates. Who signed them is [`Chain::verify`]'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain<'a> {
    above: Vec<Certificate<'a>>,
    leaf: Certificate<'a>,
}

impl<'a> Chain<'a> {
    /// Reads a chain: certificates in DER one after the other, or the form of an SPDM slot, which has in front of them the
    /// length of the whole (u16, little-endian), two zero bytes, and the root certificate's digest by `base_hash`.
    ///
    /// The two cannot be confused: behind 0x30 and another byte, no canonical length of DER goes on with two zero bytes.
    ///
    /// The root hash is compared if the root is there, which is when the first certificate is self-issued. It proves
    /// nothing: trust comes from the anchors.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn parse(object: &'a [u8], base_hash: HashAlgorithm) -> Result<Self, ChainError> {
        if object.len() > MAX_CHAIN_BYTES {
            return Err(ChainError::TooLong(object.len()));
        }
        let (root_hash, mut rest) = slot(object, base_hash)?;
        let mut above = Vec::new();
        loop {
            let certificate = above.len();
            if rest.is_empty() {
                break;
            }
            if certificate >= MAX_CERTIFICATES {
                return Err(ChainError::TooMany);
            }
            if certificate > 0 && rest.first() != Some(&SEQUENCE) {
                return Err(ChainError::Trailing(rest.len()));
            }
            let der = Fields::of(rest)
                .and_then(|mut fields| fields.raw())
                .map_err(|NotDer| ChainError::Malformed { certificate, part: Part::Structure })?;
            above.push(Certificate::parse(der, certificate)?);
            rest = rest.get(der.len()..).unwrap_or_default();
        }
        let leaf = above.pop().ok_or(ChainError::Empty)?;
        let root = above.first().unwrap_or(&leaf);
        if let Some(hash) = root_hash
            && root.is_self_issued()
            && Digest::of(base_hash, &[root.der]).as_bytes() != hash
        {
            return Err(ChainError::RootHash);
        }
        Ok(Self { above, leaf })
    }

    /// Returns the certificates, the root-most first, the leaf last; at least one.
    pub fn certificates(&self) -> impl DoubleEndedIterator<Item = &Certificate<'a>> {
        self.above.iter().chain([&self.leaf])
    }

    /// Returns the certificate whose key signs measurements.
    #[must_use]
    pub const fn leaf(&self) -> &Certificate<'a> {
        &self.leaf
    }

    /// Walks from the leaf up to the first certificate that an anchor names, and returns the anchor's index.
    ///
    /// Certificates above the anchor are well formed and not denied; nothing else about them counts. Of the anchor itself
    /// the signature is checked only where it has to be its own (self-issued). An anchor that is named by its key alone
    /// vouches for what the key signed, and the rest of its certificate may be forged unless it signs itself. So a leaf is
    /// not taken for such an anchor: its names would be the host's choice.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn verify(&self, trust: &Trust<'_>) -> Result<usize, ChainError> {
        for (certificate, this) in self.certificates().enumerate() {
            if trust.denied.serials.contains(&this.serial) {
                return Err(ChainError::DeniedSerial { certificate });
            }
        }
        if trust.denied.leaf_keys.iter().any(|digest| digest.matches(self.leaf.key.spki())) {
            return Err(ChainError::DeniedLeaf);
        }
        let mut certificate = self.above.len();
        check_leaf(&self.leaf, certificate)?;
        let mut this = &self.leaf;
        // CAs below `this` that count for its path length: self-issued ones do not (RFC 5280, 6.1.4 (l)).
        let mut cas: u8 = 0;
        loop {
            let is_leaf = certificate == self.above.len();
            if trust.floor.is_some_and(|floor| this.not_after < floor) {
                return Err(ChainError::Expired { certificate, not_after: this.not_after });
            }
            if let Some(anchor) = trust.anchors.iter().position(|anchor| names(anchor, this, is_leaf)) {
                if this.is_self_issued() && !this.is_signed_by(&this.key) {
                    return Err(ChainError::BadSignature { certificate });
                }
                return Ok(anchor);
            }
            let below = (certificate, this);
            certificate = certificate.checked_sub(1).ok_or(ChainError::NoAnchor)?;
            this = self.above.get(certificate).ok_or(ChainError::NoAnchor)?;
            check_issuer(this, certificate, cas)?;
            check_link(below, this)?;
            cas = cas.saturating_add(u8::from(!this.is_self_issued()));
        }
    }
}

/// Takes the header of a slot off, if there is one: the root hash and the certificates.
fn slot(object: &[u8], base_hash: HashAlgorithm) -> Result<(Option<&[u8]>, &[u8]), ChainError> {
    let Some(([len_low, len_high, reserved @ ..], behind)) = object.split_first_chunk::<4>() else {
        return Ok((None, object));
    };
    let (announced, reserved) = (u16::from_le_bytes([*len_low, *len_high]), u16::from_le_bytes(*reserved));
    if reserved != 0 {
        if *len_low == SEQUENCE {
            return Ok((None, object));
        }
        return Err(ChainError::SlotReserved(reserved));
    }
    if usize::from(announced) != object.len() {
        return Err(ChainError::SlotLength { announced, len: object.len() });
    }
    let (hash, certificates) = behind.split_at_checked(base_hash.digest_len()).ok_or(ChainError::Empty)?;
    Ok((Some(hash), certificates))
}

/// Checks what a leaf must and must not be.
fn check_leaf(leaf: &Certificate<'_>, certificate: usize) -> Result<(), ChainError> {
    if leaf.is_ca && certificate > 0 {
        return Err(ChainError::LeafIsCa { certificate });
    }
    if leaf.key_usage.is_some_and(|usage| !usage.digital_signature) {
        return Err(ChainError::KeyUsage { certificate });
    }
    if leaf.is_requester_only {
        return Err(ChainError::ExtendedKeyUsage { certificate });
    }
    Ok(())
}

/// Checks that `issuer` may issue, with so many CAs below it.
fn check_issuer(issuer: &Certificate<'_>, certificate: usize, cas: u8) -> Result<(), ChainError> {
    if !issuer.is_ca {
        return Err(ChainError::NotCa { certificate });
    }
    if issuer.key_usage.is_some_and(|usage| !usage.cert_sign) {
        return Err(ChainError::KeyUsage { certificate });
    }
    if issuer.path_len.is_some_and(|most| cas > most) {
        return Err(ChainError::PathLength { certificate });
    }
    Ok(())
}

/// Checks that `issuer` issued the certificate below it: by name, byte for byte, and by signature.
fn check_link(
    (certificate, this): (usize, &Certificate<'_>),
    issuer: &Certificate<'_>,
) -> Result<(), ChainError> {
    if this.issuer != issuer.subject_der {
        return Err(ChainError::NameMismatch { certificate });
    }
    if !this.is_signed_by(&issuer.key) {
        return Err(ChainError::BadSignature { certificate });
    }
    Ok(())
}

/// Returns whether `anchor` names this certificate.
fn names(anchor: &Anchor, this: &Certificate<'_>, is_leaf: bool) -> bool {
    match &anchor.key {
        AnchorKey::Certificate(digest) => digest.matches(this.der),
        AnchorKey::PublicKey(digest) => {
            (!is_leaf || this.is_self_issued()) && digest.matches(this.key.spki())
        }
    }
}
