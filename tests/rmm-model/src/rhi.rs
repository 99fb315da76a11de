//! The host: RHI (DEN0148).

mod objects;
mod operations;
mod schemes;

use alloc::borrow::Cow;

use crate::abi::{ALL_ONES, rhi::*};
use crate::machine::Machine;
use crate::model::Model;
use crate::record::Event;
use crate::rsi::{GARBAGE_STATUS, NUM_GPRS};
use crate::scenario::{Crossing, Lie, RhiCall, RhiOp};

/// How many gprs the call defines, and their values.
pub(crate) type Gprs = (usize, [u64; 4]);

/// Only a status.
fn status(status: u64) -> Gprs {
    (1, [status, 0, 0, 0])
}

/// A status and gprs[1].
fn with(status: u64, value: u64) -> Gprs {
    (2, [status, value, 0, 0])
}

/// A call: name, call, number of arguments, whether gprs[1] is a vdev_id.
struct Call(&'static str, RhiCall, usize, bool);

fn call(fid: u64) -> Option<Call> {
    Some(match fid {
        RHI_DA_VERSION => Call("RHI_DA_VERSION", RhiCall::DaVersion, 0, false),
        RHI_DA_FEATURES => Call("RHI_DA_FEATURES", RhiCall::DaFeatures, 0, false),
        RHI_DA_OBJECT_SIZE => Call("RHI_DA_OBJECT_SIZE", RhiCall::DaObjectSize, 2, true),
        RHI_DA_OBJECT_READ => Call("RHI_DA_OBJECT_READ", RhiCall::DaObjectRead, 5, true),
        RHI_HOSTCONF_VERSION => Call("RHI_HOSTCONF_VERSION", RhiCall::HostconfVersion, 0, false),
        RHI_HOSTCONF_FEATURES => Call("RHI_HOSTCONF_FEATURES", RhiCall::HostconfFeatures, 0, false),
        RHI_HOSTCONF_GET_IPA_CHANGE_ALIGNMENT => {
            Call("RHI_HOSTCONF_GET_IPA_CHANGE_ALIGNMENT", RhiCall::HostconfGetIpaChangeAlignment, 0, false)
        }
        RHI_DA_VDEV_CONTINUE => Call("RHI_DA_VDEV_CONTINUE", RhiCall::DaVdevContinue, 2, true),
        RHI_DA_VDEV_GET_MEASUREMENTS => {
            Call("RHI_DA_VDEV_GET_MEASUREMENTS", RhiCall::DaVdevGetMeasurements, 2, true)
        }
        RHI_DA_VDEV_GET_INTERFACE_REPORT => {
            Call("RHI_DA_VDEV_GET_INTERFACE_REPORT", RhiCall::DaVdevGetInterfaceReport, 1, true)
        }
        RHI_DA_VDEV_SET_TDI_STATE => Call("RHI_DA_VDEV_SET_TDI_STATE", RhiCall::DaVdevSetTdiState, 2, true),
        RHI_DA_VDEV_P2P_UNBIND => Call("RHI_DA_VDEV_P2P_UNBIND", RhiCall::DaVdevP2pUnbind, 2, true),
        RHI_DA_VDEV_ABORT => Call("RHI_DA_VDEV_ABORT", RhiCall::DaVdevAbort, 1, true),
        _ => return None,
    })
}

impl Model {
    /// Answers one RHI call; gprs[0] is the FID.
    pub(crate) fn rhi(&mut self, gprs: &[u64; NUM_GPRS], m: &mut dyn Machine) -> Gprs {
        self.totals.rhi_calls += 1;
        let host = &self.scenario.host;
        let offered = |call: &Call| match call.1 {
            RhiCall::HostconfVersion | RhiCall::HostconfFeatures | RhiCall::HostconfGetIpaChangeAlignment => {
                host.hostconf
            }
            _ => host.da,
        };
        let Some(Call(name, call, num_args, is_vdev)) = call(gprs[0]).filter(offered) else {
            let event = Event::Rhi {
                call: Cow::Borrowed("unknown"),
                args: gprs[..1].to_vec(),
                status: ALL_ONES,
                results: [].to_vec(),
                vdev: None,
            };
            self.emit(m, event);
            return status(ALL_ONES);
        };
        let device = is_vdev.then(|| self.device_by_id(gprs[1])).flatten();
        if let Some(index) = device {
            let counters = &mut self.devices[index].counters;
            counters.rhi_calls += 1;
            counters.rsi_calls += 1;
            counters.host_exits += 1;
        }
        let due = self.arrive(Crossing::Rhi(call), m);
        let told = self.refused(&due, m).or_else(|| self.rhi_status_lie(call, device, m));
        let mut answer = match told {
            Some(value) => status(value),
            None => self.rhi_call(call, gprs, device, m),
        };
        let is_read = call == RhiCall::DaObjectRead && answer.1[0] == SUCCESS;
        self.alter_gprs(&due, &mut answer, is_read.then_some(gprs[3] & !self.half()), m);
        self.leave(&due, m);
        let event = Event::Rhi {
            call: Cow::Borrowed(name),
            args: gprs[1..=num_args].to_vec(),
            status: answer.1[0],
            results: answer.1[1..answer.0].to_vec(),
            vdev: device.map(|_| gprs[1]),
        };
        self.emit(m, event);
        answer
    }

    fn rhi_call(
        &mut self,
        call: RhiCall,
        gprs: &[u64; NUM_GPRS],
        device: Option<usize>,
        m: &mut dyn Machine,
    ) -> Gprs {
        match call {
            RhiCall::DaVersion | RhiCall::HostconfVersion => return status(VERSION_1_0),
            RhiCall::DaFeatures => return status(DA_FEATURES_ALL & !self.scenario.host.da_features_missing),
            RhiCall::HostconfFeatures => return status(1),
            RhiCall::HostconfGetIpaChangeAlignment => return status(self.scenario.host.hostconf_granule),
            _ => {}
        }
        let Some(index) = device else {
            return status(INVALID_VDEV_ID);
        };
        match call {
            RhiCall::DaObjectSize => self.object_size(index, gprs[2], m),
            RhiCall::DaObjectRead => self.object_read(index, [gprs[2], gprs[3], gprs[4], gprs[5]], m),
            RhiCall::DaVdevContinue => self.proceed(index, gprs[2], m),
            RhiCall::DaVdevGetMeasurements => self.start_measurements(index, gprs[2], m),
            RhiCall::DaVdevGetInterfaceReport => self.start(index, RhiOp::Report, m),
            RhiCall::DaVdevSetTdiState => match gprs[2] {
                TDI_CONFIG_UNLOCKED => self.start(index, RhiOp::Unlock, m),
                TDI_CONFIG_LOCKED => self.start(index, RhiOp::Lock, m),
                TDI_RUN => self.start(index, RhiOp::Run, m),
                _ => status(INVALID_OBJECT),
            },
            RhiCall::DaVdevAbort => self.abort(index, m),
            _ => self.p2p_unbind(index, gprs[2], m),
        }
    }

    fn rhi_status_lie(&mut self, call: RhiCall, device: Option<usize>, m: &mut dyn Machine) -> Option<u64> {
        let lie = self.lie(m, device, |lie| match lie {
            Lie::RhiStatus { call: at, .. } | Lie::RhiGarbageStatus { call: at } => *at == call,
            _ => false,
        })?;
        Some(if let Lie::RhiStatus { status, .. } = lie { status } else { GARBAGE_STATUS })
    }
}
