//! The RHI client alone: each status is its own error, the host's values are checked, every operation ends.
mod common;

use common::script::*;
use gatehouse::abi::rhi::*;
use gatehouse::abi::rsi::{RSI_HOST_CALL, RSI_IPA_STATE_SET};
use gatehouse::arch::host::RealmRam;
use gatehouse::rhi::{Call, Client, Object, RhiError, Session, Status, TdiTarget};
use gatehouse::rsi::{self, Command, RsiError, StateSetError};

const STATUSES: [(u64, Status); 13] = [
    (1, Status::Incomplete),
    (2, Status::DataNotAvailable),
    (3, Status::InvalidVdevId),
    (4, Status::InvalidObject),
    (5, Status::Input),
    (6, Status::Device),
    (7, Status::InvalidOffset),
    (8, Status::AccessFailed),
    (9, Status::Busy),
    (0xa, Status::AbortedOperationHadCompleted),
    (0xb, Status::ObjectUnsupported),
    (0xc, Status::Other(0xc)),
    (u64::MAX, Status::NotSupported),
];
const MIB: u64 = 1 << 20;
/// How often an operation is started or continued before it is aborted.
const BOUND: usize = 100_000;

fn status(call: Call, status: Status) -> RhiError {
    RhiError::Status { call, status }
}

fn bad(call: Call, register: u8, value: u64) -> RhiError {
    RhiError::BadReply { call, register, value }
}

#[test]
fn a_host_without_the_interface_is_refused_by_name() {
    let error = |fid, answer| negotiate(answering(fid, answer)).0.unwrap_err();
    assert_eq!(error(DA_VERSION, NOT_SUPPORTED), status(Call::DaVersion, Status::NotSupported));
    for version in [0, 0xffff, 0x2_0000, 1 << 32, 0x1_0001_0000] {
        assert_eq!(error(DA_VERSION, version), bad(Call::DaVersion, 0, version));
    }
    assert!(negotiate(answering(DA_VERSION, 0x1_0007)).0.is_ok(), "a later 1.x");
    assert_eq!(error(DA_FEATURES, NOT_SUPPORTED), status(Call::DaFeatures, Status::NotSupported));
    for bit in [0, 1, 3, 4, 5] {
        let mask = 0xff & !(1 << bit);
        assert_eq!(error(DA_FEATURES, mask), RhiError::MissingFeatures(mask));
    }
    let session = negotiate(answering(DA_FEATURES, 0xffff_ff3b)).0.unwrap();
    assert_eq!(
        session.features().bits(),
        0x3b,
        "CONTINUE, P2P_UNBIND, ABORT are not needed, more is ignored"
    );
}

#[test]
fn the_sharing_unit_is_a_power_of_two_up_to_64_kib() {
    let fid = HOSTCONF_GET_IPA_CHANGE_ALIGNMENT;
    for unit in [0x1000, 0x2000, 0x4000, 0x8000, 0x1_0000] {
        let (session, changes) = negotiate(answering(fid, unit));
        assert_eq!(session.unwrap().sharing_unit(), unit);
        let [_, base, top, ..] = changes[0];
        assert!(base.is_multiple_of(unit) && top.is_multiple_of(unit) && top - base > MIB);
        assert!(top - base - MIB <= 0x1000 + unit);
    }
    for unit in [0, 1, 0x800, 0xfff, 0x1800, 0x3000, 0x1_0001, 0x2_0000, 1 << 63, u64::MAX] {
        let (error, changes) = negotiate(answering(fid, unit));
        assert_eq!(error.unwrap_err(), bad(Call::HostconfGetIpaChangeAlignment, 0, unit));
        assert!(changes.is_empty(), "nothing is shared");
    }
}

#[test]
fn without_hostconf_the_unit_is_4_kib() {
    for (fid, answer) in [
        (HOSTCONF_VERSION, NOT_SUPPORTED),
        (HOSTCONF_VERSION, 0x2_0000),
        (HOSTCONF_FEATURES, NOT_SUPPORTED),
        (HOSTCONF_FEATURES, 0),
        (HOSTCONF_FEATURES, 2),
    ] {
        let host = move |gprs: &mut Gprs| {
            assert_ne!(gprs[0], HOSTCONF_GET_IPA_CHANGE_ALIGNMENT, "not asked for what is not offered");
            answering(fid, answer)(gprs);
        };
        assert_eq!(negotiate(host).0.unwrap().sharing_unit(), 4096, "{fid:#x} {answer:#x}");
    }
}

#[test]
fn a_carrier_or_a_window_that_fails_is_named() {
    let rsi = session();
    let mut dead = platform(|regs, _| regs[0] = 4);
    let error = RsiError::Status { command: Command::HostCall, status: rsi::Status::Unknown };
    assert_eq!(Session::negotiate(&mut dead, &rsi).unwrap_err(), RhiError::Rsi(error));
    let mut answer = with_host(|gprs, _| offers(gprs));
    let mut no_window = platform(|regs, ram| {
        let is_set = regs[0] == u64::from(RSI_IPA_STATE_SET.0);
        answer(regs, ram);
        if is_set {
            regs[0] = 1;
        }
    });
    let error = RsiError::Status { command: Command::IpaStateSet, status: rsi::Status::Input };
    let got = Session::negotiate(&mut no_window, &rsi).unwrap_err();
    assert_eq!(got, RhiError::Window(StateSetError::Rsi(error)));
}

#[test]
fn the_window_is_given_back_once_and_is_closed_then() {
    let rsi = session();
    let mut platform = platform(with_host(|gprs, _| offers(gprs)));
    let mut session = Session::negotiate(&mut platform, &rsi).unwrap();
    assert_eq!(platform.shared().len(), 1);
    session.close_window(&mut platform, &rsi).unwrap();
    session.close_window(&mut platform, &rsi).unwrap();
    assert!(platform.shared().is_empty());
    let changes: Vec<_> =
        platform.machine.calls.iter().filter(|regs| regs[0] == u64::from(RSI_IPA_STATE_SET.0)).collect();
    assert_eq!(changes.len(), 2);
    assert_eq!((changes[0][1], changes[0][2]), (changes[1][1], changes[1][2]));
    let calls = platform.machine.calls.len();
    let mut client = Client::new(&mut platform, &rsi, &mut session);
    let nonce = [0; 32];
    assert_eq!(client.get_measurements(vdev(), &nonce), Err(RhiError::WindowClosed));
    assert_eq!(platform.machine.calls.len(), calls, "no call without a window");
}

type Op<'a> = &'a dyn Fn(&mut Client<'_, Scripted<'_>>) -> Result<(), RhiError>;

/// The operations, with their call and gprs[1..3] where they are fixed.
fn operations(check: impl Fn(Call, u64, Op<'_>, Option<u64>)) {
    let set = Call::DaVdevSetTdiState;
    check(set, DA_VDEV_SET_TDI_STATE, &|c| c.set_tdi_state(vdev(), TdiTarget::Unlocked), Some(0));
    check(set, DA_VDEV_SET_TDI_STATE, &|c| c.set_tdi_state(vdev(), TdiTarget::Locked), Some(1));
    check(set, DA_VDEV_SET_TDI_STATE, &|c| c.set_tdi_state(vdev(), TdiTarget::Run), Some(2));
    let report = Call::DaVdevGetInterfaceReport;
    check(report, DA_VDEV_GET_INTERFACE_REPORT, &|c| c.get_interface_report(vdev()), Some(0));
    let measure = Call::DaVdevGetMeasurements;
    check(measure, DA_VDEV_GET_MEASUREMENTS, &|c| c.get_measurements(vdev(), &[7; 32]), None);
}

#[test]
fn each_status_of_each_operation_is_its_own_error() {
    operations(|call, fid, op, argument| {
        for (raw, meaning) in STATUSES.into_iter().filter(|(raw, _)| ![1, 9].contains(raw)) {
            let (result, asked) = with_client(|gprs, _| gprs[0] = raw, op);
            assert_eq!(result, Err(status(call, meaning)));
            // The parameters' address has two forms.
            let times = if (call, raw) == (Call::DaVdevGetMeasurements, 8) { 2 } else { 1 };
            assert_eq!(asked.len(), times, "{meaning:?} is not repeated");
            assert_eq!((asked[0][0], asked[0][1]), (fid, 0x10));
            assert!(argument.is_none_or(|argument| asked[0][2] == argument));
        }
        assert_eq!(with_client(|gprs, _| gprs[0] = 0, op).0, Ok(()));
    });
}

#[test]
fn an_operation_is_continued_with_its_first_handle() {
    for handle in [0, 5, u64::MAX] {
        operations(|_, fid, op, _| {
            let mut turn = 0;
            let (result, asked) = with_client(
                |gprs, _| {
                    turn += 1;
                    // Later answers name other handles.
                    (gprs[0], gprs[1]) = if turn == 4 { (0, 99) } else { (1, handle.wrapping_add(turn - 1)) };
                },
                op,
            );
            assert_eq!(result, Ok(()));
            assert_eq!(asked[0][0], fid);
            assert_eq!(asked.len(), 4);
            assert!(asked[1..].iter().all(|gprs| gprs[..3] == [DA_VDEV_CONTINUE, 0x10, handle]));
        });
    }
}

#[test]
fn a_busy_host_is_asked_the_same_again() {
    operations(|_, fid, op, _| {
        // Busy at the start, then in the middle: what is asked again is what was asked.
        let answers = [(9, 0), (9, 0), (1, 5), (9, 0), (0, 0)];
        let mut turn = 0;
        let (result, asked) = with_client(
            |gprs, _| {
                (gprs[0], gprs[1]) = answers[turn];
                turn += 1;
            },
            op,
        );
        assert_eq!(result, Ok(()));
        let fids: Vec<u64> = asked.iter().map(|gprs| gprs[0]).collect();
        assert_eq!(fids, [fid, fid, fid, DA_VDEV_CONTINUE, DA_VDEV_CONTINUE]);
    });
}

#[test]
fn an_operation_without_end_is_aborted_after_its_budget() {
    let aborts =
        [(0, None), (3, Some(Status::InvalidVdevId)), (0xa, Some(Status::AbortedOperationHadCompleted))];
    for (answer, last) in [(1, Status::Incomplete), (9, Status::Busy)] {
        for (status, abort) in aborts {
            let host = |gprs: &mut Gprs, _: &mut dyn RealmRam| {
                gprs[0] = if gprs[0] == DA_VDEV_ABORT { status } else { answer }
            };
            let (result, asked) = with_client(host, |c| c.set_tdi_state(vdev(), TdiTarget::Locked));
            // What had begun and ended after all is an end; what never began is none.
            let ended = (answer, status) == (1, 0xa);
            let call = Call::DaVdevSetTdiState;
            let wanted = if ended { Ok(()) } else { Err(RhiError::Exhausted { call, last, abort }) };
            assert_eq!(result, wanted);
            assert_eq!(asked.len(), BOUND + 1);
            assert_eq!(asked[BOUND][..2], [DA_VDEV_ABORT, 0x10], "the abort is the last");
        }
    }
}

#[test]
fn a_continue_that_fails_loses_the_operation() {
    for (raw, meaning) in STATUSES.into_iter().filter(|(raw, _)| ![1, 9].contains(raw)) {
        operations(|call, _, op, _| {
            let mut turn = 0;
            let host = |gprs: &mut Gprs, _: &mut dyn RealmRam| {
                turn += 1;
                (gprs[0], gprs[1]) = if turn == 1 { (1, 5) } else { (raw, 0) };
            };
            let (result, asked) = with_client(host, op);
            assert_eq!(result, Err(RhiError::Lost { call, status: meaning }));
            assert_eq!(asked.len(), 3);
            assert_eq!(asked[2][..2], [DA_VDEV_ABORT, 0x10], "the host may not have taken the handle only");
        });
    }
}

#[test]
fn measurements_are_asked_for_with_the_nonce_in_shared_memory() {
    let mut seen = vec![0; 0x120];
    let host = |gprs: &mut Gprs, ram: &mut dyn RealmRam| {
        ram.read(gprs[2], &mut seen);
        assert!(gprs[2].is_multiple_of(4096));
        gprs[0] = 0;
    };
    with_client(host, |c| c.get_measurements(vdev(), &[0xab; 32])).0.unwrap();
    assert_eq!((seen[0], &seen[1..0x100]), (1, &[0; 0xff][..]), "raw values where there are any");
    assert_eq!(seen[0x100..], [0xab; 32]);
}

/// Reads an object from a host that says `size`, and that it copied `copied` bytes (it writes 0x5a, and no more than it
/// may).
fn read(size: (u64, u64), copied: (u64, u64)) -> (Result<Vec<u8>, RhiError>, Vec<Gprs>) {
    let host = move |gprs: &mut Gprs, ram: &mut dyn RealmRam| match gprs[0] {
        DA_OBJECT_SIZE => (gprs[0], gprs[1]) = size,
        DA_OBJECT_READ => {
            let room = usize::try_from(gprs[4].min(copied.1)).unwrap();
            ram.write(gprs[3], &vec![0x5a; room]);
            (gprs[0], gprs[1]) = copied;
        }
        other => panic!("{other:#x}"),
    };
    with_client(host, |c| c.read_object(vdev(), Object::Certificate))
}

#[test]
fn an_object_is_what_was_copied() {
    for len in [1, 4096, MIB - 1, MIB] {
        let (object, asked) = read((0, len), (0, len));
        assert_eq!(object.unwrap(), vec![0x5a; usize::try_from(len).unwrap()]);
        assert_eq!(asked.len(), 2);
        assert_eq!((asked[1][4], asked[1][5]), (MIB, 0), "room for all of it, from the start");
    }
    // Refreshed in between: shorter or longer than announced.
    assert_eq!(read((0, 100), (0, 5)).0.unwrap(), [0x5a; 5]);
    assert_eq!(read((0, 5), (0, 100)).0.unwrap(), [0x5a; 100]);
}

#[test]
fn sizes_that_cannot_be_are_refused_by_name() {
    let object = Object::Certificate;
    for size in [0, MIB + 1, 1 << 32, u64::MAX] {
        let (error, asked) = read((0, size), (0, 1));
        assert_eq!(error, Err(RhiError::ObjectSize { object, size }));
        assert_eq!(asked.len(), 1, "nothing is read");
    }
    for copied in [0, MIB + 1, u64::MAX] {
        assert_eq!(read((0, 16), (0, copied)).0, Err(bad(Call::DaObjectRead, 1, copied)));
    }
}

#[test]
fn each_status_of_the_object_calls_is_its_own_error() {
    for (raw, meaning) in STATUSES {
        assert_eq!(read((raw, 1), (0, 1)).0, Err(status(Call::DaObjectSize, meaning)));
        let (error, asked) = read((0, 1), (raw, 1));
        assert_eq!(error, Err(status(Call::DaObjectRead, meaning)));
        let times = if raw == 8 { 3 } else { 2 };
        assert_eq!(asked.len(), times, "reads are not repeated, but in the other form of the address");
    }
}

#[test]
fn rsi_errors_of_the_carrier_pass_through() {
    let rsi = session();
    let mut answer = with_host(|gprs, _| offers(gprs));
    let mut is_up = true;
    let mut left = 5;
    let mut platform = platform(|regs, ram| {
        if regs[0] == u64::from(RSI_HOST_CALL.0) {
            is_up = left > 0;
            left -= i32::from(is_up);
        }
        if is_up { answer(regs, ram) } else { regs[0] = 2 }
    });
    let mut session = Session::negotiate(&mut platform, &rsi).unwrap();
    let mut client = Client::new(&mut platform, &rsi, &mut session);
    let error = RhiError::Rsi(RsiError::Status { command: Command::HostCall, status: rsi::Status::State });
    assert_eq!(client.set_tdi_state(vdev(), TdiTarget::Run), Err(error));
    assert_eq!(client.read_object(vdev(), Object::Vca), Err(error));
}
