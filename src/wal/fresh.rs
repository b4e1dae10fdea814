//! New log files, filled with zeros.
//!
//! A write into blocks that exist and were written needs no change of the file's metadata, so the sync of
//! a commit is one flush of the disk. Zeros are written and synced in steps, because that flush waits for
//! whatever the disk has in its queue: 64 MiB of zeros in one piece hold up a commit by a tenth of a
//! second.

use crate::error::{Error, Result, is_no_space};
use crate::fs::{self, Barrier, File, FileSystem, OpenMode};
use std::path::Path;
use std::sync::Arc;

/// Zeros that are written between two syncs, in bytes. Files up to four times as long are written in one
/// piece.
const STEP_BYTES: u64 = 256 << 10;

/// Makes a file of `wanted` zeros, or of `least` if the disk is too full for that. The last step is not
/// synced. A file that could not be filled is removed again.
///
/// # Errors
/// [`Error::NoSpace`]; [`Error::Io`], also of a sync.
pub fn zero_file(
    fs: &dyn FileSystem,
    path: &Path,
    wanted: u64,
    least: u64,
) -> Result<(Arc<dyn File>, u64)> {
    let created = fs.open(path, OpenMode::CreateNew);
    let file = created.map_err(|e| Error::io("create", path, e))?;
    let mut bytes = wanted;
    let mut outcome = write_zeros(&*file, bytes);
    let full = outcome.as_ref().is_err_and(is_no_space);
    if full && bytes > least {
        // A nearly full disk may still have room for a small one.
        bytes = least;
        outcome = file.set_len(0).and_then(|()| write_zeros(&*file, bytes));
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
