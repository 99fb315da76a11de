//! What the policy refuses, each by its own code, and that nothing of it was started; what it accepts boots. The scenarios are
//! those of tests/data/scenarios/evidence, which run in QEMU too.
mod common;

use common::{machine, *};
use gatehouse::codes::StopCode;
use gatehouse::codes::StopCode::*;
use rmm_model::final_state::TdiState;
use rmm_model::record::Event;
use rmm_model::scenario::{ConfigAccess, Lie, Misbehaviour, RhiOp, Rule};
use std::collections::BTreeMap;

/// Each scenario with its end; `None` boots.
const ENDS: &[(&str, Option<StopCode>)] = &[
    ("chain-wrong-root", Some(ChainNoAnchor)),
    ("chain-expired", Some(ChainExpired)),
    ("chain-no-ca", Some(ChainNotCa)),
    ("chain-path-length", Some(ChainPathLength)),
    ("chain-unknown-critical", Some(ChainCritical)),
    ("chain-sha1", Some(ChainAlgorithm)),
    ("chain-weak-key", Some(ChainKey)),
    ("chain-cut", Some(ChainMalformed)),
    ("denied-leaf", Some(ChainDeniedLeaf)),
    ("denied-serial", Some(ChainDeniedSerial)),
    ("leaf-did-not-sign", Some(ExchangeSignature)),
    ("own-session-key", Some(SessionKey)),
    ("own-session-key-unsaid", Some(ExchangeSignature)),
    ("signature-other-transcript", Some(ExchangeTranscript)),
    ("measurements-unsigned", Some(Unsigned)),
    ("spdm-1-1", Some(SpdmVersion)),
    ("requester-nonce-zero", Some(RequesterNonce)),
    ("requester-nonce-old", Some(RequesterNonce)),
    ("content-changed", Some(ContentChanged)),
    ("measurement-mismatch", Some(MeasurementMismatch)),
    ("measurement-absent", Some(MeasurementAbsent)),
    ("svn-too-low", Some(SvnTooLow)),
    ("device-mode-debug", Some(DeviceMode)),
    ("device-mode-manufacturing", Some(DeviceMode)),
    ("report-firmware-update", Some(ReportFirmwareUpdate)),
    ("report-plain-dma", Some(ReportPlainDma)),
    ("report-pasid", Some(ReportPasid)),
    ("report-ats", Some(ReportAts)),
    ("report-prs", Some(ReportPrs)),
    ("report-msix-table", Some(ReportMsix)),
    ("report-msix-pba", Some(ReportPba)),
    ("report-non-tee", Some(ReportNonTee)),
    ("report-order", Some(ReportOrder)),
    ("report-overlap", Some(ReportOverlap)),
    ("report-duplicate", Some(ReportDuplicate)),
    ("report-unknown-id", Some(ReportId)),
    ("report-uncovered", Some(ReportIncomplete)),
    ("report-no-tee", Some(ReportNoTeeRange)),
    ("unit-unknown", Some(UnknownUnit)),
    ("unit-wrong-slot", Some(UnitElsewhere)),
    ("unit-twice", Some(SameUnit)),
    ("function-appears", Some(InventoryChanged)),
    ("function-vanishes", Some(InventoryChanged)),
    ("extra-stop", Some(ExtraFunction)),
    ("no-policy", Some(NoPolicy)),
    ("audit", Some(AuditBoot)),
    ("platform-device-not-allowed", Some(EvidenceKind)),
    ("spdm-p256", None),
    ("spdm-1-3", None),
    ("chain-slot-header", None),
    ("requester-nonce-not-forwarded", None),
    ("optional-missing", None),
    ("units-pinned", None),
    ("platform-device", None),
    ("report-non-tee-shared", None),
];

#[test]
fn each_refusal_has_its_code_and_starts_nothing() {
    let ends: BTreeMap<&str, Option<StopCode>> = ENDS.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut booted = 0;
    for (name, scenario) in machine::scenarios("evidence") {
        let Some(end) = ends.get(name.as_str()) else {
            wrong.push(format!("{name} is not in the table"));
            continue;
        };
        let ran = Boot { functions: machine::functions(&scenario), ..Boot::new(&scenario) }.run();
        booted += 1;
        if ran.code() != *end {
            wrong.push(format!("{name} ends with {:?}, not {end:?}\n{}", ran.code(), ran.log.join("\n")));
            continue;
        }
        assert_eq!(ran.state.violations, Vec::<String>::new(), "{name}");
        let runs = ran.state.devices.iter().filter(|device| device.state == TdiState::Run).count();
        if end.is_none() {
            assert!(runs > 0, "{name}");
            continue;
        }
        // The model's own word: nobody asked for RUN or DMA but for what comes after the last decision.
        assert_eq!(runs, 0, "{name}");
        let late = matches!(end, Some(InventoryChanged));
        for event in ran.state.devices.iter().flat_map(|device| &device.validated) {
            assert!(late, "{name}: {event:?} was mapped");
        }
        let opens = |event: &Event| matches!(event, Event::Rsi { call, .. } if call == "RSI_VDEV_DMA_ENABLE");
        assert!(!ran.sim.events().any(opens), "{name}");
        assert!(ran.leaks().is_empty(), "{name}: {:?}", ran.leaks());
    }
    assert_eq!(wrong, Vec::<String>::new(), "{}", wrong.join("\n\n"));
    assert_eq!(booted, ENDS.len());
}

#[test]
fn a_measurement_that_differs_is_shown_beside_what_the_rule_wants() {
    let (_, scenario) =
        machine::scenarios("evidence").into_iter().find(|(name, _)| name == "measurement-mismatch").unwrap();
    let ran = Boot::new(&scenario).run();
    let found = rmm_model::digest::HashAlgorithm::Sha384.digest(&[b"ACME NVME firmware 3.2"]);
    let wanted = format!("found {}, wanted sha384:{}", rmm_model::digest::to_hex(&found), "00".repeat(48));
    assert!(ran.log.iter().any(|line| line.contains(&wanted)), "{}", ran.log.join("\n"));
}

#[test]
fn a_payload_that_enumerates_by_itself_runs_a_device_only_where_the_lock_survives_that() {
    let run = |os: &str, config, modes: &str| {
        let mut scenario = plain();
        scenario.bundle.os = os.into();
        scenario.vmm.config = config;
        scenario.device[0].policy = format!("modes = {modes}");
        boot(&scenario)
    };
    let both = r#"["run", "pin"]"#;
    for (os, config, mode, state) in [
        ("native", ConfigAccess::Virtualise, "run", TdiState::Run),
        ("native", ConfigAccess::PassThrough, "pin", TdiState::Unlocked),
        ("half", ConfigAccess::PassThrough, "run", TdiState::Run),
        ("unaware", ConfigAccess::Virtualise, "pin", TdiState::Unlocked),
    ] {
        let ran = run(os, config, both);
        assert!(ran.result.is_ok(), "{os} {config:?}: {}", ran.log.join("\n"));
        assert_eq!(ran.device().state, state, "{os} {config:?}");
        let said = format!("rule slot-02.0: accepted, mode {mode}");
        assert!(ran.log.iter().any(|line| line.ends_with(&said)), "{os} {config:?}");
        assert_eq!(ran.state.violations, Vec::<String>::new());
    }
    assert_eq!(run("native", ConfigAccess::PassThrough, r#"["run"]"#).code(), Some(NoMode));
    assert_eq!(run("unaware", ConfigAccess::Virtualise, r#"["run"]"#).code(), Some(NoMode));
    // The report of the probe is no evidence.
    let mut stale = lying(&[Misbehaviour::at(Lie::OpIgnored { op: RhiOp::Report }, 2)]);
    stale.bundle.os = "native".into();
    assert_eq!(boot(&stale).code(), Some(NotRefreshed));
}

#[test]
fn a_refused_device_is_hidden_or_shared_as_its_rule_says_and_named_by_it() {
    for (word, command, shown) in [("hide", 0, None), ("shared", 6, Some("slot-02.0"))] {
        // Refused by the decision, while it is mapped, and once it runs.
        for lie in [
            Lie::MeasurementForeignKey,
            Lie::ValidateReject { after_pages: 0 },
            Lie::OpFails { op: RhiOp::Run },
        ] {
            let mut scenario = once(lie);
            scenario.device[0].rule = Rule::Optional;
            scenario.device[0].policy = format!("on-failure = \"{word}\"");
            let ran = boot(&scenario);
            let payload = ran.result.as_ref().unwrap_or_else(|_| panic!("{lie:?}: {}", ran.log.join("\n")));
            let device = ran.device();
            assert_eq!((device.state, device.command & 6), (TdiState::Unlocked, command), "{word} {lie:?}");
            assert!(device.dev_ranges.is_empty() && ran.leaks().is_empty(), "{word} {lie:?}");
            let blob = tree_at(payload.tree);
            let tree = fdt::Fdt::new(&blob).unwrap();
            let host = tree.find_compatible(&["gatehouse,pci-host-ecam"]).unwrap();
            let rules: Vec<_> =
                host.children().map(|node| node.property("gatehouse,rule").unwrap().value).collect();
            let want: Vec<_> = shown.iter().map(|name| [name.as_bytes(), b"\0"].concat()).collect();
            assert_eq!(rules, want, "{word} {lie:?}");
        }
    }
}

/// RSA-3072 from the root to the measurements, with the feature of firmware and model (scripts/test runs it so).
#[cfg(feature = "rsa")]
#[test]
fn a_device_that_signs_with_rsa_3072_is_accepted_and_its_forgery_refused() {
    use rmm_model::digest::{HashAlgorithm, to_hex};
    use rmm_model::scenario::{Asym, Blob};
    let pki =
        |name: &str| std::fs::read(format!("{}/tests/data/pki/rsa3072/{name}", env!("CARGO_MANIFEST_DIR")));
    let mut scenario = plain();
    let session = &mut scenario.device[0].spdm;
    session.asym = Asym::Rsa3072;
    session.chain = Some(Blob::bytes(&pki("chain.der").unwrap()));
    session.key = Some(Blob::bytes(&pki("unit.key").unwrap()));
    let root = to_hex(&HashAlgorithm::Sha384.digest(&[&pki("root.der").unwrap()]));
    scenario.bundle.policy_tail = format!("[[anchor]]\nname = \"rsa\"\ncertificate = \"sha384:{root}\"\n");
    boot(&scenario).boots();
    scenario.misbehaviour = vec![Misbehaviour::once(Lie::MeasurementTranscript)];
    assert_eq!(boot(&scenario).code(), Some(ExchangeTranscript));
}
