//! `gatehouse rim`: every known value, by the library and by the command through board files.
//!
//! The values of the steps come from an independent program (Python's hashlib), those of the layouts from runs of
//! `veraison/cca-realm-measurements`; where an id ends in r2 or r3, only the former. Two come from the stub RMM.
use gatehouse::addr::IpaRange;
use gatehouse::rsi::HashAlgorithm;
use gatehouse_cli::rim::board::Board;
use gatehouse_cli::rim::chain::{Chain, Parameters, Rec, flag};
use gatehouse_cli::rim::layout::{self, Files, LayoutError};
use gatehouse_cli::rim::options::Options;
use gatehouse_cli::rim::{Rules, hash_from_word};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const VALUES: &str = include_str!("data/rim.txt");

/// The known value with this id, in hexadecimal digits.
fn known(id: &str) -> &'static str {
    let line = VALUES.lines().find(|line| line.split_whitespace().next() == Some(id));
    line.unwrap_or_else(|| panic!("no {id} in the table")).split_whitespace().nth(1).unwrap()
}

fn value(chain: &Chain) -> String {
    gatehouse_cli::hex(chain.value().as_bytes())
}

/// Byte i of the granule is i & 0xff.
fn granule() -> [u8; 4096] {
    std::array::from_fn(|i| i as u8)
}

const PARAMETERS: Parameters =
    Parameters { flags: flag::SVE | flag::PMU, s2sz: 40, sve_vl: 3, num_bps: 5, num_wps: 3, pmu_ctrs: 6 };
const REC: Rec = Rec { pc: 0x8000_0000, x: [0x8fe0_0000, 0, 0, 0, 0, 0, 0, 0] };

#[test]
fn every_step_gives_the_known_value() {
    let seen = RefCell::new(BTreeSet::new());
    for word in ["sha256", "sha384", "sha512"] {
        let hash = hash_from_word(word).unwrap();
        let check = |id: &str, chain: &Chain| {
            let id = format!("{word}:{id}");
            if VALUES.contains(&format!("{id} ")) {
                assert_eq!(value(chain), known(&id), "{id}");
                seen.borrow_mut().insert(id);
            }
        };
        let data = |chain: &mut Chain, ids: [&str; 3]| {
            chain.data(0x8000_0000, Some(&granule()));
            check(ids[0], chain);
            chain.data(0x8000_1000, None);
            check(ids[1], chain);
            chain.rec(&REC);
            check(ids[2], chain);
        };
        let mut chain = Chain::create(Rules::R2, hash, &PARAMETERS);
        data(&mut chain, ["B", "C", "D"]);
        let mut chain = Chain::create(Rules::R1, hash, &PARAMETERS);
        check("A", &chain);
        assert_eq!(chain.ripas(IpaRange::new(0x8000_0000, 0x20_2000).unwrap()), 3);
        let ripas = chain.clone();
        data(&mut chain, ["-", "-", "F"]);
        let mut chain = Chain::create(Rules::R3, hash, &PARAMETERS);
        assert_eq!(chain.ripas(IpaRange::new(0x8000_0000, 0x20_2000).unwrap()), 0, "r1 only");
        data(&mut chain, ["ZB", "-", "ZD"]);
        check("E", &ripas);
        let with_da = Parameters { flags: PARAMETERS.flags | flag::DA | flag::MEC_PRIVATE, ..PARAMETERS };
        check("A2", &Chain::create(Rules::R2, hash, &with_da));
        let mut chain = Chain::create(Rules::R1, hash, &PARAMETERS);
        for page in 0..514 {
            chain.ripas(IpaRange::new(0x8000_0000 + page * 4096, 4096).unwrap());
        }
        check("E4", &chain);
        let mut chain = Chain::create(Rules::R2, hash, &PARAMETERS);
        chain.data(0x8000_1000, None);
        chain.data(0x8000_0000, Some(&granule()));
        check("S", &chain);
    }
    let seen = seen.into_inner();
    assert_eq!(seen.len(), VALUES.lines().filter(|line| line.starts_with("sha")).count(), "{seen:?}");
}

/// A folder with the files of the known values.
fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("rim-{name}"));
    fs::create_dir_all(&path).unwrap();
    for (name, bytes) in [
        ("Image", image(0)),
        ("ImageO", image(0x8_0000)),
        ("initrd", ramp(3, 5000)),
        ("dtb", ramp(7, 65536)),
        ("fw", ramp(5, 6000)),
    ] {
        fs::write(path.join(name), bytes).unwrap();
    }
    path
}

fn ramp(step: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * step) as u8).collect()
}

/// An arm64 header, then byte i is i & 0xff, 10000 bytes.
fn image(text_offset: u64) -> Vec<u8> {
    let mut image = ramp(1, 10_000);
    image[..64].fill(0);
    image[..4].copy_from_slice(&0x1400_0010u32.to_le_bytes());
    image[8..16].copy_from_slice(&text_offset.to_le_bytes());
    image[16..24].copy_from_slice(&0x2_0000u64.to_le_bytes());
    image[24] = 0xa;
    image[56..60].copy_from_slice(b"ARM\x64");
    image
}

fn board_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../boards").join(name).join("board.toml")
}

fn gatehouse(folder: &Path, board: &str, words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gatehouse"))
        .current_dir(folder)
        .args(["rim", "--board"])
        .arg(board_path(board))
        .args(words.split_whitespace())
        .output()
        .unwrap()
}

/// Runs the command and returns its JSON.
fn json(folder: &Path, board: &str, words: &str) -> serde_json::Value {
    let output = gatehouse(folder, board, &format!("{words} --json"));
    assert!(output.status.success(), "{words}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs the command and returns its complaint.
fn refusal(folder: &Path, board: &str, words: &str) -> String {
    let output = gatehouse(folder, board, words);
    assert!(!output.status.success() && output.stdout.is_empty(), "{words}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_command_predicts_the_known_values_of_kvmtool_and_qemu() {
    let folder = folder("known");
    assert_eq!(gatehouse_cli::hex(&Sha256::digest(image(0))), known("Image"));
    assert_eq!(gatehouse_cli::hex(&Sha256::digest(ramp(7, 65536))), known("dtb"));
    for (id, board, words) in [
        ("K1", "fvp-kvmtool", "--image Image --ram-size 256M --rules r1"),
        ("K1-r2", "fvp-kvmtool", "--image Image --ram-size 256M"),
        ("K1-r3", "fvp-kvmtool", "--image Image --ram-size 256M --rules r3"),
        ("K2", "fvp-kvmtool", "--image Image --initrd initrd --ram-size 256M --rules r1 --hash sha512"),
        ("K3", "fvp-kvmtool", "--image ImageO --ram-size 256M --rules r1"),
        ("K4", "fvp-kvmtool", "--image Image --ram-size 0x10000000 --rules r1 --log"),
        ("Q1", "qemu-realm", "--image Image --ram-size 512M --rules r1 --hash sha256"),
        ("Q1-r2", "qemu-realm", "--image Image --ram-size 512M --hash sha256"),
        ("Q1-r3", "qemu-realm", "--image Image --ram-size 512M --rules r3 --hash sha256"),
        ("Q2", "qemu-realm", "--image Image --initrd initrd --ram-size 1G --rules r1"),
        ("Q3", "qemu-realm", "--image fw --firmware --ram-size 512M --rules r1 --hash sha256"),
    ] {
        let found = json(&folder, board, &format!("{words} --dtb dtb"));
        assert_eq!(found["rim"], known(id), "{id}: {found:#}");
        let stages = found["stages"].as_array().unwrap();
        for stage in stages {
            let id = format!("{id}:{}", stage["name"].as_str().unwrap().replace(' ', "-"));
            if VALUES.contains(&format!("{id} ")) {
                assert_eq!(stage["value"], known(&id), "{id}");
            }
        }
        assert_eq!(stages.last().unwrap()["value"], found["rim"]);
    }
}

#[test]
fn the_stub_s_boards_measure_image_then_tree_then_rec() {
    let folder = folder("stub");
    for board in ["qemu-virt", "qemu-virt-16550"] {
        let found = json(&folder, board, "--image Image --dtb dtb --recs 2");
        let parameters =
            Parameters { flags: flag::DA, s2sz: 44, num_bps: 5, num_wps: 3, ..Parameters::default() };
        let mut chain = Chain::create(Rules::R2, HashAlgorithm::Sha256, &parameters);
        let mut granules = |base: u64, bytes: &[u8]| {
            for (ipa, chunk) in (base..).step_by(4096).zip(bytes.chunks(4096)) {
                let mut granule = [0; 4096];
                granule[..chunk.len()].copy_from_slice(chunk);
                chain.data(ipa, Some(&granule));
            }
        };
        granules(0x4400_0000, &image(0));
        granules(0x4420_0000, &ramp(7, 65536));
        for _ in 0..2 {
            chain.rec(&Rec { pc: 0x4400_0000, x: [0x4420_0000, 0, 0, 0, 0, 0, 0, 0] });
        }
        assert_eq!((found["rim"].as_str().unwrap(), &found["rules"]), (&*value(&chain), &"r2".into()));
    }
}

#[test]
fn the_stub_computed_the_same_values_under_qemu() {
    let folder = folder("recorded");
    // An image that stands still: a branch to itself, and bytes that no two granules have in common.
    let mut spin: Vec<u8> = (0..12_988usize).map(|i| (i * 13 + i / 256) as u8).collect();
    spin[..64].copy_from_slice(&image(0)[..64]);
    spin[..4].copy_from_slice(&0x1400_0000u32.to_le_bytes());
    spin[16..24].copy_from_slice(&0x32_0000u64.to_le_bytes());
    fs::write(folder.join("spin"), spin).unwrap();
    // The tree that the stub made for 2 GiB of RAM and no device.
    fs::write(folder.join("host.dtb"), include_bytes!("data/qemu-virt.dtb")).unwrap();
    let found = json(&folder, "qemu-virt", "--image spin --dtb host.dtb");
    assert_eq!(found["rim"], known("V1"), "{found:#}");
    let words = "--image spin --dtb host.dtb --hash sha512 --flags 0 --image-address 0x44400000";
    assert_eq!(json(&folder, "qemu-virt", words)["rim"], known("V2"));
}

#[test]
fn the_tree_lies_below_the_image_where_ram_ends_above_it() {
    let folder = folder("below");
    let places = |words: &str| {
        let found = json(&folder, "qemu-virt", &format!("--image Image --dtb dtb {words}"));
        found["stages"].as_array().unwrap().last().unwrap()["detail"].as_str().unwrap().to_owned()
    };
    assert_eq!(places("--ram-size 4M"), "pc 0x44000000, x0 0x44200000");
    assert_eq!(places("--ram-size 8M --image-address 0x44600000"), "pc 0x44600000, x0 0x44400000");
    assert_eq!(places("--dtb-address 0x48000000"), "pc 0x44000000, x0 0x48000000");
    assert!(refusal(&folder, "qemu-virt", "--image Image --dtb dtb --ram-size 2M").contains("no room"));
}

#[test]
fn a_changed_byte_of_any_input_changes_the_rim() {
    let board = Board::parse(&fs::read_to_string(board_path("fvp-kvmtool")).unwrap()).unwrap();
    let options = Options { ram_size: Some(256 << 20), rules: Some(Rules::R1), ..Options::default() };
    let files = Files { image: image(0), initrd: Some(ramp(3, 5000)), tree: Some(ramp(7, 65536)) };
    let rim = |files: &Files, options: &Options| layout::plan(&board, files, options).unwrap().measure().rim;
    let mut seen = vec![rim(&files, &options)];
    let mut differs = |what: &str, files: &Files, options: &Options| {
        let rim = rim(files, options);
        assert!(!seen.contains(&rim), "{what} is not measured");
        seen.push(rim);
    };
    for at in [0, 24, 63, 64, 4095, 4096, 9_999] {
        let mut changed = files.clone();
        changed.image[at] ^= 1;
        differs("the image", &changed, &options);
    }
    for at in [0, 4095, 4_999] {
        let mut changed = files.clone();
        changed.initrd.as_mut().unwrap()[at] ^= 0x80;
        differs("the ramdisk", &changed, &options);
    }
    for at in [0, 4096, 65_535] {
        let mut changed = files.clone();
        changed.tree.as_mut().unwrap()[at] ^= 1;
        differs("the tree", &changed, &options);
    }
    differs("the ramdisk's presence", &Files { initrd: None, ..files.clone() }, &options);
    let address = |n: u64| Some(0x8000_0000 + n * 0x20_0000);
    for (what, changed) in [
        ("rules", Options { rules: Some(Rules::R2), ..options.clone() }),
        ("rules", Options { rules: Some(Rules::R3), ..options.clone() }),
        ("hash", Options { hash: Some(HashAlgorithm::Sha512), ..options.clone() }),
        ("RAM", Options { ram_size: Some(258 << 20), ..options.clone() }),
        ("s2sz", Options { s2sz: Some(34), ..options.clone() }),
        ("flags", Options { flags: Some(0), ..options.clone() }),
        ("da", Options { da: true, ..options.clone() }),
        ("num_bps", Options { num_bps: Some(4), ..options.clone() }),
        ("num_wps", Options { num_wps: Some(4), ..options.clone() }),
        ("sve_vl", Options { sve_vl: Some(4), ..options.clone() }),
        ("pmu_ctrs", Options { pmu_ctrs: Some(4), ..options.clone() }),
        ("recs", Options { recs: Some(2), ..options.clone() }),
        ("image", Options { image_address: address(1), ..options.clone() }),
        ("initrd", Options { initrd_address: address(2), ..options.clone() }),
        ("tree", Options { tree_address: address(3), ..options.clone() }),
        ("log", Options { log: true, ..options.clone() }),
    ] {
        differs(what, &files, &changed);
    }
}

#[test]
fn a_short_tree_has_zeros_behind_it_where_the_vmm_pads() {
    let folder = folder("padding");
    let mut tree = ramp(7, 5000);
    fs::write(folder.join("short"), &tree).unwrap();
    tree.resize(65536, 0);
    fs::write(folder.join("padded"), &tree).unwrap();
    let rim = |board, tree: &str| {
        json(&folder, board, &format!("--image Image --dtb {tree} --ram-size 256M"))["rim"].clone()
    };
    assert_eq!(rim("fvp-kvmtool", "short"), rim("fvp-kvmtool", "padded"));
    assert_ne!(rim("qemu-realm", "short"), rim("qemu-realm", "padded"));
}

#[test]
fn what_no_vmm_could_load_is_refused_by_name() {
    let board = |name| Board::parse(&fs::read_to_string(board_path(name)).unwrap()).unwrap();
    let files = Files { image: image(0), initrd: Some(ramp(3, 5000)), tree: Some(ramp(7, 65536)) };
    let kvmtool = Options { ram_size: Some(256 << 20), ..Options::default() };
    let refused =
        |name, files: &Files, options: &Options| layout::plan(&board(name), files, options).unwrap_err();
    let error = refused("fvp-kvmtool", &files, &Options::default());
    assert_eq!(error, LayoutError::NoRamSize);
    let error =
        refused("fvp-kvmtool", &files, &Options { ram_size: Some((1 << 20) + 4096), ..kvmtool.clone() });
    assert_eq!(error, LayoutError::RamSize((1 << 20) + 4096));
    let error = refused("fvp-kvmtool", &files, &Options { ram_size: Some(2 << 20), ..kvmtool.clone() });
    assert_eq!(error, LayoutError::NoRoom("initrd"), "the tree is at the start of RAM");
    // The rule for the width does not cover RAM above 4 GiB, and a realm could not use it.
    let error = refused("fvp-kvmtool", &files, &Options { ram_size: Some(4 << 30), ..kvmtool.clone() });
    assert_eq!(error, LayoutError::NotProtected { part: "RAM", top: 0x1_8000_0000, width: 33 });
    let wide = Options { ram_size: Some(4 << 30), s2sz: Some(34), ..kvmtool.clone() };
    assert!(layout::plan(&board("fvp-kvmtool"), &files, &wide).is_ok());
    let error =
        refused("fvp-kvmtool", &files, &Options { tree_address: Some(0x8000_1000), ..kvmtool.clone() });
    assert_eq!(error, LayoutError::NoRoom("initrd"), "the ramdisk would lie below RAM");
    let over =
        Options { tree_address: Some(0x8001_0000), initrd_address: Some(0x8100_0000), ..kvmtool.clone() };
    assert_eq!(refused("fvp-kvmtool", &files, &over), LayoutError::Overlap("image", "device tree"));
    let outside = Options { tree_address: Some(0x9000_0000), ..kvmtool.clone() };
    assert_eq!(refused("fvp-kvmtool", &files, &outside), LayoutError::NoRoom("device tree"));
    let mut large = files.clone();
    large.image[19] = 0x10;
    assert_eq!(
        refused("fvp-kvmtool", &large, &kvmtool),
        LayoutError::NoRoom("image"),
        "it claims more than RAM"
    );
    let wide = Options { s2sz: Some(53), ..kvmtool.clone() };
    assert!(matches!(refused("fvp-kvmtool", &files, &wide), LayoutError::Width(_)));
    for recs in [0, 513] {
        let error = refused("fvp-kvmtool", &files, &Options { recs: Some(recs), ..kvmtool.clone() });
        assert_eq!(error, LayoutError::Recs(recs));
    }
    let sha384 = Options { rules: Some(Rules::R1), hash: Some(HashAlgorithm::Sha384), ..kvmtool.clone() };
    assert_eq!(refused("fvp-kvmtool", &files, &sha384), LayoutError::NoSha384);
    let error = refused("qemu-virt", &files, &Options::default());
    assert_eq!(error, LayoutError::NotPopulated("initrd"));
    let error =
        refused("qemu-virt", &Files { initrd: None, tree: None, ..files.clone() }, &Options::default());
    assert_eq!(error, LayoutError::NoTree);
    let log = Options { log: true, ..Options::default() };
    assert_eq!(
        refused("qemu-virt", &Files { initrd: None, ..files.clone() }, &log),
        LayoutError::NoSuch("log")
    );
    let large = Options { ram_size: Some(256 << 30), ..Options::default() };
    assert_eq!(refused("qemu-realm", &files, &large), LayoutError::WidthUnknown(256 << 30));
    let firmware = Options { firmware: true, ..Options::default() };
    assert!(matches!(refused("qemu-realm", &files, &firmware), LayoutError::NoSuch(_)));
    let error = refused("qemu-realm", &Files { image: ramp(5, 6000), ..files }, &Options::default());
    assert_eq!(error, LayoutError::NotAnImage);
}

#[test]
fn a_wrong_file_is_told_by_its_name_and_what_it_is() {
    let folder = folder("wrong");
    fs::write(folder.join("kernel.gz"), [0x1f, 0x8b, 8, 0]).unwrap();
    fs::write(folder.join("real.dtb"), [0xd0, 0x0d, 0xfe, 0xed]).unwrap();
    for (words, told) in [
        (
            "--image kernel.gz --dtb dtb",
            "kernel.gz: this is a gzip-compressed file, not an arm64 kernel Image",
        ),
        ("--image Image --dtb Image", "Image: this is an arm64 kernel Image, not a device tree or FIT"),
        (
            "--image Image --dtb dtb --initrd real.dtb",
            "real.dtb: this is a device tree or FIT, not a ramdisk",
        ),
        ("--image fw --dtb dtb", "fw: this is unknown data, not an arm64 kernel Image"),
        ("--image nothing --dtb dtb", "nothing: "),
        ("--image Image", "none is given: --dtb"),
    ] {
        let text = refusal(&folder, "qemu-virt", words);
        assert!(text.contains(told), "{text}");
    }
    assert!(refusal(&folder, "fvp-kvmtool", "--image Image --dtb dtb").contains("--ram-size"));
    let text = refusal(&folder, "../tools/gatehouse-cli/tests/nothing", "--image Image --dtb dtb");
    assert!(text.contains("board.toml: "), "{text}");
    for (content, told) in [
        (&image(0)[..], "board: this is an arm64 kernel Image, not a board"),
        (b"version = 1\nsvn = 2\n", "board: this is a policy in TOML, not a board"),
        (b"name = \"x\"\nram_base = 0\n", "missing field `rim`"),
    ] {
        fs::write(folder.join("board"), content).unwrap();
        let args = ["rim", "--board", "board", "--image", "Image"];
        let output =
            Command::new(env!("CARGO_BIN_EXE_gatehouse")).current_dir(&folder).args(args).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(told), "{text}");
    }
}

#[test]
fn the_text_has_rule_set_hash_and_a_rim_of_its_length() {
    let folder = folder("text");
    for (hash, digits) in [("sha256", 64), ("sha384", 96), ("sha512", 128)] {
        let output = gatehouse(&folder, "qemu-virt", &format!("--image Image --dtb dtb --hash {hash}"));
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[..2], [["rules", "r2"], ["hash", hash]]);
        assert_eq!((lines.len(), lines[2][0], lines[2][1].len()), (3, "rim", digits));
        let output = gatehouse(&folder, "qemu-virt", &format!("--image Image --dtb dtb --hash {hash} -v"));
        let verbose = String::from_utf8(output.stdout).unwrap();
        assert!(verbose.ends_with(&text) && verbose.starts_with("parameters "), "{verbose}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_board_text_or_image_panics(
        text in "[a-z_= \n\"\\[\\]0-9]{0,200}",
        head in prop::collection::vec(any::<u8>(), 0..80),
        header in any::<[u64; 3]>(),
        ram in any::<u64>(),
        addresses in any::<[Option<u64>; 3]>(),
        s2sz in any::<Option<u8>>(),
        log in any::<bool>(),
        firmware in any::<bool>(),
    ) {
        let _ = Board::parse(&text);
        let mut extreme = image(header[0]);
        extreme[16..24].copy_from_slice(&header[1].to_le_bytes());
        for name in ["qemu-virt", "fvp-kvmtool", "qemu-realm"] {
            let mut board = Board::parse(&fs::read_to_string(board_path(name)).unwrap()).unwrap();
            for image in [&head, &extreme] {
                for ram in [ram, ram & !0xfff, ram >> 30 << 21] {
                    let files = Files { image: image.clone(), initrd: None, tree: Some(vec![1; 10]) };
                    let [image_address, initrd_address, tree_address] = addresses;
                    let ram_size = Some(ram);
                    let options = Options {
                        ram_size, s2sz, image_address, initrd_address, tree_address, log, firmware, ..Options::default()
                    };
                    if let Ok(plan) = layout::plan(&board, &files, &options) {
                        let _ = plan.measure();
                    }
                    board.ram_base = header[2] & !0xfff;
                    board.realm_ram_base = None;
                }
            }
        }
    }

    #[test]
    fn a_changed_board_file_is_read_or_refused(at in 0usize..3000, byte in any::<u8>()) {
        for name in ["qemu-virt", "fvp-kvmtool"] {
            let mut text = fs::read(board_path(name)).unwrap();
            let at = at % text.len();
            text[at] = byte;
            let _ = Board::parse(&String::from_utf8_lossy(&text));
        }
    }
}
