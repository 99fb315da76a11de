//! Reads the encoded form. Every length is compared with its limit before anything of it is kept.

use super::{
    ARRAY, BYTES, Flaw, MAP, NEGATIVE, PolicyError, TEXT, UNSIGNED, flag, key, kind, reference_key, report,
    rule_flag, rule_key,
};
use crate::addr::Bdf;
use crate::boot::slot::{MAX_HOPS, SlotPath};
use crate::digest::Digest;
use crate::policy::check::{MAX_SERIAL_BYTES, MAX_VALUE_BYTES};
use crate::policy::types::{
    Anchor, AnchorKey, ClassMatch, EvidenceClass, MAX_ANCHORS, MAX_COUNT, MAX_ENTRIES, MAX_NAME, MAX_RULES,
    Match, Measurements, Mode, OnFailure, POLICY_VERSION, PciMatch, Policy, Quiet, Quirks, Reference,
    ReferenceValue, ReportRules, Rest, Rule, Serial, Time,
};
use alloc::string::String;
use alloc::vec::Vec;

/// A flaw ends the reading. The reader knows which it is: a result without it fits registers, and there are many of them.
struct Broken;

type Read<T> = Result<T, Broken>;

/// What is not read yet.
struct Reader<'b> {
    bytes: &'b [u8],
    rest: &'b [u8],
    /// The flaw that ended the reading, and where; nothing is said by it before.
    flaw: (usize, Flaw),
}

/// Reads a policy and nothing behind it.
///
/// # Errors
/// [`PolicyError::Form`]: the flaw that was met.
pub(super) fn whole(bytes: &[u8]) -> Result<Policy, PolicyError> {
    let mut reader = Reader { bytes, rest: bytes, flaw: (0, Flaw::Truncated) };
    let read = policy(&mut reader).and_then(|policy| reader.end().map(|()| policy));
    let (offset, flaw) = reader.flaw;
    read.map_err(|Broken| PolicyError::Form { offset, flaw })
}

impl<'b> Reader<'b> {
    /// Checks that nothing is left.
    fn end(&mut self) -> Read<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.flaw(self.at(), Flaw::Trailing)) }
    }

    fn at(&self) -> usize {
        self.bytes.len().saturating_sub(self.rest.len())
    }

    /// Notes a flaw, which ends the reading.
    fn flaw(&mut self, offset: usize, flaw: Flaw) -> Broken {
        self.flaw = (offset, flaw);
        Broken
    }

    fn take(&mut self, len: usize) -> Read<&'b [u8]> {
        let (taken, rest) =
            self.rest.split_at_checked(len).ok_or_else(|| self.flaw(self.bytes.len(), Flaw::Truncated))?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads the head of an item: major type and number.
    fn head(&mut self) -> Read<(u8, u64)> {
        let at = self.at();
        let first = self.take(1)?.first().copied().unwrap_or(0);
        let (major, info) = (first >> 5, first & 0x1f);
        let (len, least) = match info {
            0..24 => return Ok((major, info.into())),
            24 => (1, 24),
            25 => (2, 0x100),
            26 => (4, 0x1_0000),
            27 => (8, 0x1_0000_0000),
            _ => return Err(self.flaw(at, Flaw::Type)),
        };
        let n = self.take(len)?.iter().fold(0, |n: u64, byte| (n << 8) | u64::from(*byte));
        if n < least { Err(self.flaw(at, Flaw::NotShortest)) } else { Ok((major, n)) }
    }

    /// Reads a head of this major type with a number within these limits.
    fn expect(&mut self, major: u8, least: u64, most: u64) -> Read<u64> {
        let at = self.at();
        let (found, n) = self.head()?;
        if found != major {
            return Err(self.flaw(at, Flaw::Type));
        }
        if n < least || n > most { Err(self.flaw(at, Flaw::Value)) } else { Ok(n) }
    }

    fn number(&mut self, least: u64, most: u64) -> Read<u64> {
        self.expect(UNSIGNED, least, most)
    }

    fn u16(&mut self) -> Read<u16> {
        let at = self.at();
        u16::try_from(self.number(0, 0xffff)?).map_err(|_| self.flaw(at, Flaw::Value))
    }

    fn u8(&mut self, most: u64) -> Read<u8> {
        let at = self.at();
        u8::try_from(self.number(0, most)?).map_err(|_| self.flaw(at, Flaw::Value))
    }

    fn u32(&mut self, most: u32) -> Read<u32> {
        let at = self.at();
        u32::try_from(self.number(0, most.into())?).map_err(|_| self.flaw(at, Flaw::Value))
    }

    /// Reads a length of at least one and at most `most`.
    fn length(&mut self, major: u8, most: usize) -> Read<usize> {
        let at = self.at();
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        usize::try_from(self.expect(major, 1, most)?).map_err(|_| self.flaw(at, Flaw::Value))
    }

    fn bytes(&mut self, most: usize) -> Read<&'b [u8]> {
        let len = self.length(BYTES, most)?;
        self.take(len)
    }

    fn text(&mut self) -> Read<String> {
        let at = self.at();
        let len = self.length(TEXT, MAX_NAME)?;
        let text = core::str::from_utf8(self.take(len)?).map_err(|_| self.flaw(at, Flaw::Utf8))?;
        Ok(text.into())
    }

    /// Reads an array of one to `most` items.
    fn list<T>(&mut self, most: usize, item: fn(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let len = self.length(ARRAY, most)?;
        let mut items = Vec::new();
        for _ in 0..len {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// Reads a map whose keys ascend; `field` reads the value of a key, or says that there is no such key.
    fn map(&mut self, field: &mut dyn FnMut(&mut Self, u8) -> Read<bool>) -> Read<()> {
        let len = self.expect(MAP, 0, 0xff)?;
        let mut least = 0;
        for _ in 0..len {
            let at = self.at();
            let (major, key) = self.head()?;
            let known = match u8::try_from(key) {
                Ok(key) if major == UNSIGNED && u64::from(key) >= least => field(self, key)?,
                _ => false,
            };
            if !known {
                return Err(self.flaw(at, Flaw::Key));
            }
            least = key.saturating_add(1);
        }
        Ok(())
    }

    fn digest(&mut self) -> Read<Digest> {
        let at = self.at();
        Digest::from_bytes(self.bytes(64)?).ok_or_else(|| self.flaw(at, Flaw::Value))
    }

    fn serial(&mut self) -> Read<Serial> {
        Ok(Serial(self.bytes(MAX_SERIAL_BYTES)?.into()))
    }

    fn value(&mut self) -> Read<Vec<u8>> {
        Ok(self.bytes(MAX_VALUE_BYTES)?.into())
    }

    fn time(&mut self) -> Read<Time> {
        let at = self.at();
        let (major, n) = self.head()?;
        let n = i64::try_from(n).map_err(|_| self.flaw(at, Flaw::Value))?;
        match major {
            UNSIGNED => Ok(Time(n)),
            NEGATIVE => Ok(Time(!n)),
            _ => Err(self.flaw(at, Flaw::Type)),
        }
    }

    /// Reads bits of which one at least is set: none is the default, and left out.
    fn bits(&mut self, all: u64) -> Read<u64> {
        let at = self.at();
        let bits = self.number(1, all)?;
        if bits & !all != 0 { Err(self.flaw(at, Flaw::Value)) } else { Ok(bits) }
    }
}

fn policy(reader: &mut Reader<'_>) -> Read<Policy> {
    let start = reader.at();
    let mut policy = Policy { forwards_nonce: true, ..Policy::default() };
    let mut version = None;
    reader.map(&mut |r, key| {
        let at = r.at();
        match key {
            key::VERSION => {
                version = Some(r.number(0, u64::MAX)?);
                if version != Some(POLICY_VERSION) {
                    return Err(r.flaw(at, Flaw::Version));
                }
            }
            key::SVN => policy.svn = r.number(1, u64::MAX)?,
            key::FLAGS => {
                let flags = r.bits(flag::ALL)?;
                policy.audit = flags & flag::AUDIT != 0;
                policy.forwards_nonce = flags & flag::NONCE_NOT_FORWARDED == 0;
                policy.rest = if flags & flag::REST_STOPS == 0 { Rest::Hide } else { Rest::Stop };
            }
            key::FLOOR => policy.floor = Some(r.time()?),
            key::ANCHORS => policy.anchors = r.list(MAX_ANCHORS, anchor)?,
            key::DENIED_LEAF_KEYS => policy.denied.leaf_keys = r.list(MAX_ENTRIES, Reader::digest)?,
            key::DENIED_SERIALS => policy.denied.serials = r.list(MAX_ENTRIES, Reader::serial)?,
            key::RULES => policy.rules = r.list(MAX_RULES, rule)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    version.map(|_| policy).ok_or_else(|| reader.flaw(start, Flaw::Missing))
}

fn anchor(reader: &mut Reader<'_>) -> Read<Anchor> {
    reader.expect(ARRAY, 3, 3)?;
    let name = reader.text()?;
    let form = reader.number(0, 1)?;
    let digest = reader.digest()?;
    let key = if form == 0 { AnchorKey::Certificate(digest) } else { AnchorKey::PublicKey(digest) };
    Ok(Anchor { name, key })
}

/// The values of a rule's map that say what it takes; which of them may be there, its kind says.
#[derive(Default)]
struct Parts {
    kind: u64,
    pci: PciMatch,
    virtio: Option<u32>,
    compatible: Option<String>,
}

fn rule(reader: &mut Reader<'_>) -> Read<Rule> {
    let start = reader.at();
    let mut parts = Parts::default();
    let mut rule = Rule::new(String::new(), Match::VirtioMmio(None), Vec::new());
    reader.map(&mut |r, key| rule_field(r, key, &mut rule, &mut parts))?;
    if rule.name.is_empty() || rule.modes.is_empty() {
        return Err(reader.flaw(start, Flaw::Missing));
    }
    rule.matches = matches(parts).map_err(|flaw| reader.flaw(start, flaw))?;
    Ok(rule)
}

fn rule_field(r: &mut Reader<'_>, key: u8, rule: &mut Rule, parts: &mut Parts) -> Read<bool> {
    let at = r.at();
    match key {
        rule_key::NAME => rule.name = r.text()?,
        rule_key::KIND => parts.kind = r.number(kind::BRIDGE, kind::PLATFORM)?,
        rule_key::SLOTS => parts.pci.slots = r.list(MAX_ENTRIES, slot)?,
        rule_key::VENDOR => parts.pci.vendor = Some(r.u16()?),
        rule_key::DEVICE => parts.pci.device = Some(r.u16()?),
        rule_key::SUBSYSTEM_VENDOR => parts.pci.subsystem_vendor = Some(r.u16()?),
        rule_key::SUBSYSTEM => parts.pci.subsystem = Some(r.u16()?),
        rule_key::CLASS => parts.pci.class = Some(class(r.bytes(3)?)),
        rule_key::VIRTIO => parts.virtio = Some(r.u32(u32::MAX)?),
        rule_key::COMPATIBLE => parts.compatible = Some(r.text()?),
        rule_key::SUBJECT => rule.identity.subject = Some(r.text()?),
        rule_key::LEAF_KEYS => rule.identity.leaf_keys = r.list(MAX_ENTRIES, Reader::digest)?,
        rule_key::SERIALS => rule.identity.serials = r.list(MAX_ENTRIES, Reader::serial)?,
        rule_key::FLAGS => {
            let flags = r.bits(rule_flag::ALL)?;
            rule.required = flags & rule_flag::OPTIONAL == 0;
            rule.device_mode_required = flags & rule_flag::DEVICE_MODE_REQUIRED != 0;
            rule.debug_allowed = flags & rule_flag::DEBUG_ALLOWED != 0;
            rule.same_unit = flags & rule_flag::SAME_UNIT != 0;
            if flags & rule_flag::QUIET_DEVICE != 0 {
                rule.quiet = Quiet::Device;
            }
        }
        rule_key::COUNT => {
            rule.count = r.u32(MAX_COUNT)?;
            if rule.count == 1 {
                return Err(r.flaw(at, Flaw::Value));
            }
        }
        rule_key::EVIDENCE => {
            rule.evidence =
                if r.number(1, 2)? == 1 { EvidenceClass::Platform } else { EvidenceClass::Unauthenticated };
        }
        rule_key::MEASUREMENTS => {
            rule.measurements = Measurements::Listed(r.list(MAX_ENTRIES, reference)?);
        }
        rule_key::REPORT => rule.report = report_rules(r.bits(report::ALL)?),
        rule_key::MODES => {
            for byte in r.bytes(4)? {
                rule.modes.push(match byte {
                    0 => Mode::Run,
                    1 => Mode::Pin,
                    2 => Mode::Shared,
                    3 => Mode::Hide,
                    _ => return Err(r.flaw(at, Flaw::Value)),
                });
            }
        }
        rule_key::ON_FAILURE => {
            rule.on_failure = if r.number(1, 2)? == 1 { OnFailure::Hide } else { OnFailure::Shared };
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Puts together what a rule takes; refuses keys that its kind does not have.
fn matches(parts: Parts) -> Result<Match, Flaw> {
    let Parts { kind, pci, virtio, compatible } = parts;
    let no_pci = pci == PciMatch::default();
    match (kind, virtio, compatible) {
        (kind::DEVICE, None, None) => Ok(Match::Device(pci)),
        (kind::BRIDGE, None, None) => Ok(Match::Bridge(pci)),
        (kind::VIRTIO_PCI, of, None) => {
            let of = of.map(u16::try_from).transpose().map_err(|_| Flaw::Value)?;
            Ok(Match::VirtioPci(pci, of))
        }
        (kind::VIRTIO_MMIO, of, None) if no_pci => Ok(Match::VirtioMmio(of)),
        (kind::PLATFORM, None, Some(compatible)) if no_pci => Ok(Match::Platform(compatible)),
        (kind::PLATFORM, None, None) => Err(Flaw::Missing),
        _ => Err(Flaw::Key),
    }
}

fn slot(reader: &mut Reader<'_>) -> Read<SlotPath> {
    let hops = reader.bytes(MAX_HOPS)?;
    Ok(SlotPath::from_hops(hops.iter().map(|hop| Bdf::from_routing_id((*hop).into()).into()).collect()))
}

fn class(bytes: &[u8]) -> ClassMatch {
    let add = |class: ClassMatch, (byte, shift): (&u8, u32)| ClassMatch {
        value: class.value | (u32::from(*byte).wrapping_shl(shift)),
        mask: class.mask | 0xff_u32.wrapping_shl(shift),
    };
    bytes.iter().zip([16, 8, 0]).fold(ClassMatch { value: 0, mask: 0 }, add)
}

fn reference(reader: &mut Reader<'_>) -> Read<Reference> {
    let start = reader.at();
    let (mut index, mut kind, mut value) = (None, None, None);
    reader.map(&mut |r, key| {
        if key >= reference_key::DIGESTS && value.is_some() {
            return Ok(false);
        }
        match key {
            reference_key::INDEX => index = Some(r.u8(0xff)?),
            reference_key::KIND => kind = Some(r.u8(0x7f)?),
            reference_key::DIGESTS => {
                value = Some(ReferenceValue::Digests(r.list(MAX_ENTRIES, Reader::digest)?));
            }
            reference_key::VALUES => {
                value = Some(ReferenceValue::Values(r.list(MAX_ENTRIES, Reader::value)?));
            }
            reference_key::MIN_SVN => value = Some(ReferenceValue::MinSvn(r.number(0, u64::MAX)?)),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    match (index, value) {
        (Some(index), Some(value)) => Ok(Reference { index, kind, value }),
        _ => Err(reader.flaw(start, Flaw::Missing)),
    }
}

fn report_rules(bits: u64) -> ReportRules {
    let is = |bit| bits & bit != 0;
    ReportRules {
        firmware_update_allowed: is(report::FIRMWARE_UPDATE_ALLOWED),
        pasid_allowed: is(report::PASID_ALLOWED),
        no_plain_dma_allowed: is(report::NO_PLAIN_DMA_ALLOWED),
        ats_allowed: is(report::ATS_ALLOWED),
        prs_allowed: is(report::PRS_ALLOWED),
        non_tee_shared: is(report::NON_TEE_SHARED),
        quirks: Quirks {
            relative: is(report::RELATIVE),
            whole_bar: is(report::WHOLE_BAR),
            omitted_non_tee: is(report::OMITTED_NON_TEE),
            high_ids: is(report::HIGH_IDS),
            byte_addresses: is(report::BYTE_ADDRESSES),
            doubled_ids: is(report::DOUBLED_IDS),
        },
    }
}
