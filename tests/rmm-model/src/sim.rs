//! A machine for tests on the developer's computer: RAM by the test's glue, functions on a bus, leaves in a map.

mod function;
mod models;
mod ram;
mod registers;
mod transport;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

pub use function::SimFunction;
pub use ram::{Ram, SparseRam};
pub use transport::Transport;

use crate::access::{Access, FaultAction};
use crate::board::{Board, PAGE};
use crate::intervals::Intervals;
use crate::machine::{DmaGate, Leaf, Machine};
use crate::model::Model;
use crate::record::{Event, Record};
use crate::stage2::Key;

/// What an access ends in, if not in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoFault {
    /// Synchronous external abort.
    Sea,
    /// Address size fault.
    AddressSize,
    /// The REC hangs for ever.
    Stop,
    /// Permission fault: a fetch from a page that is never executable.
    Permission,
}

/// What a decoded access reaches.
enum Target {
    Ram(u64),
    Device(u64),
}

/// The simulated machine.
pub struct SimMachine {
    /// RAM.
    pub ram: Box<dyn Ram>,
    /// The trace.
    pub records: Vec<Record>,
    /// Bytes written to the console (the data register of the PL011 at `board.mmio[0]`).
    pub console: Vec<u8>,
    /// Functions; those behind a bridge name it. Virtual functions of each igb are added behind the last one.
    pub functions: Vec<SimFunction>,
    /// Virtio-mmio transports; the realm reaches those in `board.mmio`.
    pub transports: Vec<Transport>,
    leaves: Intervals<Key>,
    gates: BTreeMap<u16, DmaGate>,
    half: u64,
    console_base: u64,
    ticks: u64,
}

impl SimMachine {
    /// Makes the machine of [`Board::sim`]: 00.0 host bridge, 01.0 virtio-net, 02.0 NVMe, 03.0 edu.
    pub fn new(ram: Box<dyn Ram>) -> SimMachine {
        let functions = vec![
            SimFunction::host_bridge(),
            SimFunction::virtio_net(0x01, 0),
            SimFunction::nvme(0x02, 0),
            SimFunction::edu(0x03, 0),
        ];
        SimMachine::with(&Board::sim(), ram, functions)
    }

    /// Makes a machine with these functions, and their virtual functions.
    pub fn with(board: &Board, ram: Box<dyn Ram>, mut functions: Vec<SimFunction>) -> SimMachine {
        for index in 0..functions.len() {
            let total = functions[index].sriov.as_ref().map_or(0, |sriov| sriov.total);
            functions.extend((0..total).map(|number| SimFunction::igb_vf(index, number)));
        }
        SimMachine {
            ram,
            records: Vec::new(),
            console: Vec::new(),
            functions,
            transports: Vec::new(),
            leaves: Intervals::new(Key::None),
            gates: BTreeMap::new(),
            half: board.alias_bit(),
            console_base: board.mmio.first().map_or(u64::MAX, |range| range.base),
            ticks: 0,
        }
    }

    /// Returns what is mapped at a page (IPA without alias bit).
    pub fn leaf(&self, ipa: u64) -> Leaf {
        let page = ipa & !self.half & !(PAGE - 1);
        self.leaves.get(page).leaf(page)
    }

    /// Returns the gate of a function; Abort if it was never set.
    pub fn gate(&self, rid: u16) -> DmaGate {
        self.gates.get(&rid).copied().unwrap_or(DmaGate::Abort)
    }

    /// Says whether DMA of the function to `ipa` (alias bit or not) would reach RAM.
    pub fn dma_reaches(&self, rid: u16, ipa: u64) -> bool {
        match self.gate(rid) {
            DmaGate::Abort => false,
            DmaGate::SharedOnly => ipa & self.half != 0 && self.leaf(ipa) == Leaf::SharedRam,
            DmaGate::PrivateOnly => ipa & self.half == 0 && self.leaf(ipa) == Leaf::PrivateRam,
        }
    }

    /// Returns the events of the trace.
    pub fn events(&self) -> impl Iterator<Item = &Event> + '_ {
        self.records.iter().map(|record| &record.event)
    }

    /// Decodes an address as stage 2 does.
    fn decode(&self, ipa: u64) -> Option<Target> {
        if ipa & !(self.half | (self.half - 1)) != 0 {
            return None;
        }
        let (page, rest) = (ipa & !self.half & !(PAGE - 1), ipa & (PAGE - 1));
        let is_alias = ipa & self.half != 0;
        match (self.leaf(page), is_alias) {
            (Leaf::PrivateRam, false) | (Leaf::SharedRam, true) => Some(Target::Ram(page | rest)),
            (Leaf::PrivateDevice { pa }, false) | (Leaf::SharedDevice { pa }, true) => {
                Some(Target::Device(pa | rest))
            }
            _ => None,
        }
    }

    /// A load of the realm, decoded as the hardware does: RAM, device register, or fault to the model.
    ///
    /// # Errors
    ///
    /// What the realm takes instead of a value.
    pub fn io_read(&mut self, model: &mut Model, ipa: u64, width: u8) -> Result<u64, IoFault> {
        match self.decode(ipa) {
            Some(Target::Ram(ipa)) => {
                let mut bytes = [0; 8];
                self.ram.read(ipa, &mut bytes[..usize::from(width).min(8)]);
                Ok(u64::from_le_bytes(bytes))
            }
            Some(Target::Device(pa)) => Ok(self.device_read(pa, width)),
            None => result(model.fault(ipa, Access::Read { width }, self)),
        }
    }

    /// A store of the realm.
    ///
    /// # Errors
    ///
    /// What the realm takes instead.
    pub fn io_write(&mut self, model: &mut Model, ipa: u64, width: u8, value: u64) -> Result<(), IoFault> {
        match self.decode(ipa) {
            Some(Target::Ram(ipa)) => {
                self.ram.write(ipa, &value.to_le_bytes()[..usize::from(width).min(8)]);
                Ok(())
            }
            Some(Target::Device(pa)) => {
                self.device_write(pa, width, value);
                Ok(())
            }
            None => result(model.fault(ipa, Access::Write { width, value }, self)).map(|_| ()),
        }
    }

    /// An instruction fetch of the realm.
    ///
    /// # Errors
    ///
    /// What the realm takes if the page is no private RAM.
    pub fn fetch(&mut self, model: &mut Model, ipa: u64) -> Result<(), IoFault> {
        match self.decode(ipa) {
            Some(Target::Ram(_)) if ipa & self.half == 0 => Ok(()),
            Some(_) => Err(IoFault::Permission),
            None => result(model.fault(ipa, Access::Fetch, self)).map(|_| ()),
        }
    }

    /// The physical function of a virtual one, else the function itself.
    fn physical(&self, index: usize) -> usize {
        self.functions[index].vf.map_or(index, |vf| vf.0)
    }

    /// Says whether the bridge and all above it pass on requests for a bus.
    fn routes(&self, bridge: usize, bus: u8) -> bool {
        let (secondary, subordinate) = self.functions[bridge].buses();
        let is_above = self.functions[bridge].parent.is_none_or(|above| self.routes(above, bus));
        secondary != 0 && (secondary..=subordinate).contains(&bus) && is_above
    }

    /// The routing id that a function has now, if configuration requests reach it.
    fn rid(&self, index: usize) -> Option<u16> {
        let function = &self.functions[index];
        let devfn = match function.vf {
            Some((physical, number)) => self.functions[physical].virtual_devfn(number)?,
            None => function.devfn,
        };
        let bus = match self.functions[self.physical(index)].parent {
            None => 0,
            Some(above) => {
                let bridge = &self.functions[above];
                let bus = bridge.buses().0;
                if !self.routes(above, bus) || !bridge.reaches(devfn) {
                    return None;
                }
                bus
            }
        };
        Some(u16::from(bus) << 8 | u16::from(devfn))
    }

    /// The function that answers a routing id.
    fn function(&self, rid: u16) -> Option<usize> {
        (0..self.functions.len()).find(|index| self.rid(*index) == Some(rid))
    }

    /// Says whether the bridge and all above it pass on an address, each alone on its bus.
    fn forwards(&self, bridge: usize, pa: u64) -> bool {
        let port = &self.functions[bridge];
        let siblings =
            self.functions.iter().filter(|other| other.parent == port.parent && other.forwards(pa));
        port.forwards(pa) && siblings.count() == 1 && port.parent.is_none_or(|above| self.forwards(above, pa))
    }

    /// The function and the BAR offset behind a real address.
    fn register(&self, pa: u64) -> Option<(usize, usize, u64)> {
        (0..self.functions.len()).find_map(|index| {
            let (bar, offset) = match self.functions[index].vf {
                Some((physical, number)) => self.functions[physical].decode_virtual(number, pa)?,
                None => self.functions[index].decode(pa)?,
            };
            let parent = self.functions[self.physical(index)].parent;
            parent.is_none_or(|above| self.forwards(above, pa)).then_some((index, bar, offset))
        })
    }

    /// Carries out a transfer as far as bus mastering and the gate of the function let it.
    fn transfer(&mut self, index: usize, bar: usize, transfer: registers::Transfer) {
        let mut above = self.functions[self.physical(index)].parent;
        let mut is_master = self.functions[index].is_master();
        while let Some(bridge) = above {
            is_master &= self.functions[bridge].is_master();
            above = self.functions[bridge].parent;
        }
        let Some(rid) = self.rid(index).filter(|_| is_master) else { return };
        for at in 0..transfer.len {
            let address = transfer.address + at;
            let buffer = transfer.buffer + at;
            let ipa = address & !self.half;
            match (self.dma_reaches(rid, address), transfer.to_ram) {
                (true, true) => {
                    let byte = self.functions[index].read(bar, buffer, 1) as u8;
                    self.ram.write(ipa, &[byte]);
                }
                (true, false) => {
                    let mut byte = [0];
                    self.ram.read(ipa, &mut byte);
                    self.functions[index].write(bar, buffer, 1, u64::from(byte[0]));
                }
                // An aborted read brings all ones.
                (false, false) => {
                    self.functions[index].write(bar, buffer, 1, 0xFF);
                }
                (false, true) => {}
            }
        }
    }
}

fn result(action: FaultAction) -> Result<u64, IoFault> {
    match action {
        FaultAction::Emulated(value) => Ok(value),
        FaultAction::Sea => Err(IoFault::Sea),
        FaultAction::AddressSize => Err(IoFault::AddressSize),
        FaultAction::Stop => Err(IoFault::Stop),
    }
}

impl Machine for SimMachine {
    fn read(&mut self, ipa: u64, buf: &mut [u8]) {
        self.ram.read(ipa, buf);
    }

    fn write(&mut self, ipa: u64, data: &[u8]) {
        self.ram.write(ipa, data);
    }

    fn zero(&mut self, base: u64, num_pages: u64) {
        let page = [0; PAGE as usize];
        (0..num_pages).for_each(|index| self.ram.write(base + index * PAGE, &page));
    }

    fn set_leaf(&mut self, base: u64, num_pages: u64, leaf: Leaf) {
        self.leaves.set(base, base + num_pages * PAGE, Key::new(leaf, base));
    }

    fn set_dma(&mut self, rid: u16, gate: DmaGate) {
        self.gates.insert(rid, gate);
    }

    fn config_read(&mut self, rid: u16, offset: u16, width: u8) -> u32 {
        let all = u32::MAX >> (32 - 8 * u32::from(width.min(4)));
        self.function(rid).map_or(all, |index| self.functions[index].config_read(offset, width))
    }

    fn config_write(&mut self, rid: u16, offset: u16, width: u8, value: u32) {
        if let Some(index) = self.function(rid) {
            self.functions[index].config_write(offset, width, value);
        }
    }

    fn device_read(&mut self, pa: u64, width: u8) -> u64 {
        if pa & !(PAGE - 1) == self.console_base {
            return 0;
        }
        for transport in &mut self.transports {
            if let Some(offset) = transport.offset(pa) {
                return transport.read(offset);
            }
        }
        let all = u64::MAX >> (64 - 8 * u32::from(width.clamp(1, 8)));
        self.register(pa)
            .map_or(all, |(index, bar, offset)| self.functions[index].read(bar, offset, width) & all)
    }

    fn device_write(&mut self, pa: u64, width: u8, value: u64) {
        if pa == self.console_base {
            self.console.push(value as u8);
        } else if let Some((transport, offset)) =
            self.transports.iter_mut().find_map(|transport| transport.offset(pa).map(|at| (transport, at)))
        {
            transport.write(offset, value);
        } else if let Some((index, bar, offset)) = self.register(pa)
            && let Some(transfer) = self.functions[index].write(bar, offset, width, value)
        {
            self.transfer(index, bar, transfer);
        }
    }

    fn ticks(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    fn record(&mut self, record: &Record) {
        self.records.push(record.clone());
    }
}
