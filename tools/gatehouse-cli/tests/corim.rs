//! CoRIM output as a verifier reads it, against the maps of draft-ietf-rats-corim-10 and draft-ydb-rats-cca-endorsements-04.
use gatehouse::rsi::HashAlgorithm;
use gatehouse_cli::rim::corim::reference_values;
use minicbor::data::Type;
use minicbor::decode::Decoder;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Returns the CBOR of the only CoMID in a CoRIM.
fn comid(corim: &[u8]) -> Vec<u8> {
    let mut decoder = Decoder::new(corim);
    assert_eq!((decoder.tag().unwrap().as_u64(), decoder.map().unwrap()), (501, Some(3)));
    assert_eq!(decoder.u8().unwrap(), 0);
    decoder.str().unwrap();
    assert_eq!((decoder.u8().unwrap(), decoder.array().unwrap()), (1, Some(1)));
    assert_eq!(decoder.tag().unwrap().as_u64(), 506);
    decoder.bytes().unwrap().to_vec()
}

/// Diagnostic notation (RFC 8949, 8) of the one item in `cbor`, without spaces.
fn diagnostic(cbor: &[u8]) -> String {
    fn item(decoder: &mut Decoder<'_>) -> String {
        match decoder.datatype().unwrap() {
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => decoder.u64().unwrap().to_string(),
            Type::String => format!("\"{}\"", decoder.str().unwrap()),
            Type::Bytes => format!("h'{}'", gatehouse_cli::hex(decoder.bytes().unwrap())),
            Type::Tag => format!("{}({})", decoder.tag().unwrap().as_u64(), item(decoder)),
            Type::Array => {
                let len = decoder.array().unwrap().unwrap();
                format!("[{}]", (0..len).map(|_| item(decoder)).collect::<Vec<_>>().join(","))
            }
            Type::Map => {
                let len = decoder.map().unwrap().unwrap();
                let pair = |_| format!("{}:{}", item(decoder), item(decoder));
                format!("{{{}}}", (0..len).map(pair).collect::<Vec<_>>().join(","))
            }
            other => panic!("{other:?}"),
        }
    }
    let mut decoder = Decoder::new(cbor);
    let text = item(&mut decoder);
    assert_eq!(decoder.position(), cbor.len(), "nothing stands behind it");
    text
}

#[test]
fn the_reference_values_are_those_of_the_profile_for_realms() {
    let rim = [0xa5; 32];
    let rems = [Some(vec![0xe0; 32]), None, Some(vec![0xe2; 32]), None];
    let corim = reference_values(&rim, &rems, HashAlgorithm::Sha256);
    let (rim, rem0, rem2) = ("a5".repeat(32), "e0".repeat(32), "e2".repeat(32));
    let inner = comid(&corim);
    let outer = format!(
        "501({{0:\"gatehouse-rim:{rim}\",1:[506(h'{}')],3:32(\"tag:arm.com,2025:endorsements/cca_realm#1.0.0\")}})",
        gatehouse_cli::hex(&inner)
    );
    assert_eq!(diagnostic(&corim), outer);
    let measurement = |name, value: &str| format!("{{0:\"cca.{name}\",1:{{2:[[\"sha-256\",h'{value}']]}}}}");
    let measurements =
        [measurement("rim", &rim), measurement("rem0", &rem0), measurement("rem2", &rem2)].join(",");
    let triple = format!("[{{0:{{0:560(h'{rim}')}}}},[{measurements}]]");
    assert_eq!(diagnostic(&inner), format!("{{1:{{0:\"gatehouse-rim:{rim}\"}},4:{{0:[{triple}]}}}}"));
}

#[test]
fn every_hash_has_its_registered_name() {
    for (hash, name) in [
        (HashAlgorithm::Sha256, "sha-256"),
        (HashAlgorithm::Sha384, "sha-384"),
        (HashAlgorithm::Sha512, "sha-512"),
    ] {
        let rim = vec![7; hash.digest_len()];
        let text = diagnostic(&comid(&reference_values(&rim, &[const { None }; 4], hash)));
        assert!(
            text.ends_with(&format!("[[\"{name}\",h'{}']]}}}}]]]}}}}", "07".repeat(rim.len()))),
            "{text}"
        );
    }
}

#[test]
fn the_command_writes_the_predicted_rim_and_the_given_rems() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("corim");
    fs::create_dir_all(&folder).unwrap();
    let mut image = vec![0; 4096];
    image[56..60].copy_from_slice(b"ARM\x64");
    fs::write(folder.join("image"), image).unwrap();
    fs::write(folder.join("dtb"), [1; 64]).unwrap();
    let board = concat!(env!("CARGO_MANIFEST_DIR"), "/../../boards/qemu-virt/board.toml");
    let run = |more: &[&str]| {
        let args = ["rim", "--board", board, "--image", "image", "--dtb", "dtb", "--json"];
        Command::new(env!("CARGO_BIN_EXE_gatehouse"))
            .current_dir(&folder)
            .args(args)
            .args(more)
            .output()
            .unwrap()
    };
    let rem = "3C".repeat(32);
    let output = run(&["--corim", "out.corim", "--rem", &format!("3={rem}")]);
    assert!(output.status.success(), "{output:?}");
    let rim = serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["rim"]
        .as_str()
        .unwrap()
        .to_owned();
    let text = diagnostic(&fs::read(folder.join("out.corim")).unwrap());
    assert!(text.starts_with(&format!("501({{0:\"gatehouse-rim:{rim}\"")), "{text}");
    let text = diagnostic(&comid(&fs::read(folder.join("out.corim")).unwrap()));
    assert!(text.contains(&format!("\"cca.rim\",1:{{2:[[\"sha-256\",h'{rim}'")), "{text}");
    assert!(text.contains(&format!("\"cca.rem3\",1:{{2:[[\"sha-256\",h'{}'", rem.to_lowercase())), "{text}");
    fs::remove_file(folder.join("out.corim")).unwrap();
    let (twice, fifth) = (format!("3={rem}"), format!("4={rem}"));
    for (rems, told) in [
        (&["--rem", &*fifth][..], "0 to 3"),
        (&["--rem", "0=0g"], "hexadecimal"),
        (&["--rem", "0=00"], "32"),
        (&["--rem", &twice, "--rem", &twice], "twice"),
    ] {
        let output = run(&[&["--corim", "out.corim"], rems].concat());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(told), "{text}");
        assert!(!folder.join("out.corim").exists());
    }
}
