//! The realm's initial measurement over what a VMM loads (`rim.md` 1 to 5): one extension after the other, in the order
//! of the calls. Trusted by the tests; the forecast of the host tool is written anew, and shares nothing with it.

use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::board::{PAGE, Range};
use crate::digest::HashAlgorithm;

/// What is measured (`rim.md` 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RimRules {
    /// RMM 1.0 and TF-RMM up to v0.8: parameters, RIPAS, data, RECs.
    R1,
    /// TF-RMM v0.9 and later: parameters, data, RECs.
    #[default]
    R2,
    /// Text of 2.0 beta: data, RECs; the RIM begins as zero.
    R3,
}

/// Parameters of the realm that are measured (`rim.md` 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// Flags: bit 0 LPA2, 1 SVE, 2 PMU, 3 DA, 8:7 MEC policy.
    pub flags: u64,
    /// IPA width in bits.
    pub s2sz: u8,
    /// Vector length in units of 128 bits, minus one.
    pub sve_vl: u8,
    /// Breakpoints minus one.
    pub num_bps: u8,
    /// Watchpoints minus one.
    pub num_wps: u8,
    /// PMU counters.
    pub pmu_num_ctrs: u8,
}

/// A runnable REC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecEntry {
    /// Entry point.
    pub pc: u64,
    /// x0 to x7.
    pub gprs: [u64; 8],
}

/// Everything that decides a RIM, but the bytes in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Rule set.
    pub rules: RimRules,
    /// Algorithm.
    pub hash: HashAlgorithm,
    /// Of the realm.
    pub parameters: Parameters,
    /// RAM, in the order of its RIPAS changes; measured by [`RimRules::R1`] alone.
    pub ram: Vec<Range>,
    /// What was loaded, in its order; the base is that of a granule, the rest of the last granule is zero.
    pub data: Vec<Range>,
    /// Runnable RECs in their order.
    pub recs: Vec<RecEntry>,
}

impl Loaded {
    /// Computes the RIM. `read` fills the granule at an IPA, zeros behind the end of what was loaded included.
    pub fn rim(&self, mut read: impl FnMut(u64, &mut [u8])) -> Vec<u8> {
        let mut rim = Rim::new(self.rules, self.hash, &self.parameters);
        self.ram.iter().for_each(|ram| rim.ripas(ram.base, ram.top()));
        let mut granule = vec![0; PAGE as usize];
        for range in &self.data {
            for ipa in (range.base..range.top()).step_by(PAGE as usize) {
                read(ipa, &mut granule);
                rim.data(ipa, &granule);
            }
        }
        self.recs.iter().for_each(|rec| rim.rec(rec));
        rim.value().to_vec()
    }
}

/// Type, bytes and offsets of a descriptor (`rim.md` 4).
const DESCRIPTOR: usize = 0x100;
const DATA: u8 = 0;
const REC: u8 = 1;
const RIPAS: u8 = 2;
const RIM: usize = 0x10;
const BODY: usize = 0x50;
/// Data: granule with content.
const MEASURED: u64 = 1;
/// REC: runnable.
const RUNNABLE: u64 = 1;

/// A RIM that grows.
#[derive(Clone, Debug)]
pub struct Rim {
    rules: RimRules,
    hash: HashAlgorithm,
    s2sz: u8,
    value: Vec<u8>,
}

impl Rim {
    /// Begins with the realm's parameters.
    pub fn new(rules: RimRules, hash: HashAlgorithm, parameters: &Parameters) -> Rim {
        let mut page = vec![0; PAGE as usize];
        put(&mut page, 0x00, parameters.flags);
        page[0x08] = parameters.s2sz;
        page[0x10] = parameters.sve_vl;
        page[0x18] = parameters.num_bps;
        page[0x20] = parameters.num_wps;
        page[0x28] = parameters.pmu_num_ctrs;
        page[0x30] = hash.encoding();
        let value = match rules {
            RimRules::R1 | RimRules::R2 => hash.digest(&[&page]),
            RimRules::R3 => vec![0; hash.len_bytes()],
        };
        Rim { rules, hash, s2sz: parameters.s2sz, value }
    }

    /// Adds one RIPAS change of a single entry of a translation table; nothing but in [`RimRules::R1`].
    pub fn ripas_entry(&mut self, base: u64, top: u64) {
        if self.rules == RimRules::R1 {
            let body = [base.to_le_bytes(), top.to_le_bytes()].concat();
            self.extend(RIPAS, &body);
        }
    }

    /// Adds the RIPAS changes of pages, each entry as large as alignment, end and the tables' depth allow (`rim.md` 5).
    pub fn ripas(&mut self, mut base: u64, top: u64) {
        while base < top {
            let fits = |block: &u64| base.is_multiple_of(*block) && *block <= top - base;
            let largest = PAGE << (9 * (levels(self.s2sz) - 1));
            let blocks = core::iter::successors(Some(largest), |block| Some(block >> 9));
            let block = blocks.take_while(|block| *block > PAGE).find(fits).unwrap_or(PAGE);
            self.ripas_entry(base, base + block);
            base += block;
        }
    }

    /// Adds a granule whose content is measured. A granule without content is not added at all.
    pub fn data(&mut self, ipa: u64, granule: &[u8]) {
        let mut body = [ipa.to_le_bytes(), MEASURED.to_le_bytes()].concat();
        body.extend(self.hash.digest(&[granule]));
        self.extend(DATA, &body);
    }

    /// Adds a granule with content that is not measured: its address still is.
    pub fn unmeasured(&mut self, ipa: u64) {
        self.extend(DATA, &[ipa.to_le_bytes(), [0; 8]].concat());
    }

    /// Adds a runnable REC. One that is not runnable is not added at all.
    pub fn rec(&mut self, rec: &RecEntry) {
        let mut page = vec![0; PAGE as usize];
        put(&mut page, 0x000, RUNNABLE);
        put(&mut page, 0x200, rec.pc);
        for (index, gpr) in rec.gprs.iter().enumerate() {
            put(&mut page, 0x300 + 8 * index, *gpr);
        }
        let content = self.hash.digest(&[&page]);
        self.extend(REC, &content);
    }

    /// Returns the value so far, as long as a digest.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    fn extend(&mut self, kind: u8, body: &[u8]) {
        let mut descriptor = [0; DESCRIPTOR];
        descriptor[0] = kind;
        put(&mut descriptor, 0x08, DESCRIPTOR as u64);
        descriptor[RIM..RIM + self.value.len()].copy_from_slice(&self.value);
        descriptor[BODY..BODY + body.len()].copy_from_slice(body);
        self.value = self.hash.digest(&[&descriptor]);
    }
}

fn put(page: &mut [u8], at: usize, value: u64) {
    page[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Levels of tables for an IPA width; up to 16 start tables stand side by side.
fn levels(s2sz: u8) -> u32 {
    let bits = u32::from(s2sz).saturating_sub(12).max(1);
    let levels = bits.div_ceil(9);
    if levels > 1 && bits - 9 * (levels - 1) <= 4 { levels - 1 } else { levels }
}
