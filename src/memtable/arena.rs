//! Append-only memory for one memtable.
//!
//! Memory comes in chunks. The first is small, so that a transaction with one write pays for one small
//! heap block; each further one is four times larger, up to a bound. Chunks of 64 KiB and more are
//! anonymous mappings, so that dropping them returns the memory to the system at once. Whatever needs
//! 64 KiB or more gets a chunk of its own and leaves the current one in use.
//!
//! From the first mapped chunk on, nodes lie apart from records: searches go through nodes, and the fewer
//! pages these are on, the fewer translations the processor has to look up. Mapped chunks for records
//! are filled with pages when they are made (a sixth less time per insertion than faulting them in one by
//! one), and are small enough that this takes some tens of microseconds. Large chunks for nodes ask for
//! huge pages. An arena with a [`ChunkPool`] takes mapped chunks from there first, and gives its own back there.
//!
//! Invariants:
//!
//! 1. A chunk is freed, or handed on, only when the [`Arena`] is dropped, and never moves. Hence whatever was
//!    allocated lives as long as the arena can be borrowed.
//! 2. No byte is handed out twice.
//! 3. Nothing in the arena is dropped one by one; types that need dropping are refused at compile time.
//! 4. Once an arena was moved into a file ([`Arena::move_to_file`]) nobody writes into it.
#![allow(unsafe_code)]

use super::pool::ChunkPool;
use crate::fs::File;
#[cfg(target_os = "linux")]
use crate::fs::{self, Barrier};
use crate::memory::{Chunk, Fill, HEAP_ALIGN, LARGE_BYTES, OutOfMemory};
use crate::sync::engine::{Mutex, MutexGuard};
use std::io;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const FIRST_CHUNK_BYTES: usize = 2 << 10;
const CHUNK_GROWTH: usize = 4;
pub(super) const LAST_RECORD_CHUNK_BYTES: usize = 512 << 10;
/// As large as a huge page on common machines.
const LAST_NODE_CHUNK_BYTES: usize = 2 << 20;
const MAX_ALIGN: usize = 64;
/// A multiple of every page size.
#[cfg(target_os = "linux")]
const PAGE_LIMIT_BYTES: u64 = 64 << 10;

/// What memory is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// Nodes of trees.
    Nodes,
    /// Keys and values.
    Records,
}

/// The chunks of one memtable.
#[derive(Debug)]
pub struct Arena {
    taken_bytes: AtomicUsize,
    /// Successful allocations until one fails.
    #[cfg(test)]
    pub fails_in: AtomicUsize,
    state: Mutex<State>,
    pool: Option<Arc<ChunkPool>>,
}

/// The one writer of an arena.
pub struct ArenaWriter<'a> {
    arena: &'a Arena,
    state: MutexGuard<'a, State>,
}

impl Arena {
    /// An arena without memory; the first allocation takes some.
    pub const fn new(pool: Option<Arc<ChunkPool>>) -> Arena {
        let state = State {
            nodes: Rest::new(LARGE_BYTES),
            records: Rest::new(FIRST_CHUNK_BYTES),
            are_apart: false,
            chunks: Vec::new(),
        };
        Arena {
            taken_bytes: AtomicUsize::new(0),
            #[cfg(test)]
            fails_in: AtomicUsize::new(usize::MAX),
            state: Mutex::new(state),
            pool,
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

    /// Moves the mapped chunks into `file`, which is empty and has no name: they keep their addresses, and
    /// what was borrowed from them stays as it is, but the system may take their memory and read them
    /// again. For an arena that is not written any more. Returns how many bytes of memory that freed.
    #[cfg(target_os = "linux")]
    pub fn move_to_file(&self, file: &dyn File) -> io::Result<usize> {
        let Some(descriptor) = file.descriptor() else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let mut state = self.state.lock();
        let mut places = Vec::new();
        let mut end = 0_u64;
        for chunk in &mut state.chunks {
            let Some((start, len, in_file)) = chunk.without_file() else { continue };
            // SAFETY: 1. The mapping is `len` bytes long, and the system began it with zeros, so that
            // every byte has a value, in whichever arena it was written. 2. It is not written meanwhile: the
            // writer's lock is held, and readers never write.
            let bytes = unsafe { NonNull::slice_from_raw_parts(start, len).as_ref() };
            fs::write_full(file, bytes, end)?;
            places.push((start, len, end, in_file));
            end += (len as u64).next_multiple_of(PAGE_LIMIT_BYTES);
        }
        // What could not be written must not be read back.
        fs::sync_data(file, Barrier::TableContent)?;
        let mut freed = 0;
        for (start, len, at, in_file) in places {
            let at = at.try_into().map_err(|_| io::ErrorKind::FileTooLarge)?;
            // Before the call: if it fails, some systems have taken the old memory away.
            *in_file = true;
            // SAFETY: 1. `start` and `len` are those of a mapping of this arena, so the call replaces
            // nothing else. 2. The file holds the same bytes at `at`, a multiple of any page size, and
            // nobody else can write them: it has no name. So readers see no change, whenever the system
            // makes the replacement, which is at once for each page. 3. The chunk unmaps the same range in
            // the end. 4. Nobody writes through it any more (invariant 4).
            let mapped = unsafe {
                libc::mmap64(
                    start.as_ptr().cast(),
                    len,
                    libc::PROT_READ,
                    libc::MAP_SHARED | libc::MAP_FIXED,
                    std::os::fd::AsRawFd::as_raw_fd(&descriptor),
                    at,
                )
            };
            if mapped == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            freed += len;
            self.taken_bytes.fetch_sub(len, Ordering::Relaxed);
        }
        Ok(freed)
    }

    /// There is no way here.
    #[cfg(not(target_os = "linux"))]
    pub fn move_to_file(&self, _file: &dyn File) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Memory handed out, and lost at the ends of chunks, in bytes.
    #[cfg(test)]
    pub fn used_bytes(&self) -> usize {
        let state = self.state.lock();
        self.bytes() - state.records.free_bytes - state.nodes.free_bytes
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.give(self.state.get_mut().chunks.drain(..).filter(Chunk::is_reusable));
        }
    }
}

impl<'a> ArenaWriter<'a> {
    /// Moves a value into the arena.
    #[inline]
    pub fn alloc<T: Sync>(&mut self, value: T) -> Result<&'a T, OutOfMemory> {
        const { assert!(!std::mem::needs_drop::<T>() && align_of::<T>() <= MAX_ALIGN) };
        let place = self.take(Zone::Nodes, size_of::<T>(), align_of::<T>())?.cast::<T>();
        // SAFETY: 1. `take` gave `size_of::<T>()` bytes, aligned for `T`, that nobody else has.
        // 2. The memory lives as long as the arena (invariant 1), which is borrowed for `'a`.
        unsafe {
            place.write(value);
            Ok(place.as_ref())
        }
    }

    /// Takes bytes out of the arena; what they hold is not known. `align` is a power of two of at most 64.
    #[inline]
    pub fn take(
        &mut self,
        zone: Zone,
        bytes: usize,
        align: usize,
    ) -> Result<NonNull<u8>, OutOfMemory> {
        debug_assert!(align.is_power_of_two() && align <= MAX_ALIGN);
        #[cfg(test)]
        if self.arena.fails_in.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(OutOfMemory);
        }
        let rest = self.state.rest(zone);
        let padding = rest.padding(align);
        if bytes < LARGE_BYTES && padding + bytes <= rest.free_bytes {
            return Ok(rest.cut(padding, bytes));
        }
        self.take_from_new_chunk(zone, bytes, align)
    }

    #[cold]
    fn take_from_new_chunk(
        &mut self,
        zone: Zone,
        bytes: usize,
        align: usize,
    ) -> Result<NonNull<u8>, OutOfMemory> {
        if bytes >= LARGE_BYTES {
            // Records need less than the alignment of any chunk; nodes are never that large.
            debug_assert!(align <= HEAP_ALIGN);
            return self.add_chunk(bytes, Fill::Pages);
        }
        let chunk_bytes = self.state.rest(zone).next_chunk_bytes;
        let chunk_bytes = chunk_bytes.max((bytes + align).next_power_of_two());
        let last_chunk_bytes = match zone {
            Zone::Nodes => LAST_NODE_CHUNK_BYTES,
            Zone::Records => LAST_RECORD_CHUNK_BYTES,
        };
        let is_huge = chunk_bytes >= LAST_NODE_CHUNK_BYTES;
        let fill = if is_huge { Fill::HugePages } else { Fill::Pages };
        let start = self.add_chunk(chunk_bytes, fill)?;
        self.state.are_apart |= chunk_bytes >= LARGE_BYTES;
        let rest = self.state.rest(zone);
        rest.free = start.as_ptr();
        rest.free_bytes = chunk_bytes;
        rest.next_chunk_bytes = (chunk_bytes * CHUNK_GROWTH).min(last_chunk_bytes);
        let padding = rest.padding(align);
        Ok(rest.cut(padding, bytes))
    }

    fn add_chunk(&mut self, bytes: usize, fill: Fill) -> Result<NonNull<u8>, OutOfMemory> {
        self.state.chunks.try_reserve(1).map_err(|_| OutOfMemory)?;
        let pool = self.arena.pool.as_ref().filter(|_| bytes >= LARGE_BYTES);
        let chunk = match pool.and_then(|pool| pool.take(bytes)) {
            Some(chunk) => chunk,
            None => Chunk::new(bytes, fill)?,
        };
        let start = chunk.start();
        self.arena.taken_bytes.fetch_add(chunk.len(), Ordering::Relaxed);
        self.state.chunks.push(chunk);
        Ok(start)
    }
}

/// What only the writer sees.
#[derive(Debug)]
struct State {
    nodes: Rest,
    records: Rest,
    /// Whether nodes have chunks of their own.
    are_apart: bool,
    chunks: Vec<Chunk>,
}

impl State {
    #[inline]
    fn rest(&mut self, zone: Zone) -> &mut Rest {
        match zone {
            Zone::Nodes if self.are_apart => &mut self.nodes,
            _ => &mut self.records,
        }
    }
}

/// The untouched rest of one chunk: `free_bytes` from `free` on.
#[derive(Debug)]
struct Rest {
    free: *mut u8,
    free_bytes: usize,
    next_chunk_bytes: usize,
}

// SAFETY: `free` points into a chunk that the same `State` owns; nothing is tied to a thread.
unsafe impl Send for Rest {}

impl Rest {
    const fn new(next_chunk_bytes: usize) -> Rest {
        Rest { free: ptr::null_mut(), free_bytes: 0, next_chunk_bytes }
    }

    #[inline]
    fn padding(&self, align: usize) -> usize {
        self.free.addr().wrapping_neg() & (align - 1)
    }

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
