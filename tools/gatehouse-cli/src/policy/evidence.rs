//! Reads captured evidence from its folders, as [`super::capture`] wrote them: what a draft is made of.
//!
//! What an object says is read by the firmware's own code. An object that it cannot read is an error; one that it can read
//! and would refuse is an objection, which a draft shows.
use super::draft::{Captured, CapturedBlock, CapturedChain};
use super::toml::words::{QUIRKS, REPORT};
use gatehouse::abi::tdisp::RangeAttributes;
use gatehouse::boot::slot::SlotPath;
use gatehouse::digest::Digest;
use gatehouse::evidence::{
    Chain, ContentChanged, Exchange, FlagError, InterfaceReport, Trust, Vca, check_flags,
};
use gatehouse::policy::types::{Anchor, AnchorKey, Denied, EvidenceClass, ReportRules};
use gatehouse::rsi::HashAlgorithm;
use std::fmt::Display;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// First range id that no number of a BAR can be; RMMs that write reports use ids from here.
const HIGH_IDS: u16 = 0xff00;

/// Why a folder is no evidence: the file, and what is wrong with it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{}: {what}", file.display())]
pub struct EvidenceError {
    /// File or folder.
    pub file: PathBuf,
    /// What is wrong.
    pub what: String,
}

/// Makes an error about a file.
fn wrong(file: &Path) -> impl FnOnce(String) -> EvidenceError + '_ {
    move |what| EvidenceError { file: file.into(), what }
}

/// Reads all functions of a folder, in the order of their slots.
///
/// # Errors
/// [`EvidenceError`]: nothing there, a file that is missing, cannot be read or is malformed.
pub fn read(folder: &Path) -> Result<Vec<Captured>, EvidenceError> {
    let failed = |error: std::io::Error| wrong(folder)(error.to_string());
    let mut functions = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            functions.push(function(&path)?);
        }
    }
    functions.sort_by(|a, b| a.slot.cmp(&b.slot));
    if functions.is_empty() {
        return Err(wrong(folder)("no folder of a function; gatehouse policy capture makes them".into()));
    }
    Ok(functions)
}

/// The values of `function.toml`.
struct Ids<'t> {
    file: &'t Path,
    table: toml::Table,
}

impl Ids<'_> {
    fn text(&self, field: &str) -> Result<&str, EvidenceError> {
        let value = self.table.get(field).and_then(toml::Value::as_str);
        value.ok_or_else(|| wrong(self.file)(format!("{field} is missing or no text")))
    }

    fn id(&self, field: &str) -> Result<u16, EvidenceError> {
        let value = self.table.get(field).and_then(toml::Value::as_integer);
        let value = value.and_then(|value| u16::try_from(value).ok());
        value.ok_or_else(|| wrong(self.file)(format!("{field} is missing or no number of 16 bits")))
    }

    fn slot(&self) -> Result<SlotPath, EvidenceError> {
        self.text("slot")?.parse().map_err(|error| wrong(self.file)(format!("slot: {error}")))
    }

    fn class(&self) -> Result<u32, EvidenceError> {
        let digits = self.text("class")?;
        let class = u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 6);
        class.ok_or_else(|| wrong(self.file)("class is not six hexadecimal digits".into()))
    }
}

fn function(folder: &Path) -> Result<Captured, EvidenceError> {
    let file = folder.join("function.toml");
    let text = fs::read_to_string(&file).map_err(|error| wrong(&file)(error.to_string()))?;
    let table = text.parse().map_err(|error: toml::de::Error| wrong(&file)(error.message().to_owned()))?;
    let ids = Ids { file: &file, table };
    let mut captured = Captured {
        slot: ids.slot()?,
        vendor: ids.id("vendor")?,
        device: ids.id("device")?,
        subsystem_vendor: ids.id("subsystem-vendor")?,
        subsystem: ids.id("subsystem")?,
        class: ids.class()?,
        evidence: EvidenceClass::Platform,
        chain: None,
        blocks: Vec::new(),
        zero_nonce: false,
        report: ReportRules::default(),
        objections: Vec::new(),
    };
    let objects = Objects {
        folder,
        certificate: object(folder, "certificate")?,
        vca: object(folder, "vca")?,
        measurements: object(folder, "measurements")?,
    };
    if !objects.is_empty() {
        objects.read(&mut captured)?;
    }
    report(folder, &mut captured)?;
    Ok(captured)
}

fn path(folder: &Path, object: &str) -> PathBuf {
    folder.join(format!("{object}.bin"))
}

/// Reads an object; one that is not there is empty.
fn object(folder: &Path, object: &str) -> Result<Vec<u8>, EvidenceError> {
    let file = path(folder, object);
    match fs::read(&file) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(wrong(&file)(error.to_string())),
    }
}

/// What a device says over SPDM.
struct Objects<'f> {
    folder: &'f Path,
    certificate: Vec<u8>,
    vca: Vec<u8>,
    measurements: Vec<u8>,
}

impl Objects<'_> {
    fn is_empty(&self) -> bool {
        self.certificate.is_empty() && self.vca.is_empty() && self.measurements.is_empty()
    }

    /// Makes the error of an object.
    fn wrong<E: Display>(&self, object: &'static str) -> impl FnOnce(E) -> EvidenceError + '_ {
        move |error| wrong(&path(self.folder, object))(error.to_string())
    }

    fn read(&self, captured: &mut Captured) -> Result<(), EvidenceError> {
        let vca = Vca::parse(&self.vca).map_err(self.wrong("vca"))?;
        let exchange = Exchange::parse(&self.measurements, &vca).map_err(self.wrong("measurements"))?;
        let block = |block: &gatehouse::evidence::Block<'_>| CapturedBlock {
            index: block.index,
            kind: block.kind,
            is_raw: block.is_raw,
            value: block.value.into(),
        };
        captured.blocks = exchange.blocks.iter().map(block).collect();
        captured.zero_nonce = exchange.requester_nonce == Some([0; 32]);
        if exchange.content_changed == ContentChanged::Changed {
            captured.objections.push("the device says that its content changed while it was measured".into());
        }
        if exchange.signature.is_none() {
            // Nothing ties the chain to these measurements.
            captured.evidence = EvidenceClass::Unauthenticated;
            return Ok(());
        }
        captured.evidence = EvidenceClass::Signed;
        let chain = Chain::parse(&self.certificate, vca.hash).map_err(self.wrong("certificate"))?;
        let sha384 = |bytes| Digest::of(HashAlgorithm::Sha384, &[bytes]);
        let leaf = chain.leaf();
        let root = sha384(chain.certificates().next().unwrap_or(leaf).der);
        let anchors = [Anchor { name: String::new(), key: AnchorKey::Certificate(root) }];
        let trust = Trust { anchors: &anchors, denied: &Denied::default(), floor: None };
        captured.objections.extend(chain.verify(&trust).err().map(|error| error.to_string()));
        let signature = exchange.verify(&self.vca, &vca, &leaf.key);
        captured.objections.extend(signature.err().map(|error| error.to_string()));
        captured.chain =
            Some(CapturedChain { root, subject: leaf.subject.clone(), leaf_key: sha384(leaf.key.spki()) });
        Ok(())
    }
}

/// Reads the interface report: what a rule would have to allow is said, not drafted.
fn report(folder: &Path, captured: &mut Captured) -> Result<(), EvidenceError> {
    let bytes = object(folder, "report")?;
    let report = InterfaceReport::parse(&bytes);
    let report = report.map_err(|error| wrong(&path(folder, "report"))(error.to_string()))?;
    // One flag after the other: each is named once.
    let mut allowed = ReportRules::default();
    while let Err(error) = check_flags(&report, &allowed) {
        let flag = match error {
            FlagError::FirmwareUpdate => "firmware-update-allowed",
            FlagError::NoPlainDma => "no-plain-dma-allowed",
            FlagError::Pasid => "pasid-allowed",
            FlagError::Ats => "ats-allowed",
            FlagError::Prs => "prs-allowed",
        };
        captured.objections.push(format!("{error}; to take it nevertheless: report.{flag} = true"));
        let Some((_, field)) = REPORT.iter().find(|(word, _)| *word == flag) else { break };
        *field(&mut allowed) = true;
    }
    if report.ranges.iter().any(|range| range.attributes.contains(RangeAttributes::NON_TEE)) {
        let what =
            "a range of the report is not TEE memory; to leave it to the host: report.non-tee-shared = true";
        captured.objections.push(what.into());
    }
    if captured.evidence == EvidenceClass::Platform && report.ranges.iter().any(|range| range.id >= HIGH_IDS)
    {
        let quirk = QUIRKS.iter().find(|(word, _)| *word == "high-ids");
        quirk.into_iter().for_each(|(_, field)| *field(&mut captured.report.quirks) = true);
    }
    Ok(())
}
