//! The verifier at the other end of a realm's port: sends a challenge and takes token, event log and raw evidence
//! (contrib/linux/README.md says in which form).
//!
//! Nobody on the way is trusted: what comes is bounded, must have exactly that form, and means nothing until the
//! token's signature and the log are verified. Its files are kept in the folder of the run for whoever does that.

use crate::console::Console;
use crate::json::{ResultLine, Word};
use crate::{Fault, disk};
use base64ct::{Base64, Encoding};
use gatehouse::abi::eventlog::{EV_NO_ACTION, OLD_DIGEST_LEN, SPEC_ID};
use rmm_model::attest;
use rmm_model::digest::to_hex;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Name of the port in the realm.
pub const PORT: &str = "org.gatehouse.verifier";
/// QEMU's end of it, in the folder of the run.
pub const SOCKET: &str = "verifier.sock";
/// The challenge, 64 bytes, in the folder of the run.
pub const CHALLENGE_FILE: &str = "challenge.bin";
/// The model's platform key, as an endorser would publish it, in the folder of the run.
pub const PLATFORM_KEY_FILE: &str = "platform-key.pem";
/// The attestation token.
pub const TOKEN_FILE: &str = "token.cbor";
/// The event log (docs/event-log.md).
pub const LOG_FILE: &str = "event-log.bin";
/// The raw evidence.
pub const EVIDENCE_FILE: &str = "evidence.cbor";

/// Bytes of a challenge.
const CHALLENGE: usize = 64;
/// Most bytes of one part, and of what the OS half shows.
const PART_MAX: usize = 16 << 20;
/// First line of an answer.
const BANNER: &str = "GATEHOUSE-EVIDENCE 1";
/// How often QEMU's socket is tried.
const POLL: Duration = Duration::from_millis(20);
/// Tags of a CCA token, as CBOR begins it: 907 (collection of the RMM 2.0 beta), 399 (before).
const TOKEN_TAGS: [[u8; 3]; 2] = [[0xd9, 0x03, 0x8b], [0xd9, 0x01, 0x8f]];

/// What a realm sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The attestation token.
    pub token: Vec<u8>,
    /// The event log; empty if the realm has none.
    pub event_log: Vec<u8>,
    /// The raw evidence; empty if the realm has none.
    pub evidence: Vec<u8>,
}

/// A challenge that waits for its answer.
#[derive(Debug)]
pub struct Exchange {
    challenge: Vec<u8>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Answer, String>>>,
}

impl Exchange {
    /// Makes a fresh challenge and begins to try the socket in `dir`.
    ///
    /// # Errors
    /// [`Fault::File`].
    pub fn begin(dir: &Path) -> Result<Exchange, Fault> {
        let challenge = disk::random(CHALLENGE)?;
        let path = dir.join(CHALLENGE_FILE);
        fs::write(&path, &challenge).map_err(Fault::file(&path))?;
        let path = dir.join(PLATFORM_KEY_FILE);
        fs::write(&path, platform_key_pem()).map_err(Fault::file(&path))?;
        let folder = File::open(dir).map_err(Fault::file(dir))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (line, stop) = (format!("CHALLENGE {}\n", to_hex(&challenge)), is_over.clone());
        let thread = thread::spawn(move || {
            let mut socket = connect(&folder, &stop)?;
            socket.write_all(line.as_bytes()).map_err(|error| format!("challenge: {error}"))?;
            receive(&mut socket)
        });
        Ok(Exchange { challenge, is_over, thread: Some(thread) })
    }

    /// Returns what came until QEMU ended, writes its parts into `dir`, and checks what can be checked without a key.
    /// `console`: has the sizes that the tree says.
    ///
    /// # Errors
    /// [`Fault::File`].
    pub fn end(mut self, dir: &Path, console: &Console) -> Result<Vec<ResultLine>, Fault> {
        self.is_over.store(true, Ordering::Relaxed);
        let answer = match self.thread.take().map(JoinHandle::join) {
            Some(Ok(answer)) => answer,
            _ => Err("the exchange broke".to_owned()),
        };
        if let Ok(Answer { token, event_log, evidence }) = &answer {
            for (name, bytes) in [(TOKEN_FILE, token), (LOG_FILE, event_log), (EVIDENCE_FILE, evidence)] {
                let path = dir.join(name);
                fs::write(&path, bytes).map_err(Fault::file(&path))?;
            }
        }
        Ok(check(&answer, &self.challenge, console))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Returns the key that the model's platform tokens are verified with, in PEM.
#[must_use]
pub fn platform_key_pem() -> String {
    /// SubjectPublicKeyInfo of a point on P-384, up to the point (RFC 5480).
    const SPKI: [u8; 23] = [
        0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
        0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
    ];
    let spki = Base64::encode_string(&[&SPKI[..], &attest::platform_key().sec1()].concat());
    let lines: Vec<String> =
        spki.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

/// Connects as soon as QEMU listens. The path goes through the open folder: a socket's path has at most 107 bytes.
fn connect(folder: &File, is_over: &AtomicBool) -> Result<UnixStream, String> {
    let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
    loop {
        match UnixStream::connect(&path) {
            Ok(socket) => return Ok(socket),
            Err(error) if is_over.load(Ordering::Relaxed) => return Err(format!("{SOCKET}: {error}")),
            Err(_) => thread::sleep(POLL),
        }
    }
}

/// Reads until the answer is complete: its form bounds it, and QEMU's end closes the socket.
fn receive(socket: &mut impl Read) -> Result<Answer, String> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        if let Some(answer) = parse(&bytes)? {
            return Ok(answer);
        }
        match socket.read(&mut buffer) {
            Ok(0) => return Err(format!("the answer ends after {} bytes", bytes.len())),
            Ok(len) => bytes.extend_from_slice(buffer.get(..len).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("after {} bytes: {error}", bytes.len())),
        }
    }
}

/// Reads an answer; none while it is not complete.
fn parse(bytes: &[u8]) -> Result<Option<Answer>, String> {
    let mut rest = bytes;
    let Some(banner) = line(&mut rest)? else { return Ok(None) };
    if let Some(why) = banner.strip_prefix("FAILED ") {
        return Err(format!("the realm says: {}", why.escape_default()));
    }
    if banner != BANNER {
        return Err(format!("first line {banner:?}"));
    }
    let mut parts = Vec::new();
    for name in ["token", "event-log", "evidence"] {
        let Some(text) = line(&mut rest)? else { return Ok(None) };
        let digits = text.strip_prefix(name).and_then(|text| text.strip_prefix(' ')).unwrap_or_default();
        let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        let len = digits.parse().ok().filter(|len| is_number && *len <= PART_MAX);
        let len = len.ok_or_else(|| format!("line {text:?} for {name}"))?;
        let Some((part, behind)) = rest.split_at_checked(len) else { return Ok(None) };
        parts.push(part);
        rest = behind;
    }
    let Some(end) = line(&mut rest)? else { return Ok(None) };
    if end != "END" || !rest.is_empty() {
        return Err(format!("behind the parts: {end:?} and {} bytes", rest.len()));
    }
    let mut parts = parts.into_iter();
    let mut next = || parts.next().unwrap_or_default().to_vec();
    Ok(Some(Answer { token: next(), event_log: next(), evidence: next() }))
}

/// Takes a line off; none while its end is not there.
fn line<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a str>, String> {
    /// More than any line has.
    const LONGEST: usize = 200;
    let head = bytes.get(..LONGEST).unwrap_or(bytes);
    let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
        return if head.len() < LONGEST { Ok(None) } else { Err("a line does not end".to_owned()) };
    };
    let (line, rest) = bytes.split_at(end);
    *bytes = rest.get(1..).unwrap_or_default();
    str::from_utf8(line).map(Some).map_err(|error| format!("a line is no text: {error}"))
}

/// What can be said without a key: all parts came, as long as the tree says, over this challenge.
fn check(answer: &Result<Answer, String>, challenge: &[u8], console: &Console) -> Vec<ResultLine> {
    let Answer { token, event_log, evidence } = match answer {
        Ok(answer) => answer,
        Err(why) => return vec![ResultLine::new("evidence-complete", Word::Fail, why.clone())],
    };
    let mut wrong = Vec::new();
    if token.is_empty() {
        wrong.push("no token".to_owned());
    }
    for (name, bytes) in [("log-size", event_log), ("evidence-size", evidence)] {
        let said = console.datum(name).unwrap_or("not in the tree");
        if said != bytes.len().to_string() || bytes.is_empty() {
            wrong.push(format!("{name} {said}, {} bytes came", bytes.len()));
        }
    }
    let mut complete = ResultLine::unless("evidence-complete", &wrong);
    if wrong.is_empty() {
        complete.detail = format!(
            "token {}, event log {}, evidence {} bytes",
            token.len(),
            event_log.len(),
            evidence.len()
        );
    }
    let has_challenge = token.windows(challenge.len().max(1)).any(|bytes| bytes == challenge);
    let fresh = if has_challenge {
        ResultLine::new("evidence-fresh", Word::Pass, "")
    } else if TOKEN_TAGS.iter().any(|tag| token.starts_with(tag)) {
        ResultLine::new("evidence-fresh", Word::Fail, "the challenge is not in the token")
    } else {
        ResultLine::new("evidence-fresh", Word::Skip, "the scenario's token is no CCA token")
    };
    vec![complete, fresh, ResultLine::new("event-log-begins", Word::of(is_log(event_log)), "")]
}

/// Tells whether the first event is the Spec ID event: PCR 0, its type, a digest of zeros, then its size and signature.
fn is_log(log: &[u8]) -> bool {
    let digest = [0; OLD_DIGEST_LEN];
    let head = [&[0; 4][..], &EV_NO_ACTION.to_le_bytes(), &digest].concat();
    let data = log.strip_prefix(&*head).and_then(|rest| rest.get(4..));
    data.is_some_and(|data| data.starts_with(SPEC_ID))
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
