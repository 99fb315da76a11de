//! `gatehouse verify`.
use clap::Args;
use gatehouse_cli::files::{self, HexBytes};
use gatehouse_cli::rem::RemRule;
use gatehouse_cli::token::{Key, is_lifecycle_word};
use gatehouse_cli::verify::{Inputs, Reference, verify};
use gatehouse_cli::{policy, region};
use std::error::Error;
use std::path::PathBuf;

/// Longest challenge in bytes.
const MAX_CHALLENGE: usize = 64;

#[derive(Args)]
#[command(
    after_help = "Example:\n  gatehouse verify --token token.cbor --log event.log --evidence evidence.cbor \\\n      \
    --challenge 5f1c.. --platform-key cpak.pem --reference reference.json\n\n\
    One line for each check: ok, FAIL, or skip where nothing was given to compare with. The exit status is 0 only if nothing \
    fails. docs/verify.md says what each line proves."
)]
pub struct VerifyArgs {
    /// CCA attestation token.
    #[arg(long)]
    token: PathBuf,
    /// Event log.
    #[arg(long)]
    log: PathBuf,
    /// Evidence region.
    #[arg(long)]
    evidence: Option<PathBuf>,
    /// Challenge that was sent, in hexadecimal digits; zeros behind it may be left out.
    #[arg(long)]
    challenge: HexBytes,
    /// Public key of the platform in PEM (BEGIN PUBLIC KEY), besides those of the reference. Several can be given.
    #[arg(long)]
    platform_key: Vec<PathBuf>,
    /// Reference values in JSON.
    #[arg(long)]
    reference: PathBuf,
    /// Policy that the realm must have used, TOML or compiled, instead of the reference's.
    #[arg(long)]
    policy: Option<PathBuf>,
    /// Least security version of policy and bundle.
    #[arg(long)]
    min_svn: Option<u64>,
    /// Lifecycles that the platform may be in: unknown, assembly, provisioning, secured, debug, recoverable, decommissioned.
    #[arg(long, value_delimiter = ',', default_value = "secured", value_parser = lifecycle)]
    allow_lifecycle: Vec<String>,
    /// How the RMM extends values: tf-rmm or spec. Left out: the one that fits.
    #[arg(long)]
    rem_rule: Option<RemRule>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

fn lifecycle(word: &str) -> Result<String, String> {
    if is_lifecycle_word(word) { Ok(word.to_owned()) } else { Err("no such lifecycle".into()) }
}

pub fn run(args: &VerifyArgs) -> Result<(), Box<dyn Error>> {
    let HexBytes(challenge) = &args.challenge;
    if challenge.len() > MAX_CHALLENGE {
        return Err(format!("--challenge: {} bytes, 64 at most", challenge.len()).into());
    }
    let reference = files::read(&args.reference)?;
    let reference = Reference::parse(&reference).map_err(|error| {
        let is_like = reference.trim_ascii_start().starts_with(b"{");
        files::wrong(&args.reference, &reference, is_like, "reference values in JSON", &error)
    })?;
    let token = files::read(&args.token)?;
    let token = files::token(&args.token, &token)?;
    let log = files::event_log(&args.log)?;
    let evidence = args.evidence.as_ref().map(|path| files::read(path).map(|bytes| (path, bytes)));
    let evidence = evidence.transpose()?;
    let evidence = evidence.as_ref().map(|(path, bytes)| {
        let wrong = |error| files::wrong(path, bytes, region::is_like(bytes), "the evidence region", &error);
        region::read(bytes).map_err(wrong)
    });
    let evidence = evidence.transpose()?;
    let mut platform_keys = reference.platform_keys.clone();
    for path in &args.platform_key {
        let bytes = files::read(path)?;
        let key = Key::from_pem(&String::from_utf8_lossy(&bytes));
        let is_like = bytes.starts_with(b"-----BEGIN ");
        platform_keys
            .push(key.map_err(|error| files::wrong(path, &bytes, is_like, "a public key in PEM", &error))?);
    }
    let policy = args.policy.as_deref().map(policy::load).transpose()?;
    let report = verify(&Inputs {
        token: &token,
        log: &log,
        evidence: evidence.as_deref(),
        challenge,
        platform_keys: &platform_keys,
        reference: &reference,
        policy: policy.as_ref(),
        min_svn: args.min_svn,
        lifecycles: &args.allow_lifecycle,
        rem_rule: args.rem_rule,
    });
    if args.json {
        println!("{:#}", report.to_json());
    } else {
        print!("{}", report.to_text());
    }
    match report.failures().as_slice() {
        [] => Ok(()),
        failures => Err(format!("not verified: {}", failures.join(", ")).into()),
    }
}
