//! The objects of a session, and where their parts are; shares nothing with the model.

use super::*;
use rmm_model::abi::rhi::*;
use rmm_model::digest::HashAlgorithm;
use rmm_model::scenario::{Blob, DeviceSpec};
use std::path::{Path, PathBuf};

pub const VCA: u64 = 0;
pub const CERTIFICATE: u64 = 1;
pub const MEASUREMENTS: u64 = 2;
pub const NONCE: [u8; 32] = *b"a nonce of the realm, 32 bytes..";

/// Objects of a boot.
pub struct Objects {
    pub vca: Vec<u8>,
    pub certificate: Vec<u8>,
    pub measurements: Vec<u8>,
    pub info: Vec<u8>,
}

/// A device with this session, and what is changed about it.
pub fn device(change: impl Fn(&mut DeviceSpec)) -> Scenario {
    let mut scenario = plain();
    change(&mut scenario.device[0]);
    scenario
}

/// Locks, measures with [`NONCE`] and reads everything.
pub fn objects(scenario: &Scenario) -> Objects {
    let mut rig = Rig::placed(scenario);
    assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), SUCCESS);
    measure(&mut rig);
    let info = rig.info().unwrap();
    let mut object = |kind| rig.object(kind).unwrap();
    let objects = Objects {
        vca: object(VCA),
        certificate: object(CERTIFICATE),
        measurements: object(MEASUREMENTS),
        info: info.bytes,
    };
    for (at, object) in [(0x80, &objects.vca), (0xC0, &objects.certificate), (0x140, &objects.measurements)] {
        assert_eq!(objects.info[at..at + 48], sha384(object));
    }
    objects
}

pub fn measure(rig: &mut Rig) {
    use rmm_model::machine::Machine;
    rig.m.write(SHARED, &[0; 0x200]);
    rig.m.write(SHARED + 0x100, &NONCE);
    assert_eq!(rig.rhi(RHI_DA_VDEV_GET_MEASUREMENTS, &[VDEV, SHARED])[0], SUCCESS);
}

pub fn pki(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/pki").join(name)
}

pub fn file(name: &str) -> Blob {
    Blob::bytes(&std::fs::read(pki(name)).unwrap())
}

pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// What SPDM 1.2 and 1.3 sign, put together here once more.
pub fn signed(version: &str, hash: HashAlgorithm, transcript: &[&[u8]]) -> Vec<u8> {
    let mut message = format!("dmtf-spdm-v{version}.*").repeat(4).into_bytes();
    message.resize(70, 0);
    message.extend(b"responder-measurements signing");
    assert_eq!(message.len(), 100);
    message.extend(hash.digest(transcript));
    message
}

/// Where the parts of an exchange are.
pub struct Parts {
    pub response: usize,
    pub signature: usize,
    pub record: Vec<u8>,
}

pub fn parts(exchange: &[u8], request_len: usize, tail: usize) -> Parts {
    let response = &exchange[request_len..];
    let record_len = u32_at(response, 4) as usize >> 8;
    let opaque_len = usize::from(u16_at(response, 40 + record_len));
    Parts {
        response: request_len,
        signature: request_len + 42 + record_len + opaque_len + tail,
        record: response[8..8 + record_len].to_vec(),
    }
}
