//! Public keys of certificates, and signatures that they verify.
//!
//! Trust: keys and signatures come from the host. Nothing is secret here, so nothing has to be constant-time.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::asn1::{self, Fields, NotDer};
use super::name::Dotted;
use crate::digest::Digest;
use crate::rsi::HashAlgorithm;
use der::Tag;
use der::asn1::{AnyRef, ObjectIdentifier};
use ecdsa::EcdsaCurve;
use ecdsa::elliptic_curve::{CurveArithmetic, FieldBytes, ProjectivePoint, point::AffineCoordinates};
use p256::NistP256;
use p384::NistP384;
use thiserror::Error;

/// Fewest bits of an RSA modulus.
pub const MIN_RSA_BITS: u32 = 3072;
/// Most bits of an RSA modulus: the time that one signature may take is bounded.
pub const MAX_RSA_BITS: u32 = 4096;

/// id-ecPublicKey (RFC 5480, 2.1.1).
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// secp256r1 (RFC 5480, 2.1.1.1).
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// secp384r1.
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// rsaEncryption (RFC 3279, 2.3.1).
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// First byte of an uncompressed point (SEC 1, 2.3.3).
const UNCOMPRESSED: u8 = 4;
/// Longest field element in bytes.
const MAX_FIELD: usize = 48;

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on NIST P-256.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// RSA; only with the cargo feature `rsa`.
    Rsa {
        /// Bits of the modulus.
        bits: u32,
    },
}

/// How a signature is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// ECDSA over the digest (FIPS 186-5, 6).
    Ecdsa(HashAlgorithm),
    /// RSASSA-PKCS1-v1_5 (RFC 8017, 8.2).
    RsaPkcs1(HashAlgorithm),
    /// RSASSA-PSS (RFC 8017, 8.1); the mask uses the same hash, the salt is as long as a digest.
    RsaPss(HashAlgorithm),
}

/// How the two numbers of an ECDSA signature stand in bytes. RSA has one form only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// SEQUENCE of two INTEGERs: X.509 (RFC 3279, 2.2.3).
    Der,
    /// r, then s, big-endian, each as long as a field element: SPDM (DSP0274, signature generation).
    Fixed,
}

/// Why bytes are not a key that we take.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// Not a SubjectPublicKeyInfo.
    #[error("malformed")]
    Malformed,
    /// Neither ECDSA nor RSA.
    #[error("algorithm {}", Dotted(.0.as_bytes()))]
    Algorithm(ObjectIdentifier),
    /// A curve that is neither P-256 nor P-384.
    #[error("curve {}", Dotted(.0.as_bytes()))]
    Curve(ObjectIdentifier),
    /// A curve given by its parameters instead of its name.
    #[error("curve without a name")]
    ExplicitCurve,
    /// A point that is not in the uncompressed form.
    #[error("point of form {0:#x}")]
    PointForm(u8),
    /// A point that is not on its curve.
    #[error("point not on the curve")]
    NotOnCurve,
    /// An RSA modulus of another size than [`MIN_RSA_BITS`] to [`MAX_RSA_BITS`].
    #[error("RSA of {0} bits")]
    RsaBits(u32),
    /// An RSA exponent that is even, below 3, or longer than 32 bits; or an even modulus.
    #[error("RSA numbers that no key has")]
    RsaNumbers,
    /// A sound RSA key, but the firmware is built without cargo feature `rsa`.
    #[error("RSA of {0} bits, and this firmware is built without RSA")]
    RsaDisabled(u32),
}

impl KeyError {
    /// Returns whether the key is sound but of a kind that is too weak, or not known to be strong.
    #[must_use]
    pub const fn is_weak(self) -> bool {
        matches!(self, Self::Curve(_) | Self::ExplicitCurve | Self::RsaBits(_) | Self::RsaNumbers)
    }
}

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SignatureError {
    /// The key is not one for this scheme.
    #[error("a key of another kind")]
    Scheme,
    /// Not a signature of this key's size, or not the form that was asked for.
    #[error("no signature of this key in form")]
    Form,
    /// Made by another key, or over another message.
    #[error("does not verify")]
    Mismatch,
}

/// A public key; borrowed from the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey<'a> {
    spki: &'a [u8],
    kind: KeyKind,
    /// The two numbers: coordinates of the point, or modulus and exponent.
    numbers: (&'a [u8], &'a [u8]),
}

impl<'a> PublicKey<'a> {
    /// Reads a SubjectPublicKeyInfo (RFC 5280, 4.1.2.7; RFC 5480), which must be all of `der`.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_spki(der: &'a [u8]) -> Result<Self, KeyError> {
        let Info { algorithm, parameters, bits } = split(der).map_err(|NotDer| KeyError::Malformed)?;
        if algorithm == EC_PUBLIC_KEY.as_bytes() {
            return Self::from_point(der, parameters, bits);
        }
        if algorithm == RSA_ENCRYPTION.as_bytes() {
            let is_sound = parameters.is_some_and(AnyRef::is_null);
            return if is_sound { Self::from_modulus(der, bits) } else { Err(KeyError::Malformed) };
        }
        Err(KeyError::Algorithm(ObjectIdentifier::from_bytes(algorithm).map_err(|_| KeyError::Malformed)?))
    }

    fn from_point(spki: &'a [u8], curve: Option<AnyRef<'a>>, point: &'a [u8]) -> Result<Self, KeyError> {
        let curve = curve.ok_or(KeyError::Malformed)?;
        if curve.header().tag() == Tag::Sequence {
            return Err(KeyError::ExplicitCurve);
        }
        let curve = asn1::oid(curve).map_err(|NotDer| KeyError::Malformed)?;
        let kind = if curve == SECP256R1.as_bytes() {
            KeyKind::P256
        } else if curve == SECP384R1.as_bytes() {
            KeyKind::P384
        } else {
            return Err(KeyError::Curve(
                ObjectIdentifier::from_bytes(curve).map_err(|_| KeyError::Malformed)?,
            ));
        };
        let (form, coordinates) = point.split_first().ok_or(KeyError::Malformed)?;
        if *form != UNCOMPRESSED {
            return Err(KeyError::PointForm(*form));
        }
        let numbers = halves(kind, coordinates).ok_or(KeyError::Malformed)?;
        let is_on_curve = match kind {
            KeyKind::P256 => self::point::<NistP256>(numbers).is_some(),
            _ => self::point::<NistP384>(numbers).is_some(),
        };
        if is_on_curve { Ok(Self { spki, kind, numbers }) } else { Err(KeyError::NotOnCurve) }
    }

    fn from_modulus(spki: &'a [u8], key: &'a [u8]) -> Result<Self, KeyError> {
        let (modulus, exponent) = two_numbers(key).map_err(|NotDer| KeyError::Malformed)?;
        let zeros = modulus.first().map_or(0, |byte| byte.leading_zeros());
        let bits = u32::try_from(modulus.len())
            .ok()
            .and_then(|bytes| bytes.checked_mul(8)?.checked_sub(zeros))
            .ok_or(KeyError::Malformed)?;
        if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
            return Err(KeyError::RsaBits(bits));
        }
        let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
        if !is_odd(modulus) || !is_odd(exponent) || exponent == [1] || exponent.len() > size_of::<u32>() {
            return Err(KeyError::RsaNumbers);
        }
        if cfg!(feature = "rsa") {
            Ok(Self { spki, kind: KeyKind::Rsa { bits }, numbers: (modulus, exponent) })
        } else {
            Err(KeyError::RsaDisabled(bits))
        }
    }

    /// Returns the SubjectPublicKeyInfo: what policies and the RMM take the digest of.
    #[must_use]
    pub const fn spki(&self) -> &'a [u8] {
        self.spki
    }

    /// Returns what the key is.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Verifies `signature` over the concatenation of `message`.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(
        &self,
        scheme: Scheme,
        encoding: Encoding,
        message: &[&[u8]],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        match (scheme, self.kind) {
            (Scheme::Ecdsa(hash), KeyKind::P256 | KeyKind::P384) => {
                let digest = Digest::of(hash, message);
                self.verify_ecdsa(encoding, digest.as_bytes(), signature)
            }
            #[cfg(feature = "rsa")]
            (Scheme::RsaPkcs1(hash), KeyKind::Rsa { .. }) => {
                with_rsa::verify(self.numbers, hash, false, message, signature)
            }
            #[cfg(feature = "rsa")]
            (Scheme::RsaPss(hash), KeyKind::Rsa { .. }) => {
                with_rsa::verify(self.numbers, hash, true, message, signature)
            }
            _ => Err(SignatureError::Scheme),
        }
    }

    fn verify_ecdsa(
        &self,
        encoding: Encoding,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        let mut padded = [[0; MAX_FIELD]; 2];
        let pair = match encoding {
            Encoding::Fixed => halves(self.kind, signature),
            Encoding::Der => {
                let (r, s) = two_numbers(signature).map_err(|NotDer| SignatureError::Form)?;
                let [left, right] = &mut padded;
                pad(self.kind, r, left).zip(pad(self.kind, s, right))
            }
        }
        .ok_or(SignatureError::Form)?;
        match self.kind {
            KeyKind::P256 => verify_on::<NistP256>(self.numbers, digest, pair),
            _ => verify_on::<NistP384>(self.numbers, digest, pair),
        }
    }
}

/// The parts of a SubjectPublicKeyInfo.
struct Info<'a> {
    algorithm: &'a [u8],
    parameters: Option<AnyRef<'a>>,
    bits: &'a [u8],
}

/// Takes a SubjectPublicKeyInfo apart.
fn split(der: &[u8]) -> Result<Info<'_>, NotDer> {
    let mut info = Fields::sequence(der)?;
    let mut algorithm = Fields::open(info.any()?, Tag::Sequence)?;
    let bits = asn1::octets(info.any()?)?;
    info.end()?;
    let id = algorithm.oid()?;
    let parameters = if algorithm.is_empty() { None } else { Some(algorithm.any()?) };
    algorithm.end()?;
    Ok(Info { algorithm: id, parameters, bits })
}

/// Reads SEQUENCE { INTEGER, INTEGER }: an ECDSA signature, an RSA key. Without leading zero bytes.
fn two_numbers(der: &[u8]) -> Result<(&[u8], &[u8]), NotDer> {
    let mut fields = Fields::sequence(der)?;
    let first = asn1::unsigned(fields.any()?)?;
    let second = asn1::unsigned(fields.any()?)?;
    fields.end()?;
    Ok((first, second))
}

/// Returns the bytes of a field element.
const fn field_len(kind: KeyKind) -> usize {
    match kind {
        KeyKind::P256 => 32,
        _ => MAX_FIELD,
    }
}

/// Splits exactly two field elements.
fn halves(kind: KeyKind, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, second) = bytes.split_at_checked(field_len(kind))?;
    (second.len() == field_len(kind)).then_some((first, second))
}

/// Right-aligns a number in a field element, which `room` has space for.
fn pad<'b>(kind: KeyKind, number: &[u8], room: &'b mut [u8; MAX_FIELD]) -> Option<&'b [u8]> {
    let field = room.get_mut(..field_len(kind))?;
    let start = field.len().checked_sub(number.len())?;
    field.get_mut(start..)?.copy_from_slice(number);
    Some(field)
}

/// Makes a point of its coordinates, if it is on the curve.
fn point<C: CurveArithmetic>((x, y): (&[u8], &[u8])) -> Option<ProjectivePoint<C>> {
    let x = FieldBytes::<C>::try_from(x).ok()?;
    let y = FieldBytes::<C>::try_from(y).ok()?;
    let point: Option<C::AffinePoint> = C::AffinePoint::from_coordinates(&x, &y).into();
    point.map(Into::into)
}

/// Verifies ECDSA over a digest. Not through the curve crates' own key types: those bring point decompression along,
/// 10 KiB of code.
fn verify_on<C: EcdsaCurve + CurveArithmetic>(
    key: (&[u8], &[u8]),
    digest: &[u8],
    (r, s): (&[u8], &[u8]),
) -> Result<(), SignatureError> {
    let key = point::<C>(key).ok_or(SignatureError::Scheme)?;
    let r = FieldBytes::<C>::try_from(r).map_err(|_| SignatureError::Form)?;
    let s = FieldBytes::<C>::try_from(s).map_err(|_| SignatureError::Form)?;
    let signature = ecdsa::Signature::<C>::from_scalars(r, s).map_err(|_| SignatureError::Form)?;
    ecdsa::hazmat::verify_prehashed::<C>(&key, digest, &signature).map_err(|_| SignatureError::Mismatch)
}

/// RSA, by the `rsa` crate.
#[cfg(feature = "rsa")]
mod with_rsa {
    use super::{Digest, HashAlgorithm, MAX_RSA_BITS, MIN_RSA_BITS, SignatureError};
    use rsa::BoxedUint;
    use sha2::{Sha256, Sha384, Sha512};

    /// Verifies a signature, PSS or PKCS#1 v1.5.
    pub(super) fn verify(
        (modulus, exponent): (&[u8], &[u8]),
        hash: HashAlgorithm,
        is_pss: bool,
        message: &[&[u8]],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        let number = BoxedUint::from_be_slice_vartime;
        let sizes =
            usize::try_from(MIN_RSA_BITS).unwrap_or(usize::MAX)..=usize::try_from(MAX_RSA_BITS).unwrap_or(0);
        let key = rsa::PublicKey::new_with_size_limits(number(modulus), number(exponent), sizes)
            .map_err(|_| SignatureError::Scheme)?;
        if signature.len() != modulus.len() {
            return Err(SignatureError::Form);
        }
        let digest = Digest::of(hash, message);
        let digest = digest.as_bytes();
        match (hash, is_pss) {
            (HashAlgorithm::Sha256, false) => key.pkcs1v15_verify_prehash::<Sha256>(digest, signature),
            (HashAlgorithm::Sha384, false) => key.pkcs1v15_verify_prehash::<Sha384>(digest, signature),
            (HashAlgorithm::Sha512, false) => key.pkcs1v15_verify_prehash::<Sha512>(digest, signature),
            (HashAlgorithm::Sha256, true) => key.pss_verify_prehash::<Sha256>(digest, signature),
            (HashAlgorithm::Sha384, true) => key.pss_verify_prehash::<Sha384>(digest, signature),
            (HashAlgorithm::Sha512, true) => key.pss_verify_prehash::<Sha512>(digest, signature),
        }
        .map_err(|_| SignatureError::Mismatch)
    }
}
