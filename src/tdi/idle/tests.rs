//! The idle checks over scripted registers: what is written, in which order, and what each lie leads to.
#![expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]

use super::*;
use crate::abi::pcie::{ALL_ONES_32, CLASS_NVME};
use crate::abi::{ahci as ahci_abi, xhci as xhci_abi};
use crate::arch::host::{HostMachine, HostPlatform, RealmRam, ipa_width};
use std::collections::BTreeMap;

const BASE: u64 = 0x1000_0000;
const SATA_PORTS: [u64; 2] = [0x118, 0x298];

/// What a controller does after a register was written.
type React = fn(&mut BTreeMap<u64, u32>, u64);

/// A controller: registers, and what it does.
struct Device {
    registers: BTreeMap<u64, u32>,
    /// A register that keeps its value, whatever happens.
    stuck: Option<(u64, u32)>,
    react: React,
    /// The reaction comes after so many loads.
    late: u32,
    due: Option<(u32, u64)>,
    loads: u32,
    stores: Vec<(u64, u32)>,
}

impl Device {
    fn new(registers: &[(u64, u32)], react: React) -> Self {
        let registers = registers.iter().copied().collect();
        Self { registers, stuck: None, react, late: 0, due: None, loads: 0, stores: Vec::new() }
    }

    fn with(mut self, register: u64, value: u32) -> Self {
        self.registers.insert(register, value);
        self
    }

    fn stuck(self, register: u64, value: u32) -> Self {
        Self { stuck: Some((register, value)), ..self }
    }

    fn late(self, late: u32) -> Self {
        Self { late, ..self }
    }

    fn react_to(&mut self, register: u64) {
        (self.react)(&mut self.registers, register);
    }
}

impl HostMachine for Device {
    fn smc(&mut self, _: &mut [u64; 18], _: &mut dyn RealmRam) {
        panic!("no call is needed")
    }

    fn io_read(&mut self, ipa: u64, size: AccessSize, _: &mut dyn RealmRam) -> u64 {
        assert_eq!(size, AccessSize::Word);
        self.loads += 1;
        match self.due.take() {
            Some((0, register)) => self.react_to(register),
            due => self.due = due.map(|(left, register)| (left - 1, register)),
        }
        // The alias bit is not set: the private half.
        let register = ipa - BASE;
        match self.stuck {
            Some((stuck, value)) if stuck == register => value.into(),
            _ => self.registers.get(&register).copied().unwrap_or(0).into(),
        }
    }

    fn io_write(&mut self, ipa: u64, size: AccessSize, value: u64, _: &mut dyn RealmRam) {
        assert_eq!(size, AccessSize::Word);
        let (register, value) = (ipa - BASE, u32::try_from(value).unwrap());
        self.stores.push((register, value));
        self.registers.insert(register, value);
        if self.late == 0 {
            self.react_to(register);
        } else {
            self.due = Some((self.late, register));
        }
    }
}

/// CSTS.RDY follows CC.EN.
fn nvme() -> Device {
    Device::new(&[(0, 0x0101_07ff), (8, 0x1_0400), (0x14, 0x46_0001), (0x1c, 1)], |registers, register| {
        if register == 0x14 {
            registers.insert(0x1c, registers[&0x14] & 1);
        }
    })
}

/// As the ICH9 of QEMU, with ports 0 and 3 implemented of six. PxCMD.CR follows ST, FR follows FRE.
fn ahci() -> Device {
    let registers = [(0, 0xc014_1f05), (4, 0x8000_0002), (0xc, 0b1001), (0x10, 0x1_0000)];
    let ports = SATA_PORTS.map(|port| (port, 0xc017));
    let other = (0x198, 0xc017);
    Device::new(&[&registers[..], &ports, &[other]].concat(), |registers, register| {
        let Some(command) = registers.get_mut(&register).filter(|_| SATA_PORTS.contains(&register)) else {
            return;
        };
        *command = *command & !0xc000 | (*command & 1) << 15 | (*command & 0x10) << 10;
    })
}

/// USBSTS.HCH is the opposite of USBCMD.R/S.
fn xhci() -> Device {
    let registers = [(0, 0x0100_0040), (4, 0x0800_1040), (0x40, 0x0d), (0x44, 0x18)];
    Device::new(&registers, |registers, register| {
        if register == 0x40 {
            registers.insert(0x44, registers[&0x44] & !1 | !registers[&0x40] & 1);
        }
    })
}

fn range(base: u64, len: u64) -> IpaRange {
    IpaRange::new(base, len).unwrap()
}

/// Runs the check for `class` with `len` private bytes at the start of `bar`; another BAR is private as well.
fn run_in(device: Device, class: u32, bar: u8, len: u64) -> (Result<Quiet, IdleError>, Device) {
    let mut platform = HostPlatform::new(device, ipa_width());
    let bars = [(3, range(BASE + 0x10_0000, 0x1000)), (bar, range(BASE, len))];
    let result = stop(&mut platform, class, false, &bars);
    (result, platform.machine)
}

fn run(device: Device, class: u32) -> (Result<Quiet, IdleError>, Device) {
    let bar = if class == ahci_abi::CLASS { 5 } else { 0 };
    run_in(device, class, bar, 0x4000)
}

fn error(device: Device, class: u32) -> IdleError {
    run(device, class).0.unwrap_err()
}

/// Makes a controller.
type Make = fn() -> Device;

fn kinds() -> [(u32, Make, Quiet); 3] {
    [
        (CLASS_NVME, nvme, Quiet::Nvme),
        (ahci_abi::CLASS, ahci, Quiet::Ahci),
        (xhci_abi::CLASS, xhci, Quiet::Xhci),
    ]
}

#[test]
fn a_running_controller_of_each_kind_is_stopped_and_keeps_its_other_bits() {
    for late in [0, 1, 7] {
        let nvme = run(nvme().late(late), CLASS_NVME);
        assert_eq!(nvme.0, Ok(Quiet::Nvme));
        assert_eq!(nvme.1.stores, [(0x14, 0x46_0000)]);
        let xhci = run(xhci().late(late), xhci_abi::CLASS);
        assert_eq!(xhci.0, Ok(Quiet::Xhci));
        assert_eq!(xhci.1.stores, [(0x40, 0x0c)]);
    }
    let (result, ahci) = run(ahci(), ahci_abi::CLASS);
    assert_eq!(result, Ok(Quiet::Ahci));
    // All command lists first, then reception; nothing in a port that is not implemented.
    assert_eq!(ahci.stores, [(0x118, 0xc016), (0x298, 0xc016), (0x118, 0x4006), (0x298, 0x4006)]);
    assert_eq!(ahci.registers[&0x198], 0xc017);
}

#[test]
fn a_controller_at_rest_passes() {
    let (result, device) = run(nvme().with(0x14, 0).with(0x1c, 0), CLASS_NVME);
    assert_eq!((result, device.stores), (Ok(Quiet::Nvme), vec![(0x14, 0)]));
    let (result, device) = run(ahci().with(0x118, 6).with(0x298, 6), ahci_abi::CLASS);
    assert_eq!((result, device.stores), (Ok(Quiet::Ahci), vec![]));
    let (result, device) = run(xhci().with(0x40, 0).with(0x44, 1), xhci_abi::CLASS);
    assert_eq!((result, device.stores), (Ok(Quiet::Xhci), vec![(0x40, 0)]));
}

#[test]
fn reception_is_stopped_only_after_the_command_list_has_stopped() {
    let (result, device) = run(ahci().late(9).with(0x298, 6), ahci_abi::CLASS);
    assert_eq!(result, Ok(Quiet::Ahci));
    // FRE is written with CR clear: what was read is what is written back.
    assert_eq!(device.stores, [(0x118, 0xc016), (0x118, 0x4006)]);
    assert_eq!(device.registers[&0x118], 6);
}

#[test]
fn a_controller_that_does_not_stop_is_refused_after_a_bounded_wait() {
    let running = |control, status| IdleError::Running { control, status };
    let (result, device) = run(nvme().stuck(0x1c, 1), CLASS_NVME);
    assert_eq!(result, Err(running(0x46_0000, 1)));
    assert!((MAX_POLLS..MAX_POLLS + 10).contains(&device.loads), "{}", device.loads);
    assert_eq!(error(nvme().stuck(0x14, 0x46_0001), CLASS_NVME), running(0x46_0001, 0));

    assert_eq!(error(xhci().stuck(0x44, 0x18), xhci_abi::CLASS), running(0x0c, 0x18));
    assert_eq!(error(xhci().stuck(0x40, 0x0d), xhci_abi::CLASS), running(0x0d, 0x19));
    let (result, device) = run(xhci().stuck(0x44, 0x801), xhci_abi::CLASS);
    assert_eq!(result, Err(running(0x0d, 0x801)));
    assert_eq!(device.stores, [], "a controller that is not ready may not be written to");

    let port = |port, command| IdleError::PortRunning { port, command };
    for (stuck, command) in [(0xc017, 0xc017), (0x8006, 0x8006), (0x7, 0x7), (0x4006, 0x4006), (0x16, 0x16)] {
        assert_eq!(error(ahci().stuck(0x298, stuck), ahci_abi::CLASS), port(3, command));
        assert_eq!(error(ahci().stuck(0x118, stuck), ahci_abi::CLASS), port(0, command));
    }
    assert_eq!(error(ahci().stuck(4, 2), ahci_abi::CLASS), running(2, 0));
}

#[test]
fn the_clock_ends_a_wait_as_well() {
    let mut platform = HostPlatform::new(nvme(), ipa_width());
    let bars = [(0, range(BASE, 0x1000))];
    let mut registers = Registers::map(&mut platform, 0, 0x1000, &bars).unwrap();
    registers.start = registers.start.wrapping_sub(5_000_000_001);
    assert_eq!(registers.wait(0x1c, 1, 0), Ok(1));
    assert_eq!(platform.machine.loads, 1);
}

#[test]
fn all_waits_of_a_check_share_one_bound() {
    let mut platform = HostPlatform::new(nvme(), ipa_width());
    let bars = [(0, range(BASE, 0x1000))];
    let mut registers = Registers::map(&mut platform, 0, 0x1000, &bars).unwrap();
    for _ in 0..3 {
        assert_eq!(registers.wait(0x1c, 1, 0), Ok(1));
    }
    assert_eq!(platform.machine.loads, MAX_POLLS + 3);
}

#[test]
fn ahci_is_enabled_before_anything_else_is_written() {
    let (result, device) = run(ahci().with(4, 2), ahci_abi::CLASS);
    assert_eq!(result, Ok(Quiet::Ahci));
    assert_eq!(device.stores[..2], [(4, 0x8000_0002), (0x118, 0xc016)]);
}

#[test]
fn a_register_that_does_not_answer_is_refused() {
    let registers: [(u32, Make, &[u64]); 3] = [
        (CLASS_NVME, nvme, &[0, 8, 0x14, 0x1c]),
        (ahci_abi::CLASS, ahci, &[0, 4, 0x10, 0x118, 0x298]),
        (xhci_abi::CLASS, xhci, &[0, 4, 0x40, 0x44]),
    ];
    for (class, device, registers) in registers {
        for register in registers {
            let got = error(device().stuck(*register, ALL_ONES_32), class);
            assert_eq!(got, IdleError::NoAnswer, "{class:#x} {register:#x}");
        }
    }
}

#[test]
fn a_device_that_only_has_the_class_is_refused() {
    let not_nvme = |cap, version| IdleError::NotNvme { cap, version };
    assert_eq!(error(nvme().with(0, 0x0101_0000), CLASS_NVME), not_nvme(0x0101_0000, 0x1_0400));
    for version in [0xffff, 0x3_0000] {
        assert_eq!(error(nvme().with(8, version), CLASS_NVME), not_nvme(0x0101_07ff, version));
    }

    let not_ahci = |ports, version| IdleError::NotAhci { cap: 0xc014_1f05, ports, version };
    for version in [0, 0x0900, 0x2_0000] {
        let (result, device) = run(ahci().with(0x10, version), ahci_abi::CLASS);
        assert_eq!((result, device.stores), (Err(not_ahci(0b1001, version)), vec![]));
    }
    // CAP.NP says six ports.
    for ports in [0, 0x7f, ALL_ONES_32] {
        assert_eq!(error(ahci().with(0xc, ports), ahci_abi::CLASS), not_ahci(ports, 0x1_0000));
    }
    for version in [0x0905, 0x1_0301] {
        assert_eq!(run(ahci().with(0x10, version), ahci_abi::CLASS).0, Ok(Quiet::Ahci));
    }

    // CAPLENGTH, then HCIVERSION; MaxSlots, then MaxPorts.
    for capability in [0x0100_001c, 0x0100_0041, 0x0080_0040, 0x0200_0040] {
        let (result, device) = run(xhci().with(0, capability), xhci_abi::CLASS);
        let parameters = 0x0800_1040;
        assert_eq!(result, Err(IdleError::NotXhci { capability, parameters }));
        assert_eq!(device.stores, []);
    }
    for parameters in [0x0800_1000, 0x0000_1040] {
        let got = error(xhci().with(4, parameters), xhci_abi::CLASS);
        assert_eq!(got, IdleError::NotXhci { capability: 0x0100_0040, parameters });
    }
}

#[test]
fn registers_outside_the_private_ranges_are_not_touched() {
    for (class, device, _) in kinds() {
        let bar = if class == ahci_abi::CLASS { 0 } else { 5 };
        let (result, device) = run_in(device(), class, bar, 0x4000);
        assert_eq!((result, device.loads), (Err(IdleError::NotPrivate), 0), "{class:#x}");
    }
    // The last port's registers end behind the first page.
    let device = || ahci().with(0, 0x1f).with(0xc, 1 << 31);
    assert_eq!(run_in(device(), ahci_abi::CLASS, 5, 0x1000).0, Err(IdleError::NotPrivate));
    assert_eq!(run_in(device(), ahci_abi::CLASS, 5, 0x2000).0, Ok(Quiet::Ahci));
    // One page is enough for all but the last ports.
    for (class, device, quiet) in kinds() {
        let bar = if class == ahci_abi::CLASS { 5 } else { 0 };
        assert_eq!(run_in(device(), class, bar, 0x1000).0, Ok(quiet));
    }
}

#[test]
fn only_the_registers_are_mapped_however_large_the_range_is() {
    let mut platform = HostPlatform::new(ahci(), ipa_width());
    let bars = [(5, range(BASE, 1 << 36))];
    let registers = Registers::map(&mut platform, 5, ahci_abi::REGISTERS_LEN, &bars).unwrap();
    assert_eq!(registers.window.range(), range(BASE, 0x2000));
}

#[test]
fn what_the_bundle_vouches_for_is_left_alone() {
    for class in [CLASS_NVME, ahci_abi::CLASS, 0x02_0000, 0xff_ffff] {
        let mut platform = HostPlatform::new(nvme(), ipa_width());
        assert_eq!(stop(&mut platform, class, true, &[]), Ok(Quiet::Device));
        assert_eq!((platform.machine.loads, platform.machine.stores.len()), (0, 0));
    }
}

#[test]
fn any_other_class_has_no_check() {
    for class in [0x00_ff00, 0x01_0601 ^ 1, 0x01_0800, 0x02_0000, 0x0c_0320] {
        assert_eq!(error(nvme(), class), IdleError::UnknownClass(class));
        assert_eq!(Quiet::choose(class, false), Err(IdleError::UnknownClass(class)));
    }
}
