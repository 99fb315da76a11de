//! Where readings of DEN0148 differ (docs/spec-map.md): the form of a buffer's address, the number of the VCA, HOSTCONF,
//! and the largest objects.
mod common;

use common::script::*;
use gatehouse::abi::rhi::*;
use gatehouse::arch::host::{RealmRam, ipa_width};
use gatehouse::rhi::{Call, Client, Object, RhiError, Session, Status};

const MIB: u64 = 1 << 20;
const NONCE: [u8; 32] = [7; 32];

type Ram<'a> = &'a mut dyn RealmRam;

fn is_alias(address: u64) -> bool {
    address & ipa_width().alias_bit() != 0
}

/// The buffer of a call, where it passes one.
fn buffer(gprs: &Gprs) -> Option<u64> {
    match gprs[0] {
        DA_OBJECT_READ => Some(gprs[3]),
        DA_VDEV_GET_MEASUREMENTS => Some(gprs[2]),
        _ => None,
    }
}

/// A host that takes buffers only with the alias bit, or only without; it has three bytes of everything.
fn taking(alias: bool) -> impl FnMut(&mut Gprs, Ram<'_>) {
    move |gprs, ram| {
        if let Some(buffer) = buffer(gprs) {
            if is_alias(buffer) != alias {
                return (gprs[0], gprs[1]) = (DA_ACCESS_FAILED, 0);
            }
            ram.write(buffer, b"abc");
        }
        (gprs[0], gprs[1]) = (0, 3);
    }
}

/// The forms of the addresses that went out.
fn forms(asked: &[Gprs]) -> Vec<bool> {
    asked.iter().filter_map(buffer).map(is_alias).collect()
}

fn read(c: &mut Client<'_, Scripted<'_>>) -> Result<Vec<u8>, RhiError> {
    c.read_object(vdev(), Object::Certificate)
}

#[test]
fn a_buffer_is_passed_without_the_alias_bit_where_the_host_takes_that() {
    let (result, asked) = with_client(taking(false), |c| {
        c.get_measurements(vdev(), &NONCE).unwrap();
        (read(c), read(c))
    });
    assert_eq!(result, (Ok(b"abc".into()), Ok(b"abc".into())));
    assert_eq!(forms(&asked), [false; 3]);
}

#[test]
fn a_host_that_refuses_the_plain_address_gets_the_alias_from_then_on() {
    let (result, asked) = with_client(taking(true), |c| {
        c.get_measurements(vdev(), &NONCE).unwrap();
        (read(c), read(c))
    });
    assert_eq!(result, (Ok(b"abc".into()), Ok(b"abc".into())));
    assert_eq!(forms(&asked), [false, true, true, true]);
    let starts: Vec<_> = asked.iter().filter(|gprs| gprs[0] == DA_VDEV_GET_MEASUREMENTS).collect();
    assert_eq!(starts[0][2] | ipa_width().alias_bit(), starts[1][2], "the same page");
    // The other way round: the object first.
    let (result, asked) = with_client(taking(true), |c| read(c).map(|_| c.get_measurements(vdev(), &NONCE)));
    assert_eq!(result, Ok(Ok(())));
    assert_eq!(forms(&asked), [false, true, true]);
}

#[test]
fn a_host_that_refuses_both_forms_is_named_and_asked_anew() {
    let failed = |call| Err(RhiError::Status { call, status: Status::AccessFailed });
    let host = |gprs: &mut Gprs, _: Ram<'_>| (gprs[0], gprs[1]) = (8 * u64::from(buffer(gprs).is_some()), 3);
    let (result, asked) = with_client(host, |c| (c.get_measurements(vdev(), &NONCE), read(c)));
    assert_eq!(result, (failed(Call::DaVdevGetMeasurements), failed(Call::DaObjectRead).map(|()| vec![])));
    assert_eq!(forms(&asked), [false, true, false, true]);
}

#[test]
fn a_form_that_was_taken_once_is_kept() {
    let failed = Err(RhiError::Status { call: Call::DaObjectRead, status: Status::AccessFailed });
    for (first, wanted) in [(0, &[false, false][..]), (8, &[false, true, true])] {
        let mut answers = vec![first, 0, 8, 8];
        if first == 0 {
            answers.remove(1);
        }
        let mut answers = answers.into_iter();
        let host = |gprs: &mut Gprs, _: Ram<'_>| {
            gprs[0] = if buffer(gprs).is_some() { answers.next().unwrap() } else { 0 };
            gprs[1] = 3;
        };
        let (result, asked) = with_client(host, |c| {
            c.get_measurements(vdev(), &NONCE).unwrap();
            read(c)
        });
        assert_eq!(result, failed);
        assert_eq!(forms(&asked), wanted);
    }
}

#[test]
fn an_answer_that_says_nothing_of_the_buffer_settles_nothing() {
    // BUSY, DEVICE and INPUT may come before the buffer is looked at.
    for answer in [DA_DEVICE, DA_INPUT, NOT_SUPPORTED] {
        let mut left = 1;
        let mut then = taking(true);
        let host = |gprs: &mut Gprs, ram: Ram<'_>| {
            if left == 0 {
                return then(gprs, ram);
            }
            left -= 1;
            gprs[0] = answer;
        };
        let (result, asked) = with_client(host, |c| {
            c.get_measurements(vdev(), &NONCE).unwrap_err();
            read(c)
        });
        assert_eq!(result, Ok(b"abc".into()));
        assert_eq!(forms(&asked), [false, false, true], "{answer:#x}");
    }
    // BUSY for the second form: asked again in that one, then continued.
    let mut answers = [8, 9, 1, 0].into_iter();
    let host = |gprs: &mut Gprs, _: Ram<'_>| (gprs[0], gprs[1]) = (answers.next().unwrap(), 5);
    let (result, asked) = with_client(host, |c| c.get_measurements(vdev(), &NONCE));
    assert_eq!(result, Ok(()));
    assert_eq!(forms(&asked), [false, true, true]);
    assert_eq!(asked[3][..3], [DA_VDEV_CONTINUE, 0x10, 5]);
}

#[test]
fn objects_have_the_numbers_of_linux_hosts_and_of_the_acs() {
    for (object, tries) in [
        (Object::Vca, &[4, 0][..]),
        (Object::Certificate, &[1]),
        (Object::Measurements, &[2]),
        (Object::InterfaceReport, &[3]),
    ] {
        // Unknown, not offered, or not there: another number may have it.
        for (refusal, status) in
            [(4, Status::InvalidObject), (0xb, Status::ObjectUnsupported), (2, Status::DataNotAvailable)]
        {
            let (error, asked) = with_client(|gprs, _| gprs[0] = refusal, |c| c.read_object(vdev(), object));
            assert_eq!(error, Err(RhiError::Status { call: Call::DaObjectSize, status }));
            assert!(asked.iter().all(|gprs| gprs[..2] == [DA_OBJECT_SIZE, 0x10]));
            assert_eq!(asked.iter().map(|gprs| gprs[2]).collect::<Vec<_>>(), tries);
        }
        let (_, asked) = with_client(|gprs, _| gprs[0] = 3, |c| c.read_object(vdev(), object));
        assert_eq!(asked.len(), 1, "of no object");
    }
}

/// A host with one object under 4 and another under 0; `None`: none.
fn numbered(
    four: Option<&'static [u8]>,
    zero: Option<&'static [u8]>,
    refusal: u64,
) -> impl FnMut(&mut Gprs, Ram<'_>) {
    move |gprs, ram| {
        let object = if gprs[2] == 4 { four } else { zero };
        let Some(object) = object else { return gprs[0] = refusal };
        if gprs[0] == DA_OBJECT_READ {
            ram.write(gprs[3], object);
        }
        (gprs[0], gprs[1]) = (0, object.len() as u64);
    }
}

fn numbers(asked: &[Gprs]) -> Vec<u64> {
    asked.iter().filter(|gprs| gprs[0] == DA_OBJECT_SIZE).map(|gprs| gprs[2]).collect()
}

#[test]
fn the_vca_is_read_under_the_number_that_has_it_and_first_there_from_then_on() {
    for refusal in [2, 4, 0xb] {
        let host = numbered(None, Some(b"vca"), refusal);
        let read = |c: &mut Client<'_, Scripted<'_>>| c.read_object(vdev(), Object::Vca);
        let (read, asked) = with_client(host, |c| (read(c), read(c)));
        assert_eq!(read, (Ok(b"vca".into()), Ok(b"vca".into())));
        assert_eq!(numbers(&asked), [4, 0, 0]);
    }
    // Known under the second number, but in vain: that answer counts.
    let mut turn = 0;
    let host = |gprs: &mut Gprs, _: Ram<'_>| {
        turn += 1;
        gprs[0] = if turn == 1 { 4 } else { 6 };
    };
    let error = with_client(host, |c| c.read_object(vdev(), Object::Vca)).0;
    assert_eq!(error, Err(RhiError::Status { call: Call::DaObjectSize, status: Status::Device }));
}

#[test]
fn another_object_under_the_number_of_the_vca_is_told_by_its_digest() {
    let is_vca = |bytes: &[u8]| bytes == b"vca";
    // Two devices on a host that has extension evidence under 4.
    let (read, asked) = with_client(numbered(Some(b"evidence"), Some(b"vca"), 4), |c| {
        assert_eq!(c.read_object(vdev(), Object::Vca).unwrap(), b"evidence");
        (
            c.read_other_vca(vdev(), is_vca),
            c.read_object(vdev(), Object::Vca),
            c.read_other_vca(vdev(), is_vca),
        )
    });
    assert_eq!(read, (Some(b"vca".into()), Ok(b"vca".into()), None));
    assert_eq!(numbers(&asked), [4, 0, 0, 4]);
    // Neither, or nothing there: the first number stays the first.
    for zero in [Some(&b"other"[..]), None] {
        let (read, asked) = with_client(numbered(Some(b"evidence"), zero, 4), |c| {
            (c.read_other_vca(vdev(), is_vca), c.read_object(vdev(), Object::Vca))
        });
        assert_eq!(read, (None, Ok(b"evidence".into())));
        assert_eq!(numbers(&asked), [0, 4]);
    }
}

#[test]
fn hostconf_of_a_later_minor_version_is_taken() {
    let unit = |version| {
        let host = move |gprs: &mut Gprs| match gprs[0] {
            HOSTCONF_VERSION => gprs[0] = version,
            HOSTCONF_GET_IPA_CHANGE_ALIGNMENT => gprs[0] = 0x1_0000,
            _ => offers(gprs),
        };
        negotiate(host).0.unwrap().sharing_unit()
    };
    assert_eq!([0x1_0000, 0x1_0001, 0x1_ffff].map(unit), [0x1_0000; 3]);
    assert_eq!([0, 0xffff, 0x2_0000, 0x1_0001_0000, NOT_SUPPORTED].map(unit), [4096; 5]);
}

/// Byte `at` of the large objects.
fn pattern(at: usize) -> u8 {
    (at ^ at >> 8 ^ at >> 16) as u8
}

#[test]
fn an_object_of_one_mib_arrives_whole_and_one_byte_more_is_refused() {
    for unit in [0x1000, 0x1_0000] {
        for size in [MIB - 1, MIB, MIB + 1] {
            let rsi = session();
            let mut platform = platform(with_host(move |gprs, ram| match gprs[0] {
                HOSTCONF_GET_IPA_CHANGE_ALIGNMENT => gprs[0] = unit,
                DA_OBJECT_SIZE => (gprs[0], gprs[1]) = (0, size),
                DA_OBJECT_READ => {
                    assert!(gprs[4] >= size && gprs[5] == 0);
                    ram.write(gprs[3], &(0..size as usize).map(pattern).collect::<Vec<_>>());
                    (gprs[0], gprs[1]) = (0, size);
                }
                _ => offers(gprs),
            }));
            let mut session = Session::negotiate(&mut platform, &rsi).unwrap();
            let shared = platform.shared()[0];
            assert!(shared.base().is_multiple_of(unit) && shared.len_bytes().is_multiple_of(unit));
            let object = Object::Measurements;
            let read = Client::new(&mut platform, &rsi, &mut session).read_object(vdev(), object);
            if size > MIB {
                assert_eq!(read, Err(RhiError::ObjectSize { object, size }));
            } else {
                let read = read.unwrap();
                assert_eq!(read.len() as u64, size);
                assert!(read.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
            }
        }
    }
}
