//! Where a bundle may lie and who may make it: beside the image, with a VMM that lies about it, and by mkimage.

use super::cases::{accepted, boots, boots_scenario, failures, need};
use super::{Bench, Case, done};
use crate::board::{self, Board};
use crate::image::{self, Contents};
use crate::judge::{Ending, PayloadKind};
use crate::kernel_format::KernelFormat;
use crate::run::{Prepared, Ran, Request};
use crate::story::Story;
use crate::{disk, scenario};
use gatehouse::abi::image::SLOT_OFFSET;
use gatehouse::codes::StopCode;
use gatehouse_cli::attach::Attach;
use gatehouse_cli::pack::Packed;
use rmm_model::Scenario;
use rmm_model::scenario::BundleBeside;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The scenario of a bundle beside the image.
pub(super) const SCENARIO: &str = "bundle-beside";

/// Changes a thing.
type Change<T> = fn(&mut T);

/// What the VMM does with such a bundle, and how it ends.
const LIES: &[(&str, StopCode, Change<BundleBeside>)] = &[
    ("the tree does not name", StopCode::BundleNoRange, |b| b.unnamed = true),
    ("the tree names as shorter", StopCode::BundleRangeLen, |b| b.short = 1),
    ("the tree names below the realm's RAM", StopCode::BundleRange, |b| b.shift = -0x1000_0000),
    ("the tree names inside the image", StopCode::BundleRange, |b| b.shift = 0x4420_0000 - 0x5000_1000),
    ("the tree names a page away", StopCode::BundleStructure, |b| b.shift = -0x1000),
    ("has another byte in its structure", StopCode::BundleManifest, |b| b.flip_byte = Some(0x80)),
];

/// What is done to the slot of an appended bundle, and how it ends.
const SLOTS: &[(&str, StopCode, Change<[u8]>)] = &[
    ("magic", StopCode::BadSlot, |slot| slot[0] ^= 1),
    ("version", StopCode::BadSlot, |slot| slot[8] ^= 2),
    ("unknown flag", StopCode::BadSlot, |slot| slot[12] ^= 2),
    ("flag of a bundle beside the image", StopCode::BadSlot, |slot| slot[12] ^= 1),
    ("offset", StopCode::BadSlot, |slot| slot[16] ^= 1),
    ("length", StopCode::BadSlot, |slot| slot[30] ^= 1),
    ("manifest", StopCode::BundleManifest, |slot| slot[63] ^= 1),
];

pub(super) fn all() -> Vec<Case> {
    use PayloadKind::{Demo, Linux};
    let mut cases = vec![
        Case::new("bundle-beside: a pinned bundle boots from the initrd range", Demo, |bench| {
            let ran = boots(bench, &Request::new(bench.tools, Demo, SCENARIO))?;
            accepted(&ran)?;
            done(&ran);
            Ok(())
        }),
        Case::new(
            "bundle-beside: Linux from a gzip file finds its ramdisk in the pinned bundle",
            Linux,
            |bench| {
                let request = Request::new(bench.tools, Linux, SCENARIO);
                let ran = boots(bench, &Request { format: KernelFormat::Gzip, ..request })?;
                accepted(&ran)?;
                done(&ran);
                Ok(())
            },
        ),
        Case::new("a host's initrd beside an appended bundle changes nothing", Demo, |bench| {
            let request = Request::new(bench.tools, Demo, "plain");
            let mut scenario = scenario::load(&request.scenario).map_err(|fault| fault.to_string())?;
            for (property, address) in [("start", 0x5000_0000_u64), ("end", 0x5000_8000)] {
                scenario.vmm.tree_edit.push(rmm_model::scenario::TreeEdit {
                    node: "chosen".into(),
                    property: format!("linux,initrd-{property}"),
                    hex: format!("{address:016x}"),
                    ..Default::default()
                });
            }
            let ran = boots_scenario(bench, &request, &scenario)?;
            accepted(&ran)?;
            done(&ran);
            Ok(())
        }),
        Case::new("bundles of mkimage boot, with data behind the structure and inside", Demo, of_mkimage),
        Case::new("dumpimage lists every part of a packed bundle", Demo, dumped),
        Case::new(
            "the demo payload, which knows the contract alone, stumbles over the node that an overlay adds",
            Demo,
            with_overlay,
        ),
    ];
    for (what, code, lie) in LIES {
        let sentence = format!("a pinned bundle that {what} stops with {code}");
        cases.push(Case::new(sentence, Demo, move |bench| {
            let request = Request::new(bench.tools, Demo, SCENARIO);
            let mut scenario = scenario::load(&request.scenario).map_err(|fault| fault.to_string())?;
            scenario.vmm.bundle.as_mut().map(lie).ok_or("no vmm.bundle")?;
            stopped(bench.run_scenario(&request, &scenario)?, *code)
        }));
    }
    for (what, code, change) in SLOTS {
        let sentence = format!("an image whose slot has another {what} stops with {code}");
        cases.push(Case::new(sentence, Demo, move |bench| {
            let request = Request::new(bench.tools, Demo, "plain");
            let mut packed = packed(bench, &request, "")?;
            change(&mut packed.image_bytes[SLOT_OFFSET..SLOT_OFFSET + 64]);
            stopped(boot(bench, &request, &packed, "")?, *code)
        }));
    }
    cases
}

fn stopped(ran: Ran, code: StopCode) -> Result<(), String> {
    need(ran.judgement.ending == Ending::Stopped(code) && ran.judgement.exit_status() == 10, || {
        format!("ended with {:?}\n{}", ran.judgement.ending, failures(&ran))
    })?;
    done(&ran);
    Ok(())
}

fn load(request: &Request) -> Result<Scenario, String> {
    scenario::load(&request.scenario).map_err(|fault| fault.to_string())
}

fn packed(bench: &Bench<'_>, request: &Request, nonce: &str) -> Result<Packed, String> {
    let contents = Contents {
        payload: PayloadKind::Demo,
        format: KernelFormat::default(),
        scenario: &load(request)?,
        folder: request.scenario.parent().unwrap_or(Path::new("")),
        nonce,
        console: "",
        append: "",
    };
    image::pack(bench.tools, bench.artifacts, &contents).map_err(|fault| fault.to_string())
}

fn boot(bench: &Bench<'_>, request: &Request, packed: &Packed, nonce: &str) -> Result<Ran, String> {
    let text = |fault: crate::Fault| fault.to_string();
    let board = Board::load(&bench.tools.root, board::DEFAULT).map_err(text)?;
    let prepared =
        Prepared { tools: bench.tools, artifacts: bench.artifacts, board: &board, request, packed, nonce };
    prepared.boot(&load(request)?, true, &mut Story::silent()).map_err(text)
}

/// Runs a tool of u-boot-tools; returns what it said.
fn succeed(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    need(output.status.success(), || format!("{command:?}: {}\n{said}", output.status))?;
    Ok(said)
}

/// A folder of this test alone.
fn folder(bench: &Bench<'_>, name: &str) -> Result<std::path::PathBuf, String> {
    let folder = bench.tools.root.join(format!("target/{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    Ok(folder)
}

fn of_mkimage(bench: &Bench<'_>) -> Result<(), String> {
    let (mkimage, _) = bench.tools.mkimage.as_ref().ok_or("no mkimage: scripts/setup")?;
    let request = Request::new(bench.tools, PayloadKind::Demo, "plain");
    let nonce = disk::nonce().map_err(|fault| fault.to_string())?;
    let made = packed(bench, &request, &nonce)?;
    let pack = image::unpack(bench.artifacts, &made.image_bytes).map_err(|fault| fault.to_string())?;
    let folder = folder(bench, "mkimage")?;
    let parts = [
        ("kernel", pack.kernel.clone()),
        ("cmdline", pack.cmdline.clone().into_bytes()),
        ("policy", pack.policy.clone().unwrap_or_default()),
    ];
    let mut nodes = String::new();
    for (name, bytes) in &parts {
        fs::write(folder.join(name), bytes).map_err(|error| error.to_string())?;
        let kind = if *name == "kernel" { "kernel" } else { "script" };
        nodes += &format!(
            "{name} {{ data = /incbin/(\"{name}\"); type = \"{kind}\"; arch = \"arm64\"; os = \"linux\"; \
             compression = \"none\"; load = <0>; entry = <0>; hash {{ algo = \"sha256\"; }}; }};\n"
        );
    }
    let source = format!(
        "/dts-v1/;\n/ {{ description = \"demo\"; #address-cells = <1>;\nimages {{ {nodes} }};\n\
         configurations {{ default = \"demo\"; demo {{ kernel = \"kernel\"; loadables = \"cmdline\", \"policy\"; \
         gatehouse,cmdline = \"cmdline\"; gatehouse,policy = \"policy\"; gatehouse,os = \"native\"; }}; }}; }};\n"
    );
    fs::write(folder.join("demo.its"), source).map_err(|error| error.to_string())?;
    for options in [&["-E"][..], &["-E", "-p", "0x3000"], &[]] {
        let mut command = Command::new(mkimage);
        // It looks for `dtc` there, which may not be the machine's own.
        if let Some(folder) = bench.tools.dtc.as_deref().and_then(Path::parent) {
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{path}:{}", folder.display()));
        }
        succeed(command.current_dir(&folder).args(["-f", "demo.its"]).args(options).arg("demo.itb"))?;
        let bundle = fs::read(folder.join("demo.itb")).map_err(|error| error.to_string())?;
        let attach = Attach { firmware: pack.firmware.clone(), bundle, pinned: false };
        let attached = attach.build().map_err(|error| error.to_string())?;
        let (image_bytes, image_size) = (attached.image_bytes, attached.image_size);
        let ran = boot(bench, &request, &Packed { image_bytes, image_size, ..made.clone() }, &nonce)?;
        need(ran.judgement.exit_status() == 0, || format!("{options:?}\n{}", failures(&ran)))?;
        accepted(&ran)?;
        done(&ran);
    }
    let _ = fs::remove_dir_all(&folder);
    Ok(())
}

fn with_overlay(bench: &Bench<'_>) -> Result<(), String> {
    let request = Request::new(bench.tools, PayloadKind::Demo, "plain");
    let nonce = disk::nonce().map_err(|fault| fault.to_string())?;
    let made = packed(bench, &request, &nonce)?;
    let mut pack = image::unpack(bench.artifacts, &made.image_bytes).map_err(|fault| fault.to_string())?;
    pack.overlay = Some(include_bytes!("../../../data/overlay.dtbo").to_vec());
    let packed = pack.build().map_err(|error| error.to_string())?;
    let ran = boot(bench, &request, &packed, &nonce)?;
    let said = failures(&ran);
    need(said.contains("node oem-info at the root"), || format!("the overlay is not there\n{said}"))?;
    done(&ran);
    Ok(())
}

fn dumped(bench: &Bench<'_>) -> Result<(), String> {
    let (_, dumpimage) = bench.tools.mkimage.as_ref().ok_or("no dumpimage: scripts/setup")?;
    let request = Request::new(bench.tools, PayloadKind::Demo, "plain");
    let made = packed(bench, &request, "")?;
    let pack = image::unpack(bench.artifacts, &made.image_bytes).map_err(|fault| fault.to_string())?;
    let folder = folder(bench, "dumpimage")?;
    let file = folder.join("bundle.itb");
    let start = usize::try_from(made.bundle_offset).map_err(|error| error.to_string())?;
    for bundle in [pack.bundle().map_err(|error| error.to_string())?, made.image_bytes[start..].to_vec()] {
        fs::write(&file, &bundle).map_err(|error| error.to_string())?;
        let said = succeed(Command::new(dumpimage).arg("-l").arg(&file))?;
        for part in ["(kernel-1)", "(cmdline-1)", "(policy-1)", "Kernel:       kernel-1"] {
            need(said.contains(part), || format!("no {part} in {said}"))?;
        }
        // What it extracts is the part.
        let out = folder.join("policy");
        let mut command = Command::new(dumpimage);
        succeed(command.args(["-T", "flat_dt", "-p", "1", "-o"]).arg(&out).arg(&file))?;
        let policy = fs::read(&out).map_err(|error| error.to_string())?;
        need(Some(&policy) == pack.policy.as_ref(), || format!("{} bytes of policy", policy.len()))?;
    }
    let _ = fs::remove_dir_all(&folder);
    Ok(())
}
