//! The physical memory map: what the stub owns, and where things of QEMU virt lie.
//!
//! ```text
//! 0x4000_0000  QEMU's device tree
//! 0x4020_0000  this program
//! 0x4080_0000  stack top (grows down)
//! 0x4080_0000  stacks of the other CPUs, 256 KiB each
//! 0x40a0_0000  heap
//! 0x4200_0000  pages of translation tables
//! 0x4300_0000  scenario: magic, length, CBOR
//! 0x4380_0000  SMMU: command queue, event queue
//! 0x43c0_0000  SMMU: stream table
//! 0x4400_0000  the realm's RAM, up to the end of RAM
//! ```

/// Base of RAM: QEMU leaves its device tree here.
pub const RAM_BASE: u64 = 0x4000_0000;
/// Most bytes that QEMU's device tree can have.
pub const TREE_MAX: usize = 0x20_0000;
/// Initial stack pointer.
pub const STACK_TOP: u64 = 0x4080_0000;
/// Lowest word of the stack that may be used; it holds a canary.
pub const STACK_LIMIT: u64 = 0x4070_0000;
/// Stack of each CPU but the first; they lie one after the other above [`STACK_TOP`].
pub const STACK_OF_OTHERS: u64 = 0x4_0000;
/// Most CPUs.
pub const MAX_CPUS: usize = 8;
/// Heap of the stub.
pub const HEAP_BASE: u64 = 0x40a0_0000;
/// End of the heap.
pub const HEAP_END: u64 = 0x4200_0000;
/// Pages for translation tables.
pub const POOL_BASE: u64 = HEAP_END;
/// End of the page pool.
pub const POOL_END: u64 = 0x4300_0000;
/// The scenario blob.
pub const SCENARIO_BASE: u64 = POOL_END;
/// End of the room for the scenario blob.
pub const SCENARIO_END: u64 = 0x4380_0000;
/// First eight bytes of the scenario blob; a little-endian u64 length and the CBOR follow.
pub const SCENARIO_MAGIC: [u8; 8] = *b"GHSCEN01";
/// SMMU queues: 64 KiB, zeroed at start.
pub const SMMU_QUEUES: u64 = SCENARIO_END;
/// SMMU stream table: 2^16 entries of 64 bytes, aligned to its size.
pub const SMMU_STREAMS: u64 = 0x43c0_0000;
/// First byte of the realm's RAM.
pub const REALM_BASE: u64 = 0x4400_0000;

/// IPA width. The SMMU model's address size is 44 bits, and 40 would collide with the high PCI window.
pub const IPA_WIDTH: u32 = 44;
/// The bit that makes an IPA an alias (unprotected).
pub const ALIAS_BIT: u64 = 1 << (IPA_WIDTH - 1);
const _: () = assert!(STACK_TOP + (MAX_CPUS as u64 - 1) * STACK_OF_OTHERS <= HEAP_BASE);

/// Returns where the stack of a CPU begins, and its lowest word, which holds a canary.
pub const fn stack(cpu: usize) -> (u64, u64) {
    let top = STACK_TOP + cpu as u64 * STACK_OF_OTHERS;
    (top, if cpu == 0 { STACK_LIMIT } else { top - STACK_OF_OTHERS })
}

/// An SMC of test builds of the firmware only (src/arch/aarch64/fault.rs): x1 says what becomes pending.
pub const SMC_PEND: u64 = 0xc600_fa00;

/// Page size of everything here.
pub const PAGE: u64 = 4096;

/// The ITS page that a device writes its MSIs to.
pub const ITS_DOORBELL: u64 = 0x0809_0000;
/// First register of the emulated 16550: where QEMU has nothing, and inside a page, as VMMs have it.
pub const UART_16550: u64 = 0x0904_03f8;
/// Its interrupt: an SPI that QEMU virt uses for nothing.
pub const UART_16550_SPI: u32 = 10;
/// SMMUv3 registers.
pub const SMMU_BASE: u64 = 0x0905_0000;
/// Configuration space (machine default, `highmem-ecam=on`).
pub const ECAM_BASE: u64 = 0x40_1000_0000;
/// Size of the configuration space: 256 buses.
pub const ECAM_SIZE: u64 = 0x1000_0000;
