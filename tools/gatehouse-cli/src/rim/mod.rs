//! Predicts the realm initial measurement (RIM). docs/rim.md is the reader's side.
//!
//! [`board::Board`] says what a VMM and its RMM do, [`layout`] puts files where that VMM would, [`plan::Plan::measure`] goes through
//! what the RMM sees with a [`chain::Chain`], [`corim`] writes the result for a verifier.
//!
//! Trust: files and options of the caller; bad ones get an error that names them.
pub mod blocks;
pub mod board;
pub mod chain;
pub mod corim;
pub mod layout;
pub mod options;
pub mod plan;

use gatehouse::rsi::HashAlgorithm;
use serde::Deserialize;
use std::fmt;

/// Which extensions an RMM makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rules {
    /// RMM 1.0 as printed, TF-RMM up to v0.8.0: parameters, RIPAS changes, data, RECs.
    R1,
    /// TF-RMM v0.9.0 and later: parameters, data, RECs.
    R2,
    /// RMM 2.0 beta as printed: data and RECs, from zero.
    R3,
}

impl Rules {
    /// Every rule set.
    pub const ALL: [Self; 3] = [Self::R1, Self::R2, Self::R3];

    /// Returns the name: `r1`, `r2` or `r3`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::R1 => "r1",
            Self::R2 => "r2",
            Self::R3 => "r3",
        }
    }

    /// Finds a rule set by its name.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rules| rules.word() == word)
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Finds a hash algorithm by its name: `sha256`, `sha384` or `sha512`.
#[must_use]
pub fn hash_from_word(word: &str) -> Option<HashAlgorithm> {
    [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512]
        .into_iter()
        .find(|hash| hash.name() == word)
}
