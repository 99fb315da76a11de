//! The `gatehouse` command.
mod inspect_command;
mod policy_commands;
mod replay_command;
mod rim_command;
mod verify_command;

use clap::{Args, Parser, Subcommand};
use gatehouse::abi::fit::OsKind;
use gatehouse::policy::cbor;
use gatehouse_cli::pack::{Pack, PackError, Packed};
use gatehouse_cli::{elf, files, hex, policy};
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

#[derive(Args)]
#[command(
    after_help = "Example:\n  gatehouse pack --firmware gatehouse-fw --kernel Image --ramdisk initrd.img \\\n      \
    --cmdline 'console=ttyAMA0' --os half --policy policy.toml --out gatehouse.img"
)]
struct PackArgs {
    /// Firmware, ELF or flat.
    #[arg(long)]
    firmware: PathBuf,
    /// Kernel: an arm64 Image, plain, as gzip file, or as EFI zboot image with gzip.
    #[arg(long)]
    kernel: PathBuf,
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
    let packed = Pack {
        firmware: read(&args.firmware)?,
        kernel: read(&args.kernel)?,
        ramdisk: args.ramdisk.as_deref().map(read).transpose()?,
        cmdline: args.cmdline.clone(),
        os: args.os,
        svn: args.svn,
        policy: args.policy.as_deref().map(policy::load).transpose()?.map(|policy| cbor::encode(&policy)),
    }
    .build();
    let packed = match packed {
        Err(PackError::NotFirmware) => {
            let (path, file) = (&args.firmware, read(&args.firmware)?);
            let expected = "the firmware, ELF or flat";
            return Err(files::wrong(path, &file, false, expected, &PackError::NotFirmware).into());
        }
        packed => packed?,
    };
    write(&args.out, &packed.image_bytes)?;
    if args.json {
        println!("{:#}", packed.to_json());
    } else {
        summary(&args.out, &packed);
    }
    Ok(())
}

fn summary(out: &Path, packed: &Packed) {
    println!("{}: {} bytes, image_size {:#x}", out.display(), packed.image_bytes.len(), packed.image_size);
    println!("bundle at {:#x}, kernel at {:#x}", packed.bundle_offset, packed.kernel_offset);
    let (format, len) = (packed.kernel_format, packed.kernel.len);
    println!("kernel: {format:?} of {len} bytes, Image of {} bytes", packed.kernel_image_len);
    println!("manifest sha256:{}", hex(&packed.manifest_sha256));
}

fn read(path: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()).into())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    fs::write(path, bytes).map_err(|e| format!("{}: {e}", path.display()).into())
}
