//! The state machine: what it holds, how calls enter, what is left at the end.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::abi::{ALL_ONES, psci, rsi};
use crate::access::{Entry, Next};
use crate::board::{Board, Range};
use crate::counters::Counters;
use crate::device::{Bridge, Device, Function, UNREACHABLE, Vdev};
use crate::digest::to_hex;
use crate::final_state::{DeviceState, FinalState, Outcome, TdiState};
use crate::inject::Injections;
use crate::intervals::Intervals;
use crate::lies::Lies;
use crate::machine::{DmaGate, Machine};
use crate::record::{Event, Record};
use crate::ripas::Ripas;
use crate::rng::Rng;
use crate::rsi::Token;
use crate::scenario::{ObjectKind, Scenario};
use crate::stage2::Key;

/// The RMM, the host and the devices of one run.
pub struct Model {
    pub(crate) scenario: Scenario,
    pub(crate) board: Board,
    pub(crate) ripas: Intervals<Ripas>,
    /// Leaves that the machine has now.
    pub(crate) leaves: Intervals<Key>,
    /// RIM and REM 1..4, each of the realm's hash length.
    pub(crate) measurements: [Vec<u8>; 5],
    pub(crate) devices: Vec<Device>,
    pub(crate) vdevs_created: u64,
    /// Bridges on the way to devices.
    pub(crate) bridges: Vec<Bridge>,
    /// Functions that pass through, as far as they are known.
    pub(crate) functions: Vec<Function>,
    /// Functions that the host keeps to itself: path and routing id.
    pub(crate) hidden: Vec<(Vec<u8>, u16)>,
    /// Routing ids of functions that are gone.
    pub(crate) vanished: Vec<u16>,
    /// Of functions that came later.
    pub(crate) appeared: Vec<u16>,
    pub(crate) lies: Lies,
    pub(crate) injections: Injections,
    pub(crate) rng: Rng,
    pub(crate) totals: Counters,
    pub(crate) ipa_state_calls: u64,
    pub(crate) validate_calls: u64,
    violations: Vec<String>,
    pub(crate) outcome: Outcome,
    /// RECs that the host entered at the start.
    pub(crate) recs: Vec<Rec>,
    seq: u64,
}

/// A lock, as the RMM sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Lock nonce.
    pub nonce: u64,
    /// Measurements were made since.
    pub is_measured: bool,
    /// A report was made since.
    pub is_reported: bool,
}

/// One REC.
pub(crate) struct Rec {
    pub(crate) is_on: bool,
    /// Where it starts after CPU_ON; taken by the shell.
    pub(crate) entry: Option<Entry>,
    /// Token that is being read.
    pub(crate) token: Option<Token>,
}

/// Empty state of [`Model::new`], before devices are found.
impl Model {
    pub(crate) fn bare(scenario: &Scenario, board: &Board) -> Model {
        let mut rng = Rng::new(scenario.seed);
        let len = scenario.realm.hash.len_bytes();
        let rim = rng.bytes(len);
        let rem = || alloc::vec![0; len];
        let mut ripas = Intervals::new(Ripas::Empty);
        for range in &board.ram {
            ripas.set(range.base, range.top(), Ripas::Ram);
        }
        Model {
            scenario: scenario.clone(),
            board: board.clone(),
            ripas,
            leaves: Intervals::new(Key::None),
            measurements: [rim, rem(), rem(), rem(), rem()],
            devices: Vec::new(),
            vdevs_created: 0,
            bridges: Vec::new(),
            functions: Vec::new(),
            hidden: Vec::new(),
            vanished: Vec::new(),
            appeared: Vec::new(),
            lies: Lies::new(&scenario.misbehaviour),
            injections: Injections::new(&scenario.injection),
            rng,
            totals: Counters::default(),
            ipa_state_calls: 0,
            validate_calls: 0,
            violations: Vec::new(),
            outcome: Outcome::Running,
            recs: (0..scenario.vmm.recs).map(|_| Rec { is_on: true, entry: None, token: None }).collect(),
            seq: 0,
        }
    }

    /// Gives the RIM, which the shell computes from what it loaded; cut or padded to the realm's hash length.
    pub fn set_rim(&mut self, rim: &[u8]) {
        let mut rim = rim.to_vec();
        rim.resize(self.scenario.realm.hash.len_bytes(), 0);
        self.measurements[0] = rim;
    }

    /// Answers one SMC of REC 0, as [`Model::smc_on`].
    pub fn smc(&mut self, regs: &mut [u64; 18], machine: &mut dyn Machine) -> Next {
        self.smc_on(0, regs, machine)
    }

    /// Answers one SMC of a REC (`rsi.md` section 1). `regs` are x0..x17, in and out. The REC's number, below
    /// `vmm.recs`, is its MPIDR.
    ///
    /// Registers that are no results keep their values, but x1..x3 of an RSI call that defines fewer results are zero.
    pub fn smc_on(&mut self, rec: usize, regs: &mut [u64; 18], machine: &mut dyn Machine) -> Next {
        if !self.recs.get(rec).is_some_and(|rec| rec.is_on) {
            self.violate(machine, format!("an SMC of REC {rec}, which does not run"));
            return Next::Stop;
        }
        // Only the low half names the function; bit 16 is the SVE hint.
        let fid = regs[0] & 0xFFFE_FFFF;
        let next = match fid {
            psci::SMCCC_VERSION | 0x8400_0000..=0x8400_001F | 0xC400_0000..=0xC400_001F => {
                self.psci(rec, fid, regs, machine)
            }
            rsi::RSI_VERSION..=0xC400_01CF => self.rsi(rec, fid, regs, machine),
            _ => {
                self.emit(machine, Event::UnknownSmc { fid: regs[0] });
                regs[0] = ALL_ONES;
                Next::Resume
            }
        };
        match next {
            Next::Resume | Next::RecOff => {}
            Next::PowerOff { code } => self.outcome = Outcome::PowerOff { code },
            Next::Reset => self.outcome = Outcome::Reset,
            Next::Stop => self.outcome = Outcome::Stopped,
        }
        self.audit(machine);
        next
    }

    /// Says where the host enters a REC again after PSCI CPU_ON; once for each CPU_ON.
    pub fn take_entry(&mut self, rec: usize) -> Option<Entry> {
        self.recs.get_mut(rec)?.entry.take()
    }

    /// Returns the counts of the run so far.
    pub fn totals(&self) -> Counters {
        self.totals
    }

    /// Returns RIPAS of a page, for tests of the model itself.
    pub fn ripas(&self, ipa: u64) -> Ripas {
        self.ripas.get(ipa)
    }

    /// Returns the scenario.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Returns how many lies were told.
    pub fn num_lies(&self) -> usize {
        self.lies.told.len()
    }

    /// Returns how many devices reach private memory now.
    pub fn num_open_gates(&self) -> usize {
        self.devices.iter().filter(|device| device.gate == DmaGate::PrivateOnly).count()
    }

    /// Returns what the RMM knows of the lock of a device; none without a VDEV.
    pub fn lock_of(&self, slot: &str) -> Option<Lock> {
        let device = self.devices.iter().find(|device| device.spec.slot == slot)?;
        let vdev = device.vdev.as_ref()?;
        let Vdev { lock_nonce: nonce, is_measured, is_reported, .. } = *vdev;
        Some(Lock { nonce, is_measured, is_reported })
    }

    /// Returns an object of a device as it is now.
    pub fn evidence(&self, slot: &str, kind: ObjectKind) -> Option<&[u8]> {
        let device = self.devices.iter().find(|device| device.spec.slot == slot)?;
        let vdev = device.vdev.as_ref();
        let object = match kind {
            ObjectKind::Vca => device.vca.as_ref(),
            ObjectKind::Certificate => device.certificate.as_ref(),
            ObjectKind::Measurements => vdev.and_then(|vdev| vdev.measurements.as_ref()),
            ObjectKind::Report => vdev.and_then(|vdev| vdev.report.as_ref()),
        };
        object.map(Vec::as_slice)
    }

    /// Returns the board.
    pub fn board(&self) -> &Board {
        &self.board
    }

    pub(crate) fn emit(&mut self, machine: &mut dyn Machine, event: Event) {
        let record = Record { seq: self.seq, ticks: machine.ticks(), event };
        self.seq += 1;
        machine.record(&record);
    }

    pub(crate) fn violate(&mut self, machine: &mut dyn Machine, text: String) {
        if !self.violations.contains(&text) {
            self.violations.push(text.clone());
            self.emit(machine, Event::Violation { text });
        }
    }

    /// The device that a vdev_id names: its VDEV, or before LOCK its routing id.
    pub(crate) fn device_by_id(&self, id: u64) -> Option<usize> {
        let is_unbound =
            |device: &Device| device.spec.tdi && device.vdev.is_none() && device.rid != UNREACHABLE;
        self.vdev(id).or_else(|| {
            self.devices.iter().position(|device| is_unbound(device) && u64::from(device.rid) == id)
        })
    }

    /// The device whose VDEV has this id.
    pub(crate) fn vdev(&self, id: u64) -> Option<usize> {
        self.devices.iter().position(|device| device.vdev.as_ref().is_some_and(|vdev| vdev.id == id))
    }

    /// Moves a TDI to a state; its leaves and its DMA follow.
    pub(crate) fn set_tdi(&mut self, m: &mut dyn Machine, index: usize, to: TdiState, cause: &'static str) {
        let device = &mut self.devices[index];
        let (rid, from) = (device.rid, device.tdi);
        device.tdi = to;
        if from != to {
            self.emit(m, Event::Tdi { rid, from, to, cause: Cow::Borrowed(cause) });
        }
        self.update_gate(m, index);
        for range in self.devices[index].dev.clone() {
            self.relink(m, range.ipa, range.top());
        }
    }

    /// Sets the DMA gate that the state asks for.
    pub(crate) fn update_gate(&mut self, m: &mut dyn Machine, index: usize) {
        let device = &mut self.devices[index];
        let gate = device.wanted_gate();
        if device.gate != gate {
            device.gate = gate;
            let rid = device.rid;
            // An id that two functions have, or none, stays shut.
            if let Some(gate) = self.gates().get(&rid).copied() {
                m.set_dma(rid, gate);
                self.emit(m, Event::Dma { rid, gate });
            }
        }
    }

    /// Checks what must hold after every entry.
    fn audit(&mut self, m: &mut dyn Machine) {
        let mut found = Vec::new();
        for device in &self.devices {
            let slot = &device.spec.slot;
            if !device.spec.tdi && (device.vdev.is_some() || device.gate == DmaGate::PrivateOnly) {
                found.push(format!("{slot}: an ordinary function is treated as a TDI"));
            }
            if device.gate == DmaGate::PrivateOnly && device.tdi != TdiState::Run {
                found.push(format!("{slot}: DMA of private memory while the TDI is {:?}", device.tdi));
            }
            if device.vdev.is_none() && !device.dev.is_empty() {
                found.push(format!("{slot}: pages with RIPAS DEV without a VDEV"));
            }
            for range in &device.dev {
                if self.ripas.runs(range.ipa, range.top()).iter().any(|run| run.2 != Ripas::Dev) {
                    found.push(format!("{slot}: range {:#x} is not RIPAS DEV", range.ipa));
                }
            }
        }
        for (index, device) in self.devices.iter().enumerate().filter(|(_, device)| device.op.is_some()) {
            let mut others = self.devices[..index].iter().filter(|other| other.op.is_some());
            if others.any(|other| other.parent == device.parent) {
                found.push(format!("{}: a second operation of parent {}", device.spec.slot, device.parent));
            }
        }
        for ram in &self.board.ram {
            for (base, _, key) in self.leaves.runs(ram.base, ram.top()) {
                let fits = match self.ripas.get(base) {
                    Ripas::Ram => key == Key::PrivateRam,
                    Ripas::Empty => key == Key::SharedRam,
                    _ => key == Key::None,
                };
                if !fits {
                    found.push(format!("RAM page {base:#x} has the leaf {key:?}"));
                }
            }
        }
        found.into_iter().for_each(|text| self.violate(m, text));
    }

    /// Returns what is left now.
    pub fn final_state(&self) -> FinalState {
        let shared = self.board.ram.iter().flat_map(|ram| self.ripas.runs(ram.base, ram.top()));
        let shared =
            shared.filter(|run| run.2 == Ripas::Empty).map(|run| Range::new(run.0, run.1 - run.0)).collect();
        FinalState {
            outcome: self.outcome,
            devices: self.devices.iter().map(|device| self.device_state(device)).collect(),
            shared,
            rim: to_hex(&self.measurements[0]),
            rems: self.measurements[1..].iter().map(|rem| to_hex(rem)).collect(),
            totals: self.totals,
            lies: self.lies.told.clone(),
            violations: self.violations.clone(),
        }
    }

    fn device_state(&self, device: &Device) -> DeviceState {
        let tee = device.tee_ranges();
        let aliases = tee.iter().flat_map(|range| self.leaves.runs(range.base, range.top()));
        let aliases = aliases.filter(|run| matches!(run.2, Key::SharedDevice(_)));
        DeviceState {
            slot: device.spec.slot.clone(),
            bdf: bdf(device.rid),
            vdev_id: device.vdev.as_ref().map(|vdev| vdev.id),
            state: device.tdi,
            rmm_state: device.vdev.as_ref().map(|vdev| vdev.state),
            dma: device.gate,
            dev_ranges: device.dev.clone(),
            validated: device.validated.clone(),
            tee_aliases: aliases.map(|run| Range::new(run.0, run.1 - run.0)).collect(),
            command: device.command() & 0b110,
            counters: device.counters,
            operation_pending: device.op.is_some(),
        }
    }
}

fn bdf(rid: u16) -> String {
    format!("{:02x}:{:02x}.{}", rid >> 8, rid >> 3 & 0x1F, rid & 7).to_string()
}

#[cfg(test)]
mod audit_tests;
