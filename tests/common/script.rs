//! A machine that answers as a test says: for the clients of RSI and RHI alone.
use super::{RAM_BASE, ram};
use gatehouse::abi::rhi;
use gatehouse::abi::rsi::{
    RSI_FEATURES, RSI_HOST_CALL, RSI_IPA_STATE_SET, RSI_MEASUREMENT_READ, RSI_REALM_CONFIG, RSI_VERSION,
    VERSION_1_1,
};
use gatehouse::addr::{Bdf, IpaRange, VdevId};
use gatehouse::arch::host::{HostMachine, HostPlatform, RealmRam, ipa_width};
use gatehouse::platform::AccessSize;
use gatehouse::rhi::{self as rhi_client, RhiError};
use gatehouse::rsi::Session;

/// x0 to x17.
pub type Regs = [u64; 18];

/// Answers one SMC.
pub type Answer<'a> = Box<dyn FnMut(&mut Regs, &mut dyn RealmRam) + 'a>;

/// The machine: what it answers, and what it was asked (x0, x1...).
pub struct Script<'a> {
    answer: Answer<'a>,
    pub calls: Vec<Regs>,
}

impl HostMachine for Script<'_> {
    fn smc(&mut self, regs: &mut Regs, ram: &mut dyn RealmRam) {
        self.calls.push(*regs);
        (self.answer)(regs, ram);
    }

    fn io_read(&mut self, ipa: u64, _: AccessSize, _: &mut dyn RealmRam) -> u64 {
        panic!("load at {ipa:#x}")
    }

    fn io_write(&mut self, ipa: u64, _: AccessSize, _: u64, _: &mut dyn RealmRam) {
        panic!("store at {ipa:#x}")
    }
}

/// A platform that answers so.
pub type Scripted<'a> = HostPlatform<Script<'a>>;

/// Makes a platform.
pub fn platform<'a>(answer: impl FnMut(&mut Regs, &mut dyn RealmRam) + 'a) -> Scripted<'a> {
    HostPlatform::new(Script { answer: Box::new(answer), calls: Vec::new() }, ipa_width())
}

/// Writes one 64-bit word.
pub fn put(ram: &mut dyn RealmRam, at: u64, value: u64) {
    ram.write(at, &value.to_le_bytes());
}

/// Reads one 64-bit word.
pub fn get(ram: &mut dyn RealmRam, at: u64) -> u64 {
    let mut bytes = [0; 8];
    ram.read(at, &mut bytes);
    u64::from_le_bytes(bytes)
}

/// The memory of the firmware: all RAM.
pub fn own() -> IpaRange {
    IpaRange::new(RAM_BASE, ram().len).unwrap()
}

/// An RMM that answers the negotiation and converts whatever it is asked to.
pub fn honest(regs: &mut Regs, ram: &mut dyn RealmRam) {
    let [fid, x1, x2, ..] = *regs;
    regs[0] = 0;
    match u32::try_from(fid).unwrap() {
        fid if fid == RSI_VERSION.0 => (regs[1], regs[2]) = (VERSION_1_1, VERSION_1_1),
        fid if fid == RSI_FEATURES.0 => regs[1] = 1,
        fid if fid == RSI_REALM_CONFIG.0 => {
            put(ram, x1, ipa_width().bits().into());
            ram.write(x1 + 0x200, &[0x5a; 64]);
        }
        fid if fid == RSI_MEASUREMENT_READ.0 => regs[1..9].fill(u64::MAX),
        fid if fid == RSI_IPA_STATE_SET.0 => (regs[1], regs[2]) = (x2, 0),
        fid => panic!("SMC {fid:#x}"),
    }
}

/// A negotiated session of an honest RMM with device assignment.
pub fn session() -> Session {
    Session::negotiate(&mut platform(honest), own()).unwrap()
}

/// gprs[0] to gprs[5] of a host call.
pub type Gprs = [u64; 6];

/// As [`honest`], with a host that answers `gprs` (function id, arguments; then status, results).
pub fn with_host<'a>(
    mut host: impl FnMut(&mut Gprs, &mut dyn RealmRam) + 'a,
) -> impl FnMut(&mut Regs, &mut dyn RealmRam) + 'a {
    move |regs, ram| {
        if regs[0] != u64::from(RSI_HOST_CALL.0) {
            return honest(regs, ram);
        }
        let at = regs[1] + 8;
        let mut gprs = [0; 6];
        for (gpr, at) in gprs.iter_mut().zip((at..).step_by(8)) {
            *gpr = get(ram, at);
        }
        host(&mut gprs, ram);
        for (gpr, at) in gprs.iter().zip((at..).step_by(8)) {
            put(ram, at, *gpr);
        }
        regs[0] = 0;
    }
}

/// The device of every call.
pub fn vdev() -> VdevId {
    Bdf::from_routing_id(0x10).into()
}

/// A host that has everything: version, all features, 4 KiB.
pub fn offers(gprs: &mut Gprs) {
    gprs[0] = match gprs[0] {
        rhi::DA_VERSION | rhi::HOSTCONF_VERSION => rhi::VERSION_1_0,
        rhi::DA_FEATURES => 0xff,
        rhi::HOSTCONF_FEATURES => 1,
        rhi::HOSTCONF_GET_IPA_CHANGE_ALIGNMENT => 4096,
        other => panic!("{other:#x}"),
    };
}

/// As [`offers`], with this answer to `fid`.
pub fn answering(fid: u64, answer: u64) -> impl Fn(&mut Gprs) {
    move |gprs| if gprs[0] == fid { gprs[0] = answer } else { offers(gprs) }
}

/// Negotiates with a host; returns what came out and each RIPAS change.
pub fn negotiate(host: impl Fn(&mut Gprs)) -> (Result<rhi_client::Session, RhiError>, Vec<Regs>) {
    let session = session();
    let mut platform = platform(with_host(|gprs, _| host(gprs)));
    let result = rhi_client::Session::negotiate(&mut platform, &session);
    let is_change = |regs: &Regs| regs[0] == u64::from(RSI_IPA_STATE_SET.0);
    let changes = platform.machine.calls.into_iter().filter(is_change).collect();
    (result, changes)
}

/// Makes calls with a negotiated client on a host that answers so; returns the gprs that went out.
pub fn with_client<R>(
    mut host: impl FnMut(&mut Gprs, &mut dyn RealmRam),
    calls: impl FnOnce(&mut rhi_client::Client<'_, Scripted<'_>>) -> R,
) -> (R, Vec<Gprs>) {
    let rsi = session();
    let mut asked = Vec::new();
    let result = {
        let mut platform = platform(with_host(|gprs, ram| {
            if (rhi::DA_VERSION..=rhi::DA_FEATURES).contains(&gprs[0])
                || (rhi::HOSTCONF_VERSION..=rhi::HOSTCONF_GET_IPA_CHANGE_ALIGNMENT).contains(&gprs[0])
            {
                return offers(gprs);
            }
            asked.push(*gprs);
            host(gprs, ram);
        }));
        let mut session = rhi_client::Session::negotiate(&mut platform, &rsi).unwrap();
        calls(&mut rhi_client::Client::new(&mut platform, &rsi, &mut session))
    };
    (result, asked)
}
