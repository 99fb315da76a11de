//! A stand-in for the machine, for tests on the developer's computer: the firmware runs as ordinary code, a model
//! plays RMM, host and devices.
//!
//! Trust: the model plays everybody; what it says reaches the code under test unchanged.
//!
//! **RAM of the realm is this process's memory: IPA = virtual address**, so every buffer of the code under test is
//! "private RAM" and needs no registration. Host and model may name any address, and nobody can know all heap
//! blocks, so [`RealmRam`] takes every address from [`LOWEST_RAM`] up to the alias bit: a model that reads or writes
//! where no memory is crashes the test. That is why this module must stay out of anything but tests and tools.
//!
//! User addresses are below 2^47 on x86-64 and below 2^48 on arm64: [`ipa_width`] gives a width whose alias bit lies
//! above them. Both halves show the same memory; accesses strip the alias bit.

use crate::addr::{AddrError, IpaRange, IpaWidth};
use crate::conduit::{Conduit, FunctionId};
use crate::fdt::read::ConsoleKind;
use crate::platform::{AccessSize, Clock, Entropy, Half, Io, IoError, IoWindow};
use core::ptr;

/// Below this, no process has memory: accesses are dropped and read as zero.
pub const LOWEST_RAM: u64 = 0x1_0000;
/// Ticks per second of the simulated counter.
pub const TICKS_PER_SECOND: u64 = 1_000_000_000;
/// By how much each look at the counter moves it, in ticks.
pub const TICKS_PER_LOOK: u64 = 1_000;

/// Returns an IPA width whose protected half holds all addresses of this process: 48, on arm64 52.
#[must_use]
pub fn ipa_width() -> IpaWidth {
    let bits = if cfg!(target_arch = "aarch64") { 52 } else { 48 };
    IpaWidth::new(bits).expect("a width inside the allowed range")
}

/// RAM of the realm as the model sees it, by IPA; an alias bit is ignored.
pub trait RealmRam {
    /// Reads; what cannot be memory reads as zero.
    fn read(&mut self, ipa: u64, to: &mut [u8]);
    /// Writes; what cannot be memory is dropped.
    fn write(&mut self, ipa: u64, from: &[u8]);
}

/// RMM, host and devices: what answers the firmware.
pub trait HostMachine {
    /// Answers an SMC: `regs` are x0 to x17, in and out.
    fn smc(&mut self, regs: &mut [u64; 18], ram: &mut dyn RealmRam);
    /// Answers a load of `size` from a device window; `ipa` has the alias bit when the window is unprotected.
    fn io_read(&mut self, ipa: u64, size: AccessSize, ram: &mut dyn RealmRam) -> u64;
    /// Takes a store of `size` to a device window.
    fn io_write(&mut self, ipa: u64, size: AccessSize, value: u64, ram: &mut dyn RealmRam);
    /// Somebody may act in the middle of a copy out of a shared window: `ipa` is the first byte that is not copied yet.
    fn half_way(&mut self, _ipa: u64, _ram: &mut dyn RealmRam) {}
    /// Answers what the counter says instead of `ticks`.
    fn ticks(&mut self, ticks: u64) -> u64 {
        ticks
    }
}

/// The memory of this process as [`RealmRam`].
#[derive(Clone, Copy, Debug)]
pub struct HostRam {
    width: IpaWidth,
}

impl HostRam {
    /// Makes a view for a realm of `width`.
    #[must_use]
    pub fn new(width: IpaWidth) -> Self {
        Self { width }
    }

    /// Returns the address of `len` bytes, or `None` where no process has memory.
    fn address(self, ipa: u64, len: usize) -> Option<usize> {
        let alias = self.width.alias_bit();
        let start = ipa & !alias;
        let end = start.checked_add(u64::try_from(len).ok()?)?;
        (start >= LOWEST_RAM && end <= alias).then(|| usize::try_from(start).ok())?
    }
}

impl RealmRam for HostRam {
    fn read(&mut self, ipa: u64, to: &mut [u8]) {
        match self.address(ipa, to.len()) {
            // SAFETY: memory of this process, by the rule in the module doc: code under test exposed its address (a
            // `CallBuf`, a leaked buffer) and does not touch it during the call.
            Some(from) => unsafe {
                ptr::with_exposed_provenance::<u8>(from).copy_to_nonoverlapping(to.as_mut_ptr(), to.len());
            },
            None => to.fill(0),
        }
    }

    fn write(&mut self, ipa: u64, from: &[u8]) {
        if let Some(to) = self.address(ipa, from.len()) {
            // SAFETY: as in `read`, and the owner has mutable access to it.
            unsafe {
                ptr::with_exposed_provenance_mut::<u8>(to)
                    .copy_from_nonoverlapping(from.as_ptr(), from.len());
            }
        }
    }
}

/// Everything that [`crate::platform::Platform`] asks for, over a model.
#[derive(Debug)]
pub struct HostPlatform<M> {
    /// The model.
    pub machine: M,
    ram: HostRam,
    width: IpaWidth,
    firmware: Option<IpaRange>,
    console: Option<(ConsoleKind, IoWindow, u64)>,
    shared: alloc::vec::Vec<IpaRange>,
    ticks: u64,
    random: Option<u64>,
}

impl<M: HostMachine> HostPlatform<M> {
    /// Makes a platform for a realm of `width` ([`ipa_width`] fits real addresses), without RNDR and without a range
    /// of its own.
    #[must_use]
    pub fn new(machine: M, width: IpaWidth) -> Self {
        Self {
            machine,
            ram: HostRam::new(width),
            width,
            firmware: None,
            console: None,
            shared: alloc::vec::Vec::new(),
            ticks: 0,
            random: None,
        }
    }

    /// Says which range is the firmware: nothing but a shared window may be mapped there, and no tree may lie there.
    #[must_use]
    pub fn with_firmware(mut self, firmware: IpaRange) -> Self {
        self.firmware = Some(firmware);
        self
    }

    /// Gives the CPU an RNDR whose numbers follow from `seed`.
    #[must_use]
    pub fn with_random(mut self, seed: u64) -> Self {
        self.random = Some(seed);
        self
    }

    /// Returns what was made the console: kind, window, offset of the first register.
    #[must_use]
    pub fn console(&self) -> Option<&(ConsoleKind, IoWindow, u64)> {
        self.console.as_ref()
    }

    /// Returns the windows that are shared now.
    #[must_use]
    pub fn shared(&self) -> &[IpaRange] {
        &self.shared
    }

    fn outside_firmware(&self, range: IpaRange) -> Result<IpaRange, IoError> {
        match self.firmware {
            Some(firmware) if firmware.overlaps(&range) => Err(IoError::OverlapsFirmware(range)),
            _ => Ok(range.protected(self.width)?),
        }
    }

    fn address(&self, window: &IoWindow, offset: u64, len: usize) -> Result<u64, IoError> {
        let outside = IoError::Outside { offset, range: window.range() };
        let len = u64::try_from(len).map_err(|_| outside)?;
        window.address(self.width, offset, len).ok_or(outside)
    }

    fn register(&self, window: &IoWindow, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        let outside = IoError::Outside { offset, range: window.range() };
        if !offset.is_multiple_of(size.bytes()) {
            return Err(outside);
        }
        window.address(self.width, offset, size.bytes()).ok_or(outside)
    }
}

impl<M: HostMachine> Conduit for HostPlatform<M> {
    unsafe fn smc64(&mut self, fid: FunctionId, args: [u64; 17]) -> [u64; 18] {
        let mut regs = [0; 18];
        regs[0] = fid.0.into();
        regs[1..].copy_from_slice(&args);
        self.machine.smc(&mut regs, &mut self.ram);
        regs
    }
}

impl<M: HostMachine> Io for HostPlatform<M> {
    /// Takes only the width that the platform was made with: the addresses of this process depend on it.
    fn set_ipa_width(&mut self, width: IpaWidth) -> Result<(), AddrError> {
        if width == self.width { Ok(()) } else { Err(AddrError::BadWidth(width.bits().into())) }
    }

    fn set_console(&mut self, kind: ConsoleKind, window: IoWindow, offset: u64) -> Result<(), IoError> {
        self.address(&window, offset, 1)?;
        self.console = Some((kind, window, offset));
        Ok(())
    }

    fn map(&mut self, range: IpaRange, half: Half) -> Result<IoWindow, IoError> {
        Ok(IoWindow::mapped(self.outside_firmware(range)?, half))
    }

    fn map_shared(&mut self, range: IpaRange) -> Result<IoWindow, IoError> {
        let range = range.protected(self.width)?;
        if self.shared.iter().any(|other| other.overlaps(&range)) {
            return Err(IoError::Map(range));
        }
        self.shared.push(range);
        Ok(IoWindow::mapped(range, Half::Unprotected))
    }

    fn unmap_shared(&mut self, window: IoWindow) -> Result<(), IoError> {
        let range = window.range();
        let index = self.shared.iter().position(|r| *r == range).ok_or(IoError::Map(range))?;
        self.shared.swap_remove(index);
        Ok(())
    }

    fn read(&mut self, window: &IoWindow, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        let address = self.register(window, offset, size)?;
        Ok(self.machine.io_read(address, size, &mut self.ram))
    }

    fn write(&mut self, window: &IoWindow, offset: u64, size: AccessSize, value: u64) -> Result<(), IoError> {
        let address = self.register(window, offset, size)?;
        self.machine.io_write(address, size, value, &mut self.ram);
        Ok(())
    }

    fn copy_in(&mut self, window: &IoWindow, offset: u64, to: &mut [u8]) -> Result<(), IoError> {
        let address = self.address(window, offset, to.len())?;
        let (first, second) = to.split_at_mut(to.len() / 2);
        self.ram.read(address, first);
        let address = address + u64::try_from(first.len()).unwrap_or(0);
        self.machine.half_way(address, &mut self.ram);
        self.ram.read(address, second);
        Ok(())
    }

    fn copy_private(&mut self, ipa: u64, to: &mut [u8]) -> Result<(), IoError> {
        if let Ok(len @ 1..) = u64::try_from(to.len()) {
            self.outside_firmware(IpaRange::covering(ipa, len)?)?;
            self.ram.read(ipa, to);
        }
        Ok(())
    }

    /// The range must be memory of this process that nobody writes any more.
    fn map_private(&mut self, range: IpaRange) -> Result<&'static [u8], IoError> {
        let range = self.outside_firmware(range)?;
        let len = usize::try_from(range.len_bytes()).map_err(|_| IoError::Map(range))?;
        let address = self.ram.address(range.base(), len).ok_or(IoError::Map(range))?;
        // SAFETY: memory of this process, leaked by the test that names it, by the rule above.
        Ok(unsafe { core::slice::from_raw_parts(ptr::with_exposed_provenance(address), len) })
    }

    fn copy_out(&mut self, window: &IoWindow, offset: u64, from: &[u8]) -> Result<(), IoError> {
        let address = self.address(window, offset, from.len())?;
        self.ram.write(address, from);
        Ok(())
    }
}

impl<M: HostMachine> Clock for HostPlatform<M> {
    fn ticks(&mut self) -> u64 {
        self.ticks = self.ticks.saturating_add(TICKS_PER_LOOK);
        self.machine.ticks(self.ticks)
    }

    fn ticks_per_second(&self) -> u64 {
        TICKS_PER_SECOND
    }

    fn relax(&mut self) {}
}

impl<M> Entropy for HostPlatform<M> {
    /// SplitMix64 over the seed; for tests only.
    fn random(&mut self) -> Option<u64> {
        let state = self.random?.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random = Some(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(z ^ (z >> 31))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    /// Adds 1 to each register; writes the address of a load into the value; counts stores.
    #[derive(Default)]
    struct Echo(Vec<(u64, u64)>);

    impl HostMachine for Echo {
        fn smc(&mut self, regs: &mut [u64; 18], ram: &mut dyn RealmRam) {
            if regs[1] != 0 {
                ram.write(regs[1], b"answer");
            }
            for reg in regs {
                *reg = reg.wrapping_add(1);
            }
        }
        fn io_read(&mut self, ipa: u64, _: AccessSize, _: &mut dyn RealmRam) -> u64 {
            ipa
        }
        fn io_write(&mut self, ipa: u64, _: AccessSize, value: u64, _: &mut dyn RealmRam) {
            self.0.push((ipa, value));
        }
    }

    fn platform() -> HostPlatform<Echo> {
        HostPlatform::new(Echo::default(), ipa_width())
    }

    fn page() -> (Vec<u8>, u64) {
        let mut bytes = vec![0u8; 2 * 4096];
        let address = (bytes.as_mut_ptr().expose_provenance() as u64).next_multiple_of(4096);
        (bytes, address)
    }

    #[test]
    fn an_smc_sees_all_registers_and_may_write_realm_memory() {
        let (bytes, address) = page();
        let mut args = [7; 17];
        args[0] = address;
        // SAFETY: `bytes` is not touched during the call.
        let regs = unsafe { platform().smc64(FunctionId(5), args) };
        assert_eq!((regs[0], regs[1], regs[17]), (6, address + 1, 8));
        let offset = (address - bytes.as_ptr() as u64) as usize;
        assert_eq!(&bytes[offset..offset + 6], b"answer");
    }

    #[test]
    fn device_accesses_carry_the_alias_bit_of_their_half() {
        let mut p = platform();
        let range = IpaRange::new(0x4000_0000, 0x1000).unwrap();
        let window = p.map(range, Half::Unprotected).unwrap();
        let alias = ipa_width().alias_bit();
        assert_eq!(p.read(&window, 8, AccessSize::Word), Ok(0x4000_0008 | alias));
        let window = p.map(range, Half::Protected).unwrap();
        p.write(&window, 0xffc, AccessSize::Word, 3).unwrap();
        assert_eq!(p.machine.0, [(0x4000_0ffc, 3)]);
        let outside = |offset| Err(IoError::Outside { offset, range });
        assert_eq!(p.read(&window, 0xffe, AccessSize::Word), outside(0xffe));
        assert_eq!(p.read(&window, 0x1000, AccessSize::Byte), outside(0x1000));
    }

    #[test]
    fn a_shared_window_is_the_memory_behind_it_and_is_given_back_once() {
        let mut p = platform();
        let (_bytes, address) = page();
        let range = IpaRange::new(address, 4096).unwrap();
        let window = p.map_shared(range).unwrap();
        assert_eq!(p.map_shared(range), Err(IoError::Map(range)));
        p.copy_out(&window, 4090, b"sixby!").unwrap();
        let mut back = [0; 6];
        p.copy_in(&window, 4090, &mut back).unwrap();
        assert_eq!(&back, b"sixby!");
        p.copy_private(address + 4090, &mut back).unwrap();
        assert_eq!(&back, b"sixby!");
        assert!(p.copy_in(&window, 4091, &mut back).is_err());
        p.unmap_shared(window).unwrap();
        assert_eq!(p.unmap_shared(IoWindow::mapped(range, Half::Unprotected)), Err(IoError::Map(range)));
    }

    #[test]
    fn the_firmware_is_neither_mapped_nor_read_as_a_tree() {
        let firmware = IpaRange::new(0x20_0000, 0x20_0000).unwrap();
        let mut p = platform().with_firmware(firmware);
        let range = IpaRange::new(0x3f_f000, 0x2000).unwrap();
        assert_eq!(p.map(range, Half::Protected), Err(IoError::OverlapsFirmware(range)));
        assert!(matches!(p.copy_private(0x3f_fffc, &mut [0; 8]), Err(IoError::OverlapsFirmware(_))));
    }

    #[test]
    fn addresses_without_memory_read_as_zero() {
        let mut ram = HostRam::new(ipa_width());
        let mut bytes = [1; 4];
        ram.write(0x100, &[9]);
        ram.read(0x100, &mut bytes);
        assert_eq!(bytes, [0; 4]);
        bytes = [1; 4];
        ram.read(ipa_width().alias_bit() - 2, &mut bytes);
        assert_eq!(bytes, [0; 4]);
    }

    #[test]
    fn the_clock_moves_and_random_numbers_follow_the_seed() {
        let mut p = platform();
        assert!(p.ticks() < p.ticks());
        assert_eq!(p.random(), None);
        let (mut a, mut b) = (platform().with_random(1), platform().with_random(1));
        assert_eq!(a.random(), b.random());
        assert_ne!(a.random(), a.random());
    }
}
