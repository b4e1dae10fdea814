//! Asking the processor for bytes before they are needed: for a scan over records that are not in its caches, and
//! for places in an index that are many and known beforehand. An instruction on x86-64 and arm64, nothing elsewhere.
//!
//! Invariant: no effect but on time.

#![allow(unsafe_code)]

/// Bytes that a cache holds together.
const LINE_BYTES: usize = 64;

/// Asks for the cache lines of `bytes[from..from + length]`, as far as they lie within.
#[inline(always)]
pub fn read(bytes: &[u8], from: usize, length: usize) {
    let end = from.saturating_add(length).min(bytes.len());
    let mut at = from;
    while at < end {
        line(&bytes[at]);
        at += LINE_BYTES;
    }
}

/// Asks for the cache line in which a value begins.
#[inline(always)]
pub fn line<T>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: 1. The instruction is part of every x86-64 processor. 2. It reads nothing that the program
    //    can see and never faults, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: 1. The instruction is part of every arm64 processor. 2. It reads nothing that the program can
    //    see, never faults, and changes neither flags nor the stack.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) std::ptr::from_ref(value),
            options(nostack, preserves_flags, readonly));
    }
    let _ = value;
}
