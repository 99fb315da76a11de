//! Stage-2 faults; those on configuration space go to [`super::config`].

use alloc::borrow::Cow;
use alloc::format;

use super::UNREACHABLE;
use super::config::{Part, mask};
use crate::access::{Access, FaultAction};
use crate::machine::Machine;
use crate::model::Model;
use crate::record::Event;
use crate::ripas::Ripas;
use crate::scenario::Crossing;

fn ones(width: u8) -> u64 {
    if width >= 8 { u64::MAX } else { (1 << (8 * width)) - 1 }
}

impl Model {
    /// Answers a stage-2 fault of the realm; `ipa` carries the alias bit.
    ///
    /// Choices: the host answers all ones in its PCI windows where nothing decodes, and injects an SEA elsewhere; an
    /// access to a DEV page of a TDI that is not in RUN reads all ones; an access without syndrome, or one to
    /// configuration space that is not 1, 2 or 4 aligned bytes, is an SEA.
    pub fn fault(&mut self, ipa: u64, access: Access, machine: &mut dyn Machine) -> FaultAction {
        let page = ipa & !self.half();
        let is_alias = ipa & self.half() != 0;
        let is_config = is_alias && ipa >> self.board.ipa_width == 0 && self.board.ecam.contains(page);
        let emulated = match access {
            Access::Read { width } if is_config => self.config_access(page, width, None, machine),
            Access::Write { width, value } if is_config => {
                self.config_access(page, width, Some(value), machine)
            }
            _ => None,
        };
        if let Some(value) = emulated {
            return FaultAction::Emulated(value);
        }
        let action = if ipa >> self.board.ipa_width != 0 {
            FaultAction::AddressSize
        } else if is_alias {
            self.fault_alias(page, access)
        } else {
            self.fault_protected(page, access, machine)
        };
        let (access, action_name) = (access_name(access), action_name(action));
        let event = Event::Fault { ipa, access: Cow::Borrowed(access), action: Cow::Borrowed(action_name) };
        self.emit(machine, event);
        if action == FaultAction::Stop {
            self.outcome = crate::final_state::Outcome::Stopped;
        }
        action
    }

    fn fault_alias(&mut self, page: u64, access: Access) -> FaultAction {
        let in_window = self.board.pci_windows.iter().any(|range| range.contains(page));
        match access {
            Access::Read { width } if in_window => {
                self.count_exit(None);
                FaultAction::Emulated(ones(width))
            }
            Access::Write { .. } if in_window => {
                self.count_exit(None);
                FaultAction::Emulated(0)
            }
            _ => {
                self.count_exit(None);
                FaultAction::Sea
            }
        }
    }

    fn fault_protected(&mut self, page: u64, access: Access, m: &mut dyn Machine) -> FaultAction {
        match self.ripas.get(page) {
            Ripas::Empty => FaultAction::Sea,
            Ripas::Destroyed => FaultAction::Stop,
            Ripas::Dev => match access {
                Access::Fetch => FaultAction::Sea,
                Access::Read { width } => FaultAction::Emulated(ones(width)),
                _ => FaultAction::Emulated(0),
            },
            Ripas::Ram => {
                self.violate(m, format!("stage-2 fault on a mapped RAM page {page:#x}"));
                FaultAction::Stop
            }
        }
    }

    /// One access to the ECAM; none if no host would emulate it.
    fn config_access(
        &mut self,
        page: u64,
        width: u8,
        write: Option<u64>,
        m: &mut dyn Machine,
    ) -> Option<u64> {
        let at = page - self.board.ecam.base;
        if !matches!(width, 1 | 2 | 4) || !at.is_multiple_of(u64::from(width)) {
            return None;
        }
        let rid = (u64::from(self.board.first_bus) << 8).wrapping_add(at >> 12) as u16;
        let offset = (at & 0xFFF) as u16;
        if rid == UNREACHABLE {
            self.count_exit(None);
            return Some(if write.is_some() { 0 } else { ones(width) });
        }
        let device = self.devices.iter().position(|device| device.rid == rid);
        self.count_exit(device);
        self.totals.config_accesses += 1;
        if let Some(index) = device {
            self.devices[index].counters.config_accesses += 1;
        }
        let crossing = if write.is_some() { Crossing::ConfigWrite } else { Crossing::ConfigRead };
        let due = self.arrive(crossing, m);
        let bits = u64::from(mask(width));
        let value = match write {
            None => {
                let truth = self.config_read(device, rid, offset, width, m);
                self.altered(&due, truth.into(), bits, m) as u32
            }
            Some(value) if self.refused(&due, m).is_some() => value as u32 & mask(width),
            Some(value) => {
                let value = self.altered(&due, value & bits, bits, m) as u32;
                self.config_write(device, rid, Part { offset, width, value }, m);
                value
            }
        };
        self.leave(&due, m);
        if self.scenario.config_records {
            self.emit(m, Event::Config { rid, offset, width, write: write.is_some(), value });
        }
        Some(if write.is_some() { 0 } else { u64::from(value) })
    }
}

fn access_name(access: Access) -> &'static str {
    match access {
        Access::Read { .. } => "read",
        Access::Write { .. } => "write",
        Access::Fetch => "fetch",
        Access::NoSyndrome { write: false } => "read-no-syndrome",
        Access::NoSyndrome { write: true } => "write-no-syndrome",
    }
}

fn action_name(action: FaultAction) -> &'static str {
    match action {
        FaultAction::Emulated(_) => "emulated",
        FaultAction::Sea => "sea",
        FaultAction::AddressSize => "address-size",
        FaultAction::Stop => "stop",
    }
}
