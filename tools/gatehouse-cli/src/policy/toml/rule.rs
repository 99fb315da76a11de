//! Reads one rule.
use super::fields::{Table, Value};
use super::words::{self, Kind};
use super::{TomlError, serial};
use gatehouse::policy::types::{
    ClassMatch, EvidenceClass, Identity, Match, Measurements, Mode, OnFailure, PciMatch, Reference,
    ReferenceValue, ReportRules, Rule,
};

pub fn rule(mut table: Table<'_>) -> Result<Rule, TomlError> {
    let name = table.need("name")?.string()?.to_owned();
    let kind = table.take("kind").map_or(Ok(Kind::Device), |kind| kind.word(words::KINDS))?;
    let matches = matches(&mut table, kind)?;
    let identity = Identity {
        subject: table.take("subject").map(|value| value.string().map(str::to_owned)).transpose()?,
        leaf_keys: each(&table.take_both("leaf-key", "leaf-keys")?, Value::parse)?,
        serials: each(&table.take_both("serial", "serials")?, serial)?,
    };
    let required = flag(&mut table, "required", true)?;
    let count = table.take("count").map_or(Ok(1), |count| count.number_as(u32::MAX))?;
    let evidence =
        table.take("evidence").map_or(Ok(EvidenceClass::default()), |v| v.word(words::EVIDENCE))?;
    let default_mode = if kind == Kind::Device { Mode::Run } else { Mode::Shared };
    let modes = match table.take("modes") {
        None => vec![default_mode],
        Some(modes) => each(&modes.list()?, |mode| mode.word(words::MODES))?,
    };
    let locks = modes.iter().any(|mode| matches!(mode, Mode::Run | Mode::Pin));
    let measurements = measurements(&mut table, !locks || evidence == EvidenceClass::Platform)?;
    let device_mode_required = flag(&mut table, "device-mode-required", false)?;
    let debug_allowed = flag(&mut table, "debug-allowed", false)?;
    let report = report(&mut table)?;
    let quiet = table.take("quiet").map_or(Ok(Default::default()), |quiet| quiet.word(words::QUIET))?;
    let on_failure = match table.take("on-failure") {
        Some(value) => value.word(words::ON_FAILURE)?,
        None if required => OnFailure::Stop,
        None => OnFailure::Hide,
    };
    let same_unit = flag(&mut table, "same-unit", false)?;
    table.end()?;
    Ok(Rule {
        name,
        matches,
        identity,
        required,
        count,
        evidence,
        measurements,
        device_mode_required,
        debug_allowed,
        report,
        quiet,
        modes,
        on_failure,
        same_unit,
    })
}

fn each<'t, T>(
    values: &[Value<'t>],
    read: impl Fn(&Value<'t>) -> Result<T, TomlError>,
) -> Result<Vec<T>, TomlError> {
    values.iter().map(read).collect()
}

fn flag(table: &mut Table<'_>, name: &'static str, default: bool) -> Result<bool, TomlError> {
    table.take(name).map_or(Ok(default), |value| value.bool())
}

fn matches(table: &mut Table<'_>, kind: Kind) -> Result<Match, TomlError> {
    Ok(match kind {
        Kind::Device => Match::Device(pci(table)?),
        Kind::Bridge => Match::Bridge(pci(table)?),
        Kind::VirtioPci => {
            let of = virtio(table, u16::MAX.into())?;
            Match::VirtioPci(pci(table)?, of.and_then(|of| u16::try_from(of).ok()))
        }
        Kind::VirtioMmio => Match::VirtioMmio(virtio(table, u32::MAX)?),
        Kind::Platform => Match::Platform(table.need("compatible")?.string()?.to_owned()),
    })
}

fn virtio(table: &mut Table<'_>, most: u32) -> Result<Option<u32>, TomlError> {
    let read = |value: Value<'_>| {
        if value.is_string() { value.word(words::VIRTIO) } else { value.number_as(most) }
    };
    table.take("virtio").map(read).transpose()
}

fn pci(table: &mut Table<'_>) -> Result<PciMatch, TomlError> {
    let slots = each(&table.take_both("slot", "slots")?, Value::parse)?;
    let mut id = |name| table.take(name).map(|value| value.number_as(u16::MAX)).transpose();
    Ok(PciMatch {
        slots,
        vendor: id("vendor")?,
        device: id("device")?,
        subsystem_vendor: id("subsystem-vendor")?,
        subsystem: id("subsystem")?,
        class: table.take("class").map(|value| class(&value)).transpose()?,
    })
}

fn class(value: &Value<'_>) -> Result<ClassMatch, TomlError> {
    match *value.hex()?.as_slice() {
        [base] => Ok((base, 0, 0, 0xff_0000)),
        [base, sub] => Ok((base, sub, 0, 0xff_ff00)),
        [base, sub, interface] => Ok((base, sub, interface, 0xff_ffff)),
        _ => Err(value.wrong("two, four or six hexadecimal digits are needed")),
    }
    .map(|(base, sub, interface, mask)| ClassMatch {
        value: u32::from_be_bytes([0, base, sub, interface]),
        mask,
    })
}

/// Reads `measurements = "any"`, or the tables `measurement`. Nothing is said by saying nothing, but where nothing is
/// measured.
fn measurements(table: &mut Table<'_>, nothing: bool) -> Result<Measurements, TomlError> {
    match (table.take("measurements"), table.take("measurement")) {
        (Some(any), None) => any.word(&[("any", ())]).map(|()| Measurements::Any),
        (Some(any), Some(_)) => Err(any.wrong("there are tables [[rule.measurement]] as well")),
        (None, Some(tables)) => {
            let entries = tables.list()?.into_iter().map(|entry| reference(entry.table()?));
            Ok(Measurements::Listed(entries.collect::<Result<_, _>>()?))
        }
        (None, None) if nothing => Ok(Measurements::Any),
        (None, None) => {
            let what =
                "say what may run on the device: tables [[rule.measurement]], or measurements = \"any\"";
            Err(table.wrong("measurement", what))
        }
    }
}

fn reference(mut table: Table<'_>) -> Result<Reference, TomlError> {
    let index = table.need("index")?.number_as(u8::MAX)?;
    let kind = match table.take("type") {
        None => None,
        Some(kind) if kind.is_string() => Some(kind.word(words::TYPES)?),
        Some(kind) => Some(kind.number_as(0x7f_u8)?),
    };
    let digests = table.take("digests").map(Value::list).transpose()?;
    let values = table.take("values").map(Value::list).transpose()?;
    let value = match (digests, values, table.take("min-svn")) {
        (Some(digests), None, None) => ReferenceValue::Digests(each(&digests, Value::parse)?),
        (None, Some(values), None) => ReferenceValue::Values(each(&values, Value::hex)?),
        (None, None, Some(svn)) => ReferenceValue::MinSvn(svn.number(u64::MAX)?),
        _ => return Err(table.wrong("digests", "one of digests, values and min-svn is needed")),
    };
    table.end()?;
    Ok(Reference { index, kind, value })
}

fn report(table: &mut Table<'_>) -> Result<ReportRules, TomlError> {
    let mut rules = ReportRules::default();
    if let Some(report) = table.take("report") {
        let mut report = report.table()?;
        for (name, field) in words::REPORT {
            *field(&mut rules) = flag(&mut report, name, false)?;
        }
        report.end()?;
    }
    if let Some(quirks) = table.take("quirks") {
        for quirk in quirks.list()? {
            let word = quirk.string()?;
            let known = words::QUIRKS.iter().find(|(name, _)| *name == word);
            let (_, field) = known
                .ok_or_else(|| quirk.wrong(format!("{word:?} is none of {}", words::list(words::QUIRKS))))?;
            let field: &mut bool = field(&mut rules.quirks);
            if *field {
                return Err(quirk.wrong(format!("{word:?} stands twice")));
            }
            *field = true;
        }
    }
    Ok(rules)
}
