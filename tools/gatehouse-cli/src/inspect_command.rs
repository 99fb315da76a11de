//! `gatehouse inspect`.
use crate::read;
use clap::Args;
use gatehouse_cli::show::{Beside, show};
use std::error::Error;
use std::path::PathBuf;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gatehouse inspect gatehouse.img\n  gatehouse inspect gatehouse.img --bundle bundle.itb\n  gatehouse inspect token.cbor --json\n  \
    gatehouse inspect measurements.bin --vca vca.bin --chain certificate.bin\n\n\
    Known are images, bundles, policies (TOML or compiled), event logs, evidence regions, tokens, interface reports, negotiation data, \
    measurements and certificate chains (DER, PEM, or as in an SPDM slot). What is verified is told from what is only claimed."
)]
pub struct InspectArgs {
    /// File; what it is is found by its content.
    file: PathBuf,
    /// Negotiation data of a measurement exchange.
    #[arg(long)]
    vca: Option<PathBuf>,
    /// Certificate chain whose leaf signed a measurement exchange.
    #[arg(long)]
    chain: Option<PathBuf>,
    /// Bundle that an image pins beside it.
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &InspectArgs) -> Result<(), Box<dyn Error>> {
    let bytes = read(&args.file)?;
    let vca = args.vca.as_deref().map(read).transpose()?;
    let chain = args.chain.as_deref().map(read).transpose()?;
    let bundle = args.bundle.as_deref().map(read).transpose()?;
    let beside = Beside { vca: vca.as_deref(), chain: chain.as_deref(), bundle: bundle.as_deref() };
    let shown =
        show(&args.file, &bytes, beside).map_err(|error| format!("{}: {error}", args.file.display()))?;
    if args.json {
        println!("{:#}", shown.to_json());
    } else {
        print!("{}", shown.to_text());
    }
    Ok(())
}
