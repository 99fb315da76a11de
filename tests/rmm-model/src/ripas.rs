//! Realm IPA state (DEN0137 A5.2.2, B5.5).

use serde::{Deserialize, Serialize};

/// RIPAS of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Ripas {
    /// Nothing the realm can use; the alias may be shared memory or a device.
    Empty,
    /// Private memory.
    Ram,
    /// The host took it away.
    Destroyed,
    /// Validated device memory.
    Dev,
}

impl Ripas {
    /// Returns the encoding of RIPAS_GET.
    pub const fn encoding(self) -> u64 {
        match self {
            Ripas::Empty => 0,
            Ripas::Ram => 1,
            Ripas::Destroyed => 2,
            Ripas::Dev => 3,
        }
    }
}
