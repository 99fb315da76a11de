//! Arm semihosting: files, standard error and the exit status of QEMU.

use alloc::{string::String, vec::Vec};
use core::arch::asm;
use core::ffi::CStr;

const SYS_OPEN: u32 = 0x01;
const SYS_WRITE0: u32 = 0x04;
const SYS_WRITE: u32 = 0x05;
const SYS_GET_CMDLINE: u32 = 0x15;
const SYS_EXIT_EXTENDED: u32 = 0x20;

/// ADP_Stopped_ApplicationExit: the subcode is the exit status.
const APPLICATION_EXIT: u64 = 0x20026;
/// `fopen` mode "wb".
const MODE_WB: u64 = 5;

/// # Safety
///
/// `block` must be what `op` expects, and everything that it points to must be valid for the call.
unsafe fn call(op: u32, block: *const u64) -> u64 {
    let result;
    // SAFETY: the caller's; QEMU emulates the instruction, and touches memory, so no `nomem`.
    unsafe { asm!("hlt #0xf000", inout("x0") u64::from(op) => result, in("x1") block, options(nostack)) };
    result
}

/// A file of the host, opened for writing.
#[derive(Debug)]
pub struct File(u64);

impl File {
    /// Creates or truncates `name` in QEMU's working folder.
    pub fn create(name: &CStr) -> Option<Self> {
        let block = [name.as_ptr() as u64, MODE_WB, name.count_bytes() as u64];
        // SAFETY: name, mode and length, as SYS_OPEN wants them.
        let handle = unsafe { call(SYS_OPEN, block.as_ptr()) };
        (handle as i32 >= 0).then_some(Self(handle))
    }

    /// Writes all of `data`; false if the host took less.
    pub fn write(&self, data: &[u8]) -> bool {
        if data.is_empty() {
            return true;
        }
        let block = [self.0, data.as_ptr() as u64, data.len() as u64];
        // SAFETY: handle, pointer and length, as SYS_WRITE wants them.
        unsafe { call(SYS_WRITE, block.as_ptr()) == 0 }
    }
}

/// Writes to the debug channel (QEMU: standard error).
pub fn stderr(text: &str) {
    for chunk in text.as_bytes().chunks(120) {
        let mut line = [0; 121];
        for (to, from) in line.iter_mut().zip(chunk) {
            *to = if *from == 0 { b'?' } else { *from };
        }
        // SAFETY: SYS_WRITE0 wants a NUL-terminated string; the last byte of `line` is never written.
        unsafe { call(SYS_WRITE0, line.as_ptr().cast()) };
    }
}

/// Returns QEMU's semihosting command line: `-append` words, or `-semihosting-config arg=...` words.
pub fn command_line() -> String {
    let mut buf: Vec<u8> = alloc::vec![0; 4096];
    let mut block = [buf.as_mut_ptr() as u64, buf.len() as u64];
    // SAFETY: SYS_GET_CMDLINE wants buffer and size, and writes the length back into the block.
    let result = unsafe { call(SYS_GET_CMDLINE, block.as_mut_ptr()) };
    // SAFETY: QEMU has written the second word behind the compiler's back.
    let len = unsafe { block.as_ptr().add(1).read_volatile() };
    buf.truncate(if result == 0 { len as usize } else { 0 });
    buf.retain(|b| *b != 0);
    String::from_utf8(buf).unwrap_or_default()
}

/// Ends QEMU with this exit status.
pub fn exit(status: u8) -> ! {
    let block = [APPLICATION_EXIT, status.into()];
    // SAFETY: reason and subcode, as SYS_EXIT_EXTENDED wants them.
    unsafe { call(SYS_EXIT_EXTENDED, block.as_ptr()) };
    loop {
        core::hint::spin_loop();
    }
}
