//! The engines: one adapter file each, behind a feature of its name.

use crate::engine::{Engine, Facts, Outcome};

#[cfg(feature = "fjall")]
pub mod fjall;
pub mod highwater;
#[cfg(feature = "lmdb")]
pub mod lmdb;
#[cfg(feature = "redb")]
pub mod redb;
#[cfg(feature = "regolith")]
pub mod regolith;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
#[cfg(feature = "sqlite")]
pub mod sqlite;

/// Something done with an engine that is chosen by name.
pub trait Visit {
    /// What comes of it.
    type Out;
    /// Does it.
    fn visit<E: Engine>(self) -> Outcome<Self::Out>;
}

macro_rules! engines {
    ($($(#[$gate:meta])? $engine:ty),* $(,)?) => {
        /// The names of all engines in this build, ours first.
        pub fn names() -> Vec<&'static str> {
            vec![$($(#[$gate])? <$engine as Engine>::NAME),*]
        }

        /// Does something with the engine of this name.
        ///
        /// # Errors
        /// If there is no such engine in this build, and what the visit returns.
        pub fn visit<V: Visit>(name: &str, visit: V) -> Outcome<V::Out> {
            match name {
                $($(#[$gate])? <$engine as Engine>::NAME => visit.visit::<$engine>(),)*
                _ => Err(format!(
                    "no engine {name:?} in this build; there are {}; others are features of this crate",
                    names().join(", ")
                )
                .into()),
            }
        }
    };
}

engines!(
    highwater::Highwater,
    #[cfg(feature = "lmdb")]
    lmdb::Lmdb,
    #[cfg(feature = "redb")]
    redb::Redb,
    #[cfg(feature = "fjall")]
    fjall::Fjall,
    #[cfg(feature = "sqlite")]
    sqlite::Sqlite,
    #[cfg(feature = "rocksdb")]
    rocksdb::RocksDb,
    #[cfg(feature = "regolith")]
    regolith::Regolith,
);

/// The names of all engines that there are, in this build or not.
pub const KNOWN: [&str; 7] =
    ["highwater", "lmdb", "redb", "fjall", "sqlite", "rocksdb", "regolith"];

/// What the table says of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Name.
    pub name: &'static str,
    /// Version in the lock file, or of this workspace.
    pub version: String,
    /// See [`Facts::durable`].
    pub durable: String,
    /// See [`Facts::buffered`].
    pub buffered: Option<String>,
    /// See [`Facts::memory`].
    pub memory: Option<String>,
    /// See [`Facts::notes`].
    pub notes: String,
}

/// What the table says of the engine of this name.
///
/// # Errors
/// If there is no such engine in this build.
pub fn about(name: &str) -> Outcome<About> {
    struct Ask;
    impl Visit for Ask {
        type Out = About;
        fn visit<E: Engine>(self) -> Outcome<About> {
            let facts: Facts = E::FACTS;
            Ok(About {
                name: E::NAME,
                version: locked_version(E::PACKAGE),
                durable: facts.durable.to_owned(),
                buffered: facts.buffered.map(str::to_owned),
                memory: facts.memory.map(str::to_owned),
                notes: facts.notes.to_owned(),
            })
        }
    }
    visit(name, Ask)
}

/// The version of a package in the workspace's lock file as it was when this was built.
fn locked_version(package: &str) -> String {
    const LOCK: &str = include_str!("../../../../Cargo.lock");
    let mut lines = LOCK.lines().skip_while(|line| *line != format!("name = {package:?}"));
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = "));
    version.map_or_else(|| "unknown".to_owned(), |version| version.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_of_this_build_is_known() {
        assert!(names().iter().all(|name| KNOWN.contains(name)));
        assert!(!cfg!(feature = "rocksdb") || names().len() < 7 || names() == KNOWN);
    }
}
