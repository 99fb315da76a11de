//! One run from the request to the judgement: pack, prepare the folder, boot, judge.

use crate::artifacts::{Artifacts, say};
use crate::board::{self, Board};
use crate::console::Console;
use crate::expected::Speaker;
use crate::image::{Beside, Contents, pack};
use crate::json::Word;
use crate::judge::{Ending, Judgement, Known, PayloadKind, judge};
use crate::kernel_format::KernelFormat;
use crate::machine::Machine;
use crate::story::Story;
use crate::stublog::{StubLog, Tail};
use crate::tools::Tools;
use crate::topology;
use crate::verifier::Exchange;
use crate::{Fault, disk, gdb, qemu, recs, rundir, scenario, streams};
use gatehouse_cli::pack::Packed;
use rmm_model::Scenario;
use rmm_model::scenario::{DeviceModel, DeviceSpec};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Word of the kernel's command line that keeps the ramdisk from loading the OS half.
pub const NO_MODULE: &str = "gatehouse.nomodule";
/// The device tree as the realm finds it, in the folder of the run.
const TREE_FILE: &str = "host.dtb";
/// Checks that mean nothing where no SMMU stands between devices and memory.
const SMMU_CHECKS: [&str; 5] =
    ["dma-private-only", "dma-off", "device-fault-seen", "dma-alias-fault", "smmu-tables"];

/// What to run.
#[derive(Clone, Debug)]
pub struct Request {
    /// The payload.
    pub payload: PayloadKind,
    /// The scenario.
    pub scenario: PathBuf,
    /// More words for the payload's command line.
    pub append: String,
    /// Most time for QEMU; a default by payload if none.
    pub timeout: Option<Duration>,
    /// Run without SMMU or with the demo payload where this machine cannot do better.
    pub allow_fallback: bool,
    /// Name of the board.
    pub board: String,
    /// Wait for a debugger on this TCP port, and for the end of the run without a limit.
    pub gdb: Option<u16>,
    /// What the payload is packed as.
    pub format: KernelFormat,
}

impl Request {
    /// Asks for a scenario of the repository, by name.
    #[must_use]
    pub fn new(tools: &Tools, payload: PayloadKind, scenario: &str) -> Request {
        let scenario = tools.root.join("tests/data/scenarios").join(scenario).with_extension("toml");
        Request {
            payload,
            scenario,
            append: String::new(),
            timeout: None,
            allow_fallback: false,
            board: board::DEFAULT.to_owned(),
            gdb: None,
            format: KernelFormat::Plain,
        }
    }
}

/// What is left of a run.
#[derive(Debug)]
pub struct Ran {
    /// The folder.
    pub dir: PathBuf,
    /// The file of the scenario.
    pub scenario: PathBuf,
    /// The judgement.
    pub judgement: Judgement,
    /// The stub's log.
    pub log: StubLog,
    /// How long QEMU ran.
    pub elapsed: Duration,
    /// How much processor time it had.
    pub cpu: Duration,
}

/// Decides on fallbacks before anything is built: the payload, and whether there is an SMMU.
///
/// # Errors
/// [`Fault::NotPossible`].
pub fn possible(tools: &Tools, request: &Request) -> Result<(PayloadKind, bool), Fault> {
    tools.need_qemu()?;
    let mut payload = request.payload;
    if let (PayloadKind::Linux, Err(fault)) = (payload, tools.need_kernel()) {
        fall_back(request, fault, "the demo payload instead of Linux")?;
        payload = PayloadKind::Demo;
    }
    let mut has_smmu = true;
    if let Err(fault) = tools.need_smmu_stage_2() {
        fall_back(request, fault, "no SMMU: nothing gates DMA")?;
        has_smmu = false;
    }
    Ok((payload, has_smmu))
}

fn fall_back(request: &Request, fault: Fault, to: &str) -> Result<(), Fault> {
    if !request.allow_fallback {
        return Err(fault);
    }
    eprintln!("run: {fault}; fallback: {to}");
    Ok(())
}

/// Packs and runs.
///
/// # Errors
/// [`Fault`]: there is no judgement.
pub fn run(tools: &Tools, artifacts: &Artifacts, request: &Request, story: &mut Story) -> Result<Ran, Fault> {
    run_scenario(tools, artifacts, request, &scenario::load(&request.scenario)?, story)
}

/// As [`run`], with a scenario that need not be in a file.
///
/// # Errors
/// As [`run`].
pub fn run_scenario(
    tools: &Tools,
    artifacts: &Artifacts,
    request: &Request,
    scenario: &Scenario,
    story: &mut Story,
) -> Result<Ran, Fault> {
    let (payload, has_smmu) = possible(tools, request)?;
    let request = Request { payload, ..request.clone() };
    let board = Board::load(&tools.root, &request.board)?;
    let nonce = disk::nonce()?;
    let contents = Contents {
        payload,
        format: request.format,
        scenario,
        folder: request.scenario.parent().unwrap_or(Path::new("")),
        nonce: &nonce,
        console: &board.launch.linux_console,
        append: &request.append,
    };
    let packed = pack(tools, artifacts, &contents)?;
    let prepared =
        Prepared { tools, artifacts, board: &board, request: &request, packed: &packed, nonce: &nonce };
    match prepared.boot(scenario, has_smmu, story) {
        Err(fault @ Fault::NotPossible(_)) if has_smmu && request.allow_fallback => {
            fall_back(&request, fault, "no SMMU: nothing gates DMA")?;
            prepared.boot(scenario, false, story)
        }
        other => other,
    }
}

/// A run that ended, before anybody judged it.
#[derive(Debug)]
pub struct Booted {
    /// The folder.
    pub dir: PathBuf,
    /// The stub's log.
    pub log: StubLog,
    /// Console and times.
    pub finished: qemu::Finished,
    digests: Vec<(String, String)>,
    exchange: Option<Exchange>,
}

/// A packed image and what it was packed for; may be booted several times.
#[derive(Clone, Copy, Debug)]
pub struct Prepared<'a> {
    /// Tools.
    pub tools: &'a Tools,
    /// What was built.
    pub artifacts: &'a Artifacts,
    /// The board.
    pub board: &'a Board,
    /// What was asked for.
    pub request: &'a Request,
    /// The image.
    pub packed: &'a Packed,
    /// The nonce on its command line.
    pub nonce: &'a str,
}

impl Prepared<'_> {
    /// Boots the image in a new folder.
    ///
    /// # Errors
    /// [`Fault`]: there is no judgement.
    pub fn boot(&self, scenario: &Scenario, has_smmu: bool, story: &mut Story) -> Result<Ran, Fault> {
        let Booted { dir, log, finished, digests, exchange } = self.logged(scenario, has_smmu, story)?;
        let known = self.known(self.packed.firmware_len, digests);
        let mut judgement =
            judge(&log, &finished.console, scenario, &known).map_err(|fault| self.located(fault, &dir))?;
        judgement.report.results.push(streams::check(&log, scenario));
        judgement.report.results.extend(recs::check(&log, scenario));
        if let Some(exchange) = exchange.filter(|_| judgement.ending == Ending::HandedOff) {
            judgement.report.results.extend(exchange.end(&dir, &finished.console)?);
        }
        if !has_smmu {
            skip_smmu(&mut judgement, &finished.console);
        }
        story.end(&judgement, &log, finished.elapsed.as_secs_f64());
        Ok(Ran {
            dir,
            scenario: self.request.scenario.clone(),
            judgement,
            log,
            elapsed: finished.elapsed,
            cpu: finished.cpu,
        })
    }

    /// As [`Prepared::boot`], without a judgement: the stub's log is whole, and QEMU ended as the stub says.
    ///
    /// # Errors
    /// [`Fault`]: there is no such log.
    pub fn logged(&self, scenario: &Scenario, has_smmu: bool, story: &mut Story) -> Result<Booted, Fault> {
        let Prepared { tools, request, packed, .. } = *self;
        let dir = rundir::create(&tools.root)?;
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            fs::write(&path, bytes).map_err(Fault::file(&path)).map(|()| path)
        };
        let beside = scenario.vmm.bundle.as_ref().map(|spec| Beside::new(self.artifacts, packed, spec));
        let beside = beside.transpose()?;
        let (image_bytes, image_size) = match &beside {
            Some(beside) => (&beside.image_bytes, beside.image_size),
            None => (&packed.image_bytes, packed.image_size),
        };
        let image = write("gatehouse.img", image_bytes)?;
        let bundle = beside.as_ref().map(|beside| write("bundle.itb", &beside.bundle)).transpose()?;
        let image_len = image_bytes.len() as u64;
        let kernel = (packed.kernel.offset, packed.kernel.len);
        let blob = write("scenario.bin", &scenario::blob(scenario, image_len, kernel)?)?;
        let (mut disks, mut digests) = (Vec::new(), Vec::new());
        for (number, device) in scenario.device.iter().enumerate() {
            let path = topology::has_disk(device.model).then(|| dir.join(format!("disk{number}.img")));
            if let Some(path) = &path {
                digests.push((device.slot.clone(), disk::create(path, self.nonce)?));
            }
            disks.push(path);
        }
        let machine = Machine {
            board: self.board,
            tools,
            stub: &self.artifacts.stub,
            image: &image,
            image_size,
            bundle: bundle.as_deref().zip(scenario.vmm.bundle.as_ref().map(|spec| spec.address)),
            initrd: beside.and_then(|beside| beside.initrd),
            blob: &blob,
            scenario,
            disks: &disks,
            has_smmu,
            gdb: request.gdb,
        };
        let command = machine.command()?;
        // For whoever wants to run it again by hand, in that folder.
        write("command.txt", format!("{command:?}\n").as_bytes())?;

        if let Some(port) = request.gdb {
            let image = scenario.vmm.load_address.unwrap_or(self.board.image_address);
            eprintln!(
                "run: QEMU waits for a debugger; in another terminal:\n{}",
                gdb::command(self.artifacts, image, port)
            );
        }
        let exchange = if self.has_verifier(scenario) { Some(Exchange::begin(&dir)?) } else { None };
        let mut tail = Tail::new(&dir.join("stub-log.jsonl"));
        story.begin(&scenario.name, request.payload.word(), packed, scenario.config_records);
        let finished = qemu::run(command, &dir, self.timeout(scenario), &mut |line, console| {
            story.line(line, console, &mut tail);
        })
        .map_err(|fault| self.located(fault, &dir))?;
        let log = tail.finish().map_err(|fault| match fault {
            Fault::Run(text) => self.located(Fault::Run(text + &qemu::said(&dir)), &dir),
            other => other,
        })?;
        if let Some(tree) = log.start.device_tree() {
            write(TREE_FILE, &tree)?;
        }
        if finished.status != Some(log.end.exit.into()) {
            let text = format!("QEMU ended with {:?}, the stub with {}", finished.status, log.end.exit);
            return Err(self.located(Fault::Run(text + &qemu::said(&dir)), &dir));
        }
        Ok(Booted { dir, log, finished, digests, exchange })
    }

    /// The ramdisk with the OS half answers a verifier, where it finds a port for one.
    fn has_verifier(&self, scenario: &Scenario) -> bool {
        let is_port = |device: &DeviceSpec| device.model == DeviceModel::VirtioSerial;
        self.speaker() == Speaker::Linux && scenario.device.iter().any(is_port)
    }

    /// The ramdisk tests each device for a while.
    fn timeout(&self, scenario: &Scenario) -> Duration {
        if self.request.gdb.is_some() {
            return gdb::NO_LIMIT;
        }
        let default = match self.request.payload {
            PayloadKind::Linux => {
                let others = u64::try_from(scenario.device.len()).unwrap_or(0).saturating_sub(1);
                Duration::from_secs(180 + 60 * others)
            }
            PayloadKind::Demo => Duration::from_secs(60),
        };
        self.request.timeout.unwrap_or(default)
    }

    fn known(&self, image_bytes: u64, disks: Vec<(String, String)>) -> Known {
        let payload_version = match self.request.payload {
            PayloadKind::Linux => &*self.tools.kernel_version,
            PayloadKind::Demo => env!("CARGO_PKG_VERSION"),
        };
        let (payload_version, speaker) = (payload_version.to_owned(), self.speaker());
        Known { payload: self.request.payload, payload_version, speaker, disks, image_bytes }
    }

    fn speaker(&self) -> Speaker {
        let has_module = !self.request.append.split_whitespace().any(|word| word == NO_MODULE);
        match self.request.payload {
            PayloadKind::Linux if has_module => Speaker::Linux,
            PayloadKind::Linux => Speaker::LinuxNoModule,
            PayloadKind::Demo => Speaker::Demo,
        }
    }

    /// Names the folder in which the rest can be read.
    fn located(&self, fault: Fault, dir: &Path) -> Fault {
        match fault {
            Fault::Run(text) => {
                let dir = dir.strip_prefix(&self.tools.root).unwrap_or(dir);
                Fault::Run(format!("{text}\n(console, log and command line: {})", dir.display()))
            }
            other => other,
        }
    }
}

/// Skips what means nothing without an SMMU: nothing gates DMA then.
fn skip_smmu(judgement: &mut Judgement, console: &Console) {
    let report = &mut judgement.report;
    let means_nothing = |name: &str| SMMU_CHECKS.contains(&name.split('@').next().unwrap_or_default());
    for result in report.results.iter_mut().filter(|result| means_nothing(&result.name)) {
        result.result = Word::Skip;
        result.detail = "fallback: no SMMU stage 2".into();
    }
    let is_said = |name: &str| console.results.iter().any(|result| result.name == name);
    if report.payload.result == Word::Fail
        && !report.results.iter().any(|result| is_said(&result.name) && result.result == Word::Fail)
    {
        report.payload.result = Word::Pass;
    }
}

/// What `harness run` does.
///
/// # Errors
/// [`Fault`]: there is no judgement, and no JSON file.
pub fn command(request: &Request, json: Option<&Path>, quiet: bool, trace: bool) -> Result<u8, Fault> {
    // An old file must not be taken for this run's.
    if let Some(json) = json
        && json.exists()
    {
        fs::remove_file(json).map_err(Fault::file(json))?;
    }
    let tools = Tools::from_env();
    // A mistake in the scenario should not have to wait for a build.
    scenario::load(&request.scenario)?;
    Board::load(&tools.root, &request.board)?;
    let (payload, _) = possible(&tools, request)?;
    let artifacts = Artifacts::build(&tools, &[payload], quiet)?;
    say(quiet, "booting");
    let mut story = Story::new(Box::new(std::io::stdout()), quiet, trace);
    let ran = run(&tools, &artifacts, request, &mut story)?;
    if let Some(json) = json {
        let text = serde_json::to_string_pretty(&ran.judgement.report)
            .map_err(|error| Fault::Run(format!("JSON: {error}")))?;
        fs::write(json, text + "\n").map_err(Fault::file(json))?;
    }
    Ok(ran.judgement.exit_status())
}
