//! Lies: each has a name, a place and a count.

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// One lie and when it is told.
///
/// Each lie says at which event it can be told. Events of the named device (or of any) are counted from 1 for this
/// entry alone; the lie is told at `count` of them from number `nth` on, or at all of them if `nth` is 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Misbehaviour {
    /// What.
    pub lie: Lie,
    /// Slot path; empty = whichever device comes.
    #[serde(default)]
    pub device: String,
    /// First event at which it is told, from 1; 0 = at every one.
    #[serde(default = "one")]
    pub nth: u32,
    /// At how many events.
    #[serde(default = "one")]
    pub count: u32,
}

const fn one() -> u32 {
    1
}

impl Misbehaviour {
    /// Tells `lie` at its first event.
    pub fn once(lie: Lie) -> Misbehaviour {
        Misbehaviour { lie, device: String::new(), nth: 1, count: 1 }
    }

    /// Tells `lie` at its event number `nth`.
    pub fn at(lie: Lie, nth: u32) -> Misbehaviour {
        Misbehaviour { nth, ..Misbehaviour::once(lie) }
    }

    /// Tells `lie` always.
    pub fn always(lie: Lie) -> Misbehaviour {
        Misbehaviour { nth: 0, ..Misbehaviour::once(lie) }
    }
}

/// RSI commands (DEN0137), written as in the specification without `RSI_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names are those of the specification")]
pub enum RsiCall {
    Version,
    Features,
    RealmConfig,
    MeasurementRead,
    MeasurementExtend,
    AttestationTokenInit,
    AttestationTokenContinue,
    IpaStateSet,
    IpaStateGet,
    HostCall,
    VdevGetInfo,
    VdevValidateMapping,
    VdevDmaEnable,
    VdevDmaDisable,
}

/// RHI calls (DEN0148), written as in the specification without `RHI_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names are those of the specification")]
pub enum RhiCall {
    DaVersion,
    DaFeatures,
    DaObjectSize,
    DaObjectRead,
    HostconfVersion,
    HostconfFeatures,
    HostconfGetIpaChangeAlignment,
    DaVdevContinue,
    DaVdevGetMeasurements,
    DaVdevGetInterfaceReport,
    DaVdevSetTdiState,
    DaVdevP2pUnbind,
    DaVdevAbort,
}

/// Device operations that RHI starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RhiOp {
    /// SET_TDI_STATE(CONFIG_LOCKED).
    Lock,
    /// SET_TDI_STATE(RUN).
    Run,
    /// SET_TDI_STATE(CONFIG_UNLOCKED).
    Unlock,
    /// GET_INTERFACE_REPORT.
    Report,
    /// GET_MEASUREMENTS.
    Measurements,
    /// P2P_UNBIND.
    P2pUnbind,
}

/// Objects that the host caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// Negotiation messages.
    Vca,
    /// Certificate chain.
    Certificate,
    /// Measurements.
    Measurements,
    /// Interface report.
    Report,
}

/// Targets of IPA_STATE_SET.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RipasTarget {
    /// RIPAS EMPTY.
    Empty,
    /// RIPAS RAM.
    Ram,
}

/// The lies. "Event" is what `nth` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Lie {
    // What the host delivers.
    /// XORs one byte of the object as OBJECT_READ delivers it. Event: each read that covers the offset.
    ObjectByte {
        /// Object.
        object: ObjectKind,
        /// Byte, from the start.
        offset: u32,
        /// Bits to flip.
        xor: u8,
    },
    /// Answers DATA_NOT_AVAILABLE. Event: each OBJECT_SIZE or OBJECT_READ of the object.
    ObjectMissing {
        /// Object.
        object: ObjectKind,
    },
    /// OBJECT_SIZE answers 0. Event: each OBJECT_SIZE of the object.
    ObjectEmpty {
        /// Object.
        object: ObjectKind,
    },
    /// OBJECT_SIZE answers 16 MiB + 1. Event: each OBJECT_SIZE of the object.
    ObjectTooLarge {
        /// Object.
        object: ObjectKind,
    },
    /// OBJECT_SIZE answers this. Event: each OBJECT_SIZE of the object.
    ObjectSize {
        /// Object.
        object: ObjectKind,
        /// Answer.
        size: u64,
    },
    /// OBJECT_READ copies, and says that it copied, this many bytes fewer. Event: each read of the object.
    ShortRead {
        /// Object.
        object: ObjectKind,
        /// Bytes left out; all of them if it copies fewer anyway.
        by: u32,
    },
    /// OBJECT_READ copies rightly but says that it copied max length + 1. Event: each read of the object.
    LongRead {
        /// Object.
        object: ObjectKind,
    },
    /// The RMM's digest of the object is all zeros in the info. Event: each successful VDEV_GET_INFO.
    DigestZero {
        /// Object.
        object: ObjectKind,
    },

    // What the device reports; the digest matches. Event: each completed GET_INTERFACE_REPORT.
    /// The last TEE range ends one page behind its BAR.
    ReportRangePastBar,
    /// The first range's last page lies beyond 2^52 pages: first page + count wraps.
    ReportPagesWrap,
    /// The first range has no pages.
    ReportZeroPages,
    /// The number of ranges is 0x1000_0001: 16 times it wraps in 32 bits.
    ReportCountTooLarge,
    /// The report ends in the middle of its last range.
    ReportTruncated,
    /// The first range names BAR 6.
    ReportUnknownBar,
    /// The first range is listed twice.
    ReportOverlap,
    /// The reporting offset is one page more than the scenario says: no multiple of the BAR size.
    MroMisaligned,

    // What the session gives; the digest matches. Event: each completed GET_MEASUREMENTS.
    /// The exchange is signed by a key that the certificate does not name: the host runs the session with a key of its
    /// own beside a genuine chain.
    MeasurementForeignKey,
    /// The exchange is signed by the right key, but over request and response without the negotiation.
    MeasurementTranscript,
    /// The request carries another nonce than the realm gave: the exchange is an old one.
    NoncesReused,

    // What the host does behind the guest's back, just before the named call. Event: each such call for the device.
    /// A measurement exchange: a new measurement nonce.
    RefreshMeasurements {
        /// Call.
        before: RsiCall,
    },
    /// A report exchange: a new report nonce.
    RefreshReport {
        /// Call.
        before: RsiCall,
    },
    /// Unlock, lock, report, measurements: all nonces are new. DEV pages are unmapped first (DESTROYED).
    Relock {
        /// Call.
        before: RsiCall,
    },
    /// Unlock: the VDEV is gone. DEV pages are unmapped first (DESTROYED).
    HostUnlock {
        /// Call.
        before: RsiCall,
    },
    /// The TDI falls into ERROR, unseen by the RMM until its next exchange.
    TdiError {
        /// Call.
        before: RsiCall,
    },
    /// The host unmaps the device's DEV pages (DESTROYED).
    DestroyDev {
        /// Call.
        before: RsiCall,
    },

    // Progress.
    /// VALIDATE_MAPPING stops after this many pages with REJECT. Event: each call that passed its checks.
    ValidateReject {
        /// Pages validated before.
        after_pages: u64,
    },
    /// IPA_STATE_SET stops after this many pages with REJECT (for EMPTY this is itself against the specification).
    /// Event: each call with that target that passed its checks.
    IpaStateReject {
        /// Target.
        to: RipasTarget,
        /// Pages changed before.
        after_pages: u64,
    },
    /// The call does its work, but answers SUCCESS, ACCEPT and next = base - 4096. Event: each call
    /// (IPA_STATE_SET, VALIDATE_MAPPING) that passed its checks; so for the next four.
    NextBackwards {
        /// Call.
        call: RsiCall,
    },
    /// As before with next = top + 4096.
    NextAboveTop {
        /// Call.
        call: RsiCall,
    },
    /// As before with next = 2^64 - 4096.
    NextOversize {
        /// Call.
        call: RsiCall,
    },
    /// As before with next = top - 1 (not aligned).
    NextUnaligned {
        /// Call.
        call: RsiCall,
    },
    /// Nothing is done; answers SUCCESS, ACCEPT and next = base.
    NextStuck {
        /// Call.
        call: RsiCall,
    },

    // Status.
    /// The RSI call does nothing and answers this in x0. Event: each such call.
    RsiStatus {
        /// Call.
        call: RsiCall,
        /// x0.
        status: u64,
    },
    /// The RSI call does nothing and answers 0x5EAD_BEEF. Event: each such call.
    RsiGarbageStatus {
        /// Call.
        call: RsiCall,
    },
    /// The RSI call does nothing and answers RSI_INCOMPLETE. Event: each such call.
    RsiIncomplete {
        /// Call.
        call: RsiCall,
    },
    /// IPA_STATE_SET does nothing and answers ERROR_INPUT. Event: each call with that target.
    IpaStateFails {
        /// Target.
        to: RipasTarget,
    },
    /// The RHI call does nothing and answers this in gprs[0]. Event: each such call.
    RhiStatus {
        /// Call.
        call: RhiCall,
        /// gprs[0].
        status: u64,
    },
    /// The RHI call does nothing and answers 0x5EAD_BEEF. Event: each such call.
    RhiGarbageStatus {
        /// Call.
        call: RhiCall,
    },
    /// The operation never ends: INCOMPLETE for ever, until it is aborted. Event: each start of the operation.
    RhiIncompleteForever {
        /// Operation.
        op: RhiOp,
    },
    /// The operation answers BUSY. Event: each attempt to start it.
    RhiBusy {
        /// Operation.
        op: RhiOp,
    },
    /// The operation answers INCOMPLETE with handle 0, and CONTINUE takes 0. Event: each start.
    HandleZero {
        /// Operation.
        op: RhiOp,
    },
    /// The operation answers SUCCESS, nothing happened. Event: each completion.
    OpIgnored {
        /// Operation.
        op: RhiOp,
    },
    /// The operation ends with DEVICE, nothing happened. Event: each completion.
    OpFails {
        /// Operation.
        op: RhiOp,
    },
    /// ABORT answers that the operation had completed, and it is completed now. Event: each ABORT of a pending one.
    AbortTooLate,

    // Device and VMM.
    /// The TDI is in ERROR, and the RMM knows, as soon as RUN answered SUCCESS. Event: each completed RUN.
    ErrorAfterRun,
    /// UNLOCK answers DEVICE and the device stays bound. Event: each SET_TDI_STATE(CONFIG_UNLOCKED) that would do it.
    UnlockFails,
    /// A BAR register reads back XORed with this. Event: each read of the register, sizing excepted.
    BarReadback {
        /// Register 0..5.
        bar: u8,
        /// Bits.
        xor: u32,
    },
    /// Bits of the command register that stay zero whatever is written. Event: each read of the register.
    CommandStuck {
        /// Bits.
        mask: u16,
    },
    /// From the operation on, the function is gone: its configuration space reads all ones and ignores writes. Event:
    /// each such operation that ends; so for the next.
    FunctionVanishes {
        /// Routing id: bus, device and function as `bbdf`.
        rid: u16,
        /// Operation.
        after: RhiOp,
    },
    /// From the operation on, a function without BARs answers where none was, if nothing is there.
    FunctionAppears {
        /// Routing id.
        rid: u16,
        /// Operation.
        after: RhiOp,
    },
    /// FLR is swallowed: nothing is reset. Event: each write with Initiate FLR set.
    FlrIgnored,
}
