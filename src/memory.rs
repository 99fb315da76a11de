//! Heap for what host and devices make us hold.
//!
//! Their objects come in sizes that they choose. Whoever takes one in, or keeps what follows from it, does it here: it can fail, and it
//! leaves [`HEADROOM`] for what the rest of the boot needs in small pieces. So it is here that the boot stops,
//! with a code that says why, and not wherever the last byte happens to be gone.
//!
//! Trust: sizes are the host's and the devices'.

use crate::conduit::OutOfMemory;
use alloc::vec::Vec;

/// Bytes in one piece that have to be free for everything small.
pub const HEADROOM: usize = 1024 * 1024;

/// The headroom, taken: whoever allocates beside it leaves it free.
#[derive(Debug)]
pub struct Headroom(#[expect(dead_code, reason = "only held")] Vec<u8>);

impl Headroom {
    /// Takes it.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    #[inline(never)]
    pub fn take() -> Result<Self, OutOfMemory> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(HEADROOM).map_err(|_| OutOfMemory)?;
        // Without this the compiler may leave out an allocation that nobody looks at, and say that it went well.
        core::hint::black_box(bytes.spare_capacity_mut());
        Ok(Self(bytes))
    }
}

/// Returns an empty vector with room for `len` bytes.
///
/// # Errors
/// [`OutOfMemory`].
pub fn reserve(len: usize) -> Result<Vec<u8>, OutOfMemory> {
    let mut bytes = Vec::new();
    grow(&mut bytes, len)?;
    Ok(bytes)
}

/// Makes room for `len` more bytes.
///
/// # Errors
/// [`OutOfMemory`], with the bytes as they were.
#[inline(never)]
pub fn grow(bytes: &mut Vec<u8>, len: usize) -> Result<(), OutOfMemory> {
    let _headroom = Headroom::take()?;
    let result = if bytes.is_empty() { bytes.try_reserve_exact(len) } else { bytes.try_reserve(len) };
    result.map_err(|_| OutOfMemory)
}
