//! The machine behind the traits of [`crate::platform`] and [`crate::conduit`].
//!
//! Trust: ranges and addresses come from the host's device tree or the RMM: none may touch the firmware.

use super::image::Layout;
use super::jump::{self, Handoff};
use super::mmu::{CannotMap, PageTable};
use super::{console, cpu, mmio, smc};
use crate::addr::{AddrError, IpaRange, IpaWidth};
use crate::boot::place::Room;
use crate::codes::StopCode;
use crate::conduit::{Conduit, FunctionId};
use crate::fdt::read::ConsoleKind;
use crate::platform::{AccessSize, Clock, Entropy, Half, Io, IoError, IoWindow};
use core::num::NonZeroUsize;
use core::{ptr, slice};

/// The one machine: `start` makes it and the binary's main gets it.
pub struct Machine {
    layout: Layout,
    table: PageTable,
    width: Option<IpaWidth>,
    room: Option<IpaRange>,
    /// Pages beside the image that are mapped for good.
    private: Option<IpaRange>,
}

impl Machine {
    pub(super) fn new(layout: Layout, table: PageTable) -> Self {
        Self { room: layout.room(), layout, table, width: None, private: None }
    }

    /// Returns where the firmware lies.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the appended bundle, or `None` when the slot names none.
    #[must_use]
    pub fn bundle(&self) -> Option<&'static [u8]> {
        let range = self.layout.bundle_range()?;
        let len = usize::try_from(self.layout.slot().bundle_len.get()).ok()?;
        // SAFETY: `Layout` checked its place; `PageTable::activate` mapped it read-only for good; nothing writes it.
        Some(unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(range.base() as usize), len) })
    }

    /// Returns the free memory between bundle and heap; the second time an empty one.
    pub fn take_room(&mut self) -> Room<'static> {
        let Some(range) = self.room.take() else { return Room::default() };
        let start = ptr::with_exposed_provenance_mut(range.base() as usize);
        // SAFETY: `PageTable::activate` mapped the range writable for good; `Layout` keeps it apart from all else that is
        // mapped; it is handed out once. It is RAM, and every byte pattern is a `u8`.
        Room::new(range.base(), unsafe { slice::from_raw_parts_mut(start, range.len_bytes() as usize) })
    }

    /// Leaves the firmware for the payload; see [`crate::arch::aarch64::jump`].
    ///
    /// # Panics
    /// While a window is shared: the payload would get a hole in its RAM.
    pub fn jump(self, handoff: &Handoff) -> ! {
        assert!(!self.table.has_shared(), "a window is still shared");
        #[cfg(gatehouse_fault)]
        super::fault::usage(&self.layout);
        jump::jump(&self.layout, handoff)
    }

    /// Powers the realm off; the code goes out in x1.
    pub fn power_off(self, code: StopCode) -> ! {
        #[cfg(gatehouse_fault)]
        super::fault::usage(&self.layout);
        smc::system_off(code)
    }

    /// Tells whether the range touches memory that Rust has references to.
    fn is_owned(&self, range: &IpaRange) -> bool {
        self.layout.area().overlaps(range) || self.private.is_some_and(|private| private.overlaps(range))
    }

    /// Returns the address of `len` bytes at `offset` of a window; never one of Rust memory, whoever made the window.
    fn address(&self, window: &IoWindow, offset: u64, len: u64) -> Result<u64, IoError> {
        self.width
            .filter(|_| window.half() == Half::Unprotected || !self.is_owned(&window.range()))
            .and_then(|width| window.address(width, offset, len))
            .ok_or(IoError::Outside { offset, range: window.range() })
    }

    /// Returns the address of one aligned access.
    fn register(&self, window: &IoWindow, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        if !offset.is_multiple_of(size.bytes()) {
            return Err(IoError::Outside { offset, range: window.range() });
        }
        self.address(window, offset, size.bytes())
    }

    /// Returns the width once it is known, having checked that `range` lies in the protected half.
    fn width_for(&self, range: IpaRange) -> Result<IpaWidth, IoError> {
        let width = self.width.ok_or(IoError::Map(range))?;
        range.protected(width)?;
        Ok(width)
    }
}

impl Conduit for Machine {
    unsafe fn smc64(&mut self, fid: FunctionId, args: [u64; 17]) -> [u64; 18] {
        // SAFETY: the caller's contract is the same.
        unsafe { smc::smc64(fid.0, args) }
    }
}

impl Io for Machine {
    fn set_ipa_width(&mut self, width: IpaWidth) -> Result<(), AddrError> {
        if width.bits() > cpu::output_address_bits() {
            return Err(AddrError::BadWidth(width.bits().into()));
        }
        self.width = Some(width);
        Ok(())
    }

    fn set_console(&mut self, kind: ConsoleKind, window: IoWindow, offset: u64) -> Result<(), IoError> {
        let (len, align) = console::registers(kind);
        let address = self.address(&window, offset, len)?;
        let outside = IoError::Outside { offset, range: window.range() };
        if !address.is_multiple_of(align) {
            return Err(outside);
        }
        let address = NonZeroUsize::new(address as usize).ok_or(outside)?;
        // SAFETY: `map` mapped the window as device memory for good; it is given up here, so nothing else uses it. The
        // registers lie in it and are aligned: checked above.
        unsafe { console::open(kind, address) };
        Ok(())
    }

    fn map(&mut self, range: IpaRange, half: Half) -> Result<IoWindow, IoError> {
        if self.is_owned(&range) {
            return Err(IoError::OverlapsFirmware(range));
        }
        let alias = match (half, self.width_for(range)?) {
            (Half::Protected, _) => 0,
            (Half::Unprotected, width) => width.alias_bit(),
        };
        self.table.map_device(&range, alias).map_err(|CannotMap| IoError::Map(range))?;
        Ok(IoWindow::mapped(range, half))
    }

    fn map_shared(&mut self, range: IpaRange) -> Result<IoWindow, IoError> {
        let owned = self.layout.heap().contains(&range);
        if !owned && self.is_owned(&range) {
            return Err(IoError::OverlapsFirmware(range));
        }
        let width = self.width_for(range)?;
        self.table.map_shared(&range, width, owned).map_err(|CannotMap| IoError::Map(range))?;
        #[cfg(gatehouse_fault)]
        super::fault::plant_in(&range, width.alias_bit());
        Ok(IoWindow::mapped(range, Half::Unprotected))
    }

    fn unmap_shared(&mut self, window: IoWindow) -> Result<(), IoError> {
        let range = window.range();
        let width = self.width_for(range)?;
        let owned = self.layout.heap().contains(&range);
        self.table.unmap_shared(&range, width, owned).map_err(|CannotMap| IoError::Map(range))?;
        #[cfg(gatehouse_fault)]
        if owned {
            super::fault::plant_in(&range, 0);
        }
        Ok(())
    }

    fn read(&mut self, window: &IoWindow, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        let address = self.register(window, offset, size)?;
        // SAFETY: inside a window that `map` or `map_shared` mapped, outside Rust memory, aligned.
        Ok(unsafe { mmio::read(address, size) })
    }

    fn write(&mut self, window: &IoWindow, offset: u64, size: AccessSize, value: u64) -> Result<(), IoError> {
        let address = self.register(window, offset, size)?;
        // SAFETY: as in `read`.
        unsafe { mmio::write(address, size, value) };
        Ok(())
    }

    fn copy_in(&mut self, window: &IoWindow, offset: u64, to: &mut [u8]) -> Result<(), IoError> {
        let address = self.address(window, offset, to.len() as u64)?;
        // SAFETY: inside a window that `map` or `map_shared` mapped, outside Rust memory.
        unsafe { mmio::copy_in(address, to) };
        Ok(())
    }

    fn copy_private(&mut self, ipa: u64, to: &mut [u8]) -> Result<(), IoError> {
        if to.is_empty() {
            return Ok(());
        }
        let range = IpaRange::covering(ipa, to.len() as u64)?;
        self.width_for(range)?;
        if self.is_owned(&range) {
            return Err(IoError::OverlapsFirmware(range));
        }
        let copy = || {
            // SAFETY: mapped by `with_private` around this call; private RAM (the caller asked the RMM) outside the
            // firmware, and this REC is the only one that runs.
            unsafe {
                let from = ptr::with_exposed_provenance::<u8>(ipa as usize);
                from.copy_to_nonoverlapping(to.as_mut_ptr(), to.len());
            }
        };
        self.table.with_private(&range, copy).map_err(|CannotMap| IoError::Map(range))
    }

    fn map_private(&mut self, range: IpaRange) -> Result<&'static [u8], IoError> {
        self.width_for(range)?;
        if self.is_owned(&range) {
            return Err(IoError::OverlapsFirmware(range));
        }
        if self.private.is_some() {
            return Err(IoError::Map(range));
        }
        self.table.map_private(&range).map_err(|CannotMap| IoError::Map(range))?;
        self.private = Some(range);
        // SAFETY: mapped read-only for good; private RAM (the caller asked the RMM) outside the firmware, and nothing else
        // is mapped or copied there from here on: `is_owned`.
        Ok(unsafe {
            slice::from_raw_parts(
                ptr::with_exposed_provenance(range.base() as usize),
                range.len_bytes() as usize,
            )
        })
    }

    fn copy_out(&mut self, window: &IoWindow, offset: u64, from: &[u8]) -> Result<(), IoError> {
        let address = self.address(window, offset, from.len() as u64)?;
        // SAFETY: as in `copy_in`.
        unsafe { mmio::copy_out(address, from) };
        Ok(())
    }
}

impl Clock for Machine {
    fn ticks(&mut self) -> u64 {
        cpu::ticks()
    }

    fn ticks_per_second(&self) -> u64 {
        cpu::ticks_per_second()
    }

    fn relax(&mut self) {
        cpu::relax();
    }
}

impl Entropy for Machine {
    fn random(&mut self) -> Option<u64> {
        cpu::random()
    }
}
