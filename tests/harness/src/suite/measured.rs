//! The RIM: predicted by the host tool from files, and computed by the stub from what it loaded. The two share no code.

use super::cases::{boots_scenario, need};
use super::{Bench, Case, done};
use crate::judge::PayloadKind::Demo;
use crate::reference::Premises;
use crate::run::{Ran, Request};
use crate::scenario;
use rmm_model::Scenario;
use rmm_model::digest::{HashAlgorithm, to_hex};
use rmm_model::rim::RimRules;
use std::fs;
use std::path::Path;

/// Rule set, its name, hash and RECs of a boot.
const BOOTS: [(RimRules, &str, HashAlgorithm, u8); 3] = [
    (RimRules::R1, "r1", HashAlgorithm::Sha256, 1),
    (RimRules::R2, "r2", HashAlgorithm::Sha384, 2),
    (RimRules::R3, "r3", HashAlgorithm::Sha512, 1),
];

pub(super) fn all() -> Vec<Case> {
    let case = |(rules, name, hash, recs)| {
        let sentence =
            format!("rules {name}: the RIM that gatehouse rim predicts is the one that the stub computed");
        Case::new(sentence, Demo, move |bench| is_predicted(bench, rules, hash, recs))
    };
    BOOTS.into_iter().map(case).collect()
}

fn is_predicted(bench: &Bench<'_>, rules: RimRules, hash: HashAlgorithm, recs: u8) -> Result<(), String> {
    let request = Request::new(bench.tools, Demo, "plain");
    let mut scenario = scenario::load(&request.scenario).map_err(|fault| fault.to_string())?;
    scenario.realm.rim_rules = rules;
    scenario.realm.hash = hash;
    scenario.vmm.recs = recs;
    let ran = boots_scenario(bench, &request, &scenario)?;
    let (image, tree) = (image_of(&ran.dir)?, tree_of(&ran)?);
    compare(bench, &ran, &scenario, &image, &tree)?;
    done(&ran);
    Ok(())
}

fn compare(
    bench: &Bench<'_>,
    ran: &Ran,
    scenario: &Scenario,
    image: &[u8],
    tree: &[u8],
) -> Result<(), String> {
    let (root, board) = (&bench.tools.root, crate::board::DEFAULT);
    let predict = |image: &[u8], tree: &[u8]| {
        let predicted = Premises { root, board, scenario, image, tree }.rim();
        predicted.map_err(|fault| fault.to_string())
    };
    let (rim, loaded) = (&ran.log.start.rim, &ran.log.start.loaded);
    let predicted = predict(image, tree)?;
    need(*rim == to_hex(predicted.rim.as_bytes()), || {
        format!("the stub has {rim} over {loaded:?}\n{}", predicted.describe(true))
    })?;
    for (what, image, tree) in
        [("image", &*with_last_byte_changed(image), tree), ("tree", image, &*with_last_byte_changed(tree))]
    {
        let other = to_hex(predict(image, tree)?.rim.as_bytes());
        need(other.len() == rim.len() && other != *rim, || format!("another {what}, the RIM is {other}"))?;
    }
    Ok(())
}

fn with_last_byte_changed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes
}

/// The image file of a run.
pub(super) fn image_of(dir: &Path) -> Result<Vec<u8>, String> {
    fs::read(dir.join("gatehouse.img")).map_err(|error| error.to_string())
}

/// The device tree that the stub made for a run.
pub(super) fn tree_of(ran: &Ran) -> Result<Vec<u8>, String> {
    ran.log.start.device_tree().ok_or_else(|| "the stub's log has no device tree".to_owned())
}
