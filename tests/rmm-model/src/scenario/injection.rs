//! Lies by place: what somebody does to one crossing between realm and the others, whatever it says otherwise.
//!
//! [`super::Lie`] names what a certain lie means; an injection names where (which call, which occurrence) and how the
//! answer differs from the truth, so that a program can go through all places.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::{RhiCall, RsiCall};

/// One change of the truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Injection {
    /// Where.
    pub at: Crossing,
    /// At which occurrence of it, from 1.
    #[serde(default = "one")]
    pub nth: u32,
    /// At how many occurrences in a row.
    #[serde(default = "one")]
    pub count: u32,
    /// What.
    pub act: Act,
    /// Slot of the device that [`Act::Before`] and [`Act::After`] concern; empty = the first one.
    #[serde(default)]
    pub device: String,
}

const fn one() -> u32 {
    1
}

/// A place where the realm meets the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crossing {
    /// An RSI call.
    Rsi(RsiCall),
    /// An RHI call inside a HOST_CALL.
    Rhi(RhiCall),
    /// A load from configuration space.
    ConfigRead,
    /// A store to configuration space.
    ConfigWrite,
}

/// What is done there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Act {
    /// The call, or the store, is not carried out. Its status (x0, gprs[0]) is this, its other results are zero.
    Refuse(u64),
    /// The call is carried out, and one of its results differs: 0 is x0 or gprs[0]. Of a load: the value. Of a store: the
    /// value that arrives.
    Answer {
        /// Which result.
        word: u8,
        /// How.
        change: Change,
    },
    /// The call is carried out, and eight bytes of the structure that it filled differ: the page of REALM_CONFIG, the
    /// structure of VDEV_GET_INFO, the bytes that OBJECT_READ delivered.
    Memory {
        /// Byte from the start.
        offset: u16,
        /// How.
        change: Change,
    },
    /// Somebody acts before the call.
    Before(Deed),
    /// Somebody acts after the call, before the realm goes on.
    After(Deed),
}

/// How a number differs from the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is this.
    Set(u64),
    /// These bits are turned.
    Xor(u64),
    /// So much more, modulo 2^64.
    Add(u64),
    /// Another number each time.
    Noise,
}

/// What host or device do on their own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// A measurement exchange: a new measurement nonce.
    RefreshMeasurements,
    /// A report exchange: a new report nonce.
    RefreshReport,
    /// Pages are unmapped; unlock, lock, report, measurements: all nonces are new.
    Relock,
    /// Pages are unmapped; unlock: the VDEV is gone.
    Unlock,
    /// Lock, report, measurements, of a device that is not locked.
    Lock,
    /// Another device under the same id: unlocked if it was locked, then locked with another chain and session key.
    Exchange,
    /// RUN before the realm asks for it.
    Run,
    /// The TDI falls into ERROR, unseen by the RMM until its next exchange.
    Error,
    /// Function level reset by the host: a locked TDI falls into ERROR.
    Reset,
    /// The function is gone: its configuration space reads all ones.
    Unplug,
    /// Another function answers where none was (00:1e.0).
    Plug,
    /// The pages that were validated are unmapped (DESTROYED).
    DestroyDev,
    /// The pages that the realm shares are unmapped (DESTROYED).
    DestroyShared,
    /// Everything in the pages that the realm shares is overwritten.
    Scribble,
}

impl Deed {
    /// All of them.
    pub const ALL: [Deed; 14] = [
        Deed::RefreshMeasurements,
        Deed::RefreshReport,
        Deed::Relock,
        Deed::Unlock,
        Deed::Lock,
        Deed::Exchange,
        Deed::Run,
        Deed::Error,
        Deed::Reset,
        Deed::Unplug,
        Deed::Plug,
        Deed::DestroyDev,
        Deed::DestroyShared,
        Deed::Scribble,
    ];
}
