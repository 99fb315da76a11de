//! The host as it drives a device: at the moments that the scenario names it programs the DMA engine of an edu behind the
//! realm's back, and looks whether the bytes arrived.
//!
//! It uses the real configuration space and the real BAR, which no lock of the model covers: what keeps the bytes away
//! is the SMMU alone. A real device would also refuse such accesses once it is locked.

use crate::layout::{ALIAS_BIT, PAGE};
use crate::machine::Hardware;
use crate::{cpu, log, mmio};
use alloc::string::String;
use alloc::vec::Vec;
use rmm_model::Scenario;
use rmm_model::final_state::TdiState;
use rmm_model::machine::{DmaGate, Machine};
use rmm_model::record::{Event, Record};
use rmm_model::ripas::Ripas;
use rmm_model::scenario::{DeviceModel, DmaMoment, DmaTarget, HostDma};
use serde_json::json;

const COMMAND: u16 = 0x04;
const COMMAND_MSE_BME: u32 = 0b110;
const BAR0: u16 = 0x10;
/// Registers of the edu (QEMU docs/specs/edu.rst), and its own address of its buffer.
const DMA_SOURCE: u64 = 0x80;
const DMA_DESTINATION: u64 = 0x88;
const DMA_COUNT: u64 = 0x90;
const DMA_COMMAND: u64 = 0x98;
const RUN_TO_MEMORY: u64 = 0b11;
const RUN: u64 = 0b01;
const BUFFER: u64 = 0x4_0000;
/// Bytes of a transfer: two values, one after the other, so that what is there already cannot be taken for what came.
const LEN: usize = 16;
/// Most milliseconds of a transfer; the device takes a tenth of a second.
const MAX_MILLISECONDS: u64 = 1000;

/// What is left to be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// Routing id, slot, what.
    attempts: Vec<(u16, String, HostDma)>,
    /// RAM that the realm shares now.
    shared: Option<u64>,
    /// Records of what the host itself does here are none.
    busy: bool,
}

impl Plan {
    /// Takes what the scenario wants: edus on bus 0.
    ///
    /// # Errors
    /// The scenario asks for something else.
    pub fn new(scenario: &Scenario) -> Result<Self, String> {
        let mut attempts = Vec::new();
        for device in &scenario.device {
            let number = |text: &str| u16::from_str_radix(text, 16).ok();
            let parts = device
                .slot
                .split_once('.')
                .and_then(|(slot, function)| Some((number(slot)?, number(function)?)));
            for attempt in &device.host_dma {
                let Some((slot, function)) = parts.filter(|_| device.model == DeviceModel::Edu) else {
                    return Err(alloc::format!("host_dma at {}: for an edu on bus 0 only", device.slot));
                };
                attempts.push((slot << 3 | function, device.slot.clone(), *attempt));
            }
        }
        Ok(Self { attempts, ..Self::default() })
    }
}

/// Which moment a record is, and whose; no routing id: of every device.
fn moment(event: &Event) -> Option<(DmaMoment, Option<u16>)> {
    match event {
        Event::Dma { rid, gate: DmaGate::SharedOnly } => Some((DmaMoment::Mastering, Some(*rid))),
        Event::Tdi { rid, to: TdiState::Locked, .. } => Some((DmaMoment::Locked, Some(*rid))),
        Event::Tdi { rid, to: TdiState::Unlocked, .. } => Some((DmaMoment::Unlocked, Some(*rid))),
        Event::Rsi { call, status: 0, vdev: Some(vdev), .. } if call == "RSI_VDEV_VALIDATE_MAPPING" => {
            Some((DmaMoment::Mapped, u16::try_from(*vdev).ok()))
        }
        Event::Dma { rid, gate: DmaGate::PrivateOnly } => Some((DmaMoment::Enabled, Some(*rid))),
        Event::PowerOff { .. } => Some((DmaMoment::End, None)),
        _ => None,
    }
}

/// Does what is due at this record.
pub fn on(hw: &mut Hardware, record: &Record) {
    if hw.host_dma.busy || hw.host_dma.attempts.is_empty() {
        return;
    }
    if let Event::Ripas { base, to, .. } = &record.event
        && hw.ram.contains(*base, PAGE)
    {
        hw.host_dma.shared = (*to == Ripas::Empty).then_some(*base);
    }
    let Some((now, whose)) = moment(&record.event) else { return };
    let is_due = |(rid, _, attempt): &(u16, String, HostDma)| {
        attempt.at == now && whose.is_none_or(|whose| whose == *rid)
    };
    let due: Vec<_> = hw.host_dma.attempts.extract_if(.., |attempt| is_due(attempt)).collect();
    hw.host_dma.busy = true;
    for (rid, slot, attempt) in due {
        let target = match attempt.to {
            // The last page of RAM: whoever uses it finds it as it was.
            DmaTarget::Private => Some(hw.ram.end() - PAGE),
            DmaTarget::Shared => hw.host_dma.shared,
        };
        let arrived = target.and_then(|page| try_one(hw, rid, page, attempt.to));
        log::value(&json!({
            "stub": "host-dma", "slot": slot, "at": attempt.at, "to": attempt.to, "arrived": arrived, "ticks": cpu::ticks(),
        }));
    }
    hw.host_dma.busy = false;
}

/// Tells whether the device wrote to the page; nothing when there is no such page or the transfer did not end.
fn try_one(hw: &mut Hardware, rid: u16, page: u64, to: DmaTarget) -> Option<bool> {
    let half = if to == DmaTarget::Shared { ALIAS_BIT } else { 0 };
    hw.stage2.find(hw.stage2.cpu, page | half)?;
    let command = hw.config_read(rid, COMMAND, 2);
    let bar = u64::from(hw.config_read(rid, BAR0, 4) & !0xf);
    hw.config_write(rid, COMMAND, 2, command | COMMAND_MSE_BME);
    let mut kept = [0; LEN];
    hw.ram.read(page, &mut kept);
    // The device's buffer holds zeros or what an earlier transfer left: two different marks cannot both be that.
    let mut arrived = Some(false);
    for mark in [0x5a, 0xa5] {
        hw.ram.write(page, &[mark; LEN]);
        let ended = transfer(bar, BUFFER, page | half, RUN_TO_MEMORY);
        let mut found = [0; LEN];
        hw.ram.read(page, &mut found);
        arrived = arrived.filter(|_| ended).map(|arrived| arrived || found != [mark; LEN]);
    }
    hw.ram.write(page, &kept);
    hw.config_write(rid, COMMAND, 2, command);
    arrived
}

/// Runs one transfer; false when it does not end.
fn transfer(bar: u64, source: u64, destination: u64, command: u64) -> bool {
    for (register, value) in [
        (DMA_SOURCE, source),
        (DMA_DESTINATION, destination),
        (DMA_COUNT, LEN as u64),
        (DMA_COMMAND, command),
    ] {
        mmio::write(bar + register, 8, value);
    }
    let begin = cpu::ticks();
    let most = cpu::counter_hz() / 1000 * MAX_MILLISECONDS;
    while cpu::ticks() - begin < most {
        if mmio::read(bar + DMA_COMMAND, 4) & RUN == 0 {
            return true;
        }
    }
    false
}
