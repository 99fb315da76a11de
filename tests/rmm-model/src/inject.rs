//! Injections: who does what at which crossing.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::board::PAGE;
use crate::final_state::TdiState;
use crate::machine::Machine;
use crate::model::Model;
use crate::record::Event;
use crate::rhi::Gprs;
use crate::ripas::Ripas;
use crate::rng::Rng;
use crate::rsi::Reply;
use crate::scenario::{Act, Change, Crossing, Deed, Injection};

/// Routing id of the function that [`Deed::Plug`] brings.
const PLUGGED: u16 = 0x00F0;
/// Number of the built-in certificate that [`Deed::Exchange`] brings.
const OTHER_UNIT: u8 = 15;

/// The injections of a run, and how many of their crossings went by.
pub(crate) struct Injections(Vec<(Injection, u32)>);

impl Injections {
    pub(crate) fn new(list: &[Injection]) -> Injections {
        Injections(list.iter().map(|injection| (injection.clone(), 0)).collect())
    }

    /// Counts the crossing; returns what is done at it: numbers of the injections.
    fn due(&mut self, at: Crossing) -> Vec<usize> {
        let mut due = Vec::new();
        for (index, (injection, seen)) in self.0.iter_mut().enumerate() {
            if injection.at == at {
                *seen = seen.saturating_add(1);
                if *seen >= injection.nth && *seen - injection.nth < injection.count {
                    due.push(index);
                }
            }
        }
        due
    }
}

impl Change {
    /// The number that is told instead of `truth`.
    fn of(self, truth: u64, rng: &mut Rng) -> u64 {
        match self {
            Change::Set(value) => value,
            Change::Xor(bits) => truth ^ bits,
            Change::Add(more) => truth.wrapping_add(more),
            Change::Noise => rng.next(),
        }
    }
}

/// What is due at one crossing.
pub(crate) struct Due(Vec<usize>);

impl Model {
    /// Counts a crossing, and acts before it.
    pub(crate) fn arrive(&mut self, at: Crossing, m: &mut dyn Machine) -> Due {
        let due = Due(self.injections.due(at));
        for index in &due.0 {
            if let Act::Before(deed) = self.act(*index) {
                let did = self.deed(*index, deed, m);
                self.told(*index, did, m);
            }
        }
        due
    }

    /// Acts after a crossing.
    pub(crate) fn leave(&mut self, due: &Due, m: &mut dyn Machine) {
        for index in &due.0 {
            if let Act::After(deed) = self.act(*index) {
                let did = self.deed(*index, deed, m);
                self.told(*index, did, m);
            }
        }
    }

    /// The status with which a call is refused, if it is.
    pub(crate) fn refused(&mut self, due: &Due, m: &mut dyn Machine) -> Option<u64> {
        let refuse = |act| if let Act::Refuse(status) = act { Some(status) } else { None };
        let (index, status) = due.0.iter().find_map(|index| Some((*index, refuse(self.act(*index))?)))?;
        self.told(index, true, m);
        Some(status)
    }

    /// A number that crosses, as it arrives: a value of configuration space.
    pub(crate) fn altered(&mut self, due: &Due, truth: u64, mask: u64, m: &mut dyn Machine) -> u64 {
        let mut value = truth;
        for index in &due.0 {
            if let Act::Answer { change, .. } = self.act(*index) {
                let before = value;
                value = change.of(value, &mut self.rng) & mask;
                self.told(*index, value != before, m);
            }
        }
        value
    }

    /// Alters the results of an RSI call, and what it wrote: `filled` is where.
    pub(crate) fn alter_reply(
        &mut self,
        due: &Due,
        reply: &mut Reply,
        filled: Option<u64>,
        m: &mut dyn Machine,
    ) {
        for index in &due.0 {
            match self.act(*index) {
                Act::Answer { word, change } => {
                    let place = reply.word(usize::from(word));
                    let truth = *place;
                    *place = change.of(truth, &mut self.rng);
                    let differs = *place != truth;
                    self.told(*index, differs, m);
                }
                Act::Memory { offset, change } => self.alter_memory(*index, filled, offset, change, m),
                _ => {}
            }
        }
    }

    /// Alters the results of an RHI call, and what it delivered at `filled`.
    pub(crate) fn alter_gprs(
        &mut self,
        due: &Due,
        gprs: &mut Gprs,
        filled: Option<u64>,
        m: &mut dyn Machine,
    ) {
        for index in &due.0 {
            match self.act(*index) {
                Act::Answer { word, change } => {
                    let word = usize::from(word).min(3);
                    gprs.0 = gprs.0.max(word + 1);
                    let truth = gprs.1[word];
                    gprs.1[word] = change.of(truth, &mut self.rng);
                    let differs = gprs.1[word] != truth;
                    self.told(*index, differs, m);
                }
                Act::Memory { offset, change } => self.alter_memory(*index, filled, offset, change, m),
                _ => {}
            }
        }
    }

    fn alter_memory(
        &mut self,
        index: usize,
        filled: Option<u64>,
        offset: u16,
        change: Change,
        m: &mut dyn Machine,
    ) {
        let at = filled.and_then(|base| base.checked_add(u64::from(offset)));
        let at = at.filter(|at| self.board.is_ram(at & !(PAGE - 1), (at & !(PAGE - 1)) + PAGE));
        let Some(at) = at else { return self.told(index, false, m) };
        let mut bytes = [0; 8];
        m.read(at, &mut bytes);
        let told = change.of(u64::from_le_bytes(bytes), &mut self.rng).to_le_bytes();
        m.write(at, &told);
        self.told(index, told != bytes, m);
    }

    fn act(&self, index: usize) -> Act {
        self.injections.0[index].0.act
    }

    /// Records an injection. One that changed nothing (the truth was what it tells, or nobody was there to act) is
    /// recorded as `without-effect`.
    fn told(&mut self, index: usize, has_effect: bool, m: &mut dyn Machine) {
        let name = String::from(if has_effect { "injection" } else { "without-effect" });
        self.lies.told.push(name.clone());
        let injection = &self.injections.0[index].0;
        let slot = Some(format!("{:?} {:?}", injection.at, injection.act));
        self.emit(m, Event::Lie { name, slot });
    }

    /// Does it; says whether anything happened.
    fn deed(&mut self, injection: usize, deed: Deed, m: &mut dyn Machine) -> bool {
        let slot = &self.injections.0[injection].0.device;
        let index = self.devices.iter().position(|device| slot.is_empty() || device.spec.slot == *slot);
        match deed {
            Deed::Scribble => return self.scribble(m),
            Deed::DestroyShared => return self.destroy_shared(m),
            _ => {}
        }
        let Some(index) = index else { return false };
        let device = &self.devices[index];
        let (has_vdev, is_locked) = (device.vdev.is_some(), device.is_locked());
        match deed {
            Deed::RefreshMeasurements => has_vdev && self.fetch_measurements(index, m),
            Deed::RefreshReport => has_vdev && self.fetch_report(index, m),
            Deed::Relock if has_vdev => {
                self.release(index, m);
                self.lock_whole(index, m)
            }
            Deed::Unlock if has_vdev => {
                self.release(index, m);
                true
            }
            Deed::Lock if !has_vdev && device.spec.tdi => self.lock_whole(index, m),
            Deed::Exchange if device.spec.tdi => {
                let was_bound = has_vdev;
                if was_bound {
                    self.release(index, m);
                }
                self.exchange_unit(index, OTHER_UNIT) && (!was_bound || self.lock_whole(index, m))
            }
            Deed::Run if device.tdi == TdiState::Locked => self.run(index, m),
            Deed::Error if is_locked => {
                self.set_tdi(m, index, TdiState::Error, "injection");
                true
            }
            Deed::Reset => {
                self.after_reset(index, "host's FLR", m);
                true
            }
            Deed::Unplug => {
                let rid = device.rid;
                let is_new = !self.vanished.contains(&rid);
                self.vanished.push(rid);
                is_new
            }
            Deed::Plug => {
                let is_new = !self.appeared.contains(&PLUGGED);
                self.appeared.push(PLUGGED);
                is_new
            }
            Deed::DestroyDev => {
                let has_pages = !device.dev.is_empty();
                self.destroy_dev(index, m);
                has_pages
            }
            _ => false,
        }
    }

    fn release(&mut self, index: usize, m: &mut dyn Machine) {
        self.destroy_dev(index, m);
        self.unlock(index, "injection", m);
    }

    fn lock_whole(&mut self, index: usize, m: &mut dyn Machine) -> bool {
        self.lock(index, m) && self.fetch_report(index, m) && self.fetch_measurements(index, m)
    }

    /// RAM that is shared now.
    fn shared_ram(&self) -> Vec<(u64, u64)> {
        let runs = self.board.ram.iter().flat_map(|ram| self.ripas.runs(ram.base, ram.top()));
        runs.filter(|run| run.2 == Ripas::Empty).map(|run| (run.0, run.1)).collect()
    }

    fn scribble(&mut self, m: &mut dyn Machine) -> bool {
        let runs = self.shared_ram();
        for (base, top) in &runs {
            let bytes = self.rng.bytes(PAGE as usize);
            (*base..*top).step_by(PAGE as usize).for_each(|page| m.write(page, &bytes));
        }
        !runs.is_empty()
    }

    fn destroy_shared(&mut self, m: &mut dyn Machine) -> bool {
        let runs = self.shared_ram();
        for (base, top) in &runs {
            self.set_ripas(m, *base, *top, Ripas::Destroyed);
        }
        !runs.is_empty()
    }
}
