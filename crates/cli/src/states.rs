//! A state of a database, as it is typed: `DIR` is the latest, `DIR@LSN` the one after the commit that
//! returned this LSN.
//!
//! A directory whose own name ends in `@` and digits is taken for the directory if it exists.

use crate::failure::{Failure, InDir};
use crate::open;
use highwater::check::open_at;
use highwater::{Database, Lsn};
use std::path::{Path, PathBuf};

/// A database at a point of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The database directory.
    pub dir: PathBuf,
    /// The point; `None` is the latest.
    pub lsn: Option<Lsn>,
}

impl State {
    /// What was typed.
    pub fn of(typed: &Path) -> State {
        let split = || {
            let (dir, lsn) = typed.to_str()?.rsplit_once('@')?;
            let is_number = !dir.is_empty() && lsn.bytes().all(|byte| byte.is_ascii_digit());
            Some((PathBuf::from(dir), Lsn(lsn.parse().ok().filter(|_| is_number)?)))
        };
        match split() {
            Some((dir, lsn)) if !typed.exists() => State { dir, lsn: Some(lsn) },
            _ => State { dir: typed.to_path_buf(), lsn: None },
        }
    }

    /// Opens it read-only; the LSN is where its log ends.
    pub fn open(&self) -> Result<(Database, Lsn), Failure> {
        match self.lsn {
            Some(lsn) => {
                let db = open_at(open::file_system(), &self.dir, lsn).in_dir(&self.dir)?;
                Ok((db, lsn))
            }
            None => {
                let db = open::read_only(&self.dir)?;
                let lsn = db.recovery().tail;
                Ok((db, lsn))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read() {
        let at = |typed: &str| State::of(Path::new(typed));
        let plain = |dir: &str| State { dir: dir.into(), lsn: None };
        assert_eq!(at("db"), plain("db"));
        assert_eq!(at("a@b/db@17"), State { dir: "a@b/db".into(), lsn: Some(Lsn(17)) });
        for typed in ["db@", "@7", "db@x", "db@-1", "db@99999999999999999999", "me@here"] {
            assert_eq!(at(typed), plain(typed));
        }
        let place = tempfile::tempdir().unwrap();
        let odd = place.path().join("db@7");
        std::fs::create_dir(&odd).unwrap();
        assert_eq!(State::of(&odd), State { dir: odd, lsn: None });
    }
}
