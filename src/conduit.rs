//! The way out of the realm: one SMC64, and the memory whose address crosses it.
//!
//! Trust: results of RSI calls come from the RMM; the content of a host-call buffer comes from the host.

use alloc::boxed::Box;

/// A function id of the SMC calling convention, as it stands in x0 (DEN0028).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionId(pub u32);

/// One SMC64 to the RMM. `args` are x1..=x17; the result is x0..=x17 (DEN0028, SMC64).
pub trait Conduit {
    /// Issues the call.
    ///
    /// # Safety
    /// Memory that the callee reads, writes or takes away for this call is borrowed by the caller.
    #[expect(
        unsafe_code,
        reason = "an address in a register lets the RMM change memory behind the borrow checker"
    )]
    unsafe fn smc64(&mut self, fid: FunctionId, args: [u64; 17]) -> [u64; 18];
}

/// A buffer whose address goes into a call: heap memory of the alignment that its type has, never on the stack.
#[derive(Debug)]
pub struct CallBuf<T>(Box<T>);

impl<T: zerocopy::FromZeros> CallBuf<T> {
    /// Allocates a zeroed buffer.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the heap is exhausted.
    pub fn new() -> Result<Self, OutOfMemory> {
        T::new_box_zeroed().map(Self).map_err(|_| OutOfMemory)
    }
}

impl<T> CallBuf<T> {
    /// Returns the IPA of the buffer: the firmware runs identity-mapped, so it is the address itself.
    #[must_use]
    pub fn ipa(&mut self) -> u64 {
        // Widening: usize is 64 bits on every machine that this builds for.
        core::ptr::from_mut::<T>(&mut self.0).expose_provenance() as u64
    }

    /// Borrows the content.
    #[must_use]
    pub fn get(&self) -> &T {
        &self.0
    }

    /// Borrows the content to write arguments.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// The heap has no room for a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of memory")]
pub struct OutOfMemory;
