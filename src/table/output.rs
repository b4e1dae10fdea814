//! The builder's way to the file: bytes go out in order, in chunks of 2 MiB, each handed to the system
//! for write-back at once, so that the sync at the end finds little left to do.
//!
//! Chunks lie at multiples of their length, which is that of a huge page on x86-64 and on most of arm64:
//! a file system with large folios (ext4 from Linux 6.16, XFS, btrfs) then keeps each chunk as one huge
//! page in the page cache, and the mapping that reads go through needs one entry of the address translation
//! where it would need 512 (`docs/decisions/0007-huge-pages.md`).
//!
//! Invariant: at most one chunk is buffered; bytes of a large value go from the caller's memory straight
//! to the file.

use super::format::{BlockHeader, Extent, Identity};
use crate::error::{Error, Result};
use crate::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is written at once, and at multiples of which.
const CHUNK_BYTES: usize = 2 << 20;

/// A file that is written front to back.
#[derive(Debug)]
pub struct Output {
    file: Arc<dyn File>,
    path: PathBuf,
    identity: Identity,
    buffer: Vec<u8>,
    written_bytes: u64,
}

impl Output {
    /// An empty file to write.
    pub fn new(file: Arc<dyn File>, path: PathBuf, identity: Identity) -> Output {
        Output { file, path, identity, buffer: Vec::new(), written_bytes: 0 }
    }

    /// Where the next byte goes.
    pub fn position(&self) -> u64 {
        self.written_bytes + self.buffer.len() as u64
    }

    /// Appends bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let room = CHUNK_BYTES - self.buffer.len();
        if bytes.len() < room {
            if self.buffer.capacity() == 0 {
                self.buffer.reserve_exact(CHUNK_BYTES);
            }
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        let (head, rest) = bytes.split_at(room);
        self.buffer.extend_from_slice(head);
        self.flush()?;
        let chunks = rest.chunks_exact(CHUNK_BYTES);
        self.buffer.extend_from_slice(chunks.remainder());
        for chunk in chunks {
            write_chunk(&*self.file, &self.path, chunk, &mut self.written_bytes)?;
        }
        Ok(())
    }

    /// Appends a block whose body is the concatenation of `parts`; says where it lies and what its
    /// checksum is. `header` must have been made for a body of that length.
    pub fn append_block(&mut self, header: &BlockHeader, parts: &[&[u8]]) -> Result<(Extent, u32)> {
        debug_assert_eq!(
            header.body_bytes(),
            parts.iter().map(|part| part.len() as u64).sum::<u64>()
        );
        let offset = self.position();
        let extent = Extent::new(offset, u64::from(header.length_bytes)).ok_or(Error::Limit {
            what: "the length of a table file",
            found: offset,
            limit: 1 << 44,
            hint: "write several tables",
        })?;
        let padding = &[0; 64][..usize::from(header.padding_bytes)];
        let mut encoded = header.encode();
        let mut hasher = self.identity.hasher(offset);
        hasher.update(&encoded[8..]);
        parts.iter().for_each(|part| hasher.update(part));
        hasher.update(padding);
        let crc = hasher.finalize();
        BlockHeader::seal(&mut encoded, crc);
        self.append(&encoded)?;
        for part in parts {
            self.append(part)?;
        }
        self.append(padding)?;
        Ok((extent, crc))
    }

    /// Writes what is buffered.
    pub fn flush(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            write_chunk(&*self.file, &self.path, &self.buffer, &mut self.written_bytes)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

fn write_chunk(file: &dyn File, path: &Path, chunk: &[u8], offset: &mut u64) -> Result<()> {
    fs::write_full(file, chunk, *offset).map_err(|cause| Error::io("write", path, cause))?;
    file.start_writeback(*offset, chunk.len() as u64);
    *offset += chunk.len() as u64;
    Ok(())
}
