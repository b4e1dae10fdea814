//! The content hash: one number for everything that a state of a database shows. Equal states have equal
//! hashes, whatever files they lie in; it says whether a copy is the original.
//!
//! XXH3-128 of this stream (integers little-endian):
//!
//! ```text
//! content  := "highwater content 1\n"  keyspace*
//! keyspace := 1: u8  name bytes: u32  name  entry*  0: u8      by name, ascending
//! entry    := 1: u8  key bytes: u32  value bytes: u64  key  value      by key, ascending
//! ```
//!
//! Names, keys and values count; numbers of keyspaces and commits, times and the database's id do not.
//! Invariant: every part carries its length, so that no two states give the same stream.
//!
//! XXH3 tells accidents apart (a chance of 2^-128 each), not forgeries: who can write the database can make
//! two states of one hash. Nothing here is meant to withstand that.

use crate::error::Result;
use crate::tx::snapshot::Snapshot;
use std::fmt;
use xxhash_rust::xxh3::Xxh3;

const PREAMBLE: &[u8] = b"highwater content 1\n";

/// The hash of everything that a state shows. From
/// [`Snapshot::content_hash`](crate::Snapshot::content_hash).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash(pub u128);

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({self})")
    }
}

impl std::str::FromStr for ContentHash {
    type Err = crate::Error;

    /// 32 hex digits.
    fn from_str(text: &str) -> Result<ContentHash> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map(ContentHash).ok_or_else(|| {
            crate::Error::InvalidArgument(format!(
                "{text:?} is not a content hash; give the 32 hex digits that `highwater hash` prints"
            ))
        })
    }
}

/// Hashes a state that is handed to it in order. For states that are in no open database;
/// [`Snapshot::content_hash`](crate::Snapshot::content_hash) does it for those that are.
///
/// ```
/// # fn main() -> highwater::Result<()> {
/// use highwater::check::ContentHasher;
/// let db = highwater::Database::in_memory()?;
/// db.keyspace("users")?.insert("ada", "1815")?;
/// let mut hasher = ContentHasher::new();
/// hasher.keyspace("users");
/// hasher.entry(b"ada", b"1815");
/// assert_eq!(hasher.finish(), db.snapshot().content_hash()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ContentHasher {
    hasher: Box<Xxh3>,
    inside: bool,
}

impl ContentHasher {
    /// The hash of no keyspace yet.
    pub fn new() -> ContentHasher {
        let mut hasher = Box::new(Xxh3::new());
        hasher.update(PREAMBLE);
        ContentHasher { hasher, inside: false }
    }

    /// The next keyspace; names come in ascending order.
    pub fn keyspace(&mut self, name: &str) {
        self.end_keyspace();
        self.hasher.update(&[1]);
        self.hasher.update(&(name.len() as u32).to_le_bytes());
        self.hasher.update(name.as_bytes());
        self.inside = true;
    }

    /// The next entry of the keyspace; keys come in ascending order.
    pub fn entry(&mut self, key: &[u8], value: &[u8]) {
        let mut head = [1; 13];
        head[1..5].copy_from_slice(&(key.len() as u32).to_le_bytes());
        head[5..].copy_from_slice(&(value.len() as u64).to_le_bytes());
        self.hasher.update(&head);
        self.hasher.update(key);
        self.hasher.update(value);
    }

    /// The hash of all that was handed over.
    pub fn finish(mut self) -> ContentHash {
        self.end_keyspace();
        ContentHash(self.hasher.digest128())
    }

    fn end_keyspace(&mut self) {
        if std::mem::take(&mut self.inside) {
            self.hasher.update(&[0]);
        }
    }
}

impl Default for ContentHasher {
    fn default() -> ContentHasher {
        ContentHasher::new()
    }
}

impl fmt::Debug for ContentHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentHasher").finish_non_exhaustive()
    }
}

impl Snapshot {
    /// The hash of everything that this snapshot shows: equal states, equal hash, whatever the files.
    /// Reads every key and value once.
    ///
    /// # Errors
    /// [`Error::Damage`](crate::Error::Damage), [`Error::Io`](crate::Error::Io).
    ///
    /// ```
    /// # fn main() -> highwater::Result<()> {
    /// let db = highwater::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.insert("ada", "1815")?;
    /// let before = db.snapshot().content_hash()?;
    /// db.compact()?; // other files, the same content
    /// assert_eq!(db.snapshot().content_hash()?, before);
    /// users.insert("ada", "1852")?;
    /// assert_ne!(db.snapshot().content_hash()?, before);
    /// # Ok(())
    /// # }
    /// ```
    pub fn content_hash(&self) -> Result<ContentHash> {
        self.check_open()?;
        let mut hasher = ContentHasher::new();
        for info in self.live_keyspaces() {
            hasher.keyspace(&info.name);
            for entry in self.entries(info.id) {
                let (key, value) = entry?;
                hasher.entry(&key, &value);
            }
        }
        Ok(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// People keep these numbers beside their backups: a change is a new "highwater content N".
    #[test]
    fn golden() {
        assert_eq!(ContentHasher::new().finish().to_string(), "d7bc2fd21b27021143fbc3ed4b0179c6");
        let mut hasher = ContentHasher::new();
        hasher.keyspace("a");
        hasher.entry(b"key", b"value");
        hasher.keyspace("b");
        assert_eq!(hasher.finish().to_string(), "4c3cb07cc4fee859e2af4ddce70a631f");
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        type Part = (&'static str, &'static [(&'static [u8], &'static [u8])]);
        let states: [&[Part]; 7] = [
            &[],
            &[("", &[])],
            &[("a", &[])],
            &[("a", &[(b"", b"")])],
            &[("a", &[(b"x", b"")])],
            &[("a", &[(b"", b"x")])],
            &[("a", &[]), ("b", &[(b"", b"x")])],
        ];
        let mut seen = std::collections::BTreeSet::new();
        for state in states {
            let mut hasher = ContentHasher::new();
            for (name, entries) in state {
                hasher.keyspace(name);
                entries.iter().for_each(|(key, value)| hasher.entry(key, value));
            }
            let hash = hasher.finish();
            assert!(seen.insert(hash), "{state:?}");
            assert_eq!(hash.to_string().parse::<ContentHash>().unwrap(), hash);
        }
        assert!("12".parse::<ContentHash>().is_err());
        assert!("+2345678901234567890123456789012".parse::<ContentHash>().is_err());
    }
}
