//! One version of one key, as it lies in the arena.
//!
//! ```text
//! chain    older u64 (address)   jump u64 (address)   depth u64     only if there is an older version
//! header   seqno u64   value_bytes u32   key_bytes u16   flags u16  <- what pointers point to
//! bytes    key, value
//! ```
//!
//! Everything is aligned to 8 bytes. The versions of a key form a chain from the newest to the oldest.
//! `jump` leads some way down the chain, chosen from depths alone (Myers, "An applicative random-access
//! stack", 1983), so that a read at an old seqno takes a logarithmic number of steps even on a key that
//! was overwritten a million times.
//!
//! Invariants: a record never changes after it was published, but for its seqno, which range fragments
//! raise in place; seqnos never grow along a chain; `older` and `jump` lie in the same arena.
#![allow(unsafe_code)]

use super::arena::{ArenaWriter, Zone};
use crate::memory::OutOfMemory;
use crate::types::Seqno;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

const TOMBSTONE: u16 = 1;
const CHAINED: u16 = 2;

/// A version of a key in an arena that is borrowed for `'a`.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    header: NonNull<Header>,
    arena: PhantomData<&'a [u8]>,
}

// SAFETY: a record is read-only shared memory, but for its seqno, which is atomic.
unsafe impl Send for Record<'_> {}
// SAFETY: as above.
unsafe impl Sync for Record<'_> {}

impl<'a> Record<'a> {
    /// Writes a version into the arena, on top of `older`. The caller has bounded key and value.
    ///
    /// # Safety
    /// `older` lies in the arena of `arena`.
    pub unsafe fn write(
        arena: &mut ArenaWriter<'a>,
        older: Option<Record<'_>>,
        key: &[u8],
        seqno: Seqno,
        value: Option<&[u8]>,
    ) -> Result<Record<'a>, OutOfMemory> {
        let bytes = value.unwrap_or_default();
        let (Ok(key_bytes), Ok(value_bytes)) = (key.len().try_into(), bytes.len().try_into())
        else {
            return Err(OutOfMemory);
        };
        let chain_bytes = if older.is_some() { size_of::<Chain>() } else { 0 };
        let head_bytes = chain_bytes + size_of::<Header>();
        let total = (head_bytes + key.len()).checked_add(bytes.len()).ok_or(OutOfMemory)?;
        let total = total.checked_next_multiple_of(8).ok_or(OutOfMemory)?;
        let start = arena.take(Zone::Records, total, 8)?;
        let mut flags = if value.is_none() { TOMBSTONE } else { 0 };
        // SAFETY: 1. `start` has `total` bytes, aligned to 8, that nobody else sees yet; the parts written
        // below add up to at most `total` and do not overlap; `Chain` and `Header` are multiples of 8
        // long. 2. Source and target are different memory.
        unsafe {
            if let Some(older) = older {
                flags |= CHAINED;
                start.cast::<Chain>().write(Chain::on(older));
            }
            let header = start.add(chain_bytes).cast::<Header>();
            let seqno = AtomicU64::new(seqno.0);
            header.write(Header { seqno, value_bytes, key_bytes, flags });
            let body = start.add(head_bytes).as_ptr();
            ptr::copy_nonoverlapping(key.as_ptr(), body, key.len());
            ptr::copy_nonoverlapping(bytes.as_ptr(), body.add(key.len()), bytes.len());
            Ok(Record { header, arena: PhantomData })
        }
    }

    /// The key.
    #[inline]
    pub fn key(self) -> &'a [u8] {
        let key_bytes = usize::from(self.header().key_bytes);
        // SAFETY: `write` put `key_bytes` bytes behind the header, in the same allocation; they never
        // change and live for `'a`.
        unsafe { std::slice::from_raw_parts(self.body(), key_bytes) }
    }

    /// The value; `None` for a tombstone.
    #[inline]
    pub fn value(self) -> Option<&'a [u8]> {
        let header = self.header();
        if header.flags & TOMBSTONE != 0 {
            return None;
        }
        // SAFETY: `write` put `value_bytes` bytes behind the key; otherwise as in `key`.
        Some(unsafe {
            let start = self.body().add(usize::from(header.key_bytes));
            std::slice::from_raw_parts(start, header.value_bytes as usize)
        })
    }

    /// Whether this version says that the key is gone.
    #[inline]
    pub fn is_tombstone(self) -> bool {
        self.header().flags & TOMBSTONE != 0
    }

    /// When it was written.
    #[inline]
    pub fn seqno(self) -> Seqno {
        Seqno(self.header().seqno.load(Ordering::Relaxed))
    }

    /// Sets a higher seqno in place. For range fragments only: readers must take either.
    pub fn raise_seqno(self, seqno: Seqno) {
        debug_assert!(seqno >= self.seqno());
        self.header().seqno.store(seqno.0, Ordering::Relaxed);
    }

    /// The newest version from here down that is at or before `at`.
    #[inline]
    pub fn visible(self, at: Seqno) -> Option<Record<'a>> {
        if self.seqno() <= at { Some(self) } else { self.visible_below(at) }
    }

    fn visible_below(self, at: Seqno) -> Option<Record<'a>> {
        let mut record = self;
        while record.seqno() > at {
            let chain = record.chain()?;
            // A jump that is still too new skips only versions that are too new as well.
            let jump = record.at(chain.jump);
            record = if jump.seqno() > at { jump } else { record.at(chain.older) };
        }
        Some(record)
    }

    fn depth(self) -> u64 {
        self.chain().map_or(0, |chain| chain.depth)
    }

    fn jump(self) -> Record<'a> {
        self.chain().map_or(self, |chain| self.at(chain.jump))
    }

    fn at(self, header: NonNull<Header>) -> Record<'a> {
        Record { header, arena: PhantomData }
    }

    fn chain(self) -> Option<&'a Chain> {
        if self.header().flags & CHAINED == 0 {
            return None;
        }
        // SAFETY: the flag says that `write` put a `Chain` right before the header, in the same
        // allocation; it never changes and lives for `'a`.
        Some(unsafe { self.header.cast::<Chain>().sub(1).as_ref() })
    }

    #[inline]
    fn header(self) -> &'a Header {
        // SAFETY: a `Record` is made only by `write`, from the chain of another one, or by a
        // `RecordLink`; each points to an initialised header that lives for `'a`.
        unsafe { self.header.as_ref() }
    }

    #[inline]
    fn body(self) -> *const u8 {
        self.header.as_ptr().cast_const().wrapping_add(1).cast()
    }
}

/// Points to nothing or to a record in the arena.
#[derive(Debug)]
pub struct RecordLink(AtomicPtr<Header>);

impl RecordLink {
    /// Points to nothing.
    pub const fn empty() -> Self {
        RecordLink(AtomicPtr::new(ptr::null_mut()))
    }

    /// Follows the link; sees all that was written before it was set.
    #[inline]
    pub fn get(&self) -> Option<Record<'_>> {
        let header = NonNull::new(self.0.load(Ordering::Acquire))?;
        Some(Record { header, arena: PhantomData })
    }

    /// Points the link to `record`, or to nothing.
    ///
    /// # Safety
    /// `record` lies in an arena that is not dropped while this link can be borrowed.
    #[inline]
    pub unsafe fn set(&self, record: Option<Record<'_>>) {
        let header = record.map_or(ptr::null_mut(), |record| record.header.as_ptr());
        self.0.store(header, Ordering::Release);
    }

    /// Asks the processor to load the record's first bytes. Changes nothing.
    #[inline]
    pub fn prefetch(&self) {
        prefetch(self.0.load(Ordering::Relaxed).cast_const());
    }
}

/// Asks the processor to load the cache line at `address`, which need not be valid.
#[inline]
pub fn prefetch<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch is a hint; it neither faults nor reads, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}

#[repr(C)]
#[derive(Debug)]
struct Header {
    seqno: AtomicU64,
    value_bytes: u32,
    key_bytes: u16,
    flags: u16,
}

#[repr(C)]
struct Chain {
    older: NonNull<Header>,
    jump: NonNull<Header>,
    depth: u64,
}

impl Chain {
    fn on(older: Record<'_>) -> Chain {
        let jump = older.jump();
        let far = jump.jump();
        let even = older.depth() - jump.depth() == jump.depth() - far.depth();
        let target = if even { far } else { older };
        Chain { older: older.header, jump: target.header, depth: older.depth() + 1 }
    }
}
