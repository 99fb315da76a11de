//! What each refusal means to a person: what was checked, what that it failed says, what to do.
use gatehouse::codes::StopCode::{self, *};

/// About one code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The code.
    pub code: StopCode,
    /// What is checked.
    pub checked: &'static str,
    /// What the failure says.
    pub means: &'static str,
    /// What to do: about the device, the platform or a field of the policy.
    pub act: &'static str,
}

const fn about(code: StopCode, checked: &'static str, means: &'static str, act: &'static str) -> Advice {
    Advice { code, checked, means, act }
}

/// Returns what there is about a code.
#[must_use]
pub fn of(code: StopCode) -> Option<&'static Advice> {
    ALL.iter().find(|advice| advice.code == code)
}

/// All refusals: inventory, interface report, evidence, identity, hand-off, audit.
pub const ALL: &[Advice] = &[
    about(
        RequiredMissing,
        "Before the first lock, functions on the bus are counted against each rule with required = true.",
        "Fewer functions than `count` match the rule: a device is missing, stands in another slot, or is behind a bridge that no rule takes.",
        "Compare the `pci` lines of the log with `slot`, `vendor`, `device` and `class` of the rule, add a rule of kind \"bridge\" for what is in front of it, assign the device, or set required = false.",
    ),
    about(
        NotQuiet,
        "A function that is not handed off must have memory decoding, bus mastering and interrupts off when the payload starts.",
        "The function or the host that emulates it did not take the change, so it could still write to shared memory.",
        "Remove the function from the realm, or look at the VMM; no field of the policy allows it.",
    ),
    about(
        ExtraFunction,
        "Each function must be taken by a rule when the policy has rest = \"stop\".",
        "The VMM assigned a function that the policy does not know, or one that is behind a bridge that no rule takes, or a rule's `count` was used up.",
        "Do not assign it, write a rule for it (modes = [\"hide\"] only hides it), raise `count`, or set rest = \"hide\".",
    ),
    about(
        NoPolicy,
        "A bundle without a policy is good for a realm without devices only.",
        "There is a PCI function, and nothing says what to do with it.",
        "Pack a policy with `gatehouse pack --policy`. For a first one, boot with audit = true, then `gatehouse policy capture` and `gatehouse policy init`.",
    ),
    about(
        InventoryChanged,
        "Just before the hand-off the buses are walked again and compared with the inventory that the decision was made for.",
        "A function appeared, vanished, or shows other ids than before: the host changed the machine during the boot.",
        "Keep hot-plug off until the payload runs, and start again. If it comes back, look at the VMM; no field of the policy allows it.",
    ),
    about(
        ReportMalformed,
        "The interface report is read as TDISP lays it out, every length and reserved bit.",
        "Device or RMM wrote a report with another layout, or with bits or attributes that TDISP does not define.",
        "Update the device's firmware or the RMM, and capture the report with an audit boot to show its maker; no field of the policy allows it.",
    ),
    about(
        ReportWraps,
        "Each range of the interface report must end within 64-bit addresses.",
        "The range's address or length is absurd: the reporting offset is wrong, or the addresses are not in pages.",
        "If the device is known to count in bytes, name the quirk: quirks = [\"byte-addresses\"]. Otherwise its firmware needs a fix.",
    ),
    about(
        ReportPastBar,
        "Each range of the interface report must lie in the BAR that its id names.",
        "The range ends behind the BAR: the device reports more than the host shows, or the ranges are of another device.",
        "Compare the BAR sizes in the log with the report; a host that makes BARs smaller must stop doing so. Known silicon may need a quirk (`quirks`), see docs/policy.md.",
    ),
    about(
        ReportingOffset,
        "TDISP makes the MMIO reporting offset a multiple of each BAR, so that a range's place in the BAR is known.",
        "The device's addresses do not fit that: where in the BAR a range is would be a guess.",
        "Use other device firmware. If its maker says that the first range of a BAR is its start, quirks = [\"relative\"]; if it counts in bytes, quirks = [\"byte-addresses\"].",
    ),
    about(
        ReportId,
        "Each range id of the interface report must be the number of a memory BAR of at least a page.",
        "The report names a BAR that the host does not show, or numbers BARs in its own way.",
        "If an RMM wrote the report (ids from 0xff00), quirks = [\"high-ids\"]; if ids are twice the BAR number, quirks = [\"doubled-ids\"]. Otherwise compare the BARs that the host shows with those of the device.",
    ),
    about(
        ReportMsix,
        "The pages that the report marks as MSI-X table must be those that the MSI-X capability names.",
        "Host and device disagree on where the interrupt table is; a wrong place would leave registers to the host.",
        "Look at the VMM's emulation of the MSI-X capability, and at the device's firmware; no field of the policy allows it.",
    ),
    about(
        ReportNoTeeRange,
        "A device that is to be used must have at least one range of TEE memory.",
        "None of its registers would be private: the device does not protect this interface.",
        "Use device firmware that supports TDISP for this function, or hand it off without trust: modes = [\"shared\"].",
    ),
    about(
        ReportIncomplete,
        "Each page of each memory BAR must be in the report, as TEE, non-TEE or MSI-X.",
        "The report is silent about a page, so nobody knows who can reach it.",
        "Ask the maker. If what the device leaves out is not TEE memory, quirks = [\"omitted-non-tee\"]; if its one range stands for the whole BAR, quirks = [\"whole-bar\"].",
    ),
    about(
        ReportPba,
        "The pages that the report marks as MSI-X pending bits must be those that the MSI-X capability names.",
        "Host and device disagree on where the pending bits are; a wrong place would leave registers to the host.",
        "Look at the VMM's emulation of the MSI-X capability, and at the device's firmware; no field of the policy allows it.",
    ),
    about(
        ReportOrder,
        "Ranges of one BAR must stand in the report in ascending order, and with the quirk whole-bar there may be only one.",
        "The report is not as TDISP wants it; whoever wrote it may mean other places.",
        "Update the device's firmware. If the rule has quirks = [\"whole-bar\"], take that away when the report names several ranges.",
    ),
    about(
        ReportOverlap,
        "No two ranges of the interface report may share a page.",
        "A page would be two things at once, for example TEE and non-TEE.",
        "The device's firmware needs a fix, or addresses are in bytes (quirks = [\"byte-addresses\"]).",
    ),
    about(
        ReportDuplicate,
        "A range may stand in the interface report once.",
        "The same range is there twice; the report was put together wrongly or tampered with before the RMM saw it.",
        "The device's firmware or the RMM needs a fix; no field of the policy allows it.",
    ),
    about(
        ReportNonTee,
        "All memory of the device must be TEE memory, except the MSI-X pages.",
        "The device says that the host can reach some of its registers while the realm uses it.",
        "If the device's maker says that nothing secret is there, report.non-tee-shared = true leaves those pages to the host. Otherwise do not use the device.",
    ),
    about(
        ReportFirmwareUpdate,
        "The report must say that firmware updates are off while the interface is locked (bit 0 of its flags).",
        "The host could change the device's firmware after it was measured.",
        "Configure the device or its host driver to lock updates. report.firmware-update-allowed = true takes the risk.",
    ),
    about(
        ReportPlainDma,
        "The report must say that the device can do DMA without PASID (bit 1 of its flags).",
        "The device uses PASID only, and the firmware and most payloads open DMA without one.",
        "Configure the device for plain DMA, or report.no-plain-dma-allowed = true if the payload knows how to use it.",
    ),
    about(
        ReportPasid,
        "The report must not say that DMA with PASID is possible (bit 2 of its flags).",
        "The device could send requests with a PASID, for which the realm sets up nothing.",
        "Turn PASID off in the device's configuration, or report.pasid-allowed = true if the payload means to use it.",
    ),
    about(
        ReportAts,
        "The report must not say that ATS is on (bit 3 of its flags).",
        "The device would translate addresses itself; the firmware opens DMA without ATS.",
        "Turn ATS off in the host's set-up of the device. report.ats-allowed = true accepts the report as it is.",
    ),
    about(
        ReportPrs,
        "The report must not say that PRS is on (bit 4 of its flags).",
        "The device could ask the host for pages while the realm uses it.",
        "Turn PRS off in the host's set-up of the device. report.prs-allowed = true accepts the report as it is.",
    ),
    about(
        ChainMalformed,
        "The certificate chain is read strictly as DER, X.509 version 3.",
        "A certificate is cut, has lengths that do not fit, or a form that RFC 5280 does not allow.",
        "Capture it with an audit boot and look at it with `openssl x509`; the device has to be provisioned again by its maker.",
    ),
    about(
        ChainNoAnchor,
        "The chain must end at one of the policy's anchors: a certificate or a public key.",
        "The device is of another maker, of another generation with a new root, or somebody made the chain up.",
        "Compare the root with what the maker publishes. Only if it is there, add it as [[anchor]] with `certificate` or `public-key`.",
    ),
    about(
        ChainExpired,
        "No certificate's validity may have ended before the policy's `floor`.",
        "A certificate of the chain is older than the policy wants.",
        "Have the device provisioned with new certificates, or set `floor` to an earlier date. There is no trusted clock; only the floor is compared.",
    ),
    about(
        ChainSignature,
        "Each certificate must be signed by the key of the one above it.",
        "The chain was put together of certificates that do not belong together, or one was changed.",
        "Do not trust the device. If it is new, its maker provisioned it wrongly; no field of the policy allows it.",
    ),
    about(
        ChainNotCa,
        "A certificate that signs another must say that it is a CA (basic constraints).",
        "A device's certificate was used as if it were that of a maker: typical of a forged chain.",
        "Do not trust the device, and ask its maker; no field of the policy allows it.",
    ),
    about(
        ChainPathLength,
        "A CA may have so many CAs below it as its path length says.",
        "An issuer that may sign devices only has signed another issuer.",
        "Do not trust the device, and ask its maker; no field of the policy allows it.",
    ),
    about(
        ChainCritical,
        "A critical extension of a certificate must be one that the firmware knows.",
        "The maker put a restriction there that the firmware cannot honour.",
        "Send the certificate with a report to the project, or ask the maker for one without it; no field of the policy allows it.",
    ),
    about(
        ChainAlgorithm,
        "Certificates must be signed with ECDSA and SHA-256 or better, or RSA in firmware built with the feature `rsa`.",
        "A certificate is signed with something that can be forged (as SHA-1), or that the firmware does not know.",
        "The device needs certificates with a better algorithm; no field of the policy allows it.",
    ),
    about(
        ChainKey,
        "Keys of certificates must be on P-256 or P-384, or RSA of 3072 bits and more in firmware built with the feature `rsa`.",
        "A key is too weak, or of a kind that the firmware does not know.",
        "For RSA build the firmware with the feature `rsa`; otherwise the device needs certificates with better keys.",
    ),
    about(
        ChainDeniedLeaf,
        "The leaf key must not be one of `deny.leaf-keys`.",
        "The policy names this very device as one that must never be used.",
        "Replace the device. If the entry is a mistake, take it from `deny.leaf-keys` and raise `svn`.",
    ),
    about(
        ChainDeniedSerial,
        "No certificate of the chain may have a serial number of `deny.serials`.",
        "The policy names this device or an issuer above it as one that must never be used.",
        "Replace the device, or have it provisioned again. If the entry is a mistake, take it from `deny.serials` and raise `svn`.",
    ),
    about(
        ChainKeyUsage,
        "Key usage and extended key usage must allow what a certificate is used for: CAs sign certificates, the leaf signs measurements.",
        "A key is used for something that its maker did not mean it for.",
        "The device has to be provisioned again by its maker; no field of the policy allows it.",
    ),
    about(
        ChainLimit,
        "Chain, certificates, names and extensions have upper limits, so that no device exhausts the firmware.",
        "The chain has more or longer certificates than any known device.",
        "Ask the maker for a shorter chain in this slot, or send it with a report to the project.",
    ),
    about(
        ChainRootHash,
        "The header of an SPDM chain holds the hash of the root; it must be that of the first certificate.",
        "The chain was provisioned wrongly, or header and certificates are of two devices.",
        "The device has to be provisioned again by its maker; no field of the policy allows it.",
    ),
    about(
        VcaMalformed,
        "The recorded negotiation (VERSION, CAPABILITIES, ALGORITHMS) is read strictly as DSP0274 lays it out.",
        "The record is cut or is none: RMM and firmware do not agree on the object, or the device is no SPDM responder.",
        "Update the RMM. A device that has no SPDM at all needs evidence = \"platform\", and an RMM that records nothing for it.",
    ),
    about(
        SpdmVersion,
        "The session must be SPDM 1.2 or 1.3.",
        "An older version was negotiated. In 1.1 the signature does not cover the negotiation, so that the host could have weakened it.",
        "Update the device's firmware, or look why the host offers old versions only; no field of the policy allows it.",
    ),
    about(
        SpdmAlgorithm,
        "The negotiated signature and hashes must be ECDSA on P-256 or P-384 (RSA with the feature) and SHA-256 or better.",
        "Device and host agreed on something weaker or unknown.",
        "Configure the host's SPDM requester to offer better algorithms, or update the device's firmware.",
    ),
    about(
        ExchangeMalformed,
        "Request and response for the measurements are read strictly as DSP0274 lays them out, and must belong together.",
        "The record is cut, or the response is not the answer to this request.",
        "Update RMM and device firmware. If it comes and goes, suspect the host.",
    ),
    about(
        ExchangeSignature,
        "The signature over the measurements must verify with the leaf key of the certificate chain.",
        "Who signed does not own the certificate that is shown: a genuine chain beside another device, or changed measurements.",
        "Do not trust the device. Check that the host shows the chain of the slot that is measured (certificate slot); no field of the policy allows it.",
    ),
    about(
        ExchangeTranscript,
        "The signature must cover this negotiation and this exchange, as SPDM 1.2 and 1.3 construct it.",
        "The leaf key signed something, but not what is shown: a record of another session was put in.",
        "Do not trust the host. If it is so with each device of a kind, its firmware may sign wrongly: ask the maker.",
    ),
    about(
        SessionKey,
        "The public key that the RMM's session was made with must be that of the leaf certificate.",
        "The host gave the RMM a key of its own: it can speak in the session beside a genuine chain.",
        "Do not trust the host; no field of the policy allows it.",
    ),
    about(
        RequesterNonce,
        "The SPDM request must hold the nonce that the firmware chose, so that the answer is new.",
        "Either this RMM never forwards the nonce, or the answer is an old one.",
        "If the RMM is known not to forward it (TF-RMM), set rmm.forwards-nonce = false: freshness rests on the RMM's own nonces then. Otherwise do not trust the host.",
    ),
    about(
        Unsigned,
        "A rule with evidence = \"signed\" needs measurements with a signature.",
        "The RMM asked for none, or the device cannot sign: nothing ties measurements, chain and session together.",
        "Use an RMM and a device that sign. evidence = \"unauthenticated\" takes it as it is, but never with mode run.",
    ),
    about(
        EvidenceKind,
        "The evidence must be of the class that the rule's `evidence` names.",
        "A device that should sign shows nothing, or one that should show nothing speaks SPDM: it is not what the rule was written for.",
        "Look whether the slot holds the right device. Change `evidence` to \"platform\" only for a device whose trust comes from the platform's token.",
    ),
    about(
        ContentChanged,
        "The response says whether measured content changed while it was measured.",
        "Firmware or configuration of the device changed in that moment: what was signed may be gone.",
        "Start again when no update of the device runs. If it comes back, its firmware is at fault.",
    ),
    about(
        MeasurementAbsent,
        "Each [[rule.measurement]] needs a block of its `index`.",
        "The device does not report what the rule has a reference for: other firmware, or another kind of device.",
        "See with an audit boot which blocks it reports, and correct `index`, or take the table away.",
    ),
    about(
        MeasurementMismatch,
        "The block must be one of the rule's `digests` or `values`.",
        "Something runs on the device, or is configured there, that the policy does not know: an update, a changed setting, or an attack.",
        "See with an audit boot what the value is, and compare it with what the maker publishes. If it is there, add it to `digests` or `values` and raise `svn` when you take the old one away; if not, do not use the device.",
    ),
    about(
        SvnTooLow,
        "The security version of the block must be at least the rule's `min-svn`.",
        "The device runs old firmware, with faults that the maker has mended since.",
        "Update the device's firmware. Lower `min-svn` only if you know what those faults are.",
    ),
    about(
        DeviceMode,
        "A device that reports its mode must be in normal operation, with debug never opened.",
        "The device is being debugged, was since its last reset, is in another mode, or does not report one and the rule demands it.",
        "Close debug and reset the device. debug-allowed = true takes it with debug on; device-mode-required = false takes a device that does not report it.",
    ),
    about(
        MeasurementForm,
        "A block must have the `type` and the form (digest, raw value, security version of 8 bytes) that its reference is compared in.",
        "The block is something else than the reference is about, or another hash was negotiated.",
        "See the block with an audit boot, and correct `type`, the algorithm of `digests`, or use `values` for a raw block.",
    ),
    about(
        UnknownUnit,
        "A rule with `subject`, `leaf-key` or `serial` takes devices with that identity only.",
        "A genuine device of a known maker, but not one that a rule for this place names: another unit or model.",
        "If it was exchanged on purpose, put its leaf key (it is in the log) into `leaf-keys`, or widen `subject`. Otherwise find out who exchanged it.",
    ),
    about(
        UnitElsewhere,
        "A unit that a rule names by `leaf-key` or `serial` must stand where that rule matches.",
        "The right device is in the wrong place: cards or slots were exchanged, or the host shows it elsewhere.",
        "Put it back, or correct `slot` of the rule that is named.",
    ),
    about(
        SameUnit,
        "Each leaf key may be shown by one function.",
        "Two functions are one physical device: the host shows one device twice, or it has several functions.",
        "If it is one device with several functions (as virtual functions), set same-unit = true in the rules of all of them. Otherwise do not trust the host.",
    ),
    about(
        NoRoomInRule,
        "A rule takes `count` functions.",
        "More devices prove to be what the rule takes than it wants.",
        "Remove the device, raise `count`, or add a rule for it.",
    ),
    about(
        NoMode,
        "One of the rule's `modes` must be possible with this payload on this machine.",
        "Mode run is not: the bundle's gatehouse,os is unaware, the measurements are not signed, or the device does not stay locked when the payload enumerates.",
        "Add \"pin\" to `modes` for a payload that locks devices itself, or pack with --os half or native if the payload is that.",
    ),
    about(
        NotReleased,
        "A device that is not to run must be unlocked again, and quiet.",
        "Host or device did not take it back, so it could still hold keys or answer to the realm.",
        "Start again; if it comes back, look at the host. No field of the policy allows it.",
    ),
    about(
        SharedFailed,
        "A function of mode shared needs addresses for its BARs.",
        "The windows of the host bridge have no room, or a BAR or register did not take its value.",
        "Give the realm larger PCI windows, assign fewer devices, or set on-failure = \"hide\" in an optional rule.",
    ),
    about(
        AuditBoot,
        "The policy has audit = true.",
        "Everything was recorded, and nothing was accepted; no payload starts after an audit.",
        "Take the evidence out of the log with `gatehouse policy capture`, draft with `gatehouse policy init`, review, and pack the reviewed policy.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_text_of_its_own() {
        let ranges = [3002..=3006, 4040..=4064, 4100..=4156, 4900..=4900];
        let refusals =
            StopCode::ALL.iter().filter(|code| ranges.iter().any(|range| range.contains(&code.number())));
        let codes: Vec<_> = refusals.copied().collect();
        assert_eq!(ALL.iter().map(|advice| advice.code).collect::<Vec<_>>(), codes);
        for (index, advice) in ALL.iter().enumerate() {
            for text in [advice.checked, advice.means, advice.act] {
                assert!(text.len() > 25 && text.ends_with('.'), "{}: {text}", advice.code);
                assert!(
                    text.starts_with(|c: char| c.is_uppercase() || text.starts_with("evidence")),
                    "{text}"
                );
            }
            let others = ALL[..index].iter();
            assert!(others.clone().all(|other| other.means != advice.means), "{}", advice.code);
        }
    }

    /// What stands in back quotes or before an equals sign is a word of the policy or a command.
    #[test]
    fn the_fields_that_are_named_exist() {
        let document = include_str!("../../../../docs/policy.md");
        for advice in ALL {
            let text = [advice.checked, advice.means, advice.act].join(" ");
            let quoted = text.split('`').skip(1).step_by(2).filter(|word| !word.contains(' '));
            let set = text.split(" = ").filter_map(|before| before.rsplit([' ', '(']).next());
            let set = set.take(text.matches(" = ").count());
            for field in quoted.chain(set).filter(|word| !["rsa", "pci"].contains(word)) {
                let last = field.rsplit('.').next().unwrap();
                assert!(
                    document.contains(&format!("`{last}`")) || document.contains(&format!("`{field}`")),
                    "{field}"
                );
            }
        }
    }
}
