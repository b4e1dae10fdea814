//! The content of one sector as a part of bytes that it shares with others: a write of a mebibyte is one
//! allocation for all of its 2048 sectors.

use super::SECTOR_BYTES;
use super::content::Sector;
use std::sync::Arc;

const SECTOR: u64 = SECTOR_BYTES as u64;

/// A part of shared bytes; at most one sector, zeros where it ends early.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    data: Option<Arc<[u8]>>,
    start: usize,
    len: usize,
}

/// What a range of sectors held.
pub(super) struct Saved {
    data: Option<Arc<[u8]>>,
}

impl Saved {
    /// Zeros need no memory.
    pub fn new(bytes: Vec<u8>) -> Saved {
        Saved { data: bytes.iter().any(|&byte| byte != 0).then(|| bytes.into()) }
    }

    /// The content of one sector; `first` is the one that the range began with.
    pub fn sector(&self, first: u64, sector: u64) -> View {
        let Some(data) = &self.data else { return View::default() };
        let start = (((sector - first) * SECTOR) as usize).min(data.len());
        let len = (data.len() - start).min(SECTOR_BYTES);
        let view = View::of(data, start, len);
        if view == View::default() { View::default() } else { view }
    }
}

impl View {
    pub fn of(data: &Arc<[u8]>, start: usize, len: usize) -> View {
        View { data: Some(Arc::clone(data)), start, len }
    }

    pub fn copy(bytes: &Sector) -> View {
        View::of(&Arc::from(&bytes[..]), 0, SECTOR_BYTES)
    }

    /// Whether it is known to be zeros.
    pub fn is_zero(&self) -> bool {
        self.data.is_none()
    }

    pub fn bytes(&self) -> &[u8] {
        self.data.as_ref().map_or(&[], |data| &data[self.start..self.start + self.len])
    }

    /// Copies the bytes below `cut`, a position in the file, into a sector of zeros.
    pub fn show(&self, sector: u64, cut: u64, target: &mut Sector) {
        let room = cut.saturating_sub(sector * SECTOR).min(SECTOR) as usize;
        let bytes = self.bytes();
        let count = bytes.len().min(room);
        target[..count].copy_from_slice(&bytes[..count]);
    }

    pub fn cut(&mut self, sector: u64, cut: u64) {
        self.len = self.len.min(cut.saturating_sub(sector * SECTOR) as usize);
    }

    pub fn flip(&mut self, at: usize, bit: u8) {
        let mut bytes = [0; SECTOR_BYTES];
        bytes[..self.len].copy_from_slice(self.bytes());
        bytes[at] ^= 1 << (bit % 8);
        *self = View::copy(&bytes);
    }
}

/// Equal as sectors, that is, padded with zeros.
impl PartialEq for View {
    fn eq(&self, other: &View) -> bool {
        let (short, long) = match self.len <= other.len {
            true => (self.bytes(), other.bytes()),
            false => (other.bytes(), self.bytes()),
        };
        long[..short.len()] == *short && long[short.len()..].iter().all(|&byte| byte == 0)
    }
}
