//! `gatehouse rim`.
use crate::{read, write};
use clap::Args;
use gatehouse::rsi::HashAlgorithm;
use gatehouse_cli::filetype::{self, describe};
use gatehouse_cli::inspect::{Image, InspectError};
use gatehouse_cli::rim::board::Board;
use gatehouse_cli::rim::corim::{NUM_REMS, reference_values};
use gatehouse_cli::rim::layout::{self, Files, LayoutError};
use gatehouse_cli::rim::options::Options;
use gatehouse_cli::rim::{Rules, hash_from_word};
use std::error::Error;
use std::path::{Path, PathBuf};

/// Behind the options in the help.
const EXAMPLE: &str = "\
Example:
  gatehouse rim --board boards/qemu-virt/board.toml --image gatehouse.img --dtb host.dtb
  gatehouse rim --board boards/fvp-kvmtool/board.toml --image gatehouse.img --dtb realm.dtb --ram-size 512M --corim rim.corim
  gatehouse rim --board boards/fvp-kvmtool/board.toml --image pinning.img --initrd bundle.itb --dtb realm.dtb --ram-size 512M

Numbers may be hexadecimal (0x...). docs/rim.md says what is measured, and how to find out why two values differ.";

/// Arguments of `gatehouse rim`.
#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub struct RimArgs {
    /// What VMM and RMM do: boards/NAME/board.toml.
    #[arg(long)]
    board: PathBuf,
    /// What the VMM loads: a packed image, or any arm64 Image.
    #[arg(long)]
    image: PathBuf,
    /// Device tree as the realm finds it.
    #[arg(long)]
    dtb: Option<PathBuf>,
    /// What the VMM loads as ramdisk: a bundle that the image pins; not the ramdisk in a bundle.
    #[arg(long)]
    initrd: Option<PathBuf>,
    /// The image is loaded as firmware (QEMU's -bios, kvmtool's --firmware), not as a kernel.
    #[arg(long)]
    firmware: bool,
    /// RAM of the realm in bytes, or with K, M or G behind the number.
    #[arg(long, value_parser = size)]
    ram_size: Option<u64>,
    /// Rule set of the RMM: r1 (RMM 1.0), r2 (TF-RMM since v0.9.0), r3 (RMM 2.0 beta as printed).
    #[arg(long, value_parser = rules)]
    rules: Option<Rules>,
    /// Hash of the realm: sha256, sha384 or sha512.
    #[arg(long, value_parser = hash)]
    hash: Option<HashAlgorithm>,
    /// Number of runnable RECs.
    #[arg(long)]
    recs: Option<u64>,
    /// The VMM leaves a log in memory (kvmtool's --measurement-log).
    #[arg(long)]
    log: bool,
    /// IPA width in bits, the unprotected half included.
    #[arg(long)]
    s2sz: Option<u8>,
    /// Flags of the parameters page, in place of the board's.
    #[arg(long, value_parser = number)]
    flags: Option<u64>,
    /// Adds the flag of device assignment.
    #[arg(long)]
    da: bool,
    /// Breakpoints minus one, as in the parameters page.
    #[arg(long)]
    num_bps: Option<u8>,
    /// Watchpoints minus one, as in the parameters page.
    #[arg(long)]
    num_wps: Option<u8>,
    /// SVE vector length in bits / 128 - 1, as in the parameters page.
    #[arg(long)]
    sve_vl: Option<u8>,
    /// PMU counters.
    #[arg(long)]
    pmu_ctrs: Option<u8>,
    /// Where the image lies, if not where the board's layout puts it.
    #[arg(long, value_parser = number)]
    image_address: Option<u64>,
    /// Where the ramdisk lies.
    #[arg(long, value_parser = number)]
    initrd_address: Option<u64>,
    /// Where the device tree lies.
    #[arg(long, value_parser = number)]
    dtb_address: Option<u64>,
    /// Writes reference values for a verifier: an unsigned CoRIM.
    #[arg(long)]
    corim: Option<PathBuf>,
    /// A REM for the CoRIM, as INDEX=HEX; may be repeated.
    #[arg(long, value_parser = rem, requires = "corim")]
    rem: Vec<(usize, Vec<u8>)>,
    /// Print the value after each step.
    #[arg(long, short)]
    verbose: bool,
    /// Print JSON, with the value after each step.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &RimArgs) -> Result<(), Box<dyn Error>> {
    let board = board(&args.board)?;
    let files = files(args)?;
    let plan = layout::plan(&board, &files, &options(args)).map_err(|error| match error {
        LayoutError::NotAnImage => format!("{}: {error}", args.image.display()),
        LayoutError::NoRamSize => format!("{error}: --ram-size"),
        LayoutError::NoTree => format!("{error}: --dtb"),
        LayoutError::WidthUnknown(_) => format!("{error}: --s2sz"),
        error => error.to_string(),
    })?;
    let prediction = plan.measure();
    if let Some(file) = &args.corim {
        let mut rems = [const { None }; NUM_REMS];
        for (index, rem) in &args.rem {
            let wanted = prediction.rim.as_bytes().len();
            if rem.len() != wanted {
                return Err(format!("REM {index}: {} bytes, this hash has {wanted}", rem.len()).into());
            }
            let slot: &mut Option<Vec<u8>> = rems.get_mut(*index).ok_or("no such REM")?;
            if slot.replace(rem.clone()).is_some() {
                return Err(format!("REM {index} is given twice").into());
            }
        }
        write(file, &reference_values(prediction.rim.as_bytes(), &rems, prediction.hash))?;
    }
    if args.json {
        println!("{:#}", prediction.to_json());
    } else {
        print!("{}", prediction.describe(args.verbose));
    }
    Ok(())
}

fn board(file: &Path) -> Result<Board, Box<dyn Error>> {
    let name = file.display();
    let text = String::from_utf8(read(file)?)
        .map_err(|error| format!("{name}: this is {}, not a board", describe(error.as_bytes())))?;
    Board::parse(&text).map_err(|error| match describe(text.as_bytes()) {
        filetype::UNKNOWN => format!("{name}: {error}").into(),
        kind => format!("{name}: this is {kind}, not a board").into(),
    })
}

/// Reads the files; what is certainly something else is refused, what is not known is taken.
fn files(args: &RimArgs) -> Result<Files, Box<dyn Error>> {
    let image = read(&args.image)?;
    if !args.firmware {
        let kinds = [filetype::GATEHOUSE_IMAGE, filetype::ARM64_IMAGE];
        wanted(&args.image, &image, &kinds, filetype::ARM64_IMAGE)?;
    }
    let tree = args.dtb.as_deref().map(read).transpose()?;
    if let (Some(file), Some(tree)) = (&args.dtb, &tree) {
        wanted(file, tree, &[filetype::DEVICE_TREE, filetype::UNKNOWN], filetype::DEVICE_TREE)?;
    }
    let initrd = args.initrd.as_deref().map(read).transpose()?;
    if let (Some(file), Some(initrd)) = (&args.initrd, &initrd) {
        // An image that pins a bundle takes no other, and any ramdisk goes with an image that does not.
        let pins = matches!(Image::with_bundle(&image, None), Err(InspectError::Beside { .. }));
        let kinds = [filetype::GZIP, filetype::UNKNOWN, filetype::DEVICE_TREE];
        wanted(file, initrd, if pins { &kinds } else { &kinds[..2] }, "a ramdisk")?;
        let read = Image::with_bundle(&image, Some(initrd));
        if let Err(error @ (InspectError::Length { .. } | InspectError::Bundle(_))) = read {
            return Err(format!("{}: {error}", file.display()).into());
        }
    }
    Ok(Files { image, initrd, tree })
}

fn wanted(file: &Path, bytes: &[u8], kinds: &[&str], name: &str) -> Result<(), Box<dyn Error>> {
    match describe(bytes) {
        kind if kinds.contains(&kind) => Ok(()),
        kind => Err(format!("{}: this is {kind}, not {name}", file.display()).into()),
    }
}

fn options(args: &RimArgs) -> Options {
    Options {
        rules: args.rules,
        hash: args.hash,
        ram_size: args.ram_size,
        s2sz: args.s2sz,
        flags: args.flags,
        da: args.da,
        num_bps: args.num_bps,
        num_wps: args.num_wps,
        sve_vl: args.sve_vl,
        pmu_ctrs: args.pmu_ctrs,
        recs: args.recs,
        image_address: args.image_address,
        initrd_address: args.initrd_address,
        tree_address: args.dtb_address,
        firmware: args.firmware,
        log: args.log,
    }
}

fn rules(word: &str) -> Result<Rules, String> {
    Rules::from_word(word).ok_or_else(|| "r1, r2 or r3".into())
}

fn hash(word: &str) -> Result<HashAlgorithm, String> {
    hash_from_word(word).ok_or_else(|| "sha256, sha384 or sha512".into())
}

fn number(word: &str) -> Result<u64, String> {
    let parsed = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(&digits.replace('_', ""), 16),
        None => word.parse(),
    };
    parsed.map_err(|error| error.to_string())
}

fn size(word: &str) -> Result<u64, String> {
    let shift = match word.chars().last() {
        Some('K') => 10,
        Some('M') => 20,
        Some('G') => 30,
        _ => return number(word),
    };
    let bytes = number(&word[..word.len() - 1])?.checked_mul(1 << shift);
    bytes.ok_or_else(|| "too large".into())
}

fn rem(word: &str) -> Result<(usize, Vec<u8>), String> {
    let (index, digits) = word.split_once('=').ok_or("INDEX=HEX")?;
    let index = index.parse().ok().filter(|index| *index < NUM_REMS).ok_or("the index is 0 to 3")?;
    let pairs: Vec<&[u8]> = digits.as_bytes().chunks(2).collect();
    let byte = |pair: &&[u8]| match pair {
        [high, low] => {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
        }
        _ => None,
    };
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    Ok((index, bytes.ok_or("not hexadecimal digits")?))
}
