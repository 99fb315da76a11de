//! The realm's initial measurement over what the VMM loaded, as TF-RMM v0.9 computes it (`spec/rim.md`, rule set R2):
//! parameters page, one DATA descriptor for each granule with content (image file, tree), one for each runnable REC (the MPIDR is not measured).

use crate::layout::{IPA_WIDTH, PAGE};
use crate::mmio::RealmRam;
use alloc::vec::Vec;
use rmm_model::digest::HashAlgorithm;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// Realm flags: DA.
const FLAG_DA: u64 = 1 << 3;
/// Breakpoints and watchpoints minus one, as on the CPU that the stub is run with.
const NUM_BPS: u64 = 5;
const NUM_WPS: u64 = 3;
const DESCRIPTOR: usize = 0x100;
const DATA_MEASURED: u64 = 1;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// Address and bytes of the image file.
    pub image: (u64, u64),
    /// Address and bytes of the device tree.
    pub tree: (u64, u64),
    /// RSI device assignment is on.
    pub da: bool,
    /// Runnable RECs, all with the same registers.
    pub recs: u8,
}

/// Computes the RIM.
pub fn compute(hash: HashAlgorithm, loaded: &Loaded, ram: &RealmRam) -> Vec<u8> {
    match hash {
        HashAlgorithm::Sha256 => chain::<Sha256>(0, loaded, ram),
        HashAlgorithm::Sha384 => chain::<Sha384>(2, loaded, ram),
        HashAlgorithm::Sha512 => chain::<Sha512>(1, loaded, ram),
    }
}

fn put(page: &mut [u8], offset: usize, value: u64) {
    page[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

fn chain<D: Digest>(algorithm: u64, loaded: &Loaded, ram: &RealmRam) -> Vec<u8> {
    let mut page = alloc::vec![0; PAGE as usize];
    put(&mut page, 0x00, if loaded.da { FLAG_DA } else { 0 });
    put(&mut page, 0x08, IPA_WIDTH.into());
    put(&mut page, 0x18, NUM_BPS);
    put(&mut page, 0x20, NUM_WPS);
    put(&mut page, 0x30, algorithm);
    let mut rim = D::digest(&page).to_vec();

    for (base, len) in [loaded.image, loaded.tree] {
        for ipa in (base..base + len).step_by(PAGE as usize) {
            ram.read(ipa, &mut page);
            let mut descriptor = [0; DESCRIPTOR];
            put(&mut descriptor, 0x08, DESCRIPTOR as u64);
            descriptor[0x10..0x10 + rim.len()].copy_from_slice(&rim);
            put(&mut descriptor, 0x50, ipa);
            put(&mut descriptor, 0x58, DATA_MEASURED);
            descriptor[0x60..0x60 + rim.len()].copy_from_slice(&D::digest(&page));
            rim.copy_from_slice(&D::digest(descriptor));
        }
    }

    page.fill(0);
    put(&mut page, 0x000, 1);
    put(&mut page, 0x200, loaded.image.0);
    put(&mut page, 0x300, loaded.tree.0);
    for _ in 0..loaded.recs {
        let mut descriptor = [0; DESCRIPTOR];
        descriptor[0] = 1;
        put(&mut descriptor, 0x08, DESCRIPTOR as u64);
        descriptor[0x10..0x10 + rim.len()].copy_from_slice(&rim);
        descriptor[0x50..0x50 + rim.len()].copy_from_slice(&D::digest(&page));
        rim.copy_from_slice(&D::digest(descriptor));
    }
    rim
}
