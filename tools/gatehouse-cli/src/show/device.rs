//! Evidence of devices: evidence regions, certificate chains, negotiation data, measurements and interface reports.
//!
//! The objects are read by the firmware's own code.

use super::{Beside, Shown};
use crate::policy::toml::{print_serial, print_time};
use crate::region::{Collected, OBJECTS};
use crate::{hex, table};
use base64ct::{Base64, Encoding as _};
use gatehouse::abi::spdm;
use gatehouse::digest::Digest;
use gatehouse::evidence::{Block, Certificate, Chain, Exchange, InterfaceReport, Trust, Vca};
use gatehouse::policy::types::{Anchor, AnchorKey, Denied};
use gatehouse::rsi::HashAlgorithm;
use serde_json::{Value, json};

/// Hashes that the digest of an SPDM slot's root can be of.
const HASHES: [HashAlgorithm; 3] = [HashAlgorithm::Sha384, HashAlgorithm::Sha256, HashAlgorithm::Sha512];

pub fn region(region: &[Collected<'_>]) -> Shown {
    let mut rows: Vec<[String; 3]> = Vec::new();
    let mut verified = Vec::new();
    let mut claimed =
        vec!["that the RMM recorded these digests: gatehouse verify compares with the event log".to_owned()];
    for collected in region {
        let slot = &collected.session.slot;
        let mut row = |name: &str, value: String| rows.push([slot.clone(), name.into(), value]);
        let ids = &collected.ids;
        row("routing id", format!("{:#06x}", collected.routing_id));
        row(
            "ids",
            format!(
                "{:04x}:{:04x} {:04x}:{:04x} {:06x} {:02x}",
                ids.vendor, ids.device, ids.subsystem_vendor, ids.subsystem, ids.class, ids.revision
            ),
        );
        for bar in &collected.bars {
            let width = if bar.is_64_bit { "64-bit" } else { "32-bit" };
            let prefetchable = if bar.prefetchable { ", prefetchable" } else { "" };
            row(
                &format!("BAR {}", bar.number),
                format!("{:#x}+{:#x}, {width}{prefetchable}", bar.address, bar.size),
            );
        }
        if let Some(msix) = &collected.msix {
            let (table, pba) = (msix.table, msix.pba);
            row(
                "MSI-X",
                format!("table in BAR {} at {:#x}, PBA in BAR {} at {:#x}", table.0, table.1, pba.0, pba.1),
            );
        }
        let [lock, measurement, report] = collected.session.nonces;
        row("nonces", format!("{lock:#x} {measurement:#x} {report:#x}"));
        if let Some(why) = &collected.session.no_run {
            row("no run", why.clone());
        }
        let wrong = collected.wrong();
        for ((name, _), object) in OBJECTS.iter().zip(&collected.objects) {
            let verdict = if wrong.contains(name) { "NOT of its digest" } else { "of its digest" };
            row(name, format!("{} bytes, {verdict}", object.len()));
        }
        let [vca, chain, _, report] = collected.objects;
        if let Ok(vca) = Vca::parse(vca) {
            row("algorithms", vca.to_string());
            if let Ok(chain) = Chain::parse(chain, vca.hash) {
                row("subject", chain.leaf().subject.clone());
            }
        }
        if let Ok(report) = InterfaceReport::parse(report) {
            row("ranges", report.ranges.len().to_string());
        }
        match wrong.as_slice() {
            [] => verified.push(format!("{slot}: each object hashes to its digest")),
            wrong => claimed.push(format!("{slot}: {} NOT of their digests", wrong.join(", "))),
        }
    }
    let json = |collected: &Collected<'_>| {
        let digests: Vec<_> = collected.session.digests.iter().map(|digest| hex(digest)).collect();
        json!({
            "slot": collected.session.slot, "routing-id": collected.routing_id, "hash": collected.session.hash,
            "digests": digests, "nonces": collected.session.nonces, "no-run": collected.session.no_run,
            "lens": collected.objects.map(<[u8]>::len), "wrong": collected.wrong(),
        })
    };
    let json = region.iter().map(json).collect::<Value>();
    Shown { kind: "an evidence region", text: table::write(&rows), verified, claimed, json }
}

/// Returns the chain in DER or as in an SPDM slot; `None`: not certificates.
pub fn certificates(bytes: &[u8]) -> Option<Vec<u8>> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    if let Ok(text) = std::str::from_utf8(bytes)
        && text.contains(BEGIN)
    {
        let decode = |part: &str| {
            let body: String = part.split("-----END").next()?.split_whitespace().collect();
            Base64::decode_vec(&body).ok()
        };
        return text.split(BEGIN).skip(1).map(decode).collect::<Option<Vec<_>>>().map(|chain| chain.concat());
    }
    let len = bytes.first_chunk::<2>().map(|len| usize::from(u16::from_le_bytes(*len)));
    let is_slot = len == Some(bytes.len()) && bytes.get(2..4) == Some(&[0, 0]);
    (is_slot || bytes.starts_with(&[0x30, 0x82])).then(|| bytes.to_vec())
}

fn parse_chain(bytes: &[u8]) -> Result<Chain<'_>, String> {
    let mut parsed = HASHES.iter().map(|hash| Chain::parse(bytes, *hash));
    match parsed.find(Result::is_ok).unwrap_or_else(|| Chain::parse(bytes, HashAlgorithm::Sha384)) {
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("this begins as a certificate chain does: {error}")),
    }
}

pub fn chain(bytes: &[u8]) -> Result<Shown, String> {
    let chain = parse_chain(bytes)?;
    let head =
        ["subject", "serial", "from", "to", "key", "CA", "sha384 of the certificate", "sha384 of the key"];
    let sha384 = |bytes: &[u8]| Digest::of(HashAlgorithm::Sha384, &[bytes]);
    let row = |certificate: &Certificate<'_>| {
        [
            certificate.subject.clone(),
            print_serial(&certificate.serial),
            print_time(certificate.not_before),
            print_time(certificate.not_after),
            format!("{:?}", certificate.key.kind()),
            if certificate.is_ca { "yes" } else { "no" }.to_owned(),
            hex(sha384(certificate.der).as_bytes()),
            hex(sha384(certificate.key.spki()).as_bytes()),
        ]
    };
    let rows: Vec<_> = [head.map(str::to_owned)].into_iter().chain(chain.certificates().map(row)).collect();
    let first = chain.certificates().next().unwrap_or(chain.leaf());
    let anchor = Anchor { name: String::new(), key: AnchorKey::Certificate(sha384(first.der)) };
    let trust = Trust { anchors: &[anchor], denied: &Denied::default(), floor: None };
    let mut verified = vec!["each certificate is well formed and strong enough".to_owned()];
    let mut claimed = vec!["that the first certificate is to be trusted: a policy names anchors".to_owned()];
    match chain.verify(&trust) {
        Ok(_) => verified.push("each certificate is signed by the one above it, down to the leaf".to_owned()),
        Err(error) => claimed.push(format!("the chain does NOT verify: {error}")),
    }
    claimed.push("that a device owns the leaf's key: measurements that it signs show it".to_owned());
    let json = rows.iter().skip(1).map(|[subject, serial, from, to, key, ca, certificate, spki]| {
        json!({
            "subject": subject, "serial": serial, "from": from, "to": to, "key": key, "ca": ca,
            "certificate": format!("sha384:{certificate}"), "public-key": format!("sha384:{spki}"),
        })
    });
    Ok(Shown {
        kind: "a certificate chain",
        json: json.collect(),
        text: table::write(&rows),
        verified,
        claimed,
    })
}

/// Tells whether bytes begin with GET_VERSION.
pub fn is_vca(bytes: &[u8]) -> bool {
    bytes.starts_with(&[spdm::VERSION_1_0, spdm::GET_VERSION])
}

pub fn vca(bytes: &[u8]) -> Result<Shown, String> {
    let vca = Vca::parse(bytes).map_err(|error| error.to_string())?;
    Ok(Shown {
        kind: "negotiation data",
        text: vca.to_string(),
        verified: vec!["its form, and that nothing was selected that was not offered".into()],
        claimed: vec!["that a device negotiated so: the signature of measurements covers it".into()],
        json: json!({ "algorithms": vca.to_string() }),
    })
}

/// Tells whether bytes begin with GET_MEASUREMENTS.
pub fn is_measurements(bytes: &[u8]) -> bool {
    matches!(bytes, [spdm::VERSION_1_2 | spdm::VERSION_1_3, spdm::GET_MEASUREMENTS, ..])
}

pub fn measurements(bytes: &[u8], beside: Beside<'_>) -> Result<Shown, String> {
    let vca_bytes = beside
        .vca
        .ok_or("this is a measurement exchange: its negotiation data is needed to read it, --vca FILE")?;
    let vca = Vca::parse(vca_bytes).map_err(|error| format!("--vca: {error}"))?;
    let exchange = Exchange::parse(bytes, &vca).map_err(|error| error.to_string())?;
    let head = ["index", "type", "form", "value"].map(str::to_owned);
    let row = |block: &Block<'_>| {
        let kind = crate::policy::toml::words::word(crate::policy::toml::words::TYPES, &block.kind);
        let form = if block.is_raw { "raw" } else { "digest" };
        [
            block.index.to_string(),
            kind.map_or(block.kind.to_string(), str::to_owned),
            form.to_owned(),
            hex(block.value),
        ]
    };
    let rows: Vec<_> = [head].into_iter().chain(exchange.blocks.iter().map(row)).collect();
    let nonce = exchange.requester_nonce.map_or("none".to_owned(), |nonce| hex(&nonce));
    let text = format!("{vca}\nrequester nonce {nonce}\n{}", table::write(&rows));
    let mut verified = vec!["the form of request and response".to_owned()];
    let mut claimed = Vec::new();
    let chain = beside
        .chain
        .map(|bytes| certificates(bytes).ok_or("--chain: not a certificate chain"))
        .transpose()?;
    match chain {
        None => claimed.push("who measured this: --chain FILE verifies the signature".to_owned()),
        Some(bytes) => match exchange.verify(vca_bytes, &vca, &parse_chain(&bytes)?.leaf().key) {
            Ok(()) => {
                verified.push("the leaf key of the chain signed negotiation, request and response".to_owned())
            }
            Err(error) => claimed.push(format!("who measured this: {error}")),
        },
    }
    claimed.push("when it was measured: the nonce is in the log's session".to_owned());
    let json = rows.iter().skip(1).map(
        |[index, kind, form, value]| json!({ "index": index, "type": kind, "form": form, "value": value }),
    );
    let json = json!({ "nonce": nonce, "blocks": json.collect::<Vec<_>>() });
    Ok(Shown { kind: "a measurement exchange", json, text, verified, claimed })
}

/// Reads an interface report; `None`: it is none, or has no range, which nothing can be told from.
pub fn report(bytes: &[u8]) -> Option<Shown> {
    let report = InterfaceReport::parse(bytes).ok().filter(|report| !report.ranges.is_empty())?;
    let head = ["id", "address", "bytes", "attributes"].map(str::to_owned);
    let names = |names: Vec<&str>| if names.is_empty() { "-".to_owned() } else { names.join(", ") };
    let row = |range: &gatehouse::evidence::ReportedRange| {
        let attributes = names(range.attributes.iter_names().map(|(name, _)| name).collect());
        [format!("{:#x}", range.id), format!("{:#x}", range.base), format!("{:#x}", range.len), attributes]
    };
    let rows: Vec<_> = [head].into_iter().chain(report.ranges.iter().map(row)).collect();
    let flags = names(report.info.iter_names().map(|(name, _)| name).collect());
    let text = format!(
        "flags {flags}\nMSI-X control {:#06x}, {} bytes of the device's own\n{}",
        report.msix_control,
        report.vendor.len(),
        table::write(&rows)
    );
    let ranges = rows.iter().skip(1).map(|[id, address, bytes, attributes]| {
        json!({ "id": id, "address": address, "bytes": bytes, "attributes": attributes })
    });
    let json = json!({ "flags": flags, "ranges": ranges.collect::<Vec<_>>() });
    Some(Shown {
        kind: "an interface report",
        text,
        verified: vec!["its form".into()],
        claimed: vec!["all of it: the RMM vouches for its digest, which is in the log's session".into()],
        json,
    })
}
