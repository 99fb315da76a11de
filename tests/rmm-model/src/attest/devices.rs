//! The device token: what the RMM knows of the realm's devices (`attestation.md` 3).
//!
//! Choices: a digest that the RMM does not have is zero, as in the VDEV info; PCIe traffic is protected by IDE, and
//! there is no coherent traffic.

use alloc::vec;
use alloc::vec::Vec;

use super::cbor;
use crate::device::{Device, Vdev};
use crate::model::Model;
use crate::scenario::TokenFormat;

const PROFILE: i64 = 265;
const LIST: i64 = 44259;

/// Keys of a device.
const IDENTITY: i64 = 1;
const MEASUREMENTS: i64 = 2;
const VCA: i64 = 3;
const COHERENT_IDE: i64 = 4;
const NON_COHERENT_IDE: i64 = 5;

impl Model {
    /// Returns the device token; none if the scenario wants none, or no device is assigned now.
    pub(super) fn device_token(&self) -> Option<Vec<u8>> {
        let realm = &self.scenario.realm;
        let mut devices: Vec<(&Device, &Vdev)> =
            self.devices.iter().filter_map(|device| Some((device, device.vdev.as_ref()?))).collect();
        if !realm.device_token || realm.token_format == TokenFormat::Old || devices.is_empty() {
            return None;
        }
        devices.sort_by_key(|(_, vdev)| vdev.number);
        let devices: Vec<Vec<u8>> = devices.into_iter().map(|(device, vdev)| claims(device, vdev)).collect();
        Some(cbor::map(vec![
            (PROFILE, cbor::text("tag:arm.com,2025:cca_device#2.0.0")),
            (LIST, cbor::array(&devices)),
        ]))
    }
}

fn claims(device: &Device, vdev: &Vdev) -> Vec<u8> {
    let hash = device.spec.hash;
    let digest = |object: Option<&Vec<u8>>| {
        cbor::bytes(&object.map_or_else(|| vec![0; hash.len_bytes()], |object| hash.digest(&[object])))
    };
    let mut claims = vec![
        (IDENTITY, digest(device.certificate.as_ref())),
        (MEASUREMENTS, digest(vdev.measurements.as_ref())),
        (COHERENT_IDE, cbor::boolean(false)),
        (NON_COHERENT_IDE, cbor::boolean(true)),
    ];
    if device.vca.is_some() {
        claims.push((VCA, digest(device.vca.as_ref())));
    }
    cbor::map(claims)
}
