//! Scenario files: TOML for people, CBOR for the stub.

use crate::Fault;
use rmm_model::Scenario;
use rmm_model::scenario::Blob;
use std::fs;
use std::path::Path;

/// First bytes of the blob that the stub finds (tests/stub-rmm/src/layout.rs).
const MAGIC: [u8; 8] = *b"GHSCEN01";

/// Reads a scenario; the files that its blobs name (relative to it) are put in place.
///
/// # Errors
/// [`Fault::Usage`] when it is not one, [`Fault::File`].
pub fn load(path: &Path) -> Result<Scenario, Fault> {
    let text = fs::read_to_string(path).map_err(Fault::file(path))?;
    let mut scenario: Scenario =
        toml::from_str(&text).map_err(|error| Fault::Usage(format!("{}: {error}", path.display())))?;
    if scenario.name.is_empty() {
        scenario.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    for device in &mut scenario.device {
        let spdm = &mut device.spdm;
        let given = [
            &mut device.certificate,
            &mut device.vca,
            &mut device.measurements,
            &mut spdm.chain,
            &mut spdm.key,
        ];
        let blobs = given.into_iter().flatten().chain([&mut device.vendor, &mut spdm.opaque]);
        for blob in blobs {
            inline(blob, folder)?;
        }
    }
    Ok(scenario)
}

fn inline(blob: &mut Blob, folder: &Path) -> Result<(), Fault> {
    if blob.file.is_empty() {
        return Ok(());
    }
    let path = folder.join(&blob.file);
    let bytes = fs::read(&path).map_err(Fault::file(&path))?;
    *blob = Blob::bytes(&bytes);
    Ok(())
}

/// Makes the blob for the stub: magic, length of the CBOR, length of the image file, 8 bytes of zeros, CBOR.
///
/// Two fields mean something else here than in the file: every access to configuration space is recorded (phases are
/// counted from the records), and `flip_kernel_byte` counts from the start of the image, not of the kernel.
///
/// # Errors
/// [`Fault::Usage`] when the byte to flip does not lie in the kernel.
pub fn blob(scenario: &Scenario, image_len: u64, kernel: (u64, u64)) -> Result<Vec<u8>, Fault> {
    let mut scenario = scenario.clone();
    scenario.config_records = true;
    if let Some(offset) = &mut scenario.vmm.flip_kernel_byte {
        let (kernel_offset, kernel_len) = kernel;
        if *offset >= kernel_len {
            let text = format!("flip_kernel_byte = {offset:#x}: the kernel has {kernel_len:#x} bytes");
            return Err(Fault::Usage(text));
        }
        *offset += kernel_offset;
    }
    let cbor = minicbor_serde::to_vec(&scenario).map_err(|error| Fault::Run(format!("scenario: {error}")))?;
    let mut blob = MAGIC.to_vec();
    blob.extend((cbor.len() as u64).to_le_bytes());
    blob.extend(image_len.to_le_bytes());
    blob.extend([0; 8]);
    blob.extend(cbor);
    Ok(blob)
}

/// One step of the way back: what a stop must undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// DMA off.
    DmaOff,
    /// Validated ranges EMPTY.
    GiveUp,
    /// The device unlocked.
    Unlock,
    /// Memory decode and bus mastering off.
    Quiet,
    /// The shared window RAM again.
    Window,
}

impl Step {
    /// Returns the call that makes it.
    #[must_use]
    pub fn call(self) -> &'static str {
        match self {
            Step::DmaOff => "RSI_VDEV_DMA_DISABLE",
            Step::GiveUp | Step::Window => "RSI_IPA_STATE_SET",
            Step::Unlock => "RHI_DA_VDEV_SET_TDI_STATE",
            Step::Quiet => "command register",
        }
    }
}

/// Returns the steps of the way back that the scenario itself makes fail for the device at `slot`.
#[must_use]
pub fn breaks_way_back(scenario: &Scenario, slot: &str) -> Vec<Step> {
    use rmm_model::scenario::{Lie, RhiCall, RhiOp, RipasTarget, RsiCall};
    let steps_of = |lie: &Lie| -> &'static [Step] {
        match lie {
            Lie::UnlockFails
            | Lie::OpIgnored { op: RhiOp::Unlock }
            | Lie::OpFails { op: RhiOp::Unlock }
            | Lie::RhiIncompleteForever { op: RhiOp::Unlock }
            | Lie::RhiBusy { op: RhiOp::Unlock }
            | Lie::RhiStatus { call: RhiCall::DaVdevSetTdiState, .. }
            | Lie::RhiGarbageStatus { call: RhiCall::DaVdevSetTdiState } => &[Step::Unlock],
            Lie::IpaStateFails { to: RipasTarget::Empty }
            | Lie::IpaStateReject { to: RipasTarget::Empty, .. } => &[Step::GiveUp],
            Lie::IpaStateFails { to: RipasTarget::Ram }
            | Lie::IpaStateReject { to: RipasTarget::Ram, .. } => &[Step::Window],
            Lie::RsiStatus { call: RsiCall::IpaStateSet, .. }
            | Lie::RsiGarbageStatus { call: RsiCall::IpaStateSet }
            | Lie::RsiIncomplete { call: RsiCall::IpaStateSet }
            | Lie::NextBackwards { call: RsiCall::IpaStateSet }
            | Lie::NextAboveTop { call: RsiCall::IpaStateSet }
            | Lie::NextOversize { call: RsiCall::IpaStateSet }
            | Lie::NextUnaligned { call: RsiCall::IpaStateSet }
            | Lie::NextStuck { call: RsiCall::IpaStateSet } => &[Step::GiveUp, Step::Window],
            Lie::RsiStatus { call: RsiCall::VdevDmaDisable, .. }
            | Lie::RsiGarbageStatus { call: RsiCall::VdevDmaDisable }
            | Lie::RsiIncomplete { call: RsiCall::VdevDmaDisable } => &[Step::DmaOff],
            Lie::CommandStuck { .. } => &[Step::Quiet],
            _ => &[],
        }
    };
    let concerns = |device: &str| device.is_empty() || device == slot;
    let lies = scenario.misbehaviour.iter().filter(|entry| concerns(&entry.device));
    lies.flat_map(|entry| steps_of(&entry.lie)).copied().collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Those that boot here, and in `evidence` those of the firmware's own tests.
    fn files() -> Vec<std::path::PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/scenarios");
        let list = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let mut files: Vec<std::path::PathBuf> = list(&folder);
        let evidence = folder.join("evidence");
        files.retain(|path| *path != evidence);
        files.extend::<Vec<_>>(list(&evidence));
        files.sort();
        files
    }

    /// Every scenario of the repository, with its file.
    pub(crate) fn all() -> Vec<(std::path::PathBuf, Scenario)> {
        files().into_iter().map(|path| (path.clone(), load(&path).unwrap())).collect()
    }

    #[test]
    fn every_scenario_of_the_repository_is_one_and_begins_with_a_comment() {
        assert!(!files().is_empty());
        for path in files() {
            assert_eq!(path.extension().unwrap(), "toml", "{}", path.display());
            let scenario = load(&path).unwrap();
            assert_eq!(scenario.name, path.file_stem().unwrap().to_string_lossy());
            assert!(fs::read_to_string(&path).unwrap().starts_with("# "), "{}", path.display());
        }
    }

    #[test]
    fn a_scenario_survives_the_way_to_the_stub() {
        for path in files() {
            let mut scenario = load(&path).unwrap();
            scenario.vmm.flip_kernel_byte = None;
            let blob = blob(&scenario, 0x1234, (0, 0)).unwrap();
            let (head, cbor) = blob.split_at(32);
            assert_eq!(&head[..8], MAGIC);
            assert_eq!(head[8..16], (cbor.len() as u64).to_le_bytes());
            assert_eq!(head[16..24], 0x1234u64.to_le_bytes());
            assert_eq!(minicbor_serde::from_slice::<Scenario>(cbor).unwrap(), scenario);
        }
    }

    #[test]
    fn the_byte_to_flip_counts_from_the_kernel() {
        let mut scenario = Scenario::default();
        scenario.vmm.flip_kernel_byte = Some(0x10);
        let blob_of = |kernel| blob(&scenario, 0, kernel);
        let cbor = blob_of((0x20_0000, 0x1000)).unwrap().split_off(32);
        let sent: Scenario = minicbor_serde::from_slice(&cbor).unwrap();
        assert_eq!(sent.vmm.flip_kernel_byte, Some(0x20_0010));
        assert!(matches!(blob_of((0x20_0000, 0x10)), Err(Fault::Usage(_))));
    }

    #[test]
    fn a_lie_about_one_device_excuses_no_other() {
        let scenario: Scenario = toml::from_str(
            "[[misbehaviour]]\nlie = \"unlock-fails\"\ndevice = \"02.0\"\n\
             [[misbehaviour]]\nlie = { ipa-state-fails = { to = \"ram\" } }\n",
        )
        .unwrap();
        assert_eq!(breaks_way_back(&scenario, "02.0"), [Step::Unlock, Step::Window]);
        assert_eq!(breaks_way_back(&scenario, "04.0"), [Step::Window]);
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_place() {
        let path = std::env::temp_dir().join(format!("gatehouse-scenario-{}.toml", std::process::id()));
        fs::write(&path, "[[device]]\nslot = \"02.0\"\ncolour = 3\n").unwrap();
        let fault = load(&path).unwrap_err();
        fs::remove_file(&path).unwrap();
        assert_eq!(fault.exit_status(), 2);
        assert!(fault.to_string().contains("colour"), "{fault}");
    }

    /// Names that docs/scenarios.md must have in backquotes.
    fn keys(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    found.push(key.clone());
                    keys(value, found);
                }
            }
            serde_json::Value::Array(list) => list.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }

    #[test]
    fn the_reference_names_every_field_and_every_lie() {
        use rmm_model::scenario::{
            Blob, BlockSpec, DeviceSpec, ExtraRange, RangeSpec, ReportSpec, SpdmSpec, TreeEdit, TreeNoise,
            Vmm,
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let reference = fs::read_to_string(root.join("docs/scenarios.md")).unwrap();
        let given = || Some(Blob::default());
        let device = DeviceSpec {
            ranges: vec![RangeSpec { id: Some(0), ..RangeSpec::default() }],
            incomplete: Some(0),
            certificate: given(),
            vca: given(),
            measurements: given(),
            spdm: SpdmSpec {
                slot: Some(0),
                unit: Some(0),
                chain: given(),
                key: given(),
                blocks: vec![BlockSpec { svn: Some(0), ..BlockSpec::default() }],
                ..SpdmSpec::default()
            },
            report: ReportSpec { extra: vec![ExtraRange::default()], ..ReportSpec::default() },
            ..DeviceSpec::default()
        };
        let vmm = Vmm {
            flip_kernel_byte: Some(0),
            truncate_tree: Some(0),
            tree_noise: Some(TreeNoise::default()),
            load_address: Some(0),
            ram_size: Some(0),
            tree_edit: vec![TreeEdit::default()],
            ..Vmm::default()
        };
        let scenario = Scenario { device: vec![device], vmm, ..Scenario::default() };
        let mut names = vec!["lie", "nth", "count"].into_iter().map(str::to_owned).collect();
        keys(&serde_json::to_value(scenario).unwrap(), &mut names);
        // serde tells the variants of an enumeration only to those who ask for one that is not there.
        let unknown = serde_json::from_str::<rmm_model::scenario::Lie>("\"no-such-lie\"").unwrap_err();
        let lies: Vec<String> =
            unknown.to_string().split('`').skip(3).step_by(2).map(str::to_owned).collect();
        assert!(lies.len() > 40, "{unknown}");
        for name in names.iter().chain(&lies) {
            let spellings = [
                format!("`{name}`"),
                format!("`{name} = "),
                format!("[{name}]"),
                format!(".{name}]"),
                format!("{{ {name} ="),
                format!(", {name} = .."),
            ];
            let is_there = spellings.iter().any(|spelling| reference.contains(spelling));
            assert!(is_there, "docs/scenarios.md does not name {name}");
        }
        for path in files() {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            assert!(reference.contains(&format!("`{name}`")), "docs/scenarios.md does not name {name}");
        }
    }
}
