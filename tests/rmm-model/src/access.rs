//! What enters the model from the realm besides SMCs, and what the shell does next.

/// One data access or fetch that faulted at stage 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load with a valid syndrome; `width` is 1, 2, 4 or 8 bytes.
    Read {
        /// Bytes read.
        width: u8,
    },
    /// A store with a valid syndrome; `width` is 1, 2, 4 or 8 bytes.
    Write {
        /// Bytes written.
        width: u8,
        /// The value, in the low bytes.
        value: u64,
    },
    /// An instruction fetch.
    Fetch,
    /// A load or store without valid syndrome (ISV = 0): no host can emulate it.
    NoSyndrome {
        /// True for a store.
        write: bool,
    },
}

/// What the shell does with a stage-2 fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAction {
    /// The host emulated the access: put the value (loads) in the register and step over the instruction.
    Emulated(u64),
    /// Inject a synchronous external abort with ESR_EL1.EA = 1 (DEN0137 A5.2.8).
    Sea,
    /// Inject an address size fault: the IPA is 2^W or above (DEN0137 A5.2.10).
    AddressSize,
    /// The REC never makes progress again: RIPAS DESTROYED (DEN0137 A5.2.3).
    Stop,
}

/// What the shell does after an SMC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Return to the realm, behind the SMC instruction.
    Resume,
    /// PSCI SYSTEM_OFF: end of the run.
    PowerOff {
        /// x1 of the call: the firmware's stop code, 0 from an ordinary OS.
        code: u64,
    },
    /// PSCI SYSTEM_RESET: end of the run.
    Reset,
    /// No REC of the realm runs any more: CPU_OFF of the last one, or a buffer on a DESTROYED page.
    Stop,
    /// PSCI CPU_OFF while another REC runs: the host does not enter this one again unless
    /// [`crate::Model::take_entry`] says so.
    RecOff,
}

/// Where a REC starts after PSCI CPU_ON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// First instruction, a protected IPA.
    pub pc: u64,
    /// x0.
    pub context: u64,
}
