//! The way of a boot: phases 1 to 7 of docs/architecture.md, each a function from typed inputs to typed outputs.
//! Phase 0 is assembly in `arch`. No phase is inlined: in one function the locals of all of them would lie on the stack
//! at the same time.
//!
//! Trust: what the phases read is checked by the modules that they call. From the moment the shared window is open,
//! every way out gives it back, and every device that was locked is taken back.

mod attest;
mod audit;
mod emulated;
mod handoff;
mod inventory;
mod load;
mod map;
mod measure;
mod negotiate;
mod realm;
mod stop;
mod tree;

pub use stop::{Stop, StopReason, TransportFault};
pub use tree::Payload;

use crate::addr::IpaRange;
use crate::boot::bundle::Bundle;
use crate::boot::place::Room;
use crate::codes::StopCode;
use crate::eventlog;
use crate::memory::Headroom;
use crate::platform::{Clock, Platform};
use crate::policy::types::Policy;
use crate::rhi;
use crate::rsi::InfoBuf;
use crate::tdi::{self, Link};
use attest::Judged;
use measure::Measured;
use negotiate::BundlePolicy;
use stop::OrStop;

/// What the firmware knows of itself before it asks anybody.
#[derive(Debug)]
pub struct BootInfo<'a> {
    /// All memory that the image header reserves: image, bundle, room, heap.
    pub own: IpaRange,
    /// x0 at entry: where the device tree should be.
    pub tree_ipa: u64,
    /// Where the bundle is.
    pub bundle: BundleSource<'a>,
    /// Free memory of `own`, for a kernel that cannot stay where it is. Taken by the load phase.
    pub room: Room<'a>,
}

/// Where the bundle is, by the slot of the image.
#[derive(Clone, Copy, Debug)]
pub enum BundleSource<'a> {
    /// Nowhere.
    None,
    /// Behind the firmware.
    Appended(BundleBytes<'a>),
    /// In the initrd range of the host's tree.
    External {
        /// Length in bytes.
        len: u64,
        /// SHA-256 of the FIT structure, from the slot.
        manifest_sha256: [u8; 32],
    },
}

/// A bundle, in place.
#[derive(Clone, Copy, Debug)]
pub struct BundleBytes<'a> {
    /// Address of the first byte.
    pub address: u64,
    /// All bytes.
    pub bytes: &'a [u8],
    /// SHA-256 of the FIT structure, from the slot.
    pub manifest_sha256: [u8; 32],
}

/// Goes through the phases up to the point where only the jump is left.
///
/// # Errors
/// [`Stop`]: the shared window was given back and no device is held, but for what the log names as leaked.
pub fn run<P: Platform>(platform: &mut P, boot: &mut BootInfo<'_>) -> Result<Payload, Stop> {
    drop(Headroom::take()?);
    let realm = realm::run(platform, boot)?;
    end_of_phase(platform, "realm");
    let (place, bundle) = negotiate::bundle(platform, &realm, boot)?;
    #[cfg(gatehouse_mutated)]
    crate::mutation::say();
    #[cfg(all(gatehouse_fault, target_arch = "aarch64", target_os = "none"))]
    crate::arch::aarch64::fault::at_bundle(&bundle);
    let mut measured = Measured::new(realm.rsi.facts().hash);
    measured.record(platform, &realm.rsi, &eventlog::realm())?;
    let policy = negotiate::policy(platform, &realm.rsi, &bundle, &mut measured)?;
    let mut rhi = negotiate::host(platform, &realm)?;
    end_of_phase(platform, "negotiate");
    let result = with_devices(platform, &realm, &mut rhi, (&place, bundle), policy.as_ref(), boot, measured);
    // Without effect when phase 6 gave it back.
    let _logged = rhi.close_window(platform, &realm.rsi);
    result
}

/// Phases 3 to 7.
#[inline(never)]
fn with_devices<P: Platform>(
    platform: &mut P,
    realm: &realm::Realm,
    rhi: &mut rhi::Session,
    (place, bundle): (&BundleBytes<'_>, Bundle<'_>),
    policy: Option<&BundlePolicy>,
    boot: &mut BootInfo<'_>,
    mut measured: Measured,
) -> Result<Payload, Stop> {
    let nothing = Policy::default();
    let rules = policy.map_or(&nothing, |policy| &policy.policy);
    let mut info = InfoBuf::new().or_stop(StopCode::Memory)?;
    let entries = &mut measured.entries;
    let given = policy.map(|policy| &policy.policy);
    let (inventory, chosen) = inventory::run(platform, &realm.machine, given, entries)?;
    let emulated = emulated::run(platform, realm, rules, entries)?;
    measured.inventory(platform, &realm.rsi)?;
    end_of_phase(platform, "inventory");
    let mut link = Link { platform, rsi: &realm.rsi, rhi, ecam: &inventory.ecam, info: &mut info };
    let Judged { run, pinned, mut shared } =
        attest::run(&mut link, rules, &inventory.topology, bundle.os, chosen, &mut measured)?;
    end_of_phase(link.platform, "attest");
    let mapped = map::run(&mut link, run, &mut shared, &mut measured)?;
    end_of_phase(link.platform, "map");
    let loaded = match load::run(&mut link, bundle, place, boot, &mut measured) {
        Ok(loaded) => loaded,
        Err(stop) => {
            tdi::abandon(&mut link, mapped);
            return Err(stop);
        }
    };
    end_of_phase(link.platform, "load");
    let rest = handoff::Rest { pinned, shared, emulated, policy };
    let payload = handoff::run(&mut link, realm, &inventory, mapped, rest, &loaded, measured)?;
    end_of_phase(link.platform, "handoff");
    Ok(payload)
}

/// Prints the machine-readable line that ends a phase; tools/tests join it with the counters of the RMM's side.
fn end_of_phase<C: Clock>(clock: &mut C, name: &str) {
    crate::say::info!("phase name={name} ticks={}", clock.ticks());
}
