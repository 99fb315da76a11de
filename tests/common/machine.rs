//! The scenario files of the repository, and the machine that each asks for.
use rmm_model::Scenario;
use rmm_model::scenario::{Blob, DeviceModel};
use rmm_model::sim::SimFunction;
use std::fs;
use std::path::Path;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/scenarios");

/// Reads the scenarios of a folder below tests/data/scenarios, by name.
pub fn scenarios(below: &str) -> Vec<(String, Scenario)> {
    let folder = Path::new(FOLDER).join(below);
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        found.push((name, read(&path)));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Reads a scenario and puts the bytes of the files that it names in place.
pub fn read(path: &Path) -> Scenario {
    let mut scenario: Scenario = toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    for device in &mut scenario.device {
        let session = &mut device.spdm;
        let blobs = [
            device.certificate.as_mut(),
            device.vca.as_mut(),
            device.measurements.as_mut(),
            session.chain.as_mut(),
            session.key.as_mut(),
        ];
        for blob in blobs.into_iter().flatten().filter(|blob| !blob.file.is_empty()) {
            *blob = Blob::bytes(&fs::read(path.parent().unwrap().join(&blob.file)).unwrap());
        }
    }
    scenario
}

fn hop(text: &str) -> (u8, u8) {
    let (device, function) = text.split_once('.').unwrap();
    (u8::from_str_radix(device, 16).unwrap(), u8::from_str_radix(function, 16).unwrap())
}

/// The machine of a scenario: bridges by the slots, functions by the models (docs/scenarios.md).
pub fn functions(scenario: &Scenario) -> Vec<SimFunction> {
    let mut made = vec![SimFunction::host_bridge()];
    let mut paths = vec![String::new()];
    let mut put = |made: &mut Vec<SimFunction>, slot: &str, model: Option<DeviceModel>| {
        let hops: Vec<&str> = slot.split('/').collect();
        let mut above = None;
        for depth in 1..=hops.len() {
            let path = hops[..depth].join("/");
            if let Some(index) = paths.iter().position(|known| *known == path) {
                above = Some(index);
                continue;
            }
            let (device, function) = hop(hops[depth - 1]);
            let new = match model {
                Some(model) if depth == hops.len() => match model {
                    DeviceModel::Nvme => SimFunction::nvme(device, function),
                    DeviceModel::Edu => SimFunction::edu(device, function),
                    DeviceModel::Igb | DeviceModel::IgbVf => SimFunction::igb(device, function),
                    DeviceModel::Ahci => SimFunction::ahci(device, function),
                    DeviceModel::Xhci => SimFunction::xhci(device, function),
                    DeviceModel::VirtioBlk => SimFunction::virtio_blk(device, function),
                    DeviceModel::VirtioNet => SimFunction::virtio_net(device, function),
                    DeviceModel::VirtioSerial => SimFunction::virtio_serial(device, function),
                },
                _ if depth == 1 => SimFunction::root_port(device, function),
                _ if depth % 2 == 0 => SimFunction::upstream_port(device, function),
                _ => SimFunction::downstream_port(device, function),
            };
            let new = if function == 0 && depth == hops.len() { new.multi_function() } else { new };
            made.push(match above {
                Some(bridge) => new.behind(bridge),
                None => new,
            });
            paths.push(path);
            above = Some(made.len() - 1);
        }
    };
    for device in &scenario.device {
        match device.model {
            DeviceModel::IgbVf => put(&mut made, &device.pf, Some(DeviceModel::Igb)),
            model => put(&mut made, &device.slot, Some(model)),
        }
    }
    if !scenario.device.iter().any(|device| device.slot.starts_with("03.")) {
        put(&mut made, "03.0", Some(DeviceModel::Edu));
    }
    made
}
