//! `gatehouse replay`.
use clap::Args;
use gatehouse_cli::eventlog::EventLog;
use gatehouse_cli::files::{self, HexBytes};
use gatehouse_cli::inspect::{Image, InspectError};
use gatehouse_cli::rem::RemRule;
use gatehouse_cli::replay::Replay;
use gatehouse_cli::{foresee, policy, region};
use std::error::Error;
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(after_help = "Examples:\n  gatehouse replay event.log\n  \
    gatehouse replay event.log --token token.cbor\n  \
    gatehouse replay event.log --rem-rule tf-rmm --rem1 8c1f.. --rem2 03aa.. --json\n  \
    gatehouse replay event.log --evidence evidence.cbor --policy other.toml\n  \
    gatehouse replay event.log --evidence evidence.cbor --image next.img --json\n  \
    gatehouse replay event.log --evidence evidence.cbor --image next.img --bundle next.itb\n\n\
    The exit status is 1 if a measurement is not the one that the log gives. The token's signatures are not checked here: \
    gatehouse verify does that.")]
pub struct ReplayArgs {
    /// Event log, as the firmware left it.
    log: PathBuf,
    /// How values are extended: tf-rmm or spec. Left out: the one that fits.
    #[arg(long)]
    rem_rule: Option<RemRule>,
    /// CCA attestation token of the realm.
    #[arg(long, conflicts_with_all = ["rem1", "rem2", "rem3", "rem4"])]
    token: Option<PathBuf>,
    /// REM 1 of the realm, in hexadecimal digits.
    #[arg(long)]
    rem1: Option<HexBytes>,
    /// REM 2.
    #[arg(long)]
    rem2: Option<HexBytes>,
    /// REM 3.
    #[arg(long)]
    rem3: Option<HexBytes>,
    /// REM 4.
    #[arg(long)]
    rem4: Option<HexBytes>,
    /// Foresee instead what a boot with this policy decides over the inventory of the log and the evidence.
    #[arg(long, requires = "evidence", conflicts_with_all = ["token", "rem1", "rem2", "rem3", "rem4"])]
    policy: Option<PathBuf>,
    /// Foresee a boot of this image: its policy, unless --policy gives another, and its bundle, for REM 3.
    #[arg(long, requires = "evidence", conflicts_with_all = ["token", "rem1", "rem2", "rem3", "rem4"])]
    image: Option<PathBuf>,
    /// Bundle that this image pins beside it.
    #[arg(long, requires = "image")]
    bundle: Option<PathBuf>,
    /// Evidence region of the recorded boot.
    #[arg(long)]
    evidence: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: ReplayArgs) -> Result<(), Box<dyn Error>> {
    let log = files::event_log(&args.log)?;
    if let Some(evidence) = args.evidence.as_ref().filter(|_| args.policy.is_some() || args.image.is_some()) {
        return foresee(&log, evidence, &args);
    }
    let known = match &args.token {
        Some(path) => {
            let bytes = files::read(path)?;
            files::token(path, &bytes)?.realm.rems.map(|rem| Some(rem.to_vec()))
        }
        None => [args.rem1, args.rem2, args.rem3, args.rem4].map(|rem| rem.map(|HexBytes(bytes)| bytes)),
    };
    let replay = Replay::new(&log, known, args.rem_rule);
    if args.json {
        println!("{:#}", replay.to_json());
    } else {
        print!("{}", replay.to_text());
    }
    replay.misfit().map_or(Ok(()), |misfit| Err(misfit.into()))
}

/// Foresees a boot under another policy, or of another image.
fn foresee(log: &EventLog, evidence: &Path, args: &ReplayArgs) -> Result<(), Box<dyn Error>> {
    let bytes = files::read(evidence)?;
    let collected = region::read(&bytes).map_err(|error| {
        files::wrong(evidence, &bytes, region::is_like(&bytes), "an evidence region of the firmware", &error)
    })?;
    let file = args.image.as_deref().map(files::read).transpose()?.unwrap_or_default();
    let beside = args.bundle.as_deref().map(files::read).transpose()?;
    let image = match &args.image {
        Some(path) => Some(Image::with_bundle(&file, beside.as_deref()).map_err(|error| {
            files::wrong(path, &file, error != InspectError::NotAnImage, "a Gatehouse image", &error)
        })?),
        None => None,
    };
    let rules = match (&args.policy, &image) {
        (Some(path), _) => policy::load(path)?,
        (None, Some(image)) => image.policy().transpose()?.unwrap_or_default(),
        (None, None) => return Err("--policy or --image is needed".into()),
    };
    let bundle = image.as_ref().map(Image::bundle_event).transpose()?;
    let foreseen = foresee::foresee(log, &collected, &rules, bundle)?;
    if args.json {
        println!("{:#}", foreseen.to_json());
    } else {
        print!("{}", foreseen.to_text());
    }
    Ok(())
}
