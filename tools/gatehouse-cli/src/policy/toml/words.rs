//! The words of the TOML form, once for reading and writing.
use gatehouse::policy::types::{EvidenceClass, Mode, OnFailure, Quiet, Quirks, ReportRules, Rest};

/// Words and what they mean.
pub type Words<T> = &'static [(&'static str, T)];

/// What a rule takes; [`gatehouse::policy::types::Match`] without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A PCI function that is not virtio.
    Device,
    /// A PCI-to-PCI bridge.
    Bridge,
    /// A virtio device on PCI.
    VirtioPci,
    /// A virtio device on MMIO.
    VirtioMmio,
    /// A node of the device tree.
    Platform,
}

/// Values of `kind`.
pub const KINDS: Words<Kind> = &[
    ("device", Kind::Device),
    ("bridge", Kind::Bridge),
    ("virtio-pci", Kind::VirtioPci),
    ("virtio-mmio", Kind::VirtioMmio),
    ("platform", Kind::Platform),
];

/// Values of `modes`.
pub const MODES: Words<Mode> =
    &[("run", Mode::Run), ("pin", Mode::Pin), ("shared", Mode::Shared), ("hide", Mode::Hide)];

/// Values of `on-failure`.
pub const ON_FAILURE: Words<OnFailure> =
    &[("stop", OnFailure::Stop), ("hide", OnFailure::Hide), ("shared", OnFailure::Shared)];

/// Values of `evidence`.
pub const EVIDENCE: Words<EvidenceClass> = &[
    ("signed", EvidenceClass::Signed),
    ("platform", EvidenceClass::Platform),
    ("unauthenticated", EvidenceClass::Unauthenticated),
];

/// Values of `quiet`.
pub const QUIET: Words<Quiet> = &[("reset-by-class", Quiet::ResetByClass), ("device", Quiet::Device)];

/// Values of `rest`.
pub const REST: Words<Rest> = &[("hide", Rest::Hide), ("stop", Rest::Stop)];

/// Types of virtio devices (VIRTIO 1.2, section 5); any other has its number.
pub const VIRTIO: Words<u32> = &[
    ("network", 1),
    ("block", 2),
    ("console", 3),
    ("entropy", 4),
    ("balloon", 5),
    ("scsi", 8),
    ("9p", 9),
    ("gpu", 16),
    ("input", 18),
    ("vsock", 19),
    ("crypto", 20),
    ("iommu", 23),
    ("memory", 24),
    ("sound", 25),
    ("fs", 26),
    ("pmem", 27),
    ("rpmb", 28),
];

/// Types of measurement blocks (DSP0274, DMTFSpecMeasurementValueType); any other has its number.
pub const TYPES: Words<u8> = &[
    ("immutable-rom", 0),
    ("mutable-firmware", 1),
    ("hardware-configuration", 2),
    ("firmware-configuration", 3),
    ("measurement-manifest", 4),
    ("device-mode", 5),
    ("firmware-version", 6),
    ("firmware-svn", 7),
    ("hash-extended", 8),
    ("informational", 9),
    ("structured-manifest", 10),
];

/// A yes-or-no field of a structure, by its word.
pub type Flags<T> = &'static [(&'static str, fn(&mut T) -> &mut bool)];

/// Fields of `report`.
pub const REPORT: Flags<ReportRules> = &[
    ("firmware-update-allowed", |rules| &mut rules.firmware_update_allowed),
    ("pasid-allowed", |rules| &mut rules.pasid_allowed),
    ("no-plain-dma-allowed", |rules| &mut rules.no_plain_dma_allowed),
    ("ats-allowed", |rules| &mut rules.ats_allowed),
    ("prs-allowed", |rules| &mut rules.prs_allowed),
    ("non-tee-shared", |rules| &mut rules.non_tee_shared),
];

/// Values of `quirks`.
pub const QUIRKS: Flags<Quirks> = &[
    ("relative", |quirks| &mut quirks.relative),
    ("whole-bar", |quirks| &mut quirks.whole_bar),
    ("omitted-non-tee", |quirks| &mut quirks.omitted_non_tee),
    ("high-ids", |quirks| &mut quirks.high_ids),
    ("byte-addresses", |quirks| &mut quirks.byte_addresses),
    ("doubled-ids", |quirks| &mut quirks.doubled_ids),
];

/// Returns what a word means.
#[must_use]
pub fn meaning<T: Copy>(words: Words<T>, word: &str) -> Option<T> {
    words.iter().find(|(other, _)| *other == word).map(|(_, meaning)| *meaning)
}

/// Returns the word for a meaning.
#[must_use]
pub fn word<T: PartialEq>(words: Words<T>, meaning: &T) -> Option<&'static str> {
    words.iter().find(|(_, other)| other == meaning).map(|(word, _)| *word)
}

/// Lists words for a message.
#[must_use]
pub fn list<T>(words: &[(&str, T)]) -> String {
    words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}
