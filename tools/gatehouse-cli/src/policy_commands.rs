//! `gatehouse policy`.
use crate::{read, write};
use clap::Subcommand;
use gatehouse::policy::cbor;
use gatehouse_cli::policy::{capture, draft, evidence, explain, load, refused};
use std::error::Error;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Says whether a policy is well formed and free of contradictions.
    #[command(after_help = "Example:\n  gatehouse policy check policy.toml")]
    Check {
        /// Policy, TOML or compiled.
        file: PathBuf,
    },
    /// Compiles a policy for a bundle.
    #[command(after_help = "Example:\n  gatehouse policy compile policy.toml -o policy.cbor")]
    Compile {
        /// Policy in TOML.
        file: PathBuf,
        /// Compiled policy to write.
        #[arg(short, long)]
        out: PathBuf,
    },
    /// Says in sentences what a policy, one of its rules, a stop code or the refusals in a log mean.
    #[command(
        after_help = "Examples:\n  gatehouse policy explain policy.toml disk\n  gatehouse policy explain GH-4141\n  gatehouse policy explain --log console.log --policy policy.toml"
    )]
    Explain {
        /// Policy (TOML or compiled), or a stop code as GH-4012.
        #[arg(required_unless_present = "log")]
        what: Option<String>,
        /// Name of a rule.
        rule: Option<String>,
        /// Console log: explains each refusal in it, and the stop; `-` reads standard input.
        #[arg(long, conflicts_with = "what")]
        log: Option<PathBuf>,
        /// Policy of that boot, TOML or compiled: its rules are explained with the refusals.
        #[arg(long, requires = "log")]
        policy: Option<PathBuf>,
    },
    /// Drafts a policy for what an audit boot showed: for a person to review, not to use as it is.
    #[command(after_help = "Example:\n  gatehouse policy init --from-evidence evidence -o policy.toml")]
    Init {
        /// Folder that `capture` made.
        #[arg(long)]
        from_evidence: PathBuf,
        /// Policy to write, in TOML; left out: to the terminal.
        #[arg(short, long)]
        out: Option<PathBuf>,
    },
    /// Takes the evidence out of the console log of an audit boot.
    #[command(after_help = "Example:\n  gatehouse policy capture console.log evidence")]
    Capture {
        /// Console log.
        log: PathBuf,
        /// Folder to make.
        folder: PathBuf,
    },
}

pub fn run(command: PolicyCommand) -> Result<(), Box<dyn Error>> {
    match command {
        PolicyCommand::Check { file } => {
            let policy = load(&file)?;
            let audit = if policy.audit { ", audit: nothing will be accepted" } else { "" };
            let (anchors, rules) = (policy.anchors.len(), policy.rules.len());
            println!("{}: svn {}, anchors: {anchors}, rules: {rules}{audit}", file.display(), policy.svn);
            Ok(())
        }
        PolicyCommand::Compile { file, out } => write(&out, &cbor::encode(&load(&file)?)),
        PolicyCommand::Explain { what, rule, log, policy } => {
            let text = match log {
                Some(log) => explained_log(&log, policy.as_deref())?,
                None => explained(&what.unwrap_or_default(), rule.as_deref())?,
            };
            print!("{text}");
            Ok(())
        }
        PolicyCommand::Init { from_evidence, out } => {
            let text = draft::draft(&evidence::read(&from_evidence)?);
            match out {
                Some(out) => write(&out, text.as_bytes()),
                None => {
                    print!("{text}");
                    Ok(())
                }
            }
        }
        PolicyCommand::Capture { log, folder } => {
            let functions = capture::collect(&String::from_utf8_lossy(&read(&log)?))
                .map_err(|error| format!("{}: {error}", log.display()))?;
            capture::store(&functions, &folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            for slot in functions.keys() {
                println!("{}", folder.join(capture::folder_name(slot)).display());
            }
            Ok(())
        }
    }
}

fn explained(what: &str, rule: Option<&str>) -> Result<String, Box<dyn Error>> {
    if let (None, Some(text)) = (rule, explain::code(what)) {
        return Ok(text);
    }
    if what.starts_with("GH-") {
        return Err(format!("{what}: no such code").into());
    }
    let policy = load(Path::new(what))?;
    let Some(name) = rule else { return Ok(explain::policy(&policy)) };
    match policy.rules.iter().find(|rule| rule.name == name) {
        Some(rule) => Ok(explain::rule(rule)),
        None => Err(format!("{what}: no rule {name:?}").into()),
    }
}

fn explained_log(log: &Path, policy: Option<&Path>) -> Result<String, Box<dyn Error>> {
    let bytes = if log == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes)?;
        bytes
    } else {
        read(log)?
    };
    let policy = policy.map(load).transpose()?;
    let text = refused::log(&String::from_utf8_lossy(&bytes), policy.as_ref());
    text.ok_or_else(|| format!("{}: no refusal and no stop", log.display()).into())
}
