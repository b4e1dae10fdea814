//! An allocator that can be told to fail: the *n*-th request from now on, alone or with all after it.
//!
//! Everything else goes to the system's allocator. Only one thread at a time arms it.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The allocator of this program.
pub struct Failing;

#[global_allocator]
static ALLOCATOR: Failing = Failing;

static ARMED: AtomicBool = AtomicBool::new(false);
static FOR_GOOD: AtomicBool = AtomicBool::new(false);
static REQUESTS: AtomicU64 = AtomicU64::new(0);
static FAILS_AT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Counts requests from here on, and lets the one of this index (the first is 0) fail; `for_good`: and all
/// after it.
pub fn arm(index: u64, for_good: bool) {
    REQUESTS.store(0, Ordering::SeqCst);
    FAILS_AT.store(index, Ordering::SeqCst);
    FOR_GOOD.store(for_good, Ordering::SeqCst);
    ARMED.store(true, Ordering::SeqCst);
}

/// Nothing fails any more. Gives the number of requests since [`arm`].
pub fn disarm() -> u64 {
    ARMED.store(false, Ordering::SeqCst);
    REQUESTS.load(Ordering::SeqCst)
}

fn fails() -> bool {
    if !ARMED.load(Ordering::Relaxed) {
        return false;
    }
    let index = REQUESTS.fetch_add(1, Ordering::SeqCst);
    let at = FAILS_AT.load(Ordering::SeqCst);
    index == at || (index > at && FOR_GOOD.load(Ordering::SeqCst))
}

// SAFETY: 1. Every request is handed on to `System` with the caller's own arguments, or refused with a null
// pointer, which the trait allows. 2. What was handed out came from `System` and goes back to it.
// 3. Nothing here allocates or unwinds.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: as above, 1.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: as above, 1.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: as above, 1 and 2.
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above, 2.
        unsafe { System.dealloc(pointer, layout) }
    }
}
