//! A realm in a few lines: registers in, registers out. Shares nothing with the firmware.
#![allow(dead_code, clippy::arithmetic_side_effects)]

pub mod session;
pub mod token;

use rmm_model::abi::{rhi::*, rsi::*};
use rmm_model::final_state::DeviceState;
use rmm_model::machine::{Leaf, Machine};
use rmm_model::scenario::{DeviceSpec, Lie, Misbehaviour};
use rmm_model::sim::{SimFunction, SimMachine, SparseRam};
use rmm_model::{Board, Model, Next, Scenario};

pub const PAGE: u64 = 0x1000;
pub const ALIAS: u64 = 1 << 43;
pub const RAM: u64 = 0x4000_0000;
/// Private pages of the driver.
pub const HOST_CALL: u64 = RAM + 0x1000;
pub const INFO: u64 = RAM + 0x2000;
pub const CONFIG: u64 = RAM + 0x3000;
/// Shared pages of the driver.
pub const SHARED: u64 = RAM + 0x10_0000;
pub const SHARED_LEN: u64 = 16 * PAGE;
/// Where the driver puts the NVMe BAR.
pub const BAR: u64 = 0x1000_0000;
pub const BAR_LEN: u64 = 0x4000;
pub const NVME: u16 = 0x10;
pub const VDEV: u64 = 0x10;
pub const MRO: u64 = 0x0200_0000_0000;

pub struct Rig {
    pub model: Model,
    pub m: SimMachine,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Info {
    pub bytes: Vec<u8>,
    pub hash: u8,
    pub lock: u64,
    pub measurement: u64,
    pub report: u64,
    pub state: u8,
}

impl Info {
    pub fn nonces(&self) -> [u64; 3] {
        [self.lock, self.measurement, self.report]
    }
}

pub fn plain() -> Scenario {
    Scenario {
        device: vec![DeviceSpec { slot: "02.0".into(), ..DeviceSpec::default() }],
        ..Scenario::default()
    }
}

/// A device at a slot.
pub fn at(slot: &str) -> DeviceSpec {
    DeviceSpec { slot: slot.into(), ..DeviceSpec::default() }
}

/// A scenario of several devices.
pub fn devices(device: Vec<DeviceSpec>) -> Scenario {
    Scenario { device, ..Scenario::default() }
}

pub fn lying(lies: &[Misbehaviour]) -> Scenario {
    Scenario { misbehaviour: lies.to_vec(), ..plain() }
}

pub fn once(lie: Lie) -> Scenario {
    lying(&[Misbehaviour::once(lie)])
}

impl Rig {
    pub fn new(scenario: &Scenario) -> Rig {
        Rig::on(scenario, SimMachine::new(Box::new(SparseRam::default())))
    }

    pub fn with(scenario: &Scenario, functions: Vec<SimFunction>) -> Rig {
        Rig::on_board(scenario, &Board::sim(), functions)
    }

    pub fn on_board(scenario: &Scenario, board: &Board, functions: Vec<SimFunction>) -> Rig {
        Rig::boot(scenario, board, SimMachine::with(board, Box::new(SparseRam::default()), functions))
    }

    fn on(scenario: &Scenario, m: SimMachine) -> Rig {
        Rig::boot(scenario, &Board::sim(), m)
    }

    fn boot(scenario: &Scenario, board: &Board, mut m: SimMachine) -> Rig {
        let model = Model::new(scenario, board, &mut m).unwrap();
        let mut rig = Rig { model, m };
        let steps = rig.ripas(SHARED, SHARED + SHARED_LEN, 0, 0);
        assert!(steps > 0);
        rig
    }

    /// A rig whose device is placed, with decode and bus mastering on.
    pub fn placed(scenario: &Scenario) -> Rig {
        let mut rig = Rig::new(scenario);
        rig.place();
        rig
    }

    pub fn locked(scenario: &Scenario) -> (Rig, Info) {
        let mut rig = Rig::placed(scenario);
        assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), SUCCESS);
        assert_eq!(rig.rhi(RHI_DA_VDEV_GET_INTERFACE_REPORT, &[VDEV])[0], SUCCESS);
        assert_eq!(rig.measure(), SUCCESS);
        let info = rig.info().unwrap();
        (rig, info)
    }

    /// Locked, TEE pages validated, RUN.
    pub fn running(scenario: &Scenario) -> (Rig, Info) {
        let (mut rig, info) = Rig::locked(scenario);
        let real = rig.real_bar();
        rig.validate(BAR, BAR + 2 * PAGE, real + MRO, &info);
        assert_eq!(rig.tdi(TDI_RUN), SUCCESS);
        (rig, info)
    }

    pub fn smc(&mut self, regs: &mut [u64; 18]) -> Next {
        self.model.smc(regs, &mut self.m)
    }

    pub fn call(&mut self, fid: u64, args: &[u64]) -> [u64; 18] {
        let mut regs = [0x5A5A; 18];
        regs[0] = fid;
        regs[1..=args.len()].copy_from_slice(args);
        assert_eq!(self.smc(&mut regs), Next::Resume);
        regs
    }

    pub fn rhi(&mut self, fid: u64, args: &[u64]) -> [u64; 31] {
        let mut gprs = [0; 31];
        gprs[0] = fid;
        gprs[1..=args.len()].copy_from_slice(args);
        self.m.write(HOST_CALL, &[0; 8]);
        for (index, gpr) in gprs.iter().enumerate() {
            self.m.write(HOST_CALL + 8 + 8 * index as u64, &gpr.to_le_bytes());
        }
        assert_eq!(self.call(RSI_HOST_CALL, &[HOST_CALL])[0], RSI_SUCCESS);
        for (index, gpr) in gprs.iter_mut().enumerate() {
            let mut bytes = [0; 8];
            self.m.read(HOST_CALL + 8 + 8 * index as u64, &mut bytes);
            *gpr = u64::from_le_bytes(bytes);
        }
        gprs
    }

    /// IPA_STATE_SET to the end; the number of calls.
    pub fn ripas(&mut self, mut base: u64, top: u64, ripas: u64, flags: u64) -> u64 {
        for calls in 1..10_000 {
            let regs = self.call(RSI_IPA_STATE_SET, &[base, top, ripas, flags]);
            assert_eq!((regs[0], regs[2]), (RSI_SUCCESS, RSI_ACCEPT));
            base = regs[1];
            if base == top {
                return calls;
            }
        }
        panic!("no progress");
    }

    pub fn ripas_of(&mut self, ipa: u64) -> u64 {
        let regs = self.call(RSI_IPA_STATE_GET, &[ipa, ipa + PAGE]);
        assert_eq!((regs[0], regs[1]), (RSI_SUCCESS, ipa + PAGE));
        regs[2]
    }

    pub fn config_read(&mut self, rid: u16, offset: u64, width: u8) -> u64 {
        let ecam = self.model.board().ecam.base;
        self.m.io_read(&mut self.model, ALIAS | (ecam + (u64::from(rid) << 12) + offset), width).unwrap()
    }

    pub fn config_write(&mut self, rid: u16, offset: u64, width: u8, value: u64) {
        let ecam = self.model.board().ecam.base;
        let ipa = ALIAS | (ecam + (u64::from(rid) << 12) + offset);
        self.m.io_write(&mut self.model, ipa, width, value).unwrap();
    }

    pub fn place(&mut self) {
        self.config_write(NVME, 0x10, 4, BAR);
        self.config_write(NVME, 0x14, 4, 0);
        self.config_write(NVME, 0x04, 2, 6);
    }

    /// The real BAR, as the machine has it.
    pub fn real_bar(&mut self) -> u64 {
        let low = self.m.config_read(NVME, 0x10, 4) & !0xF;
        u64::from(self.m.config_read(NVME, 0x14, 4)) << 32 | u64::from(low)
    }

    pub fn tdi(&mut self, state: u64) -> u64 {
        self.rhi(RHI_DA_VDEV_SET_TDI_STATE, &[VDEV, state])[0]
    }

    pub fn measure(&mut self) -> u64 {
        self.m.write(SHARED, &[0; 0x200]);
        self.rhi(RHI_DA_VDEV_GET_MEASUREMENTS, &[VDEV, SHARED])[0]
    }

    pub fn info(&mut self) -> Result<Info, u64> {
        self.info_of(VDEV)
    }

    pub fn info_of(&mut self, id: u64) -> Result<Info, u64> {
        let status = self.call(RSI_VDEV_GET_INFO, &[id, INFO])[0];
        if status != RSI_SUCCESS {
            return Err(status);
        }
        let mut bytes = vec![0; 0x200];
        self.m.read(INFO, &mut bytes);
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let (lock, measurement, report) = (word(0x18), word(0x20), word(0x28));
        Ok(Info { hash: bytes[0x10], lock, measurement, report, state: bytes[0x40], bytes })
    }

    pub fn try_validate(&mut self, base: u64, top: u64, pa: u64, nonces: [u64; 3]) -> (u64, u64, u64) {
        let regs =
            self.call(RSI_VDEV_VALIDATE_MAPPING, &[VDEV, base, top, pa, 0, nonces[0], nonces[1], nonces[2]]);
        (regs[0], regs[1], regs[2])
    }

    pub fn validate(&mut self, mut base: u64, top: u64, mut pa: u64, info: &Info) -> u64 {
        for calls in 1..10_000 {
            let (status, next, response) = self.try_validate(base, top, pa, info.nonces());
            assert_eq!((status, response), (RSI_SUCCESS, RSI_ACCEPT));
            pa += next - base;
            base = next;
            if base == top {
                return calls;
            }
        }
        panic!("no progress");
    }

    /// SET_TDI_STATE of any device.
    pub fn tdi_of(&mut self, id: u64, state: u64) -> u64 {
        self.rhi(RHI_DA_VDEV_SET_TDI_STATE, &[id, state])[0]
    }

    /// Takes a device that is placed through lock, report, measurements, RUN and DMA_ENABLE.
    pub fn start(&mut self, id: u64) -> Info {
        assert_eq!(self.tdi_of(id, TDI_CONFIG_LOCKED), SUCCESS);
        assert_eq!(self.rhi(RHI_DA_VDEV_GET_INTERFACE_REPORT, &[id])[0], SUCCESS);
        self.m.write(SHARED, &[0; 0x200]);
        assert_eq!(self.rhi(RHI_DA_VDEV_GET_MEASUREMENTS, &[id, SHARED])[0], SUCCESS);
        let info = self.info_of(id).unwrap();
        assert_eq!(self.tdi_of(id, TDI_RUN), SUCCESS);
        let [lock, measurement, report] = info.nonces();
        let status = self.call(RSI_VDEV_DMA_ENABLE, &[id, 0, 0, lock, measurement, report])[0];
        assert_eq!(status, RSI_SUCCESS);
        info
    }

    /// Places a BAR of any function, with decode and bus mastering on.
    pub fn place_at(&mut self, rid: u16, bar: u64, address: u64) {
        let at = 0x10 + 4 * bar;
        self.config_write(rid, at, 4, address & 0xFFFF_FFFF);
        if self.config_read(rid, at, 4) & 7 == 4 {
            self.config_write(rid, at + 4, 4, address >> 32);
        }
        self.config_write(rid, 4, 2, 6);
    }

    /// Finds a capability, as the realm does.
    pub fn capability(&mut self, rid: u16, id: u64) -> Option<u64> {
        let mut at = self.config_read(rid, 0x34, 1);
        while at != 0 {
            if self.config_read(rid, at, 1) == id {
                return Some(at);
            }
            at = self.config_read(rid, at + 1, 1);
        }
        None
    }

    /// Finds an extended capability.
    pub fn extended(&mut self, rid: u16, id: u64) -> Option<u64> {
        let mut at = 0x100;
        loop {
            let header = self.config_read(rid, at, 4);
            if header & 0xFFFF == id {
                return Some(at);
            }
            at = header >> 20;
            if at == 0 || header == 0xFFFF_FFFF {
                return None;
            }
        }
    }

    pub fn state(&self, slot: &str) -> DeviceState {
        self.model.final_state().device(slot).unwrap().clone()
    }

    pub fn dma_enable(&mut self, info: &Info) -> u64 {
        self.call(RSI_VDEV_DMA_ENABLE, &[VDEV, 0, 0, info.lock, info.measurement, info.report])[0]
    }

    pub fn object(&mut self, kind: u64) -> Result<Vec<u8>, u64> {
        let size = self.rhi(RHI_DA_OBJECT_SIZE, &[VDEV, kind]);
        if size[0] != SUCCESS {
            return Err(size[0]);
        }
        let read = self.rhi(RHI_DA_OBJECT_READ, &[VDEV, kind, SHARED, SHARED_LEN, 0]);
        if read[0] != SUCCESS {
            return Err(read[0]);
        }
        let mut bytes = vec![0; read[1] as usize];
        self.m.read(SHARED, &mut bytes);
        Ok(bytes)
    }

    pub fn device(&self) -> DeviceState {
        self.model.final_state().devices[0].clone()
    }

    pub fn leaf(&self, ipa: u64) -> Leaf {
        self.m.leaf(ipa)
    }

    /// Nothing broke.
    pub fn is_clean(&self) {
        assert_eq!(self.model.final_state().violations, Vec::<String>::new());
    }
}

/// SHA-384 of the plain scenario's PDEV.
pub fn sha384(bytes: &[u8]) -> Vec<u8> {
    rmm_model::digest::HashAlgorithm::Sha384.digest(&[bytes])
}
