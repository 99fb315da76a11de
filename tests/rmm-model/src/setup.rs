//! Why a scenario does not fit the machine.

use alloc::string::String;

/// Error of [`crate::Model::new`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The slot path is not `dd.f` or `dd.f/dd.f`, in hexadecimal digits.
    #[error("slot path {0:?} is not dd.f or dd.f/dd.f")]
    Slot(String),
    /// No function answers at the slot.
    #[error("no function at slot {0:?}")]
    NoFunction(String),
    /// A function on the way to the slot is not a bridge.
    #[error("not a bridge on the way to slot {0:?}")]
    NoBridge(String),
    /// The slot is named twice.
    #[error("slot {0:?} is named twice")]
    TwoDevices(String),
    /// The function is one that the VMM emulates, and cannot be a TDI.
    #[error("slot {0:?} is virtio and needs tdi = false")]
    NoTdi(String),
    /// The device was locked before, but its bus has no number.
    #[error("slot {0:?} has an earlier session and no bus number")]
    NoNumber(String),
    /// The physical function has no such virtual function, or has it at another slot.
    #[error("slot {slot:?} is not virtual function {vf} of {pf:?}")]
    NoVf {
        /// Slot of the virtual function.
        slot: String,
        /// Slot of the physical function.
        pf: String,
        /// Number.
        vf: u8,
    },
    /// The window for real BARs is too small.
    #[error("no room for a real BAR of {len:#x} bytes of slot {slot:?}")]
    NoRoom {
        /// Device.
        slot: String,
        /// Bytes.
        len: u64,
    },
    /// The device has no memory BAR with this number.
    #[error("slot {slot:?} has no memory BAR {bar}")]
    NoBar {
        /// Device.
        slot: String,
        /// Number that the scenario's range names.
        bar: u16,
    },
    /// A blob still names a file: the host program puts its bytes in place before the model sees the scenario.
    #[error("file {0:?} was not put in place")]
    File(String),
    /// Text that should be hexadecimal digits is not.
    #[error("not hexadecimal digits: {0:?}")]
    Hex(String),
    /// There is no built-in certificate with the number that `spdm.unit` names.
    #[error("slot {0:?} names a built-in certificate above 15")]
    Unit(String),
    /// The private key of a device is none for its algorithm, or is RSA and the model was built without it.
    #[error("slot {0:?} has no private key of its algorithm")]
    Key(String),
    /// A misbehaviour names a slot that is no device of the scenario.
    #[error("misbehaviour of unknown slot {0:?}")]
    UnknownSlot(String),
    /// The board contradicts itself: `what` says how.
    #[error("board: {0}")]
    Board(String),
}
