//! The measurement itself: parameters page and descriptors, each hashed with the value before it.
//!
//! Trust: the caller's values; nothing is checked here, because an RMM hashes what it accepted. DEN0137 1.0, B4.3.1.4, B4.3.9.4,
//! B4.3.12.4, B4.3.18.4, C1.11 to C1.13; TF-RMM v0.9.0, `app/attestation`; DEN0137 2.0 beta, A7.1.1.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::Rules;
use super::blocks::Blocks;
use gatehouse::addr::IpaRange;
use gatehouse::digest::Digest;
use gatehouse::rsi::HashAlgorithm;
use zerocopy::little_endian::U64;
use zerocopy::{FromZeros, Immutable, IntoBytes, KnownLayout};

/// Bytes of a granule.
pub const GRANULE: usize = 4096;

/// What the host gives REALM_CREATE, as far as it is measured. Numbers are those of the parameters page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Bits of [`flag`].
    pub flags: u64,
    /// Width of the IPA space in bits, the unprotected half included.
    pub s2sz: u8,
    /// SVE vector length in bits / 128 - 1; 0 without SVE.
    pub sve_vl: u8,
    /// Breakpoints minus one.
    pub num_bps: u8,
    /// Watchpoints minus one.
    pub num_wps: u8,
    /// PMU counters.
    pub pmu_ctrs: u8,
}

/// Bits of [`Parameters::flags`].
pub mod flag {
    /// 52-bit addresses.
    pub const LPA2: u64 = 1;
    /// SVE.
    pub const SVE: u64 = 1 << 1;
    /// PMU.
    pub const PMU: u64 = 1 << 2;
    /// Device assignment (TF-RMM and DEN0137 2.0).
    pub const DA: u64 = 1 << 3;
    /// A memory encryption context of its own (TF-RMM).
    pub const MEC_PRIVATE: u64 = 1 << 7;
}

/// Entry registers of a runnable REC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rec {
    /// First instruction.
    pub pc: u64,
    /// x0 to x7.
    pub x: [u64; 8],
}

#[derive(FromZeros, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct ParametersPage {
    flags: U64,
    s2sz: U64,
    sve_vl: U64,
    num_bps: U64,
    num_wps: U64,
    pmu_ctrs: U64,
    hash: U64,
    zero: [u8; 4096 - 0x38],
}

/// What every descriptor begins with.
#[derive(IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Head {
    kind: U64,
    len: U64,
    rim: [u8; 64],
}

#[derive(IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct DataDescriptor {
    head: Head,
    ipa: U64,
    flags: U64,
    content: [u8; 64],
    zero: [u8; 0x60],
}

#[derive(IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct RecDescriptor {
    head: Head,
    content: [u8; 64],
    zero: [u8; 0x70],
}

#[derive(IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct RipasDescriptor {
    head: Head,
    base: U64,
    top: U64,
    zero: [u8; 0xa0],
}

#[derive(FromZeros, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct RecPage {
    flags: U64,
    /// mpidr and what is reserved: left out of the measurement.
    zero0: [u8; 0x1f8],
    pc: U64,
    zero1: [u8; 0xf8],
    x: [U64; 8],
    zero2: [u8; 4096 - 0x340],
}

const LEN: u64 = 0x100;
const KIND_DATA: u64 = 0;
const KIND_REC: u64 = 1;
const KIND_RIPAS: u64 = 2;
const MEASURED: u64 = 1;
const RUNNABLE: u64 = 1;

const _: () = assert!(size_of::<ParametersPage>() == 4096);
const _: () = assert!(core::mem::offset_of!(ParametersPage, hash) == 0x30);
const _: () = assert!(size_of::<Head>() == 0x50);
const _: () = assert!(size_of::<DataDescriptor>() == 0x100);
const _: () = assert!(core::mem::offset_of!(DataDescriptor, content) == 0x60);
const _: () = assert!(size_of::<RecDescriptor>() == 0x100);
const _: () = assert!(size_of::<RipasDescriptor>() == 0x100);
const _: () = assert!(size_of::<RecPage>() == 4096);
const _: () = assert!(core::mem::offset_of!(RecPage, pc) == 0x200);
const _: () = assert!(core::mem::offset_of!(RecPage, x) == 0x300);

/// A RIM while the realm is built.
#[derive(Clone, Debug)]
pub struct Chain {
    rules: Rules,
    hash: HashAlgorithm,
    s2sz: u8,
    rim: Digest,
}

impl Chain {
    /// Creates the realm: the hash of the parameters page, or zeros under [`Rules::R3`].
    #[must_use]
    pub fn create(rules: Rules, hash: HashAlgorithm, parameters: &Parameters) -> Self {
        let page = ParametersPage {
            flags: parameters.flags.into(),
            s2sz: u64::from(parameters.s2sz).into(),
            sve_vl: u64::from(parameters.sve_vl).into(),
            num_bps: u64::from(parameters.num_bps).into(),
            num_wps: u64::from(parameters.num_wps).into(),
            pmu_ctrs: u64::from(parameters.pmu_ctrs).into(),
            hash: identifier(hash).into(),
            ..ParametersPage::new_zeroed()
        };
        let rim = match rules {
            Rules::R1 | Rules::R2 => Digest::of(hash, &[page.as_bytes()]),
            Rules::R3 => zero(hash),
        };
        Self { rules, hash, s2sz: parameters.s2sz, rim }
    }

    /// Makes `range` RAM: one extension for each block under [`Rules::R1`], none under the others. Returns their number.
    pub fn ripas(&mut self, range: IpaRange) -> usize {
        if self.rules != Rules::R1 {
            return 0;
        }
        let mut num = 0usize;
        for (base, top) in Blocks::new(range, self.s2sz) {
            let head = self.head(KIND_RIPAS);
            let descriptor = RipasDescriptor { head, base: base.into(), top: top.into(), zero: [0; 0xa0] };
            self.extend(descriptor.as_bytes());
            num = num.saturating_add(1);
        }
        num
    }

    /// Populates the granule at `ipa`; `None`: it is not measured, only its address is.
    pub fn data(&mut self, ipa: u64, content: Option<&[u8; GRANULE]>) {
        let descriptor = DataDescriptor {
            head: self.head(KIND_DATA),
            ipa: ipa.into(),
            flags: content.map_or(0, |_| MEASURED).into(),
            content: content.map_or([0; 64], |granule| padded(&Digest::of(self.hash, &[granule]))),
            zero: [0; 0x60],
        };
        self.extend(descriptor.as_bytes());
    }

    /// Creates a runnable REC. One that is not runnable leaves no trace, so there is no call for it.
    pub fn rec(&mut self, rec: &Rec) {
        let page = RecPage {
            flags: RUNNABLE.into(),
            pc: rec.pc.into(),
            x: rec.x.map(U64::from),
            ..RecPage::new_zeroed()
        };
        let content = padded(&Digest::of(self.hash, &[page.as_bytes()]));
        let descriptor = RecDescriptor { head: self.head(KIND_REC), content, zero: [0; 0x70] };
        self.extend(descriptor.as_bytes());
    }

    /// Returns the value now; its length is that of the hash.
    #[must_use]
    pub const fn value(&self) -> Digest {
        self.rim
    }

    fn head(&self, kind: u64) -> Head {
        Head { kind: kind.into(), len: LEN.into(), rim: padded(&self.rim) }
    }

    fn extend(&mut self, descriptor: &[u8]) {
        self.rim = Digest::of(self.hash, &[descriptor]);
    }
}

/// The RMI's number of a hash algorithm.
const fn identifier(hash: HashAlgorithm) -> u64 {
    match hash {
        HashAlgorithm::Sha256 => 0,
        HashAlgorithm::Sha512 => 1,
        HashAlgorithm::Sha384 => 2,
    }
}

fn zero(hash: HashAlgorithm) -> Digest {
    // The three lengths of a hash are the three lengths of a digest.
    let zeros = [0; 64];
    let bytes = zeros.get(..hash.digest_len()).and_then(Digest::from_bytes);
    bytes.unwrap_or_else(|| Digest::of(hash, &[]))
}

fn padded(digest: &Digest) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
    bytes
}
