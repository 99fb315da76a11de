//! Starts QEMU, reads the console as it comes, and never waits without a bound.

use crate::Fault;
use crate::console::{Console, Splitter};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Most bytes of a console.
const CONSOLE_MAX: usize = 16 << 20;
/// How often the end of the process is looked for.
const POLL: Duration = Duration::from_millis(20);
/// Lines of the console that a fault shows.
const LAST_LINES: usize = 12;

/// A process that ended by itself.
#[derive(Debug)]
pub struct Finished {
    /// Exit status; none if a signal ended it.
    pub status: Option<i32>,
    /// What was on the console.
    pub console: Console,
    /// How long it ran.
    pub elapsed: Duration,
    /// How much processor time it had, as far as the system tells; else [`Finished::elapsed`].
    pub cpu: Duration,
}

/// Returns the processor time of a process that was not waited for (proc(5), fields 14 and 15 of stat).
fn cpu_time(process: u32) -> Option<Duration> {
    // USER_HZ on every Linux that Debian runs on.
    const TICKS_PER_SECOND: u64 = 100;
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Duration::from_millis((field(14)? + field(15)?) * 1000 / TICKS_PER_SECOND))
}

/// Runs `command` in `dir` for at most `timeout`; `on_line` gets the console after each line.
///
/// # Errors
/// [`Fault::Run`] when it cannot start, runs into the timeout, or floods the console.
pub fn run(
    mut command: Command,
    dir: &Path,
    timeout: Duration,
    on_line: &mut dyn FnMut(&crate::console::Line, &Console),
) -> Result<Finished, Fault> {
    let errors = dir.join("qemu-stderr.txt");
    let stderr = File::create(&errors).map_err(Fault::file(&errors))?;
    let copy_path = dir.join("console.txt");
    let mut copy = File::create(&copy_path).map_err(Fault::file(&copy_path))?;
    command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    let begin = Instant::now();
    let program = command.get_program().to_owned();
    let child = command.spawn().map_err(|error| Fault::Run(format!("{}: {error}", program.display())))?;
    let mut child = Killed(child);
    let chunks = read_all(&mut child.0);

    let mut console = Console::default();
    let mut splitter = Splitter::default();
    let mut total = 0;
    let mut is_open = true;
    let mut cpu = None;
    let end = loop {
        let left = timeout.saturating_sub(begin.elapsed());
        if left.is_zero() {
            break Err(format!("no end after {} s", timeout.as_secs()));
        }
        if !is_open {
            // Until it is waited for, a process that ended keeps its times.
            cpu = cpu_time(child.0.id()).or(cpu);
            match child.0.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) => thread::sleep(POLL.min(left)),
                Err(error) => break Err(format!("waiting for QEMU: {error}")),
            }
            continue;
        }
        let mut lines = match chunks.recv_timeout(left) {
            Ok(bytes) => {
                total += bytes.len();
                // The copy is for people; the run does not depend on it.
                let _ = copy.write_all(&bytes);
                splitter.push(&bytes)
            }
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => {
                is_open = false;
                splitter.rest().into_iter().collect()
            }
        };
        for line in lines.drain(..) {
            let line = console.line(&line);
            on_line(&line, &console);
        }
        if total > CONSOLE_MAX {
            break Err(format!("the console does not end ({total} bytes)"));
        }
    };
    match end {
        Ok(status) => {
            let elapsed = begin.elapsed();
            Ok(Finished { status: status.code(), console, elapsed, cpu: cpu.unwrap_or(elapsed) })
        }
        Err(why) => {
            drop(child);
            let last = console.lines.len().saturating_sub(LAST_LINES);
            let mut text = format!("{why}; the last lines of the console:");
            for line in console.lines.iter().skip(last).chain(&splitter.rest()) {
                text += &format!("\n    {line}");
            }
            Err(Fault::Run(text + &said(dir)))
        }
    }
}

/// Returns what QEMU said on standard error, for a message.
#[must_use]
pub fn said(dir: &Path) -> String {
    match fs::read_to_string(dir.join("qemu-stderr.txt")) {
        Ok(text) if !text.trim().is_empty() => format!("\nQEMU says: {}", text.trim()),
        _ => String::new(),
    }
}

/// A process that does not outlive its owner.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read_all(child: &mut Child) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    if let Some(mut output) = child.stdout.take() {
        thread::spawn(move || {
            let mut buffer = vec![0; 16 << 10];
            while let Ok(len @ 1..) = output.read(&mut buffer) {
                let Some(bytes) = buffer.get(..len) else { break };
                if sender.send(bytes.to_vec()).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration) -> Result<Finished, Fault> {
        let dir = std::env::temp_dir().join(format!(
            "gatehouse-qemu-{}-{:?}",
            std::process::id(),
            thread::current().id()
        ));
        fs::create_dir_all(&dir).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let result = run(command, &dir, timeout, &mut |_, _| {});
        fs::remove_dir_all(&dir).unwrap();
        result
    }

    #[test]
    fn console_and_status_come_back() {
        let finished = shell("echo INFO hello; printf rest; exit 10", Duration::from_secs(20)).unwrap();
        assert_eq!(finished.status, Some(10));
        assert_eq!(finished.console.lines, ["INFO hello", "rest"]);
    }

    #[test]
    fn a_process_that_does_not_end_is_ended_and_its_last_lines_are_shown() {
        let fault = shell("echo before; exec sleep 60", Duration::from_millis(300)).unwrap_err();
        let text = fault.to_string();
        assert!(text.contains("no end") && text.contains("before"), "{text}");
    }

    #[test]
    fn a_process_that_closed_its_console_is_ended_too() {
        assert!(shell("exec >&-; exec sleep 60", Duration::from_millis(300)).is_err());
    }

    #[test]
    fn a_console_without_end_is_cut() {
        let text = shell("exec yes", Duration::from_secs(60)).unwrap_err().to_string();
        assert!(text.contains("does not end"), "{text}");
    }

    #[test]
    fn what_qemu_says_is_part_of_the_fault() {
        let fault = shell("echo broken >&2; exec sleep 60", Duration::from_millis(300)).unwrap_err();
        assert!(fault.to_string().contains("QEMU says: broken"));
    }
}
