//! Flattens the firmware's ELF file: its PT_LOAD segments as they lie in memory, zeros between and behind them. Reads its
//! symbols for the size table.
//!
//! Trust: our own build's output; bad files get an error, not a panic. System V ABI, "Object files"; ELF for the Arm
//! 64-bit architecture (AAELF64).
use thiserror::Error;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Largest flat image, in bytes.
pub const MAX_FLAT: u64 = 64 << 20;

const MAGIC: [u8; 7] = *b"\x7fELF\x02\x01\x01";
const EM_AARCH64: u16 = 183;
const PT_LOAD: u32 = 1;
/// Flag of a segment that is executed.
const PF_X: u32 = 1;
const SHT_SYMTAB: u32 = 2;
/// Type of a symbol that is a function.
const STT_FUNC: u8 = 2;

#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct FileHeader {
    ident: [u8; 16],
    kind: U16,
    machine: U16,
    version: U32,
    entry: U64,
    phoff: U64,
    shoff: U64,
    flags: U32,
    ehsize: U16,
    phentsize: U16,
    phnum: U16,
    shentsize: U16,
    shnum: U16,
    shstrndx: U16,
}

#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Segment {
    kind: U32,
    flags: U32,
    offset: U64,
    vaddr: U64,
    paddr: U64,
    filesz: U64,
    memsz: U64,
    align: U64,
}

#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Section {
    name: U32,
    kind: U32,
    flags: U64,
    addr: U64,
    offset: U64,
    size: U64,
    link: U32,
    info: U32,
    align: U64,
    entsize: U64,
}

#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct RawSymbol {
    name: U32,
    info: u8,
    other: u8,
    section: U16,
    value: U64,
    size: U64,
}

const _: () = assert!(size_of::<FileHeader>() == 64);
const _: () = assert!(size_of::<Section>() == 64);
const _: () = assert!(size_of::<RawSymbol>() == 24);
const _: () = assert!(size_of::<Segment>() == 56);

/// Why a file cannot be flattened.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ElfError {
    /// Not a 64-bit little-endian ELF file.
    #[error("not a 64-bit little-endian ELF file")]
    NotElf,
    /// Not for AArch64.
    #[error("ELF machine {0}, not AArch64")]
    Machine(u16),
    /// The program headers are not in the file, or have another size.
    #[error("bad program headers")]
    ProgramHeaders,
    /// A segment's bytes are not in the file, or it has more of them than memory.
    #[error("segment {0} is not in the file")]
    Segment(usize),
    /// Two segments share memory.
    #[error("segment {0} overlaps another")]
    Overlap(usize),
    /// Nothing to load.
    #[error("no PT_LOAD segment")]
    Empty,
    /// The symbol table is not in the file, or there is none.
    #[error("no symbol table")]
    Symbols,
    /// The image would be larger than [`MAX_FLAT`].
    #[error("flat image of {0:#x} bytes")]
    TooLarge(u64),
}

/// Tells whether the bytes look like an ELF file.
#[must_use]
pub fn is_elf(file: &[u8]) -> bool {
    file.starts_with(b"\x7fELF")
}

/// Returns the memory image from the lowest PT_LOAD address on, as long as the segments' memory, padded to 4 KiB.
///
/// # Errors
/// [`ElfError`].
pub fn flatten(file: &[u8]) -> Result<Vec<u8>, ElfError> {
    let header = file_header(file)?;
    let loads: Vec<(usize, &Segment)> =
        segments(file, header)?.iter().enumerate().filter(|(_, s)| s.kind.get() == PT_LOAD).collect();
    let base = loads.iter().map(|(_, s)| s.vaddr.get()).min().ok_or(ElfError::Empty)?;
    let mut flat = Vec::new();
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for (i, segment) in loads {
        let bad = ElfError::Segment(i);
        let start = segment.vaddr.get() - base;
        let memsz = segment.memsz.get();
        let end = start.checked_add(memsz).ok_or(bad)?;
        if end > MAX_FLAT {
            return Err(ElfError::TooLarge(end));
        }
        if taken.iter().any(|(s, e)| start < *e && *s < end) {
            return Err(ElfError::Overlap(i));
        }
        taken.push((start, end));
        let data = slice(file, segment.offset.get(), segment.filesz.get()).ok_or(bad)?;
        let (start, end) = (usize::try_from(start).map_err(|_| bad)?, usize::try_from(end).map_err(|_| bad)?);
        if flat.len() < end {
            flat.resize(end.next_multiple_of(4096), 0);
        }
        let to = flat.get_mut(start..end).and_then(|m| m.get_mut(..data.len())).ok_or(bad)?;
        to.copy_from_slice(data);
    }
    Ok(flat)
}

/// One PT_LOAD segment, for the size table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// It holds code.
    pub is_code: bool,
    /// Its bytes without the zeros at their end: what there is, not what alignment adds.
    pub used: usize,
}

/// Returns the PT_LOAD segments.
///
/// # Errors
/// [`ElfError`].
pub fn loads(file: &[u8]) -> Result<Vec<Load>, ElfError> {
    let all = segments(file, file_header(file)?)?.iter().enumerate();
    all.filter(|(_, s)| s.kind.get() == PT_LOAD)
        .map(|(i, s)| {
            let data = slice(file, s.offset.get(), s.filesz.get()).ok_or(ElfError::Segment(i))?;
            let used = data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
            Ok(Load { is_code: s.flags.get() & PF_X != 0, used })
        })
        .collect()
}

/// One function of the symbol table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function<'a> {
    /// Its name as the compiler mangled it; empty when it is not text.
    pub name: &'a str,
    /// Where it begins.
    pub address: u64,
    /// Its bytes.
    pub size: u64,
}

/// Returns the functions of the symbol table.
///
/// # Errors
/// [`ElfError`].
pub fn functions(file: &[u8]) -> Result<Vec<Function<'_>>, ElfError> {
    let bad = ElfError::Symbols;
    let header = file_header(file)?;
    let rest = usize::try_from(header.shoff.get()).ok().and_then(|at| file.get(at..)).ok_or(bad)?;
    let (sections, _) =
        <[Section]>::ref_from_prefix_with_elems(rest, header.shnum.get().into()).map_err(|_| bad)?;
    let bytes = |section: &Section| slice(file, section.offset.get(), section.size.get()).ok_or(bad);
    let table = sections.iter().find(|section| section.kind.get() == SHT_SYMTAB).ok_or(bad)?;
    let link = usize::try_from(table.link.get()).map_err(|_| bad)?;
    let names = bytes(sections.get(link).ok_or(bad)?)?;
    let symbols = <[RawSymbol]>::ref_from_bytes(bytes(table)?).map_err(|_| bad)?;
    let function = |symbol: &RawSymbol| {
        let name = usize::try_from(symbol.name.get()).ok().and_then(|at| names.get(at..));
        let name = name.and_then(|name| name.split(|byte| *byte == 0).next());
        let name = name.and_then(|name| core::str::from_utf8(name).ok()).unwrap_or_default();
        Function { name, address: symbol.value.get(), size: symbol.size.get() }
    };
    Ok(symbols.iter().filter(|symbol| symbol.info & 0xf == STT_FUNC).map(function).collect())
}

fn file_header(file: &[u8]) -> Result<&FileHeader, ElfError> {
    let (header, _) = FileHeader::ref_from_prefix(file).map_err(|_| ElfError::NotElf)?;
    if !header.ident.starts_with(&MAGIC) {
        return Err(ElfError::NotElf);
    }
    if header.machine.get() != EM_AARCH64 {
        return Err(ElfError::Machine(header.machine.get()));
    }
    Ok(header)
}

fn segments<'a>(file: &'a [u8], header: &FileHeader) -> Result<&'a [Segment], ElfError> {
    let bad = ElfError::ProgramHeaders;
    if usize::from(header.phentsize.get()) != size_of::<Segment>() {
        return Err(bad);
    }
    let count = usize::from(header.phnum.get());
    let rest = usize::try_from(header.phoff.get()).ok().and_then(|at| file.get(at..)).ok_or(bad)?;
    <[Segment]>::ref_from_prefix_with_elems(rest, count).map(|(all, _)| all).map_err(|_| bad)
}

fn slice(file: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    file.get(start..start.checked_add(usize::try_from(len).ok()?)?)
}
