//! The firmware binary: the phases, then the jump or the power-off. On a developer's machine an empty program.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
gatehouse::entry!(firmware::main);

#[cfg(target_os = "none")]
mod firmware {
    use gatehouse::arch::aarch64::{Handoff, Machine};
    use gatehouse::boot::source::Source;
    use gatehouse::phases::{self, BootInfo, BundleBytes, BundleSource};

    /// Goes through the phases (docs/architecture.md) and leaves: to the payload, or by PSCI SYSTEM_OFF with the code.
    pub fn main(mut machine: Machine, tree_ipa: u64) -> ! {
        let room = machine.take_room();
        let layout = machine.layout();
        let manifest_sha256 = layout.slot().manifest_sha256;
        let bundle = match (layout.source(), machine.bundle().zip(layout.bundle_range())) {
            (Source::External { len }, _) => BundleSource::External { len, manifest_sha256 },
            (_, Some((bytes, range))) => {
                BundleSource::Appended(BundleBytes { address: range.base(), bytes, manifest_sha256 })
            }
            (_, None) => BundleSource::None,
        };
        let mut boot = BootInfo { own: layout.area(), tree_ipa, bundle, room };
        match phases::run(&mut machine, &mut boot) {
            Ok(payload) => {
                let handoff = Handoff::new(machine.layout(), payload.entry, payload.tree, &payload.reads);
                match handoff {
                    Ok(handoff) => machine.jump(&handoff),
                    // The phases place the payload inside the image's area: only a bug of ours comes here.
                    Err(error) => panic!("hand-off: {error}"),
                }
            }
            Err(stop) => {
                log::error!("stop {stop}");
                machine.power_off(stop.code)
            }
        }
    }
}
