//! The sentences, and the table of scenarios with the end that each must have.

use super::{Bench, Case, done, several, steps};
#[cfg(test)]
use super::{asked, bundles};
use crate::board::{self, Board};
use crate::devices::calls;
use crate::json::Word;
use crate::judge::{Ending, PayloadKind};
use crate::kernel_format::KernelFormat;
use crate::run::{NO_MODULE, Prepared, Ran, Request};
use crate::scenario::Step;
use crate::sizes::IMAGE_MAX;
use crate::story::Story;
use crate::{disk, image, scenario};
use gatehouse::codes::StopCode;
use rmm_model::Scenario;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

/// A scenario that stops must do so in this time.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Scenarios that stop: file, code, steps of the way back that the scenario makes fail.
const STOPS: &[(&str, StopCode, &[Step])] = &[
    ("report-byte-flipped", StopCode::ReportDigest, &[]),
    ("measurements-byte-flipped", StopCode::MeasurementDigest, &[]),
    ("chain-byte-flipped", StopCode::CertificateDigest, &[]),
    ("vca-byte-flipped", StopCode::VcaDigest, &[]),
    ("object-missing", StopCode::ObjectMissing, &[]),
    ("object-size-zero", StopCode::ObjectEmpty, &[]),
    ("object-size-16mib-plus-1", StopCode::ObjectTooLarge, &[]),
    ("kernel-byte-flipped", StopCode::PartHash, &[]),
    ("tree-truncated", StopCode::TreeStructure, &[]),
    ("bar-reads-back-other", StopCode::BarReadBack, &[]),
    ("report-range-past-bar", StopCode::ReportPastBar, &[]),
    ("report-pages-wrap", StopCode::ReportWraps, &[]),
    ("stale-nonce", StopCode::MappingStaleNonce, &[]),
    ("relock-between-get-info", StopCode::LockNonceChanged, &[]),
    ("mapping-reject-half-way", StopCode::MappingRejected, &[]),
    ("mapping-next-backwards", StopCode::MappingBadReply, &[]),
    ("incomplete-for-ever", StopCode::HostOperationEndless, &[]),
    ("error-after-run", StopCode::NotStarted, &[]),
    ("mro-not-bar-multiple", StopCode::ReportingOffset, &[]),
    ("device-missing", StopCode::RequiredMissing, &[]),
    ("locked-before-us", StopCode::NotUnlockedBefore, &[]),
    ("measurements-of-earlier-lock", StopCode::NotRefreshed, &[]),
    ("report-of-earlier-lock", StopCode::NotRefreshed, &[]),
    ("unlock-fails", StopCode::ReportDigest, &[Step::Unlock]),
    ("window-not-returned", StopCode::SharedWindow, &[Step::Window]),
];

/// Scenarios that boot, besides those with a test of their own.
const BOOTS: &[&str] = &["mro-zero", "slow-host", "earlier-session", "host-tree-traps"];

/// Scenarios with a test of their own.
#[cfg(test)]
const OTHERS: &[&str] = &[
    "plain",
    "load-address-low",
    "load-address-odd",
    "load-address-above-4gib",
    "no-console",
    "no-console-stop",
    steps::GROUND,
    "two-recs",
    asked::SCENARIO,
    bundles::SCENARIO,
];

/// The load addresses, one above 4 GiB.
const ADDRESSES: [&str; 3] = ["load-address-low", "load-address-odd", "load-address-above-4gib"];

pub(super) fn all() -> Vec<Case> {
    use PayloadKind::{Demo, Linux};
    let mut cases = vec![
        Case::new(
            "Linux's read of the disk fails when DMA_ENABLE opens nothing: the gate is real",
            Linux,
            gate_is_real,
        ),
        Case::new("stock Linux reads an NVMe with private DMA through a private BAR", Linux, |bench| {
            let ran = boots(bench, &Request::new(bench.tools, Linux, "plain"))?;
            accepted(&ran)?;
            done(&ran);
            Ok(())
        }),
        Case::new("without the module the same kernel sees no PCI device", Linux, |bench| {
            let plain = Request::new(bench.tools, Linux, "plain");
            let ran = boots(bench, &Request { append: NO_MODULE.to_owned(), ..plain })?;
            done(&ran);
            Ok(())
        }),
        // As a gzip file it is in the bundle beside the image (`bundles`).
        Case::new("stock Linux from an EFI zboot image does the same", Linux, |bench| {
            compressed(bench, KernelFormat::Zboot)
        }),
        Case::new("the demo payload finds what it was handed", Demo, |bench| {
            let ran = boots(bench, &Request::new(bench.tools, Demo, "plain"))?;
            accepted(&ran)?;
            done(&ran);
            Ok(())
        }),
        Case::new("the same image bytes boot at three addresses, one above 4 GiB", Demo, three_addresses),
        Case::new("the firmware without bundle has at most 320 KiB", Demo, image_size),
        Case::new("two runs of one scenario have the same counts", Demo, same_counts),
    ];
    for name in BOOTS {
        cases.push(Case::new(format!("{name}: boots"), Demo, move |bench| {
            let ran = boots(bench, &Request::new(bench.tools, Demo, name))?;
            accepted(&ran)?;
            done(&ran);
            Ok(())
        }));
    }
    cases.extend(several::all());
    cases.extend(super::evidence::all());
    cases.extend(super::asked::all());
    cases.extend(super::bundles::all());
    for (name, code, leaked) in STOPS.iter().chain(several::STOPS) {
        let sentence = format!("{name}: stops with {code}, {}", code.text());
        cases.push(Case::new(sentence, Demo, move |bench| stops(bench, Demo, name, *code, leaked)));
    }
    // The largest payload, and the step that reads all of it: the slowest of all stops.
    cases.push(Case::new("kernel-byte-flipped: stops in time with Linux too", Linux, |bench| {
        stops(bench, Linux, "kernel-byte-flipped", StopCode::PartHash, &[])
    }));
    cases.extend(steps::all());
    cases.push(Case::new("scripts/run ends with 10 and its JSON says why", Demo, json_of_a_stop));
    cases.extend(super::machines::all());
    cases.extend(super::measured::all());
    cases.extend(super::broken::all());
    cases.extend(super::host_dma::all());
    cases.push(Case::new("without a kernel scripts/run ends with 3 and names it", Demo, no_kernel));
    cases.push(Case::new(
        "without SMMU stage 2 scripts/run ends with 3 and names it, or falls back if it may",
        Demo,
        no_stage_2,
    ));
    cases.push(Case::new("a run that is cut off is a fault and leaves no JSON", Demo, cut_off));
    cases
}

pub(super) fn need(is_so: bool, text: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(text()) }
}

/// Names failed results and where the run can be read.
pub(super) fn failures(ran: &Ran) -> String {
    let failed = ran.judgement.report.results.iter().filter(|result| result.result == Word::Fail);
    let failed: Vec<String> = failed.map(|result| format!("{}: {}", result.name, result.detail)).collect();
    format!("{}\n(see {})", failed.join("\n"), ran.dir.display())
}

pub(super) fn boots(bench: &Bench<'_>, request: &Request) -> Result<Ran, String> {
    handed_off(bench.run(request)?)
}

/// As [`boots`], with a scenario that is no file.
pub(super) fn boots_scenario(
    bench: &Bench<'_>,
    request: &Request,
    scenario: &Scenario,
) -> Result<Ran, String> {
    handed_off(bench.run_scenario(request, scenario)?)
}

fn handed_off(ran: Ran) -> Result<Ran, String> {
    need(ran.judgement.exit_status() == 0, || {
        format!("ended with {:?}\n{}", ran.judgement.ending, failures(&ran))
    })?;
    Ok(ran)
}

/// The report of a boot names the accepted device, and the function that nobody assigned.
pub(super) fn accepted(ran: &Ran) -> Result<(), String> {
    let report = &ran.judgement.report;
    let words: Vec<_> =
        report.devices.iter().map(|d| (d.verdict, d.mode, d.state.as_deref().unwrap_or_default())).collect();
    let expected = [(Some("accepted"), "run", "run"), (Some("extra"), "hide", "unlocked")];
    need(words == expected, || format!("devices: {words:?}"))?;
    let has_counts =
        report.devices.iter().take(1).all(|d| d.rsi_calls > 0 && d.host_exits > 0 && d.ticks > 0);
    need(has_counts && !report.devices[0].ranges.is_empty(), || format!("{:?}", report.devices))?;
    need(report.rsi_version.is_some() && report.phases.len() == 7, || format!("{:?}", report.phases))
}

pub(super) fn stops(
    bench: &Bench<'_>,
    payload: PayloadKind,
    name: &str,
    code: StopCode,
    leaked: &[Step],
) -> Result<(), String> {
    let request = Request::new(bench.tools, payload, name);
    let ran = bench.run(&request)?;
    let judgement = &ran.judgement;
    need(judgement.ending == Ending::Stopped(code), || {
        format!("ended with {:?}\n{}", judgement.ending, failures(&ran))
    })?;
    need(judgement.exit_status() == 10, || failures(&ran))?;
    need(judgement.report.leaked == calls(leaked), || format!("leaked: {:?}", judgement.report.leaked))?;
    // On a busy machine the time that the processor gave counts.
    need(ran.elapsed.min(ran.cpu) < STOP_WITHIN, || {
        format!("took {:.1} s, {:.1} s of processor", ran.elapsed.as_secs_f64(), ran.cpu.as_secs_f64())
    })?;
    // A scenario whose lie was never told proves nothing.
    let scenario = scenario::load(&request.scenario).map_err(|fault| fault.to_string())?;
    let told = ran.log.end.final_state.lies.len();
    need(told >= scenario.misbehaviour.len(), || format!("lies told: {:?}", ran.log.end.final_state.lies))?;
    done(&ran);
    Ok(())
}

fn gate_is_real(bench: &Bench<'_>) -> Result<(), String> {
    let ran = bench.run(&Request::new(bench.tools, PayloadKind::Linux, "dma-enable-ignored"))?;
    let judgement = &ran.judgement;
    need(judgement.ending == Ending::HandedOff && judgement.exit_status() == 1, || {
        format!("ended with {:?}, {}", judgement.ending, judgement.exit_status())
    })?;
    let result_of = |name: &str| {
        judgement.report.results.iter().find(|result| result.name == name).map(|result| result.result)
    };
    for (name, word) in [
        ("module", Word::Pass),
        ("only-accepted-on-bus", Word::Pass),
        ("nvme-read", Word::Fail),
        ("disk-digest", Word::Fail),
        ("device-run", Word::Pass),
        ("private-bar-no-alias-leaf", Word::Pass),
        ("dma-private-only", Word::Fail),
    ] {
        need(result_of(name) == Some(word), || {
            format!("{name} is {:?}\n{}", result_of(name), failures(&ran))
        })?;
    }
    let stream = ran.log.end.hardware.devices.first().map(|device| device.stream.clone());
    need(stream.as_deref() == Some("abort"), || format!("stream table entry {stream:?}"))?;
    done(&ran);
    Ok(())
}

fn three_addresses(bench: &Bench<'_>) -> Result<(), String> {
    let text = |fault: crate::Fault| fault.to_string();
    let nonce = disk::nonce().map_err(text)?;
    let board = Board::load(&bench.tools.root, board::DEFAULT).map_err(text)?;
    let contents = image::Contents {
        payload: PayloadKind::Demo,
        format: KernelFormat::Plain,
        scenario: &Scenario::default(),
        folder: &bench.tools.root,
        nonce: &nonce,
        console: "",
        append: "",
    };
    let packed = image::pack(bench.tools, bench.artifacts, &contents).map_err(text)?;
    let mut digests = Vec::new();
    for name in ADDRESSES {
        let request = Request::new(bench.tools, PayloadKind::Demo, name);
        let scenario = scenario::load(&request.scenario).map_err(text)?;
        let (tools, artifacts) = (bench.tools, bench.artifacts);
        let prepared =
            Prepared { tools, artifacts, board: &board, request: &request, packed: &packed, nonce: &nonce };
        let ran = prepared.boot(&scenario, true, &mut Story::silent()).map_err(text)?;
        need(ran.judgement.exit_status() == 0, || format!("{name}:\n{}", failures(&ran)))?;
        let wanted = scenario.vmm.load_address;
        need(wanted == Some(ran.log.start.image), || format!("{name}: at {:#x}", ran.log.start.image))?;
        let file = fs::read(ran.dir.join("gatehouse.img")).map_err(|error| error.to_string())?;
        digests.push((ran.log.start.image, Sha256::digest(&file)));
        done(&ran);
    }
    let same = digests.windows(2).all(|pair| pair[0].1 == pair[1].1 && pair[0].0 != pair[1].0);
    need(same && digests.iter().any(|(address, _)| *address >= 1 << 32), || format!("{digests:?}"))
}

fn image_size(bench: &Bench<'_>) -> Result<(), String> {
    let contents = image::Contents {
        payload: PayloadKind::Demo,
        format: KernelFormat::Plain,
        scenario: &Scenario::default(),
        folder: &bench.tools.root,
        nonce: "",
        console: "",
        append: "",
    };
    let packed = image::pack(bench.tools, bench.artifacts, &contents).map_err(|fault| fault.to_string())?;
    need(packed.firmware_len <= IMAGE_MAX as u64, || {
        format!("{} bytes, {IMAGE_MAX} are allowed", packed.firmware_len)
    })
}

/// Everything of the report but times must be the same.
fn same_counts(bench: &Bench<'_>) -> Result<(), String> {
    let counts = || -> Result<Value, String> {
        let ran = boots(bench, &Request::new(bench.tools, PayloadKind::Demo, "plain"))?;
        let mut value = serde_json::to_value(&ran.judgement.report).map_err(|error| error.to_string())?;
        for list in ["devices", "phases"] {
            for entry in value[list].as_array_mut().into_iter().flatten() {
                entry["ticks"] = Value::Null;
            }
        }
        done(&ran);
        Ok(value)
    };
    let (first, second) = (counts()?, counts()?);
    need(first == second, || format!("{first:#}\n{second:#}"))
}

/// This program as scripts/run starts it.
pub(super) fn scripts_run(args: &[&str], variables: &[(&str, &str)]) -> Result<Output, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.arg("run").args(args).arg("--quiet").envs(variables.iter().copied());
    command.output().map_err(|error| error.to_string())
}

pub(super) fn ended_with(output: &Output, status: i32, text: &str) -> Result<(), String> {
    let said = String::from_utf8_lossy(&output.stderr);
    need(output.status.code() == Some(status) && said.contains(text), || {
        format!("ended with {:?}, said: {said}", output.status)
    })
}

/// Runs a scenario of the demo payload that stops, and returns its JSON.
pub(super) fn json_of(bench: &Bench<'_>, scenario: &str) -> Result<Value, String> {
    let file = bench.tools.root.join(format!("target/{scenario}-{}.json", std::process::id()));
    let path = file.display().to_string();
    let scenario = Request::new(bench.tools, PayloadKind::Demo, scenario).scenario.display().to_string();
    let output = scripts_run(&["--payload", "demo", "--scenario", &scenario, "--json", &path], &[])?;
    ended_with(&output, 10, "")?;
    let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let _ = fs::remove_file(&file);
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// Tells whether the first device was refused, with a reason.
pub(super) fn is_refused(json: &Value) -> bool {
    let device = &json["devices"][0];
    json["outcome"] == "stopped"
        && json["code"] == "GH-4034"
        && device["verdict"] == "refused"
        && device["reason"].as_str().is_some_and(|reason| !reason.is_empty())
}

fn json_of_a_stop(bench: &Bench<'_>) -> Result<(), String> {
    let json = json_of(bench, "report-byte-flipped")?;
    let is_so = json["payload"]["kind"] == "none" && json["devices"][0]["state"] == "unlocked";
    need(is_refused(&json) && is_so, || json.to_string())
}

/// Boots Linux out of a compressed file: inflated by the firmware, and the same result.
fn compressed(bench: &Bench<'_>, format: KernelFormat) -> Result<(), String> {
    let plain = Request::new(bench.tools, PayloadKind::Linux, "plain");
    let ran = boots(bench, &Request { format, ..plain })?;
    accepted(&ran)?;
    done(&ran);
    Ok(())
}

fn no_kernel(_: &Bench<'_>) -> Result<(), String> {
    let none = [("GH_KERNEL", ""), ("GH_MISSING", "kernel: removed for a test")];
    ended_with(&scripts_run(&[], &none)?, 3, "removed for a test")?;
    ended_with(&scripts_run(&["--allow-fallback"], &none)?, 0, "fallback: the demo payload")
}

fn no_stage_2(_: &Bench<'_>) -> Result<(), String> {
    let old = [("GH_QEMU_VERSION", "7.2.0")];
    ended_with(&scripts_run(&["--payload", "demo"], &old)?, 3, "no SMMU stage 2")?;
    let output = scripts_run(&["--payload", "demo", "--allow-fallback"], &old)?;
    ended_with(&output, 0, "fallback: no SMMU: nothing gates DMA")
}

fn cut_off(bench: &Bench<'_>) -> Result<(), String> {
    let file = bench.tools.root.join(format!("target/cut-{}.json", std::process::id()));
    fs::write(&file, "{}").map_err(|error| error.to_string())?;
    let path = file.display().to_string();
    let output = scripts_run(&["--payload", "demo", "--timeout", "0", "--json", &path], &[])?;
    ended_with(&output, 1, "no end after 0 s")?;
    need(!file.exists(), || "an old JSON file was left".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_file_has_a_test_and_every_test_a_file() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/scenarios");
        let mut files: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            // A folder has those of the firmware's own tests.
            .filter(|path| path.is_file())
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        let mut named: Vec<String> = STOPS
            .iter()
            .chain(several::STOPS)
            .map(|stop| stop.0)
            .chain(several::names())
            .chain(BOOTS.iter().copied())
            .chain(OTHERS.iter().copied())
            .chain(crate::suite::host_dma::names())
            .map(str::to_owned)
            // Those of a folder have a table of their own.
            .filter(|name| !name.contains('/'))
            .collect();
        files.sort();
        named.sort();
        assert_eq!(files, named);
    }

    #[test]
    fn sentences_are_different() {
        let mut sentences: Vec<String> = all().into_iter().map(|case| case.sentence).collect();
        let all = sentences.len();
        sentences.sort();
        sentences.dedup();
        assert_eq!(sentences.len(), all);
    }
}
