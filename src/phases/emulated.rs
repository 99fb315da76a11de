//! Phase 3, besides PCI: what the host emulates on virtio-mmio, or in nodes that the policy names, and which rules take it.
//!
//! Nothing vouches for these devices. They reach shared memory only, whether they are shown or not.

use super::measure::{self, Entry};
use super::realm::Realm;
use super::stop::{OrStop, TransportFault};
use super::{Stop, StopReason};
use crate::addr::IpaRange;
use crate::codes::StopCode;
use crate::eventlog::{Disposition, Listed};
use crate::fdt::emulated::{Device, EmulatedNode, TRANSPORT_BYTES, VIRTIO_MMIO, read};
use crate::platform::{AccessSize, Half, IoError, IoWindow, Platform};
use crate::policy::inventory::Shown;
use crate::policy::types::{Match, Mode, Policy, Rest, Rule};
use alloc::string::ToString;
use alloc::vec::Vec;

/// MagicValue, "virt" (VIRTIO 1.2, 4.2.2).
const MAGIC_VALUE: u64 = 0x000;
const MAGIC: u32 = 0x7472_6976;
/// Version: 1 is the legacy interface, 2 the present one.
const VERSION: u64 = 0x004;
/// DeviceID; 0: nothing is there.
const DEVICE_ID: u64 = 0x008;
/// Status: 0 written resets the device, and is read when that is done.
const STATUS: u64 = 0x070;
/// How often the status is looked at after a reset.
const MAX_RESET_POLLS: u32 = 1_000;

/// What is there besides PCI.
#[derive(Debug, Default)]
pub(super) struct Emulated<'t> {
    transports: Vec<Transport>,
    /// The pages of the transports, each mapped once.
    windows: Vec<IoWindow>,
    /// For the payload, with the index of the rule.
    shown: Vec<(Device<'t>, usize)>,
}

#[derive(Clone, Copy, Debug)]
struct Transport {
    address: u64,
    /// Index of its page.
    window: usize,
    /// DeviceID.
    id: u32,
}

#[inline(never)]
pub(super) fn run<'t, P: Platform>(
    platform: &mut P,
    realm: &'t Realm,
    policy: &Policy,
    entries: &mut Vec<Entry>,
) -> Result<Emulated<'t>, Stop> {
    let code = StopCode::TreeContent;
    let named: Vec<&str> = policy.rules.iter().map(|rule| compatible(rule).unwrap_or_default()).collect();
    let devices = read(&realm.tree, &realm.machine, realm.rsi.width(), &named).or_stop(code)?;
    let mut found = Emulated::default();
    let mut room: Vec<u32> = policy.rules.iter().map(|rule| rule.count).collect();
    for device in devices {
        let at = device.address;
        let mut id = 0;
        if device.is_transport {
            match found.open(platform, at).or_stop(code)? {
                None => return Err(stop(code, at, TransportFault::NotVirtio)),
                Some(0) => continue,
                Some(of) => id = of,
            }
        }
        let index = if policy.audit { None } else { take(policy, &mut room, &device, id) };
        let rule = index.and_then(|index| policy.rules.get(index));
        let name = rule.map_or("none", |rule| &rule.name);
        crate::say::info!("emulated {}: type {id}, rule {name}", device.node);
        let disposition = match rule.and_then(|rule| rule.modes.first()) {
            None => Disposition::Extra,
            Some(Mode::Shared) => Disposition::Shared,
            Some(_) => Disposition::Hide,
        };
        let listed = Listed {
            slot: device.node.to_string(),
            shown: Shown { device: u16::try_from(id).unwrap_or(u16::MAX), ..Shown::default() },
            revision: 0,
            disposition,
            rule: measure::name(rule),
        };
        entries.push(Entry::new(listed, None));
        match (index, rule) {
            (Some(index), Some(rule)) if rule.modes.first() == Some(&Mode::Shared) => {
                found.shown.push((device, index));
            }
            _ if device.is_transport => {
                if !found.reset(platform).or_stop(StopCode::NotQuiet)? {
                    return Err(stop(StopCode::NotQuiet, at, TransportFault::NotReset));
                }
                if rule.is_none() && policy.rest == Rest::Stop && !policy.audit {
                    return Err(stop(StopCode::ExtraFunction, at, TransportFault::Extra));
                }
            }
            _ => {}
        }
    }
    for (rule, room) in policy.rules.iter().zip(room) {
        let is_ours = matches!(rule.matches, Match::VirtioMmio(_) | Match::Platform(_));
        if is_ours && rule.required && room > 0 && !policy.audit {
            let (rule, wanted) = (rule.name.clone(), rule.count);
            let reason = StopReason::Missing { rule, found: wanted.saturating_sub(room), wanted };
            return Err(Stop::new(StopCode::RequiredMissing, reason));
        }
    }
    Ok(found)
}

/// Returns the `compatible` string that a rule names.
fn compatible(rule: &Rule) -> Option<&str> {
    match &rule.matches {
        Match::Platform(compatible) => Some(compatible),
        _ => None,
    }
}

/// Finds the first rule that takes the device and has room.
fn take(policy: &Policy, room: &mut [u32], device: &Device<'_>, id: u32) -> Option<usize> {
    let mut named = device.named;
    for (index, (rule, room)) in policy.rules.iter().zip(room).enumerate() {
        let fits = match &rule.matches {
            Match::VirtioMmio(wanted) => device.is_transport && wanted.is_none_or(|wanted| wanted == id),
            _ => named & 1 != 0,
        };
        named >>= 1;
        if let Some(left) = room.checked_sub(1).filter(|_| fits) {
            *room = left;
            return Some(index);
        }
    }
    None
}

#[inline(never)]
fn stop(code: StopCode, at: u64, fault: TransportFault) -> Stop {
    Stop::new(code, StopReason::Transport { at, fault })
}

impl<'t> Emulated<'t> {
    /// Lists the devices for the payload.
    pub(super) fn nodes<'a>(&self, policy: &'a Policy) -> Vec<EmulatedNode<'a>>
    where
        't: 'a,
    {
        let mut nodes = Vec::new();
        for (device, index) in self.shown.iter().copied() {
            if let Some(rule) = policy.rules.get(index) {
                let compatible = compatible(rule).unwrap_or(VIRTIO_MMIO);
                nodes.push(EmulatedNode { device, compatible, rule: &rule.name });
            }
        }
        nodes
    }

    /// Asks once more what is there.
    ///
    /// # Errors
    /// [`StopCode::InventoryChanged`].
    pub(super) fn unchanged<P: Platform>(&self, platform: &mut P) -> Result<(), Stop> {
        let code = StopCode::InventoryChanged;
        for transport in &self.transports {
            if self.read(platform, transport, DEVICE_ID).or_stop(code)? != transport.id {
                return Err(stop(code, transport.address, TransportFault::Changed));
            }
        }
        Ok(())
    }

    /// Maps the page of a transport, unless it is, and asks what the transport is; `None`: no virtio.
    fn open<P: Platform>(&mut self, platform: &mut P, address: u64) -> Result<Option<u32>, IoError> {
        let page = IpaRange::covering(address, TRANSPORT_BYTES)?;
        let known = self.windows.iter().position(|window| window.range() == page);
        let mut transport = Transport { address, window: known.unwrap_or(self.windows.len()), id: 0 };
        if known.is_none() {
            self.windows.push(platform.map(page, Half::Unprotected)?);
        }
        let mut values = [0; 3];
        for (value, register) in values.iter_mut().zip([MAGIC_VALUE, VERSION, DEVICE_ID]) {
            *value = self.read(platform, &transport, register)?;
        }
        let [MAGIC, 1 | 2, id] = values else { return Ok(None) };
        transport.id = id;
        self.transports.push(transport);
        Ok(Some(id))
    }

    fn read<P: Platform>(&self, platform: &mut P, from: &Transport, register: u64) -> Result<u32, IoError> {
        let Some(window) = self.windows.get(from.window) else { return Ok(u32::MAX) };
        let offset = from.address.saturating_sub(window.range().base()).saturating_add(register);
        let value = platform.read(window, offset, AccessSize::Word)?;
        Ok(u32::try_from(value).unwrap_or(u32::MAX))
    }

    /// Resets the device opened last, so that it forgets the queues that the host may have given it.
    fn reset<P: Platform>(&self, platform: &mut P) -> Result<bool, IoError> {
        let Some(transport) = self.transports.last() else { return Ok(false) };
        let Some(window) = self.windows.get(transport.window) else { return Ok(false) };
        let offset = transport.address.saturating_sub(window.range().base()).saturating_add(STATUS);
        platform.write(window, offset, AccessSize::Word, 0)?;
        for _ in 0..MAX_RESET_POLLS {
            if self.read(platform, transport, STATUS)? == 0 {
                return Ok(true);
            }
            platform.relax();
        }
        Ok(false)
    }
}
