//! The life of one device: typed states, what may go wrong in each, and the way back.
//!
//! Trust: the types are what we believe; RMM and device hold the truth and are asked again after each transition.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

mod attest;
mod fleet;
mod handoff;
mod idle;
mod reject;
mod state;

pub use fleet::{Fallen, Fleet, Member, abandon, drop_out, each};
pub use idle::{IdleError, Quiet};
pub use reject::{Leak, Reason, Rejected, Stage};
pub use state::{
    Attested, Found, HandoffFacts, Locked, Mapped, Released, Run, State, Tdi, Unlocked, Verified,
};

use crate::pcie::Ecam;
use crate::platform::Platform;
use crate::rsi::InfoBuf;
use crate::{rhi, rsi};

/// What a transition talks through.
#[derive(Debug)]
pub struct Link<'a, P> {
    /// The machine.
    pub platform: &'a mut P,
    /// Negotiated RSI.
    pub rsi: &'a rsi::Session,
    /// Negotiated RHI.
    pub rhi: &'a mut rhi::Session,
    /// Configuration space.
    pub ecam: &'a Ecam,
    /// Buffer of VDEV info.
    pub info: &'a mut InfoBuf,
}

impl<P: Platform> Link<'_, P> {
    fn rsi(&mut self) -> rsi::Client<'_, P> {
        rsi::Client::new(self.platform, self.rsi)
    }

    fn rhi(&mut self) -> rhi::Client<'_, P> {
        rhi::Client::new(self.platform, self.rsi, self.rhi)
    }
}
