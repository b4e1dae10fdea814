//! Pieces of memory from the system.
//!
//! Small ones are heap blocks; from 64 KiB on they are anonymous mappings, so that dropping them returns the memory to
//! the system at once. [`Chunk`] is for the arenas of memtables, [`Zeros`] for tables of numbers.
//!
//! Invariant: a chunk never moves, and is freed only when its owner drops it.
#![allow(unsafe_code)]

use crate::error::Error;
use memmap2::{MmapMut, MmapOptions};
use std::alloc::Layout;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// From here on: a mapping instead of a heap block.
pub const LARGE_BYTES: usize = 64 << 10;
const CACHE_LINE_BYTES: usize = 64;
/// What the system's heap gives without detours. (In shuttle's schedules, which repeat exactly, how much fits
/// into a chunk must not depend on where it lies.)
pub const HEAP_ALIGN: usize = if cfg!(shuttle) { CACHE_LINE_BYTES } else { 16 };

/// The system gave no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

impl From<OutOfMemory> for Error {
    fn from(_: OutOfMemory) -> Error {
        Error::io("allocate", Path::new("memory"), io::ErrorKind::OutOfMemory.into())
    }
}

/// How a chunk will be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// From the front to the back, at once.
    Pages,
    /// Likewise, more slowly, and read everywhere.
    HugePages,
    /// Here and there; what was not written must be zero.
    Zeros,
    /// Likewise, and read everywhere.
    HugeZeros,
}

/// One piece of memory from the system. `start` was taken before the memory was shared and is
/// the only way to it that leaves this file.
#[derive(Debug)]
pub struct Chunk {
    start: NonNull<u8>,
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    Heap(Layout),
    /// Held only to be unmapped.
    Mapped {
        map: MmapMut,
        in_file: bool,
    },
}

// SAFETY: a chunk owns its memory, gives out nothing but its address, and is not tied to a thread.
unsafe impl Send for Chunk {}
// SAFETY: as above; a shared chunk offers nothing but its address.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// Takes memory.
    pub fn new(bytes: usize, fill: Fill) -> Result<Chunk, OutOfMemory> {
        // (Miri knows no mappings.)
        if bytes >= LARGE_BYTES && !cfg!(miri) {
            return Chunk::mapped(bytes, fill);
        }
        let align = match fill {
            Fill::Pages | Fill::HugePages => HEAP_ALIGN,
            Fill::Zeros | Fill::HugeZeros => CACHE_LINE_BYTES,
        };
        let layout = Layout::from_size_align(bytes, align).map_err(|_| OutOfMemory)?;
        assert!(layout.size() > 0);
        // SAFETY: the layout's size is not zero.
        let start = unsafe {
            match fill {
                Fill::Zeros | Fill::HugeZeros => std::alloc::alloc_zeroed(layout),
                Fill::Pages | Fill::HugePages => std::alloc::alloc(layout),
            }
        };
        Ok(Chunk { start: NonNull::new(start).ok_or(OutOfMemory)?, memory: Memory::Heap(layout) })
    }

    fn mapped(bytes: usize, fill: Fill) -> Result<Chunk, OutOfMemory> {
        let mut options = MmapOptions::new();
        if fill == Fill::Pages {
            options.populate();
        }
        let mut map = options.len(bytes).map_anon().map_err(|_| OutOfMemory)?;
        #[cfg(target_os = "linux")]
        if matches!(fill, Fill::HugePages | Fill::HugeZeros) {
            // A hint; without it the chunk has common pages.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        let start = NonNull::new(map.as_mut_ptr()).ok_or(OutOfMemory)?;
        Ok(Chunk { start, memory: Memory::Mapped { map, in_file: false } })
    }

    /// Its first byte.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        match &self.memory {
            Memory::Heap(layout) => layout.size(),
            Memory::Mapped { map, .. } => map.len(),
        }
    }

    /// Its first byte and its length if it is a mapping that no file stands behind, and the mark that one does.
    #[cfg(target_os = "linux")]
    pub fn without_file(&mut self) -> Option<(NonNull<u8>, usize, &mut bool)> {
        match &mut self.memory {
            Memory::Mapped { map, in_file: in_file @ false } => {
                Some((self.start, map.len(), in_file))
            }
            _ => None,
        }
    }

    /// Whether another owner can use it: mapped, and not shown from a file.
    pub fn is_reusable(&self) -> bool {
        matches!(self.memory, Memory::Mapped { in_file: false, .. })
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Memory::Heap(layout) = self.memory {
            // SAFETY: 1. `start` came from the allocator with this layout, in `Chunk::new`, and is freed once. 2. A
            // chunk is dropped with its owner only, when nothing borrows from that any more (the invariant).
            unsafe { std::alloc::dealloc(self.start.as_ptr(), layout) }
        }
    }
}

/// Numbers that begin as zeros, in memory of their own, at the start of a cache line. Costs no touch of the memory if it is large.
#[derive(Debug)]
pub struct Zeros {
    chunk: Chunk,
    count: usize,
}

impl Zeros {
    /// Takes memory for `count` numbers, at least one.
    pub fn new(count: usize) -> Result<Zeros, OutOfMemory> {
        Zeros::filled(count, Fill::Zeros)
    }

    /// Likewise, in huge pages where the system has them: reads all over it look up fewer translations, and the first
    /// touch of each page takes longer.
    pub fn in_huge_pages(count: usize) -> Result<Zeros, OutOfMemory> {
        Zeros::filled(count, Fill::HugeZeros)
    }

    fn filled(count: usize, fill: Fill) -> Result<Zeros, OutOfMemory> {
        let bytes = count.checked_mul(size_of::<AtomicU64>()).ok_or(OutOfMemory)?;
        Ok(Zeros { chunk: Chunk::new(bytes, fill)?, count })
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
