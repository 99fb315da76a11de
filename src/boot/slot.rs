//! Slot paths: how a person names a PCI function without bus numbers, `02.0` or `03.0/00.0`.
//!
//! Trust: part of the measured bundle, or of a packer's command line.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use crate::addr::Bdf;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;
use thiserror::Error;

/// Most hops of a path.
pub const MAX_HOPS: usize = 8;

/// Why a string is not a slot path.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SlotError {
    /// The hop at this index is not `DD.F`, with DD in 00..=1f and F in 0..=7.
    #[error("hop {0} is not DD.F")]
    BadHop(usize),
    /// More than [`MAX_HOPS`] hops.
    #[error("more than {MAX_HOPS} hops")]
    TooLong,
}

/// Device and function number on one bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    device: u8,
    function: u8,
}

impl Hop {
    /// Returns the device number, 0..=31.
    #[must_use]
    pub const fn device(self) -> u8 {
        self.device
    }

    /// Returns the function number, 0..=7.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.function
    }
}

impl From<Bdf> for Hop {
    fn from(bdf: Bdf) -> Self {
        Self { device: bdf.device(), function: bdf.function() }
    }
}

/// A function, by the device and function numbers from the root bus down; bridges first. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotPath(Vec<Hop>);

impl SlotPath {
    /// Makes a path from its hops, bridges first: at least one, at most [`MAX_HOPS`].
    pub(crate) fn from_hops(hops: Vec<Hop>) -> Self {
        Self(hops)
    }

    /// Returns the hops, first the one on the root bus.
    #[must_use]
    pub fn hops(&self) -> &[Hop] {
        &self.0
    }
}

impl FromStr for SlotPath {
    type Err = SlotError;

    fn from_str(text: &str) -> Result<Self, SlotError> {
        let mut hops = Vec::new();
        for (i, hop) in text.split('/').enumerate() {
            if i >= MAX_HOPS {
                return Err(SlotError::TooLong);
            }
            hops.push(parse_hop(hop).ok_or(SlotError::BadHop(i))?);
        }
        Ok(Self(hops))
    }
}

fn parse_hop(text: &str) -> Option<Hop> {
    let (device, function) = text.split_once('.')?;
    let lower = |s: &str| s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if device.len() != 2 || function.len() != 1 || !lower(device) || !lower(function) {
        return None;
    }
    let device = u8::from_str_radix(device, 16).ok().filter(|d| *d <= 31)?;
    let function = u8::from_str_radix(function, 16).ok().filter(|f| *f <= 7)?;
    Some(Hop { device, function })
}

impl fmt::Display for SlotPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, hop) in self.0.iter().enumerate() {
            let slash = if i == 0 { "" } else { "/" };
            write!(f, "{slash}{:02x}.{:x}", hop.device, hop.function)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_a_round_trip() {
        for text in ["02.0", "03.0/00.0", "1f.7/00.1/0a.3"] {
            assert_eq!(text.parse::<SlotPath>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_hop_outside_its_form_is_refused() {
        for text in ["", "2.0", "02", "02.8", "20.0", "02.00", "0A.0", "+2.0", "02.0 "] {
            assert_eq!(text.parse::<SlotPath>(), Err(SlotError::BadHop(0)), "{text:?}");
        }
        assert_eq!("02.0/".parse::<SlotPath>(), Err(SlotError::BadHop(1)));
    }

    #[test]
    fn a_path_is_put_together_from_places_whatever_their_bus() {
        let hops = [0x28, 0x0100, 0x02ff].map(|rid| Hop::from(Bdf::from_routing_id(rid)));
        assert_eq!(SlotPath::from_hops(hops.into()), "05.0/00.0/1f.7".parse().unwrap());
    }

    #[test]
    fn a_path_of_nine_hops_is_refused() {
        assert_eq!(["00.0"; 9].join("/").parse::<SlotPath>(), Err(SlotError::TooLong));
    }
}
