//! The builder's way to the file: bytes go out in order, in chunks of 2 MiB, each handed to the system
//! for write-back at once, so that the sync at the end finds little left to do.
//!
//! Chunks lie at multiples of their length, which is that of a huge page on x86-64 and on most of arm64:
//! a file system with large folios (ext4 from Linux 6.16, XFS, btrfs) then keeps each chunk as one huge
//! page in the page cache, and the mapping that reads go through needs one entry of the address translation
//! where it would need 512 (`docs/decisions/0007-huge-pages.md`).
//!
//! While commits are synced, a chunk goes out in small pieces ([`crate::pacer`]).
//!
//! Invariant: at most one chunk is buffered; bytes of a large value go from the caller's memory straight
//! to the file.

use super::format::{BlockHeader, Extent, Identity};
use crate::error::{Error, Result};
use crate::fs::{self, File};
use crate::pacer::{PIECE_BYTES, Pace, WRITE_BYTES};
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
    pace: Option<Pace>,
}

impl Output {
    /// An empty file to write.
    pub fn new(file: Arc<dyn File>, path: PathBuf, identity: Identity) -> Output {
        Output { file, path, identity, buffer: Vec::new(), written_bytes: 0, pace: None }
    }

    /// Gives way to commits from now on.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = Some(pace);
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
            self.write(chunk)?;
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
            let mut buffer = std::mem::take(&mut self.buffer);
            self.write(&buffer)?;
            buffer.clear();
            self.buffer = buffer;
        }
        Ok(())
    }

    fn write(&mut self, chunk: &[u8]) -> Result<()> {
        let mut rest = chunk;
        while let Some(pace) = self.pace.as_mut().filter(|pace| pace.has_company())
            && !rest.is_empty()
        {
            let (piece, after) = rest.split_at(rest.len().min(PIECE_BYTES));
            let start = self.written_bytes;
            for bytes in piece.chunks(WRITE_BYTES) {
                write(&*self.file, &self.path, bytes, &mut self.written_bytes)?;
            }
            self.file.start_writeback(start, piece.len() as u64);
            pace.give_way(piece.len());
            rest = after;
        }
        if rest.is_empty() {
            return Ok(());
        }
        let start = self.written_bytes;
        write(&*self.file, &self.path, rest, &mut self.written_bytes)?;
        self.file.start_writeback(start, rest.len() as u64);
        Ok(())
    }
}

fn write(file: &dyn File, path: &Path, bytes: &[u8], offset: &mut u64) -> Result<()> {
    fs::write_full(file, bytes, *offset).map_err(|cause| Error::io("write", path, cause))?;
    *offset += bytes.len() as u64;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{CHUNK_BYTES, Output};
    use crate::fs::{FileSystem, OpenMode, sim::SimDisk};
    use crate::pacer::{PIECE_BYTES, Pace, Pacer, WRITE_BYTES};
    use crate::table::format::Identity;
    use crate::types::{DatabaseId, FileId};
    use std::path::Path;
    use std::sync::Arc;

    /// With commits beside it, and without, to the last byte; pieces of all lengths.
    #[test]
    fn what_gives_way_to_commits_is_written_all_the_same() {
        let appended =
            [1, 7, WRITE_BYTES, PIECE_BYTES + 5, CHUNK_BYTES - 1, 2 * CHUNK_BYTES + 3, 9];
        for syncing in [false, true] {
            let disk = SimDisk::new();
            let file = disk.open(Path::new("/table"), OpenMode::CreateNew).unwrap();
            let identity = Identity { database: DatabaseId([1; 16]), file_id: FileId(2) };
            let mut output = Output::new(file.clone(), "/table".into(), identity);
            let pacer = Arc::new(Pacer::new(Arc::default()));
            output.set_pace(Pace::new(pacer.clone()));
            if syncing {
                pacer.set_syncing(true);
            }
            let mut wanted = Vec::new();
            for (number, length) in appended.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..length).map(|at| (at / 251 + number) as u8).collect();
                output.append(&bytes).unwrap();
                wanted.extend(bytes);
                assert_eq!(output.position(), wanted.len() as u64);
            }
            output.flush().unwrap();
            let mut found = vec![0; wanted.len()];
            crate::fs::read_full(&*file, &mut found, 0).unwrap();
            assert!(found == wanted);
            assert_eq!(file.len().unwrap(), wanted.len() as u64);
        }
    }
}
