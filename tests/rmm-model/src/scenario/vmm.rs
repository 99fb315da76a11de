//! The VMM: virtual configuration space, image, tree. What concerns image and tree is data for the shells.

use alloc::string::String;
use alloc::vec::Vec;

use crate::rng::Rng;
use serde::{Deserialize, Serialize};

/// The VMM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vmm {
    /// What a write to the configuration space of a locked device does.
    pub config: ConfigAccess,
    /// The VMM places the BARs that the realm sees before the start (kvmtool does, QEMU's direct boot does not).
    pub assign_bars: bool,
    /// Bus numbers of the bridges on the way to devices, at the start.
    pub bus_numbers: BusNumbers,
    /// For the shells: RECs that the host enters at the start, at most 8.
    pub recs: u8,
    /// For the shells: the console that the device tree names.
    pub console: Console,
    /// For the shells: XOR 0xFF into the byte at this offset from the start of the loaded image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flip_kernel_byte: Option<u64>,
    /// For the shells: the bundle lies beside the image, which pins it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleBeside>,
    /// For the shells: keep this many bytes of the device tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncate_tree: Option<u64>,
    /// For the shells: random bytes over a part of the device tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tree_noise: Option<TreeNoise>,
    /// For the shells: load the image at this IPA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_address: Option<u64>,
    /// For the shells: give the realm this many bytes of RAM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ram_size: Option<u64>,
    /// For the shells: changes of the device tree.
    pub tree_edit: Vec<TreeEdit>,
}

impl Default for Vmm {
    fn default() -> Vmm {
        Vmm {
            config: ConfigAccess::Virtualise,
            assign_bars: false,
            bus_numbers: BusNumbers::Assigned,
            recs: 1,
            console: Console::Board,
            flip_kernel_byte: None,
            bundle: None,
            truncate_tree: None,
            tree_noise: None,
            load_address: None,
            ram_size: None,
            tree_edit: Vec::new(),
        }
    }
}

/// A bundle that the VMM loads as its initrd, and what it says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BundleBeside {
    /// IPA where it is loaded; VMMs align it to a page.
    pub address: u64,
    /// The range in the tree begins and ends so many bytes above.
    pub shift: i64,
    /// The range in the tree ends so many bytes early.
    pub short: u64,
    /// The tree names no range.
    pub unnamed: bool,
    /// XOR 0xFF into the byte at this offset of the loaded bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flip_byte: Option<u64>,
}

impl Default for BundleBeside {
    fn default() -> BundleBeside {
        BundleBeside { address: 0x5000_1000, shift: 0, short: 0, unnamed: false, flip_byte: None }
    }
}

/// Random bytes over a part of the device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TreeNoise {
    /// The same seed gives the same bytes.
    pub seed: u64,
    /// From this byte of the tree, modulo its length; what would lie behind its end is left out.
    pub offset: u64,
    /// So many.
    pub len: u64,
}

impl Default for TreeNoise {
    fn default() -> TreeNoise {
        TreeNoise { seed: 0, offset: 0, len: 4096 }
    }
}

impl TreeNoise {
    /// Returns the noise of a seed at a place that the seed chooses.
    #[must_use]
    pub fn somewhere(seed: u64, len: u64) -> TreeNoise {
        // Scenarios are TOML too, which has no larger numbers.
        let offset = Rng::new(!seed).next() >> 1;
        TreeNoise { seed, offset, len }
    }

    /// Changes the tree.
    pub fn apply(&self, tree: &mut [u8]) {
        let Some(start) = self.offset.checked_rem(tree.len() as u64) else { return };
        let start = start as usize;
        let len = usize::try_from(self.len).unwrap_or(usize::MAX).min(tree.len() - start);
        tree[start..start + len].copy_from_slice(&Rng::new(self.seed).bytes(len));
    }
}

/// Who numbers the buses behind bridges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BusNumbers {
    /// The VMM, before the start.
    #[default]
    Assigned,
    /// The realm: the bridges' bus registers are 0 until it writes them.
    None,
}

/// Console of the device tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Console {
    /// That of the board.
    #[default]
    Board,
    /// None: no `stdout-path`, no node.
    None,
}

/// How writes to BARs and command register of a device in LOCKED or RUN reach it (`tdisp.md` section 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigAccess {
    /// They change what the realm reads back, and where the alias of EMPTY pages is; the device never sees them.
    #[default]
    Virtualise,
    /// They reach the device: a BAR that changes or memory decode that goes off puts the TDI in ERROR.
    PassThrough,
}

/// One change of the device tree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TreeEdit {
    /// Path of the node, created if absent.
    pub node: String,
    /// Property; empty = the node itself.
    pub property: String,
    /// New value as hexadecimal digits.
    pub hex: String,
    /// New value as text, a NUL is added; used if `hex` is empty and `remove` is false.
    pub text: String,
    /// Remove the property or node.
    pub remove: bool,
}
