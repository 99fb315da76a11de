//! Each input of a boot is in the RIM or in a REM: one byte changed in one of them changes exactly the measurements that stand for it.
//! REM 4, which nobody foresees, is recomputed from what the run recorded.
mod common;

use common::image::{Image, pack_for};
use common::measured::region;
use common::*;
use gatehouse::cbor::Items;
use gatehouse::fdt::check::Tree;
use gatehouse::policy::cbor;
use gatehouse_cli::eventlog::EventLog;
use gatehouse_cli::pack::Pack;
use gatehouse_cli::rim::board::Board as Measured;
use gatehouse_cli::rim::layout::{Files, plan};
use gatehouse_cli::rim::options::Options;
use rmm_model::Scenario;
use rmm_model::digest::{HashAlgorithm, to_hex};
use rmm_model::scenario::{Blob, BlockSpec, default_blocks};

const BOARD: &str = include_str!("../boards/qemu-virt/board.toml");

/// All that goes into a boot.
#[derive(Clone)]
struct Inputs {
    board: String,
    tree: Vec<u8>,
    pack: Pack,
    scenario: Scenario,
}

impl Inputs {
    fn new() -> Self {
        let mut scenario = plain();
        // Any evidence that can be read is accepted: what differs is measured and not refused.
        scenario.device[0].policy = "measurements = \"any\"".into();
        scenario.device[0].spdm.blocks = default_blocks();
        Self { board: BOARD.into(), tree: image::tree(|_| {}), pack: pack_for(&scenario), scenario }
    }

    /// RIM as `gatehouse rim` predicts it, then REM 1 to 3 of a boot, in hexadecimal digits.
    fn measurements(&self) -> [String; 4] {
        let image = self.pack.build().unwrap().image_bytes;
        let files = Files { image, initrd: None, tree: Some(self.tree.clone()) };
        let options = Options { ram_size: Some(256 << 20), ..Options::default() };
        let rim = plan(&Measured::parse(&self.board).unwrap(), &files, &options).unwrap().measure().rim;
        let ran = Boot { image: Image::packed(&self.pack), ..Boot::new(&self.scenario) }.run();
        assert!(ran.result.is_ok(), "{}", ran.log.join("\n"));
        let [one, two, three, _] = <[String; 4]>::try_from(ran.state.rems.clone()).unwrap();
        [to_hex(rim.as_bytes()), one, two, three]
    }
}

/// Changes one byte of an input.
type Change = fn(&mut Inputs);

/// The value of a block of the device.
fn block(inputs: &mut Inputs, index: u8) -> &mut BlockSpec {
    inputs.scenario.device[0].spdm.blocks.iter_mut().find(|block| block.index == index).unwrap()
}

#[test]
fn one_byte_of_each_input_changes_the_measurements_that_stand_for_it_and_no_other() {
    let (same, other) = (false, true);
    // RIM, REM 1 to 3.
    let table: [(&str, [bool; 4], Change); 11] = [
        ("nothing", [same, same, same, same], |_| {}),
        ("firmware", [other, same, same, same], |inputs| inputs.pack.firmware[0xfff] ^= 1),
        ("board", [other, same, same, same], |inputs| {
            inputs.board = inputs.board.replace("num_bps = 5", "num_bps = 4");
        }),
        ("device tree", [other, same, same, same], |inputs| *inputs.tree.last_mut().unwrap() ^= 1),
        ("policy", [other, other, same, other], |inputs| {
            let mut policy = cbor::decode(inputs.pack.policy.as_deref().unwrap()).unwrap();
            policy.svn += 1;
            inputs.pack.policy = Some(cbor::encode(&policy));
        }),
        ("kernel", [other, same, same, other], |inputs| inputs.pack.kernel[0x4fff] ^= 1),
        ("ramdisk", [other, same, same, other], |inputs| inputs.pack.ramdisk.as_mut().unwrap()[7] ^= 1),
        ("command line", [other, same, same, other], |inputs| inputs.pack.cmdline.replace_range(0..1, "d")),
        ("svn", [other, same, same, other], |inputs| inputs.pack.svn += 1),
        ("firmware of the device", [same, same, other, same], |inputs| {
            let block = block(inputs, 1);
            block.text.push('x');
        }),
        ("revision of the device", [same, same, other, same], |_| {}),
    ];
    let first = Inputs::new().measurements();
    for (name, wanted, change) in table {
        let mut inputs = Inputs::new();
        change(&mut inputs);
        let found = if name == "revision of the device" { revised(&inputs) } else { inputs.measurements() };
        let differs = [0, 1, 2, 3].map(|at| found[at] != first[at]);
        assert_eq!(differs, wanted, "{name}: RIM, REM 1 to 3");
    }
}

/// The same machine, its device with another revision id in configuration space.
fn revised(inputs: &Inputs) -> [String; 4] {
    let [rim, ..] = inputs.measurements();
    let tamper: Tamper = |ipa, _| (ipa == ecam(2, 8)).then_some(0x0108_0203);
    let boot =
        Boot { image: Image::packed(&inputs.pack), tamper: Some(tamper), ..Boot::new(&inputs.scenario) };
    let ran = boot.run();
    assert!(ran.result.is_ok(), "{}", ran.log.join("\n"));
    let [one, two, three, _] = <[String; 4]>::try_from(ran.state.rems.clone()).unwrap();
    [rim, one, two, three]
}

/// What a run recorded of REM 4: sessions and final tree, from the evidence region and the tree itself.
fn recorded(ran: &Ran) -> (Vec<Vec<u8>>, Vec<u8>) {
    let tree = ran.result.as_ref().unwrap().tree;
    let log = EventLog::read(&region(tree, "log")).unwrap();
    let vdevs: Vec<u64> = log.sessions().map(|session| session.vdev).collect();
    let evidence = region(tree, "evidence");
    let evidence = gatehouse_cli::region::read(&evidence).unwrap();
    assert_eq!(evidence.len(), vdevs.len());
    let session = |(one, vdev): (&gatehouse_cli::region::Collected<'_>, u64)| {
        let session = &one.session;
        let mut items = Items::default();
        items.array(13).text(&session.slot).number(vdev).text(session.hash).numbers(&session.nonces);
        for digest in &session.digests {
            items.bytes(digest);
        }
        items.bytes(&session.requester_nonce).text_or_null(session.no_run.as_deref());
        tagged(3, &items)
    };
    (evidence.iter().zip(vdevs).map(session).collect(), measured_form(tree))
}

fn tagged(tag: u32, items: &Items) -> Vec<u8> {
    let len = u32::try_from(items.0.len()).unwrap();
    [&(0x4748_0000 + tag).to_le_bytes(), &len.to_le_bytes(), items.0.as_slice()].concat()
}

/// The final tree with zeros for its seeds.
fn measured_form(address: u64) -> Vec<u8> {
    let mut blob = tree_at(address);
    let tree = Tree::check(blob.clone()).unwrap();
    let reader = tree.reader().unwrap();
    let chosen = reader.find_node("/chosen").unwrap();
    for name in ["rng-seed", "kaslr-seed"] {
        let seed = chosen.property(name).unwrap().value;
        let at = blob.windows(seed.len()).position(|bytes| bytes == seed).unwrap();
        blob[at..at + seed.len()].fill(0);
    }
    blob
}

/// REM 4 of sessions and tree by the formula of TF-RMM.
fn rem4((sessions, tree): &(Vec<Vec<u8>>, Vec<u8>), hash: HashAlgorithm) -> String {
    let mut items = Items::default();
    items.array(1).bytes(&hash.digest(&[tree]));
    let events = sessions.iter().cloned().chain([tagged(7, &items), vec![0; 4]]);
    let extend = |rem: Vec<u8>, event: Vec<u8>| hash.digest(&[&rem, &hash.digest(&[&event])]);
    to_hex(&events.fold(vec![0; hash.len_bytes()], extend))
}

#[test]
fn rem_4_follows_from_the_sessions_and_the_tree_and_from_nothing_else() {
    let scenario = plain();
    let hash = scenario.realm.hash;
    let runs = [boot(&scenario), boot(&scenario)];
    let recorded = runs.each_ref().map(recorded);
    for (ran, recorded) in runs.iter().zip(&recorded) {
        assert_eq!(ran.state.rems[3], rem4(recorded, hash));
    }
    // Two boots with the same sessions and the same tree have the same value, and only they.
    let [one, other] = &recorded;
    assert_eq!(one == other, runs[0].state.rems[3] == runs[1].state.rems[3]);
    let (sessions, tree) = one.clone();
    assert_eq!(rem4(&(sessions.clone(), tree.clone()), hash), runs[0].state.rems[3]);
    for at in [12, sessions[0].len() - 1] {
        let mut changed = sessions.clone();
        changed[0][at] ^= 1;
        assert_ne!(rem4(&(changed, tree.clone()), hash), runs[0].state.rems[3]);
    }
    let mut changed = tree;
    *changed.last_mut().unwrap() ^= 1;
    assert_ne!(rem4(&(sessions, changed), hash), runs[0].state.rems[3]);
}

#[test]
fn other_evidence_is_another_rem_4() {
    let mut scenario = plain();
    let first = recorded(&boot(&scenario)).0;
    scenario.device[0].spdm.opaque = Blob::bytes(&[1]);
    assert_ne!(recorded(&boot(&scenario)).0, first, "the session has the digest of the raw evidence");
}
