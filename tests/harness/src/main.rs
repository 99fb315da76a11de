//! The program behind scripts/run and scripts/test.

use clap::{Args, Parser, Subcommand, ValueEnum};
use harness::board;
use harness::judge::PayloadKind;
use harness::kernel_format::KernelFormat;
use harness::run::{self, Request};
use harness::sizes;
use harness::suite;
use harness::tools::Tools;
use harness::unsafe_sites;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Boots Gatehouse under QEMU and the stub RMM.
#[derive(Parser)]
#[command(name = "harness", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One run (scripts/run).
    Run(RunArgs),
    /// The size of the firmware (scripts/check).
    Sizes {
        /// The firmware's ELF file.
        elf: PathBuf,
        /// The file with the recorded size.
        #[arg(long)]
        record: PathBuf,
        /// Write the record anew.
        #[arg(long)]
        bless: bool,
    },
    /// Where unsafe code is (scripts/check).
    UnsafeSites {
        /// The file with the list.
        #[arg(long)]
        record: PathBuf,
        /// Write the list anew.
        #[arg(long)]
        bless: bool,
    },
    /// The QEMU tests (scripts/test).
    Test {
        /// Only tests whose sentence contains this.
        #[arg(long, default_value = "")]
        filter: String,
        /// How many at a time.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// Only the tests that take long, which are left out otherwise.
        #[arg(long)]
        deep: bool,
        /// Only print the sentences.
        #[arg(long)]
        list: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Payload {
    Linux,
    Demo,
}

#[derive(Args)]
struct RunArgs {
    #[arg(long, value_enum, default_value = "linux")]
    payload: Payload,
    #[arg(long)]
    scenario: Option<PathBuf>,
    #[arg(long)]
    json: Option<PathBuf>,
    #[arg(long)]
    trace: bool,
    #[arg(long)]
    timeout: Option<u64>,
    #[arg(long)]
    quiet: bool,
    #[arg(long)]
    allow_fallback: bool,
    #[arg(long, default_value = "")]
    append: String,
    #[arg(long, default_value = board::DEFAULT)]
    board: String,
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true, default_missing_value = "1234")]
    gdb: Option<u16>,
    #[arg(long, value_enum, default_value = "plain")]
    kernel_format: KernelFormat,
}

fn main() -> ExitCode {
    let tools = Tools::from_env();
    match Cli::parse().command {
        Command::Run(args) => {
            let payload = match args.payload {
                Payload::Linux => PayloadKind::Linux,
                Payload::Demo => PayloadKind::Demo,
            };
            let plain = Request::new(&tools, payload, "plain");
            let request = Request {
                scenario: args.scenario.unwrap_or(plain.scenario),
                append: args.append,
                timeout: args.timeout.map(Duration::from_secs),
                allow_fallback: args.allow_fallback,
                payload,
                board: args.board,
                gdb: args.gdb,
                format: args.kernel_format,
            };
            match run::command(&request, args.json.as_deref(), args.quiet, args.trace) {
                Ok(status) => ExitCode::from(status),
                Err(fault) => {
                    eprintln!("run: {fault}");
                    ExitCode::from(fault.exit_status())
                }
            }
        }
        Command::Sizes { elf, record, bless } => match sizes::command(&elf, &record, bless) {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => {
                eprintln!("check: {fault}");
                ExitCode::from(fault.exit_status())
            }
        },
        Command::UnsafeSites { record, bless } => match unsafe_sites::command(&tools.root, &record, bless) {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => {
                eprintln!("check: {fault}");
                ExitCode::from(fault.exit_status())
            }
        },
        Command::Test { list: true, filter, deep, .. } => {
            suite::list(&filter, deep);
            ExitCode::SUCCESS
        }
        Command::Test { filter, jobs, deep, .. } => suite::command(&tools, &filter, jobs, deep),
    }
}
