//! Claims about the platform: an invented one with one component (`attestation.md` 6).

use alloc::vec;
use alloc::vec::Vec;

use super::{cbor, name};
use crate::digest::HashAlgorithm;
use crate::scenario::TokenFormat;

const CHALLENGE: i64 = 10;
const PROFILE: i64 = 265;
const INSTANCE: i64 = 256;
const CLIENT_ID: i64 = 2394;
const LIFECYCLE_CLAIM: i64 = 2395;
const IMPLEMENTATION: i64 = 2396;
const COMPONENTS: i64 = 2399;
const CONFIGURATION: i64 = 2401;
const HASH: i64 = 2402;

/// Keys of a component.
const TYPE: i64 = 1;
const MEASUREMENT: i64 = 2;
const VERSION: i64 = 4;
const SIGNER: i64 = 5;
const COMPONENT_HASH: i64 = 6;
const LIVE_UPDATE: i64 = 7;
const CO_SIGNERS: i64 = 8;

/// Client id of realm management.
const REALM_MANAGEMENT: u64 = 1;

/// Implementation id of the test platform.
pub const IMPLEMENTATION_ID: [u8; 32] = *b"test platform: implementation id";
/// Instance id of the test platform.
pub const INSTANCE_ID: [u8; 33] = *b"\x01test platform: the only instance";
/// Signer of its component.
pub const SIGNER_ID: [u8; 32] = *b"test platform: signer of the RMM";
/// Its lifecycle: secured.
pub const LIFECYCLE: u64 = 0x3003;
/// The lifecycle of a flawed one: debug of what is not root.
pub const LIFECYCLE_DEBUG: u64 = 0x4000;

/// What the component's measurement is made from.
const COMPONENT: &[u8] = b"test platform: RMM";

/// The payload of the platform token. `config_len`: bytes of the configuration claim.
pub(super) fn claims(format: TokenFormat, challenge: &[u8], debug: bool, config_len: usize) -> Vec<u8> {
    let is_new = format == TokenFormat::TfRmm;
    let profile = match format {
        TokenFormat::TfRmm => "tag:arm.com,2024:cca_platform#2.0.0",
        TokenFormat::Old => "tag:arm.com,2023:cca_platform#1.0.0",
    };
    let configuration: Vec<u8> = (0..config_len).map(|at| at as u8).collect();
    let mut claims = vec![
        (CHALLENGE, cbor::bytes(challenge)),
        (PROFILE, cbor::text(profile)),
        (IMPLEMENTATION, cbor::bytes(&IMPLEMENTATION_ID)),
        (INSTANCE, cbor::bytes(&INSTANCE_ID)),
        (CONFIGURATION, cbor::bytes(&configuration)),
        (LIFECYCLE_CLAIM, cbor::uint(if debug { LIFECYCLE_DEBUG } else { LIFECYCLE })),
        (COMPONENTS, cbor::array(&[component(is_new)])),
        (HASH, cbor::text(name(HashAlgorithm::Sha256))),
    ];
    if is_new {
        claims.push((CLIENT_ID, cbor::uint(REALM_MANAGEMENT)));
    }
    cbor::map(claims)
}

/// The new form extends zeros, says that it cannot be updated while it runs, and has a co-signer.
fn component(is_new: bool) -> Vec<u8> {
    let hash = HashAlgorithm::Sha256;
    let mut measurement = hash.digest(&[COMPONENT]);
    if is_new {
        measurement = hash.digest(&[&[0; 32], &measurement]);
    }
    let mut component = vec![
        (TYPE, cbor::text("RMM")),
        (MEASUREMENT, cbor::bytes(&measurement)),
        (VERSION, cbor::text("1.0.0")),
        (SIGNER, cbor::bytes(&SIGNER_ID)),
        (COMPONENT_HASH, cbor::text(name(hash))),
    ];
    if is_new {
        component.push((LIVE_UPDATE, cbor::boolean(false)));
        component.push((CO_SIGNERS, cbor::array(&[cbor::bytes(&SIGNER_ID)])));
    }
    cbor::map(component)
}
