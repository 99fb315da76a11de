//! The CCA attestation token that the RMM signs (`attestation.md` 1, 2, 3, 6): realm token, platform token, and devices.
//!
//! **Both keys are public test keys**: nothing outside the tests may trust a token of theirs. Signatures are made with
//! nonces of RFC 6979: the same claims, the same bytes. Shares nothing with a verifier.
//!
//! Choices: claims are those of the moment of INIT; claim 44257 is made with the realm's hash algorithm.

mod cbor;
mod devices;
mod platform;
mod realm;
mod sign;

use alloc::vec;
use alloc::vec::Vec;

pub use platform::{IMPLEMENTATION_ID, INSTANCE_ID, LIFECYCLE, LIFECYCLE_DEBUG, SIGNER_ID};
pub use sign::PublicKey;

use crate::digest::HashAlgorithm;
use crate::model::Model;
use crate::scenario::{TokenFlaw, TokenFormat};
use sign::Key;

/// Tag of the new collection (CMW) and of the old one.
const TAG_CMW: u64 = 907;
const TAG_OLD: u64 = 399;
/// Parts of the collection.
const PLATFORM: i64 = 44234;
const REALM: i64 = 44241;
const DEVICES: i64 = 44258;
/// Content formats of the parts: EAT as CWT, claims without signature.
const EAT_CWT: u64 = 263;
const CLAIMS: u64 = 601;

/// Returns the key that verifies platform tokens, which an endorser would publish.
pub fn platform_key() -> PublicKey {
    Key::platform().public()
}

/// Returns the Realm Attestation Key, which claim 44237 names. It is the same at each start.
pub fn realm_key() -> PublicKey {
    Key::realm().public()
}

/// Name of a hash algorithm in claims (IANA, as `attestation.md` 2 has them).
fn name(hash: HashAlgorithm) -> &'static str {
    match hash {
        HashAlgorithm::Sha256 => "sha-256",
        HashAlgorithm::Sha384 => "sha-384",
        HashAlgorithm::Sha512 => "sha-512",
    }
}

impl Model {
    /// Makes the token for a challenge of 64 bytes, with RIM and REMs as they are now.
    pub(crate) fn cca_token(&self, challenge: &[u8]) -> Vec<u8> {
        let format = self.scenario.realm.token_format;
        let flaw = self.scenario.realm.token_flaw;
        let devices = self.device_token();
        let key = Key::realm().public().cose_key();
        let bound = match flaw {
            TokenFlaw::RakBinding => Key::platform().public().cose_key(),
            _ => key.clone(),
        };
        let binding = HashAlgorithm::Sha256.digest(&[&bound]);
        let platform = platform::claims(format, &binding, flaw == TokenFlaw::Debug, self.config_len());
        let platform = Key::platform().sign1(&platform, flaw == TokenFlaw::PlatformSignature);
        let realm = self.realm_claims(challenge, &key, devices.as_deref());
        let realm = Key::realm().sign1(&realm, flaw == TokenFlaw::RealmSignature);

        let part = |content: u64, bytes: &[u8]| match format {
            TokenFormat::Old => cbor::bytes(bytes),
            TokenFormat::TfRmm => cbor::array(&[cbor::uint(content), cbor::bytes(bytes)]),
        };
        let mut parts = vec![(PLATFORM, part(EAT_CWT, &platform)), (REALM, part(EAT_CWT, &realm))];
        parts.extend(devices.iter().map(|devices| (DEVICES, part(CLAIMS, devices))));
        let tag = match format {
            TokenFormat::Old => TAG_OLD,
            TokenFormat::TfRmm => TAG_CMW,
        };
        cbor::tag(tag, &cbor::map(parts))
    }

    fn config_len(&self) -> usize {
        self.scenario.realm.token_config_len as usize
    }
}
