//! Boots with evidence or a policy that is wrong in one thing, and a few with forms that must pass.

use super::cases::{accepted, boots, stops};
use super::{Case, done};
use crate::judge::PayloadKind::Demo;
use crate::run::Request;
use gatehouse::codes::StopCode;

/// What must stop the boot: file below `evidence/`, code.
const STOPS: &[(&str, StopCode)] = &[
    ("chain-wrong-root", StopCode::ChainNoAnchor),
    ("chain-expired", StopCode::ChainExpired),
    ("chain-no-ca", StopCode::ChainNotCa),
    ("chain-path-length", StopCode::ChainPathLength),
    ("chain-unknown-critical", StopCode::ChainCritical),
    ("chain-sha1", StopCode::ChainAlgorithm),
    ("chain-weak-key", StopCode::ChainKey),
    ("chain-cut", StopCode::ChainMalformed),
    ("denied-leaf", StopCode::ChainDeniedLeaf),
    ("denied-serial", StopCode::ChainDeniedSerial),
    ("leaf-did-not-sign", StopCode::ExchangeSignature),
    ("own-session-key", StopCode::SessionKey),
    ("own-session-key-unsaid", StopCode::ExchangeSignature),
    ("signature-other-transcript", StopCode::ExchangeTranscript),
    ("measurements-unsigned", StopCode::Unsigned),
    ("spdm-1-1", StopCode::SpdmVersion),
    ("requester-nonce-zero", StopCode::RequesterNonce),
    ("requester-nonce-old", StopCode::RequesterNonce),
    ("content-changed", StopCode::ContentChanged),
    ("measurement-mismatch", StopCode::MeasurementMismatch),
    ("measurement-absent", StopCode::MeasurementAbsent),
    ("svn-too-low", StopCode::SvnTooLow),
    ("device-mode-debug", StopCode::DeviceMode),
    ("device-mode-manufacturing", StopCode::DeviceMode),
    ("report-firmware-update", StopCode::ReportFirmwareUpdate),
    ("report-plain-dma", StopCode::ReportPlainDma),
    ("report-pasid", StopCode::ReportPasid),
    ("report-ats", StopCode::ReportAts),
    ("report-prs", StopCode::ReportPrs),
    ("report-msix-table", StopCode::ReportMsix),
    ("report-msix-pba", StopCode::ReportPba),
    ("report-non-tee", StopCode::ReportNonTee),
    ("report-order", StopCode::ReportOrder),
    ("report-overlap", StopCode::ReportOverlap),
    ("report-duplicate", StopCode::ReportDuplicate),
    ("report-unknown-id", StopCode::ReportId),
    ("report-uncovered", StopCode::ReportIncomplete),
    ("report-no-tee", StopCode::ReportNoTeeRange),
    ("unit-unknown", StopCode::UnknownUnit),
    ("unit-wrong-slot", StopCode::UnitElsewhere),
    ("unit-twice", StopCode::SameUnit),
    ("function-appears", StopCode::InventoryChanged),
    ("function-vanishes", StopCode::InventoryChanged),
    ("extra-stop", StopCode::ExtraFunction),
    ("no-policy", StopCode::NoPolicy),
    ("audit", StopCode::AuditBoot),
    ("platform-device-not-allowed", StopCode::EvidenceKind),
];

/// What must boot. `units-pinned` has two devices and stands with the others of that kind; in `report-non-tee-shared` the doorbells
/// of the NVMe are not private, which only the host test can boot.
const BOOTS: &[&str] = &[
    "spdm-p256",
    "spdm-1-3",
    "chain-slot-header",
    "requester-nonce-not-forwarded",
    "optional-missing",
    "platform-device",
];

pub(super) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, code) in STOPS {
        let sentence = format!("evidence: {name}: stops with {code}, {}", code.text());
        let file = format!("evidence/{name}");
        cases.push(Case::new(sentence, Demo, move |bench| stops(bench, Demo, &file, *code, &[])));
    }
    for name in BOOTS {
        let file = format!("evidence/{name}");
        cases.push(Case::new(format!("evidence: {name}: boots"), Demo, move |bench| {
            let ran = boots(bench, &Request::new(bench.tools, Demo, &file))?;
            accepted(&ran)?;
            done(&ran);
            Ok(())
        }));
    }
    cases
}
