//! The RIM against the vectors of `rim.md` 8: section 8.1 from independent Python, 8.2 from the reference tool (R1) and
//! Python (R2, R3).

use rmm_model::Range;
use rmm_model::digest::HashAlgorithm::{self, *};
use rmm_model::digest::to_hex;
use rmm_model::rim::RimRules::{self, *};
use rmm_model::rim::{Loaded, Parameters, RecEntry, Rim};

/// The parameters of section 8.1.
const A: Parameters =
    Parameters { flags: 0x6, s2sz: 0x28, sve_vl: 3, num_bps: 5, num_wps: 3, pmu_num_ctrs: 6 };
const REC: RecEntry = RecEntry { pc: 0x8000_0000, gprs: [0x8FE0_0000, 0, 0, 0, 0, 0, 0, 0] };

/// What comes behind the parameters.
#[derive(Clone, Copy)]
enum Step {
    /// Granule G.
    Data(u64),
    Unmeasured(u64),
    Rec,
    Entry(u64, u64),
    Ripas(u64, u64),
}
use Step::*;

fn run(rules: RimRules, hash: HashAlgorithm, parameters: &Parameters, steps: &[Step]) -> String {
    let granule: Vec<u8> = (0..4096).map(|at| at as u8).collect();
    let mut rim = Rim::new(rules, hash, parameters);
    for step in steps {
        match *step {
            Data(ipa) => rim.data(ipa, &granule),
            Unmeasured(ipa) => rim.unmeasured(ipa),
            Rec => rim.rec(&REC),
            Entry(base, top) => rim.ripas_entry(base, top),
            Ripas(base, top) => rim.ripas(base, top),
        }
    }
    to_hex(rim.value())
}

const G: u64 = 0x8000_0000;
const B: &[Step] = &[Data(G)];
const C: &[Step] = &[Data(G), Unmeasured(G + 0x1000)];
const D: &[Step] = &[Data(G), Unmeasured(G + 0x1000), Rec];
const E: &[Step] = &[Ripas(G, G + 0x20_2000)];
const F: &[Step] = &[Ripas(G, G + 0x20_2000), Data(G), Unmeasured(G + 0x1000), Rec];
const S: &[Step] = &[Unmeasured(G + 0x1000), Data(G)];

#[test]
fn the_chains_of_section_8_1_have_their_values_with_sha_256() {
    for (rules, steps, value) in [
        (R2, &[][..], "2e0491fd0d3cd625cf275615e4ab22f24407bcfc6af002fb69d0e0ad82898ccc"),
        (R1, &[], "2e0491fd0d3cd625cf275615e4ab22f24407bcfc6af002fb69d0e0ad82898ccc"),
        (R2, B, "bbb3d71f91227b5069ae75866bd25350bb9168b3693dedefe8cafd4599402356"),
        (R2, C, "558fdb668c1836b7de941bf0273c1a7b3bdd1b3e69ec4a12547ab87f86ab616a"),
        (R2, D, "df5548c281749e5702bc82ff3b9e81f5dc28adc90846b7c7eb54212360c00cb9"),
        (R1, E, "fcfecab6ca1b6b497bac3cf966d28db4cb40441a7d27a8a816f11999811be067"),
        (R1, F, "12f1c4e10f33a2c0c7a836c85eac15722f06a2be38fea38f0a4b7223615f2137"),
        (R3, B, "269e6e5fa823fe7d4a143545b48f933ae716d4bd1c0a7ff9e61970fbe655ca12"),
        (R3, D, "c4ddddaf97f6da6da3b77d881366a7dae6e958cbc945b28af7af642504f679d2"),
        (R2, S, "f81760be12d6d92f0c38e7cec844cacd5635353e2f035931de06d31238cd4caa"),
        // RIPAS changes count in R1 alone.
        (R2, F, "df5548c281749e5702bc82ff3b9e81f5dc28adc90846b7c7eb54212360c00cb9"),
        (R3, F, "c4ddddaf97f6da6da3b77d881366a7dae6e958cbc945b28af7af642504f679d2"),
    ] {
        assert_eq!(run(rules, Sha256, &A, steps), value);
    }
}

#[test]
fn flags_and_table_depth_change_the_value() {
    let a2 = Parameters { flags: 0x8E, ..A };
    let value = "edac348c7423a46d5634146d9c6f548bd1d894bcc3d430aa87c8c4006f350115";
    assert_eq!(run(R2, Sha256, &a2, &[]), value);

    let entries: Vec<Step> =
        (0..514).map(|page| Entry(G + page * 0x1000, G + page * 0x1000 + 0x1000)).collect();
    let value = "8733ff3dadb2380127f0820ee0644bcc87239af939e4b1fca638614d39e8d40a";
    assert_eq!(run(R1, Sha256, &A, &entries), value);

    // The rest of the parameters, each by itself.
    let plain = run(R1, Sha256, &A, &[]);
    for other in [
        Parameters { s2sz: 0x29, ..A },
        Parameters { sve_vl: 0, ..A },
        Parameters { num_bps: 3, ..A },
        Parameters { num_wps: 5, ..A },
        Parameters { pmu_num_ctrs: 0, ..A },
    ] {
        assert_ne!(run(R1, Sha256, &other, &[]), plain);
        assert_eq!(run(R3, Sha256, &other, &[]), "00".repeat(32));
    }
}

#[test]
fn the_chains_of_section_8_1_have_their_values_with_sha_512() {
    for (rules, steps, value) in [
        (
            R2,
            &[][..],
            "316c1dfe5fdc058f16ea2fb440d19d5b8cfcf57ab6029471df839a6199eee2b1dee6645c12289d95b95b1508be79ff1f001973130e91515b6acc0fe95fcd5b80",
        ),
        (
            R2,
            B,
            "a9b0a210ba8f6a7d50d67c116044591287b866ff14ece353e7351bcc5dfa0318019a5bb9301d644aaa6bf15e7a27b0fd5facdabf4aea9c5913c5bc99c58be7dd",
        ),
        (
            R2,
            D,
            "c3c07512cdf39f78443af92c9b7392d7505ab2322dd509422d8a4bee654acc3662283c53210c90340579957e10ef8edf917a984733ef7a40c69c68626a896608",
        ),
        (
            R1,
            E,
            "967fff2c547c3f5829d935b683b0ae0f9e35f1fa6fdc6d9ed1f9c12424e2839d8ff2b0ac6be8b01fdf85fade3d5b9e3f1e845bd8e6c3c4a0090c9a137bbbd0ec",
        ),
        (
            R1,
            F,
            "29b25f4589b988b92000a078e4247868d48383c1eadc6a1512fb7bff34148278f0b9883ef9e20b0704f45d5439319ee419fd1dbea5221f15fe8ccd738de06985",
        ),
        (
            R3,
            B,
            "42b38af904344ebfd9eeaf01383f660cb3cf1221126ca4613bfb12ed9870eed7c49c727d2d7a40464b7a5029b551012782b59fa0462ee8f8ac6c012cfbf052d9",
        ),
        (
            R3,
            D,
            "0da95f802f0a31c7e0a2351f4ad5e6416842e8ce2fea92115a89e2675424de471e9a2a5d499e767ac7df742829050b6fe9773ada3e4b14f7a7b0803ac52c2d58",
        ),
    ] {
        assert_eq!(run(rules, Sha512, &A, steps), value);
    }
}

#[test]
fn the_chains_of_section_8_1_have_their_values_with_sha_384() {
    for (rules, steps, value) in [
        (
            R2,
            &[][..],
            "158bc3f740666a12c8968ad3f89ba838d91aae7417dfe962bc8d04bb7dcaaab81541c9d7e15e2ac0e509631c5f36ae4f",
        ),
        (
            R2,
            D,
            "e48acf45ee09207941ad2e5978b9683a6d581455030e3b5d7a80be3ef67ad6206e1e907d34c48ef747548287355a358b",
        ),
        (
            R3,
            D,
            "9865345f9c5b262ea5b03796d96c0122afeecaaf73a9f618c759ed80cddd302fa62ee0664b03f98fdee2b5bd3aa47f87",
        ),
    ] {
        assert_eq!(run(rules, Sha384, &A, steps), value);
    }
}

#[test]
fn the_largest_block_follows_from_the_ipa_width() {
    for (widths, block) in [(31..=34, 1 << 21), (35..=43, 1 << 30), (44..=52, 1 << 39)] {
        // So many that they would be one block of the next level.
        let (base, top) = (1 << 48, (1 << 48) + 512 * block);
        let entries: Vec<Step> =
            (base..top).step_by(block as usize).map(|at| Entry(at, at + block)).collect();
        for s2sz in widths {
            let parameters = Parameters { s2sz, ..A };
            let ranges = run(R1, Sha256, &parameters, &[Ripas(base, top)]);
            assert_eq!(ranges, run(R1, Sha256, &parameters, &entries), "{s2sz}");
        }
    }
    // Unaligned ends: pages up to a block, blocks, pages behind.
    let mut entries: Vec<Step> = Vec::new();
    entries.extend((0..511).map(|page| Entry(G + 0x1000 + page * 0x1000, G + 0x2000 + page * 0x1000)));
    entries.extend([Entry(G + 0x20_0000, G + 0x40_0000), Entry(G + 0x40_0000, G + 0x60_0000)]);
    entries.extend([Entry(G + 0x60_0000, G + 0x60_1000)]);
    assert_eq!(run(R1, Sha256, &A, &[Ripas(G + 0x1000, G + 0x60_1000)]), run(R1, Sha256, &A, &entries));
}

/// Files of section 8.2: an Image, a ramdisk, a tree, firmware.
struct File {
    ipa: u64,
    bytes: Vec<u8>,
}

fn image(ipa: u64, text_offset: u64) -> File {
    let mut bytes: Vec<u8> = (0..10_000).map(|at| at as u8).collect();
    bytes[..64].fill(0);
    bytes[..4].copy_from_slice(&0x1400_0010u32.to_le_bytes());
    bytes[8..16].copy_from_slice(&text_offset.to_le_bytes());
    bytes[16..24].copy_from_slice(&0x2_0000u64.to_le_bytes());
    bytes[24..32].copy_from_slice(&0xAu64.to_le_bytes());
    bytes[56..60].copy_from_slice(&0x644d_5241u32.to_le_bytes());
    if text_offset == 0 {
        let digest = "a06bd77c215cf5089d4198e4d880525d7b919a6f9d561db0012c53becabd7c89";
        assert_eq!(to_hex(&Sha256.digest(&[&bytes])), digest);
    }
    File { ipa: ipa + text_offset, bytes }
}

fn file(ipa: u64, len: u32, factor: u32) -> File {
    File { ipa, bytes: (0..len).map(|at| (at * factor) as u8).collect() }
}

fn initrd(ipa: u64) -> File {
    file(ipa, 5000, 3)
}

fn dtb(ipa: u64) -> File {
    file(ipa, 65536, 7)
}

fn firmware(ipa: u64) -> File {
    file(ipa, 6000, 5)
}

/// Measured granules of a file, with zeros at both ends.
fn granules(file: &File) -> Vec<(u64, Vec<u8>)> {
    let base = file.ipa & !0xFFF;
    let mut bytes = vec![0; (file.ipa - base) as usize];
    bytes.extend(&file.bytes);
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    bytes.chunks(4096).zip(0..).map(|(granule, at)| (base + at * 4096, granule.to_vec())).collect()
}

/// One run of the tool.
struct Tool {
    hash: HashAlgorithm,
    s2sz: u8,
    ram: Range,
    files: Vec<File>,
    pc: u64,
    x0: u64,
    log: Option<u64>,
}

impl Tool {
    fn parameters(&self) -> Parameters {
        Parameters { s2sz: self.s2sz, ..A }
    }

    /// The values after the parameters, RIPAS, each file, and at the end.
    fn values(&self, rules: RimRules) -> Vec<String> {
        let mut rim = Rim::new(rules, self.hash, &self.parameters());
        let mut values = vec![to_hex(rim.value())];
        rim.ripas(self.ram.base, self.ram.top());
        values.push(to_hex(rim.value()));
        for file in &self.files {
            granules(file).iter().for_each(|(ipa, granule)| rim.data(*ipa, granule));
            values.push(to_hex(rim.value()));
        }
        rim.rec(&RecEntry { pc: self.pc, gprs: [self.x0, 0, 0, 0, 0, 0, 0, 0] });
        for granule in 0..self.log.map_or(0, |_| 16) {
            rim.unmeasured(self.log.unwrap_or(0) + granule * 4096);
        }
        values.push(to_hex(rim.value()));
        values
    }

    fn value(&self, rules: RimRules) -> String {
        self.values(rules).pop().unwrap()
    }
}

const MIB: u64 = 1 << 20;

/// K1: kvmtool, 256 MiB.
fn kvmtool(hash: HashAlgorithm, text_offset: u64) -> Tool {
    Tool {
        hash,
        s2sz: 33,
        ram: Range::new(0x8000_0000, 256 * MIB),
        files: vec![image(0x8000_0000, text_offset), dtb(0x8FE0_0000)],
        pc: 0x8000_0000,
        x0: 0x8FE0_0000,
        log: None,
    }
}

/// Q1: QEMU, 512 MiB.
fn qemu(hash: HashAlgorithm, ram: u64, files: Vec<File>) -> Tool {
    Tool {
        hash,
        s2sz: 41,
        ram: Range::new(0x4000_0000, ram),
        x0: files.last().unwrap().ipa,
        files,
        pc: 0x4000_0000,
        log: None,
    }
}

#[test]
fn the_reference_tool_computes_the_same_for_kvmtool() {
    let k1 = kvmtool(Sha256, 0);
    assert_eq!(
        k1.values(R1),
        [
            "447ba1982948e209de9a776d830d8ef597eb7859e610756c51057b885b87700b",
            "27209108183cced2be926f182b43a138dc0b4777de21ec36839f112fc89698e4",
            "8cb10f799989cbd273474693e73bbbba784ed584eb719c39981fd65e70619056",
            "5ab640a5f627afbcb01dce0819c7d7c192f53953937eea3584ec0237736595bb",
            "bea2eefca1af55c28c41c802fbc22846dd7edb1fc690e2dcff77148745693047",
        ]
    );
    assert_eq!(k1.value(R2), "2ee6434e8259924f9567401c84b39cab143b3ae4b553c241b53ee7b338079835");
    assert_eq!(k1.value(R3), "8fb779ab6f1cb4f615e37cc006c9c47e148e68518bb6f43df9e232caa51c1400");

    let mut k2 = kvmtool(Sha512, 0);
    k2.files.insert(1, initrd(0x8FDF_EC74));
    assert_eq!(
        k2.value(R1),
        "a9a945b4fabda05bc66d8b335202da93243f258dad6058012a84f545731f5ada8bb6c12b901adb18d50164728a8d8ef428b81e649f7939816a668177e20f4d16"
    );
    let k3 = kvmtool(Sha256, 0x8_0000);
    assert_eq!(k3.value(R1), "801e2f629089600f5a53ce1969b95000d49f381bf62448c1c348b04c35a8364f");
    let k4 = Tool { log: Some(0x8FFF_0000), ..kvmtool(Sha256, 0) };
    assert_eq!(k4.value(R1), "07d57966b96704d1394cb285321360685868a6f4d75afab33f0f787497edbdfe");
}

#[test]
fn the_reference_tool_computes_the_same_for_qemu() {
    let q1 = qemu(Sha256, 512 * MIB, vec![image(0x4000_0000, 0), dtb(0x4800_0000)]);
    assert_eq!(q1.value(R1), "6e8d24b56b61204b9bc71a2181af675a2e2052e8fa3fbd863db8100065f7aefa");
    assert_eq!(q1.value(R2), "6c3e1cc7994afc53ecb5f188fc93a006261ebd7cb49b07071d3b23dd87c411a9");
    assert_eq!(q1.value(R3), "a78ad612e4ddaeb0cf6e860a199273c5617a73e36f6cd3c1ac8f06f874614c2c");

    let files = vec![image(0x4000_0000, 0), initrd(0x4800_0000), dtb(0x4820_0000)];
    let q2 = qemu(Sha512, 1024 * MIB, files);
    assert_eq!(
        q2.value(R1),
        "2641c771e5ddf8659c47c23622efae5505c9e14e77820733fd0d6f923e184cd54927c726510c99fb01b5350f994cb3f6eb1d52bfdf65b4721f61a9a389a3e9c7"
    );
    let files = vec![firmware(0), dtb(0x4000_0000)];
    let q3 = Tool { pc: 0, x0: 0, ..qemu(Sha256, 512 * MIB, files) };
    assert_eq!(q3.value(R1), "b12d43a072ffe331ccc190b5c7c8997f2f4ef2601ee597d7de1c1ab25602dcd6");
}

#[test]
fn what_was_loaded_is_measured_in_its_order() {
    let k1 = kvmtool(Sha256, 0);
    let memory: Vec<_> = k1.files.iter().flat_map(granules).collect();
    let mut loaded = Loaded {
        rules: R1,
        hash: Sha256,
        parameters: k1.parameters(),
        ram: vec![k1.ram],
        data: k1.files.iter().map(|file| Range::new(file.ipa, file.bytes.len() as u64)).collect(),
        recs: vec![RecEntry { pc: k1.pc, gprs: [k1.x0, 0, 0, 0, 0, 0, 0, 0] }],
    };
    let read = |ipa, granule: &mut [u8]| {
        granule.copy_from_slice(&memory.iter().find(|(at, _)| *at == ipa).unwrap().1);
    };
    assert_eq!(to_hex(&loaded.rim(read)), k1.value(R1));
    let one = loaded.rim(read);
    loaded.recs.push(loaded.recs[0]);
    assert_ne!(loaded.rim(read), one);
    loaded.recs.pop();
    loaded.data.reverse();
    assert_ne!(loaded.rim(read), one);
}
