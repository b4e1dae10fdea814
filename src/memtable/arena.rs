//! Append-only memory for one memtable, and the typed pointers that live in it.
//!
//! Memory comes in chunks. The first is small, so that a transaction with one write pays for one small
//! heap block; each further one is four times larger, up to 1 MiB. Chunks of 64 KiB and more are
//! anonymous mappings, so that dropping them returns the memory to the system at once. Whatever needs
//! 64 KiB or more gets a chunk of its own and leaves the current one in use.
//!
//! Invariants:
//!
//! 1. A chunk is freed only when the [`Arena`] is dropped, and never moves. Hence whatever was allocated
//!    lives as long as the arena can be borrowed.
//! 2. No byte is handed out twice, and every byte is zero when it is handed out.
//! 3. Nothing in the arena is dropped one by one; types that need dropping are refused at compile time.
//! 4. A [`Link`] or [`EitherLink`] points to nothing or to initialised memory of the arena
//!    that outlives it. Setting one is the only unsafe step; following one is safe.
#![allow(unsafe_code)]

use crate::error::Error;
use memmap2::MmapMut;
use parking_lot::{Mutex, MutexGuard};
use std::alloc::Layout;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

const FIRST_CHUNK_BYTES: usize = 2 << 10;
const LAST_CHUNK_BYTES: usize = 1 << 20;
const CHUNK_GROWTH: usize = 4;
/// From here on: a mapping instead of a heap block, and a chunk of its own.
const LARGE_BYTES: usize = 64 << 10;
const MAX_ALIGN: usize = 64;
/// What the system's heap gives without detours.
const HEAP_ALIGN: usize = 16;

/// The system gave no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

impl From<OutOfMemory> for Error {
    fn from(_: OutOfMemory) -> Error {
        Error::io("allocate", Path::new("memory"), io::ErrorKind::OutOfMemory.into())
    }
}

/// The chunks of one memtable.
#[derive(Debug)]
pub struct Arena {
    taken_bytes: AtomicUsize,
    /// Successful allocations until one fails.
    #[cfg(test)]
    pub fails_in: AtomicUsize,
    state: Mutex<State>,
}

/// The one writer of an arena.
pub struct ArenaWriter<'a> {
    arena: &'a Arena,
    state: MutexGuard<'a, State>,
}

impl Arena {
    /// An arena without memory; the first allocation takes some.
    pub const fn new() -> Arena {
        let state = State {
            free: ptr::null_mut(),
            free_bytes: 0,
            next_chunk_bytes: FIRST_CHUNK_BYTES,
            chunks: Vec::new(),
        };
        Arena {
            taken_bytes: AtomicUsize::new(0),
            #[cfg(test)]
            fails_in: AtomicUsize::new(usize::MAX),
            state: Mutex::new(state),
        }
    }

    /// Becomes the writer; waits while there is another.
    pub fn writer(&self) -> ArenaWriter<'_> {
        ArenaWriter { arena: self, state: self.state.lock() }
    }

    /// Memory taken from the system, in bytes.
    pub fn bytes(&self) -> usize {
        self.taken_bytes.load(Ordering::Relaxed)
    }

    /// Memory handed out, and lost at the ends of chunks, in bytes.
    #[cfg(test)]
    pub fn used_bytes(&self) -> usize {
        self.bytes() - self.state.lock().free_bytes
    }
}

impl<'a> ArenaWriter<'a> {
    /// Moves a value into the arena.
    #[inline]
    pub fn alloc<T: Sync>(&mut self, value: T) -> Result<&'a T, OutOfMemory> {
        const { assert!(!std::mem::needs_drop::<T>() && align_of::<T>() <= MAX_ALIGN) };
        let place = self.take(size_of::<T>(), align_of::<T>())?.cast::<T>();
        // SAFETY: 1. `take` gave `size_of::<T>()` bytes, aligned for `T`, that nobody else has.
        // 2. The memory lives as long as the arena (invariant 1), which is borrowed for `'a`.
        unsafe {
            place.write(value);
            Ok(place.as_ref())
        }
    }

    /// Takes zeroed bytes out of the arena. `align` is a power of two of at most 64.
    #[inline]
    pub fn take(&mut self, bytes: usize, align: usize) -> Result<NonNull<u8>, OutOfMemory> {
        debug_assert!(align.is_power_of_two() && align <= MAX_ALIGN);
        #[cfg(test)]
        if self.arena.fails_in.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(OutOfMemory);
        }
        let padding = self.state.free.addr().wrapping_neg() & (align - 1);
        if bytes < LARGE_BYTES && padding + bytes <= self.state.free_bytes {
            return Ok(self.state.cut(padding, bytes));
        }
        self.take_from_new_chunk(bytes, align)
    }

    #[cold]
    fn take_from_new_chunk(
        &mut self,
        bytes: usize,
        align: usize,
    ) -> Result<NonNull<u8>, OutOfMemory> {
        if bytes >= LARGE_BYTES {
            // Records need less than the alignment of any chunk; nodes are never that large.
            debug_assert!(align <= HEAP_ALIGN);
            return self.add_chunk(bytes);
        }
        let chunk_bytes = self.state.next_chunk_bytes.max((bytes + align).next_power_of_two());
        let start = self.add_chunk(chunk_bytes)?;
        let state = &mut *self.state;
        state.free = start.as_ptr();
        state.free_bytes = chunk_bytes;
        state.next_chunk_bytes = (chunk_bytes * CHUNK_GROWTH).min(LAST_CHUNK_BYTES);
        let padding = state.free.addr().wrapping_neg() & (align - 1);
        Ok(state.cut(padding, bytes))
    }

    fn add_chunk(&mut self, bytes: usize) -> Result<NonNull<u8>, OutOfMemory> {
        self.state.chunks.try_reserve(1).map_err(|_| OutOfMemory)?;
        let chunk = Chunk::new(bytes)?;
        let start = chunk.start();
        self.state.chunks.push(chunk);
        self.arena.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(start)
    }
}

/// Points to nothing or to one `T` in the arena.
#[derive(Debug)]
pub struct Link<T>(AtomicPtr<T>);

impl<T: Sync> Link<T> {
    /// Points to nothing.
    pub const fn empty() -> Self {
        Link(AtomicPtr::new(ptr::null_mut()))
    }

    /// Follows the link; sees all that was written before it was set.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: invariant 4: null, or set by `set`, whose caller vouches for the target's life; targets
        // are only ever shared, never borrowed exclusively.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Points the link to `target`.
    ///
    /// # Safety
    /// `target` lies in an arena that is not dropped while this link can be borrowed.
    #[inline]
    pub unsafe fn set(&self, target: &T) {
        self.0.store(ptr::from_ref(target).cast_mut(), Ordering::Release);
    }
}

/// What an [`EitherLink`] points to.
#[derive(Debug)]
pub enum Either<'a, A, B> {
    /// One kind.
    Left(&'a A),
    /// The other kind.
    Right(&'a B),
}

impl<A, B> Clone for Either<'_, A, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, B> Copy for Either<'_, A, B> {}

/// Points to nothing, to an `A` or to a `B` in the arena. The lowest bit of the address tells which.
#[derive(Debug)]
pub struct EitherLink<A, B>(AtomicPtr<u8>, std::marker::PhantomData<(*const A, *const B)>);

// SAFETY: following a link yields only shared references to `A` and `B`, which are `Sync`; the link
// itself is one atomic.
unsafe impl<A: Sync, B: Sync> Sync for EitherLink<A, B> {}
// SAFETY: as above.
unsafe impl<A: Sync, B: Sync> Send for EitherLink<A, B> {}

impl<A: Sync, B: Sync> EitherLink<A, B> {
    /// Points to nothing.
    pub const fn empty() -> Self {
        const { assert!(align_of::<A>() > 1 && align_of::<B>() > 1) };
        EitherLink(AtomicPtr::new(ptr::null_mut()), std::marker::PhantomData)
    }

    /// Follows the link; sees all that was written before it was set.
    #[inline]
    pub fn get(&self) -> Option<Either<'_, A, B>> {
        let tagged = self.0.load(Ordering::Acquire);
        if tagged.is_null() {
            return None;
        }
        // SAFETY: invariant 4, and `set` tags exactly the addresses of `B`; both types are aligned to
        // more than one byte, so that the bit is free.
        Some(unsafe {
            match tagged.addr() & 1 {
                0 => Either::Left(&*tagged.cast::<A>()),
                _ => Either::Right(&*tagged.wrapping_sub(1).cast::<B>()),
            }
        })
    }

    /// Points the link to `target`.
    ///
    /// # Safety
    /// As for [`Link::set`].
    #[inline]
    pub unsafe fn set(&self, target: Either<'_, A, B>) {
        let tagged = match target {
            Either::Left(left) => ptr::from_ref(left).cast::<u8>(),
            Either::Right(right) => ptr::from_ref(right).cast::<u8>().wrapping_add(1),
        };
        self.0.store(tagged.cast_mut(), Ordering::Release);
    }
}

/// Numbers that begin as zeros, in memory of their own. Costs no touch of the memory if it is large.
#[derive(Debug)]
pub struct Zeros {
    chunk: Chunk,
    count: usize,
}

impl Zeros {
    /// Takes memory for `count` numbers, at least one.
    pub fn new(count: usize) -> Result<Zeros, OutOfMemory> {
        let bytes = count.checked_mul(size_of::<AtomicU64>()).ok_or(OutOfMemory)?;
        Ok(Zeros { chunk: Chunk::new(bytes)?, count })
    }

    /// Memory taken from the system, in bytes.
    pub fn bytes(&self) -> usize {
        self.count * size_of::<AtomicU64>()
    }
}

impl Deref for Zeros {
    type Target = [AtomicU64];
    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        let start = self.chunk.start().cast::<AtomicU64>();
        // SAFETY: 1. The chunk has room for `count` numbers, is aligned for them, and is zero at first,
        // which is a valid number. 2. It lives as long as `self`, and is used through this slice only.
        unsafe { NonNull::slice_from_raw_parts(start, self.count).as_ref() }
    }
}

/// What only the writer sees. `free..free + free_bytes` is the untouched rest of one chunk.
#[derive(Debug)]
struct State {
    free: *mut u8,
    free_bytes: usize,
    next_chunk_bytes: usize,
    chunks: Vec<Chunk>,
}

// SAFETY: `free` points into a chunk that this same value owns; nothing is tied to a thread.
unsafe impl Send for State {}

impl State {
    /// Takes the next `bytes` after skipping `padding`; the caller has checked that both fit.
    #[inline]
    fn cut(&mut self, padding: usize, bytes: usize) -> NonNull<u8> {
        let start = self.free.wrapping_add(padding);
        self.free = start.wrapping_add(bytes);
        self.free_bytes -= padding + bytes;
        // SAFETY: `start` lies in a chunk (callers ask for more than nothing, so that a chunk is there),
        // hence it is not null.
        unsafe { NonNull::new_unchecked(start) }
    }
}

/// One piece of memory from the system, zeroed. `start` was taken before the memory was shared and is
/// the only way to it.
#[derive(Debug)]
struct Chunk {
    start: NonNull<u8>,
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    Heap(Layout),
    /// Held only to be unmapped.
    Mapped(#[allow(dead_code)] MmapMut),
}

// SAFETY: a chunk owns its memory, gives out nothing but its address, and is not tied to a thread.
unsafe impl Send for Chunk {}
// SAFETY: as above; a shared chunk offers nothing but its address.
unsafe impl Sync for Chunk {}

impl Chunk {
    fn new(bytes: usize) -> Result<Chunk, OutOfMemory> {
        // (Miri knows no mappings.)
        if bytes >= LARGE_BYTES && !cfg!(miri) {
            let mut map = MmapMut::map_anon(bytes).map_err(|_| OutOfMemory)?;
            let start = NonNull::new(map.as_mut_ptr()).ok_or(OutOfMemory)?;
            return Ok(Chunk { start, memory: Memory::Mapped(map) });
        }
        let layout = Layout::from_size_align(bytes, HEAP_ALIGN).map_err(|_| OutOfMemory)?;
        assert!(layout.size() > 0);
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).ok_or(OutOfMemory)?;
        Ok(Chunk { start, memory: Memory::Heap(layout) })
    }

    fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Memory::Heap(layout) = self.memory {
            // SAFETY: 1. `start` came from the allocator with this layout and is freed once. 2. Chunks
            // are dropped with their owner only, when nothing borrows from it any more (invariant 1).
            unsafe { std::alloc::dealloc(self.start.as_ptr(), layout) }
        }
    }
}
