//! The raw evidence and the RMM's device token against the sessions in the log.

use super::{Inputs, Report};
use crate::eventlog::{Ids, Mode, SessionFacts};
use crate::region::Collected;
use crate::token::DeviceClaims;

pub fn run(inputs: &Inputs<'_>, report: &mut Report) {
    match inputs.evidence {
        None => report.skip("evidence", "no evidence region was given"),
        Some(region) => report.judge("evidence", region_fits(inputs, region)),
    }
    match inputs.token.device_claims() {
        Ok(None) => report.skip("device-digests", "the token has no device token"),
        Ok(Some(claims)) => report.judge("device-digests", claims_fit(inputs, &claims)),
        Err(error) => report.fail("device-digests", error.to_string()),
    }
}

fn region_fits(inputs: &Inputs<'_>, region: &[Collected<'_>]) -> Result<String, String> {
    let sessions: Vec<_> = inputs.log.sessions().collect();
    let slots = |slots: &[&str]| if slots.is_empty() { "none".to_owned() } else { slots.join(", ") };
    let logged: Vec<_> = sessions.iter().map(|session| session.slot.as_str()).collect();
    let there: Vec<_> = region.iter().map(|collected| collected.session.slot.as_str()).collect();
    if logged != there {
        return Err(format!(
            "the evidence region is not that of the log: it has {}, the log {}",
            slots(&there),
            slots(&logged)
        ));
    }
    for (collected, session) in region.iter().zip(&sessions) {
        let slot = &session.slot;
        let claimed = SessionFacts { vdev: session.vdev, ..collected.session.clone() };
        if claimed != **session {
            return Err(format!("the evidence region has other digests or nonces for {slot} than the log"));
        }
        if ids_of(inputs, slot) != Some(collected.ids) {
            return Err(format!("the evidence region has other ids for {slot} than the log"));
        }
        if let Some(object) = collected.wrong().first() {
            return Err(format!(
                "the evidence region: the {object} of {slot} does not hash to the digest of its session"
            ));
        }
    }
    Ok(format!("{} functions, each object hashes to the digest of its session", region.len()))
}

/// Returns the ids that the log has for a slot.
fn ids_of(inputs: &Inputs<'_>, slot: &str) -> Option<Ids> {
    inputs.log.devices().into_iter().find(|device| device.slot.as_deref() == Some(slot))?.ids
}

fn claims_fit(inputs: &Inputs<'_>, claims: &[DeviceClaims<'_>]) -> Result<String, String> {
    let is_of = |claims: &DeviceClaims<'_>, session: &SessionFacts| {
        let [vca, chain, _, measurements, _] = &session.digests;
        claims.identity == chain.as_slice()
            && claims.measurements == measurements.as_slice()
            && claims.vca.is_none_or(|claimed| claimed == vca.as_slice())
    };
    // What does not run was unlocked again: the payload may have locked it anew, or the host taken it away.
    let devices = inputs.log.devices();
    let runs = |slot: &str| {
        devices.iter().any(|device| device.mode == Mode::Run && device.slot.as_deref() == Some(slot))
    };
    let mut left: Vec<_> = claims.iter().collect();
    for session in inputs.log.sessions() {
        match left.iter().position(|claims| is_of(claims, session)) {
            Some(at) => drop(left.remove(at)),
            None if runs(&session.slot) => {
                return Err(format!("the device token has no device with the digests of {}", session.slot));
            }
            None => {}
        }
    }
    if !left.is_empty() {
        return Err(format!("the device token has {} devices that the log has no session of", left.len()));
    }
    Ok(format!("{} devices, as in the log's sessions", claims.len()))
}
