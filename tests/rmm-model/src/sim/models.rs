//! The functions that a simulated machine can have, and what can be added to them.

use alloc::vec::Vec;

use super::function::{CAP_PM, FLR, Kind, SimBar, SimFunction};

const ROLE_BASED: u32 = 1 << 15;
/// BARs of a virtual function of the igb.
const IGB_VF_BARS: [SimBar; 2] =
    [SimBar { index: 0, len: 0x4000, is_64: true }, SimBar { index: 3, len: 0x4000, is_64: true }];

impl SimFunction {
    /// Makes the host bridge at 00.0.
    pub fn host_bridge() -> SimFunction {
        SimFunction::new(Kind::HostBridge, 0, 0, (0x1B36, 0x0008), 0x06_0000).done()
    }

    /// Makes an NVMe controller: one 64-bit BAR of 16 KiB, MSI-X table in page 2, pending bits in page 3, FLR.
    pub fn nvme(device: u8, function: u8) -> SimFunction {
        let mut made = SimFunction::new(Kind::Nvme, device, function, (0x1B36, 0x0010), 0x01_0802);
        made.bar(0, 0x4000, true, false);
        made.power_management();
        made.pcie(0, ROLE_BASED | FLR);
        made.msix(65, 0, 0x2000, 0x3000);
        made.done()
    }

    /// Makes a function like QEMU's `edu`: a 32-bit BAR of 1 MiB, a DMA engine, no PCI Express capability, no reset.
    pub fn edu(device: u8, function: u8) -> SimFunction {
        let mut made = SimFunction::new(Kind::Edu, device, function, (0x1234, 0x11E8), 0x00_FF00);
        made.bar(0, 0x10_0000, false, false);
        made.msi();
        made.done()
    }

    /// Makes a virtio-net: BAR 1 with MSI-X, BAR 4 with the registers.
    pub fn virtio_net(device: u8, function: u8) -> SimFunction {
        SimFunction::virtio(device, function, 0x1041, 0x02_0000)
    }

    /// Makes a virtio-blk, as [`SimFunction::virtio_net`].
    pub fn virtio_blk(device: u8, function: u8) -> SimFunction {
        SimFunction::virtio(device, function, 0x1042, 0x01_8000)
    }

    /// Makes a virtio-serial, as [`SimFunction::virtio_net`].
    pub fn virtio_serial(device: u8, function: u8) -> SimFunction {
        SimFunction::virtio(device, function, 0x1043, 0x07_8000)
    }

    fn virtio(device: u8, function: u8, id: u16, class: u32) -> SimFunction {
        let mut made = SimFunction::new(Kind::Plain, device, function, (0x1AF4, id), class);
        made.bar(1, 0x1000, false, false);
        made.bar(4, 0x4000, true, true);
        made.msix(4, 1, 0, 0x800);
        made.done()
    }

    /// Makes the physical function of an igb: FLR, and up to eight virtual functions, which the machine adds by itself
    /// and which answer while VF Enable is on: 64-bit BARs 0 and 3 of 16 KiB, MSI-X in BAR 3, FLR.
    pub fn igb(device: u8, function: u8) -> SimFunction {
        let mut made = SimFunction::new(Kind::Plain, device, function, (0x8086, 0x10C9), 0x02_0000);
        made.bar(0, 0x2_0000, false, false);
        made.bar(1, 0x2_0000, false, false);
        made.io_bar(2, 0x20);
        made.bar(3, 0x4000, false, false);
        made.power_management();
        made.pcie(0, ROLE_BASED | FLR);
        made.msix(10, 3, 0, 0x2000);
        made.extended(0x0E, &[0; 4]);
        made.virtual_functions(8, 0x10CA, &IGB_VF_BARS);
        made.done()
    }

    /// Makes virtual function `number` of the igb with index `physical`. Its ids read all ones, its BARs zero.
    pub(super) fn igb_vf(physical: usize, number: u16) -> SimFunction {
        let mut made = SimFunction::new(Kind::Plain, 0, 0, (0xFFFF, 0xFFFF), 0x02_0000);
        made.vf = Some((physical, number));
        made.mask(0x04, &[4, 4]);
        made.pcie(0, ROLE_BASED | FLR);
        made.msix(3, 3, 0, 0x2000);
        made.done()
    }

    /// Makes an AHCI controller of six ports: I/O BAR 4, registers in the 32-bit BAR 5 of 4 KiB, MSI, neither PCI
    /// Express capability nor reset.
    pub fn ahci(device: u8, function: u8) -> SimFunction {
        let mut made = SimFunction::new(Kind::Ahci, device, function, (0x8086, 0x2922), 0x01_0601);
        made.io_bar(4, 0x20);
        made.bar(5, 0x1000, false, false);
        made.msi();
        made.done()
    }

    /// Makes an xHCI controller: 64-bit BAR of 16 KiB, MSI-X table and pending bits in its last page, no reset.
    pub fn xhci(device: u8, function: u8) -> SimFunction {
        let mut made = SimFunction::new(Kind::Xhci, device, function, (0x1B36, 0x000D), 0x0C_0330);
        made.bar(0, 0x4000, true, false);
        made.pcie(0, ROLE_BASED);
        made.msix(16, 0, 0x3000, 0x3800);
        made.done()
    }

    /// Makes an endpoint without registers of its own: PCI Express, FLR, power management; give it BARs.
    pub fn endpoint(device: u8, function: u8) -> SimFunction {
        let mut made = SimFunction::new(Kind::Plain, device, function, (0x1B36, 0x0005), 0x00_FF00);
        made.power_management();
        made.pcie(0, ROLE_BASED | FLR);
        made.done()
    }

    /// Makes a root port.
    pub fn root_port(device: u8, function: u8) -> SimFunction {
        SimFunction::port(Kind::RootPort, device, function, (0x1B36, 0x000C), 4)
    }

    /// Makes the upstream port of a switch.
    pub fn upstream_port(device: u8, function: u8) -> SimFunction {
        SimFunction::port(Kind::UpstreamPort, device, function, (0x104C, 0x8232), 5)
    }

    /// Makes a downstream port of a switch.
    pub fn downstream_port(device: u8, function: u8) -> SimFunction {
        SimFunction::port(Kind::DownstreamPort, device, function, (0x104C, 0x8233), 6)
    }

    fn port(kind: Kind, device: u8, function: u8, ids: (u16, u16), device_type: u8) -> SimFunction {
        let mut made = SimFunction::new(kind, device, function, ids, 0x06_0400);
        made.put(0x0E, &[1]);
        made.mask(0x18, &[0xFF; 3]);
        made.mask(0x20, &[0xF0, 0xFF, 0xF0, 0xFF, 0xF0, 0xFF, 0xF0, 0xFF]);
        made.put(0x24, &[1, 0, 1, 0]);
        made.mask(0x28, &[0xFF; 8]);
        made.mask(0x3E, &[0x7F]);
        made.pcie(device_type, ROLE_BASED);
        made.done()
    }

    fn power_management(&mut self) {
        self.capability(CAP_PM, 0x01, &[3, 0, 0, 0, 0, 0]);
        self.mask(CAP_PM + 4, &[3]);
    }

    fn msi(&mut self) {
        self.capability(0x40, 0x05, &[0x80, 0, 0, 0, 0, 0]);
        self.mask(0x42, &[1]);
    }

    /// Puts the function behind the bridge with this index in the machine's list.
    pub fn behind(mut self, bridge: usize) -> SimFunction {
        self.parent = Some(bridge);
        self
    }

    /// Shows other ids and another class code.
    pub fn with_ids(mut self, vendor: u16, device: u16, class: u32) -> SimFunction {
        self.put(0x00, &vendor.to_le_bytes());
        self.put(0x02, &device.to_le_bytes());
        self.put(0x09, &class.to_le_bytes()[..3]);
        self.done()
    }

    /// Adds a memory BAR of `len` bytes, a power of two.
    pub fn with_bar(mut self, index: usize, len: u64, is_64: bool, is_prefetchable: bool) -> SimFunction {
        self.bar(index, len, is_64, is_prefetchable);
        self.done()
    }

    /// Sets the multi-function bit.
    pub fn multi_function(mut self) -> SimFunction {
        let header = self.word(0x0C) as u32 | 1 << 23;
        self.put(0x0C, &header.to_le_bytes());
        self.done()
    }

    /// Makes it function `number` of an ARI device; `next` is the next function of the device, 0 at its end.
    pub fn ari(mut self, number: u8, next: u8) -> SimFunction {
        self.devfn = number;
        self.extended(0x0E, &[0, next, 0, 0]);
        self.done()
    }

    /// Adds an expansion ROM of `len` bytes.
    pub fn with_rom(mut self, len: u32) -> SimFunction {
        self.mask(0x30, &(!(len - 1) | 1).to_le_bytes());
        self.done()
    }

    /// Adds a resizable BAR capability for BAR 0, now 1 MiB.
    pub fn resizable(mut self) -> SimFunction {
        let mut body = Vec::from(0x3F0u32.to_le_bytes());
        body.extend((1u32 << 5).to_le_bytes());
        let cap = self.extended(0x15, &body);
        self.mask(cap + 9, &[0x3F]);
        self.done()
    }
}
