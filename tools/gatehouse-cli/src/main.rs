//! The `gatehouse` command.
mod inspect_command;
mod policy_commands;
mod replay_command;
mod rim_command;
mod verify_command;

use clap::{Args, Parser, Subcommand};
use gatehouse::abi::fit::OsKind;
use gatehouse::policy::cbor;
use gatehouse_cli::attach::{Attach, Attached, check_bundle};
use gatehouse_cli::pack::{Pack, PackError, Packed};
use gatehouse_cli::{elf, files, filetype, hex, policy};
use serde_json::json;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Makes and reads Gatehouse images: firmware, kernel, ramdisk and command line in one file.
#[derive(Parser)]
#[command(name = "gatehouse", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Appends a bundle to the firmware.
    Pack(PackArgs),
    /// Makes a flat image of the firmware's ELF file.
    #[command(after_help = "Example:\n  gatehouse flatten gatehouse-fw gatehouse-fw.bin")]
    Flatten {
        /// ELF file.
        elf: PathBuf,
        /// Flat image to write.
        out: PathBuf,
    },
    /// Says what a file is and what is in it: images, policies, logs, tokens and evidence.
    Inspect(inspect_command::InspectArgs),
    /// Recomputes the realm's measurements from an event log, and says what became of each device.
    Replay(Box<replay_command::ReplayArgs>),
    /// Predicts the realm initial measurement (RIM) of an image under a VMM.
    Rim(Box<rim_command::RimArgs>),
    /// Verifies a realm: token, event log and evidence against reference values.
    Verify(Box<verify_command::VerifyArgs>),
    /// Makes and explains policies.
    #[command(subcommand)]
    Policy(policy_commands::PolicyCommand),
}

/// What a new bundle is made of.
const PARTS: [&str; 7] = ["kernel", "ramdisk", "cmdline", "os", "policy", "overlay", "svn"];

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gatehouse pack --firmware gatehouse-fw --kernel Image --ramdisk initrd.img \\\n      \
    --cmdline 'console=ttyAMA0' --os half --policy policy.toml --out gatehouse.img\n\n\
    A bundle alone, then a firmware that pins it; the VMM loads both, the bundle as its initrd:\n  \
    gatehouse pack --kernel Image --os half --policy policy.toml --out bundle.itb\n  \
    gatehouse pack --firmware gatehouse-fw --pin bundle.itb --out gatehouse.img\n\n\
    A bundle that something else made, behind the firmware:\n  \
    mkimage -f bundle.its -E bundle.itb\n  \
    gatehouse pack --firmware gatehouse-fw --bundle bundle.itb --out gatehouse.img\n\n\
    The same inputs give the same bytes."
)]
struct PackArgs {
    /// Firmware, ELF or flat. Without it the bundle alone is written.
    #[arg(long)]
    firmware: Option<PathBuf>,
    /// Bundle that exists: a FIT, appended as it is. It is read with the firmware's code before it is taken.
    #[arg(long, requires = "firmware", conflicts_with_all = PARTS)]
    bundle: Option<PathBuf>,
    /// Bundle that exists and stays beside the image, where the VMM loads it as an initrd; the firmware takes no other.
    #[arg(long, requires = "firmware", conflicts_with = "bundle", conflicts_with_all = PARTS)]
    pin: Option<PathBuf>,
    /// Kernel: an arm64 Image, plain, as gzip file, or as EFI zboot image with gzip.
    #[arg(long, required_unless_present_any = ["bundle", "pin"])]
    kernel: Option<PathBuf>,
    /// Ramdisk.
    #[arg(long)]
    ramdisk: Option<PathBuf>,
    /// Kernel command line.
    #[arg(long, default_value = "")]
    cmdline: String,
    /// What the payload can do with attested devices: half, native or unaware.
    #[arg(long, default_value = "unaware", value_parser = os_kind)]
    os: OsKind,
    /// Device policy: TOML, or compiled by `gatehouse policy compile`. Without one the firmware stops at the first function
    /// that is not a bridge.
    #[arg(long)]
    policy: Option<PathBuf>,
    /// Device-tree overlay for the payload's tree: the output of `dtc` for a `/plugin/` source, with `target-path` alone.
    #[arg(long)]
    overlay: Option<PathBuf>,
    /// Security version number of the bundle: raise it when a later bundle takes something back.
    #[arg(long, default_value_t = 0)]
    svn: u32,
    /// Image file to write.
    #[arg(long)]
    out: PathBuf,
    /// Print what is where as JSON.
    #[arg(long)]
    json: bool,
}

fn os_kind(word: &str) -> Result<OsKind, String> {
    OsKind::from_word(word).ok_or_else(|| "half, native or unaware".into())
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gatehouse: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Pack(args) => pack(&args),
        Command::Flatten { elf: from, out } => {
            let file = read(&from)?;
            let flat = elf::flatten(&file).map_err(|error| {
                files::wrong(&from, &file, elf::is_elf(&file), "the firmware's ELF file", &error)
            })?;
            write(&out, &flat)
        }
        Command::Policy(command) => policy_commands::run(command),
        Command::Replay(args) => replay_command::run(*args),
        Command::Rim(args) => rim_command::run(&args),
        Command::Verify(args) => verify_command::run(&args),
        Command::Inspect(args) => inspect_command::run(&args),
    }
}

fn pack(args: &PackArgs) -> Result<(), Box<dyn Error>> {
    let pack = Pack {
        firmware: args.firmware.as_deref().map(read).transpose()?.unwrap_or_default(),
        kernel: args.kernel.as_deref().map(read).transpose()?.unwrap_or_default(),
        ramdisk: args.ramdisk.as_deref().map(read).transpose()?,
        cmdline: args.cmdline.clone(),
        os: args.os,
        svn: args.svn,
        overlay: args.overlay.as_deref().map(read).transpose()?,
        policy: args.policy.as_deref().map(policy::load).transpose()?.map(|policy| cbor::encode(&policy)),
    };
    let (bytes, json, text) = match (&args.firmware, args.bundle.as_ref().or(args.pin.as_ref())) {
        (None, _) => {
            let bundle = pack.bundle()?;
            let manifest = hex(&check_bundle(&bundle)?);
            let json = json!({ "bundle_len": bundle.len(), "manifest_sha256": manifest });
            let text = format!("{} bytes, a bundle alone\nmanifest sha256:{manifest}\n", bundle.len());
            (bundle, json, text)
        }
        (Some(firmware), None) => {
            let packed = pack.build().map_err(|error| not_firmware(firmware, &pack.firmware, error))?;
            let (json, text) = (packed.to_json(), summary(&packed));
            (packed.image_bytes, json, text)
        }
        (Some(firmware), Some(path)) => {
            let bundle = read(path)?;
            let attach = Attach { firmware: pack.firmware, bundle, pinned: args.pin.is_some() };
            let attached = attach.build().map_err(|error| match error {
                PackError::Bundle(error) => {
                    let is_fit = filetype::describe(&attach.bundle) == filetype::DEVICE_TREE;
                    files::wrong(path, &attach.bundle, is_fit, "a bundle", &error)
                }
                error => not_firmware(firmware, &attach.firmware, error),
            })?;
            let (json, text) = (attached.to_json(), attached_summary(&attached));
            (attached.image_bytes, json, text)
        }
    };
    write(&args.out, &bytes)?;
    if args.json {
        println!("{json:#}");
    } else {
        print!("{}: {text}", args.out.display());
    }
    Ok(())
}

/// Says what a file is that is no firmware.
fn not_firmware(path: &Path, file: &[u8], error: PackError) -> String {
    match error {
        PackError::NotFirmware => files::wrong(path, file, false, "the firmware, ELF or flat", &error),
        error => error.to_string(),
    }
}

fn summary(packed: &Packed) -> String {
    format!(
        "{} bytes, image_size {:#x}\nbundle at {:#x}, kernel at {:#x}\nkernel: {:?} of {} bytes, Image of {} bytes\n\
         manifest sha256:{}\n",
        packed.image_bytes.len(),
        packed.image_size,
        packed.bundle_offset,
        packed.kernel_offset,
        packed.kernel_format,
        packed.kernel.len,
        packed.kernel_image_len,
        hex(&packed.manifest_sha256)
    )
}

fn attached_summary(attached: &Attached) -> String {
    let place = attached.bundle_offset.map_or("beside the image".into(), |offset| format!("at {offset:#x}"));
    format!(
        "{} bytes, image_size {:#x}\nbundle {place}, {} bytes\nmanifest sha256:{}\n",
        attached.image_bytes.len(),
        attached.image_size,
        attached.bundle_len,
        hex(&attached.manifest_sha256)
    )
}

fn read(path: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()).into())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    fs::write(path, bytes).map_err(|e| format!("{}: {e}", path.display()).into())
}
