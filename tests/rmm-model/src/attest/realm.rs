//! Claims about the realm (`attestation.md` 2).

use alloc::vec;
use alloc::vec::Vec;

use super::{cbor, name};
use crate::digest::{HashAlgorithm, from_hex};
use crate::model::Model;
use crate::scenario::{TokenFlaw, TokenFormat};

const CHALLENGE: i64 = 10;
const PROFILE: i64 = 265;
const INSTANCE_ID: i64 = 256;
const RPV: i64 = 44235;
const HASH: i64 = 44236;
const PUBLIC_KEY: i64 = 44237;
const RIM: i64 = 44238;
const REMS: i64 = 44239;
const PUBLIC_KEY_HASH: i64 = 44240;
const MEMORY_POLICY: i64 = 44243;
const DEVICES_DIGEST: i64 = 44257;

/// Memory encryption policy: shared. The stub measures no other one.
const SHARED: u64 = 0;

impl Model {
    /// The payload of the realm token. `devices` are the bytes of the device token.
    pub(super) fn realm_claims(&self, challenge: &[u8], key: &[u8], devices: Option<&[u8]>) -> Vec<u8> {
        let realm = &self.scenario.realm;
        let mut challenge = challenge.to_vec();
        if let Some(first) = challenge.first_mut().filter(|_| realm.token_flaw == TokenFlaw::Challenge) {
            *first ^= 1;
        }
        let mut rpv = from_hex(&realm.rpv).unwrap_or_default();
        rpv.resize(64, 0);
        let (rim, rems) = self.measurements.split_at(1);
        let rems: Vec<Vec<u8>> = rems.iter().map(|rem| cbor::bytes(rem)).collect();
        let profile = match realm.token_format {
            TokenFormat::TfRmm => "tag:arm.com,2024:realm#2.0.0",
            TokenFormat::Old => "tag:arm.com,2023:realm#1.0.0",
        };
        let mut claims = vec![
            (CHALLENGE, cbor::bytes(&challenge)),
            (PROFILE, cbor::text(profile)),
            (RPV, cbor::bytes(&rpv)),
            (HASH, cbor::text(name(realm.hash))),
            (PUBLIC_KEY, cbor::bytes(key)),
            (RIM, cbor::bytes(&rim[0])),
            (PUBLIC_KEY_HASH, cbor::text(name(HashAlgorithm::Sha256))),
        ];
        if realm.token_flaw != TokenFlaw::RemsMissing {
            claims.push((REMS, cbor::array(&rems)));
        }
        if realm.token_format == TokenFormat::TfRmm {
            let digest = HashAlgorithm::Sha256.digest(&[b"realm", &self.scenario.seed.to_le_bytes()]);
            claims.push((INSTANCE_ID, cbor::bytes(&[&[1], &digest[..]].concat())));
            claims.push((MEMORY_POLICY, cbor::uint(SHARED)));
        }
        if let Some(devices) = devices {
            claims.push((DEVICES_DIGEST, cbor::bytes(&realm.hash.digest(&[devices]))));
        }
        cbor::map(claims)
    }
}
