//! What a verifier expects of a run: predicted from files alone, by the functions of the host tool.
//!
//! Image, device tree, board and scenario say what the RMM will measure before the start; log and evidence of a boot say which
//! devices there are. No measurement that the realm, the model or the stub made goes in.
//!
//! Trust: files of the repository and of the run's folder; log and evidence are what the realm claims.

use crate::board::Board;
use crate::{Fault, machine};
use gatehouse::boot::bundle::{Part, VerifiedPart};
use gatehouse::digest::Digest;
use gatehouse::eventlog::{BundleFacts, Event, bundle};
use gatehouse_cli::eventlog::EventLog;
use gatehouse_cli::foresee::foresee;
use gatehouse_cli::inspect::Image;
use gatehouse_cli::region::Collected;
use gatehouse_cli::rem::RemRule;
use gatehouse_cli::rim::board::Board as Measured;
use gatehouse_cli::rim::layout::{Files, plan};
use gatehouse_cli::rim::options::Options;
use gatehouse_cli::rim::plan::Prediction;
use gatehouse_cli::rim::{Rules, chain, hash_from_word};
use gatehouse_cli::verify::Reference;
use rmm_model::digest::HashAlgorithm;
use rmm_model::rim::RimRules;
use rmm_model::{Scenario, scenario};
use std::fmt::Display;
use std::fs;
use std::path::Path;

/// RAM comes in blocks of so many bytes.
const RAM_BLOCK: u64 = 2 << 20;

/// All that is known before a boot.
#[derive(Clone, Copy, Debug)]
pub struct Premises<'a> {
    /// The repository.
    pub root: &'a Path,
    /// Name of the board.
    pub board: &'a str,
    /// The scenario.
    pub scenario: &'a Scenario,
    /// The packed image file.
    pub image: &'a [u8],
    /// The device tree as the realm finds it.
    pub tree: &'a [u8],
}

impl Premises<'_> {
    /// Predicts the RIM as `gatehouse rim` does.
    ///
    /// # Errors
    /// [`Fault::Usage`] for a board that says nothing about it, [`Fault::Run`] for files that it could not load, [`Fault::File`].
    pub fn rim(&self) -> Result<Prediction, Fault> {
        let launched = Board::load(self.root, self.board)?;
        let path = self.root.join("boards").join(self.board).join("board.toml");
        let text = fs::read_to_string(&path).map_err(Fault::file(&path))?;
        let board =
            Measured::parse(&text).map_err(|error| Fault::Usage(format!("{}: {error}", path.display())))?;
        let (realm, vmm) = (&self.scenario.realm, &self.scenario.vmm);
        let image_size = self.bundled()?.header.image_size.get();
        let below = board.realm_ram_base.unwrap_or(board.ram_base).saturating_sub(board.ram_base);
        let most = machine::ram_bytes(&launched, self.scenario, image_size).saturating_sub(below);
        let options = Options {
            rules: Some(rules(realm.rim_rules)),
            hash: hash_from_word(hash_word(realm.hash)),
            ram_size: Some(vmm.ram_size.unwrap_or(most).min(most) / RAM_BLOCK * RAM_BLOCK),
            flags: Some(if realm.da { chain::flag::DA } else { 0 }),
            recs: Some(vmm.recs.max(1).into()),
            image_address: vmm.load_address,
            ..Options::default()
        };
        let files = Files { image: self.image.to_vec(), initrd: None, tree: Some(self.tree.to_vec()) };
        let plan = plan(&board, &files, &options);
        Ok(plan.map_err(|error| Fault::Run(format!("RIM: {error}")))?.measure())
    }

    /// Predicts what a token and a log must have: the RIM, what was booted, and REM 1 to 3 of a boot on this machine in which
    /// every step goes well. `log`, `evidence`: of a boot with these devices.
    ///
    /// # Errors
    /// As [`Premises::rim`], and [`Fault::Run`] where the image's policy would not come to a hand-off.
    pub fn reference(&self, log: &EventLog, evidence: &[Collected<'_>]) -> Result<Reference, Fault> {
        self.altered_reference(log, evidence, |_| {})
    }

    /// The same for a boot with other events than those foreseen: `alter` changes them.
    ///
    /// # Errors
    /// As [`Premises::reference`].
    pub fn altered_reference(
        &self,
        log: &EventLog,
        evidence: &[Collected<'_>],
        alter: impl FnOnce(&mut [Event]),
    ) -> Result<Reference, Fault> {
        let rim = self.rim()?;
        let image = self.bundled()?;
        let parts: Vec<&Part<'_>> = image.bundle.parts().collect();
        let wrong = |error: &dyn Display| Fault::Run(format!("image: {error}"));
        let cmdline = image.bundle.cmdline.clone().map(Part::verify).transpose();
        let cmdline = cmdline.map_err(|error| wrong(&error))?;
        let event = bundle(&BundleFacts {
            svn: image.bundle.svn,
            os: image.bundle.os,
            manifest: &image.slot.manifest_sha256,
            configuration: &image.bundle.configuration,
            parts: &parts,
            cmdline: cmdline.as_ref().map(VerifiedPart::command_line),
        });
        let policy =
            image.policy().ok_or_else(|| wrong(&"it has no policy"))?.map_err(|error| wrong(&error))?;
        let mut foreseen =
            foresee(log, evidence, &policy, Some(event)).map_err(|error| Fault::Run(error.to_string()))?;
        alter(&mut foreseen.events);
        let rule = match self.scenario.realm.rem {
            scenario::RemRule::TfRmm => RemRule::TfRmm,
            scenario::RemRule::Spec => RemRule::Spec,
        };
        let rems = foreseen.rems(rule).ok_or_else(|| {
            Fault::Run(format!("no hand-off: {:?}, without evidence: {:?}", foreseen.stop, foreseen.unknown))
        })?;
        Ok(Reference {
            hash: Some(rim.hash.name().to_owned()),
            rim: vec![rim.rim.as_bytes().to_vec()],
            rems: rems.map(|rem| vec![rem]),
            policy: image.bundle.policy.iter().map(|part| *part.digest()).collect(),
            bundle: Digest::from_bytes(&image.slot.manifest_sha256).into_iter().collect(),
            parts: parts.iter().map(|part| (part.role().word().to_owned(), vec![*part.digest()])).collect(),
            ..Reference::default()
        })
    }

    /// Reads the image.
    fn bundled(&self) -> Result<Image<'_>, Fault> {
        Image::read(self.image).map_err(|error| Fault::Run(format!("image: {error}")))
    }
}

fn rules(of: RimRules) -> Rules {
    match of {
        RimRules::R1 => Rules::R1,
        RimRules::R2 => Rules::R2,
        RimRules::R3 => Rules::R3,
    }
}

fn hash_word(of: HashAlgorithm) -> &'static str {
    match of {
        HashAlgorithm::Sha256 => "sha256",
        HashAlgorithm::Sha384 => "sha384",
        HashAlgorithm::Sha512 => "sha512",
    }
}
