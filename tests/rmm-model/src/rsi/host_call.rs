//! RSI_HOST_CALL (`rsi.md` 3.7): the carrier of RHI.

use super::Reply;
use crate::abi::{ALL_ONES, rsi::*};
use crate::board::PAGE;
use crate::machine::Machine;
use crate::model::Model;
use crate::scenario::SpareGprs;
use crate::stage2::Stuck;

/// Bytes and alignment of the structure.
const HOST_CALL_LEN: u64 = 0x100;
/// Registers that go out and come back.
pub(crate) const NUM_GPRS: usize = 31;

impl Model {
    /// Carries immediate and gprs to the host, and all 31 gprs back.
    pub(super) fn host_call(&mut self, ipa: u64, m: &mut dyn Machine) -> Result<Reply, Stuck> {
        if !ipa.is_multiple_of(HOST_CALL_LEN) || !self.buffer(ipa & !(PAGE - 1), PAGE)? {
            return Ok(Reply::status(RSI_ERROR_INPUT));
        }
        let bytes = Model::read_bytes(m, ipa, HOST_CALL_LEN as usize);
        let immediate = u16::from_le_bytes([bytes[0], bytes[1]]);
        let mut gprs = [0; NUM_GPRS];
        for (gpr, word) in gprs.iter_mut().zip(bytes[8..].chunks_exact(8)) {
            *gpr = word.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        }
        self.totals.host_exits += 1;
        let (defined, results) = match immediate {
            0 => self.rhi(&gprs, m),
            _ => (1, [ALL_ONES, 0, 0, 0]),
        };
        let failed = results[0] != 0;
        for (index, gpr) in gprs.iter_mut().enumerate() {
            *gpr = match self.scenario.host.spare_gprs {
                _ if index < defined => results[index],
                SpareGprs::Unchanged => *gpr,
                SpareGprs::Garbage if index > 1 || !failed => self.rng.next(),
                _ => 0,
            };
        }
        for (index, gpr) in gprs.iter().enumerate() {
            m.write(ipa + 8 + 8 * index as u64, &gpr.to_le_bytes());
        }
        Ok(Reply::status(RSI_SUCCESS))
    }
}
