//! What a file is, in words.
use gatehouse::policy::cbor;
use gatehouse_cli::filetype::describe;
use gatehouse_cli::policy::toml;
use proptest::prelude::*;
use std::fs;
use std::path::Path;

fn with(offset: usize, magic: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[offset..offset + magic.len()].copy_from_slice(magic);
    bytes
}

#[test]
fn every_kind_of_file_is_known() {
    let policy =
        "version = 1\nsvn = 4\n[[rule]]\nname = \"nic\"\nkind = \"virtio-pci\"\nvirtio = \"network\"\n";
    let encoded = cbor::encode(&toml::parse(policy, Path::new("")).unwrap());
    let mut gatehouse = with(56, b"ARM\x64");
    gatehouse[64..72].copy_from_slice(b"GATEHSLT");
    for (bytes, words) in [
        (vec![], "an empty file"),
        (vec![0x1f, 0x8b, 8, 0], "a gzip-compressed file"),
        (with(56, b"ARM\x64"), "an arm64 kernel Image"),
        (gatehouse, "a Gatehouse image"),
        (with(0, &[0xd0, 0x0d, 0xfe, 0xed]), "a device tree or FIT"),
        (encoded, "a Gatehouse policy"),
        (with(32, b"Spec ID Event03\0"), "a TCG event log"),
        (with(0, &[0xd9, 0x01, 0x8f, 0xa2]), "a CCA token"),
        (with(0, &[0xd9, 0x03, 0x8b, 0xa2]), "a CCA token"),
        (with(0, b"\x7fELF\x02"), "an ELF file"),
        (with(0, b"MZ\0\0zimg"), "an EFI zboot kernel"),
        (b"-----BEGIN CERTIFICATE-----\n".to_vec(), "PEM text"),
        (policy.into(), "a policy in TOML"),
        (vec![0; 4096], "unknown data"),
        (b"some text\n".to_vec(), "unknown data"),
        (b"MZ".to_vec(), "unknown data"),
        (vec![0x30, 0x02, 0x05, 0x00], "unknown data"),
    ] {
        assert_eq!(describe(&bytes), words);
    }
}

#[test]
fn the_certificates_of_the_tests_are_certificates() {
    let pki = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/pki/defects");
    let mut num = 0;
    for entry in fs::read_dir(pki).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "der") {
            let bytes = fs::read(&path).unwrap();
            assert_eq!(describe(&bytes), "a DER certificate", "{}", path.display());
            assert_ne!(describe(&bytes[..bytes.len() - 1]), "a DER certificate", "cut off");
            num += 1;
        }
    }
    assert!(num > 0);
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200), magic in 0usize..8) {
        let heads: [&[u8]; 8] =
            [b"", b"\x30\x84", b"\x30\x82\x00", b"\x1f\x8b", b"MZ", b"\xa1\x00", b"\x30\x89", b"version = 1\n"];
        prop_assert!(!describe(&[heads[magic], &bytes].concat()).is_empty());
    }
}
