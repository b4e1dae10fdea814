//! Fences: which block of a section may hold a key.
//!
//! (first form)

/// The fences of one section.
#[derive(Debug, Default)]
pub struct Fences {
    prefix: Vec<u8>,
    heads: Vec<u64>,
    ends: Vec<u32>,
    blob: Vec<u8>,
}

impl Fences {
    /// Separators in strictly ascending order, all of which begin with `prefix`; `blob` holds them
    /// without it, `ends` where each one ends.
    pub fn new(prefix: Vec<u8>, ends: Vec<u32>, blob: Vec<u8>) -> Fences {
        let mut start = 0;
        let heads = ends
            .iter()
            .map(|end| {
                let head = head(&blob[start..*end as usize]);
                start = *end as usize;
                head
            })
            .collect();
        Fences { prefix, heads, ends, blob }
    }

    /// Number of fences at or before `key`: the position of the block that may hold it.
    #[inline]
    pub fn rank(&self, key: &[u8]) -> usize {
        let Some(rest) = key.strip_prefix(self.prefix.as_slice()) else {
            return if key < self.prefix.as_slice() { 0 } else { self.heads.len() };
        };
        let wanted = head(rest);
        let low = self.heads.partition_point(|head| *head < wanted);
        let ties = self.heads[low..].partition_point(|head| *head == wanted);
        let (mut low, mut high) = (low, low + ties);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.suffix(middle) <= rest {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Memory in use.
    pub fn memory_bytes(&self) -> usize {
        self.prefix.len() + 8 * self.heads.len() + 4 * self.ends.len() + self.blob.len()
    }

    fn suffix(&self, position: usize) -> &[u8] {
        let start = if position == 0 { 0 } else { self.ends[position - 1] as usize };
        &self.blob[start..self.ends[position] as usize]
    }
}

/// The shortest key that is after `last` and not after `first`. `last` is before `first`.
pub fn separator<'a>(last: &[u8], first: &'a [u8]) -> &'a [u8] {
    &first[..(common_prefix(last, first) + 1).min(first.len())]
}

/// Length of the longest common prefix.
pub fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The first eight bytes as a number that sorts as they do; missing bytes count as zeros.
#[inline]
pub fn head(bytes: &[u8]) -> u64 {
    if let Some(chunk) = bytes.first_chunk() {
        return u64::from_be_bytes(*chunk);
    }
    let mut padded = [0; 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    u64::from_be_bytes(padded)
}
