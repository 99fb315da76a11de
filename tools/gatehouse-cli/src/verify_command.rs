//! `gatehouse verify`.
use clap::Args;
use gatehouse::digest::Digest;
use gatehouse::rsi::HashAlgorithm;
use gatehouse_cli::files::{self, HexBytes};
use gatehouse_cli::jwt::SigningKey;
use gatehouse_cli::rem::RemRule;
use gatehouse_cli::token::{Key, is_lifecycle_word};
use gatehouse_cli::verify::{EAR_TYPE, EarFacts, Inputs, MIN_NONCE, Reference, Report, verify};
use gatehouse_cli::{policy, region};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Longest challenge in bytes.
const MAX_CHALLENGE: usize = 64;

#[derive(Args)]
#[command(
    after_help = "Example:\n  gatehouse verify --token token.cbor --log event.log --evidence evidence.cbor \\\n      \
    --challenge 5f1c.. --platform-key cpak.pem --reference reference.json\n\n\
    One line for each check: ok, FAIL, or skip where nothing was given to compare with. The exit status is 0 only if nothing \
    fails. docs/verify.md says what each line proves.\n\n\
    The same with a signed attestation result:\n  gatehouse verify --token token.cbor --log event.log --challenge 5f1c.. \\\n      \
    --platform-key cpak.pem --reference reference.json --ear-key verifier.pem --ear result.jwt"
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
    /// Private key in PEM, on P-256 or P-384, that signs an EAT Attestation Result, whatever the outcome.
    #[arg(long)]
    ear_key: Option<PathBuf>,
    /// File for the attestation result. Left out: it goes to standard output, and the report to standard error.
    #[arg(long, requires = "ear_key")]
    ear: Option<PathBuf>,
    /// When the attestation result is made, in seconds since 1970, for output that can be reproduced. Left out: now.
    #[arg(long, requires = "ear_key")]
    ear_time: Option<u64>,
}

fn lifecycle(word: &str) -> Result<String, String> {
    if is_lifecycle_word(word) { Ok(word.to_owned()) } else { Err("no such lifecycle".into()) }
}

pub fn run(args: &VerifyArgs) -> Result<(), Box<dyn Error>> {
    let HexBytes(challenge) = &args.challenge;
    if challenge.len() > MAX_CHALLENGE {
        return Err(format!("--challenge: {} bytes, 64 at most", challenge.len()).into());
    }
    if args.ear_key.is_some() && challenge.len() < MIN_NONCE {
        return Err(format!(
            "--challenge: the nonce of an attestation result has {MIN_NONCE} bytes at least"
        )
        .into());
    }
    let ear_key = args.ear_key.as_deref().map(signing_key).transpose()?;
    let reference_file = files::read(&args.reference)?;
    let reference = Reference::parse(&reference_file).map_err(|error| {
        let is_like = reference_file.trim_ascii_start().starts_with(b"{");
        files::wrong(&args.reference, &reference_file, is_like, "reference values in JSON", &error)
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
    let inputs = Inputs {
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
    };
    let report = verify(&inputs);
    let shown = if args.json { format!("{:#}\n", report.to_json()) } else { report.to_text() };
    match (&ear_key, &args.ear) {
        (None, _) => print!("{shown}"),
        (Some(key), Some(path)) => {
            print!("{shown}");
            let ear = ear(args, key, &inputs, &report, &reference_file)?;
            fs::write(path, ear).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        (Some(key), None) => {
            eprint!("{shown}");
            println!("{}", ear(args, key, &inputs, &report, &reference_file)?);
        }
    }
    match report.failures().as_slice() {
        [] => Ok(()),
        failures => Err(format!("not verified: {}", failures.join(", ")).into()),
    }
}

fn signing_key(path: &Path) -> Result<SigningKey, Box<dyn Error>> {
    let bytes = files::read(path)?;
    let is_like = bytes.trim_ascii_start().starts_with(b"-----BEGIN ");
    SigningKey::from_pem(&String::from_utf8_lossy(&bytes))
        .map_err(|error| files::wrong(path, &bytes, is_like, "a private key in PEM", &error).into())
}

/// Makes the signed attestation result.
fn ear(
    args: &VerifyArgs,
    key: &SigningKey,
    inputs: &Inputs<'_>,
    report: &Report,
    reference: &[u8],
) -> Result<String, Box<dyn Error>> {
    let issued_at = match args.ear_time {
        Some(seconds) => seconds,
        None => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs(),
    };
    let policy_id = Digest::of(HashAlgorithm::Sha256, &[reference]).to_string();
    let claims = report.to_ear(inputs, &EarFacts { issued_at, policy_id });
    Ok(key.jwt(EAR_TYPE, &claims)?)
}
