//! Start: finds the scenario's devices, numbers the buses on the way, places real BARs, sets gates and leaves.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use super::sriov::Physical;
use super::tree::BUS_NUMBERS;
use super::{BME, Bar, BlobSource, Bridge, Device, MSE, registers, report, shadow::Shadow};
use crate::board::{Board, PAGE, Range};
use crate::counters::Counters;
use crate::digest::from_hex;
use crate::final_state::TdiState;
use crate::machine::{DmaGate, Machine};
use crate::model::Model;
use crate::scenario::{Blob, BusNumbers, DeviceModel, DeviceSpec, EarlierSession, EvidenceKind, Scenario};
use crate::setup::SetupError;
use crate::spdm::Session;

/// ARI Forwarding of a port: supported (DevCap2), enabled (DevCtl2).
const DEVICE_CAPABILITIES_2: u16 = 0x24;
const DEVICE_CONTROL_2: u16 = 0x28;
const ARI_FORWARDING: u32 = 1 << 5;
/// Most RECs that the host enters.
const MAX_RECS: u8 = 8;

/// Reads `dd.f/dd.f`.
pub(super) fn parse_path(slot: &str) -> Option<Vec<u8>> {
    slot.split('/')
        .map(|part| {
            let (device, function) = part.split_once('.')?;
            let device = u8::from_str_radix(device, 16).ok().filter(|device| *device < 32)?;
            let function = u8::from_str_radix(function, 16).ok().filter(|function| *function < 8)?;
            Some(device << 3 | function)
        })
        .collect()
}

/// Reads bytes that a scenario gives.
pub(crate) fn blob(blob: &Blob, seed: u64) -> Result<BlobSource, SetupError> {
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
    for real in [&board.real_bars, &board.real_bars_high] {
        if !real.base.is_multiple_of(1 << 20) || !real.len.is_multiple_of(1 << 20) {
            return error("a window of real BARs is not aligned to 1 MiB");
        }
        let overlaps = |range: &Range| range.base < real.top() && range.top() > real.base;
        let seen = board.ram.iter().chain(&board.mmio).chain(&board.pci_windows).chain([&board.ecam]);
        if seen.into_iter().any(overlaps) {
            return error("a window of real BARs meets what the realm sees");
        }
    }
    if board.real_bars.top() > 1 << 32 {
        return error("the window of real BARs does not end below 4 GiB");
    }
    if board.real_bars_high.len != 0 && board.real_bars_high.base < 1 << 32 {
        return error("the high window of real BARs is not above 4 GiB");
    }
    if !(1..=MAX_RECS).contains(&scenario.vmm.recs) {
        return error("the number of RECs is not 1 to 8");
    }
    for device in &scenario.device {
        if device.tdi && device.model.is_virtio() {
            return Err(SetupError::NoTdi(device.slot.clone()));
        }
        let is_behind = device.slot.contains('/');
        let numbered = scenario.vmm.bus_numbers == BusNumbers::Assigned;
        if is_behind && !numbered && device.earlier != EarlierSession::None {
            return Err(SetupError::NoNumber(device.slot.clone()));
        }
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
    for text in [&scenario.realm.rpv, &scenario.realm.rim, &scenario.realm.token] {
        from_hex(text).ok_or_else(|| SetupError::Hex(text.clone()))?;
    }
    Ok(())
}

impl Model {
    /// Finds the scenario's devices on the bus, numbers the buses on the way, starts virtual functions, places real BARs
    /// with decode and bus mastering on, closes DMA gates and sets the first leaves. Everything starts unmapped, so the
    /// shell maps nothing itself.
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
        let forwarding = model.number_buses(machine)?;
        let mut physical = model.find_physical(machine)?;
        for (number, spec) in scenario.device.iter().enumerate() {
            model.find(spec, number as u64, &physical, machine)?;
        }
        model.place_real_bars(&mut physical, machine)?;
        model.start_functions(&physical, machine)?;
        for index in 0..model.devices.len() {
            model.describe(index, machine)?;
            machine.set_dma(model.devices[index].rid, DmaGate::Abort);
        }
        for (_, rid) in &model.hidden {
            machine.set_dma(*rid, DmaGate::Abort);
        }
        if scenario.vmm.assign_bars {
            model.assign_bars();
        }
        for devfn in 0..=0xFF {
            model.probe(u16::from(board.first_bus) << 8 | devfn, machine);
        }
        for (rid, control) in forwarding {
            let old = machine.config_read(rid, control, 4);
            machine.config_write(rid, control, 4, old & !ARI_FORWARDING);
        }
        if scenario.vmm.bus_numbers == BusNumbers::None {
            model.forget_numbers(machine);
        }
        let half = model.half();
        model.relink(machine, 0, half);
        for index in 0..model.devices.len() {
            model.earlier_session(index, machine);
        }
        Ok(model)
    }

    /// Crosses every bridge on the way to a device, depth first, so that ranges of bus numbers are nested. Returns the
    /// ports whose ARI Forwarding was turned on to find a device: routing id and register.
    fn number_buses(&mut self, m: &mut dyn Machine) -> Result<Vec<(u16, u16)>, SetupError> {
        let mut hops = BTreeSet::new();
        for spec in &self.scenario.device {
            let mut slots = alloc::vec![&spec.slot];
            if spec.model == DeviceModel::IgbVf {
                slots.push(&spec.pf);
            }
            for slot in slots {
                let path = parse_path(slot).ok_or_else(|| SetupError::Slot(slot.clone()))?;
                for depth in 1..path.len() {
                    hops.insert((path[..depth].to_vec(), spec.slot.clone()));
                }
            }
        }
        for (path, slot) in &hops {
            if self.bridges.iter().all(|bridge| bridge.path != *path) {
                self.cross(path, m).ok_or_else(|| SetupError::NoBridge(slot.clone()))?;
            }
        }
        let mut forwarding = Vec::new();
        for bridge in &self.bridges {
            let Some(cap) = registers::capability(m, bridge.rid, registers::CAP_PCIE) else { continue };
            let control = cap + DEVICE_CONTROL_2;
            let old = m.config_read(bridge.rid, control, 4);
            let is_capable = m.config_read(bridge.rid, cap + DEVICE_CAPABILITIES_2, 4) & ARI_FORWARDING != 0;
            if is_capable && old & ARI_FORWARDING == 0 {
                m.config_write(bridge.rid, control, 4, old | ARI_FORWARDING);
                forwarding.push((bridge.rid, control));
            }
        }
        Ok(forwarding)
    }

    /// Gives the bridge at `path` the next bus number.
    fn cross(&mut self, path: &[u8], m: &mut dyn Machine) -> Option<()> {
        let rid = self.rid(path);
        if !registers::is_there(m, rid) || !registers::is_bridge(m, rid) {
            return None;
        }
        let last = self.bridges.iter().map(|bridge| bridge.secondary).max().unwrap_or(self.board.first_bus);
        let secondary = last.checked_add(1)?;
        m.config_write(rid, BUS_NUMBERS, 1, u32::from(rid >> 8));
        m.config_write(rid, BUS_NUMBERS + 1, 1, u32::from(secondary));
        m.config_write(rid, BUS_NUMBERS + 2, 1, u32::from(secondary));
        for bridge in self.bridges.iter().filter(|bridge| path.starts_with(&bridge.path)) {
            m.config_write(bridge.rid, BUS_NUMBERS + 2, 1, u32::from(secondary));
        }
        let windows = [0, m.config_read(rid, 0x24, 4) & 0x000F_000F, 0, 0];
        let bars = registers::bars(m, rid, 2);
        m.config_write(rid, registers::COMMAND, 2, u32::from(MSE | BME));
        self.bridges.push(Bridge { path: path.to_vec(), rid, secondary, command: 0, windows, bars });
        Some(())
    }

    /// Takes the bus numbers back: the realm will give them.
    fn forget_numbers(&mut self, m: &mut dyn Machine) {
        for bridge in self.bridges.iter_mut().rev() {
            let latency = m.config_read(bridge.rid, BUS_NUMBERS, 4) & 0xFF00_0000;
            m.config_write(bridge.rid, BUS_NUMBERS, 4, latency);
            bridge.secondary = 0;
        }
        self.renumber(m);
    }

    fn find(
        &mut self,
        spec: &DeviceSpec,
        number: u64,
        physical: &[Physical],
        m: &mut dyn Machine,
    ) -> Result<(), SetupError> {
        let slot = || spec.slot.clone();
        let path = parse_path(&spec.slot).ok_or_else(|| SetupError::Slot(slot()))?;
        let is_taken = self.devices.iter().any(|device| device.path == path)
            || physical.iter().any(|physical| physical.path == path);
        if is_taken {
            return Err(SetupError::TwoDevices(slot()));
        }
        let rid = self.rid(&path);
        let (bars, vf_ids) = if spec.model == DeviceModel::IgbVf {
            let physical = self.physical_of(spec, &path, physical)?;
            (physical.bars.clone(), Some(physical.ids))
        } else {
            (self.bars_of(spec, rid, m)?, None)
        };
        let parent = match (&spec.parent, &spec.pf) {
            (parent, _) if !parent.is_empty() => parent.clone(),
            (_, pf) if vf_ids.is_some() => pf.clone(),
            _ => slot(),
        };
        let seed = self.scenario.seed.wrapping_mul(0x1_0001).wrapping_add(number << 8);
        let session = match spec.evidence {
            EvidenceKind::Spdm => Some(Session::new(spec, self.unit(spec, number), seed + 5)?),
            EvidenceKind::None => None,
        };
        let object = |given: &Option<Blob>, real: fn(&Session) -> Vec<u8>, seed| match given {
            Some(given) if session.is_some() => Ok(Some(blob(given, seed)?.bytes(0))),
            _ => Ok(session.as_ref().map(real)),
        };
        let vca = object(&spec.vca, Session::vca, seed + 2)?;
        let certificate = object(&spec.certificate, Session::certificate, seed + 3)?;
        self.devices.push(Device {
            parent,
            path,
            rid,
            vf_ids,
            shadow: Shadow::new(&bars),
            bars,
            msix: None,
            ranges: Vec::new(),
            vendor: blob(&spec.vendor, seed + 1)?.bytes(0),
            vca,
            certificate,
            measurements: spec.measurements.as_ref().map(|given| blob(given, seed + 4)).transpose()?,
            session,
            generation: 0,
            tdi: TdiState::Unlocked,
            vdev: None,
            lock_mro: 0,
            dma_enabled: false,
            gate: DmaGate::Abort,
            dev: Vec::new(),
            validated: Vec::new(),
            op: None,
            ask: None,
            busy_left: self.scenario.host.busy,
            counters: Counters::default(),
            spec: spec.clone(),
        });
        Ok(())
    }

    /// Puts another device with a built-in certificate in the place of one; false if it has no session.
    pub(crate) fn exchange_unit(&mut self, index: usize, unit: u8) -> bool {
        let device = &mut self.devices[index];
        let mut spec = device.spec.clone();
        (spec.spdm.unit, spec.spdm.chain, spec.spdm.key) = (Some(unit), None, None);
        if device.session.is_none() {
            return false;
        }
        let Ok(session) = Session::new(&spec, usize::from(unit), self.scenario.seed) else { return false };
        device.vca = Some(session.vca());
        device.certificate = Some(session.certificate());
        device.session = Some(session);
        true
    }

    /// The built-in certificate of a device that names none: by position; virtual functions of one physical function are
    /// one device.
    fn unit(&self, spec: &DeviceSpec, number: u64) -> usize {
        let devices = self.scenario.device.iter();
        let is_same = |other: &&DeviceSpec| other.model == DeviceModel::IgbVf && other.pf == spec.pf;
        let first = devices.enumerate().find(|(_, other)| is_same(other));
        match first {
            Some((first, _)) if spec.model == DeviceModel::IgbVf => first,
            _ => number as usize,
        }
    }

    fn bars_of(&self, spec: &DeviceSpec, rid: u16, m: &mut dyn Machine) -> Result<Vec<Bar>, SetupError> {
        if !registers::is_there(m, rid) || registers::is_bridge(m, rid) {
            return Err(SetupError::NoFunction(spec.slot.clone()));
        }
        let mut bars = registers::bars(m, rid, 6);
        if spec.tdi {
            registers::whole_pages(&mut bars);
        }
        Ok(bars)
    }

    /// Reads what the interface report needs, once the function answers at its place.
    fn describe(&mut self, index: usize, m: &mut dyn Machine) -> Result<(), SetupError> {
        let device = &mut self.devices[index];
        let spec = &device.spec;
        device.msix = registers::msix(m, device.rid);
        device.ranges = if spec.ranges.is_empty() {
            report::generate(&device.bars, device.msix)
        } else {
            spec.ranges.clone()
        };
        for range in &device.ranges {
            if !device.bar(range.bar).is_some_and(|bar| bar.is_memory) {
                return Err(SetupError::NoBar { slot: device.spec.slot.clone(), bar: range.bar });
            }
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
}
