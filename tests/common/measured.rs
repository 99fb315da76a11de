//! What a payload finds of the measurements: the log that the final tree names, cut into records by the TCG layout, and the
//! REMs that they come to.
use super::tree_at;
use gatehouse::arch::host::{HostRam, RealmRam, ipa_width};
use gatehouse::fdt::check::Tree;
use rmm_model::digest::HashAlgorithm;
use rmm_model::scenario::RemRule;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub pcr: u32,
    pub kind: u32,
    pub digest: Vec<u8>,
    pub data: Vec<u8>,
}

/// Reads a region that the final tree names: `log` or `evidence`.
pub fn region(tree: u64, name: &str) -> Vec<u8> {
    let tree = Tree::check(tree_at(tree)).unwrap();
    let reader = tree.reader().unwrap();
    let reserved = reader.find_node("/reserved-memory").unwrap();
    let node = reserved.children().find(|node| node.name.starts_with(&format!("{name}@"))).unwrap();
    let number = |of: &str| {
        let value = node.property(&format!("{name}-{of}")).unwrap().value;
        u64::from_be_bytes(value.try_into().unwrap())
    };
    let mut bytes = vec![0; usize::try_from(number("size")).unwrap()];
    HostRam::new(ipa_width()).read(number("base"), &mut bytes);
    bytes
}

struct Cut<'a>(&'a [u8]);

impl<'a> Cut<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(len);
        self.0 = rest;
        front
    }

    fn n16(&mut self) -> u16 {
        u16::from_le_bytes(self.take(2).try_into().unwrap())
    }

    fn n32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }
}

/// Cuts a log into its records; the Spec ID event is left out.
pub fn records(log: &[u8], hash: HashAlgorithm) -> Vec<Record> {
    let mut cut = Cut(log);
    assert_eq!((cut.n32(), cut.n32(), cut.take(20)), (0, 3, &[0; 20][..]));
    let len = cut.n32();
    let mut spec = Cut(cut.take(len as usize));
    assert_eq!(spec.take(16), b"Spec ID Event03\0");
    assert_eq!(
        spec.take(12),
        [0, 0, 0, 0, 0, 2, 105, 2, 1, 0, 0, 0],
        "class, 2.0, errata, 64 bits, one algorithm"
    );
    let algorithm = match hash {
        HashAlgorithm::Sha256 => 0xb,
        HashAlgorithm::Sha384 => 0xc,
        HashAlgorithm::Sha512 => 0xd,
    };
    assert_eq!((spec.n16(), spec.n16() as usize, spec.0), (algorithm, hash.len_bytes(), &[0][..]));
    let mut records = Vec::new();
    while !cut.0.is_empty() {
        let (pcr, kind) = (cut.n32(), cut.n32());
        assert_eq!((cut.n32(), cut.n16()), (1, algorithm));
        let digest = cut.take(hash.len_bytes()).to_vec();
        let len = cut.n32();
        records.push(Record { pcr, kind, digest, data: cut.take(len as usize).to_vec() });
    }
    records
}

/// Extends REM 1 to 4 as docs/event-log.md maps PCRs.
pub fn rems(records: &[Record], hash: HashAlgorithm, rule: RemRule) -> [Vec<u8>; 4] {
    let mut rems = [0; 4].map(|_| vec![0; hash.len_bytes()]);
    for record in records {
        assert_eq!(hash.digest(&[&record.data]), record.digest, "{record:x?}");
        let index = match record.pcr {
            1 | 7 => 0,
            2..=6 => 1,
            8..=15 => 2,
            16.. => 3,
            0 => panic!("extended into the RIM"),
        };
        let (mut old, mut value) = (rems[index].clone(), record.digest.clone());
        if rule == RemRule::Spec {
            old.resize(64, 0);
            value.resize(64, 0);
        }
        rems[index] = hash.digest(&[&old, &value]);
    }
    rems
}
