//! Checks that can be taken out, one at a time, to see whether somebody notices (tests/matrix).
//!
//! A build with `--cfg gatehouse_mutation="Name"` lacks the check of that name, says MUTATED, and is refused by
//! `scripts/check`; with `"each"` tests on the developer's machine choose while they run. Every other build has all
//! checks, and this module costs it nothing. Never a feature: no dependency may set it.

macro_rules! mutations {
    ($($(#[doc = $doc:literal])+ $name:ident $text:literal,)*) => {
        /// A check that can be missing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Mutation {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Mutation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Tells whether this build lacks the check for good.
            #[cfg(gatehouse_mutated)]
            const fn is_built_in(self) -> bool {
                match self {
                    $(Self::$name => cfg!(gatehouse_mutation = $text),)*
                }
            }

            /// Returns the name of the check that this build lacks for good.
            #[cfg(gatehouse_mutated)]
            const fn built_in() -> Option<&'static str> {
                $(if Self::$name.is_built_in() {
                    return Some($text);
                })*
                None
            }
        }
    };
}

mutations! {
    /// The interface report's digest is compared with the RMM's.
    ReportDigest "ReportDigest",
    /// The lock nonce is the same before and after the evidence was collected.
    LockNonce "LockNonce",
    /// Measurements and report were fetched since the lock.
    Refreshed "Refreshed",
    /// The leaf key signed the exchange.
    Signature "Signature",
    /// The request of the exchange holds the nonce that the realm gave.
    RequesterNonce "RequesterNonce",
    /// State and nonces of the RMM's record are as they were, after RUN and around DMA_ENABLE.
    RecordUnchanged "RecordUnchanged",
    /// The controller is stopped before DMA is opened.
    Idle "Idle",
    /// A payload that knows nothing of device assignment gets no device with DMA.
    UnawarePayload "UnawarePayload",
    /// A boot without a required device stops.
    Required "Required",
    /// The device is unlocked on the way back.
    Unlocked "Unlocked",
    /// Decode and bus mastering go off on the way back.
    Quiet "Quiet",
    /// Decode and bus mastering read back as they were written.
    CommandReadBack "CommandReadBack",
    /// The shared window becomes private again.
    WindowReturned "WindowReturned",
    /// A window that cannot be made private again is named.
    WindowLeak "WindowLeak",
    /// Range commands may stall only so often.
    Stalls "Stalls",
    /// RSI_INCOMPLETE is repeated only so often.
    Incomplete "Incomplete",
    /// Operations of the host are polled only so often.
    Polls "Polls",
    /// A list of capabilities has an end.
    Capabilities "Capabilities",
    /// The bytes of the host's tree are checked before a parser sees them.
    TreeGate "TreeGate",
}

/// Tells whether a check is taken out.
#[cfg(not(gatehouse_mutated))]
pub(crate) const fn removed(_: Mutation) -> bool {
    false
}

#[cfg(gatehouse_mutated)]
pub use chosen::remove;
#[cfg(gatehouse_mutated)]
pub(crate) use chosen::{removed, say};

#[cfg(gatehouse_mutated)]
mod chosen {
    use super::Mutation;
    use core::sync::atomic::{AtomicU8, Ordering};

    /// What such an image says of itself; the harness looks for it (tests/harness/src/sizes.rs).
    const BANNER: &str = "TEST BUILD (gatehouse_mutation): MUTATED, it lacks a check, never use it";
    /// Of [`CHOSEN`]: none.
    const NONE: u8 = u8::MAX;

    const _: () = assert!(
        cfg!(gatehouse_mutation = "each") || Mutation::built_in().is_some(),
        "gatehouse_mutation names no check"
    );

    /// Number of the check that is out.
    static CHOSEN: AtomicU8 = AtomicU8::new(NONE);

    /// Takes a check out of this process, or puts all of them back.
    pub fn remove(mutation: Option<Mutation>) {
        CHOSEN.store(mutation.map_or(NONE, |mutation| mutation as u8), Ordering::Relaxed);
    }

    pub(crate) fn removed(mutation: Mutation) -> bool {
        mutation.is_built_in() || CHOSEN.load(Ordering::Relaxed) == mutation as u8
    }

    /// Warns.
    pub(crate) fn say() {
        log::warn!("{BANNER}: {}", Mutation::built_in().unwrap_or("each"));
    }
}
