//! Each invariant of the audit, broken on purpose behind the model's back: the audit must say so.

use super::Model;
use crate::board::{Board, PAGE};
use crate::device::{Device, Operation, Vdev};
use crate::final_state::{DevRange, TdiState};
use crate::machine::DmaGate;
use crate::scenario::{DeviceSpec, RhiOp, Scenario};
use crate::sim::{SimMachine, SparseRam};
use crate::stage2::Key;
use alloc::boxed::Box;
use alloc::vec;

/// Audits a good model, breaks it, and returns what the audit says then.
fn after(break_it: impl FnOnce(&mut Model)) -> alloc::string::String {
    let mut machine = SimMachine::new(Box::new(SparseRam::default()));
    let at = |slot: &str| DeviceSpec { slot: slot.into(), ..DeviceSpec::default() };
    let device = vec![at("02.0"), at("03.0")];
    let scenario = Scenario { device, ..Scenario::default() };
    let mut model = Model::new(&scenario, &Board::sim(), &mut machine).unwrap();
    model.audit(&mut machine);
    assert!(model.violations.is_empty(), "{:?}", model.violations);
    break_it(&mut model);
    model.audit(&mut machine);
    model.final_state().violations.first().cloned().unwrap_or_default()
}

#[test]
fn a_gate_that_is_open_while_the_tdi_does_not_run_is_a_violation() {
    for state in [TdiState::Unlocked, TdiState::Locked, TdiState::Error] {
        let said = after(|model| {
            model.devices[0].tdi = state;
            model.devices[0].gate = DmaGate::PrivateOnly;
        });
        assert!(said.starts_with("02.0: DMA of private memory while"), "{said:?}");
    }
}

#[test]
fn private_device_pages_of_an_unlocked_device_are_a_violation() {
    let range = DevRange { ipa: 0x1000_0000, pa: 0x2000_0000, len: PAGE };
    let said = after(|model| model.devices[0].dev.push(range));
    assert_eq!(said, "02.0: pages with RIPAS DEV without a VDEV");
}

#[test]
fn two_operations_of_one_parent_are_a_violation() {
    let pending = |device: &mut Device| {
        device.parent = "p".into();
        device.op = Some(Operation { op: RhiOp::Lock, handle: 1, left: None });
    };
    let said = after(|model| pending(&mut model.devices[0]));
    assert_eq!(said, "");
    let said = after(|model| model.devices.iter_mut().for_each(pending));
    assert_eq!(said, "03.0: a second operation of parent p");
}

#[test]
fn an_ordinary_function_with_private_dma_or_a_vdev_is_a_violation() {
    let said = after(|model| {
        model.devices[0].spec.tdi = false;
        model.devices[0].vdev = Some(Vdev::new(0x10, 0));
    });
    assert_eq!(said, "02.0: an ordinary function is treated as a TDI");
    let said = after(|model| {
        model.devices[0].spec.tdi = false;
        model.devices[0].gate = DmaGate::PrivateOnly;
    });
    assert_eq!(said, "02.0: an ordinary function is treated as a TDI");
}

#[test]
fn an_alias_of_private_ram_is_a_violation() {
    let page = Board::sim().ram[0].base;
    let said = after(|model| model.leaves.set(page, page + PAGE, Key::SharedRam));
    assert_eq!(said, "RAM page 0x40000000 has the leaf SharedRam");
}

#[test]
fn a_private_leaf_of_an_empty_page_is_a_violation() {
    let page = Board::sim().ram[0].base;
    let said = after(|model| model.ripas.set(page, page + PAGE, crate::ripas::Ripas::Empty));
    assert_eq!(said, "RAM page 0x40000000 has the leaf PrivateRam");
}
