//! Start: finds the scenario's devices, numbers the buses on the way, places real BARs, sets gates and leaves.

use alloc::string::String;
use alloc::vec::Vec;

use super::{BME, BlobSource, Bridge, Device, Function, MSE, UNREACHABLE, registers, report, shadow::Shadow};
use crate::board::{Board, PAGE, Range};
use crate::counters::Counters;
use crate::digest::from_hex;
use crate::final_state::TdiState;
use crate::machine::{DmaGate, Machine};
use crate::model::Model;
use crate::scenario::{Blob, DeviceSpec, Scenario};
use crate::setup::SetupError;

/// Reads `dd.f/dd.f`.
fn parse_path(slot: &str) -> Option<Vec<u8>> {
    slot.split('/')
        .map(|part| {
            let (device, function) = part.split_once('.')?;
            let device = u8::from_str_radix(device, 16).ok().filter(|device| *device < 32)?;
            let function = u8::from_str_radix(function, 16).ok().filter(|function| *function < 8)?;
            Some(device << 3 | function)
        })
        .collect()
}

fn blob(blob: &Blob, seed: u64) -> Result<BlobSource, SetupError> {
    if blob.hex.is_empty() && !blob.file.is_empty() {
        return Err(SetupError::File(blob.file.clone()));
    }
    if blob.hex.is_empty() {
        return Ok(BlobSource::Generated { seed: seed ^ blob.seed.rotate_left(17), len: blob.len as usize });
    }
    let bytes = from_hex(&blob.hex).ok_or_else(|| SetupError::Hex(blob.hex.chars().take(32).collect()))?;
    Ok(BlobSource::Fixed(bytes))
}

fn check(scenario: &Scenario, board: &Board) -> Result<(), SetupError> {
    let error = |text: &str| Err(SetupError::Board(String::from(text)));
    if !(32..=52).contains(&board.ipa_width) {
        return error("IPA width is not 32..52");
    }
    let half = board.alias_bit();
    let ranges = board.ram.iter().chain(&board.mmio).chain(&board.pci_windows).chain([&board.ecam]);
    for range in ranges {
        if range.base % PAGE != 0 || range.len % PAGE != 0 || range.top() > half {
            return error("a range is not aligned or reaches into the unprotected half");
        }
    }
    if !board.real_bars.base.is_multiple_of(1 << 20) || !board.real_bars.len.is_multiple_of(1 << 20) {
        return error("the window of real BARs is not aligned to 1 MiB");
    }
    let real = &board.real_bars;
    let overlaps = |range: &&Range| range.base < real.top() && range.top() > real.base;
    if board
        .ram
        .iter()
        .chain(&board.mmio)
        .chain(&board.pci_windows)
        .chain([&board.ecam])
        .any(|r| overlaps(&r))
    {
        return error("the window of real BARs meets what the realm sees");
    }
    let granule = scenario.host.hostconf_granule;
    if !granule.is_power_of_two() || granule < PAGE {
        return error("the HOSTCONF granule is not a power of two of at least 4096");
    }
    if let Some(lie) = scenario
        .misbehaviour
        .iter()
        .find(|lie| !lie.device.is_empty() && scenario.device.iter().all(|device| device.slot != lie.device))
    {
        return Err(SetupError::UnknownSlot(lie.device.clone()));
    }
    for text in [&scenario.realm.rpv, &scenario.realm.rim] {
        from_hex(text).ok_or_else(|| SetupError::Hex(text.clone()))?;
    }
    Ok(())
}

impl Model {
    /// Finds the scenario's devices on the bus, places their real BARs in `board.real_bars` with decode and bus
    /// mastering on, closes their DMA gates and sets the first leaves. Everything starts unmapped, so the shell maps
    /// nothing itself.
    ///
    /// # Errors
    ///
    /// When the scenario does not fit the machine.
    pub fn new(scenario: &Scenario, board: &Board, machine: &mut dyn Machine) -> Result<Model, SetupError> {
        check(scenario, board)?;
        let mut model = Model::bare(scenario, board);
        if let Some(rim) = from_hex(&scenario.realm.rim).filter(|rim| !rim.is_empty()) {
            model.set_rim(&rim);
        }
        for (number, spec) in scenario.device.iter().enumerate() {
            model.find(spec, number as u64, machine)?;
        }
        model.place_real_bars(machine)?;
        for index in 0..model.devices.len() {
            let device = &model.devices[index];
            for range in &device.ranges {
                let fits = device.bar(range.bar).is_some_and(|bar| bar.is_memory);
                if !fits {
                    return Err(SetupError::NoBar { slot: device.spec.slot.clone(), bar: range.bar });
                }
            }
            machine.set_dma(device.rid, DmaGate::Abort);
        }
        if scenario.vmm.assign_bars {
            model.assign_bars();
        }
        for devfn in 0..=0xFF {
            model.probe(u16::from(board.first_bus) << 8 | devfn, machine);
        }
        let half = model.half();
        model.relink(machine, 0, half);
        for index in 0..model.devices.len() {
            model.earlier_session(index, machine);
        }
        Ok(model)
    }

    fn find(&mut self, spec: &DeviceSpec, number: u64, m: &mut dyn Machine) -> Result<(), SetupError> {
        let slot = || spec.slot.clone();
        let path = parse_path(&spec.slot).ok_or_else(|| SetupError::Slot(slot()))?;
        if self.devices.iter().any(|device| device.path == path) {
            return Err(SetupError::TwoDevices(slot()));
        }
        let mut bus = self.board.first_bus;
        for depth in 1..path.len() {
            bus = self.cross(&path[..depth], bus, m).ok_or_else(|| SetupError::NoBridge(slot()))?;
        }
        let rid = u16::from(bus) << 8 | u16::from(path[path.len() - 1]);
        if !registers::is_there(m, rid) || registers::is_bridge(m, rid) {
            return Err(SetupError::NoFunction(slot()));
        }
        let mut bars = registers::bars(m, rid);
        registers::whole_pages(&mut bars);
        let msix = registers::msix(m, rid);
        let ranges = if spec.ranges.is_empty() { report::generate(&bars, msix) } else { spec.ranges.clone() };
        let seed = self.scenario.seed.wrapping_mul(0x1_0001).wrapping_add(number << 8);
        self.devices.push(Device {
            parent: if spec.parent.is_empty() { slot() } else { spec.parent.clone() },
            path,
            rid,
            shadow: Shadow::new(&bars),
            bars,
            msix,
            ranges,
            vendor: blob(&spec.vendor, seed + 1)?.bytes(0),
            vca: blob(&spec.vca, seed + 2)?.bytes(0),
            certificate: blob(&spec.certificate, seed + 3)?.bytes(0),
            measurements: blob(&spec.measurements, seed + 4)?,
            generation: 0,
            tdi: TdiState::Unlocked,
            vdev: None,
            lock_mro: 0,
            dma_enabled: false,
            gate: DmaGate::Abort,
            dev: Vec::new(),
            validated: Vec::new(),
            op: None,
            busy_left: self.scenario.host.busy,
            counters: Counters::default(),
            spec: spec.clone(),
        });
        Ok(())
    }

    /// Crosses the bridge at `path` on `bus`: gives it the next bus number and opens it to the real BARs.
    fn cross(&mut self, path: &[u8], bus: u8, m: &mut dyn Machine) -> Option<u8> {
        if let Some(bridge) = self.bridges.iter().find(|bridge| bridge.path == path) {
            return Some(bridge.secondary);
        }
        let rid = u16::from(bus) << 8 | u16::from(path[path.len() - 1]);
        if !registers::is_there(m, rid) || !registers::is_bridge(m, rid) {
            return None;
        }
        let last = self.bridges.iter().map(|bridge| bridge.secondary).max().unwrap_or(self.board.first_bus);
        let secondary = last.checked_add(1)?;
        m.config_write(rid, 0x18, 1, u32::from(bus));
        m.config_write(rid, 0x19, 1, u32::from(secondary));
        m.config_write(rid, 0x1A, 1, u32::from(secondary));
        for bridge in self.bridges.iter().filter(|bridge| path.starts_with(&bridge.path)) {
            m.config_write(bridge.rid, 0x1A, 1, u32::from(secondary));
        }
        let real = self.board.real_bars;
        let (base, limit) = (real.base, real.top() - 1);
        let pair =
            |base: u64, limit: u64| ((limit >> 16 & 0xFFF0) as u32 * 0x1_0000) | (base >> 16 & 0xFFF0) as u32;
        let low = limit < 1 << 32;
        m.config_write(rid, 0x20, 4, if low { pair(base, limit) } else { 0x0000_FFF0 });
        m.config_write(rid, 0x24, 4, if low { 0x0000_FFF0 } else { pair(base, limit) });
        m.config_write(rid, 0x28, 4, if low { 0 } else { (base >> 32) as u32 });
        m.config_write(rid, 0x2C, 4, if low { 0 } else { (limit >> 32) as u32 });
        m.config_write(rid, 0x04, 2, u32::from(MSE | BME));
        let windows = [0, m.config_read(rid, 0x24, 4) & 0x000F_000F, 0, 0];
        self.bridges.push(Bridge { path: path.to_vec(), rid, secondary, command: 0, windows });
        Some(secondary)
    }

    fn place_real_bars(&mut self, m: &mut dyn Machine) -> Result<(), SetupError> {
        let mut order = Vec::new();
        for (index, device) in self.devices.iter().enumerate() {
            let memory = device.bars.iter().enumerate().filter(|(_, bar)| bar.is_memory);
            order.extend(memory.map(|(at, bar)| (bar.len, index, at)));
        }
        order.sort_by_key(|entry| core::cmp::Reverse(entry.0));
        let mut next = self.board.real_bars.base;
        for (len, index, at) in order {
            let room = || SetupError::NoRoom { slot: self.devices[index].spec.slot.clone(), len };
            let pa = next.checked_next_multiple_of(len).ok_or_else(room)?;
            let top =
                pa.checked_add(len).filter(|top| *top <= self.board.real_bars.top()).ok_or_else(room)?;
            if !self.devices[index].bars[at].is_64 && top > 1 << 32 {
                return Err(room());
            }
            self.devices[index].bars[at].pa = pa;
            next = top;
        }
        for device in &self.devices {
            registers::place(m, device.rid, &device.bars, 0);
        }
        Ok(())
    }

    /// The VMM places the realm's BARs: in the first window, in order.
    fn assign_bars(&mut self) {
        let Some(window) = self.board.pci_windows.first().copied() else { return };
        let mut next = window.base;
        for device in &mut self.devices {
            for bar in device.bars.clone().iter().filter(|bar| bar.is_memory) {
                let base = next.next_multiple_of(bar.len);
                if base + bar.len <= window.top() {
                    device.shadow.write(bar.index, base as u32);
                    if bar.is_64 {
                        device.shadow.write(bar.index + 1, (base >> 32) as u32);
                    }
                    next = base + bar.len;
                }
            }
        }
    }

    /// Learns a function that passes through; its DMA reaches shared pages.
    pub(super) fn probe(&mut self, rid: u16, m: &mut dyn Machine) {
        let is_ours =
            self.devices.iter().any(|device| device.rid == rid) || self.bridges.iter().any(|b| b.rid == rid);
        if is_ours || rid == UNREACHABLE || self.functions.contains_key(&rid) || !registers::is_there(m, rid)
        {
            return;
        }
        let bars = if registers::is_bridge(m, rid) { Vec::new() } else { registers::bars(m, rid) };
        let command = m.config_read(rid, registers::COMMAND, 2) as u16;
        if !registers::is_bridge(m, rid) {
            m.set_dma(rid, DmaGate::SharedOnly);
            let event = crate::record::Event::Dma { rid, gate: DmaGate::SharedOnly };
            self.emit(m, event);
        }
        self.functions.insert(rid, Function { bars, command });
    }
}
