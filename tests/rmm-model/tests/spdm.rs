//! The SPDM responder: objects byte by byte, at the offsets of `tdisp.md` 4, and signatures that the leaf's key verifies.

mod common;

use common::session::*;
use common::*;
use p384::ecdsa::signature::hazmat::PrehashVerifier;
use rmm_model::abi::rhi::*;
use rmm_model::digest::HashAlgorithm;
use rmm_model::scenario::*;
use rmm_model::{Board, Model, Scenario, SetupError};

/// The uncompressed point at the end of a leaf's SubjectPublicKeyInfo with this header of the bit string.
fn point<'a>(chain: &'a [u8], header: &[u8], len: usize) -> &'a [u8] {
    let at = chain.windows(header.len()).rposition(|bytes| bytes == header).unwrap() + header.len();
    &chain[at..at + len]
}

fn verifies_p384(chain: &[u8], digest: &[u8], signature: &[u8]) -> bool {
    let point = point(chain, &[0x03, 0x62, 0x00], 97);
    let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(point).unwrap();
    key.verify_prehash(digest, &p384::ecdsa::Signature::from_slice(signature).unwrap()).is_ok()
}

fn verifies_p256(chain: &[u8], digest: &[u8], signature: &[u8]) -> bool {
    let point = point(chain, &[0x03, 0x42, 0x00], 65);
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(point).unwrap();
    key.verify_prehash(digest, &p256::ecdsa::Signature::from_slice(signature).unwrap()).is_ok()
}

#[test]
fn the_negotiation_is_six_messages_with_the_algorithms_at_their_offsets() {
    let vca = objects(&plain()).vca;
    let starts: [(usize, [u8; 4]); 6] = [
        (0, [0x10, 0x84, 0, 0]),
        (4, [0x10, 0x04, 0, 0]),
        (12, [0x12, 0xE1, 0, 0]),
        (32, [0x12, 0x61, 0, 0]),
        (52, [0x12, 0xE3, 4, 0]),
        (100, [0x12, 0x63, 4, 0]),
    ];
    for (at, head) in starts {
        assert_eq!(vca[at..at + 4], head, "{at}");
    }
    assert_eq!(vca[8..12], [0, 1, 0, 0x12]);
    assert_eq!((u16_at(&vca, 56), u16_at(&vca, 104), vca.len()), (48, 52, 152));
    let algorithms = &vca[100..];
    assert_eq!((u32_at(algorithms, 8), u32_at(algorithms, 12), u32_at(algorithms, 16)), (4, 0x80, 2));

    let older = objects(&device(|device| device.spdm.version = SpdmVersion::V11)).vca;
    assert_eq!((older.len(), older[11], older[12]), (136, 0x11, 0x11));
    let other = objects(&device(|device| {
        device.spdm.asym = Asym::P256;
        device.spdm.hash = HashAlgorithm::Sha512;
        device.spdm.measurement_hash = MeasurementHash::Raw;
        device.spdm.version = SpdmVersion::V13;
    }));
    let algorithms = &other.vca[100..];
    assert_eq!((u32_at(algorithms, 8), u32_at(algorithms, 12), u32_at(algorithms, 16)), (1, 0x10, 4));
    assert_eq!(algorithms[0], 0x13);
}

#[test]
fn an_exchange_of_spdm_1_2_has_its_fields_at_their_offsets_and_is_signed_by_the_leaf() {
    let objects = objects(&device(|device| {
        device.spdm.content_changed = 2;
        device.spdm.opaque = Blob::bytes(&[1, 2, 3]);
        device.certificate_slot = 5;
    }));
    let exchange = &objects.measurements;
    assert_eq!(exchange[..4], [0x12, 0xE0, 1, 0xFF]);
    assert_eq!((&exchange[4..36], exchange[36]), (&NONCE[..], 5));
    assert_eq!(exchange[37..42], [0x12, 0x60, 0, 0x25, 7]);
    let parts = parts(exchange, 37, 0);
    let opaque = parts.signature - 3;
    assert_eq!((u16_at(exchange, opaque - 2), &exchange[opaque..parts.signature]), (3, &[1, 2, 3][..]));
    assert_eq!(exchange.len(), parts.signature + 96);
    assert_ne!(exchange[opaque - 34..opaque - 2], [0; 32]);

    let (messages, signature) = exchange.split_at(parts.signature);
    assert_eq!(messages[..parts.response].len(), 37);
    let hash = HashAlgorithm::Sha384;
    let digest = hash.digest(&[&signed("1.2", hash, &[&objects.vca, messages])]);
    assert!(verifies_p384(&objects.certificate, &digest, signature));
    let other = hash.digest(&[&signed("1.3", hash, &[&objects.vca, messages])]);
    assert!(!verifies_p384(&objects.certificate, &other, signature));
}

#[test]
fn the_blocks_of_a_device_that_behaves() {
    let exchange = objects(&plain()).measurements;
    let record = parts(&exchange, 37, 0).record;
    let mut at = 0;
    let mut blocks = Vec::new();
    while at < record.len() {
        let (size, value) = (usize::from(u16_at(&record, at + 2)), usize::from(u16_at(&record, at + 5)));
        assert_eq!((record[at + 1], size), (1, value + 3));
        blocks.push((record[at], record[at + 4], record[at + 7..at + 7 + value].to_vec()));
        at += 4 + size;
    }
    let mode = vec![4, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    let wanted = [
        (1, 0, sha384(b"ACME NVME ROM 1")),
        (2, 1, sha384(b"ACME NVME firmware 3.2")),
        (3, 2, sha384(b"ACME NVME fuses")),
        (4, 3, sha384(b"ACME NVME settings")),
        (5, 0x87, vec![7, 0, 0, 0, 0, 0, 0, 0]),
        (6, 0x86, b"3.2".to_vec()),
        (0xFE, 0x85, mode),
    ];
    assert_eq!(blocks, wanted);
}

#[test]
fn blocks_are_what_the_scenario_says() {
    let value = |blocks: Vec<BlockSpec>, measurement_hash| {
        let exchange = objects(&device(|device| {
            device.spdm.blocks = blocks.clone();
            device.spdm.measurement_hash = measurement_hash;
        }));
        parts(&exchange.measurements, 37, 0).record
    };
    let text = BlockSpec::digest_of(1, 2, "x");
    let sha256 = HashAlgorithm::Sha256.digest(&[b"x"]);
    assert_eq!(
        value(vec![text.clone()], MeasurementHash::Sha256),
        [&[1, 1, 35, 0, 2, 32, 0][..], &sha256].concat()
    );
    assert_eq!(value(vec![text], MeasurementHash::Raw), [1, 1, 4, 0, 0x82, 1, 0, b'x']);
    assert_eq!(value(vec![BlockSpec::raw(3, 4, &[9])], MeasurementHash::Sha384), [3, 1, 4, 0, 0x84, 1, 0, 9]);
    let digest = BlockSpec { raw: false, ..BlockSpec::raw(3, 1, &[9]) };
    assert_eq!(value(vec![digest], MeasurementHash::Sha384), [3, 1, 4, 0, 1, 1, 0, 9]);
}

#[test]
fn spdm_1_3_carries_the_requester_context_and_1_1_signs_without_prefix() {
    let hash = HashAlgorithm::Sha384;
    let newer = objects(&device(|device| device.spdm.version = SpdmVersion::V13));
    let exchange = &newer.measurements;
    let parts_13 = parts(exchange, 45, 8);
    assert_eq!(exchange[..2], [0x13, 0xE0]);
    assert_eq!(exchange[37..45], exchange[parts_13.signature - 8..parts_13.signature]);
    let (messages, signature) = exchange.split_at(parts_13.signature);
    let digest = hash.digest(&[&signed("1.3", hash, &[&newer.vca, messages])]);
    assert!(verifies_p384(&newer.certificate, &digest, signature));

    let older = objects(&device(|device| device.spdm.version = SpdmVersion::V11));
    let exchange = &older.measurements;
    let (messages, signature) = exchange.split_at(parts(exchange, 37, 0).signature);
    assert!(verifies_p384(&older.certificate, &hash.digest(&[messages]), signature));
}

#[test]
fn p_256_signs_with_any_base_hash() {
    for hash in [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512] {
        let objects = objects(&device(|device| {
            device.spdm.asym = Asym::P256;
            device.spdm.hash = hash;
        }));
        let exchange = &objects.measurements;
        let parts = parts(exchange, 37, 0);
        assert_eq!(exchange.len(), parts.signature + 64);
        let (messages, signature) = exchange.split_at(parts.signature);
        let digest = hash.digest(&[&signed("1.2", hash, &[&objects.vca, messages])]);
        assert!(verifies_p256(&objects.certificate, &digest, signature));
    }
}

#[test]
fn an_unsigned_exchange_has_neither_nonce_nor_signature() {
    let exchange = objects(&device(|device| device.spdm.signed = false)).measurements;
    assert_eq!(exchange[..6], [0x12, 0xE0, 0, 0xFF, 0x12, 0x60]);
    assert_eq!(exchange.len(), parts(&exchange, 4, 0).signature);
    let newer = device(|device| {
        device.spdm.signed = false;
        device.spdm.version = SpdmVersion::V13;
    });
    let exchange = objects(&newer).measurements;
    assert_eq!((exchange[12], exchange.len()), (0x13, parts(&exchange, 12, 8).signature));
}

#[test]
fn a_nonce_that_is_not_forwarded_is_zero() {
    let exchange = objects(&device(|device| device.spdm.forwards_nonce = false)).measurements;
    assert_eq!(exchange[4..36], [0; 32]);
}

#[test]
fn the_same_boot_gives_the_same_bytes_and_a_refresh_another_nonce_of_the_device() {
    assert_eq!(objects(&plain()).measurements, objects(&plain()).measurements);
    let mut rig = Rig::placed(&plain());
    assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), SUCCESS);
    measure(&mut rig);
    let first = rig.object(MEASUREMENTS).unwrap();
    measure(&mut rig);
    assert_ne!(rig.object(MEASUREMENTS).unwrap(), first);
}

#[test]
fn a_chain_may_carry_the_header_of_its_slot() {
    let bare = objects(&plain()).certificate;
    assert_eq!(bare[..2], [0x30, 0x82]);
    let whole = objects(&device(|device| device.spdm.chain_header = true)).certificate;
    let root = std::fs::read(pki("p384/root.der")).unwrap();
    assert_eq!((usize::from(u16_at(&whole, 0)), u16_at(&whole, 2)), (whole.len(), 0));
    assert_eq!((&whole[4..52], &whole[52..]), (&sha384(&root)[..], &bare[..]));
}

#[test]
fn each_device_has_its_own_leaf_and_virtual_functions_of_one_device_share_it() {
    let chain = |number: usize| std::fs::read(pki(&format!("p384/chain-{number:02}.der"))).unwrap();
    assert_eq!(objects(&plain()).certificate, chain(0));
    assert_eq!(objects(&device(|device| device.spdm.unit = Some(15))).certificate, chain(15));

    let vf = |slot: &str, vf| DeviceSpec { model: DeviceModel::IgbVf, pf: "04.0".into(), vf, ..at(slot) };
    let scenario = devices(vec![at("02.0"), vf("14.0", 0), vf("14.2", 1)]);
    let functions = vec![
        rmm_model::sim::SimFunction::host_bridge(),
        rmm_model::sim::SimFunction::nvme(2, 0),
        rmm_model::sim::SimFunction::igb(4, 0),
    ];
    let mut rig = Rig::with(&scenario, functions);
    for (id, unit) in [(0x10, 0), (0xA0, 1), (0xA2, 1)] {
        let size = rig.rhi(RHI_DA_OBJECT_SIZE, &[id, CERTIFICATE]);
        assert_eq!(size[..2], [SUCCESS, chain(unit).len() as u64]);
        let read = rig.rhi(RHI_DA_OBJECT_READ, &[id, CERTIFICATE, SHARED, SHARED_LEN, 0]);
        let mut bytes = vec![0; read[1] as usize];
        rmm_model::machine::Machine::read(&mut rig.m, SHARED, &mut bytes);
        assert_eq!(bytes, chain(unit), "{id:#x}");
    }
}

#[test]
fn chain_and_key_of_the_scenario_replace_the_built_in_ones() {
    let objects = objects(&device(|device| {
        device.spdm.chain = Some(file("defects/expired.der"));
        device.spdm.key = Some(file("defects/expired.key"));
    }));
    let hash = HashAlgorithm::Sha384;
    let (messages, signature) = objects.measurements.split_at(parts(&objects.measurements, 37, 0).signature);
    let digest = hash.digest(&[&signed("1.2", hash, &[&objects.vca, messages])]);
    assert_eq!(objects.certificate, std::fs::read(pki("defects/expired.der")).unwrap());
    assert!(verifies_p384(&objects.certificate, &digest, signature));
}

#[test]
fn a_session_that_cannot_be_is_refused() {
    let error = |change: fn(&mut DeviceSpec)| {
        let mut m = rmm_model::sim::SimMachine::new(Box::new(rmm_model::sim::SparseRam::default()));
        Model::new(&device(change), &Board::sim(), &mut m).err().unwrap()
    };
    let slot = || "02.0".to_string();
    assert_eq!(error(|device| device.spdm.unit = Some(16)), SetupError::Unit(slot()));
    assert_eq!(error(|device| device.spdm.key = Some(Blob::bytes(&[0; 48]))), SetupError::Key(slot()));
    assert_eq!(error(|device| device.spdm.key = Some(Blob::bytes(&[1; 32]))), SetupError::Key(slot()));
    assert_eq!(
        error(|device| device.spdm.blocks = vec![BlockSpec { hex: "0".into(), ..BlockSpec::default() }]),
        SetupError::Hex("0".into())
    );
}

#[test]
fn a_foreign_key_and_another_transcript_do_not_verify_and_an_old_nonce_is_not_ours() {
    let hash = HashAlgorithm::Sha384;
    for (lie, is_ours, verifies) in [
        (Lie::MeasurementForeignKey, true, false),
        (Lie::MeasurementTranscript, true, false),
        (Lie::NoncesReused, false, true),
    ] {
        let objects = objects(&once(lie));
        let exchange = &objects.measurements;
        let (messages, signature) = exchange.split_at(parts(exchange, 37, 0).signature);
        let digest = hash.digest(&[&signed("1.2", hash, &[&objects.vca, messages])]);
        assert_eq!(exchange[4..36] == NONCE, is_ours, "{lie:?}");
        assert_eq!(verifies_p384(&objects.certificate, &digest, signature), verifies, "{lie:?}");
        // Above all the chain is the genuine one.
        assert_eq!(objects.certificate, std::fs::read(pki("p384/chain-00.der")).unwrap());
    }
}

#[test]
fn a_device_without_spdm_has_only_a_report() {
    let mut rig = Rig::placed(&device(|device| device.evidence = EvidenceKind::None));
    assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), SUCCESS);
    assert_eq!(rig.measure(), DEVICE);
    assert_eq!(rig.rhi(RHI_DA_VDEV_GET_INTERFACE_REPORT, &[VDEV])[0], SUCCESS);
    for kind in [VCA, CERTIFICATE, MEASUREMENTS] {
        assert_eq!(rig.object(kind), Err(DATA_NOT_AVAILABLE));
    }
    let info = rig.info().unwrap();
    assert_eq!(info.bytes[0x80..0x180], [0; 0x100]);
    assert_eq!((info.measurement, info.bytes[0x180..0x1B0] == [0; 48]), (0, false));
    rig.is_clean();
}

#[test]
fn the_public_key_digest_is_zero_the_leafs_or_another() {
    let digest = |of, dialect| {
        let scenario = Scenario { dialect, ..device(|device| device.public_key_digest = of) };
        let mut rig = Rig::placed(&scenario);
        assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), SUCCESS);
        let at = if dialect == Dialect::A2 { 0xC0 } else { 0x100 };
        let bytes = rig.info().unwrap().bytes;
        assert_eq!(bytes[at + 48..at + 64], [0; 16]);
        bytes[at..at + 48].to_vec()
    };
    let chain = std::fs::read(pki("p384/chain-00.der")).unwrap();
    // SEQUENCE { SEQUENCE { id-ecPublicKey, secp384r1 }, BIT STRING } of 120 bytes.
    let header = [0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
    let at = chain.windows(header.len()).rposition(|bytes| bytes == header).unwrap();
    let leaf = sha384(&chain[at..at + 120]);
    for dialect in [Dialect::A, Dialect::A2] {
        assert_eq!(digest(PublicKeyDigest::Zero, dialect), [0; 48]);
        assert_eq!(digest(PublicKeyDigest::Leaf, dialect), leaf);
        let other = digest(PublicKeyDigest::Other, dialect);
        assert!(other != leaf && other != [0; 48]);
    }
}
