//! The structural gate of device trees: good trees pass, each kind of bad one is refused by name.
use gatehouse::fdt::check::{
    Block, FdtError, HEADER_LEN, MAX_CHILDREN, MAX_DEPTH, MAX_NODES, MAX_PROPERTIES, MAX_RESERVATIONS,
    MAX_TREE_BYTES, Tree,
};

const VIRT: &[u8] = include_bytes!("data/virt.dtb");
const BEGIN: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// A tree put together by hand; every field can be a lie.
#[derive(Clone)]
struct Raw {
    reservations: Vec<(u64, u64)>,
    structure: Vec<u8>,
    strings: Vec<u8>,
}

impl Raw {
    fn new() -> Self {
        Self { reservations: vec![(0, 0)], structure: Vec::new(), strings: Vec::new() }
    }

    fn word(mut self, word: u32) -> Self {
        self.structure.extend(word.to_be_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.structure.extend(bytes);
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
        self
    }

    fn begin(self, name: &str) -> Self {
        self.word(BEGIN).bytes(format!("{name}\0").as_bytes())
    }

    fn prop(mut self, name: &str, value: &[u8]) -> Self {
        let at = self.strings.len() as u32;
        self.strings.extend(format!("{name}\0").as_bytes());
        self.word(PROP).word(value.len() as u32).word(at).bytes(value)
    }

    fn end(self) -> Self {
        self.word(END_NODE)
    }

    /// Header, reservations, structure, strings, in this order without gaps.
    fn blob(&self) -> Vec<u8> {
        let off_struct = 40 + 16 * self.reservations.len();
        let off_strings = off_struct + self.structure.len();
        let total = off_strings + self.strings.len();
        let fields = [
            0xd00d_feed,
            total,
            off_struct,
            off_strings,
            40,
            17,
            16,
            0,
            self.strings.len(),
            self.structure.len(),
        ];
        let mut blob: Vec<u8> = fields.iter().flat_map(|f| (*f as u32).to_be_bytes()).collect();
        for (base, len) in &self.reservations {
            blob.extend(base.to_be_bytes());
            blob.extend(len.to_be_bytes());
        }
        blob.extend(&self.structure);
        blob.extend(&self.strings);
        blob
    }

    fn check(&self) -> Result<Tree, FdtError> {
        Tree::check(self.blob())
    }
}

fn small() -> Raw {
    Raw::new().begin("").prop("model", b"m\0").begin("node@1").prop("reg", &[0; 8]).end().end().word(END)
}

/// Overwrites header field `index`.
fn with_field(index: usize, value: u32) -> Result<Tree, FdtError> {
    let mut blob = small().blob();
    blob[4 * index..4 * index + 4].copy_from_slice(&value.to_be_bytes());
    Tree::check(blob)
}

fn field(index: usize) -> u32 {
    u32::from_be_bytes(small().blob()[4 * index..4 * index + 4].try_into().unwrap())
}

#[test]
fn a_small_tree_passes_unchanged() {
    assert_eq!(small().check().unwrap().as_bytes(), small().blob());
}

#[test]
fn the_tree_of_qemu_passes() {
    let tree = Tree::check(VIRT).unwrap();
    let reader = tree.reader().unwrap();
    let node = reader.find_node("/pcie@10000000").unwrap();
    assert_eq!(node.property("bus-range").unwrap().value, [0, 0, 0, 0, 0, 0, 0, 255]);
    assert_eq!(Tree::check(tree.as_bytes()).unwrap(), tree, "normal form is stable");
}

#[test]
fn bytes_behind_the_tree_are_ignored() {
    let mut blob = VIRT.to_vec();
    blob.extend([0xff; 100]);
    assert_eq!(Tree::check(blob).unwrap(), Tree::check(VIRT).unwrap());
}

#[test]
fn nops_are_left_out_wherever_they_are() {
    let nops = Raw::new()
        .word(NOP)
        .begin("")
        .word(NOP)
        .prop("model", b"m\0")
        .word(NOP)
        .begin("node@1")
        .word(NOP)
        .prop("reg", &[0; 8])
        .word(NOP)
        .end()
        .word(NOP)
        .end()
        .word(NOP)
        .word(END);
    assert_eq!(nops.check().unwrap().as_bytes(), small().blob());
}

#[test]
fn blocks_may_lie_in_any_order_with_gaps() {
    let raw = small();
    let mut blob = raw.blob();
    let (structure, strings) = (raw.structure.clone(), raw.strings.clone());
    blob.truncate(56);
    blob.extend([0xaa; 5]);
    let at_strings = blob.len() as u32;
    blob.extend(&strings);
    blob.resize(blob.len().next_multiple_of(4) + 8, 0xbb);
    let at_struct = blob.len() as u32;
    blob.extend(&structure);
    let total = blob.len() as u32;
    for (index, value) in [(1, total), (2, at_struct), (3, at_strings)] {
        blob[4 * index..4 * index + 4].copy_from_slice(&value.to_be_bytes());
    }
    assert_eq!(Tree::check(blob).unwrap().as_bytes(), raw.blob());
}

#[test]
fn needed_len_is_totalsize_within_bounds() {
    let header = |len: u32| {
        let mut header: [u8; HEADER_LEN] = VIRT[..HEADER_LEN].try_into().unwrap();
        header[4..8].copy_from_slice(&len.to_be_bytes());
        Tree::needed_len(&header)
    };
    assert_eq!(Tree::needed_len(VIRT.first_chunk().unwrap()), Ok(VIRT.len()));
    assert_eq!(header(40), Ok(40));
    assert_eq!(header(39), Err(FdtError::BadTotalSize(39)));
    let most = MAX_TREE_BYTES as u32;
    assert_eq!(header(most), Ok(MAX_TREE_BYTES));
    assert_eq!(header(most + 1), Err(FdtError::BadTotalSize(most + 1)));
    assert_eq!(Tree::needed_len(&[0; 40]), Err(FdtError::BadMagic(0)));
}

#[test]
fn each_bad_header_field_is_refused_by_name() {
    let total = field(1);
    assert_eq!(with_field(0, 1), Err(FdtError::BadMagic(1)));
    let need = total as usize + 1;
    assert_eq!(with_field(1, total + 1), Err(FdtError::Truncated { have: need - 1, need }));
    assert_eq!(with_field(5, 16), Err(FdtError::BadVersion { version: 16, last_comp: 16 }));
    assert_eq!(with_field(6, 18), Err(FdtError::BadVersion { version: 17, last_comp: 18 }));
    let bad = |block, offset, len| Err(FdtError::BadBlock { block, offset, len });
    assert_eq!(with_field(2, 58), bad(Block::Structure, 58, field(9)));
    assert_eq!(with_field(2, 36), bad(Block::Structure, 36, field(9)));
    assert_eq!(with_field(2, u32::MAX - 3), bad(Block::Structure, u32::MAX - 3, field(9)));
    assert_eq!(with_field(9, u32::MAX), bad(Block::Structure, 56, u32::MAX));
    assert_eq!(with_field(3, total), bad(Block::Strings, total, field(8)));
    assert_eq!(with_field(3, 0), bad(Block::Strings, 0, field(8)));
    assert_eq!(with_field(4, 41), bad(Block::Reservations, 41, 0));
    assert_eq!(with_field(4, 32), bad(Block::Reservations, 32, 0));
    assert_eq!(with_field(4, 1 << 20), bad(Block::Reservations, 1 << 20, 0));
    let overlap = |a, b| Err(FdtError::BlocksOverlap(a, b));
    assert_eq!(with_field(3, 60), overlap(Block::Structure, Block::Strings));
    assert_eq!(
        with_field(2, 44).unwrap_err(),
        FdtError::BlocksOverlap(Block::Structure, Block::Reservations)
    );
    assert_eq!(with_field(3, 44), overlap(Block::Strings, Block::Reservations));
    assert_eq!(Tree::check(&VIRT[..39]), Err(FdtError::Truncated { have: 39, need: 40 }));
}

#[test]
fn a_structure_block_that_is_shorter_or_longer_than_its_tokens_is_refused() {
    let len = field(9);
    assert_eq!(with_field(9, len - 4), Err(FdtError::StructureEnds(len as usize - 4)));
    assert_eq!(with_field(9, len - 1), Err(FdtError::StructureEnds(len as usize - 4)));
    let longer = small().word(NOP).check();
    assert_eq!(longer, Err(FdtError::TrailingStructure(len as usize)));
}

#[test]
fn a_bad_reservation_block_is_refused_by_name() {
    let with = |reservations| Raw { reservations, ..small() }.check();
    let good = with(vec![(0x1000, 0x1000), (0, 5), (0, 0)]).unwrap();
    assert_eq!(good.reader().unwrap().memory_reservations().count(), 2);
    assert_eq!(with(vec![(u64::MAX, 2), (0, 0)]), Err(FdtError::BadReservation { base: u64::MAX, len: 2 }));
    let mut many = vec![(0x1000, 0x1000); MAX_RESERVATIONS];
    many.push((0, 0));
    assert!(with(many.clone()).is_ok());
    many.insert(0, (0x1000, 0x1000));
    assert_eq!(with(many), Err(FdtError::ReservationsNotTerminated));
    let mut open = small().blob();
    let at = (open.len() as u32).next_multiple_of(8);
    open.resize(at as usize + 16, 1);
    let total = open.len() as u32;
    open[4..8].copy_from_slice(&total.to_be_bytes());
    open[16..20].copy_from_slice(&at.to_be_bytes());
    assert_eq!(Tree::check(open), Err(FdtError::ReservationsNotTerminated));
}

#[test]
fn each_misplaced_token_is_refused_by_name() {
    let token = |token, offset| Err(FdtError::BadToken { token, offset });
    assert_eq!(Raw::new().word(END).check(), token(END, 0));
    assert_eq!(Raw::new().word(END_NODE).check(), token(END_NODE, 0));
    assert_eq!(Raw::new().prop("a", b"").check(), token(PROP, 0));
    assert_eq!(Raw::new().begin("").word(END).check(), token(END, 8));
    assert_eq!(Raw::new().begin("").word(5).check(), token(5, 8));
    assert_eq!(Raw::new().begin("").end().end().check(), token(END_NODE, 12));
    assert_eq!(Raw::new().begin("").end().begin("").end().word(END).check(), token(BEGIN, 12));
    assert_eq!(Raw::new().begin("").end().prop("a", b"").word(END).check(), token(PROP, 12));
    assert_eq!(Raw::new().check(), Err(FdtError::StructureEnds(0)));
    assert_eq!(Raw::new().begin("").end().check(), Err(FdtError::StructureEnds(12)));
}

#[test]
fn a_property_behind_a_child_is_refused() {
    let raw = Raw::new().begin("").begin("a").end().prop("late", b"").end().word(END);
    assert_eq!(raw.check(), Err(FdtError::PropertyAfterChild(20)));
}

#[test]
fn names_given_twice_are_refused() {
    let raw = Raw::new().begin("").prop("a", b"").prop("a", b"").end().word(END);
    assert_eq!(raw.check(), Err(FdtError::DuplicateProperty(20)));
    let raw = Raw::new().begin("").begin("a").end().begin("a").end().end().word(END);
    assert_eq!(raw.check(), Err(FdtError::DuplicateNode(20)));
}

#[test]
fn bad_node_names_are_refused() {
    let long = "n".repeat(65);
    for name in ["", "a b", "a@", "@1", "a@1@2", "a/b", "caf\u{e9}", &long] {
        let raw = Raw::new().begin("").begin(name).end().end().word(END);
        assert_eq!(raw.check(), Err(FdtError::BadNodeName(8)), "{name:?}");
    }
    assert!(Raw::new().begin("").begin(&"n".repeat(64)).end().end().word(END).check().is_ok());
    let root = Raw::new().begin("root").end().word(END);
    assert_eq!(root.check(), Err(FdtError::BadNodeName(0)));
    let open = Raw::new().begin("").word(BEGIN).bytes(b"abcd");
    assert_eq!(open.check(), Err(FdtError::BadNodeName(8)));
}

#[test]
fn bad_property_names_are_refused() {
    for name in ["", "a b", "a/b", "a@b", &"p".repeat(65)] {
        let raw = Raw::new().begin("").prop(name, b"").end().word(END);
        assert_eq!(raw.check(), Err(FdtError::BadPropertyName(8)), "{name:?}");
    }
    let mut open = Raw::new().begin("").prop("abc", b"").end().word(END);
    open.strings.pop();
    assert_eq!(open.check(), Err(FdtError::BadPropertyName(8)));
    let outside = Raw::new().begin("").word(PROP).word(0).word(100).end().word(END);
    assert_eq!(outside.check(), Err(FdtError::BadPropertyName(8)));
}

#[test]
fn a_property_longer_than_its_block_is_refused() {
    for len in [u32::MAX, 13, 100] {
        let raw = Raw { strings: b"a\0".to_vec(), ..Raw::new() };
        let raw = raw.begin("").word(PROP).word(len).word(0).bytes(b"1234").end().word(END);
        assert_eq!(raw.check(), Err(FdtError::BadPropertyLen { offset: 8, len }));
    }
}

#[test]
fn cell_counts_must_be_one_small_cell() {
    for name in ["#address-cells", "#size-cells", "#interrupt-cells"] {
        for value in [&[][..], &[0, 0, 2], &[0, 0, 0, 5], &[0; 8]] {
            let raw = Raw::new().begin("").prop(name, value).end().word(END);
            assert_eq!(raw.check(), Err(FdtError::BadCells(8)), "{name} {value:?}");
        }
        assert!(Raw::new().begin("").prop(name, &[0, 0, 0, 4]).end().word(END).check().is_ok());
    }
    let raw = Raw::new().begin("").prop("phandle", &[1]).end().word(END);
    assert_eq!(raw.check(), Err(FdtError::BadCells(8)));
}

#[test]
fn properties_of_cells_must_be_whole_cells() {
    for name in ["reg", "ranges", "interrupts", "interrupt-map", "msi-map", "bus-range"] {
        let raw = Raw::new().begin("").prop(name, &[0; 7]).end().word(END);
        assert_eq!(raw.check(), Err(FdtError::NotWholeCells(8)), "{name}");
    }
}

#[test]
fn nesting_and_counts_are_bounded() {
    let nested = |depth: usize| {
        let raw = (1..depth).fold(Raw::new().begin(""), |raw, _| raw.begin("n"));
        (0..depth).fold(raw, |raw, _| raw.end()).word(END).check()
    };
    assert!(nested(MAX_DEPTH).is_ok());
    assert_eq!(nested(MAX_DEPTH + 1), Err(FdtError::TooDeep(8 * MAX_DEPTH)));

    let properties = |count: usize| {
        let raw = (0..count).fold(Raw::new().begin(""), |raw, i| raw.prop(&format!("p{i}"), b""));
        raw.end().word(END).check()
    };
    assert!(properties(MAX_PROPERTIES).is_ok());
    assert_eq!(properties(MAX_PROPERTIES + 1), Err(FdtError::TooMany(8 + 12 * MAX_PROPERTIES)));

    let children =
        |raw: Raw, count: usize| (0..count).fold(raw, |raw, i| raw.begin(&format!("{i:03x}")).end());
    assert!(children(Raw::new().begin(""), MAX_CHILDREN).end().word(END).check().is_ok());
    let many = children(Raw::new().begin(""), MAX_CHILDREN + 1).end().word(END).check();
    assert_eq!(many, Err(FdtError::TooMany(8 + 12 * MAX_CHILDREN)));

    let wide = (0..5)
        .fold(Raw::new().begin(""), |raw, i| children(raw.begin(&format!("w{i}")), MAX_NODES / 5 + 1).end());
    assert!(matches!(wide.end().word(END).check(), Err(FdtError::TooMany(_))));
}
