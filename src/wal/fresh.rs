//! New log files.
//!
//! A write into blocks that exist and were written needs no change of the file's metadata, so the sync of
//! a commit is one flush of the disk. So new files are filled with zeros where commits are small. Zeros are
//! written and synced in steps, because that flush waits for whatever the disk has in its queue: 64 MiB of
//! zeros in one piece hold up a commit by a tenth of a second.
//!
//! Where much is written from one sync to the next, zeros cost more than they save: each byte is then
//! written twice. The blocks are only allocated there; they read as zeros.

use crate::error::{Error, Result, is_no_space};
use crate::fs::{self, Barrier, File, FileSystem, OpenMode};
use std::path::Path;
use std::sync::Arc;

/// Zeros that are written between two syncs, in bytes. Files up to four times as long are written in one
/// piece.
const STEP_BYTES: u64 = 256 << 10;

/// What a new file is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Written zeros: a sync of what is written there later has no metadata to journal.
    Zeros,
    /// Allocated blocks: quicker to make.
    Allocated,
}

/// Makes a file of `wanted` bytes that read as zeros, or of `least` if the disk is too full for that. The
/// last step is not synced. A file that could not be filled is removed again.
///
/// # Errors
/// [`Error::NoSpace`]; [`Error::Io`], also of a sync.
pub fn fresh_file(
    fs: &dyn FileSystem,
    path: &Path,
    fill: Fill,
    wanted: u64,
    least: u64,
) -> Result<(Arc<dyn File>, u64)> {
    let make = |file: &dyn File, bytes| match fill {
        Fill::Zeros => write_zeros(file, bytes),
        Fill::Allocated => file.allocate(bytes),
    };
    let created = fs.open(path, OpenMode::CreateNew);
    let file = created.map_err(|e| Error::io("create", path, e))?;
    let mut bytes = wanted;
    let mut outcome = make(&*file, bytes);
    let full = outcome.as_ref().is_err_and(is_no_space);
    if full && bytes > least {
        // A nearly full disk may still have room for a small one.
        bytes = least;
        outcome = file.set_len(0).and_then(|()| make(&*file, bytes));
    }
    if let Err(error) = outcome {
        let _ = fs.remove(path);
        return Err(Error::io("write", path, error));
    }
    Ok((file, bytes))
}

fn write_zeros(file: &dyn File, bytes: u64) -> std::io::Result<()> {
    let zeros = vec![0_u8; STEP_BYTES.min(bytes) as usize];
    let mut at = 0;
    while at < bytes {
        let count = zeros.len().min((bytes - at) as usize);
        fs::write_full(file, &zeros[..count], at)?;
        at += count as u64;
        if at < bytes && bytes > 4 * STEP_BYTES {
            // Only for the pace: the sync that counts comes with the header.
            fs::sync_data(file, Barrier::SegmentContent)?;
        }
    }
    Ok(())
}
