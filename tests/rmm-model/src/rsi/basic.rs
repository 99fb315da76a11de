//! RSI_VERSION, FEATURES, REALM_CONFIG, MEASUREMENT_* (`rsi.md` 3).

use alloc::vec;
use alloc::vec::Vec;

use super::Reply;
use crate::abi::rsi::*;
use crate::board::PAGE;
use crate::machine::Machine;
use crate::model::Model;
use crate::scenario::{ConfigPage, RemRule, RsiVersions, VersionMismatch};
use crate::stage2::Stuck;

/// Bit 0 of feature register 0: device assignment.
const FEATURE_DA: u64 = 1;

impl Model {
    fn versions(&self) -> &'static [u64] {
        match self.scenario.realm.rsi {
            RsiVersions::V10 => &[VERSION_1_0],
            RsiVersions::V11 => &[VERSION_1_0, VERSION_1_1],
        }
    }

    /// RSI_VERSION (`rsi.md` 3.1).
    pub(super) fn version(&self, requested: u64) -> Reply {
        let versions = self.versions();
        let higher = versions.last().copied().unwrap_or(VERSION_1_0);
        if versions.contains(&requested) {
            return Reply::with(RSI_SUCCESS, &[requested, higher]);
        }
        let below = versions.iter().copied().filter(|version| *version < requested).max();
        let lower = match self.scenario.realm.version_mismatch {
            VersionMismatch::Spec => below.unwrap_or(higher),
            VersionMismatch::TfRmm => higher,
        };
        Reply::with(RSI_ERROR_INPUT, &[lower, higher])
    }

    /// Device assignment is on for this realm.
    pub(super) fn da(&self) -> bool {
        self.scenario.realm.da && self.scenario.realm.rsi == RsiVersions::V11
    }

    /// RSI_FEATURES (`rsi.md` 3.2).
    pub(super) fn features(&self, index: u64) -> Reply {
        let value = if index == 0 && self.da() { FEATURE_DA } else { 0 };
        Reply::with(RSI_SUCCESS, &[value])
    }

    /// RSI_REALM_CONFIG (`rsi.md` 3.3).
    pub(super) fn realm_config(&mut self, ipa: u64, m: &mut dyn Machine) -> Result<Reply, Stuck> {
        if !ipa.is_multiple_of(PAGE) || !self.buffer(ipa, PAGE)? {
            return Ok(Reply::status(RSI_ERROR_INPUT));
        }
        let realm = &self.scenario.realm;
        let mut rpv = crate::digest::from_hex(&realm.rpv).unwrap_or_default();
        rpv.resize(64, 0);
        if realm.config_page == ConfigPage::Clear {
            m.zero(ipa, 1);
        }
        m.write(ipa, &u64::from(self.board.ipa_width).to_le_bytes());
        m.write(ipa + 0x8, &[realm.hash.encoding()]);
        if realm.rsi == RsiVersions::V11 {
            // No auxiliary planes, no ICH_VTR, ATS plane 0.
            [0x10, 0x18, 0x20].iter().for_each(|offset| m.write(ipa + offset, &[0; 8]));
        }
        m.write(ipa + 0x200, &rpv);
        Ok(Reply::status(RSI_SUCCESS))
    }

    /// RSI_MEASUREMENT_READ (`rsi.md` 3.4).
    pub(super) fn measurement_read(&self, index: u64) -> Reply {
        let Some(value) = usize::try_from(index).ok().and_then(|index| self.measurements.get(index)) else {
            return Reply::status(RSI_ERROR_INPUT);
        };
        let mut bytes = value.clone();
        bytes.resize(64, 0);
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|chunk| chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
            .collect();
        Reply::with(RSI_SUCCESS, &words)
    }

    /// RSI_MEASUREMENT_EXTEND (`rsi.md` 3.5, `attestation.md` 4).
    pub(super) fn measurement_extend(&mut self, args: &[u64; 10]) -> Reply {
        let [index, size, ..] = *args;
        if !(1..=4).contains(&index) || size > 64 {
            return Reply::status(RSI_ERROR_INPUT);
        }
        let (index, size) = (index as usize, size as usize);
        let mut value: Vec<u8> = args[2..].iter().flat_map(|word| word.to_le_bytes()).collect();
        value.truncate(size);
        let mut old = self.measurements[index].clone();
        if self.scenario.realm.rem == RemRule::Spec {
            old.resize(64, 0);
            value.resize(64, 0);
        }
        self.measurements[index] = self.scenario.realm.hash.digest(&[&old, &value]);
        Reply::status(RSI_SUCCESS)
    }

    /// Reads bytes of realm memory.
    pub(crate) fn read_bytes(m: &mut dyn Machine, ipa: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        m.read(ipa, &mut bytes);
        bytes
    }
}
