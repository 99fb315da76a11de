//! The firmware on the developer's machine, whole: `phases::run` over RMM, host and devices of `rmm-model`.
//!
//! IPA = address of this process (arch::host). RAM of the realm is everything above [`RAM_BASE`], so that image, bundle,
//! heap and tree of a run lie in it wherever the allocator puts them; what the tests of QEMU show about places is left
//! to them.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod beside;
pub mod config;
pub mod contract;
pub mod fabric;
pub mod heap;
pub mod image;
pub mod log;
pub mod machine;
pub mod measured;
pub mod report;
pub mod script;
pub mod whole_tree;

use gatehouse::addr::IpaRange;
use gatehouse::arch::host::{HostMachine, HostPlatform, HostRam, RealmRam, ipa_width};
use gatehouse::boot::place::Room;
use gatehouse::codes::StopCode;
use gatehouse::phases::{self, BootInfo, Payload, Stop, StopReason};
use gatehouse::platform::AccessSize;
use gatehouse::tdi::{Leak, Rejected};
use image::Image;
use rmm_model::abi::rsi::RSI_VDEV_GET_INFO;
use rmm_model::final_state::{DeviceState, TdiState};
use rmm_model::machine::{DmaGate, Machine};
use rmm_model::record::Event;
use rmm_model::scenario::{DeviceSpec, Lie, Misbehaviour};
use rmm_model::sim::{IoFault, Ram, SimFunction, SimMachine, Transport};
use rmm_model::{Board, FinalState, Model, Next, Range, Scenario};

/// First byte of the realm's RAM: above every window, below every address of a process.
pub const RAM_BASE: u64 = 1 << 44;
/// Slot path of the device that the bundle asks for.
pub const SLOT: &str = "02.0";
/// Its id.
pub const VDEV: u64 = 0x10;
/// Where the first 64-bit BAR goes: the start of the high window.
pub const BAR: u64 = 0x80_0000_0000;

/// Where the tree has virtio-mmio transports, both in one page.
pub const TRANSPORTS: [u64; 2] = [0x0a00_0000, 0x0a00_0200];

/// Returns all RAM of the realm.
pub fn ram() -> Range {
    Range::new(RAM_BASE, ipa_width().alias_bit() - RAM_BASE)
}

/// Returns the board: the addresses of [`Board::sim`], with this process as RAM.
pub fn board() -> Board {
    let mut board = Board { ipa_width: ipa_width().bits(), ram: vec![ram()], ..Board::sim() };
    board.mmio.push(Range::new(TRANSPORTS[0], 0x1000));
    board
}

/// One NVMe and a host that keeps its word.
pub fn plain() -> Scenario {
    Scenario {
        device: vec![DeviceSpec { slot: SLOT.into(), ..DeviceSpec::default() }],
        ..Scenario::default()
    }
}

/// The plain scenario with lies.
pub fn lying(lies: &[Misbehaviour]) -> Scenario {
    Scenario { misbehaviour: lies.to_vec(), ..plain() }
}

/// The plain scenario with one lie at its first event.
pub fn once(lie: Lie) -> Scenario {
    lying(&[Misbehaviour::once(lie)])
}

/// RAM of the model: this process.
struct ProcessRam(HostRam);

impl Ram for ProcessRam {
    fn read(&mut self, ipa: u64, buf: &mut [u8]) {
        RealmRam::read(&mut self.0, ipa, buf);
    }

    fn write(&mut self, ipa: u64, data: &[u8]) {
        RealmRam::write(&mut self.0, ipa, data);
    }
}

/// Answers a load instead of the machine: IPA with the alias bit, and the model, to know how far the boot is.
pub type Tamper = fn(ipa: u64, model: &Model) -> Option<u64>;

/// Changes the record of a VDEV as the RMM answers it; the readings are counted from 1.
pub type Forge = fn(info: &mut [u8; 0x200], nth: u32);

/// RMM, host and devices behind [`HostMachine`].
pub struct Bench {
    pub model: Model,
    pub sim: SimMachine,
    /// Answers some loads.
    pub tamper: Option<Tamper>,
    /// Changes what GET_INFO answers: an RMM that breaks its rules.
    pub forge: Option<Forge>,
    records: u32,
}

impl Bench {
    /// Makes the machine of the scenario with these functions; the VMM has left all of them decoding and mastering.
    pub fn new(scenario: &Scenario, functions: Vec<SimFunction>) -> Self {
        let board = board();
        let ram = Box::new(ProcessRam(HostRam::new(ipa_width())));
        let mut sim = SimMachine::with(&board, ram, functions);
        sim.transports = TRANSPORTS.map(|base| Transport::new(base, 0)).to_vec();
        (0..=0xff).for_each(|rid| sim.config_write(rid, 4, 2, 0b111));
        let model = Model::new(scenario, &board, &mut sim).unwrap();
        Self { model, sim, tamper: None, forge: None, records: 0 }
    }
}

fn width(size: AccessSize) -> u8 {
    u8::try_from(size.bytes()).unwrap()
}

/// The ECAM address of a register, as the firmware reads it.
pub fn ecam(device: u64, register: u64) -> u64 {
    ipa_width().alias_bit() | (board().ecam.base + (device << 15) + register)
}

/// What the firmware's vectors would report: the test fails unless it expects the panic.
fn faulted<T>(result: Result<T, IoFault>, ipa: u64) -> T {
    result.unwrap_or_else(|fault| panic!("the realm takes {fault:?} at {ipa:#x}"))
}

impl HostMachine for Bench {
    fn smc(&mut self, regs: &mut [u64; 18], ram: &mut dyn RealmRam) {
        let [fid, _, buffer, ..] = *regs;
        let next = heap::outside(|| self.model.smc(regs, &mut self.sim));
        assert_eq!(next, Next::Resume, "the realm does not come back from an SMC");
        if let (RSI_VDEV_GET_INFO, 0, Some(forge)) = (fid, regs[0], self.forge) {
            let mut info = [0; 0x200];
            ram.read(buffer, &mut info);
            self.records += 1;
            forge(&mut info, self.records);
            ram.write(buffer, &info);
        }
    }

    fn io_read(&mut self, ipa: u64, size: AccessSize, _: &mut dyn RealmRam) -> u64 {
        let value = heap::outside(|| faulted(self.sim.io_read(&mut self.model, ipa, width(size)), ipa));
        self.tamper.and_then(|tamper| tamper(ipa, &self.model)).unwrap_or(value)
    }

    fn io_write(&mut self, ipa: u64, size: AccessSize, value: u64, _: &mut dyn RealmRam) {
        heap::outside(|| faulted(self.sim.io_write(&mut self.model, ipa, width(size), value), ipa));
    }
}

/// One boot to be run.
pub struct Boot<'a> {
    pub scenario: &'a Scenario,
    pub image: Image,
    pub functions: Vec<SimFunction>,
    /// What is behind the virtio-mmio nodes.
    pub transports: Vec<Transport>,
    pub tamper: Option<Tamper>,
    pub forge: Option<Forge>,
    /// RNDR is there.
    pub rndr: bool,
    /// The NVMe runs before the firmware does: CC.EN is set.
    pub armed: bool,
    /// A range that the machine takes for the firmware, besides what the boot says of itself.
    pub firmware: Option<IpaRange>,
    /// What the boot says is its own memory.
    pub own: IpaRange,
    /// Free memory behind the bundle.
    pub room: Room<'static>,
    /// Most bytes of heap, if the test has an allocator that asks [`heap`].
    pub heap: usize,
}

/// Returns the functions of [`SimMachine::new`].
pub fn functions() -> Vec<SimFunction> {
    vec![
        SimFunction::host_bridge(),
        SimFunction::virtio_net(0x01, 0),
        SimFunction::nvme(0x02, 0),
        SimFunction::edu(0x03, 0),
    ]
}

impl<'a> Boot<'a> {
    /// Boots the common image under `scenario`.
    pub fn new(scenario: &'a Scenario) -> Self {
        let own = IpaRange::new(ram().base, ram().len).unwrap();
        let image = Image::of(scenario);
        Self {
            scenario,
            image,
            functions: functions(),
            transports: TRANSPORTS.map(|base| Transport::new(base, 0)).to_vec(),
            tamper: None,
            forge: None,
            rndr: true,
            armed: false,
            firmware: None,
            own,
            room: Room::default(),
            heap: usize::MAX,
        }
    }

    /// Runs all phases.
    pub fn run(self) -> Ran {
        log::start();
        let mut bench = Bench::new(self.scenario, self.functions);
        (bench.tamper, bench.forge) = (self.tamper, self.forge);
        bench.sim.transports = self.transports;
        if self.armed {
            let bar = real_bar(&mut bench.sim);
            bench.sim.device_write(bar + 0x14, 4, 1);
        }
        let mut platform = HostPlatform::new(bench, ipa_width());
        if self.rndr {
            platform = platform.with_random(7);
        }
        if let Some(firmware) = self.firmware {
            platform = platform.with_firmware(firmware);
        }
        let bundle = self.image.source();
        let mut boot = BootInfo { own: self.own, tree_ipa: self.image.tree, bundle, room: self.room };
        let (result, peak) = heap::limited(self.heap, || phases::run(&mut platform, &mut boot));
        let mapped = platform.shared().to_vec();
        let Bench { model, sim, .. } = platform.machine;
        let num_lies = self.scenario.misbehaviour.len();
        Ran { result, state: model.final_state(), sim, model, mapped, log: log::take(), num_lies, peak }
    }
}

/// Boots the common image under `scenario`.
pub fn boot(scenario: &Scenario) -> Ran {
    Boot::new(scenario).run()
}

/// What a boot left.
pub struct Ran {
    pub result: Result<Payload, Stop>,
    pub state: FinalState,
    pub sim: SimMachine,
    pub model: Model,
    /// Shared windows that the platform still has mapped.
    pub mapped: Vec<IpaRange>,
    pub log: Vec<String>,
    /// Most bytes of heap that were held at a time, if they are counted.
    pub peak: usize,
    num_lies: usize,
}

impl Ran {
    pub fn device(&self) -> &DeviceState {
        self.state.device(SLOT).unwrap()
    }

    pub fn code(&self) -> Option<StopCode> {
        self.result.as_ref().err().map(|stop| stop.code)
    }

    /// The refusal that stopped the boot.
    pub fn rejected(&self) -> Option<&Rejected> {
        match &self.result {
            Err(Stop { reason, .. }) => match &**reason {
                StopReason::Rejected(rejected) => Some(rejected),
                _ => None,
            },
            _ => None,
        }
    }

    /// What the log calls leaked, without device and error.
    pub fn leaks(&self) -> Vec<&str> {
        let leaks = self.log.iter().filter_map(|line| line.split_once("leaked: ").map(|found| found.1));
        leaks.collect()
    }

    /// The calls of the run, `RSI_...` and `RHI_...`, with their status.
    pub fn calls(&self) -> Vec<(&str, &[u64], u64)> {
        let calls = self.sim.records.iter().filter_map(|record| match &record.event {
            Event::Rsi { call, args, status, .. } | Event::Rhi { call, args, status, .. } => {
                Some((call.as_ref(), args.as_slice(), *status))
            }
            _ => None,
        });
        calls.collect()
    }

    /// Demands a boot: the device runs with private DMA, everything else is as it must be.
    #[track_caller]
    pub fn boots(&self) -> &Payload {
        let payload = match &self.result {
            Ok(payload) => payload,
            Err(stop) => panic!("{stop}\n{}", self.log.join("\n")),
        };
        let device = self.device();
        assert_eq!((device.state, device.rmm_state), (TdiState::Run, Some(TdiState::Run)));
        assert_eq!(device.command, 0b110);
        assert!(!device.dev_ranges.is_empty() && device.tee_aliases.is_empty(), "{device:?}");
        assert_eq!(self.leaks(), [""; 0]);
        assert!(self.state.shared.is_empty() && self.mapped.is_empty(), "{:x?}", self.state.shared);
        self.is_sound();
        payload
    }

    /// Demands a stop with `code` that left nothing behind.
    #[track_caller]
    pub fn stops(&self, code: StopCode) {
        self.stops_with(code, &[]);
        assert!(self.state.shared.is_empty() && self.mapped.is_empty(), "{:x?}", self.state.shared);
        if let Some(device) = self.state.device(SLOT) {
            self.is_taken_back(device);
        }
    }

    #[track_caller]
    pub fn is_taken_back(&self, device: &DeviceState) {
        assert_eq!(device.dma, DmaGate::Abort);
        assert!(device.dev_ranges.is_empty(), "{:x?}", device.dev_ranges);
        assert_eq!((device.state, device.rmm_state), (TdiState::Unlocked, None), "{}", self.log.join("\n"));
        assert_eq!(device.command, 0, "MSE, BME");
        assert!(!device.operation_pending);
    }

    /// Demands a stop with `code` whose log names exactly these leaks, in this order; each is the start of a line.
    #[track_caller]
    pub fn stops_with(&self, code: StopCode, leaks: &[&str]) {
        let log = self.log.join("\n");
        match &self.result {
            Ok(_) => panic!("boots\n{log}"),
            Err(stop) => assert_eq!(stop.code, code, "{stop}\n{log}"),
        }
        let told = self.leaks();
        let same = told.len() == leaks.len() && told.iter().zip(leaks).all(|(a, b)| a.starts_with(b));
        assert!(same, "leaks {told:?}, not {leaks:?}\n{log}");
        if let Some(rejected) = self.rejected() {
            let named = rejected.leaks.iter().map(Leak::to_string);
            assert!(named.zip(&told).all(|(leak, line)| line.starts_with(&leak)), "{rejected:?}");
        }
        self.is_sound();
        assert!(self.device_gates().iter().all(|gate| *gate != DmaGate::PrivateOnly));
    }

    /// The invariants of every run; a lie that was not told proves nothing.
    #[track_caller]
    pub fn is_sound(&self) {
        assert_eq!(self.state.violations, Vec::<String>::new());
        assert!(self.state.lies.len() >= self.num_lies, "lies told: {:?}", self.state.lies);
    }

    fn device_gates(&self) -> Vec<DmaGate> {
        self.state.devices.iter().map(|device| device.dma).collect()
    }

    /// The VDEV info as the RMM has it now.
    pub fn info(&mut self) -> [u8; 0x200] {
        let mut info = [0; 0x200];
        let buffer = image::place(&[0; 4096], 4096);
        let mut regs = [0; 18];
        regs[..3].copy_from_slice(&[RSI_VDEV_GET_INFO, VDEV, buffer]);
        assert_eq!(self.model.smc(&mut regs, &mut self.sim), Next::Resume);
        assert_eq!(regs[0], 0);
        HostRam::new(ipa_width()).read(buffer, &mut info);
        info
    }

    /// A register of the real NVMe, as the device has it.
    pub fn nvme_register(&mut self, offset: u64) -> u64 {
        let bar = real_bar(&mut self.sim);
        self.sim.device_read(bar + offset, 4)
    }
}

/// The real BAR 0 of the NVMe.
fn real_bar(sim: &mut SimMachine) -> u64 {
    real_bar_of(sim, 0x10)
}

/// The real 64-bit BAR 0 of the function with this routing id.
pub fn real_bar_of(sim: &mut SimMachine, rid: u16) -> u64 {
    let low = u64::from(sim.config_read(rid, 0x10, 4) & !0xf);
    u64::from(sim.config_read(rid, 0x14, 4)) << 32 | low
}

/// Reads the device tree at an address of the realm.
pub fn tree_at(ipa: u64) -> Vec<u8> {
    let mut ram = HostRam::new(ipa_width());
    let mut header = [0; 8];
    ram.read(ipa, &mut header);
    let len = u32::from_be_bytes(header[4..].try_into().unwrap());
    let mut bytes = vec![0; len as usize];
    ram.read(ipa, &mut bytes);
    bytes
}
