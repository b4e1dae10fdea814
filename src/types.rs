//! The small words of the engine, one type each, so that a log position can never be passed where a
//! commit number is meant.
//!
//! All of them are plain integers on disk, little-endian. `0` is never a valid [`FileId`],
//! [`Epoch`] or [`Generation`]; it marks "none" in formats that need one.

use std::fmt;

macro_rules! word {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $int);

        impl $name {
            /// The smallest value.
            pub const ZERO: Self = Self(0);
            /// The largest value.
            pub const MAX: Self = Self(<$int>::MAX);
            /// The bare number.
            #[inline]
            pub const fn get(self) -> $int { self.0 }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

word!(
    /// Log sequence number: a byte position in the endless log. An LSN means one thing for ever.
    Lsn(u64)
);
word!(
    /// Commit order: every transaction that changes something takes the next one.
    Seqno(u64)
);
word!(
    /// One life of the database between open and close.
    Epoch(u64)
);
word!(
    /// Number of a table file. Never used twice in one database.
    FileId(u64)
);
word!(
    /// Number of a keyspace. Never used twice in one database.
    KeyspaceId(u32)
);
word!(
    /// Version of the manifest; grows by one with every publication.
    Generation(u64)
);

impl Lsn {
    /// The position `bytes` further on.
    #[inline]
    pub const fn plus(self, bytes: u64) -> Lsn {
        Lsn(self.0 + bytes)
    }
}

/// The random name of one database, drawn when it is created. Every file carries it, so that a file of
/// another database is recognised.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DatabaseId(pub [u8; 16]);

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseId({self})")
    }
}

/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 65_535;
/// Longest value, in bytes (1 GiB).
pub const MAX_VALUE_BYTES: usize = 1 << 30;
/// Longest keyspace name, in bytes.
pub const MAX_KEYSPACE_NAME_BYTES: usize = 255;
