//! REM 1 to 4 as an event log makes them, under both formulas of RSI_MEASUREMENT_EXTEND that are out there.
//!
//! Trust: says what the log would give; whether the realm has these values is for its token to say.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use crate::eventlog::EventLog;
use gatehouse::digest::Digest;
use gatehouse::rsi::HashAlgorithm;
use std::fmt;
use std::str::FromStr;

/// How a value is extended into a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemRule {
    /// TF-RMM: new = H(old, as long as a digest; value).
    TfRmm,
    /// DEN0137 2.0-bet2, B3.110: new = H(old, padded to 64 bytes with zeros; value, padded to 64 bytes with zeros).
    Spec,
}

impl RemRule {
    /// Both.
    pub const ALL: [Self; 2] = [Self::TfRmm, Self::Spec];

    /// Returns the name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TfRmm => "tf-rmm",
            Self::Spec => "spec",
        }
    }

    /// Extends `value`, at most 64 bytes, into `old`.
    #[must_use]
    pub fn extend(self, algorithm: HashAlgorithm, old: &[u8], value: &[u8]) -> Vec<u8> {
        let zeros = |bytes: &[u8]| vec![0; 64_usize.saturating_sub(bytes.len())];
        let digest = match self {
            Self::TfRmm => Digest::of(algorithm, &[old, value]),
            Self::Spec => Digest::of(algorithm, &[old, &zeros(old), value, &zeros(value)]),
        };
        digest.as_bytes().into()
    }

    /// Returns REM 1 to 4 after all events of `log`, each as long as a digest.
    #[must_use]
    pub fn replay(self, log: &EventLog) -> [Vec<u8>; 4] {
        let mut rems = [(); 4].map(|()| vec![0; log.algorithm.digest_len()]);
        for event in &log.events {
            if let Some(rem) = event.rem().checked_sub(1).and_then(|at| rems.get_mut(at)) {
                *rem = self.extend(log.algorithm, rem, &event.digest);
            }
        }
        rems
    }
}

impl fmt::Display for RemRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for RemRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|rule| rule.name() == text).ok_or_else(|| "tf-rmm or spec".into())
    }
}

/// Tells whether two measurements are the same: RSI gives 64 bytes, with zeros behind a shorter digest.
#[must_use]
pub fn same(wanted: &[u8], found: &[u8]) -> bool {
    let (long, short) = if wanted.len() > found.len() { (wanted, found) } else { (found, wanted) };
    short.len() >= 32 && long.starts_with(short) && long.iter().skip(short.len()).all(|byte| *byte == 0)
}
