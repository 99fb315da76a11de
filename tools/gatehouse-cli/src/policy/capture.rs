//! Evidence out of the console log of an audit boot: one folder for each function, with `function.toml` and the objects.
//!
//! The log may have anything in front of the word `evidence` on a line, and other lines between.
use base64ct::{Base64, Encoding};
use gatehouse::boot::slot::SlotPath;
use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};
use thiserror::Error;

/// Objects of a function's evidence.
pub const OBJECTS: [&str; 4] = ["certificate", "vca", "measurements", "report"];
/// What says what a function is, in the order of the line: name in the log, and whether it stands as a number in TOML.
const IDS: [(&str, bool); 6] = [
    ("vendor", true),
    ("device", true),
    ("subsystem-vendor", true),
    ("subsystem", true),
    ("class", false),
    ("hash", false),
];
/// How a line of evidence goes on after whatever stands in front of it.
const START: &str = "evidence slot=";

/// Why a log holds no evidence.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CaptureError {
    /// No line of evidence: not an audit boot, or the log was cut.
    #[error("no line of evidence; is it the log of a boot with audit = true?")]
    Nothing,
    /// A line of evidence without one of its values, or with one that cannot be.
    #[error("line {line}: {field} is missing or malformed")]
    Field {
        /// Line, from 1.
        line: usize,
        /// Name of the value.
        field: &'static str,
    },
    /// A second line that says what this function is: the log of two boots.
    #[error("line {line}: {slot} is there already; one boot at a time")]
    Twice {
        /// Line, from 1.
        line: usize,
        /// The function.
        slot: SlotPath,
    },
    /// An object of a function that no line has introduced.
    #[error("line {line}: no line says what is at {slot}")]
    Unknown {
        /// Line, from 1.
        line: usize,
        /// The function.
        slot: SlotPath,
    },
    /// A piece of an object that does not follow the piece before it.
    #[error("line {line}: {slot}: {object} goes on at {offset}, {have} bytes are there")]
    Gap {
        /// Line, from 1.
        line: usize,
        /// The function.
        slot: SlotPath,
        /// The object.
        object: &'static str,
        /// Where the piece says that it belongs.
        offset: usize,
        /// Bytes before it.
        have: usize,
    },
    /// An object whose pieces do not make its size.
    #[error("{slot}: {object} has {have} bytes of {total}")]
    Size {
        /// The function.
        slot: SlotPath,
        /// The object.
        object: &'static str,
        /// Bytes there.
        have: usize,
        /// Bytes announced.
        total: usize,
    },
}

/// What a log says of one function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    /// Values of [`IDS`], in that order, as the log has them: hexadecimal digits, and the algorithm's name.
    ids: Vec<String>,
    /// Objects by their name.
    pub objects: BTreeMap<&'static str, Vec<u8>>,
    totals: BTreeMap<&'static str, usize>,
}

impl Function {
    /// Writes `function.toml`.
    #[must_use]
    pub fn to_toml(&self, slot: &SlotPath) -> String {
        let line = |((name, number), value): (&(&str, bool), &String)| {
            if *number { format!("{name} = 0x{value}\n") } else { format!("{name} = \"{value}\"\n") }
        };
        let ids: String = IDS.iter().zip(&self.ids).map(line).collect();
        format!("slot = \"{slot}\"\n{ids}")
    }
}

/// Values of a line.
struct Line<'t> {
    number: usize,
    values: BTreeMap<&'t str, &'t str>,
}

impl<'t> Line<'t> {
    fn get(&self, field: &'static str) -> Result<&'t str, CaptureError> {
        self.values.get(field).copied().ok_or(CaptureError::Field { line: self.number, field })
    }

    fn parse<T: std::str::FromStr>(&self, field: &'static str) -> Result<T, CaptureError> {
        self.get(field)?.parse().map_err(|_| CaptureError::Field { line: self.number, field })
    }

    /// One of [`IDS`]: as many hexadecimal digits as it has, or an algorithm.
    fn id(&self, field: &'static str) -> Result<String, CaptureError> {
        let value = self.get(field)?;
        let fine = match field {
            "hash" => matches!(value, "sha256" | "sha384" | "sha512"),
            "class" => value.len() == 6 && value.bytes().all(|c| c.is_ascii_hexdigit()),
            _ => value.len() == 4 && value.bytes().all(|c| c.is_ascii_hexdigit()),
        };
        if fine { Ok(value.into()) } else { Err(CaptureError::Field { line: self.number, field }) }
    }
}

/// Collects the evidence in a log.
///
/// # Errors
/// [`CaptureError`]: nothing there, a malformed line, pieces that are missing or repeated.
pub fn collect(log: &str) -> Result<BTreeMap<SlotPath, Function>, CaptureError> {
    let mut functions = BTreeMap::<SlotPath, Function>::new();
    for (index, line) in log.lines().enumerate() {
        let Some(at) = line.find(START) else { continue };
        let words = line[at..].split_whitespace().skip(1);
        let line =
            Line { number: index + 1, values: words.filter_map(|word| word.split_once('=')).collect() };
        let slot: SlotPath = line.parse("slot")?;
        if line.values.contains_key("object") {
            let function = functions.get_mut(&slot);
            let function = function.ok_or(CaptureError::Unknown { line: line.number, slot: slot.clone() })?;
            piece(&line, slot, function)?;
        } else {
            let ids = IDS.iter().map(|(field, _)| line.id(field)).collect::<Result<_, _>>()?;
            let function = Function { ids, ..Function::default() };
            if functions.insert(slot.clone(), function).is_some() {
                return Err(CaptureError::Twice { line: line.number, slot });
            }
        }
    }
    for (slot, function) in &functions {
        for (object, total) in &function.totals {
            let have = function.objects.get(object).map_or(0, Vec::len);
            if have != *total {
                return Err(CaptureError::Size { slot: slot.clone(), object, have, total: *total });
            }
        }
    }
    if functions.is_empty() { Err(CaptureError::Nothing) } else { Ok(functions) }
}

/// Adds a piece of an object.
fn piece(line: &Line<'_>, slot: SlotPath, function: &mut Function) -> Result<(), CaptureError> {
    let wrong = |field| CaptureError::Field { line: line.number, field };
    let name = line.get("object")?;
    let object = OBJECTS.into_iter().find(|object| *object == name).ok_or(wrong("object"))?;
    let (offset, total): (usize, usize) = (line.parse("offset")?, line.parse("total")?);
    let bytes = Base64::decode_vec(line.get("base64")?).map_err(|_| wrong("base64"))?;
    if *function.totals.entry(object).or_insert(total) != total {
        return Err(wrong("total"));
    }
    let have = function.objects.entry(object).or_default();
    if have.len() != offset || bytes.is_empty() {
        return Err(CaptureError::Gap { line: line.number, slot, object, offset, have: have.len() });
    }
    have.extend(bytes);
    Ok(())
}

/// Returns the name of a function's folder: its slot path with `_` for `/`.
#[must_use]
pub fn folder_name(slot: &SlotPath) -> String {
    slot.to_string().replace('/', "_")
}

/// Writes the folders, in a new `folder`.
///
/// # Errors
/// What the file system says; also if `folder` is there already.
pub fn store(functions: &BTreeMap<SlotPath, Function>, folder: &Path) -> io::Result<()> {
    fs::create_dir(folder)?;
    for (slot, function) in functions {
        let folder = folder.join(folder_name(slot));
        fs::create_dir(&folder)?;
        fs::write(folder.join("function.toml"), function.to_toml(slot))?;
        for (object, bytes) in &function.objects {
            fs::write(folder.join(format!("{object}.bin")), bytes)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: &str = "evidence slot=03.0/00.0 vendor=1b36 device=0010 subsystem-vendor=1af4 subsystem=1100 class=010802 hash=sha384";
    /// 96 bytes of ff, then "abc".
    const FIRST: &str = "offset=0 total=99 base64=////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////";
    const SECOND: &str = "offset=96 total=99 base64=YWJj";

    fn object(rest: &str) -> String {
        format!("[    1.5] info: evidence slot=03.0/00.0 object=certificate {rest}")
    }

    fn log(lines: &[&str]) -> String {
        lines.join("\r\n") + "\r\n"
    }

    #[test]
    fn pieces_become_objects_whatever_stands_around_them() {
        let (first, second) = (object(FIRST), object(SECOND));
        let log = log(&["boot", IDS, &first, "evidence of something else", &second, "end"]);
        let functions = collect(&log).unwrap();
        let (slot, function) = functions.first_key_value().unwrap();
        assert_eq!(slot.to_string(), "03.0/00.0");
        assert_eq!(function.objects["certificate"], [[0xff; 96].as_slice(), b"abc"].concat());
        assert_eq!(function.objects.len(), 1);
        let text = "slot = \"03.0/00.0\"\nvendor = 0x1b36\ndevice = 0x0010\nsubsystem-vendor = 0x1af4\n\
            subsystem = 0x1100\nclass = \"010802\"\nhash = \"sha384\"\n";
        assert_eq!(function.to_toml(slot), text);
    }

    #[test]
    fn a_piece_that_is_missing_or_there_twice_is_an_error() {
        let slot = || "03.0/00.0".parse().unwrap();
        let (first, second) = (object(FIRST), object(SECOND));
        let gap = |line, offset, have| {
            Err(CaptureError::Gap { line, slot: slot(), object: "certificate", offset, have })
        };
        assert_eq!(collect(&log(&[IDS, &first, &first])), gap(3, 0, 96));
        assert_eq!(collect(&log(&[IDS, &second])), gap(2, 96, 0));
        let size = CaptureError::Size { slot: slot(), object: "certificate", have: 96, total: 99 };
        assert_eq!(collect(&log(&[IDS, &first])), Err(size));
        assert_eq!(collect(&log(&[IDS, IDS])), Err(CaptureError::Twice { line: 2, slot: slot() }));
        assert_eq!(collect(&log(&[&first])), Err(CaptureError::Unknown { line: 1, slot: slot() }));
        assert_eq!(collect("a\nb\n"), Err(CaptureError::Nothing));
    }

    #[test]
    fn a_malformed_line_is_named_with_its_value() {
        let wrong = |line: &str, field| {
            assert_eq!(collect(&log(&[IDS, line])), Err(CaptureError::Field { line: 2, field }), "{line}");
        };
        wrong("evidence slot=3.0 vendor=1b36", "slot");
        wrong(&IDS.replace("1b36", "1b3"), "vendor");
        wrong(&IDS.replace("010802", "0108"), "class");
        wrong(&IDS.replace("sha384", "sha1"), "hash");
        wrong(&IDS.replace(" subsystem=1100", ""), "subsystem");
        wrong(&object("offset=0 total=3 base64=YWJ"), "base64");
        wrong(&object("offset=x total=3 base64=YWJj"), "offset");
        wrong(&object("offset=0 base64=YWJj"), "total");
        wrong("evidence slot=03.0/00.0 object=key offset=0 total=3 base64=YWJj", "object");
        let (first, other) = (object(FIRST), object("offset=96 total=98 base64=YWI="));
        let error = collect(&log(&[IDS, &first, &other]));
        assert_eq!(error, Err(CaptureError::Field { line: 3, field: "total" }));
    }
}
