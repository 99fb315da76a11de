//! `scripts/run --gdb`, driven by the GDB remote serial protocol: the run waits, stops at the firmware's first
//! instruction with the registers of the entry, and ends as any other when the debugger leaves.

use super::Bench;
use super::cases::need;
use crate::json::Word;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// Numbers of x0 and the program counter in QEMU's register list for AArch64.
const X0: u8 = 0;
const PC: u8 = 32;
/// Where the image lies.
const IMAGE: u64 = 0x4400_0000;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// One connection to QEMU's stub.
struct Remote(TcpStream);

impl Remote {
    /// Connects as soon as somebody listens.
    fn connect(port: u16) -> Result<Remote, String> {
        let begin = Instant::now();
        loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
                    return Ok(Remote(stream));
                }
                Err(error) if begin.elapsed() > PATIENCE => return Err(format!("port {port}: {error}")),
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Sends a packet and returns the answer to it.
    fn ask(&mut self, packet: &str) -> Result<String, String> {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        let io = |error: std::io::Error| format!("{packet}: {error}");
        self.0.write_all(format!("${packet}#{sum:02x}").as_bytes()).map_err(io)?;
        let mut byte = || -> Result<u8, String> {
            let mut one = [0];
            self.0.read_exact(&mut one).map_err(io)?;
            Ok(one[0])
        };
        while byte()? != b'$' {}
        let mut answer = String::new();
        loop {
            match byte()? {
                b'#' => break,
                other => answer.push(char::from(other)),
            }
        }
        byte()?;
        byte()?;
        self.0.write_all(b"+").map_err(io)?;
        Ok(answer)
    }

    fn register(&mut self, number: u8) -> Result<u64, String> {
        let answer = self.ask(&format!("p{number:x}"))?;
        let bytes = (0..16)
            .step_by(2)
            .map(|at| answer.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()));
        let bytes: Option<Vec<u8>> = bytes.collect();
        let bytes =
            bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| format!("p{number:x}: {answer}"))?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// The test.
pub(super) fn stops_at_the_entry(bench: &Bench<'_>) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    // Free a moment ago; nothing else asks for ports here.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).map_err(text)?.port();
    let json = bench.tools.root.join(format!("target/gdb-{}.json", std::process::id()));
    let mut command = Command::new(std::env::current_exe().map_err(text)?);
    command.args(["run", "--payload", "demo", "--quiet", &format!("--gdb={port}"), "--json"]).arg(&json);
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(text)?;
    let session = debug(port);
    if session.is_err() {
        // QEMU ends with the program that started it only when that one can tell it.
        let _ = run.kill();
    }
    let output = run.wait_with_output().map_err(text)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    session.map_err(|why| format!("{why}\n{said}"))?;
    need(output.status.success(), || format!("ended with {:?}\n{said}", output.status))?;
    let firmware = bench.artifacts.firmware.display();
    for part in
        [format!("add-symbol-file {firmware} -o {IMAGE:#x}"), format!("target remote 127.0.0.1:{port}")]
    {
        need(said.contains(&part), || format!("no {part:?} in {said}"))?;
    }
    let value: Value =
        serde_json::from_str(&fs::read_to_string(&json).map_err(text)?).map_err(|e| e.to_string())?;
    let _ = fs::remove_file(&json);
    need(value["outcome"] == "handed-off" && value["payload"]["result"] == Word::Pass.text(), || {
        value.to_string()
    })
}

fn debug(port: u16) -> Result<(), String> {
    let mut gdb = Remote::connect(port)?;
    let mut expect = |packet: &str, start: &str| {
        let answer = gdb.ask(packet)?;
        need(answer.starts_with(start), || format!("{packet} is answered {answer:?}"))
    };
    expect("?", "T")?;
    // A second look after a while: it waits, and nothing ran.
    thread::sleep(Duration::from_millis(300));
    expect("?", "T")?;
    expect(&format!("Z1,{IMAGE:x},4"), "OK")?;
    expect("c", "T05")?;
    // "ARMd" of the Linux header.
    expect(&format!("m{:x},4", IMAGE + 56), "41524d64")?;
    let (pc, tree) = (gdb.register(PC)?, gdb.register(X0)?);
    need(pc == IMAGE, || format!("stopped at {pc:#x}"))?;
    let magic = gdb.ask(&format!("m{tree:x},4"))?;
    need(magic == "d00dfeed", || format!("x0 = {tree:#x}, where {magic} is"))?;
    need(gdb.ask(&format!("z1,{IMAGE:x},4"))? == "OK", || "the breakpoint stays".to_owned())?;
    need(gdb.ask("D")? == "OK", || "no detaching".to_owned())
}
