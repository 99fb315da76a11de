//! The RHI calls, driven through [`gatehouse::rhi`].

use crate::common::script::*;
use crate::{Row, refused};
use gatehouse::abi::rhi::*;
use gatehouse::arch::host::RealmRam;
use gatehouse::codes::StopCode;
use gatehouse::phases::Stop;
use gatehouse::rhi::{Call, Client, Object, RhiError, TdiTarget};
use gatehouse::tdi::{Reason, Stage};

const MIB: u64 = 1 << 20;
/// Sharing unit of the host, where the answer is not about it.
const OFFERED: u64 = 0x4000;

/// Every status of DEN0148, two that it does not have (the low half of the second is success), and "no such call".
const STATUSES: [(u64, &str); 15] = [
    (0, "0 SUCCESS"),
    (1, "1 INCOMPLETE"),
    (2, "2 DATA_NOT_AVAILABLE"),
    (3, "3 INVALID_VDEV_ID"),
    (4, "4 INVALID_OBJECT"),
    (5, "5 INPUT"),
    (6, "6 DEVICE"),
    (7, "7 INVALID_OFFSET"),
    (8, "8 ACCESS_FAILED"),
    (9, "9 BUSY"),
    (0xa, "0xa ABORTED_OPERATION_HAD_COMPLETED"),
    (0xb, "0xb OBJECT_UNSUPPORTED"),
    (0xc, "0xc (reserved)"),
    (1 << 32, "0x100000000 (reserved)"),
    (u64::MAX, "all ones"),
];

const TAKEN: &str = "none";
const ASKED: &str = "none, the alignment is asked for";
const ABSENT: &str = "none, the sharing unit is 4 KiB";
const ENDED: &str = "none, it ended; the RMM is asked";

/// Statuses that the specification, or an implementation of spec-map, has for `call`; empty: it returns a value.
fn in_spec(call: Call) -> &'static [u64] {
    match call {
        Call::DaVersion
        | Call::DaFeatures
        | Call::HostconfVersion
        | Call::HostconfFeatures
        | Call::HostconfGetIpaChangeAlignment => &[],
        Call::DaObjectSize => &[0, 2, 3, 4, 0xb],
        Call::DaObjectRead => &[0, 2, 3, 4, 7, 8, 0xb],
        Call::DaVdevContinue => &[0, 1, 3, 6],
        Call::DaVdevGetMeasurements => &[0, 1, 3, 6, 8, 9],
        Call::DaVdevGetInterfaceReport => &[0, 1, 3, 6, 9],
        Call::DaVdevSetTdiState => &[0, 1, 3, 4, 6, 9],
        Call::DaVdevAbort => &[0, 3, 0xa],
    }
}

/// Values of a call without a status: words, gprs[0], what comes of it if it is taken, whether the specification has it.
fn values(call: Call) -> &'static [(&'static str, u64, Option<&'static str>, bool)] {
    match call {
        Call::DaVersion => &[
            ("1.0", 0x1_0000, Some(TAKEN), true),
            ("1.1", 0x1_0001, Some(TAKEN), true),
            ("2.0", 0x2_0000, None, true),
            ("0", 0, None, false),
            ("1", 1, None, false),
            ("all ones", u64::MAX, None, true),
        ],
        Call::DaFeatures => &[
            ("all", 0xff, Some(TAKEN), true),
            ("without CONTINUE, P2P_UNBIND, ABORT", 0x3b, Some(TAKEN), true),
            ("without OBJECT_SIZE", 0xfe, None, true),
            ("without OBJECT_READ", 0xfd, None, true),
            ("without GET_MEASUREMENTS", 0xf7, None, true),
            ("without GET_INTERFACE_REPORT", 0xef, None, true),
            ("without SET_TDI_STATE", 0xdf, None, true),
            ("none", 0, None, true),
            ("all ones", u64::MAX, None, true),
        ],
        Call::HostconfVersion => &[
            ("1.0", 0x1_0000, Some(ASKED), true),
            ("1.1", 0x1_0001, Some(ASKED), true),
            ("2.0", 0x2_0000, Some(ABSENT), true),
            ("0", 0, Some(ABSENT), false),
            ("all ones", u64::MAX, Some(ABSENT), true),
        ],
        Call::HostconfFeatures => &[
            ("alignment", 1, Some(ASKED), true),
            ("none", 0, Some(ABSENT), true),
            ("all ones", u64::MAX, Some(ABSENT), true),
        ],
        Call::HostconfGetIpaChangeAlignment => &[
            ("4 KiB", 0x1000, Some(TAKEN), true),
            ("64 KiB", 0x1_0000, Some(TAKEN), true),
            ("128 KiB", 0x2_0000, None, true),
            ("2 KiB", 0x800, None, false),
            ("12 KiB", 0x3000, None, false),
            ("0", 0, None, false),
            ("1", 1, None, false),
            ("all ones", u64::MAX, None, true),
        ],
        _ => &[],
    }
}

/// Answers that the status alone does not tell apart: words, gprs[0], gprs[1].
fn others(call: Call) -> &'static [(&'static str, u64, u64)] {
    match call {
        Call::DaObjectSize => &[("0, size 0", 0, 0), ("0, size 1 MiB + 1", 0, MIB + 1)],
        Call::DaObjectRead => &[("0, copied 0", 0, 0), ("0, copied 1 MiB + 1", 0, MIB + 1)],
        _ => &[],
    }
}

/// Returns how many answers of `call` the table must have.
pub fn num_statuses(call: Call) -> usize {
    if in_spec(call).is_empty() { values(call).len() } else { STATUSES.len() }
}

/// The rows of one call.
pub fn rows(call: Call) -> Vec<Row> {
    let row = |words: &str, in_spec: bool, result: Result<&'static str, RhiError>| {
        Row::new(call.name(), words, in_spec, result, |error| codes(call, error))
    };
    let mut rows = Vec::new();
    for (words, value, taken, in_spec) in values(call) {
        let result = negotiated(call, *value);
        // What the words promise.
        let unit = taken.map(|taken| match (taken, call) {
            (TAKEN, Call::HostconfGetIpaChangeAlignment) => *value,
            (ABSENT, _) => 0x1000,
            _ => OFFERED,
        });
        assert_eq!(result.as_ref().ok(), unit.as_ref(), "{call:?} {words}");
        rows.push(row(words, *in_spec, result.map(|_| taken.unwrap())));
    }
    for (status, words) in STATUSES.iter().filter(|_| !in_spec(call).is_empty()) {
        let in_spec = in_spec(call).contains(status) || *status == u64::MAX;
        let result = drive(call, *status, 16).map(|()| if *status == 0 { TAKEN } else { ENDED });
        let ends = *status == 0 && call != Call::DaVdevAbort || *status == 0xa && call == Call::DaVdevAbort;
        assert_eq!(result.is_ok(), ends, "{call:?} {words}");
        rows.push(row(words, in_spec, result));
    }
    for (words, status, value) in others(call) {
        let result = drive(call, *status, *value).map(|()| panic!("{call:?} {words}"));
        rows.push(row(words, false, result));
    }
    rows
}

/// Negotiates with a host that answers `call` so, and offers a unit that nobody assumes; returns the unit.
fn negotiated(call: Call, value: u64) -> Result<u64, RhiError> {
    let (session, _) = negotiate(|gprs| match gprs[0] {
        fid if fid == call.function_id() => gprs[0] = value,
        HOSTCONF_GET_IPA_CHANGE_ALIGNMENT => gprs[0] = OFFERED,
        _ => offers(gprs),
    });
    session.map(|session| session.sharing_unit())
}

/// Makes the call on a host that gives this answer: gprs[0], gprs[1].
fn drive(call: Call, status: u64, value: u64) -> Result<(), RhiError> {
    let host = |gprs: &mut Gprs, _: &mut dyn RealmRam| {
        // What leads to the call.
        let before = match gprs[0] {
            DA_OBJECT_SIZE => (DA_SUCCESS, 16),
            DA_VDEV_ABORT => (DA_SUCCESS, 0),
            _ => (DA_INCOMPLETE, 5),
        };
        let is_it = gprs[0] == call.function_id();
        (gprs[0], gprs[1]) = if is_it { (status, value) } else { before };
    };
    let read = |c: &mut Client<'_, Scripted<'_>>| c.read_object(vdev(), Object::Certificate).map(drop);
    // The object must be there to be copied.
    let host_read = |gprs: &mut Gprs, ram: &mut dyn RealmRam| match (gprs[0], call) {
        (DA_OBJECT_READ, Call::DaObjectSize) => (gprs[0], gprs[1]) = (DA_SUCCESS, 16),
        _ => host(gprs, ram),
    };
    match call {
        Call::DaObjectSize | Call::DaObjectRead => with_client(host_read, read).0,
        Call::DaVdevGetMeasurements => with_client(host, |c| c.get_measurements(vdev(), &[7; 32])).0,
        Call::DaVdevGetInterfaceReport => with_client(host, |c| c.get_interface_report(vdev())).0,
        Call::DaVdevSetTdiState | Call::DaVdevContinue | Call::DaVdevAbort => {
            with_client(host, |c| c.set_tdi_state(vdev(), TdiTarget::Locked)).0
        }
        _ => unreachable!("no status"),
    }
}

/// The codes of the steps that make the call.
fn codes(call: Call, error: RhiError) -> Vec<StopCode> {
    let stages: &[Stage] = match call {
        Call::DaObjectSize
        | Call::DaObjectRead
        | Call::DaVdevGetMeasurements
        | Call::DaVdevGetInterfaceReport => &[Stage::Collect],
        Call::DaVdevSetTdiState => &[Stage::Lock, Stage::Start],
        Call::DaVdevContinue | Call::DaVdevAbort => &[Stage::Lock, Stage::Collect, Stage::Start],
        _ => return vec![Stop::from(error).code],
    };
    stages.iter().map(|stage| refused(*stage, Reason::Rhi(error))).collect()
}
