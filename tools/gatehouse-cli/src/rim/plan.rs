//! What the RMM sees, in order, and the value after each step.
//!
//! Trust: what [`layout`](super::layout) made.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::Rules;
use super::chain::{Chain, GRANULE, Parameters, Rec};
use gatehouse::addr::{GRANULE_SIZE, IpaRange};
use gatehouse::digest::Digest;
use gatehouse::hex::Hex;
use gatehouse::rsi::HashAlgorithm;
use std::fmt::Write as _;

/// Everything that is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rule set of the RMM.
    pub rules: Rules,
    /// Hash of the realm.
    pub hash: HashAlgorithm,
    /// Parameters of the realm.
    pub parameters: Parameters,
    /// What the host does then.
    pub steps: Vec<Step>,
}

/// Something that the host does between creating and starting a realm.
#[derive(Clone, Debug)]
pub enum Step {
    /// Makes a range RAM.
    Ripas(IpaRange),
    /// Populates granules.
    Populate(Blob),
    /// Creates a runnable REC.
    Rec(Rec),
}

/// Bytes in the realm's memory.
#[derive(Clone, Debug)]
pub struct Blob {
    /// What it is, for people.
    pub name: &'static str,
    /// First byte; need not be aligned.
    pub address: u64,
    /// Content; what its granules have besides is zero.
    pub bytes: Vec<u8>,
    /// False: only the addresses of its granules are measured.
    pub measured: bool,
}

/// The value after one step.
#[derive(Clone, Debug)]
pub struct Stage {
    /// `parameters`, `ripas`, `rec`, or the name of a blob.
    pub name: &'static str,
    /// Addresses and values that went in.
    pub detail: String,
    /// The RIM then.
    pub value: Digest,
}

/// A predicted RIM.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// Rule set.
    pub rules: Rules,
    /// Hash.
    pub hash: HashAlgorithm,
    /// Values on the way; the last one is [`Prediction::rim`].
    pub stages: Vec<Stage>,
    /// The RIM; its length is that of the hash.
    pub rim: Digest,
}

impl Blob {
    /// Goes through its granules in ascending order.
    fn granules(&self) -> impl Iterator<Item = (u64, [u8; GRANULE])> {
        let lead = usize::try_from(self.address % GRANULE_SIZE).unwrap_or(0);
        let mut next = self.address & !(GRANULE_SIZE - 1);
        let (first, rest) = self.bytes.split_at(GRANULE.saturating_sub(lead).min(self.bytes.len()));
        std::iter::once((lead, first)).chain(rest.chunks(GRANULE).map(|chunk| (0, chunk))).map(
            move |(lead, chunk)| {
                let mut granule = [0; GRANULE];
                granule.iter_mut().skip(lead).zip(chunk).for_each(|(to, from)| *to = *from);
                let ipa = next;
                next = next.saturating_add(GRANULE_SIZE);
                (ipa, granule)
            },
        )
    }
}

impl Plan {
    /// Goes through all of it as the RMM would.
    #[must_use]
    pub fn measure(&self) -> Prediction {
        let mut chain = Chain::create(self.rules, self.hash, &self.parameters);
        let mut stages =
            vec![Stage { name: "parameters", detail: self.parameters.words(), value: chain.value() }];
        for step in &self.steps {
            let (name, detail) = match step {
                Step::Ripas(range) => match chain.ripas(*range) {
                    0 => continue,
                    num => ("ripas", format!("{range}, {num} blocks")),
                },
                Step::Populate(blob) => (blob.name, populate(&mut chain, blob)),
                Step::Rec(rec) => {
                    chain.rec(rec);
                    let x0 = rec.x.first().copied().unwrap_or_default();
                    ("rec", format!("pc {:#x}, x0 {x0:#x}", rec.pc))
                }
            };
            stages.push(Stage { name, detail, value: chain.value() });
        }
        Prediction { rules: self.rules, hash: self.hash, stages, rim: chain.value() }
    }
}

fn populate(chain: &mut Chain, blob: &Blob) -> String {
    let mut num = 0usize;
    for (ipa, granule) in blob.granules() {
        chain.data(ipa, blob.measured.then_some(&granule));
        num = num.saturating_add(1);
    }
    let unmeasured = if blob.measured { "" } else { ", not measured" };
    format!("{:#x}, {} bytes, granules: {num}{unmeasured}", blob.address, blob.bytes.len())
}

impl Parameters {
    fn words(&self) -> String {
        let Self { flags, s2sz, sve_vl, num_bps, num_wps, pmu_ctrs } = self;
        format!(
            "flags {flags:#x}, s2sz {s2sz}, sve_vl {sve_vl}, num_bps {num_bps}, num_wps {num_wps}, pmu_ctrs {pmu_ctrs}"
        )
    }
}

impl Prediction {
    /// Describes the prediction in lines of text; `stages`: with the values on the way.
    #[must_use]
    pub fn describe(&self, stages: bool) -> String {
        let mut text = String::new();
        for stage in self.stages.iter().filter(|_| stages) {
            let _ = writeln!(text, "{:<12} {}", stage.name, Hex(stage.value.as_bytes()));
            let _ = writeln!(text, "             {}", stage.detail);
        }
        let _ = writeln!(text, "{:<12} {}", "rules", self.rules);
        let _ = writeln!(text, "{:<12} {}", "hash", self.hash.name());
        let _ = writeln!(text, "{:<12} {}", "rim", Hex(self.rim.as_bytes()));
        text
    }

    /// Returns the prediction as JSON, with the values on the way.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let hex = |digest: &Digest| crate::hex(digest.as_bytes());
        let stage = |stage: &Stage| serde_json::json!({ "name": stage.name, "detail": stage.detail, "value": hex(&stage.value) });
        serde_json::json!({
            "rules": self.rules.word(),
            "hash": self.hash.name(),
            "rim": hex(&self.rim),
            "stages": self.stages.iter().map(stage).collect::<Vec<_>>(),
        })
    }
}
