//! The size of the firmware: a table per crate, the limit, and the number that it may not outgrow unseen (scripts/check).

use crate::Fault;
use gatehouse_cli::elf;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

/// Largest flat firmware image, in bytes.
pub const IMAGE_MAX: usize = 320 * 1024;
/// How much more than recorded the firmware may have, in percent.
const GROWTH: usize = 2;

/// What a test build prints, and therefore holds.
const TEST_BUILD: &[u8] = b"TEST BUILD (gatehouse_";

/// Measured sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The flat file: whole pages.
    pub flat: usize,
    /// Code, constants and data without what alignment adds: this is compared, because a page alone is 2 % already.
    pub used: usize,
    /// Bytes by where they come from, largest first.
    pub rows: Vec<(String, usize)>,
}

/// Measures an ELF file.
///
/// # Errors
/// [`Fault::Run`]: it is not the firmware's.
pub fn measure(file: &[u8]) -> Result<Sizes, Fault> {
    let bad = |error: elf::ElfError| Fault::Run(error.to_string());
    let flat = elf::flatten(file).map_err(bad)?.len();
    let loads = elf::loads(file).map_err(bad)?;
    let mut rows: BTreeMap<String, usize> = BTreeMap::new();
    let mut seen = HashSet::new();
    for function in elf::functions(file).map_err(bad)? {
        // Several names may be one function.
        if seen.insert(function.address) {
            let bytes = usize::try_from(function.size).unwrap_or(usize::MAX);
            *rows.entry(crate_of(function.name)).or_default() += bytes;
        }
    }
    let used = |is_code| loads.iter().filter(|load| load.is_code == is_code).map(|load| load.used).sum();
    let (code, constants): (usize, usize) = (used(true), used(false));
    let named: usize = rows.values().sum();
    rows.insert("(code between functions)".into(), code.saturating_sub(named));
    rows.insert("(constants and data)".into(), constants);
    let mut rows: Vec<_> = rows.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
    rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(Sizes { flat, used: code + constants, rows })
}

/// Returns the crate that defines a function, by its mangled name; generic code belongs to the crate that wrote it.
#[must_use]
pub fn crate_of(symbol: &str) -> String {
    if symbol.starts_with("OUTLINED_FUNCTION") {
        return "(outlined by the compiler)".into();
    }
    let found = match symbol.strip_prefix("_ZN") {
        Some(path) => legacy(path),
        None => symbol.strip_prefix("_R").and_then(v0),
    };
    found.unwrap_or("(no crate)").into()
}

/// A legacy path: `4core3fmt5write`, or `NN_$LT$Type$u20$as$u20$Trait$GT$..` for an implementation.
fn legacy(path: &str) -> Option<&str> {
    let first = counted(path)?;
    if !first.contains('$') {
        return Some(first);
    }
    // The type's crate if it has one (a parameter or a primitive has none), else the trait's.
    first.split("$u20$as$u20$").find_map(|side| {
        let (before, _) = side.split_once("..")?;
        before.rsplit('$').next().map(|name| name.trim_start_matches('_')).filter(|name| is_name(name))
    })
}

/// A v0 path: its first crate root, `C` with an optional disambiguator (`s..._`), then the counted name.
fn v0(path: &str) -> Option<&str> {
    path.match_indices('C').find_map(|(at, _)| {
        let rest = path.get(at..)?.strip_prefix('C')?;
        let plain = match rest.strip_prefix('s').and_then(|tail| tail.split_once('_')) {
            Some((number, tail)) if number.bytes().all(|b| b.is_ascii_alphanumeric()) => tail,
            _ => rest,
        };
        counted(plain).filter(|name| is_name(name))
    })
}

/// Returns the name behind its decimal length. In v0, `_` separates it from a name that begins with a digit or `_`.
fn counted(text: &str) -> Option<&str> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (len, rest) = text.split_at_checked(digits)?;
    let rest = rest.strip_prefix('_').filter(|name| name.starts_with('_')).unwrap_or(rest);
    rest.get(..len.parse().ok()?)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Prints the table and holds the sizes against limit and record; `bless` writes the record anew.
///
/// # Errors
/// [`Fault::Run`] when the image is too large, [`Fault::File`].
pub fn command(elf: &Path, record: &Path, bless: bool) -> Result<(), Fault> {
    let file = fs::read(elf).map_err(Fault::file(elf))?;
    if is_test_build(&file) {
        return Err(Fault::Run(format!("{}: a test build, which its command line can break", elf.display())));
    }
    let sizes = measure(&file)?;
    for (name, bytes) in &sizes.rows {
        println!("{bytes:>8}  {name}");
    }
    println!("{:>8}  in all; flat image {} bytes, at most {IMAGE_MAX}", sizes.used, sizes.flat);
    if bless {
        return fs::write(record, format!("{}\n", sizes.used)).map_err(Fault::file(record));
    }
    let text = fs::read_to_string(record).map_err(Fault::file(record))?;
    let recorded = text.trim().parse().map_err(|_| Fault::Run(format!("{}: no number", record.display())))?;
    judge(&sizes, recorded).map_err(Fault::Run)
}

/// Tells whether an image is one that its command line can break (src/arch/aarch64/fault.rs).
#[must_use]
pub fn is_test_build(file: &[u8]) -> bool {
    file.windows(TEST_BUILD.len()).any(|bytes| bytes == TEST_BUILD)
}

/// Holds sizes against the limit and the recorded number.
fn judge(sizes: &Sizes, recorded: usize) -> Result<(), String> {
    let Sizes { flat, used, .. } = *sizes;
    if flat > IMAGE_MAX {
        return Err(format!("the flat image has {flat} bytes, {IMAGE_MAX} are allowed"));
    }
    if used > recorded + recorded * GROWTH / 100 {
        return Err(format!(
            "the image has {used} bytes, more than {GROWTH} % above the recorded {recorded}: make it smaller, or write \
             the new number down with scripts/check --bless"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_belongs_to_the_crate_that_defines_it() {
        let legacy = |name: &str| format!("_ZN{}{name}3fmt17h0123456789abcdefE", name.len());
        let cases = [
            (legacy("core"), "core"),
            (legacy("_$LT$$RF$T$u20$as$u20$core..fmt..Display$GT$"), "core"),
            (legacy("_$LT$gatehouse..rsi..RsiError$u20$as$u20$core..fmt..Display$GT$"), "gatehouse"),
            (legacy("_$LT$D$u20$as$u20$digest..digest..Digest$GT$"), "digest"),
            ("_RNvNtCsabc_9gatehouse3fdt5check".into(), "gatehouse"),
            ("_RNvCs1Y7DaGHtiYJ_7___rustc10rust_panic".into(), "__rustc"),
            ("_RINvMs_NtC4core5sliceSh4sortE".into(), "core"),
            ("OUTLINED_FUNCTION_12".into(), "(outlined by the compiler)"),
            ("memcpy".into(), "(no crate)"),
            ("_ZN99short".into(), "(no crate)"),
        ];
        for (symbol, name) in cases {
            assert_eq!(crate_of(&symbol), name, "{symbol}");
        }
    }

    #[test]
    fn growth_beyond_the_record_or_the_limit_is_refused() {
        let sizes = |flat, used| Sizes { flat, used, rows: Vec::new() };
        assert_eq!(judge(&sizes(IMAGE_MAX, 1020), 1000), Ok(()));
        assert!(judge(&sizes(IMAGE_MAX, 1021), 1000).unwrap_err().contains("--bless"));
        assert!(judge(&sizes(IMAGE_MAX + 4096, 1), 1000).unwrap_err().contains("are allowed"));
    }
}
