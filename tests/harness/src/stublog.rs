//! The stub's log: what happened, told by the side that the realm cannot reach.
//!
//! One JSON object a line: records of the model, numbered without gaps, and lines of the stub itself. The last line is
//! the stub's own end; a log without it, with a gap, or with something behind it, is a fault of the run.

use crate::Fault;
use base64ct::{Base64, Encoding};
use rmm_model::record::Record;
use rmm_model::rim::Loaded;
use rmm_model::scenario::{DmaMoment, DmaTarget};
use rmm_model::{Board, FinalState};
use serde::Deserialize;
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Right before the realm was entered.
#[derive(Clone, Debug, Deserialize)]
pub struct Start {
    /// The machine as the realm sees it.
    pub board: Board,
    /// Address of the image.
    pub image: u64,
    /// Address of the device tree.
    pub tree: u64,
    /// Its bytes.
    pub tree_len: u64,
    /// Ticks of the system counter in a second.
    pub counter_hz: u64,
    /// The system counter.
    pub ticks: u64,
    /// RIM that the realm reads, as hexadecimal digits.
    #[serde(default)]
    pub rim: String,
    /// All that it was computed from, but the bytes of image and tree.
    #[serde(default)]
    pub loaded: Option<Loaded>,
    /// Bytes of the device tree, in base64; none above 64 KiB.
    #[serde(default)]
    pub tree_base64: Option<String>,
}

impl Start {
    /// Returns the bytes of the device tree; none where the log has none, or something else.
    #[must_use]
    pub fn device_tree(&self) -> Option<Vec<u8>> {
        Base64::decode_vec(self.tree_base64.as_deref()?).ok()
    }
}

/// The end.
#[derive(Clone, Debug, Deserialize)]
pub struct End {
    /// Exit status of QEMU.
    pub exit: u8,
    /// What is left, as the model has it.
    pub final_state: FinalState,
    /// What is left, read back from the tables of CPU and SMMU.
    pub hardware: Hardware,
}

/// What walking the tables of CPU and SMMU showed.
#[derive(Clone, Debug, Deserialize)]
pub struct Hardware {
    /// Assigned devices in scenario order.
    pub devices: Vec<HardwareDevice>,
    /// Pages that are mapped in both halves.
    pub pages_in_both_halves: u64,
    /// The CPU reaches the interrupt doorbell through the protected half.
    pub cpu_protected_doorbell: bool,
    /// The root of devices with private DMA has entries in the alias half.
    pub private_root_alias: bool,
    /// The root of devices with shared DMA has entries in the protected half.
    pub shared_root_protected: bool,
    /// Streams whose gate was ever set, with what the table says.
    pub gates: Vec<Gate>,
    /// Streams whose entry is not abort.
    pub open_streams: u64,
    /// DMA that the SMMU stopped.
    pub smmu_events: SmmuEvents,
    /// Exits to the stub.
    #[serde(default)]
    pub exits: Exits,
}

/// Exits to the stub that stand in no record.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Exits {
    /// Accesses to the emulated console.
    #[serde(default)]
    pub console: u64,
}

/// One stream of the SMMU.
#[derive(Clone, Debug, Deserialize)]
pub struct Gate {
    /// Routing id.
    pub rid: u16,
    /// As [`HardwareDevice::stream`].
    pub stream: String,
}

/// One device in the tables.
#[derive(Clone, Debug, Deserialize)]
pub struct HardwareDevice {
    /// Slot path.
    pub slot: String,
    /// Its entry in the stream table: `abort`, `private-only`, `shared-only` or `bad`.
    pub stream: String,
    /// What its stream reaches; none for a routing id that cannot be.
    pub reach: Option<Reach>,
    /// Its stream reaches a page of its own validated BARs.
    #[serde(default)]
    pub reaches_bar: bool,
    /// Pages with RIPAS DEV.
    pub dev: Pages,
    /// Pages of TEE ranges that the alias half reaches.
    pub tee_alias_leaves: u64,
}

/// Pages and their leaves.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Pages {
    /// How many.
    pub pages: u64,
    /// How many have the device page that they must have in the protected half.
    pub protected_leaves: u64,
    /// How many have a leaf in the alias half.
    pub alias_leaves: u64,
}

/// Events of the SMMU.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct SmmuEvents {
    /// No translation.
    pub translation: u64,
    /// No permission.
    pub permission: u64,
    /// Others.
    pub other: u64,
    /// Times that events were lost.
    pub overflows: u64,
    /// The first event, whole (SMMUv3, IHI0070, section 7.3).
    pub first: Option<[u64; 4]>,
}

impl SmmuEvents {
    /// Returns the stream of the first event.
    #[must_use]
    pub fn first_stream(&self) -> Option<u64> {
        self.first.map(|[word0, ..]| word0 >> 32)
    }

    /// Returns their number; a lost one counts.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.translation + self.permission + self.other + self.overflows
    }
}

/// What one stream reaches, by the SMMU's own tables, at one time.
#[derive(Clone, Debug, Deserialize)]
pub struct Snapshot {
    /// Routing id.
    pub rid: u16,
    /// `start` (before the realm is entered), `before` or `after` a change of the gate.
    pub when: String,
    /// What it reaches.
    pub reach: Reach,
    /// Number of records before it.
    #[serde(skip)]
    pub at: usize,
}

/// What one stream reaches: its entry, and walks of the tables that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Reach {
    /// Entry in the stream table: `abort`, `private-only`, `shared-only` or `bad`.
    pub entry: String,
    /// Root of its tables.
    pub root: Option<u64>,
    /// Pages that the CPU has in the protected half, spread over RAM.
    pub sampled: u64,
    /// How many of them the stream reaches.
    pub private: u64,
    /// It reaches something through the alias half.
    pub alias: bool,
    /// It reaches a device, the interrupt doorbell aside.
    pub device: bool,
    /// It reaches the interrupt doorbell.
    pub doorbell: bool,
}

/// A REC that the stub never enters again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct RecOff {
    /// Number of the REC.
    pub rec: u64,
    /// The system counter.
    pub ticks: u64,
}

/// What became of DMA that the host started.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct HostDmaResult {
    /// Slot of the device.
    pub slot: String,
    /// When.
    pub at: DmaMoment,
    /// Where to.
    pub to: DmaTarget,
    /// Whether it arrived; nothing when it could not be tried.
    pub arrived: Option<bool>,
}

/// A whole log.
#[derive(Clone, Debug)]
pub struct StubLog {
    /// The start.
    pub start: Start,
    /// All records.
    pub records: Vec<Record>,
    /// Instructions that the realm must not use and was told are undefined.
    pub undefined: u64,
    /// What streams reached, in the order of the log.
    pub snapshots: Vec<Snapshot>,
    /// RECs that went off, in the order of the log.
    pub off: Vec<RecOff>,
    /// DMA that the host started, in the order of the log.
    pub host_dma: Vec<HostDmaResult>,
    /// The end.
    pub end: End,
}

/// Reads a log while it grows.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    /// Bytes behind the last newline.
    partial: Vec<u8>,
    lines: u64,
    /// Read so far.
    pub records: Vec<Record>,
    /// Read so far.
    pub start: Option<Start>,
    undefined: u64,
    snapshots: Vec<Snapshot>,
    off: Vec<RecOff>,
    host_dma: Vec<HostDmaResult>,
    end: Option<End>,
    fault: Option<Fault>,
}

impl Tail {
    /// Begins at the start of a file that need not exist yet.
    #[must_use]
    pub fn new(path: &Path) -> Tail {
        Tail {
            path: path.to_owned(),
            file: None,
            partial: Vec::new(),
            lines: 0,
            records: Vec::new(),
            start: None,
            undefined: 0,
            snapshots: Vec::new(),
            off: Vec::new(),
            host_dma: Vec::new(),
            end: None,
            fault: None,
        }
    }

    /// Reads what was added. A fault is kept for [`Tail::finish`]; nothing behind it is read.
    pub fn poll(&mut self) {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else { return };
        let mut bytes = Vec::new();
        if let Err(error) = file.read_to_end(&mut bytes) {
            let path = self.path.display().to_string();
            self.fault.get_or_insert(Fault::File { path, error });
        }
        self.push(&bytes);
    }

    fn push(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        let whole = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.partial.split_off(whole);
        for line in std::mem::replace(&mut self.partial, rest).split_terminator_lf() {
            self.lines += 1;
            if self.fault.is_none()
                && let Err(fault) = self.line(line)
            {
                self.fault = Some(fault);
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let number = self.lines;
        let bad = |error: serde_json::Error| Fault::Run(format!("stub log, line {number}: {error}"));
        if self.end.is_some() {
            return Err(Fault::Run(format!("stub log, line {number}: behind the end")));
        }
        let value: Value = serde_json::from_slice(line).map_err(bad)?;
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        match value.get("stub").and_then(Value::as_str) {
            None => {
                let record: Record = serde_json::from_value(value).map_err(bad)?;
                let expected = self.records.len() as u64;
                if record.seq != expected {
                    let found = record.seq;
                    return Err(Fault::Run(format!("stub log: record {found} where {expected} must be")));
                }
                self.records.push(record);
            }
            Some("start") => self.start = Some(serde_json::from_value(value).map_err(bad)?),
            Some("final") => self.end = Some(serde_json::from_value(value).map_err(bad)?),
            Some("undefined") => self.undefined += 1,
            Some("stream") => {
                let snapshot: Snapshot = serde_json::from_value(value).map_err(bad)?;
                self.snapshots.push(Snapshot { at: self.records.len(), ..snapshot });
            }
            Some("rec-off") => self.off.push(serde_json::from_value(value).map_err(bad)?),
            Some("host-dma") => self.host_dma.push(serde_json::from_value(value).map_err(bad)?),
            Some("panic") => return Err(Fault::Run(format!("the stub RMM panicked: {}", text("text")))),
            Some("refused") => return Err(refused(&text("reason"))),
            Some(other) => {
                return Err(Fault::Run(format!("stub log, line {number}: unknown line {other:?}")));
            }
        }
        Ok(())
    }

    /// Returns the log, which must be whole.
    ///
    /// # Errors
    /// [`Fault::Run`] when it is not, or when the stub gave up; [`Fault::NotPossible`] when the stub misses something.
    pub fn finish(mut self) -> Result<StubLog, Fault> {
        self.poll();
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let Some(end) = self.end else {
            let text = format!("the stub log has no final line ({} lines): the run was cut off", self.lines);
            return Err(Fault::Run(text));
        };
        if !self.partial.is_empty() {
            return Err(Fault::Run("stub log: bytes behind the last line".into()));
        }
        let start = self.start.ok_or_else(|| Fault::Run("the stub log has no start line".into()))?;
        let Tail { records, undefined, snapshots, off, host_dma, .. } = self;
        Ok(StubLog { start, records, undefined, snapshots, off, host_dma, end })
    }
}

/// The stub refuses a machine without SMMU stage 2, or a scenario that does not fit the machine.
fn refused(reason: &str) -> Fault {
    if reason.contains("SMMU") {
        Fault::NotPossible(format!("no SMMU stage 2: {reason}"))
    } else {
        Fault::Run(format!("the stub RMM refused the run: {reason}"))
    }
}

/// Splitting at line feeds; the last line has one too.
trait Lines {
    fn split_terminator_lf(&self) -> impl Iterator<Item = &[u8]>;
}

impl Lines for Vec<u8> {
    fn split_terminator_lf(&self) -> impl Iterator<Item = &[u8]> {
        self.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::example;

    fn read(text: &str) -> Result<StubLog, Fault> {
        let mut tail = Tail::new(Path::new("/nonexistent"));
        tail.push(text.as_bytes());
        tail.finish()
    }

    fn fault(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn a_whole_log_is_read() {
        let log = read(&example().log_text()).unwrap();
        assert_eq!(log.records.len(), example().records.len());
        assert_eq!(log.end.exit, 0);
    }

    #[test]
    fn the_start_line_says_what_was_measured() {
        let old = read(&example().log_text()).unwrap().start;
        assert_eq!((old.rim.as_str(), old.loaded, old.tree_base64), ("", None, None));

        let loaded =
            r#"{"rules":"r1","hash":"sha256","parameters":{"flags":8,"s2sz":44,"sve_vl":0,"num_bps":5,
            "num_wps":3,"pmu_num_ctrs":0},"ram":[],"data":[{"base":4096,"len":5}],"recs":[{"pc":4096,
            "gprs":[1,0,0,0,0,0,0,0]}]}"#
                .replace('\n', " ");
        let more = format!("{{\"rim\":\"5a\",\"tree_base64\":\"AAA=\",\"loaded\":{loaded},");
        let start = read(&example().log_text().replacen('{', &more, 1)).unwrap().start;
        assert_eq!((start.rim.as_str(), start.device_tree()), ("5a", Some(vec![0, 0])));
        let loaded = start.loaded.unwrap();
        assert_eq!((loaded.data[0].top(), loaded.recs[0].gprs[0]), (4101, 1));
    }

    #[test]
    fn a_log_that_arrives_in_pieces_is_the_same_log() {
        let text = example().log_text();
        let mut tail = Tail::new(Path::new("/nonexistent"));
        for piece in text.as_bytes().chunks(7) {
            tail.push(piece);
        }
        assert_eq!(tail.finish().unwrap().records, read(&text).unwrap().records);
    }

    #[test]
    fn a_missing_log_is_a_fault() {
        assert!(fault("").contains("no final line"));
    }

    #[test]
    fn a_log_without_final_line_is_a_fault() {
        let text = example().log_text();
        let cut = text.trim_end().rfind('\n').unwrap() + 1;
        assert!(fault(&text[..cut]).contains("no final line"));
    }

    #[test]
    fn a_cut_final_line_is_a_fault() {
        let text = example().log_text();
        assert!(fault(&text[..text.len() - 1]).contains("no final line"));
        assert!(fault(&text[..text.len() - 20]).contains("no final line"));
    }

    #[test]
    fn a_log_without_start_line_is_a_fault() {
        let text = example().log_text();
        let cut =
            text.lines().filter(|line| !line.contains("\"start\"")).collect::<Vec<_>>().join("\n") + "\n";
        assert!(fault(&cut).contains("no start line"));
    }

    #[test]
    fn a_missing_record_is_a_fault() {
        let text = example().log_text();
        let cut =
            text.lines().filter(|line| !line.contains("\"seq\":1,")).collect::<Vec<_>>().join("\n") + "\n";
        assert!(fault(&cut).contains("record 2 where 1 must be"));
    }

    #[test]
    fn a_line_behind_the_end_is_a_fault() {
        let text = example().log_text();
        let last = text.lines().last().unwrap();
        assert!(fault(&format!("{text}{last}\n")).contains("behind the end"));
    }

    #[test]
    fn a_line_that_is_no_json_is_a_fault() {
        assert!(fault(&format!("GH\n{}", example().log_text())).contains("line 1"));
    }

    #[test]
    fn a_panic_of_the_stub_is_a_fault_with_its_text() {
        assert!(fault("{\"stub\":\"panic\",\"text\":\"no room\"}\n").contains("no room"));
    }

    #[test]
    fn a_machine_without_stage_2_is_not_possible() {
        let line = "{\"stub\":\"refused\",\"reason\":\"this QEMU has no SMMUv3 with stage 2\"}\n";
        assert_eq!(read(line).unwrap_err().exit_status(), 3);
        let line = "{\"stub\":\"refused\",\"reason\":\"scenario: no function at slot\"}\n";
        assert_eq!(read(line).unwrap_err().exit_status(), 1);
    }
}
