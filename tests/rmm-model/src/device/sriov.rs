//! Virtual functions (SR-IOV, PCIe base 9): the host keeps the physical function, starts its virtual ones, and shows
//! each assigned one as an ordinary function.

use alloc::vec::Vec;

use super::enumerate::parse_path;
use super::{Bar, registers};
use crate::machine::Machine;
use crate::model::Model;
use crate::scenario::{DeviceModel, DeviceSpec};
use crate::setup::SetupError;

/// Id and registers of the extended capability.
pub(super) const EXT_SRIOV: u16 = 0x10;
const CONTROL: u16 = 0x08;
const TOTAL_VFS: u16 = 0x0E;
const NUM_VFS: u16 = 0x10;
const FIRST_VF_OFFSET: u16 = 0x14;
const VF_STRIDE: u16 = 0x16;
const VF_DEVICE_ID: u16 = 0x1A;
const SYSTEM_PAGE_SIZE: u16 = 0x20;
const VF_BAR0: u16 = 0x24;
/// Control: VF Enable, VF Memory Space Enable.
const VF_ENABLE: u32 = 1;
const VF_MSE: u32 = 1 << 3;
/// Bit of System Page Size for 4 KiB.
const PAGE_4K: u32 = 1;

/// A physical function that the host keeps.
pub(super) struct Physical {
    pub(super) path: Vec<u8>,
    rid: u16,
    cap: u16,
    /// Virtual functions that are started.
    pub(super) count: u16,
    first: u16,
    stride: u16,
    /// First dword of each virtual function.
    pub(super) ids: u32,
    /// BARs of one virtual function; the address is that of the first one's.
    pub(super) bars: Vec<Bar>,
}

impl Physical {
    /// The function number of virtual function `number`, if it is on the same bus.
    fn devfn(&self, number: u16) -> Option<u8> {
        let own = u16::from(*self.path.last()?);
        let devfn = self.stride.checked_mul(number)?.checked_add(self.first)?.checked_add(own)?;
        u8::try_from(devfn).ok()
    }
}

impl Model {
    /// Finds the physical functions and sets their numbers of virtual functions.
    pub(super) fn find_physical(&mut self, m: &mut dyn Machine) -> Result<Vec<Physical>, SetupError> {
        let mut found: Vec<Physical> = Vec::new();
        let specs: Vec<DeviceSpec> = self.scenario.device.clone();
        for spec in specs.iter().filter(|spec| spec.model == DeviceModel::IgbVf) {
            let path = parse_path(&spec.pf).ok_or_else(|| SetupError::Slot(spec.pf.clone()))?;
            if found.iter().any(|physical| physical.path == path) {
                continue;
            }
            let rid = self.rid(&path);
            if !registers::is_there(m, rid) || registers::is_bridge(m, rid) {
                return Err(SetupError::NoFunction(spec.pf.clone()));
            }
            let same = specs.iter().filter(|other| other.model == DeviceModel::IgbVf && other.pf == spec.pf);
            let last = same.map(|other| other.vf).max().unwrap_or(0);
            let count = u16::from(last) + 1;
            let cap = registers::extended(m, rid, EXT_SRIOV);
            let cap = cap.filter(|cap| m.config_read(rid, cap + TOTAL_VFS, 2) as u16 >= count);
            let Some(cap) = cap else {
                let (slot, pf) = (spec.slot.clone(), spec.pf.clone());
                return Err(SetupError::NoVf { slot, pf, vf: last });
            };
            m.config_write(rid, cap + CONTROL, 2, 0);
            m.config_write(rid, registers::COMMAND, 2, 0);
            m.config_write(rid, cap + SYSTEM_PAGE_SIZE, 4, PAGE_4K);
            m.config_write(rid, cap + NUM_VFS, 2, u32::from(count));
            let mut bars = registers::bars_at(m, rid, cap + VF_BAR0, 6);
            registers::whole_pages(&mut bars);
            self.hidden.push((path.clone(), rid));
            found.push(Physical {
                path,
                rid,
                cap,
                count,
                first: m.config_read(rid, cap + FIRST_VF_OFFSET, 2) as u16,
                stride: m.config_read(rid, cap + VF_STRIDE, 2) as u16,
                ids: m.config_read(rid, cap + VF_DEVICE_ID, 2) << 16 | m.config_read(rid, 0, 2),
                bars,
            });
        }
        Ok(found)
    }

    /// The physical function of a virtual one, which must be where the scenario says.
    pub(super) fn physical_of<'a>(
        &self,
        spec: &DeviceSpec,
        path: &[u8],
        physical: &'a [Physical],
    ) -> Result<&'a Physical, SetupError> {
        let pf = parse_path(&spec.pf);
        let fits = |physical: &&Physical| {
            let number = u16::from(spec.vf);
            let mut own = physical.path.clone();
            Some(&physical.path) == pf.as_ref()
                && physical.devfn(number).is_some_and(|devfn| {
                    own.pop();
                    own.push(devfn);
                    own == path
                })
        };
        physical.iter().find(fits).ok_or_else(|| SetupError::NoVf {
            slot: spec.slot.clone(),
            pf: spec.pf.clone(),
            vf: spec.vf,
        })
    }

    /// Starts the virtual functions at the places found for them; those that are not assigned are hidden.
    pub(super) fn start_functions(
        &mut self,
        physical: &[Physical],
        m: &mut dyn Machine,
    ) -> Result<(), SetupError> {
        for physical in physical {
            registers::write_bars(m, physical.rid, physical.cap + VF_BAR0, &physical.bars);
            m.config_write(physical.rid, physical.cap + CONTROL, 2, VF_ENABLE | VF_MSE);
            for number in 0..physical.count {
                let Some(devfn) = physical.devfn(number) else { continue };
                let mut path = physical.path.clone();
                path.pop();
                path.push(devfn);
                match self.devices.iter().position(|device| device.path == path) {
                    None => {
                        let rid = self.rid(&path);
                        self.hidden.push((path, rid));
                    }
                    Some(index) => {
                        let device = &mut self.devices[index];
                        for (bar, first) in device.bars.iter_mut().zip(&physical.bars) {
                            bar.pa = first.pa + u64::from(number) * first.len;
                        }
                        // Ids of a virtual function read all ones; its class does not.
                        if m.config_read(device.rid, 8, 4) == u32::MAX {
                            return Err(SetupError::NoFunction(device.spec.slot.clone()));
                        }
                    }
                }
            }
        }
        for device in self.devices.iter().filter(|device| device.vf_ids.is_some()) {
            device.place(m);
        }
        Ok(())
    }
}
