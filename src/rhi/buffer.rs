//! How the address of a shared buffer is passed: Linux guests clear the alias bit, the ACS sets it, no text decides
//! (docs/spec-map.md). Both name the same shared page.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use crate::abi::rhi as abi;
use crate::addr::GRANULE_SIZE;

/// A part of the shared window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    /// Parameters of a call: the first granule.
    Parameters,
    /// An object: everything behind.
    Object,
}

impl Area {
    /// Returns where the area begins in the window, in bytes.
    pub(super) const fn offset(self) -> u64 {
        match self {
            Self::Parameters => 0,
            Self::Object => GRANULE_SIZE,
        }
    }
}

/// The form of a buffer address, negotiated by the first call that passes one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BufferForm {
    /// The alias bit is set.
    alias: bool,
    /// The host took a buffer in this form.
    is_settled: bool,
}

impl BufferForm {
    /// Returns `ipa` in this form.
    pub(super) const fn address(self, ipa: u64, alias_bit: u64) -> u64 {
        if self.alias { ipa | alias_bit } else { ipa }
    }

    /// Learns from the status of a call that passed a buffer; tells whether the other form is to be tried now.
    ///
    /// Only ACCESS_FAILED speaks of the buffer; a host may check other arguments first.
    pub(super) fn learn(&mut self, status: u64) -> bool {
        match status {
            abi::DA_SUCCESS | abi::DA_INCOMPLETE => self.is_settled = true,
            abi::DA_ACCESS_FAILED if !self.is_settled => {
                // Refused in both: the next call begins with the first again.
                self.alias = !self.alias;
                return self.alias;
            }
            _ => {}
        }
        false
    }
}
