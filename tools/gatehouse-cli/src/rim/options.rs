//! What a caller knows better than the board: each field takes the place of one that board or layout would give.
use super::Rules;
use super::board::Board;
use super::chain::{self, Parameters};
use gatehouse::rsi::HashAlgorithm;

/// Overrides; the default changes nothing.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Rule set.
    pub rules: Option<Rules>,
    /// Hash.
    pub hash: Option<HashAlgorithm>,
    /// Bytes of RAM.
    pub ram_size: Option<u64>,
    /// Width of the IPA space in bits.
    pub s2sz: Option<u8>,
    /// All flags of the parameters page.
    pub flags: Option<u64>,
    /// Device assignment, added to the flags.
    pub da: bool,
    /// Breakpoints minus one.
    pub num_bps: Option<u8>,
    /// Watchpoints minus one.
    pub num_wps: Option<u8>,
    /// Vector length in bits / 128 - 1.
    pub sve_vl: Option<u8>,
    /// PMU counters.
    pub pmu_ctrs: Option<u8>,
    /// Number of runnable RECs.
    pub recs: Option<u64>,
    /// Where the image lies.
    pub image_address: Option<u64>,
    /// Where the ramdisk lies.
    pub initrd_address: Option<u64>,
    /// Where the device tree lies.
    pub tree_address: Option<u64>,
    /// The image is loaded as firmware, not as a kernel.
    pub firmware: bool,
    /// The VMM leaves a log of what it loaded in memory.
    pub log: bool,
}

impl Options {
    /// Returns the parameters of the realm: the board's, but for what is given here. `s2sz` is decided by the layout.
    #[must_use]
    pub fn parameters(&self, board: &Board, s2sz: u8) -> Parameters {
        let rim = &board.rim;
        let flags = rim.flags.iter().fold(0, |flags, flag| flags | flag.bit());
        Parameters {
            flags: self.flags.unwrap_or(flags) | if self.da { chain::flag::DA } else { 0 },
            s2sz,
            sve_vl: self.sve_vl.unwrap_or(rim.sve_vl),
            num_bps: self.num_bps.unwrap_or(rim.num_bps),
            num_wps: self.num_wps.unwrap_or(rim.num_wps),
            pmu_ctrs: self.pmu_ctrs.unwrap_or(rim.pmu_ctrs),
        }
    }
}
