//! RSI_VDEV_* (`rsi.md` 5).

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::Reply;
use super::ipa_state::Progress;
use crate::abi::rsi::*;
use crate::board::PAGE;
use crate::device::Vdev;
use crate::final_state::{DevRange, TdiState};
use crate::machine::Machine;
use crate::model::Model;
use crate::ripas::Ripas;
use crate::scenario::{Dialect, DmaEnable, Lie, ObjectKind, RsiCall};
use crate::stage2::Stuck;

/// Bytes and alignment of the info structure.
const INFO_LEN: u64 = 0x200;

/// Flags of VALIDATE_MAPPING.
const COHERENT: u64 = 1;
const VALIDATE_FLAGS: u64 = 0b11;
/// Flags of DMA_ENABLE: ATS, which is ignored.
const DMA_FLAGS: u64 = 0b1;

impl Model {
    /// RSI_VDEV_GET_INFO (5.1): any state; the buffer is cleared and filled.
    pub(super) fn vdev_get_info(
        &mut self,
        id: u64,
        buffer: u64,
        m: &mut dyn Machine,
    ) -> Result<Reply, Stuck> {
        if !self.da() {
            return Ok(Reply::status(RSI_ERROR_STATE));
        }
        let Some(index) = self.vdev(id) else {
            return Ok(Reply::status(RSI_ERROR_INPUT));
        };
        if !buffer.is_multiple_of(INFO_LEN) || !self.buffer(buffer & !(PAGE - 1), PAGE)? {
            return Ok(Reply::status(RSI_ERROR_INPUT));
        }
        let mut info = self.info(index);
        let zeroed = self.lie(m, Some(index), |lie| matches!(lie, Lie::DigestZero { .. }));
        if let Some(Lie::DigestZero { object }) = zeroed {
            let at = self.digest_offset(object);
            info[at..at + 64].fill(0);
        }
        m.write(buffer, &info);
        Ok(Reply::status(RSI_SUCCESS))
    }

    fn digest_offset(&self, object: ObjectKind) -> usize {
        let b = self.scenario.dialect == Dialect::A2;
        match object {
            ObjectKind::Vca => {
                if b {
                    0x40
                } else {
                    0x80
                }
            }
            ObjectKind::Certificate => {
                if b {
                    0x80
                } else {
                    0xC0
                }
            }
            ObjectKind::Measurements => {
                if b {
                    0x100
                } else {
                    0x140
                }
            }
            ObjectKind::Report => {
                if b {
                    0x140
                } else {
                    0x180
                }
            }
        }
    }

    /// RsiVdevInfo, layout D (layout B in dialect a2).
    fn info(&self, index: usize) -> Vec<u8> {
        fn put(info: &mut [u8], at: usize, value: u64) {
            info[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let mut info = vec![0; INFO_LEN as usize];
        let device = &self.devices[index];
        let Some(vdev) = &device.vdev else { return info };
        put(&mut info, 0x8, device.spec.certificate_slot);
        info[0x10] = device.spec.hash.encoding();
        put(&mut info, 0x18, vdev.lock_nonce);
        put(&mut info, 0x20, vdev.measurement_nonce);
        put(&mut info, 0x28, vdev.report_nonce);
        let state = match vdev.state {
            TdiState::Unlocked => 0,
            TdiState::Locked => 1,
            TdiState::Run => 2,
            TdiState::Error => 3,
        };
        if self.scenario.dialect == Dialect::A2 {
            put(&mut info, 0x30, 0x10);
            info[0x38] = state + 1;
        } else {
            info[0x30] = 1;
            put(&mut info, 0x38, 0x1_0000);
            info[0x40] = state;
        }
        let digests = [
            (ObjectKind::Vca, device.vca.as_ref()),
            (ObjectKind::Certificate, device.certificate.as_ref()),
            (ObjectKind::Measurements, vdev.measurements.as_ref()),
            (ObjectKind::Report, vdev.report.as_ref()),
        ];
        for (kind, object) in digests {
            if let Some(object) = object {
                let digest = device.spec.hash.digest(&[object]);
                let at = self.digest_offset(kind);
                info[at..at + digest.len()].copy_from_slice(&digest);
            }
        }
        if let Some(digest) = device.public_key_digest() {
            let at = if self.scenario.dialect == Dialect::A2 { 0xC0 } else { 0x100 };
            info[at..at + digest.len()].copy_from_slice(&digest);
        }
        info
    }

    /// RSI_VDEV_VALIDATE_MAPPING (5.2).
    ///
    /// Choices: reserved flag bits are ERROR_INPUT; the coherent flag finds no matching memory (REJECT); the host
    /// refuses (REJECT) what it cannot validate: an address outside the device's decoded BARs, another real address
    /// than asked for, or a page that is not EMPTY.
    pub(super) fn vdev_validate_mapping(&mut self, args: &[u64; 10], m: &mut dyn Machine) -> Reply {
        let [id, base, top, pa_base, flags, nonces @ ..] = *args;
        if !self.da() {
            return Reply::status(RSI_ERROR_STATE);
        }
        let Some(index) = self.vdev(id) else {
            return Reply::status(RSI_ERROR_INPUT);
        };
        let Some(vdev) = &self.devices[index].vdev else {
            return Reply::status(RSI_ERROR_INPUT);
        };
        let state = matches!(vdev.state, TdiState::Locked | TdiState::Run);
        let pa_fits = pa_base % PAGE == 0 && pa_base.checked_add(top.wrapping_sub(base)).is_some();
        if !state || !self.is_protected_range(base, top) || !pa_fits || flags & !VALIDATE_FLAGS != 0 {
            return Reply::status(RSI_ERROR_INPUT);
        }
        if !same_nonces(vdev, &nonces) {
            return Reply::status(RSI_ERROR_DEVICE);
        }
        self.count_exit(Some(index));
        if let Some(reply) = self.stuck_lie(RsiCall::VdevValidateMapping, base, m) {
            return reply;
        }
        self.validate_calls += 1;
        let host = &self.scenario.host;
        let (step, stalls) = (host.validate_step, u64::from(host.validate_stalls));
        let mut limit = if step == 0 { top } else { top.min(base.saturating_add(step * PAGE)) };
        if !self.validate_calls.is_multiple_of(stalls + 1) {
            limit = base;
        }
        let rejected = self.lie(m, Some(index), |lie| matches!(lie, Lie::ValidateReject { .. }));
        if let Some(Lie::ValidateReject { after_pages }) = rejected {
            limit = top.min(base.saturating_add(after_pages.saturating_mul(PAGE)));
        }
        let coherent = flags & COHERENT != 0;
        let mut progress = self.validate(index, (base, limit), pa_base, coherent, m);
        progress.reject |= rejected.is_some() && progress.next < top;
        self.next_lie(RsiCall::VdevValidateMapping, base, top, progress, m)
    }

    /// Validates pages from `range.0` on, as far as they fit.
    fn validate(
        &mut self,
        index: usize,
        range: (u64, u64),
        pa: u64,
        coherent: bool,
        m: &mut dyn Machine,
    ) -> Progress {
        let (base, limit) = range;
        let mut at = base;
        while at < limit {
            let device = &self.devices[index];
            let report = pa + (at - base);
            let mro = device.lock_mro;
            let window = device.windows().find(|window| at >= window.base && at < window.top());
            let fits = |window: &crate::stage2::Window| {
                !coherent && (window.pa + (at - window.base)).wrapping_add(mro) == report
            };
            let Some(window) = window.filter(fits) else { break };
            let (ripas, end) = self.ripas.run(at);
            if ripas != Ripas::Empty {
                break;
            }
            let end = end.min(limit).min(window.top());
            let done = DevRange { ipa: at, pa: window.pa + (at - window.base), len: end - at };
            if device.attributes(done.pa, done.len) & 0b111 != 0 {
                let slot = device.spec.slot.clone();
                self.violate(m, format!("{slot}: a range that is MSI-X or non-TEE was validated at {at:#x}"));
            }
            let device = &mut self.devices[index];
            device.dev.push(done);
            device.validated.push(done);
            self.set_ripas(m, at, end, Ripas::Dev);
            at = end;
        }
        Progress { next: at, reject: at < limit }
    }

    /// RSI_VDEV_DMA_ENABLE (5.3).
    ///
    /// Choices: reserved flag bits are ERROR_INPUT, ATS is ignored; non_ats_plane must be 0, as the realm has no
    /// auxiliary plane.
    pub(super) fn vdev_dma_enable(&mut self, args: &[u64; 10], m: &mut dyn Machine) -> Reply {
        let [id, flags, non_ats_plane, nonces @ ..] = *args;
        if !self.da() {
            return Reply::status(RSI_ERROR_STATE);
        }
        let Some(index) = self.vdev(id) else {
            return Reply::status(RSI_ERROR_INPUT);
        };
        if flags & !DMA_FLAGS != 0 || non_ats_plane != 0 {
            return Reply::status(RSI_ERROR_INPUT);
        }
        let device = &mut self.devices[index];
        let fits = device
            .vdev
            .as_ref()
            .is_some_and(|vdev| same_nonces(vdev, &nonces) && vdev.state == TdiState::Run);
        if !fits {
            return Reply::status(RSI_ERROR_DEVICE);
        }
        if device.spec.dma_enable == DmaEnable::Honour {
            device.dma_enabled = true;
        }
        self.update_gate(m, index);
        Reply::status(RSI_SUCCESS)
    }

    /// RSI_VDEV_DMA_DISABLE (5.4): any state.
    pub(super) fn vdev_dma_disable(&mut self, id: u64, m: &mut dyn Machine) -> Reply {
        if !self.da() {
            return Reply::status(RSI_ERROR_STATE);
        }
        let Some(index) = self.vdev(id) else {
            return Reply::status(RSI_ERROR_INPUT);
        };
        self.devices[index].dma_enabled = false;
        self.update_gate(m, index);
        Reply::status(RSI_SUCCESS)
    }

    /// One exit that the host sees.
    pub(crate) fn count_exit(&mut self, device: Option<usize>) {
        self.totals.host_exits += 1;
        if let Some(index) = device {
            self.devices[index].counters.host_exits += 1;
        }
    }
}

/// Compares lock, measurement and report nonce.
fn same_nonces(vdev: &Vdev, nonces: &[u64]) -> bool {
    nonces.get(..3) == Some(&[vdev.lock_nonce, vdev.measurement_nonce, vdev.report_nonce])
}
