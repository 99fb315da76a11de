//! What a verifier expects of a run: predicted from files alone, by the functions of the host tool.
//!
//! Image, device tree, board and scenario say what the RMM will measure before the start. No measurement that the model or the
//! stub made goes in.
//!
//! Trust: files of the repository and of the run's folder.

use crate::board::Board;
use crate::{Fault, machine};
use gatehouse_cli::inspect::Image;
use gatehouse_cli::rim::board::Board as Measured;
use gatehouse_cli::rim::layout::{Files, plan};
use gatehouse_cli::rim::options::Options;
use gatehouse_cli::rim::plan::Prediction;
use gatehouse_cli::rim::{Rules, chain, hash_from_word};
use rmm_model::Scenario;
use rmm_model::digest::HashAlgorithm;
use rmm_model::rim::RimRules;
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
