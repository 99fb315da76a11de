//! The event log's reader: what docs/event-log.md allows is read, any event that is removed, moved or edited is found.
mod logs;

use gatehouse::rsi::HashAlgorithm;
use gatehouse_cli::eventlog::{Data, EventLog, Flaw, Judgement, LogError, Mode, State};
use gatehouse_cli::rem::RemRule;
use gatehouse_cli::strict::CborError;
use logs::{C, DISK, Hash, Raw, STRAY, log, sample, tagged, text};
use proptest::prelude::*;
use std::process::Command;

fn read(events: &[Raw]) -> Result<EventLog, LogError> {
    EventLog::read(&log(Hash::Sha384, events))
}

/// What a verifier with the token finds: an error of the form, or measurements that are others.
fn is_found(events: &[Raw]) -> bool {
    let was = EventLog::read(&log(Hash::Sha384, &sample())).unwrap();
    match read(events) {
        Err(_) => true,
        Ok(log) => RemRule::ALL.iter().all(|rule| rule.replay(&log) != rule.replay(&was)),
    }
}

fn flaw(events: &[Raw]) -> (usize, Flaw) {
    let LogError { event, flaw, .. } = read(events).unwrap_err();
    (event, flaw)
}

#[test]
fn a_log_in_any_hash_of_a_realm_is_read() {
    for (hash, algorithm) in [
        (Hash::Sha256, HashAlgorithm::Sha256),
        (Hash::Sha384, HashAlgorithm::Sha384),
        (Hash::Sha512, HashAlgorithm::Sha512),
    ] {
        let mut events = sample();
        events[24] = tagged(7, 16, vec![C::B(hash.of(b"tree"))]);
        let log = EventLog::read(&log(hash, &events)).unwrap();
        assert_eq!(log.algorithm, algorithm);
        assert_eq!(log.events.len(), events.len());
        for (event, raw) in log.events.iter().zip(&events) {
            assert_eq!((event.pcr, event.rem()), (raw.pcr, raw.rem()));
            assert_eq!(event.digest, hash.of(&raw.data));
        }
        assert_eq!(RemRule::TfRmm.replay(&log), logs::rems(hash, &events));
        assert_eq!(RemRule::Spec.replay(&log), logs::spec_rems(hash, &events));
    }
}

#[test]
fn what_the_events_say_is_read() {
    let log = read(&sample()).unwrap();
    assert_eq!(log.policy(), Some(logs::encoded_policy().as_slice()));
    let bundle = log.bundle().unwrap();
    assert_eq!((bundle.svn, bundle.os.as_str(), bundle.parts.len()), (3, "half", 3));
    let sessions: Vec<_> = log.sessions().collect();
    assert_eq!(sessions.len(), 2);
    for (session, built) in sessions.iter().zip(logs::sessions()) {
        assert_eq!(
            (session.slot.as_str(), session.vdev, session.nonces),
            (built.slot, built.vdev, built.nonces)
        );
        assert_eq!(session.digests, built.digests());
        assert_eq!(session.no_run.as_deref().unwrap_or_default(), built.no_run);
    }
    let Data::Configuration(device) = &log.events[9].data else { panic!("{:?}", log.events[9]) };
    assert_eq!((device.slot.as_str(), device.uid, device.authenticated), ("02.0", 1, true));
    assert_eq!(device.blocks[1], (0xfe, 0x85, vec![0; 16]));
    let Data::Firmware(device) = &log.events[15].data else { panic!("{:?}", log.events[15]) };
    assert_eq!((device.slot.as_str(), device.uid, device.authenticated), ("03.0/00.0", 4, false));
}

#[test]
fn each_device_has_a_verdict_the_missing_and_extra_ones_too() {
    let devices = read(&sample()).unwrap().devices();
    let row = |d: &gatehouse_cli::eventlog::Device| {
        (d.slot.clone().unwrap_or_default(), d.judgement, d.mode, d.state, d.code)
    };
    let rows: Vec<_> = devices.iter().map(row).collect();
    let want = |slot: &str, judgement, mode, state, code| (slot.to_owned(), judgement, mode, state, code);
    assert_eq!(
        rows,
        [
            want("02.0", Judgement::Accepted, Mode::Run, Some(State::Run), 0),
            want("04.0", Judgement::Accepted, Mode::Shared, Some(State::Unlocked), 0),
            want("06.0", Judgement::Extra, Mode::Hide, None, 0),
            want("03.0/00.0", Judgement::Refused, Mode::Hide, None, 4124),
            want("virtio_mmio@a000000", Judgement::Accepted, Mode::Shared, Some(State::Unlocked), 0),
            want("", Judgement::Missing, Mode::None, None, 3002),
        ]
    );
    assert_eq!(devices[5].rule.as_deref(), Some("gpu"));
}

#[test]
fn every_event_that_is_removed_is_found() {
    for at in 0..sample().len() {
        let mut events = sample();
        let removed = events.remove(at);
        assert!(is_found(&events), "event {} is gone: {removed:?}", at + 1);
    }
    assert!(EventLog::read(&log(Hash::Sha384, &sample())[69..]).is_err(), "no Spec ID event");
}

#[test]
fn every_event_that_is_repeated_is_found() {
    for at in 0..sample().len() {
        for to in 0..=sample().len() {
            let mut events = sample();
            let copy = events[at].clone();
            events.insert(to, copy);
            assert!(is_found(&events), "event {} again at {}", at + 1, to + 1);
        }
    }
}

#[test]
fn every_pair_that_changes_places_is_found_across_measurements_by_the_order_alone() {
    let count = sample().len();
    for first in 0..count {
        for second in first + 1..count {
            let mut events = sample();
            events.swap(first, second);
            assert!(is_found(&events), "{} and {}", first + 1, second + 1);
            if second == first + 1 && events[first].rem() != events[second].rem() {
                assert!(read(&events).is_err(), "{} and {}", first + 1, second + 1);
            }
        }
    }
}

#[test]
fn every_byte_that_is_edited_is_found() {
    let bytes = log(Hash::Sha384, &sample());
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            assert!(EventLog::read(&bytes).is_err(), "byte {at} ^ {flip:#x}");
        }
    }
}

#[test]
fn every_byte_that_is_edited_with_its_digest_is_found() {
    let events = sample();
    for (number, event) in events.iter().enumerate() {
        for at in 0..event.data.len() {
            let mut events = events.clone();
            events[number].data[at] ^= 1;
            assert!(is_found(&events), "event {}, byte {at}", number + 1);
        }
    }
}

#[test]
fn a_log_that_is_cut_or_goes_on_is_found() {
    let bytes = log(Hash::Sha384, &sample());
    for len in 0..bytes.len() {
        assert!(EventLog::read(&bytes[..len]).is_err(), "{len} bytes");
    }
    let error = EventLog::read(&[bytes.as_slice(), &[0]].concat()).unwrap_err();
    assert_eq!((error.event, error.flaw), (30, Flaw::Truncated));
    let mut events = sample();
    events.push(logs::separator(16));
    assert_eq!(flaw(&events), (30, Flaw::Behind));
}

#[test]
fn the_spec_id_event_has_one_form_only() {
    let good = log(Hash::Sha384, &sample());
    for (at, field) in [
        (0, "its PCR"),
        (4, "its type"),
        (8, "its digest"),
        (28, "its size"),
        (32, "its signature"),
        (48, "the platform class"),
        (53, "the version"),
        (54, "the version"),
        (55, "the size of UINTN"),
        (56, "the number of algorithms"),
        (60, "the algorithm"),
        (62, "the size of a digest"),
        (64, "the vendor's information"),
    ] {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        let error = EventLog::read(&bytes).unwrap_err();
        assert_eq!((error.event, error.flaw), (0, Flaw::SpecId(field)), "byte {at}");
    }
}

/// The sample with one event replaced.
fn with(number: usize, event: Raw) -> Vec<Raw> {
    let mut events = sample();
    events[number - 1] = event;
    events
}

fn order(wanted: &str) -> Flaw {
    Flaw::Order(wanted.into())
}

#[test]
fn each_violation_names_the_event_and_what_is_wrong() {
    let mut pcr = sample();
    pcr[12].pcr = 5;
    assert_eq!(flaw(&pcr), (13, Flaw::Pcr { found: 5, wanted: 6 }));
    assert_eq!(flaw(&with(13, Raw { pcr: 6, kind: 5, data: vec![] })), (13, Flaw::Type(5)));
    assert_eq!(flaw(&with(13, tagged(8, 6, vec![]))), (13, Flaw::Tag(0x4748_0008)));
    assert_eq!(
        flaw(&with(3, Raw { pcr: 0, kind: 3, data: vec![] })),
        (3, Flaw::Type(3)),
        "no other EV_NO_ACTION"
    );
    let items = |field, found, wanted| Flaw::Cbor(CborError::Items { offset: 0, field, found, wanted });
    assert_eq!(flaw(&with(1, tagged(1, 1, vec![C::N(1)]))), (1, items("the array of realm", 1, 2)));
    let field = |offset, field| Flaw::Cbor(CborError::Field { offset, field });
    assert_eq!(flaw(&with(1, tagged(1, 1, vec![C::N(2), text("a")]))), (1, field(1, "version")));
    assert_eq!(flaw(&with(1, tagged(1, 1, vec![C::N(1), text("z")]))), (1, field(2, "dialect")));
    let mut long = sample();
    long[0].data = [&[1, 0, 0x48, 0x47, 5, 0, 0, 0], b"\x82\x18\x01\x61a".as_slice()].concat();
    assert_eq!(flaw(&long), (1, Flaw::Cbor(CborError::NotShortest(1))));
    let class = [0x1b36, 0x10, 0x1af4, 0x1100, 0x100_0000, 2];
    assert_eq!(flaw(&with(3, logs::function("02.0", class, "attest", "disk"))), (3, field(16, "class code")));
    assert_eq!(flaw(&with(13, logs::verdict("02.0", "disk", "accepted", "run", 10_000))).0, 13);
    assert_eq!(
        flaw(&with(13, logs::verdict("02.0", "disk", "perhaps", "run", 0))),
        (13, field(11, "verdict"))
    );
}

#[test]
fn an_event_in_the_wrong_place_is_named_with_what_belongs_there() {
    let mut events = sample();
    events.swap(0, 1);
    assert_eq!(flaw(&events), (1, order("realm")));
    let mut events = sample();
    events.swap(12, 13);
    assert_eq!(flaw(&events), (13, order("the verdict of 02.0")));
    let mut events = sample();
    events.remove(20);
    assert_eq!(flaw(&events), (21, order("bundle")));
    let mut events = sample();
    events.remove(21);
    assert_eq!(flaw(&events), (22, order("the outcome of 02.0")));
    let mut events = sample();
    events.swap(25, 26);
    assert_eq!(flaw(&events), (26, order("the separator of PCR 7")));
    let mut events = sample();
    events.truncate(28);
    assert_eq!(flaw(&events), (29, Flaw::Missing("the separator of PCR 16".into())));
}

#[test]
fn events_that_contradict_each_other_are_found() {
    let says = |events: &[Raw], number, what| assert_eq!(flaw(events), (number, Flaw::Contradiction(what)));
    let device = |uid, ids| logs::device(true, 0, uid, &[(2, 0)], ids, &[(1, 0, &[1; 48])]);
    says(&with(9, device(2, DISK)), 9, "SubHeaderUID is not the position of the function");
    says(&with(9, device(1, STRAY)), 9, "the PCI context has other ids than the function");
    let state = logs::device(true, 1, 1, &[(2, 0)], DISK, &[(1, 0, &[1; 48])]);
    says(&with(9, state), 10, "firmware and configuration of one function differ in their head");
    let mut events = sample();
    events.remove(10);
    says(&events, 11, "signed evidence without an authority");
    let mut events = sample();
    events.drain(8..12);
    says(&events, 9, "accepted without a session");
    says(
        &with(15, logs::verdict("06.0", "net", "accepted", "shared", 0)),
        15,
        "verdict and disposition contradict each other",
    );
    let contradiction = "verdict, mode, rule and code contradict each other";
    says(&with(18, logs::verdict("03.0/00.0", "nic", "refused", "run", 4124)), 18, contradiction);
    says(&with(18, logs::verdict("03.0/00.0", "nic", "refused", "hide", 0)), 18, contradiction);
    let contradiction = "verdict, mode, state and code contradict each other";
    says(&with(22, logs::outcome("02.0", "accepted", "run", "unlocked", 0)), 22, contradiction);
    says(&with(22, logs::outcome("02.0", "accepted", "shared", "unlocked", 0)), 22, contradiction);
    says(&with(2, logs::policy(b"other")), 21, "the bundle's policy is not the one that was logged");
    let at = sample()[20].data.len() - logs::COMMAND_LINE.len();
    let mut line = sample()[20].clone();
    line.data[at] ^= 1;
    says(&with(21, line), 21, "the command line is not that of the bundle's part");
    says(&with(5, logs::function("02.0", DISK, "attest", "disk")), 5, "the slot is there already");
    says(&with(3, logs::function("02.0", DISK, "attest", "")), 3, "a disposition without a rule");
}

#[test]
fn standard_events_have_one_form_only() {
    let good = logs::device(true, 0, 1, &[(2, 0)], DISK, &[(1, 0, &[1; 48]), (2, 1, b"x")]);
    for (at, field) in [
        (0, "the signature"),
        (16, "the version"),
        (18, "AuthState"),
        (19, "the reserved byte"),
        (20, "Length"),
        (24, "DeviceType"),
        (28, "SubHeaderType"),
        (32, "the number of blocks"),
        (52, "the device path"),
        (64, "the device path"),
        (70, "the device path"),
        (76, "a measurement block"),
        (77, "the reserved byte of the sub-header"),
        (84, "a measurement block"),
        (good.data.len() - 16, "the PCI context"),
        (good.data.len() - 14, "the PCI context"),
    ] {
        let mut event = good.clone();
        event.data[at] ^= 0x10;
        let (number, found) = flaw(&with(9, event));
        assert_eq!((number, found), (9, Flaw::Field(field)), "byte {at}");
    }
    let blocks = |blocks: &[(u8, u8, &[u8])]| with(9, logs::device(true, 0, 1, &[(2, 0)], DISK, blocks));
    let descending = blocks(&[(2, 0, b"x"), (1, 0, b"y")]);
    assert_eq!(flaw(&descending), (9, Flaw::Field("the order of the measurement blocks")));
    assert_eq!(flaw(&blocks(&[(1, 2, b"x")])), (9, Flaw::Field("the type of a measurement block")));
    let mut named = sample();
    named[1].data[32] ^= 1;
    assert_eq!(flaw(&named), (2, Flaw::Field("the variable's name")));
    let mut owner = sample();
    owner[10].data[50] ^= 1;
    assert_eq!(flaw(&owner), (11, Flaw::Field("the owner of the signature data")));
}

#[test]
fn a_bridge_that_no_rule_takes_has_a_verdict_as_well() {
    let mut events = sample();
    events.insert(7, logs::function("05.0", logs::PORT, "extra", ""));
    assert_eq!(flaw(&events), (20, order("the verdict of 05.0")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_a_log_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = EventLog::read(&bytes);
        let _ = EventLog::read(&[logs::spec_id(Hash::Sha256), bytes.clone()].concat());
        for kind in [6, 0x8000_00e1, 0x8000_00e2, 0x8000_00e3, 0x8000_00e4] {
            let _ = read(&[Raw { pcr: 6, kind, data: bytes.clone() }]);
        }
    }

    #[test]
    fn a_mutated_log_is_a_log_or_an_error(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut events = sample();
        for (event, at, value) in changes {
            let event = event.get(&events).data.clone();
            let mut changed = event.clone();
            let at = at.index(changed.len());
            changed[at] = value;
            events.iter_mut().filter(|other| other.data == event).for_each(|other| other.data = changed.clone());
        }
        if let Ok(log) = read(&events) {
            let _ = log.devices();
        }
    }
}

/// What tpm2_eventlog writes about a log: standard output and standard error. `None`: it is not there.
fn tpm2_eventlog(name: &str, events: &[Raw]) -> Option<(String, String)> {
    if Command::new("tpm2_eventlog").arg("--version").output().is_err() {
        eprintln!("skipped: no tpm2_eventlog on this machine");
        return None;
    }
    let path = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, log(Hash::Sha384, events)).unwrap();
    let output = Command::new("tpm2_eventlog").arg(&path).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{output:?}");
    Some((text(&output.stdout), text(&output.stderr)))
}

#[test]
fn tpm2_eventlog_reads_the_log() {
    let events = sample();
    let Some((out, err)) = tpm2_eventlog("sample.log", &events) else { return };
    assert_eq!(err, "");
    assert_eq!(out.matches("EventNum:").count(), events.len() + 1, "{out}");
}
