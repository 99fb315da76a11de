//! The RSI commands, driven through [`gatehouse::rsi`].

use crate::common::script::*;
use crate::{Row, refused};
use gatehouse::abi::rsi::*;
use gatehouse::addr::IpaRange;
use gatehouse::arch::host::RealmRam;
use gatehouse::codes::StopCode;
use gatehouse::phases::Stop;
use gatehouse::rhi::RhiError;
use gatehouse::rsi::*;
use gatehouse::tdi::{Reason, Stage};

/// Every status of B5.5.3, two that it does not have (the low half of the second is success), and "no such call".
pub const STATUSES: [(u64, &str); 9] = [
    (0, "0 RSI_SUCCESS"),
    (1, "1 RSI_ERROR_INPUT"),
    (2, "2 RSI_ERROR_STATE"),
    (3, "3 RSI_INCOMPLETE"),
    (4, "4 RSI_ERROR_UNKNOWN"),
    (5, "5 RSI_ERROR_DEVICE"),
    (6, "6 (reserved)"),
    (1 << 32, "0x100000000 (reserved)"),
    (u64::MAX, "all ones"),
];
const BASE: u64 = 0x8000_0000;
const TOP: u64 = BASE + 0x4000;
const V1_0: u64 = 0x1_0000;
const V2_0: u64 = 0x2_0000;

/// Whatever a command may fail with.
#[derive(Clone, Copy)]
enum Failure {
    Rsi(RsiError),
    Set(StateSetError),
    Mapping(MappingError),
    Token(TokenError),
}

impl std::fmt::Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rsi(error)
            | Self::Set(StateSetError::Rsi(error))
            | Self::Mapping(MappingError::Rsi(error))
            | Self::Token(TokenError::Rsi(error)) => error.fmt(f),
            Self::Set(error) => error.fmt(f),
            Self::Mapping(error) => error.fmt(f),
            Self::Token(error) => error.fmt(f),
        }
    }
}

/// One answer: x0, x1, x2; the words of the table; whether it is one of the specification.
struct Answer {
    regs: [u64; 3],
    words: String,
    in_spec: bool,
}

/// The statuses that the specification, or an implementation of spec-map, has for `command`; x1 and x2 of its success.
fn facts(command: Command) -> (&'static [u64], [u64; 2]) {
    match command {
        Command::Version => (&[0, 1], [VERSION_1_1, VERSION_1_1]),
        Command::Features => (&[0], [1, 0]),
        Command::RealmConfig | Command::MeasurementRead | Command::MeasurementExtend => (&[0, 1], [0, 0]),
        Command::AttestationTokenInit => (&[0, 4], [4096, 0]),
        Command::AttestationTokenContinue => (&[0, 1, 2, 3, 4], [16, 0]),
        Command::IpaStateSet => (&[0, 1], [TOP, 0]),
        Command::IpaStateGet => (&[0, 1], [TOP, RIPAS_DEV]),
        Command::HostCall => (&[0, 1], [0, 0]),
        Command::VdevGetInfo | Command::VdevDmaDisable => (&[0, 1, 2, 3], [0, 0]),
        Command::VdevValidateMapping => (&[0, 1, 2, 3, 5], [TOP, 0]),
        Command::VdevDmaEnable => (&[0, 1, 2, 3, 5], [0, 0]),
    }
}

/// Answers of `command` that its status alone does not tell apart.
fn others(command: Command) -> Vec<(&'static str, [u64; 3])> {
    match command {
        Command::Version => {
            vec![
                ("0, lower 2.0", [0, V2_0, V2_0]),
                ("1, lower 1.0", [1, V1_0, V1_0]),
                ("1, lower 2.0", [1, V2_0, V2_0]),
            ]
        }
        Command::Features => vec![("0, DA clear", [0, 6, 0])],
        Command::AttestationTokenInit => {
            vec![("0, up to 0 bytes", [0, 0, 0]), ("0, up to 64 KiB + 1", [0, MAX_TOKEN_SIZE + 1, 0])]
        }
        Command::AttestationTokenContinue => vec![("0, 4097 bytes", [0, 4097, 0]), ("0, no byte", [0, 0, 0])],
        Command::IpaStateSet | Command::VdevValidateMapping => vec![
            ("0, REJECT half way", [0, BASE + 0x2000, 1]),
            ("0, ACCEPT without progress", [0, BASE, 0]),
            ("0, next below base", [0, BASE - 0x1000, 0]),
            ("0, next above top", [0, TOP + 0x1000, 0]),
            ("0, next no granule", [0, BASE + 8, 0]),
        ],
        Command::IpaStateGet => vec![
            ("0, top at base", [0, BASE, 0]),
            ("0, top above top", [0, TOP + 0x1000, 0]),
            ("0, RIPAS 4", [0, TOP, 4]),
        ],
        _ => Vec::new(),
    }
}

/// The rows of one command.
pub fn rows(command: Command) -> Vec<Row> {
    let (in_spec, [x1, x2]) = facts(command);
    let statuses = STATUSES.iter().map(|(status, words)| Answer {
        // What fails writes no result; a token may bring bytes before it is complete.
        regs: if *status == 0 { [0, x1, x2] } else { [*status, 0, 0] },
        words: (*words).into(),
        in_spec: in_spec.contains(status) || *status == u64::MAX,
    });
    let others = others(command).into_iter().map(|(words, regs)| Answer {
        regs,
        words: words.into(),
        // The ways of A5.4.1 and B5.4.23; the rest is outside the interface.
        in_spec: ["REJECT", "ACCEPT", "lower", "DA clear"].iter().any(|way| words.contains(way)),
    });
    let rows = statuses.chain(others).map(|answer| {
        let result = drive(command, answer.regs).map(|()| "none");
        let is_offer = answer.words == "1, lower 1.0";
        assert_eq!(result.is_ok(), answer.words == STATUSES[0].1 || is_offer, "{command:?} {}", answer.words);
        Row::new(command.name(), &answer.words, answer.in_spec, result, |error| codes(command, error))
    });
    rows.collect()
}

/// Makes the call on an RMM that gives this answer.
fn drive(command: Command, answer: [u64; 3]) -> Result<(), Failure> {
    let bar = IpaRange::from_bounds(BASE, TOP).unwrap();
    let nonces = Nonces { lock: 1, measurement: 2, report: 3 };
    let negotiated = session();
    let mut platform = platform(|regs, ram| answered(command, answer, regs, ram));
    let mut client = Client::new(&mut platform, &negotiated);
    let done = match command {
        Command::Version | Command::Features | Command::RealmConfig => {
            Session::negotiate(&mut platform, own()).and_then(|session| session.require_device_assignment())
        }
        Command::MeasurementRead => client.measurement_read(0).map(drop),
        Command::MeasurementExtend => client.measurement_extend(1, &[1; 32]),
        Command::AttestationTokenInit | Command::AttestationTokenContinue => {
            return client.attestation_token(&[7; 64]).map(drop).map_err(Failure::Token);
        }
        Command::IpaStateSet => {
            let range = Surrender::new(bar, &negotiated).unwrap();
            return client.give_up(range).map_err(Failure::Set);
        }
        Command::IpaStateGet => client.ipa_state_get(bar).map(drop),
        Command::HostCall => client.host_call(&mut HostCallBuf::new().unwrap(), [0; 6]).map(drop),
        Command::VdevGetInfo => client.vdev_get_info(vdev(), &mut InfoBuf::new().unwrap()).map(drop),
        Command::VdevValidateMapping => {
            return client.vdev_validate_mapping(vdev(), bar, 0x4000, nonces).map_err(Failure::Mapping);
        }
        Command::VdevDmaEnable => client.vdev_dma_enable(vdev(), nonces),
        Command::VdevDmaDisable => client.vdev_dma_disable(vdev()),
    };
    done.map_err(Failure::Rsi)
}

/// The RMM: `answer` to `command`, the truth to everything else.
fn answered(command: Command, answer: [u64; 3], regs: &mut Regs, ram: &mut dyn RealmRam) {
    let asked = |command: Command, regs: &Regs| regs[0] == u64::from(command.function_id().0);
    if !asked(command, regs) {
        if asked(Command::AttestationTokenInit, regs) {
            return (regs[0], regs[1]) = (0, 4096);
        }
        if asked(Command::AttestationTokenContinue, regs) {
            return (regs[0], regs[1]) = (0, 16);
        }
        return honest(regs, ram);
    }
    let is_success = answer[0] == 0;
    match command {
        // Asked again, for 1.0.
        Command::Version if regs[1] == V1_0 && answer[1] == V1_0 => return (regs[0], regs[1]) = (0, V1_0),
        Command::RealmConfig if is_success => return honest(regs, ram),
        Command::VdevGetInfo if is_success => {
            let record = [(0x10, 2), (0x30, 1), (0x38, 0), (0x3a, 1), (0x40, 1)];
            record.iter().for_each(|(at, byte)| ram.write(regs[2] + at, &[*byte]));
        }
        _ => {}
    }
    regs[..3].copy_from_slice(&answer);
}

/// The codes of the steps that make the call.
fn codes(command: Command, failure: Failure) -> Vec<StopCode> {
    match failure {
        Failure::Set(error) => vec![Stop::from(RhiError::Window(error)).code],
        Failure::Mapping(error) => vec![refused(Stage::Map, error)],
        // No phase asks for a token.
        Failure::Token(_) => Vec::new(),
        Failure::Rsi(error) => match command {
            Command::Version | Command::Features | Command::RealmConfig => vec![Stop::from(error).code],
            Command::IpaStateGet => {
                // phases::realm names what the memory is for.
                let own = [StopCode::OwnMemory, StopCode::TreeAddress, StopCode::PayloadMemory];
                own.into_iter().chain([refused(Stage::Map, error)]).collect()
            }
            Command::HostCall => {
                let stages = [Stage::Lock, Stage::Collect, Stage::Start];
                let refused = stages.map(|stage| refused(stage, Reason::Rhi(RhiError::Rsi(error))));
                [Stop::from(RhiError::Rsi(error)).code].into_iter().chain(refused).collect()
            }
            Command::MeasurementRead => vec![refused(Stage::Collect, error)],
            Command::MeasurementExtend => vec![StopCode::Measure],
            Command::VdevGetInfo => vec![refused(Stage::Lock, error)],
            Command::VdevDmaEnable => vec![refused(Stage::DmaEnable, error)],
            // Disable: on the way back only.
            _ => Vec::new(),
        },
    }
}
