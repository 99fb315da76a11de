//! Writes event logs and evidence regions from docs/event-log.md alone: the second opinion on the document. It shares no
//! code with the firmware's writer, and none with the tool's reader.
#![allow(dead_code, reason = "each test file uses its part")]

use gatehouse::policy::cbor;
use gatehouse_cli::policy::toml;
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::path::Path;
use std::sync::OnceLock;

/// Policy of the sample: a disk that has to be there, a network card that need not, and a GPU that is not there.
pub const POLICY: &str = "version = 1\nsvn = 7\n\
    [[anchor]]\nname = \"root\"\n\
    certificate = \"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n\
    [[rule]]\nname = \"disk\"\nslot = \"02.0\"\nclass = \"010802\"\nmeasurements = \"any\"\n\
    [[rule]]\nname = \"nic\"\nslot = \"03.0/00.0\"\nmeasurements = \"any\"\nrequired = false\non-failure = \"hide\"\n\
    [[rule]]\nname = \"gpu\"\nslot = \"08.0\"\nmeasurements = \"any\"\nrequired = false\non-failure = \"hide\"\n\
    [[rule]]\nname = \"port\"\nkind = \"bridge\"\nslot = \"03.0\"\n\
    [[rule]]\nname = \"net\"\nkind = \"virtio-pci\"\nvirtio = \"network\"\nrequired = false\n\
    [[rule]]\nname = \"console\"\nkind = \"virtio-mmio\"\nvirtio = \"console\"\nrequired = false\n";

/// A CBOR item.
#[derive(Clone)]
pub enum C {
    N(u64),
    B(Vec<u8>),
    T(String),
    A(Vec<C>),
    Bool(bool),
    Null,
    /// -1 - n.
    Minus(u64),
    M(Vec<(C, C)>),
    Tag(u64, Box<C>),
}

impl C {
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::N(n) => head(0, *n),
            Self::B(bytes) => [head(2, bytes.len() as u64), bytes.clone()].concat(),
            Self::T(text) => [head(3, text.len() as u64), text.clone().into_bytes()].concat(),
            Self::A(items) => {
                [head(4, items.len() as u64), items.iter().flat_map(Self::bytes).collect()].concat()
            }
            Self::Bool(value) => vec![0xf4 + u8::from(*value)],
            Self::Null => vec![0xf6],
            Self::Minus(n) => head(1, *n),
            Self::M(entries) => {
                let entry = |(key, value): &(C, C)| [key.bytes(), value.bytes()].concat();
                [head(5, entries.len() as u64), entries.iter().flat_map(entry).collect()].concat()
            }
            Self::Tag(tag, item) => [head(6, *tag), item.bytes()].concat(),
        }
    }
}

/// Head of an item, in its shortest form.
pub fn head(major: u8, argument: u64) -> Vec<u8> {
    let bytes = argument.to_be_bytes();
    let (info, width) = match argument {
        0..24 => return vec![major << 5 | argument as u8],
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    [&[major << 5 | info], &bytes[8 - width..]].concat()
}

pub fn text(text: &str) -> C {
    C::T(text.into())
}

/// Text, or null for an empty one.
fn optional(text: &str) -> C {
    if text.is_empty() { C::Null } else { C::T(text.into()) }
}

/// Hash algorithm of a log: name, TPM_ALG_ID, length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    pub fn of(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha384 => Sha384::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn id(self) -> u16 {
        match self {
            Self::Sha256 => 0x0b,
            Self::Sha384 => 0x0c,
            Self::Sha512 => 0x0d,
        }
    }
}

/// An event before it has a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    pub pcr: u32,
    pub kind: u32,
    pub data: Vec<u8>,
}

impl Raw {
    /// A TCG_PCR_EVENT2 with the digest of its data.
    pub fn record(&self, hash: Hash) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [self.pcr, self.kind, 1] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(hash.id().to_le_bytes());
        bytes.extend(hash.of(&self.data));
        bytes.extend((self.data.len() as u32).to_le_bytes());
        bytes.extend(&self.data);
        bytes
    }

    /// The REM it is extended into.
    pub fn rem(&self) -> usize {
        match self.pcr {
            1 | 7 => 1,
            2..=6 => 2,
            8..=15 => 3,
            _ => 4,
        }
    }
}

/// The Spec ID event.
pub fn spec_id(hash: Hash) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(3u32.to_le_bytes());
    bytes.extend([0; 20]);
    bytes.extend(33u32.to_le_bytes());
    bytes.extend(b"Spec ID Event03\0");
    bytes.extend([0, 0, 0, 0, 0, 2, 105, 2, 1, 0, 0, 0]);
    bytes.extend(hash.id().to_le_bytes());
    bytes.extend((hash.of(b"").len() as u16).to_le_bytes());
    bytes.push(0);
    bytes
}

/// A whole log.
pub fn log(hash: Hash, events: &[Raw]) -> Vec<u8> {
    let mut bytes = spec_id(hash);
    events.iter().for_each(|event| bytes.extend(event.record(hash)));
    bytes
}

/// REM 1 to 4 by TF-RMM's formula: H(old, value).
pub fn rems(hash: Hash, events: &[Raw]) -> [Vec<u8>; 4] {
    let mut rems = [(); 4].map(|()| hash.of(b"").iter().map(|_| 0).collect::<Vec<u8>>());
    for event in events {
        let rem = &mut rems[event.rem() - 1];
        *rem = hash.of(&[rem.clone(), hash.of(&event.data)].concat());
    }
    rems
}

/// The same by the formula of the specification: 128 bytes, old and value padded to 64 each.
pub fn spec_rems(hash: Hash, events: &[Raw]) -> [Vec<u8>; 4] {
    let mut rems = [(); 4].map(|()| hash.of(b"").iter().map(|_| 0).collect::<Vec<u8>>());
    for event in events {
        let rem = &mut rems[event.rem() - 1];
        let mut block = [0; 128];
        block[..rem.len()].copy_from_slice(rem);
        block[64..64 + rem.len()].copy_from_slice(&hash.of(&event.data));
        *rem = hash.of(&block);
    }
    rems
}

/// A tagged event.
pub fn tagged(id: u32, pcr: u32, items: Vec<C>) -> Raw {
    let array = C::A(items).bytes();
    let mut data = (0x4748_0000 + id).to_le_bytes().to_vec();
    data.extend((array.len() as u32).to_le_bytes());
    data.extend(array);
    Raw { pcr, kind: 6, data }
}

/// ed4807a1-ccf5-4bb6-b51a-e76c6d08f390.
pub const GUID: [u8; 16] =
    [0xa1, 7, 0x48, 0xed, 0xf5, 0xcc, 0xb6, 0x4b, 0xb5, 0x1a, 0xe7, 0x6c, 0x6d, 8, 0xf3, 0x90];

/// UEFI_VARIABLE_DATA.
fn variable(name: &str, content: &[u8]) -> Vec<u8> {
    let mut data = GUID.to_vec();
    data.extend((name.len() as u64).to_le_bytes());
    data.extend((content.len() as u64).to_le_bytes());
    name.bytes().for_each(|byte| data.extend([byte, 0]));
    data.extend(content);
    data
}

pub fn policy(content: &[u8]) -> Raw {
    Raw { pcr: 7, kind: 0x8000_00e3, data: variable("policy", content) }
}

pub fn authority(digest: &[u8]) -> Raw {
    Raw { pcr: 7, kind: 0x8000_00e4, data: variable("authority", &[&GUID, digest].concat()) }
}

/// Ids of a function: vendor, device, subsystem vendor, subsystem, class, revision.
pub type Ids = [u64; 6];

pub const DISK: Ids = [0x1b36, 0x10, 0x1af4, 0x1100, 0x01_0802, 2];
pub const NIC: Ids = [0x8086, 0x10c9, 0x8086, 0xa03c, 0x02_0000, 1];
pub const PORT: Ids = [0x1b36, 0xc, 0, 0, 0x06_0400, 0];
pub const NET: Ids = [0x1af4, 0x1041, 0x1af4, 0x1100, 0x02_0000, 1];
pub const STRAY: Ids = [0x1234, 0x11e8, 0x1af4, 0x1100, 0xff_0000, 0x10];
pub const CONSOLE: Ids = [0, 3, 0, 0, 0, 0];

/// DEVICE_SECURITY_EVENT_DATA2 with measurement blocks (index, type, value).
pub fn device(
    firmware: bool,
    state: u8,
    uid: u64,
    hops: &[(u8, u8)],
    ids: Ids,
    blocks: &[(u8, u8, &[u8])],
) -> Raw {
    let mut path = vec![2, 1, 12, 0, 0xd0, 0x41, 0x08, 0x0a, 0, 0, 0, 0];
    hops.iter().for_each(|(device, function)| path.extend([1, 1, 6, 0, *function, *device]));
    path.extend([0x7f, 0xff, 4, 0]);
    let mut sub = vec![0x12, 0, blocks.len() as u8, 0, 4, 0, 0, 0];
    for (index, kind, value) in blocks {
        sub.extend([*index, 1]);
        sub.extend((value.len() as u16 + 3).to_le_bytes());
        sub.push(*kind);
        sub.extend((value.len() as u16).to_le_bytes());
        sub.extend(*value);
    }
    let mut context = vec![0, 0, 16, 0];
    context.extend((ids[0] as u16).to_le_bytes());
    context.extend((ids[1] as u16).to_le_bytes());
    context.push(ids[5] as u8);
    context.extend(&ids[4].to_le_bytes()[..3]);
    context.extend((ids[2] as u16).to_le_bytes());
    context.extend((ids[3] as u16).to_le_bytes());
    let mut data = b"SPDM Device Sec2".to_vec();
    data.extend([2, 0, state, 0]);
    data.extend((16 + 4 + 16 + 16 + path.len() as u32 + sub.len() as u32 + 16).to_le_bytes());
    data.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    data.extend((sub.len() as u32).to_le_bytes());
    data.extend(uid.to_le_bytes());
    data.extend((path.len() as u64).to_le_bytes());
    data.extend([path, sub, context].concat());
    let (pcr, kind) = if firmware { (2, 0x8000_00e1) } else { (3, 0x8000_00e2) };
    Raw { pcr, kind, data }
}

pub fn function(slot: &str, ids: Ids, disposition: &str, rule: &str) -> Raw {
    let mut items = vec![text(slot)];
    items.extend(ids.map(C::N));
    items.extend([text(disposition), optional(rule)]);
    tagged(2, 6, items)
}

pub fn verdict(slot: &str, rule: &str, verdict: &str, mode: &str, code: u64) -> Raw {
    tagged(4, 6, vec![optional(slot), optional(rule), text(verdict), text(mode), C::N(code)])
}

pub fn outcome(slot: &str, verdict: &str, mode: &str, state: &str, code: u64) -> Raw {
    tagged(6, 6, vec![text(slot), text(verdict), text(mode), text(state), C::N(code)])
}

pub fn separator(pcr: u32) -> Raw {
    Raw { pcr, kind: 4, data: vec![0; 4] }
}

/// What was collected of a function.
#[derive(Clone)]
pub struct Session {
    pub slot: &'static str,
    pub vdev: u64,
    pub ids: Ids,
    pub hash: Hash,
    pub nonces: [u64; 3],
    /// Negotiation data, certificate chain, measurements, report.
    pub objects: [Vec<u8>; 4],
    pub no_run: &'static str,
}

impl Session {
    pub fn new(slot: &'static str, vdev: u64, ids: Ids, seed: u8) -> Self {
        let objects = [1, 2, 3, 4].map(|n| vec![seed ^ n; 100 + usize::from(n)]);
        let nonces = [seed.into(), 0x1_0000_0000 + u64::from(seed), 5];
        Self { slot, vdev, ids, hash: Hash::Sha384, nonces, objects, no_run: "" }
    }

    fn hash_name(&self) -> C {
        text(match self.hash {
            Hash::Sha256 => "sha256",
            Hash::Sha384 => "sha384",
            Hash::Sha512 => "sha512",
        })
    }

    /// Digests of negotiation data, certificate chain, session key, measurements, report.
    pub fn digests(&self) -> [Vec<u8>; 5] {
        let [vca, chain, measurements, report] = &self.objects;
        [vca, chain, &b"key".to_vec(), measurements, report].map(|object| self.hash.of(object))
    }

    pub fn event(&self) -> Raw {
        let mut items = vec![text(self.slot), C::N(self.vdev), self.hash_name()];
        items.extend(self.nonces.map(C::N));
        items.extend(self.digests().map(C::B));
        items.extend([C::B(vec![0xab; 32]), optional(self.no_run)]);
        tagged(3, 16, items)
    }

    /// Its array in the evidence region.
    pub fn evidence(&self) -> C {
        let bar = [C::N(0), C::Bool(true), C::Bool(false), C::N(0x1000_0000), C::N(0x4000)];
        let mut items = vec![
            text(self.slot),
            C::N(self.vdev),
            C::A(self.ids.map(C::N).into()),
            C::A(vec![C::A(bar.into())]),
            C::A([0, 0x2000, 0, 0x3000].map(C::N).into()),
            self.hash_name(),
            C::A(self.digests().map(C::B).into()),
            C::A(self.nonces.map(C::N).into()),
            C::B(vec![0xab; 32]),
            optional(self.no_run),
        ];
        items.extend(self.objects.clone().map(C::B));
        C::A(items)
    }
}

/// The evidence region of the sample.
pub fn evidence(sessions: &[Session]) -> Vec<u8> {
    C::A(vec![C::N(1), C::A(sessions.iter().map(Session::evidence).collect())]).bytes()
}

pub fn sessions() -> [Session; 2] {
    let nic = Session { no_run: "the enumeration probe", ..Session::new("03.0/00.0", 0x100, NIC, 0x60) };
    [Session::new("02.0", 0x10, DISK, 0x50), nic]
}

pub fn encoded_policy() -> Vec<u8> {
    static ENCODED: OnceLock<Vec<u8>> = OnceLock::new();
    ENCODED.get_or_init(|| cbor::encode(&toml::parse(POLICY, Path::new("")).unwrap())).clone()
}

pub const COMMAND_LINE: &[u8] = b"console=ttyAMA0 quiet";
pub const KERNEL: &[u8] = b"the kernel";

pub fn bundle(svn: u64, kernel: &[u8]) -> Raw {
    let part = |role: &str, bytes: &[u8]| {
        C::A(vec![text(role), text("sha256"), C::B(Sha256::digest(bytes).to_vec()), C::N(bytes.len() as u64)])
    };
    let line = [COMMAND_LINE, &[0]].concat();
    let parts = vec![part("cmdline", &line), part("policy", &encoded_policy()), part("kernel", kernel)];
    let manifest = C::B(Sha256::digest(b"fit").to_vec());
    let cmdline = C::B(COMMAND_LINE.to_vec());
    tagged(5, 8, vec![C::N(svn), text("half"), manifest, text("conf-1"), C::A(parts), cmdline])
}

/// The events of a boot: a disk that runs, a network card that is refused, a bridge, a virtio card, a stray function, a
/// console, and a GPU that is missing.
pub fn sample() -> Vec<Raw> {
    let [disk, nic] = sessions();
    let anchor = Sha256::digest(b"");
    vec![
        tagged(1, 1, vec![C::N(1), text("a")]),
        policy(&encoded_policy()),
        function("02.0", DISK, "attest", "disk"),
        function("03.0", PORT, "bridge", "port"),
        function("04.0", NET, "shared", "net"),
        function("06.0", STRAY, "extra", ""),
        function("03.0/00.0", NIC, "attest", "nic"),
        function("virtio_mmio@a000000", CONSOLE, "shared", "console"),
        device(true, 0, 1, &[(2, 0)], DISK, &[(1, 0, &[1; 48]), (2, 0x81, b"firmware")]),
        device(false, 0, 1, &[(2, 0)], DISK, &[(3, 3, &[3; 48]), (0xfe, 0x85, &[0; 16])]),
        authority(&anchor),
        disk.event(),
        verdict("02.0", "disk", "accepted", "run", 0),
        verdict("04.0", "net", "accepted", "shared", 0),
        verdict("06.0", "", "extra", "hide", 0),
        device(true, 1, 4, &[(3, 0), (0, 0)], NIC, &[(1, 1, &[9; 48])]),
        nic.event(),
        verdict("03.0/00.0", "nic", "refused", "hide", 4124),
        verdict("virtio_mmio@a000000", "console", "accepted", "shared", 0),
        verdict("", "gpu", "missing", "none", 3002),
        bundle(3, KERNEL),
        outcome("02.0", "accepted", "run", "run", 0),
        outcome("04.0", "accepted", "shared", "unlocked", 0),
        outcome("virtio_mmio@a000000", "accepted", "shared", "unlocked", 0),
        tagged(7, 16, vec![C::B(vec![7; 48])]),
        separator(7),
        separator(6),
        separator(8),
        separator(16),
    ]
}
